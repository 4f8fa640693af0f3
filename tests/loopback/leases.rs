//! Data ports: who may use one, for how long, and what happens when there are none left.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::net::{BLOCK, Net};
use crate::support::scene::{BANNER, DATA_PORTS, Scene, Session, Setup};
use crate::support::script::Ask;
use crate::support::transcript::Transcript;
use crate::support::wire::{Dial, Door, End, Wire};

#[test]
fn rfc_04_a_second_pasv_frees_the_port_of_the_first() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let first = session.pasv();
    let second = session.pasv();
    assert_ne!(first.client_target(), second.client_target());
    assert!(!scene.data_port_takes(scene.net.client(), first.client_target().port()));
    let mut data = second.connect();
    data.client.send("through the second");
    data.server.expect("through the second");
}

#[test]
fn sec_13_stranger_does_not_consume_the_lease() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.pasv();
    let port = offer.client_target().port();
    for _ in 0..3 {
        assert!(!scene.data_port_takes(scene.net.stranger(), port), "a stranger was let in");
    }
    offer.server_door().nobody(Duration::from_millis(50));
    let mut data = offer.connect();
    data.server.send("for the owner");
    data.client.expect("for the owner");
}

#[test]
fn sec_14_a_port_takes_one_connection() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.pasv();
    let port = offer.client_target().port();
    let mut data = offer.connect();
    assert!(!scene.data_port_takes(scene.net.client(), port), "a second connection was let in");
    data.server.send("undisturbed");
    data.client.expect("undisturbed");
}

#[test]
fn sec_14_ports_are_not_handed_out_in_order() {
    let scene = Scene::start(Setup { data_ports: "20000-21999", ..Setup::default() });
    let mut session = scene.session();
    let ports: Vec<i32> = (0..40).map(|_| i32::from(session.pasv().client_target().port())).collect();
    let steps: Vec<i32> = ports.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let most_frequent = steps.iter().map(|step| steps.iter().filter(|other| *other == step).count()).max();
    // 39 random steps among thousands: three equal ones have a chance below 1 in 10,000.
    assert!(most_frequent < Some(3), "{ports:?}");
    assert!(ports.iter().any(|port| *port < 20_500) && ports.iter().any(|port| *port > 21_500), "{ports:?}");
}

/// All leases of an address are taken: that address waits and is refused, others notice nothing.
#[test]
fn sec_26_exhaustion_hurts_the_hoarder_only() {
    let scene =
        Scene::start(Setup { data_ports: "20000-20002", more: "timeouts: { port_wait: 300ms }", ..Setup::default() });
    let mut hoarders: Vec<Session> = (0..5).map(|_| scene.session()).collect();
    let mut leases = Vec::new();
    for session in &mut hoarders[..3] {
        leases.push(session.pasv());
    }
    for session in &mut hoarders[3..] {
        let start = Instant::now();
        session.client.send("PASV\r\n");
        session.client.line_starting("425 ");
        assert!(start.elapsed() >= Duration::from_millis(250), "PASV waits for a port first");
        session.is_usable();
    }
    let mut other = scene.session_from(scene.net.stranger());
    let mut data = other.pasv().connect();
    data.server.send("free for others");
    data.client.expect("free for others");
    // And the hoarder's own leases still work.
    leases.remove(0).connect();
}

/// MS98-006: one address asks for ports in a loop, in as many sessions as it likes, and uses none. Another gets its own
/// at once, every time.
#[test]
fn sec_26_a_loop_of_pasv_delays_nobody_else() {
    const WAIT: Duration = Duration::from_secs(3);
    let scene =
        Scene::start(Setup { data_ports: "20000-20003", more: "timeouts: { port_wait: 3s }", ..Setup::default() });
    let hoarders: Vec<Session> = (0..24).map(|_| scene.session()).collect();
    let mut other = scene.session_from(scene.net.stranger());
    let (over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for Session { mut client, mut server, .. } in hoarders {
            let (over, refused) = (&over, &refused);
            threads.spawn(move || {
                while !over.load(Relaxed) {
                    client.send("PASV\r\n");
                    let line = client.line_within(4 * WAIT);
                    refused.fetch_add(usize::from(line.starts_with("425 ")), Relaxed);
                }
            });
            threads.spawn(move || {
                while let Some(line) = server.line_or_end() {
                    assert_eq!(line, "PASV\r\n");
                    server.send("227 Entering Passive Mode (127,0,0,1,200,10).\r\n");
                }
            });
        }
        // Whatever fails here, the hoarders must end: the scope waits for them.
        let _end = Raises(&over);
        while refused.load(Relaxed) < 24 {
            let start = Instant::now();
            let mut data = other.pasv().connect();
            data.server.send("at once");
            data.client.expect("at once");
            assert!(start.elapsed() < WAIT / 2, "{:?}", start.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

/// Sets its flag when it is dropped.
struct Raises<'a>(&'a AtomicBool);

impl Drop for Raises<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A port that is freed while somebody waits goes to the one who waits.
#[test]
fn sec_26_a_waiting_pasv_gets_the_next_free_port() {
    let scene = Scene::start(Setup { data_ports: "20000", more: "timeouts: { port_wait: 4s }", ..Setup::default() });
    let mut first = scene.session();
    let mut second = scene.session();
    let offer = first.pasv();
    second.client.send("PASV\r\n");
    second.client.silence(Duration::from_millis(200));
    // An established connection holds no lease.
    let _data = offer.connect();
    second.server_agrees(Ask::Pasv);
    second.client_is_told(Ask::Pasv);
}

/// A range of one port serves any number of transfers one after the other, and several clients at once.
#[test]
fn sec_26_one_port_serves_all() {
    let scene = Scene::start(Setup { data_ports: "20000", ..Setup::default() });
    let mut one = scene.session();
    let mut two = scene.session_from(scene.net.stranger());
    let mut held = Vec::new();
    for _ in 0..5 {
        let first = one.pasv();
        let second = two.pasv();
        for (offer, word) in [(first, "first"), (second, "second")] {
            let mut data = offer.connect();
            data.server.send(word);
            data.client.expect(word);
            held.push(data);
        }
    }
}

/// Both edges of the range are used.
#[test]
fn sec_26_the_whole_range_is_used() {
    let scene = Scene::start(Setup { data_ports: "20000-20002", ..Setup::default() });
    let mut session = scene.session();
    let mut seen = [false; 3];
    for _ in 0..60 {
        let offer = session.pasv();
        seen[usize::from(offer.client_target().port() - 20_000)] = true;
        drop(offer.client_connects());
        offer.server_door().accept();
    }
    assert_eq!(seen, [true; 3]);
}

/// Another process has half the ports.
#[test]
fn rel_26_ports_of_others_are_left_out() {
    let net = Net::new();
    let log = Transcript::new();
    let _foreign: Vec<Door> =
        (20_000..20_032).map(|port| Door::open(&log, "foreign", net.proxy().ip(), port)).collect();
    let yaml = Setup::default().yaml(net.proxy(), &net.server().to_string());
    let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
    let mut session = scene.session();
    for _ in 0..8 {
        let offer = session.pasv();
        assert!(offer.client_target().port() >= 20_032);
        offer.connect();
    }
}

/// A connection that comes late for a lease of another session must not get this one's data.
#[test]
fn rel_26_a_freed_port_rests() {
    let scene = Scene::start(Setup { data_ports: "20000", more: "timeouts: { port_wait: 300ms }", ..Setup::default() });
    let mut first = scene.session();
    let mut second = scene.session();
    let _unused = first.pasv();
    first.exchange("QUIT\r\n", "221 bye\r\n");
    first.server.finish();
    first.client.end();
    second.client.send("PASV\r\n");
    second.client.line_starting("425 ");
    assert!(!scene.data_port_takes(scene.net.client(), 20_000));
}

/// Not a silence that a client would have to wait out.
#[test]
fn a_port_outside_any_lease_resets_at_once() {
    let scene = Scene::plain();
    let start = Instant::now();
    let dial = Dial { from: scene.net.client(), to: scene.data_addr(20_001), receive_buffer: None };
    if let Ok(mut wire) = Wire::dial(&scene.log, "probe", dial) {
        wire.ends_with(End::Reset);
    }
    assert!(start.elapsed() < Duration::from_secs(1));
}

/// Several listeners with the same range share it.
#[test]
fn sec_26_listeners_share_a_range() {
    let net = Net::new();
    let second = SocketAddr::new(net.proxy().ip(), 2122);
    let one = Setup::default().yaml(net.proxy(), &net.server().to_string());
    let two = one.replace("listeners:\n", "").replace(&net.proxy().to_string(), &second.to_string());
    let scene = Scene::start_at(net, &format!("{one}{two}"), &[net.proxy(), second]);
    let mut first = scene.session();
    let client = Wire::connect(&scene.log, "client 2", net.client(), second);
    let mut other = Session { client, server: scene.server.accept(), log: scene.log.clone() };
    other.reply(BANNER);
    for session in [&mut first, &mut other] {
        let mut data = session.pasv().connect();
        data.server.send("x");
        data.client.expect("x");
    }
}

/// `data_ports: any`: a port of the kernel's choice, with the same rules.
#[test]
fn sec_26_any_port_will_do() {
    let scene = Scene::start(Setup { data_ports: "any", ..Setup::default() });
    let mut session = scene.session();
    for _ in 0..3 {
        let offer = session.pasv();
        let port = offer.client_target().port();
        assert!(!scene.data_port_takes(scene.net.stranger(), port), "a stranger was let in");
        let mut data = offer.connect();
        data.server.send("x");
        data.client.expect("x");
        assert!(!scene.data_port_takes(scene.net.client(), port), "a second connection was let in");
    }
}

/// A client is awaited at the address that it connected to, whether that is bound by itself or by a wildcard.
#[test]
fn sec_26_data_arrives_where_control_did() {
    let net = Net::new();
    let block = net.port_block();
    let wildcard = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), block);
    let several = format!("\"{}\", \"{}:2121\"", net.proxy(), net.stranger());
    let yaml = Setup::default().yaml(net.proxy(), &net.server().to_string());
    let on_two = yaml.replace(&format!("\"{}\"", net.proxy()), &several);
    let everywhere = Setup::default()
        .yaml(wildcard, &net.server().to_string())
        .replace(DATA_PORTS, &format!("{}-{}", block + 1, block + BLOCK - 1));
    for (yaml, port) in [(on_two, 2121), (everywhere, block)] {
        let bound = if port == block { wildcard } else { net.proxy() };
        let scene = Scene::start_at(net, &yaml, &[bound]);
        for ip in [net.proxy().ip(), net.stranger()] {
            let client = Wire::connect(&scene.log, "client", net.client(), SocketAddr::new(ip, port));
            let mut session = Session { client, server: scene.server.accept(), log: scene.log.clone() };
            session.reply(BANNER);
            let mut data = session.pasv().connect();
            data.server.send("x");
            data.client.expect("x");
        }
    }
}
