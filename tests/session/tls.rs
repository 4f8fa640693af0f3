//! TLS towards clients and towards the server: who asks, what is refused, and that nothing crosses a switch.

use std::time::Duration;

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode::Same;
use ftp_alg::session::{
    Action, ClientTls, Destination, End, Event, Notice, Reason, ServerTls, Session, Settings, Terminate, TlsSettings,
};

use crate::driver::{CLIENT, Driver, LOGIN, SERVER, deed, settings};

const UNAVAILABLE: &str = "421 Service not available, closing control connection.\n";
const GO: &str = "234 AUTH TLS successful.\n";
const TERMS: Terminate = Terminate { require: false, implicit: false, allow_ccc: false };
const REQUIRE: Terminate = Terminate { require: true, ..TERMS };
const IMPLICIT: Terminate = Terminate { implicit: true, ..TERMS };
const CCC: Terminate = Terminate { allow_ccc: true, ..TERMS };

pub(crate) fn with(client: ClientTls, server: ServerTls) -> Settings {
    Settings { tls: TlsSettings { client, server }, ..settings(Same) }
}

pub(crate) fn terminate(terms: Terminate) -> Settings {
    with(ClientTls::Terminate(terms), ServerTls::Plain)
}

/// Connected, not greeted.
fn connected(settings: Settings) -> Driver {
    let mut d = Driver::unconnected(settings, CLIENT);
    d.connect(SERVER);
    d
}

/// Greeted; nothing recorded.
fn greeted(settings: Settings) -> Driver {
    let mut d = connected(settings);
    d.server("220 ready\r\n");
    d.forget();
    d
}

/// In TLS by AUTH and logged in; nothing recorded.
fn protected(terms: Terminate) -> Driver {
    let mut d = greeted(terminate(terms));
    d.client("AUTH TLS\r\n");
    ready(&mut d, Leg::Client);
    log_in(&mut d);
    d
}

/// The same with PROT P.
fn private(terms: Terminate) -> Driver {
    let mut d = protected(terms);
    d.client("PBSZ 0\r\nPROT P\r\n");
    d.forget();
    d
}

/// Implicit TLS, logged in.
fn implicit(terms: Terminate) -> Driver {
    let mut d = connected(terminate(terms));
    ready(&mut d, Leg::Client);
    d.server("220 ready\r\n");
    log_in(&mut d);
    d
}

/// A server that is spoken to in TLS, ready for the client.
fn opened(client: ClientTls, server: ServerTls) -> Driver {
    let mut d = connected(with(client, server));
    open(&mut d, server);
    d.forget();
    d
}

fn open(d: &mut Driver, server: ServerTls) {
    if server == ServerTls::Implicit {
        ready(d, Leg::Server);
    }
    d.server("220 ready\r\n");
    if server == ServerTls::Explicit {
        d.server("234 go\r\n");
        ready(d, Leg::Server);
    }
    d.server("200 size\r\n");
    d.server("200 level\r\n");
}

fn ready(d: &mut Driver, leg: Leg) {
    d.event(Event::TlsReady { leg });
}

fn log_in(d: &mut Driver) {
    d.client("USER a\r\nPASS b\r\n");
    d.server("331 x\r\n230 in\r\n");
    d.forget();
}

/// Everything that was done, bytes included, in order.
fn trace(d: &mut Driver) -> Vec<String> {
    let line = |action: &Action| match action {
        Action::Write { leg, data, urgent: false } => {
            Some(format!("{leg}: {}", data.escape_ascii()).replace("\\r\\n", "\n").trim_end().to_owned())
        }
        Action::Begin { id, protect } if !protect.client && !protect.server => Some(format!("begin {}", id.0)),
        other => deed(other),
    };
    d.take_actions().iter().filter_map(line).collect()
}

/// What the client gets for a line, which must not reach the server.
fn refused(d: &mut Driver, line: &str) -> String {
    d.client(format!("{line}\r\n"));
    assert_eq!(d.server_got(), "", "{line}");
    d.client_got()
}

#[test]
fn sec_21_refuse_is_the_default_and_nothing_but_auth_is_touched() {
    let mut d = greeted(settings(Same));
    assert_eq!(refused(&mut d, "AUTH TLS"), "502 Command not implemented.\n");
    d.client("PBSZ 0\r\nPROT P\r\nCCC\r\nSSCN ON\r\nHOST x\r\nHELP\r\n");
    assert_eq!(d.server_got(), "PBSZ 0\nPROT P\nCCC\nSSCN ON\nHOST x\nHELP\n");
}

#[test]
fn rfc_13_auth_answers_and_starts_tls() {
    for mechanism in ["TLS", "tls-c", "SSL", "Tls-P"] {
        let mut d = greeted(terminate(TERMS));
        d.client(format!("AUTH {mechanism}\r\n"));
        assert_eq!(trace(&mut d), ["client: 234 AUTH TLS successful.", "TLS with client"], "{mechanism}");
    }
    for mechanism in ["AUTH GSSAPI", "AUTH", "AUTH TLS1"] {
        let mut d = greeted(terminate(TERMS));
        assert_eq!(refused(&mut d, mechanism), "504 Unknown security mechanism, use TLS.\n");
        assert_eq!(refused(&mut d, "AUTH TLS"), GO);
    }
}

#[test]
fn a_second_auth_is_503() {
    for mut d in [protected(TERMS), implicit(IMPLICIT)] {
        for mechanism in ["TLS", "X"] {
            let answer = refused(&mut d, &format!("AUTH {mechanism}"));
            assert_eq!(answer, "503 AUTH has been accepted already, or is not needed here.\n");
        }
        assert_eq!(d.deeds(), [""; 0]);
    }
}

#[test]
fn auth_waits_until_everything_before_it_is_answered() {
    let mut d = connected(terminate(TERMS));
    d.client("FEAT\r\nFEAT\r\nAUTH TLS\r\n");
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("FEAT\nFEAT\n", ""));
    d.server("220-x\r\n220 x\r\n211 none\r\n530-no\r\n");
    assert_eq!(d.deeds(), [""; 0]);
    d.server("530 no\r\n");
    assert_eq!(trace(&mut d).last().unwrap(), "TLS with client");
    assert!(d.client_got().ends_with(&format!("530-no\n530 no\n{GO}")));
}

#[test]
fn auth_waits_for_a_reply_that_is_held_and_for_a_pasv() {
    let mut d = greeted(terminate(TERMS));
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("RETR a\r\n");
    d.server("150 x\r\n226 y\r\n");
    d.forget();
    d.client("AUTH TLS\r\n");
    assert_eq!(trace(&mut d), [""; 0]);
    d.flushed(Leg::Client);
    assert_eq!(trace(&mut d)[..3], ["client: 226 y", "client: 234 AUTH TLS successful.", "TLS with client"]);

    let mut d = greeted(terminate(TERMS));
    d.client("PASV\r\nAUTH TLS\r\n");
    assert!(!d.deeds().contains(&"TLS with client".to_owned()));
    d.server("227 =172,16,0,20,19,137\r\n");
    assert!(d.deeds().contains(&"TLS with client".to_owned()));
}

#[test]
fn sec_16_what_comes_behind_auth_closes_and_is_not_executed() {
    for behind in ["USER x\r\n", "US", "\n", "AUTH TLS\r\n", "\x16\x03\x01"] {
        let mut d = greeted(terminate(TERMS));
        d.client(format!("AUTH TLS\r\n{behind}"));
        assert_eq!(d.closed(), Some(Reason::LeftOver(Leg::Client)), "{behind:?}");
        assert!(Reason::LeftOver(Leg::Client).is_abrupt());
        assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("", GO), "{behind:?}");
        // In a segment of its own.
        let mut d = greeted(terminate(TERMS));
        d.client("AUTH TLS\r\n");
        assert_eq!(d.closed(), None);
        d.client(behind);
        assert_eq!(d.closed(), Some(Reason::LeftOver(Leg::Client)), "{behind:?}");
        assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("", GO), "{behind:?}");
        // While AUTH waits for its turn.
        let mut d = greeted(terminate(TERMS));
        d.client("NOOP\r\nAUTH TLS\r\n");
        d.client(behind);
        assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("NOOP\n", ""));
        d.server("200 x\r\n");
        assert_eq!(d.closed(), Some(Reason::LeftOver(Leg::Client)), "{behind:?}");
        assert_eq!(d.server_got(), "", "{behind:?}");
    }
}

#[test]
fn sec_16_more_than_may_be_held_behind_auth_closes() {
    let mut d = greeted(terminate(TERMS));
    d.client(format!("NOOP\r\nAUTH TLS\r\n{}", "NOOP\r\n".repeat(300)));
    d.server("200 x\r\n");
    assert_eq!(d.closed(), Some(Reason::LeftOver(Leg::Client)));
    assert_eq!(d.server_got(), "NOOP\n");
}

#[test]
fn sec_16_bytes_that_the_shell_found_across_a_switch_close() {
    for leg in [Leg::Client, Leg::Server] {
        let mut d = protected(TERMS);
        d.event(Event::LeftOver { leg });
        assert_eq!(trace(&mut d), [format!("end: LeftOver({leg:?})")]);
    }
}

#[test]
fn sec_16_what_the_server_sends_behind_234_closes() {
    for (first, then) in [("234 go\r\n230 in\r\n", ""), ("234 go\r\n2", ""), ("234 go\r\n", "230 in\r\n")] {
        let mut d = connected(with(ClientTls::Refuse, ServerTls::Explicit));
        d.server("220 x\r\n");
        d.server(first);
        d.server(then);
        assert_eq!(d.closed(), Some(Reason::LeftOver(Leg::Server)), "{first} {then}");
        assert_eq!((d.client_got().as_str(), d.server_got().as_str()), ("220 x\n", "AUTH TLS\n"));
    }
}

#[test]
fn sec_16_urgency_does_not_survive_the_switch() {
    let mut d = greeted(terminate(TERMS));
    d.client_urgent("AUTH TLS\r\n");
    ready(&mut d, Leg::Client);
    d.client("ABOR\r\n");
    assert!(d.deeds().iter().all(|deed| !deed.starts_with("urgent")));
}

#[test]
fn rfc_12_auth_after_a_login_needs_another() {
    let mut d = greeted(terminate(TERMS));
    log_in(&mut d);
    d.client("TYPE I\r\nMODE B\r\nPASV\r\n");
    d.server("200 x\r\n200 y\r\n227 =172,16,0,20,19,137\r\n");
    d.forget();
    d.client("AUTH TLS\r\n");
    let turn = ["client: 234 AUTH TLS successful.", "TLS with client", "close 1", "connect"];
    assert_eq!(trace(&mut d), turn);
    assert_eq!(d.session.user(), None);
    ready(&mut d, Leg::Client);
    d.client("USER b\r\n");
    assert_eq!(trace(&mut d), [""; 0], "there is no server");
    d.connect(SERVER);
    d.server("120 soon\r\n220-another\r\n220 greeting\r\n331 x\r\n");
    d.client("PASS c\r\nRETR a\r\n");
    d.server("230 in\r\n425 no\r\n");
    assert_eq!(
        trace(&mut d),
        ["server: USER b", "client: 331 x", "server: PASS c", "server: RETR a", "client: 230 in", "client: 425 no"]
    );
    assert_eq!(d.session.user(), Some(&b"b"[..]));
}

#[test]
fn rfc_12_nothing_that_was_agreed_outlives_auth() {
    let mut d = greeted(terminate(TERMS));
    log_in(&mut d);
    d.client("EPSV\r\n");
    d.server("500 what\r\n227 =172,16,0,20,19,137\r\n");
    d.client("MODE B\r\nEPSV ALL\r\n");
    d.server("200 x\r\n200 y\r\n");
    d.client("AUTH TLS\r\n");
    ready(&mut d, Leg::Client);
    d.connect(SERVER);
    d.server("220 x\r\n");
    log_in(&mut d);
    d.client("EPSV\r\n");
    assert_eq!(d.server_got(), "EPSV\n");
    d.server("229 (|||5001|)\r\n");
    d.client("PASV\r\n");
    assert_eq!(d.server_got(), "PASV\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("RETR a\r\n");
    d.server("150 x\r\n");
    d.client_got();
    d.server("226 y\r\n");
    assert_eq!(d.client_got(), "", "the mode is Stream, and the reply waits for the data");
}

#[test]
fn rfc_12_what_the_old_connection_still_says_is_lost() {
    let mut d = greeted(terminate(TERMS));
    d.client("USER a\r\nAUTH TLS\r\n");
    d.server("331 x\r\n220 forged\r\n230 forged\r\n");
    ready(&mut d, Leg::Client);
    d.connect(SERVER);
    d.client("USER b\r\n");
    d.client_got();
    d.server("220 true\r\n331 y\r\n");
    assert_eq!(d.client_got(), "331 y\n");
}

#[test]
fn rfc_12_a_transfer_of_the_old_login_ends() {
    let mut d = greeted(terminate(TERMS));
    log_in(&mut d);
    // In block mode a channel outlives its transfer's reply.
    d.client("MODE B\r\nPASV\r\n");
    d.server("200 x\r\n227 =172,16,0,20,19,137\r\n");
    d.client("RETR a\r\n");
    d.server("150 x\r\n226 y\r\n");
    d.forget();
    d.client("AUTH TLS\r\n");
    assert_eq!(d.deeds(), ["TLS with client", "close 1", "connect"]);
    d.ended(End::Closed);
    assert_eq!(d.deeds(), ["transferred Some(Retr) Some(226)"]);
}

#[test]
fn rfc_12_nothing_to_forget_needs_no_other_connection() {
    let mut d = greeted(terminate(TERMS));
    d.client("FEAT\r\nHELP\r\nHOST a\r\n");
    d.server("211 a\r\n214 b\r\n220 c\r\n");
    d.forget();
    d.client("AUTH TLS\r\n");
    assert_eq!(d.deeds(), ["TLS with client"]);
    for line in ["USER a", "NOOP", "OPTS UTF8 ON", "PORT 198,51,100,7,19,137"] {
        let mut d = greeted(terminate(TERMS));
        d.client(format!("{line}\r\n"));
        d.server("200 x\r\n");
        d.client("AUTH TLS\r\n");
        assert!(d.deeds().contains(&"connect".to_owned()), "{line}");
    }
}

#[test]
fn rfc_16_host_is_said_again_on_a_fresh_connection() {
    let login = |reply: &str| {
        let mut d = greeted(terminate(TERMS));
        d.client("HOST b\r\nHOST a\r\nUSER u\r\n");
        d.server(format!("504 no\r\n{reply}331 x\r\n"));
        d.client("AUTH TLS\r\n");
        ready(&mut d, Leg::Client);
        d.client("USER u\r\n");
        d.forget();
        d.connect(SERVER);
        d
    };
    let mut d = login("220 a's\r\n");
    assert_eq!(d.server_got(), "");
    d.server("220 x\r\n");
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("HOST a\n", ""));
    d.server("220 a's\r\n");
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("USER u\n", ""));
    // Not the one that the server refused.
    assert_eq!(login("504 no\r\n").server_got(), "USER u\n");
    let mut d = login("220 a's\r\n");
    d.server("220 x\r\n504 gone\r\n");
    assert_eq!(d.notices(), [Notice::ServerRefuses { asked: "HOST", code: 504 }]);
    assert_eq!(d.closed(), Some(Reason::ServerUnavailable));
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("HOST a\n", UNAVAILABLE));
}

#[test]
fn rfc_12_a_server_that_is_full_says_so_within_tls() {
    let mut d = greeted(terminate(TERMS));
    log_in(&mut d);
    d.client("AUTH TLS\r\n");
    d.connect(SERVER);
    d.forget();
    d.server("421 too many\r\n");
    assert_eq!(d.client_got(), "", "not before TLS");
    ready(&mut d, Leg::Client);
    assert_eq!(d.client_got(), "421 too many\n");
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(d.deeds(), ["FIN to client", "end: ServerClosed"]);
}

#[test]
fn sec_21_before_required_tls_next_to_nothing_reaches_the_server() {
    let mut d = greeted(terminate(REQUIRE));
    for line in [
        "USER a",
        "PASS b",
        "ACCT c",
        "PASV",
        "EPSV",
        "PORT 198,51,100,7,19,137",
        "LIST",
        "STOR x",
        "STAT",
        "ABOR",
        "REIN",
        "NOOP",
        "SYST",
        "OPTS UTF8 ON",
        "SITE HELP",
        "ALLO 1",
        "SSCN ON",
        "XFOO",
        "",
        "user a",
        "\u{ff}\u{f4}NOOP",
    ] {
        assert_eq!(refused(&mut d, line), "530 Policy requires TLS, use AUTH TLS first.\n", "{line}");
    }
    assert_eq!(refused(&mut d, "PBSZ 0"), "503 Use AUTH TLS before PBSZ.\n");
    assert_eq!(refused(&mut d, "PROT P"), "503 Use AUTH TLS before PROT.\n");
    assert_eq!(refused(&mut d, "CCC"), "533 The control connection is not protected.\n");
    assert_eq!(d.session.user(), None);
    assert_eq!(d.deeds(), [""; 0]);
    d.client("FEAT\r\nHELP\r\nHOST a\r\nQUIT\r\n");
    assert_eq!(d.server_got(), "FEAT\nHELP\nHOST a\nQUIT\n");
    d.server("211 x\r\n214 x\r\n220 x\r\n221 x\r\n");
    d.client_got();
    assert_eq!(refused(&mut d, "AUTH TLS"), GO);
    ready(&mut d, Leg::Client);
    d.client("USER a\r\nNOOP\r\n");
    assert_eq!(d.server_got(), "USER a\nNOOP\n");
}

/// Only the server's 150 shows that the command has a data connection.
#[test]
fn sec_21_required_tls_includes_the_data_of_commands_that_nobody_knows() {
    let mut d = protected(REQUIRE);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("XDIR\r\n");
    d.forget();
    d.server("150 x\r\n");
    let actions = d.take_actions();
    assert!(!actions.iter().any(|action| matches!(action, Action::Begin { .. })), "{actions:?}");
    assert!(actions.contains(&Action::CloseChannel { id: d.id() }), "{actions:?}");
    d.ended(End::Closed);
    d.server("226 y\r\n");
    assert_eq!(d.client_got(), "150 x\n426 Connection closed; transfer aborted.\n", "the server does not know");

    let mut d = private(REQUIRE);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("XDIR\r\n");
    d.forget();
    d.server("150 x\r\n");
    assert_eq!(d.deeds(), ["begin 1 client"]);
}

#[test]
fn sec_21_required_tls_includes_the_data() {
    let mut d = protected(REQUIRE);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.forget();
    let no = "521 Policy requires protected data connections, use PROT P.\n";
    for verb in ["RETR a", "STOR a", "LIST", "MLSD"] {
        assert_eq!(refused(&mut d, verb), no);
    }
    assert_eq!(refused(&mut d, "PBSZ 0"), "200 PBSZ command successful.\n");
    assert_eq!(refused(&mut d, "PROT C"), "534 Policy requires PROT P.\n");
    assert_eq!(refused(&mut d, "RETR a"), no);
    assert_eq!(refused(&mut d, "PROT P"), "200 Data connections are private.\n");
    d.client("RETR a\r\n");
    assert_eq!(d.server_got(), "RETR a\n", "its port is still there");
    let mut d = implicit(Terminate { implicit: true, ..REQUIRE });
    d.client("RETR a\r\nPBSZ 0\r\nPROT C\r\n");
    d.server("150 x\r\n226 y\r\n");
    assert_eq!(d.client_got(), "150 x\n226 y\n200 PBSZ command successful.\n534 Policy requires PROT P.\n");
}

#[test]
fn rfc_13_pbsz_comes_before_prot_and_auth_before_both() {
    let mut d = greeted(terminate(TERMS));
    assert_eq!(refused(&mut d, "PBSZ 0"), "503 Use AUTH TLS before PBSZ.\n");
    assert_eq!(refused(&mut d, "PROT P"), "503 Use AUTH TLS before PROT.\n");
    let mut d = protected(TERMS);
    for level in ["P", "C", "S", "X"] {
        assert_eq!(refused(&mut d, &format!("PROT {level}")), "503 Use PBSZ before PROT.\n");
    }
    for (line, answer) in [
        ("PBSZ x", "501 Illegal PBSZ argument.\n"),
        ("PROT P", "503 Use PBSZ before PROT.\n"),
        ("PBSZ 4294967296", "501 Illegal PBSZ argument.\n"),
        ("PBSZ 16384", "200 PBSZ=0\n"),
        ("PBSZ 0", "200 PBSZ command successful.\n"),
        ("PROT S", "536 TLS does not offer this protection level.\n"),
        ("PROT E", "536 TLS does not offer this protection level.\n"),
        ("PROT X", "504 Unknown protection level.\n"),
        ("PROT", "504 Unknown protection level.\n"),
        ("prot p", "200 Data connections are private.\n"),
        ("PROT C", "200 Data connections are clear.\n"),
        ("SSCN ON", "502 Command not implemented.\n"),
    ] {
        assert_eq!(refused(&mut d, line), answer, "{line}");
    }
}

/// The transfer of a file behind PASV, from its command on.
fn retrieve(d: &mut Driver, before: &str) -> Vec<String> {
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client(before);
    d.forget();
    d.client("RETR a\r\n");
    let mut trace_so_far = trace(d);
    d.server("150 x\r\n");
    trace_so_far.extend(trace(d));
    trace_so_far
}

#[test]
fn rfc_13_prot_may_follow_pasv_and_counts_at_the_transfer() {
    let clear = ["begin 1", "server: RETR a", "client: 150 x"];
    let covered = ["server: RETR a", "begin 1 client", "client: 150 x"];
    assert_eq!(retrieve(&mut protected(TERMS), ""), clear, "PROT C is the default (RFC 4217 §9)");
    assert_eq!(retrieve(&mut protected(TERMS), "PBSZ 0\r\nPROT P\r\n"), covered);
    assert_eq!(retrieve(&mut private(TERMS), "PROT C\r\n"), clear);
    let mut d = private(TERMS);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("RETR a\r\nPROT C\r\n");
    d.forget();
    d.server("150 x\r\n");
    assert_eq!(trace(&mut d), ["begin 1 client", "client: 150 x"], "as it was when the command came");
}

#[test]
fn rfc_13_auth_ssl_and_tls_p_protect_the_data_unasked() {
    for (mechanism, protects) in [("TLS", false), ("TLS-C", false), ("SSL", true), ("TLS-P", true)] {
        let mut d = greeted(terminate(TERMS));
        d.client(format!("AUTH {mechanism}\r\n"));
        ready(&mut d, Leg::Client);
        log_in(&mut d);
        assert_eq!(retrieve(&mut d, "").contains(&"begin 1 client".to_owned()), protects, "{mechanism}");
    }
}

#[test]
fn rfc_13_an_active_client_is_dialled_and_then_served_tls() {
    let mut d = private(TERMS);
    d.client("PORT 198,51,100,7,19,137\r\n");
    d.server("200 x\r\n");
    d.client("RETR a\r\n");
    assert_eq!(d.deeds(), ["bind 1 server", "dial 1 client 198.51.100.7:5001"]);
    d.server("150 x\r\n");
    assert_eq!(d.deeds(), ["begin 1 client"]);
    // Where the server listens, too, the client is dialled at the 150.
    let tls = TlsSettings { client: ClientTls::Terminate(TERMS), server: ServerTls::Plain };
    let mut d = greeted(Settings { tls, ..settings(ftp_alg::nat::DataMode::Passive) });
    d.client("AUTH SSL\r\n");
    ready(&mut d, Leg::Client);
    d.client("PORT 198,51,100,7,19,137\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("RETR a\r\n");
    d.deeds();
    d.server("150 x\r\n");
    assert_eq!(d.deeds(), ["dial 1 client 198.51.100.7:5001", "begin 1 client"]);
}

#[test]
fn protected_data_begins_at_the_servers_reply_and_once() {
    let mut d = private(TERMS);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("NLST\r\n");
    d.forget();
    d.server("226 nothing there\r\n");
    assert_eq!(trace(&mut d), ["begin 1 client"], "a listing without a 150");
    let mut d = private(TERMS);
    retrieve(&mut d, "");
    d.server("226 y\r\n");
    assert_eq!(trace(&mut d), [""; 0]);
    // A transfer that we do not know is one when the server says 150.
    let mut d = private(TERMS);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("XDIR\r\n");
    d.forget();
    d.server("150 x\r\n");
    assert_eq!(trace(&mut d), ["begin 1 client", "client: 150 x"]);
}

#[test]
fn a_handshake_waits_for_a_transfer_that_is_not_refused() {
    let mut d = private(TERMS);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("RETR none\r\n");
    d.forget();
    d.server("550 no\r\n");
    assert_eq!(trace(&mut d), ["client: 550 no"]);
    d.client("RETR a\r\n");
    d.server("150 x\r\n");
    assert_eq!(trace(&mut d), ["server: RETR a", "begin 1 client", "client: 150 x"]);
}

#[test]
fn a_connection_that_began_in_plain_is_not_protected_later() {
    let mut d = protected(TERMS);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("RETR none\r\n");
    d.server("550 no\r\n");
    d.client("PBSZ 0\r\n");
    d.forget();
    d.client("RETR also\r\n");
    d.server("550 no\r\n");
    assert_eq!(trace(&mut d), ["server: RETR also", "client: 550 no"], "it has begun, and in the same way");
    d.client("PROT P\r\n");
    d.forget();
    d.client("RETR a\r\n");
    assert_eq!(trace(&mut d), ["close 1", "client: 425 Cannot open data connection."]);
}

/// That such a command has a data connection shows when it is too late to refuse it.
#[test]
fn sec_21_nor_for_a_command_that_nobody_knows() {
    let mut d = protected(TERMS);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("RETR none\r\n");
    d.server("550 no\r\n");
    d.client("PBSZ 0\r\nPROT P\r\n");
    d.client("XDIR\r\n");
    d.forget();
    d.server("150 x\r\n");
    assert_eq!(trace(&mut d), ["close 1", "client: 150 x"]);
    d.client_got();
    d.ended(End::Closed);
    d.server("226 y\r\n");
    assert_eq!(d.client_got(), "426 Connection closed; transfer aborted.\n");
}

#[test]
fn rfc_15_a_failed_data_handshake_is_no_success() {
    let failed = |leg| {
        let mut d = private(TERMS);
        retrieve(&mut d, "");
        d.server("226 y\r\n");
        d.client_got();
        d.ended(End::TlsFailed(leg));
        d.client_got()
    };
    assert_eq!(failed(Leg::Client), "522 TLS negotiation failed on the data connection.\n");
    assert_eq!(failed(Leg::Server), "425 Cannot open data connection.\n");
    // What the server makes of the cut that follows is not the reason; of its own TLS it knows better.
    let cut = |leg| {
        let mut d = private(TERMS);
        retrieve(&mut d, "");
        d.client_got();
        d.ended(End::TlsFailed(leg));
        d.server("426-cut\r\n426 cut\r\n250 next\r\n");
        d.client_got()
    };
    assert_eq!(cut(Leg::Client), "522 TLS negotiation failed on the data connection.\n250 next\n");
    assert_eq!(cut(Leg::Server), "426-cut\n426 cut\n250 next\n");
    // And if it never says anything, we do.
    let mut d = private(TERMS);
    retrieve(&mut d, "");
    d.client_got();
    d.ended(End::TlsFailed(Leg::Client));
    d.pass(Duration::from_secs(66));
    assert_eq!(d.client_got(), "522 TLS negotiation failed on the data connection.\n");
    d.server("226 y\r\n");
    assert_eq!(d.client_got(), "");
}

#[test]
fn rfc_14_ccc_is_refused_unless_it_is_allowed() {
    let no = "534 Policy requires TLS on the control connection.\n";
    assert_eq!(refused(&mut protected(TERMS), "CCC"), no);
    assert_eq!(refused(&mut implicit(Terminate { allow_ccc: true, ..IMPLICIT }), "CCC"), no);
    assert_eq!(refused(&mut greeted(terminate(CCC)), "CCC"), "533 The control connection is not protected.\n");
    let mut d = protected(CCC);
    d.client("CCC\r\n");
    assert_eq!(trace(&mut d), ["client: 200 The control connection is clear from here on.", "no TLS with client"]);
    d.client_got();
    assert_eq!(refused(&mut d, "CCC"), "533 The control connection is not protected.\n");
    assert_eq!(refused(&mut d, "AUTH TLS"), "503 AUTH has been accepted already, or is not needed here.\n");
    assert_eq!(refused(&mut d, "PBSZ 0"), "200 PBSZ command successful.\n");
    assert_eq!(refused(&mut d, "PROT P"), "200 Data connections are private.\n");
    assert!(retrieve(&mut d, "").contains(&"begin 1 client".to_owned()));
}

#[test]
fn sec_16_ccc_waits_and_nothing_may_stand_behind_it() {
    let mut d = protected(CCC);
    d.client("NOOP\r\nCCC\r\n");
    assert_eq!(trace(&mut d), ["server: NOOP"]);
    d.server("200 x\r\n");
    assert_eq!(
        trace(&mut d),
        ["client: 200 x", "client: 200 The control connection is clear from here on.", "no TLS with client"]
    );
    for (data, reply) in [("CCC\r\nPASV\r\n", ""), ("CCC\r\nP", ""), ("NOOP\r\nCCC\r\nPASV\r\n", "200 x\r\n")] {
        let mut d = protected(CCC);
        d.client(data);
        d.server(reply);
        assert_eq!(d.closed(), Some(Reason::LeftOver(Leg::Client)), "{data}");
        assert!(!d.server_got().contains("PASV"), "{data}");
    }
}

#[test]
fn sec_21_after_ccc_no_password_crosses_in_clear() {
    let mut d = protected(Terminate { require: true, ..CCC });
    d.client("CCC\r\n");
    d.forget();
    assert_eq!(refused(&mut d, "USER a"), "530 Policy requires TLS, use AUTH TLS first.\n");
    assert_eq!(refused(&mut d, "PASS a"), "530 Policy requires TLS, use AUTH TLS first.\n");
    d.client("PASV\r\nNOOP\r\n");
    assert_eq!(d.server_got(), "PASV\n");
}

#[test]
fn rfc_14_rein_is_answered_within_tls_which_then_ends() {
    let mut d = private(TERMS);
    d.client("NOOP\r\nREIN\r\n");
    d.server("200 x\r\n");
    assert_eq!(trace(&mut d), ["server: NOOP", "client: 200 x", "server: REIN"]);
    d.server("220 as new\r\n");
    assert_eq!(trace(&mut d), ["client: 220 as new", "no TLS with client"]);
    d.forget();
    assert_eq!(refused(&mut d, "PROT P"), "503 Use AUTH TLS before PROT.\n");
    assert_eq!(refused(&mut d, "AUTH TLS"), GO);
    assert_eq!(d.deeds(), ["TLS with client", "connect"], "not every server forgets everything");
    d.connect(SERVER);
    d.server("220 x\r\n");
    ready(&mut d, Leg::Client);
    assert_eq!(refused(&mut d, "PROT P"), "503 Use PBSZ before PROT.\n");
    // Where the server does not know it, everything stays.
    let mut d = private(TERMS);
    d.client("REIN\r\nNOOP\r\n");
    assert_eq!(trace(&mut d), ["server: REIN"]);
    d.server("502 what\r\n");
    assert_eq!(trace(&mut d), ["client: 502 what", "server: NOOP"]);
    d.server("200 x\r\n");
    assert!(retrieve(&mut d, "").contains(&"begin 1 client".to_owned()));
}

#[test]
fn sec_16_nothing_may_stand_behind_rein() {
    for behind in ["USER a\r\n", "U"] {
        let mut d = protected(TERMS);
        d.client(format!("REIN\r\n{behind}"));
        d.server("220 as new\r\n");
        assert_eq!(d.closed(), Some(Reason::LeftOver(Leg::Client)));
        assert_eq!(d.server_got(), "REIN\n");
    }
}

#[test]
fn rfc_14_rein_after_ccc_leads_back_to_auth() {
    let mut d = protected(CCC);
    d.client("CCC\r\n");
    d.client("REIN\r\n");
    d.server("220 as new\r\n");
    assert!(!d.deeds()[1..].contains(&"no TLS with client".to_owned()));
    d.forget();
    assert_eq!(refused(&mut d, "AUTH TLS"), GO);
}

#[test]
fn sec_21_an_implicit_port_stays_in_tls_after_rein() {
    let mut d = implicit(IMPLICIT);
    d.client("PBSZ 0\r\nPROT C\r\nREIN\r\nUSER a\r\n");
    d.forget();
    d.server("220 as new\r\n");
    assert_eq!(d.deeds(), [""; 0]);
    d.server("331 x\r\n");
    assert_eq!(d.client_got(), "220 as new\n331 x\n");
    assert!(retrieve(&mut d, "").contains(&"begin 1 client".to_owned()), "the protection is as at the start");
}

#[test]
fn rfc_14_rein_is_a_fresh_connection_where_the_server_has_tls_too() {
    for server in [ServerTls::Explicit, ServerTls::Implicit] {
        let mut d = opened(ClientTls::Terminate(TERMS), server);
        d.client("AUTH TLS\r\n");
        ready(&mut d, Leg::Client);
        log_in(&mut d);
        d.client("NOOP\r\nREIN\r\n");
        assert_eq!(trace(&mut d), ["server: NOOP"]);
        d.server("200 x\r\n");
        assert_eq!(trace(&mut d), ["client: 200 x", "connect"]);
        d.connect(SERVER);
        open(&mut d, server);
        let deeds = trace(&mut d);
        let at = deeds.iter().position(|deed| deed == "client: 220 ready").unwrap();
        assert_eq!(deeds[at + 1], "no TLS with client");
        assert_eq!(deeds.last().unwrap(), "server: PROT P");
        d.client("AUTH TLS\r\n");
        assert_eq!(d.deeds(), ["TLS with client"]);
    }
    let mut d = opened(ClientTls::Refuse, ServerTls::Explicit);
    log_in(&mut d);
    d.client("REIN\r\nUSER b\r\n");
    assert_eq!(trace(&mut d), ["connect"]);
    d.connect(SERVER);
    open(&mut d, ServerTls::Explicit);
    assert_eq!(trace(&mut d).last().unwrap(), "server: USER b");
    assert_eq!(d.client_got(), "220 ready\n");
}

#[test]
fn rfc_11_feat_shows_what_we_offer() {
    let feat = |terms: Terminate, reply: &str| {
        let mut d = if terms.implicit { implicit(terms) } else { greeted(terminate(terms)) };
        d.client("FEAT\r\n");
        d.server(reply);
        d.client_got()
    };
    let iis = "211-Extended\r\n LANG EN*\r\n AUTH TLS;TLS-C;SSL;TLS-P;\r\n PBSZ\r\n PROT C;P;\r\n CCC\r\n SIZE\r\n211 END\r\n";
    assert_eq!(feat(TERMS, iis), "211-Extended\n LANG EN*\n SIZE\n AUTH TLS\n PBSZ\n PROT\n211 END\n");
    assert_eq!(feat(CCC, iis), "211-Extended\n LANG EN*\n SIZE\n AUTH TLS\n PBSZ\n PROT\n CCC\n211 END\n");
    let implicit = "211-Extended\n LANG EN*\n SIZE\n PBSZ\n PROT\n211 END\n";
    assert_eq!(feat(Terminate { allow_ccc: true, ..IMPLICIT }, iis), implicit);
    let own = "211-Extensions supported:\n AUTH TLS\n PBSZ\n PROT\n211 End\n";
    for reply in ["500 'FEAT': command not understood\r\n", "502 no\r\n", "500-a\r\n500 b\r\n", "211 no features\r\n"] {
        assert_eq!(feat(TERMS, reply), own, "{reply}");
    }
    assert_eq!(feat(TERMS, "530-log\r\n530 in\r\n"), "530-log\n530 in\n");
    let long = format!("211-x\r\n211 {}\r\n", "y".repeat(5000));
    assert!(feat(TERMS, &long).starts_with("211-x\n AUTH TLS\n PBSZ\n PROT\n211 yyy"));
}

#[test]
fn implicit_tls_comes_before_every_word() {
    let mut session =
        Session::new(std::sync::Arc::new(terminate(IMPLICIT)), CLIENT.parse().unwrap(), std::time::Instant::now());
    assert_eq!(session.next_action(), Some(Action::StartTls { leg: Leg::Client }));
    assert_eq!(session.next_action(), Some(Action::Connect { to: Destination::Listener }));
    assert_eq!(session.next_action(), None);
    let mut d = connected(terminate(IMPLICIT));
    d.server("220 x\r\n421 y\r\n");
    assert_eq!(trace(&mut d), ["TLS with client"]);
    ready(&mut d, Leg::Client);
    assert_eq!(d.client_got(), "220 x\n421 y\n");
    assert_eq!(d.deeds(), [""; 0]);
    assert!(retrieve(&mut implicit(IMPLICIT), "").contains(&"begin 1 client".to_owned()));
    assert!(retrieve(&mut implicit(IMPLICIT), "PBSZ 0\r\nPROT C\r\n").contains(&"begin 1".to_owned()));
}

#[test]
fn sec_21_an_implicit_port_takes_no_plain_text() {
    let mut d = connected(terminate(IMPLICIT));
    d.client("USER a\r\n");
    assert_eq!(trace(&mut d), ["TLS with client", "end: LeftOver(Client)"]);
}

#[test]
fn whoever_leaves_during_the_clients_handshake_ends_the_session() {
    let switching = || {
        let mut d = greeted(terminate(TERMS));
        d.client("AUTH TLS\r\n");
        d.server("421 going\r\n");
        d.forget();
        d
    };
    for (event, why) in [
        (Event::Eof { leg: Leg::Client }, Reason::ClientClosed),
        (Event::TlsFailed { leg: Leg::Client }, Reason::TlsFailed(Leg::Client)),
        (Event::Reset { leg: Leg::Client }, Reason::Reset(Leg::Client)),
    ] {
        let mut d = switching();
        d.event(event);
        assert_eq!(trace(&mut d), [format!("end: {why:?}")]);
    }
    assert!(!Reason::TlsFailed(Leg::Client).is_abrupt(), "an alert may be on its way");
    let mut d = switching();
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(trace(&mut d), [""; 0]);
    ready(&mut d, Leg::Client);
    assert_eq!(trace(&mut d), ["client: 421 going", "end: ServerClosed"]);
    let mut d = greeted(terminate(TERMS));
    d.client("AUTH TLS\r\n");
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(d.closed(), Some(Reason::ServerClosed), "there is nothing to say");
}

#[test]
fn rel_10_a_client_is_told_within_tls_that_the_server_cannot_be_reached() {
    let mut down = Driver::unconnected(terminate(IMPLICIT), CLIENT);
    down.event(Event::ServerFailed);
    let mut silent = connected(terminate(IMPLICIT));
    silent.event(Event::Eof { leg: Leg::Server });
    let mut plain = connected(with(ClientTls::Terminate(IMPLICIT), ServerTls::Explicit));
    plain.server("220 x\r\n502 no\r\n");
    for (mut d, before, why) in [
        (down, "", Reason::ServerUnavailable),
        (silent, "", Reason::ServerClosedBeforeGreeting),
        (plain, "220 x\n", Reason::TlsFailed(Leg::Server)),
    ] {
        assert_eq!((d.client_got().as_str(), d.closed()), ("", None), "{why}");
        ready(&mut d, Leg::Client);
        assert_eq!((d.client_got(), d.closed()), (format!("{before}{UNAVAILABLE}"), Some(why)));
    }
}

#[test]
fn sec_28_a_handshake_has_as_long_as_a_login() {
    let mut d = greeted(terminate(TERMS));
    log_in(&mut d);
    d.pass(Duration::from_secs(300));
    d.client("AUTH TLS\r\n");
    d.forget();
    d.pass(LOGIN - Duration::from_secs(1));
    assert_eq!(trace(&mut d), [""; 0]);
    d.pass(Duration::from_secs(1));
    assert_eq!(trace(&mut d), ["end: LoginTimeout"], "and not a word in plain");
    // And the login is due again.
    let mut d = greeted(terminate(TERMS));
    log_in(&mut d);
    d.client("AUTH TLS\r\n");
    ready(&mut d, Leg::Client);
    d.connect(SERVER);
    d.server("220 x\r\n");
    d.forget();
    d.pass(LOGIN);
    assert_eq!(trace(&mut d), ["client: 421 Login timeout, closing control connection.", "end: LoginTimeout"]);
    // So has one with a server whose greeting is a login.
    let mut d = connected(with(ClientTls::Refuse, ServerTls::Explicit));
    d.server("230 in\r\n234 go\r\n");
    d.forget();
    d.pass(LOGIN);
    assert_eq!(d.closed(), Some(Reason::LoginTimeout));
    let mut d = protected(TERMS);
    d.pass(LOGIN);
    assert_eq!(d.closed(), None);
}

#[test]
fn a_drain_waits_for_the_handshake() {
    let mut d = greeted(terminate(TERMS));
    d.client("AUTH TLS\r\n");
    d.forget();
    d.event(Event::Drain);
    assert_eq!(trace(&mut d), [""; 0]);
    ready(&mut d, Leg::Client);
    assert_eq!(trace(&mut d), ["client: 421 Service is stopping, closing control connection.", "end: Drained"]);
}

#[test]
fn explicit_tls_with_the_server_comes_before_the_clients_first_command() {
    let mut d = connected(with(ClientTls::Refuse, ServerTls::Explicit));
    d.client("USER a\r\n");
    assert_eq!(trace(&mut d), [""; 0]);
    d.server("220-hello\r\n220 there\r\n");
    assert_eq!(trace(&mut d), ["client: 220-hello", "client: 220 there", "server: AUTH TLS"]);
    d.client("STAT\r\nABOR\r\n");
    d.server("234-go\r\n234 on\r\n");
    assert_eq!(trace(&mut d), ["TLS with server"]);
    ready(&mut d, Leg::Server);
    assert_eq!(trace(&mut d), ["server: PBSZ 0"]);
    d.server("200 x\r\n");
    assert_eq!(trace(&mut d), ["server: PROT P"]);
    d.server("200 y\r\n");
    assert_eq!(trace(&mut d), ["server: USER a", "server: STAT", "server: ABOR"]);
}

#[test]
fn implicit_tls_with_the_server_comes_before_its_greeting() {
    let mut d = connected(with(ClientTls::Refuse, ServerTls::Implicit));
    d.client("USER a\r\n");
    assert_eq!(trace(&mut d), ["TLS with server"]);
    ready(&mut d, Leg::Server);
    assert_eq!(trace(&mut d), [""; 0]);
    d.server("220 x\r\n");
    assert_eq!(trace(&mut d), ["client: 220 x", "server: PBSZ 0"]);
    d.server("500 what\r\n");
    assert_eq!(trace(&mut d), ["server: PROT P"], "PROT decides");
    d.server("200 y\r\n");
    assert_eq!(trace(&mut d), ["server: USER a"]);
}

#[test]
fn a_server_without_tls_is_not_spoken_to_in_plain() {
    for (replies, asked, code) in [
        (&["220 x\r\n", "502 no\r\n"][..], "AUTH TLS", 502),
        (&["220 x\r\n", "331 no\r\n"], "AUTH TLS", 331),
        (&["220 x\r\n", "234 x\r\n", "", "200 x\r\n", "536 no\r\n"], "PROT P", 536),
    ] {
        let mut d = connected(with(ClientTls::Refuse, ServerTls::Explicit));
        d.client("USER a\r\nPASS b\r\n");
        for reply in replies {
            d.server(reply);
            if reply.is_empty() {
                ready(&mut d, Leg::Server);
            }
        }
        assert_eq!(d.notices(), [Notice::ServerRefuses { asked, code }]);
        assert_eq!(d.closed(), Some(Reason::TlsFailed(Leg::Server)));
        assert_eq!(d.client_got(), format!("220 x\n{UNAVAILABLE}"));
        assert!(!d.server_got().contains("USER"));
    }
}

#[test]
fn a_server_that_fails_or_leaves_while_it_is_opened_is_421() {
    let behind = |replies: &[&str], event: Event<'_>| {
        let mut d = connected(with(ClientTls::Refuse, ServerTls::Explicit));
        d.client("USER a\r\n");
        replies.iter().for_each(|reply| d.server(reply));
        d.client_got();
        d.event(event);
        assert!(!d.server_got().contains("USER"));
        (d.client_got(), d.closed())
    };
    let failed = (UNAVAILABLE.to_owned(), Some(Reason::TlsFailed(Leg::Server)));
    let (eof, bad) = (Event::Eof { leg: Leg::Server }, Event::TlsFailed { leg: Leg::Server });
    assert_eq!(behind(&["220 x\r\n"], eof.clone()), failed);
    assert_eq!(behind(&["220 x\r\n", "234 x\r\n"], eof.clone()), failed);
    assert_eq!(behind(&["220 x\r\n", "234 x\r\n"], bad), failed);
    assert_eq!(behind(&[], eof.clone()), (UNAVAILABLE.into(), Some(Reason::ServerClosedBeforeGreeting)));
    assert_eq!(behind(&["421 full\r\n"], eof), (String::new(), Some(Reason::ServerClosed)));
}

#[test]
fn a_server_that_refuses_the_client_is_not_asked_for_tls() {
    let mut d = connected(with(ClientTls::Refuse, ServerTls::Explicit));
    d.client("USER a\r\n");
    d.server("421 full\r\n");
    assert_eq!(trace(&mut d), ["client: 421 full"]);
}

#[test]
fn the_protection_of_each_leg_is_its_own() {
    for server in [ServerTls::Explicit, ServerTls::Implicit] {
        let mut d = opened(ClientTls::Refuse, server);
        log_in(&mut d);
        assert_eq!(retrieve(&mut d, ""), ["server: RETR a", "begin 1 server", "client: 150 x"]);
        let mut d = opened(ClientTls::Terminate(TERMS), server);
        d.client("AUTH TLS\r\n");
        ready(&mut d, Leg::Client);
        log_in(&mut d);
        d.client("PBSZ 0\r\nPROT P\r\n");
        assert_eq!(d.server_got(), "", "that is the client's");
        assert!(retrieve(&mut d, "").contains(&"begin 1 client server".to_owned()));
        d.completed();
        d.server("226 y\r\n");
        assert!(retrieve(&mut d, "PROT C\r\n").contains(&"begin 2 server".to_owned()));
    }
}

#[test]
fn a_client_cannot_change_how_the_server_is_spoken_to() {
    let mut d = opened(ClientTls::Refuse, ServerTls::Explicit);
    for line in ["AUTH TLS", "PBSZ 0", "PROT C", "CCC", "SSCN ON"] {
        assert_eq!(refused(&mut d, line), "502 Command not implemented.\n", "{line}");
    }
}

#[test]
fn rfc_12_auth_of_a_client_with_a_login_opens_tls_with_the_server_anew() {
    let mut d = opened(ClientTls::Terminate(TERMS), ServerTls::Explicit);
    log_in(&mut d);
    d.client("AUTH TLS\r\n");
    ready(&mut d, Leg::Client);
    d.client("USER b\r\n");
    d.forget();
    d.connect(SERVER);
    open(&mut d, ServerTls::Explicit);
    assert_eq!(
        trace(&mut d),
        ["server: AUTH TLS", "TLS with server", "server: PBSZ 0", "server: PROT P", "server: USER b"]
    );
}

#[test]
fn the_clients_fin_waits_for_the_server_to_be_opened() {
    let mut d = connected(with(ClientTls::Refuse, ServerTls::Explicit));
    d.client("USER a\r\nQUIT\r\n");
    d.event(Event::Eof { leg: Leg::Client });
    assert_eq!(d.deeds(), [""; 0]);
    open(&mut d, ServerTls::Explicit);
    assert_eq!(trace(&mut d)[4..], ["server: PROT P", "server: USER a", "server: QUIT", "FIN to server"]);
    let mut d = connected(with(ClientTls::Refuse, ServerTls::Explicit));
    d.event(Event::Eof { leg: Leg::Client });
    open(&mut d, ServerTls::Explicit);
    assert_eq!(trace(&mut d)[4..], ["server: PROT P", "FIN to server"]);
}

/// A session that lets AUTH through, logged in.
fn passing() -> Driver {
    let mut d = greeted(with(ClientTls::Passthrough, ServerTls::Plain));
    log_in(&mut d);
    d
}

#[test]
fn rfc_22_nothing_is_looked_at_from_234_on() {
    for (auth, reply) in [("AUTH TLS", "234 go"), ("auth gssapi x", "334 ADAT=")] {
        let mut d = passing();
        d.client("NOOP\r\n");
        d.client(format!("{auth}\r\n"));
        assert_eq!(trace(&mut d), ["server: NOOP"], "it waits for what is under way");
        d.server("200 x\r\n");
        assert_eq!(trace(&mut d), ["client: 200 x".to_owned(), format!("server: {auth}")]);
        d.server(format!("{reply}\r\n"));
        assert_eq!(trace(&mut d), [format!("client: {reply}"), "pass through".into()]);
        d.pass(Duration::from_secs(3600));
        d.event(Event::Drain);
        assert_eq!(trace(&mut d), [""; 0], "who is idle, or at a boundary, cannot be told");
    }
}

#[test]
fn rfc_22_nothing_is_lost_or_changed_around_the_switch() {
    let hello = &b"\x16\x03\x01\x02\n\0\x01PASV\r\n\r\r227 \xff\xf4"[..];
    for (together, waits) in [(false, false), (true, false), (true, true), (false, true)] {
        let mut d = passing();
        let before = if waits { "NOOP\r\nAUTH TLS\r\n" } else { "AUTH TLS\r\n" };
        if together {
            d.client([before.as_bytes(), hello].concat());
        } else {
            d.client(before);
            d.client(hello);
        }
        assert!(!d.session.wants_bytes(Leg::Client));
        if waits {
            d.server("200 x\r\n");
        }
        assert_eq!(d.sent_raw(Leg::Server), before.as_bytes());
        d.forget();
        d.server(b"234 go\r\n\x16\x03PASV\r\n");
        let mut actions = d.take_actions().into_iter();
        assert!(matches!(actions.next(), Some(Action::Write { leg: Leg::Client, .. })));
        assert_eq!(actions.next(), Some(Action::PassThrough));
        assert_eq!(d.sent_raw(Leg::Server), hello);
        assert_eq!(d.sent_raw(Leg::Client), b"234 go\r\n\x16\x03PASV\r\n");
        assert!(d.session.wants_bytes(Leg::Client) && d.session.wants_bytes(Leg::Server));
    }
}

#[test]
fn rfc_22_a_refused_auth_changes_nothing() {
    for reply in ["502 no", "431 not now", "534 policy"] {
        let mut d = passing();
        d.client("AUTH TLS\r\nPASV\r\n");
        assert_eq!(d.server_got(), "AUTH TLS\n");
        d.server(format!("{reply}\r\n"));
        assert_eq!((d.client_got(), d.server_got().as_str()), (format!("{reply}\n"), "PASV\n"));
        d.server("227 =172,16,0,20,19,137\r\n");
        assert_eq!(d.client_got(), "227 Entering Passive Mode (203,0,113,10,78,33).\n");
    }
}

#[test]
fn rfc_22_feat_passes_unfiltered() {
    let mut d = passing();
    let reply = "211-x\r\n AUTH TLS\r\n PBSZ\r\n PROT\r\n SSCN\r\n211 End\r\n";
    d.client("FEAT\r\n");
    d.server(reply);
    assert_eq!(d.sent_raw(Leg::Client), reply.as_bytes());
}

#[test]
fn rfc_22_the_ends_of_a_blind_session() {
    let blind = || {
        let mut d = passing();
        d.client("PASV\r\n");
        d.server("227 =172,16,0,20,19,137\r\n");
        d.client("AUTH TLS\r\n");
        d.deeds();
        d.server("234 go\r\n");
        assert_eq!(d.deeds(), ["close 1", "pass through"]);
        d
    };
    let mut d = blind();
    d.event(Event::Eof { leg: Leg::Client });
    assert_eq!(d.deeds(), ["FIN to server"]);
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(d.deeds(), ["FIN to client", "end: ClientClosed"]);
    let mut d = blind();
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(d.deeds(), ["FIN to client", "end: ServerClosed"]);
    let mut d = blind();
    d.event(Event::Reset { leg: Leg::Server });
    assert_eq!(d.deeds(), ["end: Reset(Server)"]);
}
