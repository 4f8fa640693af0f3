//! Metrics and live sessions, of the real program.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::scene::{Scene, Session, Setup};
use crate::support::transcript::Transcript;
use crate::support::wire::{DEADLINE, End};

/// A proxy with an admin interface, at its own address.
pub(crate) struct Admin {
    pub(crate) scene: Scene,
    at: SocketAddr,
}

/// The port of all admin interfaces here.
pub(crate) const PORT: u16 = 9121;

impl Admin {
    #[track_caller]
    pub(crate) fn start(setup: Setup) -> Self {
        let net = Net::new();
        let at = SocketAddr::new(net.proxy().ip(), PORT);
        let yaml = format!("admin: {{ bind: \"{at}\" }}\n{}", setup.yaml(net.proxy(), &net.server().to_string()));
        Self { scene: Scene::start_at(net, &yaml, &[net.proxy(), at]), at }
    }

    fn ask(&self, method: &str, path: &str) -> (u16, String) {
        ask(self.at, &format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.at))
    }

    fn get(&self, path: &str) -> String {
        let (status, body) = self.ask("GET", path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn sessions(&self) -> Vec<Value> {
        serde_json::from_str(&self.get("/sessions")).unwrap()
    }

    /// Waits until the only session is like this.
    #[track_caller]
    pub(crate) fn session_is(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let all = self.sessions();
            match all.as_slice() {
                [one] if wanted(one) => return one.clone(),
                other if Instant::now() > deadline => panic!("{other:#?}"),
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Waits until these samples have these values.
    #[track_caller]
    pub(crate) fn counts(&self, wanted: &[(&str, f64)]) {
        counts(self.at, wanted);
    }
}

fn metrics(at: SocketAddr) -> Metrics {
    let (status, text) = ask(at, &format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\n\r\n"));
    assert_eq!(status, 200, "{text}");
    Metrics::parse(&text)
}

/// Waits until these samples of the proxy with its admin interface there have these values.
#[track_caller]
pub(crate) fn counts(at: SocketAddr, wanted: &[(&str, f64)]) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let metrics = metrics(at);
        let wrong: Vec<_> = wanted
            .iter()
            .filter(|(name, value)| metrics.0.get(*name) != Some(value))
            .map(|(name, value)| format!("{name} is {:?}, not {value}", metrics.0.get(*name)))
            .collect();
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{wrong:#?}\n{:#?}", metrics.0);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One request by hand: nothing here uses the library under test.
fn ask(at: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(2 * DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    answer(&mut stream)
}

fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Samples by name and labels, without the label of the one listener that there is.
#[derive(Debug)]
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let parse = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let start = name.find("listener=\"").unwrap_or(name.len());
            let (before, rest) = name.split_at(start);
            let rest = rest.strip_prefix("listener=\"").and_then(|rest| rest.split_once('"')).map_or(rest, |(_, r)| r);
            let name = format!("{before}{}", rest.trim_start_matches(','));
            let name = name.strip_suffix("{}").unwrap_or(&name);
            (name.to_owned(), value.parse().unwrap())
        };
        Self(samples.map(parse).collect())
    }
}

/// The client goes first.
#[track_caller]
fn leaves(session: Session) {
    let Session { client, mut server, .. } = session;
    drop(client);
    server.ends_with(End::Fin);
}

#[test]
fn the_numbers_are_exact() {
    let admin = Admin::start(Setup { more: "policy: { allow: 127.0.0.0/8 }", ..Setup::default() });
    admin.counts(&[
        ("ftp_alg_sessions_total", 0.0),
        ("ftp_alg_active_sessions", 0.0),
        ("ftp_alg_data_ports{leg=\"client\"}", 64.0),
        ("ftp_alg_announced_address_info{leg=\"client\",peers=\"any\",address=\"203.0.113.10\"}", 1.0),
        ("ftp_alg_announced_address_info{leg=\"server\",peers=\"any\",address=\"local\"}", 1.0),
        ("ftp_alg_build_info{version=\"0.1.0\"}", 1.0),
    ]);
    let mut session = admin.scene.session();
    let second = admin.scene.greeted(admin.scene.net.stranger());
    let offer = session.pasv();
    admin.counts(&[
        ("ftp_alg_active_sessions", 2.0),
        ("ftp_alg_data_ports_leased{leg=\"client\"}", 1.0),
        ("ftp_alg_data_ports_leased{leg=\"server\"}", 0.0),
        ("ftp_alg_data_port_wait_seconds_count{leg=\"client\"}", 1.0),
    ]);
    let mut data = session.begin("STOR a\r\n", offer);
    data.client.send("12345");
    data.server.expect("12345");
    // While it runs.
    admin.counts(&[
        ("ftp_alg_data_ports_leased{leg=\"client\"}", 0.0),
        ("ftp_alg_data_bytes_total{direction=\"up\"}", 5.0),
        ("ftp_alg_transfers_total{kind=\"upload\",outcome=\"complete\"}", 0.0),
    ]);
    data.client.finish();
    data.server.ends_with(End::Fin);
    drop(data);
    session.reply("226 Transfer complete.\r\n");
    let mut data = session.transfer("RETR b\r\n");
    data.server.send("1234567");
    data.client.expect("1234567");
    data.client.reset();
    session.reply("426 Gone\r\n");
    drop(data.server);
    session.refused("PORT 192,0,2,1,200,200\r\n", "5");
    session.exchange("USER mallory\r\n", "530 Not you\r\n");
    leaves(session);
    leaves(second);
    admin.counts(&[
        ("ftp_alg_sessions_total", 2.0),
        ("ftp_alg_active_sessions", 0.0),
        ("ftp_alg_session_ends_total{reason=\"client_closed\"}", 2.0),
        ("ftp_alg_data_bytes_total{direction=\"up\"}", 5.0),
        ("ftp_alg_data_bytes_total{direction=\"down\"}", 7.0),
        ("ftp_alg_transfers_total{kind=\"upload\",outcome=\"complete\"}", 1.0),
        ("ftp_alg_transfers_total{kind=\"download\",outcome=\"reset_by_client\"}", 1.0),
        ("ftp_alg_transfers_total{kind=\"download\",outcome=\"complete\"}", 0.0),
        ("ftp_alg_refusals_total{reason=\"port\"}", 1.0),
        ("ftp_alg_refusals_total{reason=\"not_allowed\"}", 0.0),
        ("ftp_alg_login_failures_total", 1.0),
        ("ftp_alg_upstream_connect_seconds_count", 2.0),
        ("ftp_alg_upstream_connect_failures_total{reason=\"failed\"}", 0.0),
        ("ftp_alg_data_port_wait_seconds_count{leg=\"client\"}", 2.0),
    ]);
}

#[test]
fn who_is_turned_away_is_counted_by_why() {
    let admin = Admin::start(Setup { more: "limits: { sessions: 2, sessions_per_address: 1 }", ..Setup::default() });
    let first = admin.scene.greeted(admin.scene.net.client());
    admin.scene.knock().line_starting("421");
    let second = admin.scene.greeted(admin.scene.net.stranger());
    admin.scene.knock().line_starting("421");
    admin.counts(&[
        ("ftp_alg_refusals_total{reason=\"sessions_per_address\"}", 1.0),
        ("ftp_alg_refusals_total{reason=\"sessions\"}", 1.0),
        ("ftp_alg_sessions_total", 2.0),
    ]);
    drop((first, second));
}

/// What does not come from the load balancer has no session to be counted with.
#[test]
fn a_connection_without_its_proxy_header_is_counted() {
    let net = Net::new();
    let at = SocketAddr::new(net.proxy().ip(), PORT);
    let yaml = format!(
        "admin: {{ bind: \"{at}\" }}\nlisteners: [{{ bind: \"{}\", upstream: \"{}\", client: {{ address_map: [{{ peers: \
         any, announce: local }}], data_ports: 20000-20009, proxy_protocol: {{ trusted: {}, data: false }} }} }}]",
        net.proxy(),
        net.server(),
        net.stranger(),
    );
    let admin = Admin { scene: Scene::start_at(net, &yaml, &[net.proxy(), at]), at };
    let _reset_at_once = TcpStream::connect(net.proxy());
    admin.counts(&[("ftp_alg_refusals_total{reason=\"proxy_header\"}", 1.0), ("ftp_alg_sessions_total", 0.0)]);
}

#[test]
fn a_server_that_is_not_there_is_counted() {
    let net = Net::new();
    let at = SocketAddr::new(net.proxy().ip(), PORT);
    let nobody = SocketAddr::new(net.stranger(), 21);
    let yaml = format!("admin: {{ bind: \"{at}\" }}\n{}", Setup::default().yaml(net.proxy(), &nobody.to_string()));
    let admin = Admin { scene: Scene::start_at(net, &yaml, &[net.proxy(), at]), at };
    admin.scene.knock().line_starting("421");
    admin.counts(&[
        ("ftp_alg_upstream_connect_failures_total{reason=\"failed\"}", 1.0),
        ("ftp_alg_upstream_connect_seconds_count", 0.0),
        ("ftp_alg_session_ends_total{reason=\"server_unavailable\"}", 1.0),
    ]);
}

/// What the session is doing, step by step; names that are no text are escaped, and passwords nowhere.
#[test]
fn sec_29_sessions_are_shown_as_they_are() {
    let admin = Admin::start(Setup::default());
    assert!(admin.sessions().is_empty());
    let client = admin.scene.knock();
    let server = admin.scene.server.accept();
    let mut session = Session { client, server, log: admin.scene.log.clone() };
    let seen = admin.session_is(|one| one["upstream"].is_string());
    assert_eq!((&seen["state"], &seen["user"]), (&"login".into(), &Value::Null), "{seen}");
    assert_eq!(seen["client"], session.client.local().to_string(), "{seen}");
    assert_eq!(seen["upstream"], admin.scene.net.server().to_string(), "{seen}");
    session.reply("220 x\r\n");
    session.exchange(b"USER al\xd6\x1bice\r\n", "331 Password\r\n");
    session.exchange("PASS opensesame\r\n", "230 In\r\n");
    let seen = admin.session_is(|one| one["state"] == "idle");
    assert_eq!(seen["user"], r"al\xd6\u{1b}ice", "{seen}");
    session.command("CWD /\r\n");
    admin.session_is(|one| one["state"] == "command");
    session.reply("250 There\r\n");
    let mut data = session.transfer("STOR a \"b\"\r\n");
    data.client.send("12345");
    data.server.expect("12345");
    let seen = admin.session_is(|one| one["bytes_up"] == 5);
    assert_eq!((&seen["state"], &seen["verb"], &seen["path"]), (&"transfer".into(), &"STOR".into(), &"a \"b\"".into()));
    assert!(seen["rate"].as_u64().unwrap() > 0 && seen["age"].as_f64().unwrap() > 0.0, "{seen}");
    let path = format!("/sessions/{}", seen["id"]);
    assert_eq!(serde_json::from_str::<Value>(&admin.get(&path)).unwrap()["id"], seen["id"]);
    data.client.finish();
    data.server.ends_with(End::Fin);
    drop(data);
    session.reply("226 Done\r\n");
    let seen = admin.session_is(|one| one["state"] == "idle");
    assert_eq!((&seen["verb"], &seen["path"], &seen["bytes_up"]), (&Value::Null, &Value::Null, &5.into()), "{seen}");
    assert!(!admin.get("/sessions").contains("opensesame"));
    drop(session);
    let deadline = Instant::now() + DEADLINE;
    while !admin.sessions().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", admin.sessions());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(admin.ask("GET", &path).0, 404);
}

/// A killed session's transfer must not look complete to anybody.
#[test]
fn rel_01_a_session_that_is_ended_looks_cut() {
    let admin = Admin::start(Setup::default());
    let mut session = admin.scene.session();
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("half of it");
    data.server.expect("half of it");
    let seen = admin.session_is(|one| one["bytes_up"] == 10);
    let path = format!("/sessions/{}", seen["id"]);
    let (status, _) = ask(admin.at, &format!("DELETE {path} HTTP/1.1\r\nHost: x.example\r\n\r\n"));
    assert_eq!(status, 403);
    let page = format!("DELETE {path} HTTP/1.1\r\nHost: {}\r\nOrigin: http://x.example\r\n\r\n", admin.at);
    assert_eq!(ask(admin.at, &page).0, 403);
    assert_eq!(admin.sessions().len(), 1, "it goes on");
    assert_eq!(admin.ask("DELETE", "/sessions/4711").0, 404);
    assert_eq!(admin.ask("DELETE", &path).0, 200);
    data.server.ends_with(End::Reset);
    data.client.ends_with(End::Reset);
    session.client.ends_with(End::Reset);
    session.server.ends_with(End::Reset);
    admin.scene.proxy.logs("ended by an operator");
    admin.counts(&[
        ("ftp_alg_session_ends_total{reason=\"killed\"}", 1.0),
        ("ftp_alg_transfers_total{kind=\"upload\",outcome=\"closed\"}", 1.0),
        ("ftp_alg_active_sessions", 0.0),
    ]);
    assert_eq!(admin.ask("DELETE", &path).0, 404);
}

/// An idle one has nothing else to wake it.
#[test]
fn an_idle_session_is_ended_at_once() {
    let admin = Admin::start(Setup::default());
    let mut session = admin.scene.session();
    let seen = admin.session_is(|one| one["state"] == "idle");
    assert_eq!(admin.ask("DELETE", &format!("/sessions/{}", seen["id"])).0, 200);
    session.client.ends_with(End::Reset);
    session.server.ends_with(End::Reset);
}

#[test]
fn it_is_ready_until_it_stops() {
    let mut admin = Admin::start(Setup::default());
    assert_eq!(admin.ask("GET", "/readyz"), (200, "ready\n".into()));
    let mut session = admin.scene.session();
    let data = session.transfer("RETR a\r\n");
    admin.scene.proxy.signal(Signal::TERM);
    let deadline = Instant::now() + DEADLINE;
    while admin.ask("GET", "/readyz") != (503, "stopping\n".into()) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(admin.ask("GET", "/healthz"), (200, "ok\n".into()));
    assert_eq!(admin.sessions().len(), 1, "what is waited for is shown");
    drop((data, session));
    assert!(admin.scene.proxy.exits_within(2 * DEADLINE).success());
}

/// As far as they are checked, and as long as it lasts.
#[test]
fn rel_10_it_is_not_ready_while_every_server_is_down() {
    let net = Net::new();
    let (at, server) = (SocketAddr::new(net.proxy().ip(), PORT), net.server());
    let checked = format!("{{ servers: [\"{server}\"], health: {{ interval: 1s, fall: 1, rise: 1 }} }}");
    let listeners = Setup::default().yaml(net.proxy(), &server.to_string());
    let yaml = listeners.replace(&format!("upstream: \"{server}\""), &format!("upstream: {checked}"));
    let log = Transcript::new();
    let _proxy = Proxy::start(&log, &format!("admin: {{ bind: \"{at}\" }}\n{yaml}"), &[net.proxy(), at]);
    let waits_for = |wanted: &dyn Fn(u16, &str) -> bool| {
        let deadline = Instant::now() + 4 * DEADLINE;
        loop {
            let (status, body) = ask(at, &format!("GET /readyz HTTP/1.1\r\nHost: {at}\r\n\r\n"));
            if wanted(status, &body) {
                return;
            }
            assert!(Instant::now() < deadline, "{status} {body}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let down = format!("no FTP server is up: {server} (Connection refused");
    waits_for(&|status, body| status == 503 && body.contains(&down));
    let door = std::net::TcpListener::bind(server).unwrap();
    std::thread::spawn(move || {
        for mut stream in door.incoming().map(Result::unwrap) {
            let _gone = std::io::Write::write_all(&mut stream, b"220 back\r\n");
            let _quit = std::io::Read::read(&mut stream, &mut [0; 64]);
        }
    });
    waits_for(&|status, _| status == 200);
}

#[test]
fn what_is_not_there_and_what_is_not_done() {
    let admin = Admin::start(Setup::default());
    assert_eq!(admin.ask("GET", "/").0, 404);
    assert_eq!(admin.ask("POST", "/metrics").0, 405);
    assert_eq!(admin.ask("DELETE", "/sessions").0, 405);
    let head = format!("HEAD /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", admin.at);
    assert_eq!(ask(admin.at, &head), (200, String::new()));
    let many: String = (0..40).map(|n| format!("X-{n}: y\r\n")).collect();
    assert_eq!(ask(admin.at, &format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{many}\r\n")).0, 431);
    let long = "y".repeat(9000);
    assert_eq!(ask(admin.at, &format!("GET /healthz HTTP/1.1\r\nX: {long}\r\n\r\n")).0, 431);
}

/// Those that say nothing, or little at a time, are let go; meanwhile there are only so many, and others are told.
#[test]
fn slow_and_many_connections_do_no_harm() {
    let admin = Admin::start(Setup::default());
    let mut all: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(admin.at).unwrap()).collect();
    for stream in &mut all {
        let _refused_already = stream.write_all(b"GET /heal");
        stream.set_read_timeout(Some(4 * DEADLINE)).unwrap();
    }
    // A session is none of its business.
    drop(admin.scene.session());
    let mut refused = 0;
    for stream in &mut all {
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) if rest.starts_with(b"HTTP/1.1 503 ") => refused += 1,
            Ok(_) => assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408 "), "{}", rest.escape_ascii()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it is let go in time"),
        }
    }
    assert!((1..=24).contains(&refused), "{refused} of 40 refused: 16 at once have room");
    assert_eq!(admin.ask("GET", "/healthz").0, 200);
}

/// What a dashboard or a rule names, is there: a name that was mistyped, or changed here, would be an empty panel, or an
/// alert that never fires.
#[test]
fn the_dashboard_and_the_alerts_name_what_there_is() {
    let admin = Admin::start(Setup::default());
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let text = admin.get("/metrics");
    let sample = regex::Regex::new(r#"^([a-z_]+)(?:\{(.*)\})? "#).unwrap();
    let label = regex::Regex::new(r#"([a-z]+)="((?:[^"\\]|\\.)*)""#).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let found = sample.captures(line).unwrap_or_else(|| panic!("{line}"));
        let labels = known.entry(found[1].to_owned()).or_default();
        for of in label.captures_iter(found.get(2).map_or("", |labels| labels.as_str())) {
            labels.extend([of[1].to_owned(), format!("{}={}", &of[1], &of[2])]);
        }
    }
    let name = regex::Regex::new(r"\b((?:ftp_alg|process)_[a-z_]+)(?:\{([^}]*)\})?").unwrap();
    let matcher = regex::Regex::new(r#"([a-z]+)(?:=~?|!~|!=)"([^"]*)""#).unwrap();
    let (mut expressions, mut used) = (expressions_of_alerts(), BTreeSet::new());
    assert!(expressions.len() >= 14, "{expressions:#?}");
    let of_alerts = expressions.len();
    expressions.extend(expressions_of_dashboard());
    assert!(expressions.len() >= of_alerts + 20, "{expressions:#?}");
    for expression in &expressions {
        for found in name.captures_iter(expression) {
            let labels = known.get(&found[1]).unwrap_or_else(|| panic!("no metric {} for {expression}", &found[1]));
            for of in matcher.captures_iter(found.get(2).map_or("", |labels| labels.as_str())) {
                // Those that Prometheus adds, and values that are the operator's.
                if matches!(&of[1], "instance" | "job") {
                    continue;
                }
                assert!(labels.contains(&of[1]), "{} has no label {}: {expression}", &found[1], &of[1]);
                if matches!(&of[1], "listener" | "address") {
                    continue;
                }
                for value in of[2].split('|') {
                    let pair = format!("{}={value}", &of[1]);
                    assert!(labels.contains(&pair), "{} never has {pair}: {expression}", &found[1]);
                }
            }
            used.insert(found[1].to_owned());
        }
    }
    let is_used = |name: &str| {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        used.contains(name) || stem.is_some_and(|stem| used.contains(&format!("{stem}_bucket")))
    };
    let unused: Vec<&String> = known.keys().filter(|name| !is_used(name)).collect();
    assert!(unused.is_empty(), "nobody sees {unused:?}");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    for name in used {
        let name = name.trim_end_matches("_bucket");
        assert!(readme.contains(&format!("`{name}`")), "the README has no {name}");
    }
}

fn deploy(file: &str) -> String {
    std::fs::read_to_string(format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn expressions_of_alerts() -> Vec<String> {
    let rules: Value = serde_yaml::from_str(&deploy("prometheus/alerts.yml")).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    rules.iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect()
}

/// Those of panels, and the queries behind the variables.
fn expressions_of_dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&deploy("grafana/ftp-alg.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap()).map(|target| &target["expr"]);
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter().map(|variable| &variable["definition"]);
    targets.chain(variables).filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// The table is for people, JSON for programs; both by the program itself.
#[test]
fn the_command_shows_and_ends_sessions() {
    let admin = Admin::start(Setup::default());
    let mut session = admin.scene.session();
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ftp-alg"))
            .arg("sessions")
            .args(args)
            .args(["--admin", &format!("http://{}", admin.at)])
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let seen = admin.session_is(|one| one["state"] == "idle");
    let (code, table, stderr) = run(&[]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(table.starts_with("ID  LISTENER") && table.contains("  alice  "), "{table}");
    assert!(table.contains(&session.client.local().to_string()), "{table}");
    let (_, json, _) = run(&["--json"]);
    let listed: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(listed[0]["id"], seen["id"]);
    let (code, _, stderr) = run(&["kill", "4711"]);
    assert_eq!((code, stderr.as_str()), (Some(1), "there is no session 4711\n"));
    let (code, _, stderr) = run(&["kill", &seen["id"].to_string()]);
    assert_eq!(code, Some(0), "{stderr}");
    session.client.ends_with(End::Reset);
}

/// Each second what there is then, with the rate of the second before.
#[test]
fn the_command_follows_sessions() {
    let admin = Admin::start(Setup::default());
    let mut session = admin.scene.session();
    let mut follower = std::process::Command::new(env!("CARGO_BIN_EXE_ftp-alg"))
        .args(["sessions", "--follow", "--json", "--admin", &format!("http://{}", admin.at)])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut looks = lines.map(|line| serde_json::from_str::<Vec<Value>>(&line.unwrap()).unwrap());
    assert_eq!(looks.next().unwrap()[0]["state"], "idle");
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("x".repeat(100_000));
    data.client.expect("x".repeat(100_000));
    // Whatever the machine does meanwhile: some look is the first that has the bytes, and one behind it has no more.
    let mut rates = looks.by_ref().map(|all| (all[0]["state"].clone(), all[0]["rate"].as_u64().unwrap()));
    let (state, rate) = rates.find(|(_, rate)| *rate > 0).unwrap();
    assert!(state == "transfer" && rate <= 100_000, "{state} {rate}");
    assert!(rates.take(5).any(|(state, rate)| state == "transfer" && rate == 0), "the rate is that of the last second");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

/// The only thing that may be at the other end of a wildcard address.
#[test]
fn it_is_off_unless_it_is_configured() {
    let scene = Scene::plain();
    let at: (IpAddr, u16) = (scene.net.proxy().ip(), PORT);
    assert_eq!(TcpStream::connect(at).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
