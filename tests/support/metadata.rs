//! A metadata service on loopback: it speaks as much HTTP as that takes, and behaves as the test says.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What somebody asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// By their names in lower case.
    pub(crate) fields: HashMap<String, String>,
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

/// What it gets.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// This status and text.
    Status(u16, String),
    /// A redirect to this URL.
    Redirect(String),
    /// Nothing, and the connection stays open.
    Silence,
    /// These bytes instead of HTTP, and the end.
    Bytes(Vec<u8>),
    /// A good head, then a byte now and again without an end.
    Drip,
}

impl Reply {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Status(200, text.into())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Status(status, format!("<html>{status}</html>"))
    }
}

type Behaviour = Box<dyn Fn(&Request) -> Reply + Send>;

/// It is there as long as the test holds it.
pub(crate) struct Metadata {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Vec<Request>>,
    stopped: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metadata {
    /// At a port of its own.
    pub(crate) fn new(behaviour: impl Fn(&Request) -> Reply + Send + 'static) -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), behaviour)
    }

    pub(crate) fn at(addr: SocketAddr, behaviour: impl Fn(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind(addr).expect("an address for the metadata service");
        let addr = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Box::new(behaviour)),
            seen: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if shared.stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || serve(&shared, stream));
                }
            }
        });
        Self { addr, shared, accepting: Some(accepting) }
    }

    /// From now on.
    pub(crate) fn behave(&self, behaviour: impl Fn(&Request) -> Reply + Send + 'static) {
        *lock(&self.shared.behaviour) = Box::new(behaviour);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// All that it was asked, in order.
    pub(crate) fn seen(&self) -> Vec<Request> {
        lock(&self.shared.seen).clone()
    }

    /// The same, as `GET /path`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.seen().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _woken = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            let _ended = accepting.join();
        }
    }
}

/// One request; whoever goes away early is nobody's business here.
fn serve(shared: &Shared, mut stream: TcpStream) {
    let Some(request) = read(&stream) else { return };
    lock(&shared.seen).push(request.clone());
    let reply = lock(&shared.behaviour)(&request);
    let _gone = match reply {
        Reply::Status(status, text) => write!(
            stream,
            "HTTP/1.1 {status} Status\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        ),
        Reply::Redirect(to) => write!(stream, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"),
        Reply::Silence => wait_for_end(&stream),
        Reply::Bytes(bytes) => stream.write_all(&bytes),
        Reply::Drip => drip(stream),
    };
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let fields = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    });
    Some(Request { method, path, fields: fields.collect() })
}

fn wait_for_end(mut stream: &TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut stream, &mut std::io::sink()).map(|_| ())
}

fn drip(mut stream: TcpStream) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
    loop {
        stream.write_all(b"2")?;
        // Each byte comes well before a time limit for one read would end.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
