//! Many sessions at once: a raw server of one task for each, and clients that transfer through the proxy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use super::net::Net;
use super::proxy::Proxy;
use super::scene::Setup;
use super::transcript::Transcript;

/// For all of a crowd to be done; a machine that is busy with other tests takes a good part of it.
const DEADLINE: Duration = Duration::from_secs(120);

/// A proxy, and a server behind it that knows USER, PASS, PASV, PORT, RETR, STOR and NOOP. The name of a file is the number
/// that [`content`] takes. A file comes in two halves; the second is sent once the [`gate`](Self::gate) is open.
pub(crate) struct Crowd {
    pub(crate) net: Net,
    pub(crate) gate: watch::Sender<bool>,
    runtime: Runtime,
    _proxy: Proxy,
}

impl Crowd {
    #[track_caller]
    pub(crate) fn start(setup: Setup) -> Self {
        raise_limit();
        let net = Net::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (gate, is_open) = watch::channel(false);
        let listener = runtime.block_on(TcpListener::bind(net.server())).expect("an address of the test's own");
        runtime.spawn(serve(listener, is_open));
        let proxy =
            Proxy::start(&Transcript::new(), &setup.yaml(net.proxy(), &net.server().to_string()), &[net.proxy()]);
        Self { net, gate, runtime, _proxy: proxy }
    }

    /// Runs all of these at the same time, to the end; the first that panics is how the test fails.
    #[track_caller]
    pub(crate) fn all<F: Future<Output: Send> + Send + 'static>(&self, crowd: impl IntoIterator<Item = F>) {
        self.runtime.block_on(async {
            let mut tasks: JoinSet<F::Output> = crowd.into_iter().collect();
            let joined = async {
                while let Some(joined) = tasks.join_next().await {
                    joined.expect("a client panicked");
                }
            };
            tokio::time::timeout(DEADLINE, joined).await.expect("the crowd is not done in time");
        });
    }
}

/// Each session has four sockets here, and the usual soft limit is 1,024.
fn raise_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a soft limit up to the hard one");
    assert!(maximum.is_none_or(|maximum| maximum >= 8192), "the hard limit on open files is too low for this test");
}

/// What is in file `n`: of a length of its own, and with no two bytes in a row where a lost one would not show.
pub(crate) fn content(n: usize) -> Vec<u8> {
    (0..20_000 + n).map(|at| (at * 31 + at / 251 + n * 7).to_le_bytes()[0]).collect()
}

fn halves(n: usize) -> (Vec<u8>, Vec<u8>) {
    let mut first = content(n);
    let second = first.split_off(first.len() / 2);
    (first, second)
}

async fn serve(listener: TcpListener, gate: watch::Receiver<bool>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        // An error is a client that is gone: its test has seen why.
        tokio::spawn(serve_one(stream, gate.clone()));
    }
}

async fn serve_one(stream: TcpStream, mut gate: watch::Receiver<bool>) -> io::Result<()> {
    let at = stream.local_addr()?.ip();
    let mut control = BufReader::new(stream);
    let mut source = None;
    control.write_all(b"220 ready\r\n").await?;
    let mut line = String::new();
    while control.read_line(&mut line).await? > 0 {
        let (verb, name) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let reply = match verb {
            "USER" => "331 password, please\r\n".to_owned(),
            "PASS" => "230 logged in\r\n".to_owned(),
            "NOOP" => "200 ok\r\n".to_owned(),
            "PASV" => {
                let listener = TcpListener::bind((at, 0)).await?;
                let reply = entering_passive_mode(listener.local_addr()?);
                source = Some(Source::Accepts(listener));
                reply
            }
            "PORT" => {
                source = Some(Source::Dials { from: at, to: super::script::tuple(&line) });
                "200 ok\r\n".to_owned()
            }
            "RETR" | "STOR" => {
                let (source, n) = (source.take().expect("PASV or PORT before"), name.parse().expect("a number"));
                let mut data = source.connect().await?;
                control.write_all(b"150 here it comes\r\n").await?;
                if verb == "RETR" {
                    let (first, second) = halves(n);
                    data.write_all(&first).await?;
                    if gate.wait_for(|open| *open).await.is_err() {
                        // The test is over.
                        return Ok(());
                    }
                    data.write_all(&second).await?;
                    data.shutdown().await?;
                    "226 done\r\n".to_owned()
                } else {
                    let mut received = Vec::new();
                    data.read_to_end(&mut received).await?;
                    (if received == content(n) { "226 done\r\n" } else { "550 other bytes\r\n" }).to_owned()
                }
            }
            _ => "502 unknown\r\n".to_owned(),
        };
        control.write_all(reply.as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

/// Where the server has its data connection from.
enum Source {
    Accepts(TcpListener),
    Dials { from: IpAddr, to: SocketAddr },
}

impl Source {
    async fn connect(self) -> io::Result<TcpStream> {
        match self {
            Self::Accepts(listener) => Ok(listener.accept().await?.0),
            Self::Dials { from, to } => {
                let socket = TcpSocket::new_v4()?;
                socket.bind((from, 0).into())?;
                socket.connect(to).await
            }
        }
    }
}

fn entering_passive_mode(at: SocketAddr) -> String {
    let [high, low] = at.port().to_be_bytes();
    format!("227 Entering Passive Mode ({},{high},{low})\r\n", at.ip().to_string().replace('.', ","))
}

/// A client that has logged in.
pub(crate) struct Client {
    control: BufReader<TcpStream>,
    from: IpAddr,
    proxy: IpAddr,
}

impl Client {
    pub(crate) async fn log_in(from: IpAddr, proxy: SocketAddr) -> Self {
        let control = BufReader::new(connect(from, proxy).await);
        let mut client = Self { control, from, proxy: proxy.ip() };
        assert_eq!(client.reply().await, "220 ready\r\n");
        assert_eq!(client.command("USER alice").await, "331 password, please\r\n");
        assert_eq!(client.command("PASS opensesame").await, "230 logged in\r\n");
        client
    }

    pub(crate) async fn command(&mut self, line: &str) -> String {
        self.control.write_all(format!("{line}\r\n").as_bytes()).await.expect("an open session");
        self.reply().await
    }

    async fn reply(&mut self) -> String {
        let mut line = String::new();
        self.control.read_line(&mut line).await.expect("an open session");
        line
    }

    /// The port that PASV is answered by.
    pub(crate) async fn pasv(&mut self) -> u16 {
        let reply = self.command("PASV").await;
        assert!(reply.starts_with("227 "), "{}: {reply}", self.from);
        let numbers: Vec<u16> = reply.split(['(', ',', ')']).filter_map(|number| number.parse().ok()).collect();
        let [.., high, low] = numbers[..] else { panic!("{reply}") };
        high * 256 + low
    }

    pub(crate) async fn data(&self, port: u16) -> TcpStream {
        connect(self.from, SocketAddr::new(self.proxy, port)).await
    }

    /// Downloads file `n`, or uploads it. Half of it has passed before `half` is awaited.
    pub(crate) async fn transfer(&mut self, n: usize, uploads: bool, port: u16, half: impl Future<Output = ()>) {
        let mut data = self.data(port).await;
        let (first, second) = halves(n);
        if uploads {
            assert_eq!(self.command(&format!("STOR {n}")).await, "150 here it comes\r\n");
            data.write_all(&first).await.expect("an open data connection");
            half.await;
            data.write_all(&second).await.expect("an open data connection");
            data.shutdown().await.expect("an open data connection");
        } else {
            assert_eq!(self.command(&format!("RETR {n}")).await, "150 here it comes\r\n");
            let mut received = vec![0; first.len()];
            data.read_exact(&mut received).await.expect("the first half");
            half.await;
            data.read_to_end(&mut received).await.expect("a good end");
            assert!(received == content(n), "other bytes in file {n}");
        }
        assert_eq!(self.reply().await, "226 done\r\n");
    }
}

async fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address of the test's own");
    socket.connect(to).await.unwrap_or_else(|error| panic!("{from} to {to}: {error}"))
}

/// All have come so far; the last of them opens the gate.
pub(crate) async fn assemble(all: Arc<Barrier>, gate: watch::Sender<bool>) {
    if all.wait().await.is_leader() {
        gate.send_replace(true);
    }
}
