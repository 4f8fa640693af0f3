//! Sockets on somebody else's address: the client's, towards the server (`server.source: client`).
//!
//! `IP_TRANSPARENT` lets a socket use an address that this machine does not have. That is half of it: what the server
//! answers to that address must come here and be taken in, which is the network's part (deploy/transparent).

use std::io;
use std::net::{IpAddr, UdpSocket};

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
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let Ok(socket) = Socket::new(domain, Type::STREAM, None) else { return Ok(()) };
    match transparent(&SockRef::from(&socket), family) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(NotPermitted),
        _ => Ok(()),
    }
}

/// What is probably missing where a connection from a client's address fails in this way; `None`: it is the server's
/// doing, which would fail from our own address as well.
pub(crate) fn remedy(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        // The text of `NotPermitted` has it all.
        io::ErrorKind::PermissionDenied => Some("connecting from a client's address is not permitted"),
        io::ErrorKind::TimedOut => Some(
            "no answer came back: load the nft rules and the routes of deploy/transparent on this machine, and lead \
             the server's way to its clients through it (its default gateway)",
        ),
        io::ErrorKind::AddrNotAvailable => Some(
            "no port is free on the client's address (net.ipv4.ip_local_port_range), or it cannot be used towards the \
             server",
        ),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::InvalidInput => {
            Some("this machine has no route to the server from the client's address")
        }
        _ => None,
    }
}

/// Whether packets with this mark (`SO_MARK`) are taken in here whatever their address, as what the server sends to a
/// client's address has to be. `None`: this process may not ask. Nothing is sent here, either.
pub(crate) fn are_taken_in(mark: u32, family: Family) -> Option<bool> {
    // Of the documentation ranges (RFC 5737, RFC 3849), which no machine should have.
    let address = match family {
        Family::V4 => IpAddr::from([192, 0, 2, 1]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    };
    match marked(mark, family).and_then(|socket| source_towards(socket, address)) {
        // What is delivered here leads from the address itself; with IPv6 it leads through lo, and nothing else does.
        Ok(source) => Some(source == address || family == Family::V6),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(_) => Some(false),
    }
}

/// A datagram socket for [`are_taken_in`].
fn marked(mark: u32, family: Family) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::DGRAM, None)?;
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
        assert_eq!(remedy(&io::ErrorKind::ConnectionRefused.into()), None);
        assert_eq!(remedy(&io::ErrorKind::ConnectionReset.into()), None);
        assert!(remedy(&io::ErrorKind::TimedOut.into()).is_some_and(|text| text.contains("deploy/transparent")));
    }

    #[test]
    fn a_missing_capability_is_named() {
        let error = io::Error::new(io::ErrorKind::PermissionDenied, NotPermitted);
        assert!(remedy(&error).is_some() && error.to_string().contains("CAP_NET_ADMIN or CAP_NET_RAW"));
    }
}
