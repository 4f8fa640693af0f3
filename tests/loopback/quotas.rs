//! How much one client, all of them, and the machine may take: sessions, ports, lines, failed logins, descriptors.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::kernel;
use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::scene::{BANNER, Scene, Session, Setup};
use crate::support::script::Ask;
use crate::support::transcript::Transcript;
use crate::support::wire::{DEADLINE, Dial, Door, End, Wire};

const FULL: &str = "421 Too many connections, try again later.\r\n";
const FULL_FOR_YOU: &str = "421 Too many connections from your address, try again later.\r\n";
const TOO_MANY_FAILURES: &str = "421 Too many failed logins from your address, try again later.\r\n";

/// A client that is turned away, in good order, while the server hears nothing.
#[track_caller]
fn turned_away(scene: &Scene, from: IpAddr, reply: &str) {
    let mut client = Wire::connect(&scene.log, "too many", from, scene.net.proxy());
    client.expect(reply);
    client.ends_with(End::Fin);
    scene.server.nobody(Duration::from_millis(50));
}

/// Waits for something that takes its time.
#[track_caller]
fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + 2 * DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn sec_28_a_listener_has_room_for_so_many_sessions() {
    let scene = Scene::with("limits: { sessions: 3, sessions_per_address: 2 }");
    let (client, stranger) = (scene.net.client(), scene.net.stranger());
    let mut first = scene.session_from(client);
    let mut second = scene.session_from(client);
    turned_away(&scene, client, FULL_FOR_YOU);
    let mut third = scene.session_from(stranger);
    turned_away(&scene, stranger, FULL);
    for session in [&mut first, &mut second, &mut third] {
        session.is_usable();
    }
    // Whoever leaves makes room, at once and for the same address.
    first.exchange("QUIT\r\n", "221 bye\r\n");
    first.server.finish();
    first.client.ends_with(End::Fin);
    drop(first);
    scene.proxy.logs("outcome=closed by the server");
    let mut next = (0..50)
        .find_map(|_| {
            let mut wire = scene.knock();
            if wire.is_refused() {
                return None;
            }
            Some(wire)
        })
        .expect("the place is free");
    let mut server = scene.server.accept();
    server.send(BANNER);
    next.expect(BANNER);
    scene.proxy.logs("limits.sessions is reached");
}

/// A crowd that is turned away and does not care holds nothing of ours.
#[test]
fn sec_28_those_who_are_turned_away_take_no_room() {
    let scene = Scene::with("limits: { sessions: 1 }");
    let mut session = scene.session();
    let before = kernel::open_fds(scene.proxy.pid());
    // Without options of ours: setting one fails if the reset is quicker.
    let mut crowd: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(scene.net.proxy()).unwrap()).collect();
    for stream in &mut crowd {
        let mut reply = vec![0; FULL.len()];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply, FULL.as_bytes());
    }
    let held = kernel::open_fds(scene.proxy.pid()) - before;
    assert!(held <= 17, "{held} descriptors");
    session.is_usable();
    scene.proxy.logs("limits.sessions is reached");
    let warnings = scene.proxy.stderr().matches("limits.sessions is reached").count();
    assert_eq!(warnings, 1, "one warning for a crowd");
}

/// Slow drips: half-open sessions in great number, from several addresses, each of which sends a byte now and then.
#[test]
fn sec_28_a_flood_of_drips_is_ended_and_others_are_served_meanwhile() {
    /// What a common soft limit leaves, if it cannot be raised.
    const WANTED: u64 = 2000;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it fails, the limit is what it was.
    let _raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // Two here for each, its own and the server's; and the rest of this process.
    let count = u8::try_from(WANTED.min(limit.saturating_sub(600) / 2) / 8).unwrap();

    let net = Net::new();
    let log = Transcript::new();
    let server = FakeServer::start(net.server());
    let more = "timeouts: { login: 60s, partial_line: 3s }";
    let yaml = Setup { more, ..Setup::default() }.yaml(net.proxy(), &net.server().to_string());
    let proxy = Proxy::start(&log, &yaml, &[net.proxy()]);
    let idle = kernel::open_fds(proxy.pid());

    let quiet = Transcript::new();
    let drip_from = |n: u8| {
        // No test has addresses within this block.
        let from = IpAddr::V4(Ipv4Addr::new(127, 255, n, 1));
        Wire::dial(&quiet, "drip", Dial { from, to: net.proxy(), receive_buffer: None }).expect("a connection")
    };
    let mut drips: Vec<Wire> = (0..8).flat_map(|n| (0..count).map(move |_| n)).map(drip_from).collect();
    assert!(drips.len() >= 400, "only {} drips", drips.len());
    let mut quickest = Duration::MAX;
    for byte in [b"N", b"O", b"O"] {
        for drip in &mut drips {
            let _may_be_over = drip.try_send(byte);
        }
        let start = Instant::now();
        let mut client = Wire::connect(&log, "client", net.client(), net.proxy());
        client.expect(BANNER);
        quickest = quickest.min(start.elapsed());
    }
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
    for drip in &mut drips {
        let (received, _) = drip.rest();
        let received = String::from_utf8_lossy(&received);
        assert!(received.ends_with("421 Command timeout, closing control connection.\r\n"), "{received}");
    }
    drop(drips);
    until("descriptors are left over", || kernel::open_fds(proxy.pid()) <= idle + 2);
    assert!(server.connections() >= 400);
}

#[test]
fn sec_26_one_address_may_keep_so_many_ports_waiting() {
    let scene = Scene::with("limits: { pending_ports_per_address: 2 }\ntimeouts: { port_wait: 300ms }");
    let (mut first, mut second) = (scene.session(), scene.session());
    let _offers = (first.pasv(), second.pasv());
    let mut third = scene.session();
    let start = Instant::now();
    third.refused("PASV\r\n", "425 Cannot open data connection: no port is free");
    assert!(start.elapsed() >= Duration::from_millis(250), "it waited");
    scene.session_from(scene.net.stranger()).pasv();
    // Active mode towards the server takes none of them: there the one peer is the server.
    third.offer(Ask::Port, "same");
}

#[test]
fn sec_30_denied_commands_and_long_lines_never_reach_the_server() {
    let scene = Scene::with("policy: { deny: [\"SITE EXEC\", dele] }\nlimits: { line: 600B }");
    let mut session = scene.session();
    for command in ["SITE EXEC ls", "site\texec \"ls\"", "DELE a"] {
        session.refused(format!("{command}\r\n"), "502 ");
    }
    session.exchange("SITE HELP\r\n", "214 x\r\n");
    session.refused(format!("STAT {}\r\n", "*/../".repeat(1000)), "500 ");
    session.exchange("FEAT\r\n", "211-x\r\n SIZE\r\n211 end\r\n");
}

/// A server that knows one password, and counts the others.
struct FakeServer {
    connections: Arc<AtomicUsize>,
    wrong: Arc<AtomicUsize>,
}

impl FakeServer {
    fn start(at: SocketAddr) -> Self {
        let server = Self { connections: Arc::default(), wrong: Arc::default() };
        let listener = TcpListener::bind(at).unwrap();
        let (connections, wrong) = (Arc::clone(&server.connections), Arc::clone(&server.wrong));
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::Relaxed);
                let wrong = Arc::clone(&wrong);
                std::thread::Builder::new().stack_size(64 * 1024).spawn(move || serve(&stream, &wrong)).unwrap();
            }
        });
        server
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn wrong_passwords(&self) -> usize {
        self.wrong.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: &TcpStream, wrong: &AtomicUsize) {
    let mut lines = BufReader::new(stream).lines();
    let _gone = stream.write_all(BANNER.as_bytes());
    while let Some(Ok(line)) = lines.next() {
        let reply = match line.as_str() {
            "PASS opensesame" => "230 User logged in.\r\n",
            line if line.starts_with("PASS") => {
                wrong.fetch_add(1, Ordering::Relaxed);
                "530 Login incorrect.\r\n"
            }
            line if line.starts_with("USER") => "331 Password required\r\n",
            _ => "200 ok\r\n",
        };
        let _gone = stream.write_all(reply.as_bytes());
    }
}

/// A proxy that lets so many logins fail, before [`FakeServer`].
fn guarded(more: &'static str) -> (Net, Transcript, FakeServer, Proxy) {
    let (net, log) = (Net::new(), Transcript::new());
    let server = FakeServer::start(net.server());
    let yaml = Setup { more, ..Setup::default() }.yaml(net.proxy(), &net.server().to_string());
    let proxy = Proxy::start(&log, &yaml, &[net.proxy()]);
    (net, log, server, proxy)
}

#[track_caller]
fn log_in(log: &Transcript, from: IpAddr, net: Net, password: &str) -> Wire {
    let mut client = Wire::connect(log, "client", from, net.proxy());
    client.expect(BANNER);
    client.send("USER alice\r\n");
    client.expect("331 Password required\r\n");
    client.send(format!("PASS {password}\r\n"));
    client
}

#[test]
fn sec_25_a_hundred_guesses_from_one_address_and_another_logs_in_at_once() {
    let (net, log, server, proxy) = guarded("limits: { login_failures: 2 }");
    let mut guessers: Vec<Wire> =
        (0..100).map(|_| Wire::connect(&log, "guesser", net.stranger(), net.proxy())).collect();
    for guesser in &mut guessers {
        guesser.send("USER root\r\nPASS guess\r\n");
    }
    let start = Instant::now();
    let mut owner = log_in(&log, net.client(), net, "opensesame");
    owner.expect("230 User logged in.\r\n");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let mut refused = 0;
    for guesser in &mut guessers {
        let last = std::iter::repeat_with(|| guesser.line_within(4 * DEADLINE))
            .find(|line| line.starts_with("530") || line.starts_with("421"));
        refused += usize::from(last.as_deref() == Some(TOO_MANY_FAILURES));
    }
    assert_eq!((server.wrong_passwords(), refused), (4, 96));
    // From now on that address is not even connected to the server; others are.
    let connections = server.connections();
    let mut guesser = Wire::connect(&log, "guesser", net.stranger(), net.proxy());
    guesser.expect(TOO_MANY_FAILURES);
    guesser.ends_with(End::Fin);
    assert_eq!(server.connections(), connections);
    log_in(&log, net.client(), net, "opensesame").expect("230 User logged in.\r\n");
    proxy.logs("failed logins: refused until 10 minutes after the first");
}

#[test]
fn sec_25_after_a_failure_too_many_the_next_login_waits_and_nothing_else_does() {
    let (net, log, server, _proxy) = guarded("limits: { login_failures: 1 }");
    let mut friend = log_in(&log, net.client(), net, "opensesame");
    friend.expect("230 User logged in.\r\n");
    let mut client = log_in(&log, net.client(), net, "mistyped");
    client.expect("530 Login incorrect.\r\n");
    let start = Instant::now();
    client.send("USER alice\r\nPASS opensesame\r\n");
    friend.send("NOOP\r\n");
    friend.expect("200 ok\r\n");
    log_in(&log, net.stranger(), net, "opensesame").expect("230 User logged in.\r\n");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let reply = client.line_within(4 * DEADLINE);
    assert!(reply.starts_with("331 "), "{reply}");
    assert!(start.elapsed() >= Duration::from_millis(4500), "{:?}", start.elapsed());
    client.expect("230 User logged in.\r\n");
    assert_eq!(server.wrong_passwords(), 1);
}

/// Guesses whose author does not wait for the answer provoke the server's ban as well.
#[test]
fn sec_25_a_client_that_leaves_before_the_answer_has_failed() {
    let scene = Scene::with("limits: { login_failures: 1 }");
    let mut session = scene.greeted(scene.net.client());
    session.exchange("USER root\r\n", "331 Password required\r\n");
    session.command("PASS guess\r\n");
    session.client.reset();
    session.server.rest();
    scene.proxy.logs("failed logins: each further one waits 5 s");
    // After a login that went well, leaving without a word is no failure.
    let other = scene.session_from(scene.net.stranger());
    other.client.reset();
    let mut next = scene.session_from(scene.net.stranger());
    next.is_usable();
}

fn yaml_of(net: Net, data_ports: &'static str, more: &'static str) -> String {
    Setup { data_ports, more, ..Setup::default() }.yaml(net.proxy(), &net.server().to_string())
}

#[test]
fn rel_13_what_cannot_fit_is_refused_at_the_start() {
    let net = Net::new();
    let stderr = Proxy::refuses_with_files(&yaml_of(net, "20000", "limits: { sessions: 100 }"), 200);
    for part in ["the limit on open files is 200", "2 for each of 100 sessions", "`LimitNOFILE=238`"] {
        assert!(stderr.contains(part), "{part} is not in\n{stderr}");
    }
    let stderr = Proxy::refuses_with_files(&yaml_of(net, "20000-20299", ""), 256);
    assert!(stderr.contains("300 for data ports"), "{stderr}");
}

#[test]
fn rel_13_the_default_is_what_fits_and_more_clients_are_told_so() {
    let (net, log) = (Net::new(), Transcript::new());
    let server = Door::open(&log, "server", net.server().ip(), net.server().port());
    let proxy = Proxy::start_with_files(&log, &yaml_of(net, "20000", ""), &[net.proxy()], 128);
    proxy.logs("the limit on open files, 128, has room for 37 sessions");
    let scene = Scene { net, proxy, server, log };
    let mut sessions: Vec<Session> = (0..19).map(|_| scene.session()).collect();
    turned_away(&scene, net.client(), FULL_FOR_YOU);
    sessions.extend((0..18).map(|_| scene.session_from(net.stranger())));
    turned_away(&scene, net.stranger(), FULL);
    // There is room for transfers.
    for session in &mut sessions[..4] {
        let mut data = session.transfer("RETR a\r\n");
        data.server.send("there is room");
        data.client.expect("there is room");
    }
}

#[test]
fn rel_12_without_a_descriptor_accepting_pauses_and_goes_on() {
    const FILES: u32 = 64;
    let (net, log) = (Net::new(), Transcript::new());
    let server = Door::open(&log, "server", net.server().ip(), net.server().port());
    let yaml = yaml_of(net, "20000", "limits: { sessions: 13, sessions_per_address: 13 }");
    let proxy = Proxy::start_with_files(&log, &yaml, &[net.proxy()], FILES);
    let scene = Scene { net, proxy, server, log };
    let pid = scene.proxy.pid();
    // A socket that is asked for its address, say, is closed soon: what stays the same counts.
    let free = || loop {
        let before = kernel::free_fds(pid, FILES);
        std::thread::sleep(Duration::from_millis(30));
        if kernel::free_fds(pid, FILES) == before {
            break before;
        }
    };

    let mut sessions: Vec<Session> = (0..12).map(|_| scene.session()).collect();
    let mut transfers = Vec::new();
    for n in (0..11).cycle() {
        if free() < 2 {
            break;
        }
        transfers.push(sessions[n].transfer("RETR a\r\n"));
    }
    // A port on which the server is expected is one descriptor.
    let _last = (free() == 1).then(|| sessions[11].offer(Ask::Port, "same"));
    assert_eq!(free(), 0);

    let mut client = scene.knock();
    scene.proxy.logs("cannot accept connections");
    let before = kernel::cpu_ticks(pid);
    std::thread::sleep(Duration::from_secs(3));
    let ticks = kernel::cpu_ticks(pid) - before;
    assert!(ticks < 15, "{ticks} of 300 ticks");
    assert_eq!(scene.proxy.stderr().matches("cannot accept connections").count(), 1);
    sessions[11].is_usable();

    drop(transfers);
    let mut at_server = scene.server.accept();
    at_server.send(BANNER);
    client.expect(BANNER);
}
