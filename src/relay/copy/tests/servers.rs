//! What servers wait for, over TLS and without.

use super::*;

/// How long the peer of a copy waits in a close that lingers, as vsftpd does before it says 226. Linux puts off the
/// acknowledgement of a FIN for 40 ms at least.
pub(in crate::relay::copy) async fn close_lingering(stream: TcpStream) -> Duration {
    let stream = socket2::Socket::from(stream.into_std().unwrap());
    stream.set_linger(Some(SOON)).unwrap();
    let closed = tokio::task::spawn_blocking(move || {
        let start = std::time::Instant::now();
        drop(stream);
        start.elapsed()
    });
    closed.await.unwrap()
}

/// That, for the quickest of a few servers whose client goes on holding its end open.
pub(in crate::relay::copy) async fn is_acknowledged_at_once<T>(mut a_close: impl AsyncFnMut() -> (Duration, T)) {
    let mut quickest = SOON;
    for _ in 0..8 {
        let (took, _client) = a_close().await;
        quickest = quickest.min(took);
    }
    assert!(quickest < Duration::from_millis(25), "a server waits {quickest:?} for the acknowledgement of its FIN");
}

/// IIS ends a transfer that stands still for 30 s, as it seems to do when a socket of ours is filled far in advance.
pub(in crate::relay::copy) async fn does_not_stand_still<T: Send + 'static>(
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin + Send + 'static,
    copy: JoinHandle<T>,
    moved: &Moved,
) {
    const STEP: usize = 256 * 1024;
    let sending = tokio::spawn(async move { while server.write_all(&[7; BUFFER]).await.is_ok() {} });
    // Until everything is full, and the receiver known to be slow.
    let mut last = u64::MAX;
    while last != moved.down() {
        last = moved.down();
        tokio::time::sleep(4 * SLOW).await;
    }
    // What had been taken in advance by then, twice: TLS has written once more when it sees how long that took.
    let mut chunk = vec![0; STEP];
    for _ in 0..2 {
        last = moved.down();
        while last == moved.down() {
            soon("data", client.read_exact(&mut chunk[..16 * 1024])).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for step in 0..20 {
        last = moved.down();
        soon("data", client.read_exact(&mut chunk)).await.unwrap();
        let more = async {
            while last == moved.down() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let more = tokio::time::timeout(Duration::from_secs(2), more).await;
        assert!(more.is_ok(), "step {step}: the receiver has read {STEP} bytes, and the sender stands still");
    }
    copy.abort();
    soon("the sender's end", sending).await.unwrap();
}
