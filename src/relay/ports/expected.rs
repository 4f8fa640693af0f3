//! Who may make the connection that a lease waits for: a set of addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::config::DataPeer;

/// One address, a /24 or /64, or all addresses. Two of these are nested or have no address in common.
///
/// They are ordered by their first address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expected {
    first: IpAddr,
    last: IpAddr,
}

/// The least and the greatest in the order of [`IpAddr`].
const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const LAST: IpAddr = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));

/// The least that is routed in the internet: the public addresses that a NAT takes in turn are usually within one.
const SUBNET_V4: u8 = 24;

/// One network (RFC 4291 §2.5.1), in which a machine has as many addresses as it likes (RFC 8981).
const SUBNET_V6: u8 = 64;

impl Expected {
    /// Whom the rule admits when `peer` is at the other end of the control connection.
    pub(super) fn new(rule: DataPeer, peer: IpAddr) -> Self {
        let (first, last) = match (rule, peer.to_canonical()) {
            (DataPeer::Exact, peer) => (peer, peer),
            (DataPeer::Subnet, IpAddr::V4(peer)) => {
                let net = Ipv4Net::new_assert(peer, SUBNET_V4);
                (net.network().into(), net.broadcast().into())
            }
            (DataPeer::Subnet, IpAddr::V6(peer)) => {
                let net = Ipv6Net::new_assert(peer, SUBNET_V6);
                (net.network().into(), net.broadcast().into())
            }
            (DataPeer::Any, _) => (FIRST, LAST),
        };
        Self { first, last }
    }

    /// Whether a connection from this address is meant.
    pub(super) fn admits(self, from: IpAddr) -> bool {
        (self.first..=self.last).contains(&from.to_canonical())
    }

    /// The entries of a map whose keys have an address in common with this. What is nested in it is a range of the
    /// map, and what it is nested in is looked up: what else the map holds costs nothing.
    pub(super) fn overlapping<V>(self, map: &BTreeMap<Self, V>) -> impl Iterator<Item = (Self, &V)> {
        // Wider ones that begin at the same address are in that range too.
        let wider = [DataPeer::Any, DataPeer::Subnet].map(|rule| Self::new(rule, self.first));
        let wider = wider.into_iter().filter(move |wider| wider.first < self.first);
        let nested = Self { first: self.first, last: self.first }..=Self { first: self.last, last: LAST };
        wider.filter_map(|wider| map.get_key_value(&wider)).chain(map.range(nested)).map(|(key, value)| (*key, value))
    }
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(rule: DataPeer, peer: &str) -> Expected {
        Expected::new(rule, peer.parse().unwrap())
    }

    #[test]
    fn each_rule_admits_its_addresses_and_no_other() {
        for (rule, peer, admitted, refused) in [
            (DataPeer::Exact, "198.51.100.7", &["198.51.100.7", "::ffff:198.51.100.7"][..], &["198.51.100.8"][..]),
            (
                DataPeer::Subnet,
                "::ffff:198.51.100.7",
                &["198.51.100.0", "198.51.100.255", "::ffff:198.51.100.9"],
                &["198.51.99.255", "198.51.101.0", "::", "2001:db8::1"],
            ),
            (
                DataPeer::Subnet,
                "2001:db8:0:1::7",
                &["2001:db8:0:1::", "2001:db8:0:1:ffff:ffff:ffff:ffff"],
                &["2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:2::", "198.51.100.7"],
            ),
            (DataPeer::Exact, "2001:db8::7", &["2001:db8::7"], &["2001:db8::8", "198.51.100.7"]),
            (DataPeer::Any, "198.51.100.7", &["0.0.0.0", "255.255.255.255", "::", "2001:db8::1"], &[]),
        ] {
            let expected = expected(rule, peer);
            for from in admitted {
                assert!(expected.admits(from.parse().unwrap()), "{expected:?} and {from}");
            }
            for from in refused {
                assert!(!expected.admits(from.parse().unwrap()), "{expected:?} and {from}");
            }
        }
    }

    #[test]
    fn what_overlaps_is_nested_either_way_and_found_once() {
        let every: Vec<Expected> =
            ["0.0.0.0", "0.0.0.1", "198.51.100.0", "198.51.100.7", "198.51.101.7", "::", "2001:db8::", "2001:db8::7"]
                .iter()
                .flat_map(|peer| [DataPeer::Exact, DataPeer::Subnet, DataPeer::Any].map(|rule| expected(rule, peer)))
                .collect();
        let map: BTreeMap<Expected, ()> = every.iter().map(|key| (*key, ())).collect();
        for one in &every {
            let common = |other: &&Expected| one.first <= other.last && other.first <= one.last;
            let mut wanted: Vec<Expected> = map.keys().filter(common).copied().collect();
            let mut found: Vec<Expected> = one.overlapping(&map).map(|(key, ())| key).collect();
            wanted.sort();
            found.sort();
            assert_eq!(found, wanted, "what overlaps {one:?}");
        }
    }
}
