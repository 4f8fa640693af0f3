//! Addresses by the part that they play. Pure: no sockets, no clock.
//!
//! An FTP middlebox handles three kinds of `ip:port` that look alike and must never be mixed up: what a
//! peer *claims* on the wire, what we *announce* to a peer, and what we may *dial*. Each is a type of its own,
//! so that dialling an address just because a peer wrote it does not compile. The third,
//! [`DialTarget`](crate::nat::policy::DialTarget), lives beside the policy that alone can make one.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// One of the two control connections of a session, and everything that belongs to its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leg {
    /// The connection that a client opened to us.
    Client,
    /// The connection that we opened to the FTP server.
    Server,
}

impl Leg {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    /// As the configuration, the log and the metrics call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// The opposite side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose address our end of a connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This machine's.
    Ours,
    /// Perhaps another machine's: that of the server which a client has dialled (TPROXY), or towards the server that of
    /// the client.
    Anybodys,
}

/// A value for each leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerLeg<T> {
    /// The value of the client leg.
    pub client: T,
    /// The value of the server leg.
    pub server: T,
}

impl<T> std::ops::Index<Leg> for PerLeg<T> {
    type Output = T;
    fn index(&self, leg: Leg) -> &T {
        match leg {
            Leg::Client => &self.client,
            Leg::Server => &self.server,
        }
    }
}

impl<T> std::ops::IndexMut<Leg> for PerLeg<T> {
    fn index_mut(&mut self, leg: Leg) -> &mut T {
        match leg {
            Leg::Client => &mut self.client,
            Leg::Server => &mut self.server,
        }
    }
}

/// An address that a peer wrote into PORT, EPRT, 227 or 229. Nobody may connect to it: only
/// [`Policy`](crate::nat::policy::Policy) turns one into a place to dial.
///
/// A 229 reply carries no address, only a port (RFC 2428 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claimed {
    /// The address, where the peer named one. IPv4-mapped IPv6 addresses are kept as IPv4.
    pub ip: Option<IpAddr>,
    /// The port, not yet judged: it may be 0 or privileged.
    pub port: u16,
}

impl Claimed {
    /// What PORT, EPRT and 227 carry.
    #[must_use]
    pub fn new(ip: IpAddr, port: u16) -> Self {
        Self { ip: Some(ip.to_canonical()), port }
    }

    /// What 229 carries.
    #[must_use]
    pub const fn port_only(port: u16) -> Self {
        Self { ip: None, port }
    }
}

/// An address that we tell a peer to connect to. It need not exist on this machine: behind an EIP it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Announced(pub SocketAddr);

impl Announced {
    /// The announced address and port.
    #[must_use]
    pub fn new(ip: IpAddr, port: u16) -> Self {
        Self(SocketAddr::new(ip.to_canonical(), port))
    }
}

/// The socket address with an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`) as plain IPv4 and without
/// a flow label, so that equal peers compare equal. The interface of a link-local address (RFC 4007 §6) is part of it.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match (addr, addr.ip().to_canonical()) {
        (SocketAddr::V6(v6), IpAddr::V6(ip)) => SocketAddrV6::new(ip, v6.port(), 0, v6.scope_id()).into(),
        (_, ip) => SocketAddr::new(ip, addr.port()),
    }
}

/// The two address families, numbered as RFC 2428 §2 numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4, protocol 1.
    V4,
    /// IPv6, protocol 2.
    V6,
}

impl Family {
    /// The family of an address; IPv4-mapped IPv6 counts as IPv4.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        if ip.to_canonical().is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The protocol number of EPRT and EPSV (RFC 2428 §2).
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 2,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_canonical_everywhere() {
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let plain: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(Claimed::new(mapped, 1).ip, Some(plain));
        assert_eq!(Announced::new(mapped, 1).0.ip(), plain);
        assert_eq!(canonical(SocketAddr::new(mapped, 1)).ip(), plain);
        assert_eq!(Family::of(mapped), Family::V4);
    }

    #[test]
    fn a_canonical_address_keeps_its_interface_and_no_flow_label() {
        let addr = |flow| SocketAddr::from(SocketAddrV6::new("fe80::1".parse().unwrap(), 21, flow, 7));
        assert_eq!(canonical(addr(5)), addr(0));
    }
}
