//! `server.proxy_protocol`: what the server reads first.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};

use crate::support::net::Net;
use crate::support::scene::{Scene, Setup};
use crate::support::script::{Ask, Side};
use crate::support::transcript::Transcript;
use crate::support::wire::{Door, Wire};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 says of a connection.
fn v1(from: SocketAddr, to: SocketAddr) -> String {
    let family = if from.is_ipv4() { 4 } else { 6 };
    format!("PROXY TCP{family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
}

/// What version 2 says of a connection.
fn v2(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut header = [SIGNATURE, if from.is_ipv4() { &[0x21, 0x11, 0, 12] } else { &[0x21, 0x21, 0, 36] }].concat();
    for addr in [from, to] {
        match addr.ip() {
            IpAddr::V4(ip) => header.extend(ip.octets()),
            IpAddr::V6(ip) => header.extend(ip.octets()),
        }
    }
    for addr in [from, to] {
        header.extend(addr.port().to_be_bytes());
    }
    header
}

fn header(version: &str, client: &Wire) -> Vec<u8> {
    let (from, to) = (client.local(), client.peer());
    if version == "v1" { v1(from, to).into_bytes() } else { v2(from, to) }
}

/// The server reads who the client is before it says anything; then everything is as without.
#[test]
fn the_header_comes_before_the_greeting() {
    for (version, server) in [("v1", "proxy_protocol: v1"), ("v2", "proxy_protocol: v2")] {
        let scene = Scene::mode(server);
        for _ in 0..2 {
            let mut session = scene.silent_session(scene.net.client());
            session.server.expect(header(version, &session.client));
            session.reply("220 ready\r\n");
            session.is_usable();
            // Data has none unless told, and a server that connects has none in any case.
            for ask in [Ask::Pasv, Ask::Port] {
                let offer = session.offer(ask, "same");
                let mut data = session.begin("RETR a\r\n", offer);
                data.client.send("from the client");
                data.server.expect("from the client");
            }
        }
    }
}

#[test]
fn the_header_over_ipv6() {
    let block = Net::new().port_block();
    for (version, first) in [("v1", block), ("v2", block + 2)] {
        let local = |port| SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
        let (proxy_at, server_at) = (local(first), local(first + 1));
        let setup = Setup { data_ports: "any", announce: "local", ..Setup::default() };
        let yaml = Setup { server: if version == "v1" { "proxy_protocol: v1" } else { "proxy_protocol: v2" }, ..setup };
        let log = Transcript::new();
        let server = Door::open(&log, "server", server_at.ip(), server_at.port());
        let yaml = yaml.yaml(proxy_at, &server_at.to_string());
        let _proxy = crate::support::proxy::Proxy::start(&log, &yaml, &[proxy_at]);
        let client = Wire::connect(&log, "client", proxy_at.ip(), proxy_at);
        server.accept().expect(header(version, &client));
    }
}

/// The addresses are those of the control connection, the ports those of the data connection.
#[test]
fn sec_15_data_that_we_open_says_who_the_client_is_if_told() {
    let scene = Scene::mode("data_mode: passive, proxy_protocol: v2, proxy_protocol_data: true");
    let greeted = || {
        let mut session = scene.silent_session(scene.net.client());
        session.server.expect(header("v2", &session.client));
        session.reply("220 ready\r\n");
        session
    };
    let mut session = greeted();
    let offer = session.offer(Ask::Pasv, "passive");
    let mut data = session.begin("STOR a\r\n", offer);
    data.server.expect(v2(data.client.local(), data.client.peer()));
    data.client.send("the file");
    data.server.expect("the file");

    // To a client in active mode both connections are opened at once: there are no ports of its data connection yet.
    let mut session = greeted();
    let offer = session.offer(Ask::Port, "passive");
    let mut data = session.begin("STOR b\r\n", offer);
    data.server.expect([SIGNATURE, &[0x21, 0x11, 0, 12]].concat());
    data.server.expect(&v2(session.client.local(), session.client.peer())[16..24]);
    data.server.skip(4);
    data.client.send("the file");
    data.server.expect("the file");
}

/// A server that connects is who would write one.
#[test]
fn data_that_the_server_opens_has_no_header() {
    let scene = Scene::mode("data_mode: active, proxy_protocol: v1, proxy_protocol_data: true");
    let mut session = scene.silent_session(scene.net.client());
    session.server.expect(header("v1", &session.client));
    session.reply("220 ready\r\n");
    let offer = session.offer(Ask::Pasv, "active");
    let mut client = offer.client_connects();
    let Side::Dials { from, to } = session.transfer_command("STOR a\r\n", offer.server) else { panic!("active") };
    let mut server = Wire::connect(&session.log, "server data", from, to);
    client.send("the file");
    server.expect("the file");
}

/// TLS that is passed through: its data ports are the server's own.
#[test]
fn sec_15_data_that_is_passed_through_says_who_the_client_is() {
    const PORT: u16 = 30_001;
    let more = "tls: { client: { mode: passthrough, passthrough_ports: 30000-30003 } }";
    for server in ["proxy_protocol: v2", "proxy_protocol: v2, proxy_protocol_data: true"] {
        let scene = Scene::start(Setup { server, more, ..Setup::default() });
        let mut session = scene.silent_session(scene.net.client());
        session.server.expect(header("v2", &session.client));
        session.reply("220 ready\r\n");
        session.exchange("AUTH TLS\r\n", "234 Proceed.\r\n");
        let door = Door::open(&scene.log, "the server's data port", scene.net.server().ip(), PORT);
        let mut client = Wire::connect(&scene.log, "data", scene.net.client(), (scene.net.proxy().ip(), PORT).into());
        let mut accepted = door.accept();
        if server.contains("data") {
            accepted.expect(header("v2", &client));
        }
        client.send("within TLS");
        accepted.expect("within TLS");
    }
}

/// A server with TLS, up to its greeting: its end of the connection within TLS.
fn accept_tls(server: Wire) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["ftp.example".into()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let (mut stream, hello) = server.into_parts();
    let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
    assert_eq!(connection.read_tls(&mut hello.as_slice()).unwrap(), hello.len());
    connection.process_new_packets().unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).unwrap();
    }
}

/// In clear, before the first byte of TLS: whoever balances loads behind us must read it, too.
#[test]
fn the_header_comes_before_tls() {
    for (mode, version) in [("implicit", "v1"), ("explicit", "v2")] {
        let more = format!("tls: {{ server: {{ mode: {mode}, verify: none }} }}");
        let server = if version == "v1" { "proxy_protocol: v1" } else { "proxy_protocol: v2" };
        let scene = Scene::start(Setup { server, more: more.leak(), ..Setup::default() });
        let mut session = scene.silent_session(scene.net.client());
        session.server.expect(header(version, &session.client));
        if mode == "explicit" {
            session.server.send("220 ready\r\n");
            session.server.expect("AUTH TLS\r\n");
            session.server.send("234 go on\r\n");
        }
        accept_tls(session.server);
    }
}
