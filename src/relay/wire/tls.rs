//! TLS within a control connection: what rustls needs to be told, on a socket that never blocks.
//!
//! ```text
//!            start_tls              handshake done             leave (CCC)            both have left
//!   plain ─────────────▶ handshake ────────────────▶ secured ─────────────▶ leaving ────────────────▶ plain
//! ```
//!
//! Our close_notify comes behind all that was queued before [`Tls::leave`], however late the peer reads: what belongs
//! within TLS is never written in clear, also if the peer does not wait for it. The peer leaves by its own close_notify,
//! or by going on in clear, as curl does.
//!
//! The switch to TLS happens when all that was to be written before it is with the socket. What the peer sent too early
//! is still in the socket then, is read as TLS, and makes the handshake fail (CVE-2011-0411).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use rustls::Connection;

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plaintext {
    /// So many bytes.
    Bytes(usize),
    /// Nothing until the socket can be read again.
    Nothing,
    /// The peer has closed its direction: by close_notify, or by FIN alone, as most FTP clients do after QUIT.
    Eof,
    /// The peer has left TLS: the next bytes are plain. Ours are once what is left within TLS has been written.
    Left,
}

/// Our direction of the connection within TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outgoing {
    Open,
    /// close_notify follows so many bytes of plaintext; what comes after them waits until the peer has left, too.
    Leaving(NonZeroUsize),
    /// close_notify is on its way, and plain text follows.
    Left,
    /// close_notify is on its way, and FIN follows.
    Closed,
}

/// The TLS part of a [`Wire`](super::Wire).
#[derive(Debug)]
pub(super) struct Tls {
    connection: Connection,
    /// The handshake is done, and that has been told.
    told: bool,
    outgoing: Outgoing,
    records: Option<Records>,
}

impl Tls {
    /// A connection whose handshake is still to come. `may_leave`: plain text may follow (CCC), so nothing beyond the
    /// record that says so may be read as TLS.
    pub(super) fn new(connection: impl Into<Connection>, may_leave: bool) -> Self {
        let records = may_leave.then(Records::default);
        Self { connection: connection.into(), told: false, outgoing: Outgoing::Open, records }
    }

    /// Whether the peer may not be sent anything yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The name that the peer, a client, expects.
    pub(super) fn server_name(&self) -> Option<&str> {
        match &self.connection {
            Connection::Server(connection) => connection.server_name(),
            Connection::Client(_) => None,
        }
    }

    /// The version that was agreed on.
    pub(super) fn version(&self) -> Option<&'static str> {
        Some(match self.connection.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "other",
        })
    }

    /// Whether plaintext can be encrypted now. What is for the time after TLS waits for that.
    pub(super) fn takes_plaintext(&self) -> bool {
        !self.is_handshaking() && matches!(self.outgoing, Outgoing::Open | Outgoing::Leaving(_))
    }

    /// True once, when the handshake is done.
    pub(super) fn is_news(&mut self) -> bool {
        !self.is_handshaking() && !std::mem::replace(&mut self.told, true)
    }

    /// Whether there is something for the socket.
    pub(super) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Encrypts, and says how much: not what is for the time after TLS, and no more than is fit to be kept.
    pub(super) fn encrypt(&mut self, plaintext: &[u8]) -> io::Result<usize> {
        match self.outgoing {
            Outgoing::Open => self.connection.writer().write(plaintext),
            Outgoing::Leaving(behind) => {
                let count = self.connection.writer().write(&plaintext[..plaintext.len().min(behind.get())])?;
                self.leave(behind.get() - count);
                Ok(count)
            }
            Outgoing::Left | Outgoing::Closed => Ok(0),
        }
    }

    /// Writes what there is to the socket; [`io::ErrorKind::WouldBlock`] if it does not take all.
    pub(super) fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(socket) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Says that nothing more follows.
    pub(super) fn close(&mut self) {
        if self.takes_plaintext() {
            self.outgoing = Outgoing::Closed;
            self.connection.send_close_notify();
        }
    }

    /// Says so behind so many bytes more of plaintext; then plain text follows in both directions, once the peer has left
    /// TLS, too.
    pub(super) fn leave(&mut self, behind: usize) {
        if let Some(behind) = NonZeroUsize::new(behind) {
            self.outgoing = Outgoing::Leaving(behind);
        } else {
            self.outgoing = Outgoing::Left;
            self.connection.send_close_notify();
        }
    }

    /// Whether all that belongs within TLS is encrypted, and plain text follows.
    pub(super) fn has_left(&self) -> bool {
        self.outgoing == Outgoing::Left
    }

    /// What the peer's close_notify means.
    fn ended(&self) -> io::Result<Plaintext> {
        match self.outgoing {
            Outgoing::Open | Outgoing::Closed => Ok(Plaintext::Eof),
            Outgoing::Left => Ok(Plaintext::Left),
            // It cannot have been told that it may: the answer is not even encrypted.
            Outgoing::Leaving(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Whether the peer goes on in clear, and has sent no close_notify: curl does, unless it is told to leave first
    /// (`--ftp-ssl-ccc-mode active`). Somebody on the way can make it look so, who can say in clear whatever he likes from
    /// here on in any case.
    fn is_plain_ahead(&self, socket: &TcpStream) -> io::Result<bool> {
        let is_between_records = self.records.as_ref().is_some_and(Records::is_between);
        let mut first = [0];
        Ok(self.has_left() && is_between_records && socket.peek(&mut first)? == 1 && !CONTENT_TYPES.contains(&first[0]))
    }

    /// Reads until there is plaintext, or the socket has no more.
    ///
    /// # Errors
    /// The connection failed, or what came is not TLS as agreed; the alert that says so waits to be written.
    pub(super) fn read(&mut self, mut socket: &TcpStream, buffer: &mut [u8]) -> io::Result<Plaintext> {
        loop {
            match self.connection.reader().read(buffer) {
                Ok(0) => return self.ended(),
                // It has left TLS before this was sent.
                Ok(_) if matches!(self.outgoing, Outgoing::Leaving(_) | Outgoing::Left) => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok(count) => return Ok(Plaintext::Bytes(count)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Plaintext::Eof),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let received = match self.is_plain_ahead(socket) {
                Ok(true) => return Ok(Plaintext::Left),
                Ok(false) => match &mut self.records {
                    Some(records) => self.connection.read_tls(&mut OneRecord { records, socket: &mut socket }),
                    None => self.connection.read_tls(&mut socket),
                },
                Err(error) => Err(error),
            };
            match received {
                Ok(0) if self.is_handshaking() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    self.connection.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Plaintext::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// How a record begins (RFC 8446 §5.1): no command begins so, nor a Telnet sequence before one.
const CONTENT_TYPES: RangeInclusive<u8> = 20..=23;

/// Where in the stream of records we are (RFC 8446 §5.1: type, version, length, and so many bytes).
#[derive(Debug, Default)]
struct Records {
    header: [u8; Self::HEADER],
    /// How much of the header has come.
    known: usize,
    /// What is missing of the record behind it.
    left: usize,
}

impl Records {
    const HEADER: usize = 5;

    /// Whether what is read next begins a record.
    fn is_between(&self) -> bool {
        self.known == 0
    }

    fn advance(&mut self, bytes: &[u8]) {
        if self.known < Self::HEADER {
            self.header[self.known..self.known + bytes.len()].copy_from_slice(bytes);
            self.known += bytes.len();
            if self.known == Self::HEADER {
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
            }
        } else {
            self.left -= bytes.len();
        }
        if self.known == Self::HEADER && self.left == 0 {
            *self = Self::default();
        }
    }

    /// How much belongs to what is being read for certain.
    fn certain(&self) -> usize {
        if self.known < Self::HEADER { Self::HEADER - self.known } else { self.left }
    }
}

/// Reads no further than to the end of a record.
struct OneRecord<'a, R> {
    records: &'a mut Records,
    socket: &'a mut R,
}

impl<R: Read> Read for OneRecord<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(self.records.certain());
        let count = self.socket.read(&mut buffer[..room])?;
        self.records.advance(&buffer[..count]);
        Ok(count)
    }
}
