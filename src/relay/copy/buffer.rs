//! The buffer through which the bytes of a direction go where no pipe does.

use std::cell::Cell;
use std::io;
use std::mem;

use tokio::net::TcpStream;

/// Bytes copied at once: the largest power of two below 64 KiB, from where on glibc consolidates the heap whenever a
/// buffer is freed (`FASTBIN_CONSOLIDATION_THRESHOLD`).
pub(super) const SIZE: usize = 32 * 1024;

thread_local! {
    /// The one that was let go last: a short transfer has one for each direction, and for a moment only.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Room for [`SIZE`] bytes, and those that have not been handed on.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    given: usize,
}

impl Buffer {
    /// Empty.
    pub(super) fn new() -> Self {
        let spare = SPARE.take();
        let bytes = if spare.capacity() == SIZE { spare } else { Vec::with_capacity(SIZE) };
        Self { bytes, given: 0 }
    }

    /// Nothing left to hand on.
    pub(super) fn is_empty(&self) -> bool {
        self.given == self.bytes.len()
    }

    /// Reads once into this buffer, which is empty; how many bytes that gave, none at the end of the stream.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing to read; otherwise the connection failed.
    pub(super) fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        self.bytes.clear();
        self.given = 0;
        from.try_read_buf(&mut self.bytes)
    }

    /// Hands on what `to` takes, and says how many bytes that were.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes none; otherwise the connection failed.
    pub(super) fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let n = to.try_write(&self.bytes[self.given..])?;
        self.given += n;
        Ok(n)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = mem::take(&mut self.bytes);
        spare.clear();
        // Not where the thread is ending.
        let _freed = SPARE.try_with(|last| last.set(spare));
    }
}
