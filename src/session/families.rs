//! Client and server of different families: an IPv6 client before an IPv4 server (RFC 6384), and the reverse.
//!
//! There every command that sets up a data connection is translated, whatever `server.data_mode` says: an IPv4 server
//! gets PASV and PORT, an IPv6 server EPSV and EPRT. An IPv6 client may switch that off by ALGS. Telnet options are
//! refused to both sides ([`telnet`](crate::ftp::telnet)), switched off or not: the session is still ours to read.

use bytes::Bytes;

use super::Session;
use super::client::Held;
use super::pending::Pending;
use crate::addr::{Family, Leg};
use crate::ftp::command::{Algs, CommandLine};
use crate::ftp::telnet::Refusal;
use crate::nat::DataMode;

impl Session {
    pub(super) fn client_family(&self) -> Family {
        Family::of(self.client)
    }

    fn server_family(&self) -> Option<Family> {
        self.server.map(Family::of)
    }

    fn families_differ(&self) -> bool {
        self.server_family().is_some_and(|server| server != self.client_family())
    }

    /// Whether the client's verbs may go to the server as they are.
    pub(super) fn may_keep_verbs(&self) -> bool {
        !self.families_differ() || self.is_translation_off()
    }

    /// Whether the client has switched translation off. Where `server.data_mode` substitutes verbs, it cannot.
    fn is_translation_off(&self) -> bool {
        self.algs_off && self.settings.data_mode == DataMode::Same
    }

    /// Whether a server that does not know EPSV is sent PASV in its place.
    pub(super) fn may_fall_back(&self) -> bool {
        self.server_family() == Some(Family::V4) && !self.is_translation_off()
    }

    /// Whether ALGS is ours: the "64" in its arguments is an IPv6 client and an IPv4 server.
    pub(super) fn offers_algs(&self) -> bool {
        (self.client_family(), self.server_family()) == (Family::V6, Some(Family::V4))
    }

    /// RFC 6384 §11. Where nothing is translated, it is the server's to answer, as an unknown command.
    pub(super) fn algs(&mut self, line: &CommandLine, asked: Algs) {
        if !self.offers_algs() {
            return self.forward(line, Pending::Plain);
        }
        match asked {
            Algs::Status => {}
            Algs::Enable => self.algs_off = false,
            Algs::Disable => self.algs_off = true,
            Algs::Other => {
                return self.answer("504 Unknown ALGS parameter, use STATUS64, ENABLE64 or DISABLE64.\r\n");
            }
        }
        self.answer(if self.is_translation_off() { "216 NONE\r\n" } else { "216 EPSVEPRT\r\n" });
    }

    /// Where every verb is kept the server has its say; elsewhere it is ours to answer, and to enforce until REIN.
    pub(super) fn epsv_all(&mut self, line: &CommandLine) {
        if self.settings.data_mode == DataMode::Same && !self.epsv_refused && self.may_keep_verbs() {
            self.forward(line, Pending::EpsvAll);
        } else {
            self.epsv_only = true;
            self.answer("200 EPSV ALL command successful.\r\n");
        }
    }

    /// RFC 2428 §2: 522 with the list of what may be asked for.
    pub(super) fn unknown_family(&mut self) {
        let number = self.client_family().number();
        self.answer(format!("522 Network protocol not supported, use ({number})\r\n"));
    }

    /// The server is there, and with it its family. The client may have sent options before.
    pub(super) fn watch_for_options(&mut self) {
        if !self.families_differ() {
            self.lines.client.pass_options();
            self.lines.server.pass_options();
            return;
        }
        let mut refusals = self.held.refuse_options();
        refusals.extend(self.lines.client.refuse_options());
        self.lines.server.refuse_options();
        for refusal in refusals {
            self.refuse(Leg::Client, refusal);
        }
    }

    /// Answers a peer that wants to agree on an option; the other peer hears nothing of it.
    pub(super) fn refuse(&mut self, leg: Leg, refusal: Refusal) {
        let answer = Bytes::copy_from_slice(&refusal.wire());
        match leg {
            // Not into the middle of a line.
            Leg::Client if self.is_within_reply() => self.answer(answer),
            Leg::Client => self.send_client(answer),
            Leg::Server => self.send_server(answer, false),
        }
    }
}

impl Held {
    /// Takes options out of the commands that wait.
    fn refuse_options(&mut self) -> Vec<Refusal> {
        let mut all = Vec::new();
        for line in self.lines_mut() {
            let (without, refusals) = line.without_options();
            *line = without;
            all.extend(refusals);
        }
        all
    }
}
