//! Data connections of sessions that client and server encrypt between them (`tls.client.passthrough_ports`).
//!
//! Nobody can read there which port the server has offered, so each port of its range is bound here, too, and relayed
//! to the same port of the server. Who may connect is all the more strict: an address that holds such a session at this
//! moment, on this listener ([`Sessions`]). Anybody else is reset and costs nothing; the server never hears of it. The
//! server sees the address that the control connection comes from, which is what it compares (IIS, vsftpd, ProFTPD).
//!
//! A connection that has begun outlives its session: whether a transfer goes on behind the end of its control connection
//! is between the two.

mod sessions;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use self::sessions::Entrance;
pub(super) use self::sessions::{Passed, Sessions};
use super::channel::end_of;
use super::control::Endpoint;
use super::copy::Moved;
use super::copy::opaque::copy_opaque;
use super::gate::Gate;
use super::ports::bind::{Seats, Taker, Tenure};
use super::ports::{self, BindError};
use super::{Shared, journal, proxy_header};
use crate::addr::Leg;
use crate::config::tls::ClientTls;
use crate::config::{Config, Listener};
use crate::session::{ChannelReport, End};

/// Whose the ports are. A session that began with an earlier configuration needs the ports of that one, and they may be
/// those of a listener of today, too: a connection belongs to the newest that has a session of its address.
#[derive(Debug, Default)]
pub(super) struct Router {
    seats: Seats,
    /// The listeners of each address, the newest last.
    routes: Mutex<HashMap<SocketAddr, Vec<Weak<Shared>>>>,
}

impl Router {
    /// Binds the ports of a listener, if it has any.
    ///
    /// # Errors
    /// None of them could be bound on one of the addresses. Those that other programs hold are left out with a warning,
    /// and tried again.
    pub(super) fn open(self: &Arc<Self>, listener: &Listener) -> Result<Arc<Tenure>, BindError> {
        let intercepts = listener.upstream.intercepts();
        let (tenure, missing) = Tenure::open(&ports_of(listener), intercepts, &self.seats, self)?;
        missing.watch(&tenure, self, |router| &router.seats);
        Ok(tenure)
    }

    /// Relays what comes to the ports of this listener, for as long as it is there.
    pub(super) fn route(&self, shared: &Arc<Shared>) {
        let mut routes = self.lock();
        routes.retain(|_, listeners| {
            listeners.retain(|listener| listener.strong_count() > 0);
            !listeners.is_empty()
        });
        for (ip, ports) in ports_of(&shared.config) {
            for at in ports.filter_map(|port| shared.passthrough_ports.listens(ip.to_canonical(), port)) {
                routes.entry(at).or_default().push(Arc::downgrade(shared));
            }
        }
    }

    /// The newest first.
    fn listeners(&self, at: SocketAddr) -> Vec<Arc<Shared>> {
        self.lock().get(&at).into_iter().flatten().rev().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Vec<Weak<Shared>>>> {
        // No code under this lock leaves the table half done.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every range of every listener, on every address on which it takes control connections.
pub(super) fn ports(config: &Config) -> impl Iterator<Item = (IpAddr, RangeInclusive<u16>)> {
    config.listeners.iter().flat_map(ports_of)
}

fn ports_of(listener: &Listener) -> Vec<(IpAddr, RangeInclusive<u16>)> {
    match &listener.tls.client {
        ClientTls::Passthrough { ports: Some(ports) } => {
            listener.bind.iter().map(|addr| (addr.ip(), ports.clone())).collect()
        }
        ClientTls::Passthrough { ports: None } | ClientTls::Refuse | ClientTls::Terminate(_) => Vec::new(),
    }
}

impl Taker for Router {
    fn gate(&self, at: SocketAddr) -> Option<Arc<Gate>> {
        let newest = self.listeners(at).into_iter().next()?;
        newest.gate.clone().filter(|gate| gate.is_for_data())
    }

    fn connected(self: &Arc<Self>, at: SocketAddr, stream: TcpStream, from: SocketAddr) {
        let entered =
            self.listeners(at).into_iter().find_map(|shared| Some((shared.passed.connected(from.ip())?, shared)));
        match entered {
            Some((entrance, shared)) => {
                let tasks = shared.process.tasks.clone();
                tasks.spawn(relay(shared, entrance, stream, at.port(), from));
            }
            None => ports::log_stranger(Some(at), from),
        }
    }
}

/// Carries one connection from its accept to its end.
async fn relay(shared: Arc<Shared>, entrance: Entrance, client: TcpStream, port: u16, from: SocketAddr) {
    let began = Instant::now();
    let report = carry(&shared, entrance.server(), client, from, port).await;
    shared.metrics.passed(&report);
    journal::passed(&shared.config.name, from, port, report, began.elapsed());
}

async fn carry(shared: &Shared, at: Endpoint, client: TcpStream, from: SocketAddr, port: u16) -> ChannelReport {
    let nothing = |end| ChannelReport { end, up: 0, down: 0 };
    let timeouts = shared.config.timeouts;
    // With the interface of a link-local address, which is that of the control connection.
    let mut target = at.peer;
    target.set_port(port);
    let Ok(dialled) = client.local_addr() else { return nothing(End::Reset(Leg::Client)) };
    let Ok(client) = tokio::net::TcpStream::from_std(client) else { return nothing(End::Reset(Leg::Client)) };
    let header = proxy_header::of_data(shared.config.proxy_header, Endpoint::direct(from, dialled), None);
    let server = match proxy_header::dial(&shared.config, target, at.local.ip(), header).await {
        Ok(server) => server,
        Err(error) => {
            // A client may try any port of the range: no reason for a warning.
            tracing::debug!(listener = %shared.config.name, %target, %error, "cannot open a data connection");
            return nothing(End::DialFailed(Leg::Server));
        }
    };
    let moved = Arc::new(Moved::default());
    let _counted = shared.metrics.moving(moved.clone());
    let copied = copy_opaque(client, server, &shared.process.pipes, timeouts.data_idle, &moved).await;
    ChannelReport { end: end_of(copied.end), up: copied.up, down: copied.down }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Routing would pick 127.0.0.1.
    #[tokio::test]
    async fn sec_15_the_server_sees_the_address_of_the_control_connection() {
        let shared = Shared::for_tests();
        let (server, listener) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, from) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        socket2::SockRef::from(&accepted).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        let port = server.local_addr().unwrap().port();
        let at = Endpoint::direct("127.0.0.1:21".parse().unwrap(), "127.0.0.9:40000".parse().unwrap());
        let relayed = tokio::spawn(async move { carry(&shared, at, accepted, from, port).await });
        let (_data, from) = tokio::task::spawn_blocking(move || server.accept()).await.unwrap().unwrap();
        assert_eq!(from.ip(), at.local.ip());
        relayed.abort();
    }
}
