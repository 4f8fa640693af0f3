//! How transfers end: FIN stays FIN, everything else is a reset, and nobody is told of a success that was none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::black_hole::BlackHole;
use crate::support::kernel::{cpu_ticks, open_fds};
use crate::support::scene::{Scene, Session};
use crate::support::script::{Ask, Side, command};
use crate::support::wire::{End, Wire};

/// More than all socket buffers on the way hold together.
const BULK: usize = 24 << 20;

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
    data.server.sends_bulk(count).join().unwrap().unwrap();
    drop(data.server);
    session.server.send(DONE);
    std::thread::sleep(Duration::from_millis(300));
    data.client.expect_bulk(count);
    data.client.ends_with(End::Fin);
    session.client.expect(DONE);
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

/// The server's success waits for the last byte; data and control arrive in the order that the server meant.
#[test]
fn rel_06_the_final_reply_waits_for_the_last_byte() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.pasv();
    session.exchange("RETR a\r\n", "150 Opening\r\n");
    let mut data = offer.connect_slow_client();
    let sender = data.server.sends_bulk(BULK);
    session.server.send("226-Transfer complete.\r\n226 Goodbye.\r\n");
    session.client.silence(Duration::from_millis(300));
    data.client.expect_bulk(BULK);
    sender.join().unwrap().unwrap();
    // The server's FIN is the end of the file.
    session.client.silence(Duration::from_millis(100));
    data.server.finish();
    data.client.ends_with(End::Fin);
    session.client.expect("226-Transfer complete.\r\n226 Goodbye.\r\n");
}

/// IIS sends 226 before it closes the data connection; what comes behind the 226 waits with it.
#[test]
fn rel_06_a_226_before_the_data_fin_ends_nothing() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    session.server.send(DONE);
    session.client.send("NOOP\r\n");
    session.server.expect("NOOP\r\n");
    session.server.send("200 noop\r\n");
    session.client.silence(Duration::from_millis(150));
    data.server.send("the file");
    data.server.finish();
    data.client.expect("the file");
    data.client.ends_with(End::Fin);
    // The client's own FIN is not awaited.
    session.client.expect("226 Transfer complete.\r\n200 noop\r\n");
}

/// A 4xx or 5xx is not held: the client must hear why.
#[test]
fn rel_06_a_refusal_is_not_held() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let _data = session.transfer("RETR a\r\n");
    session.reply("451 Read error.\r\n");
    session.is_usable();
}

#[test]
fn rel_06_abor_ends_a_hold() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let data = session.transfer("RETR a\r\n");
    session.server.send(DONE);
    session.client.silence(Duration::from_millis(100));
    session.client.send("ABOR\r\n");
    session.server.expect("ABOR\r\n");
    session.client.expect(DONE);
    session.reply("226 ABOR command successful.\r\n");
    drop(data);
    session.is_usable();
}

#[test]
fn rel_06_a_closed_control_connection_ends_a_hold() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let _data = session.transfer("RETR a\r\n");
    session.server.send(DONE);
    session.client.silence(Duration::from_millis(100));
    session.server.finish();
    session.client.expect(DONE);
    session.client.end();
}

/// RFC 959 §3.4: in block and compressed mode the data connection outlives the transfer.
#[test]
fn rel_06_in_block_mode_nothing_is_held() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.exchange("MODE B\r\n", "200 Mode set to B.\r\n");
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("first file");
    data.client.expect("first file");
    session.reply(DONE);
    session.exchange("RETR b\r\n", "125 Using existing data connection\r\n");
    data.server.send("second file");
    data.client.expect("second file");
    session.reply(DONE);
}

/// A MODE that the server refused changes nothing.
#[test]
fn rel_06_a_refused_mode_leaves_the_hold() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.exchange("MODE C\r\n", "504 Unsupported mode.\r\n");
    let data = session.transfer("RETR a\r\n");
    session.server.send(DONE);
    session.client.silence(Duration::from_millis(100));
    data.server.finish();
    session.client.expect(DONE);
}

/// A command behind an upload must not overtake its last bytes. STAT may, unless a command is waiting already.
#[test]
fn rel_07_commands_do_not_overtake_an_upload() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    let sender = data.client.sends_bulk(BULK);
    session.exchange("STAT\r\n", "211 in the middle of it\r\n");
    session.client.send("NOOP\r\nSTAT\r\n");
    session.server.silence(Duration::from_millis(200));
    data.server.expect_bulk(BULK);
    sender.join().unwrap().unwrap();
    session.server.silence(Duration::from_millis(50));
    data.client.finish();
    data.server.ends_with(End::Fin);
    session.server.expect("NOOP\r\nSTAT\r\n");
    drop(data);
    session.reply("226 Transfer complete.\r\n200 noop\r\n211 idle\r\n");
}

#[test]
fn rel_07_abor_passes_an_upload() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let data = session.transfer("STOR a\r\n");
    let sender = data.client.sends_bulk(BULK);
    session.command("ABOR\r\n");
    data.server.reset();
    assert!(sender.join().unwrap().is_err(), "the rest of the upload went nowhere");
    session.reply("426 Connection closed; transfer aborted.\r\n226 ABOR command successful.\r\n");
    session.is_usable();
}

#[test]
fn rfc_05_abor_ends_a_download_and_leaves_the_session_usable() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    let sender = data.server.sends_bulk(BULK);
    data.client.skip(1000);
    session.command("ABOR\r\n");
    data.server.reset();
    assert!(sender.join().unwrap().is_err());
    session.reply("426 Connection closed; transfer aborted.\r\n226 ABOR command successful.\r\n");
    assert_eq!(data.client.rest().1, End::Reset);
    let mut again = session.transfer("RETR a\r\n");
    again.server.send("again");
    again.client.expect("again");
}

/// A new PASV is for the next transfer.
#[test]
fn rfc_05_a_new_pasv_touches_no_running_transfer() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut running = session.transfer("RETR a\r\n");
    running.server.send("one ");
    let next = session.pasv();
    running.server.send("two");
    running.server.finish();
    running.client.expect("one two");
    running.client.ends_with(End::Fin);
    running.client.finish();
    session.reply(DONE);
    session.command("RETR b\r\n");
    let mut data = next.connect();
    data.server.send("three");
    data.client.expect("three");
}

/// QUIT in the middle of a download: the result comes first.
#[test]
fn rfc_06_quit_waits_for_the_result() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("one ");
    session.command("QUIT\r\n");
    data.server.send("two");
    data.server.finish();
    data.client.expect("one two");
    data.client.ends_with(End::Fin);
    drop(data);
    session.reply("226 Transfer complete.\r\n221 Goodbye.\r\n");
    session.server.finish();
    session.client.ends_with(End::Fin);
}

#[test]
fn rfc_06_quit_in_the_middle_of_an_upload_waits_for_its_last_byte() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("one ");
    session.client.send("QUIT\r\n");
    session.server.silence(Duration::from_millis(100));
    data.client.send("two");
    data.client.finish();
    data.server.expect("one two");
    data.server.ends_with(End::Fin);
    drop(data);
    session.server.expect("QUIT\r\n");
    session.reply("226 Transfer complete.\r\n221 Goodbye.\r\n");
}

/// A client that closes its control connection: what it sent is served, its transfer goes on.
#[test]
fn rfc_06_a_client_fin_on_control_lets_the_transfer_go_on() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    session.client.send("NOOP\r\n");
    session.client.finish();
    session.server.expect("NOOP\r\n");
    session.server.ends_with(End::Fin);
    data.server.send("still coming");
    data.client.expect("still coming");
    data.server.finish();
    data.client.ends_with(End::Fin);
    drop(data);
    session.server.send("226 Transfer complete.\r\n200 noop\r\n");
    session.client.expect("226 Transfer complete.\r\n200 noop\r\n");
    session.server.finish();
    session.client.ends_with(End::Fin);
}

#[test]
fn rfc_06_a_client_fin_in_the_middle_of_an_upload() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("one ");
    session.client.finish();
    std::thread::sleep(Duration::from_millis(100));
    data.client.send("two");
    data.client.finish();
    data.server.expect("one two");
    data.server.ends_with(End::Fin);
    drop(data);
    session.server.ends_with(End::Fin);
    session.reply(DONE);
}

/// A client that vanishes with a reset: the server's control and data connections are reset, too.
#[test]
fn rfc_06_a_client_reset_on_control_resets_all() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("half of it");
    data.server.expect("half of it");
    session.client.reset();
    session.server.ends_with(End::Reset);
    data.server.ends_with(End::Reset);
    data.client.ends_with(End::Reset);
}

#[test]
fn rfc_06_a_server_reset_on_control_resets_all() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("half of it");
    data.client.expect("half of it");
    session.server.reset();
    session.client.ends_with(End::Reset);
    data.client.ends_with(End::Reset);
    data.server.ends_with(End::Reset);
}

/// A session does not linger when its client has gone and the server does not end.
#[test]
fn rfc_06_a_server_that_never_ends_is_left() {
    let scene = Scene::with("timeouts: { close: 400ms }");
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("half of it");
    data.server.expect("half of it");
    let start = Instant::now();
    session.client.finish();
    session.server.rest();
    data.server.ends_with(End::Reset);
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn rfc_07_stat_is_answered_during_a_download() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.pasv();
    session.exchange("RETR a\r\n", "150 Opening\r\n");
    let mut data = offer.connect_slow_client();
    let sender = data.server.sends_bulk(BULK);
    let start = Instant::now();
    session.exchange("STAT\r\n", "213-Status\r\n 5 of 9 bytes\r\n213 End\r\n");
    assert!(start.elapsed() < Duration::from_secs(1));
    data.client.expect_bulk(BULK);
    sender.join().unwrap().unwrap();
}

/// ftplib: `ABOR\r\n` with MSG_OOB, so that the LF is the urgent byte. It reaches the server as urgent data.
#[test]
fn rfc_08_an_urgent_abor_reaches_the_server_urgent() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.client.send_urgent(b"ABOR\r\n");
    session.server.expect("ABOR\r");
    assert_eq!(session.server.urgent_byte(), b'\n');
    session.reply("226 nothing to abort\r\n");
    session.is_usable();
}

/// lftp, tnftp and inetutils: Telnet IP and DM, one byte of them urgent, before an ABOR that is not. A server that
/// does not read urgent data inline must not lose the line feed.
#[test]
fn rfc_08_the_telnet_synch_of_abor_is_kept() {
    for (first, urgent, last) in
        [(&b"\xff\xf4\xff"[..], &b"\xf2"[..], &b"ABOR\r\n"[..]), (b"\xff\xf4", b"\xff", b"\xf2ABOR\r\n")]
    {
        let scene = Scene::plain();
        let mut session = scene.session();
        let _data = session.transfer("RETR a\r\n");
        session.client.send(first);
        session.client.send_urgent(urgent);
        session.client.send(last);
        session.server.expect(b"\xff\xf4");
        assert_eq!(session.server.urgent_byte(), 0xff);
        session.server.expect(b"\xf2ABOR\r\n");
        session.reply("426 aborted\r\n226 ABOR command successful.\r\n");
        session.is_usable();
    }
}

/// An urgent byte before any other command is text.
#[test]
fn rfc_08_other_commands_are_never_urgent() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.client.send_urgent(b"NOOP\r\n");
    session.server.expect("NOOP\r\n");
    session.reply("200 noop\r\n");
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

/// Nothing moves for `data_idle`: both ends are reset, and the server's later success is none.
#[test]
fn rel_19_a_stalled_transfer_is_cut() {
    let scene = Scene::with("timeouts: { data_idle: 400ms }");
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
        assert!(start.elapsed() >= Duration::from_millis(250) && start.elapsed() < Duration::from_secs(3));
        session.server.send(DONE);
        session.client.line_starting("426 ");
        session.is_usable();
    }
}

/// A slow transfer is no stalled one, and a control connection is not idle while it lasts.
#[test]
fn rfc_19_no_idle_timeout_while_data_moves() {
    let scene = Scene::with("timeouts: { control_idle: 400ms, data_idle: 400ms }");
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    for _ in 0..12 {
        data.server.send("drop ");
        data.client.expect("drop ");
        std::thread::sleep(Duration::from_millis(100));
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
    let scene = Scene::with("timeouts: { control_idle: 300ms, data_idle: 300ms, close: 300ms }");
    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("all of it");
    data.client.finish();
    data.server.expect("all of it");
    data.server.ends_with(End::Fin);
    drop(data);
    session.client.silence(Duration::from_millis(1200));
    session.reply(DONE);
    session.is_usable();
}

#[test]
fn rfc_19_an_idle_session_ends_with_421() {
    let scene = Scene::with("timeouts: { control_idle: 400ms }");
    let mut session = scene.session();
    let start = Instant::now();
    session.client.line_starting("421 ");
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    session.client.end();
    session.server.rest();
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
