use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::pool::{IDLE, LIMIT};
use super::*;

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (one, listener.accept().await.unwrap().0)
}

/// Pipes that cost no descriptors of the system's.
fn counted_pipes(open: fn() -> io::Result<Pipe>) -> Pipes {
    Pipes::opened_by(When::Always, open)
}

#[test]
fn there_are_only_so_many_pipes() {
    let pipes = counted_pipes(Pipe::open);
    let mut taken: Vec<_> = (0..LIMIT).map(|nth| pipes.take().unwrap_or_else(|| panic!("no pipe {nth}"))).collect();
    assert_eq!(pipes.count(), LIMIT);
    assert!(pipes.take().is_none(), "one more than the limit");
    taken.pop();
    assert!(pipes.take().is_some(), "the one that was given back");
    drop(taken);
    assert_eq!(pipes.count(), IDLE, "pipes kept that nobody uses");
}

#[test]
fn a_pipe_is_used_again() {
    static OPENED: AtomicUsize = AtomicUsize::new(0);
    let pipes = counted_pipes(|| {
        OPENED.fetch_add(1, Relaxed);
        Pipe::open()
    });
    for _ in 0..100 {
        pipes.take().expect("a pipe");
    }
    assert_eq!(OPENED.load(Relaxed), 1);
}

#[test]
fn the_system_is_not_asked_again_at_once_after_a_refusal() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let pipes = counted_pipes(|| {
        ASKED.fetch_add(1, Relaxed);
        Err(Errno::MFILE.into())
    });
    for _ in 0..100 {
        assert!(pipes.take().is_none());
    }
    assert_eq!(ASKED.load(Relaxed), 1);
    assert_eq!(pipes.count(), 0);
}

#[tokio::test]
async fn bytes_go_through_and_are_counted() {
    let ((ours, mut peer), (from, sender)) = (connected().await, connected().await);
    let mut pipe = Pipe::open().unwrap();
    assert_eq!(pipe.fill(&from).unwrap(), Filled::AskSocket, "nothing was sent");
    assert_eq!(sender.try_write(b"abc").unwrap(), 3);
    from.readable().await.unwrap();
    assert_eq!(pipe.fill(&from).unwrap(), Filled::Bytes);
    assert_eq!(pipe.held(), 3);
    ours.writable().await.unwrap();
    assert_eq!(pipe.drain(&ours).unwrap(), 3);
    assert_eq!(pipe.held(), 0);
    let mut bytes = [0; 3];
    peer.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"abc");
    drop(sender);
    from.readable().await.unwrap();
    assert_eq!(pipe.fill(&from).unwrap(), Filled::AskSocket, "the end is the socket's to tell");
}

#[tokio::test]
async fn a_full_socket_would_block_and_takes_the_rest_later() {
    let ((ours, mut peer), (from, mut sender)) = (connected().await, connected().await);
    let mut pipe = Pipe::open().unwrap();
    let mut given = 0;
    let sending = tokio::spawn(async move { while sender.write_all(&[0; 4096]).await.is_ok() {} });
    // Until the peer, which does not read, has all that it and our socket take.
    loop {
        from.readable().await.unwrap();
        while pipe.held() == 0 && pipe.fill(&from).unwrap() != Filled::Bytes {
            tokio::task::yield_now().await;
        }
        match pipe.drain(&ours) {
            Ok(n) => given += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // What readiness said may be old; only the kernel's own answer counts.
                if tokio::time::timeout(std::time::Duration::from_millis(100), ours.writable()).await.is_err() {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    sending.abort();
    assert!(pipe.held() > 0);
    peer.read_exact(&mut vec![0; given]).await.unwrap();
    let rest = pipe.held();
    while pipe.held() > 0 {
        ours.writable().await.unwrap();
        match pipe.drain(&ours) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    peer.read_exact(&mut vec![0; rest]).await.unwrap();
}

#[tokio::test]
async fn a_reset_is_an_error_and_no_refusal() {
    let (from, sender) = connected().await;
    sender.set_zero_linger().unwrap();
    drop(sender);
    from.readable().await.unwrap();
    let error = Pipe::open().unwrap().fill(&from).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
