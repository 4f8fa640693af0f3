//! Socket options, and why each is set.
//!
//! **Zero linger.** Every connection is made so that closing it sends RST, and only [`end_well`] takes that back.
//! So whatever ends a process or a task early (an error, a panic, a cancelled future, SIGKILL) looks like a
//! failure to the peers. Were it a FIN, an FTP server would take a truncated upload for a complete one.
//!
//! **Keep-alive.** A control connection says nothing while a long transfer runs, and is forgotten by whatever
//! tracks connections on the way: AWS NLB after 350 s, Alibaba NLB and SNAT after at most 900 s.

mod outgoing;
pub(crate) mod transparent;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

use super::accept::Acceptor;
use crate::addr::{Family, Whose, canonical};
pub(crate) use outgoing::{check_source, connect_control_from};
pub use outgoing::{connect, connect_control, connect_from_port};

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

/// A control connection, of which the runtime tells whatever there is to tell.
pub type Watched = AsyncFd<std::net::TcpStream>;

/// A listener for control connections. What it accepts has the options of [`control_options`] from the first instant
/// on: Linux clones them from the listening socket. IPv6 sockets take IPv6 only, so that `[::]` and `0.0.0.0` can be
/// bound side by side and peers are never IPv4-mapped. Runs inside a tokio runtime.
///
/// # Errors
/// Those of `bind(2)` and `listen(2)`.
pub fn listen_control(addr: SocketAddr, backlog: i32) -> io::Result<Acceptor> {
    let socket = new_listener(addr)?;
    control_options(SockRef::from(&socket))?;
    listen(socket, addr, backlog)
}

/// A [control listener](listen_control) that somebody else has made: it listens already.
pub(crate) fn adopt_control(listener: std::net::TcpListener) -> io::Result<Acceptor> {
    listener.set_nonblocking(true)?;
    control_options(SockRef::from(&listener))?;
    Acceptor::adopted(listener)
}

/// A listener for data connections. What it accepts has the options of a data connection, zero linger included, while
/// still in the kernel's queue: no instant without.
pub(crate) fn listen_data(addr: SocketAddr, backlog: i32) -> io::Result<Acceptor> {
    let socket = new_listener(addr)?;
    data_options(SockRef::from(&socket))?;
    listen(socket, addr, backlog)
}

/// A [data listener](listen_data) on any port of an address.
pub(crate) fn listen_data_at(ip: IpAddr, whose: Whose, backlog: i32) -> io::Result<Acceptor> {
    let addr = SocketAddr::new(ip, 0);
    let socket = new_listener(addr)?;
    data_options(SockRef::from(&socket))?;
    bind(SockRef::from(&socket), addr, whose)?;
    socket.listen(backlog)?;
    Acceptor::new(socket.into())
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

/// Lets a listening socket take connections that were led to it although they are for other machines (TPROXY).
///
/// # Errors
/// It needs CAP_NET_ADMIN.
pub(super) fn take_any_address(listener: &std::net::TcpListener) -> io::Result<()> {
    let family = Family::of(listener.local_addr()?.ip());
    transparent(&SockRef::from(listener), family)
}

/// Both steps can fail with `EADDRINUSE`: with `SO_REUSEADDR`, two binds of one port succeed until one listens.
fn listen(socket: Socket, addr: SocketAddr, backlog: i32) -> io::Result<Acceptor> {
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    Acceptor::new(socket.into())
}

/// What a client dialled whose connection was led to us. With REDIRECT the kernel remembers it (`SO_ORIGINAL_DST`); with
/// TPROXY, and where nothing was changed on the way, it is `local`, our own end of the connection.
pub(super) fn original_destination(stream: &std::net::TcpStream, local: SocketAddr) -> SocketAddr {
    let socket = SockRef::from(stream);
    let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    // Without connection tracking there is no answer, and no REDIRECT either.
    original.ok().and_then(|original| original.as_socket()).map_or(local, canonical)
}

/// Lets a socket have an address that this machine has not (`IP_TRANSPARENT`).
///
/// # Errors
/// It needs CAP_NET_ADMIN.
fn transparent(socket: &SockRef<'_>, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => socket.set_ip_transparent_v4(true),
        Family::V6 => socket.set_ip_transparent_v6(true),
    }
}

/// Whether this process may use addresses that are not this machine's.
pub(crate) fn may_be_transparent() -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
    socket.is_ok_and(|socket| transparent(&SockRef::from(&socket), Family::V4).is_ok())
}

/// Binds to an address, another machine's included where this process may.
fn bind(socket: SockRef<'_>, addr: SocketAddr, whose: Whose) -> io::Result<()> {
    let family = Family::of(addr.ip());
    match socket.bind(&addr.into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            // What is missing is the address, not the permission to do without it.
            transparent(&socket, family).map_err(|_| error)?;
            socket.bind(&addr.into())
        }
        // It may be another machine's all the same, and what is sent to it is taken in for transparent sockets alone.
        Ok(()) if whose == Whose::Anybodys && !addr.ip().is_unspecified() && transparent::anybody_may_bind(family) => {
            // Without the permission it is an address of ours, or the network's part is missing as well.
            let _ = transparent(&socket, family);
            Ok(())
        }
        bound => bound,
    }
}

/// Registers a socket with the runtime, in place of a type of tokio's: those do not report urgent data.
pub(super) fn watch<T: AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    #[expect(
        deprecated,
        reason = "deprecated for types that may not own their descriptor; ours do, and the replacement is unsafe"
    )]
    AsyncFd::with_interest(socket, interest)
}

/// Registers a control connection.
pub(super) fn watch_control(stream: std::net::TcpStream) -> io::Result<Watched> {
    watch(stream, Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY)
}

/// Options of a control connection, on either leg: no Nagle delay, urgent data read in its place (DESIGN §5.2),
/// keep-alive, a bound on unacknowledged data, zero linger.
///
/// `TCP_USER_TIMEOUT` also ends a connection whose peer answers every zero-window probe but reads nothing for
/// that long (`tcp_probe_timer` in Linux counts from the first probe, answered or not). On a control connection this
/// takes a peer that leaves whole socket buffers of replies unread; one that is merely suspended is not hit.
pub(super) fn control_options(socket: SockRef<'_>) -> io::Result<()> {
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
fn data_options(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_RETRIES)
}

/// How many bytes may wait unsent in the socket of a slow receiver: what TLS and interactive senders use, and little
/// enough that a client of 4 kB/s takes half of it within IIS' 30 s.
const UNSENT: u32 = 64 * 1024;

/// Limits what waits unsent for a receiver that is slow (`TCP_NOTSENT_LOWAT`). Without, the kernel takes up to 4 MB
/// (`net.ipv4.tcp_wmem`) and asks for more only when a third is gone; meanwhile the sender stands still, and IIS ends
/// what stands still for 30 s (`dataChannelTimeout`). For fast receivers it would only cost wake-ups.
pub(crate) fn limit_unsent(stream: &TcpStream) {
    // A kernel without it (gVisor) is no reason to end a transfer.
    let _unsupported = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
}

/// Acknowledges now what the peer has sent, its FIN most of all. Linux takes its time over that one, 40 ms or until we
/// have something to send (`tcp_fin` enters "pingpong" mode), and here nothing is sent to a server before the client has
/// ended, too. Meanwhile vsftpd sits in a `close` that lingers (`SO_LINGER`) and does not say 226.
pub(crate) fn acknowledge(stream: &TcpStream) {
    // Without it the acknowledgement is merely late.
    let _late = SockRef::from(stream).set_tcp_quickack(true);
}

/// Makes the close that follows a good one: what was written is still delivered, then FIN.
///
/// # Errors
/// Those of `setsockopt(2)`: the connection is already dead.
pub fn end_well(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(None)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use tokio::io::AsyncReadExt;

    use super::*;

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

    /// Both ends of a data connection that we opened: ours and the peer's.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = listen_data("127.0.0.1:0".parse().unwrap(), 8).unwrap();
        let ours = connect(listener.local_addr().unwrap(), ip("127.0.0.1"), Whose::Ours, SOON).await.unwrap();
        (ours, TcpStream::from_std(listener.accept().await.0).unwrap())
    }

    /// Both ends of a control connection, each with our options: the one that was opened, and the one accepted.
    async fn control_pair() -> [std::net::TcpStream; 2] {
        let (listener, addr) = listener("127.0.0.1");
        let opened = connect_control(addr, SOON).await.unwrap().into_inner();
        [opened, listener.accept().await.0]
    }

    #[tokio::test]
    async fn both_families_listen_on_one_port() {
        let (_six, addr) = listener("::");
        let four = listen_control(SocketAddr::new(ip("0.0.0.0"), addr.port()), 8).unwrap();
        let _client = connect_control(SocketAddr::new(ip("127.0.0.1"), addr.port()), SOON).await.unwrap();
        assert!(four.accept().await.1.is_ipv4());
    }

    #[tokio::test]
    async fn a_port_is_bound_again_while_old_connections_linger_in_time_wait() {
        let (listener, addr) = listener("127.0.0.1");
        let client = connect(addr, ip("127.0.0.1"), Whose::Ours, SOON).await.unwrap();
        let mut server = TcpStream::from_std(listener.accept().await.0).unwrap();
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
        for stream in control_pair().await {
            let socket = SockRef::from(&stream);
            assert!(
                socket.tcp_nodelay().unwrap() && socket.out_of_band_inline().unwrap() && socket.keepalive().unwrap()
            );
            let (time, interval) = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
            let detection = time + interval * socket.tcp_keepalive_retries().unwrap();
            assert_eq!((time, detection), (Duration::from_secs(60), Duration::from_secs(120)));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(detection), "it replaces the count of probes");
            assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
            assert!(socket.nonblocking().unwrap());
        }
    }

    #[tokio::test]
    async fn rel_16_data_connections_are_kept_alive_and_may_stall() {
        let listener = listen_data("127.0.0.1:0".parse().unwrap(), 8).unwrap();
        let opened = connect(listener.local_addr().unwrap(), ip("127.0.0.1"), Whose::Ours, SOON).await.unwrap();
        for stream in [opened.into_std().unwrap(), listener.accept().await.0] {
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
            assert_eq!(socket.tcp_user_timeout().unwrap(), None);
            assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
            assert!(socket.nonblocking().unwrap());
        }
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
        for (from, to) in [(0, 1), (1, 0)] {
            let ends = control_pair().await;
            ends.iter().for_each(|end| end.set_nonblocking(false).unwrap());
            let (mut peer, mut ours) = (&ends[from], &ends[to]);
            assert_eq!(SockRef::from(peer).send_out_of_band(b"\xff\xf4\xff").unwrap(), 3);
            peer.write_all(b"\xf2ABOR\r\n").unwrap();
            let mut bytes = [0; 10];
            ours.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"\xff\xf4\xff\xf2ABOR\r\n");
        }
    }
}
