//! What surrounds serving: commands over the socket, the service manager, and sockets that it passes on.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::net::Net;
use crate::support::proxy::{Proxy, program, with_socket};
use crate::support::scene::{Scene, Setup};
use crate::support::transcript::Transcript;
use crate::support::wire::{Dial, Door, Wire};

const SOON: Duration = Duration::from_secs(20);

fn yaml(net: Net, setup: Setup) -> String {
    setup.yaml(net.proxy(), &net.server().to_string())
}

/// `ftp-alg reload`: its exit code, and what it says.
fn reload(socket: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftp-alg"));
    let Output { status, stderr, .. } = command.args(["reload", "--control"]).arg(socket).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn rel_14_the_command_tells_what_came_of_a_reload() {
    let (net, log, dir) = (Net::new(), Transcript::new(), tempfile::tempdir().unwrap());
    let socket = dir.path().join("control.sock");
    // What a process that was killed has left behind.
    drop(UnixListener::bind(&socket).unwrap());
    let as_service = || {
        let mut command = program();
        command.env("RUNTIME_DIRECTORY", dir.path());
        command
    };
    let good = yaml(net, Setup::default());
    let mut proxy = Proxy::start_as(as_service(), &log, &good, &[net.proxy()]);
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(reload(&socket), (Some(0), String::new()));
    proxy.logs("reloaded: new sessions have the new configuration");

    proxy.configure(&good.replace("upstream:", "upsteam:").replace("20000-20063", "20063-20000"));
    let (code, said) = reload(&socket);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("upsteam") && said.contains("20063-20000"), "every reason is told: {said}");

    // Another one does not take its place.
    let other = yaml(Net::new(), Setup::default());
    assert!(Proxy::refuses_as(as_service(), &other).contains("another ftp-alg takes commands there"));
    proxy.configure(&good);
    assert_eq!(reload(&socket).0, Some(0));

    proxy.signal(Signal::TERM);
    assert!(proxy.exits_within(SOON).success());
    assert!(!socket.exists());
    let (code, said) = reload(&socket);
    assert!(code == Some(1) && said.contains("nobody takes commands at"), "{said}");
}

/// The next message; without those of the watchdog.
fn told(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    loop {
        let length = manager.recv(&mut buffer).expect("a message");
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        if text != "WATCHDOG=1\n" {
            return text;
        }
    }
}

#[test]
fn rel_14_the_service_manager_is_told_of_start_reload_and_end() {
    let (net, log, dir) = (Net::new(), Transcript::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let mut command = program();
    command.env("NOTIFY_SOCKET", &path);
    let mut proxy = Proxy::start_as(command, &log, &yaml(net, Setup::default()), &[net.proxy()]);
    assert!(told(&manager).starts_with("READY=1\n"));

    proxy.signal(Signal::HUP);
    let reloading = told(&manager);
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
    assert!(time.lines().next().unwrap().parse::<u64>().unwrap() > 0);
    assert!(told(&manager).starts_with("READY=1\n"));

    // Refused, it is ready all the same, and says so.
    proxy.configure("listeners: []\n");
    proxy.signal(Signal::HUP);
    assert!(told(&manager).starts_with("RELOADING=1\n"));
    let ready = told(&manager);
    assert!(ready.starts_with("READY=1\n") && ready.contains("refused"), "{ready}");

    proxy.signal(Signal::TERM);
    assert!(told(&manager).starts_with("STOPPING=1\n"));
    assert!(proxy.exits_within(SOON).success());
}

#[test]
fn the_watchdog_is_fed_twice_in_its_time() {
    let (net, log, dir) = (Net::new(), Transcript::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let mut command = program();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let _proxy = Proxy::start_as(command, &log, &yaml(net, Setup::default()), &[net.proxy()]);
    let mut buffer = [0; 1024];
    let mut fed = 0;
    while fed < 5 {
        let length = manager.recv(&mut buffer).expect("a message");
        fed += usize::from(&buffer[..length] == b"WATCHDOG=1\n");
    }
}

/// Clients that come while the program restarts wait in the queue of the socket, which somebody else holds.
#[test]
fn rel_14_a_restart_refuses_nobody_where_the_socket_is_passed_on() {
    let (net, log) = (Net::new(), Transcript::new());
    let socket = TcpListener::bind(net.proxy()).unwrap();
    let server = Door::open(&log, "server", net.server().ip(), net.server().port());
    let yaml = yaml(net, Setup::default());
    let dial = || Wire::dial(&log, "client", Dial { from: net.client(), to: net.proxy(), receive_buffer: None });
    for _ in 0..3 {
        let mut proxy = Proxy::start_as(with_socket(&socket), &log, &yaml, &[net.proxy()]);
        let mut client = dial().unwrap();
        let mut upstream = server.accept();
        upstream.send("220 hello\r\n");
        client.expect("220 hello\r\n");
        // A reload keeps it.
        proxy.reload(&yaml);
        let mut second = dial().unwrap();
        server.accept().send("220 hello\r\n");
        second.expect("220 hello\r\n");
        drop((client, upstream, second));

        proxy.signal(Signal::TERM);
        assert!(proxy.exits_within(SOON).success());
        let mut meanwhile = dial().expect("the queue takes it");
        let mut next = Proxy::start_as(with_socket(&socket), &log, &yaml, &[net.proxy()]);
        server.accept().send("220 hello\r\n");
        meanwhile.expect("220 hello\r\n");
        drop(meanwhile);
        next.signal(Signal::TERM);
        assert!(next.exits_within(SOON).success());
    }
}

/// Who came before ftp-alg has the options of its connections all the same: urgent data is read in its place.
#[test]
fn rel_14_who_starts_the_program_is_served_like_everybody() {
    let (net, log) = (Net::new(), Transcript::new());
    let socket = TcpListener::bind(net.proxy()).unwrap();
    let server = Door::open(&log, "server", net.server().ip(), net.server().port());
    let dialled = Wire::dial(&log, "client", Dial { from: net.client(), to: net.proxy(), receive_buffer: None });
    let _proxy = Proxy::start_as(with_socket(&socket), &log, &yaml(net, Setup::default()), &[net.proxy()]);
    let (mut client, mut upstream) = (dialled.unwrap(), server.accept());
    upstream.send("220 hello\r\n");
    client.expect("220 hello\r\n");
    client.send_urgent(b"NOOP\r\n");
    upstream.expect("NOOP\r\n");
}

#[test]
fn a_socket_passed_on_that_no_listener_names_is_an_error() {
    let net = Net::new();
    let socket = TcpListener::bind((net.proxy().ip(), 2199)).unwrap();
    let said = Proxy::refuses_as(with_socket(&socket), &yaml(net, Setup::default()));
    assert!(said.contains("no listener binds") && said.contains("ListenStream="), "{said}");

    // Nor may a reload leave its clients alone.
    let scene_socket = TcpListener::bind(net.proxy()).unwrap();
    let log = Transcript::new();
    let good = yaml(net, Setup::default());
    let proxy = Proxy::start_as(with_socket(&scene_socket), &log, &good, &[net.proxy()]);
    // The socket listens from the first, and a SIGHUP that comes before it is expected ends the process.
    proxy.logs("serving");
    let elsewhere = format!("{}:2198", net.proxy().ip());
    let said = proxy.refuses_to_reload(&good.replace(&net.proxy().to_string(), &elsewhere));
    assert!(said.contains("no listener binds"), "{said}");
}

/// Without a service manager nothing of this is there.
#[test]
fn nothing_is_needed_of_a_service_manager() {
    let scene = Scene::plain();
    scene.proxy.logs("serving");
    assert!(!scene.proxy.stderr().contains("service manager"));
}
