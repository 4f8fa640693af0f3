//! Two-way copy between the two ends of a data channel.
//!
//! Each direction goes from *running* through *shutting down* to *done*: bytes are passed on until FIN, then FIN is
//! passed on, then the other direction may still take its time (half-close, RFC 1122 §4.2.2.13). When both are done
//! the connections are closed in good order. Whatever else happens (a reset, an idle timeout, the future being
//! dropped) resets both connections, so that a transfer that was cut never looks complete to either peer.
//!
//! With one exception: what a peer had finished before it failed stays finished. A server forgets a connection that it
//! has closed (Linux after 60 s in FIN-WAIT-2) and answers our next keep-alive probe by a reset, while a slow client still
//! has megabytes to get from our socket. FTP moves bytes one way; once they and FIN have been handed on, and none came
//! the other way, nothing that happens to the sender or to the waiting for the receiver's FIN takes them back.
//!
//! The bytes go through a buffer or, where that pays, through a pipe ([`splice`](super::splice)). Nothing else depends
//! on which.

mod buffer;
mod mover;
pub mod opaque;
pub mod secured;

use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::mover::{Choice, Filled, Mover};
use super::socket;
use super::splice::Pipes;
use crate::addr::{Leg, PerLeg};
use crate::metrics::Progress;

/// All bytes from the other leg, and our FIN after them, have been handed to this leg's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushed(pub Leg);

/// What was copied, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Bytes from the client that were handed to the server's socket.
    pub up: u64,
    /// Bytes from the server that were handed to the client's socket.
    pub down: u64,
    /// How it ended.
    pub end: CopyEnd,
}

/// How a copy ended. All but [`Complete`](CopyEnd::Complete) have reset both connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyEnd {
    /// Both peers sent FIN, and all before it was passed on.
    Complete,
    /// The connection of this leg failed: its peer reset it or vanished.
    Reset(Leg),
    /// Not a byte was taken by either side for too long.
    Idle,
}

/// Bytes handed on so far, to be read while a copy runs or after it was cancelled.
#[derive(Debug, Default)]
pub struct Moved {
    up: AtomicU64,
    down: AtomicU64,
}

impl Moved {
    /// Bytes from the client to the server.
    #[must_use]
    pub fn up(&self) -> u64 {
        self.up.load(Relaxed)
    }

    /// Bytes from the server to the client.
    #[must_use]
    pub fn down(&self) -> u64 {
        self.down.load(Relaxed)
    }
}

impl Progress for Moved {
    fn moved(&self) -> (u64, u64) {
        (self.up(), self.down())
    }
}

/// Copies both ways between the data connections of the two legs until both have ended, or one has failed, or no
/// byte was taken either way for `idle` (a peer that does not read is as idle as one that does not write). Adds to
/// `moved` as it goes.
///
/// `progress` is called at once when one leg has been handed everything. Dropping the future resets both
/// connections; their linger time is zero already, as that of all connections which [`socket`] makes.
pub async fn copy_counted(
    client: TcpStream,
    server: TcpStream,
    pipes: &Pipes,
    idle: Duration,
    moved: &Moved,
    progress: impl FnMut(Flushed),
) -> Copied {
    let end = match run(&client, &server, pipes, idle, moved, progress).await {
        Ok(()) => CopyEnd::Complete,
        Err(end) => end,
    };
    Copied { up: moved.up(), down: moved.down(), end }
}

async fn run(
    client: &TcpStream,
    server: &TcpStream,
    pipes: &Pipes,
    idle: Duration,
    moved: &Moved,
    progress: impl FnMut(Flushed),
) -> Result<(), CopyEnd> {
    assert_cut_unless_ended(client, server);
    let activity = Activity::new();
    let progress = Mutex::new(progress);
    let done = PerLeg { client: AtomicBool::new(false), server: AtomicBool::new(false) };
    let direction = |from, to, to_leg: Leg, moved| Direction {
        from,
        to,
        to_leg,
        pipes,
        moved,
        done: &done[to_leg],
        activity: &activity,
        patience: Patience::default(),
        from_failed: None,
    };
    let up = direction(client, server, Leg::Server, &moved.up);
    let down = direction(server, client, Leg::Client, &moved.down);
    let both = async { tokio::try_join!(up.run(&progress), down.run(&progress)) };
    let has_more = |leg: Leg, failed: &TcpStream| !done[leg.other()].load(Relaxed) && had_finished(failed);
    let outcome = tokio::select! {
        // In this order: bytes that arrived before a reset are passed on and counted. An error is reported once
        // per socket, after which it reads as an end of file; so the first one ends everything.
        biased;
        done = both => done.map(|_| ()).map_err(CopyEnd::Reset),
        leg = failure(client, server, has_more) => Err(CopyEnd::Reset(leg)),
        () = activity.idle_for(idle) => Err(CopyEnd::Idle),
    };
    settle(outcome, moved, &done)?;
    end_both_well(client, server)
}

/// Every way out but [`end_both_well`] is a reset, since all connections of [`socket`] are made so. The promise of this
/// module rests on it, and another two system calls would say it once more: short transfers are many.
fn assert_cut_unless_ended(client: &TcpStream, server: &TcpStream) {
    let is_cut = |stream| matches!(SockRef::from(stream).linger(), Ok(Some(Duration::ZERO)));
    debug_assert!(is_cut(client) && is_cut(server), "a data connection without zero linger");
}

fn end_both_well(client: &TcpStream, server: &TcpStream) -> Result<(), CopyEnd> {
    socket::end_well(client).map_err(|_| CopyEnd::Reset(Leg::Client))?;
    socket::end_well(server).map_err(|_| CopyEnd::Reset(Leg::Server))
}

/// Whether what has ended so has ended well after all. `done`: the legs that have been handed everything.
fn settle(outcome: Result<(), CopyEnd>, moved: &Moved, done: &PerLeg<AtomicBool>) -> Result<(), CopyEnd> {
    let has_all = |leg: Leg| {
        let from_it = if leg == Leg::Client { moved.up() } else { moved.down() };
        done[leg].load(Relaxed) && from_it == 0
    };
    match outcome {
        Err(CopyEnd::Reset(leg)) if has_all(leg.other()) => Ok(()),
        Err(CopyEnd::Idle) if has_all(Leg::Client) || has_all(Leg::Server) => Ok(()),
        outcome => outcome,
    }
}

/// Sees a connection fail of which nobody reads at the moment: its direction is done, or blocked by the other leg.
/// `has_more`: whether something is still to be read from one that has failed; it ends when that has been read.
async fn failure(client: &TcpStream, server: &TcpStream, mut has_more: impl FnMut(Leg, &TcpStream) -> bool) -> Leg {
    let mut watched = PerLeg { client: true, server: true };
    loop {
        // Either way `ready` ends, the connection is of no more use.
        let (leg, stream) = tokio::select! {
            _ = client.ready(Interest::ERROR), if watched.client => (Leg::Client, client),
            _ = server.ready(Interest::ERROR), if watched.server => (Leg::Server, server),
            else => std::future::pending().await,
        };
        if !has_more(leg, stream) {
            return leg;
        }
        watched[leg] = false;
    }
}

/// Whether the peer of a connection that has failed had sent FIN before: Linux says EPIPE then (`tcp_reset`), and
/// otherwise ECONNRESET. All that it sent is in our socket, and still to be read there; writing to it fails.
fn had_finished(failed: &TcpStream) -> bool {
    let error = SockRef::from(failed).take_error().ok().flatten();
    error.is_some_and(|error| error.raw_os_error() == Some(Errno::EPIPE as i32))
}

/// One direction of a copy.
struct Direction<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    to_leg: Leg,
    pipes: &'a Pipes,
    moved: &'a AtomicU64,
    done: &'a AtomicBool,
    activity: &'a Activity,
    patience: Patience,
    /// Where a failed sender is read to its end, whether it has failed: the end is no FIN then.
    from_failed: Option<&'a AtomicBool>,
}

impl Direction<'_> {
    /// Runs to the end of this direction; the error is the leg that failed.
    async fn run(&self, progress: &Mutex<impl FnMut(Flushed)>) -> Result<(), Leg> {
        self.pass_bytes().await?;
        // Shutting down: the FIN goes out behind what was written.
        SockRef::from(self.to).shutdown(Shutdown::Write).map_err(|_| self.to_leg)?;
        self.done.store(true, Relaxed);
        progress.lock().unwrap_or_else(PoisonError::into_inner)(Flushed(self.to_leg));
        Ok(())
    }

    /// Passes bytes on until FIN. There is a buffer or a pipe only while there are bytes.
    async fn pass_bytes(&self) -> Result<(), Leg> {
        let from_leg = self.to_leg.other();
        let mut choice = Choice::new(self.pipes);
        loop {
            self.from.readable().await.map_err(|_| from_leg)?;
            let mut mover = choice.mover();
            loop {
                mover = match choice.fill(&mut mover, self.from).map_err(|_| from_leg)? {
                    Filled::Bytes => {
                        self.drain(&mut mover).await.map_err(|_| self.to_leg)?;
                        choice.next(mover)
                    }
                    Filled::Copy => Mover::buffer(),
                    Filled::Nothing => break,
                    Filled::End if self.from_failed.is_some_and(|failed| failed.load(Relaxed)) => return Err(from_leg),
                    Filled::End => {
                        socket::acknowledge(self.from);
                        return Ok(());
                    }
                };
                // Two fast peers never make us wait, but the other direction and the timer want their turn.
                tokio::task::coop::consume_budget().await;
            }
        }
    }

    /// Hands on all that `mover` holds.
    async fn drain(&self, mover: &mut Mover<'_>) -> io::Result<()> {
        while !mover.is_empty() {
            match mover.drain(self.to) {
                Ok(n) => {
                    self.moved.fetch_add(n as u64, Relaxed);
                    self.activity.now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.patience.wait(self.to, self.to.writable()).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A receiver that has no room for so long is slow: it takes less than some 10 MB/s, if a third of the 4 MB of a socket
/// has to be gone before there is room.
const SLOW: Duration = Duration::from_millis(100);

/// Whether the receiver of a direction has kept us waiting. Atomic only so that the future can move between threads.
#[derive(Debug, Default)]
struct Patience(AtomicBool);

impl Patience {
    /// Waits for `room` in `receiver`'s socket; when that took long, less waits there unsent from then on.
    async fn wait<T>(&self, receiver: &TcpStream, room: impl Future<Output = T>) -> T {
        if self.0.load(Relaxed) {
            return room.await;
        }
        // Not a timer: setting one costs as much as moving the bytes does.
        let start = Instant::now();
        let outcome = room.await;
        if start.elapsed() >= SLOW {
            self.0.store(true, Relaxed);
            socket::limit_unsent(receiver);
        }
        outcome
    }
}

/// When a byte was last taken. Atomic only so that the future can move between threads.
struct Activity {
    start: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { start: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn now(&self) {
        let elapsed = Instant::now().saturating_duration_since(self.start).as_millis();
        self.last_ms.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Relaxed);
    }

    /// Ends when nothing has happened for so long.
    async fn idle_for(&self, idle: Duration) {
        let mut timer = pin!(tokio::time::sleep(idle));
        loop {
            timer.as_mut().await;
            let last = self.start + Duration::from_millis(self.last_ms.load(Relaxed));
            let silent = Instant::now().saturating_duration_since(last);
            if silent >= idle {
                return;
            }
            timer.set(tokio::time::sleep(idle - silent));
        }
    }
}

#[cfg(test)]
mod tests;
