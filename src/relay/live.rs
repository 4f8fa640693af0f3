//! The sessions that there are, for those who look on from outside.
//!
//! Each session has a small cell that it writes to when what it does changes, at the boundaries of commands; nothing is
//! written for data, whose bytes are read from the channels themselves. The list of all cells is touched when a session
//! begins and when it ends.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::copy::Moved;
use super::journal::escaped;
use crate::addr::{Leg, PerLeg};
use crate::ftp::command::TransferVerb;
use crate::metrics::Counted;
use crate::session::{Activity, ChannelId, Session};

/// All sessions of the process.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<BTreeMap<u64, Arc<Cell>>>);

/// What is known of one session.
#[derive(Debug)]
pub(super) struct Cell {
    listener: Box<str>,
    client: SocketAddr,
    began: Instant,
    id: u64,
    process: Arc<Live>,
    now: Mutex<Now>,
    _counted: Counted,
}

#[derive(Debug, Default)]
struct Now {
    state: State,
    verb: Option<TransferVerb>,
    path: Bytes,
    user: Option<Box<[u8]>>,
    server: Option<SocketAddr>,
    tls: PerLeg<Option<&'static str>>,
    /// Of channels that are over.
    moved: (u64, u64),
    /// Of those that are not.
    running: Vec<(ChannelId, Instant, Arc<Moved>)>,
    /// Somebody wants it to end.
    killed: bool,
    /// Of the session's task, which is to hear of that.
    waker: Option<Waker>,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There is no connection to a server yet.
    #[default]
    Connecting,
    /// Nobody has logged in.
    Login,
    /// Nothing is under way.
    Idle,
    /// The server owes an answer.
    Command,
    /// A transfer runs, or its answer is still to come.
    Transfer,
    /// Client and server encrypt between them: nobody here knows.
    PassedThrough,
    /// It says farewell.
    Closing,
}

/// As in JSON.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One session, as it was when somebody asked. Texts that came from outside are escaped as in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveSession {
    /// The number that the log has.
    pub id: u64,
    /// The listener's name.
    pub listener: String,
    /// The client's address.
    pub client: SocketAddr,
    /// The name that the client last gave with USER.
    pub user: Option<String>,
    /// The server's address, while there is a connection.
    pub upstream: Option<SocketAddr>,
    /// What it is doing.
    pub state: State,
    /// The command of the transfer that runs.
    pub verb: Option<String>,
    /// Its argument.
    pub path: Option<String>,
    /// Data from the client to the server, in bytes.
    pub bytes_up: u64,
    /// Data from the server to the client, in bytes.
    pub bytes_down: u64,
    /// Bytes per second both ways, of the transfers that run, since they were set up.
    pub rate: u64,
    /// Seconds since the client connected.
    pub age: f64,
    /// The TLS version of the client's control connection; none without TLS, and where it is passed through.
    pub tls_client: Option<String>,
    /// The TLS version of the server's.
    pub tls_server: Option<String>,
}

/// The entry of a session; dropped, it is gone from the list.
#[derive(Debug)]
pub(super) struct Entry(Arc<Cell>);

impl Live {
    /// A session has begun. Its number is the log's.
    pub(super) fn enter(self: &Arc<Self>, id: u64, shared: &Shared, client: SocketAddr) -> Entry {
        let cell = Arc::new(Cell {
            listener: shared.config.name.as_str().into(),
            client,
            began: Instant::now(),
            id,
            process: Arc::clone(self),
            now: Mutex::default(),
            _counted: shared.metrics.session_began(),
        });
        self.lock().insert(id, Arc::clone(&cell));
        Entry(cell)
    }

    /// All of them, oldest first.
    pub(super) fn list(&self) -> Vec<LiveSession> {
        let cells: Vec<Arc<Cell>> = self.lock().values().map(Arc::clone).collect();
        cells.iter().map(|cell| cell.view()).collect()
    }

    /// Ends a session now, by resets. False if there is none of this number.
    pub(super) fn kill(&self, id: u64) -> bool {
        let cell = self.lock().get(&id).map(Arc::clone);
        cell.is_some_and(|cell| {
            let mut now = cell.lock();
            now.killed = true;
            if let Some(waker) = now.waker.take() {
                waker.wake();
            }
            true
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Cell>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> LiveSession {
        let now = self.lock();
        let (mut bytes_up, mut bytes_down) = now.moved;
        let mut rate = 0.0;
        for (_, since, moved) in &now.running {
            let (up, down) = (moved.up(), moved.down());
            bytes_up += up;
            bytes_down += down;
            // Shorter than that says nothing.
            rate += (up + down) as f64 / since.elapsed().as_secs_f64().max(0.001);
        }
        let is_transfer = now.state == State::Transfer;
        LiveSession {
            id: self.id,
            listener: self.listener.to_string(),
            client: self.client,
            user: now.user.as_deref().map(escaped),
            upstream: now.server,
            state: now.state,
            verb: now.verb.map(|verb| verb.as_str().to_owned()),
            path: is_transfer.then(|| escaped(&now.path)),
            bytes_up,
            bytes_down,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "of a finite sum of positive numbers"
            )]
            rate: rate as u64,
            age: self.began.elapsed().as_secs_f64(),
            tls_client: now.tls.client.map(str::to_owned),
            tls_server: now.tls.server.map(str::to_owned),
        }
    }
}

impl Entry {
    /// Returns once somebody wants the session to end. Cancel safe; for one task at a time. It takes no room in the future
    /// of an idle session but for a reference.
    pub(super) fn killed(&self) -> impl Future<Output = ()> {
        poll_fn(|context| {
            let now = &mut *self.0.lock();
            if now.killed {
                return Poll::Ready(());
            }
            match &mut now.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
    }

    /// Takes note of what the session is doing. Costs a lock that nobody else holds, and no more while nothing has changed.
    pub(super) fn update(&self, session: &Session, is_passed: bool) {
        let now = &mut *self.0.lock();
        let (state, transfer) = match session.activity() {
            _ if is_passed => (State::PassedThrough, None),
            Activity::Connecting => (State::Connecting, None),
            Activity::LoggingIn => (State::Login, None),
            Activity::Idle => (State::Idle, None),
            Activity::Waiting => (State::Command, None),
            Activity::Transferring { verb, path } => (State::Transfer, Some((verb, path))),
        };
        now.state = state;
        let (verb, path) = transfer.map_or((None, None), |(verb, path)| (verb, Some(path)));
        now.verb = verb;
        match path {
            Some(path) if *path != now.path => now.path = path.clone(),
            None if !now.path.is_empty() => now.path = Bytes::new(),
            Some(_) | None => {}
        }
        if now.user.as_deref() != session.user() {
            now.user = session.user().map(Into::into);
        }
    }

    /// The session says farewell.
    pub(super) fn closing(&self) {
        self.0.lock().state = State::Closing;
    }

    /// The server is there, or gone.
    pub(super) fn server(&self, at: Option<SocketAddr>) {
        let mut now = self.0.lock();
        now.server = at;
        now.tls.server = None;
    }

    /// A control connection is encrypted, or no longer.
    pub(super) fn tls(&self, leg: Leg, version: Option<&'static str>) {
        self.0.lock().tls[leg] = version;
    }

    /// A channel opens, which counts here what it moves.
    pub(super) fn channel(&self, id: ChannelId) -> Arc<Moved> {
        let moved = Arc::new(Moved::default());
        self.0.lock().running.push((id, Instant::now(), Arc::clone(&moved)));
        moved
    }

    /// A channel is over.
    pub(super) fn channel_ended(&self, id: ChannelId) {
        let now = &mut *self.0.lock();
        if let Some(index) = now.running.iter().position(|(running, ..)| *running == id) {
            let (_, _, moved) = now.running.swap_remove(index);
            now.moved.0 += moved.up();
            now.moved.1 += moved.down();
        }
        if now.running.is_empty() {
            // An idle session keeps no room for them.
            now.running = Vec::new();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.process.lock().remove(&self.0.id);
        // The task that it wakes is over.
        self.0.lock().waker = None;
    }
}
