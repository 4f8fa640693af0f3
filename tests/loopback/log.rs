//! The log on standard error, and what it must not do to a session.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::scene::{Scene, Setup};
use crate::support::transcript::Transcript;
use crate::support::wire::{DEADLINE, Door};

/// A proxy the log of which nobody reads.
fn unread(level: &str) -> Scene {
    let (net, log) = (Net::new(), Transcript::new());
    let server = Door::open(&log, "server", net.server().ip(), net.server().port());
    let yaml = Setup::default().yaml(net.proxy(), &net.server().to_string());
    let proxy = Proxy::start_unread(level, &log, &yaml, &[net.proxy()]);
    Scene { net, proxy, server, log }
}

/// More than the pipe and the queue together have room for. Each is a line of the log, and needs no server.
const REFUSALS: usize = 20_000;

/// Makes that many lines, in one session.
fn flood(scene: &Scene) {
    let mut session = scene.session();
    for _ in 0..REFUSALS / 100 {
        session.client.send("PORT 192,0,2,1,4,1\r\n".repeat(100));
        session.client.expect("501 Illegal PORT address.\r\n".repeat(100));
    }
}

fn transfer(scene: &Scene) {
    let mut session = scene.session();
    let data = session.transfer("RETR a\r\n");
    session.downloads(data, "all of it");
}

#[test]
fn rel_23_a_log_that_nobody_reads_holds_nobody_up() {
    let mut scene = unread("info");
    flood(&scene);
    transfer(&scene);
    // The end does not wait for a reader either.
    scene.proxy.signal(Signal::TERM);
    assert!(scene.proxy.exits_within(Duration::from_secs(10)).success());
}

#[test]
fn rel_23_lost_lines_are_counted_and_told() {
    let mut scene = unread("info");
    flood(&scene);
    scene.proxy.read_stderr();
    scene.proxy.logs("log lines were lost");
    transfer(&scene);
    scene.proxy.logs("verb=\"RETR\"");
    let stderr = scene.proxy.stderr();
    let lost = stderr.split("lost=").nth(1).unwrap().split_whitespace().next().unwrap().parse::<usize>().unwrap();
    let logged = stderr.matches("PORT refused").count();
    // Lost as well: the end of that session, perhaps, and what was said too early of lost lines.
    assert!((REFUSALS..REFUSALS + 20).contains(&(lost + logged)), "{lost} lost, {logged} logged");
    assert!(logged > REFUSALS / 2, "{logged} logged");
}

/// Those who end it read why: what was logged last is not lost.
#[test]
fn the_log_is_whole_at_the_end() {
    let mut scene = Scene::plain();
    let mut session = scene.session();
    scene.proxy.signal(Signal::TERM);
    session.client.line_starting("421 ");
    drop(session);
    assert!(scene.proxy.exits_within(DEADLINE).success());
    scene.proxy.logs("outcome=stopping");
}
