//! Properties of the wire layer that hold for all input, however it is cut up.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use ftp_alg::addr::{Announced, Claimed};
use ftp_alg::ftp::command::{Command, CommandError, CommandLine};
use ftp_alg::ftp::host_port::{write_eprt, write_port};
use ftp_alg::ftp::line::{LineSplitter, MAX_LINE, Piece};
use ftp_alg::ftp::reply::{
    ReplyFramer, ReplyLine, extended, feat_names_hidden, passive, starts_with_command, write_227, write_229,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What a stream comes to: whole lines, overlong ones put together again, and the end without LF.
#[derive(Debug, Default, PartialEq, Eq)]
struct Split {
    lines: Vec<Vec<u8>>,
    overlong: Vec<Vec<u8>>,
    rest: Option<Vec<u8>>,
}

/// The same by the plainest means, with the stream whole in memory.
fn split_plainly(stream: &[u8]) -> Split {
    let mut split = Split::default();
    for line in stream.split_inclusive(|&b| b == b'\n') {
        match (line.ends_with(b"\n"), line.len()) {
            (true, ..=MAX_LINE) => split.lines.push(line.to_vec()),
            (false, ..MAX_LINE) => split.rest = Some(line.to_vec()),
            _ => split.overlong.push(line.to_vec()),
        }
    }
    split
}

fn split_in_chunks(stream: &[u8], sizes: &[usize]) -> Split {
    let (mut splitter, mut split) = (LineSplitter::default(), Split::default());
    let (mut left, mut sizes) = (stream, sizes.iter().cycle());
    while !left.is_empty() {
        let size = *sizes.next().expect("at least one size");
        let (mut chunk, rest) = left.split_at(size.min(left.len()));
        left = rest;
        while let Some(piece) = splitter.next(&mut chunk) {
            match piece {
                Piece::Line(line) => split.lines.push(line.to_vec()),
                Piece::Overlong { bytes, first, last } => {
                    assert!(!bytes.is_empty() && bytes.len() <= MAX_LINE);
                    assert_eq!(last, bytes.ends_with(b"\n"));
                    if first {
                        assert_eq!(bytes.len(), MAX_LINE);
                        split.overlong.push(Vec::new());
                    }
                    split.overlong.last_mut().expect("the first part of it").extend_from_slice(&bytes);
                }
            }
        }
        assert!(chunk.is_empty());
    }
    assert_eq!(splitter.is_mid_line(), stream.last().is_some_and(|&b| b != b'\n'));
    split.rest = splitter.take_rest().map(Vec::from);
    split
}

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

fn claimed(to: Announced) -> Claimed {
    Claimed::new(to.0.ip(), to.0.port())
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
        for probe in [starts_with_command, feat_names_hidden] {
            // Letters at the start decide, so that more text behind a space changes nothing.
            prop_assert_eq!(probe(&line), probe(&[line.trim_ascii_end(), b" x\r\n"].concat()));
        }

        let controls = |bytes: &[u8]| bytes.iter().filter(|b| matches!(b, b'\r' | b'\n' | 0)).count();
        match CommandLine::new(Bytes::from(line.clone())) {
            Ok(command) => {
                let wire = command.wire();
                prop_assert!(wire.ends_with(b"\r\n"));
                prop_assert_eq!(controls(&wire), 2);
                prop_assert!(line.starts_with(command.content()));
                let logged = command.verb_for_log();
                prop_assert!(logged.len() < 80 && logged.bytes().all(|b| (b' '..=b'~').contains(&b)), "{}", logged);
                // What a server reads from the wire is what we read.
                let sent = CommandLine::new(wire).expect("a line that may be sent");
                prop_assert_eq!(sent.parse(), command.parse());
                prop_assert_eq!(sent.is_http(), command.is_http());
            }
            Err(_) => prop_assert!(controls(&line) > 0),
        }
    }

    #[test]
    fn sec_31_a_rewritten_reply_announces_one_address_and_only_ours(line in line(), to in v4()) {
        let written = write_227(Some(&line), to).expect("IPv4");
        prop_assert_eq!(passive(&written), Some(claimed(to)));
        let port = to.0.port();
        let extended_written = write_229(Some(&line), port);
        prop_assert_eq!(extended(&extended_written), Some(Claimed::port_only(port)));
        prop_assert!(written.starts_with(b"227 ") && extended_written.starts_with(b"229 "));
        for inside in ["172.16.0.20", "172,16,0,20", "172-16-0-20", "fd00:16::20"] {
            for written in [&written, &extended_written] {
                let text = String::from_utf8_lossy(written);
                // The random address may happen to be the inside one.
                let ours = to.0.ip() == IpAddr::from([172, 16, 0, 20]);
                prop_assert!(ours || !text.contains(inside), "{}", text);
            }
        }
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
        let to = Announced::new(ip, port);
        let eprt = CommandLine::new(write_eprt(to)).expect("a line");
        prop_assert_eq!(eprt.parse(), Ok(Command::Eprt(claimed(to))));
        prop_assert_eq!(write_port(to).is_some(), to.0.is_ipv4());
        if let Some(port_line) = write_port(to) {
            let port_line = CommandLine::new(port_line).expect("a line");
            prop_assert_eq!(port_line.parse(), Ok(Command::Port(claimed(to))));
        }
    }
}
