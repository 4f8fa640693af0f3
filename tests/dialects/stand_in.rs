//! Stand-ins for servers that cannot run here: one engine that plays any of them from a table.
//!
//! They serve real files over real sockets. Threads and blocking calls throughout: a session is read from top to
//! bottom, and the timing is that of a server that does one thing after the other.

pub mod dialect;
mod microsoft;
mod offer;
mod others;
mod serv_u;
mod session;
mod store;
mod transfer;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use dialect::{Dialect, Limits};

/// Every server.
pub const ALL: [&Dialect; 15] = [
    &microsoft::IIS_6,
    &microsoft::IIS_7_5,
    &microsoft::IIS_10,
    &serv_u::SERV_U_6,
    &serv_u::SERV_U_7,
    &serv_u::SERV_U_10,
    &serv_u::SERV_U_15,
    &others::FILEZILLA_0_9,
    &others::FILEZILLA_1,
    &others::WU_FTPD,
    &others::NETBSD,
    &others::IBM_I,
    &others::Z_OS,
    &others::APACHE_FTPSERVER,
    &others::PYFTPDLIB_1_5,
];

/// The server of this name.
pub fn named(name: &str) -> &'static Dialect {
    ALL.into_iter().find(|dialect| dialect.name == name).unwrap_or_else(|| panic!("no stand-in is called {name}"))
}

/// What a test sets.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The server's time limits are shorter by this factor: tests cannot wait for 120 s.
    pub faster: u32,
    /// How many passive ports may wait for one client address. Serv-U's own number is not known.
    pub pending_per_address: usize,
    /// What passes between the final reply and the FIN of a server that says 226 first.
    pub before_fin: Duration,
    /// Admits nobody without TLS.
    pub requires_tls: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { faster: 1, pending_per_address: 16, before_fin: Duration::from_millis(20), requires_tls: false }
    }
}

/// A server that plays a dialect until the process ends.
#[derive(Debug)]
pub struct StandIn {
    shared: Arc<Shared>,
}

/// What its sessions share.
#[derive(Debug)]
struct Shared {
    dialect: &'static Dialect,
    options: Options,
    root: PathBuf,
    /// Passive ports that wait for their connection, by the client that asked for them.
    pending: Mutex<HashMap<IpAddr, usize>>,
    /// Every command, with the address of its client.
    heard: Mutex<Vec<(SocketAddr, String)>>,
}

impl StandIn {
    /// Starts it; what is under `root` is its file system.
    pub fn start(dialect: &'static Dialect, options: Options, bind: SocketAddr, root: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind(bind)?;
        let shared = Arc::new(Shared { dialect, options, root, pending: Mutex::default(), heard: Mutex::default() });
        let for_sessions = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&for_sessions);
                thread::spawn(move || {
                    // A session that breaks off is no failure of the server.
                    let _broken = session::serve(stream, &shared);
                });
            }
        });
        Ok(Self { shared })
    }

    /// The commands of all sessions so far.
    pub fn heard(&self) -> Vec<String> {
        lock(&self.shared.heard).iter().map(|(_client, line)| line.clone()).collect()
    }

    /// Whom it takes for its clients.
    pub fn clients(&self) -> Vec<SocketAddr> {
        lock(&self.shared.heard).iter().map(|(client, _line)| *client).collect()
    }
}

impl Shared {
    /// Its limits, in the time of the test.
    fn limits(&self) -> Option<Limits> {
        let Limits { control_idle, data_idle, bytes_per_second } = self.dialect.habits.limits?;
        let faster = self.options.faster;
        Some(Limits { control_idle: control_idle / faster, data_idle: data_idle / faster, bytes_per_second })
    }

    /// How long a passive port waits: for most servers only the order of magnitude matters.
    fn pasv_wait(&self) -> Duration {
        self.limits().map_or(Duration::from_secs(60), |limits| limits.data_idle)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
