//! The zero-copy path of [`copy`](super::copy): socket → pipe → socket with `splice(2)`, so that the bytes of a
//! transfer never enter this process. The kernel passes references to the pages of the one socket's queue on to the
//! other's.
//!
//! Here is only what moves the bytes. Half-close, resets, the idle limit and the counters are those of the copy,
//! whichever way the bytes go.
//!
//! # What each answer of `splice` means
//!
//! From a socket into a pipe, which is empty at that time:
//!
//! | answer | meaning | done |
//! |---|---|---|
//! | n > 0 | bytes are in the pipe | passed on |
//! | 0 | the end, *or* an urgent byte is next and the end is somewhere behind it | the socket is read |
//! | `EAGAIN` | nothing there, *or* an urgent byte is next | the socket is read |
//! | `EINVAL`, `ENOSYS` | this kind of socket, or this kernel (gVisor, seccomp), has no splice | copied from here on |
//! | `EINTR` | a signal | again |
//! | other | the connection failed, and has told so once: `ECONNRESET`, `ETIMEDOUT`, … | reset |
//!
//! Linux stops to splice at an urgent byte (`tcp_read_sock`), where `read(2)` steps over it. Whoever takes the answer
//! there at its word loses the rest of the stream, and with the second line passes what is left on as complete. So
//! splice never has the last word: the end of a stream, and that there is nothing to do but wait, are read from the
//! socket itself. `EOPNOTSUPP` is no refusal: it can be the error of the connection (`ICMP_SR_FAILED` becomes that),
//! which is told once and would read as an end of file next.
//!
//! From the pipe to a socket:
//!
//! | answer | meaning | done |
//! |---|---|---|
//! | n > 0 | so many were taken | counted |
//! | `EAGAIN` | the socket is full; not the pipe empty, for it is known what the pipe holds | waited for |
//! | `EINTR` | a signal | again |
//! | 0, other | `EPIPE`, `ECONNRESET`, …; also a refusal, with bytes in the pipe that have no other way | reset |
//!
//! `EPIPE` comes with SIGPIPE, which a Rust program ignores unless it asks not to; `splice` has no `MSG_NOSIGNAL`.

mod pool;

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

pub(super) use self::pool::Pooled;
pub use self::pool::{Pipes, When};

/// Bytes to be taken into a pipe at once, and the size asked for. Chosen by measurement, see `BENCHMARKS.md`.
pub(super) const CAPACITY: usize = 256 * 1024;

/// `SPLICE_F_MOVE` means nothing since Linux 2.6.21. `SPLICE_F_MORE` would keep the tail of a file waiting for more,
/// and what follows a tail nobody knows; between the pages of one call the kernel sets it by itself.
const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK;

/// A pipe, and how many bytes are in it.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

/// What a socket had for a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// Some bytes.
    Bytes,
    /// Perhaps nothing, perhaps the end, perhaps an urgent byte.
    AskSocket,
    /// No splice here.
    Refused,
}

impl Pipe {
    /// A pipe of [`CAPACITY`].
    fn open() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Without CAP_SYS_RESOURCE: EPERM once the pipes of this user have fs.pipe-user-pages-soft pages, or if
        // fs.pipe-max-size is smaller. By then a new pipe has one or two pages, which is worse than a buffer.
        fcntl_setpipe_size(&write, CAPACITY)?;
        Ok(Self::of(read, write))
    }

    /// An empty pipe of these ends.
    pub(super) const fn of(read: OwnedFd, write: OwnedFd) -> Self {
        Self { read, write, held: 0 }
    }

    /// Bytes that have been taken from the one socket and not yet by the other.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Takes what `from` has, [`CAPACITY`] at most, into this pipe, which is empty.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) fn fill(&mut self, from: &TcpStream) -> io::Result<Filled> {
        debug_assert_eq!(self.held, 0, "a full pipe would answer EAGAIN for ever");
        // Not through `try_io`: only the socket itself can tell that there is nothing in it.
        match retry_on_intr(|| splice(from, None, &self.write, None, CAPACITY, FLAGS)) {
            Ok(0) | Err(Errno::AGAIN) => Ok(Filled::AskSocket),
            Ok(n) => {
                self.held = n;
                Ok(Filled::Bytes)
            }
            Err(Errno::INVAL | Errno::NOSYS) => Ok(Filled::Refused),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands to `to` what it takes of the bytes in this pipe, and says how many.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes none (await `writable()`); otherwise the connection failed.
    pub(super) fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let n = to.try_io(Interest::WRITABLE, || {
            Ok(retry_on_intr(|| splice(&self.read, None, to, None, self.held, FLAGS))?)
        })?;
        self.held -= n;
        // Cannot be, for there are bytes and we hold the writing end; but it would never end.
        if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(n) }
    }
}

#[cfg(test)]
mod tests;
