//! What servers refuse and do in their own order: each rule bites without the proxy, and the proxy keeps it.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Data, named};
use crate::stage::{Route, Stage, content, with_every_server};
use crate::stand_in::{Options, named as server};
use crate::support::kernel;
use crate::support::scene::Setup;
use crate::support::wire::{DEADLINE, Dial, Door, End, Wire};

#[test]
fn an_address_that_is_not_the_clients_is_refused_in_the_servers_own_words() {
    with_every_server(|dialect| {
        let stage = Stage::plain(dialect);
        let mut client = stage.client(Route::Direct);
        let bystander = Door::open(&stage.log, "bystander", stage.net.stranger(), 0);
        for verb in dialect.verbs().into_iter().filter(|verb| ["PORT", "EPRT"].contains(verb)) {
            let reply = client.ask(&named(verb, bystander.addr()));
            assert!(dialect.habits.checks_port || !is_known_to_be_careful(dialect.name));
            if dialect.habits.checks_port {
                let addr = bystander.addr();
                let wanted = dialect.texts.foreign_port.wire.replace("{host}", &addr.ip().to_string());
                assert_eq!(reply.text(), wanted.replace("{address}", &addr.to_string()) + "\r\n");
                // FileZilla's is a 421, and yet the session goes on.
                client.say("NOOP", "200");
                bystander.nobody(Duration::from_millis(50));
            } else {
                assert_eq!(reply.code(), "200", "{}", dialect.name);
            }
        }
    });
}

/// Both compare the addresses of control and data connections, for either direction.
fn is_known_to_be_careful(name: &str) -> bool {
    name.starts_with("IIS") || name.starts_with("Serv-U")
}

/// The proxy is the only address that the server sees, for commands and for data.
#[test]
fn a_data_connection_from_elsewhere_is_refused_and_the_proxys_never_is() {
    with_every_server(|dialect| {
        let stage = Stage::plain(dialect);
        let mut client = stage.client(Route::Direct);
        let port = client.passive_port("PASV");
        let to = SocketAddr::new(stage.net.server().ip(), port);
        let mut thief = Wire::connect(&stage.log, "thief", stage.net.stranger(), to);
        let reply = client.ask("RETR down.bin");
        assert!(dialect.habits.checks_peer || !is_known_to_be_careful(dialect.name));
        if dialect.habits.checks_peer {
            let wanted = dialect.texts.foreign_peer.wire.replace("{address}", &thief.local().to_string()) + "\r\n";
            assert_eq!(reply.text(), wanted, "{}", dialect.name);
            assert_eq!(thief.rest().0, b"", "{}", dialect.name);
        } else {
            assert_eq!(thief.rest(), (content(1), End::Fin), "{}", dialect.name);
            client.wants("226");
        }
        let mut client = stage.client(Route::Proxied);
        assert!(client.download("PASV", "RETR down.bin") == content(1));
        assert!(client.download("PORT", "RETR down.bin") == content(1));
    });
}

/// Who listens only after the reply to PORT has lost the transfer.
#[test]
fn iis_connects_before_it_replies_to_port() {
    for name in ["IIS 7.5", "IIS 10"] {
        let stage = Stage::plain(server(name));
        let mut client = stage.client(Route::Direct);
        let free = Door::open(&stage.log, "free", stage.net.client(), 0).addr();
        client.say(&named("PORT", free), "200");
        let late = Door::open(&stage.log, "late", free.ip(), free.port());
        client.say("RETR down.bin", "150");
        client.wants("425");
        late.nobody(Duration::from_millis(50));

        // The same to a listening client: connected before the reply, and so the transfer begins with 125.
        for route in [Route::Direct, Route::Proxied] {
            let mut client = stage.client(route);
            let Data::Awaited(door) = client.prepare("PORT") else { unreachable!("PORT is active") };
            client.say("RETR down.bin", "125 Data connection already open; Transfer starting.");
            assert_eq!(door.accept().rest(), (content(1), End::Fin));
            client.wants("226");
        }
    }
}

/// The final reply comes with the data connection still open. Through the proxy it comes when the last byte has been
/// passed on: there are clients that close the data connection over it.
#[test]
fn iis_says_226_before_it_closes_the_data_connection() {
    let options = Options { before_fin: Duration::from_secs(1), ..Options::default() };
    let stage = Stage::new(server("IIS 7.5"), options, Setup::default());
    for route in [Route::Direct, Route::Proxied] {
        for verb in ["PASV", "PORT"] {
            let mut client = stage.client(route);
            let data = client.prepare(verb);
            client.say("NLST two", "1");
            let mut data = data.established();
            client.wants("226");
            let after_226 = Instant::now();
            assert_eq!(data.rest(), (b"first.txt\r\nsecond file.txt\r\n".to_vec(), End::Fin), "{route:?} {verb}");
            let late = after_226.elapsed() > Duration::from_millis(500);
            assert_eq!(late, route == Route::Direct, "{route:?} {verb}: FIN {:?} after 226", after_226.elapsed());
        }
    }
}

/// 30 s in the real one.
#[test]
fn iis_closes_a_passive_port_that_nobody_uses() {
    for route in [Route::Direct, Route::Proxied] {
        let options = Options { faster: 60, ..Options::default() };
        let stage = Stage::new(server("IIS 7.5"), options, Setup::default());
        let mut client = stage.client(route);
        let port = client.passive_port("PASV");
        let waits = || {
            let at_server = |row: &kernel::TcpRow| row.local.ip() == stage.net.server().ip();
            kernel::tcp_rows().iter().filter(|row| at_server(row) && row.state == kernel::LISTEN).count()
        };
        let deadline = Instant::now() + DEADLINE;
        while waits() > 1 {
            assert!(Instant::now() < deadline, "the passive port is still there");
            thread::sleep(Duration::from_millis(10));
        }
        let from = stage.net.client();
        let to = SocketAddr::new(stage.control(route).ip(), port);
        let late = Wire::dial(&stage.log, "late", Dial { from, to, receive_buffer: None });
        assert!(late.is_err() || route == Route::Proxied, "the passive port is still there");
        let opening = client.ask("RETR down.bin");
        let last = if opening.code() == "150" { client.reply() } else { opening };
        assert_eq!(last.code(), "425", "{route:?}");
        assert!(client.download("PASV", "RETR down.bin") == content(1), "{route:?}: the next transfer");
    }
}

const TOO_MANY: &str = "425 Unable to listen, too many pending PASV requests from same client IP.\r\n";

/// All clients are one address to the server: who would not have met this limit meets it, alone, and learns the reason.
#[test]
fn serv_u_limits_the_passive_ports_that_wait_for_one_address() {
    for name in ["Serv-U 6", "Serv-U 7", "Serv-U 10", "Serv-U 15"] {
        let options = Options { pending_per_address: 2, ..Options::default() };
        let stage = Stage::new(server(name), options, Setup::default());
        let mut direct = [0, 1, 2].map(|_| stage.client(Route::Direct));
        let ports = [0, 1].map(|index| direct[index].passive_port("PASV"));
        assert_eq!(direct[2].ask("PASV").text(), TOO_MANY);
        let _used = ports.map(|port| direct[2].connect(port));

        let (one, other) = (stage.net.client(), stage.net.stranger());
        let mut proxied = [one, other, one].map(|from| stage.client_from(Route::Proxied, from));
        let first = proxied[0].passive_port("PASV");
        proxied[1].passive_port("PASV");
        assert_eq!(proxied[2].ask("PASV").text(), TOO_MANY, "{name}");
        let mut addresses: Vec<_> = stage.server.clients().iter().map(SocketAddr::ip).collect();
        addresses.dedup();
        assert_eq!(addresses.len(), 2, "the clients that came directly, and the proxy for all others");
        // As soon as one of them has connected there is room again.
        let _data = proxied[0].connect(first);
        let deadline = Instant::now() + DEADLINE;
        while proxied[2].ask("PASV").code() != "227" {
            assert!(Instant::now() < deadline, "{name}: never again a port");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The remedy that the README gives.
#[test]
fn active_mode_towards_serv_u_has_no_such_limit() {
    let options = Options { pending_per_address: 1, ..Options::default() };
    let setup = Setup { server: "data_mode: active", ..Setup::default() };
    let stage = Stage::new(server("Serv-U 15"), options, setup);
    let mut clients: Vec<_> = (0..8).map(|_| stage.client(Route::Proxied)).collect();
    let data: Vec<_> = clients.iter_mut().map(|client| client.prepare("PASV").established()).collect();
    for (client, mut data) in clients.iter_mut().zip(data) {
        client.say("RETR down.bin", "150");
        assert_eq!(data.rest(), (content(1), End::Fin));
        client.wants("226");
    }
}

#[test]
fn serv_u_refuses_low_ports_in_its_own_words() {
    let stage = Stage::plain(server("Serv-U 15"));
    let to = SocketAddr::new(stage.net.client(), 513);
    let reply = stage.client(Route::Direct).ask(&named("PORT", to));
    assert_eq!(reply.text(), "530 Port number has to be between 1024 and 65535.\r\n");
    // From the proxy it would be the proxy's port: it has to refuse by itself.
    assert_eq!(stage.client(Route::Proxied).ask(&named("PORT", to)).code(), "501");
}

#[test]
fn a_server_that_requires_tls_says_so() {
    let options = Options { requires_tls: true, ..Options::default() };
    let stage = Stage::new(server("IIS 10"), options, Setup::default());
    for route in [Route::Direct, Route::Proxied] {
        let mut client = stage.greeted(route, stage.net.client());
        assert_eq!(client.ask("USER alice").text(), "534 Policy requires SSL\r\n");
    }
}

/// There are no data connections behind a 234 that the proxy cannot read: it does not let the server hear AUTH.
#[test]
fn auth_is_not_passed_on() {
    with_every_server(|dialect| {
        let Some(text) = &dialect.texts.auth else { return };
        let stage = Stage::plain(dialect);
        let mut client = stage.greeted(Route::Proxied, stage.net.client());
        assert_eq!(client.ask("AUTH TLS").code(), "502");
        client.log_in();
        assert!(!stage.server.heard().iter().any(|line| line.starts_with("AUTH")));
        let mut client = stage.greeted(Route::Direct, stage.net.client());
        assert_eq!(client.ask("AUTH TLS").text(), format!("{}\r\n", text.wire));
    });
}

#[test]
fn epsv_all_holds_on_either_side() {
    with_every_server(|dialect| {
        if !dialect.verbs().contains(&"EPSV") {
            return;
        }
        let stage = Stage::plain(dialect);
        for route in [Route::Direct, Route::Proxied] {
            let mut client = stage.client(route);
            assert_eq!(client.ask("EPSV ALL").text(), format!("{}\r\n", dialect.texts.epsv_all.wire));
            assert!(client.ask("PASV").code().starts_with('5'), "{} {route:?}", dialect.name);
            assert!(client.download("EPSV", "RETR down.bin") == content(1));
        }
    });
}

/// What carries an address in a form that nobody translates does not reach the server.
#[test]
fn long_addresses_are_refused() {
    let stage = Stage::plain(server("wu-ftpd"));
    assert!(stage.client(Route::Direct).ask("LPSV").text().starts_with("228 Entering Long Passive Mode (4,4,"));
    assert_eq!(stage.client(Route::Proxied).ask("LPSV").code(), "502");
    assert_eq!(stage.server.heard().iter().filter(|line| *line == "LPSV").count(), 1);
}

/// FileZilla Server takes dots for commas; what the proxy cannot read must not reach it with the client's address.
#[test]
fn dots_in_port_are_not_passed_on() {
    let stage = Stage::plain(server("FileZilla Server 0.9"));
    let door = Door::open(&stage.log, "client data", stage.net.client(), 0);
    let [p1, p2] = door.addr().port().to_be_bytes();
    let command = format!("PORT {},{p1},{p2}", stage.net.client());
    stage.client(Route::Direct).say(&command, "200");
    assert_eq!(stage.client(Route::Proxied).ask(&command).code(), "501");
    assert_eq!(stage.server.heard().iter().filter(|line| **line == command).count(), 1);
}
