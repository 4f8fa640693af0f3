//! `ftp-alg`: arguments → tracing → configuration → runtime → run.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Error};
use clap::Parser;
use ftp_alg::cli::{self, Cli, Command, EXIT_FAILURE, EXIT_USAGE};
use ftp_alg::config::Config;

/// Why the process ends, with its exit code.
struct Failure(u8, Error);

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(options) => run(&options),
        Command::Check(file) => check(&file),
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
    options.start_log().map_err(usage)?;
    let config = Config::load(&options.file.config).map_err(usage)?;
    for warning in cli::warnings(&config) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime").map_err(failure)?;
    let outcome = runtime.block_on(ftp_alg::run(config)).map_err(failure);
    // What still runs is cut here; a look-up that a name server does not answer must not keep the process.
    runtime.shutdown_background();
    outcome
}

fn check(file: &cli::ConfigFile) -> Result<(), Failure> {
    let config = Config::load(&file.config).map_err(usage)?;
    for warning in cli::warnings(&config) {
        eprintln!("warning: {warning}\n");
    }
    if let Some(warning) = cli::open_files(&config) {
        eprintln!("warning: {warning}\n");
    }
    let plan = cli::check(&config, &cli::probe(&config)).map_err(failure)?;
    // Unlike `print!`, this does not panic when nobody reads, as in `ftp-alg check | head -1`.
    write!(std::io::stdout(), "{} is valid.\n\n{plan}", file.config.display()).map_err(failure)
}

fn usage(error: impl Into<Error>) -> Failure {
    Failure(EXIT_USAGE, error.into())
}

fn failure(error: impl Into<Error>) -> Failure {
    Failure(EXIT_FAILURE, error.into())
}
