//! Few ports, many transfers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

use crate::support::crowd::{Client, Crowd, assemble};
use crate::support::scene::Setup;

/// `sessions` transfers, up and down, of as many sessions from so many addresses are open at the same time. The ports
/// that they came by.
fn open_at_once(crowd: &Crowd, sessions: usize, addresses: u8) -> BTreeSet<u16> {
    let all = Arc::new(Barrier::new(sessions));
    let ports = Arc::new(Mutex::new(BTreeSet::new()));
    crowd.all((0..sessions).map(|n| {
        let from = crowd.net.neighbour(u8::try_from(n % usize::from(addresses)).expect("an address for each"));
        let (proxy, ports) = (crowd.net.proxy(), Arc::clone(&ports));
        let half = assemble(Arc::clone(&all), crowd.gate.clone());
        async move {
            let mut client = Client::log_in(from, proxy).await;
            let port = client.pasv().await;
            ports.lock().unwrap().insert(port);
            client.transfer(n, n % 3 == 0, port, half).await;
        }
    }));
    let ports = ports.lock().unwrap();
    ports.clone()
}

#[test]
fn sec_26_one_port_carries_500_transfers_at_once() {
    let crowd = Crowd::start(Setup { data_ports: "20000", ..Setup::default() });
    assert_eq!(open_at_once(&crowd, 500, 50), BTreeSet::from([20_000]));
}

#[test]
fn sec_26_21_ports_carry_1000_transfers_at_once() {
    let crowd = Crowd::start(Setup { data_ports: "20000-20020", ..Setup::default() });
    assert_eq!(open_at_once(&crowd, 1000, 50), (20_000..=20_020).collect());
}

/// Sessions behind one client address take turns: nobody is refused within `timeouts.port_wait`, and nobody gets far
/// ahead of anybody else.
#[test]
fn sec_26_200_sessions_of_one_address_share_3_ports_fairly() {
    const SESSIONS: usize = 200;
    const ROUNDS: usize = 6;
    let crowd = Crowd::start(Setup { data_ports: "20000-20002", ..Setup::default() });
    crowd.gate.send_replace(true);
    let all = Arc::new(Barrier::new(SESSIONS));
    let done: Arc<Vec<AtomicUsize>> = Arc::new((0..SESSIONS).map(|_| AtomicUsize::new(0)).collect());
    let behind = Arc::new(Mutex::new(None));
    crowd.all((0..SESSIONS).map(|n| {
        let (from, proxy) = (crowd.net.client(), crowd.net.proxy());
        let (all, done, behind) = (Arc::clone(&all), Arc::clone(&done), Arc::clone(&behind));
        async move {
            let mut client = Client::log_in(from, proxy).await;
            all.wait().await;
            for _ in 0..ROUNDS {
                let port = client.pasv().await;
                // The way to the client and back: so long the port is taken.
                tokio::time::sleep(Duration::from_millis(5)).await;
                client.transfer(n, false, port, std::future::ready(())).await;
                done[n].fetch_add(1, Ordering::Relaxed);
            }
            // The first who is done has a look at the others.
            let slowest = || done.iter().map(|rounds| rounds.load(Ordering::Relaxed)).min();
            let _first = behind.lock().unwrap().get_or_insert_with(slowest);
        }
    }));
    let slowest = behind.lock().unwrap().flatten();
    assert!(slowest >= Some(ROUNDS / 3), "one session had done {slowest:?} rounds when another had all {ROUNDS}");
}

/// Where the ports are hoarded, all others of that address wait for `timeouts.port_wait`, no less, before they are
/// refused; and another address does not wait at all.
#[test]
fn sec_26_200_sessions_of_one_address_with_hoarders_wait_before_they_are_refused() {
    const HOARDERS: usize = 3;
    const WAIT: Duration = Duration::from_secs(2);
    let crowd =
        Crowd::start(Setup { data_ports: "20000-20002", more: "timeouts: { port_wait: 2s }", ..Setup::default() });
    crowd.gate.send_replace(true);
    let hoarded = Arc::new(Barrier::new(200));
    let refused = Arc::new(Barrier::new(200));
    crowd.all((0..200).map(|n| {
        let (from, other, proxy) = (crowd.net.client(), crowd.net.elsewhere(), crowd.net.proxy());
        let (hoarded, refused) = (Arc::clone(&hoarded), Arc::clone(&refused));
        async move {
            let mut client = Client::log_in(from, proxy).await;
            let port = if n < HOARDERS { Some(client.pasv().await) } else { None };
            hoarded.wait().await;
            let Some(port) = port else {
                let start = Instant::now();
                let reply = client.command("PASV").await;
                assert_eq!(reply, "425 Cannot open data connection: no port is free, try again later.\r\n");
                assert!(start.elapsed() >= WAIT, "refused after {:?}", start.elapsed());
                assert_eq!(client.command("NOOP").await, "200 ok\r\n");
                refused.wait().await;
                return;
            };
            if n == 0 {
                let start = Instant::now();
                let mut other = Client::log_in(other, proxy).await;
                let port = other.pasv().await;
                assert!(start.elapsed() < WAIT, "another address had to wait");
                other.transfer(n, true, port, std::future::ready(())).await;
            }
            refused.wait().await;
            client.transfer(n, true, port, std::future::ready(())).await;
        }
    }));
}
