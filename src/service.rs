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

use tokio::task::AbortHandle;

use self::command::{CommandError, Commands};
use self::signals::{Request, Signals};
use crate::config::Config;
use crate::discover;
use crate::nat::map::ResolvedName;
use crate::relay::{Proxy, StartError, descriptors};

/// Why a [`Service`] did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not begin.
    #[error(transparent)]
    Start(#[from] StartError),
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
        tokio::select! {
            () = discover::resolve(&names) => {}
            () = signals.stop("SIGHUP: nothing to read again yet") => {
                tracing::info!("stopping before anything was served");
                return Ok(());
            }
        }
        let commands = self.commands.as_deref().map(Commands::listen).transpose()?;
        let proxy = Proxy::start(self.config, self.inherited)?;
        let mut serving = Serving { proxy, file: self.file, refreshing: Refreshing::start(&names), names };
        manager::ready("serving");
        manager::feed_watchdog();
        serving.until_stopped(&mut signals, commands).await;
        serving.drain(&mut signals).await;
        Ok(())
    }
}

/// What runs.
struct Serving {
    proxy: Proxy,
    file: PathBuf,
    names: Vec<Arc<ResolvedName>>,
    refreshing: Refreshing,
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
            // A name server may be silent: no reason not to stop. Dropped half way, a reload has changed nothing.
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
        let one = |error: anyhow::Error| vec![format!("{error:#}")];
        tracing::info!(file = %self.file.display(), "reading the configuration again");
        let config = Config::load(&self.file).map_err(|error| one(error.into()))?;
        let names = discover::names(&config);
        discover::resolve_anew(&names, &self.names).await.map_err(|error| one(error.into()))?;
        let reasons = |refused: StartError| refused.obstacles().map(ToString::to_string).collect::<Vec<_>>();
        self.proxy.reload(config).map_err(reasons)?;
        self.refreshing = Refreshing::start(&names);
        self.names = names;
        Ok(())
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

/// Looks the names of a configuration up now and again, until it is dropped.
struct Refreshing(AbortHandle);

impl Refreshing {
    fn start(names: &[Arc<ResolvedName>]) -> Self {
        Self(tokio::spawn(discover::refresh(names.to_vec())).abort_handle())
    }
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.abort();
    }
}
