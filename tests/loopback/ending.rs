//! How transfers end: FIN stays FIN, everything else is a reset, and nobody is told of a success that was none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::black_hole::BlackHole;
use crate::support::kernel::{cpu_ticks, open_fds};
use crate::support::scene::{Scene, Session};
use crate::support::script::{Ask, Side, command};
use crate::support::wire::{End, Wire};

const DONE: &str = "226 Transfer complete.\r\n";

#[test]
fn rel_01_a_servers_reset_in_a_download_is_a_reset_to_the_client() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("the first bytes");
    data.client.expect("the first bytes");
    data.server.reset();
    data.client.ends_with(End::Reset);
    session.reply("426 Connection closed; transfer aborted.\r\n");
    session.is_usable();
}

#[test]
fn rel_01_a_clients_reset_in_a_download_is_a_reset_to_the_server() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("the first bytes");
    data.client.expect("the first bytes");
    data.client.reset();
    data.server.ends_with(End::Reset);
    session.reply("426 Data connection closed, file transfer a aborted by client.\r\n");
    session.is_usable();
}

#[test]
fn rel_01_a_clients_reset_in_an_upload_is_a_reset_to_the_server() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("the first bytes");
    data.server.expect("the first bytes");
    data.client.reset();
    data.server.ends_with(End::Reset);
    session.reply("426 Connection closed; transfer aborted.\r\n");
    session.is_usable();
}

#[test]
fn rel_01_a_servers_reset_in_an_upload_is_a_reset_to_the_client() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("the first bytes");
    data.server.expect("the first bytes");
    data.server.reset();
    data.client.ends_with(End::Reset);
    session.reply("552 Disk full.\r\n");
    session.is_usable();
}

/// A server that answers 226 to an upload that was cut: the client must not believe it.
#[test]
fn rel_02_a_cut_upload_is_never_answered_2xx() {
    let scene = Scene::plain();
    for verb in ["STOR a\r\n", "APPE a\r\n", "STOU\r\n"] {
        let mut session = scene.session();
        let mut data = session.transfer(verb);
        data.client.send("half of it");
        data.server.expect("half of it");
        data.client.reset();
        data.server.ends_with(End::Reset);
        session.server.send(DONE);
        session.client.line_starting("426 ");
        session.is_usable();
    }
}

#[test]
fn rel_02_a_success_said_before_the_upload_was_cut_is_not_passed_on() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("half of it");
    data.server.expect("half of it");
    session.server.send(DONE);
    session.client.silence(Duration::from_millis(100));
    data.client.reset();
    data.server.ends_with(End::Reset);
    session.client.line_starting("426 ");
}

#[test]
fn rel_04_a_slow_reader_gets_every_byte() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.pasv();
    session.exchange("RETR a\r\n", "150 Opening\r\n");
    let mut data = offer.connect_slow_client();
    let count = 6 << 20;
    let sending = data.server.sends_bulk(count);
    std::thread::scope(|scope| {
        // The server is done, and gone, while the client still has much to read.
        scope.spawn(|| {
            sending.join().unwrap().unwrap();
            drop(data.server);
            session.server.send(DONE);
        });
        std::thread::sleep(Duration::from_millis(300));
        data.client.expect_bulk(count);
    });
    data.client.ends_with(End::Fin);
    session.client.expect(DONE);
}

/// Also one that had closed its own direction at the start: our close comes while bytes are still on their way.
#[test]
fn rel_04_a_slow_reader_that_closed_early_gets_every_byte() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.pasv();
    session.exchange("RETR a\r\n", "150 Opening\r\n");
    let mut data = offer.connect_slow_client();
    data.client.finish();
    data.server.ends_with(End::Fin);
    let count = 1 << 20;
    let sending = data.server.sends_bulk(count);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sending.join().unwrap().unwrap();
            drop(data.server);
            session.reply(DONE);
        });
        data.client.expect_bulk(count);
    });
    data.client.ends_with(End::Fin);
}

/// Closing one direction leaves the other open.
#[test]
fn rel_05_half_close() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    data.client.finish();
    data.server.ends_with(End::Fin);
    data.client.silence(Duration::from_millis(300));
    data.server.send("after the client's FIN");
    data.client.expect("after the client's FIN");
    data.server.finish();
    data.client.ends_with(End::Fin);
    session.reply(DONE);

    let mut data = session.transfer("STOR a\r\n");
    data.server.finish();
    data.client.ends_with(End::Fin);
    data.client.send("after the server's FIN");
    data.server.expect("after the server's FIN");
    data.client.finish();
    data.server.ends_with(End::Fin);
    session.reply(DONE);
}

/// A client that ends its own download early knows why: the server's reply is the right one.
#[test]
fn rel_09_a_client_that_ends_a_download_early_gets_the_servers_reply() {
    let scene = Scene::plain();
    for reply in ["426 Data connection closed, file transfer a aborted by client.\r\n", DONE] {
        let mut session = scene.session();
        let mut data = session.transfer("RETR a\r\n");
        data.server.send("the first bytes");
        data.client.expect("the first bytes");
        data.client.reset();
        data.server.ends_with(End::Reset);
        session.reply(reply);
        session.is_usable();
    }
}

/// The server believes in a success; the client's data port never answered.
#[test]
fn rel_09_no_success_without_a_client_end() {
    let scene = Scene::with("timeouts: { connect_client: 500ms }");
    let mut session = scene.session();
    let hole = BlackHole::at(SocketAddr::new(scene.net.client(), 5000));
    session.client.send(command(Ask::Port, hole.addr));
    let Side::Dials { from, to } = session.server_agrees(Ask::Port) else { panic!("PORT") };
    session.client.line_starting("200 ");
    session.command("STOR a\r\n");
    let mut server = Wire::connect(&session.log, "server data", from, to);
    session.reply("150 Opening\r\n");
    server.ends_with(End::Reset);
    session.server.send(DONE);
    session.client.line_starting("425 ");
    session.is_usable();
}

/// Sizes beyond 32 bits are text here, and pass.
#[test]
fn rel_20_offsets_and_sizes_beyond_32_bits_pass() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.exchange("REST 4294967297\r\n", "350 Restarting at 4294967297.\r\n");
    session.exchange("SIZE big\r\n", "213 5368709120\r\n");
    let mut data = session.transfer("RETR big\r\n");
    data.server.send("tail");
    data.client.expect("tail");
}

/// Each side's end in turn, and both at once: nothing stays open, nothing spins.
#[test]
fn rel_11_every_end_is_bounded_and_frees_everything() {
    let scene = Scene::with("timeouts: { close: 500ms }");
    let warm = scene.session();
    end_in_some_way(warm, 0);
    let settled = fds_settle(&scene, usize::MAX);
    for round in 0..48 {
        end_in_some_way(scene.session(), round);
    }
    let after = fds_settle(&scene, settled);
    assert!(after <= settled, "{settled} descriptors before, {after} after");
    let ticks = cpu_ticks(scene.proxy.pid());
    std::thread::sleep(Duration::from_millis(500));
    let spent = cpu_ticks(scene.proxy.pid()) - ticks;
    assert!(spent <= 10, "{spent} of 50 ticks spent on nothing");
    scene.no_leases();
}

fn end_in_some_way(mut session: Session, round: usize) {
    let data = match round % 3 {
        0 => None,
        1 => Some(session.transfer("RETR a\r\n")),
        _ => {
            session.pasv();
            None
        }
    };
    match round / 3 % 4 {
        0 => session.client.reset(),
        1 => session.server.reset(),
        2 => {
            session.client.finish();
            session.server.finish();
        }
        _ => {
            session.client.finish();
            if let Some(data) = data {
                data.client.reset();
            }
            session.server.reset();
        }
    }
}

/// The number of descriptors once it is no higher than wanted, or has stayed so for two seconds.
fn fds_settle(scene: &Scene, wanted: usize) -> usize {
    let mut last = open_fds(scene.proxy.pid());
    let mut stable_since = Instant::now();
    let patience = if wanted == usize::MAX { Duration::from_millis(1200) } else { Duration::from_secs(2) };
    while (last > wanted || wanted == usize::MAX) && stable_since.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(20));
        let now = open_fds(scene.proxy.pid());
        if now != last {
            (last, stable_since) = (now, Instant::now());
        }
    }
    last
}

/// A server that loses its own data connection and does not notice.
#[test]
fn rel_02_a_cut_download_is_never_answered_2xx() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("half of it");
    data.client.expect("half of it");
    data.server.reset();
    data.client.ends_with(End::Reset);
    session.server.send(DONE);
    session.client.line_starting("426 ");
    session.is_usable();
}

/// A server that has read an upload to its end may close as abruptly as it likes: it knows what it has.
#[test]
fn rel_02_a_server_that_resets_after_the_end_of_an_upload_is_believed() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("all of it");
    data.client.finish();
    data.server.expect("all of it");
    data.server.ends_with(End::Fin);
    data.server.reset();
    session.reply(DONE);
    session.is_usable();
}
