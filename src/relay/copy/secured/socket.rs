//! The socket below the TLS of a data connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A data connection that can be watched and closed apart from the TLS within it.
#[derive(Debug, Clone)]
pub struct Socket {
    pub(super) stream: Arc<TcpStream>,
    handshake: Arc<Handshake>,
}

/// How a handshake as the server goes: see [`Socket::handshaking`].
#[derive(Debug, Default)]
struct Handshake {
    is_under_way: AtomicBool,
    /// A reset was taken for an end. Who asks again finds no more of it than an end.
    was_reset: AtomicBool,
}

impl Socket {
    /// Takes a connection over.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: Arc::new(stream), handshake: Arc::default() }
    }

    /// Takes a connection over for a handshake as the server, which ends with [`shaken`](Self::shaken). Until then a reset
    /// is no more than an end: the last that a handshake of TLS 1.3 writes is a ticket, and a client that uploads an empty
    /// file has said all and closed by then (curl). If the handshake or what follows it is not whole, its missing end
    /// says so. OpenSSL's servers forgive the same.
    #[must_use]
    pub fn handshaking(stream: TcpStream) -> Self {
        let handshake = Handshake { is_under_way: AtomicBool::new(true), was_reset: AtomicBool::new(false) };
        Self { stream: Arc::new(stream), handshake: Arc::new(handshake) }
    }

    /// The handshake is done.
    pub fn shaken(&self) {
        self.handshake.is_under_way.store(false, Relaxed);
    }

    /// Whether a reset was taken for an end.
    pub(super) fn was_reset(&self) -> bool {
        self.handshake.was_reset.load(Relaxed)
    }

    fn is_forgiven(&self, error: &io::Error) -> bool {
        let is_forgiven = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
            && self.handshake.is_under_way.load(Relaxed);
        self.handshake.was_reset.fetch_or(is_forgiven, Relaxed);
        is_forgiven
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An end.
                Err(error) if self.is_forgiven(&error) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, buf.len(), |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_write_with(cx, length, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write))
    }
}

impl Socket {
    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        length: usize,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if self.is_forgiven(&error) => return Poll::Ready(Ok(length)),
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}
