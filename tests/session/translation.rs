//! PASV, EPSV, PORT and EPRT on either side, in every combination.

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode::{self, Active, Passive, Same};
use ftp_alg::session::{End, Event, Lack, Notice};

use crate::driver::Driver;

const OK_227: &str = "227 Entering Passive Mode (172,16,0,20,19,137).\r\n";

/// What the client is answered to `command` if the server answers `reply`, and what was done.
fn asked(mode: DataMode, command: &str, reply: &str) -> (String, Vec<String>) {
    let mut d = Driver::new(mode);
    d.client(format!("{command}\r\n"));
    d.client_got();
    d.server(reply);
    (d.client_got(), d.deeds())
}

#[test]
fn rfc_18_pasv_changes_the_digits_only() {
    let (answer, deeds) = asked(Same, "PASV", OK_227);
    assert_eq!(answer, "227 Entering Passive Mode (203,0,113,10,78,33).\n");
    assert_eq!(deeds, ["bind 1 client", "dial 1 server 172.16.0.20:5001"]);
}

#[test]
fn epsv_changes_the_port_only() {
    let (answer, deeds) = asked(Same, "EPSV", "229 Extended Passive mode OK (|||47730|)\r\n");
    assert_eq!(answer, "229 Extended Passive mode OK (|||20001|)\n");
    assert_eq!(deeds, ["bind 1 client", "dial 1 server 172.16.0.20:47730"]);
}

#[test]
fn the_form_of_the_reply_follows_the_clients_command() {
    let epsv = "229 Entering Extended Passive Mode (|||20001|)\n";
    assert_eq!(asked(Same, "EPSV", "227 Entering Passive Mode (91,190,231,97,119,66).\r\n").0, epsv);
    let (answer, deeds) = asked(Same, "PASV", "229 Entering Extended Passive Mode (|||5001|)\r\n");
    assert_eq!(answer, "227 Entering Passive Mode (203,0,113,10,78,33).\n");
    assert_eq!(deeds[1], "dial 1 server 172.16.0.20:5001");
}

#[test]
fn vector_10_a_multi_line_227_becomes_one_line() {
    for text in [
        "227-listen socket created\r\n227 (127,0,0,1,19,137)\r\n",
        "227-(127,0,0,1,19,137)\r\n227 end\r\n",
        "227-x\r\n 127,0,0,1,19,137\r\n227 end\r\n",
    ] {
        let (answer, deeds) = asked(Same, "PASV", text);
        assert_eq!(answer, "227 Entering Passive Mode (203,0,113,10,78,33).\n", "{text}");
        assert_eq!(deeds[1], "dial 1 server 172.16.0.20:5001", "{text}");
    }
    let long = format!("227-(172,16,0,20,19,137)\r\n{}{}\r\n227 end\r\n", " y\r\n".repeat(3000), "z".repeat(9000));
    assert_eq!(asked(Same, "PASV", &long).0, "227 Entering Passive Mode (203,0,113,10,78,33).\n");
    let (answer, deeds) = asked(Same, "EPSV", "229-x\r\n229 y (|||5001|)\r\n");
    assert_eq!(answer, "229 Entering Extended Passive Mode (|||20001|)\n");
    assert_eq!(deeds[1], "dial 1 server 172.16.0.20:5001");
}

#[test]
fn a_227_without_a_tuple_passes_and_opens_nothing() {
    for text in ["227 Logout.", "227 Entering Passive Mode (192,168,1,100,229)", "227 Portscan (127,0,0,1,256,100)"] {
        let (answer, deeds) = asked(Same, "PASV", &format!("{text}\r\n"));
        assert_eq!(answer, format!("{text}\n"));
        assert_eq!(deeds, ["bind 1 client", "close 1"]);
    }
}

#[test]
fn vector_38_an_overlong_227_passes_and_opens_nothing() {
    let text = format!("227 {}\r\n", "A".repeat(50_000));
    let mut d = Driver::new(Same);
    d.client("PASV\r\nNOOP\r\n");
    d.server(&text);
    assert_eq!(d.sent_raw(Leg::Client), text.as_bytes());
    assert_eq!(d.server_got(), "PASV\nNOOP\n");
    assert_eq!(d.deeds()[..2], ["bind 1 client", "close 1"]);
}

#[test]
fn sec_02_a_privileged_port_is_425_and_the_servers_address_is_its_own() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server("227 Portscan (127,0,0,1,0,22)\r\n");
    assert_eq!(d.client_got(), "425 Cannot open data connection.\n");
    assert!(matches!(d.notices()[..], [Notice::ServerPort(_)]));
    let (_, deeds) = asked(Same, "PASV", "227 (169,254,169,254,19,137)\r\n");
    assert_eq!(deeds[1], "dial 1 server 172.16.0.20:5001");
}

#[test]
fn same_keeps_port_and_passes_its_reply() {
    let mut d = Driver::new(Same);
    d.client("PORT 198,51,100,7,19,137\r\nRETR a\r\n");
    assert_eq!(d.server_got(), "PORT 172,16,0,10,117,49\nRETR a\n");
    assert_eq!(d.deeds(), ["bind 1 server", "dial 1 client 198.51.100.7:5001"]);
    d.server("200 fine\r\n");
    assert_eq!(d.client_got(), "200 fine\n");
}

#[test]
fn same_keeps_eprt() {
    let mut d = Driver::new(Same);
    d.client("EPRT |1|198.51.100.7|5001|\r\n");
    assert_eq!(d.server_got(), "EPRT |1|172.16.0.10|30001|\n");
    let mut d = Driver::v6(Same);
    d.client("EPRT |2|2001:db8::7|5001|\r\n");
    assert_eq!(d.deeds(), ["bind 1 server", "dial 1 client [2001:db8::7]:5001"]);
}

#[test]
fn a_port_that_the_server_refuses_is_closed() {
    let (answer, deeds) = asked(Same, "PORT 198,51,100,7,19,137", "500 Illegal PORT command.\r\n");
    assert_eq!(answer, "500 Illegal PORT command.\n");
    assert_eq!(deeds.last().unwrap(), "close 1");
}

#[test]
fn passive_towards_the_server_for_a_client_that_says_port() {
    for command in ["PORT 198,51,100,7,19,137", "EPRT |1|198.51.100.7|5001|"] {
        let mut d = Driver::new(Passive);
        d.client(format!("{command}\r\n"));
        assert_eq!((d.server_got(), d.deeds()), ("PASV\n".into(), vec![]));
        d.server("227 =1,1,1,1,19,137\r\n");
        assert_eq!(d.client_got(), "200 PORT command successful.\n");
        assert_eq!(d.deeds(), ["dial 1 server 172.16.0.20:5001"]);
        d.client("RETR a\r\n");
        assert_eq!(d.deeds(), [""; 0]);
        d.server("150 x\r\n");
        assert_eq!(d.deeds(), ["dial 1 client 198.51.100.7:5001"]);
    }
}

#[test]
fn modes_that_agree_with_the_client_keep_its_verb() {
    for (mode, command, sent) in [(Passive, "PASV", "PASV\n"), (Passive, "EPSV", "EPSV\n")] {
        let mut d = Driver::new(mode);
        d.client(format!("{command}\r\n"));
        assert_eq!(d.server_got(), sent);
    }
}

#[test]
fn substituted_verbs_for_an_ipv6_server_are_the_extended_ones() {
    for (mode, command, sent) in
        [(Passive, "EPRT |2|2001:db8::7|5001|\r\n", "EPSV\n"), (Active, "EPSV\r\nLIST\r\n", "EPRT ")]
    {
        let mut d = Driver::v6(mode);
        d.client(command);
        assert!(d.server_got().starts_with(sent), "{command}");
    }
    let mut d = Driver::between(Same, "198.51.100.7:40000", "[fd00::20]:21");
    d.client("PASV\r\n");
    assert_eq!(d.server_got(), "EPSV\n");
    d.server("229 x (|||5001|)\r\n");
    assert_eq!(d.client_got(), "227 Entering Passive Mode (203,0,113,10,78,33).\n");
}

#[test]
fn refusals_of_kept_verbs_pass() {
    for (command, reply) in
        [("PASV", "500 a\r\n"), ("PASV", "425-a\r\n425 b\r\n"), ("EPSV", "522 a\r\n"), ("EPSV", "501 a\r\n")]
    {
        let (answer, deeds) = asked(Same, command, reply);
        assert_eq!(answer, reply.replace("\r\n", "\n"));
        assert_eq!(deeds, ["bind 1 client", "close 1"]);
    }
}

#[test]
fn refusals_of_substituted_verbs_are_501_but_for_three() {
    for code in [421, 530, 550] {
        let (answer, _) = asked(Passive, "PORT 198,51,100,7,19,137", &format!("{code} text\r\n"));
        assert_eq!(answer, format!("{code} text\n"));
    }
    for code in [500, 501, 425, 502] {
        let reply = format!("{code} text\r\n");
        assert_eq!(asked(Passive, "PORT 198,51,100,7,19,137", &reply).0, "501 Server refuses the data connection.\n");
    }
}

#[test]
fn rfc_20_epsv_falls_back_to_pasv_and_that_is_remembered() {
    for code in [500, 502] {
        let mut d = Driver::new(Same);
        d.client("EPSV\r\n");
        d.server(format!("{code}-'EPSV':\r\n{code} not understood\r\n"));
        assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("EPSV\nPASV\n", ""));
        d.server(OK_227);
        assert_eq!(d.client_got(), "229 Entering Extended Passive Mode (|||20001|)\n");
        d.client("EPSV\r\n");
        assert_eq!(d.server_got(), "PASV\n");
    }
}

#[test]
fn if_pasv_is_refused_too_the_client_gets_the_reply_to_its_epsv() {
    let mut d = Driver::new(Same);
    d.client("EPSV\r\nNOOP\r\n");
    d.server("500 no EPSV\r\n");
    d.server("530 no PASV\r\n");
    assert_eq!(d.client_got(), "500 no EPSV\n");
    assert_eq!(d.server_got(), "EPSV\nPASV\nNOOP\n");
}

#[test]
fn rfc_10_epsv_all_is_forwarded_and_enforced() {
    let mut d = Driver::new(Same);
    d.client("EPSV ALL\r\n");
    assert_eq!(d.server_got(), "EPSV ALL\n");
    d.server("200 EPSV ALL ok.\r\n");
    d.client_got();
    for command in ["PASV", "PORT 198,51,100,7,19,137", "EPRT |1|198.51.100.7|5001|"] {
        d.client(format!("{command}\r\n"));
        assert_eq!(d.client_got(), "501 Only EPSV is allowed after EPSV ALL.\n");
    }
    d.client("ABOR\r\n");
    d.server("225 x\r\n");
    d.forget();
    d.client("PASV\r\n");
    assert_eq!(d.server_got(), "", "ABOR does not end EPSV ALL");
    d.client("REIN\r\n");
    d.server("220 x\r\n");
    d.client("PASV\r\n");
    assert_eq!(d.server_got(), "REIN\nPASV\n");
}

#[test]
fn epsv_all_that_the_server_refuses_is_not_enforced() {
    let mut d = Driver::new(Same);
    d.client("EPSV ALL\r\n");
    d.server("502 no\r\n");
    d.client("PASV\r\n");
    assert_eq!(d.server_got(), "EPSV ALL\nPASV\n");
}

#[test]
fn epsv_all_is_answered_here_where_verbs_are_substituted() {
    for mode in [Passive, Active] {
        let mut d = Driver::new(mode);
        d.client("EPSV ALL\r\nPASV\r\n");
        assert_eq!(d.server_got(), "");
        assert_eq!(d.client_got(), "200 EPSV ALL command successful.\n501 Only EPSV is allowed after EPSV ALL.\n");
        d.client("EPSV\r\nLIST\r\n");
        assert_ne!(d.server_got(), "");
    }
    let mut d = Driver::new(Same);
    d.client("EPSV\r\n");
    d.server("500 x\r\n227 =1,1,1,1,19,137\r\n");
    d.forget();
    d.client("EPSV ALL\r\n");
    assert_eq!(d.client_got(), "200 EPSV ALL command successful.\n");
}

#[test]
fn rfc_20_epsv_with_a_protocol_number() {
    let sent = |argument: &str| {
        let mut d = Driver::new(Same);
        d.client(format!("EPSV {argument}\r\n"));
        (d.server_got(), d.client_got())
    };
    assert_eq!(sent("1"), ("EPSV 1\n".into(), String::new()));
    assert_eq!(sent("2"), (String::new(), "522 Network protocol not supported, use (1)\n".into()));
    assert_eq!(sent("3"), (String::new(), "522 Network protocol not supported, use (1)\n".into()));
    assert_eq!(sent("x"), (String::new(), "501 Illegal EPSV argument.\n".into()));
    let mut d = Driver::v6(Same);
    d.client("EPSV 1\r\n");
    assert_eq!(d.client_got(), "522 Network protocol not supported, use (2)\n");
}

#[test]
fn sec_01_foreign_and_privileged_and_malformed_addresses_are_501() {
    for (command, answer) in [
        ("PORT 2,2,2,3,19,137", "501 Illegal PORT address.\n"),
        ("EPRT |1|2.2.2.3|5001|", "501 Illegal PORT address.\n"),
        ("PORT 198,51,100,7,0,80", "501 Illegal PORT address.\n"),
        ("PORT 127,0,0,1,19,137", "501 Illegal PORT address.\n"),
        ("PORT 1234", "501 Illegal PORT command.\n"),
        ("EPRT |1|198.51.100.7|65557|", "501 Illegal PORT command.\n"),
        ("EPRT |3|198.51.100.7|5001|", "522 Network protocol not supported, use (1)\n"),
    ] {
        let mut d = Driver::new(Same);
        d.client(format!("{command}\r\n"));
        assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("", answer), "{command}");
        assert!(d.deeds().iter().all(|deed| deed.starts_with("Refused")), "{command}");
    }
}

#[test]
fn a_private_address_is_a_client_behind_nat() {
    for ip in ["10,0,0,1", "192,168,3,30", "0,0,0,0", "100,64,0,1"] {
        let mut d = Driver::new(Same);
        d.client(format!("PORT {ip},19,237\r\n"));
        assert_eq!(d.deeds(), ["bind 1 server", "dial 1 client 198.51.100.7:5101"], "{ip}");
    }
}

#[test]
fn mapped_addresses_are_ipv4() {
    let mut d = Driver::between(Same, "[::ffff:198.51.100.7]:40000", "[::ffff:172.16.0.20]:21");
    d.client("PORT 198,51,100,7,19,137\r\n");
    assert_eq!(d.deeds(), ["bind 1 server", "dial 1 client 198.51.100.7:5001"]);
    d.client("EPSV 1\r\n");
    d.server("200 x\r\n229 x (|||5001|)\r\n");
    assert_eq!(d.deeds(), ["close 1", "bind 2 client", "dial 2 server 172.16.0.20:5001"]);
}

#[test]
fn the_server_hears_of_a_port_only_once_it_is_bound() {
    for command in ["PASV", "PORT 198,51,100,7,19,137", "EPSV"] {
        let mut d = Driver::new(Same);
        d.binds = false;
        d.client(format!("{command}\r\n"));
        assert_eq!(d.server_got(), "", "{command}");
        let legs: Vec<_> =
            d.deeds().iter().filter_map(|deed| deed.strip_prefix("bind 1 ").map(str::to_owned)).collect();
        for (index, leg) in legs.iter().enumerate() {
            let leg = if leg == "client" { Leg::Client } else { Leg::Server };
            d.bound(leg);
            // A second answer for the same end changes nothing.
            d.bound(leg);
            assert_eq!(d.server_got().lines().count(), usize::from(index + 1 == legs.len()), "{command}");
        }
    }
}

#[test]
fn sec_26_no_port_is_425_to_this_command_alone() {
    let mut d = Driver::new(Same);
    d.binds = false;
    d.client("PASV\r\nNOOP\r\n");
    let id = d.id();
    d.event(Event::PortRefused { id, leg: Leg::Client, lacks: Lack::Port });
    assert_eq!(d.client_got(), "425 Cannot open data connection: no port is free, try again later.\n");
    assert_eq!((d.server_got(), d.deeds()), ("NOOP\n".into(), vec!["bind 1 client".into(), "close 1".into()]));
}

#[test]
fn an_address_that_is_not_known_yet_is_425() {
    let mut d = Driver::new(Same);
    d.binds = false;
    d.client("PASV\r\n");
    let id = d.id();
    d.event(Event::PortRefused { id, leg: Leg::Client, lacks: Lack::Address });
    assert_eq!(
        d.client_got(),
        "425 Cannot open data connection: its public address is not known yet, try again later.\n"
    );
}

#[test]
fn pasv_with_only_an_ipv6_address_to_announce_is_425() {
    let mut d = Driver::new(Same);
    d.binds = false;
    d.client("PASV\r\n");
    let at = ftp_alg::addr::Announced::new("2001:db8::1".parse().unwrap(), 20_001);
    d.event(Event::PortBound { id: d.id(), leg: Leg::Client, at });
    assert_eq!(d.client_got(), "425 PASV cannot carry an IPv6 address, use EPSV.\n");
    assert_eq!((d.server_got().as_str(), d.deeds().last().unwrap().as_str()), ("", "close 1"));
}

#[test]
fn rfc_04_a_second_pasv_replaces_the_offer_and_no_transfer() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server(OK_227);
    d.client("RETR a\r\n");
    d.server("150 x\r\n");
    d.client("PASV\r\n");
    d.server(OK_227);
    assert!(!d.deeds().contains(&"close 1".to_owned()), "a transfer runs on it");
    d.client("PASV\r\n");
    assert_eq!(d.deeds(), ["close 2", "bind 3 client"]);
}

#[test]
fn rfc_24_port_after_pasv_replaces_it() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server(OK_227);
    d.forget();
    d.client("PORT 198,51,100,7,19,137\r\n");
    assert_eq!(d.deeds(), ["close 1", "bind 2 server", "dial 2 client 198.51.100.7:5001"]);
}

#[test]
fn a_port_lost_before_the_server_answers_is_425() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.ended(End::NeverConnected(Leg::Client));
    d.server(OK_227);
    assert_eq!(d.client_got(), "425 Cannot open data connection.\n");
    assert_eq!(d.deeds(), ["bind 1 client"], "neither dialled nor closed again");
}

#[test]
fn a_channel_that_ends_before_it_has_a_port_is_425() {
    let mut d = Driver::new(Same);
    d.binds = false;
    d.client("PASV\r\nNOOP\r\n");
    d.ended(End::Closed);
    assert_eq!(d.client_got(), "425 Cannot open data connection: no port is free, try again later.\n");
    assert_eq!((d.server_got(), d.deeds()), ("NOOP\n".into(), vec!["bind 1 client".into()]));
}

#[test]
fn a_server_that_cannot_be_reached_for_data_does_not_have_the_client_dialled() {
    let mut d = Driver::new(Passive);
    d.client("PORT 198,51,100,7,19,137\r\n");
    d.server(OK_227);
    d.ended(End::DialFailed(Leg::Server));
    d.forget();
    d.client("RETR a\r\n");
    d.server("150 x\r\n425 y\r\n");
    assert_eq!((d.client_got(), d.deeds()), ("150 x\n425 y\n".into(), vec!["transferred Some(Retr) Some(425)".into()]));
}

#[test]
fn stale_ids_are_ignored() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server(OK_227);
    let old = d.id();
    d.client("PASV\r\n");
    d.server(OK_227);
    d.client("RETR a\r\n");
    d.server("150 x\r\n226 y\r\n");
    d.forget();
    d.event(Event::ChannelFlushed { id: old, leg: Leg::Client });
    d.channel_ended(old, End::Complete);
    d.event(Event::PortRefused { id: old, leg: Leg::Client, lacks: Lack::Port });
    d.event(Event::PortBound { id: old, leg: Leg::Client, at: crate::driver::announced(old, Leg::Client) });
    assert_eq!((d.client_got(), d.server_got(), d.deeds()), (String::new(), String::new(), vec![]));
    d.flushed(Leg::Client);
    assert_eq!(d.client_got(), "226 y\n");
}

#[test]
fn rein_drops_the_offer_and_the_name() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server(OK_227);
    d.client("REIN\r\n");
    d.forget();
    d.server("120 wait\r\n");
    assert_eq!(d.deeds(), [""; 0]);
    d.server("220 again\r\n");
    assert_eq!((d.deeds(), d.session.user()), (vec!["close 1".to_owned()], None));
}
