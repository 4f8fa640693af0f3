//! The end of the whole process: in good order, at once, and by SIGKILL.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::kernel;
use crate::support::scene::Scene;
use crate::support::wire::{DEADLINE, End};

/// A process that dies in mid-upload must not leave what looks like a whole file.
#[test]
fn rel_01_sigkill_in_the_middle_of_an_upload_is_a_reset() {
    let mut scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("half of it");
    data.server.expect("half of it");
    scene.proxy.kill();
    data.server.ends_with(End::Reset);
    data.client.ends_with(End::Reset);
}

/// The upload is complete at the server's socket, the client has not closed yet: still no success.
#[test]
fn rel_01_sigkill_before_the_fin_is_a_reset() {
    let mut scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.server.finish();
    data.client.ends_with(End::Fin);
    data.client.send("all of it");
    data.server.expect("all of it");
    scene.proxy.kill();
    data.server.ends_with(End::Reset);
}

#[test]
fn rel_15_sigterm_lets_transfers_finish() {
    let mut scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("one ");
    data.client.expect("one ");
    scene.proxy.signal(Signal::TERM);
    no_longer_accepts(&scene);
    std::thread::sleep(Duration::from_millis(200));
    scene.proxy.still_runs();
    data.server.send("two");
    data.server.finish();
    data.client.expect("two");
    data.client.ends_with(End::Fin);
    drop(data);
    session.server.send("226 Transfer complete.\r\n");
    session.client.expect("226 Transfer complete.\r\n");
    session.client.rest();
    drop(session);
    let status = scene.proxy.exits_within(Duration::from_secs(3));
    assert!(status.success(), "{status}");
}

/// An upload that began to be set up before the signal still gets its data connection.
#[test]
fn rel_15_data_listeners_stay_open_while_draining() {
    let mut scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.pasv();
    session.exchange("STOR a\r\n", "150 Opening\r\n");
    scene.proxy.signal(Signal::TERM);
    no_longer_accepts(&scene);
    let mut data = offer.connect();
    data.client.send("x");
    data.client.finish();
    data.server.expect("x");
    data.server.ends_with(End::Fin);
    drop(data);
    session.reply("226 Transfer complete.\r\n");
    drop(session);
    assert!(scene.proxy.exits_within(Duration::from_secs(3)).success());
}

#[test]
fn rel_15_sigint_ends_idle_sessions_at_once() {
    let mut scene = Scene::plain();
    let mut session = scene.session();
    let start = Instant::now();
    scene.proxy.signal(Signal::INT);
    session.client.line_starting("421 ");
    session.client.end();
    session.server.rest();
    drop(session);
    assert!(scene.proxy.exits_within(Duration::from_secs(3)).success());
    assert!(start.elapsed() < Duration::from_secs(3));
}

/// Those who do not close when they are told to are not waited for without end.
#[test]
fn rel_15_peers_that_never_close_are_left() {
    let mut scene = Scene::with("timeouts: { close: 500ms }");
    let mut session = scene.session();
    scene.proxy.signal(Signal::TERM);
    session.client.line_starting("421 ");
    assert!(scene.proxy.exits_within(Duration::from_secs(3)).success());
}

#[test]
fn rel_15_without_sessions_the_process_ends_at_once() {
    let mut scene = Scene::plain();
    scene.proxy.signal(Signal::TERM);
    assert!(scene.proxy.exits_within(Duration::from_secs(2)).success());
}

#[test]
fn rel_15_a_second_signal_ends_at_once() {
    let mut scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("half of it");
    data.server.expect("half of it");
    scene.proxy.signal(Signal::TERM);
    no_longer_accepts(&scene);
    scene.proxy.still_runs();
    scene.proxy.signal(Signal::TERM);
    scene.proxy.exits_within(Duration::from_secs(2));
    data.server.ends_with(End::Reset);
    data.client.ends_with(End::Reset);
}

/// A transfer that outlasts the grace is cut, and looks cut.
#[test]
fn rel_15_a_transfer_at_the_end_of_the_grace_is_reset() {
    let mut scene = Scene::with("timeouts: { drain: 600ms }");
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("half of it");
    data.server.expect("half of it");
    let start = Instant::now();
    scene.proxy.signal(Signal::TERM);
    data.server.ends_with(End::Reset);
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    scene.proxy.exits_within(Duration::from_secs(3));
    let (said, _) = session.client.rest();
    assert!(!said.starts_with(b"2"), "{}", said.escape_ascii());
}

/// Soon after the signal nobody is let in any more.
#[track_caller]
fn no_longer_accepts(scene: &Scene) {
    let deadline = Instant::now() + DEADLINE;
    while kernel::is_listening(scene.net.proxy()) {
        assert!(Instant::now() < deadline, "new clients are still let in");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A session, and a transfer within it, do not notice.
#[test]
fn rel_14_sighup_ends_nothing() {
    let mut scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    for _ in 0..3 {
        scene.proxy.signal(Signal::HUP);
    }
    scene.proxy.logs("reloaded: new sessions have the new configuration");
    data.server.send("all of it");
    data.server.finish();
    data.client.expect("all of it");
    data.client.ends_with(End::Fin);
    drop(data);
    session.reply("226 Transfer complete.\r\n");
    scene.proxy.still_runs();

    // Nor while it stops.
    let data = session.transfer("RETR a\r\n");
    scene.proxy.signal(Signal::TERM);
    no_longer_accepts(&scene);
    scene.proxy.signal(Signal::HUP);
    scene.proxy.logs("nothing is read again while stopping");
    scene.proxy.still_runs();
    scene.proxy.signal(Signal::TERM);
    let status = scene.proxy.exits_within(Duration::from_secs(3));
    assert!(status.success(), "{status}");
    drop(data);
}
