//! Which sockets the ranges need, and binding them: at start, and again while another program has them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::table::SlotId;
use super::{Shared, serve};
use crate::relay::accept::Acceptor;
use crate::relay::socket;

/// Connections that the kernel holds for us per port. Between two accepts only strangers can fill it, so it is what
/// a flood must exceed to keep the expected peer out; `net.core.somaxconn` (4096 since Linux 5.4) caps it.
pub(super) const BACKLOG: i32 = 1024;

/// How often ports that another program holds are tried again.
const RETRY: Duration = Duration::from_secs(30);

/// The address that covers all of the family.
pub(super) fn wildcard(ip: IpAddr) -> IpAddr {
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
pub(super) type Failure = (SlotId, io::Error);

/// Binds the planned sockets. Those that fail come back with their errors.
pub(super) fn bind(plan: &[SocketAddr]) -> (Vec<(SlotId, Acceptor)>, Vec<Failure>) {
    let (mut bound, mut failed) = (Vec::new(), Vec::new());
    for (slot, &addr) in plan.iter().enumerate() {
        match socket::listen_data(addr, BACKLOG) {
            Ok(listener) => bound.push((slot, listener)),
            Err(error) => failed.push((slot, error)),
        }
    }
    (bound, failed)
}

/// Tries the missing ports again until all are bound or `stop`.
pub(super) async fn retry(shared: Weak<Shared>, mut missing: Vec<SlotId>, stop: CancellationToken) {
    while !missing.is_empty() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        missing.retain(|&slot| !try_again(&shared, slot, &stop));
    }
}

fn try_again(shared: &Arc<Shared>, slot: SlotId, stop: &CancellationToken) -> bool {
    let Ok(listener) = socket::listen_data(shared.slots[slot], BACKLOG) else { return false };
    tracing::info!(at = %shared.slots[slot], "data port bound");
    tokio::spawn(serve(listener, slot, Arc::downgrade(shared), stop.clone()));
    let mut state = shared.lock();
    state.bound[slot] = true;
    state.table.queues.call_everyone();
    true
}

/// One warning per address for the ports that are left out.
pub(super) fn warn_of_missing(plan: &[SocketAddr], failed: &[Failure]) {
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
