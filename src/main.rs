//! `ftp-alg`: arguments → configuration → fewer privileges → tracing → runtime → run.

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::{Context, Error};
use clap::Parser;
use ftp_alg::Service;
use ftp_alg::cli::{self, Cli, Command, EXIT_FAILURE, EXIT_USAGE, SessionsError};
use ftp_alg::config::Config;
use ftp_alg::privileges::{Places, Privileges};
use ftp_alg::service::command::{self, ReloadError};
use listenfd::ListenFd;

/// Why the process ends, with its exit code.
struct Failure(u8, Error);

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(options) => run(&options),
        Command::Reload(options) => reload(&options),
        Command::Check(file) => check(&file),
        Command::Sessions(options) => sessions(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, error)) => {
            eprintln!("{error:#}");
            ExitCode::from(code)
        }
    }
}

fn run(options: &cli::Run) -> Result<(), Failure> {
    let filter = options.log_filter().map_err(usage)?;
    // While there is one thread: it takes them out of the environment.
    let inherited = inherited().context("cannot use a socket that was passed on (LISTEN_FDS)").map_err(failure)?;
    let config = Config::load(&options.file.config).map_err(usage)?;
    // Before there are threads: each would keep what it has.
    let privileges = Privileges::give_up(&config).map_err(failure)?;
    let (file, commands) = (options.file.config.clone(), options.control_socket());
    let places = Places { config: &file, commands: commands.as_deref() };
    let privileges = privileges.confine(&config, &places).map_err(failure)?;
    // Dropped last, but before the reason of a failure is printed: what was logged stands before it.
    let log = options.start_log(filter).map_err(usage)?;
    privileges.tell();
    for warning in cli::warnings(&config) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime").map_err(failure)?;
    runtime.spawn(log.lost().tell());
    let service = Service { config, file, commands, inherited, privileges };
    let outcome = runtime.block_on(service.run()).map_err(failure);
    // What still runs is cut here; a look-up that a name server does not answer must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// The sockets that systemd has passed on (sd_listen_fds(3)).
fn inherited() -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    (0..passed.len()).filter_map(|i| passed.take_tcp_listener(i).transpose()).collect()
}

fn reload(options: &cli::Reload) -> Result<(), Failure> {
    command::reload(&options.control).map_err(|error| match error {
        ReloadError::Refused(_) => usage(error),
        ReloadError::Unreachable { .. } | ReloadError::Unanswered(_) => failure(error),
    })
}

fn check(file: &cli::ConfigFile) -> Result<(), Failure> {
    let config = Config::load(&file.config).map_err(usage)?;
    if let Some(warning) = cli::become_user(&config, &file.config).map_err(failure)? {
        eprintln!("warning: {warning}\n");
    }
    for warning in cli::warnings(&config) {
        eprintln!("warning: {warning}\n");
    }
    for warning in cli::not_here(&config) {
        eprintln!("warning: {warning}\n");
    }
    let plan = cli::check(&config, &cli::probe(&config)).map_err(failure)?;
    // Unlike `print!`, this does not panic when nobody reads, as in `ftp-alg check | head -1`.
    write!(std::io::stdout(), "{} is valid.\n\n{plan}", file.config.display()).map_err(failure)
}

fn sessions(options: &cli::Sessions) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime").map_err(failure)?;
    runtime.block_on(cli::sessions(options)).map_err(|error| match error {
        SessionsError::Config(_) | SessionsError::NoAdmin(_) => usage(error),
        SessionsError::Client(_) | SessionsError::Write(_) => failure(error),
    })
}

fn usage(error: impl Into<Error>) -> Failure {
    Failure(EXIT_USAGE, error.into())
}

fn failure(error: impl Into<Error>) -> Failure {
    Failure(EXIT_FAILURE, error.into())
}
