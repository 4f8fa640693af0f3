//! The command line.

mod check;
mod plan;
mod tls;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

pub use check::{CheckError, check, open_files, probe, warnings};

/// Where packages put the configuration.
const DEFAULT_CONFIG: &str = "/etc/ftp-alg/proxy.yaml";

/// Puts an unmodified FTP server behind a public address that it does not know.
///
/// Exit codes: 0 fine, 1 failure at run time, 2 wrong usage or configuration.
#[derive(Debug, Parser)]
#[command(name = "ftp-alg", version, about, long_about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT; running transfers may finish, a second signal ends at once.
    Run(Run),
    /// Check the configuration, resolve its names, read its certificates, ask servers that are checked whether they answer,
    /// and print what is announced and which ports to open.
    ///
    /// Exit codes: 0 all is well, 1 a name cannot be resolved or a certificate not be used now, 2 the configuration is
    /// wrong.
    Check(ConfigFile),
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// What to serve.
    #[command(flatten)]
    pub file: ConfigFile,
    /// How to write the log, which goes to standard error.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// What to log: `error`, `warn`, `info`, `debug` or `trace`, or filters like `info,ftp_alg::relay=debug`.
    /// Without it the variable RUST_LOG decides, and without that `info`.
    #[arg(long, value_name = "LEVEL", value_parser = parse_filter)]
    pub log_level: Option<String>,
}

/// The configuration file.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// How to write the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

/// The exit code of a failure at run time.
pub const EXIT_FAILURE: u8 = 1;

/// The exit code of wrong usage, which clap uses too, and of a wrong configuration.
pub const EXIT_USAGE: u8 = 2;

/// Only the check: an [`EnvFilter`] cannot be cloned, as clap requires of a value.
fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.into()).map_err(|e| e.to_string())
}

/// What to log is not understood.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` does not say what to log; write RUST_LOG=info, or leave it out")]
pub struct LogError {
    text: String,
    source: tracing_subscriber::filter::ParseError,
}

impl Run {
    /// Starts logging to standard error, for the rest of the process.
    ///
    /// # Errors
    /// `RUST_LOG` is in use and wrong.
    pub fn start_log(&self) -> Result<(), LogError> {
        let filter = match (&self.log_level, std::env::var(EnvFilter::DEFAULT_ENV)) {
            (Some(level), _) => EnvFilter::try_new(level).map_err(|source| LogError { text: level.clone(), source })?,
            (None, Ok(text)) if !text.is_empty() => {
                EnvFilter::try_new(&text).map_err(|source| LogError { text, source })?
            }
            (None, _) => EnvFilter::new("info"),
        };
        let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
        match self.log_format {
            // Journals and files are not terminals: colour codes there are noise.
            LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
        Ok(())
    }
}
