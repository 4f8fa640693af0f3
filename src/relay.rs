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
mod journal;
mod listener;
mod logins;
mod passthrough;
pub mod ports;
pub mod socket;
pub mod splice;
pub mod tls;
mod upstream;
mod wire;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::admission::Admission;
use self::descriptors::{Plan, TooFewDescriptors};
use self::directory::Directory;
use self::encryption::{Encryption, EncryptionError};
use self::listener::{ListenError, Refusals};
use self::logins::Logins;
use self::passthrough::Sessions;
use self::ports::{BindError, PortPool, PortRegistry};
use self::splice::Pipes;
use crate::addr::PerLeg;
use crate::config::{Config, DataPorts, LegConfig, Listener, Selection};
use crate::session::Settings;

/// What the sessions of a listener share.
#[derive(Debug)]
struct Shared {
    config: Listener,
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
    /// The data ports stay open as long as there are sessions.
    _registry: PortRegistry,
    _passthrough: DropGuard,
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
        let ranges = data_ports(&config);
        let registry = if config.listeners.iter().any(|listener| listener.upstream.intercepts()) {
            tell_what_can_be_intercepted();
            PortRegistry::bind_for_any_address(&ranges)?
        } else {
            PortRegistry::bind(&ranges)?
        };
        let config = Arc::new(config);
        let drain = config.listeners.iter().map(|listener| listener.timeouts.drain).max().unwrap_or_default();
        let mut bound = Vec::new();
        let open = CancellationToken::new();
        let passthrough = open.clone().drop_guard();
        for (listener, sessions) in config.listeners.iter().zip(plan.sessions()) {
            let local: Vec<IpAddr> = listener.bind.iter().map(|addr| addr.ip()).collect();
            let intercepts = listener.upstream.intercepts();
            let pool = |leg: &LegConfig| registry.pool(&local, &leg.data_ports).admitting(leg.data_peer);
            let pending = listener.limits.pending_ports_per_address;
            let ports = PerLeg {
                client: pool(&listener.client).at_most(pending).for_any_address(intercepts),
                server: pool(&listener.server),
            };
            let shared = Shared::new(listener, &config, ports, sessions, process.clone())?;
            passthrough::serve(&shared, &open)?;
            bound.push((listener::bind(&shared)?, shared));
        }
        let certificates = bound.iter().filter_map(|(_, shared)| shared.encryption.client.clone()).collect();
        tokio::spawn(tls::refresh(certificates));
        // Only now that everything is bound is anybody served.
        for (listeners, shared) in bound {
            for (listener, at) in listeners.into_iter().zip(&shared.config.bind) {
                tracing::info!(listener = %shared.config.name, %at, upstream = %shared.directory, "serving");
                tokio::spawn(listener::serve(Arc::clone(&shared), listener));
            }
        }
        Ok(Self { process, drain, _registry: registry, _passthrough: passthrough })
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

/// Every range, on every address on which its listener takes control connections.
fn data_ports(config: &Config) -> Vec<(IpAddr, RangeInclusive<u16>)> {
    let of_leg = |listener: &Listener, ports: &DataPorts| match ports {
        DataPorts::Any => Vec::new(),
        DataPorts::Range(range) => listener.bind.iter().map(|addr| (addr.ip(), range.clone())).collect(),
    };
    config
        .listeners
        .iter()
        .flat_map(|listener| {
            [of_leg(listener, &listener.client.data_ports), of_leg(listener, &listener.server.data_ports)]
        })
        .flatten()
        .collect()
}

/// The outcome of a future, for as long as there is one; without, it never comes.
async fn finished<F: Future + Unpin>(running: &mut Option<F>) -> F::Output {
    match running {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
