//! `server.data_mode`: every verb of a client in every mode, and what is remembered about the server.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::scene::{Scene, Session};
use crate::support::script::{Ask, Offer, Side, command, passive_reply, tuple};
use crate::support::wire::{Door, End, Wire};

/// Downloads and uploads with every verb of the client.
fn every_verb_moves_data(server: &'static str, mode: &str) {
    let scene = Scene::mode(server);
    let mut session = scene.session();
    for ask in Ask::ALL {
        let offer = session.offer(ask, mode);
        download(&mut session, offer);
        let offer = session.offer(ask, mode);
        upload(&mut session, offer);
        let offer = session.offer(ask, mode);
        empty_file(&mut session, offer);
    }
    session.exchange("QUIT\r\n", "221 bye\r\n");
}

fn download(session: &mut Session, offer: Offer) {
    let data = session.begin("RETR a\r\n", offer);
    session.downloads(data, "down the wire");
}

fn upload(session: &mut Session, offer: Offer) {
    let data = session.begin("STOR a\r\n", offer);
    session.uploads(data, "up the wire");
}

fn empty_file(session: &mut Session, offer: Offer) {
    let mut data = session.begin("RETR empty\r\n", offer);
    drop(data.server);
    data.client.ends_with(End::Fin);
    drop(data.client);
    session.reply("226 Transfer complete.\r\n");
}

#[test]
fn data_mode_same_keeps_every_verb() {
    every_verb_moves_data("data_mode: same", "same");
}

#[test]
fn data_mode_passive_makes_port_and_eprt_passive() {
    every_verb_moves_data("data_mode: passive", "passive");
}

#[test]
fn data_mode_active_tells_the_server_where_to_connect_when_something_is_to_be_transferred() {
    every_verb_moves_data("data_mode: active", "active");
}

/// The default is `same`.
#[test]
fn data_mode_is_same_unless_configured() {
    every_verb_moves_data("", "same");
}

/// EPSV to a server without it becomes PASV, once asked in vain; the client gets 229.
#[test]
fn rfc_10_epsv_falls_back_to_pasv_on_500_and_502_and_remembers() {
    for refusal in ["500 'EPSV': command not understood\r\n", "502 Command not implemented.\r\n"] {
        let scene = Scene::plain();
        let mut session = scene.session();
        session.command("EPSV\r\n");
        session.server.send(refusal);
        let offer = pasv_for_epsv(&mut session);
        download(&mut session, offer);
        // Now it is known.
        session.client.send("EPSV\r\n");
        let offer = pasv_for_epsv(&mut session);
        download(&mut session, offer);
        // Of this session only: another asks for itself.
        let mut other = scene.session();
        let offer = other.offer(Ask::Epsv, "same");
        download(&mut other, offer);
    }
}

fn pasv_for_epsv(session: &mut Session) -> Offer {
    let server = session.server_agrees(Ask::Pasv);
    let client = session.client_is_told(Ask::Epsv);
    Offer::of(session, client, server)
}

#[test]
fn rfc_10_other_refusals_of_epsv_pass() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for refusal in ["501 syntax\r\n", "530 Please login\r\n", "550 not now\r\n", "421 busy\r\n", "522 (2)\r\n"] {
        session.exchange("EPSV\r\n", refusal);
    }
    // None of them is remembered.
    session.offer(Ask::Epsv, "same").connect();
}

/// PASV is refused as well: the client gets what the server said to EPSV.
#[test]
fn rfc_10_where_pasv_fails_too_the_reply_to_epsv_passes() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.command("EPSV\r\n");
    session.server.send("500 'EPSV': command not understood\r\n");
    session.server.expect("PASV\r\n");
    session.server.send("550 Passive mode not allowed on this server.\r\n");
    session.client.expect("500 'EPSV': command not understood\r\n");
    session.is_usable();
}

/// Where verbs are not kept, the proxy answers EPSV ALL and enforces it until REIN; ABOR does not lift it.
#[test]
fn rfc_10_epsv_all_is_enforced_where_verbs_are_translated() {
    for server in ["data_mode: active", "data_mode: passive"] {
        let scene = Scene::mode(server);
        let mode = server.rsplit(' ').next().unwrap();
        let mut session = scene.session();
        session.refused("EPSV ALL\r\n", "200 ");
        let own = Door::open(&session.log, "client data", scene.net.client(), 0);
        let port = command(Ask::Port, own.addr());
        let eprt = command(Ask::Eprt, own.addr());
        let forbidden = |session: &mut Session| {
            for other in ["PASV\r\n", &port, &eprt] {
                session.refused(other, "5");
            }
        };
        forbidden(&mut session);
        session.exchange("ABOR\r\n", "226 nothing to abort\r\n");
        forbidden(&mut session);
        let offer = session.offer(Ask::Epsv, mode);
        download(&mut session, offer);
        session.exchange("REIN\r\n", "220 ready for a new user\r\n");
        let offer = session.offer(Ask::Pasv, mode);
        download(&mut session, offer);
    }
}

/// The server is sent PORT and connects before it says 200, as IIS does.
#[test]
fn rel_08_a_server_that_connects_early_waits_for_a_passive_client() {
    let scene = Scene::mode("data_mode: active");
    let mut session = scene.session();
    session.client.send("PASV\r\n");
    let Side::Dials { from, to: announced } = session.client_is_told(Ask::Pasv) else { panic!("PASV") };
    session.client.send("RETR a\r\n");
    let to = tuple(&session.server.line_starting("PORT "));
    let mut server = Wire::connect(&session.log, "server data", scene.net.server().ip(), to);
    server.silence(Duration::from_millis(50));
    session.server.send("200 PORT command successful.\r\n");
    let mut client = Wire::connect(&session.log, "client data", from, announced);
    session.server.expect("RETR a\r\n");
    session.reply("125 Data connection already open; Transfer starting.\r\n");
    server.send("early");
    server.finish();
    client.expect("early");
    client.ends_with(End::Fin);
    drop(client);
    session.reply("226 Transfer complete.\r\n");
}

/// What the server says to a command that the client never sent is put into the client's terms.
#[test]
fn a_refused_substitute_is_reported_in_the_clients_terms() {
    for (refusal, wanted) in [
        ("502 not implemented\r\n", "501 "),
        ("425 no more ports\r\n", "501 "),
        ("550 Passive mode not allowed.\r\n", "550 Passive mode"),
    ] {
        let scene = Scene::mode("data_mode: passive");
        let mut session = scene.session();
        let own = Door::open(&session.log, "client data", scene.net.client(), 0);
        session.client.send(command(Ask::Port, own.addr()));
        session.server.expect("PASV\r\n");
        session.server.send(refusal);
        session.client.line_starting(wanted);
        session.is_usable();
    }
}

/// A server whose 227 names the wrong address still gets the connection, in the translated modes as well.
#[test]
fn sec_02_a_wrong_address_in_a_227_for_port_is_never_dialled() {
    let scene = Scene::mode("data_mode: passive");
    let mut session = scene.session();
    let client = Door::open(&session.log, "client data", scene.net.client(), 0);
    session.client.send(command(Ask::Port, client.addr()));
    session.server.expect("PASV\r\n");
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    let wrong = SocketAddr::new(scene.net.stranger(), door.addr().port());
    let victim = Door::open(&session.log, "victim", scene.net.stranger(), wrong.port());
    session.server.send(passive_reply(Ask::Pasv, wrong));
    session.client.line_starting("200 ");
    let offer = Offer::of(&session, Side::Accepts(client), Side::Accepts(door));
    let mut data = session.begin("RETR a\r\n", offer);
    data.server.send("x");
    data.client.expect("x");
    victim.nobody(Duration::from_millis(50));
}
