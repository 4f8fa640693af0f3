//! File descriptors: what the configuration needs, and what the system grants.
//!
//! A session takes two, a transfer two more, and two for a pipe while it is long and moving. A data port takes one per
//! address, from the start on. What cannot fit is refused then, not found out by clients (HAProxy computes
//! its `maxsock` in the same way).

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::gate::WAITING;
use super::listener::REFUSALS;
use super::{data_ports, passthrough, ports};
use crate::config::Config;

/// Sessions of a listener at once, unless `limits.sessions` says otherwise: what the benchmarks hold on two cores.
pub(super) const DEFAULT_SESSIONS: u64 = 10_000;

/// What the process itself takes: the standard streams, epoll, the wake-up and the signals of the runtime (9 are open in
/// an idle process), and as many again for files and sockets that looking up a name opens for a moment; then the
/// clients that are turned away.
const OWN: u64 = 20 + REFUSALS as u64;

/// Connections to the admin interface at once: a scraper or two, somebody at a terminal, and probes.
pub(crate) const ADMIN_CONNECTIONS: usize = 16;

/// Both control connections.
const PER_SESSION: u64 = 2;

/// Both data connections, and a pipe.
const PER_TRANSFER: u64 = 4;

/// Where the number of sessions is ours to choose, there is room for a transfer in each tenth of them: most are idle.
const SESSIONS_PER_TRANSFER: u64 = 10;

/// How many sessions each listener may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    sessions: Vec<u32>,
    /// What does not fit and need not.
    reduced: Option<Reduced>,
}

/// The default of `limits.sessions` does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit on open files, {limit}, has room for {sessions} sessions of each listener that sets no limits.sessions, \
     instead of {DEFAULT_SESSIONS}; raise it to {wanted} (`LimitNOFILE={wanted}` in the unit, `ulimit -Hn {wanted}` in a \
     shell), or set limits.sessions"
)]
pub(crate) struct Reduced {
    limit: u64,
    sessions: u64,
    wanted: u64,
}

/// The configuration needs more descriptors than the process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit on open files is {limit}, and the configuration needs {needed}: {ports} for data ports, {listeners} for \
     control addresses, {PER_SESSION} for each of {sessions} sessions, {rest} for the rest; raise the limit \
     (`LimitNOFILE={needed}` or more in the unit, `ulimit -Hn {needed}` in a shell), or lower limits.sessions or the \
     number of data ports"
)]
pub struct TooFewDescriptors {
    limit: u64,
    needed: u64,
    ports: u64,
    listeners: u64,
    sessions: u64,
    rest: u64,
}

impl Plan {
    /// What `limit` descriptors are enough for.
    ///
    /// # Errors
    /// They are not enough for the ports, the sessions that are asked for, and one where none are.
    pub(crate) fn new(config: &Config, limit: u64) -> Result<Self, TooFewDescriptors> {
        let asked = |listener: &crate::config::Listener| listener.limits.sessions.map(|sessions| sessions.get());
        let every: Vec<_> = data_ports(config).into_iter().chain(passthrough::ports(config)).collect();
        let ports = count(ports::count(&every));
        let listeners = count(config.listeners.iter().map(|listener| listener.bind.len()).sum());
        let explicit: u64 = config.listeners.iter().filter_map(asked).map(u64::from).sum();
        let by_default = count(config.listeners.iter().filter(|listener| asked(listener).is_none()).count());

        let sessions = explicit + by_default;
        let rest = OWN + waiting(config) + admin(config);
        let needed = ports + listeners + rest + sessions * PER_SESSION;
        if needed > limit {
            return Err(TooFewDescriptors { limit, needed, ports, listeners, sessions, rest });
        }
        let fixed = needed - by_default * PER_SESSION;
        let share = by_default.max(1);
        // Per ten sessions ten times two, and a transfer.
        let per_group = SESSIONS_PER_TRANSFER * PER_SESSION + PER_TRANSFER;
        let room = (limit - fixed).saturating_mul(SESSIONS_PER_TRANSFER) / per_group / share;
        let default = DEFAULT_SESSIONS.min(room.max(1));
        let wanted = fixed + (DEFAULT_SESSIONS * by_default * per_group).div_ceil(SESSIONS_PER_TRANSFER);
        let is_reduced = by_default > 0 && default < DEFAULT_SESSIONS;
        Ok(Self {
            sessions: config
                .listeners
                .iter()
                .map(|listener| asked(listener).unwrap_or(u32::try_from(default).unwrap_or(u32::MAX)))
                .collect(),
            reduced: is_reduced.then_some(Reduced { limit, sessions: default, wanted }),
        })
    }

    /// The sessions of each listener, in the order of the configuration.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = u32> {
        self.sessions.iter().copied()
    }

    /// Says in the log if there are fewer than there should be.
    pub(crate) fn warn(&self) {
        if let Some(reduced) = self.reduced {
            tracing::warn!("{reduced}");
        }
    }
}

/// Those that may be without their PROXY header at once, if any needs one.
fn waiting(config: &Config) -> u64 {
    let is_gated = config.listeners.iter().any(|listener| listener.proxy_protocol.is_some());
    if is_gated { count(WAITING) } else { 0 }
}

/// Its listener, its connections, and the files in /proc that one of them reads.
fn admin(config: &Config) -> u64 {
    if config.admin.is_some() { 2 + count(ADMIN_CONNECTIONS) } else { 0 }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// What [`Proxy::start`](super::Proxy::start) would warn of or refuse, if it had the limit of this process. The service
/// may have another.
#[must_use]
pub(crate) fn warning(config: &Config) -> Option<String> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    match Plan::new(config, hard) {
        Ok(plan) => plan.reduced.map(|reduced| reduced.to_string()),
        Err(error) => Some(format!("`run` would not start here: {error}")),
    }
}

/// How many descriptors this process may have; without an answer, any number.
pub(super) fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Raises the soft limit on open files to the hard one. The soft default of 1,024 is there for programs that use
/// `select(2)`; it would end at some 170 transfers.
pub(crate) fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    match raised {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit on open files"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Admin;

    /// One listener for each text, with these limits.
    fn config(limits: &[&str]) -> Config {
        let listeners = limits.iter().enumerate().map(|(i, limits)| {
            format!(
                "- bind: [\"192.0.2.1:{p}\", \"192.0.2.2:{p}\"]\n  upstream: 172.16.0.20\n  client: {{ data_ports: \
                 20000-20009, address_map: [{{ peers: any, announce: local }}] }}\n  limits: {{ {limits} }}\n",
                p = 2100 + i
            )
        });
        Config::parse(&format!("listeners:\n{}", listeners.collect::<String>()), "f").unwrap()
    }

    fn plan(limits: &[&str], limit: u64) -> Result<Vec<u32>, u64> {
        Plan::new(&config(limits), limit).map(|plan| plan.sessions).map_err(|error| error.needed)
    }

    /// Ten ports on two addresses, which are shared, and two control sockets.
    const ONE: u64 = OWN + 20 + 2;

    #[test]
    fn rel_13_what_is_asked_for_must_fit() {
        assert_eq!(plan(&["sessions: 500"], ONE + 1000), Ok(vec![500]));
        assert_eq!(plan(&["sessions: 500"], ONE + 999), Err(ONE + 1000));
        assert_eq!(plan(&["sessions: 500", "sessions: 7"], ONE + 2 + 1014), Ok(vec![500, 7]));
        assert_eq!(plan(&["sessions: 500", "sessions: 7"], ONE + 2 + 1013), Err(ONE + 2 + 1014));
    }

    #[test]
    fn rel_13_the_ports_alone_may_be_too_many() {
        assert_eq!(plan(&[""], ONE), Err(ONE + 2), "there must be room for a session");
        assert_eq!(plan(&[""], ONE + 2), Ok(vec![1]));
    }

    #[test]
    fn rel_13_the_admin_interface_has_its_own() {
        let with = |admin: Option<Admin>| Config { admin, ..config(&["sessions: 1"]) };
        let admin = Admin { bind: "127.0.0.1:9121".parse().unwrap() };
        assert!(Plan::new(&with(None), ONE + 2).is_ok());
        assert_eq!(Plan::new(&with(Some(admin)), ONE + 2).unwrap_err().needed, ONE + 2 + 18);
    }

    #[test]
    fn rel_13_passed_through_ports_take_one_each_per_address() {
        let yaml = "listeners: [{ bind: [\"192.0.2.1:21\", \"192.0.2.2:21\"], upstream: 172.16.0.20, client: { data_ports: \
                    20000-20009, address_map: [{ peers: any, announce: local }] }, limits: { sessions: 1 }, tls: { client: \
                    { mode: passthrough, passthrough_ports: 50000-50004 } } }]";
        let config = Config::parse(yaml, "f").unwrap();
        assert!(Plan::new(&config, ONE + 10 + 2).is_ok());
        assert_eq!(Plan::new(&config, ONE + 10 + 1).unwrap_err().ports, 30);
    }

    #[test]
    fn sec_28_connections_without_their_header_have_room_beside_the_sessions() {
        let yaml = |more: &str| {
            format!(
                "listeners: [{{ bind: '192.0.2.1:21', upstream: 172.16.0.20, client: {{ data_ports: 20000-20009, address_map: \
                 [{{ peers: any, announce: local }}] {more} }}, limits: {{ sessions: 1 }} }}]"
            )
        };
        let needed = |more: &str| {
            let config = Config::parse(&yaml(more), "f").unwrap();
            Plan::new(&config, 0).unwrap_err().needed
        };
        let gated = needed(", proxy_protocol: { trusted: 10.0.0.0/8, data: true }");
        assert_eq!(gated, needed("") + count(WAITING));
    }

    #[test]
    fn rel_13_the_default_is_what_fits_with_room_for_transfers() {
        assert_eq!(plan(&[""], ONE + 24), Ok(vec![10]));
        assert_eq!(plan(&["", ""], ONE + 2 + 48), Ok(vec![10, 10]));
        assert_eq!(plan(&["", "sessions: 500"], ONE + 2 + 1000 + 24), Ok(vec![10, 500]));
        assert_eq!(plan(&[""], 65_536), Ok(vec![10_000]), "the unit of the README");
        assert_eq!(plan(&["", ""], u64::MAX), Ok(vec![10_000, 10_000]), "no limit");
    }

    #[test]
    fn rel_13_the_warning_names_a_limit_that_is_enough() {
        let config = config(&["", "sessions: 500"]);
        let reduced = Plan::new(&config, 20_000).unwrap().reduced.unwrap();
        assert!(Plan::new(&config, reduced.wanted - 1).unwrap().reduced.is_some());
        assert_eq!(Plan::new(&config, reduced.wanted).unwrap().reduced, None);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
    }
}
