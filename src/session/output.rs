//! What goes to the client, in order: normally straight out, but behind a transfer's final reply that is
//! held until the client has the data.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::event::ChannelId;
use super::transfer::Verdict;

/// With so much waiting, the server is not read any further: room for any sane final reply (`226-`
/// statistics) and what pipelined commands are answered behind it, but a bound.
const HIGH_WATER: usize = 64 * 1024;

#[derive(Debug)]
enum Item {
    Text(BytesMut),
    Final(Final),
}

#[derive(Debug)]
struct Final {
    channel: ChannelId,
    code: u16,
    text: BytesMut,
}

/// A final reply that has been let go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Released {
    pub(super) channel: ChannelId,
    /// The code that the client got.
    pub(super) code: u16,
}

/// What happens to further lines of the final reply that is being received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Rest {
    /// They wait with the lines before them.
    #[default]
    Waits,
    /// Those before them are with the client.
    Passes,
    /// The client has got another reply instead.
    Vanishes,
}

#[derive(Debug, Default)]
pub(super) struct Output {
    items: VecDeque<Item>,
    bytes: usize,
    rest: Rest,
    /// Nothing goes out: a handshake is under way.
    paused: bool,
}

impl Output {
    /// Whether so much is held that no more should be read from the server.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= HIGH_WATER
    }

    /// Whether something is held back from the client.
    pub(super) fn is_holding(&self) -> bool {
        !self.items.is_empty()
    }

    /// Holds everything from now on, until [`resume`](Self::resume).
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    /// Ends a [`pause`](Self::pause); what it has held goes out with the next [`release`](Self::release).
    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    /// Puts bytes in their place. Returns them if nothing is held before them: they go out now.
    pub(super) fn put(&mut self, bytes: Bytes) -> Option<Bytes> {
        if self.items.is_empty() && !self.paused {
            return Some(bytes);
        }
        self.bytes += bytes.len();
        match self.items.back_mut() {
            Some(Item::Text(text)) => text.extend_from_slice(&bytes),
            Some(Item::Final(_)) | None => self.items.push_back(Item::Text(BytesMut::from(&bytes[..]))),
        }
        None
    }

    /// A final reply begins.
    pub(super) fn open_final(&mut self, channel: ChannelId, code: u16) {
        self.rest = Rest::Waits;
        self.items.push_back(Item::Final(Final { channel, code, text: BytesMut::new() }));
    }

    /// A line of the final reply that was opened last. Returns it if it goes out now.
    pub(super) fn put_final(&mut self, line: Bytes) -> Option<Bytes> {
        match (self.rest, self.items.back_mut()) {
            (Rest::Vanishes, _) => None,
            (Rest::Waits, Some(Item::Final(last))) => {
                self.bytes += line.len();
                last.text.extend_from_slice(&line);
                None
            }
            (Rest::Waits | Rest::Passes, _) => self.put(line),
        }
    }

    /// Lets go of everything up to the first final reply that must wait: the bytes to send go to `send`, the
    /// final replies that went with them are returned.
    pub(super) fn release(
        &mut self,
        mut verdict: impl FnMut(ChannelId) -> Verdict,
        mut send: impl FnMut(Bytes),
    ) -> Vec<Released> {
        let mut released = Vec::new();
        if self.paused {
            return released;
        }
        while let Some(item) = self.items.pop_front() {
            match item {
                Item::Text(text) => {
                    self.bytes -= text.len();
                    send(text.freeze());
                }
                Item::Final(reply) => {
                    let (text, code, rest) = match verdict(reply.channel) {
                        Verdict::Wait => {
                            self.items.push_front(Item::Final(reply));
                            break;
                        }
                        Verdict::Pass => (None, reply.code, Rest::Passes),
                        Verdict::Replace(failure) => (Some(failure.reply()), failure.code(), Rest::Vanishes),
                    };
                    self.bytes -= reply.text.len();
                    if self.items.iter().all(|item| matches!(item, Item::Text(_))) {
                        self.rest = rest;
                    }
                    send(text.unwrap_or_else(|| reply.text.freeze()));
                    released.push(Released { channel: reply.channel, code });
                }
            }
        }
        if self.items.is_empty() {
            // An idle session keeps no room for what it once held.
            self.items = VecDeque::new();
        }
        released
    }
}
