//! One control connection as the shell sees it: a socket, and what waits to be written to it.
//!
//! No buffer is kept for reading: [`read`](Wire::read) takes one from the caller's stack, when there is
//! something to read. The lines may go within TLS ([`tls`]).

mod tls;

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{Interest, Ready};

use self::tls::{Plaintext, Tls};
use super::socket::Watched;

/// With so much unwritten, nothing more is read that could lead to more. One reply that a session held back, as much
/// again, can still come on top.
const HIGH_WATER: usize = 64 * 1024;

/// Lines that go out in one system call. Linux takes 1,024 (`IOV_MAX`); a screenful is enough for banners.
const MAX_BATCH: usize = 32;

/// How lines are put together on their way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batching {
    /// As many as there are at once: replies.
    Together,
    /// One by one: commands. Muddleftpd answers `500 Only one command at a time.` to two in one segment.
    OneByOne,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes; `urgent`: urgent data is among them, or just before or after them.
    Bytes { count: usize, urgent: bool },
    /// Nothing for now.
    Nothing,
    /// The peer has closed its direction.
    Eof,
    /// The connection has failed.
    Reset,
}

#[derive(Debug)]
struct Chunk {
    data: Bytes,
    urgent: bool,
}

/// Our direction of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outgoing {
    Open,
    /// FIN follows what is queued.
    Closing,
    Closed,
}

/// Whether lines are encrypted.
#[derive(Debug)]
enum Security {
    Plain,
    /// As soon as what is queued has been written.
    Starting(Box<Tls>),
    Tls(Box<Tls>),
    /// The peer has left TLS, as we do: plain text follows what is left within it.
    Ending(Box<Tls>),
    /// The handshake has failed: the alert that says so goes out, and nothing else goes either way.
    Failed(Box<Tls>),
}

#[derive(Debug)]
pub(super) struct Wire {
    io: Watched,
    /// What epoll reported and no read or write has found to be over yet. Its events are edges: none comes
    /// again for bytes that were left in the socket.
    ready: Ready,
    queue: VecDeque<Chunk>,
    queued: usize,
    outgoing: Outgoing,
    /// A write has failed, or the socket has an error.
    broken: bool,
    /// The peer has sent FIN, and everything before it has been read.
    ended: bool,
    batching: Batching,
    security: Security,
    /// A handshake has failed, which nobody has been told yet.
    failed: Option<io::Error>,
}

impl Wire {
    /// Takes over a connection that has the options of a control connection.
    pub(super) fn new(io: Watched, batching: Batching) -> Self {
        Self {
            io,
            ready: Ready::EMPTY,
            queue: VecDeque::new(),
            queued: 0,
            outgoing: Outgoing::Open,
            broken: false,
            ended: false,
            batching,
            security: Security::Plain,
            failed: None,
        }
    }

    /// The socket.
    pub(super) fn stream(&self) -> &std::net::TcpStream {
        self.io.get_ref()
    }

    /// Begins a handshake behind what is queued. `may_leave`: [`leave_tls`](Self::leave_tls) may follow.
    pub(super) fn start_tls(&mut self, connection: impl Into<rustls::Connection>, may_leave: bool) {
        self.security = Security::Starting(Box::new(Tls::new(connection, may_leave)));
    }

    /// Goes back to plain text behind what is queued, as soon as the peer has, too (CCC).
    pub(super) fn leave_tls(&mut self) {
        self.flush();
        if let Security::Tls(tls) = &mut self.security {
            tls.leave(self.queued);
        }
    }

    /// The name that a TLS client expects (SNI).
    pub(super) fn server_name(&self) -> Option<String> {
        match &self.security {
            Security::Plain | Security::Ending(_) | Security::Failed(_) => None,
            Security::Starting(tls) | Security::Tls(tls) => tls.server_name().map(str::to_owned),
        }
    }

    /// The version of TLS that was agreed on, as its RFC writes it.
    pub(super) fn tls_version(&self) -> Option<&'static str> {
        match &self.security {
            Security::Plain | Security::Starting(_) | Security::Ending(_) | Security::Failed(_) => None,
            Security::Tls(tls) => tls.version(),
        }
    }

    /// What has become of the handshake, told once.
    pub(super) fn handshake(&mut self) -> Option<Result<(), io::Error>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        let Security::Tls(tls) = &mut self.security else { return None };
        tls.is_news().then_some(Ok(()))
    }

    /// Whether a handshake is under way, so that this leg has to be read whatever the session says.
    pub(super) fn is_handshaking(&self) -> bool {
        match &self.security {
            Security::Plain | Security::Ending(_) | Security::Failed(_) => false,
            Security::Starting(_) => true,
            Security::Tls(tls) => tls.is_handshaking(),
        }
    }

    /// Whether more should be written to this leg.
    pub(super) fn has_room(&self) -> bool {
        self.queued < HIGH_WATER
    }

    /// Waits until there is something to do: to read, if `read` says so, to write, if something is queued; a
    /// failed connection always shows. Cancel safe.
    pub(super) async fn ready(&mut self, read: bool) -> io::Result<()> {
        // What comes now belongs to the handshake that has yet to begin, or behind what is still within TLS.
        let read = read && !matches!(self.security, Security::Starting(_) | Security::Ending(_));
        let mut interest = Interest::ERROR;
        if read {
            interest |= Interest::READABLE | Interest::PRIORITY;
        }
        if self.wants_write() {
            interest |= Interest::WRITABLE;
        }
        while !self.is_ready(read) {
            let mut guard = self.io.ready(interest).await?;
            self.ready |= guard.ready();
            guard.clear_ready();
        }
        Ok(())
    }

    fn is_ready(&self, read: bool) -> bool {
        self.broken
            || self.ready.is_error()
            || (read && (self.ready.is_readable() || self.ready.is_priority()))
            || (self.wants_write() && self.ready.is_writable())
    }

    /// Whether there is something that the socket could be given now.
    fn wants_write(&self) -> bool {
        match &self.security {
            Security::Plain | Security::Starting(_) => !self.queue.is_empty(),
            Security::Tls(tls) => tls.wants_write() || (tls.takes_plaintext() && !self.queue.is_empty()),
            Security::Ending(tls) => tls.wants_write() || !self.queue.is_empty(),
            Security::Failed(tls) => tls.wants_write(),
        }
    }

    /// Whether everything is with the socket. What follows TLS may still wait for the peer to leave it.
    fn is_all_written(&self) -> bool {
        let waits = matches!(&self.security, Security::Tls(tls) if tls.has_left()) && !self.queue.is_empty();
        !waits && !self.wants_write()
    }

    /// Whether the connection has failed. What arrived before can still be read.
    pub(super) fn is_broken(&mut self) -> bool {
        if self.ready.is_error() {
            self.ready = self.ready - Ready::ERROR;
            self.broken |= !matches!(self.io.get_ref().take_error(), Ok(None));
        }
        self.broken
    }

    /// Queues bytes; `urgent`: the last of them as urgent data. Dropped after [`shutdown`](Self::shutdown).
    pub(super) fn send(&mut self, data: Bytes, urgent: bool) {
        if self.outgoing == Outgoing::Open && !data.is_empty() {
            self.queued += data.len();
            self.queue.push_back(Chunk { data, urgent });
        }
    }

    /// FIN after what is queued.
    pub(super) fn shutdown(&mut self) {
        if self.outgoing == Outgoing::Open {
            self.outgoing = Outgoing::Closing;
        }
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self) {
        if self.broken {
            return;
        }
        match self.write_all() {
            Ok(()) if self.outgoing == Outgoing::Closing && self.is_all_written() => {
                self.outgoing = Outgoing::Closed;
                self.broken = self.io.get_ref().shutdown(Shutdown::Write).is_err();
            }
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready = self.ready - Ready::WRITABLE,
            Err(_) => self.broken = true,
        }
    }

    fn write_all(&mut self) -> io::Result<()> {
        if let Security::Ending(tls) = &mut self.security {
            tls.flush(&mut self.io.get_ref())?;
            self.security = Security::Plain;
        }
        if let Security::Plain | Security::Starting(_) = self.security {
            self.write_plain()?;
        }
        self.security = match std::mem::replace(&mut self.security, Security::Plain) {
            Security::Starting(tls) => Security::Tls(tls),
            other => other,
        };
        match &mut self.security {
            Security::Tls(_) => self.write_encrypted(),
            Security::Failed(tls) => tls.flush(&mut self.io.get_ref()),
            Security::Plain | Security::Starting(_) | Security::Ending(_) => Ok(()),
        }
    }

    fn write_plain(&mut self) -> io::Result<()> {
        while !self.queue.is_empty() {
            match self.write_some() {
                Ok(written) => self.consume(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_encrypted(&mut self) -> io::Result<()> {
        loop {
            let Security::Tls(tls) = &mut self.security else { return Ok(()) };
            tls.flush(&mut self.io.get_ref())?;
            if self.queue.is_empty() || !tls.takes_plaintext() {
                break;
            }
            let limit = if self.batching == Batching::Together { MAX_BATCH } else { 1 };
            let mut written = 0;
            for chunk in self.queue.iter().take(limit) {
                let count = tls.encrypt(&chunk.data)?;
                written += count;
                if count < chunk.data.len() {
                    break;
                }
            }
            self.consume(written);
        }
        if let (Security::Tls(tls), Outgoing::Closing, true) =
            (&mut self.security, self.outgoing, self.queue.is_empty())
        {
            tls.close();
            tls.flush(&mut self.io.get_ref())?;
        }
        Ok(())
    }

    fn write_some(&self) -> io::Result<usize> {
        let mut stream = self.io.get_ref();
        match self.queue.front() {
            Some(chunk) if chunk.urgent => SockRef::from(stream).send_out_of_band(&chunk.data),
            Some(chunk) if self.batching == Batching::OneByOne => stream.write(&chunk.data),
            _ => {
                let mut slices = [IoSlice::new(&[]); MAX_BATCH];
                let plain = self.queue.iter().take_while(|chunk| !chunk.urgent);
                let count =
                    slices.iter_mut().zip(plain).map(|(slice, chunk)| *slice = IoSlice::new(&chunk.data)).count();
                stream.write_vectored(&slices[..count])
            }
        }
    }

    fn consume(&mut self, mut written: usize) {
        self.queued -= written;
        while let Some(chunk) = self.queue.front_mut() {
            if written < chunk.data.len() {
                return chunk.data.advance(written);
            }
            written -= chunk.data.len();
            self.queue.pop_front();
        }
        // An idle session keeps no room for the burst that it once had.
        self.queue.shrink_to_fit();
    }

    /// Reads once, in the order of arrival, urgent data included.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Received {
        match self.security {
            Security::Plain => self.read_plain(buffer),
            Security::Starting(_) | Security::Ending(_) => Received::Nothing,
            Security::Tls(_) => self.read_encrypted(buffer),
            // Whatever it was meant to be. Read all the same, to see the peer leave.
            Security::Failed(_) => match self.read_plain(buffer) {
                Received::Bytes { .. } => Received::Nothing,
                other => other,
            },
        }
    }

    fn read_encrypted(&mut self, buffer: &mut [u8]) -> Received {
        let Security::Tls(tls) = &mut self.security else { return Received::Nothing };
        match tls.read(self.io.get_ref(), buffer) {
            Ok(Plaintext::Bytes(count)) => Received::Bytes { count, urgent: false },
            Ok(Plaintext::Nothing) => {
                self.ready = self.ready - Ready::READABLE - Ready::PRIORITY;
                Received::Nothing
            }
            Ok(Plaintext::Left) => {
                if let Security::Tls(tls) = std::mem::replace(&mut self.security, Security::Plain) {
                    self.security = Security::Ending(tls);
                }
                self.flush();
                Received::Nothing
            }
            Ok(Plaintext::Eof) => Received::Eof,
            Err(error) if tls.is_handshaking() => {
                self.failed = Some(error);
                if let Security::Tls(tls) = std::mem::replace(&mut self.security, Security::Plain) {
                    self.security = Security::Failed(tls);
                }
                Received::Nothing
            }
            Err(_) => Received::Reset,
        }
    }

    fn read_plain(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            return match self.io.get_ref().read(buffer) {
                Ok(0) => {
                    self.ended = true;
                    Received::Eof
                }
                Ok(count) => {
                    let urgent = self.ready.is_priority();
                    // A short read has emptied the socket, which saves asking again; unless a FIN or the urgent
                    // mark ended it, at which Linux stops reading.
                    if count < buffer.len() && !urgent && !self.ready.is_read_closed() {
                        self.ready = self.ready - Ready::READABLE;
                    }
                    Received::Bytes { count, urgent }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready = self.ready - Ready::READABLE - Ready::PRIORITY;
                    Received::Nothing
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Received::Reset,
            };
        }
    }

    /// Closes in good order: what is queued, FIN, and then whatever the peer still sends is read away, since
    /// closing with unread bytes would be a reset that takes our last reply with it.
    pub(super) async fn finish(mut self, limit: Duration) {
        let is_plain = matches!(self.security, Security::Plain);
        if self.ended && is_plain && !self.wants_write() {
            // Nothing can be unread: closing is FIN enough. If it is a reset after all, the peer has no more use for us.
            let _good_end = SockRef::from(self.io.get_ref()).set_linger(None).is_ok();
            return;
        }
        self.shutdown();
        if SockRef::from(self.io.get_ref()).set_linger(None).is_ok() {
            // After the limit the rest is the kernel's to deliver.
            let _ended_in_time = tokio::time::timeout(limit, self.drain()).await.is_ok();
        }
    }

    /// Returns when everything has been written and the peer has closed, too, or the connection has failed.
    async fn drain(&mut self) {
        let mut peer_is_open = true;
        loop {
            self.flush();
            let is_over = !peer_is_open && !self.wants_write();
            if is_over || self.is_broken() || self.ready(peer_is_open).await.is_err() {
                return;
            }
            if peer_is_open && self.discard() == Received::Eof {
                peer_is_open = false;
            }
            // A peer that sends without a pause never makes us wait, and a future that never waits sees no timeout.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Reads once, for nothing. No buffer of its own is part of the caller's future.
    fn discard(&mut self) -> Received {
        let received = self.read(&mut [0; 512]);
        self.broken |= received == Received::Reset;
        received
    }
}

#[cfg(test)]
mod tests;
