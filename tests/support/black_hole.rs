//! An address that answers nothing.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A listener that accepts nothing, with a full queue: further SYNs are dropped.
pub(crate) struct BlackHole {
    pub(crate) addr: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl BlackHole {
    pub(crate) fn at(addr: SocketAddr) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&addr.into()).unwrap();
        listener.listen(0).unwrap();
        // Connects until one does not complete.
        let mut queued = Vec::new();
        loop {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            if socket.connect_timeout(&addr.into(), Duration::from_millis(100)).is_err() {
                break;
            }
            queued.push(socket);
            assert!(queued.len() < 100, "the queue never fills");
        }
        Self { addr, _listener: listener, _queued: queued }
    }
}
