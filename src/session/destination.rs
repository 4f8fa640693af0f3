//! Where the connection to the server leads, and leaving one server for another.

use std::sync::Arc;

use super::event::Action;
use super::pending::{Pending, PendingQueue};
use super::server::Route;
use super::{Flow, Session};
use crate::ftp::host::HostName;
use crate::ftp::line::LineSplitter;
use crate::ftp::reply::ReplyFramer;

/// What a connection to the server leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The server that the listener's configuration names, or the way in which the client came to us (`upstream`).
    Listener,
    /// An entry of [`Settings::hosts`](super::Settings::hosts).
    Host(usize),
    /// The one that the client has named itself.
    Named(Arc<Server>),
}

/// A server that a client has named.
#[derive(Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub host: HostName,
    /// Its control port.
    pub port: u16,
}

/// Why the present connection to the server was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The client came.
    Client,
    /// The client's AUTH ended a login (RFC 2228 §3); it has had its answer.
    Auth,
    /// REIN, the answer to which is the greeting.
    Rein,
    /// HOST, the answer to which is the greeting.
    Host,
    /// USER has named another server, whose answer to USER is awaited.
    User,
}

impl Session {
    /// Opens the session's first connection to the server.
    pub(super) fn connect(&mut self, to: Destination) {
        self.pending.push(Pending::Greeting);
        self.destination = Some(to.clone());
        self.act(Action::Connect { to });
    }

    /// Another connection to the same server.
    pub(super) fn reconnect_to_same(&mut self, origin: Origin) {
        let to = self.destination.clone().unwrap_or(Destination::Listener);
        self.reconnect(to, origin);
    }

    /// A fresh connection to the server takes the place of the one there is, and of whatever goes on there.
    pub(super) fn reconnect(&mut self, to: Destination, origin: Origin) {
        // Whatever still moves is the old login's.
        self.channels.answer_all();
        self.withdraw_offer();
        for id in self.channels.open() {
            self.close_channel(id);
        }
        self.server = None;
        self.flow.server = Flow::default();
        self.lines.server = LineSplitter::default();
        self.framer = ReplyFramer::default();
        (self.route, self.reply, self.long_line) = (Route::Pass, None, None);
        self.pending = PendingQueue::default();
        self.user = None;
        self.logged_in = false;
        self.urgent = false;
        (self.epsv_only, self.epsv_refused, self.algs_off, self.stream_mode) = (false, false, false, true);
        self.tls.begin_connection(self.settings.tls, origin);
        self.connect(to);
    }
}
