//! How many logins of each client address have failed, and what follows. Pure: no sockets, `now` is passed in.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// For how long failures count, from the first on. fail2ban's default as well (`findtime`).
pub(super) const WINDOW: Duration = Duration::from_secs(10 * 60);

/// How long an address that is slowed down waits after a failure: RFC 2577 §5 suggests 5 s.
pub(super) const DELAY: Duration = Duration::from_secs(5);

/// Addresses with failures that are remembered, some 10 MB of them; past that the oldest is forgotten. Who has more
/// addresses than this is not held up by counting them.
const MAX_REMEMBERED: usize = 65_536;

/// The failures of all client addresses, and their logins that the server has not answered yet.
#[derive(Debug)]
pub(super) struct Table {
    /// `limits.login_failures`
    limit: u32,
    records: HashMap<IpAddr, Record>,
    /// Every record with a failure, in the order of their first.
    failed: VecDeque<(Instant, IpAddr)>,
}

#[derive(Debug)]
struct Record {
    failures: u32,
    /// When the last one was.
    last: Instant,
    /// Logins that the server has not answered yet.
    under_way: u32,
    /// Those who wait for that.
    changed: Arc<Notify>,
}

/// When a login may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Now.
    Now,
    /// It is worth asking again then, or when something has changed.
    Later(Instant),
    /// Not within this window.
    Never,
}

/// What an address has come to by a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crossed {
    /// Its logins are slowed down from now on.
    Slow,
    /// They are refused from now on.
    Refused,
}

impl Table {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, records: HashMap::new(), failed: VecDeque::new() }
    }

    /// Another limit. Those who wait under the old one look again when they would have anyway.
    pub(super) fn limit_to(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// So many failures, and no more, ever reach the server from one address within a window.
    const fn ceiling(&self) -> u32 {
        self.limit.saturating_mul(2)
    }

    /// Asks for a login from this address. One that may go out now is under way from now on.
    pub(super) fn attempt(&mut self, client: IpAddr, now: Instant) -> Due {
        self.forget(now);
        let origin = origin(client);
        let due = self.records.get(&origin).map_or(Due::Now, |record| self.due(record, now));
        if due == Due::Now {
            self.records.entry(origin).or_insert_with(|| Record::new(now)).under_way += 1;
        }
        due
    }

    fn due(&self, record: &Record, now: Instant) -> Due {
        if record.failures >= self.ceiling() {
            return Due::Never;
        }
        let is_slow = record.failures >= self.limit;
        if is_slow && record.last + DELAY > now {
            return Due::Later(record.last + DELAY);
        }
        // What is under way may fail, too: a hundred at once are no way round.
        let room = if is_slow { 1 } else { self.ceiling() - record.failures };
        if record.under_way < room { Due::Now } else { Due::Later(now + DELAY) }
    }

    /// For a login that may not go out yet: until when to wait, and for what.
    pub(super) fn wait(&self, client: IpAddr, now: Instant) -> Option<(Instant, Arc<Notify>)> {
        let record = self.records.get(&origin(client))?;
        match self.due(record, now) {
            Due::Later(at) => Some((at, Arc::clone(&record.changed))),
            Due::Now | Due::Never => None,
        }
    }

    /// A login that was under way has been answered. A success takes no failure back: who has one account would
    /// otherwise have any number of guesses at the others.
    pub(super) fn answered(&mut self, client: IpAddr, failed: bool, now: Instant) -> Option<Crossed> {
        self.forget(now);
        let origin = origin(client);
        let (limit, ceiling) = (self.limit, self.ceiling());
        let record = self.records.get_mut(&origin)?;
        record.under_way = record.under_way.saturating_sub(1);
        if !failed {
            record.changed.notify_one();
            self.forget_if_empty(origin);
            return None;
        }
        if record.failures == 0 {
            self.failed.push_back((now, origin));
        }
        record.failures = record.failures.saturating_add(1);
        record.last = now;
        record.changed.notify_waiters();
        let crossed = match record.failures {
            failures if failures == ceiling => Some(Crossed::Refused),
            failures if failures == limit => Some(Crossed::Slow),
            _ => None,
        };
        if self.failed.len() > MAX_REMEMBERED {
            self.forget_oldest();
        }
        crossed
    }

    /// Whether no login from this address would be let through.
    pub(super) fn is_refused(&mut self, client: IpAddr, now: Instant) -> bool {
        self.forget(now);
        self.records.get(&origin(client)).is_some_and(|record| record.failures >= self.ceiling())
    }

    /// Forgets the failures of windows that are over.
    fn forget(&mut self, now: Instant) {
        while self.failed.front().is_some_and(|(first, _)| *first + WINDOW <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, origin)) = self.failed.pop_front() else { return };
        if let Some(record) = self.records.get_mut(&origin) {
            record.failures = 0;
            record.changed.notify_waiters();
        }
        self.forget_if_empty(origin);
    }

    fn forget_if_empty(&mut self, origin: IpAddr) {
        if self.records.get(&origin).is_some_and(|record| record.failures == 0 && record.under_way == 0)
            && let Some(record) = self.records.remove(&origin)
        {
            record.changed.notify_waiters();
        }
    }
}

impl Record {
    fn new(now: Instant) -> Self {
        Self { failures: 0, last: now, under_way: 0, changed: Arc::default() }
    }
}

/// What counts as one client: an IPv4 address, or a /64 of IPv6, all of which one machine can use (RFC 4291 §2.5.4).
fn origin(client: IpAddr) -> IpAddr {
    const NETWORK: u128 = !(u64::MAX as u128);
    match client.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & NETWORK).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 3;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// When a login may go out; `None` if it is refused.
    fn at(table: &mut Table, client: IpAddr, now: Instant) -> Option<Duration> {
        match table.attempt(client, now) {
            Due::Now => Some(Duration::ZERO),
            Due::Later(at) => Some(at - now),
            Due::Never => None,
        }
    }

    /// A login that fails at once.
    #[track_caller]
    fn fail(table: &mut Table, client: IpAddr, now: Instant) -> Option<Crossed> {
        assert_eq!(at(table, client, now), Some(Duration::ZERO));
        table.answered(client, true, now)
    }

    #[test]
    fn sec_25_failures_slow_an_address_down_and_then_shut_it_out() {
        let (mut table, start, client) = (Table::new(LIMIT), Instant::now(), ip("192.0.2.1"));
        assert_eq!([fail(&mut table, client, start), fail(&mut table, client, start)], [None, None]);
        assert_eq!(fail(&mut table, client, start), Some(Crossed::Slow));
        let mut now = start;
        for crossed in [None, None, Some(Crossed::Refused)] {
            assert_eq!(at(&mut table, client, now), Some(DELAY));
            now += DELAY;
            assert_eq!(fail(&mut table, client, now), crossed);
        }
        assert!(table.is_refused(client, now));
        assert_eq!(at(&mut table, client, now + secs(500)), None);
        assert_eq!(at(&mut table, ip("192.0.2.2"), now), Some(Duration::ZERO), "others are not touched");
        assert!(!table.is_refused(client, start + WINDOW), "the window counts from the first failure");
        assert_eq!(at(&mut table, client, start + WINDOW), Some(Duration::ZERO));
    }

    #[test]
    fn sec_25_logins_at_the_same_time_are_no_way_round() {
        let (mut table, now, client) = (Table::new(LIMIT), Instant::now(), ip("192.0.2.1"));
        let sent = (0..100).filter(|_| at(&mut table, client, now) == Some(Duration::ZERO)).count();
        assert_eq!(sent, 6);
        for _ in 0..sent {
            table.answered(client, true, now);
        }
        assert!(table.is_refused(client, now));
    }

    #[test]
    fn sec_25_while_slowed_down_one_login_is_under_way_at_a_time() {
        let (mut table, start, client) = (Table::new(LIMIT), Instant::now(), ip("192.0.2.1"));
        for _ in 0..LIMIT {
            fail(&mut table, client, start);
        }
        let now = start + DELAY;
        assert_eq!(at(&mut table, client, now), Some(Duration::ZERO));
        assert_eq!(at(&mut table, client, now), Some(DELAY));
        table.answered(client, false, now);
        assert_eq!(at(&mut table, client, now), Some(Duration::ZERO), "a success costs no time");
    }

    #[test]
    fn sec_25_a_success_takes_no_failure_back() {
        let (mut table, now, client) = (Table::new(LIMIT), Instant::now(), ip("192.0.2.1"));
        for _ in 0..LIMIT {
            fail(&mut table, client, now);
            if table.attempt(client, now) == Due::Now {
                table.answered(client, false, now);
            }
        }
        assert_eq!(at(&mut table, client, now), Some(DELAY));
    }

    #[test]
    fn sec_25_the_addresses_of_an_ipv6_network_count_as_one() {
        let (mut table, now) = (Table::new(1), Instant::now());
        fail(&mut table, ip("2001:db8::1"), now);
        assert_eq!(at(&mut table, ip("2001:db8::ffff:2"), now), Some(DELAY));
        assert_eq!(at(&mut table, ip("2001:db8:0:1::1"), now), Some(Duration::ZERO));
        fail(&mut table, ip("::ffff:192.0.2.1"), now);
        assert_eq!(at(&mut table, ip("192.0.2.1"), now), Some(DELAY));
    }

    #[test]
    fn sec_28_the_table_does_not_grow() {
        let (mut table, start) = (Table::new(LIMIT), Instant::now());
        for n in 0..100_000_u32 {
            let client = IpAddr::V4(n.to_be_bytes().into());
            assert_eq!(at(&mut table, client, start), Some(Duration::ZERO));
            table.answered(client, false, start);
        }
        assert!(table.records.is_empty());
        for n in 0..100_000_u32 {
            fail(&mut table, IpAddr::V4(n.to_be_bytes().into()), start);
        }
        assert_eq!((table.records.len(), table.failed.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        table.forget(start + WINDOW);
        assert!(table.records.is_empty() && table.failed.is_empty());
    }
}
