//! The queue of commands that await a reply.
//!
//! Replies are forwarded as they come; the queue only decides which of them may be *translated* or *held*,
//! and puts the replies that we make ourselves where their turn is. Servers get out of step (a second 250
//! before the 227, one reply to ABOR where two are due), so matching looks at the code before it counts.

use std::collections::VecDeque;

use bytes::Bytes;

use super::event::ChannelId;
use super::tls::Step;
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
    /// USER, PASS or ACCT; its reply passes, and is counted.
    Login(LoginVerb),
    /// Our own reply, waiting for its turn.
    Own(Bytes),
    /// PASV or EPSV that we sent; its reply is translated. What the client asked is in the session's `Exchange`.
    Passive,
    /// PORT or EPRT that we sent in place of the client's command, or behind it; its reply is translated, or for us alone.
    Active,
    /// PORT or EPRT whose reply passes; an error ends the channel.
    Port(ChannelId),
    /// RETR, STOR and their like.
    Transfer(Transfer),
    /// ABOR. `doubtful`: a transfer has been answered since it was sent. Most servers now answer ABOR itself,
    /// others have done so with that reply.
    Abor {
        /// Its reply may never come.
        doubtful: bool,
    },
    /// STAT, answered during a transfer (RFC 959 §4.1.3).
    Stat,
    /// FEAT, whose reply is filtered.
    Feat,
    /// REIN, after which everything is as at the start.
    Rein,
    /// MODE, with the letter asked for.
    Mode(u8),
    /// TYPE, with the letter asked for.
    Type(u8),
    /// EPSV ALL.
    EpsvAll,
    /// The client has had its answer from us; the server's is dropped.
    Swallow,
    /// A command of ours, by which a connection to the server is opened; its reply never reaches the client.
    Opening(Step),
    /// AUTH on its way through: after its success nothing is looked at.
    Auth,
    /// HOST before AUTH; the line.
    Host(Bytes),
}

/// The commands of a login, by what their replies mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginVerb {
    User,
    /// PASS or ACCT.
    Secret,
}

impl LoginVerb {
    /// Whether this reply says that the login failed: 530 (RFC 959 §5.4), to USER as well, where the server has a list
    /// of users; 430, in use for a wrong name or password without being in the RFC; 421 after a password, by which a
    /// server ends a session that had too many wrong ones (RFC 2577 §5). A 421 after USER is a server that is full.
    pub(super) const fn is_failure(self, code: Code) -> bool {
        match code.get() {
            430 | 530 => true,
            421 => matches!(self, Self::Secret),
            _ => false,
        }
    }
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
    /// To something that we no longer know: PASV or a transfer is due an answer, and this is none.
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

    /// Whether the server owes a reply for certain.
    pub(super) fn is_outstanding(&self) -> bool {
        self.entries.iter().any(|(_, entry)| *entry != Pending::Abor { doubtful: true })
    }

    /// Whether no further command may be sent for now.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_OUTSTANDING
    }

    /// Whether the reply to a command of our own, by which the connection is opened, is awaited.
    pub(super) fn awaits_opening(&self) -> bool {
        self.entries.iter().any(|(_, entry)| matches!(entry, Pending::Opening(_)))
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
        let (_, entry) = self.entries.remove(index)?;
        if matches!(entry, Pending::Transfer(_)) {
            for (_, behind) in self.entries.range_mut(index..) {
                if let Pending::Abor { doubtful } = behind {
                    *doubtful = true;
                }
            }
        }
        Some(entry)
    }

    /// Whether the next reply should be the one by which a data channel is set up.
    pub(super) fn awaits_setup(&self) -> bool {
        matches!(self.entries.front(), Some((_, Pending::Passive | Pending::Active)))
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
        if is_passive(code)
            && let Some(passive) = self.position(&Pending::Passive)
        {
            self.forget_before(passive);
            return Match::Entry(passive);
        }
        if begins_transfer(code)
            && let Some(transfer) = self.transfer_behind_others()
        {
            self.forget_before(transfer);
            return Match::Entry(transfer);
        }
        self.skip_answered_abor(code);
        let Some((ticket, front)) = self.entries.front() else { return Match::Unsolicited };
        match front {
            Pending::Passive if !code.is_error() => self.stat_for(code).map_or(Match::Stray, Match::Entry),
            Pending::Active if !answers_port(code) => self.stat_for(code).map_or(Match::Stray, Match::Entry),
            Pending::Transfer(transfer) => {
                let aside = if transfer.started || is_status(code) { self.stat_for(code) } else { None };
                match aside {
                    Some(stat) => Match::Entry(stat),
                    None if is_passive(code) || !(transfer.started || may_open_transfer(code)) => Match::Stray,
                    None => Match::Entry(*ticket),
                }
            }
            Pending::Swallow => Match::Entry(self.stat_for(code).unwrap_or(*ticket)),
            _ => Match::Entry(*ticket),
        }
    }

    /// One reply to ABOR instead of two: what comes now is for what was sent after it.
    fn skip_answered_abor(&mut self, code: Code) {
        while self.entries.len() > 1
            && let Some((_, Pending::Abor { doubtful })) = self.entries.front()
            && !answers_abor(code, *doubtful)
        {
            self.entries.pop_front();
        }
    }

    /// The STAT behind the front, if this reply can only be its.
    fn stat_for(&self, code: Code) -> Option<Ticket> {
        if is_status(code) || is_not_understood(code) { self.position(&Pending::Stat) } else { None }
    }

    fn position(&self, wanted: &Pending) -> Option<Ticket> {
        self.entries.iter().find(|(_, entry)| entry == wanted).map(|(ticket, _)| *ticket)
    }

    /// The first transfer, if it has a data channel and only such commands wait before it as have none.
    fn transfer_behind_others(&self) -> Option<Ticket> {
        let has_none = |entry: &Pending| {
            !matches!(entry, Pending::Transfer(_) | Pending::Passive | Pending::Active | Pending::Swallow)
        };
        match self.entries.iter().find(|(_, entry)| !has_none(entry))? {
            (ticket, Pending::Transfer(Transfer { channel: Some(_), started: false })) => Some(*ticket),
            _ => None,
        }
    }

    /// A 227 answers PASV and nothing else, a 150 the transfer that has the channel: what waits before it has been
    /// answered long ago, or never will be, by a server that gives fewer replies than it gets commands. Not so
    /// transfers, which take their time, and our own replies.
    fn forget_before(&mut self, answered: Ticket) {
        let mut before = true;
        self.entries.retain(|(ticket, entry)| {
            before &= *ticket != answered;
            !before || matches!(entry, Pending::Transfer(_) | Pending::Own(_) | Pending::Swallow)
        });
    }
}

/// 227 and 229 answer PASV and EPSV; besides them only a refusal does. Anything else leaves PASV unanswered:
/// basic-ftp#157 saw `250` before the 227.
fn is_passive(code: Code) -> bool {
    matches!(code.get(), 227 | 229)
}

/// 200 answers PORT, or an error (RFC 959 §5.4). What belongs to transfers, ABOR and STAT, or is the second 250 to
/// something else, leaves it unanswered, as with [PASV](is_passive): for a success it would lead the server nowhere.
fn answers_port(code: Code) -> bool {
    !matches!(code.get(), 125 | 150 | 211..=213 | 225 | 226 | 250)
}

/// RFC 959 §4.2.1: nothing else is answered by these. Without this a lost reply would let the 226 of an upload pass
/// before its data.
fn begins_transfer(code: Code) -> bool {
    matches!(code.get(), 125 | 150)
}

/// Whether this may be the first reply to a transfer. Some servers send 226 or 250 without a 1xx before it
/// (empty listings); another 2xx is a late answer to something else.
fn may_open_transfer(code: Code) -> bool {
    !code.is_success() || matches!(code.get(), 225 | 226 | 250)
}

/// RFC 959 §5.4: 225, 226 and errors, of which those of the file system (x5x) are never ABOR's. If it was
/// perhaps answered already, 225 and 226 alone are clear enough.
fn answers_abor(code: Code, doubtful: bool) -> bool {
    const FILE_SYSTEM: u16 = 5;
    let is_refusal = code.is_error() && code.get() / 10 % 10 != FILE_SYSTEM;
    matches!(code.get(), 225 | 226) || (is_refusal && !doubtful)
}

/// 211, 212 and 213 answer STAT.
fn is_status(code: Code) -> bool {
    matches!(code.get(), 211..=213)
}

/// Errors that speak of a command, not of a transfer that has begun.
fn is_not_understood(code: Code) -> bool {
    matches!(code.get(), 500..=504)
}
