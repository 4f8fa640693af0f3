//! The line of connections whose PROXY header has not come yet: so many in all of the process, and no more.
//!
//! Who comes when it is full takes the place of the oldest. A load balancer sends its header at once, so the oldest is
//! the last of which anything is to be expected: any number of connections that say nothing keep nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

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
    /// By number, so that the first is the oldest. Dropped, a turn is over.
    turns: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Waiting {
    fn with_room(room: usize) -> Self {
        Self(Arc::new(Mutex::new(Line { room, last: 0, turns: BTreeMap::new() })))
    }

    /// Joins the line at its end.
    pub(super) fn join(&self) -> Turn {
        let (sender, over) = oneshot::channel();
        let mut line = self.lock();
        if line.turns.len() >= line.room {
            line.turns.pop_first();
        }
        line.last += 1;
        let number = line.last;
        line.turns.insert(number, sender);
        drop(line);
        Turn { waiting: self.clone(), number, over }
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
    over: oneshot::Receiver<()>,
}

impl Turn {
    /// Returns when the place is somebody else's.
    pub(super) async fn over(&mut self) {
        // Nothing is ever sent.
        let _dropped = (&mut self.over).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.waiting.lock().turns.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Turn {
        fn is_over(&mut self) -> bool {
            self.over.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        }
    }

    #[test]
    fn sec_28_the_oldest_makes_room_for_the_newest() {
        let waiting = Waiting::with_room(2);
        let mut turns: Vec<Turn> = (0..3).map(|_| waiting.join()).collect();
        let over: Vec<bool> = turns.iter_mut().map(Turn::is_over).collect();
        assert_eq!(over, [true, false, false]);
        // Who is served leaves a place, and nobody else has to go.
        drop(turns.remove(1));
        let mut newest = waiting.join();
        assert!(!turns[1].is_over() && !newest.is_over());
        assert_eq!(waiting.lock().turns.len(), 2);
        // The place of the first was taken already.
        drop(turns);
        assert_eq!(waiting.lock().turns.len(), 1);
        drop(newest);
        assert!(waiting.lock().turns.is_empty(), "nothing stays behind");
    }
}
