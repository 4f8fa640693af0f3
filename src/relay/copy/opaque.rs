//! Copying what is not ours to understand: a reset goes behind the bytes that came before it, as it does without us.
//!
//! [`copy_counted`](super::copy_counted) cuts both connections as soon as one is reset: FTP in plain text ends a file by
//! FIN, so there is nothing to be saved. TLS has an end mark of its own, `close_notify`, behind which a reset takes nothing
//! back, and there are peers that end so: curl (7.88 with OpenSSL) closes after an upload without having read the
//! server's TLS 1.3 tickets, which makes the kernel send a reset (RFC 1122 §4.2.2.13). A server that is reached directly
//! still reads what had arrived, mostly all of it, and answers 226; were the rest cut here, it would mostly answer 426.

use std::net::Shutdown;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::{
    Activity, Copied, CopyEnd, Direction, Moved, Patience, assert_cut_unless_ended, end_both_well, failure,
    had_finished, settle,
};
use crate::addr::{Leg, PerLeg};
use crate::relay::socket;
use crate::relay::splice::Pipes;

/// How often to look whether the kernel has sent everything; nothing tells when it has.
const LOOK: Duration = Duration::from_millis(5);

/// As [`copy_counted`](super::copy_counted), but what a peer had sent before its connection failed is handed on, and
/// leaves this machine, before the other connection is reset. That takes `idle` at most.
pub async fn copy_opaque(client: TcpStream, server: TcpStream, pipes: &Pipes, idle: Duration, moved: &Moved) -> Copied {
    let done = PerLeg { client: AtomicBool::new(false), server: AtomicBool::new(false) };
    let end = match run(&client, &server, pipes, idle, moved, &done).await {
        Ok(()) => CopyEnd::Complete,
        Err(end) => end,
    };
    if let CopyEnd::Reset(leg) = end {
        let other = if leg == Leg::Client { &server } else { &client };
        if done[leg.other()].load(Relaxed) {
            // FIN is out behind all of it already; the kernel sees to the rest, unless this fails, which is a reset.
            let _dead_already = socket::end_well(other).is_err();
        } else {
            let _in_time = tokio::time::timeout(idle, sent(other)).await.is_ok();
        }
    }
    Copied { up: moved.up(), down: moved.down(), end }
}

async fn run(
    client: &TcpStream,
    server: &TcpStream,
    pipes: &Pipes,
    idle: Duration,
    moved: &Moved,
    done: &PerLeg<AtomicBool>,
) -> Result<(), CopyEnd> {
    assert_cut_unless_ended(client, server);
    let activity = Activity::new();
    let failed = PerLeg { client: AtomicBool::new(false), server: AtomicBool::new(false) };
    let direction = |from, to, to_leg: Leg, moved| Direction {
        from,
        to,
        to_leg,
        pipes,
        moved,
        done: &done[to_leg],
        activity: &activity,
        patience: Patience::default(),
        from_failed: Some(&failed[to_leg.other()]),
    };
    let up = direction(client, server, Leg::Server, &moved.up);
    let down = direction(server, client, Leg::Client, &moved.down);
    let has_more = |leg: Leg, stream: &TcpStream| {
        // Asking takes the error: without this the end of what is left would pass for FIN.
        failed[leg].fetch_or(!had_finished(stream), Relaxed);
        !done[leg.other()].load(Relaxed)
    };
    let outcome = tokio::select! {
        biased;
        ended = both(one_way(&up, &failed), one_way(&down, &failed)) => ended.map_err(CopyEnd::Reset),
        leg = failure(client, server, has_more) => Err(CopyEnd::Reset(leg)),
        () = activity.idle_for(idle) => Err(CopyEnd::Idle),
    };
    settle(outcome, moved, done)?;
    end_both_well(client, server)
}

/// Runs one direction. A leg that cannot be written to has failed, and must not seem to have ended well when it has been
/// read to its end.
async fn one_way(direction: &Direction<'_>, failed: &PerLeg<AtomicBool>) -> Result<(), Leg> {
    let ended = async {
        direction.pass_bytes().await?;
        SockRef::from(direction.to).shutdown(Shutdown::Write).map_err(|_| direction.to_leg)
    };
    match ended.await {
        Ok(()) => direction.done.store(true, Relaxed),
        Err(leg) => {
            failed[leg].store(true, Relaxed);
            return Err(leg);
        }
    }
    Ok(())
}

/// Both directions, to the end of all that can still arrive: when a leg has failed, what it had sent is first handed on.
async fn both(
    up: impl Future<Output = Result<(), Leg>>,
    down: impl Future<Output = Result<(), Leg>>,
) -> Result<(), Leg> {
    let (mut up, mut down) = (pin!(up), pin!(down));
    tokio::select! {
        ended = &mut up => match ended {
            Err(Leg::Client) => ended,
            Ok(()) | Err(Leg::Server) => down.await.and(ended),
        },
        ended = &mut down => match ended {
            Err(Leg::Server) => ended,
            Ok(()) | Err(Leg::Client) => up.await.and(ended),
        },
    }
}

/// Returns once the kernel has sent all that this socket was given, or the connection has failed.
async fn sent(stream: &TcpStream) {
    // With this, poll(2) says "writable" only when nothing is left unsent (tcp(7), TCP_NOTSENT_LOWAT).
    if SockRef::from(stream).set_tcp_notsent_lowat(1).is_err() {
        return;
    }
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    while let Ok(0) = poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&now)) {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::relay::splice::When;

    const SOON: Duration = Duration::from_secs(10);

    /// Ours and the peer's end of a connection, each with buffers of this size where one is given.
    async fn pair(ours: Option<u32>, peers: Option<u32>) -> (TcpStream, TcpStream) {
        let listener = TcpSocket::new_v4().unwrap();
        if let Some(size) = peers {
            listener.set_recv_buffer_size(size).unwrap();
        }
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = listener.listen(1).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(size) = ours {
            socket.set_send_buffer_size(size).unwrap();
            socket.set_recv_buffer_size(size.max(1 << 18)).unwrap();
        }
        let ours = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        ours.set_zero_linger().unwrap();
        (ours, listener.accept().await.unwrap().0)
    }

    /// All that comes, and how it ends.
    async fn rest(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = Vec::new();
        let mut buffer = [0; 1000];
        loop {
            match tokio::time::timeout(SOON, stream.read(&mut buffer)).await.expect("an end") {
                Ok(0) => return (bytes, Ok(())),
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
                Err(error) => return (bytes, Err(error)),
            }
        }
    }

    /// `waits_in`: the buffer for the server is this large, and what does not fit waits at the client's end.
    async fn resets_behind_its_bytes(when: When, waits_in: u32, server_talks: bool) {
        let sent_up: Vec<u8> = (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let (our_client, mut client) = pair(Some(1 << 18), None).await;
        let (our_server, mut server) = pair(Some(waits_in), Some(2048)).await;
        let copied = tokio::spawn(async move {
            copy_opaque(our_client, our_server, &Pipes::new(when), SOON, &Moved::default()).await
        });
        client.write_all(&sent_up).await.unwrap();
        sent(&client).await;
        client.set_zero_linger().unwrap();
        drop(client);
        if server_talks {
            // A ticket, for nobody.
            server.write_all(b"ticket").await.unwrap();
        }
        // Time for us to see it, and to do the wrong thing.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!copied.is_finished(), "the server has not got everything yet");
        let (got, end) = rest(&mut server).await;
        assert!(got == sent_up, "{} of {} bytes ({when:?}, {waits_in})", got.len(), sent_up.len());
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let copied = copied.await.unwrap();
        assert_eq!((copied.up, copied.end), (100_000, CopyEnd::Reset(Leg::Client)));
    }

    #[tokio::test]
    async fn rel_01_a_reset_goes_behind_the_bytes_that_came_before_it() {
        for when in [When::Never, When::Long, When::Always] {
            for waits_in in [2048, 1 << 18] {
                for server_talks in [false, true] {
                    resets_behind_its_bytes(when, waits_in, server_talks).await;
                }
            }
        }
    }

    #[tokio::test]
    async fn rel_01_an_end_behind_a_failed_write_is_no_fin() {
        let (our_client, client) = pair(None, None).await;
        let (our_server, mut server) = pair(None, None).await;
        let copied = tokio::spawn(async move {
            copy_opaque(our_client, our_server, &Pipes::new(When::Never), SOON, &Moved::default()).await
        });
        client.set_zero_linger().unwrap();
        drop(client);
        server.write_all(b"ticket").await.unwrap();
        assert_eq!(rest(&mut server).await.1.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(copied.await.unwrap().end, CopyEnd::Reset(Leg::Client));
    }

    /// The reset that follows a FIN takes nothing back, bytes the other way or not.
    #[tokio::test]
    async fn rel_04_a_reset_behind_fin_takes_nothing_back() {
        let (our_client, mut client) = pair(None, None).await;
        let (our_server, mut server) = pair(Some(1 << 18), Some(2048)).await;
        let moved = Arc::new(Moved::default());
        let counted = Arc::clone(&moved);
        let copied =
            tokio::spawn(
                async move { copy_opaque(our_client, our_server, &Pipes::new(When::Never), SOON, &counted).await },
            );
        server.write_all(b"ticket").await.unwrap();
        client.read_exact(&mut [0; 6]).await.unwrap();
        client.write_all(&[7; 100_000]).await.unwrap();
        client.shutdown().await.unwrap();
        while moved.up() < 100_000 {
            tokio::time::sleep(LOOK).await;
        }
        client.set_zero_linger().unwrap();
        drop(client);
        let (got, end) = rest(&mut server).await;
        assert_eq!((got.len(), end.is_ok()), (100_000, true));
        drop(server);
        copied.await.unwrap();
    }
}
