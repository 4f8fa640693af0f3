//! Which sockets the ranges need, and binding them: at start, and again while another program has them. Who takes what
//! is accepted there is the caller's affair ([`Taker`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::BindError;
use super::table::SlotId;
use crate::proxy_protocol::Header;
use crate::relay::accept::Acceptor;
use crate::relay::gate::Gate;
use crate::relay::socket;

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

/// A slot that could not be bound, and why.
type Failure = (SlotId, io::Error);

/// Takes the connections that come to bound ports.
pub(in crate::relay) trait Taker: Send + Sync + 'static {
    /// Another program had this slot, and now it listens.
    fn bound(&self, _slot: SlotId) {}

    /// What a connection to this slot has to pass before it is anybody's.
    fn gate(&self, slot: SlotId) -> Option<&Arc<Gate>>;

    /// Somebody has connected to a slot, which listens at `at`; `from` is the client, also where a load balancer has
    /// connected for it. Dropping the connection resets it.
    fn connected(self: &Arc<Self>, slot: SlotId, at: SocketAddr, stream: TcpStream, from: SocketAddr);
}

/// Sockets that listen, as far as they could be had, and that nobody accepts on yet.
#[derive(Debug)]
pub(in crate::relay) struct Bound {
    pub(super) slots: Arc<[SocketAddr]>,
    pub(super) failed: Vec<Failure>,
    listeners: Vec<(SlotId, Acceptor)>,
    /// They take connections to any address.
    any_address: bool,
}

/// Binds every port of every range on every address. Those that other programs hold are left out with a warning.
///
/// # Errors
/// None of the ports of one entry could be bound.
pub(in crate::relay) fn bind(wanted: &[(IpAddr, RangeInclusive<u16>)]) -> Result<Bound, BindError> {
    let slots: Arc<[SocketAddr]> = plan(wanted).into();
    let (mut listeners, mut failed) = (Vec::new(), Vec::new());
    for (slot, &addr) in slots.iter().enumerate() {
        match socket::listen_data(addr, BACKLOG) {
            Ok(listener) => listeners.push((slot, listener)),
            Err(error) => failed.push((slot, error)),
        }
    }
    check(wanted, &slots, &failed)?;
    warn_of_missing(&slots, &failed);
    Ok(Bound { slots, failed, listeners, any_address: false })
}

/// Each entry of `wanted` must have got a port.
fn check(wanted: &[(IpAddr, RangeInclusive<u16>)], all: &[SocketAddr], failed: &[Failure]) -> Result<(), BindError> {
    for (ip, ports) in wanted {
        let slots = || ports.clone().filter_map(|port| slot(all, ip.to_canonical(), port));
        let error_of = |slot| failed.iter().find(|(failed, _)| *failed == slot).map(|(_, error)| error);
        if slots().all(|slot| error_of(slot).is_some()) {
            let source = slots().find_map(error_of).map_or(io::ErrorKind::InvalidInput.into(), clone_error);
            return Err(BindError { ip: *ip, ports: ports.clone(), source });
        }
    }
    Ok(())
}

/// The slot that listens on this address and port.
pub(super) fn slot(all: &[SocketAddr], ip: IpAddr, port: u16) -> Option<SlotId> {
    let find = |ip| all.binary_search(&SocketAddr::new(ip, port)).ok();
    find(ip).or_else(|| find(wildcard(ip)))
}

/// `io::Error` is not `Clone`; those of system calls are their numbers.
fn clone_error(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

impl Bound {
    /// Lets all of them take connections that were led here although they are for other machines (TPROXY), if the process
    /// may do that.
    pub(in crate::relay) fn taking_any_address(mut self) -> Self {
        self.any_address = self.listeners.iter().all(|(_, listener)| listener.take_any_address().is_ok());
        self
    }

    /// Accepts for `taker` until `stop`, or until it is gone. What is missing is tried again every 30 s.
    pub(in crate::relay) fn serve<T: Taker>(self, taker: &Arc<T>, stop: &CancellationToken) {
        let (at, any_address) = (Arc::clone(&self.slots), self.any_address);
        let door = |slot| Door { slot, at: at[slot], any_address, taker: Arc::downgrade(taker), stop: stop.clone() };
        for (slot, listener) in self.listeners {
            tokio::spawn(door(slot).serve(listener));
        }
        if !self.failed.is_empty() {
            tokio::spawn(retry(self.failed.iter().map(|(slot, _)| door(*slot)).collect(), stop.clone()));
        }
    }
}

/// One slot, and who takes what comes there.
struct Door<T> {
    slot: SlotId,
    at: SocketAddr,
    any_address: bool,
    taker: Weak<T>,
    stop: CancellationToken,
}

impl<T: Taker> Door<T> {
    /// Accepts for as long as there is somebody to accept for.
    async fn serve(self, listener: Acceptor) {
        let mut stopped = pin!(self.stop.cancelled());
        loop {
            let (stream, from) = tokio::select! {
                () = &mut stopped => return,
                accepted = listener.accept() => accepted,
            };
            let Some(taker) = self.taker.upgrade() else { return };
            match taker.gate(self.slot) {
                Some(gate) => self.pass(gate, stream, from),
                None => taker.connected(self.slot, self.at, stream, from),
            }
        }
    }

    /// Through the gate to the taker, if it is still there by then.
    fn pass(&self, gate: &Arc<Gate>, stream: TcpStream, from: SocketAddr) {
        let (slot, at, taker) = (self.slot, self.at, Weak::clone(&self.taker));
        gate.enter(stream, from, move |stream, header| {
            let from = match header {
                Header::Client { source, .. } => source,
                Header::Unknown => from,
                // A health check is nobody's data, whomever a port waits for.
                Header::Local => return,
            };
            if let Some(taker) = taker.upgrade() {
                taker.connected(slot, at, stream, from);
            }
        });
    }

    /// Itself, if the port still cannot be bound.
    fn try_again(self) -> Option<Self> {
        let Ok(listener) = socket::listen_data(self.at, BACKLOG) else { return Some(self) };
        if self.any_address && listener.take_any_address().is_err() {
            return Some(self);
        }
        let taker = self.taker.upgrade()?;
        tracing::info!(at = %self.at, "data port bound");
        let slot = self.slot;
        tokio::spawn(self.serve(listener));
        taker.bound(slot);
        None
    }
}

/// Tries the missing ports again until all are bound or `stop`.
async fn retry<T: Taker>(mut missing: Vec<Door<T>>, stop: CancellationToken) {
    while !missing.is_empty() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
        missing = missing.into_iter().filter_map(Door::try_again).collect();
    }
}

/// One warning per address for the ports that are left out.
fn warn_of_missing(plan: &[SocketAddr], failed: &[Failure]) {
    let mut by_ip: BTreeMap<IpAddr, (Vec<u16>, &io::Error)> = BTreeMap::new();
    for (slot, error) in failed {
        by_ip.entry(plan[*slot].ip()).or_insert_with(|| (Vec::new(), error)).0.push(plan[*slot].port());
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
