//! Socket options, and why each is set.
//!
//! **Zero linger.** Every connection is made so that closing it sends RST, and only [`end_well`] takes that back.
//! So whatever ends a process or a task early (an error, a panic, a cancelled future, SIGKILL) looks like a
//! failure to the peers. Were it a FIN, an FTP server would take a truncated upload for a complete one.
//!
//! **Keep-alive.** A control connection says nothing while a long transfer runs, and is forgotten by whatever
//! tracks connections on the way: AWS NLB after 350 s, Alibaba NLB and SNAT after at most 900 s.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::addr::Family;

/// Silence before the first keep-alive probe: below the 350 s of AWS NLB and the 900 s of Alibaba NLB and SNAT by a
/// factor that leaves room for lost probes and for the shorter memory of home routers.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// Time between unanswered probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered probes until the connection is dead: 60 s + 4 × 15 s = 2 minutes after the peer vanished.
const KEEPALIVE_RETRIES: u32 = 4;

/// How long data on a control connection may stay unacknowledged. Once set, it also decides when keep-alive gives
/// up (tcp(7)), so it is what [`KEEPALIVE_TIME`] and the probes after it amount to: 2 minutes.
const CONTROL_USER_TIMEOUT: Duration = Duration::from_secs(60 + 4 * 15);

/// A listener for control connections. IPv6 sockets take IPv6 only, so that `[::]` and `0.0.0.0` can be bound side
/// by side and peers are never IPv4-mapped. Runs inside a tokio runtime.
///
/// # Errors
/// Those of `bind(2)` and `listen(2)`.
pub fn listen_control(addr: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = new_listener(addr)?;
    listen(&socket, addr, backlog)?;
    TcpListener::from_std(socket.into())
}

/// A listener for data connections. What it accepts inherits the options of [`prepare_data`], zero linger included,
/// while still in the kernel's queue (Linux clones them from the listener): no instant without.
pub(crate) fn listen_data(addr: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = new_listener(addr)?;
    data_options(SockRef::from(&socket))?;
    listen(&socket, addr, backlog)?;
    TcpListener::from_std(socket.into())
}

fn new_listener(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier process in TIME_WAIT must not keep us from starting.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Both steps can fail with `EADDRINUSE`: with `SO_REUSEADDR`, two binds of one port succeed until one listens.
fn listen(socket: &Socket, addr: SocketAddr, backlog: i32) -> io::Result<()> {
    socket.bind(&addr.into())?;
    socket.listen(backlog)
}

/// Options of a control connection, on either leg: no Nagle delay, urgent data read in its place (DESIGN §5.2),
/// keep-alive, a bound on unacknowledged data, zero linger.
///
/// `TCP_USER_TIMEOUT` also ends a connection whose peer answers every zero-window probe but reads nothing for
/// that long (`tcp_probe_timer` in Linux counts from the first probe, answered or not). On a control connection this
/// takes a peer that leaves whole socket buffers of replies unread; one that is merely suspended is not hit.
///
/// # Errors
/// Those of `setsockopt(2)`: the connection is already dead.
pub fn prepare_control(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    socket.set_tcp_user_timeout(Some(CONTROL_USER_TIMEOUT))
}

/// Options of a data connection: zero linger, keep-alive, no Nagle delay for the last short segment.
///
/// There is no `TCP_USER_TIMEOUT`: it would cut a client that answers zero-window probes but does not read, say
/// because a person is looking at an "overwrite?" dialogue, before `timeouts.data_idle` allows. A vanished peer
/// is found by keep-alive when nothing is in flight, otherwise by the idle timer of [`copy`](super::copy).
///
/// # Errors
/// Those of `setsockopt(2)`: the connection is already dead.
pub fn prepare_data(stream: &TcpStream) -> io::Result<()> {
    data_options(SockRef::from(stream))
}

fn data_options(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_RETRIES)
}

/// Makes the close that follows a good one: what was written is still delivered, then FIN.
///
/// # Errors
/// Those of `setsockopt(2)`: the connection is already dead.
pub fn end_well(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(None)
}

/// Connects, from `source` if given, else from the address that routing picks. The connection has zero linger from
/// the start; the other options are the caller's ([`prepare_control`], [`prepare_data`]).
///
/// # Errors
/// Those of `bind(2)` and `connect(2)`; [`io::ErrorKind::TimedOut`] after `timeout`.
pub async fn connect(target: SocketAddr, source: Option<IpAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let socket = new_outgoing(target)?;
    if let Some(source) = source {
        // Without this option, bind takes a port away from every other target as well.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(source_address(source, target))?;
    }
    tokio::time::timeout(timeout, socket.connect(target)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// As [`connect`], from a port of our choice, on which any number of connections to other targets may exist. If
/// there is one to this very target (it may be in TIME_WAIT), or a listener on the port, any other port is used.
///
/// # Errors
/// As [`connect`]; [`io::ErrorKind::PermissionDenied`] for a port below 1024 without CAP_NET_BIND_SERVICE.
pub async fn connect_from_port(target: SocketAddr, source: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let from_port = async {
        let socket = new_outgoing(target)?;
        socket.set_reuseaddr(true)?;
        let mut from = source_address(source.ip(), target);
        from.set_port(source.port());
        socket.bind(from)?;
        tokio::time::timeout(timeout, socket.connect(target)).await.map_err(|_| io::ErrorKind::TimedOut)?
    };
    match from_port.await {
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {
            tracing::info!(%target, port = source.port(), %error, "source port not to be had, using another");
            connect(target, Some(source.ip()), timeout).await
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
    socket.set_zero_linger()?;
    Ok(socket)
}

/// `source` with any port, in the family of `target`. A link-local address is only valid with its interface, which
/// is that of the target.
fn source_address(source: IpAddr, target: SocketAddr) -> SocketAddr {
    let mut addr = SocketAddr::new(source, 0);
    if let (SocketAddr::V6(addr), SocketAddr::V6(target)) = (&mut addr, target)
        && addr.ip().is_unicast_link_local()
    {
        addr.set_scope_id(target.scope_id());
    }
    addr
}

/// Connects to `target` such that it sees the address `must_be`, which a server compares with that of the control
/// connection (IIS `matchClientAddressForPasv`). Binding is the exception: it is done only where routing would
/// pick another address, since an address that is bound may be routed differently.
///
/// # Errors
/// As [`connect`].
pub async fn connect_same_source(target: SocketAddr, must_be: IpAddr, timeout: Duration) -> io::Result<TcpStream> {
    let must_be = must_be.to_canonical();
    // Asked beforehand: a server's passive port takes one connection, which must not come from the wrong address.
    if source_towards(target).is_ok_and(|source| source != must_be) {
        return connect(target, Some(must_be), timeout).await;
    }
    let stream = connect(target, None, timeout).await?;
    // Routing rules may look at the protocol or the port, so the answer for UDP may have been wrong.
    if stream.local_addr()?.ip().to_canonical() == must_be {
        return Ok(stream);
    }
    drop(stream);
    connect(target, Some(must_be), timeout).await
}

/// The address from which a packet to `target` would leave. Connecting a UDP socket sends nothing.
fn source_towards(target: SocketAddr) -> io::Result<IpAddr> {
    let any = match Family::of(target.ip()) {
        Family::V4 => SocketAddr::from(([0; 4], 0)),
        Family::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let probe = UdpSocket::bind(any)?;
    probe.connect(target)?;
    Ok(probe.local_addr()?.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::sys::socket::getsockopt;
    use tokio::io::AsyncReadExt;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A listener on a port of its own.
    fn listener(at: &str) -> (TcpListener, SocketAddr) {
        let listener = listen_control(SocketAddr::new(ip(at), 0), 8).unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    /// Both ends of a connection: ours and the peer's.
    async fn pair() -> (TcpStream, TcpStream) {
        let (listener, addr) = listener("127.0.0.1");
        let ours = connect(addr, None, SOON).await.unwrap();
        (ours, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn connections_to_many_clients_come_from_one_port_and_a_second_to_one_client_from_another() {
        let source: SocketAddr = "127.0.0.2:2020".parse().unwrap();
        let (_first, at_first) = listener("127.0.0.3");
        let (_second, at_second) = listener("127.0.0.4");
        let connect = async |target| connect_from_port(target, source, SOON).await.unwrap();
        let first = connect(at_first).await;
        let second = connect(at_second).await;
        assert_eq!((first.local_addr().unwrap(), second.local_addr().unwrap()), (source, source));
        // The same two addresses and ports cannot have a second connection.
        let again = connect(at_first).await;
        assert_eq!(again.local_addr().unwrap().ip(), source.ip());
        assert_ne!(again.local_addr().unwrap().port(), source.port());
    }

    #[tokio::test]
    async fn both_families_listen_on_one_port() {
        let (_six, addr) = listener("::");
        let four = listen_control(SocketAddr::new(ip("0.0.0.0"), addr.port()), 8).unwrap();
        let _client = connect(SocketAddr::new(ip("127.0.0.1"), addr.port()), None, SOON).await.unwrap();
        assert!(four.accept().await.unwrap().1.is_ipv4());
    }

    #[tokio::test]
    async fn a_port_is_bound_again_while_old_connections_linger_in_time_wait() {
        let (listener, addr) = listener("127.0.0.1");
        let client = connect(addr, None, SOON).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        // The side that closes first keeps the port.
        drop(listener);
        tokio::io::AsyncWriteExt::shutdown(&mut server).await.unwrap();
        end_well(&client).unwrap();
        drop(client);
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
        drop(server);
        listen_control(addr, 8).unwrap();
    }

    #[tokio::test]
    async fn rel_16_control_connections_are_kept_alive() {
        let (ours, _peer) = pair().await;
        prepare_control(&ours).unwrap();
        let socket = SockRef::from(&ours);
        assert!(socket.tcp_nodelay().unwrap() && socket.out_of_band_inline().unwrap() && socket.keepalive().unwrap());
        let (time, interval) = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
        let detection = time + interval * socket.tcp_keepalive_retries().unwrap();
        assert_eq!((time, detection), (Duration::from_secs(60), Duration::from_secs(120)));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(detection), "it replaces the count of probes");
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn rel_16_data_connections_are_kept_alive_and_may_stall() {
        let (ours, _peer) = pair().await;
        prepare_data(&ours).unwrap();
        let socket = SockRef::from(&ours);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn rel_01_only_a_good_end_is_a_fin() {
        for good in [true, false] {
            let (ours, mut peer) = pair().await;
            assert_eq!(ours.try_write(b"data").unwrap(), 4);
            peer.read_exact(&mut [0; 4]).await.unwrap();
            if good {
                end_well(&ours).unwrap();
            }
            drop(ours);
            match peer.read(&mut [0; 1]).await {
                Ok(n) => assert!(good && n == 0),
                Err(error) => assert!(!good && error.kind() == io::ErrorKind::ConnectionReset),
            }
        }
    }

    #[tokio::test]
    async fn connects_from_the_given_source() {
        for (at, source) in [("127.0.0.1", "127.0.0.9"), ("::1", "::1")] {
            let (listener, addr) = listener(at);
            let ours = connect(addr, Some(ip(source)), SOON).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!((peer.ip(), peer), (ip(source), ours.local_addr().unwrap()));
            assert!(getsockopt(&ours, sockopt::IpBindAddressNoPort).unwrap());
        }
    }

    #[tokio::test]
    async fn a_target_that_does_not_answer_times_out() {
        let full = new_listener("127.0.0.1:0".parse().unwrap()).unwrap();
        listen(&full, "127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let addr = full.local_addr().unwrap().as_socket().unwrap();
        // A backlog of 0 holds one connection; Linux drops the SYNs beyond.
        let _first = connect(addr, None, SOON).await.unwrap();
        let error = connect(addr, None, Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn the_server_sees_the_same_source_and_no_other() {
        let (listener, addr) = listener("127.0.0.1");
        for must_be in ["127.0.0.1", "127.0.0.5", "::ffff:127.0.0.6"] {
            let _ours = connect_same_source(addr, ip(must_be), SOON).await.unwrap();
            // The first connection to arrive: there was none from elsewhere before.
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip(), ip(must_be).to_canonical());
        }
        let ours = connect_same_source(addr, ip("127.0.0.1"), SOON).await.unwrap();
        assert!(!getsockopt(&ours, sockopt::IpBindAddressNoPort).unwrap(), "not bound without need");
    }

    #[test]
    fn a_link_local_source_is_on_the_interface_of_the_target() {
        let target: SocketAddr = "[fe80::1%7]:2000".parse().unwrap();
        assert_eq!(source_address(ip("fe80::2"), target), "[fe80::2%7]:0".parse().unwrap());
        assert_eq!(source_address(ip("2001:db8::2"), target), "[2001:db8::2]:0".parse().unwrap());
        assert_eq!(source_address(ip("10.0.0.1"), "10.0.0.2:21".parse().unwrap()), "10.0.0.1:0".parse().unwrap());
    }

    #[tokio::test]
    async fn rfc_05_the_last_byte_is_urgent() {
        let (ours, peer) = pair().await;
        ours.writable().await.unwrap();
        assert_eq!(SockRef::from(&ours).send_out_of_band(b"ABOR\r\n").unwrap(), 6);
        let mut peer = Socket::from(peer.into_std().unwrap());
        peer.set_nonblocking(false).unwrap();
        let mut bytes = [0; 16];
        // Not inline at this peer: a read ends before the urgent byte.
        assert_eq!(peer.read(&mut bytes).unwrap(), 5);
        let mut urgent = [std::mem::MaybeUninit::uninit(); 1];
        assert_eq!(peer.recv_out_of_band(&mut urgent).unwrap(), 1);
        drop(ours);
    }

    #[tokio::test]
    async fn rfc_05_urgent_bytes_are_read_in_their_place() {
        let (ours, mut peer) = pair().await;
        prepare_control(&peer).unwrap();
        ours.writable().await.unwrap();
        assert_eq!(SockRef::from(&ours).send_out_of_band(b"\xff\xf4\xff").unwrap(), 3);
        assert_eq!(ours.try_write(b"\xf2ABOR\r\n").unwrap(), 7);
        let mut bytes = [0; 10];
        peer.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"\xff\xf4\xff\xf2ABOR\r\n");
    }
}
