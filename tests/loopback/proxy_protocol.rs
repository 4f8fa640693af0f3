//! Behind a load balancer that says in PROXY headers whose connections it brings. Clients have addresses of their own,
//! which only the headers name; the load balancer connects from one that is trusted.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::support::kernel::rss_kib;
use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::scene::{BANNER, Scene, Session, Setup};
use crate::support::script::{Ask, Side, command, passive_reply, tuple};
use crate::support::transcript::Transcript;
use crate::support::wire::{Dial, Door, End, Wire};

/// The address of the load balancer that the clients know.
const VIP: &str = "203.0.113.99";

/// Version 2 without addresses: the load balancer's own connection, and somebody's of whom it says nothing.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// A scene of which every address of the net may be the load balancer, but one.
fn trusting(net: Net, data: bool, setup: Setup) -> String {
    let (balancer, second) = (net.client(), net.neighbour(0));
    let rule = format!("proxy_protocol: {{ trusted: [{balancer}, {second}], data: {data} }}");
    let yaml = setup.yaml(net.proxy(), &net.server().to_string());
    let whole = yaml.replace("      data_peer:", &format!("      {rule}\n      data_peer:"));
    assert_ne!(whole, yaml);
    whole
}

#[track_caller]
fn behind_with(data: bool, setup: Setup) -> Scene {
    let net = Net::new();
    Scene::start_at(net, &trusting(net, data, setup), &[net.proxy()])
}

#[track_caller]
fn behind(data: bool) -> Scene {
    behind_with(data, Setup::default())
}

/// What the load balancer says of a client at this address.
fn line(client: IpAddr) -> String {
    format!("PROXY TCP4 {client} {VIP} 33156 21\r\n")
}

/// The same in version 2, with a TLV.
fn binary(client: IpAddr) -> Vec<u8> {
    let IpAddr::V4(client) = client else { panic!("an IPv4 address") };
    let vip: std::net::Ipv4Addr = VIP.parse().unwrap();
    let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11";
    [&fixed[..], &client.octets(), &vip.octets(), &[0x81, 0x84, 0, 21], b"\x05\0\x02id"].concat()
}

/// The load balancer connects, and says nothing yet.
#[track_caller]
fn bring(scene: &Scene) -> Wire {
    Wire::connect(&scene.log, "balancer", scene.net.client(), scene.net.proxy())
}

/// The session of a client, that has logged in.
#[track_caller]
fn session(scene: &Scene, client: IpAddr) -> Session {
    let mut wire = bring(scene);
    wire.send(line(client));
    logged_in(scene, wire)
}

#[track_caller]
fn logged_in(scene: &Scene, client: Wire) -> Session {
    let mut session = Session { client, server: scene.server.accept(), log: scene.log.clone() };
    session.reply(BANNER);
    session.exchange("USER alice\r\n", "331 Password required\r\n");
    session.exchange("PASS opensesame\r\n", "230 User logged in.\r\n");
    session
}

/// A connection to a data port, which may be reset before it is known to be there.
fn dial(scene: &Scene, from: IpAddr, to: SocketAddr) -> Option<Wire> {
    Wire::dial(&scene.log, "data", Dial { from, to, receive_buffer: None }).ok()
}

/// Nobody is there for this connection.
#[track_caller]
fn is_reset(wire: Option<Wire>, first: impl AsRef<[u8]>) {
    let Some(mut wire) = wire else { return };
    let _may_be_reset_already = wire.try_send(first.as_ref());
    wire.ends_with(End::Reset);
}

#[test]
fn sec_23_the_header_says_whose_session_it_is() {
    let scene = behind(true);
    for (n, header) in [
        line(scene.net.neighbour(7)).into_bytes(),
        binary(scene.net.neighbour(7)),
        b"PROXY TCP6 2001:db8::7 2001:db8::99 33156 21\r\n".to_vec(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut wire = bring(&scene);
        wire.send(&header);
        let mut session = logged_in(&scene, wire);
        session.exchange("QUIT\r\n", "221 bye\r\n");
        session.server.finish();
        session.client.ends_with(End::Fin);
        let client = if n == 2 { "[2001:db8::7]:33156".into() } else { format!("{}:33156", scene.net.neighbour(7)) };
        scene.proxy.logs(&format!("session={} client={client} user=\"alice\"", n + 1));
    }
}

/// What is in the same segment as the header is the session's, every byte of it.
#[test]
fn sec_23_commands_may_follow_at_once() {
    let scene = behind(true);
    for header in [line(scene.net.stranger()).into_bytes(), binary(scene.net.stranger())] {
        let mut wire = bring(&scene);
        wire.send([&header[..], b"USER alice\r\nPASS opensesame\r\n"].concat());
        let mut server = scene.server.accept();
        server.send(BANNER);
        wire.expect(BANNER);
        server.expect("USER alice\r\n");
        server.send("331 Password required\r\n");
        wire.expect("331 Password required\r\n");
        server.expect("PASS opensesame\r\n");
    }
}

/// The server, which would speak first, does not even know.
#[test]
fn sec_23_nothing_happens_before_the_header_is_whole() {
    let scene = behind(true);
    for header in [line(scene.net.stranger()).into_bytes(), binary(scene.net.stranger())] {
        let mut wire = bring(&scene);
        let (all_but_one, last) = header.split_at(header.len() - 1);
        wire.send_each_byte(all_but_one);
        wire.silence(Duration::from_millis(100));
        scene.server.nobody(Duration::from_millis(50));
        wire.send(last);
        logged_in(&scene, wire).is_usable();
    }
}

#[test]
fn sec_23_nobody_but_the_trusted_is_let_in() {
    let scene = behind(true);
    for first in [line(scene.net.client()).into_bytes(), binary(scene.net.client()), b"USER alice\r\n".to_vec()] {
        is_reset(dial(&scene, scene.net.stranger(), scene.net.proxy()), first);
    }
    scene.proxy.logs("refused a connection: its address is not in client.proxy_protocol.trusted");
    scene.server.nobody(Duration::from_millis(50));
    session(&scene, scene.net.stranger()).is_usable();
}

/// Refusals that are worth a line at the usual level.
fn warnings(scene: &Scene) -> usize {
    let stderr = scene.proxy.stderr();
    stderr.lines().filter(|line| line.contains("WARN") && line.contains("refused a connection")).count()
}

/// A flood of them is one line at the usual level.
#[test]
fn sec_29_strangers_do_not_fill_the_log() {
    let scene = behind(true);
    for _ in 0..20 {
        is_reset(dial(&scene, scene.net.stranger(), scene.net.proxy()), "");
    }
    session(&scene, scene.net.stranger()).is_usable();
    // What was said before it stands before it.
    scene.proxy.logs("session began");
    assert_eq!(warnings(&scene), 1, "{}", scene.proxy.stderr());
}

#[test]
fn sec_23_without_a_header_there_is_no_session() {
    let scene = behind(true);
    for wrong in [
        &b"USER alice\r\n"[..],
        b"\x16\x03\x01\0\xa5\x01\0\0\xa1",
        b"PROXY TCP4 198.51.100.7 203.0.113.99 33156 21\n",
        b"PROXY TCP4 198.51.100.7 203.0.113.99 33156\r\n",
        b"PROXY TCP4 198.51.100.7 203.0.113.99 +1 21\r\n",
        &[b'P'; 200],
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ] {
        is_reset(Some(bring(&scene)), wrong);
    }
    scene.proxy.logs("refused a connection: no PROXY header comes first");
    scene.server.nobody(Duration::from_millis(50));
}

#[test]
fn sec_23_a_header_that_does_not_come_is_not_waited_for_any_longer_than_5_s() {
    let scene = behind(true);
    let (mut silent, mut slow) = (bring(&scene), bring(&scene));
    slow.send("PROXY TCP4 198.51");
    silent.silence(Duration::from_secs(3));
    slow.silence(Duration::from_millis(1));
    silent.ends_with(End::Reset);
    slow.ends_with(End::Reset);
    scene.proxy.logs("no PROXY header came within 5 s; does the load balancer send one?");
    scene.server.nobody(Duration::from_millis(50));
}

/// With the addresses of the connection itself, as the specification has it.
#[test]
fn sec_23_a_health_check_is_served() {
    let scene = behind(true);
    for header in [LOCAL, UNKNOWN] {
        let mut wire = bring(&scene);
        wire.send(header);
        let from = wire.local();
        let mut session = logged_in(&scene, wire);
        session.is_usable();
        session.client.reset();
        scene.proxy.logs(&format!("client={from} user=\"alice\""));
    }
    // One that only connects.
    let wire = bring(&scene);
    wire.finish();
    scene.proxy.logs("it ended before its PROXY header");
    assert_eq!(warnings(&scene), 0, "{}", scene.proxy.stderr());
}

#[test]
fn sec_13_a_data_connection_is_the_clients_whom_its_header_names() {
    let scene = behind(true);
    let (client, other) = (scene.net.stranger(), scene.net.neighbour(9));
    let mut session = session(&scene, client);
    for header in [line(client).into_bytes(), binary(client)] {
        let offer = session.pasv();
        let to = offer.client_target();
        // Somebody else, a health check, and somebody of whom nothing is said; none of them takes it away.
        for wrong in [line(other).as_bytes(), LOCAL, UNKNOWN, b"USER alice\r\n"] {
            is_reset(dial(&scene, scene.net.client(), to), wrong);
        }
        // The client itself, past the load balancer.
        is_reset(dial(&scene, client, to), &header);
        // Through another load balancer than the control connection.
        let mut data = Wire::connect(&scene.log, "data", scene.net.neighbour(0), to);
        data.send_each_byte(&header[..header.len() / 2]);
        data.silence(Duration::from_millis(50));
        data.send([&header[header.len() / 2..], b"first"].concat());
        let mut server = offer.server_door().accept();
        server.expect("first");
        server.send("back");
        data.expect("back");
        data.finish();
        server.ends_with(End::Fin);
        server.finish();
        data.ends_with(End::Fin);
        session.is_usable();
    }
}

/// A port that waits for anybody waits for clients all the same.
#[test]
fn sec_13_a_health_check_takes_no_data_from_anybody() {
    let scene = behind_with(true, Setup { data_peer: "any", ..Setup::default() });
    let mut session = session(&scene, scene.net.stranger());
    let offer = session.pasv();
    is_reset(dial(&scene, scene.net.client(), offer.client_target()), LOCAL);
    is_reset(dial(&scene, scene.net.stranger(), offer.client_target()), line(scene.net.stranger()));
    let mut data = offer.client_connects();
    data.send(line(scene.net.neighbour(9)));
    let mut server = offer.server_door().accept();
    server.send("x");
    data.expect("x");
}

#[test]
fn sec_24_without_headers_on_data_the_client_connects_itself() {
    let scene = behind(false);
    let client = scene.net.stranger();
    let mut session = session(&scene, client);
    let offer = session.pasv();
    // The address that the control connection came from is not the client's.
    is_reset(dial(&scene, scene.net.client(), offer.client_target()), line(client));
    let mut data = Wire::connect(&scene.log, "data", client, offer.client_target());
    let mut server = offer.server_door().accept();
    data.send(line(client));
    server.expect(line(client));
}

#[test]
fn sec_24_the_server_connects_without_a_header() {
    let scene = behind_with(true, Setup { server: "data_mode: active", ..Setup::default() });
    let client = scene.net.stranger();
    let mut session = session(&scene, client);
    let offer = session.offer(Ask::Pasv, "active");
    let mut data = offer.client_connects();
    data.send(line(client));
    let Side::Dials { from, to } = session.transfer_command("RETR a\r\n", offer.server) else {
        panic!("the server waits")
    };
    let mut server = Wire::connect(&scene.log, "server data", from, to);
    server.send("x");
    data.expect("x");
}

/// Past the load balancer: it is the client that listens.
#[test]
fn sec_01_in_active_mode_the_client_itself_is_dialled_and_nobody_else() {
    let scene = behind(true);
    let client = scene.net.stranger();
    let mut session = session(&scene, client);
    for other in [scene.net.client(), VIP.parse().unwrap()] {
        session.refused(command(Ask::Port, (other, 20_000).into()), "501 Illegal PORT address.");
    }
    let door = Door::open(&scene.log, "client data", client, 0);
    session.client.send(command(Ask::Port, door.addr()));
    let Side::Dials { from, to } = session.server_agrees(Ask::Port) else { panic!("the server waits") };
    session.client.line_starting("200 ");
    let mut server = Wire::connect(&scene.log, "server data", from, to);
    let mut data = door.accept();
    assert_eq!(data.peer().ip(), scene.net.proxy().ip(), "our own address");
    server.send("x");
    data.expect("x");
}

#[test]
fn local_is_the_address_that_the_client_has_dialled() {
    let scene = behind_with(true, Setup { announce: "local", ..Setup::default() });
    let client = scene.net.stranger();
    let mut session = session(&scene, client);
    session.client.send("PASV\r\n");
    session.server.expect("PASV\r\n");
    let door = Door::open(&scene.log, "server data", scene.net.server().ip(), 0);
    session.server.send(passive_reply(Ask::Pasv, door.addr()));
    let told = tuple(&session.client.line_starting("227 "));
    assert_eq!(told.ip().to_string(), VIP);
    let mut data = Wire::connect(&scene.log, "data", scene.net.client(), scene.data_addr(told.port()));
    data.send(line(client));
    door.accept();
}

#[test]
fn sec_25_one_client_guesses_and_the_next_logs_in() {
    let scene = behind_with(true, Setup { more: "limits: { login_failures: 1 }", ..Setup::default() });
    for _ in 0..2 {
        let mut wire = bring(&scene);
        wire.send(line(scene.net.stranger()));
        let mut guess = Session { client: wire, server: scene.server.accept(), log: scene.log.clone() };
        guess.reply(BANNER);
        guess.exchange("USER root\r\n", "331 Password required\r\n");
        guess.command("PASS guess\r\n");
        guess.client.reset();
        guess.server.rest();
    }
    scene.proxy.logs("failed logins: refused until");
    let mut refused = bring(&scene);
    refused.send(line(scene.net.stranger()));
    refused.expect("421 Too many failed logins from your address, try again later.\r\n");
    refused.ends_with(End::Fin);
    session(&scene, scene.net.neighbour(9)).is_usable();
}

#[test]
fn sec_28_limits_and_permission_are_about_the_client() {
    let allowed = "limits: { sessions_per_address: 1 }\npolicy: { allow: [198.51.100.0/24] }";
    let scene = behind_with(true, Setup { more: allowed, ..Setup::default() });
    let client = |n: u8| IpAddr::from([198, 51, 100, n]);
    let _one = session(&scene, client(1));
    let _other = session(&scene, client(2));
    for (whose, reply) in [
        (client(1), "421 Too many connections from your address, try again later.\r\n"),
        (scene.net.client(), "421 Access denied, closing control connection.\r\n"),
    ] {
        let mut wire = bring(&scene);
        wire.send(line(whose));
        wire.expect(reply);
        wire.ends_with(End::Fin);
    }
}

/// Ten thousand that send a part of a header, or nothing, are no load and in nobody's way.
#[test]
fn sec_28_those_without_a_header_keep_nobody_out() {
    let net = Net::new();
    let yaml = trusting(net, true, Setup::default());
    let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
    let files = || std::fs::read_dir(format!("/proc/{}/fd", scene.proxy.pid())).unwrap().count();
    let (before, files_before) = (rss_kib(scene.proxy.pid()), files());
    // Those that have been reset are let go of as others come: the test needs no 10,000 descriptors.
    let mut crowd = std::collections::VecDeque::new();
    for n in 0..10_000_usize {
        let Ok(mut wire) =
            Wire::dial(&Transcript::new(), "drip", Dial { from: net.client(), to: net.proxy(), receive_buffer: None })
        else {
            continue;
        };
        let _may_be_reset_already = wire.try_send(&line(net.stranger()).as_bytes()[..n % 40]);
        crowd.push_back(wire);
        if crowd.len() > 700 {
            crowd.pop_front();
        }
        if n % 2000 == 1999 {
            let start = Instant::now();
            session(&scene, net.stranger()).is_usable();
            assert!(start.elapsed() < Duration::from_secs(1), "{:?} after {n} others", start.elapsed());
        }
    }
    let held = files() - files_before;
    // 512 places, and what the sessions of this test had.
    assert!(held < 550, "{held} descriptors for 700 that wait");
    let grown = rss_kib(scene.proxy.pid()).saturating_sub(before);
    assert!(grown < 8192, "{grown} KiB for those that wait");
}

#[test]
fn rel_13_the_waiting_have_their_descriptors_from_the_start() {
    let net = Net::new();
    let limits = Setup { data_ports: "20000", more: "limits: { sessions: 100 }", ..Setup::default() };
    let stderr = Proxy::refuses_with_files(&trusting(net, true, limits), 600);
    assert!(stderr.contains("the limit on open files is 600") && stderr.contains("for the rest"), "{stderr}");
}

const PASSED: &str = "tls: { client: { mode: passthrough, passthrough_ports: 30000-30003 } }";

#[test]
fn sec_13_passed_through_ports_know_the_client_by_the_header_too() {
    let scene = behind_with(true, Setup { more: PASSED, ..Setup::default() });
    let client = scene.net.stranger();
    let mut session = session(&scene, client);
    session.exchange("AUTH TLS\r\n", "234 Proceed.\r\n");
    let door = Door::open(&scene.log, "the server's data port", scene.net.server().ip(), 30_001);
    let to = SocketAddr::new(scene.net.proxy().ip(), 30_001);
    is_reset(dial(&scene, scene.net.client(), to), line(scene.net.neighbour(9)));
    is_reset(dial(&scene, client, to), "\x16\x03\x01");
    door.nobody(Duration::from_millis(50));
    let mut data = Wire::connect(&scene.log, "data", scene.net.client(), to);
    data.send([line(client).as_bytes(), b"\x16\x03\x01"].concat());
    door.accept().expect(b"\x16\x03\x01");
}

#[test]
fn rel_15_nobody_is_served_any_more_whose_header_comes_after_the_stop() {
    let scene = behind(true);
    let running = session(&scene, scene.net.neighbour(9));
    let mut late = bring(&scene);
    late.silence(Duration::from_millis(50));
    scene.proxy.signal(rustix::process::Signal::TERM);
    scene.proxy.logs("stopping: transfers may finish");
    is_reset(Some(late), line(scene.net.stranger()));
    scene.server.nobody(Duration::from_millis(50));
    drop(running);
}
