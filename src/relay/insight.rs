//! What the outside may know of a running proxy, and do to it: the admin interface's side of the relay.

use std::sync::{Arc, Mutex, MutexGuard};

use super::Process;
use super::generation::{self, Generation};
pub use super::live::{LiveSession, State};
use crate::metrics::Format;

/// A view of the process, which outlives a reload. Clones are the same.
#[derive(Debug, Clone)]
pub struct Insight {
    process: Process,
    current: Arc<Mutex<Generation>>,
}

impl Insight {
    pub(super) const fn new(process: Process, current: Arc<Mutex<Generation>>) -> Self {
        Self { process, current }
    }

    /// All metrics, as text.
    #[must_use]
    pub fn metrics(&self, format: Format) -> String {
        let servers = self.current().servers();
        self.process.metrics.encode(format, servers)
    }

    /// The sessions that there are, oldest first.
    #[must_use]
    pub fn sessions(&self) -> Vec<LiveSession> {
        self.process.live.list()
    }

    /// Ends a session at once, with a reset on each of its connections, so that what is cut looks cut. False if there is no
    /// session of this number.
    #[must_use]
    pub fn kill(&self, id: u64) -> bool {
        self.process.live.kill(id)
    }

    /// Why new clients should go elsewhere; empty: they are served. Of servers only those count that are checked: the others
    /// would never be found up again where no client comes.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let stopping = self.process.stop.is_cancelled().then(|| "stopping".to_owned());
        stopping.into_iter().chain(self.current().impediments()).collect()
    }

    fn current(&self) -> MutexGuard<'_, Generation> {
        generation::in_use(&self.current)
    }
}
