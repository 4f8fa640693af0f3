//! What one configuration is served with, and how the next takes its place.
//!
//! ```text
//!   configuration ──prepare──▶ everything bound and read, nobody served ──take effect──▶ in use
//!                     │
//!                     └ any obstacle: dropped, and nothing has changed
//! ```
//!
//! All that can fail comes before anybody is served with any of it. What configurations have in common is there once, so
//! that it passes from one to the next: sockets that listen ([`Sockets`](super::sockets::Sockets), `ports::bind`), who
//! is expected on which port (`ports::table`), who is there and who guesses passwords (by the listener's name). Everything
//! else belongs to the sessions that began with it, and goes with the last of them.

use std::collections::HashMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_util::sync::DropGuard;

use super::accept::Acceptor;
use super::admission::Admission;
use super::descriptors::{self, Plan, TooFewDescriptors};
use super::directory::Directory;
use super::encryption::{Encryption, EncryptionError};
use super::gate::Gate;
use super::listener::{self, ListenError};
use super::logins::Logins;
use super::ports::bind::Tenure;
use super::ports::{BindError, PortRegistry};
use super::xferlog::{self, TransferLog};
use super::{
    Insight, Process, Shared, data_addresses, data_ports, gated_ports, may_use_client_addresses, settings, socket, tls,
};
use crate::addr::{Leg, PerLeg};
use crate::config::{Config, LegConfig, Listener};
use crate::metrics::ServerState;

/// What stands in the way of serving a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
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
    /// Connections cannot come from the clients' addresses.
    #[error("listener {listener}: {source}")]
    Transparent {
        /// The listener's name.
        listener: String,
        /// What is missing, with a remedy.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The transfer log cannot be opened.
    #[error(transparent)]
    TransferLog(#[from] xferlog::OpenError),
    /// A socket was passed on to us that the configuration does not name.
    #[error(
        "a socket that listens on {0} was passed on to ftp-alg (systemd socket activation), and no listener binds {0}: name \
         it in `bind`, exactly like that, or take its ListenStream= out of the socket unit and restart both"
    )]
    Unnamed(SocketAddr),
    /// A socket that was passed on to us cannot be used.
    #[error("a socket that was passed on to ftp-alg (systemd socket activation) cannot be used: {0}")]
    Inherited(std::io::Error),
}

/// Why a configuration cannot be served: everything that stands in its way; not empty.
#[derive(Debug)]
pub struct StartError(Vec<Obstacle>);

impl StartError {
    /// One by one.
    pub fn obstacles(&self) -> impl Iterator<Item = &Obstacle> {
        self.0.iter()
    }
}

impl std::error::Error for StartError {}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, obstacle) in self.0.iter().enumerate() {
            write!(f, "{}{obstacle}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

/// A proxy with every address bound, which serves until it is told to stop.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    current: Arc<Mutex<Generation>>,
    /// Sockets that were passed on to us. Who did it has them open, so that nobody is refused while we are not there.
    inherited: Vec<(SocketAddr, Arc<Acceptor>)>,
}

/// The configuration in use.
#[derive(Debug)]
pub(super) struct Generation {
    listeners: Vec<Arc<Shared>>,
    registry: PortRegistry,
    drain: Duration,
    /// Ends the tasks that accept clients for it.
    _accepting: DropGuard,
    /// Follows its certificates.
    certificates: AbortHandle,
}

impl Generation {
    /// Listeners whose clients no server would serve, and why.
    pub(super) fn impediments(&self) -> Vec<String> {
        let of_listener = |shared: &Arc<Shared>| {
            let name = shared.config.name.clone();
            shared.directory.impediments().map(move |why| format!("listener {name}: {why}")).collect::<Vec<_>>()
        };
        self.listeners.iter().flat_map(of_listener).collect()
    }

    /// What is known of each server that the configuration names.
    pub(super) fn servers(&self) -> Vec<ServerState> {
        self.listeners.iter().flat_map(|shared| shared.directory.states()).collect()
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.certificates.abort();
    }
}

/// That which is in use now.
pub(super) fn in_use(current: &Mutex<Generation>) -> MutexGuard<'_, Generation> {
    // It is replaced in one step.
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One that could be in use.
#[derive(Debug)]
struct Prepared {
    listeners: Vec<(Arc<Shared>, Vec<Arc<Acceptor>>, u32)>,
    registry: PortRegistry,
}

impl Proxy {
    /// Binds every control address and every data port, and begins to serve. Control addresses at which one of the
    /// `inherited` sockets listens are bound already. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// All that cannot be bound, or has no room within the limit on open files, with a remedy.
    pub fn start(config: Config, inherited: Vec<TcpListener>) -> Result<Self, StartError> {
        let refused = |obstacle| StartError(vec![obstacle]);
        let transfers = TransferLog::open(config.log.transfers.as_deref()).map_err(|error| refused(error.into()))?;
        let process = Process { transfers, ..Process::default() };
        let inherited = inherit(inherited, &process).map_err(|error| refused(Obstacle::Inherited(error)))?;
        if intercepts(&config) {
            tell_what_can_be_intercepted();
        }
        let prepared = Prepared::new(config, &process, None, &inherited)?;
        let current = Arc::new(Mutex::new(prepared.take_effect(&process)));
        Ok(Self { process, current, inherited })
    }

    /// Serves new clients with this configuration. Sessions that run keep the one that they began with, and what is bound
    /// already stays bound. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// As at the [start](Self::start); then nothing has changed.
    pub fn reload(&self, config: Config) -> Result<(), StartError> {
        let mut current = self.current();
        let prepared = Prepared::new(config, &self.process, Some(&current), &self.inherited)?;
        *current = prepared.take_effect(&self.process);
        for shared in current.listeners.iter().filter(|shared| shared.encryption.client.is_some()) {
            let listener = &shared.config.name;
            tracing::info!(listener, "certificates were read again and are in use for new sessions");
        }
        Ok(())
    }

    /// What the outside may know of it, for as long as the process runs.
    #[must_use]
    pub fn insight(&self) -> Insight {
        Insight::new(self.process.clone(), Arc::clone(&self.current))
    }

    /// The log of transferred files.
    #[must_use]
    pub const fn transfers(&self) -> &TransferLog {
        &self.process.transfers
    }

    /// Accepts nobody any more and asks every session to end at its next boundary.
    pub fn stop(&self) {
        self.process.stop.cancel();
        self.process.tasks.close();
    }

    /// Waits until every session has ended, `timeouts.drain` at most; true if they all did. What still runs is
    /// reset when the runtime ends, so that nothing that was cut looks complete.
    pub async fn drained(&self) -> bool {
        let drain = self.current().drain;
        tokio::time::timeout(drain, self.process.tasks.wait()).await.is_ok()
    }

    fn current(&self) -> MutexGuard<'_, Generation> {
        in_use(&self.current)
    }
}

impl Prepared {
    /// Binds and reads everything. What `earlier` has, too, is shared with it.
    fn new(
        config: Config,
        process: &Process,
        earlier: Option<&Generation>,
        inherited: &[(SocketAddr, Arc<Acceptor>)],
    ) -> Result<Self, StartError> {
        let mut obstacles = Obstacles(unnamed(&config, inherited));
        let plan = obstacles.keep(Plan::new(&config, descriptors::limit()));
        let _told = obstacles.keep(may_use_client_addresses(&config));
        let (ranges, gated) = (data_ports(&config), gated_ports(&config, process));
        let registry = PortRegistry::bind_behind(earlier.map(|g| &g.registry), &ranges, &gated, intercepts(&config));
        let registry = obstacles.keep(registry);
        let parts: Vec<_> =
            config.listeners.iter().map(|listener| Parts::new(listener, process, &mut obstacles)).collect();
        let (Some(plan), Some(registry), true) = (plan, registry, obstacles.0.is_empty()) else {
            return Err(StartError(obstacles.0));
        };
        plan.warn();
        let config = Arc::new(config);
        let earlier = earlier.map(|earlier| &earlier.listeners);
        let earlier: HashMap<&str, &Arc<Shared>> =
            earlier.into_iter().flatten().map(|shared| (&*shared.config.name, shared)).collect();
        let listeners = config.listeners.iter().zip(parts.into_iter().flatten()).zip(plan.sessions());
        let listeners = listeners.map(|((listener, parts), sessions)| {
            let (sockets, earlier) = (parts.sockets.clone(), earlier.get(&*listener.name).copied());
            (parts.share(listener, &config, &registry, sessions, process, earlier), sockets, sessions)
        });
        Ok(Self { listeners: listeners.collect(), registry })
    }

    /// Serves with it. Nothing here can fail.
    fn take_effect(self, process: &Process) -> Generation {
        let accepting = process.stop.child_token();
        self.registry.take_effect();
        let mut listeners = Vec::new();
        for (shared, sockets, sessions) in self.listeners {
            let limits = &shared.config.limits;
            shared.admission.limit_to(sessions, limits.sessions_per_address.map(NonZeroU32::get));
            shared.logins.limit_to(limits.login_failures.get());
            shared.metrics.describe(&shared.config);
            process.passthrough.route(&shared);
            shared.directory.watch(&accepting);
            for (socket, at) in sockets.into_iter().zip(&shared.config.bind) {
                tracing::info!(listener = %shared.config.name, %at, upstream = %shared.directory, "serving");
                tokio::spawn(listener::serve(Arc::clone(&shared), socket, accepting.clone()));
            }
            listeners.push(shared);
        }
        let certificates: Vec<_> = listeners.iter().filter_map(|shared| shared.encryption.client.clone()).collect();
        let drain = listeners.iter().map(|shared| shared.config.timeouts.drain).max().unwrap_or_default();
        Generation {
            listeners,
            registry: self.registry,
            drain,
            _accepting: accepting.drop_guard(),
            certificates: tokio::spawn(tls::refresh(certificates)).abort_handle(),
        }
    }
}

/// What of a listener can fail.
struct Parts {
    encryption: Encryption,
    passthrough_ports: Arc<Tenure>,
    sockets: Vec<Arc<Acceptor>>,
}

impl Parts {
    fn new(listener: &Listener, process: &Process, obstacles: &mut Obstacles) -> Option<Self> {
        let encryption = obstacles.keep(Encryption::load(listener));
        let passthrough_ports = obstacles.keep(process.passthrough.open(listener));
        let sockets = obstacles.keep(listener::bind(listener, &process.control));
        Some(Self { encryption: encryption?, passthrough_ports: passthrough_ports?, sockets: sockets? })
    }

    /// The listener, of which at most `sessions` at once may be; with the same clients as before a reload.
    fn share(
        self,
        listener: &Listener,
        config: &Arc<Config>,
        registry: &PortRegistry,
        sessions: u32,
        process: &Process,
        earlier: Option<&Arc<Shared>>,
    ) -> Arc<Shared> {
        let limits = &listener.limits;
        let pool = |leg: Leg, config: &LegConfig| {
            let pool = registry.pool(&data_addresses(listener, leg), &config.data_ports);
            pool.admitting(config.data_peer.clone()).at_addresses(listener.whose_address(leg))
        };
        let client = pool(Leg::Client, &listener.client).at_most(limits.pending_ports_per_address);
        let ports = PerLeg { client, server: pool(Leg::Server, &listener.server) };
        let metrics = process.metrics.listener(listener);
        let admission = || Admission::new(sessions, limits.sessions_per_address.map(NonZeroU32::get));
        let logins = || Logins::new(&listener.name, limits.login_failures.get());
        Arc::new(Shared {
            encryption: self.encryption,
            admission: earlier.map_or_else(admission, |earlier| Arc::clone(&earlier.admission)),
            logins: earlier.map_or_else(logins, |earlier| Arc::clone(&earlier.logins)),
            passed: Arc::default(),
            passthrough_ports: self.passthrough_ports,
            settings: Arc::new(settings(listener)),
            directory: Directory::new(listener, config, &metrics, earlier.map(|earlier| &earlier.directory)),
            config: listener.clone(),
            gate: Gate::new(listener, process),
            metrics,
            ports,
            process: process.clone(),
        })
    }
}

/// All that stands in the way.
struct Obstacles(Vec<Obstacle>);

impl Obstacles {
    fn keep<T, E: Into<Obstacle>>(&mut self, outcome: Result<T, E>) -> Option<T> {
        outcome.map_err(|error| self.0.push(error.into())).ok()
    }
}

/// Takes over the sockets that were passed on, so that they count as bound.
fn inherit(sockets: Vec<TcpListener>, process: &Process) -> std::io::Result<Vec<(SocketAddr, Arc<Acceptor>)>> {
    let take = |listener: TcpListener| {
        let at = listener.local_addr()?;
        Ok((at, process.control.get(at, || socket::adopt_control(listener))?))
    };
    sockets.into_iter().map(take).collect()
}

/// Those of the sockets passed on that nobody would accept on: their clients would wait without end.
fn unnamed(config: &Config, inherited: &[(SocketAddr, Arc<Acceptor>)]) -> Vec<Obstacle> {
    let is_named = |at: &SocketAddr| config.listeners.iter().any(|listener| listener.bind.contains(at));
    inherited.iter().map(|(at, _)| *at).filter(|at| !is_named(at)).map(Obstacle::Unnamed).collect()
}

fn intercepts(config: &Config) -> bool {
    config.listeners.iter().any(|listener| listener.upstream.intercepts())
}

fn tell_what_can_be_intercepted() {
    if socket::may_be_transparent() {
        tracing::info!("connections that nft REDIRECT or TPROXY leads here are taken");
    } else {
        tracing::info!("without CAP_NET_ADMIN only connections that nft REDIRECT leads here are taken, none by TPROXY");
    }
}

/// The first listener, without data ports of its own.
#[cfg(test)]
pub(super) fn shared_for_tests(config: &Arc<Config>) -> Arc<Shared> {
    let (registry, process) = (PortRegistry::bind(&[]).expect("nothing to bind"), Process::default());
    let listener = Listener {
        client: LegConfig { data_ports: crate::config::DataPorts::Any, ..config.listeners[0].client.clone() },
        server: LegConfig { data_ports: crate::config::DataPorts::Any, ..config.listeners[0].server.clone() },
        ..config.listeners[0].clone()
    };
    let parts = Parts {
        encryption: Encryption { client: None, server: None },
        passthrough_ports: Arc::default(),
        sockets: Vec::new(),
    };
    parts.share(&listener, config, &registry, 1, &process, None)
}
