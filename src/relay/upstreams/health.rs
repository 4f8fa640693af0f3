//! Whether a server counts as up, by what sessions and checks have seen of it. Pure: the time and chance are passed in.
//!
//! ```text
//!          `fall` failures in a row
//!      up ─────────────────────────▶ down
//!         ◀─────────────────────────
//!          `rise` successes in a row
//! ```
//!
//! While all is well it is looked at every `interval`. After a failure that is 1 s, and twice as long each time it fails
//! again, `interval` at most: a server that has restarted is back soon, and one that bans whoever knocks too often is left
//! in peace.

use std::time::{Duration, Instant};

use crate::config;

/// The first step of the back-off.
const FIRST: Duration = Duration::from_secs(1);

/// What is known of a server.
#[derive(Debug, Clone)]
pub(super) struct Health {
    rules: config::Health,
    up: bool,
    /// Results in a row that speak against `up`.
    contrary: u32,
    /// Times that it has failed when it was looked at since it last did not.
    step: u32,
    /// When it is next worth a look.
    next: Instant,
    /// Of the last failure, if nothing has been well since.
    reason: Option<String>,
}

/// What a result has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It counts as down.
    Fell,
    /// It counts as up again.
    Rose,
}

impl Health {
    /// A server of which nothing is known counts as up, and is worth a look soon. `chance` is from 0 to 1, here and below.
    pub(super) fn new(rules: config::Health, now: Instant, chance: f64) -> Self {
        let next = now + spread(FIRST.min(rules.interval), chance);
        Self { rules, up: true, contrary: 0, step: 0, next, reason: None }
    }

    /// What is known, under the rules of another configuration. That may be what was wrong: it is worth a look soon.
    pub(super) fn under(&self, rules: config::Health, now: Instant, chance: f64) -> Self {
        let soon = Self::new(rules, now, chance).next;
        Self { rules, next: self.next.min(soon), ..self.clone() }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// When it is next worth a look, if nothing is heard of it until then.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether a session should be led there. Where nobody else looks, a session does so when it is time.
    pub(super) fn admits(&self, now: Instant) -> bool {
        self.up || (!self.rules.checks && now >= self.next)
    }

    /// A session is led there: if it is one that looks for all, the others wait for what comes of it.
    pub(super) fn enters(&mut self, now: Instant, chance: f64) {
        if !self.up && now >= self.next {
            self.next = now + spread(self.pause(), chance);
            self.step = self.step.saturating_add(1);
        }
    }

    /// It has answered as a server should.
    pub(super) fn succeeded(&mut self, now: Instant, chance: f64) -> Option<Change> {
        self.step = 0;
        self.reason = None;
        if self.up {
            self.contrary = 0;
            self.next = now + spread(self.rules.interval, chance);
            return None;
        }
        self.next = now + spread(self.pause(), chance);
        self.turn(self.rules.rise.get()).then_some(Change::Rose)
    }

    /// It has not.
    pub(super) fn failed(&mut self, reason: String, now: Instant, chance: f64) -> Option<Change> {
        self.reason = Some(reason);
        // A crowd of clients that fail at once is one look.
        if self.step == 0 || now >= self.next {
            self.next = now + spread(self.pause(), chance);
            self.step = self.step.saturating_add(1);
        }
        if !self.up {
            self.contrary = 0;
            return None;
        }
        self.turn(self.rules.fall.get()).then_some(Change::Fell)
    }

    fn turn(&mut self, needed: u32) -> bool {
        self.contrary += 1;
        if self.contrary < needed {
            return false;
        }
        (self.up, self.contrary) = (!self.up, 0);
        true
    }

    fn pause(&self) -> Duration {
        // Longer than a year is no interval.
        FIRST.saturating_mul(1 << self.step.min(25)).min(self.rules.interval)
    }
}

/// A quarter more or less, so that neither many servers nor many proxies are in step.
fn spread(pause: Duration, chance: f64) -> Duration {
    pause.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn rules(checks: bool) -> config::Health {
        let count = |n| NonZeroU32::new(n).unwrap();
        config::Health { checks, interval: INTERVAL, timeout: INTERVAL, fall: count(3), rise: count(2) }
    }

    fn health(checks: bool) -> (Health, Instant) {
        let now = Instant::now();
        (Health::new(rules(checks), now, 0.5), now)
    }

    fn fail(health: &mut Health, now: Instant) -> Option<Change> {
        health.failed("refused".into(), now, 0.5)
    }

    #[test]
    fn rel_10_it_falls_and_rises_after_so_many_results_in_a_row() {
        let (mut health, now) = health(true);
        for _ in 0..2 {
            assert_eq!((fail(&mut health, now), fail(&mut health, now)), (None, None));
            assert_eq!(health.succeeded(now, 0.5), None);
        }
        assert!(health.reason().is_none() && health.is_up());
        assert_eq!((fail(&mut health, now), fail(&mut health, now)), (None, None));
        let later = now + INTERVAL;
        assert_eq!(fail(&mut health, later), Some(Change::Fell));
        assert_eq!((health.is_up(), health.reason()), (false, Some("refused")));
        assert_eq!(health.succeeded(later, 0.5), None);
        assert_eq!(fail(&mut health, later), None, "it fell only once");
        assert_eq!((health.succeeded(later, 0.5), health.succeeded(later, 0.5)), (None, Some(Change::Rose)));
        assert!(health.is_up());
    }

    /// What was wrong may have been the configuration.
    #[test]
    fn rel_14_with_other_rules_it_is_looked_at_soon() {
        let (mut health, mut now) = health(true);
        for _ in 0..8 {
            now += INTERVAL;
            fail(&mut health, now);
        }
        assert!(health.next() > now + FIRST.mul_f64(1.25));
        let later = health.under(rules(true), now, 0.5);
        assert_eq!((later.next(), later.is_up(), later.reason()), (now + FIRST, false, Some("refused")));
        assert_eq!(later.under(rules(true), now + INTERVAL, 0.5).next(), now + FIRST, "never later than it would be");
    }

    #[test]
    fn a_server_that_fails_is_looked_at_ever_more_rarely_and_never_more_rarely_than_a_good_one() {
        let (mut health, mut now) = health(true);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            fail(&mut health, now);
            // The crowd that fails meanwhile changes nothing.
            fail(&mut health, now + FIRST / 2);
            assert_eq!(health.next() - now, Duration::from_secs(seconds));
            now = health.next();
        }
        health.succeeded(now, 0.5);
        assert_eq!(health.next() - now, FIRST, "it may be back");
        health.succeeded(now, 0.5);
        assert!(health.is_up());
        health.succeeded(now, 0.5);
        assert_eq!(health.next() - now, INTERVAL);
    }

    #[test]
    fn without_checks_one_client_now_and_then_finds_out() {
        let (mut health, now) = health(false);
        while fail(&mut health, now) != Some(Change::Fell) {}
        assert!(!health.admits(now));
        let due = health.next();
        assert!(health.admits(due));
        health.enters(due, 0.5);
        assert!(!health.admits(due), "only one of them");
        assert_eq!(health.next() - due, 2 * FIRST);
        let (mut checked, now) = self::health(true);
        while fail(&mut checked, now) != Some(Change::Fell) {}
        assert!(!checked.admits(now + 10 * INTERVAL), "a check finds out");
    }

    proptest! {
        #[test]
        fn it_is_looked_at_again_within_the_interval_and_a_quarter(
            results in proptest::collection::vec((any::<bool>(), 0_u64..40, 0.0..1.0), 1..60),
        ) {
            let (mut health, mut now) = health(true);
            let (mut failures, mut successes) = (0, 0);
            for (is_well, seconds, chance) in results {
                now += Duration::from_secs(seconds);
                let was_up = health.is_up();
                if is_well {
                    health.succeeded(now, chance);
                    (failures, successes) = (0, successes + 1);
                } else {
                    health.failed("x".into(), now, chance);
                    (failures, successes) = (failures + 1, 0);
                }
                prop_assert!(health.next() <= now + INTERVAL.mul_f64(1.25));
                prop_assert!(health.is_up() == was_up || failures >= 3 || successes >= 2);
                prop_assert!(health.is_up() || successes < 2);
                prop_assert!(!health.is_up() || failures < 3);
                prop_assert_eq!(health.reason().is_some(), !is_well);
            }
        }
    }
}
