//! Scripts of a session: a text of one step per line, so that inputs can be read, and written by hand.
//!
//! ```text
//! @ passive v6 cold 7        data mode, family of both legs (`mixed`: IPv6 client, IPv4 server; `reverse`), not logged in
//!                            yet, size of pieces; all optional
//! @ terminate,require,ccc    TLS with clients: also `implicit`; or `blind`: it passes through
//! @ explicit                 TLS with the server; or `implicit`
//! > USER a                   the client sends this and CRLF
//! >! ABOR                    the same with urgent data
//! < 220-x\n220 y             the server does; `\n` is CRLF, `\l` LF, `\xHH` any byte, `\9z` nine times z
//! < 22\c                     without an end of line
//! bound                      the port that was last asked for is bound; `none`: there is none
//! flushed client 0           of the first open channel
//! complete 0                 ended so; also `missing client 0`, `unreachable`, `torn`, `silent`, and `vain`: no TLS
//! eof client                 also `reset server`
//! handshake client           that is under way is done; `x server`: it has failed
//! leftover client            text lies across a switch to TLS or back
//! present                    the server has been connected to; `offline`: it cannot be
//! wait 70                    seconds
//! gone 7                     events of a channel that is none
//! drain
//! ```
//!
//! The first letter of a word is enough, and everything parses: what makes no sense does nothing.

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode;
use ftp_alg::session::{ClientTls, End, ServerTls, Settings, Terminate, TlsSettings};

use super::driver::{CLIENT, CLIENT_V6, SERVER, SERVER_V6, settings};
use super::shell::{Shell, Step, Text};

/// More steps show nothing new, and every step is checked.
const MAX_STEPS: usize = 200;
/// A line of twice the bound, and some.
const MAX_REPEAT: usize = 9_000;

/// What happens in a session, from its start or from the login on.
#[derive(Debug)]
pub struct Script {
    mode: DataMode,
    tls: TlsSettings,
    /// Client and server.
    peers: (&'static str, &'static str),
    is_cold: bool,
    /// How the bytes arrive the second time.
    pub piece: usize,
    pub steps: Vec<Step>,
}

impl Script {
    /// Everything is a script.
    pub fn parse(text: &[u8]) -> Self {
        let (mode, tls, peers) = (DataMode::Same, TlsSettings::default(), (CLIENT, SERVER));
        let mut script = Self { mode, tls, peers, is_cold: false, piece: 1, steps: Vec::new() };
        for line in text.split(|b| *b == b'\n') {
            match line {
                [b'@', words @ ..] => script.header(words),
                _ if script.steps.len() < MAX_STEPS => script.steps.extend(step(line)),
                _ => {}
            }
        }
        script
    }

    fn header(&mut self, words: &[u8]) {
        for word in words.split(|b| *b == b' ') {
            match word.first() {
                Some(b's') => self.mode = DataMode::Same,
                Some(b'p') => self.mode = DataMode::Passive,
                Some(b'a') => self.mode = DataMode::Active,
                Some(b'v') => self.peers = (CLIENT_V6, SERVER_V6),
                Some(b'm') => self.peers = (CLIENT_V6, SERVER),
                Some(b'r') => self.peers = (CLIENT, SERVER_V6),
                Some(b'c') => self.is_cold = true,
                Some(b't') => self.tls.client = ClientTls::Terminate(terms(word)),
                Some(b'b') => self.tls.client = ClientTls::Passthrough,
                Some(b'e') => self.tls.server = ServerTls::Explicit,
                Some(b'i') => self.tls.server = ServerTls::Implicit,
                Some(b'1'..=b'9') => self.piece = number(word).max(1),
                _ => {}
            }
        }
    }

    /// A shell where the script begins.
    pub fn shell(&self) -> Shell {
        let mut tls = self.tls;
        if tls.client == ClientTls::Passthrough {
            // What proxy.yaml demands.
            tls.server = ServerTls::Plain;
        }
        let mut shell = Shell::between(Settings { tls, ..settings(self.mode) }, self.peers.0, self.peers.1);
        if !self.is_cold {
            shell.log_in();
        }
        shell
    }
}

/// Of `terminate,require,implicit,ccc`.
fn terms(word: &[u8]) -> Terminate {
    let has = |letter| word.split(|b| *b == b',').skip(1).any(|word| word.first() == Some(&letter));
    Terminate { require: has(b'r'), implicit: has(b'i'), allow_ccc: has(b'c') }
}

fn step(line: &[u8]) -> Option<Step> {
    let mut words = line.split(|b| *b == b' ').filter(|word| !word.is_empty());
    let kind = words.next()?.first()?;
    let leg = if words.clone().any(|word| word.starts_with(b"s")) { Leg::Server } else { Leg::Client };
    let number = words.next_back().map_or(0, number);
    let nth = number % 4;
    Some(match kind {
        b'>' => bytes(Leg::Client, &line[1..]),
        b'<' => bytes(Leg::Server, &line[1..]),
        b'b' => Step::Bound,
        b'n' => Step::Refused,
        b'f' => Step::Flushed(nth, leg),
        b'c' => Step::Ended(nth, End::Complete),
        b'm' => Step::Ended(nth, End::NeverConnected(leg)),
        b'u' => Step::Ended(nth, End::DialFailed(leg)),
        b't' => Step::Ended(nth, End::Reset(leg)),
        b's' => Step::Ended(nth, End::Idle),
        b'v' => Step::Ended(nth, End::TlsFailed(leg)),
        b'e' => Step::Eof(leg),
        b'r' => Step::Reset(leg),
        b'h' => Step::TlsReady(leg),
        b'x' => Step::TlsFailed(leg),
        b'l' => Step::LeftOver(leg),
        b'p' => Step::Ready,
        b'o' => Step::Failed,
        b'w' => Step::Pass(number as u64),
        b'g' => Step::Stale(u32::try_from(number).unwrap_or(u32::MAX)),
        b'd' => Step::Drain,
        _ => return None,
    })
}

fn bytes(leg: Leg, text: &[u8]) -> Step {
    let (urgent, text) = text.strip_prefix(b"!").map_or((false, text), |text| (true, text));
    Step::Bytes { leg, data: Text(unescape(text.strip_prefix(b" ").unwrap_or(text))), urgent }
}

fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let plain = text.iter().position(|b| *b == b'\\').unwrap_or(text.len());
        bytes.extend_from_slice(&text[..plain]);
        text = text.get(plain + 1..).unwrap_or_default();
        match text {
            [] => break,
            [b'c'] => return bytes,
            [b'n', rest @ ..] => {
                bytes.extend_from_slice(b"\r\n");
                text = rest;
            }
            [b'l', rest @ ..] => {
                bytes.push(b'\n');
                text = rest;
            }
            [b'x', high, low, rest @ ..] => {
                let digit =
                    |b: &u8| char::from(*b).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
                bytes.push(digit(high) << 4 | digit(low));
                text = rest;
            }
            [b'0'..=b'9', ..] => {
                let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
                let times = number(&text[..digits]).min(MAX_REPEAT);
                let (repeated, rest) = text[digits..].split_at(1.min(text.len() - digits));
                bytes.extend(repeated.iter().cycle().take(times * repeated.len()));
                text = rest;
            }
            _ => bytes.push(b'\\'),
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The digits at the start; 0 where there are none or too many.
fn number(word: &[u8]) -> usize {
    let digits = word.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&word[..digits.min(6)]).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
