//! The control connection: lines, multi-line replies, the order of answers.

use std::time::Duration;

use crate::support::scene::{BANNER, Scene, Session, Setup};
use crate::support::script::{Ask, passive_reply};
use crate::support::wire::Door;

#[test]
fn rfc_01_bytes_sent_one_by_one_arrive_as_the_same_lines() {
    let scene = Scene::plain();
    let mut session = scene.greeted(scene.net.client());
    session.client.send_each_byte("USER alice\r\nCWD \u{4f60}\u{597d}\r\n");
    session.server.expect("USER alice\r\nCWD \u{4f60}\u{597d}\r\n");
    session.server.send_each_byte("331-Password\r\n  please\r\n331 Password required\r\n250 ok\r\n");
    session.client.expect("331-Password\r\n  please\r\n331 Password required\r\n250 ok\r\n");

    session.client.send_each_byte("PASV\r\n");
    session.server.expect("PASV\r\n");
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send_each_byte(passive_reply(Ask::Pasv, door.addr()));
    session.client_is_told(Ask::Pasv);
}

#[test]
fn rfc_01_fifty_pipelined_commands_are_answered_in_order() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let commands: Vec<String> = (0..50).map(|n| format!("SIZE file{n}\r\n")).collect();
    session.client.send(commands.concat());
    for (n, command) in commands.iter().enumerate() {
        session.server.expect(command);
        session.server.send(format!("213 {n}\r\n"));
    }
    for n in 0..50 {
        session.client.expect(format!("213 {n}\r\n"));
    }
}

/// The commands behind a PASV wait for its reply, and are sent on then.
#[test]
fn rfc_01_commands_pipelined_behind_pasv_keep_their_order() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let paths: Vec<String> = (0..49).map(|n| format!("SIZE file{n}\r\n")).collect();
    session.client.send(format!("PASV\r\n{}", paths.concat()));
    session.server.expect("PASV\r\n");
    session.server.silence(Duration::from_millis(100));
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send(passive_reply(Ask::Pasv, door.addr()));
    session.client_is_told(Ask::Pasv);
    for (n, command) in paths.iter().enumerate() {
        session.server.expect(command);
        session.reply(format!("213 {n}\r\n"));
    }
}

#[test]
fn rfc_02_inner_lines_of_a_multi_line_reply_are_inert() {
    let scene = Scene::plain();
    let mut session = scene.session();
    let help = "211-Status\r\n227 Entering Passive Mode (10,0,0,1,78,32).\r\n229 Extended (|||20000|)\r\n\
                 no code\r\n226 not the end\r\n211 End\r\n";
    session.exchange("STAT\r\n", help);
    session.exchange("PWD\r\n", "257 \"/\"\r\n");

    // Also while a PASV waits for its answer: the 211 comes late, and the 227 in it is text.
    session.command("PASV\r\n");
    session.reply("211-Status\r\n227 Entering Passive Mode (10,0,0,1,78,32).\r\n211 End\r\n");
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send(passive_reply(Ask::Pasv, door.addr()));
    session.client_is_told(Ask::Pasv);
}

/// IIS continues without a leading space, ProFTPD 1.3.0a with bare LF, mod_proxy's peers end with a bare code.
#[test]
fn rfc_02_odd_multi_line_replies_pass_byte_identical() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for reply in [
        "211-FEAT\n SIZE\n211 End\r\n",
        "211-Extended\r\nSIZE\r\nMDTM\r\n211\r\n",
        "230_no_space\r\n200 ok\r\n",
        "214-\r\n214-again\r\n214 \r\n",
        "250 \n",
    ] {
        session.exchange("HELP\r\n", reply);
    }
}

/// The banner that a client sees is the server's own, multi-line ones and those not in UTF-8 included.
#[test]
fn rfc_18_the_banner_is_the_servers_own() {
    let scene = Scene::plain();
    let mut session = scene.silent_session(scene.net.client());
    session.reply(b"220-CesarFTP \xb7\xfe\xce\xf1\xc6\xf7\r\n220-PASV 227 (1,2,3,4,5,6)\r\n220 \xbb\xb6\xd3\xad !\r\n");
    session.exchange(b"USER \xd6\xd0\xce\xc4\r\n", b"331 \xd6\xd0\r\n");
}

/// `STOR a CR NUL b` is a name with a CR in Telnet: it never becomes two lines.
#[test]
fn rfc_09_cr_nul_in_a_path_is_refused() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.refused(b"STOR a\r\0b\r\n", "501 ");
}

#[test]
fn rfc_09_spaces_of_a_path_pass() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.exchange("RETR  two leading spaces.txt \r\n", "550 no such file\r\n");
}

#[test]
fn rfc_11_feat_hides_what_the_proxy_cannot_do() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.command("FEAT\r\n");
    session.server.send(
        "211-Extended features supported:\r\n LANG EN*\r\n UTF8\r\n AUTH TLS;TLS-C;SSL;TLS-P;\r\n PBSZ\r\n PROT C;P;\r\n \
         CCC\r\n HOST\r\n SIZE\r\n SSCN\r\n CPSV\r\n LPSV\r\n LPRT\r\n MDTM\r\n REST STREAM\r\n211 END\r\n",
    );
    session.client.expect(
        "211-Extended features supported:\r\n LANG EN*\r\n UTF8\r\n HOST\r\n SIZE\r\n MDTM\r\n REST STREAM\r\n211 END\r\n",
    );
    session.is_usable();
    session.refused("AUTH TLS\r\n", "502 ");
}

#[test]
fn rfc_17_unknown_verbs_pass_byte_identical() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for line in ["XFOO bar  baz \r\n", "xfoo\r\n", "SITE CHMOD 644 a b\r\n", "\r\n", " LEADING\r\n", "X\r\n"] {
        session.exchange(line, "500 not understood.\r\n");
    }
    session.exchange(b"CWD \xd6\xd0\xce\xc4\xff\xfb\xc4\xbf\r\n", "250 ok\r\n");
}

#[test]
fn rfc_17_verbs_that_carry_other_addresses_are_refused() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for line in ["LPRT 4,4,127,0,0,1,2,20,20\r\n", "LPSV\r\n", "CPSV\r\n", "spsv\r\n"] {
        session.refused(line, "502 ");
    }
}

/// Replies that the proxy makes itself wait for those of the commands before them.
#[test]
fn rfc_17_own_replies_go_out_in_their_turn() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.client.send("SIZE a\r\nLPSV\r\nSIZE b\r\n");
    session.server.expect("SIZE a\r\n");
    session.client.silence(Duration::from_millis(100));
    session.server.send("213 1\r\n");
    session.client.expect("213 1\r\n");
    session.client.line_starting("502 ");
    session.server.expect("SIZE b\r\n");
    session.reply("213 2\r\n");
}

/// The transcripts below, with and without the proxy, differ in the numbers of 227 only.
#[test]
fn rfc_18_transcripts_differ_in_addresses_only() {
    let iis = [
        ("OPTS UTF8 ON\r\n", "200 OPTS UTF8 command successful - UTF8 encoding now ON.\r\n"),
        ("USER anonymous\r\n", "331 Anonymous access allowed, send identity (e-mail name) as password.\r\n"),
        ("PASS a@b\r\n", "230-Welcome\r\n  to IIS\r\n230 User logged in.\r\n"),
        ("SYST\r\n", "215 Windows_NT\r\n"),
        ("PWD\r\n", "257 \"/\" is current directory.\r\n"),
        ("TYPE I\r\n", "200 Type set to I.\r\n"),
        ("PASV\r\n", "227 Entering Passive Mode (172,16,0,20,192,211).\r\n"),
        ("EPSV\r\n", "229 Entering Extended Passive Mode (|||49403|)\r\n"),
        ("DELE x\r\n", "550 Access is denied. \r\n"),
        ("REIN\r\n", "220 Service ready for new user.\r\n"),
        ("QUIT\r\n", "221  \r\n"),
    ];
    let serv_u = [
        ("USER a\r\n", "331 User name okay, need password.\r\n"),
        ("PASS a\r\n", "230 User logged in, proceed.\r\n"),
        ("SYST\r\n", "215 UNIX Type: L8\r\n"),
        (
            "FEAT\r\n",
            "211-Extension supported\r\n    CSID Name; Version;\r\n    HOST domain\r\n211 End (for details use \"HELP\")\r\n",
        ),
        ("PASV\r\n", "227 Entering Passive Mode (172,20,1,6,195,80)\r\n"),
        ("EPSV\r\n", "229 Entering Extended Passive Mode (|||50006|).\r\n"),
        ("QUIT\r\n", "221 Goodbye!\r\n"),
    ];
    for transcript in [&iis[..], &serv_u[..]] {
        let scene = Scene::plain();
        let mut session = scene.silent_session(scene.net.client());
        session.reply(BANNER);
        for (command, reply) in transcript {
            session.command(command);
            session.server.send(reply);
            let received: String = reply.lines().map(|_| session.client.line()).collect();
            if reply.starts_with("227") || reply.starts_with("229") {
                let digitless = |text: &str| text[4..].replace(|c: char| c.is_ascii_digit(), "");
                assert_eq!(digitless(&received), digitless(reply), "{received}");
                assert_ne!(&received, reply);
            } else {
                assert_eq!(&received, reply);
            }
        }
    }
}

#[test]
fn sec_05_a_client_that_sends_a_reply_is_cut_off() {
    for line in ["227 Entering Passive Mode (127,0,0,1,78,32)\r\n", "200 ok\r\n"] {
        let scene = Scene::plain();
        let mut session = scene.session();
        session.client.send(line);
        session.client.rest();
        session.server.end();
        scene.no_leases();
    }
}

#[test]
fn sec_05_a_server_that_sends_a_command_is_cut_off() {
    for line in ["PORT 127,0,0,1,78,32\r\n", "PASV\r\n", "EPRT |1|127.0.0.1|20000|\r\n", "EPSV\r\n"] {
        let scene = Scene::plain();
        let mut session = scene.session();
        session.server.send(line);
        let (seen, _) = session.client.rest();
        assert!(!contains(&seen, line.trim_end().as_bytes()), "{}", seen.escape_ascii());
        session.server.rest();
    }
}

/// More commands than the queue of held ones takes: none is lost and none overtakes.
#[test]
fn sec_06_twenty_one_pipelined_commands_behind_a_held_one() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.client.send(format!("PASV\r\n{}", "PWD\r\n".repeat(21)));
    session.server.expect("PASV\r\n");
    session.server.silence(Duration::from_millis(100));
    session.reply("421-busy\r\n421 later\r\n");
    for _ in 0..21 {
        session.server.expect("PWD\r\n");
        session.reply("257 \"/\"\r\n");
    }
}

/// Each reply finds its command: the second PASV is forwarded only when the first is answered.
#[test]
fn sec_06_replies_are_matched_to_pipelined_commands() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.client.send("PASV\r\nPASV\r\nNOOP\r\n");
    for _ in 0..2 {
        session.server_agrees(Ask::Pasv);
        session.client_is_told(Ask::Pasv);
    }
    session.server.expect("NOOP\r\n");
    session.reply("200 noop\r\n");
    // A 1xx and another 2xx leave a PASV pending.
    session.command("PASV\r\n");
    session.reply("150 wait\r\n250 Directory successfully changed.\r\n");
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    session.server.send(passive_reply(Ask::Pasv, door.addr()));
    session.client_is_told(Ask::Pasv);
}

#[test]
fn sec_07_control_bytes_in_a_command_are_refused() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.refused(b"CWD a\0b\r\n", "501 ");
    session.refused(b"CWD a\rb\r\n", "501 ");
    session.refused(b"\0\r\n", "501 ");
}

/// LF ends a command; what is forwarded is what was parsed, with CRLF.
#[test]
fn sec_07_a_bare_lf_separates_commands_and_each_is_judged() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.client.send("CWD a\nPORT 198,51,100,7,78,32\r\r\nCWD b\r\r\n");
    session.server.expect("CWD a\r\n");
    session.reply("250 a\r\n");
    session.client.line_starting("501 ");
    session.server.expect("CWD b\r\n");
    session.reply("250 b\r\n");
}

/// The command and its reply are cut at every possible point; the outcome is the same.
#[test]
fn sec_08_segmentation_changes_nothing() {
    let scene = Scene::start(Setup { data_ports: "20000-20199", ..Setup::default() });
    let mut session = scene.session();
    let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
    let reply = passive_reply(Ask::Pasv, door.addr());
    let command = "PASV\r\n";
    for at in 1..reply.len() {
        let (head, tail) = command.split_at(at.min(command.len() - 1));
        session.client.send(head);
        std::thread::sleep(Duration::from_millis(2));
        session.client.send(tail);
        session.server.expect(command);
        let (head, tail) = reply.split_at(at);
        session.server.send(head);
        std::thread::sleep(Duration::from_millis(2));
        session.server.send(tail);
        session.client_is_told(Ask::Pasv);
    }
}

#[test]
fn sec_12_telnet_bytes_within_a_verb_are_refused() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.refused(b"PO\xff\xf1RT 127,0,0,1,78,32\r\n", "500 ");
}

/// Before the verb they pass, as inetutils and tnftp send them before ABOR.
#[test]
fn sec_12_telnet_bytes_before_a_verb_pass() {
    let scene = Scene::plain();
    let mut session = scene.session();
    session.exchange(b"\xff\xf4\xff\xf2ABOR\r\n", "226 nothing to abort\r\n");
    session.exchange(b"\xff\xfb\x01NOOP\r\n", "200 ok\r\n");
    // On a translated command they are dropped.
    session.client.send(b"\xff\xf4PASV\r\n");
    session.server_agrees(Ask::Pasv);
    session.client_is_told(Ask::Pasv);
}

/// SMC routers turn PASV into P@SW; other spellings that servers take are translated as well.
#[test]
fn every_spelling_of_pasv_that_servers_take_is_translated() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for spelling in ["P@SW\r\n", "pasv\r\n", "PASV \r\n", "PASV\n", "PASV\r\r\n", "PaSv\r\n"] {
        session.client.send(spelling);
        let sent = session.server.line();
        assert!(sent.ends_with("\r\n") && !sent.ends_with("\r\r\n"), "{sent:?}");
        let door = Door::open(&session.log, "server data", scene.net.server().ip(), 0);
        session.server.send(passive_reply(Ask::Pasv, door.addr()));
        session.client_is_told(Ask::Pasv);
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// A client that speaks before the banner, and a server that asks it to wait.
#[test]
fn commands_before_the_banner_wait_for_the_server() {
    let scene = Scene::plain();
    let mut client = scene.knock();
    client.send("USER early\r\n");
    let mut session = Session { client, server: scene.server.accept(), log: scene.log.clone() };
    session.server.expect("USER early\r\n");
    session.reply("120 ready in a minute\r\n220 ready\r\n331 Password required\r\n");
    session.is_usable();
}

/// PASV that is answered by something else holds later commands back for `timeouts.close`, not for ever.
#[test]
fn a_pasv_without_an_answer_does_not_block_the_session() {
    let scene = Scene::with("timeouts: { close: 1s }");
    let mut session = scene.session();
    session.exchange("PASV\r\n", "200 What is that?\r\n");
    session.client.send("NOOP\r\n");
    session.server.silence(Duration::from_millis(200));
    session.server.expect("NOOP\r\n");
    session.reply("200 noop\r\n");
    scene.no_leases();
}
