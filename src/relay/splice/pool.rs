//! The pipes of the process: how many there are, who gets one, and what becomes of it afterwards.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{CAPACITY, Pipe};

/// Pipes at most: half of what the kernel grants all processes of a user before it makes new pipes tiny (16,384 pages
/// of 4 KiB, the default of fs.pipe-user-pages-soft). It is also the bound of the bytes that wait in pipes: 32 MiB.
pub(super) const LIMIT: usize = 16_384 * 4096 / 2 / CAPACITY;

/// Pipes kept that nobody uses. A transfer gives its pipe back whenever it waits for its sender, so between two
/// fast peers as many pipes are in use as there are worker threads; this is enough for many cores.
pub(super) const IDLE: usize = 32;

/// How long no new pipe is made after the system has refused one: it is out of descriptors or of pipe memory, and
/// either changes with the load, not from one packet to the next.
const RETRY: Duration = Duration::from_secs(1);

/// Which transfers go through pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// None.
    Never,
    /// Those in which much is waiting at once, so that it pays.
    #[default]
    Long,
    /// All, from the first byte on, so far as there are pipes.
    Always,
}

/// The pipes that all transfers share: few, for each is needed only while there are bytes in it.
pub struct Pipes {
    when: When,
    open: fn() -> io::Result<Pipe>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Empty pipes. The one that was used last is taken first, since the caches know it.
    idle: Vec<Pipe>,
    /// Pipes that exist, idle or not.
    open: usize,
    /// No new pipe before that.
    retry: Option<Instant>,
}

impl Pipes {
    /// No pipe yet.
    #[must_use]
    pub fn new(when: When) -> Self {
        Self::opened_by(when, Pipe::open)
    }

    /// Pipes from elsewhere.
    pub(in crate::relay) fn opened_by(when: When, open: fn() -> io::Result<Pipe>) -> Self {
        Self { when, open, state: Mutex::default() }
    }

    /// Which transfers go through pipes.
    pub(in crate::relay) const fn when(&self) -> When {
        self.when
    }

    /// How many pipes there are, each with two descriptors.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().open
    }

    /// An empty pipe, if there is one to be had.
    pub(in crate::relay) fn take(&self) -> Option<Pooled<'_>> {
        let mut state = self.state();
        let pipe = match state.idle.pop() {
            Some(pipe) => pipe,
            None => self.open(&mut state)?,
        };
        Some(Pooled { pipe: Some(pipe), pipes: self })
    }

    fn open(&self, state: &mut State) -> Option<Pipe> {
        if state.open == LIMIT || state.retry.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        match (self.open)() {
            Ok(pipe) => {
                state.open += 1;
                state.retry = None;
                Some(pipe)
            }
            Err(error) => {
                tracing::debug!(%error, open = state.open, "no pipe to be had; transfers are copied");
                state.retry = Some(Instant::now() + RETRY);
                None
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked while holding it was moving whole values: it is still true.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Pipes {
    fn default() -> Self {
        Self::new(When::default())
    }
}

impl fmt::Debug for Pipes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipes").field("when", &self.when).field("count", &self.count()).finish_non_exhaustive()
    }
}

/// A pipe on loan. It goes back when dropped, if it is empty; bytes of one transfer never reach another.
pub(in crate::relay) struct Pooled<'a> {
    /// Some until dropped.
    pipe: Option<Pipe>,
    pipes: &'a Pipes,
}

impl Deref for Pooled<'_> {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        self.pipe.as_ref().expect("there until dropped")
    }
}

impl DerefMut for Pooled<'_> {
    fn deref_mut(&mut self) -> &mut Pipe {
        self.pipe.as_mut().expect("there until dropped")
    }
}

impl Drop for Pooled<'_> {
    fn drop(&mut self) {
        let mut state = self.pipes.state();
        match self.pipe.take().filter(|pipe| pipe.held() == 0) {
            Some(pipe) if state.idle.len() < IDLE => state.idle.push(pipe),
            // Closed, and the bytes with it.
            Some(_) | None => state.open -= 1,
        }
    }
}
