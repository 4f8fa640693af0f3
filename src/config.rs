//! The configuration: valid by construction.
//!
//! A [`Config`] that exists has been checked as a whole. On the way from the text to it,
//! - `marked` reads the YAML into a tree that knows the place of every key and value,
//! - `shape` reports unknown and duplicate keys and values of the wrong kind,
//! - `raw` takes what is left through serde,
//! - `draft` and `value` make addresses, ranges and times of it, and
//! - `conflict` compares the listeners with each other.
//!
//! None of them stops at the first error: `report` collects them all.

mod conflict;
pub mod discovery;
mod draft;
mod marked;
mod raw;
mod report;
mod servers;
mod shape;
mod source;
pub mod tls;
mod value;
pub mod warning;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::pki_types::ServerName;

use crate::addr::{Family, Leg, Whose};
use crate::ftp::host::HostName;
use crate::ftp::line::MAX_LINE;
pub use crate::ftp::name::CommandName;
pub use crate::nat::DataMode;
use crate::nat::destinations::Destinations;
use crate::nat::map::AddressMap;
use crate::nat::policy::Policy;
use discovery::Discovery;
pub use report::{Error, Errors};
use report::{KeyPath, Problems, Wrong};
pub use servers::{Balance, Health, Servers};
pub use source::{HeaderVersion, ProxyHeader, Source};
use tls::Tls;

/// A whole configuration file.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is served; never empty, names are unique.
    pub listeners: Vec<Listener>,
    /// Whom to ask for the public address, where it is announced.
    pub discovery: Discovery,
    /// Where metrics and live sessions are to be had; `None`: nowhere.
    pub admin: Option<Admin>,
    /// What is logged, and where, beside standard error.
    pub log: Log,
    /// Who the process becomes before it serves, if it is not to stay who it is.
    pub user: Option<String>,
    /// Whether the kernel is to hold the process to the ports and files that this configuration needs (Landlock).
    pub landlock: bool,
}

/// Metrics and live sessions, over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens. Nobody is asked who they are, so this should be a loopback address.
    pub bind: SocketAddr,
}

/// `log`, for the whole process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// `log.transfers`: where a line for each transferred file is appended. Absolute.
    pub transfers: Option<PathBuf>,
}

/// Why a configuration file gave no [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read, or is not text.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It was read, and is wrong.
    #[error(transparent)]
    Invalid(#[from] Errors),
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, or is not a valid configuration.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.into(), source })?;
        Ok(Self::parse(&text, &path.display().to_string())?)
    }

    /// Checks a text; `origin` is what messages call it.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Errors> {
        // Windows editors put a byte order mark before the text; it is no part of it (YAML 1.2 §5.2).
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let tree = marked::Tree::parse(text).map_err(|e| Errors::syntax(origin, text, e.at, e.wrong))?;
        let mut problems = Problems::new(&tree, text);
        let root = KeyPath::default();
        let config = match serde_yaml::from_value(shape::prune(&tree.root, &shape::FILE, &root, &mut problems)) {
            // A file without content is null, and has no listeners.
            Ok(file) => draft::read(Option::<raw::File>::unwrap_or_default(file), &mut problems),
            // What the shape lets through serde accepts (a test of `shape`); if not, serde's words are what we have.
            Err(error) => {
                problems.report(&root, Wrong::new(error.to_string(), "see the reference of the keys"));
                None
            }
        };
        match (problems.into_errors(origin), config) {
            (Some(errors), _) => Err(errors),
            (None, config) => Ok(config.expect("a part that could not be read has been reported")),
        }
    }

    /// Whether a connection to `addr` would end at one of our own listeners, as far as that is known without
    /// asking the system for its addresses: behind a wildcard, only the loopback addresses are.
    #[must_use]
    pub fn serves(&self, addr: SocketAddr) -> bool {
        self.listeners.iter().flat_map(|listener| &listener.bind).any(|bind| conflict::reaches(addr, *bind))
    }
}

impl Config {
    /// Whether one of our listeners takes connections to the port of `addr` on every address of its family that this
    /// machine has.
    #[must_use]
    pub fn serves_any_address_at(&self, addr: SocketAddr) -> bool {
        // IPv6 sockets are V6ONLY: what listens on the same port of the other family is another program.
        let is_wildcard = |bind: &SocketAddr| {
            bind.ip().is_unspecified() && bind.port() == addr.port() && bind.is_ipv4() == addr.is_ipv4()
        };
        self.listeners.iter().flat_map(|listener| &listener.bind).any(is_wildcard)
    }
}

/// One entry of `listeners`: a set of addresses that clients connect to, and the server behind them.
#[derive(Debug, Clone)]
pub struct Listener {
    /// The name in logs and messages.
    pub name: String,
    /// Where clients connect; never empty.
    pub bind: Vec<SocketAddr>,
    /// Which FTP server a session is with.
    pub upstream: Selection,
    /// Servers for names, instead of `upstream`: for clients that say the name (HOST, or SNI).
    pub hosts: Vec<(HostName, Servers)>,
    /// The leg that faces the clients.
    pub client: LegConfig,
    /// The leg that faces the server.
    pub server: LegConfig,
    /// From which port clients in active mode are connected to.
    pub source_port: SourcePort,
    /// Who says where a connection comes from; `None`: it comes from the client itself.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Whose address connections to the server come from.
    pub source: Source,
    /// The PROXY protocol towards the server; `None`: no header.
    pub proxy_header: Option<ProxyHeader>,
    /// How data connections to the server are made.
    pub data_mode: DataMode,
    /// What is encrypted.
    pub tls: Tls,
    /// What is permitted.
    pub access: Access,
    /// Bounce and port rules.
    pub policy: Policy,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How much there may be.
    pub limits: Limits,
}

impl Listener {
    /// Where a client may make a data connection in another family than its control connection's. From which address it
    /// comes nobody can know then, so only where [anybody](DataPeer::Any) may come; and the family is one of `bind`.
    #[must_use]
    pub fn client_door(&self, family: Family) -> Option<IpAddr> {
        let door = self.bind.iter().map(SocketAddr::ip).find(|ip| Family::of(*ip) == family);
        door.filter(|_| self.client.data_peer == DataPeer::Any)
    }

    /// Whose address our end of the connections of a leg has.
    #[must_use]
    pub fn whose_address(&self, leg: Leg) -> Whose {
        let anybodys = match leg {
            Leg::Client => self.upstream.intercepts(),
            Leg::Server => self.source == Source::Client,
        };
        if anybodys { Whose::Anybodys } else { Whose::Ours }
    }
}

/// What is configured once per leg.
#[derive(Debug, Clone)]
pub struct LegConfig {
    /// What the peers of this leg are told to connect to.
    pub address_map: AddressMap,
    /// On which ports they may do so.
    pub data_ports: DataPorts,
    /// Who may do so.
    pub data_peer: DataPeer,
}

/// Who may make a data connection that a peer was told to make (`client.data_peer`, `server.data_peer`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DataPeer {
    /// The address of its control connection.
    #[default]
    Exact,
    /// Any address of the same /24 (IPv4) or /64 (IPv6): a network that leaves through several public addresses.
    Subnet,
    /// Anybody: whoever comes first. Clients only.
    Any,
    /// Any address of these networks, beside its own: a server that dials from a pool of addresses. Never empty, and no
    /// two of them overlap.
    Networks(Arc<[IpNet]>),
}

/// Ports on which data connections are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataPorts {
    /// Any free port, chosen by the kernel.
    Any,
    /// One of these, bound at start.
    Range(RangeInclusive<u16>),
}

/// The port from which we connect to a client in active mode (`client.source_port`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourcePort {
    /// Any free one.
    #[default]
    Any,
    /// 20, where RFC 959 §8 has the server's data connections come from; some clients' firewalls admit no other.
    FtpData,
}

/// `client.proxy_protocol`: every control connection begins with a header of the PROXY protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// The load balancers: nobody else may connect. Never empty, and no network of all addresses.
    pub trusted: Vec<IpNet>,
    /// Whether connections to `client.data_ports` and `tls.client.passthrough_ports` come through them as well, with a
    /// header each; if not, they come from the clients' own addresses.
    pub data: bool,
}

impl ProxyProtocol {
    /// Whether this is the address of one of the load balancers.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }
}

/// The port of `ftp-data` (RFC 959 §8).
pub const FTP_DATA: u16 = 20;

/// Which FTP server a session is with (`upstream`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Always this one, or one of these.
    Fixed(Servers),
    /// The one that the client has dialled: its connection was led here on the way (nft REDIRECT or TPROXY).
    OriginalDestination(Arc<Destinations>),
    /// The one that the client names (`USER user@host`).
    FromUser(Arc<Destinations>),
}

impl Selection {
    /// The server, if there is but one.
    #[must_use]
    pub fn fixed(&self) -> Option<&Upstream> {
        match self {
            Self::Fixed(servers) => servers.only(),
            Self::OriginalDestination(_) | Self::FromUser(_) => None,
        }
    }

    /// The servers that the configuration names; none where clients name them.
    #[must_use]
    pub fn servers(&self) -> &[Upstream] {
        match self {
            Self::Fixed(servers) => servers.list(),
            Self::OriginalDestination(_) | Self::FromUser(_) => &[],
        }
    }

    /// Whether connections are taken that clients have opened to somebody else.
    #[must_use]
    pub const fn intercepts(&self) -> bool {
        matches!(self, Self::OriginalDestination(_))
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(servers) => servers.fmt(f),
            Self::OriginalDestination(_) => f.write_str(ORIGINAL_DESTINATION),
            Self::FromUser(_) => f.write_str(FROM_USER),
        }
    }
}

/// How [`Selection::OriginalDestination`] is written.
const ORIGINAL_DESTINATION: &str = "original-destination";

/// How [`Selection::FromUser`] is written.
const FROM_USER: &str = "from-user";

/// Where an FTP server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// At this address.
    Address(SocketAddr),
    /// At what this name resolves to when a session starts.
    Name {
        /// A DNS name.
        host: String,
        /// The control port.
        port: u16,
    },
}

impl Upstream {
    /// The control port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self {
            Self::Address(addr) => addr.port(),
            Self::Name { port, .. } => *port,
        }
    }

    /// What its certificate should say. `None`: no certificate can say this name.
    #[must_use]
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        match self {
            Self::Address(addr) => Some(ServerName::from(addr.ip())),
            // A trailing dot is DNS notation, and no part of the name in a certificate (RFC 6066 §3).
            Self::Name { host, .. } => ServerName::try_from(host.trim_end_matches('.').to_owned()).ok(),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(addr) => addr.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Who may use a listener, and what for.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `policy.allow`: the networks that may connect; `None` admits everybody.
    pub allow: Option<Vec<IpNet>>,
    /// `policy.deny`: commands that are refused by a 502 and never reach the server.
    pub denied: Vec<CommandName>,
}

/// `timeouts` of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// No command for so long, with none outstanding and no transfer: 421 and the end.
    pub control_idle: Duration,
    /// From the connect to the first 230 or 232.
    pub login: Duration,
    /// To establish the control connection, or a data connection, to the server.
    pub connect_server: Duration,
    /// To establish a data connection to the client.
    pub connect_client: Duration,
    /// A data connection without a byte either way.
    pub data_idle: Duration,
    /// How long PASV waits for a port when all are taken.
    pub port_wait: Duration,
    /// How long a session may take to end once one side has closed.
    pub close: Duration,
    /// How long a line may stay unfinished.
    pub partial_line: Duration,
    /// How long transfers may go on after SIGTERM.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            // RFC 1123 §4.1.3.2 asks for at least 5 minutes; FTP servers ship with 5 to 15.
            control_idle: Duration::from_secs(15 * 60),
            // Slow reverse look-ups before the banner take up to 30 s; IIS allows 30 s, ProFTPD 300 s.
            login: Duration::from_secs(60),
            connect_server: Duration::from_secs(10),
            // A client behind a slow or lossy link: several SYN retransmissions (1 + 2 + 4 + 8 s).
            connect_client: Duration::from_secs(20),
            // vsftpd's data_connection_timeout and ProFTPD's TimeoutNoTransfer are 300 s.
            data_idle: Duration::from_secs(5 * 60),
            port_wait: Duration::from_secs(15),
            close: Duration::from_secs(10),
            partial_line: Duration::from_secs(60),
            drain: Duration::from_secs(30),
        }
    }
}

/// `limits` of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Control connections at once. `None` is 10,000, or as many as the limit on open files has room for.
    pub sessions: Option<NonZeroU32>,
    /// Control connections from one address at once. `None` is 1,000, at most half of them all.
    pub sessions_per_address: Option<NonZeroU32>,
    /// Data ports of `client.data_ports` that one address may keep waiting at once; `None` is every one: addresses do
    /// not compete for them, so it could only spare the sessions of one client from each other.
    pub pending_ports_per_address: Option<NonZeroU32>,
    /// The longest command line in bytes, its terminator included.
    pub line: usize,
    /// Failed logins of one client address within ten minutes, from which on they are slowed down; twice as many, and
    /// they are refused.
    pub login_failures: NonZeroU32,
    /// New control connections to the server per second; more wait their turn. `None` does not pace, for
    /// the servers without an anti-hammering rule. How many may be *under way* is bounded in any case.
    pub connects_per_second: Option<NonZeroU32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: None,
            sessions_per_address: None,
            pending_ports_per_address: None,
            line: MAX_LINE,
            // Some of the people behind one NAT mistype, and a program with an old password tries a few times; guessing
            // takes thousands. Servers that ban ship with 3 to 10.
            login_failures: const { NonZeroU32::new(10).expect("not 0") },
            connects_per_second: None,
        }
    }
}
