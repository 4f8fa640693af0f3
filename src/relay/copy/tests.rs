//! Copies between real sockets: what each peer sees is what the kernel makes of it.
//!
//! Every test of what peers see runs over every path that the bytes can take.

mod paths;
mod servers;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(super) use self::servers::{close_lingering, does_not_stand_still, is_acknowledged_at_once};
use super::buffer::SIZE as BUFFER;
use super::*;
use crate::relay::splice::When;

/// Each of these as a test of its own for each path.
macro_rules! over_every_path {
    ($($test:ident,)+) => {
        mod copied {
            $(#[tokio::test] async fn $test() { super::$test(super::When::Never).await; })+
        }
        mod spliced {
            $(#[tokio::test] async fn $test() { super::$test(super::When::Always).await; })+
        }
        mod as_it_comes {
            $(#[tokio::test] async fn $test() { super::$test(super::When::Long).await; })+
        }
    };
}
use over_every_path;

over_every_path! {
    rel_01_a_sender_that_resets_after_n_bytes_is_a_reset_at_the_receiver,
    rel_01_a_receiver_that_resets_after_n_bytes_is_a_reset_at_the_sender,
    rel_01_a_receiver_that_resets_amid_the_stream_is_a_reset_at_the_sender,
    rel_01_a_reset_is_noticed_while_the_other_side_does_not_read,
    rel_04_a_reset_after_fin_takes_nothing_back,
    rel_04_a_reset_after_fin_takes_nothing_back_that_waits_in_our_socket,
    rel_04_waiting_for_fin_takes_nothing_back,
    rel_01_a_reset_after_fin_is_one_where_bytes_go_both_ways,
    rel_04_a_slow_reader_gets_every_byte,
    rel_04_a_reader_that_starts_after_the_end_of_the_copy_gets_every_byte,
    rel_05_half_close_keeps_the_other_direction,
    bytes_both_ways_at_once_arrive_and_are_counted,
    rel_19_silence_resets_both,
    rel_19_a_peer_that_does_not_read_is_idle,
    rel_01_cancellation_resets_both,
    rel_28_a_panic_resets_both,
}

/// For what must happen: far more than it takes.
const SOON: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_secs(300);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// A peer's end and ours. Small buffers at the peer, so that one that does not read is soon felt.
pub(super) async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let peer = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let ours = listener.accept().await.unwrap().0;
    ours.set_zero_linger().unwrap();
    (peer, ours)
}

/// A running copy, and the two peers at its ends.
struct Setup {
    client: TcpStream,
    server: TcpStream,
    pipes: Arc<Pipes>,
    moved: Arc<Moved>,
    flushed: mpsc::UnboundedReceiver<Flushed>,
    copy: JoinHandle<Copied>,
}

impl Setup {
    async fn new(when: When, idle: Duration) -> Self {
        Self::with(Arc::new(Pipes::new(when)), idle).await
    }

    async fn with(pipes: Arc<Pipes>, idle: Duration) -> Self {
        let ((client, our_client), (server, our_server)) = (connected().await, connected().await);
        let moved = Arc::new(Moved::default());
        let (progress, flushed) = mpsc::unbounded_channel();
        let (counters, shared) = (moved.clone(), pipes.clone());
        // Most tests do not listen to the progress.
        let copy = tokio::spawn(async move {
            copy_counted(our_client, our_server, &shared, idle, &counters, |leg| {
                let _ = progress.send(leg);
            })
            .await
        });
        Self { client, server, pipes, moved, flushed, copy }
    }

    /// The peers, that of `leg` first.
    fn peers(self, leg: Leg) -> (TcpStream, TcpStream, JoinHandle<Copied>) {
        match leg {
            Leg::Client => (self.client, self.server, self.copy),
            Leg::Server => (self.server, self.client, self.copy),
        }
    }
}

/// Closes as a crashed peer does.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// All that `stream` still carries, and how it ended.
async fn drain(stream: &mut TcpStream) -> (usize, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = soon("the end of the stream", stream.read_to_end(&mut bytes)).await;
    (bytes.len(), end.map(drop))
}

async fn assert_reset(stream: &mut TcpStream) {
    let (_, end) = drain(stream).await;
    assert_eq!(end.expect_err("a cut transfer looks complete").kind(), io::ErrorKind::ConnectionReset);
}

const SIZES: [usize; 5] = [0, 1, BUFFER - 1, BUFFER + 1, 300_000];

async fn rel_01_a_sender_that_resets_after_n_bytes_is_a_reset_at_the_receiver(when: When) {
    for leg in Leg::BOTH {
        for n in SIZES {
            let (mut sender, mut receiver, copy) = Setup::new(when, NEVER).await.peers(leg);
            let mut received = vec![1; n];
            let sent = vec![0; n];
            let (wrote, read) = tokio::join!(sender.write_all(&sent), receiver.read_exact(&mut received));
            wrote.unwrap();
            read.unwrap();
            reset(sender);
            assert_reset(&mut receiver).await;
            let copied = copy.await.unwrap();
            assert_eq!(copied.end, CopyEnd::Reset(leg), "after {n} bytes");
            let n = n as u64;
            assert_eq!((copied.up, copied.down), if leg == Leg::Client { (n, 0) } else { (0, n) });
        }
    }
}

async fn rel_01_a_receiver_that_resets_after_n_bytes_is_a_reset_at_the_sender(when: When) {
    for leg in Leg::BOTH {
        for n in SIZES {
            let (mut receiver, mut sender, copy) = Setup::new(when, NEVER).await.peers(leg);
            let mut received = vec![1; n];
            let sent = vec![0; n];
            let (wrote, read) = tokio::join!(sender.write_all(&sent), receiver.read_exact(&mut received));
            wrote.unwrap();
            read.unwrap();
            reset(receiver);
            assert_reset(&mut sender).await;
            assert_eq!(copy.await.unwrap().end, CopyEnd::Reset(leg), "after {n} bytes");
        }
    }
}

async fn rel_01_a_receiver_that_resets_amid_the_stream_is_a_reset_at_the_sender(when: When) {
    for leg in [Leg::Client, Leg::Server, Leg::Client, Leg::Server] {
        let (mut receiver, mut sender, copy) = Setup::new(when, NEVER).await.peers(leg);
        let sending = tokio::spawn(async move {
            let chunk = vec![0; BUFFER];
            loop {
                if let Err(error) = sender.write_all(&chunk).await {
                    return error.kind();
                }
            }
        });
        soon("data", receiver.read_exact(&mut vec![0; 1_000_000])).await.unwrap();
        reset(receiver);
        assert_eq!(soon("the end", copy).await.unwrap().end, CopyEnd::Reset(leg));
        assert_eq!(soon("an error", sending).await.unwrap(), io::ErrorKind::ConnectionReset);
    }
}

/// Sends without end, until the copy has taken nothing for a while.
async fn fill(sender: &TcpStream, moved: &Moved) -> usize {
    let chunk = vec![0; BUFFER];
    let (mut sent, mut last) = (0, u64::MAX);
    while last != moved.up() + moved.down() {
        last = moved.up() + moved.down();
        while let Ok(n) = sender.try_write(&chunk) {
            sent += n;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sent
}

async fn rel_01_a_reset_is_noticed_while_the_other_side_does_not_read(when: When) {
    for leg in Leg::BOTH {
        let setup = Setup::new(when, NEVER).await;
        let moved = setup.moved.clone();
        let (sender, mut stalled, copy) = setup.peers(leg);
        let _sent = fill(&sender, &moved).await;
        reset(sender);
        assert_eq!(soon("the end", copy).await.unwrap().end, CopyEnd::Reset(leg));
        assert_reset(&mut stalled).await;
    }
}

/// More than the peer's buffers hold, and less than ours.
const TAIL: usize = 400_000;

/// Reads to FIN.
async fn all(stream: &mut TcpStream) -> io::Result<usize> {
    let mut received = Vec::new();
    soon("the end of the stream", stream.read_to_end(&mut received)).await
}

/// As a server that has closed long ago, asked by a keep-alive probe.
async fn rel_04_a_reset_after_fin_takes_nothing_back(when: When) {
    for leg in Leg::BOTH {
        let setup = Setup::new(when, NEVER).await;
        let mut flushed = setup.flushed;
        let (mut first, mut second) = match leg {
            Leg::Client => (setup.client, setup.server),
            Leg::Server => (setup.server, setup.client),
        };
        first.write_all(&[7; TAIL]).await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(soon("the flush", flushed.recv()).await, Some(Flushed(leg.other())));
        reset(first);
        let copied = soon("the end", setup.copy).await.unwrap();
        assert_eq!((copied.end, copied.up + copied.down), (CopyEnd::Complete, TAIL as u64));
        assert_eq!(all(&mut second).await.unwrap(), TAIL);
    }
}

/// The sender is gone before the receiver's socket has room for all that it sent.
async fn rel_04_a_reset_after_fin_takes_nothing_back_that_waits_in_our_socket(when: When) {
    let Setup { mut client, mut server, copy, moved, mut flushed, .. } = Setup::new(when, NEVER).await;
    let sent = fill(&server, &moved).await;
    server.shutdown().await.unwrap();
    let mut received = 0;
    while !has_given_everything(&server) {
        received += soon("data", client.read(&mut [0; 4096])).await.unwrap();
    }
    assert!(flushed.try_recv().is_err(), "nothing is left in our socket");
    reset(server);
    // Whoever looks at errors only has seen it by then.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(received + all(&mut client).await.unwrap(), sent);
    drop(client);
    let copied = soon("the end", copy).await.unwrap();
    assert_eq!(copied, Copied { up: 0, down: sent as u64, end: CopyEnd::Complete });
}

/// Whether the peer's kernel has all bytes and FIN: FIN-WAIT-2.
fn has_given_everything(stream: &TcpStream) -> bool {
    let port = format!(":{:04X}", stream.local_addr().unwrap().port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_ours = fields.next().is_some_and(|local| local.ends_with(&port));
        is_ours && fields.nth(1) == Some("05")
    })
}

/// A client that is slower than `timeouts.data_idle` with what our socket holds for it.
async fn rel_04_waiting_for_fin_takes_nothing_back(when: When) {
    let Setup { mut client, mut server, copy, mut flushed, .. } = Setup::new(when, Duration::from_secs(300)).await;
    server.write_all(&[7; TAIL]).await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(soon("the flush", flushed.recv()).await, Some(Flushed(Leg::Client)));
    skip(301).await;
    assert_eq!(soon("the end", copy).await.unwrap().end, CopyEnd::Complete);
    assert_eq!(all(&mut client).await.unwrap(), TAIL);
}

async fn rel_01_a_reset_after_fin_is_one_where_bytes_go_both_ways(when: When) {
    let Setup { mut client, mut server, copy, .. } = Setup::new(when, NEVER).await;
    client.write_all(b"up").await.unwrap();
    soon("data", server.read_exact(&mut [0; 2])).await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(soon("FIN", client.read(&mut [0; 1])).await.unwrap(), 0);
    reset(server);
    assert_eq!(soon("the end", copy).await.unwrap().end, CopyEnd::Reset(Leg::Server));
    let write = async { while client.write_all(b"x").await.is_ok() {} };
    soon("a failed write", write).await;
}

async fn rel_04_a_slow_reader_gets_every_byte(when: When) {
    let Setup { mut client, mut server, copy, mut flushed, .. } = Setup::new(when, NEVER).await;
    let sent: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    let expected = sent.clone();
    let server = tokio::spawn(async move {
        server.write_all(&sent).await.unwrap();
        server.shutdown().await.unwrap();
        drain(&mut server).await
    });
    let mut received = Vec::new();
    while soon("data", client.read_buf(&mut received)).await.unwrap() > 0 {
        if received.len() % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    assert!(received == expected, "{} of {} bytes, or other ones", received.len(), expected.len());
    assert_eq!(flushed.recv().await, Some(Flushed(Leg::Client)));
    drop(client);
    assert_eq!(copy.await.unwrap(), Copied { up: 0, down: 4_000_000, end: CopyEnd::Complete });
    let (_, end) = server.await.unwrap();
    end.expect("the server sees a good end");
}

async fn rel_04_a_reader_that_starts_after_the_end_of_the_copy_gets_every_byte(when: When) {
    let Setup { mut client, mut server, copy, .. } = Setup::new(when, NEVER).await;
    client.shutdown().await.unwrap();
    server.write_all(&[7; 1000]).await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(soon("the end", copy).await.unwrap().end, CopyEnd::Complete);
    let (n, end) = drain(&mut client).await;
    end.expect("both connections end well");
    assert_eq!(n, 1000);
}

async fn rel_05_half_close_keeps_the_other_direction(when: When) {
    for leg in Leg::BOTH {
        let mut setup = Setup::new(when, NEVER).await;
        let (progress, moved) = (&mut setup.flushed, setup.moved.clone());
        let (first, second) = match leg {
            Leg::Client => (&mut setup.client, &mut setup.server),
            Leg::Server => (&mut setup.server, &mut setup.client),
        };
        first.write_all(b"up").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(drain(second).await.0, 2);
        assert_eq!(soon("the flush", progress.recv()).await, Some(Flushed(leg.other())));
        assert_eq!(moved.up() + moved.down(), 2);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!setup.copy.is_finished());
        second.write_all(b"answer").await.unwrap();
        second.shutdown().await.unwrap();
        let (n, end) = drain(first).await;
        end.expect("a good end");
        assert_eq!(n, 6);
        assert_eq!(soon("the flush", progress.recv()).await, Some(Flushed(leg)));
        let copied = setup.copy.await.unwrap();
        assert_eq!(copied.end, CopyEnd::Complete);
        assert_eq!((copied.up, copied.down), if leg == Leg::Client { (2, 6) } else { (6, 2) });
    }
}

async fn bytes_both_ways_at_once_arrive_and_are_counted(when: When) {
    let Setup { client, server, copy, .. } = Setup::new(when, NEVER).await;
    let exchange = |stream: TcpStream, n: usize| async move {
        let (mut read, mut write) = stream.into_split();
        let writing = tokio::spawn(async move {
            write.write_all(&vec![1; n]).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        soon("the end", read.read_to_end(&mut received)).await.unwrap();
        writing.await.unwrap();
        received.len()
    };
    let (down, up) = tokio::join!(exchange(client, 5_000_000), exchange(server, 3_000_000));
    assert_eq!((up, down), (5_000_000, 3_000_000));
    assert_eq!(copy.await.unwrap(), Copied { up: 5_000_000, down: 3_000_000, end: CopyEnd::Complete });
}

/// Moves the clock without waiting. It runs on afterwards, so that sockets take their time as usual.
async fn skip(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
    // Time for the copy to notice.
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn rel_19_silence_resets_both(when: When) {
    let Setup { mut client, mut server, copy, moved, .. } = Setup::new(when, Duration::from_secs(300)).await;
    // Bytes either way, closer together than the limit, keep it alive for much longer than the limit.
    for n in 0..8 {
        let (from, to) = if n % 2 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
        from.write_all(b"x").await.unwrap();
        soon("the byte", to.read_u8()).await.unwrap();
        skip(200).await;
    }
    skip(90).await;
    assert!(!copy.is_finished());
    skip(10).await;
    assert_eq!(soon("the end", copy).await.unwrap(), Copied { up: 4, down: 4, end: CopyEnd::Idle });
    assert_eq!((moved.up(), moved.down()), (4, 4));
    assert_reset(&mut client).await;
    assert_reset(&mut server).await;
}

async fn rel_19_a_peer_that_does_not_read_is_idle(when: When) {
    let Setup { mut client, server, copy, moved, .. } = Setup::new(when, Duration::from_secs(300)).await;
    let _sent = fill(&server, &moved).await;
    skip(290).await;
    assert!(!copy.is_finished());
    skip(10).await;
    assert_eq!(soon("the end", copy).await.unwrap().end, CopyEnd::Idle);
    assert_reset(&mut client).await;
}

async fn rel_01_cancellation_resets_both(when: When) {
    let Setup { mut client, mut server, copy, moved, .. } = Setup::new(when, NEVER).await;
    client.write_all(b"part of a file").await.unwrap();
    soon("data", server.read_exact(&mut [0; 14])).await.unwrap();
    copy.abort();
    assert_reset(&mut client).await;
    assert_reset(&mut server).await;
    assert_eq!(moved.up(), 14);
}

async fn rel_28_a_panic_resets_both(when: When) {
    let ((mut client, our_client), (mut server, our_server)) = (connected().await, connected().await);
    let copy = tokio::spawn(async move {
        copy_counted(our_client, our_server, &Pipes::new(when), NEVER, &Moved::default(), |_| panic!("a bug")).await
    });
    server.shutdown().await.unwrap();
    assert!(copy.await.unwrap_err().is_panic());
    // The FIN was passed on before the panic, so the reset shows when writing.
    let write = async { while client.write_all(b"x").await.is_ok() {} };
    soon("a failed write", write).await;
    assert_reset(&mut server).await;
}
