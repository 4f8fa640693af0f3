//! Connecting to the FTP server: paced, bounded, and with an eye on a server that bans us.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use rustls::pki_types::ServerName;
use tokio::sync::{Mutex as FairMutex, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::control::Endpoint;
use super::socket::{self, Watched};
use crate::addr::canonical;
use crate::config::{Config, Listener, Upstream};
use crate::nat::destinations::Destinations;

/// Control connections that a listener may have under way to its server at once: half of IIS' listen backlog of 60, which
/// others use as well.
const MAX_UNDER_WAY: usize = 30;

/// So many hang-ups in a row before a greeting are no accident.
const SUSPICIOUS: u32 = 3;

/// There is no control connection to the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// It would end at one of our own listeners, and every session would open another without end.
    #[error("it is one of our own listeners")]
    Loop,
    /// Neither the name nor the address is in `upstream_networks`.
    #[error("it is not in upstream_networks")]
    NotPermitted,
    /// The network, the machine or the server.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// A control connection to the server.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) io: Watched,
    pub(super) at: Endpoint,
}

impl Connected {
    fn new(io: Watched) -> io::Result<Self> {
        let stream = io.get_ref();
        let at = Endpoint::direct(stream.peer_addr()?, stream.local_addr()?);
        Ok(Self { io, at })
    }
}

/// The way to one FTP server of a listener.
#[derive(Debug)]
pub(super) struct Connector {
    listener: String,
    upstream: Upstream,
    under_way: Semaphore,
    pace: Option<Pace>,
    /// The last addresses that the name resolved to.
    resolved: Mutex<Vec<SocketAddr>>,
    /// What it may be; a server that the configuration names may be anything.
    guard: Option<Arc<Destinations>>,
    /// Knows where we listen ourselves.
    config: Arc<Config>,
    hang_ups: AtomicU32,
}

/// The right to make one connection.
#[derive(Debug)]
pub(super) struct Turn<'a>(#[expect(dead_code, reason = "held, and let go")] SemaphorePermit<'a>);

/// One connect each `interval`.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    /// When the first in line may connect. Locked for as long as it waits; the lock is granted in order.
    next: FairMutex<Instant>,
}

impl Pace {
    /// Waits for this connect's turn, in the order of the calls. A turn is taken only when it has come: clients that
    /// leave before do not make the others wait.
    async fn turn(&self) {
        let mut next = self.next.lock().await;
        let turn = (*next).max(Instant::now());
        tokio::time::sleep_until(turn).await;
        *next = turn + self.interval;
    }
}

impl Connector {
    /// The connector to a server of one listener of `config`. With a `guard`, the server has to be in it.
    pub(super) fn new(
        listener: &Listener,
        upstream: Upstream,
        guard: Option<Arc<Destinations>>,
        config: Arc<Config>,
    ) -> Self {
        let pace = listener
            .limits
            .connects_per_second
            .map(|rate| Pace { interval: Duration::from_secs(1) / rate.get(), next: FairMutex::new(Instant::now()) });
        Self {
            listener: listener.name.clone(),
            upstream,
            guard,
            under_way: Semaphore::new(MAX_UNDER_WAY),
            pace,
            resolved: Mutex::default(),
            config,
            hang_ups: AtomicU32::new(0),
        }
    }

    /// Waits until there may be another connection to the server: without limit, the session's login timer bounds that.
    /// The connection is to be made while the turn is held.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, ConnectError> {
        let permit = self.under_way.acquire().await.map_err(io::Error::other)?;
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
        Ok(Turn(permit))
    }

    /// A control connection to the server, within `limit`.
    pub(super) async fn connect(&self, _turn: &Turn<'_>, limit: Duration) -> Result<Connected, ConnectError> {
        let start = Instant::now();
        let connected = match self.targets(limit).await {
            Ok(targets) => self.connect_to_one_of(&targets, limit.saturating_sub(start.elapsed())).await,
            Err(error) => Err(error),
        };
        // It was accepted, and reset before we came to look at it.
        if let Err(ConnectError::Failed(error)) = &connected
            && matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
        {
            self.hung_up();
        }
        connected
    }

    /// Tries one after the other. One that does not answer leaves each of those behind it its share of the time.
    async fn connect_to_one_of(&self, targets: &[SocketAddr], limit: Duration) -> Result<Connected, ConnectError> {
        let start = Instant::now();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address").into();
        for (target, to_try) in targets.iter().zip((1..=targets.len()).rev()) {
            let share = limit.saturating_sub(start.elapsed()) / u32::try_from(to_try).unwrap_or(u32::MAX);
            let attempt = if self.is_own(*target) {
                Err(ConnectError::Loop)
            } else {
                socket::connect_control(*target, share).await.and_then(Connected::new).map_err(Into::into)
            };
            match attempt.and_then(|connected| self.refuse_loop(connected)) {
                Ok(connected) => return Ok(connected),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whether connecting to `target` would end at ourselves. Where clients choose the target, a loop is worth asking the
    /// system for its addresses before a packet is sent.
    fn is_own(&self, target: SocketAddr) -> bool {
        self.config.serves(target)
            || (self.guard.is_some()
                && self.config.serves_any_address_at(target)
                && own_addresses().contains(&target.ip().to_canonical()))
    }

    /// A connection from an address to itself has not left this machine; if it ended at a port of ours, every session
    /// would open another without end. Only now is it known which addresses a wildcard listener has.
    fn refuse_loop(&self, connected: Connected) -> Result<Connected, ConnectError> {
        let Endpoint { peer, local, .. } = connected.at;
        if peer.ip() == local.ip() && self.config.serves_any_address_at(peer) {
            return Err(ConnectError::Loop);
        }
        Ok(connected)
    }

    /// A name is resolved anew for each session.
    async fn targets(&self, limit: Duration) -> Result<Vec<SocketAddr>, ConnectError> {
        let found = match &self.upstream {
            Upstream::Address(addr) => vec![*addr],
            Upstream::Name { host, port } => {
                let look_up = tokio::net::lookup_host((host.as_str(), *port));
                let found = self.found_or_last(host, limit / 2, async { Ok(look_up.await?.collect()) }).await;
                match (found, &self.guard) {
                    (Ok(found), _) => found,
                    // A name that may not be reached says nothing about whether there is such a name.
                    (Err(_), Some(guard)) if !guard.has_name(host, *port) => return Err(ConnectError::NotPermitted),
                    (Err(error), _) => return Err(error.into()),
                }
            }
        };
        self.permitted(found)
    }

    /// A name that is not permitted itself has to lead to permitted addresses only.
    fn permitted(&self, targets: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ConnectError> {
        let Some(guard) = &self.guard else { return Ok(targets) };
        let by_name = matches!(&self.upstream, Upstream::Name { host, port } if guard.has_name(host, *port));
        if by_name || targets.iter().all(|target| guard.has_address(canonical(*target))) {
            Ok(targets)
        } else {
            Err(ConnectError::NotPermitted)
        }
    }

    /// What the server's certificate should say, unless `tls.server.name` says otherwise.
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        self.upstream.server_name()
    }

    /// While a name does not resolve, its last addresses serve on. A name server that is down does not answer at all,
    /// so half of the time is left for connecting.
    async fn found_or_last(
        &self,
        host: &str,
        limit: Duration,
        look_up: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    ) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::time::timeout(limit, look_up).await;
        let found = found.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no name server answers")));
        let mut last = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(found) if !found.is_empty() => last.clone_from(&found),
            Err(error) if last.is_empty() => return Err(error),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(listener = self.listener, %host, %error, "cannot resolve, using the last addresses")
            }
        }
        Ok(last.clone())
    }

    /// The server has welcomed a client.
    pub(super) fn greeted(&self) {
        if self.hang_ups.load(Ordering::Relaxed) != 0 {
            self.hang_ups.store(0, Ordering::Relaxed);
        }
    }

    /// The server has closed a connection instead of greeting.
    pub(super) fn hung_up(&self) {
        if self.hang_ups.fetch_add(1, Ordering::Relaxed) + 1 == SUSPICIOUS {
            tracing::error!(
                listener = self.listener,
                upstream = %self.upstream,
                "the FTP server closed {SUSPICIOUS} connections in a row before greeting: it seems to ban this proxy's \
                 address, which to the server is every client's; exempt it there (IIS: IP Address and Domain \
                 Restrictions, Logon Attempt Restrictions; Serv-U: Limits & Settings, IP Access, anti-hammering)"
            );
        }
    }
}

/// The addresses that this machine has on its interfaces. None if the system does not say.
pub(super) fn own_addresses() -> HashSet<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    interfaces.filter_map(|interface| interface.address).filter_map(|address| ip_of(&address)).collect()
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()).to_canonical()))
}

impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upstream.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rel_27_connects_are_paced_in_order() {
        let pace = pace();
        let start = Instant::now();
        for turn in 0..5 {
            pace.turn().await;
            assert_eq!(start.elapsed().as_millis(), turn * 100);
        }
    }

    fn pace() -> Pace {
        Pace { interval: Duration::from_millis(100), next: FairMutex::new(Instant::now()) }
    }

    #[tokio::test(start_paused = true)]
    async fn rel_27_those_who_leave_the_line_cost_no_turn() {
        let pace = pace();
        pace.turn().await;
        let start = Instant::now();
        for _ in 0..1000 {
            assert!(poll_once(pace.turn()).await.is_none());
        }
        pace.turn().await;
        assert_eq!(start.elapsed().as_millis(), 100);
    }

    /// Waits for nothing, and lets go.
    async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
        tokio::time::timeout(Duration::ZERO, future).await.ok()
    }

    fn connector(bind: &str, upstream: &str) -> Connector {
        let yaml = format!(
            "listeners: [{{ bind: \"{bind}\", upstream: \"{upstream}\", client: {{ address_map: \
             [{{ peers: any, announce: local }}], data_ports: 20000 }}, timeouts: {{ connect_server: 2s }} }}]"
        );
        let config = Arc::new(Config::parse(&yaml, "test.yaml").unwrap());
        let listener = &config.listeners[0];
        let upstream = listener.upstream.fixed().unwrap().clone();
        Connector::new(listener, upstream, None, Arc::clone(&config))
    }

    #[tokio::test(start_paused = true)]
    async fn rel_25_the_last_addresses_serve_on_while_no_name_server_answers() {
        let connector = connector("127.0.0.1:2121", "ftp.example.com:21");
        let silence = || std::future::pending::<io::Result<Vec<SocketAddr>>>();
        let limit = Duration::from_secs(1);
        assert_eq!(connector.found_or_last("", limit, silence()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let good = vec!["192.0.2.1:21".parse().unwrap()];
        assert_eq!(connector.found_or_last("", limit, async { Ok(good.clone()) }).await.unwrap(), good);
        let start = Instant::now();
        assert_eq!(connector.found_or_last("", limit, silence()).await.unwrap(), good);
        assert!(start.elapsed() <= limit, "there is time left to connect");
        assert_eq!(
            connector.found_or_last("", limit, async { Err(io::ErrorKind::NotFound.into()) }).await.unwrap(),
            good
        );
    }

    #[tokio::test]
    async fn rel_10_an_address_that_does_not_answer_leaves_time_for_the_next() {
        let hole = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        hole.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        hole.listen(0).unwrap();
        let silent = hole.local_addr().unwrap().as_socket().unwrap();
        // A backlog of 0 holds one connection; Linux drops the SYNs beyond.
        let _first = tokio::net::TcpStream::connect(silent).await.unwrap();
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = server.local_addr().unwrap();
        let connector = connector("127.0.0.1:2121", "ftp.example.com:21");
        let (start, limit) = (Instant::now(), Duration::from_secs(1));
        let connected = connector.connect_to_one_of(&[silent, good], limit).await.unwrap();
        assert!(start.elapsed() < limit * 3 / 4, "{:?}", start.elapsed());
        assert_eq!(connected.at.peer, good);
        let error = connector.connect_to_one_of(&[silent], Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Failed(error) if error.kind() == io::ErrorKind::TimedOut));
    }

    /// An IPv4 server on the machine that serves IPv6 in its place.
    #[tokio::test]
    async fn sec_03_the_same_port_of_the_other_family_is_no_loop() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        for (wildcard, is_loop) in [("[::]", false), ("0.0.0.0", true)] {
            // Not from a file: this would be refused there, as loopback is known to be behind a wildcard.
            let mut connector = connector("127.0.0.9:2121", &at.to_string());
            let mut config = Config::clone(&connector.config);
            config.listeners[0].bind = vec![format!("{wildcard}:{}", at.port()).parse().unwrap()];
            connector.config = Arc::new(config);
            let io = socket::connect_control(at, Duration::from_secs(5)).await.unwrap();
            assert_eq!(connector.refuse_loop(Connected::new(io).unwrap()).is_err(), is_loop, "{wildcard}");
        }
    }
}
