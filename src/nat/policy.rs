//! Bounce and port rules: the only maker of a [`DialTarget`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::addr::Claimed;

/// A place that we may open a data connection to: a claimed address that passed [`Policy`].
/// Nothing else can make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DialTarget(SocketAddr);

impl DialTarget {
    /// Where to connect.
    #[must_use]
    pub const fn addr(self) -> SocketAddr {
        self.0
    }
}

/// Why a claimed address may not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is neither the control peer nor a client behind NAT: the FTP bounce attack (RFC 2577 §3).
    #[error("{0} is not the address of the control connection")]
    ForeignAddress(IpAddr),
    /// The port belongs to a system service (RFC 2577 §3), or is 0.
    #[error("port {0} is privileged")]
    PrivilegedPort(u16),
}

/// The rules for data connections of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Whether the *server* may offer passive ports below 1024. Clients never may.
    pub privileged_ports: bool,
}

/// The first port that is not privileged. Those below belong to system services (RFC 6335 §6); FTP clients and servers
/// refuse to use them for data.
pub(crate) const FIRST_USER_PORT: u16 = 1024;

impl Policy {
    /// Where to dial for a client's PORT or EPRT, given the address of its control connection.
    ///
    /// The client must name its own address. A private or unspecified one that differs is a client behind
    /// a NAT without a helper, which cannot know better: the control peer is dialled instead, as ProFTPD
    /// does. `0.0.0.0` (`::`) means "my address" to several embedded clients.
    ///
    /// # Errors
    /// Every other address, and every port below 1024.
    pub fn vet(&self, claimed: Claimed, control_peer: IpAddr) -> Result<DialTarget, Refusal> {
        let peer = control_peer.to_canonical();
        if let Some(ip) = claimed.ip.map(|ip| ip.to_canonical())
            && ip != peer
            && !ip.is_unspecified()
            && !is_private(ip)
        {
            return Err(Refusal::ForeignAddress(ip));
        }
        if claimed.port < FIRST_USER_PORT {
            return Err(Refusal::PrivilegedPort(claimed.port));
        }
        Ok(DialTarget(SocketAddr::new(peer, claimed.port)))
    }

    /// Where to dial for a server's 227 or 229: always the server's own control address, whatever the
    /// reply says. That defeats a server that names a third party (CVE-2020-8284, CVE-2021-4189), and one
    /// behind NAT that names a wrong private address just works.
    ///
    /// # Errors
    /// A port below 1024, unless [`privileged_ports`](Self::privileged_ports); port 0 always.
    pub fn vet_server(&self, claimed: Claimed, control_peer: IpAddr) -> Result<DialTarget, Refusal> {
        let lowest = if self.privileged_ports { 1 } else { FIRST_USER_PORT };
        if claimed.port < lowest {
            return Err(Refusal::PrivilegedPort(claimed.port));
        }
        Ok(DialTarget(SocketAddr::new(control_peer.to_canonical(), claimed.port)))
    }
}

/// RFC 1918, RFC 6598 (carrier-grade NAT) and RFC 4193: addresses that a client behind NAT sees as its own.
/// Loopback and link-local are not among them.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || is_carrier_nat(v4),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

fn is_carrier_nat(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && (64..128).contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "198.51.100.7";

    fn vet(ip: &str, port: u16) -> Result<String, Refusal> {
        let claimed = Claimed::new(ip.parse().unwrap(), port);
        Policy::default().vet(claimed, PEER.parse().unwrap()).map(|t| t.addr().to_string())
    }

    #[test]
    fn sec_01_a_client_may_name_itself_only() {
        assert_eq!(vet(PEER, 1024), Ok("198.51.100.7:1024".into()));
        for foreign in ["198.51.100.8", "127.0.0.1", "169.254.169.254", "2001:db8::1", "224.0.0.1"] {
            assert!(matches!(vet(foreign, 5000), Err(Refusal::ForeignAddress(_))), "{foreign}");
        }
        for port in [0, 21, 25, 1023] {
            assert_eq!(vet(PEER, port), Err(Refusal::PrivilegedPort(port)));
        }
    }

    #[test]
    fn a_private_or_unspecified_address_is_a_client_behind_nat() {
        for behind in ["10.0.0.1", "172.16.0.1", "192.168.3.30", "100.64.0.1", "fd00::1", "0.0.0.0", "::"] {
            assert_eq!(vet(behind, 5101), Ok("198.51.100.7:5101".into()), "{behind}");
        }
    }

    #[test]
    fn sec_02_the_servers_own_address_is_dialled_whatever_its_reply_says() {
        let server: IpAddr = "172.16.0.20".parse().unwrap();
        let claimed = Claimed::new("169.254.169.254".parse().unwrap(), 5000);
        let target = Policy::default().vet_server(claimed, server).unwrap();
        assert_eq!(target.addr().to_string(), "172.16.0.20:5000");
        let low = Claimed::port_only(22);
        assert_eq!(Policy::default().vet_server(low, server), Err(Refusal::PrivilegedPort(22)));
        let allowed = Policy { privileged_ports: true };
        assert!(allowed.vet_server(low, server).is_ok());
        assert!(allowed.vet_server(Claimed::port_only(0), server).is_err());
    }
}
