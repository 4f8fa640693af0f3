//! The servers that may be connected to where somebody else than the configuration says which (`upstream_networks`).
//!
//! Without such a list the proxy would connect anybody to anything that it can reach itself. For the same reason an entry
//! is for one port, 21, unless it says otherwise: a proxy that connects to any port is a port scanner.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// Servers at an address or with a name, on some ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Which.
    pub place: Place,
    /// Their control ports.
    pub ports: RangeInclusive<u16>,
}

/// Where servers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Within this network; IPv4-mapped addresses count as IPv4.
    Net(IpNet),
    /// What this name leads to. Lower case, without a dot at the end.
    Name(String),
    /// What any name below this one leads to (`*.example.com`). Lower case, without a dot at the end.
    Below(String),
}

impl Place {
    fn is_name(&self, host: &str) -> bool {
        match self {
            Self::Net(_) => false,
            Self::Name(name) => name == host,
            Self::Below(parent) => {
                host.strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }
}

impl fmt::Display for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Net(net) => net.fmt(f)?,
            Place::Name(name) => f.write_str(name)?,
            Place::Below(parent) => write!(f, "*.{parent}")?,
        }
        if self.ports.start() == self.ports.end() {
            write!(f, " port {}", self.ports.start())
        } else {
            write!(f, " ports {}-{}", self.ports.start(), self.ports.end())
        }
    }
}

/// The whole list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destinations {
    permits: Vec<Permit>,
}

impl Destinations {
    /// A list of these.
    #[must_use]
    pub fn new(permits: Vec<Permit>) -> Self {
        Self { permits }
    }

    /// What is on it.
    #[must_use]
    pub fn permits(&self) -> &[Permit] {
        &self.permits
    }

    /// Whether this address may be connected to for its own sake.
    #[must_use]
    pub fn has_address(&self, addr: SocketAddr) -> bool {
        let is_within = |place: &Place| match place {
            Place::Net(net) => net.contains(&addr.ip().to_canonical()),
            Place::Name(_) | Place::Below(_) => false,
        };
        self.permits.iter().any(|permit| permit.ports.contains(&addr.port()) && is_within(&permit.place))
    }

    /// Whether whatever this name leads to may be connected to. Names are compared as DNS does (RFC 4343).
    #[must_use]
    pub fn has_name(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.permits.iter().any(|permit| permit.ports.contains(&port) && permit.place.is_name(&host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Destinations {
        let permit = |place, ports| Permit { place, ports };
        Destinations::new(vec![
            permit(Place::Net("10.0.0.0/8".parse().unwrap()), 21..=21),
            permit(Place::Net("2001:db8::/32".parse().unwrap()), 2100..=2199),
            permit(Place::Name("ftp.example.com".into()), 21..=21),
            permit(Place::Below("example.org".into()), 990..=990),
        ])
    }

    #[test]
    fn an_address_needs_its_network_and_its_port() {
        let permitted = |addr: &str| list().has_address(addr.parse().unwrap());
        for addr in ["10.1.2.3:21", "[::ffff:10.1.2.3]:21", "[2001:db8::1]:2100", "[2001:db8::1]:2199"] {
            assert!(permitted(addr), "{addr}");
        }
        for addr in ["10.1.2.3:22", "11.0.0.1:21", "[2001:db8::1]:21", "[2001:db9::1]:2100", "127.0.0.1:21"] {
            assert!(!permitted(addr), "{addr}");
        }
    }

    #[test]
    fn a_name_is_the_whole_name() {
        let permitted = |host, port| list().has_name(host, port);
        assert!(permitted("ftp.example.com", 21) && permitted("FTP.Example.COM.", 21));
        assert!(permitted("a.example.org", 990) && permitted("a.b.example.org", 990));
        for (host, port) in [
            ("ftp.example.com", 22),
            ("xftp.example.com", 21),
            ("ftp.example.com.evil.example", 21),
            ("example.org", 990),
            (".example.org", 990),
            ("evilexample.org", 990),
            ("10.1.2.3", 21),
        ] {
            assert!(!permitted(host, port), "{host}");
        }
    }
}
