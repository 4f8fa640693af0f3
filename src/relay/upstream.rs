//! Connecting to the FTP server: paced, bounded, and with an eye on a server that bans us.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::socket;
use crate::config::{Config, Listener, Upstream};

/// Control connections to one server that may be under way at once: half of IIS' listen backlog of 60, which
/// others use as well.
const MAX_UNDER_WAY: usize = 30;

/// So many hang-ups in a row before a greeting are no accident.
const SUSPICIOUS: u32 = 3;

const LOOP: &str = "the upstream is one of our own listeners";

/// The way to a listener's FTP server.
#[derive(Debug)]
pub(super) struct Connector {
    listener: String,
    upstream: Upstream,
    timeout: Duration,
    under_way: Semaphore,
    pace: Option<Pace>,
    /// The last addresses that the name resolved to.
    resolved: Mutex<Vec<SocketAddr>>,
    /// Knows where we listen ourselves.
    config: Arc<Config>,
    hang_ups: AtomicU32,
}

/// One connect each `interval`.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// Waits for this connect's turn, in the order of the calls.
    async fn turn(&self) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + self.interval;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

impl Connector {
    /// The connector of one listener of `config`.
    pub(super) fn new(listener: &Listener, config: Arc<Config>) -> Self {
        let pace = listener
            .limits
            .connects_per_second
            .map(|rate| Pace { interval: Duration::from_secs(1) / rate.get(), next: Mutex::new(Instant::now()) });
        Self {
            listener: listener.name.clone(),
            upstream: listener.upstream.clone(),
            timeout: listener.timeouts.connect_server,
            under_way: Semaphore::new(MAX_UNDER_WAY),
            pace,
            resolved: Mutex::default(),
            config,
            hang_ups: AtomicU32::new(0),
        }
    }

    /// A control connection to the server. Waits for its turn without limit, the session's login timer bounds
    /// that; `timeouts.connect_server` counts from there.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        let _permit = self.under_way.acquire().await.map_err(io::Error::other)?;
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
        let connecting = async {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for target in self.targets().await? {
                let attempt = if self.config.serves(target) {
                    Err(io::Error::other(LOOP))
                } else {
                    socket::connect(target, None, self.timeout).await
                };
                match attempt.and_then(|stream| self.refuse_loop(stream)) {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        tokio::time::timeout(self.timeout, connecting).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// A connection from an address to itself has not left this machine; if it ended at a port of ours, every session
    /// would open another without end. Only now is it known which addresses a wildcard listener has.
    fn refuse_loop(&self, stream: TcpStream) -> io::Result<TcpStream> {
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        let ours = self.config.listeners.iter().flat_map(|listener| &listener.bind);
        let is_ours = |bind: &SocketAddr| bind.port() == peer.port() && bind.ip().is_unspecified();
        if peer.ip() == local.ip() && ours.into_iter().any(is_ours) {
            return Err(io::Error::other(LOOP));
        }
        Ok(stream)
    }

    /// A name is resolved anew for each session; while that fails, its last addresses serve on.
    async fn targets(&self) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = match &self.upstream {
            Upstream::Address(addr) => return Ok(vec![*addr]),
            Upstream::Name { host, port } => (host.as_str(), *port),
        };
        let found = tokio::net::lookup_host((host, port)).await.map(Iterator::collect::<Vec<_>>);
        let mut last = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(found) if !found.is_empty() => last.clone_from(&found),
            Err(error) if last.is_empty() => return Err(error),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(listener = self.listener, %host, %error, "cannot resolve, using the last addresses")
            }
        }
        Ok(last.clone())
    }

    /// The server has welcomed a client.
    pub(super) fn greeted(&self) {
        if self.hang_ups.load(Ordering::Relaxed) != 0 {
            self.hang_ups.store(0, Ordering::Relaxed);
        }
    }

    /// The server has closed a connection instead of greeting.
    pub(super) fn hung_up(&self) {
        if self.hang_ups.fetch_add(1, Ordering::Relaxed) + 1 == SUSPICIOUS {
            tracing::error!(
                listener = self.listener,
                upstream = %self.upstream,
                "the FTP server closed {SUSPICIOUS} connections in a row before greeting: it seems to ban this proxy's \
                 address, which to the server is every client's; exempt it there (IIS: IP Address and Domain \
                 Restrictions, Logon Attempt Restrictions; Serv-U: Limits & Settings, IP Access, anti-hammering)"
            );
        }
    }
}

impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upstream.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rel_27_connects_are_paced_in_order() {
        let pace = Pace { interval: Duration::from_millis(100), next: Mutex::new(Instant::now()) };
        let start = Instant::now();
        for turn in 0..5 {
            pace.turn().await;
            assert_eq!(start.elapsed().as_millis(), turn * 100);
        }
    }
}
