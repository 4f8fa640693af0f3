//! A lease: the right to the next connection on one port from those who are expected there.

use std::fmt;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Shared;
use super::bind::{BACKLOG, Seat};
use super::expected::Expected;
use super::table::{LEASE_TIME, SlotId};
use crate::addr::Whose;
use crate::relay::accept::Acceptor;
use crate::relay::socket;

/// Why a lease ended without a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseLost {
    /// The peer did not connect within 60 s of the lease's start; or it did, and the lease is over.
    #[error("the peer did not connect in time")]
    Expired,
    /// It was unused for over 10 s, and another session needed the port.
    #[error("the port was given to another session")]
    Revoked,
}

/// What a lease is waiting for.
pub(super) type Outcome = Result<TcpStream, LeaseLost>;

/// One expected data connection. Dropped unused, it frees its port, which then rests for 5 s.
pub struct Lease {
    port: u16,
    expires: Instant,
    source: Source,
}

enum Source {
    /// A port of a range, on which many peers may be expected.
    Shared { outcome: oneshot::Receiver<Outcome>, _claim: Claim },
    /// A listener for this lease alone.
    Own { listener: Acceptor, expected: Expected },
    /// The lease has ended.
    Over(LeaseLost),
}

impl Lease {
    pub(super) fn shared(outcome: oneshot::Receiver<Outcome>, claim: Claim, start: Instant) -> Self {
        let port = claim.seat.at().port();
        Self { port, expires: start + LEASE_TIME, source: Source::Shared { outcome, _claim: claim } }
    }

    /// A listener on a port of the kernel's choice, which is as unpredictable as ours
    /// (`inet_csk_find_open_port` starts at a random offset).
    pub(super) fn own(local: IpAddr, whose: Whose, expected: Expected) -> std::io::Result<Self> {
        let listener = socket::listen_data_at(local, whose, BACKLOG)?;
        let port = listener.local_addr()?.port();
        Ok(Self { port, expires: Instant::now() + LEASE_TIME, source: Source::Own { listener, expected } })
    }

    /// The port that the peer must connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The connection of a peer that is expected, with the options of a data connection. Cancel safe.
    /// A lease is good for one connection; after that it has expired.
    ///
    /// # Errors
    /// The lease has ended without a connection.
    pub async fn accept(&mut self) -> Result<TcpStream, LeaseLost> {
        let outcome = tokio::select! {
            // A connection that came in time counts, however late it is noticed.
            biased;
            outcome = self.source.connection() => outcome,
            () = tokio::time::sleep_until(self.expires) => Err(LeaseLost::Expired),
        };
        self.source = Source::Over(outcome.as_ref().err().copied().unwrap_or(LeaseLost::Expired));
        outcome
    }
}

impl Source {
    async fn connection(&mut self) -> Outcome {
        match self {
            // Closed without a word: it had expired, and the port was given away.
            Self::Shared { outcome, .. } => outcome.await.unwrap_or(Err(LeaseLost::Expired)),
            Self::Own { listener, expected } => loop {
                let (stream, from) = listener.accept().await;
                if expected.admits(from.ip()) {
                    return Ok(stream);
                }
                super::log_stranger(listener.local_addr().ok(), from);
            },
            Self::Over(lost) => Err(*lost),
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("port", &self.port).finish_non_exhaustive()
    }
}

/// The entry of a lease in the table; dropping it frees the port.
pub(super) struct Claim {
    pub(super) shared: Arc<Shared>,
    pub(super) slot: SlotId,
    /// Open for as long as somebody may connect.
    pub(super) seat: Arc<Seat>,
    pub(super) expected: Expected,
    pub(super) lease: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.lock().table.dropped(self.slot, &self.expected, self.lease, Instant::now());
    }
}
