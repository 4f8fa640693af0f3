//! Where the server always connects to us: what the client has prepared is made known to the server when a command
//! needs it. The picture is in [`exchange`](super::exchange).

use bytes::Bytes;

use super::Session;
use super::event::{Action, Notice};
use super::exchange::{Collected, Exchange, Stage};
use super::server::Route;
use super::timer::Timer;
use super::transfer::{CANNOT_OPEN, Channel};
use crate::addr::{Family, Leg};
use crate::ftp::command::CommandLine;
use crate::ftp::reply::Code;
use crate::nat::DataMode;

/// A server that was told of no port would use the last that it knows of, which may be another session's by now.
const NOTHING_PREPARED: &str = "425 Use PASV or PORT first.\r\n";

impl Session {
    /// The client's end is ready: that is all that the client need know.
    pub(super) fn client_end_ready(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        match exchange.success(None) {
            Some(reply) => {
                self.channels.offer(Channel::prepared(exchange));
                self.answer(reply);
            }
            None => {
                self.close_exchange(&exchange);
                self.answer(CANNOT_OPEN);
            }
        }
    }

    /// Tells the server where to connect, if that is left to do before this command. True: the command has gone back to
    /// the head of what is held until the server has answered, or has had its answer.
    pub(super) fn waits_for_server(&mut self, line: &CommandLine) -> bool {
        let Some(server) = self.server else { return false };
        let Some(mut exchange) = self.channels.take_prepared() else { return false };
        if exchange.ended {
            // The client did not come, or its port was needed for another.
            self.answer(CANNOT_OPEN);
            return true;
        }
        self.held.put_back(line.clone());
        exchange.turn_to_server();
        let id = exchange.id;
        let carries = exchange.carries(Leg::Server, Family::of(server));
        self.act(Action::Bind { id, leg: Leg::Server, carries });
        // Known before the server is told anything: IIS connects before it answers PORT.
        if let Some(target) = exchange.dial_client {
            self.act(Action::Dial { id, leg: Leg::Client, target });
        }
        self.exchange = Some(exchange);
        true
    }

    /// Answers a transfer for which the client has prepared nothing, where the server must not see it. In other modes
    /// than Stream the last connection may still be there.
    pub(super) fn lacks_data_connection(&mut self) -> bool {
        let lacks = self.settings.data_mode == DataMode::Active && self.stream_mode && !self.channels.has_offer();
        if lacks {
            self.answer(NOTHING_PREPARED);
        }
        lacks
    }

    /// Whether the server is being told where to connect, for a command that waits for it.
    pub(super) fn is_telling_server(&self) -> bool {
        self.exchange.as_deref().is_some_and(Exchange::is_told_to_server)
    }

    /// The server's whole reply to the PORT or EPRT, which the client knows nothing of.
    pub(super) fn server_told(&mut self, code: Code, route: Route) {
        let Some(exchange) = self.exchange.take() else { return };
        self.timers.stop(Timer::Straggler);
        if code.is_error() {
            self.act(Action::Notice(Notice::ServerRefusesPort { code: code.get() }));
        }
        match route {
            Route::Drop if !code.is_error() && !exchange.ended => self.channels.offer(Channel::new(exchange.id)),
            Route::Collect(reply) => self.refuse_waiting(&exchange, reply.into_bytes()),
            // It was too long to be kept, and has passed.
            Route::Pass => self.refuse_waiting(&exchange, Bytes::new()),
            Route::Drop | Route::Filter | Route::Final => {
                self.refuse_waiting(&exchange, Bytes::from_static(CANNOT_OPEN.as_bytes()));
            }
        }
    }

    /// The server gave no answer that we know for one.
    pub(super) fn server_not_told(&mut self, exchange: &Exchange) {
        self.refuse_waiting(exchange, Bytes::from_static(CANNOT_OPEN.as_bytes()));
    }

    /// There is no data connection for the command that waits: this is its answer.
    fn refuse_waiting(&mut self, exchange: &Exchange, reply: Bytes) {
        self.close_exchange(exchange);
        self.held.drop_first();
        self.send_client(reply);
    }
}

impl Exchange {
    /// Whether the server is told of it for a command that waits.
    pub(super) fn is_told_to_server(&self) -> bool {
        self.stage == Stage::ServerEnd
    }
}

/// What happens to the lines of the reply to our own PORT or EPRT: the texts of a few refusals say more than we could.
pub(super) fn route(code: Code) -> Route {
    match code.get() {
        421 | 530 | 550 => Route::Collect(Box::new(Collected::new(code))),
        _ => Route::Drop,
    }
}
