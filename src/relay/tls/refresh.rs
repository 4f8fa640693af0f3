//! Following certificates that are renewed.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::TlsServer;

/// How often files are looked at. Renewed certificates overlap by weeks; half a minute is what a person who has just
/// copied one waits for, and who does not want to wait sends SIGHUP.
const INTERVAL: Duration = Duration::from_secs(30);

/// What tells one content of a file from the next without reading it. Behind a symbolic link (certbot, Kubernetes) it is
/// that of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// In order; `None` for a file that cannot be looked at.
    pub(super) fn all(files: &[PathBuf]) -> Vec<Option<Self>> {
        files.iter().map(|path| std::fs::metadata(path).ok().map(|found| Self::of(&found))).collect()
    }

    fn of(file: &std::fs::Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino(), size: file.size(), modified: (file.mtime(), file.mtime_nsec()) }
    }
}

/// Follows the files of every listener, for ever.
pub async fn refresh(servers: Vec<Arc<TlsServer>>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is immediate, and the files have just been read.
    ticks.tick().await;
    while !servers.is_empty() {
        ticks.tick().await;
        for server in &servers {
            let server = Arc::clone(server);
            // A disk may be slow, and parsing takes a while on a small machine. A panic there has been reported.
            tokio::task::spawn_blocking(move || server.follow()).await.ok();
        }
    }
}
