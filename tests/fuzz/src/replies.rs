//! What a server sends: replies of one line and of several, and the addresses in them.

use std::net::{IpAddr, Ipv4Addr};

use ftp_alg::addr::{Announced, Claimed, Leg};
use ftp_alg::ftp::reply::{
    ReplyFramer, ReplyLine, extended, feat_names_hidden, passive, starts_with_command, write_227, write_229,
};
use ftp_alg::nat::DataMode;

use super::driver::Driver;
use super::lines;

/// A server's bytes.
pub fn check(data: &[u8]) {
    let split = lines::split_everywhere(data);
    let mut framer = ReplyFramer::default();
    let ours = Announced::new(Ipv4Addr::new(203, 0, 113, 10).into(), 20017);
    for line in split.lines.iter().chain(&split.rest) {
        is_framed_as_plainly(&mut framer, line);
        text_behind_a_space_changes_nothing(line);
        a_rewritten_reply_announces_ours_only(line, ours);
    }
    unasked_replies_pass(data);
    answers_are_the_same_in_any_chunks(data);
}

/// RFC 959 §4.2 in the plainest words: `ddd-` opens, the same `ddd ` closes, everything between is text.
fn is_framed_as_plainly(framer: &mut ReplyFramer, line: &[u8]) {
    let code = |line: &[u8]| match line {
        [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
            Some([a, b, c].iter().fold(0, |n, digit| n * 10 + u16::from(**digit - b'0')))
        }
        _ => None,
    };
    let own = code(line);
    let was_inside = framer.is_inside();
    let content = line.strip_suffix(b"\n").unwrap_or(line);
    let end = content.iter().rposition(|b| *b != b'\r').map_or(0, |last| last + 1);
    let separator = content[..end].get(3);
    match framer.classify(line) {
        ReplyLine::Single(code) | ReplyLine::Closing(code) => {
            assert_eq!(Some(code.get()), own);
            assert!(matches!(separator, None | Some(b' ')) && !framer.is_inside());
        }
        ReplyLine::Opening(code) => {
            assert_eq!(Some(code.get()), own);
            assert!(separator == Some(&b'-') && !was_inside && framer.is_inside());
        }
        ReplyLine::Inner(open) => {
            let closes = own == Some(open.get()) && matches!(separator, None | Some(b' '));
            assert!(was_inside && framer.is_inside() && !closes);
        }
        ReplyLine::Stray => {
            assert!(!was_inside && !framer.is_inside());
            assert!(own.is_none() || !matches!(separator, None | Some(b' ' | b'-')));
        }
    }
}

/// Letters at the start decide whether a line looks like a command or names an extension.
pub fn text_behind_a_space_changes_nothing(line: &[u8]) {
    for probe in [starts_with_command, feat_names_hidden] {
        assert_eq!(probe(line), probe(&[line.trim_ascii_end(), b" x\r\n"].concat()));
    }
}

/// Whatever a server's line says, the client's names our address and no other.
pub fn a_rewritten_reply_announces_ours_only(line: &[u8], to: Announced) {
    let written = write_227(Some(line), to).expect("IPv4");
    assert_eq!(passive(&written), Some(Claimed::new(to.0.ip(), to.0.port())));
    let port = to.0.port();
    let extended_written = write_229(Some(line), port);
    assert_eq!(extended(&extended_written), Some(Claimed::port_only(port)));
    assert!(written.starts_with(b"227 ") && extended_written.starts_with(b"229 "));
    let (tuple, port) = (String::from_utf8_lossy(&write_227(None, to).expect("IPv4")).into_owned(), port.to_string());
    let tuple = &tuple[tuple.find('(').unwrap()..=tuple.find(')').unwrap()];
    for (written, ours) in [(&written, tuple), (&extended_written, &format!("(|||{port}|"))] {
        let text = String::from_utf8_lossy(written);
        let rest = text.replacen(ours, " ", 1);
        assert!(!names_an_address(&rest), "{text}");
        for inside in ["172.16.0.20", "172,16,0,20", "172-16-0-20", "fd00:16::20"] {
            // The announced address may happen to be the inside one.
            let is_ours = to.0.ip() == IpAddr::from([172, 16, 0, 20]);
            assert!(is_ours || !text.contains(inside), "{text}");
        }
    }
}

/// Four numbers with one dot, comma or hyphen between them.
fn names_an_address(text: &str) -> bool {
    let is_joint = |c: char| matches!(c, '.' | ',' | '-');
    text.split(|c: char| !c.is_ascii_digit() && !is_joint(c)).any(|run| {
        let numbers: Vec<_> = run.split(is_joint).collect();
        numbers.windows(4).any(|four| four.iter().all(|number| !number.is_empty()))
    })
}

/// Without a command outstanding, nothing that the server says is changed, and nothing is dialled for it.
pub fn unasked_replies_pass(text: &[u8]) {
    if text.split(|b| *b == b'\n').any(starts_with_command) {
        // Outside of a reply it ends the session.
        return;
    }
    let mut d = Driver::new(DataMode::Same);
    d.server(text);
    let unfinished = text.iter().rposition(|b| *b == b'\n').map_or(0, |lf| lf + 1);
    let sent = d.sent_raw(Leg::Client);
    assert!(sent.len() >= unfinished, "{} of {unfinished} bytes", sent.len());
    assert_eq!(sent.escape_ascii().to_string(), text[..sent.len()].escape_ascii().to_string());
    let deeds = d.deeds();
    assert!(!deeds.iter().any(|deed| deed.starts_with("dial") || deed.starts_with("bind")), "{deeds:?}");
}

/// In answer to each way of setting up a data connection and to a transfer.
fn answers_are_the_same_in_any_chunks(text: &[u8]) {
    for asked in ["PASV\r\n", "EPSV\r\n", "PORT 198,51,100,7,19,137\r\n", "PASV\r\nRETR a\r\n", "FEAT\r\nPASV\r\n"] {
        let outcome = |size: usize| {
            let mut d = Driver::new(DataMode::Same);
            d.client(asked);
            for piece in text.chunks(size) {
                d.server(piece);
            }
            (d.sent(Leg::Client), d.sent(Leg::Server), d.deeds())
        };
        let whole = outcome(text.len().max(1));
        let size = if text.len() <= 1024 { 1 } else { 509 };
        assert_eq!(outcome(size), whole, "{asked} answered in pieces of {size}");
        let foreign =
            |deed: &&String| deed.starts_with("dial") && deed.contains(" server ") && !deed.contains(" 172.16.0.20:");
        assert_eq!(whole.2.iter().find(foreign), None, "{asked}");
    }
}
