use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

const LINE: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.10 33156 21\r\n";

/// Version 2, TCP over IPv4, with a TLV for padding.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc6\x33\x64\x07\xcb\x00\x71\x0a\x81\x84\0\x15\x04\0\x01x";

fn client() -> Header {
    let [source, destination] = ["198.51.100.7:33156", "203.0.113.10:21"].map(|addr| addr.parse().unwrap());
    Header::Client { source, destination }
}

/// Both ends of a connection on loopback: the load balancer's, which blocks, and ours, which does not.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    theirs.set_nodelay(true).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (theirs, ours)
}

fn turn(ours: TcpStream) -> Turn {
    Waiting::default().join(ours).unwrap()
}

#[tokio::test]
async fn sec_23_nothing_but_the_header_is_taken() {
    for header in [LINE, BINARY] {
        for behind in [&b"USER alice\r\n"[..], b"\x16\x03\x01\0\xff", LINE] {
            let (mut theirs, ours) = pair();
            theirs.write_all(&[header, behind].concat()).unwrap();
            let (mut ours, taken) = wait(turn(ours)).await.unwrap();
            assert_eq!(taken, client());
            theirs.shutdown(Shutdown::Write).unwrap();
            ours.set_nonblocking(false).unwrap();
            let mut rest = Vec::new();
            ours.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, behind);
        }
    }
}

#[tokio::test]
async fn sec_23_a_header_may_come_in_pieces() {
    for header in [LINE, BINARY] {
        let (mut theirs, ours) = pair();
        let waiting = tokio::spawn(wait(turn(ours)));
        for byte in header {
            assert!(!waiting.is_finished());
            theirs.write_all(&[*byte]).unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(waiting.await.unwrap().unwrap().1, client());
    }
}

/// What is there and not enough is looked at when more comes, and not again and again.
#[tokio::test]
async fn sec_28_a_partial_header_costs_no_time() {
    let (mut theirs, ours) = pair();
    theirs.write_all(&LINE[..20]).unwrap();
    let mut waiting = Box::pin(wait(turn(ours)));
    let mut polls = 0;
    let counted = std::future::poll_fn(|context| {
        polls += 1;
        waiting.as_mut().poll(context).map(drop)
    });
    assert!(tokio::time::timeout(Duration::from_millis(200), counted).await.is_err());
    assert!(polls < 10, "{polls} times in 200 ms");
}

#[tokio::test]
async fn sec_23_what_ends_before_its_header_has_none() {
    for sent in [&b""[..], &LINE[..LINE.len() - 1], &BINARY[..5]] {
        let (mut theirs, ours) = pair();
        let waiting = tokio::spawn(wait(turn(ours)));
        theirs.write_all(sent).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(matches!(waiting.await.unwrap(), Err(Refusal::Ended)), "{}", sent.escape_ascii());
    }
}

#[tokio::test(start_paused = true)]
async fn sec_23_a_header_has_its_time() {
    let (mut theirs, ours) = pair();
    theirs.write_all(&LINE[..20]).unwrap();
    let start = tokio::time::Instant::now();
    assert!(matches!(wait(turn(ours)).await, Err(Refusal::Late)));
    assert!(start.elapsed() >= Duration::from_secs(3), "the specification's least");
}

/// A gate for this machine's own addresses, and whom it has let in.
fn gate() -> (Arc<Gate>, impl Fn(TcpStream, SocketAddr), UnboundedReceiver<Header>) {
    let rule = ProxyProtocol { trusted: vec!["127.0.0.0/8".parse().unwrap()], data: true };
    let (listener, waiting) = (String::new(), Waiting::default());
    let metrics = Arc::clone(&crate::relay::Shared::for_tests().metrics);
    let gate = Arc::new(Gate { listener, rule, waiting, warned: Mutex::default(), metrics });
    let (sender, let_in) = unbounded_channel();
    let door = Arc::clone(&gate);
    let enter = move |stream, from| {
        let sender = sender.clone();
        door.enter(stream, from, move |_, header| sender.send(header).unwrap());
    };
    (gate, enter, let_in)
}

#[tokio::test]
async fn sec_23_only_the_trusted_are_listened_to() {
    let (_gate, enter, mut let_in) = gate();
    let (mut theirs, ours) = pair();
    theirs.write_all(LINE).unwrap();
    enter(ours, "192.0.2.1:40000".parse().unwrap());
    let (mut theirs, ours) = pair();
    theirs.write_all(BINARY).unwrap();
    enter(ours, "127.0.0.1:40000".parse().unwrap());
    assert_eq!(let_in.recv().await, Some(client()));
    assert!(let_in.try_recv().is_err(), "a stranger was let in");
}

/// However late its task hears of it, and also if its header was there by then.
#[tokio::test]
async fn sec_28_who_has_lost_its_place_is_not_served() {
    let (mut theirs, ours) = pair();
    theirs.write_all(LINE).unwrap();
    let waiting = Waiting::with_room(1);
    let first = waiting.join(ours).unwrap();
    let (_newest, ours) = pair();
    let _turn = waiting.join(ours).unwrap();
    assert!(matches!(wait(first).await, Err(Refusal::Crowded)));
    assert!(theirs.read(&mut [0]).is_err(), "reset");
}

#[tokio::test]
async fn sec_28_a_place_in_the_line_is_held_for_as_long_as_it_is_needed() {
    let (gate, enter, mut let_in) = gate();
    let from = "127.0.0.1:40000".parse().unwrap();
    let (mut theirs, ours) = pair();
    enter(ours, from);
    // As many as there is room for beside it, which have been forgotten by their peers.
    let crowd: Vec<(TcpStream, TcpStream)> = (1..WAITING).map(|_| pair()).collect();
    let crowd: Vec<TcpStream> = crowd.into_iter().map(|(theirs, ours)| (enter(ours, from), theirs).1).collect();
    theirs.write_all(LINE).unwrap();
    assert_eq!(let_in.recv().await, Some(client()));
    drop(crowd);
    drop(gate);
}

/// Ten thousand drops of a drip are to cost little.
#[tokio::test]
async fn sec_28_a_connection_that_waits_is_small() {
    let (_theirs, ours) = pair();
    let size = size_of_val(&wait(turn(ours)));
    assert!(size <= 512, "{size} bytes");
}
