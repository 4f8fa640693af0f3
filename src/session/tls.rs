//! TLS on the control connections: who asks for it, when it begins and ends, and what data connections follow from it.
//!
//! ```text
//!              AUTH                      TlsReady            CCC
//!   Clear ──────────────▶ Switching ──────────────▶ Tls ──────────▶ Cleared
//!     ▲                    ▲ implicit: at the start  │                 │
//!     └────────────────────┼─────────────────────────┴─────────────────┘
//!                          REIN
//! ```
//!
//! A switch is a line across the stream, and nothing may cross it: what lay before it in a buffer of ours would be
//! taken for what came behind it (CVE-2011-0411). So a command that turns the connection over waits until everything
//! before it has been answered and sent, and nothing may have come behind it.
//!
//! The legs are independent: [`commands`] is the client's, [`opening`] the server's.

mod commands;
mod opening;

use bytes::Bytes;

use super::Session;
use super::destination::Origin;
use super::event::{Action, Reason};
use crate::addr::{Leg, PerLeg};
use crate::ftp::command::{Command, CommandLine, Mechanism};
use crate::ftp::host::HostName;
use crate::ftp::reply::Code;

/// What a listener's configuration says about TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// Towards clients.
    pub client: ClientTls,
    /// Towards the server. Only [`Plain`](ServerTls::Plain) makes sense where the client's AUTH passes through.
    pub server: ServerTls,
}

/// What becomes of a client's AUTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientTls {
    /// It is refused, and FEAT does not name it.
    #[default]
    Refuse,
    /// It goes to the server, and if that accepts, the session is blind from then on (RFC 6384 §5).
    Passthrough,
    /// TLS ends here.
    Terminate(Terminate),
}

/// How TLS with clients is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terminate {
    /// Nothing but AUTH and what may lead to it is accepted before TLS, and no transfer without PROT P.
    pub require: bool,
    /// TLS from the first byte, as on port 990; there is neither AUTH nor a way back.
    pub implicit: bool,
    /// Clients may go back to plain commands by CCC; not where TLS is implicit.
    pub allow_ccc: bool,
}

/// How TLS with the server is done. With it, data connections to the server are always protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerTls {
    /// Not at all.
    #[default]
    Plain,
    /// By AUTH TLS behind the greeting.
    Explicit,
    /// From the first byte.
    Implicit,
}

/// What covers a control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Cover {
    #[default]
    Clear,
    /// A handshake is under way.
    Switching,
    Tls,
    /// Clear again, by CCC; the login was protected.
    Cleared,
}

/// A command of ours by which a connection to the server is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Auth,
    Pbsz,
    Prot,
    /// The client's HOST once more, on a fresh connection.
    Host,
}

/// What a session knows about TLS.
#[derive(Debug)]
pub(super) struct Tls {
    cover: PerLeg<Cover>,
    /// The client has sent PBSZ.
    sized: bool,
    /// PROT P is in force on the client's data connections.
    protects: bool,
    /// The server may remember something that the client said before AUTH.
    unclean: bool,
    origin: Origin,
    /// The connection to the server is not ready for the client's commands.
    opening: bool,
    /// A REIN that ends the client's TLS awaits its answer.
    rein: bool,
    /// An AUTH that passes through has come; what is behind it may not be text.
    auth_ahead: bool,
    blind: bool,
    /// Why the session closes once the client can be told.
    farewell: Option<Reason>,
    /// The name in the client's handshake (SNI). Boxed: few listeners care.
    pub(super) expected: Option<Box<HostName>>,
    /// The HOST that the server has accepted before AUTH. Boxed: few clients send it.
    pub(super) host: Option<Box<Bytes>>,
}

impl Tls {
    pub(super) fn new(settings: TlsSettings) -> Self {
        Self {
            cover: PerLeg::default(),
            sized: false,
            protects: settings.protects_at_first(),
            unclean: false,
            origin: Origin::Client,
            opening: settings.server != ServerTls::Plain,
            rein: false,
            auth_ahead: false,
            blind: false,
            farewell: None,
            expected: None,
            host: None,
        }
    }

    /// A fresh connection to the server begins.
    pub(super) fn begin_connection(&mut self, settings: TlsSettings, origin: Origin) {
        self.cover.server = Cover::Clear;
        self.unclean = false;
        self.origin = origin;
        self.opening = settings.server != ServerTls::Plain || self.host.is_some() || origin == Origin::User;
    }

    /// The server has been told something that counts before AUTH only.
    pub(super) fn server_remembers(&mut self) {
        self.unclean = true;
    }

    /// There is no connection to the server.
    pub(super) fn abandon_connection(&mut self) {
        self.opening = false;
        self.origin = Origin::Client;
    }

    /// Whether the server has been told something that counts before AUTH only.
    pub(super) fn is_unclean(&self) -> bool {
        self.unclean
    }

    /// Whether all commands of the client wait.
    pub(super) fn holds_commands(&self) -> bool {
        self.opening || self.rein || self.is_switching(Leg::Client)
    }

    /// Whether a handshake is under way on this leg.
    pub(super) fn is_switching(&self, leg: Leg) -> bool {
        self.cover[leg] == Cover::Switching
    }

    /// What covers the client's connection; if a command has changed it, nothing may stand behind that command.
    pub(super) fn client_cover(&self) -> Cover {
        self.cover.client
    }

    /// Whether AUTH is on its way through: what follows is kept as it is until the server has answered.
    pub(super) fn is_auth_ahead(&self) -> bool {
        self.auth_ahead
    }

    /// Whether nothing is looked at any more.
    pub(super) fn is_blind(&self) -> bool {
        self.blind
    }

    /// Whether the greeting that comes next is none of the client's business.
    pub(super) fn is_greeting_ours(&self) -> bool {
        matches!(self.origin, Origin::Auth | Origin::User)
    }
}

impl TlsSettings {
    /// Implicit TLS is for both connections ("the entire session", as WinSCP's manual has it), and clients of its time
    /// never send PROT; those of today send PROT P all the same. Explicit TLS begins with PROT C (RFC 4217 §9).
    fn protects_at_first(self) -> bool {
        matches!(self.client, ClientTls::Terminate(Terminate { implicit: true, .. }))
    }
}

impl Session {
    /// Starts TLS where it comes before every word.
    pub(super) fn start_implicit_tls(&mut self, leg: Leg) {
        let is_implicit = match leg {
            Leg::Client => self.settings.tls.protects_at_first(),
            Leg::Server => self.settings.tls.server == ServerTls::Implicit,
        };
        if is_implicit {
            self.switch(leg);
        }
    }

    /// Asks for the handshake. Nothing is written to this leg until it is done.
    fn switch(&mut self, leg: Leg) {
        self.tls.cover[leg] = Cover::Switching;
        if leg == Leg::Client {
            self.tls.expected = None;
            self.output.pause();
        }
        self.act(Action::StartTls { leg });
    }

    pub(super) fn tls_ready(&mut self, leg: Leg) {
        if !self.tls.is_switching(leg) {
            return;
        }
        self.tls.cover[leg] = Cover::Tls;
        match leg {
            Leg::Client => {
                self.output.resume();
                self.follow_expected_name();
                if let Some(why) = self.tls.farewell {
                    self.release();
                    self.close(why);
                }
            }
            Leg::Server => self.server_protected(),
        }
    }

    /// Closes behind what the client was just told, which may have to wait for its handshake.
    pub(super) fn close_when_told(&mut self, why: Reason) {
        if self.tls.is_switching(Leg::Client) {
            self.tls.farewell.get_or_insert(why);
        } else {
            self.close(why);
        }
    }

    /// The end of TLS with the client, behind the reply that was just sent.
    fn stop_tls(&mut self, cover: Cover) {
        self.tls.cover.client = cover;
        if cover == Cover::Clear {
            self.tls.expected = None;
        }
        self.act(Action::StopTls { leg: Leg::Client });
        if self.has_more_from_client() {
            self.close(Reason::LeftOver(Leg::Client));
        }
    }

    fn has_more_from_client(&self) -> bool {
        !self.held.is_empty() || self.lines.client.is_mid_line()
    }

    /// Whether bytes of this leg are no text for us.
    pub(super) fn is_text_misplaced(&self, leg: Leg) -> bool {
        self.tls.blind || self.tls.is_switching(leg)
    }

    /// Bytes that came across a switch: on their way, if nobody looks any more, and otherwise the end.
    pub(super) fn text_misplaced(&mut self, leg: Leg, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        match leg {
            _ if !self.tls.blind => self.close(Reason::LeftOver(leg)),
            Leg::Client => self.send_server(Bytes::copy_from_slice(data), false),
            Leg::Server => self.send_client(Bytes::copy_from_slice(data)),
        }
    }

    /// Whether what the server sends is to be looked at.
    pub(super) fn is_server_text(&self) -> bool {
        self.server.is_some() && !self.is_text_misplaced(Leg::Server)
    }

    /// What was read together with the reply that has turned the server's connection over, or ended it.
    pub(super) fn server_bytes_beyond(&mut self, data: &[u8]) {
        if self.server.is_some() {
            self.text_misplaced(Leg::Server, data);
        }
    }

    /// Which ends of a data connection are protected, should it begin now.
    pub(super) fn protection(&self) -> PerLeg<bool> {
        PerLeg { client: self.tls.protects, server: self.settings.tls.server != ServerTls::Plain }
    }

    /// Whether policy admits data in this protection.
    pub(super) fn may_move_data(&self) -> bool {
        self.tls.protects || !matches!(self.settings.tls.client, ClientTls::Terminate(Terminate { require: true, .. }))
    }

    /// Whether the next command turns a connection over and its time has not come.
    pub(super) fn is_at_a_turn(&self) -> bool {
        (self.settings.tls != TlsSettings::default() || self.settings.from_user || self.has_hosts())
            && self.held.next_line().is_some_and(|line| line.parse().is_ok_and(|command| self.is_turn(&command)))
            && !self.is_quiet()
    }

    fn is_turn(&self, command: &Command<'_>) -> bool {
        match (self.settings.tls.client, command) {
            (ClientTls::Passthrough, Command::Auth(_)) => true,
            (ClientTls::Terminate(_), Command::Auth(Mechanism::Tls | Mechanism::TlsPrivate)) => {
                self.tls.cover.client == Cover::Clear
            }
            (ClientTls::Terminate(terms), Command::Ccc) => self.may_clear(terms),
            _ if self.names_another_server(command) || self.names_another_host(command) => true,
            (_, Command::Rein) => {
                self.settings.tls.server != ServerTls::Plain || self.does_rein_clear() || self.does_rein_leave()
            }
            _ => false,
        }
    }

    /// Whether everything that was said has been answered, and every answer sent.
    fn is_quiet(&self) -> bool {
        !self.pending.is_outstanding()
            && self.exchange.is_none()
            && !self.output.is_holding()
            && !self.is_within_reply()
    }

    /// Notes an AUTH that will pass through, before anything behind it is taken for text.
    pub(super) fn look_out_for_auth(&mut self, line: &CommandLine) {
        if self.settings.tls.client == ClientTls::Passthrough && matches!(line.parse(), Ok(Command::Auth(_))) {
            self.tls.auth_ahead = true;
        }
    }

    /// The server's answer to an AUTH that passed through has been passed on. 334 asks for more, which is not for us
    /// either.
    pub(super) fn auth_passed(&mut self, code: Code) {
        self.tls.auth_ahead = false;
        if code.is_error() {
            return;
        }
        self.withdraw_offer();
        self.tls.blind = true;
        self.act(Action::PassThrough);
        let unread = self.held.take_blindly();
        if !unread.is_empty() {
            self.send_server(unread, false);
        }
    }
}
