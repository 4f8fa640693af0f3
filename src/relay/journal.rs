//! What the log says of a session: one line for each transfer, one at its end. Never a password, never the
//! contents of a file.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::addr::Leg;
use crate::session::{ChannelReport, Notice, Reason, TransferRecord};

use super::upstream::ConnectError;
use super::upstreams::Group;

static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// The log of one session.
#[derive(Debug)]
pub(super) struct Journal {
    listener: Box<str>,
    session: u64,
    client: SocketAddr,
    began: Instant,
    transfers: u64,
}

impl Journal {
    pub(super) fn open(listener: &str, client: SocketAddr) -> Self {
        let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%listener, session, %client, "session began");
        Self { listener: listener.into(), session, client, began: Instant::now(), transfers: 0 }
    }

    /// The number of the session.
    pub(super) fn session(&self) -> u64 {
        self.session
    }

    pub(super) fn transferred(&mut self, user: Option<&[u8]>, record: &TransferRecord) {
        self.transfers += 1;
        let verb = record.verb.map_or("-", |verb| verb.as_str());
        tracing::info!(
            listener = %self.listener,
            session = self.session,
            client = %self.client,
            user = escaped(user.unwrap_or_default()),
            verb,
            path = escaped(&record.path),
            bytes_up = record.channel.up,
            bytes_down = record.channel.down,
            seconds = record.took.as_secs_f64(),
            code = record.code,
            outcome = %record.channel.end,
            "transfer"
        );
    }

    pub(super) fn notice(&self, notice: &Notice) {
        let (listener, session, client) = (&self.listener, self.session, self.client);
        match notice {
            Notice::UnsolicitedPassive => {
                tracing::warn!(%listener, session, %client, "the server sent a 227 or 229 that nobody asked for; left as it was");
            }
            Notice::Refused(refusal) => tracing::info!(%listener, session, %client, %refusal, "PORT refused"),
            Notice::ServerPort(refusal) => {
                tracing::warn!(%listener, session, %client, %refusal, "the server's passive port is not dialled");
            }
            Notice::ServerRefuses { asked, code } => {
                tracing::warn!(%listener, session, %client, asked, code, "the server refuses what every session begins with");
            }
            Notice::ServerRefusesPort { code } => {
                tracing::warn!(%listener, session, %client, code, "the server refuses PORT");
            }
            Notice::PassiveUnanswered => {
                tracing::warn!(%listener, session, %client, "the server did not answer PASV, EPSV or PORT");
            }
        }
    }

    pub(super) fn upstream_failed(&self, upstream: &Group, error: &ConnectError) {
        let (listener, session, client) = (&self.listener, self.session, self.client);
        tracing::warn!(%listener, session, %client, %upstream, %error, "cannot reach the FTP server");
    }

    pub(super) fn no_tls(&self, leg: Leg, error: &io::Error) {
        let (listener, session, client) = (&self.listener, self.session, self.client);
        match leg {
            Leg::Client => tracing::info!(%listener, session, %client, %error, "the client's TLS handshake failed"),
            Leg::Server => tracing::warn!(%listener, session, %client, %error, "the server's TLS handshake failed"),
        }
    }

    /// `server`: where it was, if sessions of the listener are with different ones.
    pub(super) fn close(&self, user: Option<&[u8]>, server: Option<SocketAddr>, why: Reason) {
        tracing::info!(
            listener = %self.listener,
            session = self.session,
            client = %self.client,
            user = escaped(user.unwrap_or_default()),
            server = server.map(tracing::field::display),
            transfers = self.transfers,
            seconds = self.began.elapsed().as_secs_f64(),
            outcome = %why,
            "session"
        );
    }
}

/// A data connection of a session that is passed through. Nobody knows which session of its client's address it belongs
/// to, or what moved there: all that shows are bytes.
pub(super) fn passed(listener: &str, client: SocketAddr, port: u16, report: ChannelReport, took: Duration) {
    let ChannelReport { end, up, down } = report;
    tracing::info!(
        listener,
        %client,
        port,
        bytes_up = up,
        bytes_down = down,
        seconds = took.as_secs_f64(),
        outcome = %end,
        "transfer passed through"
    );
}

/// A text of its own, so that the text format puts it in quotes: names have spaces.
pub(super) fn escaped(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}

/// Bytes off the wire, fit for a log: control characters escaped, what is not UTF-8 as `\xNN`, and no longer
/// than OpenBSD ftp-proxy logs (`MAX_LOGLINE`).
struct Escaped<'a>(&'a [u8]);

const MAX_LOGGED: usize = 300;

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(MAX_LOGGED)];
        for chunk in shown.utf8_chunks() {
            for letter in chunk.valid().chars() {
                if letter.is_control() || letter == '\\' {
                    write!(f, "{}", letter.escape_default())?;
                } else {
                    write!(f, "{letter}")?;
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        if shown.len() < self.0.len() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_29_what_a_peer_sent_cannot_forge_or_flood_the_log() {
        assert_eq!(Escaped(b"a\r\n\x1b[2J\x07").to_string(), r"a\r\n\u{1b}[2J\u{7}");
        assert_eq!(Escaped("späte Löhne.csv".as_bytes()).to_string(), "späte Löhne.csv");
        assert_eq!(Escaped(b"\xd6\xd0").to_string(), r"\xd6\xd0");
        assert_eq!(Escaped(b"a\\n").to_string(), r"a\\n");
        let long = Escaped(&[b'x'; 5000]).to_string();
        assert_eq!(long.chars().count(), MAX_LOGGED + 1);
        assert!(long.ends_with('…'));
    }
}
