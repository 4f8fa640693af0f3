//! Virtual hosts: servers chosen by name, with HOST (RFC 7151) or with the name in the client's TLS handshake (SNI).
//!
//! ```text
//!                               HOST b: the greeting of b is its answer
//!   upstream ──────────────────────────────────────────────────────────▶ b
//!      ▲  SNI b: b greets the client (implicit), or nobody (after AUTH)   │
//!      └────────────────────────────── REIN ──────────────────────────────┘
//! ```
//!
//! The two have to agree (RFC 7151 §3): a HOST that is not the name of the handshake is refused, whoever would answer it.
//! Where hosts are configured, no server ever sees HOST: those behind it are told apart by their address, and many do not
//! know the command.

use super::Session;
use super::destination::{Destination, Origin};
use crate::addr::Leg;
use crate::ftp::command::{Command, CommandLine};
use crate::ftp::host::HostName;

impl Session {
    /// Whether servers are chosen by name here.
    pub(super) fn has_hosts(&self) -> bool {
        !self.settings.hosts.is_empty()
    }

    /// Whether HOST was dealt with; otherwise it is for the server.
    pub(super) fn is_host_settled(&mut self, argument: &[u8]) -> bool {
        let named = said(argument);
        let expected = self.tls.expected.as_deref();
        if expected.is_some() && expected != named.as_ref() {
            self.answer("504 HOST differs from the server name of the TLS handshake.\r\n");
        } else if !self.has_hosts() {
            return false;
        } else if self.user.is_some() || self.logged_in {
            self.answer("503 HOST comes before USER.\r\n");
        } else {
            match named.as_ref().map(|named| self.host(named)) {
                None => self.answer("501 Illegal HOST argument.\r\n"),
                Some(None) => self.answer("504 Unknown host.\r\n"),
                Some(to) if to == self.destination => self.answer("220 Host accepted.\r\n"),
                Some(Some(to)) => self.reconnect(to, Origin::Host),
            }
        }
        true
    }

    /// The server of a name.
    fn host(&self, name: &HostName) -> Option<Destination> {
        self.settings.hosts.iter().position(|host| host == name).map(Destination::Host)
    }

    /// Whether this is a HOST that leads to another server.
    pub(super) fn names_another_host(&self, command: &Command<'_>) -> bool {
        let (true, Command::Host(argument)) = (self.has_hosts(), command) else { return false };
        let to = said(argument).and_then(|named| self.host(&named));
        to.is_some() && to != self.destination
    }

    /// Where a client of this TLS handshake, or of none, is led before it says anything.
    pub(super) fn first_destination(&self) -> Destination {
        self.tls.expected.as_deref().and_then(|name| self.host(name)).unwrap_or(Destination::Listener)
    }

    /// Whether REIN leads the client back to where it began: to a fresh connection, since another server answers it.
    pub(super) fn does_rein_leave(&self) -> bool {
        self.has_hosts() && self.destination != Some(self.destination_after_rein())
    }

    pub(super) fn destination_after_rein(&self) -> Destination {
        if self.settings.from_user {
            self.destination.clone().unwrap_or(Destination::Listener)
        } else if self.does_rein_clear() {
            Destination::Listener
        } else {
            self.first_destination()
        }
    }

    /// The client's handshake is done, and with it the name that it expects is known, if it said one.
    pub(super) fn follow_expected_name(&mut self) {
        if self.settings.from_user {
            return;
        }
        let Some(present) = self.destination.clone() else { return self.connect(self.first_destination()) };
        if self.has_hosts() {
            // HOST before AUTH counts for a client that says nothing else.
            let to = if self.tls.expected.is_some() { self.first_destination() } else { present.clone() };
            if self.tls.is_unclean() || to != present {
                self.reconnect(to, Origin::Auth);
            }
        } else if self.tls.expected.is_some() && self.tls.host.is_some() && !self.is_host_expected() {
            // What the server was told before the handshake is another host than that of the handshake.
            self.tls.host = None;
            self.reconnect_to_same(Origin::Auth);
        }
    }

    /// Whether the HOST that the server has accepted is what the client's handshake expects.
    fn is_host_expected(&self) -> bool {
        let line = self.tls.host.as_deref().and_then(|line| CommandLine::new(line.clone()).ok());
        let named = line.as_ref().and_then(|line| match line.parse() {
            Ok(Command::Host(argument)) => said(argument),
            _ => None,
        });
        named.as_ref() == self.tls.expected.as_deref()
    }

    /// Whether the server is not to be connected to before the client's handshake has said which.
    pub(super) fn awaits_name(&self) -> bool {
        self.has_hosts() && self.tls.is_switching(Leg::Client)
    }
}

/// What HOST says.
fn said(argument: &[u8]) -> Option<HostName> {
    HostName::parse(argument.trim_ascii())
}
