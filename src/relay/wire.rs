//! One control connection as the shell sees it: a socket, and what waits to be written to it.
//!
//! No buffer is kept for reading: [`read`](Wire::read) takes one from the caller's stack, when there is
//! something to read.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{Interest, Ready};

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
    batching: Batching,
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
            batching,
        }
    }

    /// Whether more should be written to this leg.
    pub(super) fn has_room(&self) -> bool {
        self.queued < HIGH_WATER
    }

    /// Waits until there is something to do: to read, if `read` says so, to write, if something is queued; a
    /// failed connection always shows. Cancel safe.
    pub(super) async fn ready(&mut self, read: bool) -> io::Result<()> {
        let mut interest = Interest::ERROR;
        if read {
            interest |= Interest::READABLE | Interest::PRIORITY;
        }
        if !self.queue.is_empty() {
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
            || (!self.queue.is_empty() && self.ready.is_writable())
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
        while !self.queue.is_empty() && !self.broken {
            match self.write_some() {
                Ok(written) => self.consume(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready = self.ready - Ready::WRITABLE;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
        if self.outgoing == Outgoing::Closing && !self.broken {
            self.outgoing = Outgoing::Closed;
            self.broken = self.io.get_ref().shutdown(Shutdown::Write).is_err();
        }
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
        loop {
            return match self.io.get_ref().read(buffer) {
                Ok(0) => Received::Eof,
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
            let is_over = !peer_is_open && self.queue.is_empty();
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
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;
    use crate::relay::socket::connect_control;

    /// A wire of ours, and its peer, which takes little before it reads.
    async fn pair() -> (Wire, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
        let ours = connect_control(listener.local_addr().unwrap(), Duration::from_secs(5)).await.unwrap();
        SockRef::from(ours.get_ref()).set_send_buffer_size(4096).unwrap();
        (Wire::new(ours, Batching::Together), listener.accept().unwrap().0)
    }

    #[tokio::test]
    async fn rel_04_a_slow_reader_that_has_closed_its_direction_gets_everything() {
        const SIZE: usize = 1 << 20;
        let (mut wire, mut peer) = pair().await;
        wire.send(vec![b'x'; SIZE].into(), false);
        peer.shutdown(Shutdown::Write).unwrap();
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            let mut got = Vec::new();
            peer.read_to_end(&mut got).map(|_| got.len())
        });
        wire.finish(Duration::from_secs(20)).await;
        assert_eq!(reader.join().unwrap().unwrap(), SIZE);
    }

    #[tokio::test]
    async fn rel_11_a_flood_does_not_keep_a_timeout_from_being_seen() {
        let (mut wire, mut peer) = pair().await;
        peer.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = peer.write(&[0; 1 << 16]) {
            sent += count;
        }
        assert!(sent > 256 * 1024, "{sent} bytes are no flood");
        wire.ready(true).await.unwrap();
        {
            let mut drain = pin!(wire.drain());
            let first = poll_fn(|cx| Poll::Ready(drain.as_mut().poll(cx))).await;
            assert!(first.is_pending());
        }
        assert!(matches!(wire.read(&mut [0; 1]), Received::Bytes { .. }), "one poll has read everything");
    }
}
