//! Commands and logins that the configuration restricts.

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode::Same;
use ftp_alg::session::{Event, Reason, Settings};

use crate::driver::{CLIENT, Driver, LOGIN, SERVER, settings};

/// A session that has been greeted, and has to ask before a login.
fn asking() -> Driver {
    let mut d = Driver::connected(Same);
    d.permits = false;
    d.server("220 ready\r\n");
    d.forget();
    d
}

#[test]
fn sec_25_each_login_command_waits_for_permission_and_all_behind_it_with_it() {
    let mut d = asking();
    d.client("SYST\r\nUSER a\r\nPASS b\r\nNOOP\r\n");
    assert_eq!((d.server_got().as_str(), d.deeds()), ("SYST\n", vec!["ask login".to_owned()]), "asked once");
    d.server("215 x\r\n");
    assert_eq!((d.server_got(), d.deeds()), (String::new(), vec![]));
    d.event(Event::LoginPermitted);
    assert_eq!((d.server_got().as_str(), d.deeds()), ("USER a\n", vec!["ask login".to_owned()]));
    d.event(Event::LoginPermitted);
    assert_eq!(d.server_got(), "PASS b\nNOOP\n");
    d.event(Event::LoginPermitted);
    d.client("ACCT c\r\n");
    assert_eq!((d.server_got(), d.deeds()), (String::new(), vec!["ask login".to_owned()]), "none is saved up");
}

#[test]
fn sec_25_what_the_server_says_to_a_login_is_told() {
    for (command, reply, failed) in [
        ("USER a", "331 x", false),
        ("USER a", "530 not on the list", true),
        ("USER a", "421 full", false),
        ("PASS b", "230-x\r\n230 y", false),
        ("PASS b", "332 x", false),
        ("PASS b", "530-x\r\n530 y", true),
        ("PASS b", "430 x", true),
        ("PASS b", "421 too many", true),
        ("PASS b", "503 USER first", false),
        ("ACCT c", "530 x", true),
        ("ACCT c", "230 x", false),
    ] {
        let mut d = asking();
        d.client(format!("{command}\r\n"));
        d.event(Event::LoginPermitted);
        d.server(format!("{reply}\r\n"));
        assert_eq!(d.deeds(), ["ask login".to_owned(), format!("login failed: {failed}")], "{command}: {reply}");
    }
    let mut d = asking();
    d.client("SYST\r\n");
    d.server("530 Please login with USER and PASS.\r\n");
    assert_eq!(d.deeds(), [""; 0], "no login was tried");
}

#[test]
fn sec_25_a_refused_login_ends_the_session_and_the_server_hears_nothing_of_it() {
    let mut d = asking();
    d.event(Event::LoginRefused);
    assert_eq!(d.closed(), None, "nobody asked");
    d.client("USER a\r\nPASS b\r\n");
    d.event(Event::LoginRefused);
    assert_eq!(d.closed(), Some(Reason::LoginFailures));
    assert_eq!(d.client_got(), "421 Too many failed logins from your address, try again later.\n");
    assert_eq!(d.server_got(), "");
}

#[test]
fn sec_25_a_login_that_waits_has_no_more_time_than_another() {
    let mut d = asking();
    d.client("USER a\r\n");
    d.pass(LOGIN);
    assert_eq!(d.closed(), Some(Reason::LoginTimeout));
}

#[test]
fn a_client_that_leaves_while_its_login_waits() {
    let mut d = asking();
    d.client("USER a\r\n");
    d.event(Event::Eof { leg: Leg::Client });
    assert_eq!(d.deeds(), ["ask login"], "no FIN before what the client sent");
    d.event(Event::LoginPermitted);
    assert_eq!((d.server_got().as_str(), d.deeds()), ("USER a\n", vec!["FIN to server".to_owned()]));
}

fn denying(names: &[&str]) -> Driver {
    let denied = names.iter().map(|name| name.parse().unwrap()).collect();
    let mut d = Driver::unconnected(Settings { denied, ..settings(Same) }, CLIENT);
    d.connect(SERVER);
    d.log_in();
    d
}

#[test]
fn sec_30_denied_commands_are_answered_502_in_their_turn() {
    let mut d = denying(&["SITE EXEC", "DELE", "STAT", "PASV"]);
    d.client("NOOP\r\nSITE EXEC ls\r\ndele a\r\nSTAT\r\nPASV\r\nSITE HELP\r\n");
    assert_eq!(d.server_got(), "NOOP\nSITE HELP\n");
    assert_eq!(d.client_got(), "", "NOOP is first");
    d.server("200 noop\r\n");
    assert_eq!(d.client_got(), format!("200 noop\n{}", "502 Command not implemented.\n".repeat(4)));
    assert_eq!(d.deeds(), [""; 0], "no port was opened");
}

#[test]
fn sec_30_feat_does_not_name_what_is_denied() {
    let mut d = denying(&["MLSD", "SITE EXEC"]);
    d.client("FEAT\r\n");
    d.server("211-Features:\r\n SIZE\r\n MLST type*;\r\n SITE EXEC\r\n SITE CHMOD\r\n211 End\r\n");
    assert_eq!(d.client_got(), "211-Features:\n SIZE\n SITE CHMOD\n211 End\n");
}

#[test]
fn sec_30_a_command_line_is_no_longer_than_configured() {
    let mut d = Driver::unconnected(Settings { line: 600, ..settings(Same) }, CLIENT);
    d.connect(SERVER);
    d.log_in();
    let globs = "*/../".repeat(1000);
    d.client(format!("STAT {globs}\r\nNOOP\r\n"));
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("NOOP\n", "500 Command line too long.\n"));
    let fits = format!("STAT {}\r\n", "x".repeat(600 - 7));
    d.client(&fits);
    assert_eq!(d.sent_raw(Leg::Server), fits.as_bytes());
    // Replies stream through whatever their length.
    let long = format!("200 {}\r\n", "y".repeat(5000));
    d.server(&long);
    assert_eq!(d.sent_raw(Leg::Client), long.as_bytes());

    let mut d = Driver::unconnected(Settings { line: 64 * 1024, ..settings(Same) }, CLIENT);
    d.connect(SERVER);
    d.log_in();
    let long = format!("STAT {}\r\n", "x".repeat(60_000));
    for chunk in long.as_bytes().chunks(4096) {
        d.client(chunk);
    }
    assert_eq!(d.sent_raw(Leg::Server), long.as_bytes());
}
