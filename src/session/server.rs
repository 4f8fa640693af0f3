//! The server's side: lines become replies, and each reply takes the route that its command set.

use std::time::Instant;

use bytes::Bytes;

use super::client::Held;
use super::event::{Action, ChannelId, Notice, Reason};
use super::exchange::Collected;
use super::pending::{Match, Pending, Ticket, Transfer};
use super::timer::Timer;
use super::transfer::Unhold;
use super::{Session, UNAVAILABLE, announce};
use crate::addr::Leg;
use crate::ftp::line::Piece;
use crate::ftp::reply::{Code, ReplyLine, starts_with_command};

/// A client that gets so many commands wrong before its login is none of FTP: a browser that was made to talk to us
/// (ALPACA, CVE-2021-3618). vsftpd 3.0.4 closes after as many.
const MAX_UNKNOWN: u8 = 10;

/// What happens to the lines of the reply that is being received.
#[derive(Debug)]
pub(super) enum Route {
    /// They go to the client as they are.
    Pass,
    /// The client has had its answer.
    Drop,
    /// They go to the client, without what we do not support.
    Filter,
    /// They are a transfer's final reply, which may have to wait.
    Final,
    /// They are kept until the whole reply is known, and then translated.
    Collect(Box<Collected>),
}

/// A line that is too long to be looked at, and not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LongLine {
    /// It is the last of its reply, or all of it.
    EndsReply,
    /// It is no reply, or a line within one.
    Other,
}

/// A reply that is being received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    code: Code,
    entry: Match,
}

impl Session {
    pub(super) fn server_bytes(&mut self, mut data: &[u8], now: Instant) {
        while !self.closed
            && self.is_server_text()
            && let Some(piece) = self.lines.server.next(&mut data)
        {
            match piece {
                Piece::Line(line) => self.reply_line(line, now),
                Piece::Overlong { bytes, first, last } => self.long_reply_line(bytes, first, last, now),
                Piece::Option(refusal) => self.refuse(Leg::Server, refusal),
            }
        }
        if !self.closed && !data.is_empty() {
            self.server_bytes_beyond(data);
        }
    }

    fn reply_line(&mut self, line: Bytes, now: Instant) {
        if !self.framer.is_inside() && starts_with_command(&line) {
            return self.close(Reason::Spoofed(Leg::Server));
        }
        match self.framer.classify(&line) {
            ReplyLine::Single(code) => {
                let reply = self.open_reply(code, now);
                self.replace_single_feat(code);
                self.route_line(line, false);
                self.close_reply(reply, now);
            }
            ReplyLine::Opening(code) => {
                self.reply = Some(self.open_reply(code, now));
                self.route_line(line, false);
            }
            ReplyLine::Inner(_) => self.route_line(line, true),
            ReplyLine::Closing(_) => {
                self.add_features();
                self.route_line(line, false);
                if let Some(reply) = self.reply {
                    self.close_reply(reply, now);
                }
            }
            ReplyLine::Stray => self.send_client(line),
        }
    }

    /// A line that is too long to be looked at streams through; its beginning still counts as a reply.
    fn long_reply_line(&mut self, bytes: Bytes, first: bool, last: bool, now: Instant) {
        if first {
            if !self.framer.is_inside() && starts_with_command(&bytes) {
                return self.close(Reason::Spoofed(Leg::Server));
            }
            self.long_line = Some(self.open_long_line(&bytes, now));
        }
        self.route_line(bytes, false);
        if last {
            match (self.long_line.take(), &self.reply) {
                (Some(LongLine::EndsReply), Some(reply)) => self.close_reply(*reply, now),
                _ => self.flush_own(),
            }
        }
    }

    fn open_long_line(&mut self, start: &[u8], now: Instant) -> LongLine {
        match self.framer.classify(start) {
            ReplyLine::Single(code) => {
                self.reply = Some(self.open_reply(code, now));
                // A port that stands in 4 KiB of text is none that anybody waits for.
                self.stop_collecting();
                LongLine::EndsReply
            }
            ReplyLine::Opening(code) => {
                self.reply = Some(self.open_reply(code, now));
                self.stop_collecting();
                LongLine::Other
            }
            ReplyLine::Closing(_) => {
                self.add_features();
                LongLine::EndsReply
            }
            ReplyLine::Inner(_) | ReplyLine::Stray => LongLine::Other,
        }
    }

    fn open_reply(&mut self, code: Code, now: Instant) -> Reply {
        let entry = self.pending.select(code);
        // What waited behind something stale goes first.
        while let Some(own) = self.pending.pop_own() {
            self.send_client(own);
        }
        self.route = match entry {
            Match::Unsolicited => self.unsolicited(code),
            Match::Stray => {
                if !code.is_preliminary() && self.pending.awaits_setup() {
                    self.timers.start(Timer::Straggler, now + self.settings.close);
                }
                self.unsolicited(code)
            }
            Match::Entry(ticket) => self.route_of(ticket, code, now),
        };
        Reply { code, entry }
    }

    fn unsolicited(&mut self, code: Code) -> Route {
        if matches!(code.get(), 227 | 229) {
            self.act(Action::Notice(Notice::UnsolicitedPassive));
        }
        Route::Pass
    }

    fn route_of(&mut self, ticket: Ticket, code: Code, now: Instant) -> Route {
        let is_telling_server = self.is_telling_server();
        let Some(entry) = self.pending.get_mut(ticket) else { return Route::Pass };
        match entry {
            Pending::Feat => self.feat_route(code),
            Pending::Swallow | Pending::Opening(_) => Route::Drop,
            Pending::Greeting if self.tls.is_greeting_ours() && !code.is_error() => Route::Drop,
            Pending::Active if is_telling_server => announce::route(code),
            Pending::Passive | Pending::Active if code.is_preliminary() => Route::Pass,
            Pending::Passive | Pending::Active => Route::Collect(Box::new(Collected::new(code))),
            Pending::Transfer(transfer @ Transfer { channel: Some(_), .. }) if code.is_preliminary() => {
                transfer.started = true;
                let channel = transfer.channel;
                self.note_type(channel);
                self.dial_client(channel);
                Route::Pass
            }
            Pending::Transfer(transfer) if code.is_preliminary() => {
                transfer.started = true;
                self.unknown_transfer(ticket, now);
                Route::Pass
            }
            // The server knows why there was no data connection, or says that there was one; not so for the client's TLS.
            Pending::Transfer(Transfer { channel: Some(channel), .. })
                if code.is_success() || self.channels.is_unprotected(*channel) =>
            {
                let channel = *channel;
                self.note_type(Some(channel));
                self.dial_client(Some(channel));
                self.output.open_final(channel, code.get());
                Route::Final
            }
            Pending::Plain if matches!(code.get(), 125 | 150) => {
                self.unknown_transfer(ticket, now);
                Route::Pass
            }
            _ => Route::Pass,
        }
    }

    /// The server begins a transfer for a command that we do not know, or for one that we thought to have
    /// no data connection: it was sent before the server refused another, which gave its offer back.
    fn unknown_transfer(&mut self, ticket: Ticket, now: Instant) {
        // It is too late to refuse the command.
        let is_refused = !self.may_move_data() || self.channels.is_offer_begun_otherwise(self.protection());
        let channel = self.channels.begin(self.new_transfer(None, Bytes::new(), now), self.protection());
        let Some(id) = channel else { return };
        if let Some(entry) = self.pending.get_mut(ticket) {
            *entry = Pending::Transfer(Transfer { channel, started: true });
        }
        if is_refused {
            self.close_channel(id);
        } else {
            self.dial_client(channel);
        }
    }

    /// A transfer's type is what it was when the server took the transfer up: clients send TYPE and RETR at once.
    fn note_type(&mut self, channel: Option<ChannelId>) {
        if let Some(transfer) = channel.and_then(|id| self.channels.get_mut(id)).and_then(|c| c.transfer_mut()) {
            transfer.text = self.text_type;
        }
    }

    /// The server is ready: the client, who listens, is connected to. A direct server would do it now, too, and then
    /// its handshake.
    fn dial_client(&mut self, channel: Option<ChannelId>) {
        let dial = channel.and_then(|id| self.channels.get_mut(id)).filter(|channel| channel.is_open());
        if let Some((id, target)) = dial.and_then(|channel| Some((channel.id, channel.dial_client.take()?))) {
            self.act(Action::Dial { id, leg: Leg::Client, target });
        }
        self.begin_data(channel, true);
    }

    /// A transfer's data may flow. `answered`: the server has accepted the transfer, not only been asked for it.
    pub(super) fn begin_data(&mut self, channel: Option<ChannelId>, answered: bool) {
        let begun = channel.and_then(|id| self.channels.get_mut(id)).filter(|channel| channel.is_open());
        if let Some((id, protect)) = begun.and_then(|channel| Some((channel.id, channel.begin(answered)?))) {
            self.act(Action::Begin { id, protect });
        }
    }

    fn route_line(&mut self, line: Bytes, inner: bool) {
        let is_hidden = inner && matches!(self.route, Route::Filter) && self.is_feature_hidden(&line);
        match &mut self.route {
            Route::Pass => self.send_client(line),
            Route::Drop => {}
            Route::Filter if is_hidden => {}
            Route::Filter => self.send_client(line),
            Route::Final => {
                if let Some(data) = self.output.put_final(line) {
                    self.act(Action::Write { leg: Leg::Client, data, urgent: false });
                }
            }
            Route::Collect(collected) => {
                if !collected.push(&line) {
                    self.stop_collecting();
                    self.send_client(line);
                }
            }
        }
    }

    /// The reply is more than a 227 or 229 can be: it passes as it is.
    fn stop_collecting(&mut self) {
        if matches!(self.route, Route::Collect(_))
            && let Route::Collect(collected) = std::mem::replace(&mut self.route, Route::Pass)
        {
            self.send_client(collected.into_bytes());
        }
    }

    fn close_reply(&mut self, reply: Reply, now: Instant) {
        let route = std::mem::replace(&mut self.route, Route::Pass);
        self.reply = None;
        if matches!(reply.code.get(), 230 | 232) {
            self.logged_in = true;
        }
        if let Match::Entry(ticket) = reply.entry
            && !reply.code.is_preliminary()
            && let Some(entry) = self.pending.remove(ticket)
        {
            self.answered(entry, reply.code, route);
        }
        self.release();
        self.flush_own();
        self.close_if_not_ftp();
        self.advance(now);
    }

    /// Ends the session with a client that gets everything wrong.
    pub(super) fn close_if_not_ftp(&mut self) {
        if self.unknown >= MAX_UNKNOWN && !self.closed {
            self.give_up(Reason::NotFtp, "421 Too many unknown commands, closing control connection.\r\n");
        }
    }

    /// A command has got its final reply.
    fn answered(&mut self, entry: Pending, code: Code, route: Route) {
        match entry {
            Pending::Active if self.is_telling_server() => self.server_told(code, route),
            Pending::Passive | Pending::Active => match route {
                Route::Collect(reply) => self.setup_answered(code, *reply),
                _ => self.passive_unanswered(),
            },
            Pending::Port(id) if !code.is_success() => self.close_channel(id),
            Pending::Transfer(Transfer { channel: Some(id), started }) => match route {
                Route::Final => {}
                _ => self.transfer_not_held(id, code, started),
            },
            Pending::Login(verb) => self.act(Action::LoginAnswered { failed: verb.is_failure(code) }),
            Pending::Greeting => {
                self.greeted = code.is_success();
                self.server_greeted(code);
            }
            Pending::Opening(step) => self.opening_answered(step, code),
            Pending::Auth => self.auth_passed(code),
            Pending::Host(line) if code.is_success() => self.tls.host = Some(Box::new(line)),
            Pending::Feat if matches!(route, Route::Drop) => self.answer_feat(),
            Pending::Plain if !self.logged_in && matches!(code.get(), 500 | 502) => self.unknown += 1,
            Pending::Mode(letter) if code.is_success() => self.stream_mode = letter == b'S',
            Pending::Type(letter) if code.is_success() => self.text_type = matches!(letter, b'A' | b'E'),
            Pending::EpsvAll if code.is_success() => self.epsv_only = true,
            Pending::Rein => {
                if code.is_success() {
                    self.epsv_only = false;
                    self.algs_off = false;
                    self.stream_mode = true;
                    self.text_type = true;
                    self.user = None;
                    self.withdraw_offer();
                }
                self.rein_answered(code);
            }
            _ => {}
        }
    }

    /// A transfer's final reply has passed: an error, or a success too long to hold.
    fn transfer_not_held(&mut self, id: ChannelId, code: Code, started: bool) {
        let aborted = self.channels.get_mut(id).and_then(|c| c.transfer_mut()).is_some_and(|t| t.aborted);
        if aborted {
            // Both ends end now, and look cut.
            self.close_channel(id);
        } else if !started && code.is_error() {
            if self.exchange.is_none() && self.channels.give_back(id) {
                return;
            }
            // A newer PASV or PORT has replaced what this one would have used.
            self.close_channel(id);
        }
        self.transfer_answered(id, code.get());
    }

    /// Whether it has greeted, or begun to.
    pub(super) fn has_server_spoken(&self) -> bool {
        self.lines.server.is_mid_line() || self.framer.is_inside() || !self.pending.awaits_greeting()
    }

    /// The connection is over before the server has said a word.
    pub(super) fn hung_up(&mut self) {
        self.flow.server.eof = true;
        self.send_client(Bytes::from_static(UNAVAILABLE));
        self.close_when_told(Reason::ServerClosedBeforeGreeting);
    }

    pub(super) fn server_eof(&mut self, now: Instant) {
        if self.is_eof_a_refusal() {
            return self.server_unprotected();
        }
        if !self.has_server_spoken() {
            return self.hung_up();
        }
        if self.tls.is_switching(Leg::Client) {
            // Its last word, if it had one, follows the handshake.
            self.flow.server.eof = true;
            return self.withdraw_offer();
        }
        self.flow.server.eof = true;
        // Nobody is left to answer them.
        self.held = Held::default();
        if let Some(rest) = self.lines.server.take_rest() {
            // An unfinished last line is the server's word all the same.
            self.reply_line(rest, now);
        }
        if self.closed {
            return;
        }
        match std::mem::replace(&mut self.route, Route::Pass) {
            Route::Collect(reply) if reply.is_refusal() => self.send_client(reply.into_bytes()),
            // An unfinished 227 is of no use, and names an address of the inside.
            Route::Collect(_) | Route::Pass | Route::Drop | Route::Filter | Route::Final => {}
        }
        self.channels.unhold(Unhold::ServerGone);
        self.release();
        if let Some(exchange) = self.exchange.take() {
            self.pending.remove_exchange();
            self.close_exchange(&exchange);
        }
        self.withdraw_offer();
        self.flow.client.shut = true;
        self.act(Action::Shutdown { leg: Leg::Client });
    }
}
