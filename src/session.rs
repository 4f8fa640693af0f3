//! One FTP session as a state machine. Pure: no sockets, no tasks, no clock.
//!
//! A [`Session`] is told what happened ([`Event`]) and says what to do ([`Action`]). It must be driven so:
//!
//! 1. [`handle`](Session::handle) an event, or [`handle_timeout`](Session::handle_timeout) when the time of
//!    [`poll_timeout`](Session::poll_timeout) has come;
//! 2. carry out [`next_action`](Session::next_action) until it returns `None`;
//! 3. ask [`poll_timeout`](Session::poll_timeout) and [`wants_bytes`](Session::wants_bytes) anew.
//!
//! After [`Action::Close`] it ignores everything, except that the ends of channels that were open then may
//! still be told, for the log.
//!
//! Commands flow from the client through `held` (they wait while a data channel is set up, or until an upload
//! is with the server) into `pending`, replies flow back through `output` (a success waits until the
//! client has the data). Which server that is may be for the client to say: `destination`, and `reception` and `hosts` for
//! the two ways of saying it. In between, `exchange` sets data channels up and `transfer` follows them, `tls` says
//! what each connection is covered by, and `families` what changes where one is IPv6 and the other IPv4.

mod activity;
mod announce;
mod client;
mod destination;
pub mod event;
mod exchange;
mod families;
mod hosts;
mod output;
mod pending;
mod reception;
mod server;
mod setup;
mod timer;
mod tls;
mod transfer;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::activity::Activity;
pub use self::destination::{Destination, Server};
pub use self::event::{Action, ChannelId, ChannelReport, End, Event, Lack, Notice, Reason, TransferRecord};
use self::exchange::Exchange;
use self::output::Output;
use self::pending::{Pending, PendingQueue};
use self::server::Route;
use self::timer::{Timer, TimerTable};
use self::tls::Tls;
pub use self::tls::{ClientTls, ServerTls, Terminate, TlsSettings};
use self::transfer::{Channels, Unhold};
use crate::addr::{Leg, PerLeg};
use crate::ftp::host::HostName;
use crate::ftp::line::LineSplitter;
use crate::ftp::name::CommandName;
use crate::ftp::reply::ReplyFramer;
use crate::nat::DataMode;
use crate::nat::policy::Policy;

/// What a listener's configuration says that a session must know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How data connections to the server are made.
    pub data_mode: DataMode,
    /// Whether clients name the server themselves (`USER user@host`).
    pub from_user: bool,
    /// Names that lead to servers of their own, by HOST or in the client's TLS handshake.
    pub hosts: Vec<HostName>,
    /// What may be dialled.
    pub policy: Policy,
    /// `policy.deny`: commands that never reach the server.
    pub denied: Vec<CommandName>,
    /// `limits.line`: the longest command line, in bytes, its terminator included.
    pub line: usize,
    /// Where there is TLS.
    pub tls: TlsSettings,
    /// `timeouts.login`
    pub login: Duration,
    /// `timeouts.control_idle`
    pub control_idle: Duration,
    /// `timeouts.partial_line`
    pub partial_line: Duration,
    /// `timeouts.close`
    pub close: Duration,
}

/// How far a control connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Flow {
    /// The peer has closed its direction.
    eof: bool,
    /// We have closed ours.
    shut: bool,
}

/// One client, one server, and the data channels between them. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    client: IpAddr,
    /// Its address, once the connection to it stands.
    server: Option<IpAddr>,
    /// What it is, unless the client is yet to name it.
    destination: Option<Destination>,
    /// USER for the server that the client has named, until there is a connection. Boxed, as it is soon over.
    introduction: Option<Box<Bytes>>,
    flow: PerLeg<Flow>,
    lines: PerLeg<LineSplitter>,
    framer: ReplyFramer,
    route: Route,
    reply: Option<server::Reply>,
    /// The server is within a line that is too long to be looked at.
    long_line: Option<server::LongLine>,
    held: client::Held,
    /// Whether the login command that is next may go out.
    login: client::Permission,
    pending: PendingQueue,
    /// Boxed, like everything that an idle session does without.
    exchange: Option<Box<Exchange>>,
    channels: Channels,
    output: Output,
    timers: TimerTable,
    tls: Tls,
    actions: VecDeque<Action>,
    user: Option<Bytes>,
    /// The client has sent its first line.
    spoken: bool,
    logged_in: bool,
    /// How many commands the server did not know before the login.
    unknown: u8,
    /// The server has welcomed us.
    greeted: bool,
    /// Urgent data came from the client; the next ABOR, STAT or QUIT carries it on.
    urgent: bool,
    /// EPSV ALL is in force (RFC 2428 §4).
    epsv_only: bool,
    /// The server does not know EPSV; PASV is sent in its place.
    epsv_refused: bool,
    /// `ALGS DISABLE64` (RFC 6384 §11).
    algs_off: bool,
    /// The transfer mode is Stream: the end of a file is the end of its connection.
    stream_mode: bool,
    /// The representation type is ASCII or EBCDIC, as it is at first (RFC 959 §3.1.1.1).
    text_type: bool,
    draining: bool,
    closed: bool,
}

impl Session {
    /// A session for the client at this address, which has just connected.
    #[must_use]
    pub fn new(settings: Arc<Settings>, client: SocketAddr, now: Instant) -> Self {
        let mut timers = TimerTable::default();
        timers.set(Timer::Login, now + settings.login);
        let lines = PerLeg { client: LineSplitter::new(settings.line), server: LineSplitter::default() };
        let tls = Tls::new(settings.tls);
        let mut session = Self {
            settings,
            client: client.ip().to_canonical(),
            server: None,
            destination: None,
            introduction: None,
            flow: PerLeg::default(),
            lines,
            framer: ReplyFramer::default(),
            route: Route::Pass,
            reply: None,
            long_line: None,
            held: client::Held::default(),
            login: client::Permission::default(),
            pending: PendingQueue::default(),
            exchange: None,
            channels: Channels::default(),
            output: Output::default(),
            timers,
            tls,
            actions: VecDeque::new(),
            user: None,
            spoken: false,
            logged_in: false,
            unknown: 0,
            greeted: false,
            urgent: false,
            epsv_only: false,
            epsv_refused: false,
            algs_off: false,
            stream_mode: true,
            text_type: true,
            draining: false,
            closed: false,
        };
        session.start_implicit_tls(Leg::Client);
        if session.settings.from_user {
            session.receive_client();
        } else if !session.awaits_name() {
            session.connect(Destination::Listener);
        }
        session
    }

    /// The name that the client last gave with USER, as it was sent.
    #[must_use]
    pub fn user(&self) -> Option<&[u8]> {
        self.user.as_deref()
    }

    /// Whether the server has welcomed us with a 220. One that hangs up or says 421 instead may have banned this
    /// address, or has no room.
    #[must_use]
    pub fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Whether the server has let the client in, at any time.
    #[must_use]
    pub fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// Whether the shell should read this control connection now. Where it should not, it still watches it
    /// for a reset.
    #[must_use]
    pub fn wants_bytes(&self, leg: Leg) -> bool {
        !self.closed
            && !self.flow[leg].eof
            && match leg {
                Leg::Client => !self.held.is_full(),
                Leg::Server => !self.output.is_full(),
            }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed { None } else { self.timers.next() }
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if self.actions.is_empty() && self.actions.capacity() > IDLE_CAPACITY {
            // An idle session keeps no room for the burst that it once had.
            self.actions.shrink_to(IDLE_CAPACITY);
        }
        action
    }

    /// Takes note of an event.
    pub fn handle(&mut self, event: Event<'_>, now: Instant) {
        if self.closed {
            if let Event::ChannelEnded { id, report } = event {
                self.channels.ended(id, report);
                self.record_transfers(now);
            }
            return;
        }
        match event {
            Event::Bytes { leg, data, .. } if self.is_text_misplaced(leg) => self.text_misplaced(leg, data),
            Event::Bytes { leg: Leg::Client, data, urgent } => {
                self.urgent |= urgent;
                self.client_bytes(data, now);
            }
            Event::Bytes { leg: Leg::Server, data, .. } => self.server_bytes(data, now),
            Event::Eof { leg: Leg::Client } if self.tls.is_switching(Leg::Client) => self.close(Reason::ClientClosed),
            Event::Eof { leg: Leg::Client } => self.client_eof(now),
            Event::Eof { leg: Leg::Server } => self.server_eof(now),
            // A ban looks like this as well: Windows resets a connection that it closes with unread bytes.
            Event::Reset { leg: Leg::Server } if !self.has_server_spoken() => self.hung_up(),
            Event::Reset { leg } => self.close(Reason::Reset(leg)),
            Event::ServerReady { peer, .. } => {
                self.server = Some(peer.ip().to_canonical());
                self.watch_for_options();
                self.start_implicit_tls(Leg::Server);
            }
            Event::ServerFailed => {
                self.send_client(Bytes::from_static(UNAVAILABLE));
                self.close_when_told(Reason::ServerUnavailable);
            }
            Event::ServerRefused => self.server_refused(),
            Event::NameExpected { name } => self.tls.expected = HostName::parse(name.as_bytes()).map(Box::new),
            Event::TlsReady { leg } => self.tls_ready(leg),
            Event::TlsFailed { leg: Leg::Server } => self.server_unprotected(),
            Event::TlsFailed { leg: Leg::Client } => self.close(Reason::TlsFailed(Leg::Client)),
            Event::LeftOver { leg } => self.close(Reason::LeftOver(leg)),
            Event::PortBound { id, leg, at } => self.port_bound(id, leg, at),
            Event::PortRefused { id, leg, lacks } => self.port_refused(id, leg, lacks),
            Event::ChannelFlushed { id, leg } => self.channels.flushed(id, leg),
            Event::ChannelEnded { id, report } => self.channel_ended(id, report),
            Event::LoginPermitted => self.login_permitted(),
            Event::LoginRefused => self.login_refused(),
            Event::Drain => self.draining = true,
        }
        self.settle(now);
    }

    /// Takes note of the time.
    pub fn handle_timeout(&mut self, now: Instant) {
        while !self.closed
            && let Some(timer) = self.timers.expired(now)
        {
            match timer {
                Timer::Login => {
                    self.give_up(Reason::LoginTimeout, "421 Login timeout, closing control connection.\r\n")
                }
                Timer::Idle => self.give_up(Reason::IdleTimeout, "421 Idle timeout, closing control connection.\r\n"),
                Timer::Line => {
                    self.give_up(Reason::LineTimeout, "421 Command timeout, closing control connection.\r\n")
                }
                Timer::Close => self.close(Reason::ClientClosed),
                Timer::Straggler => self.passive_unanswered(),
                Timer::Verdict => self.server_is_silent(),
            }
        }
        self.settle(now);
    }

    /// Goes on with whatever has become possible, and sets the timers.
    fn settle(&mut self, now: Instant) {
        if !self.closed {
            self.release();
            self.advance(now);
            self.pass_fin_to_server();
        }
        self.record_transfers(now);
        self.close_if_done();
        self.set_timers(now);
    }

    fn channel_ended(&mut self, id: ChannelId, report: ChannelReport) {
        match &mut self.exchange {
            Some(exchange) if exchange.id == id => {
                exchange.ended = true;
                self.port_refused(id, Leg::Client, Lack::Port);
            }
            _ => self.channels.ended(id, report),
        }
    }

    fn record_transfers(&mut self, now: Instant) {
        let finished: Vec<_> = self.channels.take_finished(self.closed, now).collect();
        for record in finished {
            self.act(Action::Transferred(Box::new(record)));
        }
    }

    /// The client's FIN, behind everything that the client sent before it, data included: a server that saw it
    /// first could take an upload for abandoned.
    fn pass_fin_to_server(&mut self) {
        let is_passed_on = self.held.is_empty() && self.exchange.is_none() && !self.channels.is_any_upload_unflushed();
        let is_open = self.server.is_some() && !self.tls.holds_commands();
        if self.flow.client.eof && is_passed_on && is_open && !self.flow.server.eof && !self.flow.server.shut {
            self.flow.server.shut = true;
            self.act(Action::Shutdown { leg: Leg::Server });
        }
    }

    /// Sends the client what no longer needs to be held.
    fn release(&mut self) {
        if !self.output.is_holding() {
            return;
        }
        let (channels, actions) = (&mut self.channels, &mut self.actions);
        let released = self.output.release(
            |id| channels.get_mut(id).map_or(transfer::Verdict::Pass, |channel| channel.verdict()),
            |data| actions.push_back(Action::Write { leg: Leg::Client, data, urgent: false }),
        );
        for reply in released {
            self.transfer_answered(reply.channel, reply.code);
        }
    }

    /// The client has got, or will get next, the final reply of a transfer.
    fn transfer_answered(&mut self, id: ChannelId, code: u16) {
        if let Some(transfer) = self.channels.get_mut(id).and_then(transfer::Channel::transfer_mut) {
            transfer.answered = true;
            transfer.code = Some(code);
        }
    }

    /// The data connection came to nothing and the server has not said so.
    fn server_is_silent(&mut self) {
        let failures: Vec<_> = self.channels.failures().collect();
        for (id, failure) in failures {
            if self.pending.answer_transfer(id, failure.reply()) {
                self.transfer_answered(id, failure.code());
            }
        }
        self.flush_own();
    }

    /// Closes when nothing is left to do.
    fn close_if_done(&mut self) {
        if self.closed {
            return;
        }
        if self.flow.server.eof && !self.output.is_holding() && !self.channels.is_any_moving() {
            self.close(if self.flow.client.eof { Reason::ClientClosed } else { Reason::ServerClosed });
        } else if self.draining && self.is_idle() && !self.is_within_reply() {
            self.give_up(Reason::Drained, "421 Service is stopping, closing control connection.\r\n");
        }
    }

    /// At a command boundary, with nothing that goes on.
    fn is_idle(&self) -> bool {
        !self.pending.is_outstanding()
            && self.held.is_empty()
            && self.exchange.is_none()
            && !self.lines.client.is_mid_line()
            && !self.output.is_holding()
            && !self.channels.is_any_open()
            && !self.tls.holds_commands()
            && !self.tls.is_blind()
    }

    /// The server has begun a reply, or a line of any length, that is not over.
    fn is_within_reply(&self) -> bool {
        self.framer.is_inside() || self.long_line.is_some()
    }

    fn set_timers(&mut self, now: Instant) {
        if self.is_idle() {
            self.timers.set(Timer::Idle, now + self.settings.control_idle);
        } else {
            self.timers.stop(Timer::Idle);
        }
        // Never while we do not read: what was read beyond the bound has not been split yet.
        if self.lines.client.is_mid_line() {
            self.timers.start(Timer::Line, now + self.settings.partial_line);
        } else {
            self.timers.stop(Timer::Line);
        }
        // A handshake has as much time as a login, and AUTH or REIN may have ended one.
        if self.tls.is_blind() || (self.logged_in && !self.tls.holds_commands()) {
            self.timers.stop(Timer::Login);
        } else {
            self.timers.start(Timer::Login, now + self.settings.login);
        }
        // A server in the middle of a reply is not silent.
        let is_replying = self.reply.is_some();
        if !is_replying && self.channels.failures().any(|(id, _)| self.pending.awaits_transfer(id)) {
            self.timers.start(Timer::Verdict, now + VERDICT_WAIT);
        } else {
            self.timers.stop(Timer::Verdict);
        }
    }

    /// Says why, and closes.
    fn give_up(&mut self, why: Reason, farewell: &'static str) {
        // After a timeout nobody waits for held replies; they are the server's word and go first.
        self.channels.unhold(Unhold::ServerGone);
        self.release();
        self.send_client(Bytes::from_static(farewell.as_bytes()));
        self.close(why);
    }

    fn close(&mut self, why: Reason) {
        if !self.closed {
            self.closed = true;
            // Nobody will hear an answer any more: how their data connections end is all that is to be known.
            self.channels.answer_all();
            self.act(Action::Close { why });
        }
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// To the client, behind whatever is held. Nothing follows our FIN.
    fn send_client(&mut self, bytes: Bytes) {
        if !self.flow.client.shut
            && !bytes.is_empty()
            && let Some(data) = self.output.put(bytes)
        {
            self.act(Action::Write { leg: Leg::Client, data, urgent: false });
        }
    }

    /// To the server. Nothing follows our FIN, nor its own: a socket that its peer has closed answers by a reset.
    fn send_server(&mut self, data: Bytes, urgent: bool) {
        if !self.flow.server.shut && !self.flow.server.eof {
            self.act(Action::Write { leg: Leg::Server, data, urgent });
        }
    }

    /// A reply of our own, in its turn.
    fn answer(&mut self, reply: impl Into<Bytes>) {
        self.pending.push(Pending::Own(reply.into()));
        self.flush_own();
    }

    /// Sends the replies of our own whose turn has come; never into the middle of a reply of the server.
    fn flush_own(&mut self) {
        while !self.is_within_reply()
            && let Some(reply) = self.pending.pop_own()
        {
            self.send_client(reply);
        }
    }
}

const UNAVAILABLE: &[u8] = b"421 Service not available, closing control connection.\r\n";

/// What a client is told from whose address too many logins have failed, in a session or instead of one.
pub const TOO_MANY_FAILURES: &str = "421 Too many failed logins from your address, try again later.\r\n";

/// Room for actions that an idle session keeps: what one forwarded line needs.
const IDLE_CAPACITY: usize = 4;

/// How long a server may stay silent about a data connection that never came about before we tell the client.
/// vsftpd gives up after 60 s (`accept_timeout`, `connect_timeout`) and then answers for itself.
const VERDICT_WAIT: Duration = Duration::from_secs(65);
