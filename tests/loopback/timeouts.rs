//! What may take how long.

use std::time::{Duration, Instant};

use crate::support::scene::Scene;
use crate::support::wire::End;

const DONE: &str = "226 Transfer complete.\r\n";

/// Nothing moves for `data_idle`: both ends are reset, and the server's later success is none.
#[test]
fn rel_19_a_stalled_transfer_is_cut() {
    let scene = Scene::with("timeouts: { data_idle: 800ms }");
    for verb in ["RETR a\r\n", "STOR a\r\n"] {
        let mut session = scene.session();
        let mut data = session.transfer(verb);
        let (from, to) = if verb.starts_with("RETR") {
            (&mut data.server, &mut data.client)
        } else {
            (&mut data.client, &mut data.server)
        };
        from.send("and then nothing");
        to.expect("and then nothing");
        let start = Instant::now();
        data.client.ends_with(End::Reset);
        data.server.ends_with(End::Reset);
        assert!(start.elapsed() >= Duration::from_millis(700) && start.elapsed() < Duration::from_secs(3));
        session.server.send(DONE);
        session.client.line_starting("426 ");
        session.is_usable();
    }
}

/// A slow transfer is no stalled one, and a control connection is not idle while it lasts.
#[test]
fn rfc_19_no_idle_timeout_while_data_moves() {
    let scene = Scene::with("timeouts: { control_idle: 1s, data_idle: 1s }");
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    for _ in 0..12 {
        data.server.send("drop ");
        data.client.expect("drop ");
        std::thread::sleep(Duration::from_millis(125));
    }
    data.server.finish();
    data.client.ends_with(End::Fin);
    drop(data);
    session.reply(DONE);
    session.is_usable();
}

/// A server that scans an upload, or runs a batch job after it, may take its time to answer.
#[test]
fn rfc_19_no_idle_timeout_while_a_reply_is_awaited() {
    let scene = Scene::with("timeouts: { control_idle: 1s, data_idle: 1s, close: 1s }");
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("all of it");
    data.client.finish();
    data.server.expect("all of it");
    data.server.ends_with(End::Fin);
    drop(data);
    session.client.silence(Duration::from_millis(1500));
    session.reply(DONE);
    session.is_usable();
}

#[test]
fn rfc_19_an_idle_session_ends_with_421() {
    let scene = Scene::with("timeouts: { control_idle: 1s }");
    let mut session = scene.session();
    let start = Instant::now();
    session.client.line_starting("421 ");
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    session.client.end();
    session.server.rest();
}

/// Nobody holds a session open with half a line.
#[test]
fn a_half_line_is_not_waited_for_forever() {
    let scene = Scene::with("timeouts: { partial_line: 400ms }");
    let mut session = scene.session();
    let start = Instant::now();
    session.client.send("NOO");
    session.client.rest();
    assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < Duration::from_secs(3));
    session.server.rest();
}

#[test]
fn a_client_that_never_logs_in_is_shown_the_door() {
    let scene = Scene::with("timeouts: { login: 1s }");
    let start = Instant::now();
    let mut idle = scene.greeted(scene.net.client());
    let mut guest = scene.session();
    idle.client.line_starting("421 ");
    idle.client.end();
    idle.server.rest();
    assert!(start.elapsed() >= Duration::from_millis(900));
    // Those who did are not touched.
    std::thread::sleep(Duration::from_millis(300));
    guest.is_usable();
    // A greeting of 230 is a login.
    let mut open = scene.silent_session(scene.net.client());
    open.reply("230 no login needed\r\n");
    open.client.silence(Duration::from_millis(1300));
}

/// A client that stops reading holds a transfer up as much as a server that stops sending.
#[test]
fn rel_19_a_reader_that_stalls_is_cut() {
    let scene = Scene::with("timeouts: { data_idle: 800ms }");
    let mut session = scene.session();
    let offer = session.pasv();
    session.exchange("RETR a\r\n", "150 Opening\r\n");
    let data = offer.connect_slow_client();
    let sender = data.server.sends_bulk(512 << 20);
    assert!(sender.join().unwrap().is_err(), "the server's connection is reset");
    session.server.send(DONE);
    session.client.line_starting("426 ");
    session.is_usable();
}

/// A hold does not outlast the transfer that it waits for.
#[test]
fn rel_19_a_held_reply_is_not_held_for_ever() {
    let scene = Scene::with("timeouts: { data_idle: 800ms }");
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    session.server.send(DONE);
    session.client.silence(Duration::from_millis(150));
    data.client.ends_with(End::Reset);
    session.client.line_starting("426 ");
    session.is_usable();
}
