//! Accepting, for listeners of every kind: it never fails and never spins.
//!
//! What is accepted is not registered with the runtime yet. Strangers on a data port never are, and a control
//! connection is registered once, in the way that reports urgent data ([`watch`]).

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::socket::{control_options, take_any_address, watch};

/// How long a listener rests when there is no descriptor or memory for a connection. Trying at once would spin: the
/// connection stays in the queue, so the listener stays readable (HAProxy's `CO_AC_PAUSE`; OpenBSD ftp-proxy waits
/// 1 s too).
const PAUSE: Duration = Duration::from_secs(1);

/// The shortest time between two warnings. All listeners of a process run short together.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

static LAST_WARNING: Mutex<Option<Instant>> = Mutex::new(None);

/// A listening socket.
#[derive(Debug)]
pub struct Acceptor {
    listener: AsyncFd<TcpListener>,
    /// Clients may have come before it had our options; theirs were cloned from it then.
    adopted: bool,
}

impl Acceptor {
    /// Takes over a listening socket, which does not block. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// The runtime cannot watch it: no memory, or no watches left (`fs.epoll.max_user_watches`).
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        Ok(Self { listener: watch(listener, Interest::READABLE)?, adopted: false })
    }

    /// Takes over a socket for control connections at which clients may wait already.
    ///
    /// # Errors
    /// As with [`new`](Self::new).
    pub(super) fn adopted(listener: TcpListener) -> io::Result<Self> {
        Ok(Self { adopted: true, ..Self::new(listener)? })
    }

    /// Lets it take connections that were led here although they are for other machines (TPROXY).
    ///
    /// # Errors
    /// It needs CAP_NET_ADMIN.
    pub(super) fn take_any_address(&self) -> io::Result<()> {
        take_any_address(self.listener.get_ref())
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.get_ref().local_addr()
    }

    /// The next connection, which does not block, and its peer. It has the options of the listening socket. Errors are
    /// dealt with here: those of one connection are skipped, a shortage of descriptors or memory pauses this listener
    /// and is logged. Cancel safe.
    pub async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.async_io(Interest::READABLE, accept).await {
                // A connection that takes no options is not there any more.
                Ok((stream, _)) if self.adopted && control_options(SockRef::from(&stream)).is_err() => {}
                Ok(accepted) => return accepted,
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    warn(self, &error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// With the two flags that accept(2) does not inherit: `accept4(2)` saves two calls.
fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    // Without an address it would be no connection of TCP.
    let peer = peer.and_then(|peer| peer.try_into().ok()).ok_or(Errno::ECONNABORTED)?;
    Ok((stream.into(), peer))
}

/// Whether the failed connection is out of the queue, so that the next can be taken at once. The list is that of
/// accept(2), "Error handling": Linux passes pending network errors of the new connection.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(
            Errno::ECONNABORTED
                | Errno::EINTR
                | Errno::EPERM
                | Errno::EPROTO
                | Errno::ENOPROTOOPT
                | Errno::ENETDOWN
                | Errno::ENETUNREACH
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                | Errno::ENONET
                | Errno::EOPNOTSUPP
        )
    )
}

fn warn(listener: &Acceptor, error: &io::Error) {
    let mut last = LAST_WARNING.lock().unwrap_or_else(PoisonError::into_inner);
    if is_due(&mut last, Instant::now()) {
        let at = listener.local_addr().map(|addr| addr.to_string()).unwrap_or_default();
        tracing::warn!(%at, %error, "cannot accept connections, pausing for {} s", PAUSE.as_secs());
    }
}

/// Whether the last warning is long enough ago for another one; then it counts as given.
pub(super) fn is_due(last: &mut Option<Instant>, now: Instant) -> bool {
    let due = last.is_none_or(|last| now.saturating_duration_since(last) >= WARN_INTERVAL);
    if due {
        *last = Some(now);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rel_12_a_shortage_pauses_and_a_lost_connection_does_not() {
        for shortage in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS] {
            assert!(!concerns_one_connection(&shortage.into()), "{shortage}");
        }
        for lost in [Errno::ECONNABORTED, Errno::EPROTO, Errno::EHOSTUNREACH] {
            assert!(concerns_one_connection(&lost.into()), "{lost}");
        }
    }

    #[test]
    fn rel_12_warnings_are_rate_limited() {
        let start = Instant::now();
        let mut last = None;
        let due: Vec<u64> = (0..25).filter(|&s| is_due(&mut last, start + Duration::from_secs(s))).collect();
        assert_eq!(due, [0, 10, 20]);
    }
}
