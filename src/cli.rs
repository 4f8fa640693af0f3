//! The command line.

mod check;
mod log;
mod plan;
mod sessions;
mod tls;
mod transparent;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use check::{CheckError, become_user, check, not_here, warnings};
use log::parse_filter;
pub use log::{Log, LogError, LogFormat, LostLines};
pub use sessions::{Action, Sessions, SessionsError, sessions};

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
    /// Check the configuration, resolve its names, ask for the public address, read its certificates, and print what is
    /// announced and which ports to open.
    ///
    /// Exit codes: 0 all is well, 1 a name or the public address cannot be found, a certificate not be used or the
    /// transfer log not be written now, 2 the configuration is wrong.
    Check(ConfigFile),
    /// Show the sessions of a running proxy, or end one; needs `admin.bind` in its configuration.
    Sessions(Sessions),
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

/// The exit code of a failure at run time.
pub const EXIT_FAILURE: u8 = 1;

/// The exit code of wrong usage, which clap uses too, and of a wrong configuration.
pub const EXIT_USAGE: u8 = 2;
