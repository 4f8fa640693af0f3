//! What the outside may know of a running proxy, and do to it: the admin interface's side of the relay.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Process;
pub use super::live::{LiveSession, State};
use crate::metrics::Format;

/// A view of the process, which outlives a reload. Clones are the same.
#[derive(Debug, Clone)]
pub struct Insight(Process);

impl Insight {
    pub(super) fn new(process: Process) -> Self {
        Self(process)
    }

    /// All metrics, as text.
    #[must_use]
    pub fn metrics(&self, format: Format) -> String {
        self.0.metrics.encode(format)
    }

    /// The sessions that there are, oldest first.
    #[must_use]
    pub fn sessions(&self) -> Vec<LiveSession> {
        self.0.live.list()
    }

    /// Ends a session at once, with a reset on each of its connections, so that what is cut looks cut. False if there is no
    /// session of this number.
    #[must_use]
    pub fn kill(&self, id: u64) -> bool {
        self.0.live.kill(id)
    }

    /// Why new clients should go elsewhere; empty: they are served.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let stopping = self.0.stop.is_cancelled().then(|| "stopping".to_owned());
        stopping.into_iter().chain(self.0.impediments.list()).collect()
    }
}

/// Why the process could not serve whoever comes now, by subject.
#[derive(Debug, Clone, Default)]
pub(super) struct Impediments(Arc<Mutex<BTreeMap<String, String>>>);

impl Impediments {
    /// What is wrong with this subject, such as a listener's servers; `None`: nothing any more.
    #[cfg_attr(not(test), expect(dead_code, reason = "nothing but stopping is known to be in the way yet"))]
    pub(super) fn set(&self, subject: &str, reason: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => drop(all.insert(subject.to_owned(), reason)),
            None => drop(all.remove(subject)),
        }
    }

    fn list(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(subject, reason)| format!("{subject}: {reason}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_said_until_it_is_not() {
        let process = Process::default();
        let insight = Insight::new(process.clone());
        assert!(insight.unready().is_empty());
        process.impediments.set("listener ftp", Some("no server answers".into()));
        process.stop.cancel();
        assert_eq!(insight.unready(), ["stopping", "listener ftp: no server answers"]);
        process.impediments.set("listener ftp", None);
        assert_eq!(insight.unready(), ["stopping"]);
    }
}
