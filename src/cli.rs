//! The command line.

mod check;
mod log;
mod plan;
mod sessions;
mod tls;
mod transparent;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::service::command;

pub use check::{CheckError, become_user, check, not_here, probe, warnings};
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
    /// Serve until SIGTERM or SIGINT; running transfers may finish, a second signal ends at once. SIGHUP reads the
    /// configuration again.
    Run(Run),
    /// Tell the ftp-alg that runs to read its configuration again, and wait for its answer.
    ///
    /// New sessions have the new configuration, those that run keep theirs. If anything is wrong with it, or an address or
    /// port cannot be bound, or a certificate not be used, nothing changes.
    ///
    /// Exit codes: 0 the new configuration is in use, 1 no ftp-alg has answered, 2 it has refused, and the reasons are
    /// printed.
    Reload(Reload),
    /// Check the configuration, resolve its names, ask for the public address, read its certificates, ask servers that are
    /// checked whether they answer, and print what is announced and which ports to open.
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
    /// Where to take commands (`ftp-alg reload`): a Unix socket, made for the user that this runs as alone. Without it
    /// `control.sock` in the directory of the service, if systemd has made one (`RuntimeDirectory=`), and else nowhere.
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
}

impl Run {
    /// Where to take commands, if anywhere: `--control`, or in the directory that systemd has made for the service.
    #[must_use]
    pub fn control_socket(&self) -> Option<PathBuf> {
        // Several directories are separated by colons (systemd.exec(5)); ours is the first.
        let of_service = || Some(std::env::var("RUNTIME_DIRECTORY").ok()?.split(':').next()?.to_owned());
        let of_service = || of_service().filter(|directory| !directory.is_empty());
        self.control.clone().or_else(|| Some(PathBuf::from(of_service()?).join(command::SOCKET_NAME)))
    }
}

/// Options of `reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// Where the ftp-alg that is meant takes commands.
    #[arg(long, value_name = "SOCKET", default_value = command::DEFAULT_SOCKET)]
    pub control: PathBuf,
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
