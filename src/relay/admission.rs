//! How many clients a listener serves at once, in all and from one address. No queue: who finds it full is told so.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::accept;

/// Clients from one address at most, unless `limits.sessions_per_address` says otherwise: an office of some hundred
/// people behind one NAT, each with a program that opens several connections (FileZilla 2, WinSCP up to 9), stays far
/// below, and with the default of `limits.sessions` it takes ten such addresses to fill a listener.
const DEFAULT_PER_ADDRESS: u32 = 1000;

/// Who is there.
#[derive(Debug)]
pub(super) struct Admission {
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    sessions: u32,
    per_address: u32,
    total: u32,
    by_address: HashMap<IpAddr, u32>,
    warned_of_listener: Option<Instant>,
    warned_of_address: Option<Instant>,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// `limits.sessions`
    Listener,
    /// `limits.sessions_per_address`
    Address,
}

/// A client's place. Dropped, it is free.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Admission {
    /// At most `sessions`. Without a limit per address it is half of them or less, so that one address never takes all.
    pub(super) fn new(sessions: u32, per_address: Option<u32>) -> Arc<Self> {
        let admission = Arc::new(Self { present: Mutex::default() });
        admission.limit_to(sessions, per_address);
        admission
    }

    /// From now on it is these limits. Whoever is there counts on, also above them.
    pub(super) fn limit_to(&self, sessions: u32, per_address: Option<u32>) {
        let mut present = self.present();
        present.sessions = sessions;
        present.per_address = per_address.unwrap_or_else(|| DEFAULT_PER_ADDRESS.min(sessions.div_ceil(2)));
    }

    /// A place for a client.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr) -> Result<Place, Full> {
        let client = client.to_canonical();
        let present = &mut *self.present();
        if present.total >= present.sessions {
            return Err(Full::Listener);
        }
        let of_address = present.by_address.entry(client).or_default();
        if *of_address >= present.per_address {
            return Err(Full::Address);
        }
        *of_address += 1;
        present.total += 1;
        Ok(Place { admission: Arc::clone(self), client })
    }

    /// Whether turning somebody away for this is worth a line in the log: now and then it is.
    pub(super) fn is_warning_due(&self, full: Full) -> bool {
        let mut present = self.present();
        let last = match full {
            Full::Listener => &mut present.warned_of_listener,
            Full::Address => &mut present.warned_of_address,
        };
        accept::is_due(last, Instant::now())
    }

    fn leave(&self, client: IpAddr) {
        let mut present = self.present();
        present.total -= 1;
        if let Entry::Occupied(mut of_address) = present.by_address.entry(client) {
            *of_address.get_mut() -= 1;
            if *of_address.get() == 0 {
                of_address.remove();
            }
        }
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        // Nothing under this lock can fail half way.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.leave(self.client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn sec_28_one_address_and_all_have_a_limit_each() {
        let admission = Admission::new(3, Some(2));
        let first = admission.enter(ip("192.0.2.1")).unwrap();
        let _second = admission.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(admission.enter(ip("192.0.2.1")).err(), Some(Full::Address));
        let third = admission.enter(ip("192.0.2.2")).unwrap();
        assert_eq!(admission.enter(ip("192.0.2.3")).err(), Some(Full::Listener));
        drop(third);
        assert_eq!(admission.enter(ip("192.0.2.1")).err(), Some(Full::Address), "the free place is for others");
        drop(first);
        let _again = admission.enter(ip("192.0.2.1")).unwrap();
    }

    #[test]
    fn sec_28_one_address_never_takes_everything_by_default() {
        for (sessions, of_one_address) in [(10_000, 1000), (100, 50), (3, 2), (1, 1)] {
            let admission = Admission::new(sessions, None);
            let places: Vec<Place> = std::iter::from_fn(|| admission.enter(ip("192.0.2.1")).ok()).collect();
            assert_eq!(places.len(), of_one_address);
        }
    }

    #[test]
    fn rel_14_other_limits_count_who_is_there() {
        let admission = Admission::new(3, Some(2));
        let first = admission.enter(ip("192.0.2.1")).unwrap();
        let second = admission.enter(ip("192.0.2.1")).unwrap();
        admission.limit_to(1, Some(1));
        drop(first);
        assert_eq!(admission.enter(ip("192.0.2.2")).err(), Some(Full::Listener));
        admission.limit_to(3, Some(1));
        assert_eq!(admission.enter(ip("192.0.2.1")).err(), Some(Full::Address));
        drop(second);
        let _again = admission.enter(ip("192.0.2.1")).unwrap();
    }

    #[test]
    fn nothing_is_kept_of_clients_that_are_gone() {
        let admission = Admission::new(10, Some(1));
        for n in 0..=255 {
            drop(admission.enter([192, 0, 2, n].into()));
        }
        let present = admission.present();
        assert!(present.total == 0 && present.by_address.is_empty());
    }
}
