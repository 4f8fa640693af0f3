//! What is special about the paths: which is taken when, and what pipes could do wrong.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::relay::splice::Pipe;

over_every_path! {
    sixty_four_mebibytes_arrive_in_their_order_at_a_slow_reader,
    rel_05_half_close_with_bytes_on_the_way_loses_none,
    rel_01_bytes_of_a_reset_transfer_never_reach_the_next_one,
    an_urgent_byte_ends_nothing,
    the_end_of_a_download_is_acknowledged_at_once,
    rel_17_the_sender_does_not_stand_still_for_long_while_a_slow_receiver_reads,
}

/// Bytes that are not the same anywhere near: a pipe or a buffer that mixes up, loses or repeats some is found out.
fn pattern() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    // A prime, so that no buffer's size divides it.
    (0..1_000_003).map(|_| next()).collect()
}

/// Sends `total` bytes of the pattern, in pieces of every size, and FIN.
async fn send_pattern(mut stream: TcpStream, total: usize) -> TcpStream {
    let pattern = pattern();
    let (mut sent, mut size) = (0, 1);
    while sent < total {
        let start = sent % pattern.len();
        let n = size.min(pattern.len() - start).min(total - sent);
        stream.write_all(&pattern[start..start + n]).await.unwrap();
        sent += n;
        size = size * 7 % 300_007;
    }
    stream.shutdown().await.unwrap();
    stream
}

/// Reads to FIN, and rests now and then; how many bytes there were, all of them those of the pattern.
async fn receive_pattern(stream: &mut TcpStream, rest: Duration) -> usize {
    let pattern = pattern();
    let mut received = 0;
    let mut chunk = vec![0; 99_991];
    loop {
        let n = soon("data", stream.read(&mut chunk)).await.unwrap();
        if n == 0 {
            return received;
        }
        for (nth, byte) in [(0, chunk[0]), (n - 1, chunk[n - 1])] {
            assert_eq!(byte, pattern[(received + nth) % pattern.len()], "byte {}", received + nth);
        }
        let start = received % pattern.len();
        let first = n.min(pattern.len() - start);
        assert!(chunk[..first] == pattern[start..start + first], "bytes from {received} on");
        assert!(chunk[first..n] == pattern[..n - first], "bytes from {received} on");
        if received / 1_000_000 != (received + n) / 1_000_000 {
            tokio::time::sleep(rest).await;
        }
        received += n;
    }
}

async fn sixty_four_mebibytes_arrive_in_their_order_at_a_slow_reader(when: When) {
    const TOTAL: usize = 64 << 20;
    let Setup { mut client, server, copy, pipes, .. } = Setup::new(when, NEVER).await;
    let sending = tokio::spawn(send_pattern(server, TOTAL));
    assert_eq!(receive_pattern(&mut client, Duration::from_millis(3)).await, TOTAL);
    let _server = sending.await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(copy.await.unwrap(), Copied { up: 0, down: TOTAL as u64, end: CopyEnd::Complete });
    assert_eq!(pipes.count(), usize::from(when != When::Never), "pipes of this path");
}

async fn rel_05_half_close_with_bytes_on_the_way_loses_none(when: When) {
    let Setup { mut client, server, copy, moved, mut flushed, .. } = Setup::new(when, NEVER).await;
    // More than all socket buffers on the way take: our copy of them is full when the reader begins.
    const TOTAL: usize = 20_000_000;
    let sending = tokio::spawn(send_pattern(server, TOTAL));
    let mut last = u64::MAX;
    while last != moved.down() {
        last = moved.down();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(flushed.try_recv().is_err(), "FIN was passed on before the bytes");
    assert_eq!(receive_pattern(&mut client, Duration::ZERO).await, TOTAL);
    assert_eq!(soon("the flush", flushed.recv()).await, Some(Flushed(Leg::Client)));
    let mut server = sending.await.unwrap();
    client.write_all(b"still here").await.unwrap();
    client.shutdown().await.unwrap();
    let (n, end) = drain(&mut server).await;
    end.expect("a good end");
    assert_eq!(n, 10);
    assert_eq!(copy.await.unwrap(), Copied { up: 10, down: TOTAL as u64, end: CopyEnd::Complete });
}

async fn rel_01_bytes_of_a_reset_transfer_never_reach_the_next_one(when: When) {
    let pipes = Arc::new(Pipes::new(when));
    let Setup { mut client, server, copy, moved, .. } = Setup::with(pipes.clone(), NEVER).await;
    fill(&server, &moved).await;
    assert_eq!(pipes.count(), usize::from(when != When::Never), "pipes in use");
    reset(server);
    assert_eq!(soon("the end", copy).await.unwrap().end, CopyEnd::Reset(Leg::Server));
    assert_reset(&mut client).await;
    assert_eq!(pipes.count(), 0, "a pipe with bytes in it was kept");

    let Setup { mut client, server, copy, .. } = Setup::with(pipes, NEVER).await;
    let sending = tokio::spawn(send_pattern(server, 1_000_000));
    assert_eq!(receive_pattern(&mut client, Duration::ZERO).await, 1_000_000);
    let _server = sending.await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(copy.await.unwrap().end, CopyEnd::Complete);
}

/// A stray urgent byte is out of band: both paths leave it out, and neither stops there. The kernel does stop to
/// splice there, and once FIN is behind it says "end of file".
async fn an_urgent_byte_ends_nothing(when: When) {
    let Setup { mut client, mut server, copy, .. } = Setup::new(when, NEVER).await;
    client.shutdown().await.unwrap();
    server.write_all(&[1; 200_000]).await.unwrap();
    assert_eq!(SockRef::from(&server).send_out_of_band(b"!").unwrap(), 1);
    server.write_all(&[2; 200_000]).await.unwrap();
    server.shutdown().await.unwrap();
    let (n, end) = drain(&mut client).await;
    end.expect("a good end");
    assert_eq!(n, 400_000);
    assert_eq!(copy.await.unwrap(), Copied { up: 0, down: 400_000, end: CopyEnd::Complete });
}

/// Passes `n` bytes through a copy with these pipes, from the server to the client.
async fn pass(pipes: &Arc<Pipes>, n: usize) {
    let Setup { mut client, server, copy, .. } = Setup::with(pipes.clone(), NEVER).await;
    let sending = tokio::spawn(send_pattern(server, n));
    assert_eq!(receive_pattern(&mut client, Duration::ZERO).await, n);
    let _server = sending.await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(copy.await.unwrap(), Copied { up: 0, down: n as u64, end: CopyEnd::Complete });
}

#[tokio::test]
async fn a_short_transfer_costs_no_pipe() {
    let pipes = Arc::new(Pipes::new(When::Long));
    for n in [0, 1, 1024, BUFFER - 1] {
        pass(&pipes, n).await;
        assert_eq!(pipes.count(), 0, "after {n} bytes");
    }
}

#[tokio::test]
async fn forced_paths_are_what_they_say() {
    for (when, pipes_made) in [(When::Never, 0), (When::Always, 1)] {
        for n in [1, 1_000_000] {
            let pipes = Arc::new(Pipes::new(when));
            pass(&pipes, n).await;
            assert_eq!(pipes.count(), pipes_made, "{when:?}, {n} bytes");
        }
    }
}

#[tokio::test]
async fn who_waits_for_its_sender_holds_no_pipe() {
    let pipes = Arc::new(Pipes::new(When::Always));
    let mut transfers = Vec::new();
    for _ in 0..10 {
        let mut setup = Setup::with(pipes.clone(), NEVER).await;
        setup.server.write_all(b"x").await.unwrap();
        assert_eq!(soon("the byte", setup.client.read_u8()).await.unwrap(), b'x');
        transfers.push(setup);
    }
    assert_eq!(pipes.count(), 1, "for {} transfers that all wait", transfers.len());
}

#[tokio::test]
async fn a_transfer_is_copied_where_the_kernel_refuses_to_splice() {
    // Neither end of this is a pipe, so that splice says EINVAL.
    let pipes = Arc::new(Pipes::opened_by(When::Always, || {
        let (read, write) = std::os::unix::net::UnixStream::pair()?;
        Ok(Pipe::of(read.into(), write.into()))
    }));
    pass(&pipes, 1_000_000).await;
    assert_eq!(pipes.count(), 1, "it was not even tried");
}

#[tokio::test]
async fn a_transfer_is_copied_where_no_pipe_is_to_be_had() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let pipes = Arc::new(Pipes::opened_by(When::Always, || {
        ASKED.fetch_add(1, Relaxed);
        Err(rustix::io::Errno::MFILE.into())
    }));
    pass(&pipes, 1_000_000).await;
    assert_eq!(pipes.count(), 0);
    assert!(ASKED.load(Relaxed) > 0, "it was not even tried");
}

async fn rel_17_the_sender_does_not_stand_still_for_long_while_a_slow_receiver_reads(when: When) {
    let Setup { client, server, copy, moved, .. } = Setup::new(when, NEVER).await;
    does_not_stand_still(client, server, copy, &moved).await;
}

async fn the_end_of_a_download_is_acknowledged_at_once(when: When) {
    is_acknowledged_at_once(async || {
        let Setup { client, mut server, copy, .. } = Setup::new(when, NEVER).await;
        server.write_all(&[7; 1024]).await.unwrap();
        (close_lingering(server).await, (client, copy))
    })
    .await;
}
