//! Invariants, over random interleavings of both legs' bytes and of everything that the shell may report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use ftp_alg::addr::{Leg, PerLeg};
use ftp_alg::nat::DataMode;
use ftp_alg::session::{Action, ChannelId, ChannelReport, End, Event, Lack, Session};
use proptest::prelude::*;
use proptest::sample::select;

use crate::driver::{CLIENT, Driver, SERVER, announced, settings};

/// Whatever may happen next.
#[derive(Debug, Clone)]
enum Step {
    Bytes {
        leg: Leg,
        data: Text,
        urgent: bool,
    },
    Eof(Leg),
    Reset(Leg),
    Ready,
    Failed,
    /// Answers the oldest open `Bind`.
    Bound,
    Refused,
    /// Of the nth channel that is open, or of one that is none.
    Flushed(usize, Leg),
    Ended(usize, End),
    Stale(u32),
    /// Answers the open `AskLogin`; also without one.
    Login(bool),
    Drain,
    Pass(u64),
}

/// Bytes that are shown as text when a property fails.
#[derive(Clone)]
struct Text(Vec<u8>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

fn leg() -> impl Strategy<Value = Leg> {
    select(vec![Leg::Client, Leg::Server])
}

fn client_line() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "USER a",
        "PASS b",
        "PASV",
        "EPSV",
        "EPSV 1",
        "EPSV 2",
        "EPSV ALL",
        "PORT 198,51,100,7,19,137",
        "PORT 10,0,0,1,19,137",
        "PORT 2,2,2,3,19,137",
        "PORT x",
        "EPRT |1|198.51.100.7|5001|",
        "EPRT |3|x|1|",
        "RETR a",
        "STOR b",
        "LIST",
        "XDIR",
        "ABOR",
        "STAT",
        "QUIT",
        "FEAT",
        "REIN",
        "MODE B",
        "MODE S",
        "NOOP",
        "LPSV",
        "AUTH TLS",
        "CWD \u{ff}\u{f4}",
        "",
    ]);
    prop_oneof![
        20 => known.prop_map(|line| format!("{line}\r\n").into_bytes()),
        1 => Just(b"227 x (1,2,3,4,5,6)\r\n".to_vec()),
        1 => Just(vec![b'x'; 5000]),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => Just(b"NOOP\n".repeat(60)),
    ]
}

fn server_line() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "220 hello",
        "331 x",
        "230 in",
        "200 ok",
        "250 ok",
        "150 go",
        "125 go",
        "226 done",
        "226-x\r\n226 done",
        "225 x",
        "227 Entering Passive Mode (172,16,0,20,19,137).",
        "227-x\r\n y (172,16,0,20,19,137)\r\n227 z",
        "227 Logout.",
        "227 =172,16,0,20,0,22",
        "229 Extended (|||5001|)",
        "229 x (|||1|)",
        "426 cut",
        "425 no",
        "500 what",
        "502 no",
        "530 no",
        "550 no",
        "421 bye",
        "211-x\r\n AUTH TLS\r\n227 (172,16,0,20,19,137)\r\n211 end",
        "120 wait",
        "350 rest",
        "221 bye",
        "257 \"/\"",
        "230_no_space",
    ]);
    prop_oneof![
        20 => known.prop_map(|line| format!("{line}\r\n").into_bytes()),
        1 => Just(b"PORT 1,2,3,4,5,6\r\n".to_vec()),
        1 => Just([b"227 ", &[b'x'; 5000][..], b"\r\n"].concat()),
        1 => Just([b"227-", &[b' '; 3000][..], b"\r\n", &[b' '; 3000][..], b"\r\n227 x\r\n"].concat()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Complete),
        1 => leg().prop_map(End::NeverConnected),
        1 => leg().prop_map(End::DialFailed),
        1 => leg().prop_map(End::Reset),
        1 => Just(End::Idle),
        1 => Just(End::Closed),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (client_line(), prop::bool::weighted(0.05))
            .prop_map(|(data, urgent)| Step::Bytes { leg: Leg::Client, data: Text(data), urgent }),
        30 => server_line().prop_map(|data| Step::Bytes { leg: Leg::Server, data: Text(data), urgent: false }),
        20 => Just(Step::Bound),
        2 => Just(Step::Refused),
        8 => (0..3_usize, leg()).prop_map(|(n, leg)| Step::Flushed(n, leg)),
        6 => (0..3_usize, end()).prop_map(|(n, end)| Step::Ended(n, end)),
        1 => (0..50_u32).prop_map(Step::Stale),
        1 => leg().prop_map(Step::Eof),
        20 => prop::bool::weighted(0.98).prop_map(Step::Login),
        1 => Just(Step::Drain),
        3 => (0..70_u64).prop_map(Step::Pass),
        1 => Just(Step::Failed),
        1 => prop::bool::weighted(0.3).prop_map(|rst| if rst { Step::Reset(Leg::Client) } else { Step::Pass(1) }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..120)
}

fn mode() -> impl Strategy<Value = DataMode> {
    select(vec![DataMode::Same, DataMode::Passive, DataMode::Active])
}

/// A shell that believes nothing: it checks every action against what it knows.
struct Shell {
    session: Session,
    now: std::time::Instant,
    /// Channels that are open, with the ends that listen.
    open: BTreeMap<ChannelId, BTreeSet<&'static str>>,
    ever: BTreeSet<ChannelId>,
    binding: Vec<(ChannelId, Leg)>,
    /// Ports that peers may be told.
    bound: BTreeSet<u16>,
    eof: PerLeg<bool>,
    shut: PerLeg<bool>,
    connected: bool,
    closed: bool,
    /// The client wants to log in.
    asked: bool,
    /// How often it may.
    logins: usize,
    sent: PerLeg<Vec<u8>>,
    passives: Passives,
}

/// What the server dial may follow from.
#[derive(Default)]
struct Passives {
    asked: usize,
    dialled: usize,
}

impl Shell {
    fn new(mode: DataMode) -> Self {
        let Driver { session, now, .. } = Driver::unconnected(settings(mode), CLIENT);
        Self {
            session,
            now,
            open: BTreeMap::new(),
            ever: BTreeSet::new(),
            binding: Vec::new(),
            bound: BTreeSet::new(),
            eof: PerLeg::default(),
            shut: PerLeg::default(),
            connected: false,
            closed: false,
            asked: false,
            logins: 0,
            sent: PerLeg::default(),
            passives: Passives::default(),
        }
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
            self.drain();
            if let Some(at) = self.session.poll_timeout() {
                assert!(at > self.now, "a deadline in the past would spin");
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let now = self.now;
        match step {
            Step::Bytes { leg, data, urgent } => {
                if !self.eof[*leg] && (*leg == Leg::Client || self.connected) && self.session.wants_bytes(*leg) {
                    self.session.handle(Event::Bytes { leg: *leg, data: &data.0, urgent: *urgent }, now);
                }
            }
            Step::Eof(leg) if !self.eof[*leg] && (*leg == Leg::Client || self.connected) => {
                self.eof[*leg] = true;
                self.session.handle(Event::Eof { leg: *leg }, now);
            }
            Step::Reset(leg) => self.session.handle(Event::Reset { leg: *leg }, now),
            Step::Ready if !self.connected => {
                self.connected = true;
                let (peer, local) = (SERVER.parse().unwrap(), "172.16.0.10:5".parse().unwrap());
                self.session.handle(Event::ServerReady { peer, local }, now);
            }
            Step::Failed if !self.connected => self.session.handle(Event::ServerFailed, now),
            Step::Bound => {
                if let Some((id, leg)) = self.binding.pop() {
                    let at = announced(id, leg);
                    self.bound.insert(at.0.port());
                    self.session.handle(Event::PortBound { id, leg, at }, now);
                }
            }
            Step::Refused => {
                if let Some((id, leg)) = self.binding.pop() {
                    self.session.handle(Event::PortRefused { id, leg, lacks: Lack::Port }, now);
                }
            }
            Step::Flushed(n, leg) => {
                if let Some(id) = self.open.keys().nth(*n).copied() {
                    self.session.handle(Event::ChannelFlushed { id, leg: *leg }, now);
                }
            }
            Step::Ended(n, end) => {
                if let Some(id) = self.open.keys().nth(*n).copied() {
                    self.end(id, *end);
                }
            }
            Step::Stale(id) => {
                let id = ChannelId(*id);
                if !self.open.contains_key(&id) {
                    let before = self.sent.clone();
                    self.session.handle(Event::ChannelFlushed { id, leg: Leg::Client }, now);
                    self.session.handle(Event::PortRefused { id, leg: Leg::Client, lacks: Lack::Port }, now);
                    self.drain();
                    assert_eq!(self.sent, before, "a stale id does nothing");
                }
            }
            Step::Login(true) => {
                self.logins += usize::from(std::mem::take(&mut self.asked));
                self.session.handle(Event::LoginPermitted, now);
            }
            Step::Login(false) => self.session.handle(Event::LoginRefused, now),
            Step::Drain => self.session.handle(Event::Drain, now),
            Step::Pass(seconds) => {
                self.now += Duration::from_secs(*seconds);
                if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.session.handle_timeout(self.now);
                }
            }
            Step::Eof(_) | Step::Ready | Step::Failed => {}
        }
    }

    fn end(&mut self, id: ChannelId, end: End) {
        self.open.remove(&id);
        self.binding.retain(|(bound, _)| *bound != id);
        let report = ChannelReport { end, up: 0, down: 0 };
        self.session.handle(Event::ChannelEnded { id, report }, self.now);
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.next_action() {
            assert!(!self.closed || matches!(action, Action::Transferred(_)), "{action:?} after Close");
            self.check(action);
        }
    }

    fn check(&mut self, action: Action) {
        match action {
            Action::Write { leg, data, .. } => {
                assert!(!data.is_empty());
                assert!(!self.shut[leg], "a write after FIN: {data:?}");
                assert!(leg == Leg::Client || (self.connected && !self.eof.server), "nobody to write to");
                self.check_line(leg, &data);
                if leg == Leg::Server && (data.starts_with(b"USER") || data.starts_with(b"PASS")) {
                    self.logins = self.logins.checked_sub(1).expect("a login that was not permitted");
                }
                self.sent[leg].extend_from_slice(&data);
            }
            Action::Shutdown { leg } => assert!(!std::mem::replace(&mut self.shut[leg], true), "two FINs"),
            Action::Bind { id, leg } => {
                self.open_channel(id);
                self.binding.push((id, leg));
            }
            Action::Dial { id, leg, target } => {
                self.open_channel(id);
                match leg {
                    Leg::Client => assert_eq!(target.addr().ip().to_string(), "198.51.100.7"),
                    Leg::Server => {
                        assert_eq!(target.addr().ip().to_string(), "172.16.0.20");
                        self.passives.dialled += 1;
                        assert!(self.passives.dialled <= self.passives.asked, "a dial for a 227 that nobody asked for");
                    }
                }
            }
            Action::CloseChannel { id } => {
                assert!(self.open.contains_key(&id), "{id:?} closed twice, or never opened");
                self.end(id, End::Closed);
            }
            Action::Close { .. } => self.closed = true,
            Action::AskLogin => assert!(!std::mem::replace(&mut self.asked, true), "asked twice"),
            Action::Begin { id, .. } => assert!(self.open.contains_key(&id), "{id:?} is over"),
            Action::StartTls { .. } | Action::StopTls { .. } | Action::Reconnect | Action::PassThrough => {
                panic!("{action:?} without TLS")
            }
            Action::LoginAnswered { .. } | Action::Transferred(_) | Action::Notice(_) => {}
        }
    }

    fn open_channel(&mut self, id: ChannelId) {
        if self.ever.insert(id) {
            self.open.insert(id, BTreeSet::new());
        }
        assert!(self.open.contains_key(&id), "{id:?} is over");
    }

    /// A line that names one of our ports is written after `PortBound` only.
    fn check_line(&mut self, leg: Leg, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        for line in text.lines() {
            if leg == Leg::Server && matches!(line, "PASV" | "EPSV" | "EPSV 1") {
                self.passives.asked += 1;
            }
            for announced in ["203,0,113,10,", "172,16,0,10,"] {
                if let Some((_, tail)) = line.split_once(announced) {
                    let mut numbers = tail.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u16>().unwrap());
                    let port = numbers.next().unwrap() * 256 + numbers.next().unwrap();
                    assert!(self.bound.contains(&port), "{line}");
                }
            }
        }
    }
}

/// From a login on, so that the random part starts where things happen.
fn logged_in(mode: DataMode) -> Shell {
    let mut shell = Shell::new(mode);
    let said = |leg, data: &str| Step::Bytes { leg, data: Text(data.into()), urgent: false };
    let (c, s) = (Leg::Client, Leg::Server);
    shell.run(&[
        Step::Ready,
        said(s, "220 x\r\n"),
        said(c, "USER a\r\n"),
        said(s, "331 x\r\n"),
        said(c, "PASS a\r\n"),
        said(s, "230 x\r\n"),
    ]);
    shell
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_shell_is_never_asked_for_anything_wrong(mode in mode(), steps in steps()) {
        logged_in(mode).run(&steps);
    }

    #[test]
    fn nor_at_the_start_of_a_session(mode in mode(), mut steps in steps(), at in 0..10_usize) {
        steps.insert(at.min(steps.len()), Step::Ready);
        Shell::new(mode).run(&steps);
    }

    /// When both peers have gone and every channel has ended, the session ends, and nothing is left open.
    #[test]
    fn every_session_ends(mode in mode(), steps in steps()) {
        let mut shell = logged_in(mode);
        shell.run(&steps);
        shell.run(&[Step::Eof(Leg::Client), Step::Bound, Step::Bound, Step::Eof(Leg::Server)]);
        while let Some(id) = shell.open.keys().next().copied() {
            shell.end(id, End::Complete);
            shell.drain();
        }
        shell.run(&[Step::Pass(11)]);
        prop_assert!(shell.closed);
        prop_assert_eq!(shell.session.poll_timeout(), None);
    }

    /// Every message cut anywhere gives the same bytes, and the same actions between them.
    #[test]
    fn any_chunking_gives_the_same_actions(mode in mode(), steps in steps(), size in 1..40_usize) {
        let (mut whole, mut cut) = (logged_in(mode), logged_in(mode));
        for step in &steps {
            whole.run(std::slice::from_ref(step));
            match step {
                Step::Bytes { leg, data, urgent } => {
                    if !cut.session.wants_bytes(*leg) {
                        continue;
                    }
                    for (index, piece) in data.0.chunks(size).enumerate() {
                        // Past the bound a shell would read the rest later; here it is all one read.
                        if index == 0 || cut.session.wants_bytes(*leg) {
                            cut.run(&[Step::Bytes { leg: *leg, data: Text(piece.to_vec()), urgent: *urgent }]);
                        } else if !cut.eof[*leg] {
                            cut.session.handle(Event::Bytes { leg: *leg, data: piece, urgent: *urgent }, cut.now);
                            cut.drain();
                        }
                    }
                }
                other => cut.run(std::slice::from_ref(other)),
            }
            prop_assert_eq!(cut.sent.client.escape_ascii().to_string(), whole.sent.client.escape_ascii().to_string());
            prop_assert_eq!(cut.sent.server.escape_ascii().to_string(), whole.sent.server.escape_ascii().to_string());
            prop_assert_eq!(&cut.open, &whole.open);
            prop_assert_eq!(cut.closed, whole.closed);
        }
    }

    /// Whatever does not ask for a port passes unchanged, but for the end of the line.
    #[test]
    fn opaque_lines_pass_byte_identical(lines in proptest::collection::vec("[A-Z]{1,4}( [ -\u{7e}\u{a0}-\u{ff}]{0,80})?", 1..15)) {
        let reserved = [
            "PASV", "EPSV", "PORT", "EPRT", "LPRT", "LPSV", "CPSV", "SPSV", "AUTH", "STOR", "STOU", "APPE",
        ];
        let lines: Vec<_> = lines.into_iter().filter(|line| !reserved.iter().any(|verb| line.starts_with(verb))).collect();
        let mut d = Driver::new(DataMode::Same);
        let mut naive = Vec::new();
        for line in &lines {
            d.client(format!("{line}\n"));
            naive.extend_from_slice(format!("{line}\r\n").as_bytes());
        }
        prop_assert_eq!(d.sent_raw(Leg::Server), naive);
    }

    /// Without a command outstanding, nothing that the server says is changed.
    #[test]
    fn unasked_replies_pass_byte_identical(replies in proptest::collection::vec(server_line(), 1..15)) {
        let text = replies.concat();
        let is_spoof = text.split(|b| *b == b'\n').any(ftp_alg::ftp::reply::starts_with_command);
        if is_spoof {
            return Ok(());
        }
        let mut d = Driver::new(DataMode::Same);
        d.server(&text);
        let unfinished = text.iter().rposition(|b| *b == b'\n').map_or(0, |lf| lf + 1);
        let sent = d.sent_raw(Leg::Client);
        prop_assert_eq!(&sent[..unfinished.min(sent.len())], &text[..unfinished]);
        let dials = d.deeds().iter().any(|deed| deed.starts_with("dial"));
        prop_assert!(!dials);
    }

    /// In a line that we translate the inside address never stands, whatever words it came with.
    #[test]
    fn sec_31_no_inside_address_in_a_translated_line(before in "[ -~]{0,30}", after in "[ -~]{0,30}", epsv: bool) {
        let inside = "172,16,0,20,19,137";
        let mut d = Driver::new(DataMode::Same);
        d.client(if epsv { "EPSV\r\n" } else { "PASV\r\n" });
        d.server(format!("227 {before}({inside}){after}172.16.0.20\r\n"));
        let text = d.client_got();
        let is_dialled = d.deeds().iter().any(|deed| deed.starts_with("dial"));
        if is_dialled {
            prop_assert!(!text.contains("172,16,0,20") && !text.contains("172.16.0.20"), "{}", text);
        }
    }

    #[test]
    fn no_bytes_panic(pieces in proptest::collection::vec((leg(), proptest::collection::vec(any::<u8>(), 0..300)), 0..30)) {
        let mut d = Driver::connected(DataMode::Same);
        for (leg, data) in pieces {
            d.event(Event::Bytes { leg, data: &data, urgent: false });
        }
    }
}
