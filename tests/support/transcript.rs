//! What went over the wires of a test, in order, for the message of a failure.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How many bytes of one read or write are shown.
const SHOWN: usize = 160;

/// Shared by all wires of a test.
#[derive(Debug, Clone)]
pub(crate) struct Transcript {
    start: Instant,
    lines: Arc<Mutex<Vec<String>>>,
    /// What the proxy wrote to stderr.
    stderr: Arc<Mutex<String>>,
}

impl Transcript {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), lines: Arc::default(), stderr: Arc::default() }
    }

    pub(crate) fn note(&self, wire: &str, what: &str) {
        let at = self.start.elapsed().as_millis();
        lock(&self.lines).push(format!("{at:>5} ms  {wire:<12} {what}"));
    }

    pub(crate) fn bytes(&self, wire: &str, arrow: &str, bytes: &[u8]) {
        let shown = &bytes[..bytes.len().min(SHOWN)];
        let more = if shown.len() < bytes.len() { format!("… {} bytes", bytes.len()) } else { String::new() };
        self.note(wire, &format!("{arrow} {}{more}", shown.escape_ascii()));
    }

    pub(crate) fn stderr_line(&self, line: &str) {
        lock(&self.stderr).push_str(line);
    }

    pub(crate) fn stderr(&self) -> String {
        lock(&self.stderr).clone()
    }

    /// Ends the test with everything that is known about it.
    #[track_caller]
    pub(crate) fn fail(&self, why: &str) -> ! {
        let mut text = format!("{why}\n--- transcript\n");
        for line in lock(&self.lines).iter() {
            let _infallible = writeln!(text, "{line}");
        }
        panic!("{text}--- stderr of the proxy\n{}---", lock(&self.stderr));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
