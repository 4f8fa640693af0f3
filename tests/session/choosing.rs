//! Which server a session is with: the one that USER names.

use std::time::Duration;

use ftp_alg::addr::Leg;
use ftp_alg::ftp::host::HostName;
use ftp_alg::nat::DataMode::Same;
use ftp_alg::session::{Action, ClientTls, Event, Reason, ServerTls, Settings, Terminate, TlsSettings};
use proptest::prelude::*;
use proptest::sample::select;

use crate::driver::{CLIENT, Driver, LOGIN, SERVER, announced, settings};

const GREETING: &str = "220 FTP proxy ready, log in with USER user@host.\n";
const HINT: &str = "530 Log in with USER user@host first.\n";
const UNAVAILABLE: &str = "421 Service not available, closing control connection.\n";
const TERMS: Terminate = Terminate { require: false, implicit: false, allow_ccc: false };

fn from_user(client: ClientTls, server: ServerTls) -> Driver {
    let settings = Settings { from_user: true, tls: TlsSettings { client, server }, ..settings(Same) };
    Driver::unconnected(settings, CLIENT)
}

/// A client that has been greeted; nothing recorded.
fn received() -> Driver {
    let mut d = from_user(ClientTls::Refuse, ServerTls::Plain);
    d.forget();
    d
}

/// Logged in at `a.example`; nothing recorded.
fn logged_in() -> Driver {
    let mut d = received();
    d.client("USER u@a.example\r\n");
    d.connect(SERVER);
    d.server("220 a\r\n331 x\r\n");
    d.client("PASS p\r\n");
    d.server("230 in\r\n");
    d.forget();
    d
}

#[test]
fn a_client_is_greeted_and_helped_before_it_names_a_server() {
    let mut d = from_user(ClientTls::Refuse, ServerTls::Plain);
    assert_eq!(d.client_got(), GREETING);
    assert_eq!(d.deeds(), [""; 0], "nobody is connected to");
    for (line, answer) in [
        ("NOOP", "200 NOOP command successful.\n"),
        ("FEAT", "211-Extensions supported:\n EPSV\n211 End\n"),
        ("HELP", "214 Log in with USER user@host or USER user@host:port.\n"),
        ("HOST a.example", "502 Command not implemented.\n"),
        ("AUTH TLS", "502 Command not implemented.\n"),
        ("REIN", GREETING),
        ("PASS x", "503 Log in with USER user@host first.\n"),
        ("ACCT x", "503 Log in with USER user@host first.\n"),
        ("SYST", HINT),
        ("PASV", HINT),
        ("LIST", HINT),
        ("STAT", HINT),
        ("PORT 198,51,100,7,200,1", HINT),
        ("USER bob", HINT),
        ("USER bob@", HINT),
        ("USER bob@ho st", HINT),
    ] {
        d.client(format!("{line}\r\n"));
        assert_eq!(d.client_got(), answer, "{line}");
    }
    assert_eq!(d.deeds(), [""; 0], "nobody is connected to");
    d.client("QUIT\r\n");
    assert_eq!((d.client_got().as_str(), d.closed()), ("221 Goodbye.\n", Some(Reason::ClientClosed)));
}

#[test]
fn user_at_host_is_answered_by_that_server() {
    let mut d = received();
    d.client("USER bob@example.org@a.example:2121\r\nPASS p\r\nSYST\r\n");
    assert_eq!(d.deeds(), ["connect a.example:2121"]);
    d.connect(SERVER);
    d.server("220-a\r\n welcome\r\n220 a\r\n");
    assert_eq!((d.client_got().as_str(), d.server_got().as_str()), ("", "USER bob@example.org\nPASS p\nSYST\n"));
    d.server("331 x\r\n230 in\r\n215 y\r\n");
    assert_eq!(d.client_got(), "331 x\n230 in\n215 y\n");
    assert_eq!(d.session.user(), Some(&b"bob@example.org@a.example:2121"[..]));
    d.client("PASV\r\n");
    assert_eq!(d.server_got(), "PASV\n");
}

#[test]
fn a_greeting_that_turns_us_away_is_the_answer_to_user() {
    for greeting in ["421 full\r\n", "530-no\r\n530 no\r\n"] {
        let mut d = received();
        d.client("USER u@a.example\r\nPASS p\r\n");
        d.connect(SERVER);
        d.server(greeting);
        assert_eq!(d.client_got(), greeting.replace("\r\n", "\n"));
        assert_eq!((d.server_got().as_str(), d.closed()), ("", Some(Reason::ServerClosed)));
    }
    // The server says nothing at all, or cannot be reached.
    let mut d = received();
    d.client("USER u@a.example\r\n");
    d.connect(SERVER);
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!((d.client_got().as_str(), d.closed()), (UNAVAILABLE, Some(Reason::ServerClosedBeforeGreeting)));
    let mut d = received();
    d.client("USER u@a.example\r\n");
    d.event(Event::ServerFailed);
    assert_eq!((d.client_got().as_str(), d.closed()), (UNAVAILABLE, Some(Reason::ServerUnavailable)));
}

/// Trying addresses is as slow as trying passwords, and says nothing of what is there.
#[test]
fn sec_25_a_server_that_may_not_be_reached_is_a_failed_login() {
    let mut d = received();
    d.permits = false;
    d.client("USER u@10.0.0.1\r\nPASS p\r\n");
    assert_eq!(d.deeds(), ["ask login"]);
    d.event(Event::LoginPermitted);
    assert_eq!(d.deeds(), ["connect 10.0.0.1:21"]);
    d.event(Event::ServerRefused);
    assert_eq!(d.deeds(), ["login failed: true", "ask login"]);
    assert_eq!(d.client_got(), "530 This server may not be reached from here.\n");
    d.event(Event::LoginPermitted);
    assert_eq!(d.client_got(), "503 Log in with USER user@host first.\n");
    assert_eq!(d.deeds(), ["login failed: false"]);
    // What names no server has not been tried.
    d.client("USER u\r\n");
    d.event(Event::LoginPermitted);
    assert_eq!(
        (d.client_got().as_str(), d.deeds()),
        (HINT, vec!["ask login".to_owned(), "login failed: false".to_owned()])
    );
    // Another may be.
    d.client("USER u@10.0.0.2\r\n");
    d.event(Event::LoginPermitted);
    d.connect(SERVER);
    d.server("220 x\r\n530 wrong\r\n");
    assert_eq!(d.client_got(), "530 wrong\n");
    assert_eq!(d.deeds(), ["ask login", "connect 10.0.0.2:21", "login failed: true"]);
    d.client("USER u@10.0.0.2\r\n");
    d.event(Event::LoginRefused);
    assert_eq!(d.closed(), Some(Reason::LoginFailures));
}

#[test]
fn another_user_at_the_same_host_stays_there_and_one_at_another_goes() {
    let mut d = logged_in();
    d.client("NOOP\r\nUSER v@A.example.\r\n");
    assert_eq!((d.server_got().as_str(), d.deeds().len()), ("NOOP\nUSER v\n", 0));
    d.server("200 x\r\n331 y\r\n");
    d.client("NOOP\r\nUSER v@b.example\r\nPASS q\r\n");
    assert_eq!((d.server_got().as_str(), d.deeds().len()), ("NOOP\n", 0), "it has not answered yet");
    d.forget();
    d.server("200 x\r\n");
    assert_eq!((d.client_got().as_str(), d.deeds()), ("200 x\n", vec!["connect b.example:21".to_owned()]));
    d.connect("172.16.0.21:21");
    d.server("220 b\r\n");
    assert_eq!(d.server_got(), "USER v\nPASS q\n");
    // A user without a host is of no server.
    d.server("331 x\r\n230 in\r\n");
    d.forget();
    d.client("USER w\r\n");
    assert_eq!((d.client_got().as_str(), d.server_got().as_str()), (HINT, ""));
    d.client("NOOP\r\n");
    assert_eq!(d.server_got(), "NOOP\n");
}

#[test]
fn what_runs_at_the_old_server_ends_with_it() {
    let mut d = logged_in();
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("LIST\r\n");
    d.server("150 x\r\n226 y\r\n");
    d.forget();
    d.client("USER v@b.example\r\n");
    assert_eq!(d.deeds(), [""; 0], "the reply of the transfer is held");
    d.completed();
    assert!(d.deeds().contains(&"connect b.example:21".to_owned()));
    assert_eq!(d.client_got(), "226 y\n");
}

#[test]
fn a_client_that_sends_its_commands_and_fin_is_served() {
    let mut d = received();
    d.client("USER u@a.example\r\n");
    d.event(Event::Eof { leg: Leg::Client });
    assert_eq!(d.closed(), None);
    d.connect(SERVER);
    d.server("220 a\r\n");
    assert_eq!(d.server_got(), "USER u\n");
    let mut scanner = received();
    scanner.event(Event::Eof { leg: Leg::Client });
    assert_eq!(scanner.closed(), Some(Reason::ClientClosed));
}

#[test]
fn sec_28_nobody_stays_at_the_reception() {
    let mut d = received();
    d.pass(LOGIN + Duration::from_secs(1));
    assert_eq!(d.closed(), Some(Reason::LoginTimeout));
    let mut d = received();
    d.event(Event::Drain);
    assert_eq!(d.closed(), Some(Reason::Drained));
    // A browser that was made to talk to us (CVE-2021-3618).
    let mut d = received();
    d.client("Host: x\r\n".repeat(10));
    assert_eq!(d.closed(), Some(Reason::NotFtp));
    let mut d = received();
    d.client("GET / HTTP/1.1\r\n");
    assert_eq!((d.closed(), d.client_got().as_str()), (Some(Reason::NotFtp), ""));
}

#[test]
fn a_server_is_named_within_tls_and_spoken_to_in_tls() {
    let mut d = from_user(ClientTls::Terminate(Terminate { require: true, ..TERMS }), ServerTls::Explicit);
    d.forget();
    d.client("FEAT\r\n");
    assert_eq!(d.client_got(), "211-Extensions supported:\n EPSV\n AUTH TLS\n PBSZ\n PROT\n211 End\n");
    d.client("USER u@a.example\r\n");
    assert_eq!(d.client_got(), "530 Policy requires TLS, use AUTH TLS first.\n");
    d.client("AUTH TLS\r\n");
    d.event(Event::TlsReady { leg: Leg::Client });
    d.client("PBSZ 0\r\nPROT P\r\nUSER u@a.example\r\n");
    assert_eq!(d.deeds(), ["TLS with client", "connect a.example:21"]);
    d.connect(SERVER);
    d.server("220 a\r\n");
    assert_eq!(d.server_got(), "AUTH TLS\n");
    d.server("234 go\r\n");
    d.event(Event::TlsReady { leg: Leg::Server });
    d.server("200 size\r\n200 level\r\n");
    assert_eq!(d.server_got(), "PBSZ 0\nPROT P\nUSER u\n");
    d.forget();
    d.server("331 x\r\n");
    assert_eq!(d.client_got(), "331 x\n");
    // No way back to plain text.
    let mut d = from_user(ClientTls::Refuse, ServerTls::Explicit);
    d.forget();
    d.client("USER u@a.example\r\n");
    d.connect(SERVER);
    d.server("220 a\r\n502 what\r\n");
    assert_eq!((d.client_got().as_str(), d.closed()), (UNAVAILABLE, Some(Reason::TlsFailed(Leg::Server))));
    assert_eq!(d.server_got(), "AUTH TLS\n");
}

#[test]
fn rfc_12_auth_behind_a_login_is_a_new_login_at_the_same_server() {
    let mut d = from_user(ClientTls::Terminate(TERMS), ServerTls::Plain);
    d.client("USER u@a.example\r\n");
    d.connect(SERVER);
    d.server("220 a\r\n230 in\r\n");
    d.forget();
    d.client("AUTH TLS\r\n");
    assert_eq!(d.deeds(), ["TLS with client", "connect a.example:21"]);
    d.event(Event::TlsReady { leg: Leg::Client });
    d.connect(SERVER);
    d.server("220 a\r\n");
    assert_eq!(d.client_got(), "234 AUTH TLS successful.\n");
    d.client("USER u@a.example\r\n");
    assert_eq!(d.server_got(), "USER u\n");
}

#[test]
fn sec_21_implicit_tls_comes_before_our_greeting() {
    let mut d = from_user(ClientTls::Terminate(Terminate { implicit: true, ..TERMS }), ServerTls::Plain);
    assert_eq!(d.client_got(), "");
    d.event(Event::TlsReady { leg: Leg::Client });
    assert_eq!(d.client_got(), GREETING);
}

#[test]
fn rein_at_the_reception_ends_tls() {
    let mut d = from_user(ClientTls::Terminate(TERMS), ServerTls::Plain);
    d.client("AUTH TLS\r\n");
    d.event(Event::TlsReady { leg: Leg::Client });
    d.forget();
    d.client("REIN\r\n");
    assert_eq!((d.client_got().as_str(), d.deeds()), (GREETING, vec!["no TLS with client".to_owned()]));
}

fn lines(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::collection::vec(select(choices), 1..4).prop_map(|lines| lines.concat())
}

#[derive(Debug, Clone)]
enum Step {
    Client(String),
    Server(String),
    Connect,
    Refuse,
    /// The client's handshake, if one is under way.
    Ready(Option<&'static str>),
}

fn step() -> impl Strategy<Value = Step> {
    const CLIENT: &[&str] = &[
        "USER u@a\r\n",
        "USER v@a\r\n",
        "USER u@b\r\n",
        "USER u\r\n",
        "PASS p\r\n",
        "NOOP\r\n",
        "PASV\r\n",
        "LIST\r\n",
        "FEAT\r\n",
        "REIN\r\n",
        "HOST a\r\n",
        "US",
    ];
    const SERVER: &[&str] =
        &["220 x\r\n", "331 x\r\n", "230 x\r\n", "200 x\r\n", "421 x\r\n", "227 =172,16,0,20,19,137\r\n"];
    prop_oneof![
        4 => lines(CLIENT).prop_map(Step::Client),
        4 => lines(SERVER).prop_map(Step::Server),
        2 => Just(Step::Connect),
        1 => Just(Step::Refuse),
    ]
}

/// A session with its servers: what each was told, and what the client was.
struct Stage {
    d: Driver,
    connecting: bool,
    connected: bool,
    /// The present server has said something.
    spoken: bool,
    told: Vec<String>,
    has_hosts: bool,
    /// The client's handshake is under way.
    switching: bool,
    /// The session awaits whether the client may log in, or a port.
    asked: Option<Event<'static>>,
}

impl Stage {
    /// Clients that name the server.
    fn from_user() -> Self {
        Self::new(received())
    }

    /// Clients that say a host, or expect one.
    fn with_hosts() -> Self {
        let mut stage = Self::new(with_hosts(ClientTls::Terminate(TERMS), ServerTls::Plain));
        (stage.connecting, stage.has_hosts) = (true, true);
        stage.told.push(String::new());
        stage
    }

    fn new(mut d: Driver) -> Self {
        (d.permits, d.binds) = (false, false);
        Self {
            d,
            connecting: false,
            connected: false,
            spoken: false,
            told: Vec::new(),
            has_hosts: false,
            switching: false,
            asked: None,
        }
    }

    fn step(&mut self, step: &Step, size: usize) {
        match step {
            Step::Client(text) => self.bytes(Leg::Client, text, size),
            Step::Server(text) => self.bytes(Leg::Server, text, size),
            Step::Connect if self.connecting => {
                (self.connecting, self.connected) = (false, true);
                self.d.connect(SERVER);
            }
            Step::Refuse if self.connecting => {
                self.connecting = false;
                self.d.event(Event::ServerRefused);
            }
            Step::Ready(name) if std::mem::take(&mut self.switching) => {
                name.iter().for_each(|name| self.d.event(Event::NameExpected { name }));
                self.d.event(Event::TlsReady { leg: Leg::Client });
            }
            Step::Connect | Step::Refuse | Step::Ready(_) => {}
        }
        self.look();
        // What is asked for is carried out behind each read, however the bytes were cut.
        while let Some(answer) = self.asked.take() {
            self.d.event(answer);
            self.look();
        }
    }

    fn bytes(&mut self, leg: Leg, text: &str, size: usize) {
        for piece in text.as_bytes().chunks(size) {
            if leg == Leg::Server && !self.connected {
                return;
            }
            self.spoken |= leg == Leg::Server;
            self.d.event(Event::Bytes { leg, data: piece, urgent: false });
            self.look();
        }
    }

    fn look(&mut self) {
        for action in self.d.take_actions() {
            match action {
                Action::Connect { .. } => {
                    assert!(!self.connecting, "two at a time");
                    (self.connecting, self.connected, self.spoken) = (true, false, false);
                    self.told.push(String::new());
                }
                Action::Write { leg: Leg::Server, data, .. } => {
                    assert!(self.connected && (self.spoken || self.has_hosts), "{data:?} before the greeting");
                    let text = String::from_utf8(data.to_vec()).unwrap();
                    assert!(!text.contains('@') || !text.starts_with("USER"), "{text}");
                    assert!(!self.has_hosts || !text.starts_with("HOST"), "{text}");
                    let told = self.told.last_mut().unwrap();
                    if !self.has_hosts {
                        assert!(!told.is_empty() || text.starts_with("USER "), "{text} before USER");
                    }
                    told.push_str(&text);
                }
                Action::StartTls { .. } => self.switching = true,
                Action::AskLogin => self.asked = Some(Event::LoginPermitted),
                Action::Bind { id, leg, .. } => self.asked = Some(Event::PortBound { id, leg, at: announced(id, leg) }),
                Action::Close { .. } => (self.connecting, self.connected) = (false, false),
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every server hears USER first, behind its greeting, and no host; however the bytes are cut.
    #[test]
    fn sec_08_any_chunking_leads_to_the_same_servers(
        steps in proptest::collection::vec(step(), 1..50), size in 1..12_usize,
    ) {
        let (mut whole, mut cut) = (Stage::from_user(), Stage::from_user());
        for step in &steps {
            whole.step(step, usize::MAX);
            cut.step(step, size);
            prop_assert_eq!(&cut.told, &whole.told);
            prop_assert_eq!(cut.d.sent_raw(Leg::Client), whole.d.sent_raw(Leg::Client));
        }
    }

    /// No server hears HOST, and where the client is led does not depend on how its bytes come.
    #[test]
    fn rfc_16_any_chunking_leads_to_the_same_hosts(
        steps in proptest::collection::vec(host_step(), 1..50), size in 1..12_usize,
    ) {
        let (mut whole, mut cut) = (Stage::with_hosts(), Stage::with_hosts());
        for step in &steps {
            whole.step(step, usize::MAX);
            cut.step(step, size);
            prop_assert_eq!(&cut.told, &whole.told);
            prop_assert_eq!(cut.d.sent_raw(Leg::Client), whole.d.sent_raw(Leg::Client));
        }
    }
}

fn host_step() -> impl Strategy<Value = Step> {
    const CLIENT: &[&str] = &[
        "HOST a.example\r\n",
        "HOST b.example\r\n",
        "HOST c.example\r\n",
        "USER u\r\n",
        "PASS p\r\n",
        "NOOP\r\n",
        "REIN\r\n",
        "AUTH TLS\r\n",
        "FEAT\r\n",
        "HO",
    ];
    const SERVER: &[&str] = &["220 x\r\n", "331 x\r\n", "230 x\r\n", "200 x\r\n", "502 x\r\n", "211 x\r\n"];
    prop_oneof![
        4 => lines(CLIENT).prop_map(Step::Client),
        4 => lines(SERVER).prop_map(Step::Server),
        2 => Just(Step::Connect),
        2 => select(&[None, Some("a.example"), Some("c.example")][..]).prop_map(Step::Ready),
    ]
}

const A: usize = 0;
const B: usize = 1;

/// `a.example` and `b.example` have servers of their own.
fn with_hosts(client: ClientTls, server: ServerTls) -> Driver {
    let hosts = ["a.example", "b.example", "[10.0.0.1]"].map(|name| HostName::parse(name.as_bytes()).unwrap());
    let tls = TlsSettings { client, server };
    Driver::unconnected(Settings { hosts: hosts.to_vec(), tls, ..settings(Same) }, CLIENT)
}

/// Greeted by `upstream`; nothing recorded.
fn greeted_with_hosts(client: ClientTls) -> Driver {
    let mut d = with_hosts(client, ServerTls::Plain);
    d.connect(SERVER);
    d.server("220 default\r\n");
    d.forget();
    d
}

/// The client's handshake is done, and has named a server.
fn expects(d: &mut Driver, name: &str) {
    d.event(Event::NameExpected { name });
    d.event(Event::TlsReady { leg: Leg::Client });
}

fn host(n: usize) -> String {
    format!("connect host {n}")
}

#[test]
fn rfc_16_host_leads_to_its_server_whose_greeting_is_the_answer() {
    let mut d = greeted_with_hosts(ClientTls::Refuse);
    d.client("NOOP\r\nHOST A.example.\r\nUSER u\r\n");
    assert_eq!((d.server_got().as_str(), d.deeds().len()), ("NOOP\n", 0), "NOOP has not been answered");
    d.server("200 x\r\n");
    assert_eq!(d.deeds(), [host(A)]);
    d.connect("172.16.0.21:21");
    d.server("220-a\r\n220 a\r\n");
    assert_eq!(d.client_got(), "200 x\n220-a\n220 a\n");
    assert_eq!(d.server_got(), "USER u\n", "HOST is not for it");
    // The RFC allows another one before USER.
    let mut d = greeted_with_hosts(ClientTls::Refuse);
    d.client("HOST a.example\r\n");
    d.connect("172.16.0.21:21");
    d.server("220 a\r\n");
    d.forget();
    d.client("HOST a.example\r\n");
    assert_eq!((d.client_got().as_str(), d.deeds().len()), ("220 Host accepted.\n", 0));
    d.client("HOST [10.0.0.1]\r\n");
    assert_eq!(d.deeds(), [host(2)]);
    // One that cannot be reached, or turns us away, is not the default in disguise.
    d.event(Event::ServerFailed);
    assert_eq!((d.client_got().as_str(), d.closed()), (UNAVAILABLE, Some(Reason::ServerUnavailable)));
}

#[test]
fn rfc_16_hosts_that_are_unknown_malformed_or_late_are_refused() {
    let mut d = greeted_with_hosts(ClientTls::Refuse);
    for (line, answer) in [
        ("HOST c.example", "504 Unknown host.\n"),
        ("HOST 10.0.0.2", "504 Unknown host.\n"),
        ("HOST [2001:db8::1]", "504 Unknown host.\n"),
        ("HOST a.example:21", "501 Illegal HOST argument.\n"),
        ("HOST [a.example]", "501 Illegal HOST argument.\n"),
        ("HOST", "501 Illegal HOST argument.\n"),
    ] {
        d.client(format!("{line}\r\n"));
        assert_eq!((d.client_got().as_str(), d.server_got().as_str()), (answer, ""), "{line}");
    }
    for late in ["331 x\r\n", "230 x\r\n"] {
        let mut d = greeted_with_hosts(ClientTls::Refuse);
        d.client("USER u\r\n");
        d.server(late);
        d.forget();
        d.client("HOST a.example\r\n");
        assert_eq!((d.client_got().as_str(), d.server_got().as_str()), ("503 HOST comes before USER.\n", ""));
    }
}

#[test]
fn rfc_16_rein_leads_back_to_upstream() {
    let mut d = greeted_with_hosts(ClientTls::Refuse);
    d.client("HOST b.example\r\n");
    d.connect("172.16.0.21:21");
    d.server("220 b\r\n");
    d.client("USER u\r\n");
    d.server("230 in\r\n");
    d.forget();
    d.client("REIN\r\nUSER v\r\n");
    assert_eq!((d.deeds(), d.server_got().as_str()), (vec!["connect".to_owned()], ""));
    d.connect(SERVER);
    d.server("220 default\r\n");
    assert_eq!((d.client_got().as_str(), d.server_got().as_str()), ("220 default\n", "USER v\n"));
    // At `upstream` it is a command like any other.
    d.server("230 in\r\n");
    d.client("REIN\r\n");
    assert_eq!(d.server_got(), "REIN\n");
}

#[test]
fn rfc_16_the_name_in_the_handshake_leads_to_its_server() {
    let explicit = ClientTls::Terminate(TERMS);
    let mut d = greeted_with_hosts(explicit);
    d.client("AUTH TLS\r\n");
    expects(&mut d, "B.example");
    assert_eq!(d.deeds(), ["TLS with client".to_owned(), host(B)]);
    d.connect("172.16.0.21:21");
    d.server("220 b\r\n");
    assert_eq!(d.client_got(), "234 AUTH TLS successful.\n", "nobody has asked for a greeting");
    d.client("HOST a.example\r\nHOST [10.0.0.1]\r\nHOST b.example\r\nUSER u\r\n");
    const DIFFERS: &str = "504 HOST differs from the server name of the TLS handshake.\n";
    assert_eq!(d.client_got(), format!("{DIFFERS}{DIFFERS}220 Host accepted.\n"));
    assert_eq!(d.server_got(), "USER u\n");
    // From the first byte: nobody is connected to before the name is known, and the server greets the client.
    let implicit = ClientTls::Terminate(Terminate { implicit: true, ..TERMS });
    for (name, deed) in [(Some("a.example"), host(A)), (Some("c.example"), "connect".into()), (None, "connect".into())]
    {
        let mut d = with_hosts(implicit, ServerTls::Plain);
        assert_eq!(d.deeds(), ["TLS with client"]);
        name.iter().for_each(|name| d.event(Event::NameExpected { name }));
        d.event(Event::TlsReady { leg: Leg::Client });
        assert_eq!(d.deeds(), [deed], "{name:?}");
        d.connect(SERVER);
        d.server("220 x\r\n");
        assert_eq!(d.client_got(), "220 x\n");
    }
}

#[test]
fn rfc_16_the_handshake_overrules_a_host_before_it() {
    let before = |name: Option<&str>| {
        let mut d = greeted_with_hosts(ClientTls::Terminate(TERMS));
        d.client("HOST a.example\r\n");
        d.connect("172.16.0.21:21");
        d.server("220 a\r\n");
        d.client("AUTH TLS\r\n");
        d.forget();
        name.iter().for_each(|name| d.event(Event::NameExpected { name }));
        d.event(Event::TlsReady { leg: Leg::Client });
        d.deeds()
    };
    assert_eq!(before(Some("a.example")), [""; 0]);
    assert_eq!(before(Some("b.example")), [host(B)]);
    assert_eq!(before(Some("c.example")), ["connect"]);
    assert_eq!(before(None), [""; 0]);
    // RFC 2228 §3: a login before AUTH is forgotten at the host, too.
    let mut d = greeted_with_hosts(ClientTls::Terminate(TERMS));
    d.client("HOST a.example\r\n");
    d.connect("172.16.0.21:21");
    d.server("220 a\r\n");
    d.client("USER u\r\n");
    d.server("230 in\r\n");
    d.client("AUTH TLS\r\n");
    d.forget();
    expects(&mut d, "a.example");
    assert_eq!(d.deeds(), [host(A)]);
}

/// RFC 4217 §13: REIN ends TLS, and with it the name goes.
#[test]
fn rfc_16_rein_forgets_the_name_of_the_handshake() {
    let mut d = greeted_with_hosts(ClientTls::Terminate(TERMS));
    d.client("AUTH TLS\r\n");
    expects(&mut d, "b.example");
    d.connect("172.16.0.21:21");
    d.server("220 b\r\n");
    d.forget();
    d.client("REIN\r\n");
    assert_eq!(d.deeds(), ["connect"]);
    d.connect(SERVER);
    d.server("220 default\r\n");
    assert_eq!((d.client_got().as_str(), d.deeds()), ("220 default\n", vec!["no TLS with client".to_owned()]));
    d.client("HOST a.example\r\n");
    assert_eq!(d.deeds(), [host(A)]);
    // Where TLS is from the first byte it stays, and so does the name.
    let mut d = with_hosts(ClientTls::Terminate(Terminate { implicit: true, ..TERMS }), ServerTls::Plain);
    expects(&mut d, "b.example");
    d.connect(SERVER);
    d.server("220 b\r\n");
    d.forget();
    d.client("REIN\r\n");
    assert_eq!((d.server_got().as_str(), d.deeds().len()), ("REIN\n", 0));
}

/// Without `hosts` HOST is the server's affair, but not against the name of the handshake.
#[test]
fn rfc_16_without_hosts_host_has_to_be_the_name_of_the_handshake() {
    let greeted = || {
        let settings = Settings {
            tls: TlsSettings { client: ClientTls::Terminate(TERMS), server: ServerTls::Plain },
            ..settings(Same)
        };
        let mut d = Driver::unconnected(settings, CLIENT);
        d.connect(SERVER);
        d.server("220 x\r\n");
        d.forget();
        d
    };
    let mut d = greeted();
    d.client("AUTH TLS\r\n");
    expects(&mut d, "a.example");
    d.forget();
    d.client("HOST b.example\r\nHOST a.example\r\n");
    assert_eq!(d.client_got(), "504 HOST differs from the server name of the TLS handshake.\n");
    assert_eq!(d.server_got(), "HOST a.example\n");
    // What the server was told before is not said again.
    for (expected, reconnects) in [("a.example", false), ("b.example", true)] {
        let mut d = greeted();
        d.client("HOST a.example\r\n");
        d.server("220 a\r\n");
        d.client("AUTH TLS\r\n");
        d.forget();
        expects(&mut d, expected);
        assert_eq!(d.deeds().contains(&"connect".to_owned()), reconnects, "{expected}");
        d.connect(SERVER);
        d.server("220 x\r\n");
        assert_eq!(d.server_got(), "", "{expected}");
    }
}

#[test]
fn rfc_11_feat_has_host_where_it_is_ours() {
    let feat = |client, reply: &str| {
        let mut d = greeted_with_hosts(client);
        d.client("FEAT\r\n");
        d.server(reply);
        d.client_got()
    };
    let server = "211-x\r\n AUTH TLS\r\n HOST\r\n SIZE\r\n211 End\r\n";
    assert_eq!(feat(ClientTls::Refuse, server), "211-x\n SIZE\n HOST\n211 End\n");
    assert_eq!(feat(ClientTls::Passthrough, server), "211-x\n AUTH TLS\n SIZE\n HOST\n211 End\n");
    assert_eq!(feat(ClientTls::Terminate(TERMS), server), "211-x\n SIZE\n HOST\n AUTH TLS\n PBSZ\n PROT\n211 End\n");
    for client in [ClientTls::Refuse, ClientTls::Passthrough] {
        assert_eq!(feat(client, "502 what\r\n"), "211-Extensions supported:\n HOST\n211 End\n");
        assert_eq!(feat(client, "211 none\r\n"), "211-Extensions supported:\n HOST\n211 End\n");
    }
}

#[test]
fn a_host_is_spoken_to_in_tls_like_every_server() {
    let mut d = with_hosts(ClientTls::Refuse, ServerTls::Explicit);
    d.connect(SERVER);
    d.server("220 default\r\n234 go\r\n");
    d.event(Event::TlsReady { leg: Leg::Server });
    d.server("200 size\r\n200 level\r\n");
    d.forget();
    d.client("HOST a.example\r\nUSER u\r\n");
    d.connect("172.16.0.21:21");
    d.server("220 a\r\n");
    assert_eq!((d.client_got().as_str(), d.server_got().as_str()), ("220 a\n", "AUTH TLS\n"));
    d.server("234 go\r\n");
    d.event(Event::TlsReady { leg: Leg::Server });
    d.server("200 size\r\n200 level\r\n");
    assert_eq!(d.server_got(), "PBSZ 0\nPROT P\nUSER u\n");
}
