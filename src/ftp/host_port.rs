//! `h1,h2,h3,h4,p1,p2` and `|af|addr|port|`: parsed and written here and nowhere else.
//!
//! Numbers are checked decimals. Parsers that wrap (the Linux helper's `get_port` once took 65557 for 21,
//! wget's `unsigned char` takes 256 for 0) let a line mean one thing to the middlebox and another to its peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use bytes::Bytes;
use nom::bytes::complete::take_till1;
use nom::character::complete::{char, digit1, satisfy, space0};
use nom::combinator::{eof, map, map_opt, not, opt, recognize, value};
use nom::multi::many0_count;
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

use crate::addr::{Announced, Claimed, Family};

/// Digits of the largest octet, 255; zero-padded ones (`001`) are in use and decimal.
const OCTET_DIGITS: usize = 3;
/// Digits of the largest port, 65535.
const PORT_DIGITS: usize = 5;

/// `PORT h1,h2,h3,h4,p1,p2` with its CRLF (RFC 959 §5.3.1); `None` for an IPv6 address, which it cannot carry.
#[must_use]
pub fn write_port(to: Announced) -> Option<Bytes> {
    write_host_port(to).map(|tuple| Bytes::from(format!("PORT {tuple}\r\n")))
}

/// `EPRT |af|addr|port|` with its CRLF (RFC 2428 §2).
#[must_use]
pub fn write_eprt(to: Announced) -> Bytes {
    let (ip, port) = (to.0.ip(), to.0.port());
    Bytes::from(format!("EPRT |{}|{ip}|{port}|\r\n", Family::of(ip).number()))
}

/// `h1,h2,h3,h4,p1,p2`; `None` for IPv6.
pub(super) fn write_host_port(to: Announced) -> Option<String> {
    let SocketAddr::V4(to) = to.0 else { return None };
    let ([h1, h2, h3, h4], [p1, p2]) = (to.ip().octets(), to.port().to_be_bytes());
    Some(format!("{h1},{h2},{h3},{h4},{p1},{p2}"))
}

/// A host-port or extended tuple within a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it stands: the six numbers, or the port alone.
    pub(super) at: Range<usize>,
    /// What it says.
    pub(super) claimed: Claimed,
}

/// Every host-port in a text, as RFC 1123 §4.1.2.6 asks: parentheses or not, whatever stands before it.
///
/// A run of numbers that is not exactly six octets is passed over as a whole: of `1127,0,0,1,4,51` no part is
/// a tuple, nor of seven numbers the last six.
pub(super) fn find_host_ports(text: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].iter().position(u8::is_ascii_digit).map(|skipped| at + skipped) {
        // `,5,…` and `-5,…` are the rest of something else that failed to parse.
        let is_start = start == 0 || !matches!(text[start - 1], b',' | b'-');
        if is_start && let Ok((rest, claimed)) = host_port(&text[start..]) {
            found.push(Found { at: start..text.len() - rest.len(), claimed });
        }
        let after = number_list(&text[start..]).map_or(&text[start + 1..], |(rest, _)| rest);
        at = text.len() - after.len();
    }
    found
}

/// Every `(<d><d><d>port<d>)` in a text; [`Found::at`] is the port.
pub(super) fn find_extended(text: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].iter().position(|&b| b == b'(').map(|skipped| at + skipped) {
        at = start + 1;
        if let Ok((rest, port)) = extended_tuple(&text[start..]) {
            at = text.len() - rest.len();
            // `(`, three delimiters; delimiter, `)`.
            found.push(Found { at: start + 4..at - 2, claimed: Claimed::port_only(port) });
        }
    }
    found
}

/// The argument of PORT: spaces and one comma more than RFC 959 has are taken, because vsftpd takes them and a
/// command that we let pass as unknown would reach the server untranslated.
///
/// `port-argument = *SP host-port [ *SP "," ] *SP`
pub(super) fn port_argument(i: &[u8]) -> IResult<&[u8], Claimed> {
    terminated(preceded(space0, host_port), (opt(comma), space0, eof)).parse(i)
}

/// What EPRT asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EprtArgument {
    /// An address of a family that FTP knows.
    Address(Claimed),
    /// A family other than 1 and 2; what follows it cannot be judged.
    UnknownFamily,
}

/// The argument of EPRT (RFC 2428 §2).
///
/// `eprt-argument = *SP <d> net-prt <d> net-addr <d> tcp-port <d> *SP`
pub(super) fn eprt_argument(i: &[u8]) -> IResult<&[u8], EprtArgument> {
    let (i, d) = preceded(space0, delimiter).parse(i)?;
    let (i, family) = terminated(net_prt, char(d)).parse(i)?;
    let Some(family) = family else { return Ok((&[], EprtArgument::UnknownFamily)) };
    let (i, ip) = terminated(net_addr(family, d), char(d)).parse(i)?;
    let (i, port) = terminated(tcp_port, (char(d), space0, eof)).parse(i)?;
    Ok((i, EprtArgument::Address(Claimed::new(ip, port))))
}

/// `net-prt = 1*DIGIT` (RFC 2428 §2); `None` for a number other than 1 and 2, however long.
pub(super) fn net_prt(i: &[u8]) -> IResult<&[u8], Option<Family>> {
    map(digit1, |digits: &[u8]| match digits {
        b"1" => Some(Family::V4),
        b"2" => Some(Family::V6),
        _ => None,
    })
    .parse(i)
}

/// `net-addr`: dotted quad for family 1 and RFC 4291 text for family 2, up to the delimiter (RFC 2428 §2).
fn net_addr<'a>(
    family: Family,
    d: char,
) -> impl Parser<&'a [u8], Output = IpAddr, Error = nom::error::Error<&'a [u8]>> {
    map_opt(take_till1(move |b| char::from(b) == d), move |text| {
        let text = std::str::from_utf8(text).ok()?;
        match family {
            Family::V4 => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            Family::V6 => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        }
    })
}

/// `tcp-port = 1*DIGIT` (RFC 2428 §2), within 16 bits; 0 and privileged ports are the policy's to refuse.
fn tcp_port(i: &[u8]) -> IResult<&[u8], u16> {
    map_opt(decimal(PORT_DIGITS), |n| u16::try_from(n).ok()).parse(i)
}

/// `"(" <d> <d> <d> tcp-port <d> ")"` (RFC 2428 §3): the two first fields are empty in a 229.
fn extended_tuple(i: &[u8]) -> IResult<&[u8], u16> {
    let (i, d) = preceded(char('('), delimiter).parse(i)?;
    let (i, port) = preceded((char(d), char(d)), tcp_port).parse(i)?;
    value(port, (char(d), char(')'))).parse(i)
}

/// `<d> = %d33-126` (RFC 2428 §2); IBM i uses `!`. A digit comes to nothing, as the numbers swallow it.
fn delimiter(i: &[u8]) -> IResult<&[u8], char> {
    satisfy(|c| c.is_ascii_graphic()).parse(i)
}

/// `host-port = octet 5( comma octet )` (RFC 959 §5.3.2), with no seventh number behind it.
fn host_port(i: &[u8]) -> IResult<&[u8], Claimed> {
    let (i, h1) = octet(i)?;
    let next = || preceded(comma, octet);
    let (i, (h2, h3, h4, p1, p2)) = (next(), next(), next(), next(), next()).parse(i)?;
    let claimed = Claimed::new(Ipv4Addr::new(h1, h2, h3, h4).into(), u16::from_be_bytes([p1, p2]));
    value(claimed, not((comma, digit1))).parse(i)
}

/// `number-list = number *( comma number )`: what a host-port is looked for in.
fn number_list(i: &[u8]) -> IResult<&[u8], &[u8]> {
    recognize((digit1, many0_count((comma, digit1)))).parse(i)
}

/// `comma = *SP "," *SP`: RFC 959 has no spaces here; hand-written clients and servers do.
fn comma(i: &[u8]) -> IResult<&[u8], char> {
    delimited(space0, char(','), space0).parse(i)
}

/// `octet = 1*3DIGIT`, 0 to 255 (RFC 959 §5.3.2 `number`).
fn octet(i: &[u8]) -> IResult<&[u8], u8> {
    map_opt(decimal(OCTET_DIGITS), |n| u8::try_from(n).ok()).parse(i)
}

/// A decimal number of at most `most` digits, all the digits that there are.
fn decimal<'a>(most: usize) -> impl Parser<&'a [u8], Output = u32, Error = nom::error::Error<&'a [u8]>> {
    map_opt(digit1, move |digits: &[u8]| {
        (digits.len() <= most).then(|| digits.iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0')))
    })
}
