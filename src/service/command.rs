//! Commands to a running ftp-alg, over a Unix socket: unlike a signal, they are answered.
//!
//! ```text
//!   reload\n  ──▶
//!             ◀──  ok\n                      new sessions have the new configuration
//!             ◀──  refused\n<every reason>   nothing has changed
//! ```
//!
//! Who may write to the socket may give commands: the file is for its owner alone (0600). It takes its place in one step,
//! by rename(2), so that nobody ever finds it with other permissions.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// Where commands are given unless somebody says otherwise: with `RuntimeDirectory=ftp-alg`, systemd makes the directory,
/// and they are taken there.
pub const DEFAULT_SOCKET: &str = "/run/ftp-alg/control.sock";

/// The file in a directory that a service manager has made for us.
pub const SOCKET_NAME: &str = "control.sock";

/// The command.
const RELOAD: &[u8] = b"reload\n";

/// How long somebody who has connected may take to say what is wanted, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looking up names takes 10 s at most, and everything else less.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// The socket for commands cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot take commands at {}: {error}", .path.display())]
pub struct CommandError {
    path: PathBuf,
    error: io::Error,
}

/// Why a reload did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The program has refused it, for these reasons.
    #[error("{0}")]
    Refused(String),
    /// Nobody is there.
    #[error(
        "nobody takes commands at {}: {error}; does ftp-alg run, with `RuntimeDirectory=ftp-alg` in its unit or with \
         `--control`? SIGHUP asks for the same, and the log has the answer", .path.display()
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// It has ended, or got stuck.
    #[error("ftp-alg has not answered: {0}")]
    Unanswered(io::Error),
}

/// Tells the program that listens there to read its configuration again, and waits for the answer.
///
/// # Errors
/// There is none, or it is no.
pub fn reload(path: &Path) -> Result<(), ReloadError> {
    use io::{Read, Write};
    use std::os::unix::net::UnixStream;

    let unreachable = |error| ReloadError::Unreachable { path: path.into(), error };
    let mut stream = UnixStream::connect(path).map_err(unreachable)?;
    let mut answer = String::new();
    let asked = stream
        .set_read_timeout(Some(ANSWER_TIME))
        .and_then(|()| stream.write_all(RELOAD))
        .and_then(|()| stream.read_to_string(&mut answer));
    asked.map_err(ReloadError::Unanswered)?;
    match answer.split_once('\n') {
        Some(("ok", _)) => Ok(()),
        Some(("refused", reasons)) => Err(ReloadError::Refused(reasons.trim_end().to_owned())),
        _ => Err(ReloadError::Unanswered(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Somebody has asked for a reload, and waits.
#[derive(Debug)]
pub(super) struct Asked(oneshot::Sender<Result<(), String>>);

impl Asked {
    pub(super) fn answer(self, outcome: Result<(), String>) {
        // Who has left does not want to know.
        let _left = self.0.send(outcome);
    }
}

/// Commands that come in. Dropped, none is taken any more.
#[derive(Debug)]
pub(super) struct Commands {
    asked: mpsc::Receiver<Asked>,
    listening: tokio::task::AbortHandle,
    path: PathBuf,
    /// Tells our file from one that another process has put there since.
    file: (u64, u64),
}

/// The next command; without a socket none comes. Cancel safe.
pub(super) async fn next(commands: &mut Option<Commands>) -> Asked {
    if let Some(commands) = commands
        && let Some(asked) = commands.asked.recv().await
    {
        return asked;
    }
    std::future::pending().await
}

impl Commands {
    /// Takes commands at this path. What a process that is no more has left there is replaced.
    pub(super) fn listen(path: &Path) -> Result<Self, CommandError> {
        let (listener, file) = bind(path).map_err(|error| CommandError { path: path.into(), error })?;
        let (ask, asked) = mpsc::channel(1);
        let listening = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    // One at a time: there is one configuration.
                    Ok((stream, _)) => serve(stream, &ask).await.unwrap_or_else(|error| {
                        tracing::debug!(%error, "a command was not taken");
                    }),
                    // Out of descriptors: see `relay::accept`.
                    Err(error) => {
                        tracing::warn!(%error, "cannot take commands, pausing for a second");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        });
        Ok(Self { asked, listening: listening.abort_handle(), path: path.into(), file })
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.listening.abort();
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file) {
            // Left behind, the next process replaces it.
            let _left_behind = fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("there is a file that is no socket; name another path, or remove it"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::other("another ftp-alg takes commands there; name another path with --control"));
        }
        // Nothing, or what is left of a process that was killed.
        Ok(_) | Err(_) => {}
    }
    let mut own = path.as_os_str().to_owned();
    own.push(format!(".{}", std::process::id()));
    let own = PathBuf::from(own);
    let listener = UnixListener::bind(&own)?;
    let placed = fs::set_permissions(&own, Permissions::from_mode(0o600))
        .and_then(|()| fs::symlink_metadata(&own))
        .and_then(|found| fs::rename(&own, path).map(|()| (found.dev(), found.ino())));
    if placed.is_err() {
        let _left_behind = fs::remove_file(&own);
    }
    Ok((listener, placed?))
}

async fn serve(mut stream: UnixStream, ask: &mpsc::Sender<Asked>) -> io::Result<()> {
    let mut line = [0; RELOAD.len()];
    within(stream.read_exact(&mut line)).await?;
    let answer = if line == RELOAD {
        let (answer, answered) = oneshot::channel();
        // Without the other end it stops, and says nothing.
        ask.send(Asked(answer)).await.map_err(io::Error::other)?;
        match answered.await.map_err(io::Error::other)? {
            Ok(()) => "ok\n".to_owned(),
            Err(reasons) => format!("refused\n{reasons}\n"),
        }
    } else {
        "refused\nthe command is not known; this ftp-alg may be older than the one that sent it\n".to_owned()
    };
    within(stream.write_all(answer.as_bytes())).await
}

async fn within<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, what).await.map_err(|_| io::ErrorKind::TimedOut)?
}
