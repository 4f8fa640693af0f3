//! `announce: auto`: what clients are told follows what the metadata service says.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::metadata::{Metadata, Reply};
use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::scene::{PUBLIC, Scene, Session, Setup};
use crate::support::script::tuple;
use crate::support::transcript::Transcript;
use crate::support::wire::{DEADLINE, Door};

const OTHER: &str = "203.0.113.11";

fn yaml(net: Net, endpoint: &str, refresh: &str) -> String {
    let listeners = Setup { announce: "auto", ..Setup::default() }.yaml(net.proxy(), &net.server().to_string());
    format!("{listeners}discovery: {{ provider: hetzner, endpoint: \"{endpoint}\", refresh: {refresh} }}\n")
}

fn scene(service: &Metadata) -> Scene {
    let net = Net::new();
    Scene::start_at(net, &yaml(net, &service.url(), "1s"), &[net.proxy()])
}

/// The address that a PASV is answered with now.
fn announced(session: &mut Session) -> String {
    session.command("PASV\r\n");
    session.server.send("227 Entering Passive Mode (10,0,0,1,4,1).\r\n");
    tuple(&session.client.line_starting("227 ")).ip().to_string()
}

/// Waits until the service has been asked once more, twice even: the first of these may have begun before.
#[track_caller]
fn is_asked_again(service: &Metadata) {
    let wanted = service.seen().len() + 2;
    let deadline = Instant::now() + DEADLINE;
    while service.seen().len() < wanted {
        assert!(Instant::now() < deadline, "nobody asks any more: {:?}", service.asked());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn rel_24_a_changed_public_address_is_announced_by_the_next_pasv() {
    let service = Metadata::new(|_| Reply::text(PUBLIC));
    let scene = scene(&service);
    let mut session = scene.session();
    assert_eq!(announced(&mut session), PUBLIC);
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("one ");
    data.client.expect("one ");

    service.behave(|_| Reply::text(OTHER));
    scene.proxy.logs(&format!("address={OTHER}"));
    let mut second = scene.session();
    assert_eq!(announced(&mut second), OTHER);

    // What runs knows nothing of it.
    session.downloads(data, "two");
    assert_eq!(announced(&mut session), OTHER);
}

#[test]
fn rel_25_the_last_public_address_serves_on_while_the_service_fails() {
    let service = Metadata::new(|_| Reply::text(PUBLIC));
    let scene = scene(&service);
    let mut session = scene.session();
    for bad in [Reply::status(500), Reply::status(404), Reply::text("10.0.0.5"), Reply::text("<html>")] {
        service.behave(move |_| bad.clone());
        is_asked_again(&service);
        assert_eq!(announced(&mut session), PUBLIC);
    }
    scene.proxy.logs("no public address any more");
    let warnings = scene.proxy.stderr().matches("no public address any more; the last one stays").count();
    assert_eq!(warnings, 1, "a failure is said once, not every time");
    service.behave(|_| Reply::text(PUBLIC));
    scene.proxy.logs("there is a public address again");
    assert_eq!(announced(&mut session), PUBLIC);
}

/// At boot the network, or the host's service, may come after us.
#[test]
fn rel_25_a_service_that_comes_late_is_waited_for() {
    let net = Net::new();
    let log = Transcript::new();
    let at = SocketAddr::new(net.stranger(), 8080);
    let _door = Door::open(&log, "server", net.server().ip(), net.server().port());
    let proxy = Proxy::spawned(&log, &yaml(net, &format!("http://{at}"), "60s"));
    proxy.logs("no public address yet");
    let busy = Metadata::at(at, |_| Reply::status(503));
    is_asked_again(&busy);
    busy.behave(|_| Reply::text(PUBLIC));
    proxy.logs(&format!("address={PUBLIC}"));
    proxy.logs("serving");
}

/// Another service is asked before anything changes; where it does not answer, what was known serves on.
#[test]
fn rel_14_a_reload_asks_for_the_public_address() {
    let (first, second) = (Metadata::new(|_| Reply::text(PUBLIC)), Metadata::new(|_| Reply::text(OTHER)));
    let scene = scene(&first);
    let reload = |service: &Metadata| scene.proxy.reload(&yaml(scene.net, &service.url(), "1s"));
    reload(&second);
    assert_eq!(announced(&mut scene.session()), OTHER);
    first.behave(|_| Reply::status(404));
    reload(&first);
    assert_eq!(announced(&mut scene.session()), OTHER);
    first.behave(|_| Reply::text("203.0.113.12"));
    scene.proxy.logs("address=203.0.113.12");
    assert_eq!(announced(&mut scene.session()), "203.0.113.12");
}

/// Nothing was known before.
#[test]
fn rel_14_a_reload_that_finds_no_public_address_is_refused() {
    let scene = Scene::plain();
    let service = Metadata::new(|_| Reply::status(404));
    let said = scene.proxy.refuses_to_reload(&yaml(scene.net, &service.url(), "1s"));
    assert!(said.contains("announce: auto"), "{said}");
    assert_eq!(announced(&mut scene.session()), PUBLIC);
}
