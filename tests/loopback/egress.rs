//! In front of clients: the server dials back, is the one peer of all clients, and hears of a port only when something is
//! to be transferred.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

use crate::support::crowd::{Client, Crowd, assemble};
use crate::support::net::Net;
use crate::support::scene::{Scene, Session, Setup};
use crate::support::script::{Ask, Offer, Side, tuple};
use crate::support::wire::{Dial, End, Wire};

const NO_PORT: &str = "425 Cannot open data connection: no port is free, try again later.\r\n";
const REFUSED: &str = "425 Cannot open data connection.\r\n";

/// One port for the server.
fn one_port(more: &'static str) -> (Setup, u16) {
    let port = Net::server_data_port();
    let server = format!("data_mode: active, data_ports: {port}").leak();
    (Setup { server, more, ..Setup::default() }, port)
}

/// Whether a connection from this address to the server's port is taken.
fn takes(session: &Session, from: IpAddr, port: u16) -> bool {
    let to = SocketAddr::new(session.server.peer().ip(), port);
    let dial = Dial { from, to, receive_buffer: None };
    Wire::dial(&session.log, "probe", dial).is_ok_and(|mut wire| wire.is_open())
}

/// The server downloads `text` to the client.
fn download(session: &mut Session, offer: Offer, text: &str) {
    let data = session.begin("RETR a\r\n", offer);
    session.downloads(data, text);
}

#[test]
fn what_clients_prepare_holds_no_port_of_the_servers() {
    let (setup, port) = one_port("timeouts: { port_wait: 300ms }");
    let scene = Scene::start(setup);
    let mut sessions: Vec<Session> = (0..3).map(|_| scene.session()).collect();
    for ask in Ask::ALL {
        let offers: Vec<Offer> = sessions.iter_mut().map(|session| session.offer(ask, "active")).collect();
        assert!(!takes(&sessions[0], scene.net.server().ip(), port), "{ask:?}");
        for (session, offer) in sessions.iter_mut().zip(offers) {
            session.is_usable();
            download(session, offer, "one after the other");
        }
    }
}

#[test]
fn transfers_wait_for_the_servers_port_in_the_order_in_which_they_came() {
    let scene = Scene::start(one_port("timeouts: { port_wait: 5s }").0);
    let (mut first, mut second) = (scene.session(), scene.session());
    let (of_first, of_second) = (first.pasv_prepared(), second.pasv_prepared());
    first.client.send("RETR a\r\n");
    let to_first = tuple(&first.server.line_starting("PORT "));
    first.server.send("200 ok\r\n");
    first.server.expect("RETR a\r\n");
    second.client.send("RETR b\r\n");
    second.server.silence(Duration::from_millis(100));
    // Established, the port is free for the next.
    let mut data = Wire::connect(&first.log, "server data", scene.net.server().ip(), to_first);
    let mut from_first = of_first.client_connects();
    data.send("of the first");
    from_first.expect("of the first");
    let to_second = tuple(&second.server.line_starting("PORT "));
    assert_eq!(to_second, to_first);
    second.server.send("200 ok\r\n");
    second.server.expect("RETR b\r\n");
    let mut data = Wire::connect(&second.log, "server data", scene.net.server().ip(), to_second);
    data.send("of the second");
    of_second.client_connects().expect("of the second");
}

impl Session {
    fn pasv_prepared(&mut self) -> Offer {
        self.offer(Ask::Pasv, "active")
    }
}

#[test]
fn sec_26_no_port_in_time_is_425_to_the_transfer() {
    let scene = Scene::start(one_port("timeouts: { port_wait: 300ms }").0);
    let (mut holder, mut other) = (scene.session(), scene.session());
    holder.pasv_prepared();
    holder.client.send("RETR a\r\n");
    holder.server.line_starting("PORT ");
    let offer = other.pasv_prepared();
    let mut data = offer.client_connects();
    let start = Instant::now();
    other.refused("RETR b\r\n", NO_PORT.trim_end());
    assert!(start.elapsed() >= Duration::from_millis(250), "it waited");
    data.ends_with(End::Reset);
}

#[test]
fn a_port_that_the_server_refuses_is_reported_in_the_transfers_terms() {
    for (refusal, wanted) in [
        ("500 Illegal PORT command.\r\n", REFUSED),
        ("501 Server cannot accept argument.\r\n", REFUSED),
        ("530 Please login with USER and PASS.\r\n", "530 Please login with USER and PASS.\r\n"),
        ("550 Permission denied.\r\n", "550 Permission denied.\r\n"),
        ("421 Timeout.\r\n", "421 Timeout.\r\n"),
    ] {
        let (setup, port) = one_port("");
        let scene = Scene::start(setup);
        let mut session = scene.session();
        let mut data = session.pasv_prepared().client_connects();
        session.client.send("STOR a\r\n");
        session.server.line_starting("PORT ");
        session.server.send(refusal);
        session.client.expect(wanted);
        data.ends_with(End::Reset);
        session.is_usable();
        assert!(!takes(&session, scene.net.server().ip(), port), "{refusal}");
    }
}

#[test]
fn rest_goes_behind_port_and_its_reply_is_the_servers() {
    let scene = Scene::start(one_port("").0);
    let mut session = scene.session();
    let Offer { client, .. } = session.pasv_prepared();
    session.client.send("REST 100\r\n");
    let server = session.server_agrees(Ask::Port);
    session.server.expect("REST 100\r\n");
    session.reply("350 Restarting at 100.\r\n");
    let offer = Offer::of(&session, client, server);
    download(&mut session, offer, "the rest");
}

/// The client connects as soon as it has its 227, and then has all the time in the world: but not for ever.
#[test]
fn a_client_that_connects_and_transfers_nothing_is_let_go() {
    let scene = Scene::start(one_port("timeouts: { data_idle: 800ms }").0);
    let mut session = scene.session();
    let mut data = session.pasv_prepared().client_connects();
    data.silence(Duration::from_millis(300));
    data.ends_with(End::Reset);
    session.refused("RETR a\r\n", REFUSED.trim_end());
}

#[test]
fn a_client_that_goes_takes_with_it_what_it_prepared() {
    let scene = Scene::start(one_port("").0);
    let mut session = scene.session();
    let offer = session.pasv_prepared();
    let port = offer.client_target().port();
    drop(session.client);
    session.server.ends_with(End::Fin);
    drop(session.server);
    let gone = Instant::now() + Duration::from_secs(5);
    while scene.data_port_takes(scene.net.client(), port) {
        assert!(Instant::now() < gone, "the port is still there");
    }
}

/// Every transfer of every client needs the one port: they take turns, and nobody is refused.
#[test]
fn sec_26_30_clients_share_one_port_towards_one_server() {
    const CLIENTS: usize = 30;
    const ROUNDS: usize = 4;
    let crowd = Crowd::start(one_port("").0);
    crowd.gate.send_replace(true);
    let all = Arc::new(Barrier::new(CLIENTS));
    crowd.all((0..CLIENTS).map(|n| {
        let (from, proxy) = (crowd.net.neighbour(u8::try_from(n % 10).expect("a few")), crowd.net.proxy());
        let all = Arc::clone(&all);
        async move {
            let mut client = Client::log_in(from, proxy).await;
            all.wait().await;
            for round in 0..ROUNDS {
                let port = client.pasv().await;
                client.transfer(n, (n + round) % 2 == 0, port, std::future::ready(())).await;
            }
        }
    }));
}

/// As many are open at the same time: those that have begun hold no port.
#[test]
fn sec_26_one_port_carries_20_transfers_of_one_server_at_once() {
    const CLIENTS: usize = 20;
    let crowd = Crowd::start(one_port("").0);
    let all = Arc::new(Barrier::new(CLIENTS));
    crowd.all((0..CLIENTS).map(|n| {
        let (from, proxy) = (crowd.net.client(), crowd.net.proxy());
        let half = assemble(Arc::clone(&all), crowd.gate.clone());
        async move {
            let mut client = Client::log_in(from, proxy).await;
            let port = client.pasv().await;
            client.transfer(n, n % 3 == 0, port, half).await;
        }
    }));
}

/// Nothing of the server's data reaches a session that did not ask for it, and a stranger's connection is reset.
#[test]
fn sec_13_a_stranger_cannot_be_the_server() {
    let (setup, port) = one_port("");
    let scene = Scene::start(setup);
    let mut session = scene.session();
    let Offer { client, server, .. } = session.pasv_prepared();
    let server = session.transfer_command("RETR a\r\n", server);
    assert!(matches!(server, Side::Dials { to, .. } if to.port() == port));
    assert!(!takes(&session, scene.net.stranger(), port), "a stranger was let in");
    let mut data = Offer::of(&session, client, server).connect();
    data.server.send("from the server");
    data.client.expect("from the server");
}

/// A server that dials from a pool of addresses, of which its control connection's need not be one.
#[test]
fn sec_13_a_server_dials_back_from_its_pool_and_nobody_else_does() {
    for ports in [Some(Net::server_data_port()), None] {
        let net = Net::new();
        let pool = ipnet::IpNet::new_assert(net.elsewhere(), 24).trunc();
        let ports = ports.map_or("any".into(), |port| port.to_string());
        let server = format!("data_mode: active, data_ports: {ports}, data_peer: [{pool}, 192.0.2.0/24]");
        let scene = Scene::start(Setup { server: server.leak(), ..Setup::default() });
        for from in [net.neighbour(0), net.neighbour(9), scene.net.server().ip()] {
            let mut session = scene.session();
            let Offer { client, server, .. } = session.pasv_prepared();
            let Side::Dials { to, .. } = session.transfer_command("RETR a\r\n", server) else { panic!("it is told") };
            assert!(!takes(&session, scene.net.stranger(), to.port()), "a stranger was let in");
            let mut data = Offer::of(&session, client, Side::Dials { from, to }).connect();
            data.server.send("from the pool");
            data.client.expect("from the pool");
        }
    }
}

/// Whoever of a pool connects to a port, the session that waits there is the only one.
#[test]
fn sec_13_a_pool_of_servers_is_one_peer() {
    let port = Net::server_data_port();
    let net = Net::new();
    let pool = ipnet::IpNet::new_assert(net.elsewhere(), 24).trunc();
    let server = format!("data_mode: active, data_ports: {port}, data_peer: {pool}");
    let more = "timeouts: { port_wait: 300ms }";
    let scene = Scene::start(Setup { server: server.leak(), more, ..Setup::default() });
    let (mut first, mut second) = (scene.session(), scene.session());
    let Offer { client, server, .. } = first.pasv_prepared();
    let Side::Dials { to, .. } = first.transfer_command("RETR a\r\n", server) else { panic!("it is told") };
    second.pasv_prepared();
    second.refused("RETR b\r\n", NO_PORT.trim_end());
    Offer::of(&first, client, Side::Dials { from: net.neighbour(3), to }).connect();
}
