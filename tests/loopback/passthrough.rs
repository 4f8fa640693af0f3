//! TLS between client and server, passed through: the control connection unread from 234 on, and the server's data ports
//! for the addresses that hold such a session. What is within is of no account here, so it is no TLS.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::scene::{Scene, Session};
use crate::support::wire::{Dial, Door, End, Wire};

/// A port that is the same at the proxy and the server.
const PORT: u16 = 30_001;

const TLS: &str = "tls: { client: { mode: passthrough, passthrough_ports: 30000-30003 } }";

/// Looks like FTP, and like what a Telnet filter, a line splitter or a translation would touch.
const OPAQUE: &[u8] = b"\x16\x03\x01\0PASV\r\n\r\r\n227 =127,0,0,1,4,5\r\n\xff\xf4\xff\xf2ABOR\r\n\x80\0\xff";

/// A client whose AUTH the server has accepted.
#[track_caller]
fn passed(scene: &Scene) -> Session {
    let mut session = scene.greeted(scene.net.client());
    session.exchange("AUTH TLS\r\n", "234 Proceed.\r\n");
    session
}

/// The server listens on the port.
fn door(scene: &Scene) -> Door {
    Door::open(&scene.log, "the server's data port", scene.net.server().ip(), PORT)
}

fn dial(scene: &Scene) -> Wire {
    Wire::connect(&scene.log, "data", scene.net.client(), (scene.net.proxy().ip(), PORT).into())
}

/// A data connection of the client, and the server's end of it.
#[track_caller]
fn connect(scene: &Scene, door: &Door) -> (Wire, Wire) {
    let client = dial(scene);
    (client, door.accept())
}

/// The client closes, then the server.
#[track_caller]
fn close(scene: &Scene, mut session: Session) {
    session.client.finish();
    session.server.ends_with(End::Fin);
    session.server.finish();
    session.client.ends_with(End::Fin);
    scene.proxy.logs("outcome=closed by the client");
}

#[test]
fn rfc_22_nothing_is_changed_from_234_on() {
    let scene = Scene::with(TLS);
    let mut session = passed(&scene);
    session.command(OPAQUE);
    session.reply(OPAQUE);
    session.client.send_each_byte(OPAQUE);
    session.server.expect(OPAQUE);
    session.server.send_each_byte(OPAQUE);
    session.client.expect(OPAQUE);
    let (up, down) = (session.client.sends_bulk(1 << 20), session.server.sends_bulk(1 << 20));
    session.server.expect_bulk(1 << 20);
    session.client.expect_bulk(1 << 20);
    assert!(up.join().unwrap().is_ok() && down.join().unwrap().is_ok());
    close(&scene, session);
}

#[test]
fn rfc_22_after_a_502_translation_goes_on() {
    let scene = Scene::with(TLS);
    let mut session = scene.session();
    session.exchange("AUTH TLS\r\n", "502 Command not implemented.\r\n");
    let mut data = session.pasv().connect();
    data.server.send("down");
    data.client.expect("down");
    let door = door(&scene);
    assert!(!scene.data_port_takes(scene.net.client(), PORT), "a session in plain text has no such ports");
    door.nobody(Duration::from_millis(50));
}

#[test]
fn rfc_22_data_reaches_the_same_port_of_the_server() {
    let scene = Scene::with(TLS);
    let session = passed(&scene);
    let door = door(&scene);
    let (mut client, mut server) = connect(&scene, &door);
    client.send(OPAQUE);
    server.expect(OPAQUE);
    server.send(OPAQUE);
    client.expect(OPAQUE);
    let (up, down) = (client.sends_bulk(8 << 20), server.sends_bulk(8 << 20));
    std::thread::scope(|scope| {
        scope.spawn(|| server.expect_bulk(8 << 20));
        client.expect_bulk(8 << 20);
    });
    assert!(up.join().unwrap().is_ok() && down.join().unwrap().is_ok());
    server.finish();
    client.ends_with(End::Fin);
    client.finish();
    server.ends_with(End::Fin);
    let moved = OPAQUE.len() + (8 << 20);
    scene.proxy.logs(&format!("port={PORT} bytes_up={moved} bytes_down={moved} "));
    // The next transfer is another connection to the same port.
    let (mut client, mut server) = connect(&scene, &door);
    server.send("again");
    client.expect("again");
    close(&scene, session);
}

#[test]
fn sec_13_only_an_address_with_such_a_session_is_let_in() {
    let scene = Scene::with(TLS);
    let door = door(&scene);
    let refused = |from, who| {
        assert!(!scene.data_port_takes(from, PORT), "{who} was let in");
        door.nobody(Duration::from_millis(50));
    };
    refused(scene.net.client(), "somebody without a session");
    let mut session = scene.greeted(scene.net.client());
    refused(scene.net.client(), "a session in plain text");
    session.exchange("AUTH TLS\r\n", "234 Proceed.\r\n");
    for _ in 0..20 {
        refused(scene.net.stranger(), "a stranger");
    }
    let (client, server) = connect(&scene, &door);
    drop((client, server));
    close(&scene, session);
    refused(scene.net.client(), "a session that has ended");
}

/// The other session of the address goes on.
#[test]
fn sec_13_the_last_session_of_an_address_decides() {
    let scene = Scene::with(TLS);
    let (one, mut other) = (passed(&scene), passed(&scene));
    close(&scene, one);
    let door = door(&scene);
    let (mut client, mut server) = connect(&scene, &door);
    server.send("x");
    client.expect("x");
    other.server.finish();
    other.client.ends_with(End::Fin);
    other.client.finish();
    scene.proxy.logs("outcome=closed by the server");
    assert!(!scene.data_port_takes(scene.net.client(), PORT));
    server.send("a transfer that had begun goes on");
    client.expect("a transfer that had begun goes on");
}

#[test]
fn sec_26_one_session_cannot_make_us_connect_without_end() {
    let scene = Scene::with(TLS);
    let _session = passed(&scene);
    let door = door(&scene);
    let mut open: Vec<(Wire, Wire)> = (0..4).map(|_| connect(&scene, &door)).collect();
    assert!(!scene.data_port_takes(scene.net.client(), PORT));
    door.nobody(Duration::from_millis(50));
    let (client, mut server) = open.pop().unwrap();
    client.reset();
    server.ends_with(End::Reset);
    scene.proxy.logs("outcome=reset by the client");
    connect(&scene, &door);
}

/// The server's last words come after the client's end.
#[test]
fn rel_01_an_upload_is_half_closed() {
    let scene = Scene::with(TLS);
    let _session = passed(&scene);
    let (mut client, mut server) = connect(&scene, &door(&scene));
    client.send("all of it");
    client.finish();
    server.expect("all of it");
    server.ends_with(End::Fin);
    server.send("close_notify");
    client.expect("close_notify");
    server.finish();
    client.ends_with(End::Fin);
    scene.proxy.logs("outcome=complete");
}

#[test]
fn rel_01_a_reset_stays_a_reset() {
    let scene = Scene::with(TLS);
    let _session = passed(&scene);
    let door = door(&scene);
    let (client, mut server) = connect(&scene, &door);
    client.reset();
    server.ends_with(End::Reset);
    let (mut client, server) = connect(&scene, &door);
    server.reset();
    client.ends_with(End::Reset);
}

#[test]
fn rel_01_without_a_listening_server_the_client_is_reset() {
    let scene = Scene::with(TLS);
    let _session = passed(&scene);
    // The kernel has taken the connection before we hear of it.
    let to = (scene.net.proxy().ip(), PORT).into();
    if let Ok(mut client) = Wire::dial(&scene.log, "data", Dial { from: scene.net.client(), to, receive_buffer: None })
    {
        client.ends_with(End::Reset);
    }
    scene.proxy.logs("outcome=the server could not be reached");
}

#[test]
fn rel_19_a_connection_without_a_byte_is_reset() {
    let scene =
        Scene::with("tls: { client: { mode: passthrough, passthrough_ports: 30001 } }\ntimeouts: { data_idle: 400ms }");
    let _session = passed(&scene);
    let (mut client, mut server) = connect(&scene, &door(&scene));
    client.ends_with(End::Reset);
    server.ends_with(End::Reset);
    scene.proxy.logs("outcome=idle for too long");
}

/// What is within the session is not for us to end: it goes on until the two have done, and its ports with it.
#[test]
fn rel_15_transfers_finish_while_the_program_stops() {
    let mut scene = Scene::with(TLS);
    let session = passed(&scene);
    let door = door(&scene);
    let (mut client, mut server) = connect(&scene, &door);
    scene.proxy.signal(Signal::TERM);
    scene.proxy.logs("stopping: transfers may finish");
    let (late, _late_server) = connect(&scene, &door);
    late.reset();
    close(&scene, session);
    server.send("the last of it");
    client.expect("the last of it");
    scene.proxy.still_runs();
    server.finish();
    client.ends_with(End::Fin);
    client.finish();
    server.ends_with(End::Fin);
    assert!(scene.proxy.exits_within(Duration::from_secs(3)).success());
}
