//! The timer table: what a session waits for, and until when.

use std::time::Instant;

/// Each deadline that a session can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// The client has logged in by then. Half-open and scripted connections hold a place at the server, too.
    Login,
    /// The client has sent a command by then; runs only while nothing at all goes on.
    Idle,
    /// A line that has begun is complete by then (slow drips hold buffers).
    Line,
    /// One side has closed; the other has followed by then.
    Close,
    /// The server answered PASV by something else; its real answer has come by then, or held commands go on.
    Straggler,
    /// The data connection failed; the server has said so by then, or we do (REL-09).
    Verdict,
}

const TIMERS: [Timer; 6] = [Timer::Login, Timer::Idle, Timer::Line, Timer::Close, Timer::Straggler, Timer::Verdict];

/// At most one deadline for each [`Timer`].
#[derive(Debug, Default)]
pub(super) struct TimerTable {
    deadlines: [Option<Instant>; TIMERS.len()],
}

impl TimerTable {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.deadlines[timer as usize] = Some(at);
    }

    /// Sets a deadline unless the timer runs already: the first cause counts.
    pub(super) fn start(&mut self, timer: Timer, at: Instant) {
        self.deadlines[timer as usize].get_or_insert(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// A timer whose deadline has passed; it is stopped.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Timer> {
        let timer = TIMERS.into_iter().find(|t| self.deadlines[*t as usize].is_some_and(|at| at <= now))?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_earliest_deadline_is_next_and_each_expires_once() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut table = TimerTable::default();
        assert_eq!(table.next(), None);
        table.set(Timer::Login, at(60));
        table.set(Timer::Line, at(5));
        table.start(Timer::Line, at(99));
        assert_eq!(table.next(), Some(at(5)));
        assert_eq!(table.expired(at(4)), None);
        assert_eq!(table.expired(at(5)), Some(Timer::Line));
        assert_eq!(table.expired(at(5)), None);
        assert_eq!(table.next(), Some(at(60)));
    }

    #[test]
    fn the_table_has_a_place_for_each_timer() {
        for (index, timer) in TIMERS.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }
}
