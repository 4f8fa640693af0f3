//! What goes to the client, in order: normally straight out, but behind a transfer's final reply that is
//! held until the client has the data.

use std::collections::VecDeque;

use bytes::Bytes;

use super::event::ChannelId;
use super::transfer::Verdict;

/// A final reply may run over many lines (`226-` statistics). Past this much of it the rest streams through.
/// Four times the longest line that we parse.
const MAX_FINAL_REPLY: usize = 16 * 1024;

/// With so much waiting, the server is not read any further.
const HIGH_WATER: usize = 64 * 1024;

#[derive(Debug)]
enum Item {
    Bytes(Bytes),
    Final(Final),
}

#[derive(Debug)]
struct Final {
    channel: ChannelId,
    code: u16,
    lines: Vec<Bytes>,
    complete: bool,
}

/// A final reply that has been let go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Released {
    pub(super) channel: ChannelId,
    /// The code that the client got.
    pub(super) code: u16,
}

/// Whether there is room for more of a final reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Left,
    /// What comes next is no longer part of what is held.
    Full,
}

#[derive(Debug, Default)]
pub(super) struct Output {
    items: VecDeque<Item>,
    bytes: usize,
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

    /// Puts bytes in their place. Returns them if nothing is held before them: they go out now.
    pub(super) fn put(&mut self, bytes: Bytes) -> Option<Bytes> {
        if self.items.is_empty() {
            return Some(bytes);
        }
        self.bytes += bytes.len();
        self.items.push_back(Item::Bytes(bytes));
        None
    }

    /// A final reply begins.
    pub(super) fn open_final(&mut self, channel: ChannelId, code: u16) {
        self.items.push_back(Item::Final(Final { channel, code, lines: Vec::new(), complete: false }));
    }

    /// A line of the final reply that was opened last.
    pub(super) fn put_final(&mut self, line: Bytes) -> Room {
        let Some(Item::Final(last)) = self.items.back_mut() else { return Room::Full };
        self.bytes += line.len();
        last.lines.push(line);
        if last.lines.iter().map(Bytes::len).sum::<usize>() < MAX_FINAL_REPLY {
            return Room::Left;
        }
        last.complete = true;
        Room::Full
    }

    /// The final reply that was opened last is complete.
    pub(super) fn close_final(&mut self) {
        if let Some(Item::Final(last)) = self.items.back_mut() {
            last.complete = true;
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
        while let Some(item) = self.items.pop_front() {
            match item {
                Item::Bytes(bytes) => {
                    self.bytes -= bytes.len();
                    send(bytes);
                }
                Item::Final(reply) => {
                    let verdict = if reply.complete { verdict(reply.channel) } else { Verdict::Wait };
                    let held: usize = reply.lines.iter().map(Bytes::len).sum();
                    let code = match verdict {
                        Verdict::Wait => {
                            self.items.push_front(Item::Final(reply));
                            break;
                        }
                        Verdict::Pass => {
                            reply.lines.into_iter().for_each(&mut send);
                            reply.code
                        }
                        Verdict::Replace(failure) => {
                            send(failure.reply());
                            failure.code()
                        }
                    };
                    self.bytes -= held;
                    released.push(Released { channel: reply.channel, code });
                }
            }
        }
        released
    }
}
