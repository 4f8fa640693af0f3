//! Sockets on somebody else's address: the client's, towards the server (`server.source: client`).
//!
//! `IP_TRANSPARENT` lets a socket use an address that this machine does not have. That is half of it: what the server
//! answers to that address must come here and be taken in, which is the network's part (deploy/transparent).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockRef, Socket, Type};

use super::transparent;
use crate::addr::Family;

/// The process may not use addresses that are not of this machine. The kernel wants one of the two capabilities
/// (`IP_TRANSPARENT` in ip(7) and `net/ipv4/ip_sockglue.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "`server.source: client` needs CAP_NET_ADMIN or CAP_NET_RAW, and this process has neither: run it as root, or add \
     one to the unit (`AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW`)"
)]
pub(crate) struct NotPermitted;

/// Whether this process may use the addresses of others. A family that this machine does not have is no obstacle.
///
/// # Errors
/// It may not.
pub(crate) fn check(family: Family) -> Result<(), NotPermitted> {
    let Ok(socket) = Socket::new(domain(family), Type::STREAM, None) else { return Ok(()) };
    match transparent(&SockRef::from(&socket), family) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(NotPermitted),
        _ => Ok(()),
    }
}

/// Whether any address can be bound here without being transparent (`net.ipv4.ip_nonlocal_bind`, which keepalived and
/// the like have set). Asked of the kernel: a sandbox may hide /proc/sys.
pub(super) fn anybody_may_bind(family: Family) -> bool {
    let socket = Socket::new(domain(family), Type::DGRAM, None);
    socket.is_ok_and(|socket| {
        // No port is taken for it.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true).is_ok()
            && socket.bind(&SocketAddr::new(nobodys(family), 0).into()).is_ok()
    })
}

fn domain(family: Family) -> Domain {
    match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    }
}

/// Of the documentation ranges (RFC 5737, RFC 3849), which no machine should have.
fn nobodys(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([192, 0, 2, 1]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    }
}

/// What is probably missing where a connection from a client's address fails in this way; `None`: it is the server's
/// doing, which would fail from our own address as well. `permitted` is what [`check`] says now.
pub(crate) fn remedy(error: &io::Error, permitted: Result<(), NotPermitted>) -> Option<String> {
    let text = match error.kind() {
        // So says bind(2) of an address that is not of this machine, whatever else is missing.
        io::ErrorKind::AddrNotAvailable => match permitted {
            Err(missing) => return Some(missing.to_string()),
            Ok(()) => {
                "no port is free on the client's address (net.ipv4.ip_local_port_range), or it cannot be used towards \
                 the server"
            }
        },
        io::ErrorKind::TimedOut => {
            "no answer came back: load the nft rules and the routes of deploy/transparent on this machine, and lead \
             the server's way to its clients through it (its default gateway)"
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::InvalidInput => {
            "this machine has no route to the server from the client's address"
        }
        // connect(2) of what a rule in `output` drops.
        io::ErrorKind::PermissionDenied => {
            "a firewall rule of this machine forbids connections to the server from the client's address"
        }
        _ => return None,
    };
    Some(text.into())
}

/// Whether packets with this mark (`SO_MARK`) are taken in here whatever their address, as what the server sends to a
/// client's address has to be. `None`: this process may not ask. Nothing is sent here, either.
pub(crate) fn are_taken_in(mark: u32, family: Family) -> Option<bool> {
    let address = nobodys(family);
    match marked(mark, family).and_then(|socket| source_towards(socket, address)) {
        // What is delivered here leads from the address itself; with IPv6 it leads through lo, and nothing else does.
        Ok(source) => Some(source == address || family == Family::V6),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(_) => Some(false),
    }
}

/// A datagram socket for [`are_taken_in`].
fn marked(mark: u32, family: Family) -> io::Result<Socket> {
    let socket = Socket::new(domain(family), Type::DGRAM, None)?;
    socket.set_mark(mark)?;
    match family {
        // Without, Linux checks the address that it has itself picked, and finds that it is not of this machine.
        Family::V4 => transparent(&SockRef::from(&socket), family)?,
        Family::V6 => socket.bind_device(Some(b"lo"))?,
    }
    Ok(socket)
}

/// From where packets to an address would come.
fn source_towards(socket: Socket, address: IpAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::from(socket);
    // Any port will do (9 is discard).
    socket.connect((address, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_servers_doing_has_no_remedy_here() {
        for theirs in [io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset] {
            assert_eq!(remedy(&theirs.into(), Ok(())), None);
        }
        assert!(remedy(&io::ErrorKind::TimedOut.into(), Ok(())).unwrap().contains("deploy/transparent"));
        assert!(remedy(&io::ErrorKind::PermissionDenied.into(), Ok(())).unwrap().contains("firewall"));
    }

    /// A capability that has been lost since the start shows as an address that is not there.
    #[test]
    fn a_missing_capability_is_named() {
        let error = io::ErrorKind::AddrNotAvailable.into();
        assert!(remedy(&error, Err(NotPermitted)).unwrap().contains("CAP_NET_ADMIN or CAP_NET_RAW"));
        assert!(remedy(&error, Ok(())).unwrap().contains("ip_local_port_range"));
    }
}
