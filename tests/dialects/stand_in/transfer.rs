//! One transfer: a thread of its own, so that the control connection still listens for ABOR.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::dialect::{Limits, Text};
use super::offer::Offer;
use super::session::{Fill, Replies};
use super::{Shared, lock};

/// As Windows does by default, a server hands over little at a time: what is on its way is not what has arrived.
const SEND_BUFFER: usize = 64 * 1024;

/// What is moved.
#[derive(Debug)]
pub enum Content {
    Download(File),
    List(Cursor<Vec<u8>>),
    Upload(File),
}

/// A transfer to be started.
#[derive(Debug)]
pub struct Job {
    pub shared: Arc<Shared>,
    pub replies: Replies,
    pub client: IpAddr,
    pub offer: Option<Offer>,
    pub content: Content,
    pub opening: Text,
    pub fill: Fill,
}

/// One that runs.
#[derive(Debug)]
pub struct Running {
    thread: JoinHandle<()>,
    stopped: Arc<AtomicBool>,
    data: Arc<Mutex<Option<TcpStream>>>,
}

/// Why it ended early.
enum Failure {
    NoConnection,
    ForeignPeer(SocketAddr),
    Broken,
    TooSlow,
}

impl Running {
    pub fn start(job: Job) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let data = Arc::new(Mutex::new(None));
        let (stop, slot) = (Arc::clone(&stopped), Arc::clone(&data));
        let thread = thread::spawn(move || job.run(&stop, &slot));
        Self { thread, stopped, data }
    }

    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end, and its last reply.
    pub fn finish(self) {
        let _panicked = self.thread.join();
    }

    /// Cuts it, as ABOR does.
    pub fn abort(self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(stream) = lock(&self.data).as_ref() {
            let _closed_already = stream.shutdown(Shutdown::Both);
        }
        self.finish();
    }
}

impl Job {
    fn run(mut self, stopped: &AtomicBool, slot: &Mutex<Option<TcpStream>>) {
        let texts = &self.shared.dialect.texts;
        let mut fill = self.fill.clone();
        let text = match self.transfer(stopped, slot) {
            // A server that says so first has said it.
            Ok(said) if said => return,
            Ok(_) => &texts.complete,
            Err(_) if stopped.load(Ordering::Relaxed) => &texts.aborted,
            Err(Failure::NoConnection) => &texts.cannot_open,
            Err(Failure::ForeignPeer(peer)) => {
                fill.foreign = Some(peer);
                &texts.foreign_peer
            }
            Err(Failure::Broken) => &texts.aborted,
            Err(Failure::TooSlow) => &texts.too_slow,
        };
        self.replies.say(text, &fill);
    }

    /// Whether the final reply has gone out already.
    fn transfer(&mut self, stopped: &AtomicBool, slot: &Mutex<Option<TcpStream>>) -> Result<bool, Failure> {
        let habits = &self.shared.dialect.habits;
        let mut data = self.connection(stopped)?;
        *lock(slot) = data.try_clone().ok();
        let limits = self.shared.limits();
        let moved = match &mut self.content {
            Content::Download(file) => send(&mut data, file, limits),
            Content::List(text) => send(&mut data, text, limits),
            Content::Upload(file) => receive(&mut data, file, limits),
        };
        if moved.is_err() || stopped.load(Ordering::Relaxed) {
            // What is cut must not look complete.
            let _closed_already = SockRef::from(&data).set_linger(Some(Duration::ZERO));
        }
        drop(lock(slot).take());
        moved?;
        if stopped.load(Ordering::Relaxed) {
            return Err(Failure::Broken);
        }
        if habits.final_reply_before_fin {
            self.replies.say(&self.shared.dialect.texts.complete, &self.fill);
            thread::sleep(self.shared.options.before_fin);
        }
        // Before the final reply of all others: a client may rely on it.
        drop(data);
        Ok(habits.final_reply_before_fin)
    }

    /// The data connection and the reply that announces the transfer, in the order of this server.
    fn connection(&mut self, stopped: &AtomicBool) -> Result<TcpStream, Failure> {
        let texts = &self.shared.dialect.texts;
        let mut offer = self.offer.take().ok_or(Failure::NoConnection)?;
        if let Some(already_open) = &texts.already_open
            && let Some(stream) = offer.take_open(stopped)
        {
            self.vet(&stream)?;
            self.replies.say(already_open, &self.fill);
            return Ok(stream);
        }
        let says_first = self.shared.dialect.habits.opens_before_connection;
        if says_first {
            self.replies.say(&self.opening, &self.fill);
        }
        let stream = offer.take(stopped).ok_or(Failure::NoConnection)?;
        self.vet(&stream)?;
        if !says_first {
            self.replies.say(&self.opening, &self.fill);
        }
        Ok(stream)
    }

    fn vet(&self, data: &TcpStream) -> Result<(), Failure> {
        let peer = data.peer_addr().map_err(|_| Failure::Broken)?;
        let own = !self.shared.dialect.habits.checks_peer || peer.ip().to_canonical() == self.client;
        if own { Ok(()) } else { Err(Failure::ForeignPeer(peer)) }
    }
}

fn send(data: &mut TcpStream, from: &mut impl Read, limits: Option<Limits>) -> Result<(), Failure> {
    if let Some(limits) = limits {
        // Linux grants it twice.
        let _refused = SockRef::from(&*data).set_send_buffer_size(SEND_BUFFER / 2);
        data.set_write_timeout(Some(limits.data_idle)).map_err(|_| Failure::Broken)?;
    }
    let mut pace = Pace::new(limits);
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).map_err(|_| Failure::Broken)?;
        if count == 0 {
            return Ok(());
        }
        let mut left = &buffer[..count];
        while !left.is_empty() {
            let sent = data.write(left).map_err(|error| sort(&error))?;
            left = &left[sent..];
            pace.moved(sent)?;
        }
    }
}

fn receive(data: &mut TcpStream, to: &mut impl Write, limits: Option<Limits>) -> Result<(), Failure> {
    if let Some(limits) = limits {
        data.set_read_timeout(Some(limits.data_idle)).map_err(|_| Failure::Broken)?;
    }
    let mut pace = Pace::new(limits);
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = data.read(&mut buffer).map_err(|error| sort(&error))?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).map_err(|_| Failure::Broken)?;
        pace.moved(count)?;
    }
}

fn sort(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::TooSlow,
        _ => Failure::Broken,
    }
}

/// Ends what is slower than the limit.
struct Pace {
    limits: Option<Limits>,
    since: Instant,
    bytes: usize,
}

impl Pace {
    fn new(limits: Option<Limits>) -> Self {
        Self { limits, since: Instant::now(), bytes: 0 }
    }

    fn moved(&mut self, count: usize) -> Result<(), Failure> {
        let Some(Limits { data_idle, bytes_per_second, .. }) = self.limits else { return Ok(()) };
        self.bytes += count;
        let passed = self.since.elapsed();
        if passed >= data_idle {
            let wanted = u128::from(bytes_per_second) * passed.as_millis() / 1000;
            if (self.bytes as u128) < wanted {
                return Err(Failure::TooSlow);
            }
            *self = Self::new(self.limits);
        }
        Ok(())
    }
}
