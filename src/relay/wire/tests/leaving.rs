//! Plain text behind TLS: CCC, and REIN.

use super::*;

/// Has plain text follow behind `reply`, with a peer that has said CCC.
async fn leave_behind(wire: &mut Wire, ours: Connection, reply: Bytes) {
    wire.start_tls(ours, true);
    shaken_hands(wire).await;
    expect(wire, b"CCC\r\n").await;
    wire.send(reply, false);
    wire.leave_tls();
}

/// A client behind a NAT helper sends the rest in clear (nDPI's ftp-start-tls.pcap has close_notify both ways).
#[tokio::test]
async fn rfc_14_plain_text_follows_ccc() {
    let (mut wire, socket) = pair().await;
    let (ours, theirs) = connections(true);
    let peer = peer(theirs, socket, |mut peer| {
        peer.write_all(b"CCC\r\n").unwrap();
        let mut reply = Vec::new();
        peer.read_to_end(&mut reply).unwrap();
        // In one segment with what follows.
        peer.conn.send_close_notify();
        let mut last = Vec::new();
        while peer.conn.wants_write() {
            peer.conn.write_tls(&mut last).unwrap();
        }
        last.extend(b"PASV\r\n");
        peer.sock.write_all(&last).unwrap();
        let mut plain = [0; 5];
        peer.sock.read_exact(&mut plain).unwrap();
        (reply, plain)
    });
    leave_behind(&mut wire, ours, "200 in clear\r\n".into()).await;
    expect(&mut wire, b"PASV\r\n").await;
    wire.send("227 x".into(), false);
    wire.flush();
    assert_eq!(peer.join().unwrap(), (b"200 in clear\r\n".to_vec(), *b"227 x"));
}

/// What was said within TLS stays within it, although the peer reads late.
#[tokio::test]
async fn sec_16_ccc_comes_behind_what_is_still_to_be_written() {
    const SIZE: usize = 1 << 20;
    let (mut wire, socket) = pair().await;
    let (ours, theirs) = connections(true);
    let peer = peer(theirs, socket, |mut peer| {
        peer.write_all(b"CCC\r\n").unwrap();
        let mut reply = Vec::new();
        peer.read_to_end(&mut reply).unwrap();
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        let mut plain = Vec::new();
        peer.sock.read_to_end(&mut plain).unwrap();
        (reply.len(), plain)
    });
    leave_behind(&mut wire, ours, vec![b'x'; SIZE].into()).await;
    assert!(!wire.queue.is_empty(), "all of it was taken at once, which proves nothing");
    wire.send("421 bye\r\n".into(), false);
    let left = async {
        while !matches!(wire.security, Security::Plain) {
            wire.flush();
            wire.ready(true).await.unwrap();
            assert_eq!(wire.read(&mut [0; 64]), Received::Nothing);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), left).await.expect("the peer never left");
    wire.finish(Duration::from_secs(20)).await;
    assert_eq!(peer.join().unwrap(), (SIZE, b"421 bye\r\n".to_vec()));
}

/// One that does not wait for the answer to CCC would get the rest of what was said within TLS in clear.
#[tokio::test]
async fn sec_16_a_peer_that_leaves_before_it_is_told_to_has_failed() {
    let (mut wire, socket) = pair().await;
    let (ours, theirs) = connections(true);
    let (go, may_go) = std::sync::mpsc::channel();
    let peer = peer(theirs, socket, move |mut peer| {
        peer.write_all(b"CCC\r\n").unwrap();
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        may_go.recv().unwrap();
        let mut rest = Vec::new();
        let _reset = peer.sock.read_to_end(&mut rest);
        rest
    });
    leave_behind(&mut wire, ours, vec![b's'; 1 << 20].into()).await;
    assert!(next(&mut wire).await.unwrap_err().is_none(), "the end");
    drop(wire);
    go.send(()).unwrap();
    let rest = peer.join().unwrap();
    assert!(!rest.windows(20).any(|window| window == [b's'; 20]), "a secret in clear");
}

/// The reply to CCC may have been read before our close_notify is with the socket, and the peer may leave then: nobody has
/// done anything wrong, and what is still within TLS comes before what is not.
#[tokio::test]
async fn rel_04_a_peer_that_leaves_before_our_close_notify_is_written_gets_all_of_it() {
    // More than both kernels take, and no more than rustls does.
    const SIZE: usize = 60_000;
    let (mut wire, socket) = pair().await;
    let (ours, theirs) = connections(true);
    let (go, may_go) = std::sync::mpsc::channel();
    let peer = peer(theirs, socket, move |mut peer| {
        peer.write_all(b"CCC\r\n").unwrap();
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        peer.sock.write_all(b"PASV\r\n").unwrap();
        may_go.recv().unwrap();
        let mut all = Vec::new();
        peer.sock.read_to_end(&mut all).unwrap();
        let plain = all.split_off(all.len() - 7);
        let (mut records, mut reply) = (all.as_slice(), Vec::new());
        while !records.is_empty() {
            peer.conn.read_tls(&mut records).unwrap();
            peer.conn.process_new_packets().unwrap();
            let _would_block = peer.conn.reader().read_to_end(&mut reply);
        }
        // An error if there is no close_notify.
        peer.conn.reader().read_to_end(&mut reply).unwrap();
        (reply.len(), plain)
    });
    leave_behind(&mut wire, ours, vec![b'x'; SIZE].into()).await;
    assert!(matches!(&wire.security, Security::Tls(tls) if tls.has_left() && tls.wants_write()), "{:?}", wire.security);
    wire.send("421 bye".into(), false);
    while matches!(wire.security, Security::Tls(_)) {
        wire.ready(true).await.unwrap();
        assert_eq!(wire.read(&mut [0; 64]), Received::Nothing);
    }
    assert!(matches!(wire.security, Security::Ending(_)), "{:?}", wire.security);
    // An edge may be left over from before.
    for woken in 1.. {
        wire.flush();
        if tokio::time::timeout(Duration::from_millis(100), wire.ready(true)).await.is_err() {
            break;
        }
        assert!(woken < 5, "woken for plain text whose time has not come");
    }
    go.send(()).unwrap();
    expect(&mut wire, b"PASV\r\n").await;
    wire.finish(Duration::from_secs(20)).await;
    assert_eq!(peer.join().unwrap(), (SIZE, b"421 bye".to_vec()));
}

/// curl reads our close_notify, sends none, and goes on in clear.
#[tokio::test]
async fn rfc_14_a_peer_may_go_on_in_clear_without_a_close_notify() {
    for first in ["PASV\r\n", "\u{ff}\u{f4}\u{ff}\u{f2}ABOR\r\n"] {
        let first: Vec<u8> = first.chars().map(|c| u8::try_from(c).unwrap()).collect();
        let (mut wire, socket) = pair().await;
        let (ours, theirs) = connections(true);
        let sent = first.clone();
        let peer = peer(theirs, socket, move |mut peer| {
            peer.write_all(b"CCC\r\n").unwrap();
            let mut reply = Vec::new();
            peer.read_to_end(&mut reply).unwrap();
            peer.sock.write_all(&sent).unwrap();
            let mut plain = [0; 5];
            peer.sock.read_exact(&mut plain).unwrap();
            (reply, plain)
        });
        leave_behind(&mut wire, ours, "200 in clear\r\n".into()).await;
        expect(&mut wire, &first).await;
        wire.send("227 x".into(), false);
        wire.flush();
        assert_eq!(peer.join().unwrap(), (b"200 in clear\r\n".to_vec(), *b"227 x"));
    }
}

/// Nothing but the end of TLS that it has asked for makes a peer's plain text one: not before our close_notify is due.
#[tokio::test]
async fn sec_16_plain_text_amid_tls_is_a_failure() {
    for reply in [0, 1 << 20] {
        let (mut wire, socket) = pair().await;
        let (ours, theirs) = connections(true);
        let (go, may_go) = std::sync::mpsc::channel();
        let peer = peer(theirs, socket, move |mut peer| {
            peer.write_all(b"CCC\r\n").unwrap();
            peer.sock.write_all(b"USER mallory\r\n").unwrap();
            may_go.recv().unwrap();
            let mut rest = Vec::new();
            let _reset = peer.sock.read_to_end(&mut rest);
            rest
        });
        wire.start_tls(ours, true);
        shaken_hands(&mut wire).await;
        expect(&mut wire, b"CCC\r\n").await;
        if reply > 0 {
            wire.send(vec![b's'; reply].into(), false);
            wire.leave_tls();
            assert!(!wire.queue.is_empty(), "all of it was taken at once, which proves nothing");
        }
        assert!(next(&mut wire).await.unwrap_err().is_none(), "the end");
        drop(wire);
        go.send(()).unwrap();
        let rest = peer.join().unwrap();
        assert!(!rest.windows(20).any(|window| window == [b's'; 20]), "a secret in clear");
    }
}

/// A farewell between our close_notify and the peer's: FIN must not overtake it.
#[tokio::test]
async fn rel_04_fin_comes_behind_what_waits_for_the_end_of_tls() {
    let (mut wire, socket) = pair().await;
    let (ours, theirs) = connections(true);
    let peer = peer(theirs, socket, |mut peer| {
        peer.write_all(b"CCC\r\n").unwrap();
        let mut reply = Vec::new();
        peer.read_to_end(&mut reply).unwrap();
        // Long enough that FIN would be on its way.
        std::thread::sleep(Duration::from_millis(100));
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        let mut plain = Vec::new();
        peer.sock.read_to_end(&mut plain).unwrap();
        (reply, plain)
    });
    leave_behind(&mut wire, ours, "200 in clear\r\n".into()).await;
    wire.send("421 bye\r\n".into(), false);
    wire.finish(Duration::from_secs(20)).await;
    assert_eq!(peer.join().unwrap(), (b"200 in clear\r\n".to_vec(), b"421 bye\r\n".to_vec()));
}

/// The client quits instead: nothing that waits for the end of TLS is said, in clear or otherwise.
#[tokio::test]
async fn rel_04_a_peer_that_quits_instead_of_leaving_tls_is_no_failure() {
    for polite in [true, false] {
        let (mut wire, socket) = pair().await;
        let (ours, theirs) = connections(true);
        let peer = peer(theirs, socket, move |mut peer| {
            peer.write_all(b"CCC\r\n").unwrap();
            let mut reply = Vec::new();
            peer.read_to_end(&mut reply).unwrap();
            if polite {
                peer.conn.send_close_notify();
                peer.flush().unwrap();
            }
            peer.sock.shutdown(Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            peer.sock.read_to_end(&mut rest).unwrap();
            rest
        });
        leave_behind(&mut wire, ours, "200 in clear\r\n".into()).await;
        let end = async {
            loop {
                wire.flush();
                wire.ready(true).await.unwrap();
                match wire.read(&mut [0; 64]) {
                    Received::Nothing => {}
                    other => return other,
                }
            }
        };
        let received = tokio::time::timeout(Duration::from_secs(20), end).await.expect("no end");
        assert_eq!(received, Received::Eof);
        wire.finish(Duration::from_secs(20)).await;
        assert!(peer.join().unwrap().is_empty());
    }
}
