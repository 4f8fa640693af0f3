//! Who is let in, a server that is not there, and what is counted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::support::black_hole::BlackHole;
use crate::support::kernel;
use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::scene::{BANNER, PUBLIC, Scene, Session, Setup};
use crate::support::script::{Ask, passive_reply, tuple};
use crate::support::transcript::Transcript;
use crate::support::wire::{DEADLINE, Door, End, Wire};

#[test]
fn policy_allow_turns_others_away() {
    let net = Net::new();
    let yaml = format!(
        "{}    policy: {{ allow: [\"{}/32\", 198.51.100.0/24] }}\n",
        Setup::default().yaml(net.proxy(), &net.server().to_string()),
        net.client()
    );
    let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
    let mut stranger = Wire::connect(&scene.log, "stranger", net.stranger(), net.proxy());
    stranger.line_starting("421 ");
    stranger.end();
    scene.server.nobody(Duration::from_millis(50));
    scene.session().is_usable();
}

#[test]
fn rel_10_a_server_that_refuses_is_421() {
    let Scene { net, proxy, server, log } = Scene::plain();
    drop(server);
    let mut client = Wire::connect(&log, "client", net.client(), net.proxy());
    client.line_starting("421 ");
    client.end();
    proxy.logs(&net.server().to_string());
    // And is asked again for the next client.
    let server = Door::open(&log, "server", net.server().ip(), net.server().port());
    let scene = Scene { net, proxy, server, log };
    scene.session().is_usable();
}

/// The SYN is dropped: a listener whose queue is full answers nothing.
#[test]
fn rel_10_a_black_holed_server_is_421_in_time() {
    let net = Net::new();
    let hole = BlackHole::at(SocketAddr::new(net.server().ip(), 2199));
    let yaml = Setup { more: "timeouts: { connect_server: 600ms }", ..Setup::default() }
        .yaml(net.proxy(), &hole.addr.to_string());
    let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
    let start = Instant::now();
    let mut client = scene.knock();
    client.line_starting("421 ");
    client.end();
    assert!(start.elapsed() >= Duration::from_millis(500) && start.elapsed() < Duration::from_secs(3));
}

/// It accepts, and then says nothing.
#[test]
fn rel_10_a_server_without_a_banner_is_421_in_time() {
    let scene = Scene::with("timeouts: { login: 500ms }");
    let mut session = scene.silent_session(scene.net.client());
    let start = Instant::now();
    session.client.line_starting("421 ");
    session.client.end();
    session.server.rest();
    assert!(start.elapsed() < Duration::from_secs(3));
}

/// A server that closes at once, time and again, has probably banned the proxy's address.
#[test]
fn rel_10_a_server_that_closes_before_its_banner() {
    let scene = Scene::plain();
    for _ in 0..5 {
        let mut session = scene.silent_session(scene.net.client());
        session.server.finish();
        session.client.line_starting("421 ");
        session.client.end();
    }
    scene.proxy.logs("ban");
}

/// vsftpd's `max_per_ip`: to the server, everybody is one client.
#[test]
fn a_server_that_turns_everybody_away_is_logged_with_the_remedy() {
    let scene = Scene::plain();
    for _ in 0..3 {
        let mut session = scene.silent_session(scene.net.client());
        session.server.send("421 There are too many connections from your internet address.\r\n");
        session.server.finish();
        session.client.line_starting("421 There are too many");
        session.client.end();
    }
    scene.proxy.logs("seems to ban this proxy's address");
}

/// A server that greets in between is only busy.
#[test]
fn a_server_that_hangs_up_now_and_then_is_not_accused() {
    let scene = Scene::plain();
    for round in 0..4 {
        if round == 2 {
            scene.session().exchange("QUIT\r\n", "221 bye\r\n");
        }
        let mut session = scene.silent_session(scene.net.client());
        session.server.finish();
        session.client.line_starting("421 ");
        session.client.end();
    }
    scene.proxy.logs("session=5 ");
    assert!(!scene.proxy.stderr().contains("seems to ban"), "{}", scene.proxy.stderr());
}

/// A ban may also be a reset: as Windows closes a connection with unread bytes, or IIS' `AbortRequest`.
#[test]
fn rel_10_a_server_that_resets_before_its_banner() {
    let scene = Scene::plain();
    for _ in 0..5 {
        let mut session = scene.silent_session(scene.net.client());
        session.server.reset();
        session.client.line_starting("421 ");
        session.client.end();
    }
    scene.proxy.logs("ban");
}

/// One of the few connects that may be under way at a time is not kept for a session that is over.
#[test]
fn rel_27_nobody_connects_for_a_session_that_is_over() {
    let net = Net::new();
    let hole = BlackHole::at(SocketAddr::new(net.server().ip(), 2197));
    let yaml = Setup::default().yaml(net.proxy(), &hole.addr.to_string());
    let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
    let connecting = || kernel::tcp_rows().iter().any(|row| row.remote == hole.addr && row.state == kernel::SYN_SENT);
    let mut client = scene.knock();
    let deadline = Instant::now() + DEADLINE;
    while !connecting() {
        assert!(Instant::now() < deadline, "the proxy does not connect");
        std::thread::sleep(Duration::from_millis(5));
    }
    client.send("GET / HTTP/1.1\r\n");
    client.ends_with(End::Fin);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!connecting(), "the proxy still connects");
}

#[test]
fn rel_09_a_black_holed_data_port_is_given_up_in_time() {
    let scene = Scene::with("timeouts: { connect_server: 600ms }");
    let mut session = scene.session();
    let hole = BlackHole::at(SocketAddr::new(scene.net.server().ip(), 2198));
    session.command("PASV\r\n");
    session.server.send(passive_reply(Ask::Pasv, hole.addr));
    let port = tuple(&session.client.line_starting("227 ")).port();
    session.command("RETR a\r\n");
    let mut data = Wire::connect(&scene.log, "client data", scene.net.client(), scene.data_addr(port));
    session.server.send("150 Opening\r\n");
    data.ends_with(End::Reset);
    session.client.expect("150 Opening\r\n");
    session.reply("425 Cannot open data connection.\r\n");
    session.is_usable();
    scene.proxy.logs("cannot open a data connection");
    let lines = scene.proxy.stderr();
    let warned = |line: &str| line.contains(" WARN ") && line.contains(&hole.addr.to_string());
    assert!(lines.lines().any(warned), "{lines}");
}

/// Connects to the server are paced; nobody is turned away for it.
#[test]
fn rel_27_connects_to_the_server_are_paced() {
    let scene = Scene::with("limits: { connects_per_second: 10 }");
    let start = Instant::now();
    let mut clients: Vec<Wire> = (0..16).map(|_| scene.knock()).collect();
    let mut servers = Vec::new();
    let mut early = 0;
    for _ in &clients {
        let mut server = scene.server.accept();
        early += usize::from(start.elapsed() < Duration::from_millis(400));
        server.send(BANNER);
        servers.push(server);
    }
    // Ten a second, and a burst of as many at most.
    assert!(early <= 14, "{early} within 0.4 s");
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    for client in &mut clients {
        client.expect(BANNER);
    }
}

#[test]
fn rel_27_a_crowd_is_served() {
    let scene = Scene::plain();
    let mut clients: Vec<Wire> = (0..200).map(|_| scene.knock()).collect();
    let mut servers = Vec::new();
    for _ in &clients {
        let mut server = scene.server.accept();
        server.send(BANNER);
        servers.push(server);
    }
    for client in &mut clients {
        client.expect(BANNER);
    }
}

/// A name is looked up for each session.
#[test]
fn rel_25_an_upstream_may_be_a_name() {
    let net = Net::new();
    let log = Transcript::new();
    let server = Door::open(&log, "server", IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let yaml = Setup::default().yaml(net.proxy(), &format!("localhost:{}", server.addr().port()));
    let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
    for _ in 0..2 {
        let mut client = scene.knock();
        let mut upstream = server.accept();
        upstream.send(BANNER);
        client.expect(BANNER);
    }
}

/// A name without an address is the operator's problem, and the client hears of it.
#[test]
fn rel_25_an_upstream_name_that_does_not_resolve_is_421() {
    let net = Net::new();
    // RFC 6761 §6.4: never resolves.
    let yaml = Setup::default().yaml(net.proxy(), "ftp.invalid:21");
    let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
    let mut client = scene.knock();
    client.line_starting("421 ");
    client.end();
}

/// The announced address may be a name, too.
#[test]
fn rel_24_the_announced_address_may_be_a_name() {
    let scene = Scene::start(Setup { announce: "localhost", ..Setup::default() });
    let mut session = scene.session();
    session.command("PASV\r\n");
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send(passive_reply(Ask::Pasv, door.addr()));
    let announced = tuple(&session.client.line_starting("227 "));
    assert_eq!(announced.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
}

#[test]
fn rel_24_what_is_announced_depends_on_the_peer() {
    let net = Net::new();
    let yaml = Setup::default()
        .yaml(net.proxy(), &net.server().to_string())
        .replace("[{ peers: any", &format!("[{{ peers: \"{}/32\", announce: local }}, {{ peers: any", net.stranger()));
    let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
    for (from, announced) in [(net.client(), PUBLIC.parse().unwrap()), (net.stranger(), net.proxy().ip())] {
        let mut session = scene.session_from(from);
        session.command("PASV\r\n");
        let door = Door::open(&session.log, "server data", net.server().ip(), 0);
        session.server.send(passive_reply(Ask::Pasv, door.addr()));
        assert_eq!(tuple(&session.client.line_starting("227 ")).ip(), announced);
    }
}

/// A range of data ports that covers a control port: exit code 2, before anything is listened on.
#[test]
fn sec_27_a_range_over_a_control_port_is_refused() {
    let net = Net::new();
    let setup = Setup { data_ports: "2100-2130", ..Setup::default() };
    let stderr = Proxy::refuses(&setup.yaml(net.proxy(), &net.server().to_string()));
    assert!(stderr.contains("data_ports"), "{stderr}");
}

/// As an address, and as a name that turns out to be one.
#[test]
fn sec_03_an_upstream_that_is_the_proxy_itself_is_refused() {
    let net = Net::new();
    let stderr = Proxy::refuses(&Setup::default().yaml(net.proxy(), &net.proxy().to_string()));
    assert!(stderr.contains("upstream"), "{stderr}");

    let control = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), net.port_block());
    let upstream = format!("localhost:{}", control.port());
    let stderr = Proxy::refuses(&Setup::default().yaml(control, &upstream));
    assert!(stderr.contains("upstream"), "{stderr}");
}

/// Panics and errors of one session are its own; a session that is cut does not disturb its neighbours.
#[test]
fn rel_28_sessions_do_not_disturb_each_other() {
    let scene = Scene::plain();
    let mut steady = scene.session();
    let mut data = steady.transfer("RETR a\r\n");
    for _ in 0..20 {
        let mut doomed = scene.session();
        let _offer = doomed.pasv();
        doomed.client.reset();
        doomed.server.rest();
        data.server.send("tick");
        data.client.expect("tick");
    }
    data.server.finish();
    data.client.ends_with(End::Fin);
    drop(data);
    steady.reply("226 done\r\n");
}

/// The public address changes in the middle of a transfer: the transfer goes on, the next one is told of it. In this
/// process, where the look-up can be stood in for.
#[test]
fn rel_24_a_changed_address_is_for_new_transfers() {
    let net = Net::new();
    let log = Transcript::new();
    let yaml = Setup { announce: "ftp.invalid", ..Setup::default() }.yaml(net.proxy(), &net.server().to_string());
    let config = ftp_alg::config::Config::parse(&yaml, "proxy.yaml").unwrap();
    let names = ftp_alg::discover::names(&config);
    assert!(names[0].set(vec![PUBLIC.parse().unwrap()]));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _proxy = runtime.block_on(async { ftp_alg::relay::Proxy::start(config, Vec::new()) }).unwrap();

    let server = Door::open(&log, "server", net.server().ip(), net.server().port());
    let client = Wire::connect(&log, "client", net.client(), net.proxy());
    let mut session = Session { client, server: server.accept(), log: log.clone() };
    session.reply(BANNER);
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("before, ");
    assert!(names[0].set(vec!["198.51.100.1".parse().unwrap()]));
    data.server.send("after");
    data.client.expect("before, after");

    session.command("PASV\r\n");
    let door = Door::open(&log, "server data", net.server().ip(), 0);
    session.server.send(passive_reply(Ask::Pasv, door.addr()));
    assert_eq!(tuple(&session.client.line_starting("227 ")).ip().to_string(), "198.51.100.1");
}

/// `control-address`: FileZilla and WinSCP read 0.0.0.0 as the address that they are connected to.
#[test]
fn rel_24_the_control_address_is_announced_as_zero() {
    let scene = Scene::start(Setup { announce: "control-address", ..Setup::default() });
    let mut session = scene.session();
    session.command("PASV\r\n");
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send(passive_reply(Ask::Pasv, door.addr()));
    let announced = tuple(&session.client.line_starting("227 Entering Passive Mode (0,0,0,0,"));
    let _data = Wire::connect(&scene.log, "client data", scene.net.client(), scene.data_addr(announced.port()));
    door.accept();
}
