//! Who may make the connection that a lease waits for: a set of addresses.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::networks::EVERYWHERE;
use crate::addr::Family;
use crate::config::DataPeer;

/// One address, or all of some networks. Equal sets that follow from one rule are equal here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expected(Networks);

/// No two of them overlap. One is what most leases have, and costs nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Networks {
    One(IpNet),
    Several(Arc<[IpNet]>),
}

/// The least that is routed in the internet: the public addresses that a NAT takes in turn are usually within one.
const SUBNET_V4: u8 = 24;

/// One network (RFC 4291 §2.5.1), in which a machine has as many addresses as it likes (RFC 8981).
const SUBNET_V6: u8 = 64;

impl Expected {
    /// Whom the rule admits when `peer` is at the other end of the control connection; itself in any case.
    pub(super) fn new(rule: &DataPeer, peer: IpAddr) -> Self {
        let peer = peer.to_canonical();
        Self(match rule {
            DataPeer::Exact => Networks::One(peer.into()),
            DataPeer::Subnet => Networks::One(subnet(peer)),
            DataPeer::Any => Networks::Several(Arc::from(EVERYWHERE)),
            DataPeer::Networks(nets) => match &**nets {
                [net] if net.contains(&peer) => Networks::One(*net),
                several if several.iter().any(|net| net.contains(&peer)) => Networks::Several(Arc::clone(nets)),
                others => {
                    let with_peer: Vec<IpNet> = others.iter().copied().chain([peer.into()]).collect();
                    Networks::Several(IpNet::aggregate(&with_peer).into())
                }
            },
        })
    }

    /// The connections of this address alone.
    pub(super) fn only(peer: IpAddr) -> Self {
        Self(Networks::One(peer.to_canonical().into()))
    }

    /// The networks that make it up, of which no two overlap.
    pub(super) fn networks(&self) -> &[IpNet] {
        match &self.0 {
            Networks::One(net) => std::slice::from_ref(net),
            Networks::Several(nets) => nets,
        }
    }

    /// Whether a connection from this address is meant.
    pub(super) fn admits(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        self.networks().iter().any(|net| net.contains(&from))
    }
}

fn subnet(peer: IpAddr) -> IpNet {
    let length = match Family::of(peer) {
        Family::V4 => SUBNET_V4,
        Family::V6 => SUBNET_V6,
    };
    IpNet::new_assert(peer, length).trunc()
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.networks()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(nets: &[&str]) -> DataPeer {
        DataPeer::Networks(nets.iter().map(|net| net.parse().unwrap()).collect())
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
            (
                networks(&["198.51.100.32/28", "203.0.113.9/32", "2001:db8::/32"]),
                "198.51.100.40",
                &["198.51.100.32", "198.51.100.47", "203.0.113.9", "2001:db8::1", "::ffff:198.51.100.33"],
                &["198.51.100.31", "198.51.100.48", "203.0.113.8", "2001:db9::"],
            ),
            // The control connection's own address belongs to it, written down or not.
            (networks(&["198.51.100.32/28"]), "192.0.2.1", &["192.0.2.1", "198.51.100.32"], &["192.0.2.2"]),
            (networks(&["198.51.100.32/28"]), "198.51.100.33", &["198.51.100.34"], &["198.51.100.31"]),
        ] {
            let expected = Expected::new(&rule, peer.parse().unwrap());
            for from in admitted {
                assert!(expected.admits(from.parse().unwrap()), "{expected:?} and {from}");
            }
            for from in refused {
                assert!(!expected.admits(from.parse().unwrap()), "{expected:?} and {from}");
            }
        }
    }

    /// They share a queue, and a count of those who wait.
    #[test]
    fn peers_within_one_pool_expect_the_same() {
        let rule = networks(&["198.51.100.32/28", "203.0.113.9/32"]);
        let of = |peer: &str| Expected::new(&rule, peer.parse().unwrap());
        assert_eq!(of("198.51.100.33"), of("203.0.113.9"));
        assert_ne!(of("198.51.100.33"), of("192.0.2.1"));
    }
}
