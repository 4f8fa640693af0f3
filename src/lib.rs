//! ftp-alg: a transparent FTP-aware NAT/ALG proxy.
//!
//! It stands in front of an FTP server that nobody may change, or in front of clients that nobody may change, reads
//! the control connection, puts addresses that work in place of those that do not, and carries the data connections
//! through a few fixed ports.
//!
//! ```text
//!     client ──control──▶ [ client leg | Session | server leg ] ──control──▶ server
//!     client ◀──data────▶ [ client end |  copy   | server end ] ◀──data────▶ server
//! ```
//!
//! A [`Leg`](addr::Leg) is one of the two control connections; whatever exists twice is configured and coded once per
//! leg. A data channel has two ends, and an end either *accepts* (we announced an address and wait) or *dials* (the
//! peer announced one). PASV makes the client end accept, PORT makes it dial; what the server end does follows from
//! `server.data_mode`. So every combination of modes, families and deployments is one mechanism.
//!
//! # Layers
//!
//! Imports go down this list only (`tests/tidy.rs` checks it), and bytes go one way through it: bytes → lines →
//! commands → session → actions → sockets.
//!
//! | module | what | pure |
//! |---|---|---|
//! | `main`, `cli` | arguments, log, exit codes | |
//! | [`privileges`] | what the process may do | |
//! | [`discover`] | what is announced, found out now and again: names, the public address | |
//! | [`admin`] | metrics, health and live sessions, over HTTP | |
//! | [`relay`] | the shell: sockets, tasks, copying | |
//! | [`metrics`] | what is counted, and its names | |
//! | [`config`] | `proxy.yaml`, valid by construction | |
//! | [`session`] | the state machine of one FTP session | yes |
//! | [`ftp`] | the wire: lines, commands, replies, addresses in them | yes |
//! | [`nat`] | what to announce, what may be dialled | yes |
//! | [`proxy_protocol`] | what a load balancer says of a connection | yes |
//! | [`addr`] | addresses by the part that they play | yes |
//!
//! Pure means: no sockets, no files, no tasks and no clock; `now` is passed in. What goes wrong with FTP middleboxes
//! goes wrong in their control plane, so that part can be tested at every split point of its input.
//!
//! # Threats
//!
//! * A client makes us connect to a third party (bounce): only [`Policy::vet`](nat::policy::Policy::vet) makes a
//!   [`DialTarget`](nat::policy::DialTarget), and nothing else can be dialled.
//! * A server names a third party: its reply's address is never used, [`Policy::vet_server`](nat::policy::Policy::vet_server).
//! * A client chooses a server that is none of its business, or ourselves: [`nat::destinations`], and loops are looked for
//!   before and after connecting (`relay::upstream`).
//! * Somebody else takes a data connection: a lease in [`relay::ports`] belongs to a port *and* a peer
//!   (`client.data_peer` and `server.data_peer` can widen that). Ports that are passed through know only addresses:
//!   `relay::passthrough`.
//! * Somebody pretends to be another client of a load balancer: headers come from trusted addresses only, and are required
//!   there, see `relay::gate`.
//! * One client takes everything: sessions are counted by address in `relay::admission`, descriptors before anything is
//!   served in `relay::descriptors`.
//! * A web page, or a flood, on the admin interface: see [`admin`].
//! * Somebody guesses passwords, and the server bans us for it: `relay::logins`.
//! * TLS that ends early, or that somebody else goes on with: see [`relay::tls`].
//! * Somebody who is not the cloud says what our public address is: the firmware tells whether there is a cloud to ask
//!   before anything is sent, and only public addresses are believed, see [`discover`].
//! * Text that looks like a reply, a web page that looks like a command: see [`session`] and [`ftp`].
//! * Text is slipped across a switch to TLS: nothing may lie behind the command that asks for it, see [`session`].
//! * A cut transfer that looks complete: every data socket resets unless it ended well, see [`relay::copy`], and no
//!   success is passed on before the data, see [`session`].

pub mod addr;
pub mod admin;
pub mod cli;
pub mod config;
pub mod discover;
pub mod ftp;
pub mod metrics;
pub mod nat;
pub mod privileges;
pub mod proxy_protocol;
pub mod relay;
pub mod session;

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use admin::AdminError;
use config::Config;
use discover::{DiscoverError, PublicAddress};
use relay::{Proxy, StartError, descriptors};

/// How long the end of the program waits for the transfer log to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Why [`run`] did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not begin.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no admin interface.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The public address is to be announced and not known.
    #[error(transparent)]
    PublicAddress(#[from] DiscoverError),
    /// The handlers of signals could not be installed.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
}

/// Serves until SIGTERM or SIGINT. Then nobody new is accepted, transfers finish (`timeouts.drain` at most), and a
/// second signal ends at once. SIGHUP reads the certificates again and opens the transfer log anew, and never ends
/// anything. Runs inside a tokio runtime.
///
/// # Errors
/// If it could not begin to serve.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut signals = Signals::install().map_err(RunError::Signals)?;
    descriptors::raise_limit();
    let names = discover::names(&config);
    let public = PublicAddress::of(&config)?;
    let first = async {
        match &public {
            Some(public) => public.find_first().await.map(Some),
            None => Ok(None),
        }
    };
    tokio::select! {
        ((), found) = async { tokio::join!(discover::resolve(&names), first) } => { found?; }
        () = signals.stop(|| tracing::info!("SIGHUP: nothing to read again yet")) => {
            tracing::info!("stopping before anything was served");
            return Ok(());
        }
    }
    let admin = config.admin.map(admin::Server::bind).transpose()?;
    let proxy = Proxy::start(config)?;
    if let Some(admin) = admin {
        // To the very end: who waits for the last transfers wants to see them.
        tokio::spawn(admin.serve(proxy.insight()));
    }
    tokio::spawn(discover::refresh(names));
    if let Some(public) = public {
        tokio::spawn(public.refresh());
    }
    signals
        .stop(|| {
            tracing::info!("SIGHUP: reading the certificates again");
            proxy.reload();
            proxy.reopen_logs();
        })
        .await;
    tracing::info!("stopping: transfers may finish, a second signal ends them");
    proxy.stop();
    tokio::select! {
        all = proxy.drained() => {
            if !all {
                tracing::warn!("sessions still ran at the end of timeouts.drain; they are cut");
            }
        }
        () = signals.stop(|| {
            tracing::info!("SIGHUP: nothing is read again while stopping");
            proxy.reopen_logs();
        }) => {
            tracing::warn!("second signal: sessions that still run are cut");
        }
    }
    let transfers = proxy.transfers().clone();
    if tokio::task::spawn_blocking(move || transfers.close(LAST_LINES)).await.is_err() {
        tracing::error!("the transfer log may lack its last lines");
    }
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT. Each SIGHUP until then is a `reload`; one that comes while another is served may be
    /// the same one. Cancel safe.
    async fn stop(&mut self, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload(),
            }
        }
    }
}
