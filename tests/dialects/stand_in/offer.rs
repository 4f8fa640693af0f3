//! What the next transfer will use: a passive port, or an address to connect to.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::{Shared, lock};

/// How long a connect to a client may take: it is on this machine.
const CONNECT: Duration = Duration::from_secs(5);

/// How often a waiting thread looks whether it still has to.
const SLICE: Duration = Duration::from_millis(20);

/// Two segments that were sent at the same time may be seen in either order: for so long a connection counts as one
/// that was there before the command.
const GRACE: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub enum Offer {
    Passive(Passive),
    /// To be connected to when the transfer begins.
    Active {
        from: IpAddr,
        to: SocketAddr,
    },
    /// Connected to already, by a server that does not wait for the transfer command; or it has failed.
    Early(Option<TcpStream>),
}

impl Offer {
    /// To an address that the client has named, with the server's end of the control connection as the source.
    pub fn active(from: IpAddr, to: SocketAddr, at_once: bool) -> Self {
        if at_once { Self::Early(connect(from, to).ok()) } else { Self::Active { from, to } }
    }

    /// The data connection, if it comes about before `stopped`.
    pub fn take(&mut self, stopped: &AtomicBool) -> Option<TcpStream> {
        match self {
            Self::Passive(passive) => passive.wait(Duration::MAX, stopped),
            Self::Active { from, to } => connect(*from, *to).ok(),
            Self::Early(stream) => stream.take(),
        }
    }

    /// The data connection, if it is there already.
    pub fn take_open(&mut self, stopped: &AtomicBool) -> Option<TcpStream> {
        match self {
            Self::Passive(passive) => passive.wait(GRACE, stopped),
            Self::Active { .. } => None,
            Self::Early(stream) => stream.take(),
        }
    }
}

fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), CONNECT)?;
    Ok(socket.into())
}

/// A listening port, until it is used, replaced or too old.
#[derive(Debug)]
pub struct Passive {
    accepted: Receiver<TcpStream>,
    cancelled: Arc<AtomicBool>,
}

impl Passive {
    /// The port, and what waits there; `None` if the client has too many of them.
    pub fn open(shared: &Arc<Shared>, client: IpAddr, local: IpAddr) -> io::Result<Option<(Self, u16)>> {
        let Some(pending) = Pending::count(shared, client) else { return Ok(None) };
        let listener = TcpListener::bind((local, 0))?;
        let port = listener.local_addr()?.port();
        SockRef::from(&listener).set_read_timeout(Some(SLICE))?;
        let deadline = Instant::now() + shared.pasv_wait();
        let cancelled = Arc::new(AtomicBool::new(false));
        let (found, accepted) = mpsc::channel();
        let watched = Arc::clone(&cancelled);
        thread::spawn(move || {
            while Instant::now() < deadline && !watched.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    drop(pending);
                    // Linux hands the listener's timeout down.
                    let _nothing_to_clear = stream.set_read_timeout(None);
                    let _nobody_waits = found.send(stream);
                    return;
                }
            }
        });
        Ok(Some((Self { accepted, cancelled }, port)))
    }

    fn wait(&self, time: Duration, stopped: &AtomicBool) -> Option<TcpStream> {
        let start = Instant::now();
        loop {
            match self.accepted.try_recv() {
                Ok(stream) => return Some(stream),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if start.elapsed() > time || stopped.load(Ordering::Relaxed) => return None,
                Err(TryRecvError::Empty) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

impl Drop for Passive {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// One of the passive ports that wait for a client.
#[derive(Debug)]
struct Pending {
    shared: Arc<Shared>,
    client: IpAddr,
}

impl Pending {
    fn count(shared: &Arc<Shared>, client: IpAddr) -> Option<Self> {
        let mut pending = lock(&shared.pending);
        let count = pending.entry(client).or_default();
        if shared.dialect.texts.too_many_pending.is_some() && *count >= shared.options.pending_per_address {
            return None;
        }
        *count += 1;
        drop(pending);
        Some(Self { shared: Arc::clone(shared), client })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(count) = lock(&self.shared.pending).get_mut(&self.client) {
            *count -= 1;
        }
    }
}
