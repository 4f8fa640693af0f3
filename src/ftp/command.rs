//! A client's lines: the few commands that we understand. Every other is opaque and goes on as it came.

use std::fmt;

use bytes::{Bytes, BytesMut};
use nom::branch::alt;
use nom::bytes::complete::{tag_no_case, take, take_while, take_while1};
use nom::combinator::{all_consuming, map, recognize, value, verify};
use nom::multi::many0_count;
use nom::sequence::delimited;
use nom::{IResult, Parser};

use super::host_port::{self, EprtArgument};
use super::line::{trim_end, without_options};
use super::telnet::Refusal;
use crate::addr::{Claimed, Family};

/// Bytes of a verb that a log line shows: twice the longest in use (`STATUS64` has eight, RFC 6384 §11).
const LOGGED_VERB: usize = 16;

/// A command as it may be sent on: one line, no CR, LF or NUL within, ended by exactly CRLF.
///
/// What is parsed is what is sent, so that the server cannot read another command into the same bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The content and CRLF.
    wire: Bytes,
}

/// Why a line is not sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A NUL, or a CR or LF before the end of the line: what one program takes for one line another takes for
    /// two. RFC 2640 §3.1 would have CR NUL for a CR in a path; such names are given up. Answered 501.
    #[error("a CR, LF or NUL within a command")]
    ControlByte,
}

/// A command, as far as we need to understand it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// PASV, also spelled `P@SW` (SMC routers change it so), whatever its argument.
    Pasv,
    /// EPSV (RFC 2428 §3).
    Epsv(EpsvArgument),
    /// PORT (RFC 959 §4.1.2).
    Port(Claimed),
    /// EPRT (RFC 2428 §2).
    Eprt(Claimed),
    /// A command that moves data.
    Transfer {
        /// Which.
        verb: TransferVerb,
        /// Its argument, for the log; may be empty.
        path: &'a [u8],
    },
    /// REST (RFC 3659 §5), and RANG, which is one with an end (draft-bryan-ftp-range §3): they go right before their
    /// transfer.
    Rest,
    /// ABOR.
    Abor,
    /// STAT, with or without a path.
    Stat,
    /// QUIT.
    Quit,
    /// REIN.
    Rein,
    /// FEAT (RFC 2389 §3).
    Feat,
    /// USER and the name.
    User(&'a [u8]),
    /// PASS; the password is nobody's business.
    Pass,
    /// ACCT, which some servers want to end a login (RFC 959 §4.1.1).
    Acct,
    /// MODE and its letter, upper-cased: `S` is stream (RFC 959 §3.4).
    Mode(u8),
    /// TYPE and its letter, upper-cased: `A` and `E` are text, `I` and `L` are not (RFC 959 §3.1.1).
    Type(u8),
    /// LPRT, LPSV (RFC 1639), CPSV and SPSV: they carry addresses in ways that are not translated.
    LongAddress,
    /// AUTH (RFC 2228 §3) and the mechanism.
    Auth(Mechanism),
    /// PBSZ (RFC 2228 §3) and the size; `None` if it is no number of 32 bits.
    Pbsz(Option<u32>),
    /// PROT (RFC 2228 §3) and the level.
    Prot(Protection),
    /// CCC (RFC 2228 §3).
    Ccc,
    /// SSCN, by which a client exchanges the parts of a TLS client and server on the data connection.
    Sscn,
    /// HOST (RFC 7151) and the name.
    Host(&'a [u8]),
    /// HELP.
    Help,
    /// ALGS (RFC 6384 §11).
    Algs(Algs),
    /// NOOP.
    Noop,
    /// Everything else, an empty line too.
    Other,
}

/// The argument of EPSV (RFC 2428 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpsvArgument {
    /// None: the family of the control connection.
    None,
    /// 1 or 2.
    Family(Family),
    /// Any other number: answered 522.
    OtherFamily,
    /// `ALL`: no PORT, PASV or EPRT from now on (RFC 2428 §4).
    All,
    /// Anything else: answered 501.
    Malformed,
}

/// What AUTH asks for: the names of RFC 4217 §4 and of the drafts before it, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// `TLS` or `TLS-C`: data connections are clear until PROT says otherwise.
    Tls,
    /// `SSL` or `TLS-P`: in the drafts these mean PROT P as well, and clients of that time never send it.
    TlsPrivate,
    /// Anything else, or nothing: answered 504.
    Other,
}

/// What PROT asks for (RFC 2228 §3), in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// `C`: none.
    Clear,
    /// `P`: TLS.
    Private,
    /// `S` or `E`, which TLS does not have (RFC 4217 §9): answered 536.
    Partial,
    /// Anything else: answered 504.
    Other,
}

/// What ALGS asks an FTP ALG for (RFC 6384 §11), in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algs {
    /// `STATUS64`: what it translates.
    Status,
    /// `ENABLE64`: to translate.
    Enable,
    /// `DISABLE64`: not to.
    Disable,
    /// Anything else, or nothing: answered 504.
    Other,
}

/// The commands that use a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferVerb {
    /// Download.
    Retr,
    /// Upload.
    Stor,
    /// Upload under a name of the server's choice.
    Stou,
    /// Upload to the end of a file.
    Appe,
    /// Directory listing.
    List,
    /// Names only.
    Nlst,
    /// Machine-readable listing (RFC 3659 §7).
    Mlsd,
}

impl TransferVerb {
    /// Whether the client sends the data.
    #[must_use]
    pub const fn is_upload(self) -> bool {
        matches!(self, Self::Stor | Self::Stou | Self::Appe)
    }

    /// The verb in capitals.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retr => "RETR",
            Self::Stor => "STOR",
            Self::Stou => "STOU",
            Self::Appe => "APPE",
            Self::List => "LIST",
            Self::Nlst => "NLST",
            Self::Mlsd => "MLSD",
        }
    }
}

impl fmt::Display for TransferVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a command is refused without the server's seeing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// A Telnet byte between the letters of a verb, or a quotation mark: a server that drops it sees another verb
    /// than we do. ProFTPD takes `"PORT"` for PORT. Answered 500.
    #[error("a verb that the server may read differently")]
    TelnetInVerb,
    /// The address of PORT or EPRT does not parse. Answered 501.
    #[error("a malformed address")]
    BadHostPort,
    /// EPRT names a family other than 1 and 2. Answered 522 (RFC 2428 §2).
    #[error("an unknown address family")]
    UnknownFamily,
    /// Three digits at the start: a reply that some middlebox would take for the server's. The session closes.
    #[error("a line that looks like a reply")]
    LooksLikeReply,
}

impl CommandLine {
    /// Takes a line, with or without its terminator; LF and the CRs before it become one CRLF. Clients exist
    /// that end commands with `\r\r\n` (vsftpd's change log) or with LF alone.
    ///
    /// # Errors
    /// [`LineError::ControlByte`] if a CR, LF or NUL is left elsewhere.
    pub fn new(line: Bytes) -> Result<Self, LineError> {
        let content = trim_end(&line);
        if content.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(LineError::ControlByte);
        }
        if &line[content.len()..] == b"\r\n" {
            return Ok(Self { wire: line });
        }
        let mut wire = BytesMut::with_capacity(content.len() + 2);
        wire.extend_from_slice(content);
        wire.extend_from_slice(b"\r\n");
        Ok(Self { wire: wire.freeze() })
    }

    /// The line to send: the content, a Telnet prefix included, and CRLF.
    #[must_use]
    pub fn wire(&self) -> Bytes {
        self.wire.clone()
    }

    /// The line without its terminator.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.wire[..self.wire.len() - 2]
    }

    /// The line as it goes with urgent data: the part whose last byte is the urgent one, and what follows plainly.
    ///
    /// With Telnet's Synch (`IAC DM`) in front the IAC is urgent, as clients of BSD's family send it (`abort_remote`
    /// in their ftp.c). A server that does not read urgent data inline (ProFTPD) loses that byte; if it were the LF,
    /// it would wait for the end of the line for ever. Without a Synch it is the last byte, as ftplib sends ABOR.
    #[must_use]
    pub fn urgent_wire(&self) -> (Bytes, Bytes) {
        let prefix_len = self.content().len() - unprefixed(self.content()).len();
        let len = if self.wire[..prefix_len].ends_with(b"\xFF\xF2") { prefix_len - 1 } else { self.wire.len() };
        (self.wire.slice(..len), self.wire.slice(len..))
    }

    /// The line without the Telnet options at its start, and what is to be said to them.
    #[must_use]
    pub fn without_options(&self) -> (Self, Vec<Refusal>) {
        let (line, refusals) = without_options(self.wire());
        // An option may have taken the CR in, and nothing else that would matter.
        (Self::new(line).unwrap_or_else(|_| self.clone()), refusals)
    }

    /// What the line asks for.
    ///
    /// # Errors
    /// A [`CommandError`] if it must not reach the server.
    pub fn parse(&self) -> Result<Command<'_>, CommandError> {
        let line = unprefixed(self.content());
        if line.len() >= 3 && line[..3].iter().all(u8::is_ascii_digit) {
            return Err(CommandError::LooksLikeReply);
        }
        let Ok((rest, verb)) = verb(line) else { return Ok(Command::Other) };
        let argument = match telnet_run(rest).map_or(rest, |(rest, _)| rest) {
            [] => &[],
            [separator, argument @ ..] if is_blank(*separator) => argument,
            _ => return Err(CommandError::TelnetInVerb),
        };
        if verb.contains(&b'"') {
            return Err(CommandError::TelnetInVerb);
        }
        command(verb, argument)
    }

    /// Whether this is the request line of HTTP, whose verbs are none of FTP's: a browser that was made to post
    /// to port 21 (NAT slipstreaming, ALPACA), or a scanner.
    #[must_use]
    pub fn is_http(&self) -> bool {
        const METHODS: [&[u8]; 10] =
            [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"PRI"];
        let content = self.content();
        METHODS.iter().any(|method| content.strip_prefix(*method).is_some_and(|rest| rest.first() == Some(&b' ')))
    }

    /// The verb, and the word behind it as a lenient server may read it: without Telnet bytes and quotation marks.
    pub(super) fn words(&self) -> (&[u8], Vec<u8>) {
        let Ok((mut rest, verb)) = verb(unprefixed(self.content())) else { return (&[], Vec::new()) };
        let mut word = Vec::new();
        while let [first, behind @ ..] = rest {
            match telnet(rest) {
                Ok((behind, _)) => rest = behind,
                Err(_) if is_blank(*first) && !word.is_empty() => break,
                Err(_) => {
                    if !is_blank(*first) && *first != b'"' {
                        word.push(*first);
                    }
                    rest = behind;
                }
            }
        }
        (verb, word)
    }

    /// The verb in capitals, escaped and cut to a length that a log can bear; never an argument.
    #[must_use]
    pub fn verb_for_log(&self) -> String {
        let verb = verb(unprefixed(self.content())).map_or(&[][..], |(_, verb)| verb);
        let shown = &verb[..verb.len().min(LOGGED_VERB)];
        let more = if shown.len() < verb.len() { "..." } else { "" };
        format!("{}{more}", shown.to_ascii_uppercase().escape_ascii())
    }
}

/// Only the verb: the line may carry a password.
impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandLine({})", self.verb_for_log())
    }
}

/// The commands, by verb in any case (RFC 959 §5.3).
fn command<'a>(verb: &[u8], argument: &'a [u8]) -> Result<Command<'a>, CommandError> {
    let transfer = |verb| Command::Transfer { verb, path: argument };
    Ok(match verb.to_ascii_uppercase().as_slice() {
        b"PASV" | b"P@SW" => Command::Pasv,
        b"EPSV" => Command::Epsv(epsv_argument(argument)),
        b"PORT" => Command::Port(port(argument)?),
        b"EPRT" => Command::Eprt(eprt(argument)?),
        b"RETR" => transfer(TransferVerb::Retr),
        b"STOR" => transfer(TransferVerb::Stor),
        b"STOU" => transfer(TransferVerb::Stou),
        b"APPE" => transfer(TransferVerb::Appe),
        b"LIST" => transfer(TransferVerb::List),
        b"NLST" => transfer(TransferVerb::Nlst),
        b"MLSD" => transfer(TransferVerb::Mlsd),
        b"REST" | b"RANG" => Command::Rest,
        b"ABOR" => Command::Abor,
        b"STAT" => Command::Stat,
        b"QUIT" => Command::Quit,
        b"REIN" => Command::Rein,
        b"FEAT" => Command::Feat,
        b"USER" => Command::User(argument),
        b"PASS" => Command::Pass,
        b"ACCT" => Command::Acct,
        b"MODE" => letter(argument).map_or(Command::Other, Command::Mode),
        b"TYPE" => letter(argument).map_or(Command::Other, Command::Type),
        b"LPRT" | b"LPSV" | b"CPSV" | b"SPSV" => Command::LongAddress,
        b"AUTH" => Command::Auth(mechanism(argument)),
        b"PBSZ" => Command::Pbsz(size(argument)),
        b"PROT" => Command::Prot(protection(argument)),
        b"CCC" => Command::Ccc,
        b"SSCN" => Command::Sscn,
        b"HOST" => Command::Host(argument),
        b"HELP" => Command::Help,
        b"ALGS" => Command::Algs(algs(argument)),
        b"NOOP" => Command::Noop,
        _ => Command::Other,
    })
}

fn port(argument: &[u8]) -> Result<Claimed, CommandError> {
    host_port::port_argument(argument).map(|(_, claimed)| claimed).map_err(|_| CommandError::BadHostPort)
}

fn eprt(argument: &[u8]) -> Result<Claimed, CommandError> {
    match host_port::eprt_argument(argument) {
        Ok((_, EprtArgument::Address(claimed))) => Ok(claimed),
        Ok((_, EprtArgument::UnknownFamily)) => Err(CommandError::UnknownFamily),
        Err(_) => Err(CommandError::BadHostPort),
    }
}

/// `epsv-argument = *SP [ net-prt / "ALL" ] *SP` (RFC 2428 §3, §4)
fn epsv_argument(argument: &[u8]) -> EpsvArgument {
    let family = map(host_port::net_prt, |family| family.map_or(EpsvArgument::OtherFamily, EpsvArgument::Family));
    let all = value(EpsvArgument::All, tag_no_case("ALL"));
    let none = value(EpsvArgument::None, nom::combinator::success(()));
    // The empty alternative comes last, or it would always win.
    let argument_rule = alt((family, all, none));
    all_consuming(delimited(blanks, argument_rule, blanks))
        .parse(argument)
        .map_or(EpsvArgument::Malformed, |(_, argument)| argument)
}

fn mechanism(argument: &[u8]) -> Mechanism {
    match argument.trim_ascii().to_ascii_uppercase().as_slice() {
        b"TLS" | b"TLS-C" => Mechanism::Tls,
        b"SSL" | b"TLS-P" => Mechanism::TlsPrivate,
        _ => Mechanism::Other,
    }
}

/// The letter of MODE or TYPE.
fn letter(argument: &[u8]) -> Option<u8> {
    argument.iter().find(|&&b| !is_blank(b)).map(u8::to_ascii_uppercase)
}

/// `decimal-integer` (RFC 2228 §5), of 32 bits at most (§3)
fn size(argument: &[u8]) -> Option<u32> {
    all_consuming(nom::character::complete::u32::<_, nom::error::Error<&[u8]>>)
        .parse(argument.trim_ascii())
        .ok()
        .map(|(_, size)| size)
}

fn algs(argument: &[u8]) -> Algs {
    match argument.trim_ascii().to_ascii_uppercase().as_slice() {
        b"STATUS64" => Algs::Status,
        b"ENABLE64" => Algs::Enable,
        b"DISABLE64" => Algs::Disable,
        _ => Algs::Other,
    }
}

fn protection(argument: &[u8]) -> Protection {
    match argument.trim_ascii().to_ascii_uppercase().as_slice() {
        b"C" => Protection::Clear,
        b"P" => Protection::Private,
        b"S" | b"E" => Protection::Partial,
        _ => Protection::Other,
    }
}

/// A line from its verb on. Blanks before the verb are skipped like Telnet bytes: vsftpd and ProFTPD refuse them,
/// but behind a server that does not, a PORT would slip through.
fn unprefixed(content: &[u8]) -> &[u8] {
    prefix(content).map_or(content, |(rest, _)| rest)
}

/// `prefix = *( telnet / blank )`
fn prefix(i: &[u8]) -> IResult<&[u8], &[u8]> {
    recognize(many0_count(alt((telnet, take_while1(is_blank))))).parse(i)
}

/// `telnet-run = *telnet`
fn telnet_run(i: &[u8]) -> IResult<&[u8], &[u8]> {
    recognize(many0_count(telnet)).parse(i)
}

/// `telnet = IAC %xF1-FA / IAC %xFB-FE OCTET / %xF1-FF` (RFC 854, "Telnet command structure"), in this order:
/// a byte alone is what is left when urgent data was lost on the way, as `FF F4 FF` before an ABOR.
fn telnet(i: &[u8]) -> IResult<&[u8], &[u8]> {
    alt((
        recognize((iac, byte_in(0xF1, 0xFA))),
        recognize((iac, byte_in(0xFB, 0xFE), take(1_usize))),
        recognize(byte_in(0xF1, 0xFF)),
    ))
    .parse(i)
}

/// `IAC = %xFF` (RFC 854)
fn iac(i: &[u8]) -> IResult<&[u8], u8> {
    byte_in(0xFF, 0xFF).parse(i)
}

fn byte_in<'a>(low: u8, high: u8) -> impl Parser<&'a [u8], Output = u8, Error = nom::error::Error<&'a [u8]>> {
    verify(nom::number::complete::u8, move |b| (low..=high).contains(b))
}

/// A verb: everything up to a blank or a Telnet byte. RFC 959 §5.3 has letters only; `P@SW` has not.
fn verb(i: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while1(|b| !is_blank(b) && b < 0xF1)(i)
}

fn blanks(i: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while(is_blank)(i)
}

/// What ends a verb. RFC 959 has SP alone (and RFC 2640 §3.1 says that it is exactly one, the next belongs to
/// the path); for ProFTPD any white space does, and a PORT that we took for an unknown verb would slip through.
fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | 0x0B | 0x0C)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &'static [u8]) -> CommandLine {
        CommandLine::new(Bytes::from_static(text)).unwrap()
    }

    #[test]
    fn verbs_and_their_arguments() {
        let transfer = |verb, path| Command::Transfer { verb, path };
        for (text, expected) in [
            (&b"RETR \xd6\xd0.txt\r\n"[..], transfer(TransferVerb::Retr, &b"\xd6\xd0.txt"[..])),
            (b"stor a b", transfer(TransferVerb::Stor, b"a b")),
            (b"STOU", transfer(TransferVerb::Stou, b"")),
            (b"Appe x", transfer(TransferVerb::Appe, b"x")),
            (b"LIST -la", transfer(TransferVerb::List, b"-la")),
            (b"NLST ", transfer(TransferVerb::Nlst, b"")),
            (b"MLSD /", transfer(TransferVerb::Mlsd, b"/")),
            (b"USER  a", Command::User(b" a")),
            (b"USER", Command::User(b"")),
            (b"PASS secret", Command::Pass),
            (b"acct x", Command::Acct),
            (b"PASV \r\n", Command::Pasv),
            (b"  PASV\tx", Command::Pasv),
            (b"rest 100", Command::Rest),
            (b"RANG 1 9", Command::Rest),
            (b"ABOR", Command::Abor),
            (b"STAT /", Command::Stat),
            (b"QUIT", Command::Quit),
            (b"REIN", Command::Rein),
            (b"FEAT", Command::Feat),
            (b"MODE z", Command::Mode(b'Z')),
            (b"TYPE", Command::Other),
            (b"type  a N", Command::Type(b'A')),
            (b"TYPE L 8", Command::Type(b'L')),
            (b"MODE", Command::Other),
            (b"LPSV", Command::LongAddress),
            (b"CPSV", Command::LongAddress),
            (b"SPSV", Command::LongAddress),
            (b"HOST ftp.example", Command::Host(b"ftp.example")),
            (b"HELP USER", Command::Help),
            (b"SSCN ON", Command::Sscn),
            (b"CCC", Command::Ccc),
            (b"ALGS STATUS64", Command::Algs(Algs::Status)),
            (b"algs  enable64 ", Command::Algs(Algs::Enable)),
            (b"ALGS DISABLE64", Command::Algs(Algs::Disable)),
            (b"ALGS", Command::Algs(Algs::Other)),
            (b"ALGS STATUS", Command::Algs(Algs::Other)),
            (b"PASVX", Command::Other),
            (b"12 x", Command::Other),
            (b"\xd6\xd0", Command::Other),
            (b"STOR \"a\"", transfer(TransferVerb::Stor, b"\"a\"")),
        ] {
            assert_eq!(line(text).parse(), Ok(expected), "{}", text.escape_ascii());
        }
        assert!(TransferVerb::Appe.is_upload() && !TransferVerb::List.is_upload());
    }

    #[test]
    fn rfc_13_the_arguments_of_auth_pbsz_and_prot() {
        for (text, expected) in [
            (&b"AUTH TLS"[..], Command::Auth(Mechanism::Tls)),
            (b"auth tls-c ", Command::Auth(Mechanism::Tls)),
            (b"AUTH SSL", Command::Auth(Mechanism::TlsPrivate)),
            (b"AUTH  Tls-P", Command::Auth(Mechanism::TlsPrivate)),
            (b"AUTH GSSAPI", Command::Auth(Mechanism::Other)),
            (b"AUTH TLSX", Command::Auth(Mechanism::Other)),
            (b"AUTH", Command::Auth(Mechanism::Other)),
            (b"PBSZ 0", Command::Pbsz(Some(0))),
            (b"PBSZ 4294967295 ", Command::Pbsz(Some(u32::MAX))),
            (b"PBSZ 4294967296", Command::Pbsz(None)),
            (b"PBSZ 0x", Command::Pbsz(None)),
            (b"PBSZ -1", Command::Pbsz(None)),
            (b"PBSZ", Command::Pbsz(None)),
            (b"PROT C", Command::Prot(Protection::Clear)),
            (b"prot  p ", Command::Prot(Protection::Private)),
            (b"PROT S", Command::Prot(Protection::Partial)),
            (b"PROT E", Command::Prot(Protection::Partial)),
            (b"PROT PP", Command::Prot(Protection::Other)),
            (b"PROT", Command::Prot(Protection::Other)),
        ] {
            assert_eq!(line(text).parse(), Ok(expected), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn sec_05_a_command_that_looks_like_a_reply() {
        for text in [&b"227 Entering Passive Mode (127,0,0,1,4,51)\r\n"[..], b"2279", b"\xff\xf4 227 x", b"000"] {
            assert_eq!(line(text).parse(), Err(CommandError::LooksLikeReply), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn http_requests_are_told_from_commands() {
        for text in [&b"GET / HTTP/1.1\r\n"[..], b"POST /x HTTP/1.1", b"PRI * HTTP/2.0", b"OPTIONS * HTTP/1.1"] {
            assert!(line(text).is_http(), "{}", text.escape_ascii());
        }
        for text in [&b"OPTS UTF8 ON\r\n"[..], b"DELE GET ", b"GETX /", b"GET", b"", b"CONNECTED x"] {
            assert!(!line(text).is_http(), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn sec_29_logs_show_a_harmless_verb_and_no_argument() {
        assert_eq!(line(b"pass hunter2\r\n").verb_for_log(), "PASS");
        assert_eq!(line(b"PASS\xff\xf1hunter2\r\n").verb_for_log(), "PASS");
        assert_eq!(line(b"\xff\xf4ABOR\r\n").verb_for_log(), "ABOR");
        assert_eq!(line(b"\x1b[2J\xd6 x\r\n").verb_for_log(), "\\x1b[2J\\xd6");
        assert_eq!(line(&[b'a'; 40]).verb_for_log(), format!("{}...", "A".repeat(LOGGED_VERB)));
        assert_eq!(line(b"").verb_for_log(), "");
        assert_eq!(format!("{:?}", line(b"PASS hunter2\r\n")), "CommandLine(PASS)");
    }

    #[test]
    fn a_line_that_already_ends_well_is_not_copied() {
        let bytes = Bytes::from_static(b"NOOP\r\n");
        assert_eq!(CommandLine::new(bytes.clone()).unwrap().wire().as_ptr(), bytes.as_ptr());
        for text in [&b"NOOP"[..], b"NOOP\n", b"NOOP\r", b"NOOP\r\r\r\n"] {
            let line = line(text);
            assert_eq!((&line.wire()[..], line.content()), (&b"NOOP\r\n"[..], &b"NOOP"[..]));
        }
    }
}
