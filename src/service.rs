//! From the start to the end: signals, reload, and what the service manager is told.
//!
//! ```text
//!   start ──▶ serving ──SIGTERM──▶ draining ──▶ end
//!              │   ▲
//!       SIGHUP,    in use, or refused: then nothing has changed
//!       `ftp-alg reload`
//! ```

pub mod command;
mod manager;
mod signals;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use self::command::{CommandError, Commands};
use self::signals::{Request, Signals};
use crate::admin::{self, AdminError};
use crate::config::{Admin, Config};
use crate::discover::{self, DiscoverError, PublicAddress};
use crate::nat::map::ResolvedName;
use crate::privileges::{Beyond, Privileges};
use crate::relay::{Proxy, StartError, descriptors, xferlog};

/// How long the end of the program waits for the transfer log to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Why a [`Service`] did not end as it should.
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
    /// Nobody could give it commands.
    #[error(transparent)]
    Commands(#[from] CommandError),
    /// The handlers of signals could not be installed.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
}

/// What is to be served, and how it is told what to do.
#[derive(Debug)]
pub struct Service {
    /// What it begins with.
    pub config: Config,
    /// What a reload reads.
    pub file: PathBuf,
    /// Where it takes [commands](command), if it does.
    pub commands: Option<PathBuf>,
    /// Sockets that were passed on to us: they listen already.
    pub inherited: Vec<TcpListener>,
    /// What the process may still do.
    pub privileges: Privileges,
}

impl Service {
    /// Serves until SIGTERM or SIGINT. Then nobody new is accepted, transfers finish (`timeouts.drain` at most), and a
    /// second signal ends at once. SIGHUP reads the configuration again, and never ends anything. Runs inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// If it could not begin to serve.
    pub async fn run(self) -> Result<(), RunError> {
        let mut signals = Signals::install().map_err(RunError::Signals)?;
        descriptors::raise_limit();
        let names = discover::names(&self.config);
        let public = PublicAddress::of(&self.config)?.map(Arc::new);
        let first = async {
            match &public {
                Some(public) => public.find_first().await.map(Some),
                None => Ok(None),
            }
        };
        tokio::select! {
            ((), found) = async { tokio::join!(discover::resolve(&names), first) } => { found?; }
            () = signals.stop("SIGHUP: nothing to read again yet") => {
                tracing::info!("stopping before anything was served");
                return Ok(());
            }
        }
        let commands = self.commands.as_deref().map(Commands::listen).transpose()?;
        let admin = self.config.admin;
        let interface = admin.map(admin::Server::bind).transpose()?;
        let proxy = Proxy::start(self.config, self.inherited)?;
        if let Some(interface) = interface {
            // To the very end: who waits for the last transfers wants to see them.
            tokio::spawn(interface.serve(proxy.insight()));
        }
        let announced = Announced::followed(names, public);
        let mut serving = Serving { proxy, file: self.file, admin, privileges: self.privileges, announced };
        manager::ready("serving");
        manager::feed_watchdog();
        serving.until_stopped(&mut signals, commands).await;
        serving.drain(&mut signals).await;
        let transfers = serving.proxy.transfers().clone();
        if tokio::task::spawn_blocking(move || transfers.close(LAST_LINES)).await.is_err() {
            tracing::error!("the transfer log may lack its last lines");
        }
        Ok(())
    }
}

/// What runs.
struct Serving {
    proxy: Proxy,
    file: PathBuf,
    admin: Option<Admin>,
    privileges: Privileges,
    announced: Announced,
}

impl Serving {
    /// Serves, and reloads when it is asked to.
    async fn until_stopped(&mut self, signals: &mut Signals, mut commands: Option<Commands>) {
        loop {
            let asked = tokio::select! {
                request = signals.next() => match request {
                    Request::Stop => return,
                    Request::Reload => None,
                },
                asked = command::next(&mut commands) => Some(asked),
            };
            manager::reloading();
            // A name server may be silent: no reason not to stop. Dropped half way, a reload has changed nothing, or all but the file of the
            // transfer log.
            let outcome = tokio::select! {
                outcome = self.reload() => outcome,
                () = signals.stop_only() => return,
            };
            match &outcome {
                Ok(()) => {
                    tracing::info!("reloaded: new sessions have the new configuration");
                    manager::ready("serving");
                }
                Err(reasons) => {
                    for reason in reasons {
                        tracing::error!("cannot reload: {reason}");
                    }
                    tracing::error!("reload refused, nothing has changed");
                    manager::ready("serving; the last reload was refused, the log says why");
                }
            }
            if let Some(asked) = asked {
                asked.answer(outcome.map_err(|reasons| reasons.join("\n")));
            }
        }
    }

    /// Serves new clients with what the file says now.
    ///
    /// # Errors
    /// Every reason why that cannot be; then nothing has changed.
    async fn reload(&mut self) -> Result<(), Vec<String>> {
        tracing::info!(file = %self.file.display(), "reading the configuration again");
        let config = Config::load(&self.file).map_err(one)?;
        let all = |beyond: Vec<Beyond>| beyond.iter().map(ToString::to_string).collect::<Vec<_>>();
        self.privileges.admits(&config).map_err(all)?;
        if config.admin != self.admin {
            return Err(vec!["admin.bind: the interface stays where it is until a restart".to_owned()]);
        }
        let names = discover::names(&config);
        let public = PublicAddress::of(&config).map_err(one)?.map(Arc::new);
        discover::resolve_anew(&names, &self.announced.names).await.map_err(one)?;
        if let Some(public) = &public {
            public.find_anew(self.announced.public.as_deref()).await.map_err(one)?;
        }
        let log = config.log.transfers.clone();
        if let Some(path) = log.clone() {
            // Not here: a network file system may hang, and SIGTERM is to be heard all the same.
            let checked = tokio::task::spawn_blocking(move || xferlog::check(&path)).await;
            checked.map_err(one)?.map_err(one)?;
        }
        let reasons = |refused: StartError| refused.obstacles().map(ToString::to_string).collect::<Vec<_>>();
        self.proxy.reload(config).map_err(reasons)?;
        self.announced = Announced::followed(names, public);
        self.follow_log(log).await;
        Ok(())
    }

    /// Goes on in this file, which may have been renamed.
    async fn follow_log(&self, path: Option<PathBuf>) {
        let transfers = self.proxy.transfers().clone();
        let is_one = path.is_some();
        match tokio::task::spawn_blocking(move || transfers.follow(path.as_deref())).await {
            Ok(Ok(())) if is_one => tracing::info!("the transfer log was opened anew"),
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("{error}; the file that was open is still written to"),
            Err(error) => tracing::error!(%error, "the transfer log could not be opened anew"),
        }
    }

    /// Lets transfers finish.
    async fn drain(&self, signals: &mut Signals) {
        tracing::info!("stopping: transfers may finish, a second signal ends them");
        manager::stopping();
        self.proxy.stop();
        tokio::select! {
            all = self.proxy.drained() => {
                if !all {
                    tracing::warn!("sessions still ran at the end of timeouts.drain; they are cut");
                }
            }
            () = signals.stop("SIGHUP: nothing is read again while stopping") => {
                tracing::warn!("second signal: sessions that still run are cut");
            }
        }
    }
}

/// The only reason, with what lies behind it.
fn one(error: impl Into<anyhow::Error>) -> Vec<String> {
    vec![format!("{:#}", error.into())]
}

/// What a configuration announces that has to be found out, which is followed until it is dropped.
struct Announced {
    names: Vec<Arc<ResolvedName>>,
    public: Option<Arc<PublicAddress>>,
    followers: Vec<AbortHandle>,
}

impl Announced {
    fn followed(names: Vec<Arc<ResolvedName>>, public: Option<Arc<PublicAddress>>) -> Self {
        let mut followers = vec![tokio::spawn(discover::refresh(names.clone())).abort_handle()];
        if let Some(public) = public.clone() {
            followers.push(tokio::spawn(async move { public.refresh().await }).abort_handle());
        }
        Self { names, public, followers }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.followers.iter().for_each(AbortHandle::abort);
    }
}
