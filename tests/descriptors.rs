//! Transfers leave no descriptors behind. A program of its own, for it counts those of the whole process.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use ftp_alg::relay::copy::{CopyEnd, Moved, copy_counted};
use ftp_alg::relay::splice::{Pipes, When};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const TRANSFERS: usize = 1000;
/// More than one buffer, so that a pipe is used whatever decides on that.
const BYTES: usize = 200_000;
/// More than all socket buffers take (4 MB in net.ipv4.tcp_wmem), so that bytes are in the pipe when it is cut.
const CUT_BYTES: usize = 8_000_000;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn connected(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let peer = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let ours = listener.accept().await.unwrap().0;
    ours.set_zero_linger().unwrap();
    (peer, ours)
}

/// A transfer that ends well, or one whose receiver stops to read and then resets it.
async fn transfer(listener: &TcpListener, pipes: &Pipes, cut: bool) -> CopyEnd {
    let ((client, our_client), (mut server, our_server)) = (connected(listener).await, connected(listener).await);
    let moved = Moved::default();
    let copy = copy_counted(our_client, our_server, pipes, Duration::from_secs(60), &moved, |_| ());
    let sender = async move {
        let sent = server.write_all(&vec![7; if cut { CUT_BYTES } else { BYTES }]).await;
        assert!(cut || sent.is_ok());
        // The reset may have come already.
        let _ = server.shutdown().await;
        let _ = server.read(&mut [0; 1]).await;
    };
    let receiver = async {
        let mut client = client;
        let n = if cut { BYTES / 10 } else { BYTES };
        client.read_exact(&mut vec![0; n]).await.unwrap();
        if cut {
            let mut last = 0;
            while last != moved.down() {
                last = moved.down();
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            client.set_zero_linger().unwrap();
        } else {
            client.shutdown().await.unwrap();
        }
    };
    tokio::join!(copy, sender, receiver).0.end
}

#[tokio::test]
async fn a_thousand_transfers_leave_no_descriptors_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for when in [When::Never, When::Long, When::Always] {
        let pipes = Pipes::new(when);
        let before = descriptors();
        for nth in 0..TRANSFERS {
            let cut = nth % 5 == 4;
            let end = transfer(&listener, &pipes, cut).await;
            assert_eq!(end == CopyEnd::Complete, !cut, "transfer {nth} of {when:?}: {end:?}");
        }
        assert!(pipes.count() <= 2, "{} pipes for one transfer after the other", pipes.count());
        assert_eq!(descriptors(), before + 2 * pipes.count(), "{when:?}");
        drop(pipes);
        assert_eq!(descriptors(), before, "{when:?}");
    }
}
