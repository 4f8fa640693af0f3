//! What signals ask for.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The handlers. A signal that comes while nobody waits is not lost; several of one kind are one.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// SIGTERM and SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

impl Signals {
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a request. Cancel safe.
    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hangup.recv() => Request::Reload,
        }
    }

    /// Waits until it is asked to stop; a SIGHUP until then only gets this answer in the log. Cancel safe.
    pub(super) async fn stop(&mut self, not_now: &str) {
        while self.next().await == Request::Reload {
            tracing::info!("{not_now}");
        }
    }

    /// Waits until it is asked to stop; a SIGHUP until then is left for later. Cancel safe.
    pub(super) async fn stop_only(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
