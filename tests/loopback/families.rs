//! Clients and servers of different families, and several addresses of one proxy.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::support::net::{BLOCK, Net};
use crate::support::scene::{PUBLIC, Scene, Session, Setup};
use crate::support::script::{Ask, Offer, Side, command, extended_port, passive_reply, tuple};
use crate::support::transcript::Transcript;
use crate::support::wire::{Door, End, Wire};

const MODES: [&str; 3] = ["same", "passive", "active"];
const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn moves_data(session: &mut Session, offer: Offer, is_upload: bool) {
    let mut data = session.begin(if is_upload { "STOR a\r\n" } else { "RETR a\r\n" }, offer);
    let (from, to) =
        if is_upload { (&mut data.client, &mut data.server) } else { (&mut data.server, &mut data.client) };
    from.send("by wire");
    from.finish();
    to.expect("by wire");
    to.ends_with(End::Fin);
    drop(data);
    session.reply("226 Transfer complete.\r\n");
}

/// One listener on IPv6 for each of [`MODES`], before the IPv4 server of the scene.
fn ipv6_listeners(net: Net) -> (Scene, Vec<SocketAddr>) {
    let first = net.port_block();
    let listeners: Vec<SocketAddr> =
        (first..).map(|port| SocketAddr::new(LOOPBACK_V6, port)).take(MODES.len()).collect();
    let ports = format!("{}-{}", listeners[2].port() + 1, first + BLOCK - 1);
    let mut yaml = "listeners:\n".to_owned();
    for (bind, mode) in listeners.iter().zip(MODES) {
        let _infallible = writeln!(
            yaml,
            "  - bind: \"{bind}\"\n    upstream: \"{}\"\n    client:\n      address_map: [{{ peers: any, announce: \
             local }}]\n      data_ports: {ports}\n    server: {{ data_mode: {mode} }}",
            net.server()
        );
    }
    (Scene::start_at(net, &yaml, &listeners), listeners)
}

fn ipv6_session(scene: &Scene, listener: SocketAddr) -> Session {
    let client = Wire::connect(&scene.log, "client", LOOPBACK_V6, listener);
    let mut session = Session { client, server: scene.server.accept(), log: scene.log.clone() };
    session.reply("220 ready\r\n");
    session
}

#[test]
fn rfc_20_ipv6_clients_of_an_ipv4_server() {
    let (scene, listeners) = ipv6_listeners(Net::new());
    for (listener, mode, asked) in [
        (listeners[0], "same", [(Ask::Epsv, Ask::Pasv), (Ask::Eprt, Ask::Port)]),
        (listeners[1], "passive", [(Ask::Epsv, Ask::Pasv), (Ask::Eprt, Ask::Pasv)]),
        (listeners[2], "active", [(Ask::Epsv, Ask::Port), (Ask::Eprt, Ask::Port)]),
    ] {
        let mut session = ipv6_session(&scene, listener);
        for (ask, at_server) in asked {
            for is_upload in [false, true] {
                let offer = session.offer_by(ask, mode, at_server);
                moves_data(&mut session, offer, is_upload);
            }
        }
        session.refused("EPSV 1\r\n", "522 ");
        session.refused("PASV\r\n", "425 PASV cannot carry an IPv6 address, use EPSV.");
    }
}

#[test]
fn rfc_20_ipv4_clients_of_an_ipv6_server() {
    for (mode, asked) in [
        ("same", [Ask::Epsv, Ask::Epsv, Ask::Eprt, Ask::Eprt]),
        ("passive", [Ask::Epsv, Ask::Epsv, Ask::Epsv, Ask::Epsv]),
        ("active", [Ask::Eprt, Ask::Eprt, Ask::Eprt, Ask::Eprt]),
    ] {
        let (net, log) = (Net::new(), Transcript::new());
        let door = Door::open(&log, "server", LOOPBACK_V6, 0);
        let yaml = Setup::default().yaml(net.proxy(), &door.addr().to_string());
        let yaml = yaml.replace("data_mode: same", &format!("data_mode: {mode}"));
        let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
        let mut session = Session { client: scene.knock(), server: door.accept(), log };
        session.reply("220 ready\r\n");
        for (ask, at_server) in Ask::ALL.into_iter().zip(asked) {
            for is_upload in [false, true] {
                let offer = session.offer_by(ask, mode, at_server);
                moves_data(&mut session, offer, is_upload);
            }
        }
        if mode == "same" {
            // There is no PASV to fall back to over IPv6.
            session.client.send("PASV\r\n");
            session.server.expect("EPSV\r\n");
            session.server.send("502 Command not implemented.\r\n");
            session.client.line_starting("425 ");
            session.is_usable();
        }
    }
}

/// `server.address_map`: EPRT has an address of the server's family, or is not sent.
#[test]
fn rfc_21_an_ipv6_server_is_told_an_ipv6_address() {
    for (announce, told) in [("192.0.2.10", None), ("[192.0.2.10, \"::1\"]", Some("|2|::1|"))] {
        let (net, log) = (Net::new(), Transcript::new());
        let door = Door::open(&log, "server", LOOPBACK_V6, 0);
        let map = format!("address_map: [{{ peers: any, announce: {announce} }}]");
        let yaml = Setup::default().yaml(net.proxy(), &door.addr().to_string()).replace("data_mode: same", &map);
        let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
        let mut session = Session { client: scene.knock(), server: door.accept(), log };
        session.reply("220 ready\r\n");
        let own = Door::open(&session.log, "client data", net.client(), 0);
        session.client.send(command(Ask::Port, own.addr()));
        match told {
            Some(address) => {
                session.server.line_starting(&format!("EPRT {address}"));
            }
            None => {
                session.client.line_starting("425 Cannot open data connection: no address is configured");
                session.is_usable();
            }
        }
    }
}

/// A server may connect before it says that it will, as IIS does.
#[test]
fn rfc_21_the_port_is_open_before_the_server_hears_of_it() {
    let (scene, listeners) = ipv6_listeners(Net::new());
    let mut session = ipv6_session(&scene, listeners[0]);
    let door = Door::open(&scene.log, "client data", LOOPBACK_V6, 0);
    session.client.send(command(Ask::Eprt, door.addr()));
    let to = tuple(&session.server.line_starting("PORT "));
    let mut server = Wire::connect(&session.log, "server data", scene.net.server().ip(), to);
    session.server.send("200 PORT command successful.\r\n");
    session.client.line_starting("200 ");
    session.exchange("RETR a\r\n", "150 go\r\n");
    let mut client = door.accept();
    server.send("early");
    client.expect("early");
    server.finish();
    client.ends_with(End::Fin);
    drop(client);
    session.reply("226 done\r\n");

    // Another's address is not dialled, and the server does not hear of it.
    session.refused("EPRT |2|2001:db8::8|5001|\r\n", "501 ");
    session.refused("EPRT |1|192.0.2.1|5001|\r\n", "522 ");
}

#[test]
fn rfc_23_options_are_answered_without_the_end_of_a_line() {
    let (scene, listeners) = ipv6_listeners(Net::new());
    let mut session = ipv6_session(&scene, listeners[0]);
    session.client.send(b"\xff\xfd\x01");
    session.client.expect(b"\xff\xfc\x01");
    session.server.send(b"\xff\xfb\x03");
    session.server.expect(b"\xff\xfe\x03");
    session.is_usable();
    session.refused("ALGS STATUS64\r\n", "216 EPSVEPRT");
    session.refused("ALGS DISABLE64\r\n", "216 NONE");
    let offer = session.offer_by(Ask::Epsv, "same", Ask::Epsv);
    moves_data(&mut session, offer, true);
}

/// From where an IPv6 client would come over IPv4 nobody knows: only where anybody may come is it told an IPv4 address.
#[test]
fn sec_13_an_ipv4_address_for_an_ipv6_client() {
    let net = Net::new();
    for data_peer in ["exact", "subnet", "any"] {
        static BLOCK_OF_ALL: std::sync::OnceLock<u16> = std::sync::OnceLock::new();
        let first = *BLOCK_OF_ALL.get_or_init(|| net.port_block());
        let binds = [SocketAddr::new(LOOPBACK_V6, first), net.proxy()];
        let yaml = format!(
            "listeners:\n  - bind: [\"{}\", \"{}\"]\n    upstream: \"{}\"\n    client:\n      address_map: [{{ peers: any, \
             announce: [\"2001:db8::10\", {PUBLIC}] }}]\n      data_ports: {}-{}\n      data_peer: {data_peer}\n",
            binds[0],
            binds[1],
            net.server(),
            first + 1,
            first + BLOCK - 1
        );
        let scene = Scene::start_at(net, &yaml, &binds);
        let mut session = ipv6_session(&scene, binds[0]);
        if data_peer == "any" {
            session.client.send("PASV\r\n");
            let server = session.server_agrees(Ask::Pasv);
            let announced = tuple(&session.client.line_starting("227 "));
            assert_eq!(announced.ip().to_string(), PUBLIC);
            let client = Side::Dials { from: net.elsewhere(), to: SocketAddr::new(net.proxy().ip(), announced.port()) };
            let offer = Offer::of(&session, client, server);
            moves_data(&mut session, offer, false);
        } else {
            session.refused("PASV\r\n", "425 PASV cannot carry an IPv6 address, use EPSV.");
        }
        let offer = session.offer_by(Ask::Epsv, "same", Ask::Pasv);
        moves_data(&mut session, offer, true);
        // IPv4 clients are told the address of theirs.
        let mut session = scene.session();
        let offer = session.pasv();
        moves_data(&mut session, offer, false);
    }
}

/// Two public addresses of one machine: a listener and an announced address each, the same ports on both.
#[test]
fn each_listener_announces_its_own_address_and_shares_the_ports() {
    let net = Net::new();
    let second = SocketAddr::new(net.stranger(), net.proxy().port());
    let other = "198.51.100.99";
    let one = Setup::default().yaml(net.proxy(), &net.server().to_string());
    let two = Setup { announce: other, ..Setup::default() }.yaml(second, &net.server().to_string());
    let yaml = one + two.strip_prefix("listeners:\n").unwrap();
    let scene = Scene::start_at(net, &yaml, &[net.proxy(), second]);
    for (listener, announced) in [(net.proxy(), PUBLIC), (second, other)] {
        let client = Wire::connect(&scene.log, "client", net.client(), listener);
        let mut session = Session { client, server: scene.server.accept(), log: scene.log.clone() };
        session.reply("220 ready\r\n");
        session.client.send("PASV\r\n");
        let server = session.server_agrees(Ask::Pasv);
        let told = tuple(&session.client.line_starting("227 "));
        assert_eq!(told.ip().to_string(), announced);
        let client = Side::Dials { from: net.client(), to: SocketAddr::new(listener.ip(), told.port()) };
        let offer = Offer::of(&session, client, server);
        moves_data(&mut session, offer, false);
        // In active mode we come from the address that the client knows.
        let door = Door::open(&scene.log, "client data", net.client(), 0);
        session.client.send(command(Ask::Port, door.addr()));
        let server = session.server_agrees(Ask::Port);
        session.client.line_starting("200 ");
        let offer = Offer::of(&session, Side::Accepts(door), server);
        let data = session.begin("RETR a\r\n", offer);
        assert_eq!(data.client.peer().ip(), listener.ip());
    }
}

/// `control-address` is for 227 alone.
#[test]
fn epsv_does_not_change_with_the_announced_address() {
    for announce in ["control-address", "local", PUBLIC] {
        let scene = Scene::start(Setup { announce, ..Setup::default() });
        let mut session = scene.session();
        session.client.send("EPSV\r\n");
        session.server.expect("EPSV\r\n");
        let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
        session.server.send(passive_reply(Ask::Epsv, door.addr()));
        let line = session.client.line_starting("229 ");
        let port = extended_port(&line);
        assert_eq!(line.trim_end(), format!("229 Entering Extended Passive Mode (|||{port}|)"));
        let to = scene.data_addr(port);
        Wire::connect(&scene.log, "client data", scene.net.client(), to);
        door.accept();
    }
}
