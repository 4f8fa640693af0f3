//! Who is expected on which port, and who waits for one. Pure: no sockets, `now` is passed in.
//!
//! The life of one (port, expected addresses):
//!
//! ```text
//!          grant             connected
//!   free ─────────▶ pending ───────────▶ free
//!    ▲                 │ dropped, revoked, 60 s over
//!    └──── 5 s ──── resting
//! ```
//!
//! The addresses expected on one port never overlap, so each connection is for one lease at most. Where each peer is
//! expected at its own address, peers do not compete: each may have every port pending, and waits only for its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::expected::Expected;
use super::networks::NetworkMap;
use super::queue::{Queues, ViewId};

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

/// The leases, rests and queues of all peers. `D` is what a lease's connection is delivered to.
#[derive(Debug)]
pub(super) struct Table<D> {
    slots: Vec<Slot<D>>,
    /// Those who found no free slot.
    pub(super) queues: Queues,
    /// Every rest, about in the order in which they end, so that old ones can be forgotten.
    rests: VecDeque<(Instant, SlotId, Expected)>,
    last_lease: u64,
}

/// Whom one port is kept for. No two of them overlap.
#[derive(Debug)]
struct Slot<D> {
    entries: BTreeMap<Expected, Entry<D>>,
    /// Whose each network is.
    networks: NetworkMap<Expected>,
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

impl<D> Slot<D> {
    fn new() -> Self {
        Self { entries: BTreeMap::new(), networks: NetworkMap::default() }
    }

    /// What keeps these addresses from being expected here, once for each network that it has in common with them;
    /// what is over may still be among it.
    fn overlapping(&self, expected: &Expected) -> impl Iterator<Item = (&Expected, &Entry<D>)> {
        let owners = expected.networks().iter().flat_map(|net| self.networks.overlapping(*net));
        owners.filter_map(|owner| self.entries.get_key_value(owner))
    }

    /// The only way in: what is there for any of these addresses goes.
    fn set(&mut self, expected: &Expected, entry: Entry<D>) -> Vec<Entry<D>> {
        let replaced: BTreeSet<Expected> = self.overlapping(expected).map(|(owner, _)| owner.clone()).collect();
        let replaced = replaced.iter().filter_map(|owner| self.remove(owner)).collect();
        for net in expected.networks() {
            self.networks.insert(*net, expected.clone());
        }
        self.entries.insert(expected.clone(), entry);
        replaced
    }

    /// The only way out.
    fn remove(&mut self, expected: &Expected) -> Option<Entry<D>> {
        let entry = self.entries.remove(expected)?;
        expected.networks().iter().for_each(|net| self.networks.remove(*net));
        Some(entry)
    }

    /// Who is expected that a connection from this address is for.
    fn awaits(&self, from: IpAddr, now: Instant) -> Option<Expected> {
        let from = Expected::only(from);
        let mut candidates = self.overlapping(&from);
        candidates.find(|(_, entry)| entry.pending_since(now).is_some()).map(|(expected, _)| expected.clone())
    }

    /// When none of these addresses is expected any more, if nobody connects before.
    fn free_at(&self, expected: &Expected) -> Option<Instant> {
        self.overlapping(expected).map(|(_, entry)| entry.free_at()).max()
    }

    /// When the youngest lease for any of these addresses began.
    fn pending_since(&self, expected: &Expected, now: Instant) -> Option<Instant> {
        self.overlapping(expected).filter_map(|(_, entry)| entry.pending_since(now)).max()
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

impl<D> Table<D> {
    /// Nobody is expected on any of so many slots.
    pub(super) fn new(slots: usize) -> Self {
        let slots = std::iter::repeat_with(Slot::new).take(slots).collect();
        Self { slots, queues: Queues::default(), rests: VecDeque::new(), last_lease: 0 }
    }

    /// One more slot, behind all others.
    pub(super) fn add_slot(&mut self) {
        self.slots.push(Slot::new());
    }

    /// Whether these addresses could be expected on this slot: no other lease could take a connection from any of
    /// them, or could have taken it in the last 5 s.
    pub(super) fn is_free(&self, slot: SlotId, expected: &Expected, now: Instant) -> bool {
        self.slots[slot].overlapping(expected).all(|(_, entry)| entry.free_at() <= now)
    }

    /// Expects a connection on `slot`, which [is free](Self::is_free). Returns the number of the lease.
    pub(super) fn grant(&mut self, slot: SlotId, expected: &Expected, deliver: D, now: Instant) -> u64 {
        debug_assert!(self.is_free(slot, expected, now), "slot {slot} granted to {expected:?} twice");
        self.last_lease += 1;
        self.slots[slot].set(expected, Entry::Pending { lease: self.last_lease, since: now, deliver });
        self.last_lease
    }

    /// A connection from this address has arrived on `slot`: ends the lease that expects it, if there is one.
    pub(super) fn connected(&mut self, slot: SlotId, from: IpAddr, now: Instant) -> Option<D> {
        let expected = self.slots[slot].awaits(from, now)?;
        let Some(Entry::Pending { deliver, .. }) = self.slots[slot].remove(&expected) else { return None };
        self.queues.call(&expected);
        Some(deliver)
    }

    /// The holder of a lease has dropped it. Nothing happens if it had ended before.
    pub(super) fn dropped(&mut self, slot: SlotId, expected: &Expected, lease: u64, now: Instant) {
        self.forget_rests(now);
        if let Some(&Entry::Pending { lease: current, since, .. }) = self.slots[slot].entries.get(expected)
            && current == lease
        {
            self.rest(slot, expected, now.min(since + LEASE_TIME) + REST);
            self.queues.call(expected);
        }
    }

    /// Keeps these addresses off the slot until then; returns what was there for them.
    fn rest(&mut self, slot: SlotId, expected: &Expected, until: Instant) -> Vec<Entry<D>> {
        self.rests.push_back((until, slot, expected.clone()));
        self.slots[slot].set(expected, Entry::Resting { until })
    }

    /// Drops the entries of rests that are over. Every call is paid for by the rests that were entered.
    pub(super) fn forget_rests(&mut self, now: Instant) {
        while self.rests.front().is_some_and(|(until, _, _)| *until <= now)
            && let Some((_, slot, expected)) = self.rests.pop_front()
        {
            let slot = &mut self.slots[slot];
            if let Some(Entry::Resting { until }) = slot.entries.get(&expected)
                && *until <= now
            {
                slot.remove(&expected);
            }
        }
    }

    /// For the first in the queue, when none of the view's `slots` is free: takes the oldest leases away from those
    /// who hoard them, as many as are waited for and not about to be free anyway. A slot on which several are expected
    /// is worth it once the youngest of their leases is old enough.
    pub(super) fn make_room(&mut self, view: ViewId, expected: &Expected, slots: &[SlotId], now: Instant) -> Room<D> {
        let mut missing = self.queues.len(view, expected);
        let mut pending = Vec::new();
        for &slot in slots {
            match self.slots[slot].pending_since(expected, now) {
                Some(since) => pending.push((since, slot)),
                None => missing = missing.saturating_sub(1),
            }
        }
        pending.sort_unstable();
        let old = pending.iter().take_while(|(since, _)| *since + REVOCABLE_AFTER <= now).count();
        let revoked = old.min(missing);
        let mut room = Room { revoked: Vec::new(), next: None };
        for &(_, slot) in &pending[..revoked] {
            room.revoked.extend(self.revoke(slot, expected, now));
        }
        let revocable = pending.get(revoked).filter(|_| missing > revoked).map(|(since, _)| *since + REVOCABLE_AFTER);
        let freed = slots.iter().filter_map(|slot| self.slots[*slot].free_at(expected));
        room.next = freed.chain(revocable).filter(|at| *at > now).min();
        room
    }

    /// Ends every lease on the slot for any of these addresses.
    fn revoke(&mut self, slot: SlotId, expected: &Expected, now: Instant) -> Vec<D> {
        let pending = self.slots[slot].overlapping(expected).filter(|(_, entry)| entry.pending_since(now).is_some());
        let pending: BTreeSet<Expected> = pending.map(|(expected, _)| expected.clone()).collect();
        let ended = pending.iter().flat_map(|expected| self.rest(slot, expected, now + REST));
        let deliver = ended.filter_map(|entry| match entry {
            Entry::Pending { deliver, .. } => Some(deliver),
            Entry::Resting { .. } => None,
        });
        deliver.collect()
    }
}

#[cfg(test)]
impl<D> Table<D> {
    /// What [`Slot::set`] and [`Slot::remove`] see to.
    pub(super) fn is_disjoint(&self) -> bool {
        let apart = |slot: &Slot<D>, key: &Expected| slot.overlapping(key).all(|(other, _)| other == key);
        let kept = |slot: &Slot<D>| slot.networks.values().all(|owner| slot.entries.contains_key(owner));
        self.slots.iter().all(|slot| slot.entries.keys().all(|key| apart(slot, key)) && kept(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Ticket;
    use super::*;
    use crate::config::DataPeer;

    const VIEW: ViewId = 0;
    const SLOTS: [SlotId; 2] = [0, 1];

    fn ip(n: u8) -> IpAddr {
        [127, 0, 0, n].into()
    }

    /// Only this peer is expected.
    fn at(n: u8) -> Expected {
        Expected::new(&DataPeer::Exact, ip(n))
    }

    /// The network of all of these peers is.
    fn subnet() -> Expected {
        Expected::new(&DataPeer::Subnet, ip(1))
    }

    fn anybody() -> Expected {
        Expected::new(&DataPeer::Any, ip(1))
    }

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// Whether the ticket has been called since it was last asked.
    fn called(ticket: &Ticket) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(ticket.called()).poll(&mut context).is_ready()
    }

    /// A table in which `ip(1)` has a lease on each of [`SLOTS`], delivered to their numbers, 1 s apart.
    fn full(now: Instant) -> Table<SlotId> {
        let mut table = Table::new(SLOTS.len());
        for slot in SLOTS {
            table.grant(slot, &at(1), slot, now + secs(slot as u64));
        }
        table
    }

    #[test]
    fn a_connect_ends_the_lease_and_frees_the_port_at_once() {
        let now = Instant::now();
        let mut table = full(now);
        assert!(!table.is_free(0, &at(1), now));
        assert_eq!(table.connected(0, ip(1), now + secs(59)), Some(0));
        assert_eq!(table.connected(0, ip(1), now + secs(59)), None);
        assert!(table.is_free(0, &at(1), now + secs(59)));
    }

    #[test]
    fn peers_do_not_compete() {
        let now = Instant::now();
        let mut table = full(now);
        assert_eq!(table.connected(0, ip(2), now), None);
        assert!(table.is_free(0, &at(2), now));
        table.grant(0, &at(2), 7, now);
        assert_eq!(table.connected(0, ip(2), now), Some(7));
        assert_eq!(table.connected(0, ip(1), now), Some(0));
    }

    #[test]
    fn rel_26_a_port_freed_unused_rests_for_five_seconds() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        let lease = table.grant(0, &at(1), (), now);
        table.dropped(0, &at(1), lease, now + secs(1));
        assert_eq!(table.connected(0, ip(1), now + secs(2)), None);
        assert!(!table.is_free(0, &at(1), now + secs(6) - Duration::from_millis(1)));
        assert!(table.is_free(0, &at(1), now + secs(6)));
        assert!(table.is_free(0, &at(2), now + secs(2)), "only for that peer");
    }

    #[test]
    fn a_lease_expires_after_a_minute_and_rests_then() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        let lease = table.grant(0, &at(1), (), now);
        assert_eq!(table.connected(0, ip(1), now + secs(60)), None);
        assert!(!table.is_free(0, &at(1), now + secs(64)));
        assert!(table.is_free(0, &at(1), now + secs(65)), "even while its holder keeps it");
        table.dropped(0, &at(1), lease, now + secs(100));
        assert!(table.is_free(0, &at(1), now + secs(100)), "it has rested already");
    }

    #[test]
    fn an_ended_lease_does_not_free_its_successor() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        let first = table.grant(0, &at(1), 1, now);
        assert_eq!(table.connected(0, ip(1), now), Some(1));
        table.grant(0, &at(1), 2, now);
        table.dropped(0, &at(1), first, now);
        assert_eq!(table.connected(0, ip(1), now), Some(2));
    }

    #[test]
    fn nothing_is_kept_of_peers_that_are_gone() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        for n in 0..100 {
            let lease = table.grant(0, &at(n), (), now);
            table.dropped(0, &at(n), lease, now);
            table.grant(1, &at(n), (), now);
            assert_eq!(table.connected(1, ip(n), now), Some(()));
            let ticket = table.queues.join(VIEW, &at(n));
            table.queues.leave(&ticket);
        }
        assert_eq!(table.slots[0].entries.len(), 100);
        table.forget_rests(now + REST);
        assert!(table.slots.iter().all(|slot| slot.entries.is_empty() && slot.networks.is_empty()));
        assert!(table.queues.is_empty() && table.rests.is_empty());
    }

    #[test]
    fn forgetting_a_rest_spares_the_lease_that_followed() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        let lease = table.grant(0, &at(1), 1, now);
        table.dropped(0, &at(1), lease, now);
        table.grant(0, &at(1), 2, now + REST);
        table.forget_rests(now + REST);
        assert_eq!(table.connected(0, ip(1), now + REST), Some(2));
    }

    #[test]
    fn a_connect_and_a_drop_call_the_first_in_line() {
        let now = Instant::now();
        let mut table = full(now);
        let (a, b) = (table.queues.join(VIEW, &at(1)), table.queues.join(VIEW, &at(1)));
        called(&a);
        table.connected(0, ip(1), now);
        assert!(called(&a) && !called(&b));
        table.dropped(1, &at(1), 2, now);
        assert!(called(&a) && !called(&b));
    }

    #[test]
    fn the_oldest_lease_is_revoked_first_and_not_before_ten_seconds() {
        let now = Instant::now();
        let mut table = full(now);
        table.queues.join(VIEW, &at(1));
        let room = table.make_room(VIEW, &at(1), &SLOTS, now + secs(9));
        assert_eq!((room.revoked.as_slice(), room.next), (&[][..], Some(now + secs(10))));
        let room = table.make_room(VIEW, &at(1), &SLOTS, now + secs(12));
        assert_eq!((room.revoked.as_slice(), room.next), (&[0][..], Some(now + secs(17))), "one waiter, one port");
        let room = table.make_room(VIEW, &at(1), &SLOTS, now + secs(13));
        assert_eq!((room.revoked.as_slice(), room.next), (&[][..], Some(now + secs(17))));
        assert!(table.is_free(0, &at(1), now + secs(17)));
    }

    #[test]
    fn as_many_leases_are_revoked_as_are_waited_for() {
        let now = Instant::now();
        let mut table = full(now);
        for _ in 0..3 {
            table.queues.join(VIEW, &at(1));
        }
        let room = table.make_room(VIEW, &at(1), &SLOTS, now + secs(10));
        assert_eq!((room.revoked.as_slice(), room.next), (&[0][..], Some(now + secs(11))), "the other is too young");
        let room = table.make_room(VIEW, &at(1), &SLOTS, now + secs(11));
        assert_eq!((room.revoked.as_slice(), room.next), (&[1][..], Some(now + secs(15))));
    }

    #[test]
    fn a_subnet_is_expected_as_a_whole() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        table.grant(0, &subnet(), 1, now);
        assert!(
            !table.is_free(0, &at(1), now) && !table.is_free(0, &at(200), now) && !table.is_free(0, &anybody(), now)
        );
        let other = Expected::new(&DataPeer::Exact, [127, 0, 1, 1].into());
        assert!(table.is_free(0, &other, now) && table.is_free(1, &subnet(), now));
        assert_eq!(table.connected(0, [127, 0, 1, 1].into(), now), None);
        assert_eq!(table.connected(0, ip(200), now), Some(1), "any address of it");
        assert_eq!(table.connected(0, ip(1), now), None, "once");
    }

    #[test]
    fn a_port_for_anybody_is_exclusive_and_rests_for_everybody() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let lease = table.grant(0, &anybody(), (), now);
        for expected in [at(1), subnet(), anybody(), Expected::new(&DataPeer::Subnet, v6)] {
            assert!(!table.is_free(0, &expected, now), "{expected:?}");
        }
        table.dropped(0, &anybody(), lease, now);
        for expected in [at(1), subnet(), anybody(), Expected::new(&DataPeer::Subnet, v6)] {
            assert!(!table.is_free(0, &expected, now + REST - Duration::from_millis(1)), "{expected:?}");
            assert!(table.is_free(0, &expected, now + REST), "{expected:?}");
        }
        table.grant(0, &anybody(), (), now + REST);
        assert_eq!(table.connected(0, v6, now + REST), Some(()));
    }

    #[test]
    fn nobody_else_is_expected_where_one_address_of_many_is() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        let lease = table.grant(0, &at(7), 7, now);
        table.grant(0, &at(8), 8, now);
        assert!(!table.is_free(0, &subnet(), now) && !table.is_free(0, &anybody(), now));
        assert_eq!(table.connected(0, ip(8), now), Some(8));
        table.dropped(0, &at(7), lease, now);
        assert!(!table.is_free(0, &subnet(), now) && table.is_free(0, &subnet(), now + REST));
        table.grant(0, &subnet(), 9, now + REST);
        assert!(table.is_disjoint(), "the rest that is over is replaced");
        assert_eq!(table.connected(0, ip(7), now + REST), Some(9));
    }

    #[test]
    fn a_lease_that_expired_unnoticed_does_not_end_the_wider_one_that_followed() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        let expired = table.grant(0, &at(7), 7, now);
        table.grant(0, &anybody(), 9, now + secs(65));
        assert!(table.is_disjoint());
        table.dropped(0, &at(7), expired, now + secs(66));
        assert_eq!(table.connected(0, ip(7), now + secs(66)), Some(9));
    }

    #[test]
    fn a_freed_port_calls_all_whose_addresses_it_was_kept_from() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        let lease = table.grant(0, &subnet(), (), now);
        let [within, wider] = [at(9), anybody()].map(|expected| table.queues.join(expected_view(&expected), &expected));
        let apart = table.queues.join(VIEW, &Expected::new(&DataPeer::Exact, [127, 0, 1, 1].into()));
        for ticket in [&within, &wider, &apart] {
            called(ticket);
        }
        table.dropped(0, &subnet(), lease, now);
        assert!(called(&within) && called(&wider) && !called(&apart));
    }

    /// A view for each, so that none waits for another.
    fn expected_view(expected: &Expected) -> ViewId {
        if *expected == anybody() { VIEW + 1 } else { VIEW }
    }

    /// To have a port for anybody, all who are expected there must go; the slot with the oldest of them is chosen, and
    /// not before the youngest lease there is old enough.
    #[test]
    fn leases_that_overlap_are_revoked_together() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        for (slot, n, at_second) in [(0, 1, 0), (0, 2, 5), (1, 3, 4), (1, 4, 4)] {
            table.grant(slot, &at(n), n, now + secs(at_second));
        }
        table.queues.join(VIEW, &anybody());
        let room = table.make_room(VIEW, &anybody(), &SLOTS, now + secs(13));
        assert_eq!((room.revoked.as_slice(), room.next), (&[][..], Some(now + secs(14))));
        let room = table.make_room(VIEW, &anybody(), &SLOTS, now + secs(14));
        assert_eq!((room.revoked.as_slice(), room.next), (&[3, 4][..], Some(now + secs(19))));
        assert!(table.is_free(1, &anybody(), now + secs(19)) && !table.is_free(0, &anybody(), now + secs(19)));
        assert_eq!(table.connected(0, ip(1), now + secs(19)), Some(1), "the others are spared");
    }

    #[test]
    fn a_lease_for_anybody_is_revoked_for_one_address() {
        let now = Instant::now();
        let mut table = Table::new(SLOTS.len());
        for slot in SLOTS {
            table.grant(slot, &anybody(), slot, now + secs(slot as u64));
        }
        table.queues.join(VIEW, &at(1));
        let room = table.make_room(VIEW, &at(1), &SLOTS, now + secs(10));
        assert_eq!((room.revoked.as_slice(), room.next), (&[0][..], Some(now + secs(15))));
        assert!(table.is_free(0, &at(1), now + secs(15)));
    }
}
