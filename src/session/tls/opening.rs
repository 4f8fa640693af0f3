//! Opening the connection to a server that is spoken to in TLS, before the client's first command.
//!
//! ```text
//!   explicit   220 ▶ AUTH TLS ▶ handshake ▶ PBSZ 0 ▶ PROT P ┐
//!   implicit   handshake ▶ 220 ────────────▶ PBSZ 0 ▶ PROT P ┼▶ (HOST) ▶ the client's commands
//!   plain      220 ───────────────────────────────────────── ┘
//! ```
//!
//! HOST is for a connection that takes the place of one on which the client had sent it. A step that the server refuses
//! ends the session: there is no way on in plain.

use bytes::Bytes;

use super::{ServerTls, Step};
use crate::addr::Leg;
use crate::ftp::reply::Code;
use crate::session::destination::Origin;
use crate::session::event::{Action, Notice, Reason};
use crate::session::pending::Pending;
use crate::session::{Session, UNAVAILABLE};

impl Step {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "AUTH TLS",
            Self::Pbsz => "PBSZ 0",
            Self::Prot => "PROT P",
            Self::Host => "HOST",
        }
    }
}

impl Session {
    /// The greeting is complete; 421 and the like have gone to the client, who waits for nothing better.
    pub(in crate::session) fn server_greeted(&mut self, code: Code) {
        if self.tls.origin == Origin::Rein {
            self.rein_answered(code);
        }
        if code.is_success() && !self.closed {
            match self.settings.tls.server {
                ServerTls::Plain => self.restore_host(),
                ServerTls::Explicit => self.ask_server(Step::Auth, Bytes::from_static(b"AUTH TLS\r\n")),
                ServerTls::Implicit => self.ask_for_protection(),
            }
        } else if self.tls.origin == Origin::User && !self.closed {
            self.turned_away();
        }
    }

    /// The handshake with the server is done. Implicit: it has not greeted yet.
    pub(super) fn server_protected(&mut self) {
        if self.settings.tls.server == ServerTls::Explicit {
            self.ask_for_protection();
        }
    }

    fn ask_for_protection(&mut self) {
        self.ask_server(Step::Pbsz, Bytes::from_static(b"PBSZ 0\r\n"));
    }

    fn ask_server(&mut self, step: Step, command: Bytes) {
        self.pending.push(Pending::Opening(step));
        self.send_server(command, false);
    }

    pub(in crate::session) fn opening_answered(&mut self, step: Step, code: Code) {
        match step {
            Step::Auth if code.is_success() => self.switch(Leg::Server),
            // PROT decides: a server may know no PBSZ, which TLS has no use for (RFC 4217 §9).
            Step::Pbsz => self.ask_server(Step::Prot, Bytes::from_static(b"PROT P\r\n")),
            Step::Prot if code.is_success() => self.restore_host(),
            Step::Host if code.is_success() => self.opened(),
            Step::Auth | Step::Prot | Step::Host => {
                self.act(Action::Notice(Notice::ServerRefuses { asked: step.as_str(), code: code.get() }));
                self.cannot_open(match step {
                    Step::Host => Reason::ServerUnavailable,
                    Step::Auth | Step::Pbsz | Step::Prot => Reason::TlsFailed(Leg::Server),
                });
            }
        }
    }

    /// Another login must not be another virtual server's (RFC 7151 §3).
    fn restore_host(&mut self) {
        match &self.tls.host {
            Some(line) if self.tls.opening => {
                let line = Bytes::clone(line);
                self.ask_server(Step::Host, line);
            }
            _ => self.opened(),
        }
    }

    /// The connection is ready for the client.
    fn opened(&mut self) {
        self.tls.opening = false;
        self.introduce_user();
    }

    /// Whether the server's FIN means that it has refused the opening of the connection.
    pub(in crate::session) fn is_eof_a_refusal(&self) -> bool {
        self.tls.is_switching(Leg::Server) || self.pending.awaits_opening()
    }

    /// There is no TLS with the server, and nothing to fall back to.
    pub(in crate::session) fn server_unprotected(&mut self) {
        self.cannot_open(Reason::TlsFailed(Leg::Server));
    }

    fn cannot_open(&mut self, why: Reason) {
        self.send_client(Bytes::from_static(UNAVAILABLE));
        self.close_when_told(why);
    }
}
