//! Drives a [`Session`] without sockets: feeds events, answers `Bind`, and records what goes out on each leg.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ftp_alg::addr::{Announced, Leg, PerLeg};
use ftp_alg::ftp::line::MAX_LINE;
use ftp_alg::nat::DataMode;
use ftp_alg::nat::policy::Policy;
use ftp_alg::session::{
    Action, ChannelId, ChannelReport, Destination, End, Event, Notice, Reason, Session, Settings, TlsSettings,
};

pub(crate) const CLIENT: &str = "198.51.100.7:40000";
pub(crate) const SERVER: &str = "172.16.0.20:21";
pub(crate) const CLIENT_V6: &str = "[2001:db8::7]:40000";
pub(crate) const SERVER_V6: &str = "[fd00::20]:21";
const LOCAL: &str = "172.16.0.10:50000";
/// Announced to clients; the first port that is "bound" is 20001, whose tuple is `78,33`.
const PUBLIC: &str = "203.0.113.10";
/// Announced to the server; the first port that is "bound" is 30001, whose tuple is `117,49`.
const INSIDE: &str = "172.16.0.10";

pub(crate) const LOGIN: Duration = Duration::from_secs(60);
pub(crate) const IDLE: Duration = Duration::from_secs(900);
pub(crate) const PARTIAL: Duration = Duration::from_secs(61);
pub(crate) const CLOSE: Duration = Duration::from_secs(10);

/// A session, its clock, and everything that it has said so far.
pub(crate) struct Driver {
    pub(crate) session: Session,
    pub(crate) now: Instant,
    /// Every action since the last [`take_actions`](Self::take_actions).
    actions: Vec<Action>,
    sent: PerLeg<Vec<u8>>,
    /// Whether `Bind` is answered by `PortBound` at once.
    pub(crate) binds: bool,
    /// Whether `AskLogin` is answered by `LoginPermitted` at once, and not worth a mention.
    pub(crate) permits: bool,
    /// The channel last named in an action.
    pub(crate) last: Option<ChannelId>,
}

pub(crate) fn settings(data_mode: DataMode) -> Settings {
    Settings {
        data_mode,
        from_user: false,
        hosts: Vec::new(),
        policy: Policy::default(),
        denied: Vec::new(),
        line: MAX_LINE,
        tls: TlsSettings::default(),
        login: LOGIN,
        control_idle: IDLE,
        partial_line: PARTIAL,
        close: CLOSE,
    }
}

impl Driver {
    /// A session whose server has been connected and has not greeted.
    pub(crate) fn connected(data_mode: DataMode) -> Self {
        let mut driver = Self::unconnected(settings(data_mode), CLIENT);
        driver.connect(SERVER);
        driver
    }

    pub(crate) fn unconnected(settings: Settings, client: &str) -> Self {
        let now = Instant::now();
        let session = Session::new(Arc::new(settings), client.parse().unwrap(), now);
        let (actions, sent) = (Vec::new(), PerLeg::default());
        let mut driver = Self { session, now, actions, sent, binds: true, permits: true, last: None };
        driver.drain();
        // Every session begins so; what the tests look at comes behind it.
        driver.actions.retain(|action| !matches!(action, Action::Connect { to: Destination::Listener }));
        driver
    }

    /// Logged in; nothing recorded.
    pub(crate) fn new(data_mode: DataMode) -> Self {
        let mut driver = Self::connected(data_mode);
        driver.log_in();
        driver
    }

    /// Both control connections are IPv6.
    pub(crate) fn v6(data_mode: DataMode) -> Self {
        Self::between(data_mode, CLIENT_V6, SERVER_V6)
    }

    pub(crate) fn between(data_mode: DataMode, client: &str, server: &str) -> Self {
        let mut driver = Self::unconnected(settings(data_mode), client);
        driver.connect(server);
        driver.log_in();
        driver
    }

    pub(crate) fn connect(&mut self, server: &str) {
        self.event(Event::ServerReady { peer: server.parse().unwrap(), local: LOCAL.parse().unwrap() });
    }

    pub(crate) fn log_in(&mut self) {
        self.server("220 ready\r\n");
        self.client("USER a\r\n");
        self.server("331 password\r\n");
        self.client("PASS b\r\n");
        self.server("230 in\r\n");
        self.forget();
    }

    pub(crate) fn event(&mut self, event: Event<'_>) {
        self.session.handle(event, self.now);
        self.drain();
    }

    pub(crate) fn client(&mut self, data: impl AsRef<[u8]>) {
        self.event(Event::Bytes { leg: Leg::Client, data: data.as_ref(), urgent: false });
    }

    pub(crate) fn client_urgent(&mut self, data: impl AsRef<[u8]>) {
        self.event(Event::Bytes { leg: Leg::Client, data: data.as_ref(), urgent: true });
    }

    pub(crate) fn server(&mut self, data: impl AsRef<[u8]>) {
        self.event(Event::Bytes { leg: Leg::Server, data: data.as_ref(), urgent: false });
    }

    /// Lets time pass, stopping at each deadline on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.next_action() {
            match &action {
                Action::Write { leg, data, .. } => self.sent[*leg].extend_from_slice(data),
                Action::Bind { id, .. } | Action::Dial { id, .. } => self.last = Some(*id),
                _ => {}
            }
            if self.permits && matches!(action, Action::AskLogin | Action::LoginAnswered { .. }) {
                if action == Action::AskLogin {
                    self.session.handle(Event::LoginPermitted, self.now);
                }
                continue;
            }
            self.actions.push(action.clone());
            if let Action::Bind { id, leg, .. } = action
                && self.binds
            {
                let at = announced(id, leg);
                self.session.handle(Event::PortBound { id, leg, at }, self.now);
            }
        }
    }

    /// The channel last named.
    pub(crate) fn id(&self) -> ChannelId {
        self.last.expect("no channel was named")
    }

    pub(crate) fn bound(&mut self, leg: Leg) {
        let id = self.id();
        self.event(Event::PortBound { id, leg, at: announced(id, leg) });
    }

    pub(crate) fn flushed(&mut self, leg: Leg) {
        let id = self.id();
        self.event(Event::ChannelFlushed { id, leg });
    }

    pub(crate) fn ended(&mut self, end: End) {
        let id = self.id();
        self.channel_ended(id, end);
    }

    pub(crate) fn channel_ended(&mut self, id: ChannelId, end: End) {
        self.event(Event::ChannelEnded { id, report: ChannelReport { end, up: 1, down: 2 } });
    }

    /// A transfer that went well: both directions flushed, both ends closed.
    pub(crate) fn completed(&mut self) {
        self.flushed(Leg::Client);
        self.flushed(Leg::Server);
        self.ended(End::Complete);
    }

    /// What was written on this leg since it was last asked for.
    pub(crate) fn sent(&mut self, leg: Leg) -> String {
        let sent = std::mem::take(&mut self.sent[leg]);
        sent.escape_ascii().to_string().replace("\\r\\n", "\n")
    }

    pub(crate) fn sent_raw(&mut self, leg: Leg) -> Vec<u8> {
        std::mem::take(&mut self.sent[leg])
    }

    pub(crate) fn client_got(&mut self) -> String {
        self.sent(Leg::Client)
    }

    pub(crate) fn server_got(&mut self) -> String {
        self.sent(Leg::Server)
    }

    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Everything but bytes since it was last asked for, in short form.
    pub(crate) fn deeds(&mut self) -> Vec<String> {
        self.take_actions().iter().filter_map(deed).collect()
    }

    pub(crate) fn forget(&mut self) {
        self.actions.clear();
        self.sent = PerLeg::default();
    }

    pub(crate) fn closed(&self) -> Option<Reason> {
        self.actions.iter().find_map(|action| match action {
            Action::Close { why } => Some(*why),
            _ => None,
        })
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        let notice = |action: &Action| if let Action::Notice(notice) = action { Some(notice.clone()) } else { None };
        self.actions.iter().filter_map(notice).collect()
    }
}

/// What the peer of this leg is told for this channel.
pub(crate) fn announced(id: ChannelId, leg: Leg) -> Announced {
    let (ip, base) = match leg {
        Leg::Client => (PUBLIC, 20_000),
        Leg::Server => (INSIDE, 30_000),
    };
    let port = base + u16::try_from(id.0).expect("few channels in a test");
    Announced(SocketAddr::new(ip.parse().unwrap(), port))
}

/// An action in short form; `None` for bytes without urgency and for the beginning of plain data.
pub(crate) fn deed(action: &Action) -> Option<String> {
    Some(match action {
        Action::Write { urgent: false, .. } => return None,
        Action::Write { leg, data, urgent: true } => format!("urgent to {leg}: {}", data.escape_ascii()),
        Action::Shutdown { leg } => format!("FIN to {leg}"),
        Action::Bind { id, leg, .. } => format!("bind {} {leg}", id.0),
        Action::Dial { id, leg, target } => format!("dial {} {leg} {}", id.0, target.addr()),
        Action::CloseChannel { id } => format!("close {}", id.0),
        Action::AskLogin => "ask login".into(),
        Action::LoginAnswered { failed } => format!("login failed: {failed}"),
        Action::StartTls { leg } => format!("TLS with {leg}"),
        Action::StopTls { leg } => format!("no TLS with {leg}"),
        Action::Connect { to: Destination::Listener } => "connect".to_owned(),
        Action::Connect { to: Destination::Host(index) } => format!("connect host {index}"),
        Action::Connect { to: Destination::Named(server) } => format!("connect {}:{}", server.host, server.port),
        Action::PassThrough => "pass through".to_owned(),
        Action::Begin { protect: PerLeg { client: false, server: false }, .. } => return None,
        Action::Begin { id, protect: PerLeg { client, server } } => {
            format!("begin {}{}{}", id.0, if *client { " client" } else { "" }, if *server { " server" } else { "" })
        }
        Action::Transferred(record) => format!("transferred {:?} {:?}", record.verb, record.code),
        Action::Notice(notice) => format!("{notice:?}"),
        Action::Close { why } => format!("end: {why:?}"),
    })
}
