//! Sessions whose client names the server itself: `USER user@host`, as FTP proxies have it.
//!
//! ```text
//!              USER user@host            ServerReady, 220, (TLS)
//!   reception ───────────────▶ connecting ─────────────────────▶ with a server ──┐ USER user@another host
//!       ▲ 220 is ours   │ not permitted: 530 │                       ▲           │
//!       └───────────────┴────────────────────┘                       └───────────┘
//! ```
//!
//! At the reception there is no server: we greet, and answer what needs none. The server's own greeting is swallowed, and
//! its answer to `USER user` is the answer to `USER user@host`. A greeting that turns us away is it, too.
//!
//! That is what lftp (`ftp:proxy`), FileZilla ("USER@HOST") and WinSCP send, what OpenBSD's and SuSE's ftp-proxy, frox
//! and ProFTPD's mod_proxy (`ProxyForwardMethod user@host`) take, and what anybody can type.

use std::sync::Arc;

use bytes::Bytes;

use super::client::{NOT_IMPLEMENTED, Permission};
use super::destination::{Destination, Origin, Server};
use super::event::{Action, Reason};
use super::pending::{LoginVerb, Pending, PendingQueue};
use super::{Session, UNAVAILABLE};
use crate::ftp::command::{Command, CommandLine};
use crate::ftp::host::UserAtHost;
use crate::ftp::reply::Code;

/// The control port of FTP (RFC 959 §8).
const FTP_PORT: u16 = 21;

const GREETING: &str = "220 FTP proxy ready, log in with USER user@host.\r\n";
const NAME_A_SERVER: &str = "530 Log in with USER user@host first.\r\n";

impl Session {
    /// Greets a client that is yet to name a server.
    pub(super) fn receive_client(&mut self) {
        self.tls.abandon_connection();
        self.send_client(Bytes::from_static(GREETING.as_bytes()));
    }

    /// Whether no server has been named.
    pub(super) fn is_at_reception(&self) -> bool {
        self.settings.from_user && self.destination.is_none()
    }

    /// A command before there is a server.
    pub(super) fn command_at_reception(&mut self, line: &CommandLine, command: Command<'_>) {
        match command {
            Command::Host(_) => self.answer(NOT_IMPLEMENTED),
            Command::Rein => {
                self.receive_client();
                self.rein_answered(Code::READY);
            }
            command if self.is_settled_by_tls(line, &command) => {}
            Command::User(argument) => self.user_at_host(argument),
            Command::Pass | Command::Acct => {
                self.permission_unused();
                self.answer("503 Log in with USER user@host first.\r\n");
            }
            Command::Auth(_) => self.answer(NOT_IMPLEMENTED),
            Command::Feat => self.features_of_all(),
            Command::Noop => self.answer("200 NOOP command successful.\r\n"),
            Command::Help => self.answer("214 Log in with USER user@host or USER user@host:port.\r\n"),
            Command::Quit => {
                self.send_client(Bytes::from_static(b"221 Goodbye.\r\n"));
                self.close(Reason::ClientClosed);
            }
            Command::Other => {
                self.unknown += 1;
                self.answer(NAME_A_SERVER);
                self.close_if_not_ftp();
            }
            _ => self.answer(NAME_A_SERVER),
        }
    }

    /// What can be had with every server. EPSV becomes PASV for those that do not know it; lftp uses it only where FEAT
    /// has it.
    fn features_of_all(&mut self) {
        let tls = self.features().unwrap_or_default();
        self.answer(format!("211-Extensions supported:\r\n EPSV\r\n{tls}211 End\r\n"));
    }

    /// USER where it names the server.
    pub(super) fn user_at_host(&mut self, argument: &[u8]) {
        let Some(named) = UserAtHost::parse(argument) else {
            self.permission_unused();
            return self.answer(NAME_A_SERVER);
        };
        let line = Bytes::from([b"USER ", named.user, b"\r\n"].concat());
        let to = destination(&named);
        if self.destination.as_ref() == Some(&to) {
            self.introduce(line);
        } else {
            self.introduction = Some(Box::new(line));
            // It was for the other server.
            self.tls.host = None;
            self.reconnect(to, Origin::User);
        }
        self.login = Permission::None;
        self.user = Some(Bytes::copy_from_slice(argument));
    }

    /// Whether a command would lead to another server than the present one.
    pub(super) fn names_another_server(&self, command: &Command<'_>) -> bool {
        let (true, Command::User(argument)) = (self.settings.from_user, command) else { return false };
        UserAtHost::parse(argument).is_some_and(|named| self.destination.as_ref() != Some(&destination(&named)))
    }

    /// The server is ready for the client's user.
    pub(super) fn introduce_user(&mut self) {
        if let Some(line) = self.introduction.take() {
            self.introduce(*line);
        }
    }

    fn introduce(&mut self, line: Bytes) {
        self.tls.server_remembers();
        self.pending.push(Pending::Login(LoginVerb::User));
        self.send_server(line, false);
    }

    /// The server that was named has turned us away, and the client has been told so in its words. Nobody is left here to
    /// talk to.
    pub(super) fn turned_away(&mut self) {
        self.introduction = None;
        self.close_when_told(Reason::ServerClosed);
    }

    /// The server may not be reached. A client that named it may name another; each time counts as a failed login, so that
    /// trying addresses is as slow as trying passwords. Why it may not, and whether it exists, is not said.
    pub(super) fn server_refused(&mut self) {
        if self.introduction.take().is_none() {
            self.send_client(Bytes::from_static(UNAVAILABLE));
            return self.close_when_told(Reason::ServerRefused);
        }
        self.destination = None;
        self.pending = PendingQueue::default();
        self.tls.abandon_connection();
        self.act(Action::LoginAnswered { failed: true });
        self.answer("530 This server may not be reached from here.\r\n");
    }

    /// A login command that never came to a server.
    fn permission_unused(&mut self) {
        self.login = Permission::None;
        self.act(Action::LoginAnswered { failed: false });
    }
}

fn destination(named: &UserAtHost<'_>) -> Destination {
    let port = named.port.unwrap_or(FTP_PORT);
    Destination::Named(Arc::new(Server { host: named.host.clone(), port }))
}
