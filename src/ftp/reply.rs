//! A server's lines: where replies begin and end, and the addresses in 227 and 229.

use std::fmt;

use bytes::Bytes;
use nom::bytes::complete::take;
use nom::combinator::map_opt;
use nom::{IResult, Parser};

use super::host_port::{self, Found};
use super::line::trim_end;
use crate::addr::{Announced, Claimed};

/// A reply code: three digits, 100 to 599 (RFC 959 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(u16);

impl Code {
    /// 220: ready for a new user.
    pub const READY: Self = Self(220);

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// 1xx: another reply to the same command will follow.
    #[must_use]
    pub const fn is_preliminary(self) -> bool {
        self.0 / 100 == 1
    }

    /// 2xx: done.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 / 100 == 2
    }

    /// 3xx: the server waits for another command, as for PASS after USER.
    #[must_use]
    pub const fn is_intermediate(self) -> bool {
        self.0 / 100 == 3
    }

    /// 4xx or 5xx: not done.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 / 100 >= 4
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Groups the server's lines into replies (RFC 959 §4.2). Lines within a multi-line reply are inert text,
/// whatever they look like.
#[derive(Debug, Default)]
pub struct ReplyFramer {
    /// The code of the multi-line reply that is open.
    open: Option<Code>,
}

/// What a line is to its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyLine {
    /// A reply of one line: `ddd text`, or a bare `ddd`.
    Single(Code),
    /// The first line of several: `ddd-text`.
    Opening(Code),
    /// A line within, with or without the code; NetBSD's ftpd sends it without, IIS too.
    Inner(Code),
    /// The last line: the same code and SP, or the code alone (such a server is ProFTPD mod_proxy's issue 328).
    Closing(Code),
    /// No reply at all, as `230_no_space`.
    Stray,
}

impl ReplyFramer {
    /// What the next line is. The start of an overlong line is enough; its other parts are not lines.
    pub fn classify(&mut self, line: &[u8]) -> ReplyLine {
        let own = code(trim_end(line)).ok().map(|(rest, code)| (code, rest.first().copied()));
        match (self.open, own) {
            (Some(open), Some((code, Some(b' ') | None))) if code == open => {
                self.open = None;
                ReplyLine::Closing(code)
            }
            (Some(open), _) => ReplyLine::Inner(open),
            (None, Some((code, Some(b' ') | None))) => ReplyLine::Single(code),
            (None, Some((code, Some(b'-')))) => {
                self.open = Some(code);
                ReplyLine::Opening(code)
            }
            (None, _) => ReplyLine::Stray,
        }
    }

    /// Whether a multi-line reply is open.
    #[must_use]
    pub const fn is_inside(&self) -> bool {
        self.open.is_some()
    }
}

/// Whether a server's line begins with a command that carries an address or asks for one: an attempt to make
/// some middlebox open a port. Ask only outside a multi-line reply: HELP and FEAT list these words.
#[must_use]
pub fn starts_with_command(line: &[u8]) -> bool {
    ["PASV", "PORT", "EPRT", "EPSV"].iter().any(|verb| first_word(trim_end(line)).eq_ignore_ascii_case(verb.as_bytes()))
}

/// The first host-port in a line (227), read as leniently as RFC 1123 §4.1.2.6 asks; the code is not looked at,
/// because servers answer EPSV with 227 and PASV with 229.
#[must_use]
pub fn passive(line: &[u8]) -> Option<Claimed> {
    host_port::find_host_ports(text(line)).first().map(|found| found.claimed)
}

/// The port in `(|||port|)` (229, RFC 2428 §3) with any delimiter; the code is not looked at.
#[must_use]
pub fn extended(line: &[u8]) -> Option<Claimed> {
    host_port::find_extended(text(line)).first().map(|found| found.claimed)
}

/// The 227 for a client; `None` if `to` is not IPv4.
///
/// `line`'s own words are kept, and only the digits change, where it is a 227 with one tuple in the plain form
/// `(d,d,d,d,d,d)`: clients depend on what stands around it. Everything else becomes the canonical line.
#[must_use]
pub fn write_227(line: Option<&[u8]>, to: Announced) -> Option<Bytes> {
    let tuple = host_port::write_host_port(to)?;
    let in_place = line.and_then(|line| {
        let (head, text) = own_text(line, 227)?;
        let found = only(host_port::find_host_ports(text))?;
        let is_plain = text[found.at.clone()].iter().all(|&b| b.is_ascii_digit() || b == b',');
        let is_enclosed = text[..found.at.start].ends_with(b"(") && text[found.at.end..].starts_with(b")");
        (is_plain && is_enclosed).then(|| splice(head, text, &found, &tuple)).flatten()
    });
    Some(in_place.unwrap_or_else(|| Bytes::from(format!("227 Entering Passive Mode ({tuple}).\r\n"))))
}

/// The 229 for a client; in place, as [`write_227`], where `line` is a 229 with one plain `(|||port|)`.
#[must_use]
pub fn write_229(line: Option<&[u8]>, port: u16) -> Bytes {
    let in_place = line.and_then(|line| {
        let (head, text) = own_text(line, 229)?;
        let found = only(host_port::find_extended(text))?;
        let is_plain = text[..found.at.start].ends_with(b"(|||");
        is_plain.then(|| splice(head, text, &found, &port.to_string())).flatten()
    });
    in_place.unwrap_or_else(|| Bytes::from(format!("229 Entering Extended Passive Mode (|||{port}|)\r\n")))
}

/// Whether a line within the reply to FEAT names an extension that we refuse, with or without `211-` before it:
/// the security ones of RFC 2228 and RFC 4217, and the address-carrying ones that are not translated.
#[must_use]
pub fn feat_names_hidden(line: &[u8]) -> bool {
    const HIDDEN: [&str; 13] =
        ["AUTH", "ADAT", "PROT", "PBSZ", "CCC", "MIC", "CONF", "ENC", "SSCN", "CPSV", "SPSV", "LPSV", "LPRT"];
    let word = feat_words(line).next().unwrap_or_default();
    HIDDEN.iter().any(|hidden| word.eq_ignore_ascii_case(hidden.as_bytes()))
}

/// Whether a line within the reply to FEAT names this extension.
#[must_use]
pub fn feat_names(line: &[u8], name: &str) -> bool {
    feat_words(line).next().unwrap_or_default().eq_ignore_ascii_case(name.as_bytes())
}

/// The words of a line within the reply to FEAT, with or without `211-` before it.
pub(super) fn feat_words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = trim_end(line);
    let text = line.strip_prefix(b"211-").unwrap_or(line).trim_ascii_start();
    text.split(|b| !b.is_ascii_alphanumeric())
}

/// `reply-code = %x31-35 2DIGIT` (RFC 959 §4.2.1)
fn code(i: &[u8]) -> IResult<&[u8], Code> {
    map_opt(take(3_usize), |digits: &[u8]| match digits {
        [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Some(Code([a, b, c].iter().fold(0, |n, &digit| n * 10 + u16::from(digit - b'0'))))
        }
        _ => None,
    })
    .parse(i)
}

/// The text of a line: behind the code and its separator, if it has them; the terminator is left on.
fn text(line: &[u8]) -> &[u8] {
    match code(line) {
        Ok(([b' ' | b'-', text @ ..], _)) => text,
        _ => line,
    }
}

/// Head (code and SP) and text of a line that is, or closes, a reply with this code.
fn own_text(line: &[u8], wanted: u16) -> Option<(&[u8], &[u8])> {
    let (rest, code) = code(line).ok()?;
    (code.get() == wanted && rest.starts_with(b" ")).then(|| line.split_at(4))
}

fn only(found: Vec<Found>) -> Option<Found> {
    let [found] = <[Found; 1]>::try_from(found).ok()?;
    Some(found)
}

/// The line with other digits; `None` if the words that would stay may name the inside address again.
fn splice(head: &[u8], text: &[u8], found: &Found, digits: &str) -> Option<Bytes> {
    let (before, after) = (&text[..found.at.start], &text[found.at.end..]);
    let kept = [head, before, digits.as_bytes(), after];
    (!names_address(before) && !names_address(after)).then(|| Bytes::from(kept.concat()))
}

/// Whether a text may name an address: four numbers strung together by dots, commas or hyphens, as also in
/// `ip-172-16-0-20`, or a word with two colons.
fn names_address(text: &[u8]) -> bool {
    let numbers = |run: &[u8]| run.split(|b| !b.is_ascii_digit()).filter(|number| !number.is_empty()).count();
    let is_quad = |run: &[u8]| numbers(run) >= 4;
    let is_colons = |run: &[u8]| run.iter().filter(|&&b| b == b':').count() >= 2;
    text.split(|b| !(b.is_ascii_digit() || matches!(b, b'.' | b',' | b'-'))).any(is_quad)
        || text.split(|b| !(b.is_ascii_hexdigit() || *b == b':')).any(is_colons)
}

/// The letters and digits at the start.
fn first_word(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Runs lines through a framer and writes each down as a letter and its code.
    fn frame(lines: &[&str]) -> Vec<String> {
        let mut framer = ReplyFramer::default();
        let mut classify = |line: &&str| match framer.classify(line.as_bytes()) {
            ReplyLine::Single(code) => format!("single {code}"),
            ReplyLine::Opening(code) => format!("opening {code}"),
            ReplyLine::Inner(code) => format!("inner {code}"),
            ReplyLine::Closing(code) => format!("closing {code}"),
            ReplyLine::Stray => "stray".to_owned(),
        };
        lines.iter().map(&mut classify).collect()
    }

    #[test]
    fn rfc_02_a_multi_line_reply_ends_at_its_own_code_only() {
        assert_eq!(
            frame(&[
                "211-Features:\r\n",
                "227 Entering Passive Mode (127,0,0,1,4,51)\r\n",
                "211-more\r\n",
                "211x\r\n",
                " 211 indented\r\n",
                "\r\n",
                "211 End\r\n",
                "200 Fine\n",
            ]),
            [
                "opening 211",
                "inner 211",
                "inner 211",
                "inner 211",
                "inner 211",
                "inner 211",
                "closing 211",
                "single 200"
            ]
        );
    }

    #[test]
    fn bare_codes_end_and_stand_for_replies() {
        assert_eq!(frame(&["230-Hello\r\n", "230\r\n", "230\r\n"]), ["opening 230", "closing 230", "single 230"]);
        assert_eq!(frame(&["221  \r\n", "220----- Welcome\r\n"]), ["single 221", "opening 220"]);
    }

    #[test]
    fn what_is_no_reply_is_stray() {
        for line in
            ["230_no_space\r\n", "99 PASV invalid\r\n", "SYST not supported\r\n", "\r\n", "099 x", "600 x", "2 2"]
        {
            assert_eq!(frame(&[line]), ["stray"], "{line}");
        }
        // Stray lines open and close nothing.
        assert_eq!(
            frame(&["230_\r\n", "230-a\r\n", "230_\r\n", "230 b\r\n"])[1..],
            ["opening 230", "inner 230", "closing 230"]
        );
    }

    #[test]
    fn codes_fall_into_classes() {
        let classes = |code: &[u8]| {
            let (_, code) = super::code(code).unwrap();
            (code.is_preliminary(), code.is_success(), code.is_intermediate(), code.is_error())
        };
        assert_eq!(classes(b"150"), (true, false, false, false));
        assert_eq!(classes(b"226"), (false, true, false, false));
        assert_eq!(classes(b"331"), (false, false, true, false));
        assert_eq!(classes(b"426"), (false, false, false, true));
        assert_eq!(classes(b"599"), (false, false, false, true));
        assert_eq!(super::code(b"227 x").unwrap().1.get(), 227);
    }

    #[test]
    fn sec_05_a_reply_that_is_a_command() {
        for line in ["PORT 10,0,0,1,0,22\r\n", "eprt |1|10.0.0.1|22|\r\n", "PASV\r\n", "EPSV", "PORT\t1"] {
            assert!(starts_with_command(line.as_bytes()), "{line}");
        }
        for line in ["200 PORT command successful.\r\n", " EPSV\r\n", "PASVX\r\n", "PORTS 1\r\n", "", "LIST\r\n"] {
            assert!(!starts_with_command(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn rfc_11_hidden_features() {
        for line in [
            " AUTH TLS;TLS-C;SSL;TLS-P;\r\n",
            "    AUTH TLS;SSL;TLS-C;TLS-P;\r\n",
            "211-PBSZ\r\n",
            "211- PROT C;P;\r\n",
            " ccc\r\n",
            "AUTH SSL\n",
            " CPSV\r\n",
            " ADAT\r\n",
            " MIC\r\n",
            " ENC\r\n",
            " SSCN\r\n",
            " SPSV\r\n",
            " LPSV\r\n",
            " LPRT\r\n",
            " CONF\r\n",
        ] {
            assert!(feat_names_hidden(line.as_bytes()), "{line}");
        }
        for line in
            [" EPSV\r\n", " UTF8\r\n", " AUTHX\r\n", "211 End\r\n", "211-Extensions supported:\r\n", " SIZE AUTH\r\n"]
        {
            assert!(!feat_names_hidden(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn sec_31_kept_words_never_name_the_inside_address() {
        let to = Announced::new(Ipv4Addr::new(203, 0, 113, 10).into(), 20017);
        for words in
            ["172.16.0.20", "at 172,16,0,20", "ip-172-16-0-20", "[fd00::20]", "fe80:0:0:1", "(172,16,0,20,4,51)"]
        {
            for line in
                [format!("227 {words} (172,16,0,20,4,51)\r\n"), format!("227 Passive (172,16,0,20,4,51) {words}\r\n")]
            {
                let written = write_227(Some(line.as_bytes()), to);
                assert_eq!(
                    written.as_deref(),
                    Some(&b"227 Entering Passive Mode (203,0,113,10,78,49).\r\n"[..]),
                    "{line}"
                );
            }
            let line = format!("229 {words} (|||1075|)\r\n");
            let canonical = &b"229 Entering Extended Passive Mode (|||20017|)\r\n"[..];
            assert_eq!(write_229(Some(line.as_bytes()), 20017), canonical, "{line}");
        }
    }
}
