//! The log, which goes to standard error: written by a thread of its own, so that nobody who reads it can hold up a
//! session.
//!
//! Standard error may be a pipe that is full, or a journal that is stuck. Lines wait in a queue then; when that is full
//! they are dropped and counted, and the count is told once there is room again.

use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::sync::mpsc;
use std::time::Duration;

use clap::ValueEnum;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::Run;

/// How many lines may wait to be written: what 8,000 sessions say that end at the same time. About 5 MB.
const QUEUE: usize = 16_384;

/// How long the writing thread rests after it has written all there was. Woken for each line, it would cost a busy proxy
/// more than the lines do; so it is woken 200 times a second at most, and writes together what has gathered.
const REST: Duration = Duration::from_millis(5);

/// How often it is looked at whether lines were dropped.
const LOOK: Duration = Duration::from_secs(2);

/// How to write the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

/// Only the check: an [`EnvFilter`] cannot be cloned, as clap requires of a value.
pub(super) fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.into()).map_err(|e| e.to_string())
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// What to log is not understood.
    #[error("`{text}` does not say what to log; write RUST_LOG=info, or leave it out")]
    Filter {
        /// What `RUST_LOG` says.
        text: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// It goes nowhere.
    #[error("standard error cannot be used for the log; leave it open, or lead it to /dev/null")]
    Closed(#[source] io::Error),
}

/// How long the end of the program waits for those who read the log.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The log of the process. Dropped, it writes what still waits, as long as that is read.
#[derive(Debug)]
pub struct Log {
    lost: LostLines,
    writer: Option<WorkerGuard>,
}

impl Drop for Log {
    fn drop(&mut self) {
        let (done, is_done) = mpsc::channel::<()>();
        let writer = self.writer.take();
        // Where nobody reads, the guard complains on standard output, which may be the same stuck pipe.
        std::thread::spawn(move || drop((writer, done)));
        // An error is what it waits for: `done` is gone.
        let _dropped = is_done.recv_timeout(LAST_WORDS);
    }
}

/// How many lines the log has lost.
#[derive(Debug, Clone)]
pub struct LostLines(ErrorCounter);

impl LostLines {
    /// Lines that found no room in the queue, since the start.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.dropped_lines()
    }

    /// Tells of lost lines as soon as there is room for it again. Never ends; cancel safe.
    pub async fn tell(self) {
        let mut told = 0;
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let lost = self.count();
            if lost > told && self.say(lost) {
                told = lost;
            }
        }
    }

    /// False if that line was lost, too.
    fn say(&self, lost: usize) -> bool {
        tracing::warn!(lost, "log lines were lost: standard error is not read fast enough; lost since the start");
        self.count() == lost
    }
}

impl Log {
    /// Of what was lost.
    #[must_use]
    pub fn lost(&self) -> LostLines {
        self.lost.clone()
    }
}

impl Run {
    /// What to log.
    ///
    /// # Errors
    /// `RUST_LOG` is in use and wrong.
    pub fn log_filter(&self) -> Result<EnvFilter, LogError> {
        match (&self.log_level, std::env::var(EnvFilter::DEFAULT_ENV)) {
            (Some(level), _) => {
                EnvFilter::try_new(level).map_err(|source| LogError::Filter { text: level.clone(), source })
            }
            (None, Ok(text)) if !text.is_empty() => {
                EnvFilter::try_new(&text).map_err(|source| LogError::Filter { text, source })
            }
            (None, _) => Ok(EnvFilter::new("info")),
        }
    }

    /// Starts logging to standard error, for as long as what it returns is kept.
    ///
    /// # Errors
    /// There is no standard error.
    pub fn start_log(&self, filter: EnvFilter) -> Result<Log, LogError> {
        // Not through `io::stderr`: whoever waits there for a reader keeps its lock.
        let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(LogError::Closed)?;
        let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE).thread_name("log");
        let (writer, guard) = queue.finish(Gathered(BufWriter::new(std::fs::File::from(stderr))));
        let lost = LostLines(writer.error_counter());
        let log = tracing_subscriber::fmt().with_writer(writer).with_env_filter(filter);
        match self.log_format {
            // Journals and files are not terminals: colour codes there are noise.
            LogFormat::Text => log.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
        std::panic::set_hook(Box::new(panicked));
        Ok(Log { lost, writer: Some(guard) })
    }
}

/// Writes lines together. The thread of the log flushes it when no further line waits.
struct Gathered<W: Write>(BufWriter<W>);

impl<W: Write> Write for Gathered<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(line)
    }

    /// Never fails: tracing-appender would take an error here for no end of the log, and make the end of the program wait.
    fn flush(&mut self) -> io::Result<()> {
        let _unread = self.0.flush();
        std::thread::sleep(REST);
        Ok(())
    }
}

/// A panic ends one session. Told by the default hook it would wait for whoever reads standard error, and be no JSON.
fn panicked(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let at = panic.location().map_or_else(String::new, ToString::to_string);
    let current = std::thread::current();
    let thread = current.name().unwrap_or_default();
    tracing::error!(thread, "panicked at {at}, which is a defect: {}", text.unwrap_or("no reason given"));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;

    /// What was written, and in how many calls.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<String>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_together_and_then_it_rests() {
        let sink = Sink::default();
        let mut log = Gathered(BufWriter::new(sink.clone()));
        for line in ["one\n", "two\n", "three\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let start = Instant::now();
        log.flush().unwrap();
        assert!(start.elapsed() >= REST);
        assert_eq!(*sink.0.lock().unwrap(), ["one\ntwo\nthree\n"]);
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_does_not_wait_for_a_log_that_is_broken() {
        let (mut log, guard) = NonBlockingBuilder::default().finish(Gathered(BufWriter::new(Broken)));
        log.write_all(b"line\n").unwrap();
        std::thread::sleep(10 * REST);
        let start = Instant::now();
        // `log` lives on, as the subscriber does.
        drop(guard);
        assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    }

    #[test]
    fn what_waits_at_the_end_is_written() {
        let sink = Sink::default();
        let (mut log, guard) = NonBlockingBuilder::default().finish(Gathered(BufWriter::new(sink.clone())));
        for _ in 0..100 {
            log.write_all(b"line\n").unwrap();
        }
        drop((log, guard));
        assert_eq!(sink.0.lock().unwrap().concat(), "line\n".repeat(100));
    }
}
