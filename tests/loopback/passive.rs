//! PASV and EPSV with `data_mode: same`: what is announced, who may connect, and what may not be believed.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::scene::{PUBLIC, Scene, Session};
use crate::support::script::{Ask, Offer, command, commas, extended_port, passive_reply, tuple};
use crate::support::wire::{Door, End, Wire};

/// The server answers PASV with this line, `T` standing for its `h1,…,p2`; this is what the client reads, with
/// `T` for what it was told. The two `T` lead to each other.
fn translated(session: &mut Session, reply: &[u8], wanted: &[u8]) {
    session.client.send("PASV\r\n");
    session.server.expect("PASV\r\n");
    let door = Door::open(&session.log, "server data", session.server.local().ip(), 0);
    session.server.send(with_tuple(reply, &commas(door.addr())));
    let line = session.client.line();
    let announced = tuple(&line);
    assert_eq!(announced.ip().to_string(), PUBLIC);
    let line: Vec<u8> = line.chars().map(|c| u8::try_from(c).unwrap()).collect();
    let wanted = with_tuple(wanted, &commas(announced));
    assert_eq!(line.escape_ascii().to_string(), wanted.escape_ascii().to_string());

    let to = SocketAddr::new(session.client.peer().ip(), announced.port());
    let mut client = Wire::connect(&session.log, "client data", session.client.local().ip(), to);
    let mut server = door.accept();
    client.send("hello");
    server.expect("hello");
}

fn with_tuple(line: &[u8], tuple: &str) -> Vec<u8> {
    let at = line.iter().position(|byte| *byte == b'T').expect("a T");
    [&line[..at], tuple.as_bytes(), &line[at + 1..]].concat()
}

const CANONICAL: &[u8] = b"227 Entering Passive Mode (T).\r\n";

#[test]
fn rfc_03_a_plain_tuple_is_edited_in_place() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for line in [
        &b"227 Entering Passive Mode (T).\r\n"[..],
        b"227 Entering Passive Mode (T)\r\n",
        b"227 Entering passive mode (T).\r\n",
        b"227 (T)\r\n",
        b"227 Entering Passive Mode(T)\r\n",
        b"227 server 15.1 passive (T)\r\n",
        b"227 \xbd\xf8\xc8\xeb (T)\r\n",
        b"227 Entering Passive Mode (T)\n",
    ] {
        translated(&mut session, line, line);
    }
}

/// RFC 1123 §4.1.2.6: parentheses are optional for us, and wanted by some clients.
#[test]
fn rfc_03_other_forms_become_canonical() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for line in [
        &b"227 =T\r\n"[..],
        b"227 T\r\n",
        b"227 Entering passive mode. T\r\n",
        b"227 Entering Passive Mode. A=T\r\n",
        b"227 Entering Passive Mode (T) [10,0,0,1,2,3]\r\n",
        b"227 Data transfer will passively listen to T\r\n",
    ] {
        translated(&mut session, line, CANONICAL);
    }
}

#[test]
fn rfc_03_a_227_without_a_valid_tuple_passes_and_opens_nothing() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for line in [
        "227 Logout.\r\n",
        "227 Missing IP\r\n",
        "227 Entering Passive Mode (192,168,1,100,229)\r\n",
        "227 Entering Passive Mode (1216,256,2,127,127,127)\r\n",
        "227 Portscan (127,0,0,1,256,100)\r\n",
        "227 Portscan (127,0,0,1,-100,100)\r\n",
        "227 Entering Passive Mode (1127,0,0,1,4,51)\r\n",
    ] {
        session.exchange("PASV\r\n", line);
        session.is_usable();
    }
    scene.no_leases();
}

#[test]
fn rfc_03_a_multi_line_227_becomes_one_canonical_line() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.client.send("PASV\r\n");
    session.server.expect("PASV\r\n");
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send(format!("227-listen socket created\r\n227 ({})\r\n", commas(door.addr())));
    let line = session.client.line();
    assert!(line.starts_with("227 Entering Passive Mode (203,0,113,10,") && line.ends_with(").\r\n"), "{line}");
    session.is_usable();
}

#[test]
fn rfc_10_every_form_of_229_is_understood() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for (reply, wanted) in [
        ("229 Entering Extended Passive Mode (|||P|)\r\n", "229 Entering Extended Passive Mode (|||P|)\r\n"),
        ("229 Entering Extended Passive Mode (|||P|).\r\n", "229 Entering Extended Passive Mode (|||P|).\r\n"),
        ("229 Extended Passive mode OK (|||P|)\r\n", "229 Extended Passive mode OK (|||P|)\r\n"),
        ("229 Entering Passive Mode (|||P|)\r\n", "229 Entering Passive Mode (|||P|)\r\n"),
        ("229 Entering Extended Passive Mode (!!!P!)\r\n", "229 Entering Extended Passive Mode (|||P|)\r\n"),
        ("229-wait\r\n229 ok (|||P|)\r\n", "229 Entering Extended Passive Mode (|||P|)\r\n"),
    ] {
        session.command("EPSV\r\n");
        let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
        session.server.send(
            reply
                .replace("|P|", &format!("|{}|", door.addr().port()))
                .replace("!P!", &format!("!{}!", door.addr().port())),
        );
        let line = session.client.line_starting("229 ");
        let port = extended_port(&line);
        assert_eq!(line, wanted.replace("|P|", &format!("|{port}|")));
        let _data = Wire::connect(&session.log, "client data", scene.net.client(), scene.data_addr(port));
        door.accept();
    }
}

/// Servers answer EPSV with 227 and PASV with 229; the client gets what it asked for.
#[test]
fn rfc_10_the_form_of_the_reply_follows_the_command() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for (asked, answered, wanted) in [(Ask::Epsv, Ask::Pasv, "229 "), (Ask::Pasv, Ask::Epsv, "227 ")] {
        let verb = if asked == Ask::Epsv { "EPSV\r\n" } else { "PASV\r\n" };
        session.command(verb);
        let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
        session.server.send(passive_reply(answered, door.addr()));
        let line = session.client.line_starting(wanted);
        let port = if asked == Ask::Epsv { extended_port(&line) } else { tuple(&line).port() };
        let _data = Wire::connect(&session.log, "client data", scene.net.client(), scene.data_addr(port));
        door.accept();
    }
}

#[test]
fn rfc_10_epsv_with_another_family_is_refused_with_the_list() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for command in ["EPSV 2\r\n", "EPSV 3\r\n", "EPSV 99\r\n"] {
        let line = session.refused(command, "522 ");
        assert!(line.contains("(1)"), "{line}");
    }
    session.command("EPSV 1\r\n");
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send(passive_reply(Ask::Epsv, door.addr()));
    session.client_is_told(Ask::Epsv);
    session.refused("EPSV nonsense\r\n", "501 ");
    session.refused("EPRT |3|127.0.0.1|5000|\r\n", "522 ");
}

/// With verbs kept the server decides about EPSV ALL; once it has agreed, nothing else is passed on.
#[test]
fn rfc_10_epsv_all_is_forwarded_when_verbs_are_kept() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.exchange("EPSV ALL\r\n", "501 not that\r\n");
    session.pasv().connect();
    session.exchange("EPSV ALL\r\n", "200 EPSV ALL ok.\r\n");
    session.refused("PASV\r\n", "5");
    let own = Door::open(&session.log, "client data", scene.net.client(), 0);
    session.refused(command(Ask::Port, own.addr()), "5");
    session.offer(Ask::Epsv, "same").connect();
}

#[test]
fn sec_02_the_address_in_a_227_is_never_dialled() {
    let scene = Scene::plain();
    let mut session = scene.session();
    // A door on another address with the same port: it must stay shut.
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    let other = Door::open(&session.log, "third party", scene.net.stranger(), door.addr().port());
    for named in ["169.254.169.254".parse().unwrap(), other.addr().ip(), "0.0.0.0".parse().unwrap()] {
        session.command("PASV\r\n");
        session.server.send(passive_reply(Ask::Pasv, SocketAddr::new(named, door.addr().port())));
        let port = tuple(&session.client.line_starting("227 ")).port();
        let _data = Wire::connect(&session.log, "client data", scene.net.client(), scene.data_addr(port));
        door.accept();
        other.nobody(Duration::from_millis(20));
    }
}

#[test]
fn sec_02_privileged_ports_of_a_server_are_refused() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for port in [0, 22, 1023] {
        session.command("PASV\r\n");
        session.server.send(passive_reply(Ask::Pasv, SocketAddr::new(scene.net.server().ip(), port)));
        session.client.line_starting("425 ");
        session.command("EPSV\r\n");
        session.server.send(passive_reply(Ask::Epsv, SocketAddr::new(scene.net.server().ip(), port)));
        session.client.line_starting("425 ");
    }
    session.is_usable();
    scene.no_leases();
}

/// `policy.privileged_ports`: such a server is served nevertheless.
#[test]
fn sec_02_privileged_ports_of_a_server_may_be_allowed() {
    let scene = Scene::with("policy: { privileged_ports: true }");
    let mut session = scene.session();
    session.command("PASV\r\n");
    session.server.send(passive_reply(Ask::Pasv, SocketAddr::new(scene.net.server().ip(), 989)));
    session.client_is_told(Ask::Pasv);
    session.refused(command(Ask::Port, SocketAddr::new(scene.net.client(), 989)), "501 ");
}

/// 227 in a banner, in the echo of a path, in STAT or HELP, and out of the blue.
#[test]
fn sec_04_a_227_that_nobody_asked_for_is_text() {
    let scene = Scene::plain();
    let fake = "227 Entering Passive Mode (127,0,0,1,78,32)";
    let mut session = scene.silent_session(scene.net.client());
    session.reply(format!("220-{fake}\r\n{fake}\r\n220 ready\r\n"));
    session.exchange(format!("CWD {fake}\r\n"), format!("550 {fake}: no such directory\r\n"));
    session.exchange(format!("MKD {fake}\r\n"), format!("257 \"{fake}\" created\r\n"));
    session.exchange("PWD\r\n", format!("257-{fake}\r\n{fake}\r\n257 \"/\"\r\n"));
    session.reply(format!("{fake}\r\n"));
    scene.proxy.logs("nobody asked for");
    session.reply("229 Entering Extended Passive Mode (|||20000|)\r\n");
    session.exchange("STAT\r\n", format!("211-status\r\n{fake}\r\n211 End\r\n"));
    scene.no_leases();
    session.is_usable();
}

#[test]
fn sec_11_numbers_that_wrap_are_not_numbers() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for command in [
        "EPRT |1|127.0.0.1|65557|\r\n",
        "EPRT |1|127.0.0.1|4294973296|\r\n",
        "PORT 127,0,0,1,256,22\r\n",
        "PORT 1234\r\n",
        "PORT 114,115\r\n",
        "PORT 127,0,0,1,4,-51\r\n",
        "PORT\r\n",
        "EPRT |1|127.0.0.1|\r\n",
    ] {
        session.refused(command, "501 ");
    }
    for reply in ["229 Entering Passive Mode (|||1000000|)\r\n", "229 x (|||4294973296|)\r\n", "229 x (||5000|)\r\n"] {
        session.exchange("EPSV\r\n", reply);
    }
    scene.no_leases();
}

/// A page that makes a browser speak to us hides a PORT in its second segment.
#[test]
fn sec_22_a_padded_post_gets_no_lease() {
    let scene = Scene::plain();
    let mut session = scene.greeted(scene.net.client());
    let door = Door::open(&session.log, "victim", scene.net.client(), 0);
    let port = command(Ask::Port, door.addr());
    session.client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n{}", "a".repeat(1300)));
    let _cut_off_already = session.client.try_send(port.as_bytes());
    session.client.rest();
    session.server.end();
    door.nobody(Duration::from_millis(50));
    scene.no_leases();
}

/// No server address in any 227 or 229, nor anywhere else in what the proxy says itself.
#[test]
fn sec_31_no_inside_address_reaches_the_client() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for ask in Ask::ALL {
        session.offer(ask, "same").connect();
    }
    session.refused("PORT 8,8,8,8,78,32\r\n", "501 ");
    session.refused("LPSV\r\n", "502 ");
    let capture = String::from_utf8_lossy(&session.client.capture).into_owned();
    for inside in [scene.net.server().ip(), scene.net.proxy().ip()] {
        let dotted = inside.to_string();
        assert!(!capture.contains(&dotted) && !capture.contains(&dotted.replace('.', ",")), "{capture}");
    }
    assert!(capture.contains("203,0,113,10"), "the capture is not empty: {capture}");
}

/// The data connection may be made before the transfer command, between it and 150, or after 150.
#[test]
fn rel_08_data_may_connect_at_any_time() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for connect_at in 0..3 {
        let offer = session.pasv();
        let mut data = None;
        let mut connect = |now: usize, offer: Option<Offer>| {
            if now == connect_at {
                data = offer.map(Offer::connect);
                return None;
            }
            offer
        };
        let offer = connect(0, Some(offer));
        session.command("RETR a\r\n");
        let offer = connect(1, offer);
        session.reply("150 here it comes\r\n");
        connect(2, offer);
        let mut data = data.expect("one of the three times");
        data.server.send("content");
        data.server.finish();
        session.server.send("226 Transfer complete.\r\n");
        data.client.expect("content");
        data.client.ends_with(End::Fin);
        drop(data);
        session.client.expect("226 Transfer complete.\r\n");
    }
}

/// The server's data port refuses: its own reply decides; where it has none, 425.
#[test]
fn rel_09_the_servers_reply_wins_over_a_refused_data_dial() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for reply in ["550 No such file.\r\n", "425 Cannot open data connection.\r\n"] {
        let offer = session.pasv();
        offer.server_refuses();
        session.command("RETR a\r\n");
        session.reply(reply);
        session.is_usable();
    }
}

/// A download that the server believes to be complete, and whose bytes never came: not a success.
#[test]
fn rel_09_a_2xx_after_a_refused_data_dial_is_no_success() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let offer = session.pasv();
    offer.server_refuses();
    session.command("RETR a\r\n");
    session.server.send("150 Opening\r\n226 Transfer complete.\r\n");
    session.client.expect("150 Opening\r\n");
    session.client.line_starting("425 ");
    session.is_usable();
}
