//! The compatibility tables: every server with every client in every mode, plain and with TLS, in network namespaces of
//! this machine. Writes COMPATIBILITY.md and fails if a pair works without the proxy and not through it.
//!
//! `make compat` runs it: root, Debian, and what `tests/setup.sh compat` installs.
//! `cargo test --test compat -- 'IIS 10' vsftpd` runs these servers only, and prints. Started with
//! `serve NAME DIRECTORY`, the same program is the stand-in of that name, on port 21 of its namespace.
#![allow(unreachable_pub, reason = "the modules of a test program are all private")]
#![allow(clippy::unwrap_used, reason = "a panic is how this fails")]

#[allow(dead_code, reason = "the interop tests use more of it")]
#[path = "../interop"]
mod interop {
    pub mod certificate;
    pub mod clients;
    pub mod matrix;
    pub mod net;
    pub mod process;
    pub mod proxy;
    pub mod servers;
}

#[allow(dead_code, reason = "the tests of the stand-ins use more of them")]
#[path = "../dialects"]
mod dialects {
    pub mod stand_in;
}

mod cell;
mod clients_more;
mod report;
mod server;
mod setup;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use cell::Outcome;
use dialects::stand_in::{self, Options, StandIn};
// The files of the interop tests know each other by these names.
use interop::{certificate, clients, matrix, net, process, proxy, servers};
use setup::Setup;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [role, name, root] if role == "serve" => serve(name, Path::new(root)),
        servers => make_table(servers),
    }
}

fn serve(name: &str, root: &Path) -> ! {
    let bind = (Ipv4Addr::UNSPECIFIED, 21).into();
    let _server = StandIn::start(stand_in::named(name), Options::default(), bind, root.to_owned()).unwrap();
    loop {
        thread::park();
    }
}

/// Of these servers, or of all.
fn make_table(only: &[String]) -> ExitCode {
    let start = Instant::now();
    let setups: Vec<Setup> =
        Setup::all().into_iter().filter(|setup| only.is_empty() || only.contains(&setup.kind.name())).collect();
    assert!(!setups.is_empty(), "no server is called {only:?}");
    let rows: Mutex<Vec<(usize, Vec<Outcome>)>> = Mutex::default();
    let left = Mutex::new(setups.iter().enumerate());
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some((index, setup)) = next else { return };
                    let row = cell::run_all(setup);
                    println!("{}", report::progress(setup, &row));
                    rows.lock().unwrap().push((index, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(index, _)| *index);
    let table: Vec<(Setup, Vec<Outcome>)> = rows.into_iter().map(|(index, row)| (setups[index], row)).collect();

    let text = report::markdown(&table, start.elapsed());
    if only.is_empty() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("COMPATIBILITY.md"), text).unwrap();
    } else {
        println!("{text}");
    }
    let bugs = report::bugs(&table);
    println!("{} cells fail through the proxy alone", bugs.len());
    for bug in &bugs {
        eprintln!("{bug}");
    }
    if bugs.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
