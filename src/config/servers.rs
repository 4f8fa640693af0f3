//! The FTP servers behind a listener, or behind one of its host names, and how a session comes to one of them.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::Upstream;

/// Servers that have the same users and files, so that a session may be with any of them. There is at least one, and each
/// is there once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    list: Vec<Upstream>,
    /// Which one a session gets.
    pub balance: Balance,
    /// When one counts as down.
    pub health: Health,
}

/// Which of several servers a session gets (`upstream.balance`), of those that are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// The first of the list; the others stand by.
    #[default]
    First,
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest sessions of this listener.
    LeastSessions,
    /// Always the same one for a client's address.
    Source,
}

/// When a server counts as down, and when as well again (`upstream.health`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether it is connected to just to see. Without, only sessions tell.
    pub checks: bool,
    /// How often, at most, while neither a session nor a check has shown anything else.
    pub interval: Duration,
    /// For a whole check: name, connection, greeting.
    pub timeout: Duration,
    /// So many failures in a row, and it is down.
    pub fall: NonZeroU32,
    /// So many successes in a row, and it is up again.
    pub rise: NonZeroU32,
}

impl Health {
    /// The defaults. With one server there is nothing to be done about its failure before a client comes, and a check would
    /// only fill its log.
    pub(super) fn of(servers: usize) -> Self {
        Self {
            checks: servers > 1,
            // Serv-U's default blocks whoever connects 4 times within 30 s and does not log in.
            interval: Duration::from_secs(30),
            // As timeouts.connect_server; servers that look their clients up take their time to greet.
            timeout: Duration::from_secs(10),
            // HAProxy's defaults.
            fall: NonZeroU32::new(3).expect("not 0"),
            rise: NonZeroU32::new(2).expect("not 0"),
        }
    }
}

impl Servers {
    /// `None` without any server.
    pub(super) fn new(list: Vec<Upstream>, balance: Balance, health: Health) -> Option<Self> {
        (!list.is_empty()).then_some(Self { list, balance, health })
    }

    /// One server and nothing else said.
    #[must_use]
    pub fn one(server: Upstream) -> Self {
        Self { list: vec![server], balance: Balance::default(), health: Health::of(1) }
    }

    /// All of them, in the order of the file.
    #[must_use]
    pub fn list(&self) -> &[Upstream] {
        &self.list
    }

    /// The server, if there is but one.
    #[must_use]
    pub fn only(&self) -> Option<&Upstream> {
        match self.list.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, server) in self.list.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            server.fmt(f)?;
        }
        Ok(())
    }
}
