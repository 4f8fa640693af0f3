//! Listening sockets that outlive a configuration.
//!
//! A socket that is closed and bound again loses who was in its queue, and refuses who comes in between. So what an
//! address has is shared by all configurations that name it, and by the tasks that accept there.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::accept::Acceptor;

/// The sockets of one kind, by their addresses. It keeps none open.
#[derive(Debug, Default)]
pub(super) struct Sockets(Mutex<HashMap<SocketAddr, Weak<Acceptor>>>);

impl Sockets {
    /// The socket of this address: the one that there is, or what `listen` makes.
    pub(super) fn get(
        &self,
        at: SocketAddr,
        listen: impl FnOnce() -> io::Result<Acceptor>,
    ) -> io::Result<Arc<Acceptor>> {
        // Nothing under this lock leaves it half done.
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = open.get(&at).and_then(Weak::upgrade) {
            return Ok(socket);
        }
        let socket = Arc::new(listen()?);
        open.insert(at, Arc::downgrade(&socket));
        Ok(socket)
    }
}
