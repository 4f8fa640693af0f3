//! The line of connections whose PROXY header has not come yet: so many in all of the process, and no more.
//!
//! Who comes when it is full takes the place of the oldest. A load balancer sends its header at once, so the oldest is
//! the last of which anything is to be expected: any number of connections that say nothing keep nobody out. The
//! connections belong to the line and not to the tasks that wait for them: so who has to go is gone at once, and a crowd
//! never holds more descriptors than it may, however late the tasks hear of it.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Context;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::relay::socket::watch;

/// Connections that wait at once, each with a descriptor. A header comes within a round trip to the load balancer: with
/// 512, a load balancer that is 10 ms away is heard at up to 50,000 connections per second.
pub(in crate::relay) const WAITING: usize = 512;

/// The line of the process; clones are the same.
#[derive(Debug, Clone)]
pub(in crate::relay) struct Waiting(Arc<Mutex<Line>>);

impl Default for Waiting {
    fn default() -> Self {
        Self::with_room(WAITING)
    }
}

#[derive(Debug)]
struct Line {
    room: usize,
    last: u64,
    /// By number, so that the first is the oldest.
    turns: BTreeMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    /// Closed when dropped. Its task borrows it while it looks, and only then.
    connection: Arc<AsyncFd<TcpStream>>,
    /// Wakes its task when dropped: closing alone would not.
    _over: oneshot::Sender<()>,
}

impl Waiting {
    pub(super) fn with_room(room: usize) -> Self {
        Self(Arc::new(Mutex::new(Line { room, last: 0, turns: BTreeMap::new() })))
    }

    /// Puts a connection at the end of the line.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub(super) fn join(&self, connection: TcpStream) -> io::Result<Turn> {
        let connection = Arc::new(watch(connection, Interest::READABLE)?);
        let (sender, over) = oneshot::channel();
        let mut line = self.lock();
        let gone = if line.turns.len() >= line.room { line.turns.pop_first() } else { None };
        line.last += 1;
        let turn = Turn { waiting: self.clone(), number: line.last, connection: Arc::downgrade(&connection), over };
        line.turns.insert(turn.number, Place { connection, _over: sender });
        drop(line);
        drop(gone);
        Ok(turn)
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        // No code under this lock leaves the line half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line, left when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    waiting: Waiting,
    number: u64,
    connection: Weak<AsyncFd<TcpStream>>,
    over: oneshot::Receiver<()>,
}

impl Turn {
    /// Who waits, for a look, as long as the place is its own; the task is woken when it is not.
    pub(super) fn poll_connection(&mut self, context: &mut Context<'_>) -> Option<Arc<AsyncFd<TcpStream>>> {
        // Nothing is ever sent.
        if Pin::new(&mut self.over).poll(context).is_ready() { None } else { self.connection.upgrade() }
    }

    /// Takes the connection out of the line, if its place is not somebody else's.
    pub(super) fn leave(self) -> Option<TcpStream> {
        let place = self.waiting.lock().turns.remove(&self.number)?;
        // Nobody else looks at it.
        Arc::into_inner(place.connection).map(AsyncFd::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let place = self.waiting.lock().turns.remove(&self.number);
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::task::Waker;

    use super::*;

    /// Those who wait, and the other end of each.
    fn crowd(waiting: &Waiting, size: usize) -> (Vec<Turn>, Vec<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = |_| {
            let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            theirs.set_nonblocking(true).unwrap();
            (waiting.join(listener.accept().unwrap().0).unwrap(), theirs)
        };
        (0..size).map(pair).unzip()
    }

    fn is_open(mut end: &TcpStream) -> bool {
        end.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn sec_28_the_oldest_makes_room_for_the_newest() {
        let waiting = Waiting::with_room(2);
        let (mut turns, ends) = crowd(&waiting, 3);
        // Closed at once, whether or not its task has heard of it.
        assert_eq!(ends.iter().map(is_open).collect::<Vec<_>>(), [false, true, true]);
        let mut context = Context::from_waker(Waker::noop());
        let waits: Vec<bool> = turns.iter_mut().map(|turn| turn.poll_connection(&mut context).is_some()).collect();
        assert_eq!(waits, [false, true, true]);
        // Who is served leaves a place and stays open, and nobody else has to go.
        let served = turns.remove(1).leave().expect("a place of its own");
        let (newest, end) = crowd(&waiting, 1);
        assert!(ends.iter().skip(1).chain(&end).all(is_open));
        assert_eq!(waiting.lock().turns.len(), 2);
        // The place of the first was taken already.
        assert!(turns.remove(0).leave().is_none());
        drop(turns);
        assert_eq!(waiting.lock().turns.len(), 1);
        drop((newest, served));
        assert!(waiting.lock().turns.is_empty(), "nothing stays behind");
        assert!(!ends.iter().chain(&end).any(is_open));
    }
}
