//! Where connections come through load balancers: nothing is done with one until its PROXY header has said whose it is.
//!
//! ```text
//!   accept ──▶ trusted? ──▶ header there? ──▶ its listener, its lease: with the client's own address
//!                 │              │ not yet: waits its turn, 5 s at most ──────▲
//!                 ▼              ▼
//!               reset          reset, without a byte
//! ```
//!
//! A header is required, not recognised: what may come with one and without lets anybody say to be anybody (§2 of the
//! specification). It is looked at in the kernel's buffer (`MSG_PEEK`, as HAProxy does it) and taken from there once it
//! is whole, and nothing but it: what follows, a ClientHello or commands, belongs to the session. So a connection that
//! waits holds a descriptor and a small task, and no buffer.

mod waiting;

use std::future::poll_fn;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, recv};

use self::waiting::Turn;
pub(super) use self::waiting::{WAITING, Waiting};
use super::Process;
use super::accept::is_due;
use crate::config::{Listener, ProxyProtocol};
use crate::metrics::{ListenerMetrics, Refused};
use crate::proxy_protocol::{Header, MAX_HEADER, Malformed, parse};

/// How long a header may take. §2 asks for 3 s at least, "to cover a TCP retransmit"; a load balancer sends it as soon as
/// it is connected, so more than one retransmission is a fault.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// Why a connection is reset before anything was done with it.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("its address is not in client.proxy_protocol.trusted")]
    Untrusted,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("no PROXY header came within {} s; does the load balancer send one?", HEADER_TIME.as_secs())]
    Late,
    #[error("{WAITING} newer connections have sent no PROXY header either")]
    Crowded,
    /// A probe of a load balancer that only connects, or a port scanner.
    #[error("it ended before its PROXY header")]
    Ended,
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// The gate of one listener.
#[derive(Debug)]
pub(super) struct Gate {
    listener: String,
    rule: ProxyProtocol,
    waiting: Waiting,
    warned: Mutex<Option<Instant>>,
    metrics: Arc<ListenerMetrics>,
}

impl Gate {
    /// The gate of a listener that has one.
    pub(super) fn new(listener: &Listener, process: &Process) -> Option<Arc<Self>> {
        let rule = listener.proxy_protocol.clone()?;
        Some(Arc::new(Self {
            listener: listener.name.clone(),
            rule,
            waiting: process.waiting.clone(),
            warned: Mutex::default(),
            metrics: process.metrics.listener(listener),
        }))
    }

    /// Whether data connections come through it as well.
    pub(super) fn is_for_data(&self) -> bool {
        self.rule.data
    }

    /// Takes the header of a connection that was accepted from `from`, and hands both on. Never waits: if the header has
    /// not come yet, a task does. A connection without a good header is dropped, and so reset.
    pub(super) fn enter(
        self: &Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        hand_on: impl FnOnce(TcpStream, Header) + Send + 'static,
    ) {
        let taken = if self.rule.trusts(from.ip()) { take(&stream) } else { Err(Refusal::Untrusted) };
        match taken {
            Ok(Some(header)) => self.hand_on(from, stream, header, hand_on),
            Ok(None) => {
                let turn = match self.waiting.join(stream) {
                    Ok(turn) => turn,
                    Err(error) => return self.log(from, &error.into()),
                };
                let gate = Arc::clone(self);
                tokio::spawn(async move {
                    match wait(turn).await {
                        Ok((stream, header)) => gate.hand_on(from, stream, header, hand_on),
                        Err(refusal) => gate.log(from, &refusal),
                    }
                });
            }
            Err(refusal) => self.log(from, &refusal),
        }
    }

    fn hand_on(
        &self,
        from: SocketAddr,
        stream: TcpStream,
        header: Header,
        hand_on: impl FnOnce(TcpStream, Header) + Send,
    ) {
        tracing::trace!(listener = self.listener, %from, ?header, "PROXY header");
        hand_on(stream, header);
    }

    /// A load balancer that is set up wrong, or anybody at all, can do it over and over: a warning now and then.
    fn log(&self, from: SocketAddr, refusal: &Refusal) {
        let listener = &self.listener;
        self.metrics.refused(Refused::ProxyHeader);
        let is_fault = !matches!(refusal, Refusal::Ended | Refusal::Failed(_));
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if is_fault && is_due(&mut warned, Instant::now()) {
            tracing::warn!(listener, %from, "refused a connection: {refusal}");
        } else {
            tracing::debug!(listener, %from, "refused a connection: {refusal}");
        }
    }
}

/// The header of a connection, and the connection behind it.
async fn wait(mut turn: Turn) -> Result<(TcpStream, Header), Refusal> {
    let header = tokio::time::timeout(HEADER_TIME, whole(&mut turn)).await.map_err(|_| Refusal::Late)??;
    let stream = turn.leave().ok_or(Refusal::Crowded)?;
    Ok((stream, header))
}

/// The header, as soon as all of it is there.
async fn whole(turn: &mut Turn) -> Result<Header, Refusal> {
    poll_fn(|context| {
        let Some(connection) = turn.poll_connection(context) else { return Poll::Ready(Err(Refusal::Crowded)) };
        loop {
            let mut ready = ready!(connection.poll_read_ready(context))?;
            if let Some(header) = take(connection.get_ref())? {
                return Poll::Ready(Ok(header));
            }
            // What came before the FIN was there to be looked at.
            if ready.ready().is_read_closed() {
                return Poll::Ready(Err(Refusal::Ended));
            }
            // The next byte is news again: no spinning on what is there.
            ready.clear_ready();
        }
    })
    .await
}

/// Takes the header out of the socket, if all of it is there, and nothing else.
fn take(mut stream: &TcpStream) -> Result<Option<Header>, Refusal> {
    let mut buffer = [0; MAX_HEADER];
    let there = match retry_on_intr(|| recv(stream, &mut buffer, RecvFlags::PEEK)) {
        Ok((_, 0)) => return Err(Refusal::Ended),
        Ok((_, there)) => there,
        Err(rustix::io::Errno::AGAIN) => return Ok(None),
        Err(error) => return Err(Refusal::Failed(error.into())),
    };
    let Some((header, length)) = parse(&buffer[..there])? else { return Ok(None) };
    stream.read_exact(&mut buffer[..length])?;
    Ok(Some(header))
}

#[cfg(test)]
mod tests;
