//! The shell: sockets, tasks and copying, on tokio. It decides nothing about FTP.
//!
//! One task accepts on each address ([`listener`]), one task drives each [`Session`](crate::session::Session)
//! ([`control`]), one task carries each data channel ([`channel`]). They share what is in [`Shared`], where they
//! wait for each other only for a data port and for their turn to connect to the server.

pub mod accept;
mod admission;
mod channel;
mod control;
pub mod copy;
pub(crate) mod descriptors;
mod directory;
mod encryption;
mod gate;
mod journal;
mod listener;
mod logins;
mod passthrough;
pub mod ports;
pub mod socket;
pub mod splice;
pub mod tls;
mod upstream;
mod upstreams;
mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::admission::Admission;
use self::descriptors::{Plan, TooFewDescriptors};
use self::directory::Directory;
use self::encryption::{Encryption, EncryptionError};
use self::gate::{Gate, Waiting};
use self::listener::{ListenError, Refusals};
use self::logins::Logins;
use self::passthrough::Sessions;
use self::ports::bind::wildcard;
use self::ports::{BindError, PortPool, PortRegistry};
use self::splice::Pipes;
use crate::addr::{Leg, PerLeg};
use crate::config::{Config, DataPorts, LegConfig, Listener, Selection, Upstream};
use crate::session::Settings;

pub use upstreams::{Probe, UpstreamStatus, probe};

/// What the sessions of a listener share.
#[derive(Debug)]
struct Shared {
    config: Listener,
    /// Where connections come through load balancers.
    gate: Option<Arc<Gate>>,
    settings: Arc<Settings>,
    ports: PerLeg<PortPool>,
    directory: Directory,
    admission: Arc<Admission>,
    logins: Arc<Logins>,
    encryption: Encryption,
    /// Those that client and server encrypt between them.
    passed: Arc<Sessions>,
    process: Process,
}

/// What all sessions share.
#[derive(Debug, Clone, Default)]
struct Process {
    /// Every session and every channel.
    tasks: TaskTracker,
    /// Cancelled when the program stops: nothing new is accepted, sessions end at their next boundary.
    stop: CancellationToken,
    /// For long transfers; there is one share of the system's pipes.
    pipes: Arc<Pipes>,
    /// Data connections that should have come from port 20 and did not.
    not_from_ftp_data: Arc<AtomicU64>,
    refusals: Refusals,
    /// Connections that have yet to say where they come from.
    waiting: Waiting,
}

impl Shared {
    /// At most `sessions` at once.
    fn new(
        listener: &Listener,
        config: &Arc<Config>,
        ports: PerLeg<PortPool>,
        sessions: u32,
        process: Process,
    ) -> Result<Arc<Self>, EncryptionError> {
        let limits = &listener.limits;
        Ok(Arc::new(Self {
            encryption: Encryption::load(listener)?,
            admission: Admission::new(sessions, limits.sessions_per_address.map(NonZeroU32::get)),
            logins: Logins::new(&listener.name, limits.login_failures.get()),
            passed: Arc::default(),
            settings: Arc::new(settings(listener)),
            directory: Directory::new(listener, Arc::clone(config)),
            config: listener.clone(),
            gate: Gate::new(listener, &process.waiting),
            ports,
            process,
        }))
    }
}

#[cfg(test)]
impl Shared {
    /// Of a listener without data ports of its own.
    fn for_tests() -> Arc<Self> {
        let yaml = "listeners: [{ bind: \"127.0.0.1:2121\", upstream: \"127.0.0.2:21\", client: { address_map: \
                    [{ peers: any, announce: local }], data_ports: 20000 } }]";
        let config = Arc::new(Config::parse(yaml, "test.yaml").expect("a valid configuration"));
        let registry = PortRegistry::bind(&[]).expect("nothing to bind");
        let pool = || registry.pool(&[], &DataPorts::Any);
        let ports = PerLeg { client: pool(), server: pool() };
        Self::new(&config.listeners[0], &config, ports, 1, Process::default()).expect("no files to read")
    }
}

/// Why the proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A control address cannot be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No port of a range can be bound.
    #[error(transparent)]
    Ports(#[from] BindError),
    /// The configuration needs more open files than the process may have.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// Certificates, or those who vouch for the server, cannot be used.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
}

/// A proxy with every address bound, which serves until it is told to stop.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    drain: Duration,
    /// Wakes whoever reads the certificates.
    reload: Arc<Notify>,
    /// The data ports stay open as long as there are sessions.
    _registry: PortRegistry,
    _passthrough: DropGuard,
    listeners: Vec<Arc<Shared>>,
}

impl Proxy {
    /// Binds every control address and every data port, and begins to serve. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// What cannot be bound, or has no room within the limit on open files, with a remedy.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let process = Process::default();
        let plan = Plan::new(&config, descriptors::limit())?;
        plan.warn();
        let (ranges, gated) = (data_ports(&config), gated_ports(&config, &process));
        let intercepts = config.listeners.iter().any(|listener| listener.upstream.intercepts());
        if intercepts {
            tell_what_can_be_intercepted();
        }
        let registry = PortRegistry::bind_behind(&ranges, &gated, intercepts)?;
        let config = Arc::new(config);
        let drain = config.listeners.iter().map(|listener| listener.timeouts.drain).max().unwrap_or_default();
        let mut bound = Vec::new();
        let open = CancellationToken::new();
        let passthrough = open.clone().drop_guard();
        for (listener, sessions) in config.listeners.iter().zip(plan.sessions()) {
            let pool = |leg: Leg, config: &LegConfig| {
                registry.pool(&data_addresses(listener, leg), &config.data_ports).admitting(config.data_peer.clone())
            };
            let pending = listener.limits.pending_ports_per_address;
            let intercepts = listener.upstream.intercepts();
            let ports = PerLeg {
                client: pool(Leg::Client, &listener.client).at_most(pending).for_any_address(intercepts),
                server: pool(Leg::Server, &listener.server),
            };
            let shared = Shared::new(listener, &config, ports, sessions, process.clone())?;
            passthrough::serve(&shared, &open)?;
            bound.push((listener::bind(&shared)?, shared));
        }
        let certificates = bound.iter().filter_map(|(_, shared)| shared.encryption.client.clone()).collect();
        let reload = Arc::new(Notify::new());
        tokio::spawn(tls::refresh(certificates, Arc::clone(&reload)));
        let served: Vec<Arc<Shared>> = bound.iter().map(|(_, shared)| Arc::clone(shared)).collect();
        // Only now that everything is bound is anybody served.
        for (listeners, shared) in bound {
            shared.directory.watch(&shared.process.stop);
            for (listener, at) in listeners.into_iter().zip(&shared.config.bind) {
                tracing::info!(listener = %shared.config.name, %at, upstream = %shared.directory, "serving");
                tokio::spawn(listener::serve(Arc::clone(&shared), listener));
            }
        }
        Ok(Self { process, drain, reload, _registry: registry, _passthrough: passthrough, listeners: served })
    }

    /// Reads again, in the background, what may change while it serves: certificates and keys. What is bad is logged and
    /// changes nothing; sessions that run keep what they have.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// What is known of every server that the configuration names, in its order.
    #[must_use]
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.listeners.iter().flat_map(|shared| shared.directory.status()).collect()
    }

    /// Accepts nobody any more and asks every session to end at its next boundary.
    pub fn stop(&self) {
        self.process.stop.cancel();
        self.process.tasks.close();
    }

    /// Waits until every session has ended, `timeouts.drain` at most; true if they all did. What still runs is
    /// reset when the runtime ends, so that nothing that was cut looks complete.
    pub async fn drained(&self) -> bool {
        tokio::time::timeout(self.drain, self.process.tasks.wait()).await.is_ok()
    }
}

fn tell_what_can_be_intercepted() {
    if socket::may_be_transparent() {
        tracing::info!("connections that nft REDIRECT or TPROXY leads here are taken");
    } else {
        tracing::info!("without CAP_NET_ADMIN only connections that nft REDIRECT leads here are taken, none by TPROXY");
    }
}

fn settings(listener: &Listener) -> Settings {
    Settings {
        data_mode: listener.data_mode,
        from_user: matches!(listener.upstream, Selection::FromUser(_)),
        hosts: listener.hosts.iter().map(|(name, _)| name.clone()).collect(),
        policy: listener.policy,
        denied: listener.access.denied.clone(),
        line: listener.limits.line,
        tls: encryption::settings(&listener.tls),
        login: listener.timeouts.login,
        control_idle: listener.timeouts.control_idle,
        partial_line: listener.timeouts.partial_line,
        close: listener.timeouts.close,
    }
}

/// Every range, on every address on which its leg may have control connections.
fn data_ports(config: &Config) -> Vec<(IpAddr, RangeInclusive<u16>)> {
    let mut all = Vec::new();
    for listener in &config.listeners {
        for (leg, config) in [(Leg::Client, &listener.client), (Leg::Server, &listener.server)] {
            if let DataPorts::Range(range) = &config.data_ports {
                all.extend(data_addresses(listener, leg).into_iter().map(|ip| (ip, range.clone())));
            }
        }
    }
    all
}

/// Where the data connections of a leg come in: for clients, at the addresses that they connect to. From which of its
/// addresses this machine reaches the server is known with the first connection, and may change with a route.
fn data_addresses(listener: &Listener, leg: Leg) -> Vec<IpAddr> {
    let own = listener.bind.iter().map(SocketAddr::ip);
    if leg == Leg::Client {
        return own.collect();
    }
    let mut all: Vec<IpAddr> = match server_addresses(listener) {
        Some(servers) => servers.into_iter().map(wildcard).collect(),
        // They may have addresses of either family; without IPv6 on this machine there is nothing to bind.
        None => own.map(wildcard).chain([IpAddr::V4(Ipv4Addr::UNSPECIFIED)]).collect(),
    };
    all.sort_unstable();
    all.dedup();
    all
}

/// Where the servers are, if all that there may be is known.
fn server_addresses(listener: &Listener) -> Option<Vec<IpAddr>> {
    let servers = listener.upstream.servers();
    if servers.is_empty() || !listener.hosts.is_empty() {
        return None;
    }
    let address = |server: &Upstream| match server {
        Upstream::Address(server) => Some(server.ip()),
        Upstream::Name { .. } => None,
    };
    servers.iter().map(address).collect()
}

/// The ranges where data connections begin with a PROXY header, and the gates that read it.
fn gated_ports(config: &Config, process: &Process) -> Vec<(IpAddr, RangeInclusive<u16>, Arc<Gate>)> {
    let of_listener = |listener: &Listener| {
        let gate = Gate::new(listener, &process.waiting).filter(|gate| gate.is_for_data());
        let (Some(gate), DataPorts::Range(range)) = (gate, &listener.client.data_ports) else { return Vec::new() };
        listener.bind.iter().map(|addr| (addr.ip(), range.clone(), Arc::clone(&gate))).collect()
    };
    config.listeners.iter().flat_map(of_listener).collect()
}

/// The outcome of a future, for as long as there is one; without, it never comes.
async fn finished<F: Future + Unpin>(running: &mut Option<F>) -> F::Output {
    match running {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
