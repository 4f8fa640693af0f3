//! Setting up a data channel, step by step; the state is in [`exchange`](super::exchange).

use bytes::Bytes;

use super::Session;
use super::event::{Action, ChannelId, Lack, Notice};
use super::exchange::{Collected, Exchange, Setup, Stage};
use super::pending::Pending;
use super::timer::Timer;
use super::transfer::{CANNOT_OPEN, Channel};
use crate::addr::{Announced, Family, Leg};
use crate::ftp::reply::{Code, extended, passive, write_227, write_229};
use crate::nat::DataMode;
use crate::nat::policy::DialTarget;

const NO_ADDRESS: &str = "425 Cannot open data connection: its public address is not known yet, try again later.\r\n";
const NO_IPV4: &str = "425 PASV cannot carry an IPv6 address, use EPSV.\r\n";
const NO_FAMILY: &str = "425 Cannot open data connection: no address is configured that the server could use.\r\n";
const NO_PORT: &str = "425 Cannot open data connection: no port is free, try again later.\r\n";
const PORT_OK: &[u8] = b"200 PORT command successful.\r\n";

impl Session {
    /// PASV or EPSV.
    pub(super) fn set_up(&mut self, asked: Setup, argument: Option<Family>) {
        self.begin_exchange(asked, |exchange| exchange.family_argument = argument);
    }

    /// PORT or EPRT, the address of which has passed.
    pub(super) fn set_up_active(&mut self, asked: Setup, target: DialTarget) {
        self.begin_exchange(asked, |exchange| exchange.dial_client = Some(target));
    }

    fn begin_exchange(&mut self, asked: Setup, complete: impl FnOnce(&mut Exchange)) {
        // RFC 2428 §4: after EPSV ALL every other way to a data connection is refused.
        if self.epsv_only && asked != Setup::Epsv {
            return self.answer("501 Only EPSV is allowed after EPSV ALL.\r\n");
        }
        let Some(server) = self.server else { return self.answer(NO_PORT) };
        // One data connection is prepared at a time (RFC 1123 §4.1.2.6): the new one replaces the old.
        self.withdraw_offer();
        let family = Family::of(server);
        let sent = asked.towards_server(self.settings.data_mode, family, self.may_keep_verbs(), self.epsv_refused);
        let stage = match self.settings.data_mode {
            DataMode::Same | DataMode::Passive => Stage::BothEnds,
            DataMode::Active => Stage::ClientEnd,
        };
        let mut exchange = Exchange::new(self.channels.issue(), stage, asked, sent);
        complete(&mut exchange);
        // The argument names the family of the client's leg; the server's may be another.
        exchange.family_argument = exchange.family_argument.filter(|wanted| *wanted == family);
        let id = exchange.id;
        for leg in exchange.accepting() {
            self.act(Action::Bind { id, leg, carries: exchange.carries(leg, family) });
        }
        // Known before the server is told anything: IIS connects before it answers PORT.
        if let (Some(target), Stage::BothEnds, false) = (exchange.dial_client, stage, sent.is_passive()) {
            self.act(Action::Dial { id, leg: Leg::Client, target });
        }
        let is_bound = exchange.is_bound();
        self.exchange = Some(Box::new(exchange));
        if is_bound {
            self.ports_bound(stage);
        }
    }

    /// Every end that accepts has its port.
    fn ports_bound(&mut self, stage: Stage) {
        match stage {
            Stage::ClientEnd => self.client_end_ready(),
            Stage::BothEnds | Stage::ServerEnd => self.send_setup(),
        }
    }

    pub(super) fn port_bound(&mut self, id: ChannelId, leg: Leg, at: Announced) {
        let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.id == id) else { return };
        if leg == Leg::Client && exchange.asked == Setup::Pasv && at.0.is_ipv6() {
            return self.abandon_exchange(NO_IPV4);
        }
        if exchange.bound(leg, at) {
            let stage = exchange.stage;
            self.ports_bound(stage);
        }
    }

    pub(super) fn port_refused(&mut self, id: ChannelId, leg: Leg, lacks: Lack) {
        if self.exchange.as_ref().is_some_and(|exchange| exchange.id == id && !exchange.is_bound()) {
            self.abandon_exchange(match (lacks, leg) {
                (Lack::Port, _) => NO_PORT,
                (Lack::Address, _) => NO_ADDRESS,
                (Lack::Family, Leg::Client) => NO_IPV4,
                (Lack::Family, Leg::Server) => NO_FAMILY,
            });
        }
    }

    /// Sends the server its PASV, EPSV, PORT or EPRT, now that every port which it may lead to is open.
    fn send_setup(&mut self) {
        let Some(exchange) = &self.exchange else { return };
        let Some(command) = exchange.command() else { return self.abandon_exchange(NO_PORT) };
        if exchange.is_told_to_server() {
            self.pending.push(Pending::Active);
        } else if !exchange.sent.is_passive() && exchange.is_verb_kept() {
            // The server's reply is the client's: nothing to translate, nothing to wait for.
            let id = exchange.id;
            let ended = exchange.ended;
            self.exchange = None;
            self.pending.push(Pending::Port(id));
            if !ended {
                self.channels.offer(Channel::new(id));
            }
        } else if exchange.sent.is_passive() {
            self.pending.push(Pending::Passive);
        } else {
            self.pending.push(Pending::Active);
        }
        self.send_server(command, false);
    }

    /// The server's whole reply to what [`send_setup`](Self::send_setup) sent.
    pub(super) fn setup_answered(&mut self, code: Code, reply: Collected) {
        let Some(exchange) = self.exchange.take() else { return self.send_client(reply.into_bytes()) };
        self.timers.stop(Timer::Straggler);
        if code.is_error() {
            self.setup_refused(*exchange, code, reply);
        } else if exchange.ended {
            self.send_client(Bytes::from_static(exchange.asked.refusal()));
        } else if exchange.sent.is_passive() {
            self.passive_offered(&exchange, reply);
        } else {
            self.port_accepted(&exchange);
        }
    }

    /// Closes the channel of an exchange that came to nothing.
    pub(super) fn close_exchange(&mut self, exchange: &Exchange) {
        if exchange.is_open() {
            self.act(Action::CloseChannel { id: exchange.id });
        }
    }

    /// 227 or 229: the server listens.
    fn passive_offered(&mut self, exchange: &Exchange, reply: Collected) {
        let Some(server) = self.server else { return };
        let id = exchange.id;
        // The form follows the command, but servers answer EPSV by 227 and the reverse.
        let claimed = match exchange.sent {
            Setup::Epsv | Setup::Eprt => reply.lines().find_map(|line| extended(line).or_else(|| passive(line))),
            Setup::Pasv | Setup::Port => reply.lines().find_map(|line| passive(line).or_else(|| extended(line))),
        };
        let Some(claimed) = claimed else {
            self.close_exchange(exchange);
            return self.send_client(if exchange.asked.is_passive() && !reply.is_cut() {
                reply.into_bytes()
            } else {
                Bytes::from_static(exchange.asked.refusal())
            });
        };
        let target = match self.settings.policy.vet_server(claimed, server) {
            Ok(target) => target,
            Err(refusal) => {
                self.close_exchange(exchange);
                self.act(Action::Notice(Notice::ServerPort(refusal)));
                return self.send_client(Bytes::from_static(REFUSED_PASSIVE));
            }
        };
        let Some(answer) = exchange.success(reply.single()) else { return self.cannot_announce(exchange) };
        self.act(Action::Dial { id, leg: Leg::Server, target });
        let mut channel = Channel::new(id);
        channel.dial_client = exchange.dial_client;
        self.channels.offer(channel);
        self.send_client(answer);
    }

    /// The server takes our PORT, which the client knows nothing of.
    fn port_accepted(&mut self, exchange: &Exchange) {
        let Some(answer) = exchange.success(None) else { return self.cannot_announce(exchange) };
        self.channels.offer(Channel::new(exchange.id));
        self.send_client(answer);
    }

    /// There is nothing that the client's verb could carry.
    fn cannot_announce(&mut self, exchange: &Exchange) {
        self.close_exchange(exchange);
        self.send_client(Bytes::from_static(REFUSED_PASSIVE));
    }

    fn setup_refused(&mut self, mut exchange: Exchange, code: Code, reply: Collected) {
        let not_known = matches!(code.get(), 500 | 502);
        if exchange.sent == Setup::Epsv && not_known && self.may_fall_back() {
            // Remembered for this session only: another login may reach another virtual server.
            self.epsv_refused = true;
            exchange.sent = Setup::Pasv;
            exchange.epsv_refusal = Some(reply.into_bytes());
            self.exchange = Some(Box::new(exchange));
            return self.send_setup();
        }
        self.close_exchange(&exchange);
        let answer = match exchange.epsv_refusal.take() {
            Some(refusal) if exchange.asked == Setup::Epsv => refusal,
            _ if exchange.is_verb_kept() || matches!(code.get(), 421 | 530 | 550) => reply.into_bytes(),
            _ => Bytes::from_static(exchange.asked.refusal()),
        };
        self.send_client(answer);
    }

    /// The server has sent something else for its answer, and then nothing: commands go on without one.
    pub(super) fn passive_unanswered(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        self.timers.stop(Timer::Straggler);
        self.pending.remove_exchange();
        if exchange.is_told_to_server() {
            self.server_not_told(&exchange);
        } else {
            self.close_exchange(&exchange);
        }
        self.act(Action::Notice(Notice::PassiveUnanswered));
        self.flush_own();
    }

    /// Nothing has been sent to the server yet.
    fn abandon_exchange(&mut self, reply: &'static str) {
        if let Some(exchange) = self.exchange.take() {
            self.close_exchange(&exchange);
            if exchange.is_told_to_server() {
                // The command that waits for it has its answer with this.
                self.held.drop_first();
            }
            self.answer(reply);
        }
    }
}

const REFUSED_PASSIVE: &[u8] = CANNOT_OPEN.as_bytes();
const REFUSED_ACTIVE: &[u8] = b"501 Server refuses the data connection.\r\n";

impl Exchange {
    /// What the client is told once its data connection is prepared; `line` is the server's own 227 or 229, if its
    /// wording can be kept. `None`: the client's verb cannot carry what would have to be announced.
    pub(super) fn success(&self, line: Option<&[u8]>) -> Option<Bytes> {
        match self.asked {
            Setup::Port | Setup::Eprt => Some(Bytes::from_static(PORT_OK)),
            Setup::Pasv => write_227(line, self.at_client()?),
            Setup::Epsv => Some(write_229(line, self.at_client()?.0.port())),
        }
    }
}

impl Setup {
    /// What a client that asked for this is told if nothing better is to be said.
    const fn refusal(self) -> &'static [u8] {
        if self.is_passive() { REFUSED_PASSIVE } else { REFUSED_ACTIVE }
    }
}
