//! PORT and EPRT with `data_mode: same`: who may be dialled, from where, and when.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::support::kernel;
use crate::support::net::Net;
use crate::support::scene::{DATA_PORTS, Scene, Session, Setup};
use crate::support::script::{Ask, Side, command, commas, extended, tuple};
use crate::support::wire::{DEADLINE, Dial, Door, End, Wire};

/// The command that the server gets names an address of ours.
#[test]
fn rfc_24_port_is_replaced_by_one_that_names_the_proxy() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let door = Door::open(&session.log, "client data", scene.net.client(), 0);

    session.client.send(format!("PORT {}\r\n", commas(door.addr())));
    let named = tuple(&session.server.line_starting("PORT "));
    assert_eq!(named.ip(), session.server.peer().ip());
    assert_ne!(named, door.addr());

    session.reply("200 PORT command successful.\r\n");
    session.client.send(format!("EPRT |1|{}|{}|\r\n", door.addr().ip(), door.addr().port()));
    let named = extended(&session.server.line_starting("EPRT |1|"));
    assert_eq!(named.ip(), session.server.peer().ip());
}

/// RFC 6384 §9: whichever came last is used.
#[test]
fn rfc_24_port_after_pasv_takes_its_place() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let passive = session.pasv();
    let active = session.offer(Ask::Port, "same");
    session.command("RETR a\r\n");
    assert!(!scene.data_port_takes(scene.net.client(), passive.client_target().port()));
    passive.server_door().nobody(Duration::from_millis(20));
    let mut data = active.connect();
    data.server.send("by PORT");
    data.client.expect("by PORT");
}

#[test]
fn rfc_24_pasv_after_port_takes_its_place() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let _active = session.offer(Ask::Eprt, "same");
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("by PASV");
    data.client.expect("by PASV");
}

/// A third party's address, and the client's own privileged ports: 501, and not a single packet.
#[test]
fn sec_01_a_bounce_is_refused() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let victim = Door::open(&session.log, "victim", scene.net.stranger(), 0);
    session.refused(command(Ask::Port, victim.addr()), "501 ");
    session.refused(command(Ask::Eprt, victim.addr()), "501 ");
    for port in [0, 21, 25, 80, 1023] {
        let own = SocketAddr::new(scene.net.client(), port);
        session.refused(command(Ask::Port, own), "501 ");
        session.refused(command(Ask::Eprt, own), "501 ");
    }
    session.refused("PORT 198,51,100,7,78,32\r\n", "501 ");
    session.refused("EPRT |2|2001:db8::1|5000|\r\n", "5");
    victim.nobody(Duration::from_millis(100));
}

/// A client behind a NAT without a helper names its private address: its public one is dialled.
#[test]
fn sec_01_a_private_address_means_the_control_peer() {
    let scene = Scene::plain();
    for named in ["10.1.2.3", "192.168.0.3", "0.0.0.0"] {
        let mut session = scene.session();
        let door = Door::open(&session.log, "client data", scene.net.client(), 0);
        let named = SocketAddr::new(named.parse().unwrap(), door.addr().port());
        session.client.send(command(Ask::Port, named));
        let to = tuple(&session.server.line_starting("PORT "));
        session.reply("200 PORT command successful.\r\n");
        session.command("RETR a\r\n");
        let mut server = Wire::connect(&session.log, "server data", scene.net.server().ip(), to);
        let mut client = door.accept();
        server.send("x");
        client.expect("x");
    }
}

/// commons-net checks that data comes from where its control connection goes to, and servers check that it
/// comes from where the control connection came from.
#[test]
fn sec_01_data_comes_from_the_addresses_of_the_control_connections() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let active = session.offer(Ask::Port, "same").connect();
    assert_eq!(active.client.peer().ip(), scene.net.proxy().ip());
    let passive = session.pasv().connect();
    assert_eq!(passive.server.peer().ip(), session.server.peer().ip());
}

/// Only the server may connect to the port named to it.
#[test]
fn sec_13_a_stranger_on_the_servers_side_does_not_consume_the_lease() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let door = Door::open(&session.log, "client data", scene.net.client(), 0);
    session.client.send(command(Ask::Port, door.addr()));
    let to = tuple(&session.server.line_starting("PORT "));
    session.reply("200 PORT command successful.\r\n");
    session.command("RETR a\r\n");
    for intruder in [scene.net.stranger(), scene.net.client()] {
        if let Ok(mut wire) = Wire::dial(&session.log, "intruder", dial(intruder, to)) {
            wire.ends_with(End::Reset);
        }
    }
    door.nobody(Duration::from_millis(50));
    let mut server = Wire::connect(&session.log, "server data", scene.net.server().ip(), to);
    let mut client = door.accept();
    server.send("mine");
    client.expect("mine");
}

/// IIS connects before it sends `200 PORT`.
#[test]
fn rel_08_a_server_that_connects_before_its_200_is_served() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let door = Door::open(&session.log, "client data", scene.net.client(), 0);
    session.client.send(command(Ask::Port, door.addr()));
    let to = tuple(&session.server.line_starting("PORT "));
    assert_eq!(to.ip(), session.server.peer().ip());
    let mut server = Wire::connect(&session.log, "server data", scene.net.server().ip(), to);
    session.reply("200 PORT command successful.\r\n");
    let mut client = door.accept();
    session.exchange("RETR a\r\n", "125 Data connection already open; Transfer starting.\r\n");
    server.send("early");
    server.finish();
    client.expect("early");
    client.ends_with(End::Fin);
    drop(client);
    session.reply("226 Transfer complete.\r\n");
}

/// The server refuses PORT: the client hears its reply, and the port that was opened for it is closed.
#[test]
fn rel_11_a_refused_port_leaves_nothing_open() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let door = Door::open(&session.log, "client data", scene.net.client(), 0);
    session.client.send(command(Ask::Port, door.addr()));
    let to = tuple(&session.server.line_starting("PORT "));
    session.reply("501 Server cannot accept argument.\r\n");
    session.is_usable();
    let open = Wire::dial(&session.log, "late", dial(scene.net.server().ip(), to));
    assert!(open.is_err() || !open.unwrap().is_open());
}

/// The client's data port refuses: the transfer fails at both ends, whatever the server believes.
#[test]
fn rel_09_a_client_that_refuses_its_data_connection() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.offer(Ask::Port, "same");
    let Side::Dials { from, to } = offer.server else { panic!("PORT") };
    drop(offer.client);
    session.command("RETR a\r\n");
    let server = Wire::dial(&session.log, "server data", Dial { from, to, receive_buffer: None });
    session.server.send("150 Opening\r\n");
    match server {
        Ok(mut server) => server.ends_with(End::Reset),
        // It was quicker than connect(2).
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    session.server.send("226 Transfer complete.\r\n");
    session.client.expect("150 Opening\r\n");
    session.client.line_starting("425 ");
    session.is_usable();
}

/// Keep-alive runs on both control and both data connections (`tr` is 2 in the kernel's table).
#[test]
fn rel_16_keepalive_runs_on_all_legs() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let data = session.transfer("RETR a\r\n");
    for wire in [&session.client, &session.server, &data.client, &data.server] {
        // Until an acknowledgement has come the timer is that of a retransmission.
        let deadline = Instant::now() + DEADLINE;
        while timer_of_the_proxy(wire) != Some(2) {
            assert!(Instant::now() < deadline, "{:?}: timer {:?}", wire.peer(), timer_of_the_proxy(wire));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn timer_of_the_proxy(wire: &Wire) -> Option<u8> {
    let is_other_end = |row: &kernel::TcpRow| row.local == wire.peer() && row.remote == wire.local();
    kernel::tcp_rows().into_iter().find(is_other_end).map(|row| row.timer)
}

/// `server.data_ports`: the server is told ports of that range only.
#[test]
fn sec_22_the_servers_side_has_a_range_of_its_own() {
    let net = Net::new();
    // The address from which the kernel connects to a server on loopback.
    let control = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), net.port_block());
    let range = control.port() + 1..=control.port() + 2;
    let setup = Setup { more: "", ..Setup::default() };
    let yaml = setup
        .yaml(control, &net.server().to_string())
        .replace(DATA_PORTS, &(control.port() + 3).to_string())
        .replace("data_mode: same", &format!("data_ports: {}-{}", range.start(), range.end()));
    let scene = Scene::start_at(net, &yaml, &[control]);
    let client = Wire::connect(&scene.log, "client", net.client(), control);
    let mut session = Session { client, server: scene.server.accept(), log: scene.log.clone() };
    session.reply("220 ready\r\n");
    for _ in 0..4 {
        let offer = session.offer(Ask::Port, "same");
        let Side::Dials { to, .. } = &offer.server else { panic!("the server connects") };
        assert!(range.contains(&to.port()), "{to}");
        let mut data = offer.connect();
        data.server.send("x");
        data.client.expect("x");
    }
}

fn dial(from: IpAddr, to: SocketAddr) -> Dial {
    Dial { from, to, receive_buffer: None }
}
