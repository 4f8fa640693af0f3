//! Which addresses hold a session that is passed through, and with which server.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::relay::control::Endpoint;

/// Data connections at once for each session of an address. A session has one transfer at a time; the ends of former ones
/// may overlap with it. Without a bound, somebody who has not even logged in could make us connect without end.
const PER_SESSION: usize = 4;

/// The sessions of one listener that are passed through, by the addresses of their clients.
#[derive(Debug, Default)]
pub(in crate::relay) struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_client: HashMap<IpAddr, Client>,
    last_id: u64,
}

#[derive(Debug, Default)]
struct Client {
    /// The control connections with the server, by the numbers of their sessions; the newest is the last.
    sessions: Vec<(u64, Endpoint)>,
    /// Data connections that there are.
    connections: usize,
}

impl Sessions {
    /// A session of this client is passed through from now on, until the entry is dropped.
    #[must_use]
    pub(in crate::relay) fn enter(self: &Arc<Self>, client: IpAddr, server: Endpoint) -> Passed {
        let client = client.to_canonical();
        let mut table = self.lock();
        table.last_id += 1;
        let id = table.last_id;
        table.by_client.entry(client).or_default().sessions.push((id, server));
        Passed { sessions: Arc::clone(self), client, id }
    }

    /// A data connection has come from this address: the way in for it, if there is a session that it can belong to.
    ///
    /// Where two sessions of one address are with different servers (`upstream` is a name with several addresses), nothing
    /// tells whose the connection is: it goes to the server of the newest.
    pub(super) fn connected(self: &Arc<Self>, from: IpAddr) -> Option<Entrance> {
        let from = from.to_canonical();
        let mut table = self.lock();
        let client = table.by_client.get_mut(&from)?;
        let (_, server) = *client.sessions.last()?;
        if client.connections >= client.sessions.len() * PER_SESSION {
            return None;
        }
        client.connections += 1;
        Some(Entrance { sessions: Arc::clone(self), client: from, server })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code under this lock leaves the table half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, address: IpAddr, change: impl FnOnce(&mut Client)) {
        let mut table = self.lock();
        let Some(client) = table.by_client.get_mut(&address) else { return };
        change(client);
        if client.sessions.is_empty() && client.connections == 0 {
            table.by_client.remove(&address);
        }
    }
}

/// The entry of a session; dropping it is its end.
#[derive(Debug)]
pub(in crate::relay) struct Passed {
    sessions: Arc<Sessions>,
    client: IpAddr,
    id: u64,
}

impl Drop for Passed {
    fn drop(&mut self) {
        let id = self.id;
        self.sessions.change(self.client, |client| client.sessions.retain(|(other, _)| *other != id));
    }
}

/// A data connection that was let in; counts for its address until it is dropped.
#[derive(Debug)]
pub(super) struct Entrance {
    sessions: Arc<Sessions>,
    client: IpAddr,
    server: Endpoint,
}

impl Entrance {
    /// The control connection with the server that it belongs to.
    pub(super) const fn server(&self) -> Endpoint {
        self.server
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.sessions.change(self.client, |client| client.connections -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A control connection with a server at this address.
    fn with(server: &str) -> Endpoint {
        Endpoint::direct((ip(server), 21).into(), (ip("10.0.0.1"), 40_000).into())
    }

    #[test]
    fn sec_13_only_addresses_with_a_session_are_let_in() {
        let sessions = Arc::new(Sessions::default());
        assert!(sessions.connected(ip("192.0.2.1")).is_none());
        let entry = sessions.enter(ip("::ffff:192.0.2.1"), with("10.0.0.2"));
        assert!(sessions.connected(ip("192.0.2.2")).is_none());
        let inside = sessions.connected(ip("192.0.2.1")).unwrap();
        assert_eq!(inside.server().peer, with("10.0.0.2").peer);
        drop(entry);
        assert!(sessions.connected(ip("192.0.2.1")).is_none(), "the session has ended");
        drop(inside);
        assert!(sessions.lock().by_client.is_empty(), "nothing stays behind");
    }

    #[test]
    fn the_newest_session_decides_as_long_as_it_lasts() {
        let sessions = Arc::new(Sessions::default());
        let server = || sessions.connected(ip("192.0.2.1")).map(|inside| inside.server().peer.ip());
        let old = sessions.enter(ip("192.0.2.1"), with("10.0.0.2"));
        let new = sessions.enter(ip("192.0.2.1"), with("10.0.0.3"));
        assert_eq!(server(), Some(ip("10.0.0.3")));
        drop(new);
        assert_eq!(server(), Some(ip("10.0.0.2")));
        let new = sessions.enter(ip("192.0.2.1"), with("10.0.0.4"));
        drop(old);
        assert_eq!(server(), Some(ip("10.0.0.4")));
        drop(new);
        assert_eq!(server(), None);
    }

    #[test]
    fn sec_26_a_session_has_few_connections_at_once() {
        let sessions = Arc::new(Sessions::default());
        let mut entries = vec![sessions.enter(ip("192.0.2.1"), with("10.0.0.2"))];
        let other = sessions.enter(ip("192.0.2.2"), with("10.0.0.2"));
        let mut inside: Vec<Entrance> = (0..PER_SESSION).map_while(|_| sessions.connected(ip("192.0.2.1"))).collect();
        assert_eq!(inside.len(), PER_SESSION);
        assert!(sessions.connected(ip("192.0.2.1")).is_none());
        assert!(sessions.connected(ip("192.0.2.2")).is_some(), "others have their own");
        entries.push(sessions.enter(ip("192.0.2.1"), with("10.0.0.2")));
        inside.extend(sessions.connected(ip("192.0.2.1")));
        assert_eq!(inside.len(), PER_SESSION + 1);
        entries.pop();
        inside.truncate(PER_SESSION);
        assert!(sessions.connected(ip("192.0.2.1")).is_none(), "those of an ended session count on");
        inside.pop();
        assert!(sessions.connected(ip("192.0.2.1")).is_some());
        drop((entries, other, inside));
        assert!(sessions.lock().by_client.is_empty());
    }
}
