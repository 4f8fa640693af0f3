//! One line of a transfer log, as xferlog(5) of wu-ftpd describes it and vsftpd and ProFTPD write it.
//!
//! ```text
//! Wed Nov 25 09:41:07 2026 1 198.51.100.7 1048576 /pub/a_file.bin b _ o r alice ftp 0 * c
//! └── time of the end ───┘ │ └─ client ─┘ └bytes┘ └─── name ────┘ │ │ │ │ └user │   │ │ └ complete, or i
//!                          └ seconds                         type ┘ │ │ │      │   │ └ identity: not known
//!                                              what was done to it: _ │ │      │   └ authentication: none
//!                                                          direction: o, i   └ service
//!                                                                       └ access: real user, or a(nonymous)
//! ```

use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, TimeZone};

use crate::ftp::command::TransferVerb;
use crate::session::TransferRecord;

/// Which way a file went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// To the server.
    Incoming,
    /// To the client.
    Outgoing,
}

/// The transfer of a file, for one line.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ended: SystemTime,
    took: Duration,
    client: IpAddr,
    bytes: u64,
    name: Bytes,
    text: bool,
    direction: Direction,
    user: Box<[u8]>,
    whole: bool,
}

impl Entry {
    /// `None` for what is no transfer of a file: listings, commands that we do not know, and what was refused.
    pub(super) fn new(client: IpAddr, user: Option<&[u8]>, record: &TransferRecord) -> Option<Self> {
        let (direction, bytes) = match record.verb? {
            TransferVerb::Retr => (Direction::Outgoing, record.channel.down),
            TransferVerb::Stor | TransferVerb::Stou | TransferVerb::Appe => (Direction::Incoming, record.channel.up),
            TransferVerb::List | TransferVerb::Nlst | TransferVerb::Mlsd => return None,
        };
        if bytes == 0 && record.code.is_some_and(is_refusal) {
            return None;
        }
        Some(Self {
            ended: SystemTime::now(),
            took: record.took,
            client,
            bytes,
            name: record.path.clone(),
            text: record.text,
            direction,
            user: user.unwrap_or_default().into(),
            whole: record.whole,
        })
    }

    /// With its line end. `ended` is the time of its end where the reader is.
    pub(super) fn line<Z: TimeZone<Offset: Display>>(&self, ended: &DateTime<Z>) -> Vec<u8> {
        let mut line = Vec::with_capacity(96 + self.name.len());
        // vsftpd, too, has no transfer that took no time: programs divide by it.
        let seconds = self.took.as_secs().max(1);
        let ended = ended.format("%a %b %e %H:%M:%S %Y");
        let in_memory = "a vector takes everything";
        write!(line, "{ended} {seconds} {} {} ", self.client, self.bytes).expect(in_memory);
        push_field(&mut line, &self.name);
        let kind = if self.text { 'a' } else { 'b' };
        let direction = match self.direction {
            Direction::Incoming => 'i',
            Direction::Outgoing => 'o',
        };
        let access = if is_anonymous(&self.user) { 'a' } else { 'r' };
        write!(line, " {kind} _ {direction} {access} ").expect(in_memory);
        push_field(&mut line, &self.user);
        writeln!(line, " ftp 0 * {}", if self.whole { 'c' } else { 'i' }).expect(in_memory);
        line
    }
}

/// Whether a transfer without a byte was refused with this, and not broken off.
const fn is_refusal(code: u16) -> bool {
    matches!(code, 400..=599) && !matches!(code, 425 | 426)
}

/// The names by which one logs in without an account (RFC 1635 §3; most servers take the second, too).
fn is_anonymous(user: &[u8]) -> bool {
    user.eq_ignore_ascii_case(b"anonymous") || user.eq_ignore_ascii_case(b"ftp")
}

/// Spaces part the fields, and lines the entries: both become `_`, and so do control characters, as ProFTPD writes them.
/// What is no UTF-8 stays as it is: it is a name in another character set, and whoever reads the server's names reads it.
fn push_field(line: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        return line.push(b'?');
    }
    for chunk in bytes.utf8_chunks() {
        let shown = |letter: char| if letter.is_whitespace() || letter.is_control() { '_' } else { letter };
        line.extend_from_slice(chunk.valid().chars().map(shown).collect::<String>().as_bytes());
        line.extend_from_slice(chunk.invalid());
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::addr::Leg;
    use crate::session::{ChannelReport, End};

    fn record(verb: TransferVerb, path: &[u8]) -> TransferRecord {
        TransferRecord {
            verb: Some(verb),
            path: Bytes::copy_from_slice(path),
            text: false,
            code: Some(226),
            whole: true,
            channel: ChannelReport { end: End::Complete, up: 0, down: 0 },
            took: Duration::from_millis(400),
        }
    }

    fn line(user: &[u8], record: &TransferRecord) -> Option<Vec<u8>> {
        let entry = Entry::new("198.51.100.7".parse().unwrap(), Some(user), record)?;
        Some(entry.line(&Utc.with_ymd_and_hms(2026, 11, 5, 9, 1, 7).unwrap()))
    }

    fn text(user: &str, record: &TransferRecord) -> String {
        String::from_utf8(line(user.as_bytes(), record).unwrap()).unwrap()
    }

    /// Lines of vsftpd 3.0.3 (`xferlog_std_format`) and ProFTPD 1.3.8 (`TransferLog`), but for the client and, of vsftpd's,
    /// the user: it writes the password of an anonymous one.
    #[test]
    fn a_line_is_what_servers_write() {
        let at = Utc.with_ymd_and_hms(2026, 11, 25, 9, 21, 45).unwrap();
        let written = |user: &str, record: &TransferRecord| {
            let entry = Entry::new("198.51.100.7".parse().unwrap(), Some(user.as_bytes()), record).unwrap();
            String::from_utf8(entry.line(&at)).unwrap()
        };
        let mut upload = record(TransferVerb::Stor, b"/up/a b.bin");
        upload.channel.up = 102_400;
        let vsftpd = "Wed Nov 25 09:21:45 2026 1 198.51.100.7 102400 /up/a_b.bin b _ i a anonymous ftp 0 * c\n";
        assert_eq!(written("anonymous", &upload), vsftpd);
        (upload.path, upload.channel.up, upload.text) = (Bytes::from_static(b"/up/text"), 600, true);
        let vsftpd = "Wed Nov 25 09:21:45 2026 1 198.51.100.7 600 /up/text a _ i a anonymous ftp 0 * c\n";
        assert_eq!(written("anonymous", &upload), vsftpd);
        let mut download = record(TransferVerb::Retr, b"/srv/root/up/large");
        download.channel = ChannelReport { end: End::Reset(Leg::Client), up: 9, down: 784_904 };
        (download.took, download.whole) = (Duration::from_secs(3), false);
        let proftpd = "Wed Nov 25 09:21:45 2026 3 198.51.100.7 784904 /srv/root/up/large b _ o r alice ftp 0 * i\n";
        assert_eq!(written("alice", &download), proftpd);
    }

    #[test]
    fn only_files_have_lines() {
        use TransferVerb::{Appe, List, Mlsd, Nlst, Retr, Stor, Stou};
        for (verb, has_one) in
            [(Retr, true), (Stor, true), (Stou, true), (Appe, true), (List, false), (Nlst, false), (Mlsd, false)]
        {
            assert_eq!(line(b"a", &record(verb, b"x")).is_some(), has_one, "{verb}");
        }
        let mut unknown = record(Retr, b"x");
        unknown.verb = None;
        assert_eq!(line(b"a", &unknown), None);
        for (code, down, has_one) in
            [(550, 0, false), (450, 0, false), (550, 1, true), (425, 0, true), (426, 0, true), (226, 0, true)]
        {
            let mut refused = record(Retr, b"x");
            (refused.code, refused.whole, refused.channel.down) = (Some(code), false, down);
            assert_eq!(line(b"a", &refused).is_some(), has_one, "{code} after {down} bytes");
        }
    }

    #[test]
    fn sec_29_no_name_forges_a_field_or_a_line() {
        let named = |name: &[u8]| line(b"a", &record(TransferVerb::Retr, name)).unwrap();
        for (name, shown) in [
            (&b"a b\tc"[..], &b"a_b_c"[..]),
            (b"x\r\nThu Nov  5", b"x__Thu_Nov__5"),
            (b"\x1b[2J\x7f", b"_[2J_"),
            ("sp\u{e4}te L\u{f6}hne".as_bytes(), "sp\u{e4}te_L\u{f6}hne".as_bytes()),
            // Spaces and controls beyond ASCII part fields and drive terminals as well.
            ("a\u{a0}b\u{3000}c\u{2028}d\u{9b}e".as_bytes(), b"a_b_c_d_e"),
            // 中 文 in GBK.
            (b"\xd6\xd0 \xce\xc4", b"\xd6\xd0_\xce\xc4"),
            (b"", b"?"),
        ] {
            let mut expected = b"Thu Nov  5 09:01:07 2026 1 198.51.100.7 0 ".to_vec();
            expected.extend_from_slice(shown);
            expected.extend_from_slice(b" b _ o r a ftp 0 * c\n");
            assert_eq!(named(name).escape_ascii().to_string(), expected.escape_ascii().to_string());
        }
        let user = text("al ice\n", &record(TransferVerb::Retr, b"x"));
        assert!(user.ends_with(" x b _ o r al_ice_ ftp 0 * c\n"), "{user}");
        assert_eq!(line(b"", &record(TransferVerb::Retr, b"x")).unwrap().split(|b| *b == b' ').count(), 19);
    }

    #[test]
    fn who_is_anonymous() {
        for (user, access) in [("anonymous", 'a'), ("FTP", 'a'), ("ftpuser", 'r'), ("alice", 'r')] {
            let line = text(user, &record(TransferVerb::Retr, b"x"));
            assert!(line.contains(&format!(" o {access} {user} ftp")), "{line}");
        }
    }
}
