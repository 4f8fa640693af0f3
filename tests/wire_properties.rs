//! Properties of the wire layer that hold for all input, however it is cut up.

#[path = "fuzz/src/lib.rs"]
mod fuzz;

use std::net::{IpAddr, Ipv4Addr};

use ftp_alg::addr::{Announced, Claimed};
use ftp_alg::ftp::command::{Command, CommandError, CommandLine};
use ftp_alg::ftp::line::MAX_LINE;
use ftp_alg::ftp::reply::{ReplyFramer, ReplyLine, extended, passive};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use fuzz::lines::{split_in_chunks, split_plainly};
use fuzz::{commands, host_port, proxy_protocol, replies};

/// Streams with lines around the limit and everything else that may matter.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        vec(any::<u8>(), 0..40),
        vec(select(b"\r\n\0 2-7PASV(,)|\xff\xf1".to_vec()), 0..20),
        (MAX_LINE - 3..MAX_LINE + 3, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
        (2 * MAX_LINE..4 * MAX_LINE).prop_map(|length| vec![b'A'; length]),
    ];
    vec((line, any::<bool>()), 0..12).prop_map(|lines| {
        let ended = lines.into_iter().map(|(mut line, end)| {
            line.extend(end.then_some(b'\n'));
            line
        });
        ended.collect::<Vec<_>>().concat()
    })
}

/// Lines that almost say something.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "227",
        "229",
        "211",
        "220",
        " ",
        "-",
        "(",
        ")",
        ",",
        "|",
        "|||",
        "!",
        ".",
        "0",
        "1",
        "2",
        "001",
        "255",
        "256",
        "1075",
        "65535",
        "65536",
        "99999999999999999999",
        "127,0,0,1",
        "(172,16,0,20,4,51)",
        "(|||6446|)",
        "(!!!6446!)",
        "172.16.0.20",
        "::1",
        "Entering Passive Mode",
        "PORT",
        "EPRT",
        "EPSV",
        "PASV",
        "P@SW",
        "ALL",
        "\t",
        "\r",
        "\n",
        "\r\n",
        "\0",
        "ip-172-16-0-20",
        "fd00:16::20",
    ];
    let word = prop_oneof![
        8 => select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..4),
        1 => vec(0xF0_u8..=0xFF, 1..4),
    ];
    vec(word, 0..14).prop_map(|words| words.concat())
}

fn v4() -> impl Strategy<Value = Announced> {
    (any::<Ipv4Addr>(), any::<u16>()).prop_map(|(ip, port)| Announced::new(ip.into(), port))
}

proptest! {
    #[test]
    fn sec_08_any_chunking_gives_the_same_lines(stream in stream(), sizes in vec(1_usize..6000, 1..8)) {
        let expected = split_plainly(&stream);
        prop_assert_eq!(&split_in_chunks(&stream, &sizes), &expected);
        prop_assert_eq!(&split_in_chunks(&stream, &[1]), &expected);
    }

    #[test]
    fn no_bytes_panic_and_what_is_sent_is_one_line(line in prop_oneof![line(), vec(any::<u8>(), 0..200)]) {
        let mut framer = ReplyFramer::default();
        let opened = matches!(framer.classify(&line), ReplyLine::Opening(_));
        prop_assert_eq!(framer.is_inside(), opened);
        replies::text_behind_a_space_changes_nothing(&line);
        commands::what_is_sent_is_one_line(&line);
    }

    #[test]
    fn sec_31_a_rewritten_reply_announces_one_address_and_only_ours(line in line(), to in v4()) {
        replies::a_rewritten_reply_announces_ours_only(&line, to);
    }

    #[test]
    fn sec_11_six_octets_and_nothing_else(
        numbers in vec(prop_oneof![4 => 0_u64..=255, 1 => 250_u64..70_000, 1 => any::<u64>()], 1..9),
        width in 0_usize..=3,
        comma in select(vec![",", ", ", " ,"]),
    ) {
        let text = numbers.iter().map(|n| format!("{n:0width$}")).collect::<Vec<_>>().join(comma);
        let octets: Result<Vec<u8>, _> = numbers.iter().map(|&n| u8::try_from(n)).collect();
        let expected = octets.ok().and_then(|octets| <[u8; 6]>::try_from(octets).ok()).map(|[a, b, c, d, high, low]| {
            Claimed::new(IpAddr::from([a, b, c, d]), u16::from_be_bytes([high, low]))
        });
        let reply = format!("227 Entering Passive Mode ({text}).\r\n");
        prop_assert_eq!(passive(reply.as_bytes()), expected);
        let command = CommandLine::new(format!("PORT {text}\r\n").into()).expect("a line");
        prop_assert_eq!(command.parse(), expected.map(Command::Port).ok_or(CommandError::BadHostPort));
    }

    #[test]
    fn sec_11_ports_of_sixteen_bits_and_no_more(port in prop_oneof![0_u64..131_072, any::<u64>()]) {
        let reply = format!("229 x (|||{port}|)\r\n");
        prop_assert_eq!(extended(reply.as_bytes()), u16::try_from(port).ok().map(Claimed::port_only));
        let command = CommandLine::new(format!("EPRT |1|192.0.2.1|{port}|\r\n").into()).expect("a line");
        let expected = u16::try_from(port).map(|port| Command::Eprt(Claimed::new([192, 0, 2, 1].into(), port)));
        prop_assert_eq!(command.parse(), expected.map_err(|_| CommandError::BadHostPort));
    }

    #[test]
    fn addresses_survive_the_wire(ip in any::<IpAddr>(), port in any::<u16>()) {
        host_port::survives_the_wire(ip, port);
    }

    #[test]
    fn sec_23_a_header_ends_where_it_says_and_any_bytes_may_follow(bytes in header()) {
        proxy_protocol::check(&bytes);
    }
}

/// What is almost a header of the PROXY protocol, and anything else.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let words =
        ["PROXY ", "TCP4 ", "TCP6 ", "UNKNOWN", " ", "198.51.100.7 ", "2001:db8::7 ", "21", "+21", "\r", "\n", "\r\n"];
    let line = vec(select(words.map(str::as_bytes).to_vec()), 0..12).prop_map(|words| words.concat());
    let binary = (select(vec![0x20_u8, 0x21, 0x22]), any::<u8>(), 0..64_u16, vec(0..8_u8, 0..64)).prop_map(
        |(kind, family, length, rest)| {
            [b"\r\n\r\n\0\r\nQUIT\n", &[kind, family][..], &length.to_be_bytes(), &rest].concat()
        },
    );
    prop_oneof![vec(any::<u8>(), 0..64), line, binary]
}
