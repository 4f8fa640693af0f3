//! `client.data_peer`: who may make a client's passive data connection. Test clients are of one /24, except for the
//! one from elsewhere; which addresses of IPv6 are of one /64 is tested beside the code.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::support::net::Net;
use crate::support::scene::{BANNER, Scene, Session, Setup};
use crate::support::script::{Ask, Offer, Side};
use crate::support::wire::{Dial, Wire};

/// One port, and a short wait for it.
fn one_port(data_peer: &'static str) -> Setup {
    Setup { data_ports: "20000", data_peer, more: "timeouts: { port_wait: 300ms }", ..Setup::default() }
}

/// `from` takes the data connection that was offered to somebody else, and after that nobody does.
#[track_caller]
fn goes_to(scene: &Scene, from: IpAddr, offer: Offer) {
    let to = offer.client_target();
    let mut client = Wire::connect(&scene.log, "data from another address", from, to);
    let mut server = offer.server_door().accept();
    server.send("down");
    client.expect("down");
    client.send("up");
    server.expect("up");
    for late in [scene.net.client(), from] {
        assert!(!scene.data_port_takes(late, to.port()), "a second connection was let in");
    }
}

#[track_caller]
fn has_no_port(session: &mut Session) {
    session.client.send("PASV\r\n");
    session.client.line_starting("425 ");
    session.is_usable();
}

#[test]
fn sec_13_subnet_lets_the_neighbour_in_and_the_stranger_uses_nothing_up() {
    for data_ports in ["20000-20063", "any"] {
        let scene = Scene::start(Setup { data_ports, data_peer: "subnet", ..Setup::default() });
        let mut session = scene.session();
        let offer = session.pasv();
        for _ in 0..3 {
            assert!(!scene.data_port_takes(scene.net.elsewhere(), offer.client_target().port()), "a stranger came in");
        }
        offer.server_door().nobody(Duration::from_millis(50));
        goes_to(&scene, scene.net.stranger(), offer);
        session.pasv().connect();
    }
}

#[test]
fn sec_13_exact_does_not_let_the_neighbour_in() {
    let scene = Scene::start(Setup { data_peer: "exact", ..Setup::default() });
    let mut session = scene.session();
    let offer = session.pasv();
    assert!(!scene.data_port_takes(scene.net.stranger(), offer.client_target().port()));
    offer.connect();
}

#[test]
fn sec_13_any_lets_whoever_comes_first_in_and_nobody_after() {
    for data_ports in ["20000-20063", "any"] {
        let scene = Scene::start(Setup { data_ports, data_peer: "any", ..Setup::default() });
        let mut session = scene.session();
        // No lease, no admission: "any" is about who, not about when.
        assert!(!scene.data_port_takes(scene.net.client(), 20_000));
        let offer = session.pasv();
        goes_to(&scene, scene.net.elsewhere(), offer);
        session.pasv().connect();
    }
}

/// Two of one network could not be told apart on one port; those of two networks can.
#[test]
fn sec_26_neighbours_share_their_ports_under_subnet() {
    let scene = Scene::start(one_port("subnet"));
    let mut one = scene.session();
    let mut two = scene.session_from(scene.net.stranger());
    let mut other = scene.session_from(scene.net.elsewhere());
    let offer = one.pasv();
    has_no_port(&mut two);
    let elsewhere = other.pasv();
    let mut data = offer.connect();
    data.server.send("of the one network");
    data.client.expect("of the one network");
    let mut data = elsewhere.connect();
    data.server.send("of the other");
    data.client.expect("of the other");
    two.pasv().connect();
}

#[test]
fn sec_26_a_port_is_for_one_transfer_of_all_under_any() {
    let scene = Scene::start(one_port("any"));
    let mut one = scene.session();
    let mut other = scene.session_from(scene.net.elsewhere());
    let offer = one.pasv();
    has_no_port(&mut other);
    offer.connect();
    other.pasv().connect();
}

/// A connection that comes late for a lease of anybody could be anybody's.
#[test]
fn rel_26_a_freed_port_rests_for_everybody_under_any() {
    let scene = Scene::start(one_port("any"));
    let mut one = scene.session();
    let mut other = scene.session_from(scene.net.elsewhere());
    let _unused = one.pasv();
    one.exchange("QUIT\r\n", "221 bye\r\n");
    one.server.finish();
    one.client.end();
    has_no_port(&mut other);
    assert!(!scene.data_port_takes(scene.net.client(), 20_000));
}

/// All who wait for the port of anybody stand in one queue.
#[test]
fn sec_26_everybody_waits_in_turn_under_any() {
    let scene = Scene::start(Setup { data_ports: "20000", data_peer: "any", ..Setup::default() });
    let mut first = scene.session();
    let offer = first.pasv();
    let mut waiting = [scene.net.elsewhere(), scene.net.stranger(), scene.net.client()].map(|from| {
        let mut session = scene.session_from(from);
        session.client.send("PASV\r\n");
        session.client.silence(Duration::from_millis(100));
        session
    });
    let mut held = vec![offer.connect()];
    for next in 0..waiting.len() {
        let server = waiting[next].server_agrees(Ask::Pasv);
        let client = waiting[next].client_is_told(Ask::Pasv);
        for session in &mut waiting[next + 1..] {
            session.server.silence(Duration::from_millis(20));
        }
        held.push(Offer::of(&waiting[next], client, server).connect());
    }
}

/// Listeners with two rules share a port: it never waits for two who could be mistaken for each other.
#[test]
fn sec_13_listeners_with_other_rules_do_not_share_a_pending_port() {
    for wide in ["subnet", "any"] {
        let net = Net::new();
        let second = SocketAddr::new(net.proxy().ip(), 2122);
        let exact = one_port("exact").yaml(net.proxy(), &net.server().to_string());
        let other = one_port(wide).yaml(second, &net.server().to_string()).replace("listeners:\n", "");
        let scene = Scene::start_at(net, &format!("{exact}{other}"), &[net.proxy(), second]);
        let mut narrow = scene.session();
        let client = Wire::connect(&scene.log, "client 2", net.stranger(), second);
        let mut wide = Session { client, server: scene.server.accept(), log: scene.log.clone() };
        wide.reply(BANNER);

        let offer = narrow.pasv();
        has_no_port(&mut wide);
        assert!(!scene.data_port_takes(net.stranger(), 20_000), "the port is for the client alone");
        offer.connect();

        let offer = wide.pasv();
        has_no_port(&mut narrow);
        goes_to(&scene, net.client(), offer);
    }
}

/// The rule is for clients: the server's data connections come from its own address.
#[test]
fn sec_13_the_server_leg_stays_exact() {
    let scene = Scene::start(Setup { data_peer: "any", server: "data_mode: active", ..Setup::default() });
    let mut session = scene.session();
    let Offer { client, server, .. } = session.offer(Ask::Pasv, "active");
    let server = session.transfer_command("RETR a\r\n", server);
    let Side::Dials { to, .. } = server else { panic!("the server connects in active mode") };
    let dial = Dial { from: scene.net.stranger(), to, receive_buffer: None };
    let is_in = Wire::dial(&scene.log, "stranger", dial).is_ok_and(|mut wire| wire.is_open());
    assert!(!is_in, "a stranger was let in");
    let mut data = Offer::of(&session, client, server).connect();
    data.server.send("from the server");
    data.client.expect("from the server");
}
