//! Which sockets the ranges need, and binding them: at start, at a reload, and again while another program has them. Who
//! takes what is accepted there is the caller's affair ([`Taker`]).
//!
//! A reload makes another configuration, and the sessions of the old one go on. What both need is one socket, which the
//! [`Tenure`] of each owns: a port is bound once, and open for as long as somebody may be told of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::BindError;
use crate::proxy_protocol::Header;
use crate::relay::accept::Acceptor;
use crate::relay::gate::Gate;
use crate::relay::socket;
use crate::relay::sockets::Sockets;

/// Connections that the kernel holds for us per port. Between two accepts only strangers can fill it, so it is what
/// a flood must exceed to keep the expected peer out; `net.core.somaxconn` (4096 since Linux 5.4) caps it.
pub(super) const BACKLOG: i32 = 1024;

/// How often ports that another program holds are tried again.
const RETRY: Duration = Duration::from_secs(30);

/// The address that covers all of the family.
pub(in crate::relay) fn wildcard(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The sockets for all of `wanted`: each once, and none that a wildcard socket of the same port covers (it could not
/// be bound beside it).
pub(super) fn plan(wanted: &[(IpAddr, RangeInclusive<u16>)]) -> Vec<SocketAddr> {
    let every =
        wanted.iter().flat_map(|(ip, ports)| ports.clone().map(|port| SocketAddr::new(ip.to_canonical(), port)));
    let every: BTreeSet<SocketAddr> = every.collect();
    let covered = |addr: &SocketAddr| {
        !addr.ip().is_unspecified() && every.contains(&SocketAddr::new(wildcard(addr.ip()), addr.port()))
    };
    every.iter().copied().filter(|addr| !covered(addr)).collect()
}

/// An address that could not be bound, and why.
type Failure = (SocketAddr, io::Error);

/// Takes the connections that come to bound ports.
pub(in crate::relay) trait Taker: Send + Sync + 'static {
    /// Another program had this address, and now it is listened on.
    fn bound(&self, _seat: &Arc<Seat>) {}

    /// What a connection to this address has to pass before it is anybody's.
    fn gate(&self, at: SocketAddr) -> Option<Arc<Gate>>;

    /// Somebody has connected to where we listen, `at`; `from` is the client, also where a load balancer has connected for
    /// it. Dropping the connection resets it.
    fn connected(self: &Arc<Self>, at: SocketAddr, stream: TcpStream, from: SocketAddr);
}

/// A data port that is listened on. Whoever needs it open owns it: closed with the last of them, whichever configuration
/// they go by.
#[derive(Debug)]
pub(in crate::relay) struct Seat {
    at: SocketAddr,
    socket: Arc<Acceptor>,
    /// Ends the task that accepts.
    _stop: DropGuard,
}

impl Seat {
    /// Where it listens.
    pub(super) const fn at(&self) -> SocketAddr {
        self.at
    }
}

/// Every seat of one taker, by its address. It keeps none open.
#[derive(Debug, Default)]
pub(in crate::relay) struct Seats {
    sockets: Sockets,
    open: Mutex<HashMap<SocketAddr, Weak<Seat>>>,
}

impl Seats {
    /// The seat at this address: the one that there is, or a new one.
    fn open<T: Taker>(&self, at: SocketAddr, any_address: bool, taker: &Arc<T>) -> io::Result<Arc<Seat>> {
        let mut open = self.lock();
        let seat = match open.get(&at).and_then(Weak::upgrade) {
            Some(seat) => seat,
            None => {
                let socket = self.sockets.get(at, || socket::listen_data(at, BACKLOG))?;
                let stop = CancellationToken::new();
                tokio::spawn(accept(at, Arc::clone(&socket), Arc::downgrade(taker), stop.clone()));
                Arc::new(Seat { at, socket, _stop: stop.drop_guard() })
            }
        };
        if any_address {
            seat.socket.take_any_address()?;
        }
        open.insert(at, Arc::downgrade(&seat));
        Ok(seat)
    }

    /// What listens at this address already, or for all addresses of its family: beside that it could not be bound.
    fn covering(&self, at: SocketAddr) -> Option<Arc<Seat>> {
        let open = self.lock();
        let find = |ip| open.get(&SocketAddr::new(ip, at.port())).and_then(Weak::upgrade);
        find(at.ip()).or_else(|| find(wildcard(at.ip())))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Weak<Seat>>> {
        // Nothing under this lock leaves it half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ports that one configuration has, for as long as it, or a session that goes by it, is there.
#[derive(Debug, Default)]
pub(in crate::relay) struct Tenure {
    /// Where to listen, in order.
    wanted: Vec<SocketAddr>,
    /// What listens there: one of the same address, or of all addresses of its family.
    seats: Mutex<HashMap<SocketAddr, Arc<Seat>>>,
}

impl Tenure {
    /// Opens every port of every range on every address. What an earlier configuration has open is shared with it. Those
    /// that other programs hold are left out with a warning, and tried again every 30 s. `any_address`: they take
    /// connections that were led here although they are for other machines (TPROXY), if the process may do that.
    ///
    /// # Errors
    /// None of the ports of one entry could be bound.
    pub(in crate::relay) fn open<T: Taker>(
        wanted: &[(IpAddr, RangeInclusive<u16>)],
        any_address: bool,
        seats: &Seats,
        taker: &Arc<T>,
    ) -> Result<(Arc<Self>, Missing), BindError> {
        let plan = plan(wanted);
        let (mut open, mut failed) = (HashMap::new(), Vec::new());
        let mut any_address = any_address;
        for &at in &plan {
            let seat = seats.covering(at).map_or_else(|| seats.open(at, false, taker), Ok);
            match seat {
                Ok(seat) => {
                    any_address = any_address && seat.socket.take_any_address().is_ok();
                    open.insert(at, seat);
                }
                Err(error) => failed.push((at, error)),
            }
        }
        check(wanted, &plan, &failed)?;
        warn_of_missing(&failed);
        let missing = Missing { at: failed.into_iter().map(|(at, _)| at).collect(), any_address };
        Ok((Arc::new(Self { wanted: plan, seats: Mutex::new(open) }), missing))
    }

    /// Where connections to this address and port come in, whether or not it is bound by now.
    pub(in crate::relay) fn listens(&self, ip: IpAddr, port: u16) -> Option<SocketAddr> {
        let at = planned(&self.wanted, ip, port)?;
        Some(self.seats().get(&at).map_or(at, |seat| seat.at))
    }

    /// Where connections come in, whether or not it is bound by now.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.wanted.iter().filter_map(|at| self.listens(at.ip(), at.port())).collect()
    }

    /// Everything that is open.
    pub(super) fn open_seats(&self) -> Vec<Arc<Seat>> {
        self.seats().values().cloned().collect()
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Seat>>> {
        // An insertion is all that happens under this lock.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a [`Tenure`] could not open.
#[derive(Debug)]
pub(in crate::relay) struct Missing {
    at: Vec<SocketAddr>,
    any_address: bool,
}

impl Missing {
    /// Tries again every 30 s, until nothing is missing or nobody wants it any more. `seats` are those of the taker.
    pub(in crate::relay) fn watch<T: Taker>(self, tenure: &Arc<Tenure>, taker: &Arc<T>, seats: fn(&T) -> &Seats) {
        if self.at.is_empty() {
            return;
        }
        let (tenure, taker) = (Arc::downgrade(tenure), Arc::downgrade(taker));
        tokio::spawn(async move {
            let mut missing = self.at;
            while !missing.is_empty() {
                tokio::time::sleep(RETRY).await;
                let (Some(tenure), Some(taker)) = (tenure.upgrade(), taker.upgrade()) else { return };
                missing.retain(|at| {
                    let Ok(seat) = seats(&taker).open(*at, self.any_address, &taker) else { return true };
                    tracing::info!(%at, "data port bound");
                    tenure.seats().insert(*at, Arc::clone(&seat));
                    taker.bound(&seat);
                    false
                });
            }
        });
    }
}

/// Each entry of `wanted` must have got a port.
fn check(wanted: &[(IpAddr, RangeInclusive<u16>)], all: &[SocketAddr], failed: &[Failure]) -> Result<(), BindError> {
    for (ip, ports) in wanted {
        let planned = || ports.clone().filter_map(|port| planned(all, ip.to_canonical(), port));
        let error_of = |at| failed.iter().find(|(failed, _)| *failed == at).map(|(_, error)| error);
        if planned().all(|at| error_of(at).is_some()) {
            let source = planned().find_map(error_of).map_or(io::ErrorKind::InvalidInput.into(), clone_error);
            return Err(BindError { ip: *ip, ports: ports.clone(), source });
        }
    }
    Ok(())
}

/// The address of the plan, which is in order, that takes connections to this address and port.
fn planned(all: &[SocketAddr], ip: IpAddr, port: u16) -> Option<SocketAddr> {
    let find = |ip| all.binary_search(&SocketAddr::new(ip, port)).ok().map(|at| all[at]);
    find(ip).or_else(|| find(wildcard(ip)))
}

/// `io::Error` is not `Clone`; those of system calls are their numbers.
fn clone_error(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// Accepts for `taker` until `stop`, or until it is gone.
async fn accept<T: Taker>(at: SocketAddr, socket: Arc<Acceptor>, taker: Weak<T>, stop: CancellationToken) {
    let mut stopped = pin!(stop.cancelled());
    loop {
        let (stream, from) = tokio::select! {
            () = &mut stopped => return,
            accepted = socket.accept() => accepted,
        };
        let Some(door) = taker.upgrade() else { return };
        match door.gate(at) {
            Some(gate) => pass(&gate, at, Weak::clone(&taker), stream, from),
            None => door.connected(at, stream, from),
        }
    }
}

/// Through the gate to the taker, if it is still there by then.
fn pass<T: Taker>(gate: &Arc<Gate>, at: SocketAddr, taker: Weak<T>, stream: TcpStream, from: SocketAddr) {
    gate.enter(stream, from, move |stream, header| {
        let from = match header {
            Header::Client { source, .. } => source,
            Header::Unknown => from,
            // A health check is nobody's data, whomever a port waits for.
            Header::Local => return,
        };
        if let Some(taker) = taker.upgrade() {
            taker.connected(at, stream, from);
        }
    });
}

/// One warning per address for the ports that are left out.
fn warn_of_missing(failed: &[Failure]) {
    let mut by_ip: BTreeMap<IpAddr, (Vec<u16>, &io::Error)> = BTreeMap::new();
    for (at, error) in failed {
        by_ip.entry(at.ip()).or_insert_with(|| (Vec::new(), error)).0.push(at.port());
    }
    for (ip, (ports, error)) in by_ip {
        let ports = port_list(&ports);
        tracing::warn!(%ip, ports, %error, "data ports left out, trying again every {} s", RETRY.as_secs());
    }
}

/// Ascending ports in short: `20000, 20003-20007`.
fn port_list(ports: &[u16]) -> String {
    let mut list = String::new();
    for run in ports.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let separator = if list.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = match run {
            [one] => write!(list, "{separator}{one}"),
            [first, .., last] => write!(list, "{separator}{first}-{last}"),
            [] => Ok(()),
        };
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_wildcard_covers_the_specific_addresses_of_its_family_only() {
        let wanted = [
            (ip("10.0.0.1"), 20000..=20002),
            (ip("0.0.0.0"), 20001..=20001),
            (ip("::1"), 20001..=20001),
            (ip("::"), 20002..=20002),
        ];
        let expected = ["0.0.0.0:20001", "10.0.0.1:20000", "10.0.0.1:20002", "[::]:20002", "[::1]:20001"];
        assert_eq!(plan(&wanted), addrs(&expected));
    }

    #[test]
    fn overlapping_ranges_share_their_sockets() {
        let wanted = [(ip("10.0.0.1"), 20000..=20001), (ip("::ffff:10.0.0.1"), 20001..=20002)];
        assert_eq!(plan(&wanted), addrs(&["10.0.0.1:20000", "10.0.0.1:20001", "10.0.0.1:20002"]));
    }

    #[test]
    fn the_last_port_of_all_is_planned() {
        assert_eq!(plan(&[(ip("10.0.0.1"), 65535..=65535)]), addrs(&["10.0.0.1:65535"]));
    }

    #[test]
    fn port_lists_are_short() {
        assert_eq!(port_list(&[1]), "1");
        assert_eq!(port_list(&[1, 2, 3, 5, 65534, 65535]), "1-3, 5, 65534-65535");
    }
}
