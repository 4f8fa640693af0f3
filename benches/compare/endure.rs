//! Endurance: what grows while sessions come and go, what is left behind, and what a client that does not read costs.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::compare::words;
use crate::figures::{Holdings, median, tcp_memory};
use crate::net::{CLIENTS, Host, MIDDLEBOX, Net, SERVER};
use crate::table::{Table, number};
use crate::target::Program;
use crate::worker::{Figures, Worker};

/// Data ports in a soak, each of which is leased to every client address at the end.
const PORTS: u16 = 64;
/// Descriptors of pipes that may stay: the pool keeps 32 idle pipes for the next transfers.
const POOLED: u32 = 64;
/// Growth of the memory from the first third of a soak to its last that is taken for noise, of the first and in KiB:
/// what the allocator keeps depends on which sessions ended last.
const GROWTH: (f64, f64) = (0.10, 4096.0);
/// How long sessions may take to end. A transfer that breaks off as its session ends waits for `timeouts.close`, 10 s.
const ENDING: Duration = Duration::from_secs(60);
/// Memory that a client which does not read may cost, in KiB: a buffer of 64 KiB each way, and the session.
const STALLED: f64 = 160.0;

/// Client, server and ftp-alg between them.
pub(crate) struct Scene<'a> {
    pub(crate) net: &'a Net,
    pub(crate) proxy: Program,
    pub(crate) sink: Worker,
    /// What ftp-alg holds before anybody has connected.
    pub(crate) at_start: Holdings,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(net: &'a Net, ports: u16) -> Result<Self> {
        // The machines share one kernel, and so its limit on the memory of all TCP sockets (tcp_mem), beyond which it
        // resets what has been closed. What the server's take is not of interest.
        net.write_sysctl(Host::Server, "net/ipv4/tcp_wmem", "4096 16384 131072")?;
        // Without room for it, a closed connection is forgotten at once, and answers what still comes by a reset.
        for host in [Host::Client, Host::Middlebox, Host::Server] {
            net.write_sysctl(host, "net/ipv4/tcp_max_tw_buckets", "131072")?;
        }
        let mut sink = Worker::start(net, Host::Server, &words(&["sink", &format!("{SERVER}:21")]))?;
        sink.next().context("the server")?;
        let proxy = Program::start(net, "warn", &[(21, ports)])?;
        // The listeners are there, and so are the runtime's threads soon.
        sleep(Duration::from_millis(500));
        let at_start = Holdings::of(proxy.pid())?;
        Ok(Self { net, proxy, sink, at_start })
    }

    pub(crate) fn addr() -> String {
        SocketAddr::new(MIDDLEBOX.into(), 21).to_string()
    }

    pub(crate) fn holdings(&self) -> Result<Holdings> {
        Holdings::of(self.proxy.pid()).with_context(|| format!("ftp-alg is gone:\n{}", self.proxy.said()))
    }

    /// A load on the client's machine.
    pub(crate) fn load(&self, args: &[&str]) -> Result<Worker> {
        Worker::start(self.net, Host::Client, &words(args))
    }

    /// Waits until as many descriptors are open as at the start, pooled pipes apart.
    pub(crate) fn everything_is_closed(&self, after: &str) -> Result<Holdings> {
        let deadline = Instant::now() + ENDING;
        loop {
            let now = self.holdings()?;
            if now.descriptors <= self.at_start.descriptors && now.pipes <= self.at_start.pipes + POOLED {
                return Ok(now);
            }
            let Holdings { descriptors, pipes, .. } = now;
            if Instant::now() > deadline {
                bail!(
                    "after {after} {descriptors} descriptors and {pipes} of pipes stay open; {} at the start",
                    self.at_start.descriptors
                );
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// The program has not complained of anything in itself.
    fn no_panic(&self) -> Result<()> {
        let said = self.proxy.said();
        ensure!(!said.contains("panicked at"), "ftp-alg panicked:\n{said}");
        Ok(())
    }
}

/// `sessions` at a time come and go for so long.
pub(crate) fn soak(net: &Net, minutes: f64, sessions: usize) -> Result<()> {
    let mut scene = Scene::new(net, PORTS)?;
    let (to, seconds) = (Scene::addr(), minutes * 60.0);
    let mut load = scene.load(&["churn", &to, &sessions.to_string(), &seconds.to_string()])?;
    let (start, mut samples) = (Instant::now(), Vec::new());
    while start.elapsed().as_secs_f64() < seconds {
        ensure!(!load.has_ended()?, "the load has ended early");
        samples.push((start.elapsed().as_secs_f64(), scene.holdings()?));
        sleep(Duration::from_secs(1));
    }
    let tally = load.next().context("the load")?;
    let after = scene.everything_is_closed("the load")?;
    let leased = Worker::run(net, Host::Client, &words(&["ports", &to, &PORTS.to_string()]))?;
    scene.everything_is_closed("leasing every port")?;
    let seen = scene.sink.ask()?;
    print_soak(&scene, &samples, after, seconds);
    print_tally(&tally);

    scene.no_panic()?;
    let every_port = f64::from(PORTS) * f64::from(CLIENTS);
    println!("Ports leased at once afterwards: {} of {every_port} ({CLIENTS} addresses)", leased["distinct"]);
    println!("Uploads that arrived complete and were not: {}", seen["damaged"]);
    ensure!(leased["distinct"] == every_port, "a lease is left behind: {leased:?}");
    ensure!(seen["damaged"] == 0.0 && tally["errors"] == 0.0, "transfers failed: {tally:?}, {seen:?}");
    let third = |from: f64, to: f64| {
        let within = samples.iter().filter(|(at, _)| (from..to).contains(&(at / seconds)));
        median(within.map(|(_, holdings)| holdings.pss)).context("too short for samples")
    };
    let (first, last) = (third(0.0, 1.0 / 3.0)?, third(2.0 / 3.0, 1.0)?);
    let bound = first * (1.0 + GROWTH.0) + GROWTH.1;
    println!("Median memory (Pss), first third {first:.0} KiB, last third {last:.0} KiB, bound {bound:.0} KiB");
    ensure!(last <= bound, "memory grows");
    Ok(())
}

fn print_soak(scene: &Scene<'_>, samples: &[(f64, Holdings)], after: Holdings, seconds: f64) {
    let mut table = Table::new(&["time", "RSS, KiB", "Pss, KiB", "descriptors", "of pipes", "threads"]);
    let mut row = |time: String, of: &[Holdings]| {
        let column = |figure: fn(&Holdings) -> f64| median(of.iter().map(figure)).map_or_else(String::new, number);
        table.row(&[
            time,
            column(|holdings| holdings.rss),
            column(|holdings| holdings.pss),
            column(|holdings| f64::from(holdings.descriptors)),
            column(|holdings| f64::from(holdings.pipes)),
            column(|holdings| f64::from(holdings.threads)),
        ]);
    };
    row("at the start".into(), &[scene.at_start]);
    for tenth in 0..10 {
        let within = |at: f64| at / seconds >= f64::from(tenth) / 10.0 && at / seconds < f64::from(tenth + 1) / 10.0;
        let of: Vec<Holdings> = samples.iter().filter(|(at, _)| within(*at)).map(|(_, holdings)| *holdings).collect();
        row(format!("until {:.0} s", seconds * f64::from(tenth + 1) / 10.0), &of);
    }
    row("after the load".into(), &[after]);
    table.print();
}

fn print_tally(tally: &Figures) {
    let gib = tally["bytes"] / f64::from(1 << 30);
    let of = |name: &str| tally[name];
    println!(
        "{} sessions: {} downloads, {} uploads ({gib:.1} GiB, every byte checked), {} aborted, {} resets, {} ports asked \
         for and not used, {} refused for want of a port, {} errors",
        of("sessions"),
        of("downloads"),
        of("uploads"),
        of("aborts"),
        of("resets"),
        of("unused_ports"),
        of("refused"),
        of("errors")
    );
}

/// `clients` ask for a large file and do not read it, for so long.
pub(crate) fn stalled(net: &Net, clients: usize, seconds: u64) -> Result<()> {
    let mut scene = Scene::new(net, 100)?;
    let to = Scene::addr();
    let mut load = scene.load(&["stalled", &to, &clients.to_string()])?;
    let found = load.next()?;
    let open = found["stalled"];
    ensure!(found["errors"] == 0.0, "not every download began: {found:?}");
    let mut table =
        Table::new(&["", "RSS, KiB", "Pss, KiB", "descriptors", "of pipes", "kernel's TCP memory, MiB", "sent, MiB"]);
    let mut row = |label: String, now: Holdings, sent: f64| {
        let counts = [f64::from(now.descriptors), f64::from(now.pipes), tcp_memory()?, sent / f64::from(1 << 20)];
        let figures = [now.rss, now.pss].into_iter().chain(counts).map(number);
        table.row(&std::iter::once(label).chain(figures).collect::<Vec<_>>());
        anyhow::Ok(())
    };
    row("at the start".into(), scene.at_start, 0.0)?;
    let mut samples = Vec::new();
    for second in (0..=seconds).step_by(5) {
        sleep(Duration::from_secs(if second == 0 { 1 } else { 5 }));
        let sample = (scene.holdings()?, scene.sink.ask()?["sent"]);
        row(format!("{clients} stalled for {second} s"), sample.0, sample.1)?;
        samples.push(sample);
    }
    let others = Worker::run(net, Host::Client, &words(&["sessions", &to, "4", "3"]))?;
    row("after other sessions beside them".into(), scene.holdings()?, scene.sink.ask()?["sent"])?;
    load.ask()?;
    drop(load);
    row("after they have gone".into(), scene.everything_is_closed("the stalled ones")?, scene.sink.ask()?["sent"])?;
    table.print();
    scene.no_panic()?;
    let (last, sent) = samples[samples.len() - 1];
    let each = (last.pss - scene.at_start.pss) / open;
    println!("A stalled download takes {each:.1} KiB of ftp-alg's memory (Pss), bound {STALLED} KiB");
    println!(
        "Beside them: {:.0} sessions/s of 4 clients, {} errors",
        others["count"] / others["seconds"],
        others["errors"]
    );
    ensure!(each <= STALLED, "a stalled download takes too much");
    ensure!(others["errors"] == 0.0, "other sessions suffer");
    let half = samples[samples.len() / 2];
    ensure!(sent - half.1 <= 0.01 * half.1, "the server still sends: {} bytes, then {sent}", half.1);
    Ok(())
}
