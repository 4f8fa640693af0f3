//! Accepting clients: bind, permit, spawn.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use super::accept::Acceptor;
use super::wire::{Batching, Wire};
use super::{Shared, control, socket};
use crate::config::{Access, FTP_DATA, SourcePort};

/// Connections that the kernel may finish for us while we are busy; capped by `net.core.somaxconn` (4096 since
/// Linux 5.4).
const BACKLOG: i32 = 4096;

/// An address could not be bound, or not connected from.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener}: cannot use {addr}: {source}{}", remedy(.source))]
pub struct ListenError {
    /// The listener's name.
    listener: String,
    /// The address.
    addr: SocketAddr,
    /// What the kernel said.
    source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program has it: `ss -ltnp` shows which)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need root or CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => " (this machine has no such address: name its private one, or 0.0.0.0)",
        _ => "",
    }
}

/// Binds every address of a listener.
pub(super) fn bind(shared: &Shared) -> Result<Vec<Acceptor>, ListenError> {
    let failed = |addr, source| ListenError { listener: shared.config.name.clone(), addr, source };
    let bind = |addr: &SocketAddr| {
        if shared.config.source_port == SourcePort::FtpData {
            let source = SocketAddr::new(addr.ip(), FTP_DATA);
            socket::check_source(source).map_err(|error| failed(source, error))?;
        }
        socket::listen_control(*addr, BACKLOG).map_err(|error| failed(*addr, error))
    };
    shared.config.bind.iter().map(bind).collect()
}

/// Accepts clients until the program stops.
pub(super) async fn serve(shared: Arc<Shared>, listener: Acceptor) {
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.process.stop.cancelled() => return,
        };
        if is_allowed(&shared.config.access, peer.ip()) {
            shared.process.tasks.spawn(control::serve(Arc::clone(&shared), stream, peer));
        } else {
            tracing::info!(listener = shared.config.name, %peer, "not in policy.allow");
            shared.process.tasks.spawn(refuse(Arc::clone(&shared), stream));
        }
    }
}

fn is_allowed(access: &Access, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    access.allow.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(&peer)))
}

async fn refuse(shared: Arc<Shared>, stream: TcpStream) {
    if let Ok(io) = socket::watch_control(stream) {
        let mut wire = Wire::new(io, Batching::Together);
        wire.send("421 Access denied, closing control connection.\r\n".into(), false);
        wire.finish(shared.config.timeouts.close).await;
    }
}
