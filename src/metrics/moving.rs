//! The bytes of data connections, of those that run as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a data channel has moved so far.
pub trait Progress: Send + Sync + 'static {
    /// Bytes from the client to the server, and from the server to the client.
    fn moved(&self) -> (u64, u64);
}

/// All bytes of a listener.
#[derive(Default)]
pub(super) struct Bytes(Mutex<State>);

#[derive(Default)]
struct State {
    /// Of channels that are over.
    up: u64,
    down: u64,
    running: HashMap<u64, Arc<dyn Progress>>,
    last: u64,
}

impl Bytes {
    /// Up and down. Never less than before: a channel is either among those that run, or counted.
    pub(super) fn total(&self) -> (u64, u64) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = state.running.values().map(|progress| progress.moved());
        moved.fold((state.up, state.down), |(up, down), (more_up, more_down)| (up + more_up, down + more_down))
    }

    pub(super) fn begin(&self, progress: Arc<dyn Progress>) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last += 1;
        let id = state.last;
        state.running.insert(id, progress);
        id
    }

    fn end(&self, id: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = state.running.remove(&id) {
            let (up, down) = progress.moved();
            state.up += up;
            state.down += down;
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (up, down) = self.total();
        f.debug_struct("Bytes").field("up", &up).field("down", &down).finish_non_exhaustive()
    }
}

/// A data channel that moves bytes. Dropped, it is over, and what it has moved is kept.
#[derive(Debug)]
pub struct Moving {
    pub(super) listener: Arc<super::ListenerMetrics>,
    pub(super) id: u64,
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.listener.bytes.end(self.id);
    }
}
