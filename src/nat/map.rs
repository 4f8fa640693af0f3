//! The address map: which address a peer is told to connect to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;

use crate::addr::{Announced, Family};

/// Which peers a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// Every peer.
    Any,
    /// The peers within a network; IPv4-mapped addresses count as IPv4.
    Net(IpNet),
}

impl Peers {
    /// Whether the rule is for this peer.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Net(net) => net.contains(&peer.to_canonical()),
        }
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Net(net) => net.fmt(f),
        }
    }
}

/// What the peers of a rule are told.
#[derive(Debug, Clone)]
pub enum Announce {
    /// This address.
    Address(IpAddr),
    /// One of these, by the family that the peer's command asks for.
    PerFamily(Ipv4Addr, Ipv6Addr),
    /// The local address of the control connection.
    Local,
    /// `0.0.0.0`, which FileZilla and WinSCP read as "the address of the control connection"
    /// (AWS Transfer's `PassiveIp=0.0.0.0`).
    ControlAddress,
    /// The address that this name has now.
    Name(Arc<ResolvedName>),
    /// The public address of this machine, which something outside finds out.
    Auto(Arc<ResolvedName>),
}

impl fmt::Display for Announce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::PerFamily(v4, v6) => write!(f, "{v4} or {v6}"),
            Self::Local => f.write_str("local"),
            Self::ControlAddress => f.write_str("control-address"),
            Self::Name(name) | Self::Auto(name) => f.write_str(name.name()),
        }
    }
}

/// A DNS name with the addresses last seen for it. Something outside looks the name up and calls
/// [`set`](Self::set); an empty answer is not stored, so the last good value stays.
#[derive(Debug)]
pub struct ResolvedName {
    name: String,
    addresses: RwLock<Vec<IpAddr>>,
}

impl ResolvedName {
    /// A name not looked up yet.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), addresses: RwLock::default() }
    }

    /// The name, as configured.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores what a look-up found and tells whether that differs from before; nothing found changes nothing.
    pub fn set(&self, mut found: Vec<IpAddr>) -> bool {
        if found.is_empty() {
            return false;
        }
        // Round-robin DNS permutes its answers: sorted, the announced address does not flap.
        found.sort_unstable();
        found.dedup();
        let mut current = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != found;
        *current = found;
        changed
    }

    /// All that was found last; empty: not resolved yet.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first address of this family, else the first of the other, else nothing: not resolved yet.
    #[must_use]
    pub fn get(&self, family: Family) -> Option<IpAddr> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses.iter().copied().find(|ip| Family::of(*ip) == family).or_else(|| addresses.first().copied())
    }
}

/// One line of an address map.
#[derive(Debug, Clone)]
pub struct Rule {
    /// For whom.
    pub peers: Peers,
    /// What they are told.
    pub announce: Announce,
}

/// An ordered list of rules; the first that matches the peer decides.
#[derive(Debug, Clone)]
pub struct AddressMap {
    rules: Vec<Rule>,
}

impl AddressMap {
    /// A map of these rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// Everybody is told the local address of the control connection.
    #[must_use]
    pub fn local() -> Self {
        Self::new(vec![Rule { peers: Peers::Any, announce: Announce::Local }])
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What to announce to `peer`, whose control connection ends at our address `local`, for `port`: an address of this
    /// family if there is one, else of the other. `None`: no rule is for this peer, or the rule's name has never been
    /// resolved.
    #[must_use]
    pub fn announce(&self, peer: IpAddr, local: IpAddr, port: u16, family: Family) -> Option<Announced> {
        let rule = self.rules.iter().find(|rule| rule.peers.contains(peer))?;
        Some(Announced::new(rule.announce.address(local, family)?, port))
    }
}

impl Announce {
    fn address(&self, local: IpAddr, family: Family) -> Option<IpAddr> {
        Some(match (self, family) {
            (Self::Address(ip), _) => *ip,
            (Self::PerFamily(v4, _), Family::V4) => (*v4).into(),
            (Self::PerFamily(_, v6), Family::V6) => (*v6).into(),
            (Self::Local, _) => local,
            (Self::ControlAddress, Family::V4) => Ipv4Addr::UNSPECIFIED.into(),
            (Self::ControlAddress, Family::V6) => Ipv6Addr::UNSPECIFIED.into(),
            (Self::Name(name) | Self::Auto(name), family) => name.get(family)?,
        })
    }

    /// Whether a peer can be told an address of this family, as far as that is known without a connection. A name that
    /// has not been resolved may have any.
    #[must_use]
    pub fn may_be(&self, family: Family) -> bool {
        match self {
            Self::Address(ip) => Family::of(*ip) == family,
            Self::PerFamily(..) | Self::Local | Self::ControlAddress => true,
            Self::Auto(_) => family == Family::V4,
            Self::Name(name) => name.get(family).is_none_or(|ip| Family::of(ip) == family),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    fn rule(peers: &str, announce: Announce) -> Rule {
        let peers = if peers == "any" { Peers::Any } else { Peers::Net(peers.parse().unwrap()) };
        Rule { peers, announce }
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let map = AddressMap::new(vec![
            rule("172.16.0.0/16", Announce::Address(ip("172.16.0.10"))),
            rule("any", Announce::Address(ip("203.0.113.10"))),
        ]);
        let to = |peer: &str| map.announce(ip(peer), ip("172.16.0.10"), 20000, Family::V4).unwrap().0.to_string();
        assert_eq!(to("172.16.9.9"), "172.16.0.10:20000");
        assert_eq!(to("::ffff:172.16.9.9"), "172.16.0.10:20000");
        assert_eq!(to("198.51.100.7"), "203.0.113.10:20000");
    }

    #[test]
    fn a_peer_without_a_rule_is_announced_nothing() {
        let map = AddressMap::new(vec![rule("10.0.0.0/8", Announce::Local)]);
        assert_eq!(map.announce(ip("192.0.2.1"), ip("10.0.0.1"), 1, Family::V4), None);
    }

    #[test]
    fn a_name_keeps_its_last_good_address_and_prefers_the_family_of_the_connection() {
        let name = Arc::new(ResolvedName::new("ftp.example.com"));
        let map = AddressMap::new(vec![rule("any", Announce::Name(Arc::clone(&name)))]);
        let now = |local: &str| {
            map.announce(ip("192.0.2.1"), ip(local), 1, Family::of(ip(local))).map(|announced| announced.0.ip())
        };
        assert_eq!(now("10.0.0.1"), None, "never resolved");
        assert!(name.set(vec![ip("203.0.113.9"), ip("2001:db8::9")]));
        assert_eq!(now("10.0.0.1"), Some(ip("203.0.113.9")));
        assert_eq!(now("fd00::1"), Some(ip("2001:db8::9")));
        assert!(!name.set(vec![]), "a failed look-up changes nothing");
        assert_eq!(now("10.0.0.1"), Some(ip("203.0.113.9")));
        assert!(!name.set(vec![ip("2001:db8::9"), ip("203.0.113.9")]), "another order is no change");
    }

    #[test]
    fn each_family_has_its_address() {
        let both = Announce::PerFamily(Ipv4Addr::new(203, 0, 113, 10), "2001:db8::10".parse().unwrap());
        let told = |announce: Announce, local: &str, family| {
            let map = AddressMap::new(vec![rule("any", announce)]);
            map.announce(ip("192.0.2.1"), ip(local), 20000, family).unwrap().0.ip().to_string()
        };
        assert_eq!(told(both.clone(), "fd00::1", Family::V4), "203.0.113.10");
        assert_eq!(told(both.clone(), "10.0.0.1", Family::V6), "2001:db8::10");
        assert_eq!(told(Announce::ControlAddress, "10.0.0.1", Family::V4), "0.0.0.0");
        assert_eq!(told(Announce::ControlAddress, "fd00::1", Family::V6), "::");
        // Nothing better is there: who asked has to see that it is of the other family.
        assert_eq!(told(Announce::Local, "fd00::1", Family::V4), "fd00::1");
        assert_eq!(told(Announce::Address(ip("203.0.113.10")), "fd00::1", Family::V6), "203.0.113.10");
        let fits = |announce: &Announce| (announce.may_be(Family::V4), announce.may_be(Family::V6));
        assert_eq!(fits(&both), (true, true));
        assert_eq!(fits(&Announce::Address(ip("203.0.113.10"))), (true, false));
        assert_eq!(fits(&Announce::Local), (true, true));
        let auto = Announce::Auto(Arc::new(ResolvedName::new("auto")));
        assert_eq!(fits(&auto), (true, false), "found out or not, it is IPv4");
        let name = Arc::new(ResolvedName::new("ftp.example.com"));
        assert_eq!(fits(&Announce::Name(Arc::clone(&name))), (true, true), "nobody knows yet");
        name.set(vec![ip("2001:db8::10")]);
        assert_eq!(fits(&Announce::Name(name)), (false, true));
    }
}
