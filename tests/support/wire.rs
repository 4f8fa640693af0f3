//! A TCP connection, and a listener, that know nothing about FTP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use socket2::{Domain, SockRef, Socket, Type};

use super::transcript::Transcript;

/// No wait of a test is longer, unless it says so.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// One end of a TCP connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    name: String,
    log: Transcript,
    /// Received and not yet expected.
    unread: Vec<u8>,
    /// All that was ever received on a control connection: tests search it for leaks.
    pub(crate) capture: Vec<u8>,
}

/// How much a wire remembers: any control connection of a test, not every byte of a big transfer.
const CAPTURE_MAX: usize = 1 << 20;

/// Where and how to connect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dial {
    pub(crate) from: IpAddr,
    pub(crate) to: SocketAddr,
    /// A small receive buffer makes a slow reader's back-pressure visible after few bytes.
    pub(crate) receive_buffer: Option<usize>,
}

impl Wire {
    #[track_caller]
    pub(crate) fn connect(log: &Transcript, name: &str, from: IpAddr, to: SocketAddr) -> Self {
        Self::connect_as(log, name, Dial { from, to, receive_buffer: None })
    }

    /// A reader that takes in little before it is asked for it.
    #[track_caller]
    pub(crate) fn connect_slow(log: &Transcript, name: &str, from: IpAddr, to: SocketAddr) -> Self {
        Self::connect_as(log, name, Dial { from, to, receive_buffer: Some(16 * 1024) })
    }

    #[track_caller]
    fn connect_as(log: &Transcript, name: &str, dial: Dial) -> Self {
        let Dial { from, to, .. } = dial;
        Self::dial(log, name, dial)
            .unwrap_or_else(|error| log.fail(&format!("{name}: cannot connect from {from} to {to}: {error}")))
    }

    pub(crate) fn dial(log: &Transcript, name: &str, dial: Dial) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(dial.to), Type::STREAM, None)?;
        if let Some(size) = dial.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        socket.bind(&SocketAddr::new(dial.from, 0).into())?;
        socket.connect_timeout(&dial.to.into(), DEADLINE)?;
        log.note(name, &format!("connected to {}", dial.to));
        Ok(Self::new(log, name, socket.into()))
    }

    pub(crate) fn new(log: &Transcript, name: &str, stream: TcpStream) -> Self {
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, name: name.into(), log: log.clone(), unread: Vec::new(), capture: Vec::new() }
    }

    /// For bytes that are not text any more. Nothing may be left unread.
    #[track_caller]
    pub(crate) fn into_stream(self) -> TcpStream {
        assert!(self.unread.is_empty(), "{}: {:?} is left", self.name, self.unread.escape_ascii().to_string());
        self.stream
    }

    /// For bytes that are not text any more, with those that have been read already.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.unread)
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket")
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.stream.peer_addr().expect("a connected socket")
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.try_send(bytes.as_ref()) {
            self.fail(&format!("cannot send: {error}"));
        }
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.log.bytes(&self.name, "sends   ", bytes);
        self.stream.write_all(bytes)
    }

    /// A segment per byte, as a terminal in character mode would send them.
    #[track_caller]
    pub(crate) fn send_each_byte(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref().chunks(1) {
            self.send(byte);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The last byte is the urgent one, as `MSG_OOB` marks it.
    #[track_caller]
    pub(crate) fn send_urgent(&mut self, bytes: &[u8]) {
        self.log.bytes(&self.name, "sends urgent", bytes);
        let sent = SockRef::from(&self.stream).send_out_of_band(bytes);
        assert_eq!(sent.ok(), Some(bytes.len()), "{}: an urgent send", self.name);
    }

    /// Exactly these bytes come next; more may follow.
    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: impl AsRef<[u8]>) {
        let wanted = wanted.as_ref();
        let deadline = Instant::now() + DEADLINE;
        while self.unread.len() < wanted.len() && wanted.starts_with(&self.unread) {
            match self.receive(deadline) {
                Ok(Some(_)) => {}
                other => self.fail(&format!("wanted {:?}, got {other:?}", wanted.escape_ascii().to_string())),
            }
        }
        if !self.unread.starts_with(wanted) {
            let got = self.unread.escape_ascii().to_string();
            self.fail(&format!("wanted {:?}, got {got:?}", wanted.escape_ascii().to_string()));
        }
        self.unread.drain(..wanted.len());
    }

    /// The next line, with its LF.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        self.line_within(DEADLINE)
    }

    #[track_caller]
    pub(crate) fn line_within(&mut self, time: Duration) -> String {
        let deadline = Instant::now() + time;
        loop {
            if let Some(lf) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=lf).collect();
                return line.iter().map(|byte| char::from(*byte)).collect();
            }
            match self.receive(deadline) {
                Ok(Some(_)) => {}
                other => self.fail(&format!("wanted a line, got {other:?}")),
            }
        }
    }

    /// The next line; `None` once the connection has ended.
    #[track_caller]
    pub(crate) fn line_or_end(&mut self) -> Option<String> {
        while !self.unread.contains(&b'\n') {
            match self.receive(Instant::now() + 4 * DEADLINE) {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) if is_reset(&error) => return None,
                Err(error) => self.fail(&format!("wanted a line or the end, got {error}")),
            }
        }
        Some(self.line())
    }

    /// The next line, which must start like this.
    #[track_caller]
    pub(crate) fn line_starting(&mut self, start: &str) -> String {
        let line = self.line();
        if !line.starts_with(start) {
            self.fail(&format!("wanted a line that starts with {start:?}, got {line:?}"));
        }
        line
    }

    /// Nothing arrives for so long, not even an end.
    #[track_caller]
    pub(crate) fn silence(&mut self, time: Duration) {
        if !self.is_silent(time) {
            let got = self.unread.escape_ascii().to_string();
            self.fail(&format!("wanted silence for {time:?}, got {got:?} or an end"));
        }
    }

    /// Whether nothing arrives for so long, not even an end. What arrives stays to be expected.
    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        self.unread.is_empty()
            && self.receive(Instant::now() + time).is_err_and(|error| error.kind() == ErrorKind::TimedOut)
    }

    /// Nothing more comes, and the connection ends.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End {
        let (rest, end) = self.rest();
        if !rest.is_empty() {
            self.fail(&format!("wanted the end, got {:?}", rest.escape_ascii().to_string()));
        }
        end
    }

    /// Ends like this, and nothing comes before.
    #[track_caller]
    pub(crate) fn ends_with(&mut self, wanted: End) {
        let end = self.end();
        if end != wanted {
            self.fail(&format!("wanted {wanted:?}, got {end:?}"));
        }
    }

    /// All that still comes, and how it ends.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        let mut deadline = Instant::now() + DEADLINE;
        let end = loop {
            match self.receive(deadline) {
                Ok(Some(_)) => deadline = Instant::now() + DEADLINE,
                Ok(None) => break End::Fin,
                Err(error) if is_reset(&error) => break End::Reset,
                Err(error) => self.fail(&format!("wanted the end, got {error}")),
            }
        };
        (std::mem::take(&mut self.unread), end)
    }

    /// Whether the proxy turns this client away, which it does at once; a client that is served hears nothing until the
    /// server speaks.
    pub(crate) fn is_refused(&mut self) -> bool {
        self.receive(Instant::now() + Duration::from_millis(100)).is_ok()
    }

    /// Whether it stays open for a while, or at least ends in good order.
    pub(crate) fn is_open(&mut self) -> bool {
        match self.receive(Instant::now() + DEADLINE / 2) {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::TimedOut,
        }
    }

    /// Reads and throws away so many bytes.
    #[track_caller]
    pub(crate) fn skip(&mut self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.unread.len() < count {
            match self.receive(deadline) {
                Ok(Some(_)) => {}
                other => self.fail(&format!("wanted {count} bytes, got {other:?}")),
            }
        }
        self.unread.drain(..count);
    }

    /// Writes so many bytes of the [`pattern`] in a thread of its own, for as long as that takes.
    pub(crate) fn sends_bulk(&self, count: usize) -> JoinHandle<io::Result<()>> {
        self.sends_bulk_of(&pattern(), count)
    }

    /// The same with a pattern of the caller's, as many of them as fit.
    pub(crate) fn sends_bulk_of(&self, pattern: &[u8], count: usize) -> JoinHandle<io::Result<()>> {
        self.log.note(&self.name, &format!("begins to send {count} bytes"));
        let mut stream = self.stream.try_clone().expect("a second handle");
        stream.set_write_timeout(Some(2 * DEADLINE)).expect("a socket option");
        // Small patterns are written many at a time: a slow sender would prove nothing.
        let pattern = pattern.repeat(65_536_usize.div_ceil(pattern.len()));
        std::thread::spawn(move || {
            let mut left = count;
            while left > 0 {
                let piece = &pattern[..left.min(pattern.len())];
                stream.write_all(piece)?;
                left -= piece.len();
            }
            Ok(())
        })
    }

    /// Reads so many bytes of the [`pattern`], from its start; nothing of it is kept.
    #[track_caller]
    pub(crate) fn expect_bulk(&mut self, count: usize) {
        let pattern = pattern();
        self.stream.set_read_timeout(Some(DEADLINE)).expect("a socket option");
        let mut buffer = vec![0; 256 * 1024];
        let mut done = 0;
        while done < count {
            let room = buffer.len().min(count - done);
            let got = match self.stream.read(&mut buffer[..room]) {
                Ok(0) => self.fail(&format!("ended after {done} of {count} bytes")),
                Ok(got) => got,
                Err(error) => self.fail(&format!("{error} after {done} of {count} bytes")),
            };
            let mut checked = 0;
            while checked < got {
                let at = (done + checked) % pattern.len();
                let length = (got - checked).min(pattern.len() - at);
                if buffer[checked..checked + length] != pattern[at..at + length] {
                    self.fail(&format!("other bytes than were sent, within {length} from byte {}", done + checked));
                }
                checked += length;
            }
            done += got;
        }
        self.log.note(&self.name, &format!("has received {count} bytes"));
    }

    /// The urgent byte, once all before it has been read.
    #[track_caller]
    pub(crate) fn urgent_byte(&mut self) -> u8 {
        let deadline = Instant::now() + DEADLINE;
        let mut byte = [0];
        // EINVAL as long as no urgent data has come; the call never waits for it.
        while rustix::net::recv(&self.stream, &mut byte, RecvFlags::OOB).is_err() {
            if Instant::now() > deadline {
                self.fail("wanted an urgent byte");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.log.bytes(&self.name, "receives urgent", &byte);
        byte[0]
    }

    /// No more bytes from here: FIN.
    pub(crate) fn finish(&self) {
        self.log.note(&self.name, "sends FIN");
        self.stream.shutdown(std::net::Shutdown::Write).expect("an open socket");
    }

    /// The connection is cut: RST.
    pub(crate) fn reset(self) {
        self.log.note(&self.name, "sends RST");
        // Closing with zero linger would wait for a sender thread that holds the socket, too.
        rustix::net::connect_unspec(&self.stream).expect("a connected socket");
    }

    fn receive(&mut self, deadline: Instant) -> io::Result<Option<usize>> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 16 * 1024];
        let result = self.stream.read(&mut buffer).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        });
        match &result {
            Ok(0) => self.log.note(&self.name, "sees FIN"),
            Ok(count) => {
                let bytes = &buffer[..*count];
                self.log.bytes(&self.name, "receives", bytes);
                self.unread.extend_from_slice(bytes);
                if self.capture.len() < CAPTURE_MAX {
                    self.capture.extend_from_slice(bytes);
                }
            }
            Err(error) => self.log.note(&self.name, &format!("sees {error}")),
        }
        result.map(|count| (count > 0).then_some(count))
    }

    #[track_caller]
    pub(crate) fn fail(&self, why: &str) -> ! {
        self.log.fail(&format!("{}: {why}", self.name))
    }
}

/// Repeats with a prime period, so that a piece lost, doubled or moved shows.
fn pattern() -> Vec<u8> {
    (0..65_521_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    name: String,
    log: Transcript,
}

impl Door {
    /// Port 0 picks a free one.
    #[track_caller]
    pub(crate) fn open(log: &Transcript, name: &str, ip: IpAddr, port: u16) -> Self {
        let listener = TcpListener::bind((ip, port))
            .unwrap_or_else(|error| log.fail(&format!("{name}: cannot listen on {ip}:{port}: {error}")));
        Self { listener, name: name.into(), log: log.clone() }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("a listening socket")
    }

    #[track_caller]
    pub(crate) fn accept(&self) -> Wire {
        self.accept_within(DEADLINE)
            .unwrap_or_else(|| self.log.fail(&format!("{}: nobody connected to {}", self.name, self.addr())))
    }

    /// Nobody connects for so long.
    #[track_caller]
    pub(crate) fn nobody(&self, time: Duration) {
        if let Some(wire) = self.accept_within(time) {
            self.log.fail(&format!("{}: {} connected, nobody should", self.name, wire.peer()));
        }
    }

    fn accept_within(&self, time: Duration) -> Option<Wire> {
        SockRef::from(&self.listener).set_read_timeout(Some(time)).expect("a socket option");
        let (stream, from) = self.listener.accept().ok()?;
        self.log.note(&self.name, &format!("accepts {from}"));
        Some(Wire::new(&self.log, &self.name, stream))
    }
}
