//! Connecting to the FTP server: paced, bounded, and with an eye on a server that bans us.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use rustls::pki_types::ServerName;
use tokio::sync::{Mutex as FairMutex, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::accept::is_due;
use super::control::Endpoint;
use super::proxy_header;
use super::socket::{self, Watched, transparent};
use crate::addr::{Family, canonical};
use crate::config::{Config, Listener, ProxyHeader, Source, Upstream};
use crate::metrics::{ListenerMetrics, Unreachable};
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
    /// No connection of the client's family leads there.
    #[error(
        "with `server.source: client` an IPv6 client needs an IPv6 server, and an IPv4 client an IPv4 server; give the \
         others a listener of their own without it"
    )]
    OtherFamily,
    /// The network, the machine or the server.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl From<&ConnectError> for Unreachable {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::Loop => Self::Loop,
            ConnectError::NotPermitted => Self::NotPermitted,
            ConnectError::OtherFamily => Self::OtherFamily,
            ConnectError::Failed(error) if error.kind() == io::ErrorKind::TimedOut => Self::TimedOut,
            ConnectError::Failed(_) => Self::Failed,
        }
    }
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
    metrics: Arc<ListenerMetrics>,
    /// From whose address it is connected to.
    source: Source,
    /// What it expects first.
    header: Option<ProxyHeader>,
    /// When it was last said what is missing for that.
    explained: Mutex<Option<std::time::Instant>>,
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
        metrics: Arc<ListenerMetrics>,
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
            metrics,
            source: listener.source,
            header: listener.proxy_header,
            explained: Mutex::default(),
        }
    }

    /// Knows the last addresses that an earlier one knew: a reload while no name server answers ends nothing.
    pub(super) fn knowing(self, earlier: &Self) -> Self {
        let known = earlier.resolved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self { resolved: Mutex::new(known), ..self }
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

    /// A control connection to the server for this client, within `limit`; without one, for ourselves. The PROXY header,
    /// where the server expects one, has been written: it greets nobody without.
    pub(super) async fn connect(
        &self,
        _turn: &Turn<'_>,
        client: Option<Endpoint>,
        limit: Duration,
    ) -> Result<Connected, ConnectError> {
        let start = Instant::now();
        let connected = self.connect_within(client.map(|client| client.peer.ip()), limit).await;
        let connected = connected.and_then(|connected| self.introduce(connected, client));
        if let Some(client) = client {
            match &connected {
                Ok(_) => self.metrics.connected(start.elapsed()),
                Err(error) => self.metrics.unreachable(error.into()),
            }
            if let Err(ConnectError::Failed(error)) = &connected {
                self.explain(client.peer.ip(), error);
            }
        }
        // It was accepted, and reset before we came to look at it.
        if let Err(ConnectError::Failed(error)) = &connected
            && matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
        {
            self.hung_up();
        }
        connected
    }

    async fn connect_within(&self, client: Option<IpAddr>, limit: Duration) -> Result<Connected, ConnectError> {
        let start = Instant::now();
        let targets = self.reachable_for(client, self.targets(limit).await?)?;
        self.connect_to_one_of(&targets, client, limit.saturating_sub(start.elapsed())).await
    }

    /// Says who the client is, before anything else.
    fn introduce(&self, connected: Connected, client: Option<Endpoint>) -> Result<Connected, ConnectError> {
        if let Some(header) = self.header {
            let header = client.map_or_else(
                || proxy_header::of_ourselves(header.version),
                |client| proxy_header::of_control(header, client),
            );
            // The socket is new and takes more than this at once.
            connected.io.get_ref().write_all(&header)?;
        }
        Ok(connected)
    }

    /// Those of the client's family, if its address is where we connect from. Our own address in its place would be no
    /// help: the server's rules would take the client for us.
    fn reachable_for(
        &self,
        client: Option<IpAddr>,
        mut targets: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, ConnectError> {
        if let (Source::Client, Some(client)) = (self.source, client) {
            let had_some = !targets.is_empty();
            targets.retain(|target| Family::of(target.ip()) == Family::of(client));
            if had_some && targets.is_empty() {
                return Err(ConnectError::OtherFamily);
            }
        }
        Ok(targets)
    }

    /// Tries one after the other. One that does not answer leaves each of those behind it its share of the time.
    async fn connect_to_one_of(
        &self,
        targets: &[SocketAddr],
        client: Option<IpAddr>,
        limit: Duration,
    ) -> Result<Connected, ConnectError> {
        let start = Instant::now();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address").into();
        for (target, to_try) in targets.iter().zip((1..=targets.len()).rev()) {
            let share = limit.saturating_sub(start.elapsed()) / u32::try_from(to_try).unwrap_or(u32::MAX);
            let attempt = if self.is_own(*target) {
                Err(ConnectError::Loop)
            } else {
                self.connect_to(*target, client, share).await.and_then(Connected::new).map_err(Into::into)
            };
            match attempt.and_then(|connected| self.refuse_loop(connected)) {
                Ok(connected) => return Ok(connected),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, target: SocketAddr, client: Option<IpAddr>, limit: Duration) -> io::Result<Watched> {
        match (self.source, client) {
            (Source::Client, Some(client)) => socket::connect_control_from(target, client, limit).await,
            (Source::Local, _) | (Source::Client, None) => socket::connect_control(target, limit).await,
        }
    }

    /// Says what is missing where connections from a client's address fail: once, not for each client.
    fn explain(&self, client: IpAddr, error: &io::Error) {
        if self.source == Source::Local {
            return;
        }
        let Some(remedy) = transparent::remedy(error, transparent::check(Family::of(client))) else { return };
        let mut last = self.explained.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due(&mut last, std::time::Instant::now()) {
            tracing::error!(
                listener = self.listener, %client, upstream = %self.upstream, %error,
                "cannot connect to the FTP server from the client's own address (server.source): {remedy}"
            );
        }
    }

    /// Whether connecting to `target` would end at ourselves. Where clients choose the target, or the connection will not
    /// show afterwards that it has not left this machine (it comes from the client's address), a loop is worth asking the
    /// system for its addresses before a packet is sent.
    fn is_own(&self, target: SocketAddr) -> bool {
        self.config.serves(target)
            || ((self.guard.is_some() || self.source == Source::Client)
                && self.config.serves_any_address_at(target)
                && is_of_this_machine(target.ip()))
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
    pub(super) async fn found_or_last(
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
        // Where the server sees the clients, it hangs up on one of them, not on all.
        if self.source == Source::Local && self.hang_ups.fetch_add(1, Ordering::Relaxed) + 1 == SUSPICIOUS {
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

/// Whether it is an address of this machine's own.
fn is_of_this_machine(address: IpAddr) -> bool {
    let address = address.to_canonical();
    // All of 127/8 leads here, and lo has but one of it.
    address.is_loopback() || own_addresses().contains(&address)
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
    use crate::metrics::Metrics;

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

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn connector(bind: &str, upstream: &str) -> Connector {
        let yaml = format!(
            "listeners: [{{ bind: \"{bind}\", upstream: \"{upstream}\", client: {{ address_map: \
             [{{ peers: any, announce: local }}], data_ports: 20000 }}, timeouts: {{ connect_server: 2s }} }}]"
        );
        let config = Arc::new(Config::parse(&yaml, "test.yaml").unwrap());
        let listener = &config.listeners[0];
        let upstream = listener.upstream.fixed().unwrap().clone();
        Connector::new(listener, upstream, None, Arc::clone(&config), Metrics::default().listener(listener))
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
        let connected = connector.connect_to_one_of(&[silent, good], Some(CLIENT), limit).await.unwrap();
        assert!(start.elapsed() < limit * 3 / 4, "{:?}", start.elapsed());
        assert_eq!(connected.at.peer, good);
        let error = connector.connect_to_one_of(&[silent], Some(CLIENT), Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error, ConnectError::Failed(error) if error.kind() == io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn sec_15_a_client_reaches_only_servers_of_its_own_family() {
        let mut connector = connector("127.0.0.1:2121", "ftp.example.com:21");
        let [four, six]: [SocketAddr; 2] = ["192.0.2.1:21", "[2001:db8::1]:21"].map(|addr| addr.parse().unwrap());
        let client: IpAddr = "2001:db8::9".parse().unwrap();
        assert_eq!(
            connector.reachable_for(Some(client), vec![four, six]).unwrap(),
            [four, six],
            "our own address will do"
        );
        connector.source = Source::Client;
        assert_eq!(connector.reachable_for(Some(client), vec![four, six]).unwrap(), [six]);
        let error = connector.reachable_for(Some(client), vec![four]).unwrap_err();
        assert!(error.to_string().contains("server.source: client"), "{error}");
    }

    #[test]
    fn sec_03_own_addresses_are_known_and_others_are_not() {
        let ip = |text: &str| text.parse().unwrap();
        for own in ["127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1"] {
            assert!(is_of_this_machine(ip(own)), "{own}");
        }
        assert!(own_addresses().into_iter().all(is_of_this_machine));
        for other in ["192.0.2.1", "2001:db8::1"] {
            assert!(!is_of_this_machine(ip(other)), "{other}");
        }
    }

    #[test]
    fn a_server_that_sees_its_clients_bans_one_of_them() {
        let mut connector = connector("127.0.0.1:2121", "ftp.example.com:21");
        for (source, counted) in [(Source::Client, 0), (Source::Local, 1)] {
            connector.source = source;
            connector.hung_up();
            assert_eq!(connector.hang_ups.load(Ordering::Relaxed), counted, "{source:?}");
        }
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
