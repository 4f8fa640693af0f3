//! What holds the bytes of one direction on their way from socket to socket: a buffer, or a pipe.

use std::io;

use tokio::net::TcpStream;

use super::buffer::{self, Buffer};
use crate::relay::splice::{self, Pipes, Pooled, When};

/// Holds bytes while there are some, and is let go when the sender has to be waited for.
pub(super) enum Mover<'a> {
    Buffer(Buffer),
    Pipe(Pooled<'a>),
}

/// What a mover got from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// Some bytes, to be handed on.
    Bytes,
    /// The sender's FIN.
    End,
    /// Nothing, and the socket tells when there is more.
    Nothing,
    /// Nothing by this mover; one that copies will know.
    Copy,
}

/// Decides how a direction moves its next bytes.
pub(super) struct Choice<'a> {
    pipes: &'a Pipes,
    when: When,
    /// The last read got a buffer full or more, so that more is waiting and splicing pays. It is the read that
    /// decides, not the length of the file: bytes that trickle in cost less when copied.
    long: bool,
}

impl<'a> Choice<'a> {
    pub(super) const fn new(pipes: &'a Pipes) -> Self {
        Self { pipes, when: pipes.when(), long: false }
    }

    /// A pipe where that pays and one is to be had, otherwise a buffer.
    pub(super) fn mover(&self) -> Mover<'a> {
        self.pipe().unwrap_or_else(Mover::buffer)
    }

    /// The same after `mover`, which is empty, has done its work.
    pub(super) fn next(&self, mover: Mover<'a>) -> Mover<'a> {
        match mover {
            Mover::Buffer(_) => self.pipe().unwrap_or(mover),
            Mover::Pipe(_) if self.splices() => mover,
            // It got little, so there is probably nothing left, and only the socket itself can say so.
            Mover::Pipe(_) => Mover::buffer(),
        }
    }

    fn pipe(&self) -> Option<Mover<'a>> {
        if self.splices() { self.pipes.take().map(Mover::Pipe) } else { None }
    }

    const fn splices(&self) -> bool {
        match self.when {
            When::Never => false,
            When::Long => self.long,
            When::Always => true,
        }
    }

    /// Fills `mover`, which is empty, and learns from that.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) fn fill(&mut self, mover: &mut Mover<'a>, from: &TcpStream) -> io::Result<Filled> {
        match mover {
            Mover::Buffer(buffer) => match buffer.fill(from) {
                Ok(0) => Ok(Filled::End),
                Ok(n) => {
                    self.long = n == buffer::SIZE;
                    Ok(Filled::Bytes)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Filled::Nothing),
                Err(error) => Err(error),
            },
            Mover::Pipe(pipe) => Ok(match pipe.fill(from)? {
                splice::Filled::Bytes => {
                    self.long = pipe.held() >= buffer::SIZE;
                    Filled::Bytes
                }
                splice::Filled::AskSocket => Filled::Copy,
                splice::Filled::Refused => {
                    self.when = When::Never;
                    Filled::Copy
                }
            }),
        }
    }
}

impl Mover<'_> {
    /// A buffer: it always does.
    pub(super) fn buffer() -> Self {
        Self::Buffer(Buffer::new())
    }

    /// Nothing left to hand on.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Buffer(buffer) => buffer.is_empty(),
            Self::Pipe(pipe) => pipe.held() == 0,
        }
    }

    /// Hands on what `to` takes, and says how many bytes that were.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes none (await `writable()`); otherwise the connection failed.
    pub(super) fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        match self {
            Self::Buffer(buffer) => buffer.drain(to),
            Self::Pipe(pipe) => pipe.drain(to),
        }
    }
}
