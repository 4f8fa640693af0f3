//! Another configuration while the program runs: who is there keeps the one that it began with, and nobody is lost.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::kernel;
use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::scene::{Scene, Session, Setup};
use crate::support::wire::{Dial, End, Wire};

const OTHER_PUBLIC: &str = "203.0.113.99";

/// The configuration of a scene, with these changes.
fn yaml(scene: &Scene, setup: Setup) -> String {
    setup.yaml(scene.net.proxy(), &scene.net.server().to_string())
}

/// With a second address to bind.
fn with_address(yaml: &str, net: Net, second: SocketAddr) -> String {
    let first = net.proxy();
    yaml.replace(&format!("[\"{first}\"]"), &format!("[\"{first}\", \"{second}\"]"))
}

fn second_address(net: Net) -> SocketAddr {
    SocketAddr::new(net.proxy().ip(), net.proxy().port() + 1)
}

/// The numbers of a 227.
#[track_caller]
fn pasv(session: &mut Session) -> String {
    session.command("PASV\r\n");
    session.server.send("227 Entering Passive Mode (10,0,0,1,200,10).\r\n");
    session.client.line_starting("227 ")
}

#[track_caller]
fn downloads(session: &mut Session) {
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("one ");
    data.client.expect("one ");
    session.downloads(data, "two");
}

#[track_caller]
fn uploads(session: &mut Session) {
    let mut data = session.transfer("STOR a\r\n");
    data.client.send("half of it");
    data.server.expect("half of it");
    data.client.send(", and the rest");
    data.client.finish();
    data.server.expect(", and the rest");
    data.server.ends_with(End::Fin);
    data.server.finish();
    drop(data);
    session.reply("226 Transfer complete.\r\n");
}

#[test]
fn rel_14_200_transfers_during_50_reloads_do_not_fail() {
    const TRANSFERS: usize = 200;
    const RELOADS: usize = 50;
    let scene = Scene::plain();
    let setups = [
        Setup { data_ports: "20032-20095", ..Setup::default() },
        Setup { data_ports: "20000-20063", more: "timeouts: { control_idle: 10m }", ..Setup::default() },
        Setup { data_ports: "20040-20047", ..Setup::default() },
    ];
    let mut transfers = 0;
    std::thread::scope(|scope| {
        let reloading = scope.spawn(|| {
            for n in 0..RELOADS {
                scene.proxy.reload(&yaml(&scene, setups[n % setups.len()]));
            }
        });
        while transfers < TRANSFERS || !reloading.is_finished() {
            let mut session = scene.session();
            for _ in 0..4 {
                downloads(&mut session);
                uploads(&mut session);
                transfers += 2;
            }
        }
    });
}

#[test]
fn rel_14_a_session_keeps_its_configuration_and_the_next_has_the_new_one() {
    let scene = Scene::plain();
    let mut old = scene.session();
    assert!(pasv(&mut old).contains("203,0,113,10,"));
    scene.proxy.reload(&yaml(&scene, Setup { announce: OTHER_PUBLIC, ..Setup::default() }));
    assert!(pasv(&mut old).contains("203,0,113,10,"));
    let mut new = scene.session();
    assert!(pasv(&mut new).contains("203,0,113,99,"));
    assert!(pasv(&mut old).contains("203,0,113,10,"));
}

/// A transfer that runs, one that is only agreed upon, and the next one of the same session.
#[test]
fn rel_14_a_range_that_moves_away_stays_open_for_those_who_began_with_it() {
    let scene = Scene::start(Setup { data_ports: "20000-20003", ..Setup::default() });
    let mut running = scene.session();
    let mut data = running.transfer("RETR a\r\n");
    let mut waiting = scene.session_from(scene.net.stranger());
    let offer = waiting.pasv();
    scene.proxy.reload(&yaml(&scene, Setup { data_ports: "20010-20013", ..Setup::default() }));

    let mut new = scene.session();
    let to = new.pasv().client_target().port();
    assert!((20_010..=20_013).contains(&to), "{to}");
    data.server.send("all of it");
    data.server.finish();
    data.client.expect("all of it");
    data.client.ends_with(End::Fin);
    drop(data);
    running.reply("226 Transfer complete.\r\n");
    let data = waiting.begin("STOR a\r\n", offer);
    drop(data);
    let to = running.pasv().client_target().port();
    assert!((20_000..=20_003).contains(&to), "{to}");

    // Closed with the last of them, not earlier.
    let at = |port| SocketAddr::new(scene.net.proxy().ip(), port);
    assert!(kernel::is_listening(at(20_000)));
    drop((running, waiting));
    let closed = || (20_000..=20_003).all(|port| !kernel::is_listening(at(port)));
    while !closed() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(kernel::is_listening(at(20_010)));
}

/// One port, and one client: what a session of before the reload waits for there is nobody else's.
#[test]
fn rel_14_a_port_of_both_configurations_is_leased_once() {
    let more = "timeouts: { port_wait: 1s }";
    let scene = Scene::start(Setup { data_ports: "20000-20000", ..Setup::default() });
    let mut old = scene.session();
    let offer = old.pasv();
    scene.proxy.reload(&yaml(&scene, Setup { data_ports: "20000-20000", more, ..Setup::default() }));
    let mut new = scene.session();
    new.client.send("PASV\r\n");
    new.client.line_starting("425 ");
    let mut data = old.begin("RETR a\r\n", offer);
    data.server.send("mine");
    data.client.expect("mine");
}

#[test]
fn rel_14_addresses_come_and_go_and_the_others_stay() {
    let scene = Scene::plain();
    let (plain, second) = (yaml(&scene, Setup::default()), second_address(scene.net));
    let knock = |to| Wire::dial(&scene.log, "client", Dial { from: scene.net.client(), to, receive_buffer: None });
    assert!(knock(second).is_err());
    scene.proxy.reload(&with_address(&plain, scene.net, second));
    let mut client = knock(second).unwrap();
    let mut server = scene.server.accept();
    server.send("220 hello\r\n");
    client.expect("220 hello\r\n");

    let mut before = scene.session();
    scene.proxy.reload(&plain);
    while kernel::is_listening(second) {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Who came in there is still served.
    client.send("NOOP\r\n");
    server.expect("NOOP\r\n");
    before.is_usable();
    scene.session().is_usable();
}

/// Connections that nobody has accepted yet when the reload comes.
#[test]
fn rel_14_who_waits_in_the_queue_is_served() {
    let scene = Scene::plain();
    let setups = [Setup { announce: OTHER_PUBLIC, ..Setup::default() }, Setup::default()];
    for n in 0..10 {
        scene.proxy.signal(Signal::STOP);
        let clients: Vec<Wire> = (0..3).map(|_| scene.knock()).collect();
        scene.proxy.configure(&yaml(&scene, setups[n % 2]));
        scene.proxy.signal(Signal::HUP);
        scene.proxy.signal(Signal::CONT);
        let mut servers: Vec<Wire> = clients.iter().map(|_| scene.server.accept()).collect();
        for server in &mut servers {
            server.send("220 hello\r\n");
        }
        for mut client in clients {
            client.expect("220 hello\r\n");
        }
    }
}

#[test]
fn rel_14_a_bad_file_changes_nothing() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let unchanged = |scene: &Scene, session: &mut Session| {
        session.is_usable();
        assert!(pasv(session).contains("203,0,113,10,"));
        assert!(pasv(&mut scene.session()).contains("203,0,113,10,"));
    };
    let good = yaml(&scene, Setup { announce: OTHER_PUBLIC, ..Setup::default() });
    let said =
        scene.proxy.refuses_to_reload(&good.replace("upstream:", "upsteam:").replace("20000-20063", "20063-20000"));
    assert!(said.contains("upsteam") && said.contains("20063-20000"), "every error is told: {said}");
    unchanged(&scene, &mut session);

    std::fs::remove_file(scene.proxy.config()).unwrap();
    scene.proxy.signal(Signal::HUP);
    scene.proxy.logs("No such file");
    unchanged(&scene, &mut session);

    scene.proxy.reload(&good);
    assert!(pasv(&mut scene.session()).contains("203,0,113,99,"));
}

/// All of what stands in the way is told, and what was bound by then is let go of.
#[test]
fn rel_14_what_cannot_be_bound_changes_nothing() {
    let scene = Scene::plain();
    let net = scene.net;
    let (taken, third) = (second_address(net), SocketAddr::new(net.proxy().ip(), net.proxy().port() + 2));
    let _holder = std::net::TcpListener::bind(taken).unwrap();
    let _data = std::net::TcpListener::bind((net.proxy().ip(), 21_000)).unwrap();
    let setup = Setup { data_ports: "21000-21000", announce: OTHER_PUBLIC, ..Setup::default() };
    let bad = with_address(&yaml(&scene, setup), net, third)
        .replace(&format!("\"{third}\""), &format!("\"{third}\", \"{taken}\""));
    let said = scene.proxy.refuses_to_reload(&bad);
    assert!(said.contains(&format!("cannot use {taken}")), "{said}");
    assert!(said.contains("cannot bind any of the data ports 21000-21000"), "{said}");
    let mut session = scene.session();
    assert!(pasv(&mut session).contains("203,0,113,10,"));
    assert!(!kernel::is_listening(third));
}

/// Neither bans nor who is there are forgotten, and the new limits are those that count.
#[test]
fn rel_14_limits_count_on() {
    let scene = Scene::with("limits: { sessions_per_address: 2, login_failures: 1 }");
    let first = scene.session();
    let _second = scene.session();
    scene.proxy.reload(&yaml(
        &scene,
        Setup { more: "limits: { sessions_per_address: 1, login_failures: 1 }", ..Setup::default() },
    ));
    scene.knock().line_starting("421 Too many connections from your address");
    drop(first);
    scene.knock().line_starting("421 Too many connections from your address");

    let mut guesser = scene.greeted(scene.net.stranger());
    guesser.exchange("USER alice\r\n", "331 Password required\r\n");
    guesser.exchange("PASS guess\r\n", "530 Login incorrect.\r\n");
    scene.proxy.reload(&yaml(&scene, Setup::default()));
    scene.proxy.reload(&yaml(&scene, Setup { more: "limits: { login_failures: 1 }", ..Setup::default() }));
    // Slowed down since the first failure, which was before the reloads.
    let mut again = scene.greeted(scene.net.stranger());
    again.client.send("USER alice\r\nPASS guess\r\n");
    again.server.silence(Duration::from_secs(1));
}

#[test]
fn rel_13_a_reload_that_needs_more_open_files_than_there_are_is_refused() {
    let (net, log) = (Net::new(), crate::support::transcript::Transcript::new());
    let yaml = |setup: Setup| setup.yaml(net.proxy(), &net.server().to_string());
    let proxy = Proxy::start_with_files(&log, &yaml(Setup::default()), &[net.proxy()], 200);
    let said = proxy.refuses_to_reload(&yaml(Setup { data_ports: "20000-20300", ..Setup::default() }));
    assert!(said.contains("the limit on open files is 200"), "{said}");
    proxy.reload(&yaml(Setup::default()));
}

/// What cannot change while the program runs says so.
#[test]
fn rel_14_what_needs_a_restart_is_refused() {
    let scene = Scene::plain();
    let good = yaml(&scene, Setup { announce: OTHER_PUBLIC, ..Setup::default() });
    for (key, what) in [
        (format!("admin: {{ bind: \"{}\" }}", second_address(scene.net)), "admin.bind"),
        (
            "landlock: true".to_owned(),
            "landlock: it is settled at the start whether the process is restricted; restart",
        ),
        ("user: nobody".to_owned(), "user: the process cannot become another user any more"),
    ] {
        let said = scene.proxy.refuses_to_reload(&format!("{good}{key}\n"));
        assert!(said.contains(what), "{said}");
        assert!(pasv(&mut scene.session()).contains("203,0,113,10,"));
    }
}
