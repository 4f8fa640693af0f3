//! Lines, the queue of commands, holding and passing, spoofs.

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode;
use ftp_alg::session::{Event, Notice, Reason};

use crate::driver::{Driver, SERVER};

/// What the server gets for a client's line, and what the client gets at once.
fn forwarded(line: impl AsRef<[u8]>) -> (String, String) {
    let mut d = Driver::new(DataMode::Same);
    d.client(line);
    (d.server_got(), d.client_got())
}

#[test]
fn rfc_01_commands_end_with_crlf_whatever_ended_them() {
    for end in ["\n", "\r\n", "\r\r\n"] {
        assert_eq!(forwarded(format!("NOOP{end}")), ("NOOP\n".into(), String::new()), "{end:?}");
    }
}

#[test]
fn rfc_09_cr_or_nul_within_a_command_is_501() {
    for line in ["STOR a\r\0b\r\n", "RETR a\rb\r\n", "NO\0OP\r\n"] {
        assert_eq!(forwarded(line), (String::new(), "501 Illegal character in command.\n".into()), "{line:?}");
    }
}

#[test]
fn sec_10_a_command_beyond_4_kib_is_500_once_and_dropped_to_its_end() {
    let line = format!("STOR {}\r\nNOOP\r\n", "a".repeat(20_000));
    assert_eq!(forwarded(line), ("NOOP\n".into(), "500 Command line too long.\n".into()));
}

#[test]
fn replies_pass_byte_for_byte() {
    let mut d = Driver::new(DataMode::Same);
    let text: &[u8] = b"211-Features:\n MDTM\n\xbd\xf8 SIZE\r\n211 End\r\n230_no_space\r\n99 x\r\n250 a\r\r\n";
    d.server(text);
    assert_eq!(d.sent_raw(Leg::Client), text);
}

#[test]
fn a_reply_line_beyond_4_kib_streams_through() {
    let mut d = Driver::new(DataMode::Same);
    let text = format!("200 {}\r\n", "x".repeat(100_000));
    d.client("NOOP\r\n");
    for part in text.as_bytes().chunks(1000) {
        d.server(part);
        assert!(d.session.wants_bytes(Leg::Server));
    }
    assert_eq!(d.sent_raw(Leg::Client), text.as_bytes());
    // It has answered NOOP: our own reply is not behind anything.
    d.client("LPSV\r\n");
    assert!(d.client_got().starts_with("502 "));
}

#[test]
fn an_own_reply_never_cuts_a_long_line_in_two() {
    for start in ["200 ", "", "230-"] {
        let mut d = Driver::new(DataMode::Same);
        d.server(format!("{start}{}", "x".repeat(10_000)));
        d.client("LPSV\r\n");
        d.server("y\r\n230 end\r\n");
        let sent = d.client_got();
        assert!(sent.contains("xy\n"), "{start}");
        assert_eq!(sent.matches("\n502 ").count(), 1, "{start}");
    }
}

#[test]
fn telnet_bytes_pass_as_they_are() {
    for line in [&b"\xff\xf4\xff\xf2NOOP\r\n"[..], b"CWD a\xff\xffb\r\n", b"CWD \xff\xfb\r\n", b"CWD \xd6\xd0\r\n"] {
        let mut d = Driver::new(DataMode::Same);
        d.client(line);
        assert_eq!(d.sent_raw(Leg::Server), line);
    }
}

#[test]
fn a_translated_command_is_sent_without_its_telnet_prefix() {
    for line in [&b"\xff\xf4\xff\xf2PASV\r\n"[..], b"\xf2PASV\r\n", b"\xff\xfb\x06PASV\r\n", b"P@SW\r\n", b"pasv \r\n"]
    {
        assert_eq!(forwarded(line).0, "PASV\n", "{}", line.escape_ascii());
    }
}

#[test]
fn sec_12_a_telnet_byte_within_a_verb_is_500() {
    let answer = "500 Syntax error, command unrecognized.\n";
    assert_eq!(forwarded(b"PO\xff\xf1RT 1,2,3,4,5,6\r\n"), (String::new(), answer.into()));
}

#[test]
fn rfc_08_urgency_goes_on_with_the_next_abor_stat_or_quit_alone() {
    for verb in ["ABOR", "STAT", "QUIT"] {
        let mut d = Driver::new(DataMode::Same);
        d.client_urgent("NOOP\r\n");
        assert_eq!(d.deeds(), [""; 0]);
        d.client(format!("{verb}\r\n{verb}\r\n"));
        assert_eq!(d.deeds(), [format!("urgent to server: {verb}\\r\\n")]);
        assert_eq!(d.server_got(), format!("NOOP\n{verb}\n{verb}\n"));
    }
}

#[test]
fn own_replies_go_out_in_their_turn() {
    let mut d = Driver::new(DataMode::Same);
    d.client("NOOP\r\nLPSV\r\nSYST\r\nAUTH TLS\r\n");
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("NOOP\nSYST\n", ""));
    d.server("200-a\r\n");
    assert_eq!(d.client_got(), "200-a\n");
    d.server("200 b\r\n");
    assert_eq!(d.client_got(), "200 b\n502 Command not implemented, use EPRT or EPSV.\n");
    d.server("215 UNIX\r\n");
    assert_eq!(d.client_got(), "215 UNIX\n502 Command not implemented.\n");
}

#[test]
fn own_replies_survive_a_server_that_skips_an_answer() {
    let mut d = Driver::new(DataMode::Same);
    d.client("NOOP\r\nLPSV\r\nPASV\r\n");
    d.server("227 Entering Passive Mode (172,16,0,20,19,137)\r\n");
    assert_eq!(
        d.client_got(),
        "502 Command not implemented, use EPRT or EPSV.\n227 Entering Passive Mode (203,0,113,10,78,33)\n"
    );
}

#[test]
fn rfc_17_unknown_verbs_pass_and_other_address_carriers_are_502() {
    assert_eq!(forwarded("XFOO  a  b \r\n").0, "XFOO  a  b \n");
    assert_eq!(forwarded("\r\n").0, "\n");
    for verb in ["LPRT 4,4,127,0,0,1,2,20,20", "LPSV", "CPSV", "SPSV"] {
        let answer = "502 Command not implemented, use EPRT or EPSV.\n";
        assert_eq!(forwarded(format!("{verb}\r\n")), (String::new(), answer.into()));
    }
}

#[test]
fn rfc_11_feat_is_filtered_and_keeps_its_form() {
    let mut d = Driver::new(DataMode::Same);
    d.client("FEAT\r\n");
    d.server("211-Extended features supported:\r\n LANG EN*\r\n AUTH TLS;TLS-C;SSL;TLS-P;\n PBSZ\r\n PROT C;P;\r\n");
    d.server(" CCC\r\n SIZE\n211-SSCN\r\n211-MDTM\r\n211 END\r\n");
    assert_eq!(d.client_got(), "211-Extended features supported:\n LANG EN*\n SIZE\\n211-MDTM\n211 END\n");
    // Only the reply to FEAT is.
    d.client("HELP\r\n");
    d.server("214-\r\n AUTH\r\n214 x\r\n");
    assert_eq!(d.client_got(), "214-\n AUTH\n214 x\n");
}

#[test]
fn what_comes_after_pasv_is_held_until_it_is_answered() {
    let mut d = Driver::new(DataMode::Same);
    d.client("PASV\r\nLIST\r\nNOOP\r\n");
    assert_eq!(d.server_got(), "PASV\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    assert_eq!(d.client_got(), "227 Entering Passive Mode (203,0,113,10,78,33).\n");
    assert_eq!(d.server_got(), "LIST\nNOOP\n");
}

#[test]
fn holding_is_bounded_by_lines_and_by_bytes() {
    let mut d = Driver::new(DataMode::Same);
    d.client("PASV\r\n");
    for _ in 0..19 {
        d.client("NOOP\r\n");
    }
    assert!(d.session.wants_bytes(Leg::Client));
    d.client("NOOP\r\n");
    assert!(!d.session.wants_bytes(Leg::Client));
    assert!(d.session.wants_bytes(Leg::Server));
    d.server("227 =172,16,0,20,19,137\r\n");
    assert!(d.session.wants_bytes(Leg::Client));

    let mut d = Driver::new(DataMode::Same);
    d.client("PASV\r\n");
    d.client(format!("CWD {}\r\n", "a".repeat(3000)));
    assert!(d.session.wants_bytes(Leg::Client));
    d.client(format!("CWD {}\r\n", "a".repeat(3000)));
    assert!(!d.session.wants_bytes(Leg::Client));
}

#[test]
fn sec_06_at_most_20_commands_are_on_their_way() {
    for verb in ["NOOP", "STAT", "ABOR"] {
        let mut d = Driver::new(DataMode::Same);
        d.client(format!("{verb}\r\n").repeat(50));
        assert_eq!(d.server_got().lines().count(), 20, "{verb}");
        d.server("226 a\r\n".repeat(3));
        assert_eq!(d.server_got().lines().count(), 3, "{verb}");
        d.server("226 a\r\n".repeat(47));
        assert_eq!(d.server_got().lines().count(), 27, "{verb}");
        assert_eq!(d.client_got().lines().count(), 50, "{verb}");
        assert!(d.session.wants_bytes(Leg::Client));
    }
}

#[test]
fn abor_and_stat_pass_what_waits_for_a_reply_but_nothing_held() {
    for verb in ["ABOR", "STAT"] {
        let mut d = Driver::new(DataMode::Same);
        d.client(format!("PASV\r\n{verb}\r\n"));
        assert_eq!(d.server_got(), format!("PASV\n{verb}\n"));
        d.client(format!("NOOP\r\n{verb}\r\n"));
        assert_eq!(d.server_got(), "");
        d.server("227 =172,16,0,20,19,137\r\n");
        assert_eq!(d.server_got(), format!("NOOP\n{verb}\n"));
    }
}

#[test]
fn abor_and_stat_do_not_pass_a_pasv_that_waits_for_its_port() {
    let mut d = Driver::new(DataMode::Same);
    d.binds = false;
    d.client("PASV\r\nSTAT\r\n");
    assert_eq!(d.server_got(), "");
    d.bound(Leg::Client);
    assert_eq!(d.server_got(), "PASV\nSTAT\n");
}

#[test]
fn nothing_is_sent_before_the_server_stands() {
    let mut d = Driver::unconnected(crate::driver::settings(DataMode::Same), crate::driver::CLIENT);
    d.client("USER a\r\nSTAT\r\nLPSV\r\n");
    assert_eq!((d.server_got(), d.client_got()), (String::new(), String::new()));
    d.connect(SERVER);
    assert_eq!(d.server_got(), "USER a\nSTAT\n");
    assert_eq!(d.session.user(), Some(&b"a"[..]));
    d.server("220 x\r\n331 y\r\n211 z\r\n");
    assert_eq!(d.client_got(), "220 x\n331 y\n211 z\n502 Command not implemented, use EPRT or EPSV.\n");
}

#[test]
fn sec_05_a_client_that_speaks_like_a_server_ends_the_session() {
    for line in ["227 Entering Passive Mode (1,2,3,4,5,6)\r\n", "200\r\n", "150-x\n"] {
        let mut d = Driver::new(DataMode::Same);
        d.client(format!("NOOP\r\n{line}PASV\r\n"));
        assert_eq!(d.closed(), Some(Reason::Spoofed(Leg::Client)), "{line}");
        assert_eq!(d.server_got(), "NOOP\n");
    }
    let mut d = Driver::new(DataMode::Same);
    d.client(format!("227 {}\r\n", "x".repeat(5000)));
    assert_eq!(d.closed(), Some(Reason::Spoofed(Leg::Client)));
}

#[test]
fn sec_05_a_server_that_speaks_like_a_client_ends_the_session() {
    for line in ["PASV\r\n", "PORT 1,2,3,4,5,6\r\n", "eprt |1|1.2.3.4|5|\r\n", "EPSV\n"] {
        let mut d = Driver::new(DataMode::Same);
        d.server(format!("220 x\r\n{line}220 y\r\n"));
        assert_eq!(d.closed(), Some(Reason::Spoofed(Leg::Server)), "{line}");
        assert_eq!(d.client_got(), "220 x\n");
    }
    let mut d = Driver::new(DataMode::Same);
    d.server(format!("PORT {}\r\n", "x".repeat(5000)));
    assert_eq!(d.closed(), Some(Reason::Spoofed(Leg::Server)));
    let mut d = Driver::new(DataMode::Same);
    d.server("214-These:\r\nPASV PORT EPSV\r\n214 End\r\n");
    assert_eq!(d.closed(), None);
}

#[test]
fn http_as_the_first_line_closes_without_an_echo() {
    for line in ["GET / HTTP/1.1\r\n".to_owned(), format!("POST /{} HTTP/1.1\r\n", "a".repeat(9000))] {
        let mut d = Driver::connected(DataMode::Same);
        d.client(format!("{line}PORT 198,51,100,7,19,137\r\n"));
        assert_eq!(d.deeds(), ["end: NotFtp"]);
        assert_eq!((d.client_got(), d.server_got()), (String::new(), String::new()));
    }
    assert_eq!(forwarded("GET / HTTP/1.1\r\n").0, "GET / HTTP/1.1\n", "later it is only an unknown verb");
}

#[test]
fn the_clients_fin_follows_what_is_queued() {
    let mut d = Driver::new(DataMode::Same);
    d.binds = false;
    d.client("PASV\r\nQUIT\r\nQU");
    d.event(Event::Eof { leg: Leg::Client });
    assert_eq!(d.deeds(), ["bind 1 client"]);
    d.bound(Leg::Client);
    assert_eq!((d.server_got().as_str(), d.deeds().len()), ("PASV\n", 0));
    d.server("227 =172,16,0,20,19,137\r\n");
    assert_eq!(d.server_got(), "QUIT\n");
    assert_eq!(d.deeds(), ["dial 1 server 172.16.0.20:5001", "FIN to server"]);
    d.server("221 bye\r\n");
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(d.deeds(), ["close 1", "FIN to client", "end: ClientClosed"]);
}

#[test]
fn the_clients_fin_waits_for_a_pasv_that_waits_for_its_port() {
    let mut d = Driver::new(DataMode::Same);
    d.binds = false;
    d.client("PASV\r\n");
    d.event(Event::Eof { leg: Leg::Client });
    assert_eq!(d.deeds(), ["bind 1 client"]);
    d.bound(Leg::Client);
    assert_eq!(d.server_got(), "PASV\n");
}

#[test]
fn the_clients_fin_does_not_overtake_an_upload() {
    let mut d = upload();
    d.event(Event::Eof { leg: Leg::Client });
    assert_eq!(d.deeds(), [""; 0]);
    d.flushed(Leg::Server);
    assert_eq!(d.deeds(), ["FIN to server"]);
}

#[test]
fn a_reset_of_either_control_connection_ends_everything_abruptly() {
    for leg in [Leg::Client, Leg::Server] {
        let mut d = upload();
        d.event(Event::Reset { leg });
        assert_eq!(d.closed(), Some(Reason::Reset(leg)));
        assert!(d.closed().is_some_and(Reason::is_abrupt));
        d.server("226 ok\r\n");
        d.client("NOOP\r\n");
        assert_eq!((d.client_got(), d.server_got()), (String::new(), String::new()));
    }
}

#[test]
fn sec_04_an_unsolicited_227_passes_and_opens_nothing() {
    let mut d = Driver::new(DataMode::Same);
    d.server("227 Entering Passive Mode (172,16,0,20,19,137).\r\n229 x (|||5000|)\r\n");
    assert_eq!(d.client_got(), "227 Entering Passive Mode (172,16,0,20,19,137).\n229 x (|||5000|)\n");
    assert_eq!(d.notices(), [Notice::UnsolicitedPassive, Notice::UnsolicitedPassive]);
    assert!(d.deeds().iter().all(|deed| !deed.starts_with("dial")));
}

#[test]
fn rfc_02_a_227_within_another_reply_is_inert() {
    let mut d = Driver::new(DataMode::Same);
    d.client("PASV\r\n");
    d.forget();
    let text = "211-x\r\n227 Entering Passive Mode (172,16,0,20,19,137).\r\n211 End\r\n";
    d.server(text);
    assert_eq!(d.sent_raw(Leg::Client), text.as_bytes());
    assert_eq!(d.deeds(), [""; 0]);
    d.server("227 =172,16,0,20,19,138\r\n");
    assert_eq!(d.deeds(), ["dial 1 server 172.16.0.20:5002"]);
}

#[test]
fn vector_26_replies_out_of_step_leave_pasv_pending() {
    let mut d = Driver::new(DataMode::Same);
    d.client("PASV\r\nLIST\r\n");
    d.server("250 Directory successfully changed.\r\n");
    assert_eq!((d.client_got().as_str(), d.server_got().as_str()), ("250 Directory successfully changed.\n", "PASV\n"));
    d.server("227 Entering Passive Mode (92,53,68,202,39,116)\r\n");
    assert_eq!(d.client_got(), "227 Entering Passive Mode (203,0,113,10,78,33)\n");
    assert_eq!(d.server_got(), "LIST\n");
}

#[test]
fn a_reply_of_an_earlier_command_does_not_end_a_transfer_that_has_not_begun() {
    let mut d = Driver::new(DataMode::Same);
    d.client("PORT 198,51,100,7,19,137\r\nRETR a\r\n");
    d.server("200 again\r\n200 PORT ok\r\n150 x\r\n226 y\r\n");
    assert_eq!(d.client_got(), "200 again\n200 PORT ok\n150 x\n");
    d.flushed(Leg::Client);
    assert_eq!(d.client_got(), "226 y\n");
}

#[test]
fn one_reply_to_abor_instead_of_two() {
    let mut d = download();
    d.client("ABOR\r\n");
    d.server("226 aborted\r\n");
    assert_eq!(d.client_got(), "226 aborted\n");
    // EPSV is refused: that is not for the ABOR.
    d.completed();
    d.client("EPSV\r\n");
    d.server("500 what\r\n");
    assert_eq!(d.server_got(), "ABOR\nEPSV\nPASV\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    assert_eq!(d.client_got(), "229 Entering Extended Passive Mode (|||20002|)\n");
    d.client("RETR a\r\n");
    d.server("150 x\r\n226 y\r\n");
    assert_eq!(d.client_got(), "150 x\n");
}

#[test]
fn rfc_05_two_replies_to_abor() {
    let mut d = download();
    d.client("ABOR\r\n");
    d.server("426 cut\r\n");
    assert_eq!(d.client_got(), "426 cut\n");
    assert_eq!(d.deeds(), ["close 1"]);
    d.server("226 aborted\r\n");
    assert_eq!(d.client_got(), "226 aborted\n");
    d.client("NOOP\r\nLPSV\r\n");
    d.server("200 x\r\n");
    assert_eq!(d.client_got(), "200 x\n502 Command not implemented, use EPRT or EPSV.\n");
}

#[test]
fn rfc_07_stat_is_answered_during_a_transfer() {
    let mut d = download();
    d.client("STAT\r\n");
    d.server("211-status\r\n x\r\n211 end\r\n");
    assert_eq!(d.client_got(), "211-status\n x\n211 end\n");
    d.server("226 done\r\n");
    assert_eq!(d.client_got(), "", "held: it is the transfer's");
    d.flushed(Leg::Client);
    assert_eq!(d.client_got(), "226 done\n");
}

#[test]
fn stat_refused_during_a_transfer_does_not_end_it() {
    let mut d = download();
    d.client("STAT\r\n");
    d.server("502 no\r\n226 done\r\n");
    assert_eq!(d.client_got(), "502 no\n");
    d.flushed(Leg::Client);
    assert_eq!(d.client_got(), "226 done\n");
}

#[test]
fn a_server_that_closes_before_its_greeting_is_told_apart() {
    let mut d = Driver::connected(DataMode::Same);
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(d.client_got(), "421 Service not available, closing control connection.\n");
    assert_eq!(d.closed(), Some(Reason::ServerClosedBeforeGreeting));
    let mut d = Driver::connected(DataMode::Same);
    d.server("421 Too many");
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(d.client_got(), "421 Too many", "its own last word is better than ours");
    assert_eq!(d.closed(), Some(Reason::ServerClosed));
}

#[test]
fn rel_10_a_server_that_cannot_be_reached_is_421() {
    let mut d = Driver::unconnected(crate::driver::settings(DataMode::Same), crate::driver::CLIENT);
    d.event(Event::ServerFailed);
    assert_eq!(d.client_got(), "421 Service not available, closing control connection.\n");
    assert_eq!(d.deeds(), ["end: ServerUnavailable"]);
}

#[test]
fn after_the_servers_fin_nothing_is_sent_to_it_and_the_client_gets_its_data() {
    let mut d = download();
    d.client("QUIT\r\n");
    d.server("226 done\r\n221 bye\r\n");
    assert_eq!(d.client_got(), "");
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(d.client_got(), "226 done\n221 bye\n");
    assert_eq!(d.deeds(), ["FIN to client"]);
    d.server_got();
    // To a socket that its peer has closed a write is a reset, and would end the download.
    d.client("NOOP\r\nLPSV\r\n");
    d.event(Event::Eof { leg: Leg::Client });
    assert_eq!((d.server_got(), d.client_got()), (String::new(), String::new()));
    d.completed();
    assert_eq!(d.deeds(), ["transferred Some(Retr) Some(226)", "end: ClientClosed"]);
}

#[test]
fn the_unfinished_last_line_of_a_server_reaches_the_client() {
    let mut d = Driver::new(DataMode::Same);
    d.client("QUIT\r\n");
    d.server("221 bye");
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(d.client_got(), "221 bye");
    assert_eq!(d.deeds(), ["FIN to client", "end: ServerClosed"]);
}

/// The end of the stream completes the last reply; the commands that waited for it have nowhere to go.
#[test]
fn commands_held_at_the_servers_fin_are_not_sent() {
    let mut d = Driver::new(DataMode::Same);
    d.client("PASV\r\nNOOP\r\nPASV\r\n");
    d.server("227 =172,16,0,20,19,137");
    d.forget();
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(
        (d.server_got(), d.client_got()),
        (String::new(), "227 Entering Passive Mode (203,0,113,10,78,33).\n".into())
    );
    assert_eq!(d.deeds(), ["dial 1 server 172.16.0.20:5001", "close 1", "FIN to client", "end: ServerClosed"]);
}

#[test]
fn sec_31_an_unfinished_227_does_not_reach_the_client() {
    for text in ["227 Entering (172,16,0,20,19,137).", "227-x\r\n y (172,16,0,20,19,137)\r\n", "227-(172,16,0,20,1,1)"]
    {
        let mut d = Driver::new(DataMode::Same);
        d.client("PASV\r\n");
        d.server(text);
        d.event(Event::Eof { leg: Leg::Server });
        assert!(!d.client_got().contains("172,16"), "{text}");
        assert_eq!(d.closed(), Some(Reason::ServerClosed));
        assert!(d.deeds().contains(&"close 1".to_owned()), "{text}");
    }
}

/// A download under way.
pub(crate) fn download() -> Driver {
    transfer("RETR a")
}

/// An upload under way.
pub(crate) fn upload() -> Driver {
    transfer("STOR a")
}

pub(crate) fn transfer(command: &str) -> Driver {
    let mut d = Driver::new(DataMode::Same);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client(format!("{command}\r\n"));
    d.server("150 x\r\n");
    d.forget();
    d
}

/// Those that we refuse ourselves do not count, nor do other errors, nor anything after the login.
#[test]
fn sec_17_unknown_commands_are_counted_until_the_login() {
    let mut d = Driver::connected(DataMode::Same);
    d.server("220 ready\r\n");
    for _ in 0..20 {
        d.client("AUTH TLS\r\nPORT x\r\nSYST\r\n");
        d.server("530 log in first\r\n");
    }
    for _ in 0..9 {
        d.client("X\r\n");
        d.server("500 what?\r\n");
    }
    assert_eq!(d.closed(), None);
    d.forget();
    d.client("CLNT x\r\nNOOP\r\n");
    d.server("502 no\r\n200 noop\r\n");
    assert_eq!(d.client_got(), "502 no\n421 Too many unknown commands, closing control connection.\n");
    assert_eq!(d.closed(), Some(Reason::NotFtp));

    let mut d = Driver::new(DataMode::Same);
    for _ in 0..20 {
        d.client("X\r\n");
        d.server("500 what?\r\n");
    }
    assert_eq!(d.closed(), None);
}
