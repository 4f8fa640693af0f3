//! A pool: where sessions get their leases from, and wait for them.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use rand::seq::IndexedRandom as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::bind::{self, Seat, Tenure};
use super::expected::Expected;
use super::lease::{Claim, Lease, LeaseLost};
use super::queue::{Ticket, ViewId};
use super::table::SlotId;
use super::{Shared, State};
use crate::addr::Whose;
use crate::config::DataPeer;

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Every port, or as many as it may have, was held by this peer, or by one that would be mistaken for it, for as
    /// long as we waited.
    #[error("no data port is free for this peer")]
    Exhausted,
    /// No port can be opened on the local address.
    #[error("cannot open a data port: {0}")]
    Bind(#[from] io::Error),
}

/// The data ports of one leg of one listener. Clones are the same pool.
#[derive(Debug, Clone)]
pub struct PortPool {
    kind: Kind,
    rule: DataPeer,
    /// How many ports of a range one peer may hold at once.
    per_peer: usize,
    /// Control connections may have been led here from addresses that are not ours.
    addresses: Whose,
}

#[derive(Debug, Clone)]
enum Kind {
    Any,
    /// It keeps its ports open.
    Range {
        shared: Arc<Shared>,
        _tenure: Arc<Tenure>,
        views: Arc<[View]>,
    },
}

/// The ports of a pool on one local address.
#[derive(Debug)]
pub(super) struct View {
    pub(super) local: IpAddr,
    pub(super) slots: Arc<[SlotId]>,
    pub(super) id: ViewId,
}

impl PortPool {
    pub(super) fn any() -> Self {
        Self::new(Kind::Any)
    }

    pub(super) fn range(shared: Arc<Shared>, tenure: Arc<Tenure>, views: Arc<[View]>) -> Self {
        Self::new(Kind::Range { shared, _tenure: tenure, views })
    }

    fn new(kind: Kind) -> Self {
        // Peers do not compete: one that holds every port is in nobody's way.
        Self { kind, rule: DataPeer::Exact, per_peer: usize::MAX, addresses: Whose::Ours }
    }

    /// The same ports, with leases that admit whom this rule does; a new pool admits the [exact](DataPeer::Exact) peer.
    #[must_use]
    pub fn admitting(self, rule: DataPeer) -> Self {
        Self { rule, ..self }
    }

    /// The same ports, of which one peer holds `per_peer` at once; `None`: every one of them. A port that was freed
    /// unused is held for as long as it rests.
    #[must_use]
    pub fn at_most(mut self, per_peer: Option<NonZeroU32>) -> Self {
        self.per_peer = per_peer.map_or(usize::MAX, |limit| usize::try_from(limit.get()).unwrap_or(usize::MAX));
        self
    }

    /// The same ports, for control connections whose local address is of this kind; in a new pool it is
    /// [ours](Whose::Ours). Where it may be another machine's, the data connection is led here as well.
    #[must_use]
    pub fn at_addresses(self, addresses: Whose) -> Self {
        Self { addresses, ..self }
    }

    /// Leases a random port on `local`, the local address of the control connection, for a connection of `peer`, or
    /// of whom the rule admits in its place. If each port waits for one of those already, or as many as one peer
    /// [may hold](Self::at_most), waits its turn for up to `wait`; the oldest such lease that has been unused for 10 s
    /// is revoked for the first in line. Cancel safe.
    ///
    /// # Errors
    /// [`LeaseError::Exhausted`] after `wait`; [`LeaseError::Bind`] if `local` is not an address of this pool, or no
    /// socket can be opened.
    pub async fn lease(&self, local: IpAddr, peer: IpAddr, wait: Duration) -> Result<Lease, LeaseError> {
        let (local, expected) = (local.to_canonical(), Expected::new(&self.rule, peer));
        match &self.kind {
            Kind::Any => Ok(Lease::own(local, self.addresses, expected)?),
            Kind::Range { shared, views, _tenure } => {
                let of_its_family = || views.iter().find(|view| view.local.is_ipv4() == local.is_ipv4());
                let foreign = || of_its_family().filter(|_| self.addresses == Whose::Anybodys);
                let view = view_of(views, local).or_else(foreign);
                let view = view.ok_or(io::Error::from(io::ErrorKind::AddrNotAvailable))?;
                let mut request = Request { shared, view, expected, per_peer: self.per_peer, ticket: None };
                tokio::time::timeout(wait, request.granted()).await.map_err(|_| LeaseError::Exhausted)
            }
        }
    }
}

fn view_of(views: &[View], local: IpAddr) -> Option<&View> {
    let find = |ip| views.iter().find(|view| view.local == ip);
    find(local).or_else(|| find(bind::wildcard(local)))
}

/// A request for a lease. While it has a ticket it stands in the queue, which dropping it leaves.
struct Request<'a> {
    shared: &'a Arc<Shared>,
    view: &'a View,
    expected: Expected,
    per_peer: usize,
    ticket: Option<Ticket>,
}

/// How often a port is drawn at random before all are looked at.
const DRAWS: usize = 4;

impl Request<'_> {
    async fn granted(&mut self) -> Lease {
        loop {
            let (ticket, next) = match self.attempt() {
                Ok(lease) => return lease,
                Err(later) => later,
            };
            match next {
                Some(next) => tokio::select! {
                    () = ticket.called() => {}
                    () = tokio::time::sleep_until(next) => {}
                },
                None => ticket.called().await,
            }
        }
    }

    /// A lease; or a ticket to wait on, and when to try again in any case.
    fn attempt(&mut self) -> Result<Lease, (Ticket, Option<Instant>)> {
        let now = Instant::now();
        let state = &mut *self.shared.lock();
        state.table.forget_rests(now);
        let first = state.table.queues.is_first(self.view.id, &self.expected, self.ticket.as_ref());
        if first && let Some((slot, seat)) = self.pick(state, now) {
            let (deliver, outcome) = oneshot::channel();
            let lease = state.table.grant(slot, &self.expected, deliver, now);
            let expected = self.expected.clone();
            return Ok(Lease::shared(outcome, Claim { shared: self.shared.clone(), slot, seat, expected, lease }, now));
        }
        let enqueue = || state.table.queues.join(self.view.id, &self.expected);
        let ticket = self.ticket.get_or_insert_with(enqueue).clone();
        if !first {
            return Err((ticket, None));
        }
        // Where the peer may hold only so many, others are free, and of no use.
        let is_held = |slot: &SlotId| state.is_open(*slot) && !state.table.is_free(*slot, &self.expected, now);
        let held: Vec<SlotId> = self.view.slots.iter().copied().filter(is_held).collect();
        let room = state.table.make_room(self.view.id, &self.expected, &held, now);
        for lease in room.revoked {
            // A holder that is gone needs no word.
            let _ = lease.send(Err(LeaseLost::Revoked));
        }
        Err((ticket, room.next))
    }

    /// A free port, all being equally likely, if the peer may have another; `rand::rng` is cryptographically secure.
    fn pick(&self, state: &State, now: Instant) -> Option<(SlotId, Arc<Seat>)> {
        let free = |slot: &SlotId| state.table.is_free(*slot, &self.expected, now);
        let draw = |slots: &[SlotId]| slots.choose(&mut rand::rng()).copied();
        let seat = |slot: SlotId| state.open[slot].upgrade().map(|seat| (slot, seat));
        if self.per_peer == usize::MAX {
            // Most are free as a rule, and looking at a thousand of them takes longer than all else that a lease costs.
            let mut drawn = (0..DRAWS).filter_map(|_| draw(&self.view.slots));
            if let Some(slot) = drawn.find(|slot| state.is_open(*slot) && free(slot)) {
                return seat(slot);
            }
        }
        let bound = self.view.slots.iter().copied().filter(|slot| state.is_open(*slot));
        let (free, held): (Vec<SlotId>, Vec<SlotId>) = bound.partition(free);
        if held.len() >= self.per_peer {
            return None;
        }
        draw(&free).and_then(seat)
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = &self.ticket {
            self.shared.lock().table.queues.leave(ticket);
        }
    }
}
