//! The data channels of a session: one *offer* and any number of *moving* channels.
//!
//! ```text
//!             PASV, PORT                transfer command
//!   (none) ───────────────▶ offer ──────────────────────▶ moving ──▶ gone, once its reply is
//!                             │  ▲                           │       decided and it has ended
//!        a new PASV or PORT   │  └───────────────────────────┘
//!   (none) ◀──────────────────┘     refused before its 1xx
//! ```
//!
//! A new PASV or PORT replaces the offer only, never a transfer that runs.
//!
//! With `data_mode: active` the way to a transfer has two parts (see [`exchange`](super::exchange)): PASV and PORT lead to
//! an offer that is only *prepared*, and the transfer command makes it one that can be used, when the server knows of it.

use std::time::Instant;

use bytes::Bytes;

use super::Session;
use super::event::{Action, ChannelId, ChannelReport, End, TransferRecord};
use super::exchange::Exchange;
use crate::addr::{Leg, PerLeg};
use crate::ftp::command::TransferVerb;
use crate::nat::policy::DialTarget;

/// What a client is told whose data connection comes to nothing, where nothing better is to be said (RFC 959 §4.2.1).
pub(super) const CANNOT_OPEN: &str = "425 Cannot open data connection.\r\n";

/// Why a transfer that the server calls a success is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No data connection came about.
    NeverOpened,
    /// It ended before everything had been passed on.
    Cut,
    /// The client did not get through its TLS handshake.
    Unprotected,
}

impl Failure {
    pub(super) const fn code(self) -> u16 {
        match self {
            Self::NeverOpened => 425,
            Self::Cut => 426,
            Self::Unprotected => 522,
        }
    }

    /// RFC 959 §4.2.1 has the first two texts, RFC 4217 §10.2 the code of the last.
    pub(super) const fn reply(self) -> Bytes {
        Bytes::from_static(match self {
            Self::NeverOpened => CANNOT_OPEN.as_bytes(),
            Self::Cut => b"426 Connection closed; transfer aborted.\r\n",
            Self::Unprotected => b"522 TLS negotiation failed on the data connection.\r\n",
        })
    }
}

/// What to do with the server's success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is one.
    Pass,
    /// The data is not all with the client yet.
    Wait,
    /// It is none; the client gets this instead.
    Replace(Failure),
}

/// Why replies and commands stop waiting for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unhold {
    /// The client sent ABOR.
    Aborted,
    /// The server closed the control connection.
    ServerGone,
}

/// The command that a channel serves.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) verb: Option<TransferVerb>,
    pub(super) path: Bytes,
    pub(super) began: Instant,
    /// Its type is ASCII or EBCDIC.
    pub(super) text: bool,
    /// The final reply's code as the client got it.
    pub(super) code: Option<u16>,
    /// The final reply is decided.
    pub(super) answered: bool,
    /// Nothing waits for the data: the client aborted, the server is gone, or the mode is not Stream, where
    /// the end of a file is not the end of its connection.
    pub(super) unheld: bool,
    /// The client sent ABOR.
    pub(super) aborted: bool,
}

impl Transfer {
    fn is_upload(&self) -> bool {
        self.verb.is_some_and(TransferVerb::is_upload)
    }
}

/// One data channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    /// Where the client is to be dialled once the transfer begins, if no accepted end starts that.
    pub(super) dial_client: Option<DialTarget>,
    /// What is left to do before this offer can be used: the server must be told.
    prepared: Option<Box<Exchange>>,
    /// Which ends do TLS: as PROT was when the transfer's command came.
    protect: PerLeg<bool>,
    begun: bool,
    flushed: PerLeg<bool>,
    /// The session has ordered its end.
    closing: bool,
    ended: Option<ChannelReport>,
    transfer: Option<Transfer>,
}

impl Channel {
    pub(super) fn new(id: ChannelId) -> Self {
        Self {
            id,
            dial_client: None,
            prepared: None,
            protect: PerLeg::default(),
            begun: false,
            flushed: PerLeg::default(),
            closing: false,
            ended: None,
            transfer: None,
        }
    }

    /// What the client has its answer for, and the server has not been told of.
    pub(super) fn prepared(exchange: Box<Exchange>) -> Self {
        let id = exchange.id;
        Self { prepared: Some(exchange), ..Self::new(id) }
    }

    /// Whether the shell knows of it. Of what a client in active mode has prepared it does not.
    fn is_with_shell(&self) -> bool {
        self.prepared.as_deref().is_none_or(Exchange::is_open)
    }

    /// The transfer begins: which ends do TLS. `None` if it has begun already, or must wait until it is `answered`.
    pub(super) fn begin(&mut self, answered: bool) -> Option<PerLeg<bool>> {
        let must_wait = (self.protect.client || self.protect.server) && !answered;
        (!must_wait && !std::mem::replace(&mut self.begun, true)).then_some(self.protect)
    }

    pub(super) fn transfer_mut(&mut self) -> Option<&mut Transfer> {
        self.transfer.as_mut()
    }

    /// Whether it has not ended and its end has not been ordered.
    pub(super) fn is_open(&self) -> bool {
        self.ended.is_none() && !self.closing && self.is_with_shell()
    }

    /// An upload of which the server does not have every byte yet: a later command that overtook them would
    /// truncate the file (3proxy #638).
    fn is_unflushed_upload(&self) -> bool {
        self.transfer.as_ref().is_some_and(|t| t.is_upload() && !t.answered && !t.unheld)
            && !self.flushed.server
            && self.ended.is_none()
    }

    /// Judges a 2xx from the server.
    ///
    /// An upload in Stream mode is complete for the server once it has our FIN and not before, so a success that
    /// comes earlier is believed only when that, or the end, is known. A download is complete once the client
    /// has everything, however the connections end after that.
    pub(super) fn verdict(&self) -> Verdict {
        let Some(transfer) = &self.transfer else { return Verdict::Pass };
        let sent_up = self.ended.is_some_and(|report| report.up > 0);
        let upload = transfer.is_upload() || (transfer.verb.is_none() && sent_up);
        // To a client that sent ABOR this may be the only reply.
        if !upload && (self.flushed.client || transfer.aborted) {
            return Verdict::Pass;
        }
        let Some(report) = self.ended else {
            let is_with_both = self.flushed.client && self.flushed.server;
            return if transfer.unheld || is_with_both { Verdict::Pass } else { Verdict::Wait };
        };
        match report.end {
            End::Complete => Verdict::Pass,
            End::TlsFailed(Leg::Client) => Verdict::Replace(Failure::Unprotected),
            // How the server is reached is none of the client's business.
            End::NeverConnected(_) | End::DialFailed(_) | End::TlsFailed(Leg::Server) => {
                Verdict::Replace(Failure::NeverOpened)
            }
            // The client itself ended a download early: what the server says of it stands.
            End::Reset(Leg::Client) if !upload => Verdict::Pass,
            // The server has every byte, says so, and merely closes abruptly or not at all.
            End::Reset(Leg::Server) | End::Idle if upload && self.flushed.server => Verdict::Pass,
            End::Reset(_) | End::Idle | End::Closed => Verdict::Replace(Failure::Cut),
        }
    }

    /// Whether the server's success and the data's end agree that it is whole. What a client has broken off is not, even
    /// where the server calls the end of it a success.
    fn is_whole(&self, report: ChannelReport) -> bool {
        let Some(transfer) = &self.transfer else { return false };
        let receiver = if transfer.is_upload() { Leg::Server } else { Leg::Client };
        let arrived = report.end == End::Complete || self.flushed[receiver];
        arrived && !transfer.aborted && transfer.code.is_some_and(|code| (200..300).contains(&code))
    }

    /// What to say for a server that stays silent about a data connection that never was.
    fn silent_failure(&self) -> Option<Failure> {
        match self.ended?.end {
            End::TlsFailed(Leg::Client) => Some(Failure::Unprotected),
            End::NeverConnected(_) | End::DialFailed(_) | End::TlsFailed(Leg::Server) => Some(Failure::NeverOpened),
            End::Complete | End::Reset(_) | End::Idle | End::Closed => None,
        }
    }
}

/// All channels of a session.
#[derive(Debug, Default)]
pub(super) struct Channels {
    /// Boxed, because an idle session has none.
    offer: Option<Box<Channel>>,
    moving: Vec<Channel>,
    issued: u32,
}

impl Channels {
    /// A name for a new channel.
    pub(super) fn issue(&mut self) -> ChannelId {
        self.issued = self.issued.wrapping_add(1);
        ChannelId(self.issued)
    }

    /// Makes `channel` the offer; there must be none.
    pub(super) fn offer(&mut self, channel: Channel) {
        debug_assert!(self.offer.is_none(), "an offer is withdrawn before another is made");
        self.offer = Some(Box::new(channel));
    }

    /// Takes the offer back. `None` if there is none, or nothing is left of it to close.
    pub(super) fn withdraw(&mut self) -> Option<ChannelId> {
        self.offer.take().filter(|channel| channel.is_open()).map(|channel| channel.id)
    }

    /// Notes that a channel is to be closed, and forgets it if it is the offer. False if there is nothing to close.
    pub(super) fn close(&mut self, id: ChannelId) -> bool {
        if let Some(offer) = self.offer.take_if(|channel| channel.id == id) {
            return offer.is_open();
        }
        let open = self.moving.iter_mut().find(|c| c.id == id && c.is_open());
        open.is_some_and(|channel| {
            channel.closing = true;
            true
        })
    }

    /// The offer becomes the channel of a transfer, the data of which is protected at these ends.
    pub(super) fn begin(&mut self, transfer: Transfer, protect: PerLeg<bool>) -> Option<ChannelId> {
        let mut channel = self.offer.take_if(|channel| channel.prepared.is_none())?;
        channel.transfer = Some(transfer);
        channel.protect = protect;
        let id = channel.id;
        self.moving.push(*channel);
        Some(id)
    }

    /// Takes out an offer of which the server is to be told.
    pub(super) fn take_prepared(&mut self) -> Option<Box<Exchange>> {
        let channel = self.offer.take_if(|channel| channel.prepared.is_some())?;
        let mut exchange = channel.prepared?;
        exchange.ended = channel.ended.is_some();
        Some(exchange)
    }

    /// Whether there is an offer, good or not.
    pub(super) const fn has_offer(&self) -> bool {
        self.offer.is_some()
    }

    /// Whether the offer is one that was [given back](Self::give_back) after its data had begun in another protection
    /// than this.
    pub(super) fn is_offer_begun_otherwise(&self, protect: PerLeg<bool>) -> bool {
        self.offer.as_ref().is_some_and(|channel| channel.begun && channel.protect != protect)
    }

    /// Every channel that may still carry data.
    pub(super) fn open(&self) -> Vec<ChannelId> {
        self.offer.as_deref().into_iter().chain(&self.moving).filter(|c| c.is_open()).map(|c| c.id).collect()
    }

    /// The server refused the transfer before it began: its port is still good for another, unless there is
    /// a newer offer. Returns whether the channel is the offer again.
    pub(super) fn give_back(&mut self, id: ChannelId) -> bool {
        let Some(index) = self.moving.iter().position(|channel| channel.id == id) else { return false };
        if self.offer.is_some() || !self.moving[index].is_open() {
            return false;
        }
        let mut channel = self.moving.remove(index);
        channel.transfer = None;
        self.offer = Some(Box::new(channel));
        true
    }

    pub(super) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.offer.as_deref_mut().into_iter().chain(&mut self.moving).find(|channel| channel.id == id)
    }

    /// Whether the client did not get through its TLS handshake.
    pub(super) fn is_unprotected(&mut self, id: ChannelId) -> bool {
        let ended = self.get_mut(id).and_then(|channel| channel.ended);
        ended.is_some_and(|report| report.end == End::TlsFailed(Leg::Client))
    }

    pub(super) fn flushed(&mut self, id: ChannelId, leg: Leg) {
        if let Some(channel) = self.get_mut(id) {
            channel.flushed[leg] = true;
        }
    }

    /// Notes the end of a channel; the first report counts.
    pub(super) fn ended(&mut self, id: ChannelId, report: ChannelReport) {
        if let Some(channel) = self.get_mut(id) {
            channel.ended.get_or_insert(report);
        }
    }

    /// Whether a channel may still carry data.
    pub(super) fn is_any_open(&self) -> bool {
        let offer = self.offer.as_deref().filter(|offer| offer.is_with_shell());
        offer.into_iter().chain(&self.moving).any(|channel| channel.ended.is_none())
    }

    /// Whether a transfer's channel may still carry data.
    pub(super) fn is_any_moving(&self) -> bool {
        self.moving.iter().any(|channel| channel.ended.is_none())
    }

    /// Whether the server does not have every byte of an upload yet.
    pub(super) fn is_any_upload_unflushed(&self) -> bool {
        self.moving.iter().any(Channel::is_unflushed_upload)
    }

    /// Nothing waits for data any more.
    pub(super) fn unhold(&mut self, why: Unhold) {
        for transfer in self.moving.iter_mut().filter_map(Channel::transfer_mut) {
            transfer.unheld = true;
            transfer.aborted |= why == Unhold::Aborted;
        }
    }

    /// No transfer will be answered any more.
    pub(super) fn answer_all(&mut self) {
        for transfer in self.moving.iter_mut().filter_map(Channel::transfer_mut) {
            transfer.answered = true;
        }
    }

    /// The oldest transfer that is not over.
    pub(super) fn current(&self) -> Option<(Option<TransferVerb>, &Bytes)> {
        let transfer = self.moving.iter().find_map(|channel| channel.transfer.as_ref())?;
        Some((transfer.verb, &transfer.path))
    }

    /// The transfers whose channel came to nothing, with what to say about it.
    pub(super) fn failures(&self) -> impl Iterator<Item = (ChannelId, Failure)> {
        self.moving.iter().filter_map(|channel| Some((channel.id, channel.silent_failure()?)))
    }

    /// Removes the transfers that are over, answer and data, for the log. If the session is over, nothing
    /// waits for an answer.
    pub(super) fn take_finished(&mut self, session_over: bool, now: Instant) -> impl Iterator<Item = TransferRecord> {
        let over = move |c: &mut Channel| {
            c.ended.is_some() && (session_over || c.transfer.as_ref().is_none_or(|t| t.answered))
        };
        self.moving.extract_if(.., over).filter_map(move |channel| {
            let report = channel.ended?;
            let whole = channel.is_whole(report);
            let transfer = channel.transfer?;
            Some(TransferRecord {
                verb: transfer.verb,
                path: transfer.path,
                text: transfer.text,
                code: transfer.code,
                whole,
                channel: report,
                took: now.saturating_duration_since(transfer.began),
            })
        })
    }
}

impl Session {
    /// Takes back what was offered to the client and not used.
    pub(super) fn withdraw_offer(&mut self) {
        if let Some(id) = self.channels.withdraw() {
            self.act(Action::CloseChannel { id });
        }
    }

    /// Ends a channel, if it has not ended and its end has not been ordered.
    pub(super) fn close_channel(&mut self, id: ChannelId) {
        if self.channels.close(id) {
            self.act(Action::CloseChannel { id });
        }
    }
}
