//! Which server a session is led to.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::net::{Net, SERVER_PORT};
use crate::support::scene::{Scene, Session};
use crate::support::wire::{Door, Wire};

/// A proxy whose clients choose the server; `keys` are those that say how.
fn choosing(keys: &str) -> Scene {
    let net = Net::new();
    let yaml = format!(
        "listeners:\n  - bind: \"{}\"\n{keys}    client:\n      address_map: [{{ peers: any, announce: 203.0.113.10 }}]\n      \
         data_ports: 20000-20063\n",
        net.proxy()
    );
    Scene::start_at(net, &yaml, &[net.proxy()])
}

fn from_user(networks: &str) -> Scene {
    choosing(&format!("    upstream: from-user\n    upstream_networks: {networks}\n"))
}

/// A client that has read our greeting.
fn received(scene: &Scene) -> Wire {
    let mut client = scene.knock();
    client.expect("220 FTP proxy ready, log in with USER user@host.\r\n");
    client
}

/// USER is answered by the server behind this door.
fn named(scene: &Scene, client: Wire, door: &Door, user: &str) -> Session {
    let mut session = meets(scene, client, door, user);
    session.server.send("220 Microsoft FTP Service\r\n");
    let (name, _) = user.rsplit_once('@').unwrap();
    session.server.expect(format!("USER {name}\r\n"));
    session.reply("331 Password required\r\n");
    session
}

fn meets(scene: &Scene, mut client: Wire, door: &Door, user: &str) -> Session {
    client.send(format!("USER {user}\r\n"));
    Session { client, server: door.accept(), log: scene.log.clone() }
}

/// Nothing has led the client here: it dials the proxy itself.
#[test]
fn sec_03_a_connection_that_nobody_has_led_here_is_no_way_to_ourselves() {
    let scene = choosing("    upstream: original-destination\n    upstream_networks: 127.0.0.0/8:1-65535\n");
    let mut client = scene.knock();
    client.line_starting("421 Service not available");
    scene.proxy.logs("it is one of our own listeners");
    assert_eq!(scene.proxy.stderr().matches("session began").count(), 1);
}

#[test]
fn users_are_led_to_the_servers_that_they_name() {
    let scene = from_user("127.0.0.0/8:2100");
    let other = Door::open(&scene.log, "other", scene.net.stranger(), SERVER_PORT);
    let at = |door: &Door| format!("bob@example.org@{}", door.addr());
    let mut first = named(&scene, received(&scene), &scene.server, &at(&scene.server));
    let mut second = named(&scene, received(&scene), &other, &at(&other));
    for session in [&mut first, &mut second] {
        session.exchange("PASS x\r\n", "230 in\r\n");
        let mut data = session.transfer("RETR a\r\n");
        data.server.send("data");
        data.server.finish();
        session.reply("226 done\r\n");
        data.client.expect("data");
    }
    // Another one in the same session: the first is left in good order.
    let Session { client, mut server, .. } = first;
    let mut moved = named(&scene, client, &other, &at(&other));
    server.rest();
    moved.exchange("PASS x\r\n", "230 in\r\n");
    moved.is_usable();
    drop(moved);
    scene.proxy.logs(&format!("server={}", other.addr()));
}

#[test]
fn a_server_that_may_not_be_reached_is_not_connected_to() {
    let scene = from_user("[127.0.0.254:2100, localhost:1-2]");
    let mut client = received(&scene);
    // Another address, another port, and a name that leads nowhere: all the same.
    for host in [scene.net.server().to_string(), "127.0.0.254:2101".into(), "no.such.name.invalid:2100".into()] {
        client.send(format!("USER bob@{host}\r\n"));
        client.expect("530 This server may not be reached from here.\r\n");
    }
    scene.server.nobody(Duration::from_millis(100));
    scene.proxy.logs("it is not in upstream_networks");
    client.send("NOOP\r\n");
    client.expect("200 NOOP command successful.\r\n");
}

#[test]
fn a_name_is_permitted_as_such_or_by_its_addresses() {
    let server = |scene: &Scene| Door::open(&scene.log, "named", "127.0.0.1".parse().unwrap(), 0);
    for networks in ["localhost:1-65535", "[\"127.0.0.0/8:1-65535\", \"[::1]:1-65535\"]"] {
        let scene = from_user(networks);
        let door = server(&scene);
        let mut session = named(&scene, received(&scene), &door, &format!("bob@LocalHost:{}", door.addr().port()));
        session.exchange("PASS x\r\n", "230 in\r\n");
    }
    let scene = from_user("\"*.localhost:1-65535\"");
    let door = server(&scene);
    let mut client = received(&scene);
    client.send(format!("USER bob@localhost:{}\r\n", door.addr().port()));
    client.line_starting("530 ");
    door.nobody(Duration::from_millis(100));
}

#[test]
fn sec_03_naming_the_proxy_itself_is_no_loop() {
    let scene = from_user("127.0.0.0/8:1-65535");
    let mut client = received(&scene);
    client.send(format!("USER a@b@{}\r\n", scene.net.proxy()));
    client.line_starting("530 ");
    scene.proxy.logs("it is one of our own listeners");
    assert_eq!(scene.proxy.stderr().matches("session began").count(), 1);
}

#[test]
fn rel_10_a_server_that_is_down_ends_the_session() {
    let scene = from_user("127.0.0.0/8:1-65535");
    let closed: SocketAddr = (scene.net.stranger(), 1).into();
    let mut client = received(&scene);
    client.send(format!("USER bob@{closed}\r\n"));
    client.line_starting("421 Service not available");
}

#[test]
fn sec_25_servers_that_are_tried_out_count_as_failed_logins() {
    let scene =
        choosing("    upstream: from-user\n    upstream_networks: 127.0.0.254\n    limits: { login_failures: 1 }\n");
    let mut client = received(&scene);
    client.send(format!("USER bob@{}\r\n", scene.net.server()));
    client.line_starting("530 This server");
    scene.proxy.logs("failed logins: each further one waits 5 s");
}

/// A proxy with a second server for `second.example`.
fn with_hosts() -> (Scene, Door) {
    let net = Net::new();
    let yaml = format!(
        "listeners:\n  - bind: \"{}\"\n    upstream: \"{}\"\n    hosts: {{ second.example: \"{}\" }}\n    client: \
         {{ address_map: [{{ peers: any, announce: 203.0.113.10 }}], data_ports: 20000-20063 }}\n",
        net.proxy(),
        net.server(),
        SocketAddr::new(net.stranger(), SERVER_PORT),
    );
    let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
    let second = Door::open(&scene.log, "second", scene.net.stranger(), SERVER_PORT);
    (scene, second)
}

#[test]
fn rfc_16_host_replaces_the_server() {
    let (scene, door) = with_hosts();
    let Session { mut client, mut server, log } = scene.greeted(scene.net.client());
    client.send("HOST second.example\r\nUSER alice\r\n");
    let second = door.accept();
    let (heard, _) = server.rest();
    assert_eq!(heard, b"", "it never sees HOST");
    let mut session = Session { client, server: second, log };
    session.reply("220 the second\r\n");
    session.server.expect("USER alice\r\n");
    session.reply("331 Password required\r\n");
    session.exchange("PASS x\r\n", "230 in\r\n");
    let mut data = session.transfer("RETR a\r\n");
    data.server.send("data");
    data.server.finish();
    session.reply("226 done\r\n");
    data.client.expect("data");
    drop(data);
    session.refused("HOST second.example\r\n", "503 ");
    // Without HOST nothing is different.
    let mut plain = scene.session();
    plain.is_usable();
    drop(session);
    scene.proxy.logs(&format!("server={}", door.addr()));
}

#[test]
fn rel_10_a_host_that_is_down_ends_the_session() {
    let (scene, door) = with_hosts();
    drop(door);
    let mut session = scene.greeted(scene.net.client());
    session.client.send("HOST second.example\r\n");
    session.client.line_starting("421 Service not available");
}
