//! Servers that say the wrong thing, too much, too little, or at the wrong time.
//!
//! Throughout: replies reach the client in the order in which they came; a 227 or 229 is translated for a PASV or EPSV
//! that waits, and for nothing else; a success is passed on as a transfer's only when its data is through.

use std::time::Duration;

use crate::support::scene::{Scene, Session};
use crate::support::script::{Ask, Data, commas, extended_port, passive_reply};
use crate::support::wire::{Door, End, Wire};

const DONE: &str = "226 Transfer complete.\r\n";
const OPENING: &str = "150 Opening BINARY mode data connection.\r\n";

/// The whole of a download through what was begun; its success has not been said.
#[track_caller]
fn finish(mut data: Data) {
    data.server.send("the file");
    data.server.finish();
    data.client.expect("the file");
    data.client.ends_with(End::Fin);
}

/// A transfer that goes as it should: both are in step.
#[track_caller]
fn is_in_step(session: &mut Session) {
    let data = session.transfer("RETR next\r\n");
    session.server.send(DONE);
    session.client.silence(Duration::from_millis(50));
    finish(data);
    session.client.expect(DONE);
}

/// A reply with a code of another command's passes as it is, and so does what is no reply at all. Neither opens
/// anything; what is no reply answers nothing.
#[test]
fn wrong_codes_pass_and_open_nothing() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.exchange("NOOP\r\n", "227 Entering Passive Mode (127,0,0,1,78,32)\r\n");
    session.exchange("CWD x\r\n", "150 Opening\r\n226 Transfer complete\r\n");
    session.exchange("PWD\r\n", "229 Entering Extended Passive Mode (|||20000|)\r\n");
    session.exchange("TYPE I\r\n", "600 x\r\n099 x\r\n2 00 x\r\n20x\r\n\r\n200_x\r\n200 at last\r\n");
    session.is_usable();
    scene.no_leases();
    is_in_step(&mut session);
}

/// A 2xx that no transfer is answered by leaves it waiting for its own.
#[test]
fn a_wrong_success_does_not_end_a_transfer() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.pasv();
    session.exchange("RETR a\r\n", "200 What?\r\n");
    let data = offer.connect();
    session.reply("257 \"/\"\r\n150 Opening\r\n");
    session.server.send(DONE);
    session.client.silence(Duration::from_millis(100));
    finish(data);
    session.client.expect(DONE);
    is_in_step(&mut session);
}

/// EPSV answered by 227: the client gets the 229 that it asked for, and the port of the 227.
#[test]
fn epsv_answered_by_227() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.command("EPSV\r\n");
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send(format!("227 Entering Passive Mode ({}).\r\n", commas(door.addr())));
    let port = extended_port(&session.client.line_starting("229 "));
    session.exchange("RETR a\r\n", OPENING);
    let client = Wire::connect(&session.log, "client data", scene.net.client(), scene.data_addr(port));
    finish(Data { client, server: door.accept() });
    session.reply(DONE);
}

/// A 227 without a tuple passes; the PASV is answered, and nothing is open.
#[test]
fn a_227_without_a_tuple_answers_its_pasv() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.client.send("PASV\r\nRETR a\r\n");
    session.server.expect("PASV\r\n");
    session.reply("227 Entering Passive Mode.\r\n");
    session.server.expect("RETR a\r\n");
    session.reply("425 Use PASV first.\r\n");
    scene.no_leases();
    is_in_step(&mut session);
}

/// The second of two replies belongs to nothing: it passes, whatever waits by then.
#[test]
fn two_replies_where_one_is_due() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.exchange("NOOP\r\n", "200 noop\r\n200 noop\r\n");
    is_in_step(&mut session);
    // The first one's success comes a second time when PASV waits, and when it has been answered.
    session.command("PASV\r\n");
    session.reply(DONE);
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send(passive_reply(Ask::Pasv, door.addr()));
    session.client_is_told(Ask::Pasv);
    session.reply(DONE);
    is_in_step(&mut session);
}

/// A 227 that comes behind another reply to PASV is translated as long as commands are held back for it,
/// `timeouts.close`; after that it is text, and what it names stays shut.
#[test]
fn a_227_later_than_the_wait_is_text() {
    let scene = Scene::with("timeouts: { close: 500ms }");
    let mut session = scene.session();
    session.exchange("PASV\r\n", "200 Wait.\r\n");
    session.exchange("NOOP\r\n", "200 noop\r\n");
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.reply(passive_reply(Ask::Pasv, door.addr()));
    scene.proxy.logs("nobody asked for");
    scene.no_leases();
    door.nobody(Duration::from_millis(50));
    is_in_step(&mut session);
}

/// If the next PASV waits by then, it takes the late 227 for its own; its own is the one too many, and text. The third
/// is in step again.
#[test]
fn a_late_227_costs_one_transfer_at_most() {
    let scene = Scene::with("timeouts: { close: 500ms }");
    let mut session = scene.session();
    session.exchange("PASV\r\n", "200 Wait.\r\n");
    session.command("PASV\r\n");
    let late = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    let own = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send(passive_reply(Ask::Pasv, late.addr()));
    session.client_is_told(Ask::Pasv);
    session.reply(passive_reply(Ask::Pasv, own.addr()));
    own.nobody(Duration::from_millis(50));
    is_in_step(&mut session);
}

/// A server that has said everything before it was asked, and answers nothing when it is: the queue is two commands
/// long from then on, and the codes alone tell whose reply is whose.
#[test]
fn replies_before_their_commands() {
    let scene = Scene::plain();
    for ask in Ask::ALL {
        let mut session = scene.silent_session(scene.net.client());
        session.reply("220 ready\r\n331 name?\r\n230 in\r\n");
        session.command("USER alice\r\nPASS opensesame\r\n");
        let offer = session.offer(ask, "same");
        let data = session.begin("RETR a\r\n", offer);
        session.server.send(DONE);
        session.client.silence(Duration::from_millis(50));
        finish(data);
        session.client.expect(DONE);
        is_in_step(&mut session);
    }
}

/// The last line of a server that closes without ending it is a line, and reaches the client as it is.
#[test]
fn a_missing_line_end_before_the_servers_fin() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.command("QUIT\r\n");
    session.server.send("221 Goodbye");
    session.server.finish();
    session.client.expect("221 Goodbye");
    session.client.ends_with(End::Fin);

    let mut session = scene.session();
    let data = session.transfer("RETR a\r\n");
    session.server.send("226 Transfer complete");
    session.server.finish();
    session.client.expect("226 Transfer complete");
    finish(data);
    session.client.ends_with(End::Fin);
}

/// Many lines or one, a banner of 64 KiB reaches the client whole, and is the answer that was due: the session is idle
/// after it as after any other.
#[test]
fn a_banner_of_64_kib() {
    let scene = Scene::with("timeouts: { control_idle: 3s }");
    let lines = format!("220-Welcome\r\n{}220 ready\r\n", "227 (1,2,3,4,5,6) is text here, as all.\r\n".repeat(1600));
    let line = format!("220 {}\r\n", "x".repeat(1 << 16));
    let inner = format!("220-{}\r\n{}\r\n220 ready\r\n", "y".repeat(1 << 15), "z".repeat(1 << 15));
    let mut sessions = Vec::new();
    for banner in [lines, line, inner] {
        let mut session = scene.silent_session(scene.net.client());
        session.reply(banner);
        session.exchange("USER alice\r\n", "230 in\r\n");
        session.is_usable();
        sessions.push(session);
    }
    scene.no_leases();
    for session in &mut sessions {
        session.client.line_starting("421 Idle");
    }
}

/// A server that closes its control connection right after 226, its own end of the data read or not.
#[test]
fn a_server_that_closes_after_226() {
    const BULK: usize = 24 << 20;
    let scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.pasv();
    session.exchange("RETR a\r\n", OPENING);
    let mut data = offer.connect_slow_client();
    let sender = data.server.sends_bulk(BULK);
    session.server.send(DONE);
    session.server.finish();
    session.client.expect(DONE);
    data.client.expect_bulk(BULK);
    sender.join().unwrap().unwrap();
    data.server.finish();
    data.client.ends_with(End::Fin);
    session.client.ends_with(End::Fin);

    let mut session = scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("the file");
    data.client.finish();
    data.server.expect("the file");
    data.server.ends_with(End::Fin);
    session.server.send(DONE);
    session.server.finish();
    session.client.expect(DONE);
    session.client.ends_with(End::Fin);
}

/// Data needs no 150: what comes before it goes on at once, its FIN included.
#[test]
fn data_before_150() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.pasv();
    session.command("RETR a\r\n");
    finish(offer.connect());
    session.reply(OPENING);
    session.reply(DONE);

    // A server in active mode dials, and the client is dialled, before 150.
    let offer = session.offer(Ask::Port, "same");
    session.command("RETR a\r\n");
    finish(offer.connect());
    session.reply(format!("{OPENING}{DONE}"));
    is_in_step(&mut session);
}

/// The second 150 passes, and the success is still the transfer's.
#[test]
fn a_150_said_twice() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let data = session.transfer("RETR a\r\n");
    session.reply("125 Data connection already open\r\n");
    session.server.send(DONE);
    session.client.silence(Duration::from_millis(100));
    finish(data);
    session.client.expect(DONE);
    is_in_step(&mut session);
}

/// The client has the whole file, and hears that it is none: the server knows why (a read error, a checksum).
#[test]
fn a_refusal_after_the_data() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for reply in ["426 Connection closed; transfer aborted.\r\n", "451 Local error.\r\n", "552 Quota.\r\n"] {
        let data = session.transfer("RETR a\r\n");
        finish(data);
        session.reply(reply);
        is_in_step(&mut session);
    }
}

/// 426 and 226 for one transfer, without an ABOR: the first counts, the second is text. If PASV waits by then, it goes
/// on waiting.
#[test]
fn a_refusal_and_a_success_for_one_transfer() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let data = session.transfer("RETR a\r\n");
    data.server.reset();
    session.reply("426 Connection closed; transfer aborted.\r\n");
    session.command("PASV\r\n");
    session.reply("226 Closing data connection.\r\n");
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send(passive_reply(Ask::Pasv, door.addr()));
    session.client_is_told(Ask::Pasv);
    is_in_step(&mut session);
}

/// A server that says nothing at all holds nothing but its own session: its client leaves when it likes, and PASV's
/// port is free again.
#[test]
fn a_server_that_never_answers() {
    let scene = Scene::with("timeouts: { close: 500ms }");
    for command in ["PASV\r\n", "RETR a\r\n", "PORT 10,0,0,1,78,32\r\n", "NOOP\r\n"] {
        let mut session = scene.session();
        session.client.send(command);
        session.server.line();
        session.client.send("QUIT\r\n");
        session.client.finish();
        session.client.rest();
        session.server.rest();
    }
    scene.no_leases();
}
