//! The copy where at least one end is TLS: through a buffer, as the bytes have to be seen.
//!
//! The end of a stream is its close_notify. FIN alone is a cut, since anybody on the way can send one (RFC 8446 §6.1),
//! with two exceptions: where the operator says so (many clients never send close_notify), and where the peer has sent
//! nothing and been sent everything, which is how most clients end a download.
//!
//! A reset is read like that, too: close_notify may have come before it. curl with OpenSSL closes after an upload without
//! having read our TLS 1.3 ticket, which makes its kernel send a reset (RFC 1122 §4.2.2.13).

mod socket;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_util::either::Either;

pub use self::socket::Socket;
use super::{Activity, CopyEnd, Flushed, Moved, Patience, assert_cut_unless_ended, end_both_well, settle};
use crate::addr::{Leg, PerLeg};
use crate::relay::socket::acknowledge;

/// Four records (RFC 8446 §5.1), which is what rustls encrypts at once. Measured: BENCHMARKS.md.
const BUFFER: usize = 64 * 1024;

/// One end of a data channel.
#[derive(Debug)]
pub struct End {
    socket: Socket,
    io: Either<Socket, Box<TlsStream<Socket>>>,
    /// FIN without close_notify is as good.
    lenient: bool,
}

impl End {
    /// An end in the clear.
    #[must_use]
    pub fn plain(stream: TcpStream) -> Self {
        let socket = Socket::new(stream);
        Self { socket: socket.clone(), io: Either::Left(socket), lenient: false }
    }

    /// An end whose handshake is done. `lenient`: FIN without close_notify is as good; a reset is not.
    #[must_use]
    pub fn tls(stream: impl Into<TlsStream<Socket>>, lenient: bool) -> Self {
        let stream = stream.into();
        let socket = stream.get_ref().0.clone();
        let lenient = lenient && !socket.was_reset();
        Self { socket, io: Either::Right(Box::new(stream)), lenient }
    }
}

/// As [`copy_counted`](super::copy_counted), between ends of which at least one is TLS.
pub async fn copy_secured(
    client: End,
    server: End,
    idle: Duration,
    moved: &Moved,
    progress: impl FnMut(Flushed),
) -> CopyEnd {
    match run(client, server, idle, moved, progress).await {
        Ok(()) => CopyEnd::Complete,
        Err(end) => end,
    }
}

async fn run(
    client: End,
    server: End,
    idle: Duration,
    moved: &Moved,
    progress: impl FnMut(Flushed),
) -> Result<(), CopyEnd> {
    assert_cut_unless_ended(&client.socket.stream, &server.socket.stream);
    let activity = Activity::new();
    let progress = Mutex::new(progress);
    let (client_socket, server_socket) = (Arc::clone(&client.socket.stream), Arc::clone(&server.socket.stream));
    let done = PerLeg { client: AtomicBool::new(false), server: AtomicBool::new(false) };
    let (lenient_client, lenient_server) = (client.lenient, server.lenient);
    let (from_client, to_client) = split(client.io);
    let (from_server, to_server) = split(server.io);
    let direction = |from, to, to_leg: Leg, moved, lenient| Direction {
        from,
        to,
        to_leg,
        moved,
        done: &done[to_leg],
        other_done: &done[to_leg.other()],
        lenient,
        activity: &activity,
        patience: Patience::default(),
    };
    let up = direction(&client_socket, &server_socket, Leg::Server, &moved.up, lenient_client);
    let down = direction(&server_socket, &client_socket, Leg::Client, &moved.down, lenient_server);
    let both = async {
        tokio::try_join!(up.run(from_client, to_server, &progress), down.run(from_server, to_client, &progress))
    };
    // No watch for failed connections: the peer of a failed one is read to its end all the same. The server's tickets, which
    // the next data connection needs, come behind an upload, when curl has already reset its own.
    let outcome = tokio::select! {
        biased;
        done = both => done.map(|_| ()).map_err(CopyEnd::Reset),
        () = activity.idle_for(idle) => Err(CopyEnd::Idle),
    };
    settle(outcome, moved, &done)?;
    end_both_well(&client_socket, &server_socket)
}

/// One direction.
struct Direction<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    to_leg: Leg,
    moved: &'a AtomicU64,
    done: &'a AtomicBool,
    other_done: &'a AtomicBool,
    lenient: bool,
    activity: &'a Activity,
    patience: Patience,
}

impl Direction<'_> {
    /// Runs to the end of this direction; the error is the leg that failed.
    async fn run<T: AsyncRead + AsyncWrite>(
        &self,
        mut from: ReadHalf<T>,
        mut to: WriteHalf<T>,
        progress: &Mutex<impl FnMut(Flushed)>,
    ) -> Result<(), Leg> {
        let from_leg = self.to_leg.other();
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = match from.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && self.may_end_so() => break,
                Err(error) => {
                    if error.kind() == io::ErrorKind::UnexpectedEof {
                        tracing::info!(
                            "a data connection with the {from_leg} ended without close_notify and counts as cut; see \
                             `tls.{from_leg}.lenient`"
                        );
                    }
                    return Err(from_leg);
                }
            };
            self.hand_on(&buffer[..count], &mut to).await.map_err(|_| self.to_leg)?;
        }
        acknowledge(self.from);
        // close_notify, and FIN behind it.
        to.shutdown().await.map_err(|_| self.to_leg)?;
        self.done.store(true, Relaxed);
        progress.lock().unwrap_or_else(PoisonError::into_inner)(Flushed(self.to_leg));
        Ok(())
    }

    /// Whether FIN is an end without close_notify.
    fn may_end_so(&self) -> bool {
        self.lenient || (self.moved.load(Relaxed) == 0 && self.other_done.load(Relaxed))
    }

    async fn hand_on<T: AsyncWrite>(&self, mut bytes: &[u8], to: &mut WriteHalf<T>) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.patience.wait(self.to, write(bytes, to)).await?;
            bytes = &bytes[taken..];
            self.moved.fetch_add(taken as u64, Relaxed);
            self.activity.now();
        }
        Ok(())
    }
}

/// Writes some bytes, to the socket itself: what TLS has taken is not there yet.
async fn write(bytes: &[u8], to: &mut (impl AsyncWrite + Unpin)) -> io::Result<usize> {
    let taken = to.write(bytes).await?;
    if taken == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    to.flush().await.map(|()| taken)
}

#[cfg(test)]
mod tests;
