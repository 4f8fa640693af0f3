//! `data_mode: active`: the client is answered at once, the server is told where to connect when there is something to
//! transfer, and what goes wrong with that is the transfer's answer.

use ftp_alg::addr::{Announced, Leg};
use ftp_alg::nat::DataMode::Active;
use ftp_alg::session::{ClientTls, End, Event, Lack, Notice, Reason, ServerTls, Settings, Terminate, TlsSettings};

use crate::driver::{CLIENT, CLOSE, Driver, IDLE, SERVER, settings};

const PORT: &str = "PORT 172,16,0,10,117,49\n";
const REFUSED: &str = "425 Cannot open data connection.\n";
const NOTHING_PREPARED: &str = "425 Use PASV or PORT first.\n";

/// A client that has prepared a data connection; nothing recorded.
fn prepared(command: &str) -> Driver {
    let mut d = Driver::new(Active);
    d.client(format!("{command}\r\n"));
    d.forget();
    d
}

#[test]
fn the_client_is_answered_at_once_and_the_server_hears_nothing() {
    for (command, answer, deeds) in [
        ("PASV", "227 Entering Passive Mode (203,0,113,10,78,33).\n", &["bind 1 client"][..]),
        ("EPSV", "229 Entering Extended Passive Mode (|||20001|)\n", &["bind 1 client"]),
        ("PORT 198,51,100,7,19,137", "200 PORT command successful.\n", &[]),
        ("EPRT |1|198.51.100.7|5001|", "200 PORT command successful.\n", &[]),
    ] {
        let mut d = Driver::new(Active);
        d.client(format!("{command}\r\n"));
        assert_eq!((d.client_got().as_str(), d.server_got().as_str()), (answer, ""), "{command}");
        assert_eq!(d.deeds(), deeds, "{command}");
    }
}

#[test]
fn every_transfer_command_goes_out_behind_a_port_of_its_own() {
    for command in ["RETR a", "STOR a", "STOU", "APPE a", "LIST", "NLST", "MLSD /"] {
        let mut d = prepared("PASV");
        d.client(format!("{command}\r\n"));
        assert_eq!((d.server_got().as_str(), d.client_got().as_str()), (PORT, ""), "{command}");
        assert_eq!(d.deeds(), ["bind 1 server"]);
        d.server("200 fine\r\n");
        assert_eq!((d.server_got(), d.client_got()), (format!("{command}\n"), String::new()));
        d.server("150 go\r\n226 done\r\n");
        d.completed();
        assert_eq!(d.client_got(), "150 go\n226 done\n", "{command}");
    }
}

/// EPRT too, since it is too late for the client to try PORT when the server refuses it.
#[test]
fn the_plainest_verb_is_sent_whatever_the_client_asked_for() {
    for command in ["PASV", "EPSV", "PORT 198,51,100,7,19,137", "EPRT |1|198.51.100.7|5001|"] {
        let mut d = prepared(command);
        d.client("LIST\r\n");
        assert_eq!(d.server_got(), PORT, "{command}");
    }
    let mut d = Driver::v6(Active);
    d.client("EPSV\r\nLIST\r\n");
    assert!(d.server_got().starts_with("EPRT "));
}

#[test]
fn a_client_in_active_mode_is_dialled_for_the_transfer() {
    let mut d = prepared("PORT 198,51,100,7,19,137");
    d.client("RETR a\r\n");
    assert_eq!(d.deeds(), ["bind 1 server", "dial 1 client 198.51.100.7:5001"]);
    d.server("200 fine\r\n150 go\r\n");
    assert_eq!((d.server_got(), d.client_got()), (format!("{PORT}RETR a\n"), "150 go\n".into()));
}

#[test]
fn nothing_of_the_servers_answer_to_port_reaches_the_client() {
    let mut d = prepared("PASV");
    d.client("RETR a\r\n");
    d.server("120 a moment\r\n200-PORT\r\n 227 (172,16,0,20,19,137)\r\n200 fine\r\n");
    assert_eq!((d.client_got(), d.server_got()), (String::new(), format!("{PORT}RETR a\n")));
    let mut d = prepared("PASV");
    d.client("RETR a\r\n");
    d.server(format!("200 {}\r\n", "x".repeat(9000)));
    assert_eq!((d.client_got(), d.server_got()), (String::new(), format!("{PORT}RETR a\n")));
}

/// BSD's ftpd forgets REST at the next command that is no transfer.
#[test]
fn rest_goes_between_port_and_the_transfer() {
    for rest in ["REST 100", "RANG 1 100"] {
        let mut d = prepared("PASV");
        d.client(format!("{rest}\r\nRETR a\r\n"));
        assert_eq!(d.server_got(), PORT);
        d.server("200 fine\r\n");
        assert_eq!(d.server_got(), format!("{rest}\nRETR a\n"));
        d.server("350 ok\r\n150 go\r\n");
        assert_eq!((d.client_got().as_str(), d.deeds()), ("350 ok\n150 go\n", vec!["bind 1 server".to_owned()]));
    }
    // For a client that waits for each reply it is the same.
    let mut d = prepared("PASV");
    d.client("REST 100\r\n");
    d.server("200 fine\r\n350 ok\r\n");
    d.client("RETR a\r\n");
    assert_eq!((d.server_got(), d.client_got()), (format!("{PORT}REST 100\nRETR a\n"), "350 ok\n".into()));
}

#[test]
fn rest_without_anything_prepared_passes() {
    let mut d = Driver::new(Active);
    d.client("REST 0\r\n");
    assert_eq!((d.server_got(), d.deeds()), ("REST 0\n".into(), vec![]));
}

#[test]
fn a_refusal_of_port_is_the_answer_of_the_transfer() {
    for (reply, answer) in [
        ("500 Illegal PORT command.\r\n", REFUSED),
        ("501-no\r\n501 no\r\n", REFUSED),
        ("502 no\r\n", REFUSED),
        ("425 no\r\n", REFUSED),
        ("421 bye\r\n", "421 bye\n"),
        ("530-log\r\n530 in\r\n", "530-log\n530 in\n"),
        ("550 denied\r\n", "550 denied\n"),
    ] {
        let mut d = prepared("PASV");
        d.client("RETR a\r\nNOOP\r\n");
        d.server(reply);
        assert_eq!(d.client_got(), answer, "{reply}");
        assert_eq!(d.server_got(), format!("{PORT}NOOP\n"), "the transfer is not sent, what follows is");
        assert_eq!((d.deeds().last().map(String::as_str), d.closed()), (Some("close 1"), None), "{reply}");
        d.server("200 noop\r\n");
        assert_eq!(d.client_got(), "200 noop\n");
    }
    let long = format!("550 {}\r\n", "x".repeat(9000));
    let mut d = prepared("PASV");
    d.client("RETR a\r\nNOOP\r\n");
    d.server(&long);
    assert_eq!(d.sent_raw(Leg::Client), long.as_bytes(), "too long to be kept: it passes, once");
    assert_eq!(d.server_got(), format!("{PORT}NOOP\n"));
}

#[test]
fn the_operator_hears_of_a_server_that_refuses_port() {
    let mut d = prepared("PASV");
    d.client("RETR a\r\n");
    d.server("500 no\r\n");
    assert_eq!(d.notices(), [Notice::ServerRefusesPort { code: 500 }]);
}

/// It must not be left with the server, which would apply it to another transfer.
#[test]
fn rest_does_not_reach_a_server_that_refuses_port() {
    let mut d = prepared("PASV");
    d.client("REST 100\r\nRETR a\r\nNOOP\r\n");
    d.server("500 no\r\n");
    assert_eq!(d.client_got(), format!("{REFUSED}{NOTHING_PREPARED}"));
    assert_eq!(d.server_got(), format!("{PORT}NOOP\n"));
}

#[test]
fn a_transfer_without_anything_prepared_is_not_sent() {
    let mut d = Driver::new(Active);
    d.client("NOOP\r\nRETR a\r\nNOOP\r\n");
    d.server("200 x\r\n200 y\r\n");
    assert_eq!((d.client_got(), d.server_got()), (format!("200 x\n{NOTHING_PREPARED}200 y\n"), "NOOP\nNOOP\n".into()));
}

#[test]
fn in_block_mode_the_last_connection_may_serve_again() {
    let mut d = Driver::new(Active);
    d.client("MODE B\r\n");
    d.server("200 x\r\n");
    d.client("RETR a\r\n");
    assert_eq!(d.server_got(), "MODE B\nRETR a\n");
}

#[test]
fn sec_26_no_port_or_address_for_the_server_is_425_to_the_transfer_in_its_turn() {
    for (lacks, answer) in [
        (Lack::Port, "425 Cannot open data connection: no port is free, try again later.\n"),
        (Lack::Address, "425 Cannot open data connection: its public address is not known yet, try again later.\n"),
    ] {
        let mut d = prepared("PASV");
        d.binds = false;
        d.client("TYPE I\r\nRETR a\r\nNOOP\r\n");
        assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("TYPE I\n", ""));
        let id = d.id();
        d.event(Event::PortRefused { id, leg: Leg::Server, lacks });
        assert_eq!(d.deeds(), ["bind 1 server", "close 1"]);
        d.server("200 type\r\n200 noop\r\n");
        assert_eq!((d.server_got(), d.client_got()), ("NOOP\n".into(), format!("200 type\n{answer}200 noop\n")));
    }
}

#[test]
fn an_address_that_port_cannot_carry_is_425_to_the_transfer() {
    let mut d = prepared("PASV");
    d.binds = false;
    d.client("RETR a\r\n");
    let at = Announced::new("2001:db8::1".parse().unwrap(), 30_001);
    d.event(Event::PortBound { id: d.id(), leg: Leg::Server, at });
    assert!(d.client_got().starts_with("425 "));
    assert_eq!((d.server_got(), d.deeds()), (String::new(), vec!["bind 1 server".into(), "close 1".into()]));
}

#[test]
fn rfc_04_a_new_pasv_replaces_what_was_prepared() {
    let mut d = prepared("PASV");
    d.client("PASV\r\n");
    assert_eq!((d.deeds(), d.server_got()), (vec!["close 1".into(), "bind 2 client".into()], String::new()));
    assert_eq!(d.client_got(), "227 Entering Passive Mode (203,0,113,10,78,34).\n");
    d.client("PORT 198,51,100,7,19,137\r\nPASV\r\n");
    assert_eq!(d.deeds(), ["close 2", "bind 4 client"], "of a PORT there is nothing to close");
    d.client("LIST\r\n");
    assert_eq!(d.server_got(), "PORT 172,16,0,10,117,52\n");
}

#[test]
fn a_new_pasv_replaces_what_the_server_was_told_for_a_rest() {
    let mut d = prepared("PASV");
    d.client("REST 100\r\n");
    d.server("200 fine\r\n350 ok\r\n");
    d.forget();
    d.client("PASV\r\nRETR a\r\n");
    assert_eq!(d.deeds(), ["close 1", "bind 2 client", "bind 2 server"]);
    d.server("200 fine\r\n");
    assert_eq!(d.server_got(), "PORT 172,16,0,10,117,50\nRETR a\n");
}

#[test]
fn commands_between_pass_and_those_behind_the_transfer_wait() {
    let mut d = prepared("PASV");
    d.client("SIZE a\r\nSTAT\r\nABOR\r\n");
    assert_eq!(d.server_got(), "SIZE a\nSTAT\nABOR\n");
    d.server("213 1\r\n211 x\r\n225 y\r\n");
    assert_eq!(d.client_got(), "213 1\n211 x\n225 y\n");
    d.client("RETR a\r\nABOR\r\nNOOP\r\n");
    assert_eq!(d.server_got(), PORT, "ABOR has nothing to abort yet");
    d.server("200 fine\r\n");
    assert_eq!(d.server_got(), "RETR a\nABOR\nNOOP\n");
    d.server("150 go\r\n426 cut\r\n226 aborted\r\n200 noop\r\n");
    assert_eq!(d.client_got(), "150 go\n426 cut\n226 aborted\n200 noop\n");
}

#[test]
fn a_port_that_was_lost_before_the_transfer_is_425_and_nothing_is_sent() {
    for command in ["RETR a", "REST 100"] {
        let mut d = prepared("PASV");
        d.last = Some(ftp_alg::session::ChannelId(1));
        d.ended(End::NeverConnected(Leg::Client));
        d.client(format!("{command}\r\n"));
        assert_eq!((d.client_got().as_str(), d.server_got().as_str()), (REFUSED, ""));
        assert_eq!(d.deeds(), [""; 0], "there is nothing to close");
    }
}

#[test]
fn a_port_that_is_lost_while_the_server_is_told_is_425() {
    let mut d = prepared("PASV");
    d.client("RETR a\r\n");
    d.ended(End::NeverConnected(Leg::Server));
    d.server("200 fine\r\n");
    assert_eq!((d.client_got().as_str(), d.server_got()), (REFUSED, PORT.to_owned()));
    assert_eq!(d.deeds(), ["bind 1 server"]);
    let mut d = prepared("PASV");
    d.binds = false;
    d.client("RETR a\r\n");
    d.ended(End::Closed);
    assert!(d.client_got().starts_with("425 "));
    assert_eq!((d.server_got(), d.deeds()), (String::new(), vec!["bind 1 server".into()]));
}

#[test]
fn the_server_hears_of_its_port_only_once_it_is_bound() {
    let mut d = prepared("PASV");
    d.binds = false;
    d.client("RETR a\r\n");
    assert_eq!(d.server_got(), "");
    d.bound(Leg::Server);
    d.bound(Leg::Server);
    assert_eq!(d.server_got(), PORT);
}

#[test]
fn a_transfer_refused_before_it_began_leaves_its_port_for_another() {
    let mut d = prepared("PASV");
    d.client("RETR a\r\n");
    d.server("200 fine\r\n550 no such file\r\n");
    d.client("RETR b\r\n");
    assert_eq!(d.server_got(), format!("{PORT}RETR a\nRETR b\n"));
    assert_eq!((d.client_got().as_str(), d.deeds()), ("550 no such file\n", vec!["bind 1 server".to_owned()]));
}

#[test]
fn but_not_where_another_has_been_prepared() {
    let mut d = prepared("PASV");
    d.client("RETR a\r\n");
    d.server("200 fine\r\n");
    d.client("PASV\r\n");
    d.forget();
    d.server("550 no such file\r\n");
    assert_eq!(d.deeds(), ["close 1"]);
    d.client("RETR b\r\n");
    assert_eq!(d.server_got(), "PORT 172,16,0,10,117,50\n");
}

#[test]
fn what_a_transfer_needs_of_us_comes_before_the_server_is_told() {
    let denied = vec!["STOR".parse().unwrap()];
    let tls = TlsSettings {
        client: ClientTls::Terminate(Terminate { require: true, implicit: false, allow_ccc: false }),
        server: ServerTls::Plain,
    };
    let mut d = Driver::unconnected(Settings { denied, tls, ..settings(Active) }, CLIENT);
    d.connect(SERVER);
    d.server("220 ready\r\n");
    d.client("AUTH TLS\r\n");
    d.event(Event::TlsReady { leg: Leg::Client });
    d.log_in();
    d.client("PASV\r\n");
    d.forget();
    d.client("STOR a\r\nRETR a\r\n");
    assert!(d.client_got().starts_with("502 Command not implemented.\n521 "));
    assert_eq!((d.server_got(), d.deeds()), (String::new(), vec![]));
    d.client("PBSZ 0\r\nPROT P\r\n");
    d.forget();
    d.client("RETR a\r\n");
    d.server("200 fine\r\n150 go\r\n");
    assert_eq!(d.deeds(), ["bind 1 server", "begin 1 client"], "protected as for any other transfer");
    assert_eq!(d.client_got(), "150 go\n");
}

#[test]
fn the_clients_fin_comes_behind_the_transfer_that_waits() {
    let mut d = prepared("PASV");
    d.client("RETR a\r\n");
    d.event(Event::Eof { leg: Leg::Client });
    assert_eq!(d.deeds(), ["bind 1 server"]);
    d.server("200 fine\r\n");
    assert_eq!((d.server_got(), d.deeds()), (format!("{PORT}RETR a\n"), vec!["FIN to server".to_owned()]));
}

#[test]
fn the_clients_fin_does_not_wait_for_what_is_prepared() {
    let mut d = prepared("PASV");
    d.event(Event::Eof { leg: Leg::Client });
    assert_eq!(d.deeds(), ["FIN to server"]);
}

#[test]
fn a_server_that_closes_leaves_nothing_open() {
    for told in [false, true] {
        let mut d = prepared("PASV");
        if told {
            d.client("RETR a\r\n");
        }
        d.forget();
        d.event(Event::Eof { leg: Leg::Server });
        assert_eq!(d.deeds(), ["close 1", "FIN to client", "end: ServerClosed"]);
    }
}

#[test]
fn rein_drops_what_is_prepared() {
    let mut d = prepared("PASV");
    d.client("REIN\r\n");
    d.server("220 again\r\n");
    assert_eq!(d.deeds(), ["close 1"]);
    d.client("RETR a\r\n");
    assert_eq!(d.server_got(), "REIN\n");
}

#[test]
fn what_is_prepared_keeps_a_session_for_as_long_as_its_port_waits() {
    let mut d = prepared("PASV");
    d.pass(IDLE * 2);
    assert_eq!(d.closed(), None, "the port's own time has not run out");
    d.last = Some(ftp_alg::session::ChannelId(1));
    d.ended(End::NeverConnected(Leg::Client));
    d.pass(IDLE);
    assert_eq!(d.closed(), Some(Reason::IdleTimeout));
    // For a client in active mode nothing is open.
    let mut d = prepared("PORT 198,51,100,7,19,137");
    d.pass(IDLE);
    assert_eq!(d.closed(), Some(Reason::IdleTimeout));
}

#[test]
fn draining_lets_what_was_prepared_be_used() {
    let mut d = prepared("PASV");
    d.event(Event::Drain);
    assert_eq!(d.closed(), None);
    d.client("RETR a\r\n");
    d.server("200 fine\r\n150 go\r\n226 done\r\n");
    d.completed();
    assert_eq!(d.closed(), Some(Reason::Drained));
    assert!(d.client_got().starts_with("150 go\n226 done\n421 "));
}

/// A second 250 to CWD, a late 226: no server means its PORT by them.
#[test]
fn what_does_not_answer_port_passes_and_the_answer_is_waited_for() {
    for stray in ["250 changed\r\n", "226 late\r\n"] {
        let mut d = prepared("PASV");
        d.client("RETR a\r\nNOOP\r\n");
        d.server(stray);
        assert_eq!((d.server_got().as_str(), d.client_got()), (PORT, stray.replace("\r\n", "\n")));
        d.server("200 fine\r\n");
        assert_eq!(d.server_got(), "RETR a\nNOOP\n", "{stray}");
    }
}

#[test]
fn a_server_that_answers_port_by_something_else_alone_gets_no_transfer() {
    let mut d = prepared("PASV");
    d.client("RETR a\r\nNOOP\r\n");
    d.server("250 fine\r\n");
    d.pass(CLOSE);
    assert_eq!(d.client_got(), format!("250 fine\n{REFUSED}"));
    assert_eq!(d.server_got(), format!("{PORT}NOOP\n"));
    assert_eq!(d.notices(), [Notice::PassiveUnanswered]);
}

#[test]
fn two_transfers_in_a_row_have_a_port_each() {
    let mut d = Driver::new(Active);
    d.client("PASV\r\nRETR a\r\nPASV\r\nRETR b\r\n");
    assert_eq!(d.server_got(), PORT);
    d.server("200 fine\r\n");
    assert_eq!(d.server_got(), "RETR a\nPORT 172,16,0,10,117,50\n");
    d.server("150 a\r\n226 a\r\n");
    let first = ftp_alg::session::ChannelId(1);
    d.event(Event::ChannelFlushed { id: first, leg: Leg::Client });
    d.channel_ended(first, End::Complete);
    d.server("200 fine\r\n");
    assert_eq!(d.server_got(), "RETR b\n");
}
