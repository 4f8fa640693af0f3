//! What waits for what: the final reply for the data, and later commands for an upload.

use std::time::Duration;

use crate::support::scene::Scene;
use crate::support::wire::End;

const DONE: &str = "226 Transfer complete.\r\n";

/// More than a peer that does not read takes in before a sender has to wait.
const BULK: usize = 24 << 20;

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
