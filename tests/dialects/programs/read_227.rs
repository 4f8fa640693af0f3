//! How programs read a 227, each after its source: the same expression or scan, the same idea of which line it is in.

use std::net::SocketAddrV4;

use regex::Regex;

use crate::client::Reply;

type Found = Option<SocketAddrV4>;

/// Six numbers that make an address; octets over 255 make none.
fn address(numbers: &[u32]) -> Found {
    let [h1, h2, h3, h4, p1, p2] = numbers else { return None };
    let octet = |n: &u32| u8::try_from(*n).ok();
    let ip = [octet(h1)?, octet(h2)?, octet(h3)?, octet(h4)?];
    Some(SocketAddrV4::new(ip.into(), u16::from_be_bytes([octet(p1)?, octet(p2)?])))
}

/// `sscanf(text, "%u,%u,%u,%u,%u,%u")`: spaces may stand before a number, not before a comma.
fn scan(text: &str) -> Found {
    let mut numbers = Vec::new();
    let mut rest = text;
    for index in 0..6 {
        if index > 0 {
            rest = rest.strip_prefix(',')?;
        }
        rest = rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        numbers.push(rest[..end].parse().ok()?);
        rest = &rest[end..];
    }
    address(&numbers)
}

fn matched(text: &str, expression: &str) -> Found {
    let found = Regex::new(expression).unwrap().captures(text)?;
    let numbers = found.iter().skip(1).flatten().flat_map(|group| group.as_str().split(','));
    address(&numbers.map(|n| n.parse().ok()).collect::<Option<Vec<u32>>>()?)
}

fn from_first_digit(text: &str) -> Option<&str> {
    text.find(|c: char| c.is_ascii_digit()).map(|at| &text[at..])
}

/// 2020: a space or `(` before, a space, `)` or the end after. The last line, without its CRLF.
pub fn filezilla(reply: &Reply) -> Found {
    let number = "0*[0-9]{1,3}";
    let numbers = [number; 6].join(",");
    matched(reply.last().trim_end(), &format!(r"(?: |\()({numbers})(?: |\)|$)"))
}

/// From the first `(` to the first `)`, or else from the first digit; commas become dots, of which there must be five.
pub fn winscp(reply: &Reply) -> Found {
    let text = reply.last().trim_end().get(4..)?;
    let inside = match (text.find('('), text.find(')')) {
        (Some(open), Some(close)) => text.get(open + 1..close)?,
        _ => from_first_digit(text)?,
    };
    let dotted = inside.replace(',', ".");
    let parts: Vec<&str> = dotted.split('.').collect();
    if parts.len() != 6 {
        return None;
    }
    address(&parts.iter().map(|part| part.trim().parse().ok()).collect::<Option<Vec<u32>>>()?)
}

/// Tries at every byte; no spaces among the numbers.
pub fn curl(reply: &Reply) -> Found {
    let text = reply.last().get(4..)?;
    text.char_indices().find_map(|(at, _)| {
        let tail = &text[at..];
        let end = tail.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(tail.len());
        let numbers: Vec<&str> = tail[..end].split(',').take(6).collect();
        address(&numbers.iter().map(|n| n.parse().ok()).collect::<Option<Vec<u32>>>()?)
    })
}

/// Tries `%u,%u,…` at every number.
pub fn lftp(reply: &Reply) -> Found {
    let mut text = reply.last().get(4..)?;
    loop {
        text = from_first_digit(text)?;
        if let Some(found) = scan(text) {
            return Some(found);
        }
        let end = text.find(|c: char| !c.is_ascii_digit())?;
        text = &text[end..];
    }
}

/// The BSD family keeps what is from the first digit after column 4 to a CR or `)`.
fn bsd(line: &str) -> Found {
    let kept = from_first_digit(line.get(4..)?)?;
    scan(kept.split(['\r', ')']).next()?)
}

pub fn tnftp(reply: &Reply) -> Found {
    bsd(reply.last())
}

pub fn inetutils(reply: &Reply) -> Found {
    bsd(reply.last())
}

/// The first line, the first digit after its code.
pub fn ncftp(reply: &Reply) -> Found {
    scan(from_first_digit(reply.lines.first()?.get(4..)?)?)
}

/// No spaces; a number is an `unsigned char` that wraps.
pub fn wget(reply: &Reply) -> Found {
    let mut text = from_first_digit(reply.last().get(4..)?)?;
    let mut numbers = Vec::new();
    for index in 0..6 {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let wraps = |value: u8, digit: u8| value.wrapping_mul(10).wrapping_add(digit - b'0');
        numbers.push(u32::from(text[..end].bytes().fold(0, wraps)));
        text = &text[end..];
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None if index < 5 => return None,
            None => {}
        }
    }
    address(&numbers)
}

/// A search over all lines, which have to be UTF-8 to get here at all.
pub fn ftplib(reply: &Reply) -> Found {
    let bytes: Vec<u8> = reply.text().chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
    matched(std::str::from_utf8(&bytes).ok()?, r"(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)")
}

/// The first line.
pub fn commons_net(reply: &Reply) -> Found {
    matched(reply.lines.first()?, r"(\d{1,3},\d{1,3},\d{1,3},\d{1,3}),(\d{1,3}),(\d{1,3})")
}

/// Split at spaces, parentheses and commas; the last token is skipped if it is no number, the two before are the port.
/// The address is never looked at.
pub fn dot_net(reply: &Reply) -> Found {
    let text = reply.text();
    let mut tokens: Vec<&str> = text.split([' ', '(', ',', ')']).collect();
    if tokens.len() <= 7 {
        return None;
    }
    if !tokens.last()?.starts_with(|c: char| c.is_numeric()) {
        tokens.pop();
    }
    let mut octet = || tokens.pop()?.trim().parse::<u8>().ok();
    let (low, high) = (octet()?, octet()?);
    Some(SocketAddrV4::new([0, 0, 0, 0].into(), u16::from_be_bytes([high, low])))
}

/// One line of ASCII. Between the first `(` and the last `)`, or after the last space before the first comma.
pub fn chromium(reply: &Reply) -> Found {
    let [line] = &reply.lines[..] else { return None };
    let line = line.trim_end();
    if !line.is_ascii() {
        return None;
    }
    let inside = match line.find('(') {
        Some(open) => line.get(open + 1..line.rfind(')')?)?,
        None => {
            let comma = line.find(',')?;
            line[..comma].rfind(' ').map_or(line, |space| &line[space + 1..])
        }
    };
    let pieces: Vec<&str> = inside.split(',').map(str::trim).collect();
    address(&pieces.iter().map(|n| n.parse().ok()).collect::<Option<Vec<u32>>>()?)
}

/// `-` is allowed, and makes no port.
pub fn basic_ftp(reply: &Reply) -> Found {
    matched(&reply.text(), r"([-\d]+,[-\d]+,[-\d]+,[-\d]+),([-\d]+),([-\d]+)")
}

pub fn fluent_ftp(reply: &Reply) -> Found {
    matched(&reply.text(), r"(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)")
}

/// Needs the `(`, and nothing between it and the numbers but spaces.
pub fn aria2(reply: &Reply) -> Found {
    let text = reply.text();
    let open = text.find('(').filter(|at| *at >= 4)?;
    scan(&text[open + 1..])
}
