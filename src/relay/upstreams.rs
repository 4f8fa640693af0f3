//! Several servers for the same users and files: which one a session gets, and which are down.
//!
//! Each server is a [`Member`] with a [`Connector`] and a [`Health`] of its own. Sessions are the best checks: what they meet
//! counts, and a server that has just greeted one is not asked. Only where nobody comes by, [`check`] does.
//!
//! A session tries one server after the other within one time limit, and takes the first that greets. One that is slow to
//! greet is kept in reserve: many look up the name of their client first.

mod balance;
mod check;
mod health;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::balance::Candidate;
use self::check::{Greeting, greeting};
pub use self::check::{Probe, probe};
use self::health::{Change, Health};
use super::control::Endpoint;
use super::upstream::{ConnectError, Connected, Connector, Turn};
use crate::config::tls::ServerTls;
use crate::config::{self, Balance, Config, Listener, Servers, Upstream};
use crate::ftp::host::HostName;
use crate::metrics::{ListenerMetrics, ServerState};
use crate::nat::destinations::Destinations;

/// Servers that a session may be with any of. Often there is one.
#[derive(Debug)]
pub(super) struct Group {
    members: Vec<Arc<Member>>,
    balance: Balance,
    /// Sessions so far, for those that go round.
    turns: AtomicUsize,
    /// For a session to come to a server.
    timeout: Duration,
}

/// One of them.
#[derive(Debug)]
struct Member {
    listener: String,
    name: String,
    connector: Connector,
    health: Mutex<Health>,
    /// How long a check may take; `None`: there are none.
    checked: Option<Duration>,
    /// Whether the log tells when it falls and rises. Where there is no choice each session tells what it met.
    is_told: bool,
    /// Whether it speaks first. With implicit TLS it waits for our handshake.
    greets: bool,
    /// Of earlier configurations, too.
    sessions: Arc<AtomicU32>,
    /// Something has been heard of it.
    heard: Notify,
}

/// A session's place at a server, from the moment when it is chosen. Dropped, the server has a session less.
#[derive(Debug)]
pub(super) struct Seat {
    group: Arc<Group>,
    index: usize,
    /// Whether what became of the greeting is known.
    is_judged: bool,
}

impl Group {
    /// `servers` of one listener of `config`. With a `guard`, they have to be in it. What an `earlier` configuration knew of
    /// them is known.
    pub(super) fn new(
        listener: &Listener,
        servers: &Servers,
        guard: Option<&Arc<Destinations>>,
        config: &Arc<Config>,
        metrics: &Arc<ListenerMetrics>,
        earlier: Option<&Self>,
    ) -> Self {
        let (rules, count) = (servers.health, servers.list().len());
        let member = |upstream: &Upstream| {
            let name = upstream.to_string();
            let connector =
                Connector::new(listener, upstream.clone(), guard.cloned(), Arc::clone(config), Arc::clone(metrics));
            let earlier = earlier.and_then(|group| group.members.iter().find(|member| member.name == name));
            let new = Member {
                listener: listener.name.clone(),
                name,
                connector,
                health: Mutex::new(Health::new(rules, Instant::now(), rand::random())),
                checked: rules.checks.then_some(rules.timeout),
                is_told: rules.checks || count > 1,
                greets: !matches!(listener.tls.server, ServerTls::Implicit(_)),
                sessions: Arc::default(),
                heard: Notify::new(),
            };
            Arc::new(match earlier {
                Some(earlier) => new.knowing(earlier, rules),
                None => new,
            })
        };
        Self {
            members: servers.list().iter().map(member).collect(),
            balance: servers.balance,
            turns: AtomicUsize::new(0),
            timeout: listener.timeouts.connect_server,
        }
    }

    /// A control connection to one of the servers, for this client. `before` is where its session has been.
    /// Waits for each server's turn without limit, the session's login timer bounds that; `timeouts.connect_server` is for
    /// what is left, however many are tried.
    pub(super) async fn connect(
        self: Arc<Self>,
        client: Endpoint,
        before: Option<Seat>,
    ) -> Result<(Connected, Seat), ConnectError> {
        let mut to_try = self.order(client.peer.ip(), before.map(|seat| seat.index));
        let mut left = self.timeout;
        let mut silent = None;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "there is no server").into();
        while !to_try.is_empty() {
            let (index, was_up) = to_try.remove(0);
            let member = &self.members[index];
            let mut seat = Seat::take(&self, index);
            let turn = member.connector.turn().await?;
            if was_up && !to_try.is_empty() && !member.health().is_up() {
                // It fell while we waited for our turn: better the others first.
                to_try.push((index, false));
                continue;
            }
            let start = Instant::now();
            member.health().enters(start, rand::random());
            let share = left / u32::try_from(to_try.len() + 1).unwrap_or(u32::MAX);
            let may_wait = !to_try.is_empty() || silent.is_some();
            match member.meet(&turn, client, share, may_wait).await {
                Ok((connected, is_welcome)) if is_welcome || !may_wait => {
                    seat.is_judged = is_welcome;
                    return Ok((connected, seat));
                }
                Ok((connected, _)) => {
                    if silent.is_none() {
                        silent = Some((connected, seat));
                    }
                }
                Err(error) => {
                    tracing::debug!(listener = %member.listener, upstream = %member.name, %error, "a server is passed over");
                    last = error;
                }
            }
            left = left.saturating_sub(start.elapsed());
        }
        silent.ok_or(last)
    }

    /// The servers in the order in which they are to be tried, and whether each counts as up.
    fn order(&self, client: IpAddr, before: Option<usize>) -> Vec<(usize, bool)> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let candidates = self.members.iter().map(|member| Candidate {
            name: &member.name,
            sessions: member.sessions.load(Ordering::Relaxed),
            is_up: member.health().admits(now),
        });
        let candidates: Vec<Candidate<'_>> = candidates.collect();
        let mut order = balance::order(self.balance, &candidates, client, turn);
        if let Some(before) = before.filter(|before| candidates[*before].is_up) {
            order.retain(|index| *index != before);
            order.insert(0, before);
        }
        order.into_iter().map(|index| (index, self.members[index].health().is_up())).collect()
    }

    /// Begins to look after the servers that are checked, until `stop`.
    pub(super) fn watch(&self, stop: &CancellationToken) {
        for member in &self.members {
            if let Some(limit) = member.checked {
                let (member, stop) = (Arc::clone(member), stop.clone());
                tokio::spawn(async move { stop.run_until_cancelled_owned(check::watch(member, limit)).await });
            }
        }
    }

    /// That every one of these servers is down, if they are checked.
    pub(super) fn impediment(&self) -> Option<String> {
        let down = |member: &Arc<Member>| {
            let health = member.health();
            let reason = health.reason().unwrap_or_default();
            (member.checked.is_some() && !health.is_up()).then(|| format!("{} ({reason})", member.name))
        };
        let all: Option<Vec<String>> = self.members.iter().map(down).collect();
        all.map(|all| format!("no FTP server is up: {}", all.join(", ")))
    }

    /// What is known of each server, of those of a host if it is for one.
    pub(super) fn states(&self, host: Option<&HostName>) -> impl Iterator<Item = ServerState> {
        self.members.iter().map(move |member| ServerState {
            listener: member.listener.clone(),
            host: host.map(ToString::to_string),
            name: member.name.clone(),
            is_up: member.health().is_up(),
            sessions: member.sessions.load(Ordering::Relaxed),
        })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, member) in self.members.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            f.write_str(&member.name)?;
        }
        Ok(())
    }
}

impl Member {
    /// Knows what the same server's member of an earlier configuration knew.
    fn knowing(self, earlier: &Self, rules: config::Health) -> Self {
        Self {
            connector: self.connector.knowing(&earlier.connector),
            health: Mutex::new(earlier.health().under(rules, Instant::now(), rand::random())),
            sessions: Arc::clone(&earlier.sessions),
            ..self
        }
    }

    /// A connection, and whether the server has welcomed us on it; it is not waited for without `may_wait`. One that the
    /// server refuses is an error: another may have room.
    async fn meet(
        &self,
        turn: &Turn<'_>,
        client: Endpoint,
        limit: Duration,
        may_wait: bool,
    ) -> Result<(Connected, bool), ConnectError> {
        let start = Instant::now();
        let met = match self.connector.connect(turn, Some(client), limit).await {
            Ok(connected) if may_wait && self.greets => {
                match greeting(&connected.io, limit.saturating_sub(start.elapsed())).await {
                    Greeting::Welcome => Ok((connected, true)),
                    Greeting::Refused(said) => Err(io::Error::other(said).into()),
                    Greeting::Gone => {
                        self.connector.hung_up();
                        Err(io::Error::new(io::ErrorKind::UnexpectedEof, check::HUNG_UP).into())
                    }
                    Greeting::Silence => {
                        self.failed(check::SILENT);
                        return Ok((connected, false));
                    }
                }
            }
            connected => connected.map(|connected| (connected, false)),
        };
        match &met {
            Ok((_, true)) => self.succeeded(),
            // Others may reach it.
            Ok((_, false)) | Err(ConnectError::OtherFamily) => {}
            Err(error) => self.failed(&error.to_string()),
        }
        met
    }

    fn succeeded(&self) {
        let change = self.health().succeeded(Instant::now(), rand::random());
        if change == Some(Change::Rose) && self.is_told {
            tracing::info!(listener = %self.listener, upstream = %self.name, "the FTP server is up again");
        }
        self.heard.notify_one();
    }

    fn failed(&self, reason: &str) {
        let change = self.health().failed(reason.into(), Instant::now(), rand::random());
        if change == Some(Change::Fell) && self.is_told {
            tracing::warn!(listener = %self.listener, upstream = %self.name, reason, "the FTP server is down");
        }
        self.heard.notify_one();
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Nothing under this lock can fail half way.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn take(group: &Arc<Group>, index: usize) -> Self {
        group.members[index].sessions.fetch_add(1, Ordering::Relaxed);
        Self { group: Arc::clone(group), index, is_judged: false }
    }

    fn member(&self) -> &Member {
        &self.group.members[self.index]
    }

    /// Whether it is at one of these servers.
    pub(super) fn is_in(&self, group: &Arc<Group>) -> bool {
        Arc::ptr_eq(&self.group, group)
    }

    /// What the server's certificate should say, unless `tls.server.name` says otherwise.
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        self.member().connector.server_name()
    }

    /// The server has welcomed the client.
    pub(super) fn greeted(&mut self) {
        if !std::mem::replace(&mut self.is_judged, true) {
            self.member().succeeded();
        }
        self.member().connector.greeted();
    }

    /// The server has closed the connection instead of greeting.
    pub(super) fn hung_up(&mut self) {
        if !std::mem::replace(&mut self.is_judged, true) {
            self.member().failed(check::HUNG_UP);
        }
        self.member().connector.hung_up();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.member().sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::SocketAddr;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn group(upstream: &str) -> Arc<Group> {
        group_after(upstream, None)
    }

    fn group_after(upstream: &str, earlier: Option<&Group>) -> Arc<Group> {
        let yaml = format!(
            "listeners: [{{ bind: \"127.0.0.1:2121\", upstream: {upstream}, client: {{ address_map: \
             [{{ peers: any, announce: local }}], data_ports: 20000 }} }}]"
        );
        let config = Arc::new(Config::parse(&yaml, "test.yaml").unwrap());
        let crate::config::Selection::Fixed(servers) = &config.listeners[0].upstream else { panic!("servers") };
        Arc::new({
            let metrics = crate::metrics::Metrics::default().listener(&config.listeners[0]);
            Group::new(&config.listeners[0], servers, None, &config, &metrics, earlier)
        })
    }

    #[test]
    fn a_session_goes_back_to_where_it_has_been_while_that_is_up() {
        let group = group("{ servers: [a, b, c], balance: round-robin }");
        let firsts = |before| (0..3).map(|_| group.order(CLIENT, before)[0].0).collect::<Vec<_>>();
        assert_eq!(firsts(Some(1)), [1, 1, 1]);
        (0..3).for_each(|_| group.members[1].failed("refused"));
        assert!(!firsts(Some(1)).contains(&1));
        assert_eq!(group.order(CLIENT, Some(1))[2], (1, false), "better than none");
    }

    #[tokio::test]
    async fn rel_14_the_last_addresses_of_a_name_outlast_a_reload() {
        let address: SocketAddr = "192.0.2.7:21".parse().unwrap();
        let earlier = group("[a, b]");
        let second = Duration::from_secs(1);
        earlier.members[1].connector.found_or_last("b", second, async { Ok(vec![address]) }).await.unwrap();
        let group = group_after("[b, c]", Some(&earlier));
        let silence = || async { Err(io::ErrorKind::TimedOut.into()) };
        assert_eq!(group.members[0].connector.found_or_last("b", second, silence()).await.unwrap(), [address]);
        assert!(group.members[1].connector.found_or_last("c", second, silence()).await.is_err());
    }

    #[test]
    fn it_is_known_how_each_server_is() {
        let group = group("[a, b]");
        let seat = Seat::take(&group, 1);
        group.members[0].failed("refused");
        let states: Vec<ServerState> = group.states(None).collect();
        assert_eq!((states[0].name.as_str(), states[1].name.as_str()), ("a:21", "b:21"));
        assert_eq!((states[0].sessions, states[1].sessions), (0, 1));
        assert_eq!((states[0].is_up, group.members[0].health().reason()), (true, Some("refused")));
        (0..2).for_each(|_| group.members[0].failed("refused"));
        drop(seat);
        let states: Vec<ServerState> = group.states(None).collect();
        assert_eq!((states[0].is_up, states[1].is_up, states[1].sessions), (false, true, 0));
    }
}
