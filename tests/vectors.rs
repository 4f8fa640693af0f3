//! Lines that real servers and clients were seen to send, with what they mean and what the other side gets.
//!
//! They are numbered, so that [`no_vector_is_missing`] can tell whether one got lost. The comments name the sources;
//! lines without one are from captures or made after a documented form.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use ftp_alg::addr::{Announced, Claimed, Family};
use ftp_alg::ftp::command::{Command, CommandError, CommandLine, EpsvArgument, LineError};
use ftp_alg::ftp::host_port::{write_eprt, write_port};
use ftp_alg::ftp::line::{LineSplitter, MAX_LINE, Piece};
use ftp_alg::ftp::reply::{ReplyFramer, ReplyLine, extended, passive, write_227, write_229};

/// What is announced in the rewritten lines: 20017 is 78 × 256 + 49.
fn to() -> Announced {
    Announced::new(Ipv4Addr::new(203, 0, 113, 10).into(), 20017)
}

const CANONICAL_227: &[u8] = b"227 Entering Passive Mode (203,0,113,10,78,49).\r\n";
const CANONICAL_229: &[u8] = b"229 Entering Extended Passive Mode (|||20017|)\r\n";

fn claimed(text: &str) -> Claimed {
    let address: std::net::SocketAddr = text.parse().expect("an address in the table");
    Claimed::new(address.ip(), address.port())
}

/// The lines of a stream, as the splitter gives them out.
fn lines(mut stream: &[u8]) -> Vec<Bytes> {
    let mut splitter = LineSplitter::default();
    let mut lines = Vec::new();
    while let Some(piece) = splitter.next(&mut stream) {
        match piece {
            Piece::Line(line) => lines.push(line),
            Piece::Overlong { .. } | Piece::Option(_) => panic!("an overlong line in the table"),
        }
    }
    assert!(!splitter.is_mid_line(), "a line without its end in the table");
    lines
}

fn line(stream: &[u8]) -> Bytes {
    let [line] = lines(stream).try_into().expect("one line in the table");
    line
}

fn command_line(stream: &[u8]) -> CommandLine {
    CommandLine::new(line(stream)).expect("a line without control bytes")
}

/// Number, line, the address in it, the 227 made of it.
type Passive = (u8, &'static [u8], &'static str, &'static [u8]);

const PASSIVE: &[Passive] = &[
    // IIS
    (
        1,
        b"227 Entering Passive Mode (192,168,253,245,192,211).\r\n",
        "192.168.253.245:49363",
        b"227 Entering Passive Mode (203,0,113,10,78,49).\r\n",
    ),
    // Serv-U: no period
    (
        2,
        b"227 Entering Passive Mode (172,20,1,6,195,80)\r\n",
        "172.20.1.6:50000",
        b"227 Entering Passive Mode (203,0,113,10,78,49)\r\n",
    ),
    // NetBSD
    (
        3,
        b"227 Entering Passive Mode (199,233,217,249,221,90)\r\n",
        "199.233.217.249:56666",
        b"227 Entering Passive Mode (203,0,113,10,78,49)\r\n",
    ),
    (
        4,
        b"227 Entering Passive Mode (205,167,25,101,243,251).\r\n",
        "205.167.25.101:62459",
        b"227 Entering Passive Mode (203,0,113,10,78,49).\r\n",
    ),
    (
        5,
        b"227 Entering Passive Mode (164,107,123,6,183,187)\r\n",
        "164.107.123.6:47035",
        b"227 Entering Passive Mode (203,0,113,10,78,49)\r\n",
    ),
    (
        6,
        b"227 Entering Passive Mode (10,220,50,76,64,155).\r\n",
        "10.220.50.76:16539",
        b"227 Entering Passive Mode (203,0,113,10,78,49).\r\n",
    ),
    // pyftpdlib
    (
        7,
        b"227 Entering passive mode (172,23,0,2,82,16).\r\n",
        "172.23.0.2:21008",
        b"227 Entering passive mode (203,0,113,10,78,49).\r\n",
    ),
    // Freebox
    (8, b"227 (212,27,40,254,15,161)\r\n", "212.27.40.254:4001", b"227 (203,0,113,10,78,49)\r\n"),
    // sys-ftpd
    (9, b"227 192,168,178,39,184,244\r\n", "192.168.178.39:47348", CANONICAL_227),
    // aioftp
    (11, b"227 (0,0,0,0,137,217)\r\n", "0.0.0.0:35289", b"227 (203,0,113,10,78,49)\r\n"),
    // curl's tests
    (12, b"227 Data transfer will passively listen to 127,0,0,1,4,51\r\n", "127.0.0.1:1075", CANONICAL_227),
    (13, b"227 Entering passive mode. 127,0,0,1,4,51\r\n", "127.0.0.1:1075", CANONICAL_227),
    // the form that D. J. Bernstein recommends
    (14, b"227 =127,0,0,1,4,51\r\n", "127.0.0.1:1075", CANONICAL_227),
    (15, b"227 Entering Passive Mode. A=127,0,0,1,4,51\r\n", "127.0.0.1:1075", CANONICAL_227),
    // CH579
    (
        16,
        b"227 Entering Passive Mode(127,0,0,1,4,51)\r\n",
        "127.0.0.1:1075",
        b"227 Entering Passive Mode(203,0,113,10,78,49)\r\n",
    ),
    // zero-padded is decimal, not octal
    (
        17,
        b"227 Entering Passive Mode (127,000,000,001,004,051)\r\n",
        "127.0.0.1:1075",
        b"227 Entering Passive Mode (203,0,113,10,78,49)\r\n",
    ),
    // wget and ftplib fail on these spaces: not kept
    (18, b"227 Entering Passive Mode (127, 0, 0, 1, 4, 51)\r\n", "127.0.0.1:1075", CANONICAL_227),
    (
        19,
        b"227 FTP2 server 15.1 passive (127,0,0,1,4,51)\r\n",
        "127.0.0.1:1075",
        b"227 FTP2 server 15.1 passive (203,0,113,10,78,49)\r\n",
    ),
    (20, b"227 Entering Passive Mode (127,0,0,1,4,51) [10,0,0,1,2,3]\r\n", "127.0.0.1:1075", CANONICAL_227),
    (
        21,
        b"227 Entering Passive Mode (127,0,0,1,4,51)\n",
        "127.0.0.1:1075",
        b"227 Entering Passive Mode (203,0,113,10,78,49)\n",
    ),
    // GBK
    (
        22,
        b"227 \xbd\xf8\xc8\xeb (127,0,0,1,4,51)\r\n",
        "127.0.0.1:1075",
        b"227 \xbd\xf8\xc8\xeb (203,0,113,10,78,49)\r\n",
    ),
    // a server behind another address than the one it was reached by
    (
        23,
        b"227 Entering Passive Mode (204,244,102,23,117,115)\r\n",
        "204.244.102.23:30067",
        b"227 Entering Passive Mode (203,0,113,10,78,49)\r\n",
    ),
    // the port is the policy's to refuse
    (36, b"227 Portscan (127,0,0,1,0,22)\r\n", "127.0.0.1:22", b"227 Portscan (203,0,113,10,78,49)\r\n"),
];

/// 227s in which there is no address.
const NOT_PASSIVE: &[(u8, &[u8])] = &[
    (27, b"227 Logout.\r\n"),
    (28, b"227 Missing IP\r\n"),
    (29, b"227 Response to PASV command\r\n"),
    (30, b"227 Entering Passive Mode (\r\n"),
    (31, b"227 Entering Passive Mode (192,168,1,100,229)\r\n"),
    (32, b"227 Entering Passive Mode (1216,256,2,127,127,127)\r\n"),
    (33, b"227 Portscan (127,0,0,\r\n"),
    (34, b"227 Portscan (127,0,0,1,256,100)\r\n"),
    (35, b"227 Portscan (127,0,0,1,-100,100)\r\n"),
    (37, b"227 Entering Passive Mode (1127,0,0,1,4,51)\r\n"),
];

/// Lines that answer EPSV or look so: number, line, port, the 229 made of it.
const EXTENDED: &[(u8, &[u8], u16, &[u8])] = &[
    // IIS
    (
        39,
        b"229 Entering Extended Passive Mode (|||49403|)\r\n",
        49403,
        b"229 Entering Extended Passive Mode (|||20017|)\r\n",
    ),
    // Serv-U 15.1.3.3
    (
        40,
        b"229 Entering Extended Passive Mode (|||50006|).\r\n",
        50006,
        b"229 Entering Extended Passive Mode (|||20017|).\r\n",
    ),
    // Pure-FTPd
    (41, b"229 Extended Passive mode OK (|||47730|)\r\n", 47730, b"229 Extended Passive mode OK (|||20017|)\r\n"),
    // Apache FtpServer
    (42, b"229 Entering Passive Mode (|||12000|)\r\n", 12000, b"229 Entering Passive Mode (|||20017|)\r\n"),
    // IBM i: FileZilla takes no other delimiter than `|`
    (43, b"229 Entering Extended Passive Mode (!!!6446!)\r\n", 6446, CANONICAL_229),
    // Chromium's tests: under the wrong code
    (44, b"227 Portscan ($$$31744$)\r\n", 31744, CANONICAL_229),
    (
        45,
        b"229 Entering Extended Passive Mode. (|||1031|)\r\n",
        1031,
        b"229 Entering Extended Passive Mode. (|||20017|)\r\n",
    ),
    // aria2's tests; aria2 itself rejects this one
    (49, b"229 Success )(|||12000|)\r\n", 12000, b"229 Success )(|||20017|)\r\n"),
];

/// 229s in which there is no port.
const NOT_EXTENDED: &[(u8, &[u8])] = &[
    (46, b"229 Entering Passive Mode (|||1000000|)\r\n"),
    // 2^32 + 6000
    (47, b"229 x (|||4294973296|)\r\n"),
    (48, b"229 Success |||12000|)\r\n"),
    (50, b"229 Success )(||12000|)\r\n"),
    // CEPR, an extension of lftp and others: RFC 2428 has the first two fields empty
    (51, b"229 x (|2|::1|31744|)\r\n"),
    (52, b"229 x (!!6446!)\r\n"),
];

/// PORT and EPRT: number, line, the address.
const ADDRESSES: &[(u8, &[u8], &str)] = &[
    (53, b"PORT 192,168,0,3,19,243\r\n", "192.168.0.3:5107"),
    (54, b"PORT 192,168,0,100,217,150\r\n", "192.168.0.100:55702"),
    (55, b"PORT 192,168,3,30,19,237\r\n", "192.168.3.30:5101"),
    // bounces and port 0: the policy's to refuse
    (56, b"PORT 2,2,2,3,0,80\r\n", "2.2.2.3:80"),
    (57, b"PORT 127,0,0,1,0,0\r\n", "127.0.0.1:0"),
    (60, b"PORT 127, 0, 0, 1, 20, 20\r\n", "127.0.0.1:5140"),
    (61, b"PORT  127,000,000,001,020,020\r\n", "127.0.0.1:5140"),
    (62, b"PORT 127,0,0,1,20,20,\r\n", "127.0.0.1:5140"),
    (64, b"EPRT |1|127.0.0.1|34833|\r\n", "127.0.0.1:34833"),
    (65, b"EPRT |2|2001:470:1f11:81f:c999:d94:aa7c:2e3e|49190|\r\n", "[2001:470:1f11:81f:c999:d94:aa7c:2e3e]:49190"),
    (66, b"EPRT !1!127.0.0.1!5140!\r\n", "127.0.0.1:5140"),
];

const NO_ADDRESS: &[(u8, &[u8])] = &[
    // would wrap to port 22
    (58, b"PORT 10,0,1,2,256,22\r\n"),
    (59, b"PORT 1234\r\n"),
    (59, b"PORT 114,115\r\n"),
    // vsftpd answers 500 to this
    (63, b"PORT (127,0,0,1,20,20)\r\n"),
];

/// Other commands: number, line, meaning, the line that is sent on.
const COMMANDS: &[(u8, &[u8], Command<'_>, &[u8])] = &[
    (67, b"LPRT 4,4,127,0,0,1,2,20,20\r\n", Command::LongAddress, b"LPRT 4,4,127,0,0,1,2,20,20\r\n"),
    (68, b"P@SW\r\n", Command::Pasv, b"P@SW\r\n"),
    (69, b"\xff\xf4\xff\xf2ABOR\r\n", Command::Abor, b"\xff\xf4\xff\xf2ABOR\r\n"),
    (70, b"PASV\r\r\n", Command::Pasv, b"PASV\r\n"),
    (70, b"PASV\n", Command::Pasv, b"PASV\r\n"),
    (70, b"pasv\r\n", Command::Pasv, b"pasv\r\n"),
];

/// Vectors of more than one line, of another command's reply, or without an end: each has a test of its own.
const APART: &[u8] = &[10, 24, 25, 26, 38];

#[test]
fn no_vector_is_missing() {
    let mut numbers: BTreeSet<u8> = APART.iter().copied().collect();
    numbers.extend(PASSIVE.iter().map(|vector| vector.0));
    numbers.extend(NOT_PASSIVE.iter().map(|vector| vector.0));
    numbers.extend(EXTENDED.iter().map(|vector| vector.0));
    numbers.extend(NOT_EXTENDED.iter().map(|vector| vector.0));
    numbers.extend(ADDRESSES.iter().map(|vector| vector.0));
    numbers.extend(NO_ADDRESS.iter().map(|vector| vector.0));
    numbers.extend(COMMANDS.iter().map(|vector| vector.0));
    assert_eq!(numbers, (1..=70).collect());
}

#[test]
fn rfc_03_passive_replies_are_read_and_rewritten() {
    for &(number, bytes, address, rewritten) in PASSIVE {
        let line = line(bytes);
        assert_eq!(passive(&line), Some(claimed(address)), "vector {number}");
        assert_eq!(extended(&line), None, "vector {number}");
        let got = write_227(Some(&line), to()).expect("an IPv4 address");
        assert_eq!(got.escape_ascii().to_string(), rewritten.escape_ascii().to_string(), "vector {number}");
    }
}

#[test]
fn rfc_03_replies_without_a_tuple_open_nothing() {
    for &(number, bytes) in NOT_PASSIVE {
        let line = line(bytes);
        assert_eq!(passive(&line), None, "vector {number}");
        assert_eq!(extended(&line), None, "vector {number}");
        // They pass as they are; the framer does not take them for anything else.
        assert!(matches!(ReplyFramer::default().classify(&line), ReplyLine::Single(code) if code.get() == 227));
    }
}

#[test]
fn rfc_03_five_or_seven_numbers_are_no_tuple() {
    for text in ["1,2,3,4,5", "1,2,3,4,5,6,7", "1, 2, 3, 4, 5, 6, 7", ",1,2,3,4,5,6", "-1,2,3,4,5,6", "1,2,3,,4,5,6"] {
        assert_eq!(passive(format!("227 Entering Passive Mode ({text})\r\n").as_bytes()), None, "{text}");
    }
    assert_eq!(passive(b"227 (1,2,3,4,5,6,)\r\n"), Some(claimed("1.2.3.4:1286")));
}

#[test]
fn vector_10_has_its_tuple_in_the_last_line() {
    let lines = lines(b"227-listen socket created\r\n227 (127,0,0,1,154,21)\r\n");
    let mut framer = ReplyFramer::default();
    assert!(matches!(framer.classify(&lines[0]), ReplyLine::Opening(code) if code.get() == 227));
    assert!(matches!(framer.classify(&lines[1]), ReplyLine::Closing(code) if code.get() == 227));
    assert_eq!(passive(&lines[0]), None);
    assert_eq!(passive(&lines[1]), Some(claimed("127.0.0.1:39445")));
    // One line is made of the whole reply, whichever of its lines is at hand.
    assert_eq!(write_227(Some(b"227-Passive (127,0,0,1,154,21)\r\n"), to()).as_deref(), Some(CANONICAL_227));
    assert_eq!(write_227(None, to()).as_deref(), Some(CANONICAL_227));
    assert_eq!(write_227(Some(b"200 Passive (127,0,0,1,154,21)\r\n"), to()).as_deref(), Some(CANONICAL_227));
}

/// 24, 25: the client asked with EPSV, so it gets a 229.
#[test]
fn vectors_24_25_answer_epsv_with_227() {
    for (bytes, address) in [
        (&b"227 Entering Passive Mode (91,190,231,97,119,66).\r\n"[..], "91.190.231.97:30530"),
        (b"227 Entering Passive Mode (91,220,214,97,201,133)\r\n", "91.220.214.97:51589"),
    ] {
        let line = line(bytes);
        assert_eq!((passive(&line), extended(&line)), (Some(claimed(address)), None));
        assert_eq!(write_229(Some(&line), 20017), CANONICAL_229);
    }
    // And the other way about: a 229 to PASV.
    let line = line(b"229 Entering Extended Passive Mode (|||49403|)\r\n");
    assert_eq!(write_227(Some(&line), to()).as_deref(), Some(CANONICAL_227));
}

#[test]
fn vector_26_comes_behind_a_reply_out_of_step() {
    let lines = lines(b"250 Directory successfully changed.\r\n227 Entering Passive Mode (92,53,68,202,39,116)\r\n");
    let mut framer = ReplyFramer::default();
    let codes = lines.iter().map(|line| match framer.classify(line) {
        ReplyLine::Single(code) => code.get(),
        other => panic!("{other:?}"),
    });
    assert_eq!(codes.collect::<Vec<_>>(), [250, 227]);
    assert_eq!(passive(&lines[0]), None);
    assert_eq!(passive(&lines[1]), Some(claimed("92.53.68.202:10100")));
    let rewritten: &[u8] = b"227 Entering Passive Mode (203,0,113,10,78,49)\r\n";
    assert_eq!(write_227(Some(&lines[1]), to()).as_deref(), Some(rewritten));
}

#[test]
fn sec_10_vector_38_streams_through_in_parts() {
    let stream = [b"227 ", &[b'A'; 40 * 1024][..], b"\r\n"].concat();
    let (mut rest, mut splitter, mut parts) = (&stream[..], LineSplitter::default(), Vec::new());
    while let Some(piece) = splitter.next(&mut rest) {
        let Piece::Overlong { bytes, first, last } = piece else { panic!("a whole line of 40 KiB") };
        assert!(bytes.len() <= MAX_LINE);
        assert_eq!(first, parts.is_empty());
        assert_eq!(last, bytes.ends_with(b"\n"));
        assert_eq!(passive(&bytes), None);
        parts.push(bytes);
    }
    assert_eq!(parts.concat(), stream);
}

#[test]
fn rfc_10_extended_replies_are_read_and_rewritten() {
    for &(number, bytes, port, rewritten) in EXTENDED {
        let line = line(bytes);
        assert_eq!(extended(&line), Some(Claimed::port_only(port)), "vector {number}");
        assert_eq!(passive(&line), None, "vector {number}");
        let got = write_229(Some(&line), 20017);
        assert_eq!(got.escape_ascii().to_string(), rewritten.escape_ascii().to_string(), "vector {number}");
    }
    // Two tuples, and one under a code that is not 229's: the words are not kept.
    let two = line(b"229 x (|||49403|) (|||49404|)\r\n");
    assert_eq!(extended(&two), Some(Claimed::port_only(49403)));
    assert_eq!(write_229(Some(&two), 20017), CANONICAL_229);
    assert_eq!(write_229(Some(b"200 x (|||49403|)\r\n"), 20017), CANONICAL_229);
    for &(number, bytes) in NOT_EXTENDED {
        assert_eq!(extended(&line(bytes)), None, "vector {number}");
        assert_eq!(passive(&line(bytes)), None, "vector {number}");
    }
}

#[test]
fn rfc_10_any_delimiter_from_33_to_126_but_a_digit() {
    for byte in 0..=255_u8 {
        let allowed = (33..=126).contains(&byte) && !byte.is_ascii_digit();
        let reply = [b"229 x (", &[byte; 3][..], b"6446", &[byte], b")\r\n"].concat();
        assert_eq!(extended(&reply).is_some(), allowed, "229 with {byte}");
        // In an address of IPv4 the dot is taken.
        let allowed = allowed && byte != b'.';
        let command = [b"EPRT ", &[byte][..], b"1", &[byte], b"127.0.0.1", &[byte], b"5140", &[byte]].concat();
        let parsed = CommandLine::new(command.into()).map(|line| line.parse().is_ok());
        assert_eq!(parsed == Ok(true), allowed, "EPRT with {byte}");
    }
}

#[test]
fn rfc_10_unknown_families_are_told_from_malformed_addresses() {
    let parse = |text: &str| CommandLine::new(text.to_owned().into()).expect("a line").parse().err();
    assert_eq!(parse("EPRT |3|127.0.0.1|5140|"), Some(CommandError::UnknownFamily));
    assert_eq!(parse("EPRT |4294967297|127.0.0.1|5140|"), Some(CommandError::UnknownFamily));
    for malformed in [
        "EPRT",
        "EPRT ",
        "EPRT |1|::1|5140|",
        "EPRT |2|127.0.0.1|5140|",
        "EPRT |1|127.0.0.1|5140",
        "EPRT |1|127.0.0.1|5140|x",
        "EPRT |1!127.0.0.1!5140!",
        "EPRT ||127.0.0.1|5140|",
        "EPRT |1|127.0.0.256|5140|",
        "EPRT |1|localhost|5140|",
        "EPRT (|1|127.0.0.1|5140|)",
    ] {
        assert_eq!(parse(malformed), Some(CommandError::BadHostPort), "{malformed}");
    }
}

#[test]
fn rfc_10_epsv_arguments() {
    for (text, argument) in [
        ("EPSV", EpsvArgument::None),
        ("epsv  ", EpsvArgument::None),
        ("EPSV 1", EpsvArgument::Family(Family::V4)),
        ("EPSV  2 ", EpsvArgument::Family(Family::V6)),
        ("EPSV 3", EpsvArgument::OtherFamily),
        ("EPSV 99999999999", EpsvArgument::OtherFamily),
        ("EPSV all", EpsvArgument::All),
        ("EPSV ALL ", EpsvArgument::All),
        ("EPSV ALLES", EpsvArgument::Malformed),
        ("EPSV 1x", EpsvArgument::Malformed),
        ("EPSV -1", EpsvArgument::Malformed),
        ("EPSV |1|", EpsvArgument::Malformed),
    ] {
        let line = CommandLine::new(text.into()).expect("a line");
        assert_eq!(line.parse(), Ok(Command::Epsv(argument)), "{text}");
    }
}

#[test]
fn port_and_eprt_name_an_address() {
    for &(number, bytes, address) in ADDRESSES {
        let (line, address) = (command_line(bytes), claimed(address));
        let expected = if bytes.starts_with(b"PORT") { Command::Port(address) } else { Command::Eprt(address) };
        assert_eq!(line.parse(), Ok(expected), "vector {number}");
    }
}

#[test]
fn port_and_eprt_are_written_anew() {
    let v6: IpAddr = "2001:db8::10".parse().expect("an address");
    let mapped: IpAddr = "::ffff:203.0.113.10".parse().expect("an address");
    assert_eq!(write_port(to()).as_deref(), Some(&b"PORT 203,0,113,10,78,49\r\n"[..]));
    assert_eq!(write_port(Announced::new(mapped, 20017)), write_port(to()));
    assert_eq!(write_port(Announced::new(v6, 20017)), None);
    assert_eq!(write_227(None, Announced::new(v6, 20017)), None);
    assert_eq!(write_eprt(to()), &b"EPRT |1|203.0.113.10|20017|\r\n"[..]);
    assert_eq!(write_eprt(Announced::new(v6, 20017)), &b"EPRT |2|2001:db8::10|20017|\r\n"[..]);
}

#[test]
fn sec_11_numbers_do_not_wrap() {
    for &(number, bytes) in NO_ADDRESS {
        assert_eq!(command_line(bytes).parse(), Err(CommandError::BadHostPort), "vector {number}");
    }
    // 65557 is 65536 + 21.
    assert_eq!(command_line(b"EPRT |1|127.0.0.1|65557|\r\n").parse(), Err(CommandError::BadHostPort));
    assert_eq!(command_line(b"PORT 127,0,0,1,0020,20\r\n").parse(), Err(CommandError::BadHostPort));
    let highest = Ok(Command::Port(claimed("127.0.0.1:65535")));
    assert_eq!(command_line(b"PORT 127,0,0,1,255,255\r\n").parse(), highest);
    let highest = Ok(Command::Eprt(claimed("127.0.0.1:65535")));
    assert_eq!(command_line(b"EPRT |1|127.0.0.1|65535|\r\n").parse(), highest);
}

#[test]
fn sec_11_what_follows_an_address_is_refused() {
    for bytes in [
        &b"PORT 127,0,0,1,20,20 x\r\n"[..],
        b"PORT 127,0,0,1,20,20,,\r\n",
        b"PORT 127,0,0,1,20,20,1\r\n",
        b"PORT 127,0,0,1,20,20.\r\n",
        b"PORT\r\n",
        b"PORT 127.0.0.1.20.20\r\n",
    ] {
        assert_eq!(command_line(bytes).parse(), Err(CommandError::BadHostPort), "{}", bytes.escape_ascii());
    }
}

#[test]
fn other_commands_of_the_table() {
    for &(number, bytes, meaning, wire) in COMMANDS {
        let line = command_line(bytes);
        assert_eq!(line.parse(), Ok(meaning), "vector {number}");
        assert_eq!(line.wire(), wire, "vector {number}");
    }
}

#[test]
fn rfc_09_one_space_separates_and_cr_nul_never_splits() {
    let path = |text: &'static str| match command_line(text.as_bytes()).parse() {
        Ok(Command::Transfer { path, .. }) => path.to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(path("STOR  a b \r\n"), b" a b ");
    assert_eq!(path("LIST\r\n"), b"");
    assert_eq!(CommandLine::new(line(b"STOR a\r\0b\r\n")), Err(LineError::ControlByte));
}

#[test]
fn sec_07_what_is_parsed_is_what_is_sent() {
    for control in [&b"RETR a\rPORT 127,0,0,1,0,22\r\n"[..], b"\rPASV\r\n", b"PA\0SV\r\n", b"PASV\0\r\n"] {
        assert_eq!(CommandLine::new(line(control)), Err(LineError::ControlByte), "{}", control.escape_ascii());
    }
    // A bare LF ends the line for us, and so it does for the server.
    let both = lines(b"RETR a\nPORT 127,0,0,1,20,20\r\n");
    let sent: Vec<_> = both.into_iter().map(|line| CommandLine::new(line).expect("a line").wire()).collect();
    assert_eq!(sent, [&b"RETR a\r\n"[..], b"PORT 127,0,0,1,20,20\r\n"]);
    // Two lines in one are no line, whoever hands them over.
    assert_eq!(CommandLine::new(Bytes::from_static(b"RETR a\nPASV\r\n")), Err(LineError::ControlByte));
}

#[test]
fn sec_12_telnet_bytes_before_a_verb_but_not_within() {
    for (bytes, expected) in [
        (&b"\xff\xf4\xff\xf2ABOR\r\n"[..], Ok(Command::Abor)),
        // Without SO_OOBINLINE the urgent byte is lost on the way.
        (b"\xff\xf4\xffABOR\r\n", Ok(Command::Abor)),
        (b"\xf2ABOR\r\n", Ok(Command::Abor)),
        (b"\xff\xfd\x06\xff\xfb\xf1PASV\r\n", Ok(Command::Pasv)),
        (b"\xff\xffPASV\r\n", Ok(Command::Pasv)),
        (b"PASV\xff\xf1\r\n", Ok(Command::Pasv)),
        (b"PO\xff\xf1RT 127,0,0,1,20,20\r\n", Err(CommandError::TelnetInVerb)),
        (b"PAS\xff\xfb\x01V\r\n", Err(CommandError::TelnetInVerb)),
        (b"P\xf1ASV\r\n", Err(CommandError::TelnetInVerb)),
        (b"PORT 127,0,0,1\xff\xf1,20,20\r\n", Err(CommandError::BadHostPort)),
        // ProFTPD takes a quoted verb.
        (b"\"PORT\" 127,0,0,1,20,20\r\n", Err(CommandError::TelnetInVerb)),
        (b"\"PASV\r\n", Err(CommandError::TelnetInVerb)),
        (b"\xff\xff\r\n", Ok(Command::Other)),
        (b"\r\n", Ok(Command::Other)),
    ] {
        assert_eq!(command_line(bytes).parse(), expected, "{}", bytes.escape_ascii());
        assert_eq!(command_line(bytes).wire(), bytes, "the bytes stay");
    }
    // 0xFF is a letter of CP1251 in a path and belongs to names in GBK.
    let line = command_line(b"CWD \xff\xfb\xd6\xd0\r\n");
    assert_eq!(line.parse(), Ok(Command::Other));
    assert_eq!(line.wire(), &b"CWD \xff\xfb\xd6\xd0\r\n"[..]);
}

#[test]
fn rfc_08_the_urgent_byte_is_not_the_line_feed_if_telnets_synch_is_there() {
    for (bytes, urgent, rest) in [
        (&b"\xff\xf4\xff\xf2ABOR\r\n"[..], &b"\xff\xf4\xff"[..], &b"\xf2ABOR\r\n"[..]),
        (b"\xff\xf2STAT\r\n", b"\xff", b"\xf2STAT\r\n"),
        (b"ABOR\r\n", b"ABOR\r\n", b""),
        (b"\xff\xf4ABOR\r\n", b"\xff\xf4ABOR\r\n", b""),
    ] {
        assert_eq!(command_line(bytes).urgent_wire(), (urgent.into(), rest.into()), "{}", bytes.escape_ascii());
    }
}
