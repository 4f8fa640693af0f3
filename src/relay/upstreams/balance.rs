//! In which order the servers of a group are tried for a client. Pure.

use std::cmp::Reverse;
use std::hash::Hasher as _;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::config::Balance;

/// A server as the choice sees it.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    /// As the configuration has it: what a client's address is weighed against, so that neither its place in the list nor
    /// the other servers matter.
    pub(super) name: &'a str,
    /// Sessions that it has now.
    pub(super) sessions: u32,
    /// Whether it counts as up.
    pub(super) is_up: bool,
}

/// The places of `candidates` in the order in which they are to be tried. Those that count as down come last: they may be
/// better than nothing, since whoever judged them may be wrong. `turn` counts the sessions so far.
pub(super) fn order(balance: Balance, candidates: &[Candidate<'_>], client: IpAddr, turn: usize) -> Vec<usize> {
    let (mut order, down): (Vec<usize>, Vec<usize>) = (0..candidates.len()).partition(|i| candidates[*i].is_up);
    let up = order.len();
    order.extend(down);
    let (first, last) = order.split_at_mut(up);
    for part in [first, last] {
        match balance {
            Balance::First => {}
            Balance::RoundRobin => rotate(part, turn),
            Balance::LeastSessions => {
                // The sort is stable: among those with as many sessions it is each one's turn.
                rotate(part, turn);
                part.sort_by_key(|i| candidates[*i].sessions);
            }
            Balance::Source => part.sort_by_key(|i| Reverse(weight(client, candidates[*i].name))),
        }
    }
    order
}

fn rotate(part: &mut [usize], turn: usize) {
    if !part.is_empty() {
        part.rotate_left(turn % part.len());
    }
}

/// Rendezvous hashing: each client takes the server that weighs most for it. A server that goes moves its own clients
/// only, and one that comes back gets just these again. The hash is the same in every process and every version.
fn weight(client: IpAddr, name: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    match client.to_canonical() {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        // Machines change the lower half of their address every day (RFC 8981).
        IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
    }
    hasher.write(name.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const BALANCES: [Balance; 4] = [Balance::First, Balance::RoundRobin, Balance::LeastSessions, Balance::Source];
    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn candidates(servers: &[(u32, bool)]) -> Vec<Candidate<'static>> {
        const NAMES: [&str; 8] = ["a:21", "b:21", "c:21", "d:21", "e:21", "f:21", "g:21", "h:21"];
        let candidate = |(name, (sessions, is_up)): (&&'static str, &(u32, bool))| Candidate {
            name,
            sessions: *sessions,
            is_up: *is_up,
        };
        NAMES.iter().zip(servers).map(candidate).collect()
    }

    proptest! {
        #[test]
        fn rel_10_every_server_is_tried_once_and_those_that_are_up_first(
            servers in proptest::collection::vec((0_u32..5, any::<bool>()), 1..8),
            balance in proptest::sample::select(BALANCES.to_vec()), client: u32, turn: usize,
        ) {
            let all = candidates(&servers);
            let order = order(balance, &all, Ipv4Addr::from(client).into(), turn);
            let up = all.iter().filter(|candidate| candidate.is_up).count();
            prop_assert!(order.iter().enumerate().all(|(place, i)| all[*i].is_up == (place < up)), "{order:?}");
            let mut sorted = order;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..all.len()).collect::<Vec<_>>());
        }

        #[test]
        fn a_server_that_leaves_moves_its_own_clients_only(client: u32, gone in 0_usize..5) {
            let client = Ipv4Addr::from(client).into();
            let mut all = candidates(&[(0, true); 5]);
            let before = order(Balance::Source, &all, client, 0);
            all[gone].is_up = false;
            let after = order(Balance::Source, &all, client, 1);
            let expected = if before[0] == gone { before[1] } else { before[0] };
            prop_assert_eq!(after[0], expected);
            // Neither does another place in the file matter, nor a list without it.
            let without: Vec<Candidate<'_>> = all.iter().filter(|c| c.is_up).rev().cloned().collect();
            prop_assert_eq!(without[order(Balance::Source, &without, client, 2)[0]].name, all[expected].name);
        }

        #[test]
        fn nobody_has_fewer_sessions_than_the_one_with_the_fewest(
            sessions in proptest::collection::vec(0_u32..4, 1..8), turn: usize,
        ) {
            let all = candidates(&sessions.iter().map(|sessions| (*sessions, true)).collect::<Vec<_>>());
            let first = order(Balance::LeastSessions, &all, CLIENT, turn)[0];
            prop_assert_eq!(Some(&all[first].sessions), sessions.iter().min());
        }
    }

    #[test]
    fn those_with_as_many_sessions_take_turns() {
        let all = candidates(&[(1, true), (0, true), (0, true), (0, false)]);
        let firsts: Vec<usize> = (0..6).map(|turn| order(Balance::LeastSessions, &all, CLIENT, turn)[0]).collect();
        let count = |server| firsts.iter().filter(|first| **first == server).count();
        assert_eq!((count(0), count(3)), (0, 0));
        assert!(count(1) >= 2 && count(2) >= 2, "{firsts:?}");
    }

    #[test]
    fn round_robin_goes_round_those_that_are_up() {
        let all = candidates(&[(9, true), (0, false), (0, true)]);
        let firsts: Vec<usize> = (0..4).map(|turn| order(Balance::RoundRobin, &all, CLIENT, turn)[0]).collect();
        assert_eq!(firsts, [0, 2, 0, 2]);
    }

    /// Known answers: with another hash every client would change its server with an update.
    #[test]
    fn clients_spread_evenly_and_stay_where_they_are() {
        let all = candidates(&[(0, true); 4]);
        let mut clients: HashMap<usize, u32> = HashMap::new();
        for client in 0..4000_u32 {
            let client = Ipv4Addr::from(0x0a00_0000 + client).into();
            *clients.entry(order(Balance::Source, &all, client, 0)[0]).or_default() += 1;
        }
        assert!(clients.len() == 4 && clients.values().all(|count| (850..1150).contains(count)), "{clients:?}");
        assert_eq!(weight(CLIENT, "a:21"), weight("::ffff:192.0.2.1".parse().unwrap(), "a:21"));
        let of = |client: &str| weight(client.parse().unwrap(), "a:21");
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"), "one /64 is one client");
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
