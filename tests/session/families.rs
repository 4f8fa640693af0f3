//! IPv6 clients before an IPv4 server (RFC 6384), and the reverse.

use ftp_alg::addr::{Family, Leg};
use ftp_alg::nat::DataMode::{self, Active, Passive, Same};
use ftp_alg::session::{Action, ClientTls, Event, Lack, Notice, Terminate};

use crate::driver::{CLIENT, CLIENT_V6, Driver, SERVER, SERVER_V6, settings};

const MODES: [DataMode; 3] = [Same, Passive, Active];
const OK_227: &str = "227 Entering Passive Mode (172,16,0,20,19,137).\r\n";
const OK_229: &str = "229 Entering Extended Passive Mode (|||5001|)\r\n";
const EPRT: &str = "EPRT |2|2001:db8::7|5001|\r\n";
const PORT: &str = "PORT 198,51,100,7,19,137\r\n";

/// An IPv6 client before an IPv4 server.
fn mixed(mode: DataMode) -> Driver {
    Driver::between(mode, CLIENT_V6, SERVER)
}

/// An IPv4 client before an IPv6 server.
fn reverse(mode: DataMode) -> Driver {
    Driver::between(mode, CLIENT, SERVER_V6)
}

#[test]
fn rfc_20_an_ipv4_server_hears_pasv_and_port_only() {
    for (mode, command, sent) in [
        (Same, "EPSV\r\n", "PASV\n"),
        (Same, "EPSV 2\r\n", "PASV\n"),
        (Same, EPRT, "PORT 172,16,0,10,117,49\n"),
        (Passive, "EPSV\r\n", "PASV\n"),
        (Passive, EPRT, "PASV\n"),
        (Active, "EPSV\r\n", "PORT 172,16,0,10,117,49\n"),
        (Active, EPRT, "PORT 172,16,0,10,117,49\n"),
    ] {
        let mut d = mixed(mode);
        let answer = if command == EPRT {
            "200 PORT command successful.\n"
        } else {
            "229 Entering Extended Passive Mode (|||20001|)\n"
        };
        d.client(command);
        if mode == Active {
            told_with_the_transfer(&mut d, answer, sent);
            continue;
        }
        assert_eq!((d.server_got().as_str(), d.client_got().as_str()), (sent, ""), "{mode:?} {command}");
        d.server(if sent == "PASV\n" { OK_227 } else { "200 PORT command successful.\r\n" });
        assert_eq!(d.client_got(), answer, "{mode:?} {command}");
    }
}

/// `data_mode: active`: the client has its answer at once, and the server hears of it right before the transfer.
fn told_with_the_transfer(d: &mut Driver, answer: &str, sent: &str) {
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("", answer));
    d.client("LIST\r\n");
    let told = d.server_got();
    assert!(told.starts_with(sent), "{told}");
    d.server("200 it is told\r\n");
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("LIST\n", ""));
}

#[test]
fn rfc_20_an_ipv6_server_hears_epsv_and_eprt_only() {
    for (mode, command, sent) in [
        (Same, "PASV\r\n", "EPSV\n"),
        (Same, "EPSV 1\r\n", "EPSV\n"),
        (Same, PORT, "EPRT "),
        (Same, "EPRT |1|198.51.100.7|5001|\r\n", "EPRT "),
        (Passive, PORT, "EPSV\n"),
        (Active, "PASV\r\n", "EPRT "),
    ] {
        let mut d = reverse(mode);
        d.client(command);
        if mode == Active {
            told_with_the_transfer(&mut d, "227 Entering Passive Mode (203,0,113,10,78,33).\n", sent);
            continue;
        }
        assert!(d.server_got().starts_with(sent), "{mode:?} {command}");
        d.server(if sent == "EPSV\n" { OK_229 } else { "200 EPRT command successful.\r\n" });
        let answer = match &command[..4] {
            "PASV" => "227 Entering Passive Mode (203,0,113,10,78,33).\n",
            "EPSV" => "229 Entering Extended Passive Mode (|||20001|)\n",
            // The verb is the client's, and so is its reply.
            "EPRT" => "200 EPRT command successful.\n",
            _ => "200 PORT command successful.\n",
        };
        assert_eq!(d.client_got(), answer, "{mode:?} {command}");
    }
}

#[test]
fn rfc_20_the_address_in_the_227_is_ignored() {
    let mut d = mixed(Same);
    d.client("EPSV\r\n");
    d.server("227 Entering Passive Mode (10,0,0,9,19,137).\r\n");
    assert_eq!(d.deeds(), ["bind 1 client", "dial 1 server 172.16.0.20:5001"]);
}

/// The refusal of a command that the client never sent is put into the client's terms.
#[test]
fn rfc_20_a_refused_substitute_is_425_or_501() {
    for (command, answer) in
        [("EPSV\r\n", "425 Cannot open data connection.\n"), (EPRT, "501 Server refuses the data connection.\n")]
    {
        let mut d = mixed(Same);
        d.client(command);
        d.server("502 what\r\n");
        assert_eq!(d.client_got(), answer);
        let mut d = mixed(Same);
        d.client(command);
        d.server("530 Please login.\r\n");
        assert_eq!(d.client_got(), "530 Please login.\n");
    }
}

#[test]
fn rfc_20_epsv_with_another_number_is_522_and_not_forwarded() {
    let mut d = mixed(Same);
    for wrong in ["1", "3", "22"] {
        d.client(format!("EPSV {wrong}\r\n"));
        assert_eq!(d.client_got(), "522 Network protocol not supported, use (2)\n");
    }
    assert_eq!((d.server_got(), d.deeds()), (String::new(), vec![]));
}

/// RFC 6384 §4 would have a 504. We can do what the client wants: 200, and it is kept until REIN.
#[test]
fn rfc_20_epsv_all_is_not_forwarded_and_enforced() {
    for mode in MODES {
        let mut d = mixed(mode);
        d.client("EPSV ALL\r\nPASV\r\n");
        d.client(EPRT);
        let refusal = "501 Only EPSV is allowed after EPSV ALL.\n";
        assert_eq!(d.client_got(), format!("200 EPSV ALL command successful.\n{refusal}{refusal}"));
        d.client("ABOR\r\n");
        d.server("225 x\r\n");
        d.client("PASV\r\n");
        assert_eq!(d.server_got(), "ABOR\n");
        d.client("EPSV\r\n");
        if mode == Active {
            d.client("LIST\r\n");
        }
        assert_eq!(d.server_got(), if mode == Active { "PORT 172,16,0,10,117,49\n" } else { "PASV\n" });
        d.server("500 x\r\n");
        d.client("REIN\r\n");
        d.server("220 x\r\n");
        d.forget();
        d.client(EPRT);
        if mode == Active {
            d.client("LIST\r\n");
        }
        assert_ne!(d.server_got(), "", "REIN ends it");
    }
}

#[test]
fn rfc_21_eprt_is_for_the_clients_own_address() {
    let answer = |command: &str| {
        let mut d = mixed(Same);
        d.client(command);
        assert_eq!(d.server_got(), "", "{command}");
        assert!(matches!(d.notices()[..], [Notice::Refused(_)]), "{command}");
        d.client_got()
    };
    assert_eq!(answer("EPRT |2|2001:db8::8|5001|\r\n"), "501 Illegal PORT address.\n");
    assert_eq!(answer("EPRT |2|2001:db8::7|80|\r\n"), "501 Illegal PORT address.\n");
    // It has no such address; if it means one that it has beside, nobody knows that.
    assert_eq!(answer("EPRT |1|198.51.100.7|5001|\r\n"), "522 Network protocol not supported, use (2)\n");
    assert_eq!(answer("PORT 198,51,100,7,19,137\r\n"), "501 Illegal PORT address.\n");
    let mut d = mixed(Same);
    d.client(EPRT);
    assert_eq!(d.deeds(), ["bind 1 server", "dial 1 client [2001:db8::7]:5001"]);
}

#[test]
fn rfc_21_the_port_is_open_before_the_server_hears_of_it() {
    let mut d = mixed(Same);
    d.binds = false;
    d.client(EPRT);
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("", ""));
    d.bound(Leg::Server);
    assert_eq!(d.server_got(), "PORT 172,16,0,10,117,49\n");
}

/// Blind means blind: nothing of the TLS between the peers is an option.
#[test]
fn rfc_22_options_pass_once_auth_has_been_accepted() {
    for (reply, refused) in [("234 go\r\n", false), ("502 no\r\n", true)] {
        let mut settings = settings(Same);
        settings.tls.client = ClientTls::Passthrough;
        let mut d = Driver::unconnected(settings, CLIENT_V6);
        d.connect(SERVER);
        d.server("220 x\r\n");
        d.client("AUTH TLS\r\n");
        d.server(reply);
        d.forget();
        d.client(b"\xff\xfd\x01\r\n");
        d.server(b"\xff\xfb\x01\r\n");
        let passed = (r"\xff\xfb\x01".to_owned() + "\n", r"\xff\xfd\x01".to_owned() + "\n");
        let kept = (r"\xff\xfc\x01".to_owned() + "\n", "\n".to_owned() + r"\xff\xfe\x01");
        assert_eq!((d.client_got(), d.server_got()), if refused { kept } else { passed });
    }
}

#[test]
fn rfc_23_options_are_refused_to_either_side() {
    for mut d in [mixed(Same), reverse(Active)] {
        d.client(b"\xff\xfd\x01\xff\xfb\x03");
        assert_eq!((d.client_got().as_str(), d.server_got().as_str()), (r"\xff\xfc\x01\xff\xfe\x03", ""));
        d.client(b"\xff\xfe\x01\xff\xfc\x03NOOP\r\n");
        assert_eq!((d.client_got().as_str(), d.server_got().as_str()), ("", "NOOP\n"));
        d.server(b"\xff\xfb\x01200 ok\r\n\xff\xfd\x18");
        assert_eq!((d.client_got().as_str(), d.server_got().as_str()), ("200 ok\n", r"\xff\xfe\x01\xff\xfc\x18"));
    }
}

/// Behind the first word 0xFF is a letter: `я` in CP1251, and part of no UTF-8 or GBK.
#[test]
fn rfc_23_names_pass() {
    let names = ["я \u{4e0a}\u{4f20}".as_bytes(), b"\xff\xfb\xff\xfd.txt", b"\xff\xff\xfb", b"\xc9\xcf\xb4\xab"];
    for mut d in [mixed(Same), reverse(Same)] {
        for name in names {
            let command = [b"CWD ", name, b"\r\n"].concat();
            let reply = [b"250 ", name, b"\r\n"].concat();
            d.client(&command);
            assert_eq!(d.sent_raw(Leg::Server), command);
            d.server(&reply);
            assert_eq!(d.sent_raw(Leg::Client), reply);
        }
    }
}

#[test]
fn rfc_23_between_equal_families_telnet_bytes_pass() {
    for mut d in [Driver::new(Same), Driver::v6(Same)] {
        d.client(b"\xff\xfd\x01NOOP\r\n");
        d.server(b"\xff\xfb\x01200 ok\r\n");
        assert_eq!(d.sent_raw(Leg::Server), b"\xff\xfd\x01NOOP\r\n");
        assert_eq!(d.sent_raw(Leg::Client), b"\xff\xfb\x01200 ok\r\n");
    }
}

/// A client may speak before the server has been reached: only then is the server's family known.
#[test]
fn rfc_23_options_sent_before_the_server_is_there() {
    for (server, answer, sent) in
        [(SERVER, r"\xff\xfc\x01\xff\xfc\x02", "NOOP\nNOOP\n"), (SERVER_V6, "", r"\xff\xfd\x01NOOP!\xff\xfd\x02NOOP!")]
    {
        let mut d = Driver::unconnected(settings(Same), CLIENT_V6);
        d.client(b"\xff\xfd\x01NOOP\r\n\xff\xfd\x02NO");
        d.connect(server);
        d.client(b"OP\r\n");
        assert_eq!((d.client_got(), d.server_got()), (answer.to_owned(), sent.replace('!', "\n")));
    }
}

/// An answer of ours stands between the server's lines, not within one.
#[test]
fn rfc_23_a_refusal_waits_for_the_end_of_a_reply() {
    let mut d = mixed(Same);
    d.client("STAT\r\n");
    d.server("211-first\r\n");
    d.client(b"\xff\xfd\x06");
    assert_eq!(d.client_got(), "211-first\n");
    d.server(" inner\r\n211 last\r\n");
    assert_eq!(d.client_got(), " inner\n211 last\n".to_owned() + r"\xff\xfc\x06");
}

#[test]
fn rfc_23_urgent_commands_keep_their_synch() {
    let mut d = mixed(Same);
    d.client_urgent(b"\xff\xf4\xff\xfd\x06\xff\xf2ABOR\r\n");
    assert_eq!(d.sent_raw(Leg::Server), b"\xff\xf4\xff\xf2ABOR\r\n");
    assert_eq!(d.deeds(), [r"urgent to server: \xff\xf4\xff"]);
}

#[test]
fn rfc_24_epsv_then_eprt_are_translated_as_they_come() {
    let mut d = mixed(Same);
    d.client("EPSV\r\n");
    d.server(OK_227);
    d.client(EPRT);
    d.server("200 ok\r\n");
    d.client("RETR a\r\n");
    assert_eq!(d.server_got(), "PASV\nPORT 172,16,0,10,117,50\nRETR a\n");
    let deeds = d.deeds();
    assert_eq!(deeds[2..], ["close 1", "bind 2 server", "dial 2 client [2001:db8::7]:5001"]);
}

#[test]
fn rfc_25_algs_tells_and_switches() {
    for (mode, off) in [(Same, "216 NONE\n"), (Passive, "216 EPSVEPRT\n"), (Active, "216 EPSVEPRT\n")] {
        let mut d = mixed(mode);
        for (argument, answer) in [
            ("STATUS64", "216 EPSVEPRT\n"),
            ("disable64", off),
            ("STATUS64", off),
            ("ENABLE64", "216 EPSVEPRT\n"),
            ("STATUS64", "216 EPSVEPRT\n"),
            ("x", "504 Unknown ALGS parameter, use STATUS64, ENABLE64 or DISABLE64.\n"),
            ("", "504 Unknown ALGS parameter, use STATUS64, ENABLE64 or DISABLE64.\n"),
            ("STATUS64 ENABLE64", "504 Unknown ALGS parameter, use STATUS64, ENABLE64 or DISABLE64.\n"),
        ] {
            d.client(format!("ALGS {argument}\r\n"));
            assert_eq!(d.client_got(), answer, "{mode:?} {argument}");
        }
        assert_eq!(d.server_got(), "");
    }
}

/// The verbs go as they are, and mean what they meant; the addresses are ours as ever.
#[test]
fn rfc_25_what_is_switched_off_is_still_watched() {
    let mut d = mixed(Same);
    d.client("ALGS DISABLE64\r\n");
    d.forget();
    d.client("EPSV\r\n");
    d.server(OK_229);
    assert_eq!(
        (d.server_got().as_str(), d.client_got().as_str()),
        ("EPSV\n", "229 Entering Extended Passive Mode (|||20001|)\n")
    );
    assert_eq!(d.deeds(), ["bind 1 client", "dial 1 server 172.16.0.20:5001"]);
    d.client(EPRT);
    assert_eq!(d.server_got(), "EPRT |1|172.16.0.10|30002|\n");
    d.server("500 what\r\n");
    assert_eq!(d.client_got(), "500 what\n");
    d.client("EPRT |2|2001:db8::8|5001|\r\n");
    assert_eq!(d.client_got(), "501 Illegal PORT address.\n");
    // The server's answer is what the client asked for: no PASV in place of EPSV.
    d.client("EPSV\r\n");
    d.server("500 no EPSV\r\n");
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("EPSV\n", "500 no EPSV\n"));
    d.client("EPSV ALL\r\n");
    d.server("502 no\r\n");
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("EPSV ALL\n", "502 no\n"));
    d.client(b"\xff\xfd\x01");
    assert_eq!(d.client_got(), r"\xff\xfc\x01");
    d.client("ALGS ENABLE64\r\nEPSV\r\n");
    assert_eq!(d.server_got(), "PASV\n");
}

#[test]
fn rfc_25_rein_switches_it_on_again() {
    let mut d = mixed(Same);
    d.client("ALGS DISABLE64\r\nREIN\r\n");
    d.server("220 x\r\n");
    d.client("EPSV\r\n");
    assert_eq!(d.server_got(), "REIN\nPASV\n");
}

/// What "64" names is not there: the command is the server's, as any that we do not know.
#[test]
fn rfc_25_elsewhere_algs_is_the_servers() {
    for mut d in [Driver::new(Same), Driver::v6(Same), reverse(Same)] {
        d.client("ALGS STATUS64\r\n");
        d.server("502 what\r\n211-x\r\n");
        d.client("FEAT\r\n");
        d.server("211-y\r\n EPSV\r\n211 end\r\n");
        assert!(d.client_got().starts_with("502 what\n"));
        assert_eq!(d.server_got(), "ALGS STATUS64\nFEAT\n");
    }
}

#[test]
fn rfc_25_feat_lists_algs() {
    let listed = |change: fn(&mut ftp_alg::session::Settings), reply: &str| {
        let mut settings = settings(Same);
        change(&mut settings);
        let mut d = Driver::unconnected(settings, CLIENT_V6);
        d.connect(SERVER);
        d.server("220 x\r\n");
        d.forget();
        d.client("FEAT\r\n");
        d.server(reply);
        d.client_got()
    };
    let list = "211-Features:\r\n EPSV\r\n AUTH TLS\r\n211 End\r\n";
    assert_eq!(listed(|_| {}, list), "211-Features:\n EPSV\n ALGS\n211 End\n");
    assert_eq!(listed(|_| {}, "211 no features\r\n"), "211-Extensions supported:\n ALGS\n211 End\n");
    assert_eq!(listed(|_| {}, "500 what\r\n"), "500 what\n", "a server without FEAT has none");
    assert_eq!(listed(|_| {}, "500-what\r\n500 end\r\n"), "500-what\n500 end\n");
    let passed: fn(&mut ftp_alg::session::Settings) = |s| s.tls.client = ClientTls::Passthrough;
    assert_eq!(listed(passed, list), "211-Features:\n EPSV\n AUTH TLS\n ALGS\n211 End\n");
    let ended: fn(&mut ftp_alg::session::Settings) = |s| s.tls.client = ClientTls::Terminate(Terminate::default());
    assert_eq!(listed(ended, list), "211-Features:\n EPSV\n AUTH TLS\n PBSZ\n PROT\n ALGS\n211 End\n");
    let denied: fn(&mut ftp_alg::session::Settings) = |s| s.denied = vec!["ALGS".parse().unwrap()];
    assert_eq!(listed(denied, list), "211-Features:\n EPSV\n211 End\n");
}

/// A command that we answer ourselves never reaches the server, and its answer comes in its turn; so no reply of the
/// server can be taken for it, and no NOOP has to stand in.
#[test]
fn rfc_26_what_is_swallowed_leaves_no_trace() {
    let mut d = mixed(Same);
    d.client("NOOP\r\nEPSV ALL\r\nALGS STATUS64\r\nPWD\r\n");
    assert_eq!((d.server_got().as_str(), d.client_got().as_str()), ("NOOP\nPWD\n", ""));
    d.server("500 NOOP is not known\r\n257 / is it\r\n");
    assert_eq!(d.client_got(), "500 NOOP is not known\n200 EPSV ALL command successful.\n216 EPSVEPRT\n257 / is it\n");
}

#[test]
fn rfc_26_the_reply_to_a_substitute_never_reaches_the_client() {
    let mut d = mixed(Passive);
    d.client(EPRT);
    d.server("227-secret (172,16,0,20,19,137)\r\n227 end\r\n");
    assert_eq!(d.client_got(), "200 PORT command successful.\n");
    let mut d = mixed(Active);
    d.client("EPSV\r\nLIST\r\n");
    d.server("200 PORT 172,16,0,10,117,49 it is\r\n");
    assert_eq!(d.client_got(), "229 Entering Extended Passive Mode (|||20001|)\n");
}

/// Which family's address a peer is told; the shell chooses it.
#[test]
fn rfc_21_what_carries_an_address_carries_one_that_its_reader_can_use() {
    let (v4, v6) = (Some(Family::V4), Some(Family::V6));
    for (mut d, command, expected) in [
        (mixed(Same), "EPSV\r\n", vec![(Leg::Client, None)]),
        (mixed(Same), "PASV\r\n", vec![(Leg::Client, v4)]),
        (mixed(Same), EPRT, vec![(Leg::Server, v4)]),
        (mixed(Active), "EPSV\r\nLIST\r\n", vec![(Leg::Client, None), (Leg::Server, v4)]),
        (reverse(Same), "PASV\r\n", vec![(Leg::Client, v4)]),
        (reverse(Same), PORT, vec![(Leg::Server, v6)]),
        (Driver::v6(Same), EPRT, vec![(Leg::Server, v6)]),
        (Driver::new(Same), "EPRT |1|198.51.100.7|5001|\r\n", vec![(Leg::Server, v4)]),
    ] {
        d.client(command);
        let bind = |action: &Action| {
            if let Action::Bind { leg, carries, .. } = action { Some((*leg, *carries)) } else { None }
        };
        let found: Vec<_> = d.take_actions().iter().filter_map(bind).collect();
        assert_eq!(found, expected, "{command}");
    }
}

#[test]
fn pasv_is_for_clients_that_can_be_told_an_ipv4_address() {
    let mut d = mixed(Same);
    d.binds = false;
    d.client("PASV\r\n");
    let id = d.id();
    d.event(Event::PortRefused { id, leg: Leg::Client, lacks: Lack::Family });
    assert_eq!(d.client_got(), "425 PASV cannot carry an IPv6 address, use EPSV.\n");
    assert_eq!((d.server_got(), d.deeds()), (String::new(), vec!["bind 1 client".into(), "close 1".into()]));
    let mut d = mixed(Same);
    d.client("PASV\r\n");
    assert_eq!(d.server_got(), "PASV\n");
    d.server(OK_227);
    assert_eq!(d.client_got(), "227 Entering Passive Mode (203,0,113,10,78,33).\n");
}

#[test]
fn a_server_that_can_be_told_no_address_of_its_family() {
    for (mode, command) in [(Same, PORT), (Active, "PASV\r\n")] {
        let mut d = reverse(mode);
        d.binds = false;
        d.client(command);
        let id = d.id();
        d.event(Event::PortRefused { id, leg: Leg::Server, lacks: Lack::Family });
        let answer = "425 Cannot open data connection: no address is configured that the server could use.\n";
        assert_eq!((d.client_got().as_str(), d.server_got().as_str()), (answer, ""));
    }
}
