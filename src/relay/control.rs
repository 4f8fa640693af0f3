//! One task per session: pump bytes between two sockets and the [`Session`], and carry out its actions.

mod switch;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::admission::Place;
use super::channel::{self, ChannelEvent, Order};
use super::encryption::Keys;
use super::journal::Journal;
use super::live::Entry;
use super::logins::{Answer, Attempts};
use super::passthrough::Passed;
use super::upstream::{ConnectError, Connected};
use super::upstreams::{Group, Seat};
use super::wire::{Batching, Received, Wire};
use super::{Shared, finished, socket};
use crate::addr::{Leg, PerLeg, canonical};
use crate::metrics::Refused;
use crate::session::{Action, ChannelId, Event, Notice, Reason, Session, TransferRecord};

/// As much as is read at once: a FEAT reply, or a screenful of pipelined commands. On the stack.
const READ_SIZE: usize = 4096;

/// The addresses of a control connection, all canonical.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint {
    /// Who is at the other end. Behind a load balancer that is not whom the packets come from.
    pub(super) peer: SocketAddr,
    /// Our end: what is bound to connect to the peer, and where it is waited for.
    pub(super) local: SocketAddr,
    /// Our end as the peer knows it: where a client has connected to, which behind a load balancer is not ours. On the
    /// server's leg, where we connected, it is `local`.
    pub(super) dialled: SocketAddr,
}

impl Endpoint {
    /// Those of a connection that nobody stands in between.
    pub(super) fn direct(peer: SocketAddr, local: SocketAddr) -> Self {
        let local = canonical(local);
        Self { peer: canonical(peer), local, dialled: local }
    }

    /// Those of a client that has connected to `dialled`, a load balancer, which has connected to us.
    pub(super) fn behind(peer: SocketAddr, dialled: SocketAddr, local: SocketAddr) -> Self {
        Self { dialled: canonical(dialled), ..Self::direct(peer, local) }
    }
}

/// The addresses of both.
pub(super) type Endpoints = PerLeg<Endpoint>;

/// Serves one client, who holds `place`, from its connect to its end.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream, at: Box<Endpoint>, place: Place) {
    let journal = Journal::open(&shared.config.name, at.peer);
    match Control::new(shared, stream, at, journal, place) {
        Ok(control) => control.run().await,
        Err(error) => tracing::debug!(%error, "cannot serve a client"),
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<(Connected, Seat), ConnectError>> + Send>>;

struct Control {
    shared: Arc<Shared>,
    session: Session,
    journal: Journal,
    client: Wire,
    /// Boxed, since it is handed on from where the client was accepted.
    client_at: Box<Endpoint>,
    server: Option<(Wire, Endpoint)>,
    channels: Channels,
    attempts: Attempts,
    /// A login that must wait, until it is worth asking again. Boxed, like everything that an idle session does without.
    login_wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    keys: Keys,
    /// The entry of a session that is passed through. Boxed, since most are not.
    passed: Option<Box<Passed>>,
    /// The connection to the server, while it is being made. Boxed for the same reason.
    connecting: Option<Connecting>,
    /// The servers that the session is with one of, or is being connected to.
    upstream: Option<Arc<Group>>,
    /// Which of them it is with.
    seat: Option<Seat>,
    closed: Option<Reason>,
    live: Entry,
    _place: Place,
}

/// The channels of a session, as far as the shell must know them. An idle session has no mailbox.
#[derive(Default)]
struct Channels {
    /// Every channel that has not reported its end. One that was closed takes no more orders.
    open: Vec<(ChannelId, Option<UnboundedSender<Order>>)>,
    mailbox: Option<(UnboundedSender<ChannelEvent>, UnboundedReceiver<ChannelEvent>)>,
}

impl Channels {
    async fn event(&mut self) -> Option<ChannelEvent> {
        match &mut self.mailbox {
            Some((_, events)) => events.recv().await,
            None => std::future::pending().await,
        }
    }

    /// What one of them has said already.
    fn said(&mut self) -> Option<ChannelEvent> {
        self.mailbox.as_mut().and_then(|(_, events)| events.try_recv().ok())
    }

    /// Gives an order to a channel, which `open` starts if it is new.
    fn order(
        &mut self,
        id: ChannelId,
        order: Order,
        open: impl FnOnce(UnboundedSender<ChannelEvent>) -> UnboundedSender<Order>,
    ) {
        let index = self.open.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
            let (events, _) = self.mailbox.get_or_insert_with(unbounded_channel);
            self.open.push((id, Some(open(events.clone()))));
            self.open.len() - 1
        });
        if self.open[index].1.as_ref().is_none_or(|orders| orders.send(order).is_err()) {
            tracing::trace!("channel ended before its order came");
        }
    }

    /// The channel's task sees that its orders have ended.
    fn close(&mut self, id: ChannelId) {
        if let Some((_, orders)) = self.open.iter_mut().find(|(open, _)| *open == id) {
            *orders = None;
        }
    }

    /// Lets go of all channels, and returns what they still say: each ends at once.
    async fn close_all(self) -> Vec<ChannelEvent> {
        drop(self.open);
        let mut last = Vec::new();
        if let Some((sender, mut events)) = self.mailbox {
            drop(sender);
            while let Some(event) = events.recv().await {
                last.push(event);
            }
        }
        last
    }

    /// A channel has reported its end, the last that it says.
    fn ended(&mut self, id: ChannelId) {
        self.open.retain(|(open, _)| *open != id);
        if self.open.is_empty() {
            *self = Self::default();
        }
    }
}

/// What woke the task.
enum Woken {
    /// A leg can be read or written; the flag says whether it may be read.
    Leg(Leg, io::Result<()>, bool),
    Connected(Result<(Connected, Seat), ConnectError>),
    Channel(Option<ChannelEvent>),
    Login,
    Time,
    Drain,
    Killed,
}

impl Control {
    /// Boxed: an async function has room for its arguments and for what it makes of them, each time they are handed on.
    fn new(
        shared: Arc<Shared>,
        stream: TcpStream,
        client_at: Box<Endpoint>,
        journal: Journal,
        place: Place,
    ) -> io::Result<Box<Self>> {
        let client = Wire::new(socket::watch_control(stream)?, Batching::Together);
        let session = Session::new(Arc::clone(&shared.settings), client_at.peer, Instant::now());
        Ok(Box::new(Self {
            attempts: Attempts::new(&shared.logins, client_at.peer.ip()),
            login_wait: None,
            live: shared.process.live.enter(journal.session(), &shared, client_at.peer),
            _place: place,
            shared,
            session,
            journal,
            client,
            client_at,
            server: None,
            channels: Channels::default(),
            keys: Keys::default(),
            passed: None,
            connecting: None,
            upstream: None,
            seat: None,
            closed: None,
        }))
    }

    async fn run(mut self: Box<Self>) {
        let shared = Arc::clone(&self.shared);
        let mut sleep = pin!(tokio::time::sleep_until(Instant::now().into()));
        let mut draining = false;
        let why = loop {
            self.carry_out();
            if let Some(why) = self.closed {
                break why;
            }
            self.live.update(&self.session, self.passed.is_some());
            let deadline = self.session.poll_timeout();
            if let Some(at) = deadline
                && sleep.deadline() != at.into()
            {
                sleep.as_mut().reset(at.into());
            }
            // Some commands are answered here: a client that reads no answers may send no more of them.
            let has_room = self.has_room(Leg::Client);
            let read_client = self.session.wants_bytes(Leg::Client) && has_room && self.has_room(Leg::Server);
            let read_server = self.session.wants_bytes(Leg::Server) && has_room;
            let read_client = read_client || self.client.is_handshaking();
            let read_server = read_server || self.server.as_ref().is_some_and(|(wire, _)| wire.is_handshaking());
            let woken = tokio::select! {
                ready = self.client.ready(read_client) => Woken::Leg(Leg::Client, ready, read_client),
                ready = ready_if_there(self.server.as_mut(), read_server) => Woken::Leg(Leg::Server, ready, read_server),
                event = self.channels.event() => Woken::Channel(event),
                () = finished(&mut self.login_wait) => Woken::Login,
                connected = finished(&mut self.connecting) => Woken::Connected(connected),
                () = &mut sleep, if deadline.is_some() => Woken::Time,
                () = shared.process.stop.cancelled(), if !draining => Woken::Drain,
                () = self.live.killed() => Woken::Killed,
            };
            match woken {
                Woken::Leg(leg, Ok(()), read) => {
                    // It may be why the server says what is to be read: a data connection that came to no TLS is cut, and the
                    // server's 426 is here as soon as the channel's word.
                    while let Some(event) = self.channels.said() {
                        self.channel_event(Some(event));
                    }
                    self.serve_leg(leg, read);
                    if let Some(seat) = self.seat.as_mut().filter(|_| leg == Leg::Server && self.session.is_greeted()) {
                        seat.greeted();
                    }
                    // A peer that sends faster than we read never makes us wait: the other sessions of this thread,
                    // and its timers, want their turn.
                    tokio::task::coop::consume_budget().await;
                }
                Woken::Leg(leg, Err(_), _) => self.handle(Event::Reset { leg }),
                Woken::Channel(event) => self.channel_event(event),
                Woken::Connected(connected) => {
                    self.connecting = None;
                    self.connected(connected);
                }
                Woken::Login => {
                    self.login_wait = None;
                    self.ask_login();
                }
                Woken::Time => self.session.handle_timeout(Instant::now()),
                Woken::Drain => {
                    draining = true;
                    self.handle(Event::Drain);
                }
                Woken::Killed => self.session.kill(),
            }
        };
        // It would keep its place among those that connect for as long as the farewell takes.
        self.connecting = None;
        Box::pin(self.end(why)).await;
    }

    fn handle(&mut self, event: Event<'_>) {
        self.session.handle(event, Instant::now());
    }

    fn has_room(&self, leg: Leg) -> bool {
        match leg {
            Leg::Client => self.client.has_room(),
            Leg::Server => self.server.as_ref().is_none_or(|(wire, _)| wire.has_room()),
        }
    }

    fn wire(&mut self, leg: Leg) -> Option<&mut Wire> {
        match leg {
            Leg::Client => Some(&mut self.client),
            Leg::Server => self.server.as_mut().map(|(wire, _)| wire),
        }
    }

    fn connected(&mut self, connected: Result<(Connected, Seat), ConnectError>) {
        match connected {
            Ok((Connected { io, at }, seat)) => {
                self.seat = Some(seat);
                self.server = Some((Wire::new(io, Batching::OneByOne), at));
                self.live.server(Some(at.peer));
                self.handle(Event::ServerReady { peer: at.peer, local: at.local });
            }
            Err(error) => {
                if let Some(upstream) = &self.upstream {
                    self.journal.upstream_failed(upstream, &error);
                }
                self.handle(match error {
                    ConnectError::NotPermitted | ConnectError::Loop => Event::ServerRefused,
                    ConnectError::OtherFamily | ConnectError::Failed(_) => Event::ServerFailed,
                });
            }
        }
    }

    /// Something can be done on a leg: write what is queued, and read once.
    fn serve_leg(&mut self, leg: Leg, read: bool) {
        let Some(wire) = self.wire(leg) else { return };
        wire.flush();
        let broken = wire.is_broken();
        let mut buffer = [0; READ_SIZE];
        // What a peer said before it reset the connection is still its word.
        let received = if read { wire.read(&mut buffer) } else { Received::Nothing };
        // Comes before what the peer has sent behind it.
        self.handshake(leg);
        match received {
            Received::Bytes { count, urgent } => {
                self.handle(Event::Bytes { leg, data: &buffer[..count], urgent });
            }
            // Asking for the socket's error has taken it: reading finds an end instead.
            Received::Eof | Received::Nothing if broken => self.handle(Event::Reset { leg }),
            Received::Eof => self.handle(Event::Eof { leg }),
            Received::Reset => self.handle(Event::Reset { leg }),
            Received::Nothing => {}
        }
    }

    fn channel_event(&mut self, event: Option<ChannelEvent>) {
        let Some(event) = event else { return };
        if let Some(id) = event.ended() {
            self.channels.ended(id);
            self.live.channel_ended(id);
        }
        self.handle(event.as_event());
    }

    /// Carries out what the session wants. A write that fails shows when the leg is next waited for.
    fn carry_out(&mut self) {
        while let Some(action) = self.session.next_action() {
            self.act(action);
        }
        self.client.flush();
        if let Some((wire, _)) = &mut self.server {
            wire.flush();
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Write { leg, data, urgent } => {
                if let Some(wire) = self.wire(leg) {
                    wire.send(data, urgent);
                }
            }
            Action::Shutdown { leg } => {
                if let Some(wire) = self.wire(leg) {
                    wire.shutdown();
                }
            }
            Action::Bind { id, leg, carries } => self.order(id, Order::Bind(leg, carries)),
            Action::Dial { id, leg, target } => self.order(id, Order::Dial(leg, target)),
            Action::Begin { id, protect } => self.begin(id, protect),
            Action::StartTls { leg } => self.start_tls(leg),
            Action::StopTls { leg } => self.stop_tls(leg),
            Action::Connect { to } => self.connect(&to),
            Action::PassThrough => self.pass_through(),
            Action::CloseChannel { id } => self.channels.close(id),
            Action::AskLogin => self.ask_login(),
            Action::LoginAnswered { failed } => self.login_answered(failed),
            Action::Transferred(record) => self.transferred(&record),
            Action::Notice(notice) => self.notice(&notice),
            Action::Close { why } => self.closed = Some(why),
        }
    }

    fn transferred(&mut self, record: &TransferRecord) {
        let user = self.session.user();
        self.shared.metrics.transferred(record);
        self.journal.transferred(user, record);
        self.shared.process.transfers.record(self.client_at.peer.ip(), user, record);
    }

    /// The session asks whether its client may log in.
    fn ask_login(&mut self) {
        match self.attempts.ask() {
            Answer::Permitted => self.handle(Event::LoginPermitted),
            Answer::Refused => self.handle(Event::LoginRefused),
            Answer::NotYet => self.login_wait = Some(Box::pin(self.attempts.wait())),
        }
    }

    fn login_answered(&mut self, failed: bool) {
        if failed {
            self.shared.metrics.login_failed();
        }
        self.attempts.answered(failed);
    }

    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Refused(_) => self.shared.metrics.refused(Refused::Port),
            Notice::ServerPort(_) => self.shared.metrics.refused(Refused::ServerPort),
            _ => {}
        }
        self.journal.notice(notice);
    }

    fn order(&mut self, id: ChannelId, order: Order) {
        let Some((_, server)) = &self.server else { return };
        let (endpoints, shared) = (Endpoints { client: *self.client_at, server: *server }, &self.shared);
        let live = &self.live;
        self.channels.order(id, order, |events| channel::open(id, endpoints, shared, live.channel(id), events));
    }

    async fn end(mut self: Box<Self>, why: Reason) {
        // The farewell may take its time; nothing new belongs to this session in it.
        self.passed = None;
        self.live.closing();
        self.shared.metrics.session_ended(why);
        // What still runs is cut, and looks cut; how far it had come is for the log.
        for event in std::mem::take(&mut self.channels).close_all().await {
            self.handle(event.as_event());
        }
        while let Some(action) = self.session.next_action() {
            self.act(action);
        }
        let config = &self.shared.config;
        let chosen = config.upstream.fixed().is_none() || !config.hosts.is_empty();
        let server = self.server.as_ref().filter(|_| chosen).map(|(_, at)| at.peer);
        self.journal.close(self.session.user(), server, why);
        let client_left = matches!(why, Reason::ClientClosed | Reason::Reset(Leg::Client));
        // After a login nothing is left to guess; a server that is out of step may owe an answer all the same.
        self.attempts.end(client_left && !self.session.is_logged_in());
        self.judge_server(why);
        if why.is_abrupt() {
            // Zero linger: both peers see a reset.
            return;
        }
        let limit = self.shared.config.timeouts.close;
        let Self { client, server, .. } = *self;
        let server = async {
            if let Some((wire, _)) = server {
                wire.finish(limit).await;
            }
        };
        tokio::join!(client.finish(limit), server);
    }

    /// What the end of the session says about its server.
    fn judge_server(&mut self, why: Reason) {
        let Some(seat) = &mut self.seat else { return };
        if self.session.is_greeted() {
            seat.greeted();
        } else if matches!(why, Reason::ServerClosedBeforeGreeting | Reason::ServerClosed | Reason::Reset(Leg::Server))
        {
            seat.hung_up();
        }
    }
}

async fn ready_if_there(server: Option<&mut (Wire, Endpoint)>, read: bool) -> io::Result<()> {
    match server {
        Some((wire, _)) => wire.ready(read).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that a function returns.
    fn future_of<A, B, C, D, F>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Idle sessions are what there are most of, and 8 KiB is what one may take in all (DESIGN §6), its name, its queue
    /// of replies and what the runtime keeps of two sockets and a timer included. A quarter is for the task.
    #[test]
    fn an_idle_session_is_small() {
        let (future, control) = (future_of(serve), size_of::<Control>());
        assert!(future + control <= 2048, "{future} bytes for the future, {control} for the state");
    }
}
