//! Scale: what a session costs among ten thousand, and a thousand transfers at once.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::compare::words;
use crate::endure::Scene;
use crate::figures::process_cpu;
use crate::net::{Host, Net};
use crate::table::{Table, number};
use crate::worker::{Figures, Worker};

/// What `sessions` held sessions are compared with.
const FEW: usize = 100;
/// How often the two take turns.
const ROUNDS: usize = 3;
/// Of the transfers that run at once.
const BYTES: u64 = 4 << 20;
/// Not asserted: a busy machine measures itself.
const AIM: &str = "aim ≤ 1.2";

/// Measures ftp-alg with few and with many idle sessions, then with many transfers at once.
pub(crate) fn run(net: &Net, sessions: usize, transfers: usize) -> Result<()> {
    let mut scene = Scene::new(net, 100)?;
    let mut found = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (nth, count) in [FEW, sessions].into_iter().enumerate() {
            eprintln!("round {} of {ROUNDS}: {count} sessions held", round + 1);
            found[nth].push(beside(&scene, count)?);
            scene.everything_is_closed("the held sessions")?;
        }
    }
    let median = |nth: usize, key: &str| crate::figures::median(found[nth].iter().map(|of: &Figures| of[key]));
    let mut table =
        Table::new(&["figure", &format!("{FEW} held"), &format!("{sessions} held"), &format!("ratio ({AIM})")]);
    for (label, key) in [
        ("ftp-alg's CPU, µs per NOOP", "noop"),
        ("NOOP round trip, µs", "noop_p50"),
        ("ftp-alg's CPU, µs per session, 32 clients", "session"),
        ("sessions/s, 32 clients", "rate"),
        ("memory per held session (Pss), KiB", "memory"),
        ("held sessions that did not come about or did not last", "lost"),
        ("errors", "errors"),
    ] {
        let (few, many) = (median(0, key).unwrap_or_default(), median(1, key).unwrap_or_default());
        let ratio = if few > 0.0 { number(many / few) } else { "–".into() };
        table.row(&[label.to_owned(), number(few), number(many), ratio]);
    }
    table.print();
    at_once(&mut scene, transfers)
}

/// Figures of a load beside so many held sessions.
fn beside(scene: &Scene<'_>, count: usize) -> Result<Figures> {
    let (to, pid) = (Scene::addr(), scene.proxy.pid());
    let before = scene.holdings()?.pss;
    let mut hold = scene.load(&["hold", &to, &count.to_string()])?;
    let held = hold.next()?;
    sleep(Duration::from_millis(500));
    let mut figures = Figures::new();
    figures.insert("memory".into(), (scene.holdings()?.pss - before) / held["held"].max(1.0));
    let mut cost = |args: &[&str]| -> Result<(f64, Figures)> {
        let start = process_cpu(pid)?;
        let found = Worker::run(scene.net, Host::Client, &words(args))?;
        *figures.entry("errors".into()).or_default() += found["errors"];
        Ok((1e6 * (process_cpu(pid)? - start) / found["count"].max(1.0), found))
    };
    let (noop, noops) = cost(&["noop", &to, "20000"])?;
    let (session, sessions) = cost(&["sessions", &to, "32", "4"])?;
    figures.insert("noop".into(), noop);
    figures.insert("noop_p50".into(), noops["p50_us"]);
    figures.insert("session".into(), session);
    figures.insert("rate".into(), sessions["count"] / sessions["seconds"]);
    let alive = hold.ask()?["alive"];
    figures.insert("lost".into(), held["errors"] + held["held"] - alive);
    Ok(figures)
}

/// So many transfers that are all open at one time.
fn at_once(scene: &mut Scene<'_>, transfers: usize) -> Result<()> {
    let mut load = scene.load(&["burst", &Scene::addr(), &transfers.to_string(), &BYTES.to_string()])?;
    load.next()?;
    let before = scene.holdings()?.pss;
    let start = process_cpu(scene.proxy.pid())?;
    let sampled = std::thread::scope(|threads| {
        let done = threads.spawn(move || load.ask());
        let mut most = before;
        while !done.is_finished() {
            most = scene.holdings()?.pss.max(most);
            sleep(Duration::from_millis(50));
        }
        anyhow::Ok((done.join().expect("it does not panic")?, most))
    });
    let (found, most) = sampled?;
    let cpu = process_cpu(scene.proxy.pid())? - start;
    let gib = found["count"] * number_of(BYTES) / f64::from(1 << 30);
    println!(
        "{} transfers of {} MiB open at once, {} complete after {:.2} s ({:.2} GiB/s, {:.2} s of ftp-alg's CPU per GiB), {} \
         errors; memory (Pss) {:.0} KiB at most, {:.1} KiB per transfer",
        found["opened"],
        BYTES >> 20,
        found["count"],
        found["seconds"],
        gib / found["seconds"],
        cpu / gib,
        found["errors"],
        most,
        (most - before) / found["opened"].max(1.0)
    );
    ensure!(found["errors"] == 0.0, "transfers failed");
    scene.everything_is_closed("the transfers").map(drop)
}

fn number_of(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes).expect("below 4 GiB"))
}
