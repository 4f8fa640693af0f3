//! Several servers for the same files: which one a session gets, and what becomes of it when some are down.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::admin::{self, counts};
use crate::support::black_hole::BlackHole;
use crate::support::net::{Net, SERVER_PORT};
use crate::support::proxy::Proxy;
use crate::support::transcript::Transcript;
use crate::support::wire::{Door, Wire};

/// A server that says the same to everybody and lets them go on QUIT. Dropped, its port is closed.
struct Server {
    at: SocketAddr,
    /// Every line of every connection, and how the connection ended.
    heard: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn open(at: SocketAddr, greeting: &'static str) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let (heard, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (hears, stops) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stops.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, hears) = (stream.unwrap(), Arc::clone(&hears));
                std::thread::spawn(move || serve(&stream, greeting, &hears));
            }
        });
        Self { at, heard, stop, thread: Some(thread) }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until it has heard this.
    fn hears(&self, log: &Transcript, line: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.heard().iter().any(|heard| heard == line) {
            if Instant::now() > deadline {
                log.fail(&format!("{} never heard {line:?}: {:?}", self.at, self.heard()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn serve(mut stream: &TcpStream, greeting: &str, heard: &Mutex<Vec<String>>) {
    let hear = |what: &str| heard.lock().unwrap().push(what.into());
    let _gone = stream.write_all(greeting.as_bytes());
    if greeting.starts_with('4') || greeting.starts_with('5') {
        return;
    }
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return hear("(reset)") };
        hear(&line);
        let _gone = stream.write_all(if line == "QUIT" { b"221 bye\r\n" } else { b"200 fine\r\n" });
        if line == "QUIT" {
            let _gone = stream.shutdown(std::net::Shutdown::Write);
        }
    }
    hear("(end)");
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _wakes = TcpStream::connect(self.at);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A proxy before servers at the first ports from [`SERVER_PORT`] on.
struct Scene {
    net: Net,
    log: Transcript,
    proxy: Proxy,
}

fn at(net: Net, n: u16) -> SocketAddr {
    SocketAddr::new(net.server().ip(), SERVER_PORT + n)
}

/// `more` is what `upstream` says beside the servers, `keys` what the listener has besides.
fn yaml(net: Net, servers: u16, more: &str, keys: &str) -> String {
    let servers: Vec<String> = (0..servers).map(|n| format!("\"{}\"", at(net, n))).collect();
    format!(
        "admin: {{ bind: \"{}\" }}\nlisteners:\n  - bind: \"{}\"\n    upstream: {{ servers: [{}]{more} }}\n{keys}    client:\n      \
         address_map: [{{ peers: any, announce: 203.0.113.10 }}]\n      data_ports: 20000-20063\n",
        admin(net),
        net.proxy(),
        servers.join(", "),
    )
}

fn admin(net: Net) -> SocketAddr {
    SocketAddr::new(net.proxy().ip(), admin::PORT)
}

impl Scene {
    /// `more` is what `upstream` says beside the servers.
    fn start(net: Net, servers: u16, more: &str, keys: &str) -> Self {
        let yaml = yaml(net, servers, more, keys);
        let log = Transcript::new();
        let proxy = Proxy::start(&log, &yaml, &[net.proxy()]);
        Self { net, log, proxy }
    }

    fn knock(&self, from: IpAddr) -> Wire {
        Wire::connect(&self.log, "client", from, self.net.proxy())
    }

    /// A client that is greeted by a server, and says something to it.
    fn visit(&self, from: IpAddr) -> (Wire, String) {
        let mut client = self.knock(from);
        let greeting = client.line_within(Duration::from_secs(30));
        client.send("NOOP\r\n");
        client.expect("200 fine\r\n");
        (client, greeting)
    }

    fn is_down(&self, n: u16, why: &str) {
        let server = at(self.net, n);
        self.proxy
            .logs(&format!("the FTP server is down listener={} upstream={server} reason=\"{why}", self.net.proxy()));
    }
}

#[test]
fn rel_10_a_client_is_served_by_the_one_that_works_whatever_is_wrong_with_the_others() {
    let net = Net::new();
    // The first refuses.
    let _hole = BlackHole::at(at(net, 1));
    let silent = Server::open(at(net, 2), "");
    let _full = Server::open(at(net, 3), "421 Too many users\r\n");
    let _wrong = Server::open(at(net, 4), "500 No\r\n");
    let good = Server::open(at(net, 5), "220 good\r\n");
    let scene = Scene::start(net, 6, ", health: false", "    timeouts: { connect_server: 6s }\n");
    for _ in 0..3 {
        let (_client, greeting) = scene.visit(net.client());
        assert_eq!(greeting, "220 good\r\n");
    }
    scene.is_down(0, "Connection refused");
    scene.is_down(1, "timed out");
    scene.is_down(2, "it accepted the connection and did not greet in time");
    scene.is_down(3, "it said `421 Too many users`");
    scene.is_down(4, "it said `500 No`");
    scene.proxy.logs(&format!("server={}", good.at));
    assert!(!silent.heard().iter().any(|line| line == "NOOP"));
}

#[test]
fn rel_10_with_no_server_left_clients_hear_so_within_one_timeout() {
    let net = Net::new();
    let holes: Vec<BlackHole> = (0..4).map(|n| BlackHole::at(at(net, n))).collect();
    let scene = Scene::start(net, 4, "", "    timeouts: { connect_server: 4s }\n");
    // Nothing is known of them, then all are known to be down.
    for round in 0..4 {
        let start = Instant::now();
        let mut client = scene.knock(net.client());
        let line = client.line_within(Duration::from_secs(14));
        assert!(line.starts_with("421 Service not available"), "{line}");
        assert!(start.elapsed() < Duration::from_secs(12), "round {round}: {:?} for four servers", start.elapsed());
    }
    for n in 0..4 {
        scene.is_down(n, "timed out");
    }
    // They are tried all the same: whoever calls them down may be wrong.
    drop(holes);
    let _back = Server::open(at(net, 3), "220 back\r\n");
    assert_eq!(scene.visit(net.client()).1, "220 back\r\n");
}

#[test]
fn rel_10_a_server_that_is_back_is_used_again_and_checks_are_orderly_visits() {
    let net = Net::new();
    let first = Server::open(at(net, 0), "220-first\r\n220 of them\r\n");
    let _second = Server::open(at(net, 1), "220 second\r\n");
    let scene = Scene::start(net, 2, ", health: { interval: 200ms, fall: 2, rise: 2 }", "");
    first.hears(&scene.log, "(end)");
    assert_eq!(first.heard()[..2], ["QUIT", "(end)"], "a check");
    drop(first);
    // Nobody comes by: it is the check that finds out.
    scene.is_down(0, "Connection refused");
    let (mut client, greeting) = scene.visit(net.client());
    assert_eq!(greeting, "220 second\r\n");
    let first = Server::open(at(net, 0), "220 first\r\n");
    scene.proxy.logs(&format!("the FTP server is up again listener={} upstream={}", net.proxy(), first.at));
    assert_eq!(scene.visit(net.client()).1, "220 first\r\n");
    client.send("NOOP\r\n");
    client.expect("200 fine\r\n");
    scene.proxy.logs(&format!("server={}", at(net, 0)));
}

/// Servers look up the names of their clients first, which takes some of them longer than a share of the time.
#[test]
fn rel_10_a_server_that_is_slow_to_greet_is_better_than_none() {
    let net = Net::new();
    let log = Transcript::new();
    let slow = Door::open(&log, "slow", at(net, 0).ip(), at(net, 0).port());
    let scene = Scene::start(net, 2, ", health: false", "    timeouts: { connect_server: 2s }\n");
    let mut client = scene.knock(net.client());
    let mut server = slow.accept();
    scene.proxy.logs("a server is passed over");
    server.send("220 slow\r\n");
    client.expect("220 slow\r\n");
    client.send("NOOP\r\n");
    server.expect("NOOP\r\n");
}

#[test]
fn sessions_are_spread_as_configured() {
    let net = Net::new();
    let _servers = [Server::open(at(net, 0), "220 a\r\n"), Server::open(at(net, 1), "220 b\r\n")];
    let scene = Scene::start(net, 2, ", balance: round-robin, health: false", "");
    let greetings: Vec<String> = (0..4).map(|_| scene.visit(net.client()).1).collect();
    assert!(greetings[0] != greetings[1] && greetings[..2] == greetings[2..], "{greetings:?}");
    drop(scene);

    let scene = Scene::start(net, 2, ", balance: least-sessions, health: false", "");
    let (mut one, first) = scene.visit(net.client());
    let (_two, second) = scene.visit(net.client());
    assert_ne!(first, second);
    one.send("QUIT\r\n");
    one.expect("221 bye\r\n");
    scene.proxy.logs("outcome=closed by");
    assert_eq!(scene.visit(net.client()).1, first, "it has none");
    drop(scene);

    let scene = Scene::start(net, 2, ", balance: source, health: false", "");
    let mut seen: Vec<String> = Vec::new();
    for client in (0..16).map(|n| net.neighbour(n)) {
        let greetings: Vec<String> = (0..3).map(|_| scene.visit(client).1).collect();
        assert!(greetings.iter().all(|greeting| *greeting == greetings[0]), "{client}: {greetings:?}");
        seen.extend(greetings);
    }
    assert!(seen.iter().any(|greeting| *greeting != seen[0]), "one server has all clients");
}

#[test]
fn a_host_may_have_several_servers_too() {
    let net = Net::new();
    let _main = Server::open(at(net, 0), "220 main\r\n");
    let _good = Server::open(at(net, 2), "220 host\r\n");
    let keys = format!("    hosts: {{ a.example: [\"{}\", \"{}\"] }}\n", at(net, 1), at(net, 2));
    let scene = Scene::start(net, 1, "", &keys);
    let (mut client, greeting) = scene.visit(net.client());
    assert_eq!(greeting, "220 main\r\n");
    client.send("HOST a.example\r\n");
    client.expect("220 host\r\n");
    client.send("NOOP\r\n");
    client.expect("200 fine\r\n");
    drop(client);
    scene.proxy.logs(&format!("server={}", at(net, 2)));
}

/// A server that expects the header greets nobody without it, a check no more than a client.
#[test]
fn rel_10_a_proxy_header_comes_before_the_greeting_of_either() {
    let net = Net::new();
    let first = Server::open(at(net, 0), "220 first\r\n");
    let second = Server::open(at(net, 1), "220 second\r\n");
    let scene = Scene::start(net, 2, ", health: { interval: 1s }", "    server: { proxy_protocol: v1 }\n");
    let (client, _) = scene.visit(net.client());
    let (from, to) = (client.local(), net.proxy());
    first.hears(&scene.log, &format!("PROXY TCP4 {} {} {} {}", from.ip(), to.ip(), from.port(), to.port()));
    second.hears(&scene.log, "QUIT");
    assert_eq!(second.heard()[..2], ["PROXY UNKNOWN", "QUIT"]);
}

/// What is known of a server is known after a reload as well, and so is who is with it.
#[test]
fn rel_14_a_server_that_is_down_is_not_forgotten() {
    let net = Net::new();
    let _second = Server::open(at(net, 1), "220 second\r\n");
    let keys = format!("    hosts: {{ a.example: \"{}\" }}\n", at(net, 1));
    let scene = Scene::start(net, 2, ", health: false", &keys);
    let _clients: Vec<_> = (0..3).map(|_| scene.visit(net.client())).collect();
    let [first, second] = [0, 1].map(|n| at(net, n));
    let sample = |name: &str, labels: String| format!("ftp_alg_upstream_{name}{{upstream=\"{labels}}}");
    let wanted = [
        (sample("up", format!("{first}\"")), 0.0),
        (sample("sessions", format!("{first}\"")), 0.0),
        (sample("up", format!("{second}\"")), 1.0),
        (sample("sessions", format!("{second}\"")), 3.0),
        (sample("up", format!("{second}\",host=\"a.example\"")), 1.0),
        (sample("sessions", format!("{second}\",host=\"a.example\"")), 0.0),
    ];
    let wanted: Vec<(&str, f64)> = wanted.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    counts(admin(net), &wanted);
    scene.proxy.reload(&yaml(net, 2, ", balance: least-sessions, health: false", &keys));
    counts(admin(net), &wanted);
}
