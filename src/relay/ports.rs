//! The data ports: bound once, shared by all sessions, leased for one connection each.
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
//!
//! Where ranges change while the program runs, sessions keep those that they began with: see [`bind`].

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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;
use tokio::time::Instant;

use self::bind::{Seat, Seats, Taker, Tenure};
use self::lease::Outcome;
pub use self::lease::{Lease, LeaseLost};
use self::pool::View;
pub use self::pool::{LeaseError, PortPool};
use self::queue::ViewId;
use self::table::{SlotId, Table};
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

/// The data ports of one configuration. Connections are accepted until the registry and all pools and leases made from it
/// are dropped.
#[derive(Debug)]
pub struct PortRegistry {
    shared: Arc<Shared>,
    tenure: Arc<Tenure>,
    /// What the connections to some of the ports have to pass.
    gates: Vec<(SocketAddr, Arc<Gate>)>,
}

/// What the registries of all configurations, pools, leases and accepting tasks share. There is one expectation of a peer
/// on a port, and so one table, whoever asks for leases: a session of an earlier configuration cannot be mistaken for one
/// of a later.
#[derive(Debug)]
struct Shared {
    seats: Seats,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    table: Table<oneshot::Sender<Outcome>>,
    /// Every address that was ever wanted. Its number stays, so that what rests there rests on when it is closed and opened
    /// again.
    slots: HashMap<SocketAddr, SlotId>,
    /// What listens at each slot by now.
    open: Vec<Weak<Seat>>,
    /// Those of the addresses whose connections begin with a PROXY header.
    gates: HashMap<SocketAddr, Arc<Gate>>,
    /// The views by their slots, so that equal ones share their queues.
    views: HashMap<Arc<[SlotId]>, ViewId>,
}

impl State {
    fn slot(&mut self, at: SocketAddr) -> SlotId {
        let next = self.open.len();
        let slot = *self.slots.entry(at).or_insert(next);
        if slot == next {
            self.open.push(Weak::new());
            self.table.add_slot();
        }
        slot
    }

    fn opened(&mut self, seat: &Arc<Seat>) {
        let slot = self.slot(seat.at());
        self.open[slot] = Arc::downgrade(seat);
    }

    fn is_open(&self, slot: SlotId) -> bool {
        self.open[slot].strong_count() > 0
    }
}

impl PortRegistry {
    /// Binds every port of every range on every address. Ranges may overlap; a wildcard address covers the specific
    /// ones of its family. Ports that other programs hold are left out with a warning and tried again every 30 s.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// None of the ports of one entry could be bound.
    pub fn bind(wanted: &[(IpAddr, RangeInclusive<u16>)]) -> Result<Self, BindError> {
        Self::bind_behind(None, wanted, &[], false)
    }

    /// The same, beside the ports of an earlier configuration, with which it shares what both have; and where connections
    /// to some of the ports have to pass a gate first, once it [is in use](Self::take_effect). Ranges that share a port
    /// have gates that are alike, which the configuration sees to. `for_any_address`: connections to addresses of other
    /// machines are led here (TPROXY); whether the process may take such connections makes no difference.
    pub(super) fn bind_behind(
        earlier: Option<&Self>,
        wanted: &[(IpAddr, RangeInclusive<u16>)],
        gated: &[(IpAddr, RangeInclusive<u16>, Arc<Gate>)],
        for_any_address: bool,
    ) -> Result<Self, BindError> {
        let shared = earlier.map_or_else(Arc::default, |earlier| Arc::clone(&earlier.shared));
        let (tenure, missing) = Tenure::open(wanted, for_any_address, &shared.seats, &shared)?;
        {
            let mut state = shared.lock();
            tenure.open_seats().iter().for_each(|seat| state.opened(seat));
        }
        missing.watch(&tenure, &shared, |shared| &shared.seats);
        let gates = gated.iter().flat_map(|(ip, ports, gate)| {
            let listening = ports.clone().filter_map(|port| tenure.listens(ip.to_canonical(), port));
            listening.map(|at| (at, Arc::clone(gate))).collect::<Vec<_>>()
        });
        let gates = gates.collect();
        Ok(Self { shared, tenure, gates })
    }

    /// From now on its gates are those of its ports. Ports that an earlier configuration alone has keep theirs.
    pub(super) fn take_effect(&self) {
        let mut state = self.shared.lock();
        for at in self.tenure.addresses() {
            state.gates.remove(&at);
        }
        state.gates.extend(self.gates.iter().cloned());
    }

    /// The ports of one leg of one listener: its addresses, which were among those to bind, and its range.
    #[must_use]
    pub fn pool(&self, local: &[IpAddr], ports: &DataPorts) -> PortPool {
        let DataPorts::Range(ports) = ports else { return PortPool::any() };
        let views = local.iter().map(|ip| self.view(ip.to_canonical(), ports)).collect();
        PortPool::range(Arc::clone(&self.shared), Arc::clone(&self.tenure), views)
    }

    fn view(&self, local: IpAddr, ports: &RangeInclusive<u16>) -> View {
        let mut state = self.shared.lock();
        let listening = ports.clone().filter_map(|port| self.tenure.listens(local, port));
        let slots: Arc<[SlotId]> = listening.map(|at| state.slot(at)).collect();
        let next = state.views.len();
        let id = *state.views.entry(Arc::clone(&slots)).or_insert(next);
        View { local, slots, id }
    }
}

/// How many sockets these ranges take.
pub(super) fn count(wanted: &[(IpAddr, RangeInclusive<u16>)]) -> usize {
    bind::plan(wanted).len()
}

impl Default for Shared {
    fn default() -> Self {
        let state = State {
            table: Table::new(0),
            slots: HashMap::new(),
            open: Vec::new(),
            gates: HashMap::new(),
            views: HashMap::new(),
        };
        Self { seats: Seats::default(), state: Mutex::new(state) }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock leaves the state half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taker for Shared {
    fn gate(&self, at: SocketAddr) -> Option<Arc<Gate>> {
        self.lock().gates.get(&at).cloned()
    }

    fn bound(&self, seat: &Arc<Seat>) {
        let mut state = self.lock();
        state.opened(seat);
        state.table.queues.call_everyone();
    }

    /// Hands the connection to the lease that expects it.
    fn connected(self: &Arc<Self>, at: SocketAddr, stream: TcpStream, from: SocketAddr) {
        let expected = {
            let mut state = self.lock();
            let slot = state.slot(at);
            state.table.connected(slot, from.ip().to_canonical(), Instant::now())
        };
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
