//! What the client says about TLS: AUTH, PBSZ, PROT, CCC, REIN, and what it may not say without TLS.

use bytes::Bytes;

use super::{ClientTls, Cover, ServerTls, Terminate};
use crate::addr::Leg;
use crate::ftp::command::{Command, CommandLine, Mechanism, Protection};
use crate::ftp::reply::{Code, feat_names, feat_names_hidden};
use crate::session::Session;
use crate::session::client::NOT_IMPLEMENTED;
use crate::session::destination::Origin;
use crate::session::event::Reason;
use crate::session::pending::Pending;
use crate::session::server::Route;
use crate::session::transfer::CANNOT_OPEN;

/// As FEAT lists it.
const ALGS: &[u8] = b" ALGS\r\n";

impl Session {
    /// Deals with a command that TLS decides upon. False: it goes its usual way.
    pub(in crate::session) fn is_settled_by_tls(&mut self, line: &CommandLine, command: &Command<'_>) -> bool {
        let tls = self.settings.tls;
        match (tls.client, command) {
            (ClientTls::Terminate(terms), _) => self.is_settled_by_us(terms, line, command),
            (_, Command::Rein) => self.is_rein_settled(),
            (ClientTls::Passthrough, Command::Auth(_)) => {
                self.forward(line, Pending::Auth);
                true
            }
            // They would change what the server's connections are protected by.
            (_, Command::Pbsz(_) | Command::Prot(_) | Command::Ccc | Command::Sscn)
                if tls.server != ServerTls::Plain =>
            {
                self.answer(NOT_IMPLEMENTED);
                true
            }
            _ => false,
        }
    }

    fn is_settled_by_us(&mut self, terms: Terminate, line: &CommandLine, command: &Command<'_>) -> bool {
        match command {
            Command::Auth(mechanism) => self.auth(*mechanism),
            Command::Pbsz(size) => self.pbsz(*size),
            Command::Prot(level) => self.prot(terms, *level),
            Command::Ccc => self.ccc(terms),
            _ if terms.require && self.needs_tls(command) => {
                self.answer("530 Policy requires TLS, use AUTH TLS first.\r\n");
            }
            Command::Sscn => self.answer(NOT_IMPLEMENTED),
            Command::Transfer { .. } if !self.may_move_data() => {
                self.answer("521 Policy requires protected data connections, use PROT P.\r\n");
            }
            // Its data connection has begun for a transfer that was refused, and cannot begin once more.
            Command::Transfer { .. } if self.channels.is_offer_begun_otherwise(self.protection()) => {
                self.withdraw_offer();
                self.answer(CANNOT_OPEN);
            }
            Command::Host(_) if self.tls.cover.client == Cover::Clear => self.forward(line, Pending::Host(line.wire())),
            Command::Rein => return self.is_rein_settled(),
            Command::Feat | Command::Help | Command::Host(_) | Command::Quit => return false,
            _ => {
                self.tls.unclean |= self.server.is_some();
                return false;
            }
        }
        true
    }

    /// Whether policy requires TLS for this command: before it for all but what may lead to it or away (RFC 4217 §10,
    /// RFC 7151 §3), after CCC for another login.
    fn needs_tls(&self, command: &Command<'_>) -> bool {
        match self.tls.cover.client {
            Cover::Clear => !matches!(command, Command::Feat | Command::Help | Command::Host(_) | Command::Quit),
            Cover::Cleared => matches!(command, Command::User(_) | Command::Pass),
            Cover::Switching | Cover::Tls => false,
        }
    }

    /// RFC 4217 §4: what was said before does not count any more (RFC 2228 §3), here or at the server.
    fn auth(&mut self, mechanism: Mechanism) {
        if self.tls.cover.client != Cover::Clear {
            return self.answer("503 AUTH has been accepted already, or is not needed here.\r\n");
        }
        if mechanism == Mechanism::Other {
            return self.answer("504 Unknown security mechanism, use TLS.\r\n");
        }
        self.send_client(Bytes::from_static(b"234 AUTH TLS successful.\r\n"));
        self.switch(Leg::Client);
        self.tls.sized = false;
        self.tls.protects = mechanism == Mechanism::TlsPrivate;
        self.urgent = false;
        if self.has_more_from_client() {
            self.close(Reason::LeftOver(Leg::Client));
        } else if self.tls.unclean && !self.has_hosts() {
            // Otherwise the name in the handshake says where to.
            self.reconnect_to_same(Origin::Auth);
        }
    }

    /// RFC 4217 §9: the size has no meaning, and is always 0.
    fn pbsz(&mut self, size: Option<u32>) {
        if self.tls.cover.client == Cover::Clear {
            return self.answer("503 Use AUTH TLS before PBSZ.\r\n");
        }
        match size {
            None => self.answer("501 Illegal PBSZ argument.\r\n"),
            Some(size) => {
                self.tls.sized = true;
                self.answer(if size == 0 { "200 PBSZ command successful.\r\n" } else { "200 PBSZ=0\r\n" });
            }
        }
    }

    fn prot(&mut self, terms: Terminate, level: Protection) {
        let answer = match (self.tls.cover.client, level) {
            (Cover::Clear, _) => "503 Use AUTH TLS before PROT.\r\n",
            _ if !self.tls.sized => "503 Use PBSZ before PROT.\r\n",
            (_, Protection::Clear) if terms.require => "534 Policy requires PROT P.\r\n",
            (_, Protection::Clear) => {
                self.tls.protects = false;
                "200 Data connections are clear.\r\n"
            }
            (_, Protection::Private) => {
                self.tls.protects = true;
                "200 Data connections are private.\r\n"
            }
            (_, Protection::Partial) => "536 TLS does not offer this protection level.\r\n",
            (_, Protection::Other) => "504 Unknown protection level.\r\n",
        };
        self.answer(answer);
    }

    /// RFC 4217 §6.
    fn ccc(&mut self, terms: Terminate) {
        if self.may_clear(terms) {
            self.send_client(Bytes::from_static(b"200 The control connection is clear from here on.\r\n"));
            self.stop_tls(Cover::Cleared);
        } else if self.tls.cover.client == Cover::Tls {
            self.answer("534 Policy requires TLS on the control connection.\r\n");
        } else {
            self.answer("533 The control connection is not protected.\r\n");
        }
    }

    /// A port of implicit TLS never speaks plain text.
    pub(super) fn may_clear(&self, terms: Terminate) -> bool {
        self.tls.cover.client == Cover::Tls && terms.allow_ccc && !terms.implicit
    }

    /// Whether REIN ends TLS with the client, behind its reply (RFC 4217 §13): not on a port of implicit TLS, where there
    /// is no AUTH that would start it again.
    pub(in crate::session) fn does_rein_clear(&self) -> bool {
        self.tls.cover.client == Cover::Tls && !self.settings.tls.protects_at_first()
    }

    /// A server that is spoken to in TLS would end that as well. It is left, and the next greeting answers the client.
    fn is_rein_settled(&mut self) -> bool {
        let reconnects = self.settings.tls.server != ServerTls::Plain || self.does_rein_leave();
        self.tls.rein = reconnects || self.does_rein_clear();
        if reconnects {
            self.tls.host = None;
            self.reconnect(self.destination_after_rein(), Origin::Rein);
        }
        reconnects
    }

    /// The reply to REIN has been passed on.
    pub(in crate::session) fn rein_answered(&mut self, code: Code) {
        self.tls.rein = false;
        if !code.is_success() {
            return;
        }
        self.tls.sized = false;
        self.tls.protects = self.settings.tls.protects_at_first();
        self.tls.host = None;
        if self.does_rein_clear() {
            self.stop_tls(Cover::Clear);
        } else if self.tls.cover.client == Cover::Cleared {
            self.tls.cover.client = Cover::Clear;
        }
    }

    /// What happens to the lines of a reply to FEAT: names of what we do not offer go, and ours come in.
    pub(in crate::session) fn feat_route(&self, code: Code) -> Route {
        match self.settings.tls.client {
            ClientTls::Refuse | ClientTls::Passthrough if self.has_hosts() && matches!(code.get(), 500 | 502) => {
                Route::Drop
            }
            ClientTls::Refuse | ClientTls::Passthrough if code.is_error() => Route::Pass,
            ClientTls::Refuse => Route::Filter,
            // Nothing is hidden but what is ours, which comes in.
            ClientTls::Passthrough => {
                if self.features().is_some() {
                    Route::Filter
                } else {
                    Route::Pass
                }
            }
            // A server that does not know FEAT (IIS 5) has features now.
            ClientTls::Terminate(_) if matches!(code.get(), 500 | 502) => Route::Drop,
            ClientTls::Terminate(_) if code.is_error() => Route::Pass,
            ClientTls::Terminate(_) => Route::Filter,
        }
    }

    /// A reply of one line to FEAT: there are no features (RFC 2389 §3.2), but for ours.
    pub(in crate::session) fn replace_single_feat(&mut self, code: Code) {
        if matches!(self.route, Route::Filter) && self.features().is_some() && code.is_success() {
            self.route = Route::Drop;
        }
    }

    /// Before the last line of the reply to FEAT.
    pub(in crate::session) fn add_features(&mut self) {
        if matches!(self.route, Route::Filter)
            && let Some(features) = self.features()
        {
            self.send_client(features.into());
        }
    }

    /// A reply to FEAT of our own, instead of the server's.
    pub(in crate::session) fn answer_feat(&mut self) {
        let features = self.features().unwrap_or_default();
        self.send_client(format!("211-Extensions supported:\r\n{features}211 End\r\n").into());
    }

    /// What we offer ourselves (RFC 4217 §6, RFC 6384 §11, RFC 7151 §3.2).
    pub(in crate::session) fn features(&self) -> Option<String> {
        let mut features = if self.has_hosts() { " HOST\r\n".to_owned() } else { String::new() };
        if let ClientTls::Terminate(terms) = self.settings.tls.client {
            features += if terms.implicit { "" } else { " AUTH TLS\r\n" };
            features += " PBSZ\r\n PROT\r\n";
            features += if terms.allow_ccc && !terms.implicit { " CCC\r\n" } else { "" };
        }
        if self.offers_algs() && !self.is_feature_denied(ALGS) {
            features += " ALGS\r\n";
        }
        (!features.is_empty()).then_some(features)
    }

    /// Whether a line of a reply to FEAT names a command that `policy.deny` refuses.
    fn is_feature_denied(&self, line: &[u8]) -> bool {
        self.settings.denied.iter().any(|name| name.is_in_feat(line))
    }

    /// Whether a line within the server's reply to FEAT is not for the client.
    pub(in crate::session) fn is_feature_hidden(&self, line: &[u8]) -> bool {
        self.is_feature_denied(line)
            || (self.settings.tls.client != ClientTls::Passthrough && feat_names_hidden(line))
            || (self.has_hosts() && feat_names(line, "HOST"))
    }
}
