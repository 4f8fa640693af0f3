//! What a session is doing, for those who look on from outside.

use bytes::Bytes;

use super::{Reason, Session};
use crate::ftp::command::TransferVerb;

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity<'a> {
    /// There is no connection to a server yet.
    Connecting,
    /// Nobody has logged in.
    LoggingIn,
    /// The server owes no answer, and no data moves.
    Idle,
    /// The server owes the answer to a command that is no transfer.
    Waiting,
    /// A transfer runs, or its answer is still to come.
    Transferring {
        /// Its command; `None` for one that we do not know.
        verb: Option<TransferVerb>,
        /// Its argument, as the client sent it.
        path: &'a Bytes,
    },
}

impl Session {
    /// What it is doing. Of several transfers, the one that began first.
    #[must_use]
    pub fn activity(&self) -> Activity<'_> {
        match self.channels.current() {
            Some((verb, path)) => Activity::Transferring { verb, path },
            None if self.server.is_none() => Activity::Connecting,
            None if !self.logged_in => Activity::LoggingIn,
            None if self.pending.is_outstanding() => Activity::Waiting,
            None => Activity::Idle,
        }
    }

    /// Ends it, whatever it is doing: what is cut looks cut.
    pub fn kill(&mut self) {
        self.close(Reason::Killed);
    }
}
