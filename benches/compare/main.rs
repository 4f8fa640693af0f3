//! What stands between client and server, measured; and ftp-alg under load for a long time. `make bench` and
//! `make soak` run this; it needs root and Debian's iproute2 and nftables.
//!
//! ```text
//! cargo bench --bench compare --                        the comparison (--quick, --rounds N, --targets direct,ftp-alg)
//! cargo bench --bench compare -- soak [--minutes 10]    sessions that come and go: does anything grow, is anything left?
//! cargo bench --bench compare -- stalled                1,000 clients that ask for a large file and do not read it
//! cargo bench --bench compare -- scale                  10,000 idle sessions against 100; 1,000 transfers at once
//! ```
//!
//! Everything runs in network namespaces of its own ([`net`]). The program is its own server and its own load
//! generator: as workers, processes apart ([`worker`], [`work`]). Speed is printed, never asserted; what grows or is
//! left behind fails.

mod churn;
mod compare;
mod endure;
mod figures;
mod net;
#[path = "../../tests/peers/mod.rs"]
mod peers;
mod scale;
mod table;
mod target;
mod work;
mod worker;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use compare::Amount;
use net::Net;
use target::Kind;
use work::Work;

#[derive(Debug, Parser)]
#[command(about = "Compares the direct path, the kernel's FTP helper and ftp-alg; or tests ftp-alg's endurance")]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// How often each target is measured
    #[arg(long)]
    rounds: Option<usize>,
    /// What is measured
    #[arg(long, value_delimiter = ',', default_value = "direct,kernel,ftp-alg")]
    targets: Vec<Kind>,
    /// One short round, to see whether it works
    #[arg(long)]
    quick: bool,
    /// `cargo bench` gives this to every program that it runs
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sessions that come and go for a long time
    Soak {
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// At a time
        #[arg(long, default_value_t = 2000)]
        sessions: usize,
    },
    /// Clients that do not read what they asked for
    Stalled {
        #[arg(long, default_value_t = 1000)]
        clients: usize,
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// Many idle sessions against few, and many transfers at once
    Scale {
        #[arg(long, default_value_t = 10_000)]
        sessions: usize,
        #[arg(long, default_value_t = 1000)]
        transfers: usize,
    },
    #[command(hide = true)]
    Work {
        #[command(subcommand)]
        work: Work,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    if let Some(Command::Work { work }) = args.command {
        return work::run(work);
    }
    raise_descriptor_limit();
    // An interrupt ends the workers, and so the measurement, which then removes its network.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _guard = runtime.enter();
    let _interrupted = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let net = Net::new()?;
    match args.command {
        None => {
            let mut amount = if args.quick { Amount::QUICK } else { Amount::FULL };
            amount.rounds = args.rounds.unwrap_or(amount.rounds).max(1);
            compare::run(&net, &args.targets, amount)
        }
        Some(Command::Soak { minutes, sessions }) => endure::soak(&net, minutes, sessions),
        Some(Command::Stalled { clients, seconds }) => endure::stalled(&net, clients, seconds),
        Some(Command::Scale { sessions, transfers }) => scale::run(&net, that_fit(sessions)?, transfers),
        Some(Command::Work { .. }) => unreachable!("a worker has no network of its own"),
    }
}

/// Ten thousand sessions take more descriptors than most systems grant. Whoever may raises the limit, and all children
/// inherit it.
fn raise_descriptor_limit() {
    const WANTED: u64 = 65_536;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft >= WANTED || setrlimit(Resource::RLIMIT_NOFILE, WANTED, WANTED).is_ok() {
        return;
    }
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        eprintln!("cannot raise the limit on open files: {error}");
    }
}

/// As many sessions as wanted, or as ftp-alg has descriptors for: two each, with some left for its ports, and for the
/// load beside them.
fn that_fit(sessions: usize) -> Result<usize> {
    const REST: u64 = 2_000;
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = usize::try_from(soft.saturating_sub(REST) / 2)?;
    if most < sessions {
        eprintln!("{soft} open files are permitted here: {most} sessions instead of {sessions}");
    }
    Ok(sessions.min(most))
}
