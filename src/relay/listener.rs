//! Accepting clients: bind, permit, spawn.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::accept::Acceptor;
use super::admission::{Full, Place};
use super::control::Endpoint;
use super::sockets::Sockets;
use super::wire::{Batching, Wire};
use super::{Shared, control, socket};
use crate::config::{Access, FTP_DATA, Listener, SourcePort};
use crate::metrics::Refused;
use crate::proxy_protocol::Header;
use crate::session::TOO_MANY_FAILURES;

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
        io::ErrorKind::AddrInUse => {
            " (another program has it: `ss -ltnp` shows which; if it is ftp-alg itself, and this is a reload, restart it: a \
             port cannot change from one address to all of them, or back, nor between control and data connections)"
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need root or CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => " (this machine has no such address: name its private one, or 0.0.0.0)",
        _ => "",
    }
}

/// Binds every address of a listener; those that are bound already stay so.
pub(super) fn bind(config: &Listener, control: &Sockets) -> Result<Vec<Arc<Acceptor>>, ListenError> {
    let failed = |addr, source| ListenError { listener: config.name.clone(), addr, source };
    let bind = |addr: &SocketAddr| {
        if config.source_port == SourcePort::FtpData {
            let source = SocketAddr::new(addr.ip(), FTP_DATA);
            socket::check_source(source).map_err(|error| failed(source, error))?;
        }
        let listen = || socket::listen_control(*addr, BACKLOG);
        let listener = control.get(*addr, listen).map_err(|error| failed(*addr, error))?;
        if config.upstream.intercepts() {
            // Not permitted without CAP_NET_ADMIN, which the start of the proxy tells; REDIRECT does without.
            let _only_redirect = listener.take_any_address();
        }
        Ok(listener)
    };
    config.bind.iter().map(bind).collect()
}

/// Clients that are being told why they are not served, in all of the process; each takes a descriptor until it has
/// closed, too. A crowd beyond that gets the reply and a reset behind it, so that being refused costs us nothing.
pub(super) const REFUSALS: usize = 16;

/// The places for them.
#[derive(Debug, Clone)]
pub(super) struct Refusals(Arc<Semaphore>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REFUSALS)))
    }
}

/// Accepts clients until `stop`: the program stops, or another configuration serves them.
pub(super) async fn serve(shared: Arc<Shared>, listener: Arc<Acceptor>, stop: CancellationToken) {
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match &shared.gate {
            None => welcome(&shared, stream, peer, None),
            Some(gate) => {
                let shared = Arc::clone(&shared);
                gate.enter(stream, peer, move |stream, header| match header {
                    Header::Client { source, destination } => welcome(&shared, stream, source, Some(destination)),
                    Header::Local | Header::Unknown => welcome(&shared, stream, peer, None),
                });
            }
        }
    }
}

/// Serves a client, or says why not. `dialled` is where it has connected to, if that was a load balancer.
fn welcome(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr, dialled: Option<SocketAddr>) {
    // Its header may have taken a while.
    if shared.process.stop.is_cancelled() {
        return;
    }
    let at = match stream.local_addr() {
        Ok(local) => dialled.map_or(Endpoint::direct(peer, local), |dialled| Endpoint::behind(peer, dialled, local)),
        // Gone before it began: a scanner, or a load balancer's probe.
        Err(error) => return tracing::debug!(%peer, %error, "client left at once"),
    };
    match admit(shared, at.peer) {
        Ok(place) => {
            shared.process.tasks.spawn(control::serve(Arc::clone(shared), stream, Box::new(at), place));
        }
        Err(reply) => refuse(shared, stream, reply),
    }
}

/// A place for this client, or what to tell it.
fn admit(shared: &Shared, peer: SocketAddr) -> Result<Place, &'static str> {
    let listener = &shared.config.name;
    if !is_allowed(&shared.config.access, peer.ip()) {
        tracing::info!(listener, %peer, "not in policy.allow");
        shared.metrics.refused(Refused::NotAllowed);
        return Err("421 Access denied, closing control connection.\r\n");
    }
    if shared.logins.is_refused(peer.ip()) {
        tracing::debug!(listener, %peer, "too many failed logins");
        shared.metrics.refused(Refused::LoginFailures);
        return Err(TOO_MANY_FAILURES);
    }
    shared.admission.enter(peer.ip()).map_err(|full| {
        let (key, counted, reply) = match full {
            Full::Listener => ("limits.sessions", Refused::Sessions, "421 Too many connections, try again later.\r\n"),
            Full::Address => (
                "limits.sessions_per_address",
                Refused::SessionsPerAddress,
                "421 Too many connections from your address, try again later.\r\n",
            ),
        };
        shared.metrics.refused(counted);
        // Whoever floods us would flood the log, too.
        if shared.admission.is_warning_due(full) {
            tracing::warn!(listener, %peer, "{key} is reached, clients are turned away");
        }
        reply
    })
}

fn is_allowed(access: &Access, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    access.allow.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(&peer)))
}

/// Says why, and closes.
fn refuse(shared: &Shared, stream: TcpStream, reply: &'static str) {
    let Ok(io) = socket::watch_control(stream) else { return };
    let mut wire = Wire::new(io, Batching::Together);
    wire.send(reply.into(), false);
    wire.flush();
    if let Ok(permit) = Arc::clone(&shared.process.refusals.0).try_acquire_owned() {
        let limit = shared.config.timeouts.close;
        shared.process.tasks.spawn(async move {
            wire.finish(limit).await;
            drop(permit);
        });
    }
}
