//! ABOR, STAT and QUIT in the middle of a transfer, urgent data, and control connections that end.

use std::time::{Duration, Instant};

use crate::support::scene::Scene;
use crate::support::script::{Ask, Offer};
use crate::support::wire::End;

const DONE: &str = "226 Transfer complete.\r\n";

/// More than a peer that does not read takes in before a sender has to wait.
const BULK: usize = 24 << 20;

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

/// lftp, tnftp and inetutils: Telnet IP and DM, one byte of them urgent, before an ABOR that is not.
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
        // A server that does not read it in its place loses the urgent byte: it had better not be the LF.
        session.server.expect(b"\xff\xf4");
        assert_eq!(session.server.urgent_byte(), b'\xff');
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

/// Urgent data is read in its place on this side, too: nothing is lost.
#[test]
fn rfc_08_urgent_data_of_the_server_is_not_lost() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.server.send_urgent(b"211-status\r\n");
    session.server.send_urgent(b"211 End\r\n");
    session.client.expect("211-status\r\n211 End\r\n");
    session.is_usable();
}

/// The server closes its control connection: the data that is under way still arrives.
#[test]
fn rfc_06_a_server_fin_on_control_lets_the_data_arrive() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("one ");
    session.server.send("421 Going down.\r\n");
    session.server.finish();
    session.client.expect("421 Going down.\r\n");
    session.client.ends_with(End::Fin);
    data.server.send("two");
    data.server.finish();
    data.client.expect("one two");
    data.client.ends_with(End::Fin);
}

/// What a client said before it vanished is still passed on, and then the reset.
#[test]
fn rfc_06_a_reset_right_behind_a_command() {
    let scene = Scene::plain();
    for _ in 0..20 {
        let mut session = scene.session();
        session.client.send("DELE a\r\n");
        session.client.reset();
        let (seen, end) = session.server.rest();
        assert_eq!(end, End::Reset);
        assert!(seen.is_empty() || seen == b"DELE a\r\n", "{}", seen.escape_ascii());
    }
}

/// lftp sends ABOR and the next PASV in one go. Servers give one reply to such an ABOR, or two.
#[test]
fn rfc_05_pasv_right_behind_abor_is_translated() {
    let scene = Scene::plain();
    for replies in
        ["426 aborted\r\n226 ABOR command successful.\r\n", "226 ABOR command successful.\r\n", "426 aborted\r\n"]
    {
        let mut session = scene.session();
        let mut data = session.transfer("RETR a\r\n");
        data.server.send("half of it");
        data.client.expect("half of it");
        session.client.send("ABOR\r\nPASV\r\n");
        session.server.expect("ABOR\r\n");
        data.server.reset();
        session.server.send(replies);
        let server = session.server_agrees(Ask::Pasv);
        session.client.expect(replies);
        let client = session.client_is_told(Ask::Pasv);
        let offer = Offer::of(&session, client, server);
        let mut data = session.begin("RETR b\r\n", offer);
        data.server.send("another");
        data.client.expect("another");
    }
}

/// Half of `DELE all.bak`: nobody ended it, nobody obeys it.
#[test]
fn rfc_06_an_unfinished_line_at_the_end_is_no_command() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.client.send("NOOP\r\nDELE all");
    session.client.finish();
    session.server.expect("NOOP\r\n");
    session.server.ends_with(End::Fin);
}
