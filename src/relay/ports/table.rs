//! Who is expected on which port, and who waits for one. Pure: no sockets, `now` is passed in.
//!
//! The life of one (port, peer):
//!
//! ```text
//!          grant             connected
//!   free ─────────▶ pending ───────────▶ free
//!    ▲                 │ dropped, revoked, 60 s over
//!    └──── 5 s ──── resting
//! ```
//!
//! Peers do not compete: each may have every port pending, and waits only for its own.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a peer has to connect, as with vsftpd's `accept_timeout`. Clients connect at once after 227, servers at
/// the transfer command that follows PORT.
pub(super) const LEASE_TIME: Duration = Duration::from_secs(60);

/// How long a port freed unused is kept from its peer: a SYN that was lost is sent again after 1 and after 3 s
/// (RFC 6298 §2 and §5.5), and must not arrive as another session's data.
const REST: Duration = Duration::from_secs(5);

/// How old an unused lease must be to be taken away for a peer that has no other. A connect takes one round trip;
/// 10 s allow for three lost SYNs (1 + 2 + 4 s). With [`REST`] it makes the 15 s of `timeouts.port_wait`: a
/// peer that hoards leases has to give one up within that time.
const REVOCABLE_AFTER: Duration = Duration::from_secs(10);

/// A bound or wanted listening socket, by its index.
pub(super) type SlotId = usize;

/// A set of slots that leases are made from, by its index. Those who wait for one are served in turn.
pub(super) type ViewId = usize;

/// The leases, rests and queues of all peers. `D` is what a lease's connection is delivered to.
#[derive(Debug)]
pub(super) struct Table<D> {
    peers: HashMap<IpAddr, Peer<D>>,
    /// Every rest, about in the order in which they end, so that old ones can be forgotten.
    rests: VecDeque<(Instant, IpAddr, SlotId)>,
    last_lease: u64,
}

#[derive(Debug)]
struct Peer<D> {
    entries: BTreeMap<SlotId, Entry<D>>,
    queues: BTreeMap<ViewId, VecDeque<Arc<Notify>>>,
}

#[derive(Debug)]
enum Entry<D> {
    /// A lease: the peer may connect until [`LEASE_TIME`] after `since`.
    Pending { lease: u64, since: Instant, deliver: D },
    /// A lease ended unused.
    Resting { until: Instant },
}

impl<D> Entry<D> {
    fn free_at(&self) -> Instant {
        match *self {
            // A lease that expired rests from then on, whenever its holder notices.
            Self::Pending { since, .. } => since + LEASE_TIME + REST,
            Self::Resting { until } => until,
        }
    }

    /// When the lease began, if it still counts.
    fn pending_since(&self, now: Instant) -> Option<Instant> {
        match *self {
            Self::Pending { since, .. } if now < since + LEASE_TIME => Some(since),
            Self::Pending { .. } | Self::Resting { .. } => None,
        }
    }
}

/// What [`Table::make_room`] did.
#[derive(Debug)]
pub(super) struct Room<D> {
    /// The leases taken away; their holders must be told.
    pub(super) revoked: Vec<D>,
    /// When it is worth trying again, if nothing else happens.
    pub(super) next: Option<Instant>,
}

impl<D> Default for Table<D> {
    fn default() -> Self {
        Self { peers: HashMap::new(), rests: VecDeque::new(), last_lease: 0 }
    }
}

impl<D> Default for Peer<D> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), queues: BTreeMap::new() }
    }
}

impl<D> Table<D> {
    /// Whether this peer could be given this slot.
    pub(super) fn is_free(&self, slot: SlotId, peer: IpAddr, now: Instant) -> bool {
        let entry = self.peers.get(&peer).and_then(|peer| peer.entries.get(&slot));
        entry.is_none_or(|entry| entry.free_at() <= now)
    }

    /// Expects `peer` on `slot`, which [is free](Self::is_free). Returns the number of the lease.
    pub(super) fn grant(&mut self, slot: SlotId, peer: IpAddr, deliver: D, now: Instant) -> u64 {
        debug_assert!(self.is_free(slot, peer, now), "slot {slot} granted to {peer} twice");
        self.last_lease += 1;
        let entry = Entry::Pending { lease: self.last_lease, since: now, deliver };
        self.peers.entry(peer).or_default().entries.insert(slot, entry);
        self.last_lease
    }

    /// A connection of `peer` has arrived on `slot`: ends the lease that expects it, if there is one.
    pub(super) fn connected(&mut self, slot: SlotId, peer: IpAddr, now: Instant) -> Option<D> {
        let entries = &mut self.peers.get_mut(&peer)?.entries;
        entries.get(&slot)?.pending_since(now)?;
        let Some(Entry::Pending { deliver, .. }) = entries.remove(&slot) else { return None };
        self.wake_first(peer);
        self.forget_if_empty(peer);
        Some(deliver)
    }

    /// The holder of a lease has dropped it. Nothing happens if it had ended before.
    pub(super) fn dropped(&mut self, slot: SlotId, peer: IpAddr, lease: u64, now: Instant) {
        self.forget_rests(now);
        let entry = self.peers.get(&peer).and_then(|peer| peer.entries.get(&slot));
        if let Some(&Entry::Pending { lease: current, since, .. }) = entry
            && current == lease
        {
            self.rest(slot, peer, now.min(since + LEASE_TIME) + REST);
            self.wake_first(peer);
        }
    }

    fn rest(&mut self, slot: SlotId, peer: IpAddr, until: Instant) -> Option<Entry<D>> {
        self.rests.push_back((until, peer, slot));
        self.peers.get_mut(&peer)?.entries.insert(slot, Entry::Resting { until })
    }

    /// Drops the entries of rests that are over. Every call is paid for by the rests that were entered.
    pub(super) fn forget_rests(&mut self, now: Instant) {
        while let Some(&(until, peer, slot)) = self.rests.front()
            && until <= now
        {
            self.rests.pop_front();
            if let Some(entries) = self.peers.get_mut(&peer).map(|peer| &mut peer.entries)
                && let Some(Entry::Resting { until }) = entries.get(&slot)
                && *until <= now
            {
                entries.remove(&slot);
                self.forget_if_empty(peer);
            }
        }
    }

    fn forget_if_empty(&mut self, peer: IpAddr) {
        if self.peers.get(&peer).is_some_and(|peer| peer.entries.is_empty() && peer.queues.is_empty()) {
            self.peers.remove(&peer);
        }
    }
}

/// The queues: those who found no free slot.
impl<D> Table<D> {
    /// Joins the queue of this peer for this view. The ticket is notified when it is worth trying.
    pub(super) fn enqueue(&mut self, view: ViewId, peer: IpAddr) -> Arc<Notify> {
        let ticket = Arc::new(Notify::new());
        let queue = self.peers.entry(peer).or_default().queues.entry(view).or_default();
        queue.push_back(ticket.clone());
        // Room is made for as many as wait: the first must look again.
        queue[0].notify_one();
        ticket
    }

    /// Leaves the queue, served or not.
    pub(super) fn leave(&mut self, view: ViewId, peer: IpAddr, ticket: &Arc<Notify>) {
        let Some(queues) = self.peers.get_mut(&peer).map(|peer| &mut peer.queues) else { return };
        let Some(queue) = queues.get_mut(&view) else { return };
        queue.retain(|other| !Arc::ptr_eq(other, ticket));
        match queue.front() {
            Some(first) => first.notify_one(),
            None => {
                queues.remove(&view);
                self.forget_if_empty(peer);
            }
        }
    }

    /// Whether it is the turn of this ticket; `None` stands for one who has not queued.
    pub(super) fn is_first(&self, view: ViewId, peer: IpAddr, ticket: Option<&Arc<Notify>>) -> bool {
        let first = self.peers.get(&peer).and_then(|peer| peer.queues.get(&view)?.front());
        match (first, ticket) {
            (Some(first), Some(ticket)) => Arc::ptr_eq(first, ticket),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// For the first in the queue, when none of the view's `slots` is free: takes the oldest leases away from a peer
    /// that hoards them, as many as are waited for and not about to be free anyway.
    pub(super) fn make_room(&mut self, view: ViewId, peer: IpAddr, slots: &[SlotId], now: Instant) -> Room<D> {
        let mut room = Room { revoked: Vec::new(), next: None };
        let Some(state) = self.peers.get(&peer) else { return room };
        let mut missing = state.queues.get(&view).map_or(0, VecDeque::len);
        let mut pending = Vec::new();
        for &slot in slots {
            let Some(entry) = state.entries.get(&slot) else { continue };
            match entry.pending_since(now) {
                Some(since) => pending.push((since, slot)),
                None => missing = missing.saturating_sub(1),
            }
        }
        pending.sort_unstable();
        let old = pending.iter().take_while(|(since, _)| *since + REVOCABLE_AFTER <= now).count();
        let revoked = old.min(missing);
        for &(_, slot) in &pending[..revoked] {
            if let Some(Entry::Pending { deliver, .. }) = self.rest(slot, peer, now + REST) {
                room.revoked.push(deliver);
            }
        }
        let revocable = pending.get(revoked).filter(|_| missing > revoked).map(|(since, _)| *since + REVOCABLE_AFTER);
        let freed = self
            .peers
            .get(&peer)
            .into_iter()
            .flat_map(|state| slots.iter().filter_map(|slot| state.entries.get(slot)).map(Entry::free_at));
        room.next = freed.chain(revocable).filter(|at| *at > now).min();
        room
    }

    /// Something changed for this peer.
    fn wake_first(&self, peer: IpAddr) {
        for queue in self.peers.get(&peer).into_iter().flat_map(|peer| peer.queues.values()) {
            queue.iter().take(1).for_each(|first| first.notify_one());
        }
    }

    /// Something changed for everybody.
    pub(super) fn wake_everyone(&self) {
        self.peers.keys().for_each(|&peer| self.wake_first(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: ViewId = 0;
    const SLOTS: [SlotId; 2] = [0, 1];

    fn peer(n: u8) -> IpAddr {
        [127, 0, 0, n].into()
    }

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// Whether the ticket has been notified since it was last asked.
    fn woken(ticket: &Notify) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(ticket.notified()).poll(&mut context).is_ready()
    }

    /// A table in which `peer(1)` has a lease on each of [`SLOTS`], delivered to their numbers, 1 s apart.
    fn full(now: Instant) -> Table<SlotId> {
        let mut table = Table::default();
        for slot in SLOTS {
            table.grant(slot, peer(1), slot, now + secs(slot as u64));
        }
        table
    }

    #[test]
    fn a_connect_ends_the_lease_and_frees_the_port_at_once() {
        let now = Instant::now();
        let mut table = full(now);
        assert!(!table.is_free(0, peer(1), now));
        assert_eq!(table.connected(0, peer(1), now + secs(59)), Some(0));
        assert_eq!(table.connected(0, peer(1), now + secs(59)), None);
        assert!(table.is_free(0, peer(1), now + secs(59)));
    }

    #[test]
    fn peers_do_not_compete() {
        let now = Instant::now();
        let mut table = full(now);
        assert_eq!(table.connected(0, peer(2), now), None);
        assert!(table.is_free(0, peer(2), now));
        table.grant(0, peer(2), 7, now);
        assert_eq!(table.connected(0, peer(2), now), Some(7));
        assert_eq!(table.connected(0, peer(1), now), Some(0));
    }

    #[test]
    fn rel_26_a_port_freed_unused_rests_for_five_seconds() {
        let now = Instant::now();
        let mut table = Table::default();
        let lease = table.grant(0, peer(1), (), now);
        table.dropped(0, peer(1), lease, now + secs(1));
        assert_eq!(table.connected(0, peer(1), now + secs(2)), None);
        assert!(!table.is_free(0, peer(1), now + secs(6) - Duration::from_millis(1)));
        assert!(table.is_free(0, peer(1), now + secs(6)));
        assert!(table.is_free(0, peer(2), now + secs(2)), "only for that peer");
    }

    #[test]
    fn a_lease_expires_after_a_minute_and_rests_then() {
        let now = Instant::now();
        let mut table = Table::default();
        let lease = table.grant(0, peer(1), (), now);
        assert_eq!(table.connected(0, peer(1), now + secs(60)), None);
        assert!(!table.is_free(0, peer(1), now + secs(64)));
        assert!(table.is_free(0, peer(1), now + secs(65)), "even while its holder keeps it");
        table.dropped(0, peer(1), lease, now + secs(100));
        assert!(table.is_free(0, peer(1), now + secs(100)), "it has rested already");
    }

    #[test]
    fn an_ended_lease_does_not_free_its_successor() {
        let now = Instant::now();
        let mut table = Table::default();
        let first = table.grant(0, peer(1), 1, now);
        assert_eq!(table.connected(0, peer(1), now), Some(1));
        table.grant(0, peer(1), 2, now);
        table.dropped(0, peer(1), first, now);
        assert_eq!(table.connected(0, peer(1), now), Some(2));
    }

    #[test]
    fn nothing_is_kept_of_peers_that_are_gone() {
        let now = Instant::now();
        let mut table = Table::default();
        for n in 0..100 {
            let lease = table.grant(0, peer(n), (), now);
            table.dropped(0, peer(n), lease, now);
            table.grant(1, peer(n), (), now);
            assert_eq!(table.connected(1, peer(n), now), Some(()));
            let ticket = table.enqueue(VIEW, peer(n));
            table.leave(VIEW, peer(n), &ticket);
        }
        assert_eq!(table.peers.len(), 100);
        table.forget_rests(now + REST);
        assert!(table.peers.is_empty() && table.rests.is_empty());
    }

    #[test]
    fn forgetting_a_rest_spares_the_lease_that_followed() {
        let now = Instant::now();
        let mut table = Table::default();
        let lease = table.grant(0, peer(1), 1, now);
        table.dropped(0, peer(1), lease, now);
        table.grant(0, peer(1), 2, now + REST);
        table.forget_rests(now + REST);
        assert_eq!(table.connected(0, peer(1), now + REST), Some(2));
    }

    #[test]
    fn the_queue_is_first_in_first_out() {
        let now = Instant::now();
        let mut table = full(now);
        assert!(table.is_first(VIEW, peer(1), None));
        let (a, b) = (table.enqueue(VIEW, peer(1)), table.enqueue(VIEW, peer(1)));
        assert!(table.is_first(VIEW, peer(1), Some(&a)));
        assert!(!table.is_first(VIEW, peer(1), Some(&b)) && !table.is_first(VIEW, peer(1), None));
        assert!(table.is_first(VIEW + 1, peer(1), None), "another view has its own queue");
        assert!(woken(&a), "to see that two are waiting");
        table.leave(VIEW, peer(1), &a);
        assert!(table.is_first(VIEW, peer(1), Some(&b)));
        assert!(woken(&b));
    }

    #[test]
    fn a_connect_and_a_drop_wake_the_first_in_line() {
        let now = Instant::now();
        let mut table = full(now);
        let (a, b) = (table.enqueue(VIEW, peer(1)), table.enqueue(VIEW, peer(1)));
        woken(&a);
        table.connected(0, peer(1), now);
        assert!(woken(&a) && !woken(&b));
        table.dropped(1, peer(1), 2, now);
        assert!(woken(&a) && !woken(&b));
    }

    #[test]
    fn the_oldest_lease_is_revoked_first_and_not_before_ten_seconds() {
        let now = Instant::now();
        let mut table = full(now);
        table.enqueue(VIEW, peer(1));
        let room = table.make_room(VIEW, peer(1), &SLOTS, now + secs(9));
        assert_eq!((room.revoked.as_slice(), room.next), (&[][..], Some(now + secs(10))));
        let room = table.make_room(VIEW, peer(1), &SLOTS, now + secs(12));
        assert_eq!((room.revoked.as_slice(), room.next), (&[0][..], Some(now + secs(17))), "one waiter, one port");
        let room = table.make_room(VIEW, peer(1), &SLOTS, now + secs(13));
        assert_eq!((room.revoked.as_slice(), room.next), (&[][..], Some(now + secs(17))));
        assert!(table.is_free(0, peer(1), now + secs(17)));
    }

    #[test]
    fn as_many_leases_are_revoked_as_are_waited_for() {
        let now = Instant::now();
        let mut table = full(now);
        for _ in 0..3 {
            table.enqueue(VIEW, peer(1));
        }
        let room = table.make_room(VIEW, peer(1), &SLOTS, now + secs(10));
        assert_eq!((room.revoked.as_slice(), room.next), (&[0][..], Some(now + secs(11))), "the other is too young");
        let room = table.make_room(VIEW, peer(1), &SLOTS, now + secs(11));
        assert_eq!((room.revoked.as_slice(), room.next), (&[1][..], Some(now + secs(15))));
    }
}
