//! Bytes to lines of bounded length.
//!
//! LF alone ends a line, in both directions: servers end inner lines of replies with a bare LF (ProFTPD 1.3.0a
//! in FEAT, Axis cameras in their greeting), and clients end commands with `\r\r\n` (vsftpd's change log). What
//! CR and NUL mean in a command is [`CommandLine`](super::command::CommandLine)'s business.

use bytes::Bytes;

use super::telnet::{Options, Refusal, Taken};

/// The longest line that is looked into unless a splitter has [a limit of its own](LineSplitter::new), in bytes, its
/// terminator included.
///
/// IIS takes 4,096 bytes by default (`maxCommandLine`), vsftpd as much (`VSFTP_MAX_COMMAND_LINE`), and Zeek's
/// analyser stops there too; `PATH_MAX` on Linux is the same number. OpenBSD's ftp-proxy stops at 500, which
/// cuts long paths.
pub const MAX_LINE: usize = 4096;

/// Splits a stream into lines, however the stream is cut up.
///
/// Only an unfinished line is kept, and never more than its limit, [`MAX_LINE`] bytes by default; between lines there
/// is no buffer at all, so an idle session costs nothing here. Feed each chunk to [`next`](Self::next) until it
/// returns `None`; at the end of the stream ask [`take_rest`](Self::take_rest).
#[derive(Debug)]
pub struct LineSplitter {
    /// The longest line, in bytes, its terminator included. Of 32 bits, since every session has two of these.
    limit: u32,
    /// The start of a line whose LF has not come; always shorter than `limit`, empty while `overlong`.
    unfinished: Vec<u8>,
    /// The start of the present line was given out as [`Piece::Overlong`] and its LF has not come.
    overlong: bool,
    /// Telnet options are taken out.
    options: Option<Options>,
}

/// What a [`LineSplitter`] gives out.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole line with its terminator: it ends in LF and is not longer than the limit.
    Line(Bytes),
    /// A part of a line that is longer than the limit.
    Overlong {
        /// As many bytes as the limit at most; exactly as many in the first part.
        bytes: Bytes,
        /// The line begins here.
        first: bool,
        /// The line ends here: `bytes` ends in LF.
        last: bool,
    },
    /// The peer wants to agree on a Telnet option, and is to be told this. It is part of no line, and comes only where
    /// [options are refused](LineSplitter::refuse_options).
    Option(Refusal),
}

impl Default for LineSplitter {
    fn default() -> Self {
        Self::new(MAX_LINE)
    }
}

impl LineSplitter {
    /// A splitter whose lines have at most `limit` bytes, their terminators included.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Self { limit, unfinished: Vec::new(), overlong: false, options: None }
    }

    /// From now on Telnet options at the start of a line are no part of it, but a [piece](Piece::Option) of their own.
    /// Those at the start of the present line, as far as it is there, are returned.
    pub fn refuse_options(&mut self) -> Vec<Refusal> {
        if self.options.is_some() {
            return Vec::new();
        }
        self.options = Some(if self.overlong { Options::within_text() } else { Options::default() });
        let start = std::mem::take(&mut self.unfinished);
        let mut rest = &start[..];
        // There is no LF in it, and less than a whole line: options are all that can come of it.
        std::iter::from_fn(|| self.next(&mut rest))
            .filter_map(|piece| if let Piece::Option(refusal) = piece { Some(refusal) } else { None })
            .collect()
    }

    /// From now on Telnet options pass.
    pub fn pass_options(&mut self) {
        self.options = None;
    }

    /// Takes the next piece from the front of `data`; `None` when `data` is used up.
    pub fn next(&mut self, data: &mut &[u8]) -> Option<Piece> {
        while let Some(options) = self.options.as_mut().filter(|options| options.is_looking())
            && let Some((&byte, rest)) = data.split_first()
        {
            let taken = options.take(byte);
            if !matches!(taken, Taken::Before(_)) {
                *data = rest;
            }
            let piece = match taken {
                Taken::Text(byte) | Taken::Before(byte) => self.split(&mut &[byte][..]),
                Taken::Nothing => None,
                Taken::Option(refusal) => Some(Piece::Option(refusal)),
            };
            if piece.is_some() {
                return piece;
            }
        }
        let piece = self.split(data)?;
        if let Some(options) = self.options.as_mut()
            && matches!(piece, Piece::Line(_) | Piece::Overlong { last: true, .. })
        {
            options.line_ended();
        }
        Some(piece)
    }

    fn limit(&self) -> usize {
        self.limit as usize
    }

    fn split(&mut self, data: &mut &[u8]) -> Option<Piece> {
        if data.is_empty() {
            return None;
        }
        let first = !self.overlong;
        let room = self.limit() - self.unfinished.len();
        let window = &data[..data.len().min(room)];
        let end = window.iter().position(|&b| b == b'\n').map(|lf| lf + 1);
        if first && end.is_none() && window.len() < room {
            self.keep(take(data, window.len()));
            return None;
        }
        let taken = take(data, end.unwrap_or(window.len()));
        let bytes = self.complete(taken);
        let last = end.is_some();
        self.overlong = !last;
        Some(if first && last { Piece::Line(bytes) } else { Piece::Overlong { bytes, first, last } })
    }

    /// Whether a line has begun and not ended, an overlong one included.
    #[must_use]
    pub fn is_mid_line(&self) -> bool {
        self.overlong || !self.unfinished.is_empty() || self.options.is_some_and(Options::is_mid_option)
    }

    /// At the end of the stream: the rest without an LF, if there is one. Of an overlong line everything
    /// was given out already.
    pub fn take_rest(&mut self) -> Option<Bytes> {
        self.overlong = false;
        if let Some(options) = &mut self.options {
            options.line_ended();
        }
        let rest = std::mem::take(&mut self.unfinished);
        (!rest.is_empty()).then(|| Bytes::from(rest))
    }

    /// Keeps the start of a line, in a buffer that doubles but never beyond the limit.
    fn keep(&mut self, bytes: &[u8]) {
        let wanted = self.unfinished.len() + bytes.len();
        if wanted > self.unfinished.capacity() {
            let capacity = (2 * wanted).min(self.limit());
            self.unfinished.reserve_exact(capacity - self.unfinished.len());
        }
        self.unfinished.extend_from_slice(bytes);
    }

    /// What was kept, and `end`; leaves no buffer behind.
    fn complete(&mut self, end: &[u8]) -> Bytes {
        if self.unfinished.is_empty() {
            return Bytes::copy_from_slice(end);
        }
        let mut line = std::mem::take(&mut self.unfinished);
        line.reserve_exact(end.len());
        line.extend_from_slice(end);
        Bytes::from(line)
    }
}

/// A whole line without the Telnet options at its start, and what is to be said to them.
pub(super) fn without_options(line: Bytes) -> (Bytes, Vec<Refusal>) {
    let mut splitter = LineSplitter::new(usize::MAX);
    let mut refusals = splitter.refuse_options();
    let mut rest = &line[..];
    while let Some(piece) = splitter.next(&mut rest) {
        match piece {
            Piece::Line(line) => return (line, refusals),
            Piece::Option(refusal) => refusals.push(refusal),
            Piece::Overlong { .. } => {}
        }
    }
    (splitter.take_rest().unwrap_or_default(), refusals)
}

/// A line without LF and the CRs before it.
pub(super) fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let end = line.iter().rposition(|&b| b != b'\r').map_or(0, |last| last + 1);
    &line[..end]
}

/// Takes `n` bytes off the front of `data`.
fn take<'a>(data: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (front, rest) = data.split_at(n);
    *data = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a chunk and returns what comes out; nothing beyond `MAX_LINE` may be held at any moment.
    fn feed(splitter: &mut LineSplitter, mut chunk: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some(piece) = splitter.next(&mut chunk) {
            // An option stands before or within the first word of a line, which is kept.
            let is_between = !matches!(piece, Piece::Option(_));
            pieces.push(piece);
            assert!(!is_between || splitter.unfinished.capacity() == 0, "a buffer left behind");
        }
        assert!(chunk.is_empty(), "data left over");
        assert!(splitter.unfinished.capacity() <= MAX_LINE, "{} bytes held", splitter.unfinished.capacity());
        pieces
    }

    fn line(text: &'static str) -> Piece {
        Piece::Line(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn rfc_01_lines_do_not_follow_the_chunks() {
        let mut splitter = LineSplitter::default();
        assert_eq!(feed(&mut splitter, b"USER a\r\nPASS"), [line("USER a\r\n")]);
        assert!(splitter.is_mid_line());
        assert_eq!(feed(&mut splitter, b" b\r"), []);
        assert_eq!(feed(&mut splitter, b"\n\nQUIT\n"), [line("PASS b\r\n"), line("\n"), line("QUIT\n")]);
        assert!(!splitter.is_mid_line());
        assert_eq!(splitter.take_rest(), None);
    }

    #[test]
    fn the_rest_at_the_end_of_the_stream() {
        let mut splitter = LineSplitter::default();
        assert_eq!(feed(&mut splitter, b"221 Goo"), []);
        assert_eq!(splitter.take_rest().as_deref(), Some(&b"221 Goo"[..]));
        assert_eq!((splitter.is_mid_line(), splitter.take_rest()), (false, None));
    }

    #[test]
    fn sec_10_a_line_is_overlong_from_one_byte_past_the_limit() {
        let longest = [&[b'x'; MAX_LINE - 1][..], b"\n"].concat();
        let overlong = [b"y", &longest[..]].concat();
        for chunk in [1, 7, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE] {
            let stream = [&longest[..], &overlong, &longest].concat();
            let mut splitter = LineSplitter::default();
            let mut pieces: Vec<_> = stream.chunks(chunk).flat_map(|chunk| feed(&mut splitter, chunk)).collect();
            assert_eq!(pieces.remove(0), Piece::Line(longest.clone().into()));
            assert_eq!(pieces.pop(), Some(Piece::Line(longest.clone().into())));
            let bytes = |range| Bytes::copy_from_slice(&overlong[range]);
            assert_eq!(
                pieces,
                [
                    Piece::Overlong { bytes: bytes(0..MAX_LINE), first: true, last: false },
                    Piece::Overlong { bytes: bytes(MAX_LINE..MAX_LINE + 1), first: false, last: true },
                ]
            );
        }
    }

    #[test]
    fn sec_10_the_limit_is_the_splitters_own() {
        for limit in [512, 2 * MAX_LINE] {
            let longest = [&vec![b'x'; limit - 1][..], b"\n"].concat();
            let mut splitter = LineSplitter::new(limit);
            for chunk in longest.chunks(100) {
                assert!(splitter.unfinished.capacity() <= limit, "{} bytes held", splitter.unfinished.capacity());
                if let Some(piece) = splitter.next(&mut &*chunk) {
                    assert_eq!(piece, Piece::Line(longest.clone().into()), "{limit}");
                }
            }
            assert!(!splitter.is_mid_line());
            let overlong = [b"y", &longest[..]].concat();
            let first = splitter.next(&mut &overlong[..]);
            assert!(matches!(first, Some(Piece::Overlong { bytes, first: true, last: false }) if bytes.len() == limit));
        }
    }

    /// What a splitter that refuses options makes of a stream: lines, and answers.
    fn refusing(stream: &[u8], size: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut splitter = LineSplitter::default();
        assert_eq!(splitter.refuse_options(), []);
        let (mut lines, mut answers) = (Vec::new(), Vec::new());
        for piece in stream.chunks(size).flat_map(|chunk| feed(&mut splitter, chunk)) {
            match piece {
                Piece::Line(line) => lines.push(line.to_vec()),
                Piece::Overlong { bytes, first, .. } if first => lines.push(bytes.to_vec()),
                Piece::Overlong { bytes, .. } => lines.last_mut().unwrap().extend_from_slice(&bytes),
                Piece::Option(refusal) => answers.extend(refusal.wire()),
            }
        }
        lines.extend(splitter.take_rest().map(Vec::from));
        (lines, answers)
    }

    #[test]
    fn rfc_23_options_are_taken_out_where_no_name_can_stand() {
        for (stream, line, answers) in [
            (&b"\xff\xfd\x01NOOP\r\n"[..], &b"NOOP\r\n"[..], &b"\xff\xfc\x01"[..]),
            (b"\xff\xfb\x06NOOP\r\n", b"NOOP\r\n", b"\xff\xfe\x06"),
            (b"\xff\xfc\x01\xff\xfe\x03NOOP\r\n", b"NOOP\r\n", b""),
            (
                b" \xff\xfd\x0ANO\xff\xfd\xffOP\xff\xfb\x01 a\r\n",
                b" NOOP a\r\n",
                b"\xff\xfc\x0a\xff\xfc\xff\xff\xfe\x01",
            ),
            // Interrupt and Synch are no options; telnet(1) sends DO TIMING-MARK behind an interrupt.
            (b"\xff\xf4\xff\xfd\x06\xff\xf2ABOR\r\n", b"\xff\xf4\xff\xf2ABOR\r\n", b"\xff\xfc\x06"),
            (b"\xff\xf4\xffABOR\r\n", b"\xff\xf4\xffABOR\r\n", b""),
            // A byte 0xFF of a text, doubled.
            (b"\xff\xff\xfd\x01\r\n", b"\xff\xff\xfd\x01\r\n", b""),
            // `CWD яы` in CP1251, doubled as lftp does it and not; GBK; UTF-8.
            (b"CWD \xff\xfb\r\n", b"CWD \xff\xfb\r\n", b""),
            (b"CWD a\xff\xff\xfdb\r\n", b"CWD a\xff\xff\xfdb\r\n", b""),
            (b"RETR \xff\xfd\xd6\xd0\r\n", b"RETR \xff\xfd\xd6\xd0\r\n", b""),
            ("220-я \u{ff}\r\n".as_bytes(), "220-я \u{ff}\r\n".as_bytes(), b""),
        ] {
            for size in 1..=stream.len() {
                assert_eq!(
                    refusing(stream, size),
                    (vec![line.to_vec()], answers.to_vec()),
                    "{}",
                    stream.escape_ascii()
                );
            }
            assert_eq!(without_options(Bytes::from_static(stream)).0, line);
        }
    }

    #[test]
    fn rfc_23_each_line_has_a_start() {
        let long = [&[b'x'; 2 * MAX_LINE][..], b"\xff\xfd\x01 \xff\xfd\x01\n"].concat();
        let stream = [&b"\n\xff\xfd\x01a b\n"[..], &long, b"\xff\xfd\x02\n\xff\xfd"].concat();
        let lines = [&b"\n"[..], b"a b\n", &[&long[..2 * MAX_LINE], b" \xff\xfd\x01\n"].concat(), b"\n"];
        for size in [1, 7, MAX_LINE, stream.len()] {
            let (found, answers) = refusing(&stream, size);
            assert_eq!(found, lines);
            assert_eq!(answers, b"\xff\xfc\x01\xff\xfc\x01\xff\xfc\x02");
        }
    }

    #[test]
    fn rfc_23_answers_to_one_peer_are_bounded() {
        let (lines, answers) = refusing(&[&b"\xff\xfd\x01".repeat(1000)[..], b"NOOP\n"].concat(), 1000);
        assert_eq!((lines, answers), (vec![b"NOOP\n".to_vec()], b"\xff\xfc\x01".repeat(80)));
    }

    #[test]
    fn rfc_23_an_unfinished_line_is_looked_through_when_refusal_begins() {
        let mut splitter = LineSplitter::default();
        assert_eq!(feed(&mut splitter, b"\xff\xfd\x01\xff\xfb"), []);
        let answers = splitter.refuse_options();
        assert_eq!(answers.iter().map(|refusal| refusal.wire()).collect::<Vec<_>>(), [*b"\xff\xfc\x01"]);
        assert!(splitter.is_mid_line(), "half an option");
        assert!(matches!(feed(&mut splitter, b"\x03NO")[..], [Piece::Option(_)]));
        assert_eq!(feed(&mut splitter, b"OP\n"), [line("NOOP\n")]);
        splitter.pass_options();
        let option = Bytes::from_static(b"\xff\xfd\x01\n");
        assert_eq!(feed(&mut splitter, &option), [Piece::Line(option.clone())]);
    }

    #[test]
    fn sec_10_a_stream_without_lf_is_never_held() {
        // The buffers of the reader are of this order; `feed` checks what is held after each.
        let chunk = [b'A'; 16 * 1024];
        let mut splitter = LineSplitter::default();
        let mut passed = 0;
        for _ in 0..512 {
            for piece in feed(&mut splitter, &chunk) {
                let Piece::Overlong { bytes, first, last: false } = piece else { panic!("a line without LF") };
                assert_eq!(first, passed == 0);
                assert!(bytes.len() <= MAX_LINE);
                passed += bytes.len();
            }
        }
        assert_eq!(passed, 512 * chunk.len());
        assert!(splitter.is_mid_line());
        assert_eq!(feed(&mut splitter, b"\nQUIT\r\n").last(), Some(&line("QUIT\r\n")));
    }
}
