//! ftp-alg: a transparent FTP-aware NAT/ALG proxy.

pub mod addr;
pub mod cli;
pub mod config;
pub mod ftp;
pub mod nat;

use tokio::signal::unix::{SignalKind, signal};

use config::Config;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// The signals cannot be listened for.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tracing::info!(listeners = config.listeners.len(), "ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
