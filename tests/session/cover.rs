//! What covers the control connections, as a shell knows it, and what may not be asked of the shell because of it.

use std::fmt::Write as _;

use ftp_alg::addr::{Leg, PerLeg};
use ftp_alg::session::{Action, ClientTls, ServerTls, Terminate, TlsSettings};

/// The state of both legs.
#[derive(Debug)]
pub(crate) struct Cover {
    pub(crate) tls: TlsSettings,
    /// A handshake is under way.
    pub(crate) switching: PerLeg<bool>,
    pub(crate) covered: PerLeg<bool>,
    /// The client's leg has been in TLS.
    was_covered: bool,
    /// The session has asked for its first connection to the server.
    pub(crate) begun: bool,
    /// Bytes pass unread.
    pub(crate) blind: bool,
    /// What concerns the bytes of each leg, in the order of what is written: for comparisons.
    pub(crate) done: PerLeg<String>,
}

impl Cover {
    pub(crate) fn new(tls: TlsSettings) -> Self {
        Self {
            tls,
            switching: PerLeg::default(),
            covered: PerLeg::default(),
            was_covered: false,
            begun: false,
            blind: false,
            done: PerLeg::default(),
        }
    }

    /// A handshake is done. False: none was under way.
    pub(crate) fn ready(&mut self, leg: Leg) -> bool {
        let was_switching = std::mem::take(&mut self.switching[leg]);
        self.covered[leg] |= was_switching;
        self.was_covered |= was_switching && leg == Leg::Client;
        was_switching
    }

    /// Checks an action. `connected`: there is a connection to the server.
    pub(crate) fn check(&mut self, action: &Action, connected: bool) {
        match action {
            Action::Write { leg, data, .. } => self.check_write(*leg, data),
            Action::StartTls { leg } => {
                assert!(!self.covered[*leg] && !self.switching[*leg], "TLS within TLS");
                assert!(*leg == Leg::Client || connected);
                self.switching[*leg] = true;
                self.done[*leg].push_str("TLS\n");
            }
            Action::StopTls { leg } => {
                assert!(std::mem::take(&mut self.covered[*leg]), "nothing to stop");
                let ClientTls::Terminate(terms) = self.tls.client else { panic!("whose TLS?") };
                assert!(!terms.implicit, "plain text on a port of implicit TLS");
                self.done[*leg].push_str("no TLS\n");
            }
            Action::Connect { .. } => {
                let is_first = !std::mem::replace(&mut self.begun, true);
                assert!(connected != is_first, "nothing to close");
                if is_first {
                    return;
                }
                (self.switching.server, self.covered.server) = (false, false);
                self.done.server.push_str("reconnect\n");
            }
            Action::PassThrough => {
                assert_eq!(self.tls.client, ClientTls::Passthrough);
                self.blind = true;
                self.done.client.push_str("blind\n");
                self.done.server.push_str("blind\n");
            }
            Action::Begin { id, protect } => {
                let _infallible = writeln!(self.done.client, "begin {} {protect:?}", id.0);
                assert_eq!(protect.server, self.tls.server != ServerTls::Plain);
                let is_ours = matches!(self.tls.client, ClientTls::Terminate(_));
                assert!(!protect.client || (is_ours && self.was_covered), "TLS with a client that has none");
                if let ClientTls::Terminate(Terminate { require: true, .. }) = self.tls.client {
                    assert!(protect.client, "data in clear");
                }
            }
            _ => {}
        }
    }

    fn check_write(&mut self, leg: Leg, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        assert!(!self.switching[leg], "{text:?} to the {leg} during the handshake");
        let command = behind_telnet(data);
        // An option is refused wherever it comes up.
        if leg == Leg::Server && !self.blind && !command.is_empty() {
            self.check_command(&String::from_utf8_lossy(command));
        }
        self.done[leg].push_str(&text);
    }

    /// What the server may be told.
    fn check_command(&self, text: &str) {
        let verb = text[..text.find([' ', '\r']).unwrap_or(text.len())].to_ascii_uppercase();
        let is_opening = matches!(text, "AUTH TLS\r\n" | "PBSZ 0\r\n" | "PROT P\r\n") || verb == "HOST";
        match self.tls.server {
            ServerTls::Plain => {}
            _ if text == "AUTH TLS\r\n" => assert!(!self.covered.server, "AUTH within TLS"),
            ServerTls::Explicit | ServerTls::Implicit => assert!(self.covered.server, "{text:?} in clear"),
        }
        if let ClientTls::Terminate(terms) = self.tls.client {
            let is_ours = self.tls.server != ServerTls::Plain && is_opening;
            assert!(is_ours || !matches!(verb.as_str(), "AUTH" | "PBSZ" | "PROT" | "CCC"), "{text:?}");
            if terms.require && !self.was_covered && !is_opening {
                assert!(matches!(verb.as_str(), "FEAT" | "HELP" | "HOST" | "QUIT"), "{text:?} in clear");
            }
        }
    }
}

/// What stands behind Telnet's own bytes.
fn behind_telnet(mut data: &[u8]) -> &[u8] {
    while let [0xFF, 0xFB..=0xFE, _, rest @ ..] | [0xFF, 0xF0..=0xFA, rest @ ..] = data {
        data = rest;
    }
    data
}
