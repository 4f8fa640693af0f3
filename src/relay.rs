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
mod generation;
mod insight;
mod journal;
mod listener;
mod live;
mod logins;
mod passthrough;
pub mod ports;
mod proxy_header;
pub mod socket;
mod sockets;
pub mod splice;
pub mod tls;
mod upstream;
mod upstreams;
mod wire;
pub mod xferlog;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admission::Admission;
use self::directory::Directory;
use self::encryption::Encryption;
use self::gate::{Gate, Waiting};
pub use self::generation::{Obstacle, Proxy, StartError};
pub use self::insight::{Insight, LiveSession, State};
use self::listener::Refusals;
use self::live::Live;
use self::logins::Logins;
use self::passthrough::{Router, Sessions};
use self::ports::PortPool;
use self::ports::bind::{Tenure, wildcard};
use self::sockets::Sockets;
use self::splice::Pipes;
pub use self::upstreams::{Probe, probe};
use self::xferlog::TransferLog;
use crate::addr::{Family, Leg, PerLeg};
use crate::config::{Config, DataPorts, Listener, Selection, Source, Upstream};
use crate::metrics::{ListenerMetrics, Metrics};
use crate::session::Settings;

/// What the sessions of a listener share, and keep when a reload gives it another configuration.
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
    metrics: Arc<ListenerMetrics>,
    /// Where their data connections come in. Open for as long as there are sessions.
    passthrough_ports: Arc<Tenure>,
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
    refusals: Refusals,
    /// Connections that have yet to say where they come from.
    waiting: Waiting,
    metrics: Arc<Metrics>,
    live: Arc<Live>,
    /// Of files.
    transfers: TransferLog,
    /// Where clients connect.
    control: Arc<Sockets>,
    /// What is relayed as it is.
    passthrough: Arc<Router>,
}

#[cfg(test)]
impl Shared {
    /// Of a listener without data ports of its own.
    fn for_tests() -> Arc<Self> {
        let yaml = "listeners: [{ bind: \"127.0.0.1:2121\", upstream: \"127.0.0.2:21\", client: { address_map: \
                    [{ peers: any, announce: local }], data_ports: 20000 } }]";
        generation::shared_for_tests(&Arc::new(Config::parse(yaml, "test.yaml").expect("a valid configuration")))
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

/// Whether the listeners that connect from their clients' addresses can. A session should not be what finds out.
pub(crate) fn may_use_client_addresses(config: &Config) -> Result<(), Obstacle> {
    for listener in config.listeners.iter().filter(|listener| listener.source == Source::Client) {
        for bind in &listener.bind {
            socket::transparent::check(Family::of(bind.ip()))
                .map_err(|source| Obstacle::Transparent { listener: listener.name.clone(), source: source.into() })?;
        }
    }
    Ok(())
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
        let gate = Gate::new(listener, process).filter(|gate| gate.is_for_data());
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
