//! Leases on real sockets. Every test has loopback addresses of its own, so that fixed ports do not collide.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use super::*;

mod per_peer;

const NO_WAIT: Duration = Duration::ZERO;
/// For what must happen: far more than it takes.
const SOON: Duration = Duration::from_secs(5);

/// A loopback address that no other test uses.
fn unique_ip() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (process[2] & 0x3f), process[3], NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

fn pool_of(ip: IpAddr, ports: RangeInclusive<u16>) -> PortPool {
    PortRegistry::bind(&[(ip, ports.clone())]).unwrap().pool(&[ip], &DataPorts::Range(ports))
}

fn peer(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, n).into()
}

/// Connects from `from`, as a peer of that address would.
async fn connect(from: IpAddr, to: IpAddr, port: u16) -> io::Result<TcpStream> {
    let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind((from, 0).into())?;
    socket.connect((to, port).into()).await
}

/// How a connection that nobody expected ends: the handshake is the kernel's, then comes RST.
async fn is_reset(stream: io::Result<TcpStream>) -> bool {
    let read = async { stream?.read_u8().await };
    let outcome = tokio::time::timeout(SOON, read).await.expect("neither data nor an end");
    outcome.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// The accepted connection, which must come soon, and whether it is the one that `stream` opened.
async fn accepted(lease: &mut Lease, stream: &TcpStream) -> std::net::TcpStream {
    let accepted = tokio::time::timeout(SOON, lease.accept()).await.expect("no connection").unwrap();
    assert_eq!(accepted.peer_addr().unwrap(), stream.local_addr().unwrap());
    accepted
}

/// Moves the clock without waiting. The clock runs on afterwards, so that sockets take their time as usual.
async fn skip(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn every_port_of_the_range_is_leased_both_edges_included() {
    let local = unique_ip();
    let pool = pool_of(local, 20000..=20002);
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(pool.lease(local, peer(1), NO_WAIT).await.unwrap());
    }
    let ports: BTreeSet<u16> = leases.iter().map(Lease::port).collect();
    assert_eq!(ports, BTreeSet::from([20000, 20001, 20002]));
    for lease in &mut leases {
        let stream = connect(peer(1), local, lease.port()).await.unwrap();
        accepted(lease, &stream).await;
    }
}

#[tokio::test]
async fn a_range_of_one_port_serves_one_transfer_after_the_other() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20000);
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
        assert_eq!(lease.port(), 20000);
        let stream = connect(peer(1), ip, 20000).await.unwrap();
        open.push((accepted(&mut lease, &stream).await, stream));
    }
}

#[tokio::test]
async fn two_peers_share_a_port_at_once() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20000);
    let mut two = pool.lease(ip, peer(2), NO_WAIT).await.unwrap();
    let mut three = pool.lease(ip, peer(3), NO_WAIT).await.unwrap();
    let from_three = connect(peer(3), ip, 20000).await.unwrap();
    let from_two = connect(peer(2), ip, 20000).await.unwrap();
    accepted(&mut two, &from_two).await;
    accepted(&mut three, &from_three).await;
}

#[tokio::test]
async fn sec_13_a_stranger_is_reset_and_does_not_consume_the_lease() {
    let ip = unique_ip();
    let own = PortRegistry::bind(&[]).unwrap().pool(&[ip], &DataPorts::Any);
    for pool in [pool_of(ip, 20000..=20000), own] {
        let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
        let port = lease.port();
        for _ in 0..3 {
            let stranger = connect(peer(2), ip, port).await;
            tokio::select! {
                reset = is_reset(stranger) => assert!(reset),
                _ = lease.accept() => panic!("a stranger took the lease"),
            }
        }
        let stream = connect(peer(1), ip, port).await.unwrap();
        accepted(&mut lease, &stream).await;
    }
}

#[tokio::test]
async fn sec_14_a_second_connect_is_reset() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20000);
    let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
    let first = connect(peer(1), ip, 20000).await.unwrap();
    let second = connect(peer(1), ip, 20000).await;
    assert!(is_reset(second).await);
    accepted(&mut lease, &first).await;
    assert_eq!(lease.accept().await.unwrap_err(), LeaseLost::Expired);
}

#[tokio::test]
async fn sec_14_a_port_of_its_own_closes_after_one_connect() {
    let ip = unique_ip();
    let pool = PortRegistry::bind(&[]).unwrap().pool(&[ip], &DataPorts::Any);
    let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
    let first = connect(peer(1), ip, lease.port()).await.unwrap();
    accepted(&mut lease, &first).await;
    assert_eq!(connect(peer(1), ip, lease.port()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn sec_14_a_thousand_leases_are_unpredictable() {
    let ip = unique_ip();
    let range = 20000..=20015;
    let pool = pool_of(ip, range.clone());
    let mut counts = [0_u32; 16];
    let mut steps = [0_u32; 16];
    let mut last = 0;
    // Each of another peer, so that every port is free every time.
    for n in 0..1000_u16 {
        let lease = pool.lease(ip, Ipv4Addr::from(0x0a00_0000 + u32::from(n)).into(), NO_WAIT).await.unwrap();
        let index = usize::from(lease.port() - range.start());
        counts[index] += 1;
        steps[(16 + index - last) % 16] += 1;
        last = index;
    }
    // 62.5 are expected of each; chi-squared with 15 degrees of freedom exceeds 60 once in 4 million runs.
    for observed in [counts, steps] {
        let chi_squared: f64 = observed.iter().map(|&n| (f64::from(n) - 62.5).powi(2) / 62.5).sum();
        assert!(chi_squared < 60.0, "{observed:?}");
    }
}

#[tokio::test]
async fn sec_26_exhaustion_hits_only_the_hoarder() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20001);
    let hoard = [pool.lease(ip, peer(1), NO_WAIT).await.unwrap(), pool.lease(ip, peer(1), NO_WAIT).await.unwrap()];
    assert!(matches!(pool.lease(ip, peer(1), NO_WAIT).await, Err(LeaseError::Exhausted)));
    let start = Instant::now();
    let wait = Duration::from_millis(200);
    assert!(matches!(pool.lease(ip, peer(1), wait).await, Err(LeaseError::Exhausted)));
    assert!(start.elapsed() >= wait);
    pool.lease(ip, peer(2), NO_WAIT).await.unwrap();
    drop(hoard);
}

/// Waits in its own task for a lease of `peer(1)`, and is in line when this returns.
async fn waiter(pool: &PortPool, ip: IpAddr, wait: Duration) -> tokio::task::JoinHandle<Result<Lease, LeaseError>> {
    let pool = pool.clone();
    let task = tokio::spawn(async move { pool.lease(ip, peer(1), wait).await });
    tokio::task::yield_now().await;
    task
}

#[tokio::test]
async fn a_waiter_gets_the_port_when_the_peer_connects() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20000);
    let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
    let waiting = waiter(&pool, ip, SOON).await;
    let stream = connect(peer(1), ip, 20000).await.unwrap();
    accepted(&mut lease, &stream).await;
    let mut next = waiting.await.unwrap().unwrap();
    let stream = connect(peer(1), ip, 20000).await.unwrap();
    accepted(&mut next, &stream).await;
}

#[tokio::test]
async fn waiters_are_served_in_the_order_of_their_arrival() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20000);
    let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
    let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..10 {
        let (pool, served) = (pool.clone(), served.clone());
        tokio::spawn(async move {
            served.send((n, pool.lease(ip, peer(1), SOON).await)).expect("the test listens");
        });
        tokio::task::yield_now().await;
    }
    // One who gives up does not hold up the others.
    let impatient = waiter(&pool, ip, Duration::from_millis(1)).await;
    assert!(matches!(impatient.await.unwrap(), Err(LeaseError::Exhausted)));
    for expected in 0..10 {
        let stream = connect(peer(1), ip, 20000).await.unwrap();
        accepted(&mut lease, &stream).await;
        let (n, next) = order.recv().await.unwrap();
        assert_eq!(n, expected);
        lease = next.unwrap();
    }
}

#[tokio::test]
async fn a_newcomer_does_not_take_a_port_that_is_free_for_another() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20000);
    let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
    // In line, but not running while we do.
    let mut waiting = pin!(pool.lease(ip, peer(1), SOON));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("two leases of one port"),
        () = std::future::ready(()) => {}
    }
    let stream = connect(peer(1), ip, 20000).await.unwrap();
    accepted(&mut lease, &stream).await;
    assert!(matches!(pool.lease(ip, peer(1), NO_WAIT).await, Err(LeaseError::Exhausted)));
    waiting.await.unwrap();
}

#[tokio::test]
async fn one_who_stops_waiting_gives_the_turn_to_the_next() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20000);
    let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
    let (first, second) = (waiter(&pool, ip, SOON).await, waiter(&pool, ip, SOON).await);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let stream = connect(peer(1), ip, 20000).await.unwrap();
    accepted(&mut lease, &stream).await;
    assert_eq!(second.await.unwrap().unwrap().port(), 20000);
}

#[tokio::test]
async fn rel_26_a_dropped_lease_frees_its_port_after_a_rest() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20000);
    drop(pool.lease(ip, peer(1), NO_WAIT).await.unwrap());
    assert!(is_reset(connect(peer(1), ip, 20000).await).await, "rfc_04: the first port of two PASV refuses");
    skip(Duration::from_millis(4900)).await;
    assert!(matches!(pool.lease(ip, peer(1), NO_WAIT).await, Err(LeaseError::Exhausted)));
    // The end of the rest wakes who waits for it.
    let mut lease = pool.lease(ip, peer(1), SOON).await.unwrap();
    let stream = connect(peer(1), ip, 20000).await.unwrap();
    accepted(&mut lease, &stream).await;
}

#[tokio::test]
async fn a_lease_dropped_with_its_connection_inside_resets_it() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20000);
    let lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
    let stream = connect(peer(1), ip, 20000).await;
    // As soon as the port can be leased again, the connection has been delivered.
    pool.lease(ip, peer(1), SOON).await.unwrap();
    drop(lease);
    assert!(is_reset(stream).await);
}

#[tokio::test]
async fn an_old_lease_is_revoked_for_one_who_waits() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20001);
    let mut old = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
    skip(Duration::from_secs(9)).await;
    let mut young = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
    let waiting = waiter(&pool, ip, Duration::from_secs(15)).await;
    skip(Duration::from_secs(1)).await;
    assert_eq!(tokio::time::timeout(SOON, old.accept()).await.unwrap().unwrap_err(), LeaseLost::Revoked);
    assert_eq!(old.accept().await.unwrap_err(), LeaseLost::Revoked, "it stays revoked");
    skip(Duration::from_secs(5)).await;
    assert_eq!(waiting.await.unwrap().unwrap().port(), old.port());
    let stream = connect(peer(1), ip, young.port()).await.unwrap();
    accepted(&mut young, &stream).await;
}

/// RFC 6384 §12 has a translator keep a mapping for 30 s at least.
#[tokio::test]
async fn rfc_26_a_lease_expires_after_a_minute() {
    let ip = unique_ip();
    let own = PortRegistry::bind(&[]).unwrap().pool(&[ip], &DataPorts::Any);
    for pool in [pool_of(ip, 20000..=20000), own] {
        let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
        skip(Duration::from_secs(59)).await;
        assert!(tokio::time::timeout(Duration::from_millis(50), lease.accept()).await.is_err(), "still good");
        skip(Duration::from_secs(1)).await;
        assert_eq!(tokio::time::timeout(SOON, lease.accept()).await.unwrap().unwrap_err(), LeaseLost::Expired);
    }
}

#[tokio::test]
async fn a_cancelled_accept_loses_nothing() {
    let ip = unique_ip();
    let own = PortRegistry::bind(&[]).unwrap().pool(&[ip], &DataPorts::Any);
    for pool in [pool_of(ip, 20000..=20000), own] {
        let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), lease.accept()).await.is_err());
        let stream = connect(peer(1), ip, lease.port()).await.unwrap();
        accepted(&mut lease, &stream).await;
    }
}

#[tokio::test]
async fn rel_26_ports_of_another_program_are_left_out_until_it_ends() {
    let ip = unique_ip();
    let foreign: Vec<_> = (20000..20004).map(|port| std::net::TcpListener::bind((ip, port)).unwrap()).collect();
    let pool = pool_of(ip, 20000..=20007);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(pool.lease(ip, peer(1), NO_WAIT).await.unwrap());
    }
    assert!(leases.iter().all(|lease| lease.port() >= 20004));
    let waiting = waiter(&pool, ip, Duration::from_secs(60)).await;
    drop(foreign);
    // Young enough not to be revoked: what the waiter gets is a new port.
    for lease in &mut leases {
        let stream = connect(peer(1), ip, lease.port()).await.unwrap();
        accepted(lease, &stream).await;
    }
    drop(waiting.await.unwrap().unwrap());
    skip(Duration::from_secs(30)).await;
    let all = async {
        while leases.len() < 12 {
            leases.push(pool.lease(ip, peer(2), SOON).await.unwrap());
        }
    };
    tokio::time::timeout(SOON, all).await.expect("the four ports were not bound again");
    let ports: BTreeSet<u16> = leases[4..].iter().map(Lease::port).collect();
    assert_eq!(ports, (20000..=20007).collect());
}

#[tokio::test]
async fn rel_26_a_range_without_a_single_port_is_an_error() {
    let ip = unique_ip();
    let _foreign = [20000, 20001].map(|port| std::net::TcpListener::bind((ip, port)).unwrap());
    let error = PortRegistry::bind(&[(ip, 20005..=20006), (ip, 20000..=20001)]).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("cannot bind any of the data ports 20000-20001 on {ip}: ")));
    let nowhere: IpAddr = "192.0.2.1".parse().unwrap();
    let error = PortRegistry::bind(&[(nowhere, 20000..=20001)]).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn overlapping_pools_share_ports_but_not_leases() {
    let ip = unique_ip();
    let registry = PortRegistry::bind(&[(ip, 20000..=20001), (ip, 20001..=20002)]).unwrap();
    let low = registry.pool(&[ip], &DataPorts::Range(20000..=20001));
    let high = registry.pool(&[ip], &DataPorts::Range(20001..=20002));
    let mut leases = Vec::new();
    for pool in [&low, &low, &high] {
        leases.push(pool.lease(ip, peer(1), NO_WAIT).await.unwrap());
    }
    let ports: BTreeSet<u16> = leases.iter().map(Lease::port).collect();
    assert_eq!(ports, BTreeSet::from([20000, 20001, 20002]));
    assert!(matches!(high.lease(ip, peer(1), NO_WAIT).await, Err(LeaseError::Exhausted)));
}

#[tokio::test]
async fn a_wildcard_pool_serves_every_local_address_of_its_family() {
    // Tests run in several processes at once, and there is only one wildcard address.
    let port = u16::try_from(21_000 + std::process::id() % 8_000).unwrap();
    let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
    let any6: IpAddr = std::net::Ipv6Addr::UNSPECIFIED.into();
    let range = port..=port;
    let registry = PortRegistry::bind(&[(any, range.clone()), (any6, range.clone())]).unwrap();
    let pool = registry.pool(&[any, any6], &DataPorts::Range(range));
    let loopback6: IpAddr = std::net::Ipv6Addr::LOCALHOST.into();
    for (local, from) in [(peer(7), peer(8)), (loopback6, loopback6)] {
        let mut lease = pool.lease(local, from, NO_WAIT).await.unwrap();
        let stream = connect(from, local, port).await.unwrap();
        accepted(&mut lease, &stream).await;
    }
}

#[tokio::test]
async fn a_foreign_local_address_is_an_error() {
    let pool = pool_of(unique_ip(), 20000..=20000);
    let error = pool.lease(peer(1), peer(1), SOON).await.unwrap_err();
    assert!(matches!(error, LeaseError::Bind(error) if error.kind() == io::ErrorKind::AddrNotAvailable));
}

#[tokio::test]
async fn accepted_connections_have_the_options_of_data_connections() {
    let ip = unique_ip();
    let pool = pool_of(ip, 20000..=20000);
    let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
    let stream = connect(peer(1), ip, 20000).await.unwrap();
    let accepted = accepted(&mut lease, &stream).await;
    let socket = SockRef::from(&accepted);
    assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
}

#[tokio::test]
async fn the_sockets_close_with_the_last_owner() {
    let ip = unique_ip();
    let registry = PortRegistry::bind(&[(ip, 20000..=20000)]).unwrap();
    let pool = registry.pool(&[ip], &DataPorts::Range(20000..=20000));
    drop(registry);
    let mut lease = pool.lease(ip, peer(1), NO_WAIT).await.unwrap();
    drop(pool);
    let stream = connect(peer(1), ip, 20000).await.unwrap();
    accepted(&mut lease, &stream).await;
    drop(lease);
    let closed = async {
        while connect(peer(1), ip, 20000).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, closed).await.expect("the port is still open");
}
