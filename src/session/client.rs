//! The client's side: lines become commands, and commands go out when their turn has come.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::event::{Action, Reason};
use super::exchange::Setup;
use super::pending::{LoginVerb, Pending, Transfer as PendingTransfer};
use super::timer::Timer;
use super::transfer::{Transfer, Unhold};
use super::{Session, TOO_MANY_FAILURES, event::Notice};
use crate::addr::{Claimed, Family, Leg};
use crate::ftp::command::{Command, CommandError, CommandLine, EpsvArgument, LineError, TransferVerb};
use crate::ftp::line::Piece;

/// How much may be held back before the client is no longer read.
const MAX_HELD_LINES: usize = 20;
const MAX_HELD_BYTES: usize = 4096;

/// What a command is answered that is not passed on.
pub(super) const NOT_IMPLEMENTED: &str = "502 Command not implemented.\r\n";

/// What the client sent, one line of it.
#[derive(Debug)]
enum Input {
    Line(CommandLine),
    /// More than a line may be; dropped to its end.
    TooLong,
    /// CR or NUL within the line.
    ControlByte,
}

impl Input {
    fn len(&self) -> usize {
        match self {
            Self::Line(line) => line.content().len(),
            Self::TooLong | Self::ControlByte => 0,
        }
    }

    /// USER, PASS and ACCT, each of which may fail.
    fn is_login(&self) -> bool {
        matches!(self, Self::Line(line) if matches!(line.parse(), Ok(Command::User(_) | Command::Pass | Command::Acct)))
    }

    /// ABOR and STAT, which are good for something while the server is busy.
    fn is_for_a_busy_server(&self) -> bool {
        matches!(self, Self::Line(line) if matches!(line.parse(), Ok(Command::Abor | Command::Stat)))
    }
}

/// Whether a command of a login may go to the server. Each asks anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Permission {
    /// None has been asked for.
    #[default]
    None,
    /// It has been asked for; until the answer comes, the command waits, and all behind it.
    Asked,
    /// The next login command has it.
    Given,
}

/// Commands that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Held {
    inputs: VecDeque<Input>,
    bytes: usize,
    /// What was read together with the line that filled this up; never more than one read.
    unread: Vec<u8>,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.unread.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        !self.has_room() || !self.unread.is_empty()
    }

    fn has_room(&self) -> bool {
        self.inputs.len() < MAX_HELD_LINES && self.bytes < MAX_HELD_BYTES
    }

    /// The next command, if it is one.
    pub(super) fn next_line(&self) -> Option<&CommandLine> {
        match self.inputs.front()? {
            Input::Line(line) => Some(line),
            Input::TooLong | Input::ControlByte => None,
        }
    }

    /// The commands, as far as they are some.
    pub(super) fn lines_mut(&mut self) -> impl Iterator<Item = &mut CommandLine> {
        self.inputs.iter_mut().filter_map(|input| match input {
            Input::Line(line) => Some(line),
            Input::TooLong | Input::ControlByte => None,
        })
    }

    /// What was read and not looked at.
    pub(super) fn take_blindly(&mut self) -> Bytes {
        std::mem::take(&mut self.unread).into()
    }

    fn push(&mut self, input: Input) {
        self.bytes += input.len();
        self.inputs.push_back(input);
    }

    /// Puts a command that was taken for execution back in its place, before all others.
    pub(super) fn put_back(&mut self, line: CommandLine) {
        let input = Input::Line(line);
        self.bytes += input.len();
        self.inputs.push_front(input);
    }

    /// Drops the next command: it has been answered.
    pub(super) fn drop_first(&mut self) {
        self.pop();
    }

    fn pop(&mut self) -> Option<Input> {
        let input = self.inputs.pop_front()?;
        self.bytes -= input.len();
        Some(input)
    }

    /// What was read and not looked at, if there is room for its lines now.
    fn take_unread(&mut self) -> Option<Vec<u8>> {
        (self.has_room() && !self.unread.is_empty()).then(|| std::mem::take(&mut self.unread))
    }
}

impl Session {
    pub(super) fn client_bytes(&mut self, data: &[u8], now: Instant) {
        if self.flow.server.eof {
            // There is nobody to answer.
        } else if self.held.is_full() {
            self.held.unread.extend_from_slice(data);
        } else {
            self.split(data, now);
        }
    }

    fn split(&mut self, mut data: &[u8], now: Instant) {
        let cover = self.tls.client_cover();
        while !self.closed
            && !self.held.is_full()
            && !self.tls.is_auth_ahead()
            && self.tls.client_cover() == cover
            && let Some(piece) = self.lines.client.next(&mut data)
        {
            let input = match piece {
                Piece::Line(line) => match CommandLine::new(line) {
                    Ok(line) => Input::Line(line),
                    Err(LineError::ControlByte) => Input::ControlByte,
                },
                Piece::Overlong { bytes, first: true, .. } => {
                    // Its first part says what it is.
                    if let Ok(line) = CommandLine::new(bytes) {
                        self.check_speaker(&line);
                    }
                    continue;
                }
                Piece::Overlong { last: true, .. } => Input::TooLong,
                Piece::Overlong { last: false, .. } => continue,
                Piece::Option(refusal) => {
                    self.refuse(Leg::Client, refusal);
                    continue;
                }
            };
            self.timers.stop(Timer::Line);
            self.receive(input, now);
        }
        if self.tls.client_cover() != cover && !data.is_empty() {
            return self.close(Reason::LeftOver(Leg::Client));
        }
        self.held.unread.extend_from_slice(data);
    }

    fn receive(&mut self, input: Input, now: Instant) {
        if let Input::Line(line) = &input {
            self.check_speaker(line);
            self.look_out_for_auth(line);
        }
        self.spoken = true;
        if self.closed {
            return;
        }
        self.held.push(input);
        self.advance(now);
    }

    /// Ends the session with a client that is none.
    fn check_speaker(&mut self, line: &CommandLine) {
        if !self.spoken && line.is_http() {
            self.close(Reason::NotFtp);
        } else if matches!(line.parse(), Err(CommandError::LooksLikeReply)) {
            self.close(Reason::Spoofed(Leg::Client));
        }
    }

    /// Carries out the commands whose turn has come.
    pub(super) fn advance(&mut self, now: Instant) {
        loop {
            while !self.closed && self.may_go_on() && self.is_next_permitted() {
                let Some(input) = self.held.pop() else { break };
                self.execute(input, now);
            }
            if self.closed || self.tls.is_auth_ahead() {
                // Of a session that is closed the rest would go round for ever: nothing splits it any more.
                break;
            }
            let Some(unread) = self.held.take_unread() else { break };
            self.split(&unread, now);
        }
    }

    /// Whether the next command needs no permission, or has it; asks for it.
    fn is_next_permitted(&mut self) -> bool {
        if self.login == Permission::Given || !self.held.inputs.front().is_some_and(Input::is_login) {
            return true;
        }
        if self.login == Permission::None {
            self.login = Permission::Asked;
            self.act(Action::AskLogin);
        }
        false
    }

    pub(super) fn login_permitted(&mut self) {
        if self.login == Permission::Asked {
            self.login = Permission::Given;
        }
    }

    pub(super) fn login_refused(&mut self) {
        if self.login == Permission::Asked {
            self.give_up(Reason::LoginFailures, TOO_MANY_FAILURES);
        }
    }

    /// Whether the next command's turn has come. ABOR and STAT do not wait for what is under way, if only
    /// everything before them is with the server.
    fn may_go_on(&self) -> bool {
        if self.tls.holds_commands() || self.is_at_a_turn() {
            return false;
        }
        if !self.must_hold() {
            return true;
        }
        self.held.inputs.front().is_some_and(Input::is_for_a_busy_server)
            && self.server.is_some()
            && !self.pending.is_full()
            && self.exchange.as_ref().is_none_or(|exchange| exchange.is_bound())
    }

    fn must_hold(&self) -> bool {
        (self.server.is_none() && !self.is_at_reception())
            || self.exchange.is_some()
            || self.pending.is_full()
            || self.channels.is_any_upload_unflushed()
    }

    pub(super) fn client_eof(&mut self, now: Instant) {
        self.flow.client.eof = true;
        // What is left of an unfinished line is no command: nobody ended it.
        self.lines.client.take_rest();
        // A scanner is not worth a connection to the server. Commands are: `printf … | nc` sends them and FIN at once.
        if self.server.is_none() && self.held.is_empty() && self.introduction.is_none() {
            return self.close(Reason::ClientClosed);
        }
        self.timers.start(Timer::Close, now + self.settings.close);
    }

    fn execute(&mut self, input: Input, now: Instant) {
        let line = match input {
            Input::Line(line) => line,
            Input::TooLong => return self.answer("500 Command line too long.\r\n"),
            Input::ControlByte => return self.answer("501 Illegal character in command.\r\n"),
        };
        match line.parse() {
            Ok(_) if self.settings.denied.iter().any(|name| name.matches(&line)) => {
                self.answer("502 Command not implemented.\r\n");
            }
            Ok(command) if self.is_at_reception() => self.command_at_reception(&line, command),
            Ok(Command::Host(name)) if self.is_host_settled(name) => {}
            Ok(command) if self.is_settled_by_tls(&line, &command) => {}
            Ok(command) => self.command(&line, command, now),
            Err(error) => self.malformed(error),
        }
    }

    fn malformed(&mut self, error: CommandError) {
        match error {
            CommandError::TelnetInVerb => self.answer("500 Syntax error, command unrecognized.\r\n"),
            CommandError::BadHostPort => self.answer("501 Illegal PORT command.\r\n"),
            CommandError::UnknownFamily => self.unknown_family(),
            CommandError::LooksLikeReply => self.close(Reason::Spoofed(Leg::Client)),
        }
    }

    fn command(&mut self, line: &CommandLine, command: Command<'_>, now: Instant) {
        match command {
            Command::Pasv => self.set_up(Setup::Pasv, None),
            Command::Epsv(EpsvArgument::None) => self.set_up(Setup::Epsv, None),
            Command::Epsv(EpsvArgument::Family(family)) if family == self.client_family() => {
                self.set_up(Setup::Epsv, Some(family));
            }
            Command::Epsv(EpsvArgument::Family(_) | EpsvArgument::OtherFamily) => self.unknown_family(),
            Command::Epsv(EpsvArgument::Malformed) => self.answer("501 Illegal EPSV argument.\r\n"),
            Command::Epsv(EpsvArgument::All) => self.epsv_all(line),
            Command::Port(claimed) => self.active(Setup::Port, claimed),
            Command::Eprt(claimed) => self.active(Setup::Eprt, claimed),
            Command::Transfer { verb, path } => {
                let path = Bytes::copy_from_slice(path);
                self.transfer(line, verb, path, now);
            }
            Command::Abor => {
                self.channels.unhold(Unhold::Aborted);
                self.release();
                self.forward_urgently(line, Pending::Abor { doubtful: false });
            }
            Command::Stat => self.forward_urgently(line, Pending::Stat),
            Command::Quit => self.forward_urgently(line, Pending::Plain),
            Command::Rest if self.waits_for_server(line) => {}
            Command::Feat => self.forward(line, Pending::Feat),
            Command::Rein => self.forward(line, Pending::Rein),
            Command::Mode(letter) => self.forward(line, Pending::Mode(letter)),
            Command::Type(letter) => self.forward(line, Pending::Type(letter)),
            Command::User(argument) if self.settings.from_user => self.user_at_host(argument),
            Command::User(name) => {
                self.user = Some(Bytes::copy_from_slice(name));
                self.log_in(line, LoginVerb::User);
            }
            Command::Pass | Command::Acct => self.log_in(line, LoginVerb::Secret),
            Command::LongAddress => self.answer("502 Command not implemented, use EPRT or EPSV.\r\n"),
            Command::Algs(asked) => self.algs(line, asked),
            Command::Auth(_) => self.answer(NOT_IMPLEMENTED),
            Command::Rest
            | Command::Pbsz(_)
            | Command::Prot(_)
            | Command::Ccc
            | Command::Sscn
            | Command::Host(_)
            | Command::Help
            | Command::Noop
            | Command::Other => self.forward(line, Pending::Plain),
        }
    }

    /// Uses the permission up.
    fn log_in(&mut self, line: &CommandLine, verb: LoginVerb) {
        self.login = Permission::None;
        self.forward(line, Pending::Login(verb));
    }

    pub(super) fn forward(&mut self, line: &CommandLine, entry: Pending) {
        self.pending.push(entry);
        self.send_server(line.wire(), false);
    }

    /// ABOR, STAT and QUIT carry the client's urgent data on (RFC 959 §4.1.3).
    fn forward_urgently(&mut self, line: &CommandLine, entry: Pending) {
        self.pending.push(entry);
        if !std::mem::take(&mut self.urgent) {
            return self.send_server(line.wire(), false);
        }
        let (urgent, rest) = line.urgent_wire();
        self.send_server(urgent, true);
        if !rest.is_empty() {
            self.send_server(rest, false);
        }
    }

    fn transfer(&mut self, line: &CommandLine, verb: TransferVerb, path: Bytes, now: Instant) {
        if self.waits_for_server(line) || self.lacks_data_connection() {
            return;
        }
        let channel = self.channels.begin(self.new_transfer(Some(verb), path, now), self.protection());
        self.begin_data(channel, false);
        self.forward(line, Pending::Transfer(PendingTransfer { channel, started: false }));
    }

    pub(super) fn new_transfer(&self, verb: Option<TransferVerb>, path: Bytes, now: Instant) -> Transfer {
        let unheld = !self.stream_mode;
        let text = self.text_type;
        Transfer { verb, path, began: now, text, code: None, answered: false, unheld, aborted: false }
    }

    /// PORT or EPRT. Nothing is sent anywhere unless the address passes.
    fn active(&mut self, asked: Setup, claimed: Claimed) {
        match self.settings.policy.vet(claimed, self.client) {
            Ok(target) => self.set_up_active(asked, target),
            Err(refusal) => {
                self.act(Action::Notice(Notice::Refused(refusal)));
                let is_of_other_family = claimed.ip.is_some_and(|ip| Family::of(ip) != self.client_family());
                if asked == Setup::Eprt && is_of_other_family {
                    return self.unknown_family();
                }
                self.answer("501 Illegal PORT address.\r\n");
            }
        }
    }
}
