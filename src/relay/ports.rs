//! The data ports: bound once at start, shared by all sessions, leased for one connection each.
//!
//! A [`Lease`] is the expectation that one peer connects to one port. It ends when the peer connects, so a port is
//! busy only between 227 and that connect, and a handful of ports serve any number of transfers. The sockets stay:
//! what a connection is for follows from its port *and* its source address, so peers do not compete for ports, and
//! a stranger cannot take or use up what is meant for another (RFC 2577 §4; the "Pizza Thief"). Such a connection is
//! reset. libunftp and ftpserverlib share ports in the same way; here the choice among free ports is uniform and
//! random (RFC 2577 §8), both ends of the range included, and a peer that has taken every port waits in line.
//!
//! Where peers come from several addresses, a lease may expect a whole network, or several, or anybody (`data_peer`).
//! Leases on one port never expect a common address, whatever their rules, so what a connection is for stays unambiguous.
//!
//! With `data_ports: any` a lease has a listener of its own.

pub(super) mod bind;
mod expected;
mod lease;
mod networks;
mod pool;
mod queue;
mod table;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::bind::Taker;
use self::lease::Outcome;
pub use self::lease::{Lease, LeaseLost};
use self::pool::View;
pub use self::pool::{LeaseError, PortPool};
use self::queue::ViewId;
pub(super) use self::table::SlotId;
use self::table::Table;
use super::gate::Gate;
use crate::config::DataPorts;

/// None of the ports of a range could be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind any of the data ports {}-{} on {ip}: {source}", .ports.start(), .ports.end())]
pub struct BindError {
    /// The local address.
    pub ip: IpAddr,
    /// The range.
    pub ports: RangeInclusive<u16>,
    /// What stood in the way of one of them.
    pub source: io::Error,
}

/// All data ports of the process, bound once at start. Connections are accepted until the registry and all pools and
/// leases made from it are dropped.
#[derive(Debug)]
pub struct PortRegistry {
    shared: Arc<Shared>,
}

/// What registry, pools, leases and accepting tasks share.
#[derive(Debug)]
struct Shared {
    /// Where each slot listens.
    slots: Arc<[SocketAddr]>,
    /// Those of the slots whose connections begin with a PROXY header.
    gates: HashMap<SlotId, Arc<Gate>>,
    state: Mutex<State>,
    /// Ends the accepting tasks with the last owner.
    _stop: DropGuard,
}

#[derive(Debug)]
struct State {
    table: Table<oneshot::Sender<Outcome>>,
    /// Whether each slot listens by now.
    bound: Vec<bool>,
    /// The views by their slots, so that equal ones share their queues.
    views: HashMap<Arc<[SlotId]>, ViewId>,
}

impl PortRegistry {
    /// Binds every port of every range on every address. Ranges may overlap; a wildcard address covers the specific
    /// ones of its family. Ports that other programs hold are left out with a warning and tried again every 30 s.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// None of the ports of one entry could be bound.
    pub fn bind(wanted: &[(IpAddr, RangeInclusive<u16>)]) -> Result<Self, BindError> {
        Self::bind_behind(wanted, &[], false)
    }

    /// The same, where connections to some of the ports have to pass a gate first. Ranges that share a port have
    /// gates that are alike, which the configuration sees to. `for_any_address`: connections to addresses of other
    /// machines are led here (TPROXY); whether the process may take such connections makes no difference.
    pub(super) fn bind_behind(
        wanted: &[(IpAddr, RangeInclusive<u16>)],
        gated: &[(IpAddr, RangeInclusive<u16>, Arc<Gate>)],
        for_any_address: bool,
    ) -> Result<Self, BindError> {
        let ports = bind::bind(wanted)?;
        let ports = if for_any_address { ports.taking_any_address() } else { ports };
        let mut bound = vec![true; ports.slots.len()];
        ports.failed.iter().for_each(|(slot, _)| bound[*slot] = false);
        let stop = CancellationToken::new();
        let state = State { table: Table::new(ports.slots.len()), bound, views: HashMap::new() };
        let slots = Arc::clone(&ports.slots);
        let gates = gated.iter().flat_map(|(ip, ports, gate)| {
            let slots = ports.clone().filter_map(|port| bind::slot(&slots, ip.to_canonical(), port));
            slots.map(|slot| (slot, Arc::clone(gate)))
        });
        let gates = gates.collect();
        let shared = Arc::new(Shared { slots, gates, state: Mutex::new(state), _stop: stop.clone().drop_guard() });
        ports.serve(&shared, &stop);
        Ok(Self { shared })
    }

    /// The ports of one leg of one listener: its addresses, which were among those to bind, and its range.
    #[must_use]
    pub fn pool(&self, local: &[IpAddr], ports: &DataPorts) -> PortPool {
        let DataPorts::Range(ports) = ports else { return PortPool::any() };
        let views = local.iter().map(|ip| self.shared.view(ip.to_canonical(), ports)).collect();
        PortPool::range(self.shared.clone(), views)
    }
}

/// How many sockets these ranges take.
pub(super) fn count(wanted: &[(IpAddr, RangeInclusive<u16>)]) -> usize {
    bind::plan(wanted).len()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock leaves the state half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self, local: IpAddr, ports: &RangeInclusive<u16>) -> View {
        let slots: Arc<[SlotId]> = ports.clone().filter_map(|port| bind::slot(&self.slots, local, port)).collect();
        let views = &mut self.lock().views;
        let next = views.len();
        let id = *views.entry(slots.clone()).or_insert(next);
        View { local, slots, id }
    }
}

impl Taker for Shared {
    fn gate(&self, slot: SlotId) -> Option<&Arc<Gate>> {
        self.gates.get(&slot)
    }

    fn bound(&self, slot: SlotId) {
        let mut state = self.lock();
        state.bound[slot] = true;
        state.table.queues.call_everyone();
    }

    /// Hands the connection to the lease that expects it.
    fn connected(self: &Arc<Self>, slot: SlotId, at: SocketAddr, stream: TcpStream, from: SocketAddr) {
        let expected = self.lock().table.connected(slot, from.ip().to_canonical(), Instant::now());
        match expected {
            // If the lease was dropped this instant, so is the connection: reset as well.
            Some(lease) => drop(lease.send(Ok(stream))),
            None => log_stranger(Some(at), from),
        }
    }
}

/// A connection that nobody expects is about to be dropped, and so reset. That is the peer's doing.
pub(super) fn log_stranger(at: Option<SocketAddr>, from: SocketAddr) {
    tracing::debug!(?at, %from, "reset a data connection that no session expects");
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
