//! The queue of commands that await a reply.
//!
//! Replies are forwarded as they come; the queue only decides which of them may be *translated* or *held*,
//! and puts the replies that we make ourselves where their turn is. Servers get out of step (a second 250
//! before the 227, one reply to ABOR where two are due), so matching looks at the code before it counts.

use std::collections::VecDeque;

use bytes::Bytes;

use super::event::ChannelId;
use crate::ftp::reply::Code;

/// How many commands may be on their way to the server. Zeek's `max_pending_commands`.
const MAX_OUTSTANDING: usize = 20;

/// A command that awaits its reply, by what the reply means to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// No command: the server speaks first.
    Greeting,
    /// Its reply passes.
    Plain,
    /// Our own reply, waiting for its turn.
    Own(Bytes),
    /// PASV or EPSV that we sent; its reply is translated. What the client asked is in the session's `Exchange`.
    Passive,
    /// PORT or EPRT that we sent in place of the client's PASV or EPSV; its reply is translated.
    Active,
    /// PORT or EPRT whose reply passes; an error ends the channel.
    Port(ChannelId),
    /// RETR, STOR and their like.
    Transfer(Transfer),
    /// ABOR. One reply, or two during a transfer; the second may never come.
    Abor,
    /// STAT, answered during a transfer (RFC 959 §4.1.3).
    Stat,
    /// FEAT, whose reply is filtered.
    Feat,
    /// REIN, after which everything is as at the start.
    Rein,
    /// MODE, with the letter asked for.
    Mode(u8),
    /// EPSV ALL.
    EpsvAll,
    /// The client has had its answer from us; the server's is dropped.
    Swallow,
}

/// The part of a transfer that the queue must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transfer {
    /// Its data channel; a client that sent neither PASV nor PORT has none.
    pub(super) channel: Option<ChannelId>,
    /// Its 1xx has come.
    pub(super) started: bool,
}

/// Names an entry for as long as it is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u32);

/// What a reply belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// To this entry.
    Entry(Ticket),
    /// To nothing: no command awaits a reply.
    Unsolicited,
    /// To something that we no longer know: PASV or EPSV is due an answer, and this is none.
    Stray,
}

#[derive(Debug, Default)]
pub(super) struct PendingQueue {
    entries: VecDeque<(Ticket, Pending)>,
    issued: u32,
}

impl PendingQueue {
    pub(super) fn push(&mut self, entry: Pending) {
        let ticket = self.next_ticket();
        self.entries.push_back((ticket, entry));
    }

    fn next_ticket(&mut self) -> Ticket {
        self.issued = self.issued.wrapping_add(1);
        Ticket(self.issued)
    }

    /// Whether the server owes a reply. An ABOR at the end may have been answered together with its transfer.
    pub(super) fn is_outstanding(&self) -> bool {
        self.entries.iter().any(|(_, entry)| *entry != Pending::Abor)
    }

    /// Whether no further command may be sent for now.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_OUTSTANDING
    }

    pub(super) fn awaits_greeting(&self) -> bool {
        matches!(self.entries.front(), Some((_, Pending::Greeting)))
    }

    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        self.entries.iter_mut().find(|(t, _)| *t == ticket).map(|(_, entry)| entry)
    }

    /// Takes an entry out: its reply is complete.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Pending> {
        let index = self.entries.iter().position(|(t, _)| *t == ticket)?;
        self.entries.remove(index).map(|(_, entry)| entry)
    }

    /// Our own replies whose turn has come.
    pub(super) fn pop_own(&mut self) -> Option<Bytes> {
        match self.entries.front() {
            Some((_, Pending::Own(_))) => match self.entries.pop_front() {
                Some((_, Pending::Own(reply))) => Some(reply),
                _ => None,
            },
            _ => None,
        }
    }

    /// Ends the wait for an answer to PASV or EPSV that will not come.
    pub(super) fn remove_exchange(&mut self) {
        self.entries.retain(|(_, entry)| !matches!(entry, Pending::Passive | Pending::Active));
    }

    /// Gives the client `reply` as the answer of the transfer on `channel`, in its turn; the server's own
    /// answer, should it come, is dropped. False if no such transfer awaits one.
    pub(super) fn answer_transfer(&mut self, channel: ChannelId, reply: Bytes) -> bool {
        let of_channel =
            |(_, entry): &(Ticket, Pending)| matches!(entry, Pending::Transfer(t) if t.channel == Some(channel));
        let Some(index) = self.entries.iter().position(of_channel) else { return false };
        self.entries[index].1 = Pending::Swallow;
        let ticket = self.next_ticket();
        self.entries.insert(index, (ticket, Pending::Own(reply)));
        true
    }

    /// Whether the transfer on this channel awaits its final reply.
    pub(super) fn awaits_transfer(&self, channel: ChannelId) -> bool {
        self.entries.iter().any(|(_, entry)| matches!(entry, Pending::Transfer(t) if t.channel == Some(channel)))
    }

    /// Which entry a reply with this code answers.
    pub(super) fn select(&mut self, code: Code) -> Match {
        if matches!(code.get(), 227 | 229) && self.position(&Pending::Passive).is_some() {
            self.forget_stale();
        }
        loop {
            let Some((ticket, front)) = self.entries.front() else { return Match::Unsolicited };
            let ticket = *ticket;
            return match front {
                Pending::Passive if !answers_passive(code) => self.stat_for(code).map_or(Match::Stray, Match::Entry),
                Pending::Transfer(_) if matches!(code.get(), 227 | 229) => {
                    self.position(&Pending::Passive).map_or(Match::Entry(ticket), Match::Entry)
                }
                Pending::Transfer(transfer) => {
                    let aside = if transfer.started || is_status(code) { self.stat_for(code) } else { None };
                    Match::Entry(aside.unwrap_or(ticket))
                }
                // One reply to ABOR instead of two: this one is for what came after it.
                Pending::Abor if self.entries.len() > 1 && !answers_abor(code) => {
                    self.entries.pop_front();
                    continue;
                }
                _ => Match::Entry(ticket),
            };
        }
    }

    /// The STAT behind the front, if this reply can only be its.
    fn stat_for(&self, code: Code) -> Option<Ticket> {
        if is_status(code) || is_not_understood(code) { self.position(&Pending::Stat) } else { None }
    }

    fn position(&self, wanted: &Pending) -> Option<Ticket> {
        self.entries.iter().find(|(_, entry)| entry == wanted).map(|(ticket, _)| *ticket)
    }

    /// A 227 answers PASV and nothing else: what waits before it, and is no transfer, has been answered
    /// long ago by a server that gives fewer replies than it gets commands.
    fn forget_stale(&mut self) {
        while let Some((_, front)) = self.entries.front() {
            match front {
                Pending::Passive | Pending::Active | Pending::Transfer(_) | Pending::Own(_) => break,
                Pending::Greeting
                | Pending::Plain
                | Pending::Port(_)
                | Pending::Abor
                | Pending::Stat
                | Pending::Feat
                | Pending::Rein
                | Pending::Mode(_)
                | Pending::EpsvAll
                | Pending::Swallow => {
                    self.entries.pop_front();
                }
            }
        }
    }
}

/// 227, 229 or a refusal. Anything else leaves PASV unanswered: basic-ftp#157 saw `250` before the 227.
fn answers_passive(code: Code) -> bool {
    matches!(code.get(), 227 | 229) || code.is_error()
}

/// RFC 959 §4.2.2: 225, 226 after ABOR, 426 for the transfer; errors from servers without ABOR.
fn answers_abor(code: Code) -> bool {
    matches!(code.get(), 225 | 226) || code.is_error()
}

/// 211, 212 and 213 answer STAT.
fn is_status(code: Code) -> bool {
    matches!(code.get(), 211..=213)
}

/// Errors that speak of a command, not of a transfer that has begun.
fn is_not_understood(code: Code) -> bool {
    matches!(code.get(), 500..=504)
}
