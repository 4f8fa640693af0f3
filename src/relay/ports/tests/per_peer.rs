//! A peer that may not hold every port.

use std::num::NonZeroU32;

use super::*;

#[tokio::test]
async fn sec_26_a_peer_holds_no_more_ports_than_it_may_and_waits_as_if_they_were_all() {
    let local = unique_ip();
    let pool = pool_of(local, 20000..=20009).at_most(NonZeroU32::new(2));
    let mut first = pool.lease(local, peer(1), NO_WAIT).await.unwrap();
    let _second = pool.lease(local, peer(1), NO_WAIT).await.unwrap();
    assert!(matches!(pool.lease(local, peer(1), NO_WAIT).await, Err(LeaseError::Exhausted)));
    pool.lease(local, peer(2), NO_WAIT).await.expect("another peer has its own");
    // A connect is what it waits for.
    let mut waiting = pin!(pool.lease(local, peer(1), SOON));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err());
    let stream = connect(peer(1), local, first.port()).await.unwrap();
    accepted(&mut first, &stream).await;
    waiting.await.unwrap();
}

#[tokio::test]
async fn sec_26_the_oldest_of_the_ports_that_a_peer_may_hold_is_revoked() {
    let local = unique_ip();
    let pool = pool_of(local, 20000..=20009).at_most(NonZeroU32::new(1));
    let mut hoarded = pool.lease(local, peer(1), NO_WAIT).await.unwrap();
    skip(Duration::from_secs(10)).await;
    let mut waiting = pin!(pool.lease(local, peer(1), Duration::from_secs(15)));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err());
    assert_eq!(hoarded.accept().await.unwrap_err(), LeaseLost::Revoked);
    skip(Duration::from_secs(5)).await;
    tokio::time::timeout(SOON, waiting).await.expect("the port has rested").unwrap();
}
