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
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::addr::Family;

/// Silence before the first keep-alive probe: far below the 350 s of AWS NLB, with room for several lost probes,
/// and at the 60 s of the shortest trackers in the field (AWS classic ELB, many home routers).
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
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_zero_linger()?;
    if let Some(source) = source {
        // Without this option, bind takes a port away from every other target as well.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(source_address(source, target))?;
    }
    tokio::time::timeout(timeout, socket.connect(target)).await.map_err(|_| io::ErrorKind::TimedOut)?
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

/// Writes as `try_write` does, with the last byte that was written marked urgent (RFC 959 §4.1.3, the Telnet Synch).
/// If fewer bytes were taken, write the rest in the same way: the mark moves on.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when the socket's buffer is full (await `writable()`), and those of `send(2)`.
pub fn send_urgent(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.try_io(Interest::WRITABLE, || SockRef::from(stream).send_out_of_band(bytes))
}
