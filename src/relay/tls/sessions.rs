//! What is known for resuming the TLS session of one control connection to the server.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Tickets to keep; servers send one or two on each connection, and a data connection uses one.
const MAX_TICKETS: usize = 32;

/// No TLS 1.3 ticket is left with which a data connection could resume the session.
///
/// Each is good for one connection. A server sends new ones on data connections, but only after its handshake, so that
/// many short uploads in a row can use up more than they bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's TLS 1.3 tickets are used up, and without one a data connection cannot resume the session; write \
     `tls.server.max_version: 1.2`"
)]
pub struct OutOfTickets;

/// Shared by a control connection and its data connections, and by nobody else.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    key_exchange: Option<NamedGroup>,
    /// Good any number of times.
    tls12: Option<Tls12ClientSessionValue>,
    /// Each good once; the newest last.
    tls13: VecDeque<Tls13ClientSessionValue>,
    had_tls13: bool,
}

impl Sessions {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets aside what the next data connection will resume. A server that has given nothing to resume does not expect
    /// it, and there the connection has nothing.
    pub(super) fn reserve(self: &Arc<Self>) -> Result<Reserved, OutOfTickets> {
        let mut known = self.known();
        // The newest: those of the control connection are a reserve that is never filled up again.
        let tls13 = known.tls13.pop_back();
        if tls13.is_none() && known.had_tls13 {
            return Err(OutOfTickets);
        }
        Ok(Reserved { sessions: Arc::clone(self), tls13: Mutex::new(tls13) })
    }
}

/// The control connection fills it; there is nothing to resume yet.
impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.known().key_exchange = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.known().key_exchange
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.known().tls12 = Some(session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.known().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.known().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut known = self.known();
        known.had_tls13 = true;
        if known.tls13.len() == MAX_TICKETS {
            known.tls13.pop_front();
        }
        known.tls13.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// The view of one data connection: it resumes what was set aside for it, and adds what the server gives it.
#[derive(Debug)]
pub(super) struct Reserved {
    sessions: Arc<Sessions>,
    tls13: Mutex<Option<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Reserved {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.sessions.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions.kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.sessions.set_tls12_session(name, session);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.sessions.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.sessions.insert_tls13_ticket(name, ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
