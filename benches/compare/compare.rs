//! The comparison: the same load through each target in turn, and the medians of several rounds in one table.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::figures::{Holdings, machine_cpu, median, process_cpu};
use crate::net::{Host, Net, SERVER};
use crate::table::{Table, cell};
use crate::target::{Kind, Target};
use crate::worker::{Figures, Worker};

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) rounds: usize,
    /// Seconds of each load that runs for a time.
    pub(crate) seconds: f64,
    /// Sessions that are held.
    pub(crate) held: usize,
    pub(crate) noops: usize,
    /// Transfers at once through 21 ports; half as many through one.
    pub(crate) burst: usize,
}

impl Amount {
    pub(crate) const FULL: Self = Self { rounds: 5, seconds: 3.0, held: 1000, noops: 30_000, burst: 1000 };
    pub(crate) const QUICK: Self = Self { rounds: 1, seconds: 1.0, held: 500, noops: 2000, burst: 200 };
}

/// The rows of the table, and the figures in them.
const ROWS: [(&str, &str); 24] = [
    ("RETR, one stream, GiB/s", "retr"),
    ("… machine's CPU, s/GiB", "retr_machine"),
    ("… middlebox's own CPU, s/GiB", "retr_own"),
    ("STOR, one stream, GiB/s", "stor"),
    ("… machine's CPU, s/GiB", "stor_machine"),
    ("… middlebox's own CPU, s/GiB", "stor_own"),
    ("sessions/s, 1 client", "one"),
    ("… machine's CPU, µs/session", "one_machine"),
    ("… middlebox's own CPU, µs/session", "one_own"),
    ("sessions/s, 32 clients", "many"),
    ("… machine's CPU, µs/session", "many_machine"),
    ("… middlebox's own CPU, µs/session", "many_own"),
    ("… 99th percentile of a session, ms", "many_p99"),
    ("NOOP round trip, µs", "noop"),
    ("… machine's CPU, µs", "noop_machine"),
    ("… middlebox's own CPU, µs", "noop_own"),
    ("memory per idle session (Pss), KiB", "memory"),
    ("transfers open at once, 1 port of ftp-alg's", "port_opened"),
    ("… all complete after, s", "port_seconds"),
    ("… machine's CPU, µs/transfer", "port_machine"),
    ("transfers open at once, 21 ports of ftp-alg's", "ports_opened"),
    ("… all complete after, s", "ports_seconds"),
    ("… machine's CPU, µs/transfer", "ports_machine"),
    ("errors, all rounds", "errors"),
];

/// Measures these targets and prints the table.
pub(crate) fn run(net: &Net, kinds: &[Kind], amount: Amount) -> Result<()> {
    let mut sink = Worker::start(net, Host::Server, &["sink".into(), format!("{SERVER}:21")])?;
    sink.next().context("the server")?;
    let mut found: Vec<Vec<Figures>> = vec![Vec::new(); kinds.len()];
    let mut missing: Vec<Option<String>> = vec![None; kinds.len()];
    for round in 0..amount.rounds {
        for offset in 0..kinds.len() {
            // Each target in turn, and another first in every round.
            let nth = (round + offset) % kinds.len();
            if missing[nth].is_some() {
                continue;
            }
            eprintln!("round {} of {}: {}", round + 1, amount.rounds, kinds[nth].name());
            match Target::start(net, kinds[nth]).and_then(|target| works(net, &target).map(|()| target)) {
                Ok(target) => found[nth].push(measure(net, &target, amount)?),
                // Only the kernel's helper may be missing: then the machine has no such thing.
                Err(error) if kinds[nth] == Kind::Kernel => missing[nth] = Some(format!("{error:#}")),
                Err(error) => return Err(error),
            }
        }
    }
    print(kinds, &found);
    for (kind, why) in kinds.iter().zip(&missing) {
        if let Some(why) = why {
            println!("{}: not available on this machine: {}", kind.name(), why.replace('\n', " "));
        }
    }
    Ok(())
}

/// A session with a transfer gets through.
fn works(net: &Net, target: &Target<'_>) -> Result<()> {
    let found = Worker::run(net, Host::Client, &words(&["sessions", &target.addr(100).to_string(), "1", "0.01"]))?;
    anyhow::ensure!(found["errors"] == 0.0, "a session does not get through");
    Ok(())
}

/// All figures of one target.
fn measure(net: &Net, target: &Target<'_>, amount: Amount) -> Result<Figures> {
    let (to, seconds) = (target.addr(100).to_string(), amount.seconds.to_string());
    let mut figures = Figures::new();
    if let Some(pid) = target.pid() {
        // First: later there is memory that other sessions have left.
        memory(net, pid, &to, amount.held, &mut figures)?;
    }
    for (key, args) in [("one", ["sessions", &to, "1", &seconds]), ("many", ["sessions", &to, "32", &seconds])] {
        let load = Load::run(net, target, &args)?;
        load.add(key, 1e6, &mut figures);
        figures.insert(key.into(), load.found["count"] / load.found["seconds"]);
        figures.insert(format!("{key}_p99"), load.found["p99_ms"]);
    }
    for (key, verb) in [("retr", "RETR"), ("stor", "STOR")] {
        let load = Load::run(net, target, &["stream", &to, verb, &seconds])?;
        load.add(key, 1.0, &mut figures);
        figures.insert(key.into(), load.found["count"] / load.found["seconds"]);
    }
    let load = Load::run(net, target, &["noop", &to, &amount.noops.to_string()])?;
    load.add("noop", 1e6, &mut figures);
    figures.insert("noop".into(), load.found["p50_us"]);
    for (key, ports, transfers) in [("port", 1, amount.burst / 2), ("ports", 21, amount.burst)] {
        let to = target.addr(ports).to_string();
        let load = Load::told(net, target, &["burst", &to, &transfers.to_string(), "65536"])?;
        load.add(key, 1e6, &mut figures);
        figures.insert(format!("{key}_opened"), load.found["opened"]);
        figures.insert(format!("{key}_seconds"), load.found["seconds"]);
    }
    Ok(figures)
}

/// What a held session takes, in KiB.
fn memory(net: &Net, pid: u32, to: &str, count: usize, figures: &mut Figures) -> Result<()> {
    let before = Holdings::of(pid)?.pss;
    let mut hold = Worker::start(net, Host::Client, &words(&["hold", to, &count.to_string()]))?;
    let held = hold.next()?;
    std::thread::sleep(Duration::from_millis(500));
    let with = Holdings::of(pid)?.pss;
    let alive = hold.ask()?["alive"];
    *figures.entry("errors".into()).or_default() += held["errors"] + held["held"] - alive;
    figures.insert("memory".into(), (with - before) / held["held"].max(1.0));
    Ok(())
}

/// One load, and what it cost.
pub(crate) struct Load {
    /// What the load generator says.
    pub(crate) found: Figures,
    /// CPU time of the whole machine meanwhile, in seconds.
    machine: f64,
    /// CPU time of the middlebox's process, if it has one.
    own: Option<f64>,
}

impl Load {
    /// Runs a load to its end.
    pub(crate) fn run(net: &Net, target: &Target<'_>, args: &[&str]) -> Result<Self> {
        let own = |pid: Option<u32>| pid.map(process_cpu).transpose();
        let (machine_before, own_before) = (machine_cpu()?, own(target.pid())?);
        let found = Worker::run(net, Host::Client, &words(args))?;
        Self::of(found, machine_before, own_before, target)
    }

    /// Runs a load that says when it is ready, and waits to be told to begin.
    pub(crate) fn told(net: &Net, target: &Target<'_>, args: &[&str]) -> Result<Self> {
        let mut worker = Worker::start(net, Host::Client, &words(args))?;
        worker.next().with_context(|| args.join(" "))?;
        let own_before = target.pid().map(process_cpu).transpose()?;
        let machine_before = machine_cpu()?;
        Self::of(worker.ask().with_context(|| args.join(" "))?, machine_before, own_before, target)
    }

    fn of(found: Figures, machine: f64, own: Option<f64>, target: &Target<'_>) -> Result<Self> {
        let now = target.pid().map(process_cpu).transpose()?;
        Ok(Self { found, machine: machine_cpu()? - machine, own: now.zip(own).map(|(now, before)| now - before) })
    }

    /// CPU per thing that was done, in seconds: the machine's, the middlebox's.
    pub(crate) fn cost(&self) -> (f64, Option<f64>) {
        let count = self.found["count"].max(1.0);
        (self.machine / count, self.own.map(|own| own / count))
    }

    /// Notes the cost under this key, in `1 / scale` seconds, and counts the errors.
    fn add(&self, key: &str, scale: f64, figures: &mut Figures) {
        let (machine, own) = self.cost();
        figures.insert(format!("{key}_machine"), machine * scale);
        if let Some(own) = own {
            figures.insert(format!("{key}_own"), own * scale);
        }
        *figures.entry("errors".into()).or_default() += self.found["errors"];
    }
}

/// Arguments of a worker.
pub(crate) fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|word| (*word).to_owned()).collect()
}

fn print(kinds: &[Kind], found: &[Vec<Figures>]) {
    let direct = kinds.iter().position(|kind| *kind == Kind::Direct);
    let others: Vec<usize> = (0..kinds.len()).filter(|nth| direct.is_some() && Some(*nth) != direct).collect();
    let mut head: Vec<String> = vec!["figure".into()];
    head.extend(kinds.iter().map(|kind| kind.name().into()));
    head.extend(others.iter().map(|nth| format!("{} ÷ direct", kinds[*nth].name())));
    let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
    for (label, key) in ROWS {
        let of = |nth: usize| {
            let values = found[nth].iter().filter_map(|figures| figures.get(key).copied());
            // Errors are counted: their median would hide them.
            if key == "errors" { (!found[nth].is_empty()).then(|| values.sum()) } else { median(values) }
        };
        let mut cells = vec![label.to_owned()];
        cells.extend((0..kinds.len()).map(|nth| cell(of(nth))));
        let base = direct.and_then(of).filter(|base| *base > 0.0);
        cells.extend(others.iter().map(|nth| cell(of(*nth).zip(base).map(|(value, base)| value / base))));
        table.row(&cells);
    }
    table.print();
}
