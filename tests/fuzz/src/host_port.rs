//! `h1,h2,h3,h4,p1,p2` and `|af|addr|port|`: what is written parses to the same, and what is read is what a plain
//! reader finds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ftp_alg::addr::{Announced, Claimed};
use ftp_alg::ftp::command::{Command, CommandError, CommandLine};
use ftp_alg::ftp::host_port::{write_eprt, write_port};
use ftp_alg::ftp::reply::{extended, passive, write_227, write_229};

/// The bytes are an address as well as the text of an argument.
pub fn check(data: &[u8]) {
    let octet = |at: usize| data.get(at).copied().unwrap_or(0);
    let port = u16::from_be_bytes([octet(0), octet(1)]);
    survives_the_wire(Ipv4Addr::from(std::array::from_fn(|i| octet(i + 2))).into(), port);
    survives_the_wire(Ipv6Addr::from(std::array::from_fn(|i| octet(i + 2))).into(), port);
    if !data.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        is_read_as_plainly(data);
    }
}

/// An address through each form that can carry it, and back.
pub fn survives_the_wire(ip: IpAddr, port: u16) {
    let to = Announced::new(ip, port);
    let claimed = Claimed::new(to.0.ip(), port);
    let eprt = CommandLine::new(write_eprt(to)).expect("a line");
    assert_eq!(eprt.parse(), Ok(Command::Eprt(claimed)));
    assert_eq!(write_port(to).is_some(), to.0.is_ipv4());
    assert_eq!(write_227(None, to).is_some(), to.0.is_ipv4());
    if let (Some(line), Some(reply)) = (write_port(to), write_227(None, to)) {
        let line = CommandLine::new(line).expect("a line");
        assert_eq!(line.parse(), Ok(Command::Port(claimed)));
        assert_eq!(passive(&reply), Some(claimed));
    }
    assert_eq!(extended(&write_229(None, port)), Some(Claimed::port_only(port)));
}

/// The same text as the argument of PORT and of EPRT, and within a 229.
fn is_read_as_plainly(text: &[u8]) {
    let line = CommandLine::new([b"PORT ", text].concat().into()).expect("no control bytes");
    assert_eq!(line.parse(), host_port(text).map(Command::Port).ok_or(CommandError::BadHostPort));

    let line = CommandLine::new([b"EPRT ", text].concat().into()).expect("no control bytes");
    match line.parse() {
        Ok(Command::Eprt(claimed)) => assert_eq!(eprt(text), Some(claimed)),
        Err(CommandError::BadHostPort) => assert_eq!(eprt(text), None),
        Err(CommandError::UnknownFamily) => {
            let family = text.trim_ascii_start().get(1..).unwrap_or_default();
            assert!(!matches!(family, [b'1' | b'2', b, ..] if !b.is_ascii_digit()));
        }
        other => panic!("{other:?}"),
    }

    let reply = [b"229 Entering (", text, b")"].concat();
    if let Some(port) = plain_extended(text) {
        assert_eq!(extended(&reply), Some(Claimed::port_only(port)));
    }
}

/// Six numbers of up to three digits, with commas and as many spaces as anybody likes, and perhaps a comma behind.
fn host_port(text: &[u8]) -> Option<Claimed> {
    // nom's `space0` is SP and HT.
    let blank = |c: char| matches!(c, ' ' | '\t');
    let text = std::str::from_utf8(text).ok()?.trim_matches(blank);
    let text = text.strip_suffix(',').unwrap_or(text);
    let numbers = text.split(',').map(|number| {
        let number = number.trim_matches(blank);
        let is_plain = number.len() <= 3 && number.bytes().all(|b| b.is_ascii_digit());
        is_plain.then(|| number.parse::<u8>().ok()).flatten()
    });
    let [a, b, c, d, high, low] = <[u8; 6]>::try_from(numbers.collect::<Option<Vec<_>>>()?).ok()?;
    Some(Claimed::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
}

/// `|af|addr|port|` with any printable delimiter.
fn eprt(text: &[u8]) -> Option<Claimed> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let delimiter = text.chars().next()?;
    let ["", family, ip, port, ""] = text.split(delimiter).collect::<Vec<_>>()[..] else { return None };
    let ip = match family {
        "1" => ip.parse::<Ipv4Addr>().ok()?.into(),
        "2" => ip.parse::<Ipv6Addr>().ok()?.into(),
        _ => return None,
    };
    Some(Claimed::new(ip, decimal_port(port)?))
}

/// What stands between the parentheses of a 229, if it is four delimiters and a port.
fn plain_extended(text: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(text).ok()?;
    let delimiter = text.chars().next().filter(|c| c.is_ascii_punctuation())?;
    let ["", "", "", port, ""] = text.split(delimiter).collect::<Vec<_>>()[..] else { return None };
    decimal_port(port)
}

fn decimal_port(text: &str) -> Option<u16> {
    let is_plain = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}
