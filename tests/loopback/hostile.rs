//! Peers that do not speak FTP, or mean harm.

use std::time::{Duration, Instant};

use crate::support::kernel::rss_kib;
use crate::support::scene::{BANNER, Scene, Session};
use crate::support::wire::{Dial, End, Wire};

/// A browser that is made to speak to us gets nothing back that it could take for a page.
#[test]
fn sec_22_http_is_cut_off_without_an_echo() {
    let scene = Scene::plain();
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /x HTTP/1.0\r\n\r\n",
        "HEAD / HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n",
    ] {
        let mut session = scene.greeted(scene.net.client());
        session.client.send(request);
        let (answer, _) = session.client.rest();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(!answer.contains("HTTP") && !answer.contains("Host") && !answer.contains('/'), "{answer}");
        session.server.end();
    }
}

/// After the first line GET is one more unknown verb.
#[test]
fn sec_22_http_verbs_later_on_are_unknown_commands() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.exchange("GET a.txt\r\n", "500 'GET': command not understood\r\n");
}

/// A page that makes a browser talk to us over and over, without a verb of HTTP in front: ten commands that the server
/// does not know are the end, as with vsftpd 3.0.4. Whoever has logged in may err as often as it likes.
#[test]
fn sec_17_ten_unknown_commands_before_the_login_end_the_session() {
    let scene = Scene::plain();
    let mut session = scene.greeted(scene.net.client());
    for _ in 0..9 {
        session.exchange("Accept: */*\r\n", "500 'ACCEPT:': command not understood.\r\n");
    }
    session.exchange("USER alice\r\n", "331 Password required\r\n");
    session.command("X-Header: y\r\nNOOP\r\n");
    session.server.send("502 Command not implemented.\r\n");
    session.client.expect("502 Command not implemented.\r\n421 Too many unknown commands");
    assert!(!String::from_utf8_lossy(&session.client.rest().0).contains("X-Header"));
    session.server.end();
    scene.proxy.logs("outcome=not FTP");

    let mut session = scene.session();
    for _ in 0..12 {
        session.exchange("XFOO\r\n", "500 what?\r\n");
    }
    session.is_usable();
}

/// MS09-053: old IIS lost its stack to STAT or NLST with long runs of wildcards. Such a line is longer than any that
/// passes.
#[test]
fn sec_30_five_kilobytes_of_globs_never_reach_the_server() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for verb in ["STAT", "NLST", "LIST", "SITE EXEC"] {
        session.refused(format!("{verb} {}\r\n", "*/../".repeat(1000)), "500 ");
    }
    let capture = String::from_utf8_lossy(&session.server.capture).into_owned();
    assert!(!capture.contains("*/") && capture.contains("NOOP"), "{capture}");
}

#[test]
fn sec_10_an_overlong_command_is_refused_and_skipped() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.exchange(format!("CWD {}\r\n", "a".repeat(4000)), "550 no\r\n");
    session.refused(format!("CWD {}\r\n", "a".repeat(5000)), "500 ");
    session.refused(format!("{}\r\n", "PORT 127,0,0,1,78,32\r".repeat(1000)), "500 ");
}

/// A stream without a line end costs no memory.
#[test]
fn sec_10_bytes_without_a_line_end_cost_no_memory() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let chunk = vec![b'a'; 1 << 20];
    session.client.send(&chunk);
    let before = rss_kib(scene.proxy.pid());
    for _ in 0..48 {
        session.client.send(&chunk);
    }
    let after = rss_kib(scene.proxy.pid());
    session.client.send("\r\n");
    session.client.line_starting("500 ");
    session.is_usable();
    assert!(after < before + 1024, "{before} KiB before, {after} KiB after");
}

#[test]
fn sec_10_an_overlong_reply_streams_through() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.command("STAT\r\n");
    let reply = format!("211-{}\r\n 227 (1,2,3,4,5,6)\r\n211 End\r\n", "x".repeat(200_000));
    session.reply(reply);
    session.command("PASV\r\n");
    session.reply(format!("227 {}\r\n", "A".repeat(50_000)));
    session.is_usable();
    scene.no_leases();
}

/// What a peer sends shows in the log as text, never as what a terminal would obey; secrets never, however much is
/// logged and whatever comes of the command.
#[test]
fn sec_29_logs_are_escaped_and_hold_no_secrets() {
    let scene = Scene::with_every_log_line();
    let mut session = scene.greeted(scene.net.client());
    session.exchange("USER mal\x1b[2Jlory\r\n", "331 Password required\r\n");
    session.exchange("PASS opensesame\r\n", "332 Account, please\r\n");
    session.exchange("ACCT secretaccount\r\n", "230 in\r\n");
    session.exchange("pass tryanother\r\n", "503 in already\r\n");
    session.exchange("  PASS behindblanks\r\n", "503 in already\r\n");
    session.exchange(b"\xff\xf1PASS behindtelnet\r\n", "503 in already\r\n");
    session.refused(b"PASS with\0nulsecret\r\n", "501 ");
    session.refused(b"PA\xff\xf1SS insidetelnet\r\n", "500 ");
    session.refused(format!("PASS toolong{}\r\n", "g".repeat(5000)), "500 ");
    session.exchange("\x1b]0;title\x07 x\r\n", "500 what?\r\n");
    session.exchange("NOOP\r\n", "200 \x1b[31mred\r\n");
    let mut data = session.transfer("RETR dir/evil\x1b[31mname\r\n");
    data.server.send("contentsofthefile");
    data.server.finish();
    data.client.expect("contentsofthefile");
    data.client.finish();
    drop(data);
    session.reply("226 done\r\n");
    session.exchange("QUIT\r\n", "221 bye\r\n");
    drop(session);
    // One that is held back when its session ends, and a line that nobody ended.
    let mut session = scene.session();
    session.client.send("PASV\r\nPASS heldback\r\nPASS unfinished");
    session.server.expect("PASV\r\n");
    session.client.reset();
    session.server.rest();
    scene.proxy.logs("lory");
    scene.proxy.logs("name");
    scene.proxy.logs("outcome=reset by the client");
    let log = scene.proxy.stderr();
    for secret in [
        "opensesame",
        "secretaccount",
        "tryanother",
        "behindblanks",
        "behindtelnet",
        "nulsecret",
        "insidetelnet",
        "toolong",
        "contentsofthefile",
        "heldback",
        "unfinished",
    ] {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(!log.contains('\x1b') && !log.contains('\x07'), "{}", log.escape_debug());
    assert!(log.contains("DEBUG"), "this is not all that can be logged: {log}");
}

/// A long name is not a long line in the log.
#[test]
fn sec_29_log_lines_are_bounded() {
    let scene = Scene::plain();
    let mut session = scene.greeted(scene.net.client());
    session.exchange(format!("USER {}\r\n", "u".repeat(3900)), "331 Password required\r\n");
    session.exchange("PASS x\r\n", "230 in\r\n");
    let data = session.transfer(&format!("RETR {}\r\n", "p".repeat(3900)));
    data.server.finish();
    data.client.finish();
    session.reply("226 done\r\n");
    scene.proxy.logs("ppp");
    let longest = scene.proxy.stderr().lines().map(str::len).max();
    assert!(longest < Some(2000), "{longest:?} bytes");
}

/// A transfer that was cut is one of those that an operator looks for.
#[test]
fn a_transfer_that_ends_with_its_session_is_logged() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("STOR half-done.bin\r\n");
    data.client.send("123456789");
    data.server.expect("123456789");
    session.client.reset();
    data.server.rest();
    scene.proxy.logs("path=\"half-done.bin\" bytes_up=9");
}

/// Not even a flood of commands that nobody answers takes memory without end.
#[test]
fn sec_06_a_flood_of_commands_is_bounded() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let before = rss_kib(scene.proxy.pid());
    session.client.send("PASV\r\n");
    session.server.expect("PASV\r\n");
    // Everything behind a PASV is held; past the bound the client is not read any more.
    let sender = session.client.sends_bulk_of(b"NOOP\r\n", 200 << 20);
    std::thread::sleep(Duration::from_millis(500));
    let after = rss_kib(scene.proxy.pid());
    assert!(!sender.is_finished(), "somebody took it all");
    assert!(after < before + 2048, "{before} KiB before, {after} KiB after");
    // The reset is seen although nothing is read.
    session.client.reset();
    assert!(sender.join().unwrap().is_err());
    session.server.rest();
}

/// The next client does not wait for one that is slow to speak.
#[test]
fn idle_connections_delay_nobody() {
    let scene = Scene::plain();
    let mut idle: Vec<Wire> = Vec::new();
    let mut servers: Vec<Wire> = Vec::new();
    for _ in 0..60 {
        idle.push(scene.knock());
        servers.push(scene.server.accept());
    }
    let start = Instant::now();
    let mut session = scene.silent_session(scene.net.stranger());
    session.reply(BANNER);
    assert!(start.elapsed() < Duration::from_secs(1));
}

/// Replies that nobody reads stay with the server.
#[test]
fn sec_10_a_client_that_does_not_read_costs_no_memory() {
    let scene = Scene::plain();
    let client = Wire::connect_slow(&scene.log, "client", scene.net.client(), scene.net.proxy());
    let mut session = Session { client, server: scene.server.accept(), log: scene.log.clone() };
    session.reply(BANNER);
    session.command("STAT\r\n");
    takes_no_memory(&scene, session, "211-");
}

/// Nor do those that must wait for a transfer.
#[test]
fn sec_10_replies_behind_a_held_one_cost_no_memory() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let _data = session.transfer("RETR a\r\n");
    session.server.send("226 Transfer complete.\r\n");
    takes_no_memory(&scene, session, "200 ");
}

#[track_caller]
fn takes_no_memory(scene: &Scene, session: Session, start: &str) {
    let line = format!("{start}{}\r\n", "and so on, ".repeat(300));
    let before = rss_kib(scene.proxy.pid());
    let sender = session.server.sends_bulk_of(line.as_bytes(), 200 << 20);
    std::thread::sleep(Duration::from_millis(700));
    let after = rss_kib(scene.proxy.pid());
    assert!(!sender.is_finished(), "somebody took it all");
    assert!(after < before + 2048, "{before} KiB before, {after} KiB after");
    session.client.reset();
    assert!(sender.join().unwrap().is_err());
}

/// What an operator searches the log for.
#[test]
fn every_session_and_transfer_has_its_line() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let mut data = session.transfer("RETR dir/two words.txt\r\n");
    data.server.send("12345");
    data.server.finish();
    data.client.expect("12345");
    data.client.finish();
    data.client.ends_with(End::Fin);
    session.reply("226 done\r\n");
    session.exchange("QUIT\r\n", "221 bye\r\n");
    session.server.finish();
    session.client.ends_with(End::Fin);
    scene.proxy.logs("outcome=closed by the");
    let log = scene.proxy.stderr();
    let client = scene.net.client().to_string();
    let transfer = log.lines().find(|line| line.contains("verb=")).unwrap();
    for part in
        [&client, "user=\"alice\"", "RETR", "path=\"dir/two words.txt\"", "bytes_down=5", "code=226", "complete"]
    {
        assert!(transfer.contains(part), "{part} in {transfer}");
    }
    let session = log.lines().find(|line| line.contains("transfers=")).unwrap();
    for part in [&client, "user=\"alice\"", "transfers=1"] {
        assert!(session.contains(part), "{part} in {session}");
    }
}

/// Commands that are answered here, by a client that reads none of the answers.
#[test]
fn sec_10_our_own_replies_that_nobody_reads_cost_no_memory() {
    let scene = Scene::plain();
    let dial = Dial { from: scene.net.client(), to: scene.net.proxy(), receive_buffer: Some(4096) };
    let client = Wire::dial(&scene.log, "client", dial).unwrap();
    let mut session = Session { client, server: scene.server.accept(), log: scene.log.clone() };
    session.reply(BANNER);
    let before = rss_kib(scene.proxy.pid());
    let sender = session.client.sends_bulk_of(b"LPSV\r\n", 200 << 20);
    std::thread::sleep(Duration::from_secs(3));
    let after = rss_kib(scene.proxy.pid());
    assert!(!sender.is_finished(), "somebody took it all");
    assert!(after < before + 2048, "{before} KiB before, {after} KiB after");
    session.client.reset();
    assert!(sender.join().unwrap().is_err());
    session.server.rest();
}

/// Clients that send faster than they are read, more of them than there are threads.
#[test]
fn floods_delay_nobody() {
    let scene = Scene::plain();
    let threads = std::thread::available_parallelism().map_or(8, usize::from);
    let mut flooding = Vec::new();
    for _ in 0..2 * threads {
        let session = scene.session();
        let sender = session.client.sends_bulk_of(&[b'a'; 1 << 16], 8 << 30);
        flooding.push((session, sender));
    }
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    let mut other = scene.session_from(scene.net.stranger());
    other.is_usable();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    for (session, sender) in flooding {
        session.client.reset();
        assert!(sender.join().unwrap().is_err());
    }
}
