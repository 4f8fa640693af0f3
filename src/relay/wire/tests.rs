//! Control connections between real sockets, plain and within TLS.

mod leaving;

use std::future::poll_fn;
use std::net::TcpStream;
use std::pin::pin;
use std::task::Poll;
use std::thread::JoinHandle;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};

use super::*;
use crate::relay::socket::connect_control;
use crate::relay::tls::self_signed;

/// A wire of ours, and its peer, which takes little before it reads.
async fn pair() -> (Wire, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let ours = connect_control(listener.local_addr().unwrap(), Duration::from_secs(5)).await.unwrap();
    SockRef::from(ours.get_ref()).set_send_buffer_size(4096).unwrap();
    (Wire::new(ours, Batching::Together), listener.accept().unwrap().0)
}

#[tokio::test]
async fn rel_04_a_slow_reader_that_has_closed_its_direction_gets_everything() {
    const SIZE: usize = 1 << 20;
    let (mut wire, mut peer) = pair().await;
    wire.send(vec![b'x'; SIZE].into(), false);
    peer.shutdown(Shutdown::Write).unwrap();
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        let mut got = Vec::new();
        peer.read_to_end(&mut got).map(|_| got.len())
    });
    wire.finish(Duration::from_secs(20)).await;
    assert_eq!(reader.join().unwrap().unwrap(), SIZE);
}

/// What waits in our socket when we close behind the peer's FIN still arrives, and an end in good order after it.
#[tokio::test]
async fn rel_04_closing_behind_the_peers_fin_takes_nothing_back() {
    let (mut wire, mut peer) = pair().await;
    peer.shutdown(Shutdown::Write).unwrap();
    wire.ready(true).await.unwrap();
    assert_eq!(wire.read(&mut [0; 1]), Received::Eof);
    wire.send(vec![b'x'; 2000].into(), false);
    wire.flush();
    wire.finish(Duration::from_secs(20)).await;
    let mut got = Vec::new();
    assert_eq!(peer.read_to_end(&mut got).unwrap(), 2000);
}

#[tokio::test]
async fn rel_11_a_flood_does_not_keep_a_timeout_from_being_seen() {
    let (mut wire, mut peer) = pair().await;
    peer.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while let Ok(count) = peer.write(&[0; 1 << 16]) {
        sent += count;
    }
    assert!(sent > 256 * 1024, "{sent} bytes are no flood");
    wire.ready(true).await.unwrap();
    {
        let mut drain = pin!(wire.drain());
        let first = poll_fn(|cx| Poll::Ready(drain.as_mut().poll(cx))).await;
        assert!(first.is_pending());
    }
    assert!(matches!(wire.read(&mut [0; 1]), Received::Bytes { .. }), "one poll has read everything");
}

/// Both sides of a handshake: ours and the peer's.
fn connections(we_are_server: bool) -> (Connection, Connection) {
    let (client, server) = self_signed();
    let client = ClientConnection::new(client, ServerName::try_from("ftp.example").unwrap()).unwrap();
    let server = ServerConnection::new(server).unwrap();
    if we_are_server { (server.into(), client.into()) } else { (client.into(), server.into()) }
}

/// A peer that blocks.
struct Peer {
    conn: Connection,
    sock: TcpStream,
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.conn.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.conn.complete_io(&mut self.sock)?,
                outcome => return outcome,
            };
        }
    }
}

impl Write for Peer {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        while self.conn.is_handshaking() {
            self.conn.complete_io(&mut self.sock)?;
        }
        let count = self.conn.writer().write(buffer)?;
        self.flush().map(|()| count)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.conn.wants_write() {
            self.conn.write_tls(&mut self.sock)?;
        }
        Ok(())
    }
}

/// Has a peer act in a thread of its own.
fn peer<T: Send + 'static>(
    conn: Connection,
    sock: TcpStream,
    act: impl FnOnce(Peer) -> T + Send + 'static,
) -> JoinHandle<T> {
    sock.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    std::thread::spawn(move || act(Peer { conn, sock }))
}

/// As a session's task does: flush, wait, read. `None`: the handshake has ended so.
async fn next(wire: &mut Wire) -> Result<Vec<u8>, Option<io::Result<()>>> {
    let step = async {
        loop {
            wire.flush();
            wire.ready(true).await.unwrap();
            let mut buffer = [0; 4096];
            let received = wire.read(&mut buffer);
            if let Some(end) = wire.handshake() {
                return Err(Some(end));
            }
            match received {
                Received::Bytes { count, .. } => return Ok(buffer[..count].to_vec()),
                Received::Nothing => {}
                Received::Eof | Received::Reset => return Err(None),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), step).await.expect("nothing happened")
}

/// Bytes until there are as many as expected.
async fn expect(wire: &mut Wire, expected: &[u8]) {
    let mut got = Vec::new();
    while got.len() < expected.len() {
        got.extend(next(wire).await.unwrap());
    }
    assert_eq!(got.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

async fn shaken_hands(wire: &mut Wire) {
    assert!(matches!(next(wire).await, Err(Some(Ok(())))), "no handshake");
}

#[tokio::test]
async fn lines_go_within_tls_in_either_role() {
    for we_are_server in [true, false] {
        let (mut wire, socket) = pair().await;
        let (ours, theirs) = connections(we_are_server);
        let peer = peer(theirs, socket, |mut peer| {
            let mut before = [0; 4];
            peer.sock.read_exact(&mut before).unwrap();
            peer.write_all(b"USER a\r\n").unwrap();
            let mut reply = [0; 20_000];
            peer.read_exact(&mut reply).unwrap();
            peer.conn.send_close_notify();
            peer.flush().unwrap();
            let mut rest = Vec::new();
            // An error if there is no close_notify.
            peer.read_to_end(&mut rest).unwrap();
            (before, reply, rest)
        });
        wire.send("234 ".into(), false);
        wire.start_tls(ours, false);
        shaken_hands(&mut wire).await;
        expect(&mut wire, b"USER a\r\n").await;
        for _ in 0..1000 {
            wire.send("331 password please\r".into(), false);
        }
        assert!(matches!(next(&mut wire).await, Err(None)), "close_notify is an end");
        wire.finish(Duration::from_secs(20)).await;
        let (before, reply, rest) = peer.join().unwrap();
        assert_eq!(&before, b"234 ");
        assert!(reply.chunks(20).all(|line| line == b"331 password please\r"));
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn sec_16_plain_text_in_place_of_a_handshake_is_refused() {
    let (mut wire, mut socket) = pair().await;
    let (ours, _) = connections(true);
    // In one segment with what led to the switch, or later: it is in the socket, and nobody has read it.
    socket.write_all(b"USER x\r\nPASS y\r\n").unwrap();
    wire.start_tls(ours, false);
    let Err(Some(Err(error))) = next(&mut wire).await else { panic!("taken for a handshake") };
    assert!(error.to_string().contains("corrupt message"), "{error}");
    // The peer does not close, so this takes as long as it may.
    wire.finish(Duration::from_millis(100)).await;
    let mut alert = Vec::new();
    socket.read_to_end(&mut alert).unwrap();
    assert_eq!(alert.first(), Some(&21), "the content type of an alert");
}

/// vsftpd with implicit TLS does that when it ends. rustls would panic in debug builds if Cargo.toml did not turn off its
/// assertions.
#[tokio::test]
async fn plain_text_behind_our_close_notify_is_a_failure_and_no_panic() {
    let (mut wire, socket) = pair().await;
    let (ours, theirs) = connections(false);
    let peer = peer(theirs, socket, |mut peer| {
        let mut rest = Vec::new();
        // An error if there is no close_notify.
        peer.read_to_end(&mut rest).unwrap();
        peer.sock.write_all(b"500 oops: child died\r\n").unwrap();
        rest
    });
    wire.start_tls(ours, false);
    shaken_hands(&mut wire).await;
    wire.shutdown();
    wire.flush();
    let received = loop {
        match wire.read(&mut [0; 64]) {
            Received::Nothing => wire.ready(true).await.unwrap(),
            other => break other,
        }
    };
    assert_eq!(received, Received::Reset);
    assert!(peer.join().unwrap().is_empty());
}

#[tokio::test]
async fn a_peer_that_leaves_amid_the_handshake_has_failed() {
    let (mut wire, socket) = pair().await;
    wire.start_tls(connections(true).0, false);
    drop(socket);
    assert!(matches!(next(&mut wire).await, Err(Some(Err(_)))));
}

/// CPU time that this thread has taken.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Whoever tries a port of implicit TLS with something else leaves again, and is not waited for at full speed.
#[tokio::test]
async fn rel_11_nobody_spins_behind_a_handshake_that_failed() {
    for rest in [&b""[..], &[b'x'; 100_000]] {
        for leaves in [true, false] {
            let (mut wire, mut peer) = pair().await;
            let (ours, _) = connections(true);
            wire.start_tls(ours, true);
            peer.write_all(b"USER alice\r\n").unwrap();
            let failed = next(&mut wire).await.unwrap_err().expect("the end of a handshake");
            failed.unwrap_err();
            let (started, before) = (std::time::Instant::now(), cpu_time());
            let peer = std::thread::spawn(move || {
                // The other end of a pair takes no more than a few KiB before it reads.
                peer.write_all(rest).unwrap();
                if leaves {
                    peer.shutdown(Shutdown::Write).unwrap();
                }
                let mut heard = Vec::new();
                peer.read_to_end(&mut heard).unwrap();
                (heard, peer)
            });
            wire.finish(Duration::from_secs(if leaves { 20 } else { 2 })).await;
            assert!(!leaves || started.elapsed() < Duration::from_secs(10), "not left with the peer");
            let spent = cpu_time() - before;
            assert!(spent < Duration::from_millis(500), "{spent:?} of CPU time for nothing");
            let (heard, _peer) = peer.join().unwrap();
            assert_eq!(heard.first(), Some(&21), "an alert: {heard:?}");
        }
    }
}

/// What failed is told once, although the peer goes on.
#[tokio::test]
async fn a_handshake_fails_once() {
    let (mut wire, mut peer) = pair().await;
    let (ours, _) = connections(false);
    wire.start_tls(ours, false);
    peer.write_all(b"421 no.\r\n").unwrap();
    next(&mut wire).await.unwrap_err().expect("the end of a handshake").unwrap_err();
    peer.write_all(b"421 no!\r\n").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(next(&mut wire).await.unwrap_err().is_none(), "nothing but the peer's end follows");
}
