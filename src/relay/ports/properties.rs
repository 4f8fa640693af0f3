//! Properties of the table and its queues over random grants, connects, drops and times, against a list of leases
//! that is searched from end to end.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use tokio::time::Instant;

use super::expected::Expected;
use super::queue::{Queues, Ticket};
use super::table::Table;
use crate::config::DataPeer;

const SLOTS: usize = 3;

/// Two in each of two /24 and two /64, at the edges of these and of all addresses.
const PEERS: [&str; 10] = [
    "0.0.0.0",
    "0.0.0.255",
    "198.51.100.0",
    "198.51.100.255",
    "198.51.101.0",
    "255.255.255.255",
    "::",
    "2001:db8::1",
    "2001:db8::ffff:ffff:ffff:ffff",
    "2001:db8:0:1::",
];

/// Nested and apart, each with one of [`PEERS`].
const NETWORKS: [&str; 9] = [
    "128.0.0.0/1",
    "198.51.0.0/16",
    "198.51.100.0/23",
    "198.51.100.0/25",
    "198.51.100.128/25",
    "198.51.100.255/32",
    "2001:db8::/32",
    "2001:db8::/63",
    "2001:db8:0:1::/64",
];

#[derive(Debug, Clone)]
enum Step {
    /// A lease, if the table finds it free.
    Grant {
        slot: usize,
        rule: DataPeer,
        peer: IpAddr,
    },
    Connect {
        slot: usize,
        from: IpAddr,
    },
    /// One of all leases ever granted.
    Drop(Index),
    /// Somebody waits for one of two views, and makes room if first.
    Wait {
        view: usize,
        rule: DataPeer,
        peer: IpAddr,
    },
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || select(PEERS.map(|peer| peer.parse().unwrap()).to_vec());
    let rule = || {
        prop_oneof![
            select(vec![DataPeer::Exact, DataPeer::Subnet, DataPeer::Any]),
            subsequence(NETWORKS.map(|net| net.parse::<IpNet>().unwrap()).to_vec(), 1..=3)
                .prop_map(|nets| DataPeer::Networks(IpNet::aggregate(&nets).into())),
        ]
    };
    prop_oneof![
        4 => (0..SLOTS, rule(), peer()).prop_map(|(slot, rule, peer)| Step::Grant { slot, rule, peer }),
        4 => (0..SLOTS, peer()).prop_map(|(slot, from)| Step::Connect { slot, from }),
        2 => any::<Index>().prop_map(Step::Drop),
        1 => (0..2_usize, rule(), peer()).prop_map(|(view, rule, peer)| Step::Wait { view, rule, peer }),
        2 => select(vec![0, 1, 500, 4_999, 5_000, 10_000, 54_999, 60_000, 65_000]).prop_map(Step::Pass),
    ]
}

/// The rule in the words of the reference.
fn admits(rule: &DataPeer, peer: IpAddr, from: IpAddr) -> bool {
    match (rule, peer, from) {
        (DataPeer::Any, _, _) => true,
        (DataPeer::Networks(nets), _, _) => peer == from || nets.iter().any(|net| net.contains(&from)),
        (DataPeer::Exact, _, _) => peer == from,
        (DataPeer::Subnet, IpAddr::V4(peer), IpAddr::V4(from)) => peer.octets()[..3] == from.octets()[..3],
        (DataPeer::Subnet, IpAddr::V6(peer), IpAddr::V6(from)) => peer.octets()[..8] == from.octets()[..8],
        (DataPeer::Subnet, _, _) => false,
    }
}

/// Whether two rules have one of [`PEERS`] in common; their addresses are such that they then have.
fn overlap(a: &(DataPeer, IpAddr), b: &(DataPeer, IpAddr)) -> bool {
    PEERS.iter().map(|peer| peer.parse().unwrap()).any(|from| admits(&a.0, a.1, from) && admits(&b.0, b.1, from))
}

#[derive(Debug)]
struct Granted {
    number: u64,
    slot: usize,
    whom: (DataPeer, IpAddr),
    since: Instant,
    /// A connection ended it.
    used: bool,
    /// It was dropped or revoked then.
    unused: Option<Instant>,
}

impl Granted {
    fn expires(&self) -> Instant {
        self.since + Duration::from_secs(60)
    }

    fn is_pending(&self, now: Instant) -> bool {
        !self.used && self.unused.is_none() && now < self.expires()
    }

    fn keeps_off(&self, now: Instant) -> bool {
        let ended = self.unused.unwrap_or(self.expires()).min(self.expires());
        !self.used && now < ended + Duration::from_secs(5)
    }
}

proptest! {
    #[test]
    fn sec_13_every_connection_is_for_the_one_lease_that_admits_it_or_for_none(steps in vec(step(), 1..80)) {
        let mut now = Instant::now();
        let mut table = Table::new(SLOTS);
        let mut leases: Vec<Granted> = Vec::new();
        for step in steps {
            match step {
                Step::Grant { slot, rule, peer } => {
                    let whom = (rule, peer);
                    let in_the_way = |lease: &Granted| {
                        lease.slot == slot && lease.keeps_off(now) && overlap(&lease.whom, &whom)
                    };
                    let expected = Expected::new(&whom.0, peer);
                    let is_free = table.is_free(slot, &expected, now);
                    prop_assert_eq!(is_free, !leases.iter().any(in_the_way), "{:?} for {:?}", slot, whom);
                    if is_free {
                        let number = table.grant(slot, &expected, leases.len(), now);
                        leases.push(Granted { number, slot, whom, since: now, used: false, unused: None });
                    }
                }
                Step::Connect { slot, from } => {
                    let mut meant = leases.iter_mut().enumerate().filter(|(_, lease)| {
                        lease.slot == slot && lease.is_pending(now) && admits(&lease.whom.0, lease.whom.1, from)
                    });
                    let found = meant.next();
                    prop_assert!(meant.next().is_none(), "two leases for {} on {}", from, slot);
                    prop_assert_eq!(table.connected(slot, from, now), found.as_ref().map(|(index, _)| *index));
                    if let Some((_, lease)) = found {
                        lease.used = true;
                    }
                }
                Step::Drop(index) => {
                    if leases.is_empty() {
                        continue;
                    }
                    let lease = index.get_mut(&mut leases);
                    table.dropped(lease.slot, &Expected::new(&lease.whom.0, lease.whom.1), lease.number, now);
                    if !lease.used && lease.unused.is_none() {
                        lease.unused = Some(now);
                    }
                }
                Step::Wait { view, rule, peer } => {
                    let whom = (rule, peer);
                    let expected = Expected::new(&whom.0, peer);
                    let slots = [view, view + 1];
                    if slots.iter().any(|slot| table.is_free(*slot, &expected, now)) {
                        continue;
                    }
                    let ticket = table.queues.join(view, &expected);
                    let room = table.make_room(view, &expected, &slots, now);
                    table.queues.leave(&ticket);
                    prop_assert!(room.next.is_some_and(|next| next > now), "{:?} would never look again", expected);
                    for index in room.revoked {
                        let lease = &mut leases[index];
                        prop_assert!(lease.is_pending(now) && now >= lease.since + Duration::from_secs(10));
                        prop_assert!(slots.contains(&lease.slot) && overlap(&lease.whom, &whom));
                        lease.unused = Some(now);
                    }
                }
                Step::Pass(milliseconds) => {
                    now += Duration::from_millis(milliseconds);
                    table.forget_rests(now);
                }
            }
            prop_assert!(table.is_disjoint(), "two are expected who could be mistaken for each other");
        }
    }

    #[test]
    fn sec_26_it_is_the_turn_of_those_before_whom_nobody_in_their_way_came(
        steps in vec((any::<bool>(), any::<Index>(), 0..2_usize, step()), 1..60),
    ) {
        let mut queues = Queues::default();
        let mut waiting: Vec<(usize, (DataPeer, IpAddr), Ticket)> = Vec::new();
        for (joins, index, view, step) in steps {
            if let (true, Step::Grant { rule, peer, .. }) = (joins, step) {
                let whom = (rule, peer);
                let in_the_way = |(at, other, _): &(usize, _, _)| *at == view && overlap(other, &whom);
                let is_first = queues.is_first(view, &Expected::new(&whom.0, peer), None);
                prop_assert_eq!(is_first, !waiting.iter().any(in_the_way), "a newcomer");
                let ticket = queues.join(view, &Expected::new(&whom.0, peer));
                waiting.push((view, whom, ticket));
            } else if !waiting.is_empty() {
                let (_, _, ticket) = waiting.remove(index.index(waiting.len()));
                queues.leave(&ticket);
            }
            for (i, (view, whom, ticket)) in waiting.iter().enumerate() {
                let earlier = waiting[..i].iter().any(|(at, other, _)| at == view && overlap(other, whom));
                prop_assert_eq!(queues.is_first(*view, &Expected::new(&whom.0, whom.1), Some(ticket)), !earlier);
            }
        }
        for (_, _, ticket) in &waiting {
            queues.leave(ticket);
        }
        prop_assert!(queues.is_empty(), "nothing is kept of those who have left");
    }
}
