//! Invariants around a switch to TLS or back, over random interleavings and over every way to cut the bytes.

use std::sync::Arc;
use std::time::Instant;

use ftp_alg::addr::Leg;
use ftp_alg::session::{
    Action, ChannelId, ChannelReport, ClientTls, End, Event, Reason, ServerTls, Session, Terminate, TlsSettings,
};
use proptest::prelude::*;
use proptest::sample::select;

use crate::cover::Cover;
use crate::driver::{CLIENT, SERVER, announced};
use crate::tls::with;

#[derive(Debug, Clone)]
enum Step {
    Client(String),
    Server(String),
    /// The handshake that is under way is done.
    Ready(Leg),
    /// The connection to the server stands.
    Connect,
    /// Answers the oldest open `Bind`.
    Bound,
    /// The channel that was named last.
    Flushed(Leg),
    Ended(End),
}

fn lines(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::collection::vec(select(choices), 1..4).prop_map(|lines| lines.concat())
}

fn step() -> impl Strategy<Value = Step> {
    const CLIENT: &[&str] = &[
        "AUTH TLS\r\n",
        "AUTH TLS\r\n",
        "AUTH SSL\r\n",
        "AUTH X\r\n",
        "PBSZ 0\r\n",
        "PROT P\r\n",
        "PROT C\r\n",
        "CCC\r\n",
        "REIN\r\n",
        "USER a\r\n",
        "FEAT\r\n",
        "HOST a\r\n",
        "PASV\r\n",
        "RETR a\r\n",
        "STOR a\r\n",
        "ABOR\r\n",
        "NOOP\r\n",
        "QUIT\r\n",
        "NO",
    ];
    const SERVER: &[&str] = &[
        "220 x\r\n",
        "234 x\r\n",
        "200 x\r\n",
        "200 x\r\n",
        "230 x\r\n",
        "331 x\r\n",
        "150 x\r\n",
        "226 x\r\n",
        "502 x\r\n",
        "227 =172,16,0,20,19,137\r\n",
        "211-x\r\n AUTH TLS\r\n211 End\r\n",
        "2",
    ];
    let leg = || select(vec![Leg::Client, Leg::Server]);
    let end = select(vec![End::Complete, End::TlsFailed(Leg::Client), End::Reset(Leg::Server)]);
    prop_oneof![
        30 => lines(CLIENT).prop_map(Step::Client),
        30 => lines(SERVER).prop_map(Step::Server),
        30 => leg().prop_map(Step::Ready),
        15 => Just(Step::Connect),
        15 => Just(Step::Bound),
        5 => leg().prop_map(Step::Flushed),
        3 => end.prop_map(Step::Ended),
    ]
}

/// What a configuration can say.
pub(crate) fn tls() -> impl Strategy<Value = TlsSettings> {
    let terms = (any::<bool>(), prop::bool::weighted(0.2), any::<bool>())
        .prop_map(|(require, implicit, allow_ccc)| Terminate { require, implicit, allow_ccc });
    let client = prop_oneof![
        1 => Just(ClientTls::Refuse),
        1 => Just(ClientTls::Passthrough),
        6 => terms.prop_map(ClientTls::Terminate),
    ];
    let server =
        prop_oneof![3 => Just(ServerTls::Plain), 2 => Just(ServerTls::Explicit), 1 => Just(ServerTls::Implicit)];
    (client, server).prop_map(|(client, server)| {
        let server = if client == ClientTls::Passthrough { ServerTls::Plain } else { server };
        TlsSettings { client, server }
    })
}

/// A shell that knows what covers each leg, and checks what it is asked for.
struct Shell {
    session: Session,
    now: Instant,
    cover: Cover,
    connected: bool,
    binding: Vec<(ChannelId, Leg)>,
    last: Option<ChannelId>,
    closed: Option<Reason>,
    /// Everything that a server has been sent.
    heard: String,
}

impl Shell {
    fn new(tls: TlsSettings) -> Self {
        let now = Instant::now();
        let settings = Arc::new(with(tls.client, tls.server));
        let session = Session::new(settings, CLIENT.parse().unwrap(), now);
        let mut shell = Self {
            session,
            now,
            cover: Cover::new(tls),
            connected: false,
            binding: Vec::new(),
            last: None,
            closed: None,
            heard: String::new(),
        };
        shell.drain();
        shell
    }

    fn event(&mut self, event: Event<'_>) {
        self.session.handle(event, self.now);
        self.drain();
    }

    /// One message, in pieces.
    fn bytes(&mut self, leg: Leg, data: &str, size: usize) {
        if self.cover.blind || (leg == Leg::Server && !self.connected) || !self.session.wants_bytes(leg) {
            return;
        }
        let was_covered = self.cover.covered[leg];
        for piece in data.as_bytes().chunks(size) {
            if leg == Leg::Server && !self.connected {
                // The rest is of a connection that is closed.
                return;
            }
            if was_covered && !self.cover.covered[leg] {
                return self.event(Event::LeftOver { leg });
            }
            self.event(Event::Bytes { leg, data: piece, urgent: false });
        }
    }

    fn step(&mut self, step: &Step, size: usize) {
        match step {
            Step::Client(data) => self.bytes(Leg::Client, data, size),
            Step::Server(data) => self.bytes(Leg::Server, data, size),
            Step::Ready(leg) => {
                if self.cover.ready(*leg) {
                    self.event(Event::TlsReady { leg: *leg });
                }
            }
            Step::Connect if !self.connected => {
                self.connected = true;
                let (peer, local) = (SERVER.parse().unwrap(), "172.16.0.10:5".parse().unwrap());
                self.event(Event::ServerReady { peer, local });
            }
            Step::Bound if !self.binding.is_empty() => {
                let (id, leg) = self.binding.remove(0);
                self.event(Event::PortBound { id, leg, at: announced(id, leg) });
            }
            Step::Flushed(leg) => {
                if let Some(id) = self.last {
                    self.event(Event::ChannelFlushed { id, leg: *leg });
                }
            }
            Step::Ended(end) => {
                if let Some(id) = self.last.take() {
                    self.event(Event::ChannelEnded { id, report: ChannelReport { end: *end, up: 1, down: 1 } });
                }
            }
            Step::Connect | Step::Bound => {}
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.next_action() {
            self.check(&action);
            match action {
                Action::Bind { id, leg, .. } => {
                    self.last = Some(id);
                    self.binding.push((id, leg));
                }
                Action::CloseChannel { id } => {
                    let report = ChannelReport { end: End::Closed, up: 0, down: 0 };
                    self.session.handle(Event::ChannelEnded { id, report }, self.now);
                }
                _ => {}
            }
        }
    }

    fn check(&mut self, action: &Action) {
        assert!(self.closed.is_none() || matches!(action, Action::Transferred(_)), "{action:?} after Close");
        self.cover.check(action, self.connected);
        match action {
            Action::Write { leg: Leg::Server, data, .. } => {
                assert!(self.connected, "{data:?} to nobody");
                self.heard.push_str(&String::from_utf8_lossy(data));
            }
            Action::Connect { .. } => self.connected = false,
            Action::Close { why } => self.closed = Some(*why),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sec_16_nothing_is_written_during_a_handshake_or_beside_it(
        tls in tls(), steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut shell = Shell::new(tls);
        for step in &steps {
            shell.step(step, usize::MAX);
        }
    }

    /// Whether bytes come in one segment or in many, with the command that turns the connection over or behind it: the
    /// same is done, and what is behind a switch is never executed.
    #[test]
    fn sec_16_any_chunking_gives_the_same_actions(
        tls in tls(), steps in proptest::collection::vec(step(), 1..60), size in 1..12_usize,
    ) {
        let (mut whole, mut cut) = (Shell::new(tls), Shell::new(tls));
        for step in &steps {
            whole.step(step, usize::MAX);
            cut.step(step, size);
            prop_assert_eq!(&cut.cover.done.client, &whole.cover.done.client);
            prop_assert_eq!(&cut.cover.done.server, &whole.cover.done.server);
            prop_assert_eq!(cut.closed, whole.closed);
        }
    }

    /// However far a client got before: once AUTH is answered, nothing that it said in clear is executed any more.
    #[test]
    fn sec_16_what_was_said_before_auth_is_not_executed_after_it(
        before in "((NOOP|PASV|FEAT|HOST a)\r\n){0,3}", behind in "[ -~\r\n]{1,30}", server in lines(&["220 x\r\n", "200 x\r\n", "211 x\r\n", "227 =172,16,0,20,19,137\r\n"]),
    ) {
        let tls = TlsSettings { client: ClientTls::Terminate(Terminate::default()), server: ServerTls::Plain };
        let mut shell = Shell::new(tls);
        shell.step(&Step::Connect, 1);
        shell.bytes(Leg::Client, &format!("{before}AUTH TLS\r\n{behind}"), usize::MAX);
        for _ in 0..10 {
            shell.bytes(Leg::Server, &server, usize::MAX);
        }
        if shell.cover.done.client.contains("234 AUTH TLS successful.") {
            prop_assert_eq!(shell.closed, Some(Reason::LeftOver(Leg::Client)));
        }
        prop_assert!(before.starts_with(&shell.heard), "{}", shell.heard);
    }
}
