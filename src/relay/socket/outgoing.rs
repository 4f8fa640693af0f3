//! Connecting. Every connection has its options before the first packet leaves.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::{Watched, bind, control_options, data_options, watch_control};
use crate::addr::{Family, Whose};

/// Opens a control connection, from the address that routing picks.
///
/// # Errors
/// Those of `connect(2)`; [`io::ErrorKind::TimedOut`] after `timeout`.
pub async fn connect_control(target: SocketAddr, timeout: Duration) -> io::Result<Watched> {
    establish(new_control(target)?, target, timeout).await
}

/// The same from `source`, which may be an address of another machine: the client's (`server.source: client`).
///
/// # Errors
/// Those of `bind(2)`, and as [`connect_control`]; [`io::ErrorKind::AddrNotAvailable`] where other machines' addresses may
/// not be used.
pub(crate) async fn connect_control_from(target: SocketAddr, source: IpAddr, timeout: Duration) -> io::Result<Watched> {
    let socket = new_control(target)?;
    bind_without_port(&socket, source_address(source, target), Whose::Anybodys)?;
    establish(socket, target, timeout).await
}

fn new_control(target: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), None)?;
    control_options(SockRef::from(&socket))?;
    Ok(socket)
}

async fn establish(socket: Socket, target: SocketAddr, timeout: Duration) -> io::Result<Watched> {
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
        _ => {}
    }
    let io = watch_control(socket.into())?;
    // It is writable once it is connected, or has failed.
    let _connected = tokio::time::timeout(timeout, io.writable()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    match SockRef::from(io.get_ref()).take_error()? {
        Some(error) => Err(error),
        None => Ok(io),
    }
}

/// Opens a data connection from `source`, which is the address of the control connection: commons-net, IIS
/// (`matchClientAddressForPasv`) and others compare the two. The address is bound, not left to routing, which may
/// answer differently by now (a temporary IPv6 address has been replaced, say). That changes nothing about the way:
/// Linux looks up the route of an unbound connection a second time with the address that the first look-up gave
/// (`ip_route_connect`).
///
/// # Errors
/// Those of `bind(2)` and `connect(2)`; [`io::ErrorKind::TimedOut`] after `timeout`.
pub async fn connect(target: SocketAddr, source: IpAddr, whose: Whose, timeout: Duration) -> io::Result<TcpStream> {
    let socket = new_outgoing(target)?;
    bind_without_port(&socket, source_address(source, target), whose)?;
    tokio::time::timeout(timeout, socket.connect(target)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Binds an address, and leaves the port to `connect(2)`: otherwise it is taken away from every other target as well.
fn bind_without_port<S: AsFd>(socket: &S, address: SocketAddr, whose: Whose) -> io::Result<()> {
    setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
    bind(SockRef::from(socket), address, whose)
}

/// As [`connect`], from a port of our choice, on which any number of connections to other targets may exist. If
/// there is one to this very target (it may be in TIME_WAIT), or a listener on the port, any other port is used.
///
/// # Errors
/// As [`connect`]; [`io::ErrorKind::PermissionDenied`] for a port below 1024 without CAP_NET_BIND_SERVICE.
pub async fn connect_from_port(
    target: SocketAddr,
    source: SocketAddr,
    whose: Whose,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let from_port = async {
        let socket = new_outgoing(target)?;
        socket.set_reuseaddr(true)?;
        let mut from = source_address(source.ip(), target);
        from.set_port(source.port());
        bind(SockRef::from(&socket), from, whose)?;
        tokio::time::timeout(timeout, socket.connect(target)).await.map_err(|_| io::ErrorKind::TimedOut)?
    };
    match from_port.await {
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {
            connect(target, source.ip(), whose, timeout).await
        }
        outcome => outcome,
    }
}

/// Whether this process may connect from a port on an address.
///
/// # Errors
/// It may not.
pub(crate) fn check_source(source: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(source), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    match socket.bind(&source.into()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

fn new_outgoing(target: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    data_options(SockRef::from(&socket))?;
    Ok(socket)
}

/// `source` with any port. A link-local address is only valid with its interface, which is that of the target. To a
/// target of the other family (a client whom a load balancer serves over IPv6, and us over IPv4) it is of no use, and
/// routing picks another.
fn source_address(source: IpAddr, target: SocketAddr) -> SocketAddr {
    if Family::of(source) != Family::of(target.ip()) {
        return if target.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    }
    let mut addr = SocketAddr::new(source.to_canonical(), 0);
    if let (SocketAddr::V6(addr), SocketAddr::V6(target)) = (&mut addr, target)
        && addr.ip().is_unicast_link_local()
    {
        addr.set_scope_id(target.scope_id());
    }
    addr
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;
    use crate::relay::accept::Acceptor;
    use crate::relay::socket::listen_control;

    const SOON: Duration = Duration::from_secs(5);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A listener on a port of its own.
    fn listener(at: &str) -> (Acceptor, SocketAddr) {
        let listener = listen_control(SocketAddr::new(ip(at), 0), 8).unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    #[tokio::test]
    async fn connections_to_many_clients_come_from_one_port_and_a_second_to_one_client_from_another() {
        let source: SocketAddr = "127.0.0.2:2020".parse().unwrap();
        let (_first, at_first) = listener("127.0.0.3");
        let (_second, at_second) = listener("127.0.0.4");
        let connect = async |target| connect_from_port(target, source, Whose::Ours, SOON).await.unwrap();
        let first = connect(at_first).await;
        let second = connect(at_second).await;
        assert_eq!((first.local_addr().unwrap(), second.local_addr().unwrap()), (source, source));
        // The same two addresses and ports cannot have a second connection.
        let again = connect(at_first).await;
        assert_eq!(again.local_addr().unwrap().ip(), source.ip());
        assert_ne!(again.local_addr().unwrap().port(), source.port());
    }

    #[tokio::test]
    async fn connects_from_the_given_source() {
        for (at, source) in [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "::ffff:127.0.0.9"), ("::1", "::1")] {
            let (listener, addr) = listener(at);
            let ours = connect(addr, ip(source), Whose::Ours, SOON).await.unwrap();
            let (_, peer) = listener.accept().await;
            assert_eq!((peer.ip(), peer), (ip(source).to_canonical(), ours.local_addr().unwrap()));
            assert!(getsockopt(&ours, sockopt::IpBindAddressNoPort).unwrap());
        }
    }

    #[tokio::test]
    async fn a_target_that_does_not_answer_times_out() {
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::new(ip("127.0.0.1"), 0).into()).unwrap();
        full.listen(0).unwrap();
        let addr = full.local_addr().unwrap().as_socket().unwrap();
        // A backlog of 0 holds one connection; Linux drops the SYNs beyond.
        let _first = connect_control(addr, SOON).await.unwrap();
        let limit = Duration::from_millis(100);
        let data = connect(addr, ip("127.0.0.1"), Whose::Ours, limit).await.unwrap_err();
        let control = connect_control(addr, limit).await.unwrap_err();
        assert_eq!((data.kind(), control.kind()), (io::ErrorKind::TimedOut, io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn rel_10_a_control_connection_that_is_refused_is_an_error() {
        let (listener, addr) = listener("127.0.0.1");
        drop(listener);
        let error = connect_control(addr, SOON).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_link_local_source_is_on_the_interface_of_the_target() {
        let target: SocketAddr = "[fe80::1%7]:2000".parse().unwrap();
        assert_eq!(source_address(ip("fe80::2"), target), "[fe80::2%7]:0".parse().unwrap());
        assert_eq!(source_address(ip("2001:db8::2"), target), "[2001:db8::2]:0".parse().unwrap());
        assert_eq!(source_address(ip("10.0.0.1"), "10.0.0.2:21".parse().unwrap()), "10.0.0.1:0".parse().unwrap());
    }
}
