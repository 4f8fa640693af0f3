//! A shell without sockets that checks every action of a [`Session`] against what it knows. The properties and the
//! fuzzer drive it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ftp_alg::addr::{Family, Leg, PerLeg};
use ftp_alg::ftp::command::{Command, CommandLine};
use ftp_alg::nat::DataMode;
use ftp_alg::session::{
    Action, ChannelId, ChannelReport, ClientTls, End, Event, Lack, Reason, ServerTls, Session, Settings, Terminate,
    TransferRecord,
};

use super::cover::Cover;
use super::driver::announced;

/// Whatever may happen next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Bytes {
        leg: Leg,
        data: Text,
        urgent: bool,
    },
    Eof(Leg),
    Reset(Leg),
    Ready,
    Failed,
    /// The handshake that is under way is done, or has failed.
    TlsReady(Leg),
    TlsFailed(Leg),
    /// Something lies across a switch.
    LeftOver(Leg),
    /// Answers the latest open `Bind`.
    Bound,
    Refused,
    /// Of the nth channel that is open, or of one that is none.
    Flushed(usize, Leg),
    Ended(usize, End),
    Stale(u32),
    /// What becomes of `AskLogin` from now on, one that waits included.
    Logins(Answer),
    Drain,
    Pass(u64),
}

/// What a client hears that wants to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Permitted,
    Refused,
    /// Nothing yet.
    Later,
}

/// Bytes that are shown as text when a property fails.
#[derive(Clone)]
pub(crate) struct Text(pub(crate) Vec<u8>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// A shell that believes nothing: it checks every action against what it knows.
pub(crate) struct Shell {
    pub(crate) session: Session,
    mode: DataMode,
    /// How often a port was bound for the server.
    bound_for_server: usize,
    peers: PerLeg<&'static str>,
    now: Instant,
    /// Channels that are open, with the legs whose socket has everything.
    pub(crate) open: BTreeMap<ChannelId, PerLeg<bool>>,
    /// Those that are over, with what was known of them at their end.
    over: Vec<(ChannelReport, PerLeg<bool>)>,
    ever: BTreeSet<ChannelId>,
    binding: Vec<(ChannelId, Leg)>,
    /// Ports that peers may be told.
    bound: BTreeSet<u16>,
    pub(crate) eof: PerLeg<bool>,
    shut: PerLeg<bool>,
    connected: bool,
    pub(crate) closed: bool,
    answer: Answer,
    /// The client wants to log in.
    asked: bool,
    /// How often it may.
    logins: usize,
    pub(crate) sent: PerLeg<Vec<u8>>,
    passives: Passives,
    /// All that was read.
    said: PerLeg<Vec<u8>>,
    /// The server is gone or the session was given up: nothing waits for data any more.
    is_unheld: bool,
    cover: Cover,
}

/// What the server dial may follow from.
#[derive(Default)]
struct Passives {
    asked: usize,
    dialled: usize,
}

impl Shell {
    pub(crate) fn between(settings: Settings, client: &'static str, server: &'static str) -> Self {
        let (cover, mode, now) = (Cover::new(settings.tls), settings.data_mode, Instant::now());
        let session = Session::new(Arc::new(settings), client.parse().unwrap(), now);
        let mut shell = Self {
            session,
            mode,
            bound_for_server: 0,
            peers: PerLeg { client, server },
            now,
            open: BTreeMap::new(),
            over: Vec::new(),
            ever: BTreeSet::new(),
            binding: Vec::new(),
            bound: BTreeSet::new(),
            eof: PerLeg::default(),
            shut: PerLeg::default(),
            connected: false,
            closed: false,
            answer: Answer::Permitted,
            asked: false,
            logins: 0,
            sent: PerLeg::default(),
            passives: Passives::default(),
            said: PerLeg::default(),
            is_unheld: false,
            cover,
        };
        // Implicit TLS is asked for at once.
        shell.drain();
        shell
    }

    /// Up to a login, so that what comes next starts where things happen; within TLS where there is any.
    pub(crate) fn log_in(&mut self) {
        let said = |leg, data: &str| Step::Bytes { leg, data: Text(data.into()), urgent: false };
        let (c, s) = (Leg::Client, Leg::Server);
        self.run(&[Step::Ready, Step::TlsReady(c), Step::TlsReady(s), said(s, "220 x\r\n")]);
        if self.cover.tls.server == ServerTls::Explicit {
            self.run(&[said(s, "234 x\r\n"), Step::TlsReady(s)]);
        }
        if self.cover.tls.server != ServerTls::Plain {
            self.run(&[said(s, "200 x\r\n"), said(s, "200 x\r\n")]);
        }
        if matches!(self.cover.tls.client, ClientTls::Terminate(Terminate { implicit: false, .. })) {
            let protect = "PBSZ 0\r\nPROT P\r\n";
            self.run(&[said(c, "AUTH TLS\r\n"), Step::TlsReady(c), said(c, protect)]);
        }
        self.run(&[said(c, "USER a\r\n"), said(s, "331 x\r\n"), said(c, "PASS a\r\n"), said(s, "230 x\r\n")]);
    }

    pub(crate) fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
            self.drain();
            if let Some(at) = self.session.poll_timeout() {
                assert!(at > self.now, "a deadline in the past would spin");
            }
        }
    }

    /// Whether bytes that this peer sends now would be read.
    fn reads(&self, leg: Leg) -> bool {
        // What comes during a handshake belongs to it.
        self.may_say(leg) && !self.cover.switching[leg] && self.session.wants_bytes(leg)
    }

    /// Whether this peer may still say anything.
    fn may_say(&self, leg: Leg) -> bool {
        !self.eof[leg] && (leg == Leg::Client || self.connected)
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Bytes { leg, data, urgent } if self.reads(*leg) => self.bytes(*leg, &data.0, *urgent),
            Step::TlsReady(leg) => {
                if self.cover.ready(*leg) {
                    self.tell(Event::TlsReady { leg: *leg });
                }
            }
            Step::TlsFailed(leg) if self.cover.switching[*leg] => self.no_tls(*leg),
            Step::LeftOver(leg) => self.tell(Event::LeftOver { leg: *leg }),
            Step::Eof(leg) if self.cover.switching[*leg] => self.no_tls(*leg),
            Step::Eof(leg) if self.may_say(*leg) => {
                self.eof[*leg] = true;
                self.is_unheld |= *leg == Leg::Server;
                self.tell(Event::Eof { leg: *leg });
            }
            Step::Reset(leg) => self.tell(Event::Reset { leg: *leg }),
            Step::Ready if !self.connected => {
                self.connected = true;
                let (peer, local) = (self.peers.server.parse().unwrap(), "172.16.0.10:5".parse().unwrap());
                self.tell(Event::ServerReady { peer, local });
            }
            Step::Failed if !self.connected => self.tell(Event::ServerFailed),
            Step::Bound => {
                if let Some((id, leg)) = self.binding.pop() {
                    let at = announced(id, leg);
                    self.bound.insert(at.0.port());
                    self.tell(Event::PortBound { id, leg, at });
                }
            }
            Step::Refused => {
                if let Some((id, leg)) = self.binding.pop() {
                    self.tell(Event::PortRefused { id, leg, lacks: Lack::Port });
                }
            }
            Step::Flushed(n, leg) => {
                if let Some((&id, flushed)) = self.open.iter_mut().nth(*n) {
                    flushed[*leg] = true;
                    self.tell(Event::ChannelFlushed { id, leg: *leg });
                }
            }
            Step::Ended(n, end) => {
                if let Some(id) = self.open.keys().nth(*n).copied() {
                    self.end(id, *end);
                }
            }
            Step::Stale(id) => self.stale(ChannelId(*id)),
            Step::Logins(answer) => self.answer = *answer,
            Step::Drain => self.tell(Event::Drain),
            Step::Pass(seconds) => {
                self.now += Duration::from_secs(*seconds);
                if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.session.handle_timeout(self.now);
                }
            }
            Step::Bytes { .. } | Step::Eof(_) | Step::TlsFailed(_) | Step::Ready | Step::Failed => {}
        }
    }

    /// The handshake has failed, and nothing more comes of this leg.
    fn no_tls(&mut self, leg: Leg) {
        self.cover.switching[leg] = false;
        self.eof[leg] = true;
        self.is_unheld |= leg == Leg::Server;
        self.tell(Event::TlsFailed { leg });
    }

    fn tell(&mut self, event: Event<'_>) {
        self.session.handle(event, self.now);
    }

    /// As one read, whether or not it is wanted.
    pub(crate) fn bytes(&mut self, leg: Leg, data: &[u8], urgent: bool) {
        self.said[leg].extend_from_slice(data);
        self.tell(Event::Bytes { leg, data, urgent });
    }

    fn stale(&mut self, id: ChannelId) {
        if self.open.contains_key(&id) {
            return;
        }
        let before = self.sent.clone();
        self.tell(Event::ChannelFlushed { id, leg: Leg::Client });
        self.tell(Event::PortRefused { id, leg: Leg::Client, lacks: Lack::Port });
        self.drain();
        assert_eq!(self.sent, before, "a stale id does nothing");
    }

    pub(crate) fn end(&mut self, id: ChannelId, end: End) {
        let flushed = self.open.remove(&id).expect("an open channel");
        self.binding.retain(|(bound, _)| *bound != id);
        // Its own count of bytes tells one report from every other.
        let report = ChannelReport { end, up: u64::from(id.0 % 2), down: u64::from(id.0) };
        self.over.push((report, flushed));
        self.tell(Event::ChannelEnded { id, report });
    }

    pub(crate) fn drain(&mut self) {
        loop {
            while let Some(action) = self.session.next_action() {
                assert!(!self.closed || matches!(action, Action::Transferred(_)), "{action:?} after Close");
                self.check(action);
            }
            if !self.answer_login() {
                return;
            }
        }
    }

    fn answer_login(&mut self) -> bool {
        if !self.asked || self.answer == Answer::Later {
            return false;
        }
        self.asked = false;
        if self.answer == Answer::Permitted {
            self.logins += 1;
            self.tell(Event::LoginPermitted);
        } else {
            self.tell(Event::LoginRefused);
        }
        true
    }

    fn check(&mut self, action: Action) {
        let has_begun = self.cover.begun;
        self.cover.check(&action, self.connected);
        match action {
            Action::Write { leg, data, .. } => self.check_write(leg, &data),
            Action::Shutdown { leg } => assert!(!std::mem::replace(&mut self.shut[leg], true), "two FINs"),
            Action::Bind { id, leg, carries } => {
                let server = family(self.peers.server);
                assert!(carries.is_none_or(|carried| carried == Family::V4 || (leg, carried) == (Leg::Server, server)));
                self.open_channel(id);
                self.bound_for_server += usize::from(leg == Leg::Server);
                assert!(
                    self.mode != DataMode::Active || self.bound_for_server <= self.transfers_said(),
                    "a port of the server's is held for nothing"
                );
                self.binding.push((id, leg));
            }
            Action::Dial { id, leg, target } => {
                self.open_channel(id);
                let peer: std::net::SocketAddr = self.peers[leg].parse().unwrap();
                assert_eq!(target.addr().ip(), peer.ip(), "nobody but the peer is dialled");
                if leg == Leg::Server {
                    self.passives.dialled += 1;
                    assert!(self.passives.dialled <= self.passives.asked, "a dial for a 227 that nobody asked for");
                }
            }
            Action::CloseChannel { id } => {
                assert!(self.open.contains_key(&id), "{id:?} closed twice, or never opened");
                self.end(id, End::Closed);
            }
            Action::Close { why } => {
                self.closed = true;
                self.is_unheld |= matches!(
                    why,
                    Reason::LoginTimeout
                        | Reason::LoginFailures
                        | Reason::IdleTimeout
                        | Reason::LineTimeout
                        | Reason::NotFtp
                );
            }
            Action::Transferred(record) => self.check_record(&record),
            Action::Begin { id, .. } => assert!(self.open.contains_key(&id), "{id:?} is over"),
            Action::Connect { .. } => {
                self.connected = false;
                (self.eof.server, self.shut.server) = (false, false);
                // What still moved is cut, and has had its answer.
                self.is_unheld |= has_begun;
            }
            Action::AskLogin => assert!(!std::mem::replace(&mut self.asked, true), "asked twice"),
            Action::StartTls { .. }
            | Action::StopTls { .. }
            | Action::PassThrough
            | Action::LoginAnswered { .. }
            | Action::Notice(_) => {}
        }
    }

    fn check_write(&mut self, leg: Leg, data: &[u8]) {
        assert!(!data.is_empty());
        assert!(!self.shut[leg], "a write after FIN: {}", data.escape_ascii());
        assert!(leg == Leg::Client || (self.connected && !self.eof.server), "nobody to write to");
        if !self.cover.blind {
            self.check_line(leg, data);
            let is_option = leg == Leg::Server && matches!(data[..], [0xFF, 0xFB | 0xFD, ..]);
            assert!(!is_option || family(self.peers.client) == family(self.peers.server), "an option: {data:?}");
            if leg == Leg::Server && is_login(data) {
                self.logins = self.logins.checked_sub(1).expect("a login that was not permitted");
            }
        }
        self.sent[leg].extend_from_slice(data);
    }

    fn open_channel(&mut self, id: ChannelId) {
        if self.ever.insert(id) {
            self.open.insert(id, PerLeg::default());
        }
        assert!(self.open.contains_key(&id), "{id:?} is over");
    }

    /// A line that names one of our ports is written after `PortBound` only.
    fn check_line(&mut self, leg: Leg, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        for line in text.lines() {
            if leg == Leg::Server {
                self.passives.asked += usize::from(matches!(line, "PASV" | "EPSV" | "EPSV 1" | "EPSV 2"));
                self.check_families(line);
            }
            for ours in OURS {
                if let Some((_, tail)) = line.split_once(ours)
                    && !self.has_said(ours)
                {
                    let mut numbers = tail.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u16>().unwrap());
                    let port = numbers.next().unwrap() * 256 + numbers.next().unwrap();
                    assert!(self.bound.contains(&port), "{line}");
                }
            }
        }
    }

    /// No server hears a verb that its family does not know, and no Telnet option crosses from one family to the other.
    fn check_families(&self, line: &str) {
        let verb = line.split([' ', '\r']).next().unwrap_or_default();
        let (client, server) = (family(self.peers.client), family(self.peers.server));
        let is_strange = match (client, server) {
            (_, Family::V6) => ["PASV", "PORT"].contains(&verb),
            (Family::V6, Family::V4) => ["EPSV", "EPRT"].contains(&verb) && !self.has_said("ALGS"),
            (Family::V4, Family::V4) => false,
        };
        assert!(!is_strange, "{line} to an {server} server for an {client} client");
    }

    /// How many commands of the client need a data connection with the server, REST among them.
    fn transfers_said(&self) -> usize {
        let lines = self.said.client.split_inclusive(|b| *b == b'\n');
        let lines = lines.filter_map(|line| CommandLine::new(Bytes::copy_from_slice(line)).ok());
        lines.filter(|line| matches!(line.parse(), Ok(Command::Transfer { .. } | Command::Rest))).count()
    }

    /// Whether a peer wrote this itself, so that reading it again proves nothing.
    fn has_said(&self, text: &str) -> bool {
        [&self.said.client, &self.said.server].iter().any(|said| contains(&said.to_ascii_uppercase(), text.as_bytes()))
    }

    /// No success is told of an upload that the server may not have whole, or of any transfer without a data
    /// connection. Once nothing is held (ABOR, MODE B, a server that is gone) the server's own word passes.
    fn check_record(&self, record: &TransferRecord) {
        let is_success = record.code.is_some_and(|code| code / 100 == 2);
        let is_unheld = self.is_unheld || self.has_said("ABOR") || self.has_said("MODE");
        let (true, false, Some(verb)) = (is_success, is_unheld, record.verb) else { return };
        let (_, flushed) =
            self.over.iter().find(|(report, _)| *report == record.channel).expect("a channel that ended");
        if flushed.client && flushed.server {
            return;
        }
        let is_upload = verb.is_upload();
        let is_whole = match record.channel.end {
            End::Complete => true,
            End::Reset(Leg::Client) => !is_upload,
            End::Reset(Leg::Server) | End::Idle => flushed[if is_upload { Leg::Server } else { Leg::Client }],
            End::NeverConnected(_) | End::DialFailed(_) | End::TlsFailed(_) | End::Closed => {
                !is_upload && flushed.client
            }
        };
        assert!(is_whole, "a success that is none: {record:?}, flushed {flushed:?}");
    }
}

impl Shell {
    /// Both peers go and every channel ends: then the session is over, and nothing is left open.
    pub(crate) fn finish(&mut self) {
        self.run(&[Step::Ready, Step::Eof(Leg::Client), Step::Bound, Step::Bound, Step::Eof(Leg::Server)]);
        self.end_channels();
        self.run(&[Step::Pass(11)]);
        self.is_over();
    }

    /// The client goes and nobody else does anything any more: the session has `timeouts.close`.
    pub(crate) fn finish_without_server(&mut self) {
        self.run(&[Step::Ready, Step::Eof(Leg::Client), Step::Pass(11)]);
        self.is_over();
    }

    /// The server goes and the data ends: the session does not wait for its client.
    pub(crate) fn finish_without_client(&mut self) {
        // It is told, within TLS if it has asked for that.
        self.run(&[Step::TlsReady(Leg::Client), Step::Ready, Step::Eof(Leg::Server)]);
        self.end_channels();
        self.is_over();
    }

    fn end_channels(&mut self) {
        while let Some(id) = self.open.keys().next().copied() {
            self.end(id, End::Complete);
            self.drain();
        }
    }

    fn is_over(&self) {
        assert!(self.closed, "the session goes on");
        assert_eq!(self.session.poll_timeout(), None);
    }
}

/// Runs the steps twice, with every message whole and cut into pieces of `size`: after each step both sessions have
/// said and done the same. Not once they drain, since the end of a piece may be the moment to close.
pub(crate) fn run_cut(whole: &mut Shell, cut: &mut Shell, steps: &[Step], size: usize) {
    let mut is_draining = false;
    for step in steps {
        whole.run(std::slice::from_ref(step));
        match step {
            Step::Bytes { leg, data, urgent } => {
                if !cut.reads(*leg) {
                    continue;
                }
                // The shell carries out what it is asked for behind each read; how the bytes are cut must not decide when.
                let answer = std::mem::replace(&mut cut.answer, Answer::Later);
                let was_covered = cut.cover.covered[*leg];
                for (index, piece) in data.0.chunks(size).enumerate() {
                    // What is encrypted is that to its end: the rest is no text in clear because the cover ends within it.
                    // Past the bound a shell would read the rest later; here it is all one read.
                    if was_covered && !cut.cover.covered[*leg] && cut.may_say(*leg) {
                        cut.run(&[Step::LeftOver(*leg)]);
                    } else if index == 0 || cut.reads(*leg) {
                        cut.run(&[Step::Bytes { leg: *leg, data: Text(piece.to_vec()), urgent: *urgent }]);
                    } else if cut.may_say(*leg) {
                        cut.bytes(*leg, piece, *urgent);
                        cut.drain();
                    }
                }
                cut.answer = answer;
                cut.drain();
            }
            other => cut.run(std::slice::from_ref(other)),
        }
        is_draining |= matches!(step, Step::Drain);
        if is_draining {
            continue;
        }
        for leg in [Leg::Client, Leg::Server] {
            let text = |shell: &Shell| shell.sent[leg].escape_ascii().to_string();
            assert_eq!(text(cut), text(whole), "to the {leg}, cut");
        }
        assert_eq!(cut.open, whole.open);
        assert_eq!(cut.closed, whole.closed);
    }
}

/// How our own addresses begin in a line that announces one of them.
const OURS: [&str; 2] = ["203,0,113,10,", "172,16,0,10,"];

fn family(peer: &str) -> Family {
    Family::of(peer.parse::<std::net::SocketAddr>().expect("the address of a peer").ip())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn is_login(command: &[u8]) -> bool {
    CommandLine::new(Bytes::copy_from_slice(command))
        .is_ok_and(|line| matches!(line.parse(), Ok(Command::User(_) | Command::Pass | Command::Acct)))
}
