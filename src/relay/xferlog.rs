//! The transfer log (`log.transfers`): a line for each file, in the format of xferlog(5), which reports and billing read.
//!
//! ```text
//!   sessions ──▶ queue ──▶ a thread ──▶ the file
//! ```
//!
//! A session never waits for it. Where a disk is full, a pipe is not read or a file system is stuck, lines wait in the
//! queue, and beyond that are lost, counted and complained of, while transfers go on.
//!
//! To open the file anew ([`TransferLog::follow`]) is to begin another thread with another queue: what was meant for the old
//! file still goes there.

mod line;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};
use rustix::fs::{Access, Mode, OFlags};
use rustix::io::Errno;

use self::line::Entry;
use crate::session::TransferRecord;

/// How many lines may wait to be written. Some 2 MB.
const QUEUE: usize = 8192;

/// How often it is said that lines are lost.
const COMPLAINT: Duration = Duration::from_secs(60);

/// How often the end looks whether all is written.
const LOOK: Duration = Duration::from_millis(5);

/// Names and addresses are not for everybody; a group may collect them.
const MODE: u32 = 0o640;

/// Why the transfer log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the transfer log {}: {error}; {}", path.display(), remedy(*error))]
pub struct OpenError {
    path: PathBuf,
    error: Errno,
}

/// What to do about it.
fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT | Errno::NOTDIR => {
            "create its directory (`LogsDirectory=` in the unit), for the user that ftp-alg runs as, or change log.transfers"
        }
        Errno::ACCESS | Errno::PERM => {
            "make it writable for the user that ftp-alg runs as (`LogsDirectory=` in the unit), or change log.transfers"
        }
        Errno::ROFS => "let the unit write there (`LogsDirectory=` or `ReadWritePaths=`), or change log.transfers",
        Errno::ISDIR => "write the name of a file under log.transfers",
        Errno::NXIO => "it is a pipe that nobody reads: start its reader first, or change log.transfers",
        _ => "change log.transfers",
    }
}

/// The transfer log of the process, or that there is none. Clones are the same log.
#[derive(Debug, Clone, Default)]
pub struct TransferLog(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    writers: Mutex<Writers>,
    losses: Arc<Losses>,
}

#[derive(Debug, Default)]
struct Writers {
    current: Option<Writer>,
    /// Those of files that are not written to any more, until they are done.
    past: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Writer {
    path: Arc<Path>,
    queue: SyncSender<Entry>,
    thread: JoinHandle<()>,
}

impl TransferLog {
    /// Opens the file at `path`, if there is to be one.
    ///
    /// # Errors
    /// It cannot be opened, with a remedy.
    pub fn open(path: Option<&Path>) -> Result<Self, OpenError> {
        let log = Self::default();
        log.follow(path)?;
        Ok(log)
    }

    /// Goes on in the file at `path`, which is opened anew even if it is the same: it may have been renamed. May wait for the
    /// file system.
    ///
    /// # Errors
    /// It cannot be opened, with a remedy; then the file that was open goes on.
    pub fn follow(&self, path: Option<&Path>) -> Result<(), OpenError> {
        let next = path.map(|path| Writer::start(path, &self.0.losses)).transpose()?;
        let mut writers = lock(&self.0.writers);
        let before = std::mem::replace(&mut writers.current, next);
        // Its queue ends here, and with it, once that is written, the thread.
        writers.past.extend(before.map(|writer| writer.thread));
        writers.past.retain(|thread| !thread.is_finished());
        Ok(())
    }

    /// Notes a transfer, if it was one of a file. Never waits.
    pub(super) fn record(&self, client: IpAddr, user: Option<&[u8]>, record: &TransferRecord) {
        let writers = lock(&self.0.writers);
        let Some(writer) = &writers.current else { return };
        let Some(entry) = Entry::new(client, user, record) else { return };
        self.0.losses.waiting.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = writer.queue.try_send(entry) {
            self.0.losses.waiting.fetch_sub(1, Ordering::Relaxed);
            self.0.losses.add(1, &writer.path, &"it is not written fast enough");
        }
    }

    /// How many lines were lost since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.losses.count.load(Ordering::Relaxed)
    }

    /// Ends the log: writes what waits, within `limit`. What is left then is lost.
    pub fn close(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let Writers { current, mut past } = std::mem::take(&mut *lock(&self.0.writers));
        past.extend(current.map(|writer| writer.thread));
        while past.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        let losses = &self.0.losses;
        losses.count.fetch_add(losses.waiting.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        if self.lost() > 0 {
            tracing::warn!(lost = self.lost(), "the transfer log has lost lines since the start");
        }
    }
}

/// Whether the file could be written to, and made if it is not there. Changes nothing.
///
/// # Errors
/// Why not.
pub fn check(path: &Path) -> Result<(), OpenError> {
    let found = match rustix::fs::open(path, WITHOUT_WAITING, Mode::empty()) {
        Err(Errno::NOENT) => path
            .parent()
            .ok_or(Errno::ISDIR)
            .and_then(|directory| rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)),
        other => other.map(drop),
    };
    found.map_err(|error| OpenError { path: path.into(), error })
}

/// To open a pipe waits for a reader otherwise.
const WITHOUT_WAITING: OFlags =
    OFlags::WRONLY.union(OFlags::APPEND).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

fn open(path: &Path) -> Result<File, Errno> {
    let file = rustix::fs::open(path, WITHOUT_WAITING | OFlags::CREATE, Mode::from_raw_mode(MODE))?;
    // From now on the thread that writes may wait: a pipe that is full for a moment loses nothing.
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file.into())
}

impl Writer {
    fn start(path: &Path, losses: &Arc<Losses>) -> Result<Self, OpenError> {
        let failed = |error| OpenError { path: path.into(), error };
        let file = open(path).map_err(failed)?;
        let path: Arc<Path> = path.into();
        let (queue, entries) = sync_channel(QUEUE);
        let (losses, at) = (Arc::clone(losses), Arc::clone(&path));
        let thread = std::thread::Builder::new()
            .name("transfers".into())
            .spawn(move || write_all(&entries, Output { file, torn: false }, &at, &losses))
            .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)))?;
        Ok(Self { path, queue, thread })
    }
}

fn write_all(entries: &Receiver<Entry>, mut output: Output, path: &Path, losses: &Losses) {
    for entry in entries {
        match output.append(&entry.line(&DateTime::<Local>::from(entry.ended))) {
            Ok(()) => losses.written(path),
            Err(error) => losses.add(1, path, &error),
        }
        losses.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open file.
struct Output {
    file: File,
    /// It ends within a line: the disk was full there.
    torn: bool,
}

impl Output {
    /// One write a line, so that lines of several programs do not mix.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let mut left = line;
        while !left.is_empty() {
            match self.file.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.torn = left.len() < line.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// What was lost, and what of it has been told.
#[derive(Debug, Default)]
struct Losses {
    count: AtomicU64,
    /// Lines in a queue, or being written.
    waiting: AtomicU64,
    /// When it was last complained of; `None` while all is well.
    told: Mutex<Option<Instant>>,
}

impl Losses {
    fn add(&self, lines: u64, path: &Path, why: &dyn fmt::Display) {
        let lost = self.count.fetch_add(lines, Ordering::Relaxed) + lines;
        let mut told = lock(&self.told);
        if told.is_none_or(|at| at.elapsed() >= COMPLAINT) {
            *told = Some(Instant::now());
            drop(told);
            let path = path.display();
            tracing::error!(%path, lost, error = %why, "the transfer log loses lines; transfers go on");
        }
    }

    fn written(&self, path: &Path) {
        if lock(&self.told).take().is_some() {
            let lost = self.count.load(Ordering::Relaxed);
            tracing::info!(path = %path.display(), lost, "the transfer log is written again");
        }
    }
}

/// Whoever panicked while holding it had not begun to change it, or was done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
