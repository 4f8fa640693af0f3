//! One task per data channel: get both ends, then copy.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::control::Endpoints;
use super::copy::secured::{self, copy_secured};
use super::copy::{CopyEnd, Flushed, Moved, copy_counted};
use super::encryption::{self, Keys};
use super::ports::{Lease, LeaseError, LeaseLost};
use super::socket;
use super::{Shared, finished, proxy_header};
use crate::addr::{Announced, Family, Leg, PerLeg};
use crate::config::tls::ClientTls;
use crate::config::{FTP_DATA, SourcePort};
use crate::metrics::Counted;
use crate::nat::policy::DialTarget;
use crate::session::{ChannelId, ChannelReport, End, Event, Lack};

/// What a session wants of a channel. Dropping the sender closes the channel.
#[derive(Debug)]
pub(super) enum Order {
    /// Listen, and say what the peer is to be told: an address of this family, or a port alone.
    Bind(Leg, Option<Family>),
    Dial(Leg, DialTarget),
    /// The transfer begins, encrypted where there are keys.
    Begin(Keys),
}

/// What a channel tells its session.
#[derive(Debug)]
pub(super) struct ChannelEvent {
    id: ChannelId,
    what: What,
}

#[derive(Debug)]
enum What {
    Bound(Leg, Announced),
    Refused(Leg, Lack),
    Flushed(Leg),
    Ended(ChannelReport),
}

impl ChannelEvent {
    /// The same in the words of the session.
    pub(super) const fn as_event(&self) -> Event<'static> {
        let id = self.id;
        match self.what {
            What::Bound(leg, at) => Event::PortBound { id, leg, at },
            What::Refused(leg, lacks) => Event::PortRefused { id, leg, lacks },
            What::Flushed(leg) => Event::ChannelFlushed { id, leg },
            What::Ended(report) => Event::ChannelEnded { id, report },
        }
    }

    /// The channel that is over.
    pub(super) const fn ended(&self) -> Option<ChannelId> {
        match self.what {
            What::Ended(_) => Some(self.id),
            What::Bound(..) | What::Refused(..) | What::Flushed(_) => None,
        }
    }
}

/// Starts the task of a channel.
pub(super) fn open(
    id: ChannelId,
    endpoints: Endpoints,
    shared: &Arc<Shared>,
    moved: Arc<Moved>,
    events: UnboundedSender<ChannelEvent>,
) -> UnboundedSender<Order> {
    let (channel, orders, inbox) = new(id, endpoints, shared, moved, events);
    shared.process.tasks.spawn(channel.run(inbox));
    orders
}

fn new(
    id: ChannelId,
    endpoints: Endpoints,
    shared: &Arc<Shared>,
    moved: Arc<Moved>,
    events: UnboundedSender<ChannelEvent>,
) -> (Channel, UnboundedSender<Order>, UnboundedReceiver<Order>) {
    let (orders, inbox) = unbounded_channel();
    let channel = Channel {
        id,
        endpoints,
        shared: Arc::clone(shared),
        moved,
        events,
        steps: PerLeg::default(),
        targets: PerLeg::default(),
        // Without TLS there is nothing to be known before.
        begun: shared.encryption.is_none().then(Keys::default),
        streams: PerLeg::default(),
        handshakes: PerLeg::default(),
        ends: PerLeg::default(),
        report: ChannelReport { end: End::Closed, up: 0, down: 0 },
    };
    (channel, orders, inbox)
}

/// An end that becomes TLS.
type Handshake = Pin<Box<dyn Future<Output = io::Result<secured::End>> + Send>>;

/// Something that one end waits for.
type Step = Pin<Box<dyn Future<Output = Stepped> + Send>>;

enum Stepped {
    /// With the address that the peer is told.
    Leased(Result<(Lease, Counted), LeaseError>, IpAddr),
    Accepted(Result<std::net::TcpStream, LeaseLost>),
    Dialled(io::Result<TcpStream>),
}

/// Where a peer comes in: the local address, and what it is told.
struct Doorway {
    local: IpAddr,
    told: IpAddr,
}

struct Channel {
    id: ChannelId,
    endpoints: Endpoints,
    shared: Arc<Shared>,
    /// What was copied, for those who look on.
    moved: Arc<Moved>,
    events: UnboundedSender<ChannelEvent>,
    steps: PerLeg<Option<Step>>,
    /// Where an end will be dialled once the other end has its peer.
    targets: PerLeg<Option<DialTarget>>,
    streams: PerLeg<Option<TcpStream>>,
    /// Handshakes that are under way. Apart from the code that waits for them: see [`Channel::drop`].
    handshakes: PerLeg<Option<Handshake>>,
    ends: PerLeg<Option<secured::End>>,
    /// The transfer has begun.
    begun: Option<Keys>,
    /// What the session is told at the end.
    report: ChannelReport,
}

/// A session waits for the end of each of its channels, so it hears of that of a panic, too.
impl Drop for Channel {
    fn drop(&mut self) {
        // What is left of the ends goes before the session hears of the end. But for those of a handshake that failed, which
        // go after: the server answers the cut at once, and with 426 where the client is to hear of 522.
        self.steps = PerLeg::default();
        self.streams = PerLeg::default();
        self.tell(What::Ended(self.report));
    }
}

impl Channel {
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        self.report = match self.transfer(&mut orders).await {
            Ok(report) => report,
            Err(end) => ChannelReport { end, up: 0, down: 0 },
        };
    }

    async fn transfer(&mut self, orders: &mut UnboundedReceiver<Order>) -> Result<ChannelReport, End> {
        let (client, server) = self.connect(orders).await?;
        let keys = self.begun(orders).await?;
        let (id, events) = (self.id, self.events.clone());
        let flushed = |Flushed(leg)| tell(&events, id, What::Flushed(leg));
        let (moved, idle) = (Arc::clone(&self.moved), self.shared.config.timeouts.data_idle);
        let _counted = self.shared.metrics.moving(moved.clone());
        if keys.are_none() {
            let pipes = &self.shared.process.pipes;
            let copying = async { copy_counted(client, server, pipes, idle, &moved, flushed).await.end };
            return Ok(unless_closed(copying, &moved, orders).await);
        }
        self.handshakes = shake_hands(client, server, keys, &self.shared);
        let (client, server) = tokio::select! {
            ends = self.secured() => ends?,
            () = closed(orders) => {
                self.handshakes = PerLeg::default();
                self.ends = PerLeg::default();
                return Err(End::Closed);
            }
        };
        Ok(unless_closed(copy_secured(client, server, idle, &moved, flushed), &moved, orders).await)
    }

    fn tell(&self, what: What) {
        tell(&self.events, self.id, what);
    }

    /// Gets both ends connected, in whatever order orders and peers come. A client may have connected long before its
    /// transfer's command; it has as long for that as data may stay idle.
    async fn connect(&mut self, orders: &mut UnboundedReceiver<Order>) -> Result<(TcpStream, TcpStream), End> {
        loop {
            match (self.streams.client.take(), self.streams.server.take()) {
                (Some(client), Some(server)) => return Ok((client, server)),
                (client, server) => self.streams = PerLeg { client, server },
            }
            let waits_for_orders = self.steps.client.is_none() && self.steps.server.is_none();
            let idle = self.shared.config.timeouts.data_idle;
            let (leg, stepped) = tokio::select! {
                order = orders.recv() => {
                    match order.ok_or(End::Closed)? {
                        Order::Bind(leg, carries) => self.bind(leg, carries),
                        Order::Dial(leg, target) => {
                            self.targets[leg] = Some(target);
                            self.dial_if_due(leg);
                        }
                        Order::Begin(keys) => self.begun = Some(keys),
                    }
                    continue;
                }
                stepped = finished(&mut self.steps.client) => (Leg::Client, stepped),
                stepped = finished(&mut self.steps.server) => (Leg::Server, stepped),
                () = tokio::time::sleep(idle), if waits_for_orders => return Err(End::Idle),
            };
            self.steps[leg] = None;
            self.stepped(leg, stepped)?;
        }
    }

    /// Waits for the transfer to begin. Nothing is copied before: which ends are encrypted is not known.
    async fn begun(&mut self, orders: &mut UnboundedReceiver<Order>) -> Result<Keys, End> {
        let limit = self.shared.config.timeouts.data_idle;
        let mut begun = self.begun.take();
        let waiting = async {
            loop {
                match begun.take() {
                    Some(keys) => return Ok(keys),
                    None => match orders.recv().await.ok_or(End::Closed)? {
                        Order::Begin(keys) => begun = Some(keys),
                        Order::Bind(..) | Order::Dial(..) => {}
                    },
                }
            }
        };
        tokio::time::timeout(limit, waiting).await.unwrap_or(Err(End::Idle))
    }

    /// Waits for the handshakes. If one fails, the other end stays as it is.
    async fn secured(&mut self) -> Result<(secured::End, secured::End), End> {
        loop {
            let (leg, shaken) = tokio::select! {
                shaken = finished(&mut self.handshakes.client) => (Leg::Client, shaken),
                shaken = finished(&mut self.handshakes.server) => (Leg::Server, shaken),
            };
            self.handshakes[leg] = None;
            self.ends[leg] = Some(shaken.map_err(|error| self.no_tls(leg, &error))?);
            match (self.ends.client.take(), self.ends.server.take()) {
                (Some(client), Some(server)) => return Ok((client, server)),
                (client, server) => self.ends = PerLeg { client, server },
            }
        }
    }

    fn no_tls(&self, leg: Leg, error: &io::Error) -> End {
        let (listener, client) = (&self.shared.config.name, self.endpoints.client.peer);
        match leg {
            Leg::Client => tracing::info!(%listener, %client, %error, "no TLS on the client's data connection"),
            Leg::Server => tracing::warn!(%listener, %client, %error, "no TLS on the server's data connection"),
        }
        self.shared.metrics.no_tls(leg);
        End::TlsFailed(leg)
    }

    fn refuse(&self, leg: Leg, lacks: Lack) {
        self.shared.metrics.lacked(leg, lacks);
        self.tell(What::Refused(leg, lacks));
    }

    fn stepped(&mut self, leg: Leg, stepped: Stepped) -> Result<(), End> {
        match stepped {
            Stepped::Leased(Ok((lease, counted)), ip) => {
                let at = Announced::new(ip, lease.port());
                self.steps[leg] = Some(accept(lease, counted));
                self.tell(What::Bound(leg, at));
            }
            Stepped::Leased(Err(error), _) => {
                let (listener, peer) = (&self.shared.config.name, self.endpoints[leg].peer.ip());
                tracing::warn!(%listener, %leg, %peer, %error, "no data port");
                self.refuse(leg, Lack::Port);
            }
            Stepped::Accepted(accepted) => {
                let stream = accepted.map_err(|_| End::NeverConnected(leg))?;
                self.streams[leg] = Some(TcpStream::from_std(stream).map_err(|_| End::Reset(leg))?);
                self.dial_if_due(leg.other());
            }
            Stepped::Dialled(dialled) => {
                self.streams[leg] = Some(dialled.map_err(|error| self.dial_failed(leg, &error))?);
                self.dial_if_due(leg.other());
            }
        }
        Ok(())
    }

    /// Listens for the peer of a leg, if it can be told where.
    fn bind(&mut self, leg: Leg, carries: Option<Family>) {
        match self.doorway(leg, carries) {
            Ok(Doorway { local, told }) => self.steps[leg] = Some(self.lease(leg, local, told)),
            Err(lacks) => self.refuse(leg, lacks),
        }
    }

    fn lease(&self, leg: Leg, local: IpAddr, told: IpAddr) -> Step {
        let pool = self.shared.ports[leg].clone();
        let peer = self.endpoints[leg].peer.ip();
        let wait = self.shared.config.timeouts.port_wait;
        let (metrics, start) = (Arc::clone(&self.shared.metrics), Instant::now());
        Box::pin(async move {
            let leased = pool.lease(local, peer, wait).await;
            Stepped::Leased(leased.map(|lease| (lease, metrics.leased(leg, start.elapsed()))), told)
        })
    }

    /// Where the peer of a leg will come in.
    fn doorway(&self, leg: Leg, carries: Option<Family>) -> Result<Doorway, Lack> {
        let (config, endpoint) = (&self.shared.config, self.endpoints[leg]);
        let (listener, peer, local) = (&config.name, endpoint.peer.ip(), endpoint.local.ip());
        let map = match leg {
            Leg::Client => &config.client.address_map,
            Leg::Server => &config.server.address_map,
        };
        let dialled = endpoint.dialled.ip();
        let family = carries.unwrap_or(Family::of(dialled));
        // Its port comes later.
        let Some(Announced(told)) = map.announce(peer, dialled, 0, family) else {
            tracing::warn!(%listener, %leg, %peer, "the address map has no address for this peer yet");
            return Err(Lack::Address);
        };
        let told = told.ip();
        let at = match carries {
            Some(family) if Family::of(told) != family => None,
            // 0.0.0.0 stands for the address of the control connection.
            Some(family) if family != Family::of(dialled) && !told.is_unspecified() => config.client_door(family),
            Some(_) | None => Some(local),
        };
        match (at, leg) {
            (Some(local), _) => return Ok(Doorway { local, told }),
            (None, Leg::Client) => {
                tracing::debug!(%listener, %peer, "the client has no use for an address of this map")
            }
            (None, Leg::Server) => tracing::warn!(%listener, %peer, %told, "the server has no use for this address"),
        }
        Err(Lack::Family)
    }

    /// Dials an end that has its target, unless the other end still waits for its peer.
    fn dial_if_due(&mut self, leg: Leg) {
        let other_waits = self.steps[leg.other()].is_some() && self.targets[leg.other()].is_none();
        if other_waits || self.steps[leg].is_some() || self.streams[leg].is_some() {
            return;
        }
        if let Some(target) = self.targets[leg] {
            self.steps[leg] = Some(self.dial(leg, target));
        }
    }

    /// A client that cannot be reached has set itself up so; a server that cannot be is for the operator to know.
    fn dial_failed(&self, leg: Leg, error: &io::Error) -> End {
        let (listener, client) = (&self.shared.config.name, self.endpoints.client.peer);
        let target = self.targets[leg].map_or_else(String::new, |target| target.addr().to_string());
        match leg {
            Leg::Client => tracing::debug!(%listener, %client, target, %error, "cannot open a data connection"),
            Leg::Server => tracing::warn!(%listener, %client, target, %error, "cannot open a data connection"),
        }
        End::DialFailed(leg)
    }

    fn dial(&self, leg: Leg, target: DialTarget) -> Step {
        let source = self.endpoints[leg].local.ip();
        let target = on_interface_of(self.endpoints[leg].peer, target.addr());
        let shared = Arc::clone(&self.shared);
        let header =
            proxy_header::of_data(shared.config.proxy_header, self.endpoints.client, self.streams.client.as_ref());
        Box::pin(async move {
            Stepped::Dialled(match (leg, shared.config.source_port) {
                (Leg::Client, SourcePort::FtpData) => dial_from_ftp_data(&shared, target, source).await,
                (Leg::Client, SourcePort::Any) => {
                    let whose = shared.config.whose_address(leg);
                    socket::connect(target, source, whose, shared.config.timeouts.connect_client).await
                }
                (Leg::Server, _) => proxy_header::dial(&shared.config, target, source, header).await,
            })
        })
    }
}

/// From port 20 if that can be had.
async fn dial_from_ftp_data(shared: &Shared, target: SocketAddr, source: IpAddr) -> io::Result<TcpStream> {
    let timeout = shared.config.timeouts.connect_client;
    let whose = shared.config.whose_address(Leg::Client);
    let stream = socket::connect_from_port(target, (source, FTP_DATA).into(), whose, timeout).await?;
    if stream.local_addr()?.port() != FTP_DATA {
        let so_far = shared.metrics.not_from_ftp_data();
        let listener = &shared.config.name;
        tracing::info!(%listener, %target, so_far, "port 20 was not to be had, connected from another");
    }
    Ok(stream)
}

/// A link-local address means nothing without its interface, which is that of the control connection.
fn on_interface_of(control: SocketAddr, target: SocketAddr) -> SocketAddr {
    match (control, target) {
        (SocketAddr::V6(control), SocketAddr::V6(mut target)) if target.ip() == control.ip() => {
            target.set_scope_id(control.scope_id());
            target.into()
        }
        _ => target,
    }
}

/// The handshakes of the ends that are encrypted; an end that is not is there at once.
fn shake_hands(client: TcpStream, server: TcpStream, keys: Keys, shared: &Shared) -> PerLeg<Option<Handshake>> {
    let (timeouts, tls) = (shared.config.timeouts, &shared.config.tls);
    let lenient = PerLeg {
        client: matches!(&tls.client, ClientTls::Terminate(terms) if terms.lenient),
        server: tls.server.identity().is_some_and(|identity| identity.lenient),
    };
    let Keys { client: client_keys, server: server_keys } = keys;
    PerLeg {
        client: Some(Box::pin(async move {
            encryption::towards_client(client, client_keys.as_deref(), lenient.client, timeouts.connect_client).await
        })),
        server: Some(Box::pin(async move {
            encryption::towards_server(server, server_keys.as_deref(), lenient.server, timeouts.connect_server).await
        })),
    }
}

/// Copies to the end, or until the session lets go of the channel.
async fn unless_closed(
    copying: impl Future<Output = CopyEnd>,
    moved: &Moved,
    orders: &mut UnboundedReceiver<Order>,
) -> ChannelReport {
    let end = tokio::select! {
        end = copying => end_of(end),
        () = closed(orders) => End::Closed,
    };
    ChannelReport { end, up: moved.up(), down: moved.down() }
}

pub(super) fn end_of(copy: CopyEnd) -> End {
    match copy {
        CopyEnd::Complete => End::Complete,
        CopyEnd::Reset(leg) => End::Reset(leg),
        CopyEnd::Idle => End::Idle,
    }
}

/// A session that is gone needs no news.
fn tell(events: &UnboundedSender<ChannelEvent>, id: ChannelId, what: What) {
    if events.send(ChannelEvent { id, what }).is_err() {
        tracing::trace!("channel outlived its session");
    }
}

fn accept(mut lease: Lease, counted: Counted) -> Step {
    Box::pin(async move {
        let accepted = lease.accept().await;
        drop(counted);
        Stepped::Accepted(accepted)
    })
}

/// Returns once the session has let go of the channel.
async fn closed(orders: &mut UnboundedReceiver<Order>) {
    while orders.recv().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::control::Endpoint;

    #[tokio::test]
    async fn rel_28_a_session_hears_of_the_end_of_a_task_that_never_came_to_it() {
        let shared = Shared::for_tests();
        let at = Endpoint::direct("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let (events, mut mailbox) = unbounded_channel();
        let (channel, _orders, inbox) =
            new(ChannelId(7), Endpoints { client: at, server: at }, &shared, Arc::default(), events);
        // What becomes of a task that panics.
        drop(channel.run(inbox));
        let event = mailbox.recv().await.unwrap();
        assert_eq!(event.ended(), Some(ChannelId(7)));
        assert!(mailbox.recv().await.is_none(), "nothing follows");
    }

    #[test]
    fn a_link_local_peer_is_dialled_on_its_interface() {
        let dial = |control: &str, target: &str| on_interface_of(control.parse().unwrap(), target.parse().unwrap());
        assert_eq!(dial("[fe80::1%7]:21", "[fe80::1]:2000"), "[fe80::1%7]:2000".parse().unwrap());
        assert_eq!(dial("192.0.2.1:21", "192.0.2.1:2000"), "192.0.2.1:2000".parse().unwrap());
    }
}
