//! What goes wrong in one session stays in it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ftp_alg::config::Config;
use ftp_alg::relay::Proxy;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

const PROXY: &str = "127.28.0.1:2121";
const SERVER: &str = "127.28.0.2:2100";

/// A server that greets, and answers PASV by a port nobody will dial.
async fn serve_one(mut stream: TcpStream) -> io::Error {
    stream.write_all(b"220 ready\r\n").await.unwrap();
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line).await {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(_) if line.starts_with("PASV") => {
                stream.write_all(b"227 Entering Passive Mode (10,0,0,1,200,10).\r\n").await.unwrap();
            }
            Ok(_) => stream.write_all(b"200 ok\r\n").await.unwrap(),
            Err(error) => return error,
        }
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(from: Ipv4Addr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.into(), 0)).unwrap();
        let mut client = Self(BufReader::new(socket.connect(PROXY.parse().unwrap()).await.unwrap()));
        assert!(client.reply().await.unwrap().starts_with("220"));
        client
    }

    async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    async fn reply(&mut self) -> io::Result<String> {
        let mut line = String::new();
        timeout(Duration::from_secs(20), self.0.read_line(&mut line)).await.expect("a reply in time")?;
        Ok(line)
    }

    async fn command(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n")).await;
        self.reply().await.unwrap()
    }
}

/// A deadline that overflows the clock panics in the session that starts it: a timeout which no configuration file
/// can hold, so only this test can bring it about.
fn config_that_panics_on_an_unfinished_line() -> Config {
    let yaml = format!(
        "listeners:\n  - bind: \"{PROXY}\"\n    upstream: \"{SERVER}\"\n    client:\n      \
         address_map: [{{ peers: any, announce: local }}]\n      data_ports: 20000\n"
    );
    let mut config = Config::parse(&yaml, "test.yaml").unwrap();
    config.listeners[0].timeouts.partial_line = Duration::MAX;
    config
}

#[tokio::test]
async fn rel_28_a_panic_ends_one_session_and_frees_its_lease() {
    let server = TcpListener::bind(SERVER).await.unwrap();
    let _proxy = Proxy::start(config_that_panics_on_an_unfinished_line(), Vec::new()).unwrap();

    let accept = async || tokio::spawn(serve_one(server.accept().await.unwrap().0));
    let doomed_at = Ipv4Addr::new(127, 28, 0, 3);
    let (mut doomed, at_server) = tokio::join!(Client::connect(doomed_at), accept());
    let (mut other, _other_at_server) = tokio::join!(Client::connect(Ipv4Addr::new(127, 28, 0, 4)), accept());
    assert!(doomed.command("PASV").await.starts_with("227"), "the only port is leased to this address");

    doomed.send("unfinished").await;
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(5), doomed.0.read_to_end(&mut rest)).await.expect("the session ends");
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "reset towards the client");
    let ended = timeout(Duration::from_secs(5), at_server).await.expect("the session ends").unwrap();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset, "reset towards the server");

    assert_eq!(other.command("NOOP").await, "200 ok\r\n", "another session goes on");
    // The port rests for 5 s and is then good for another session of the same address; `port_wait` is 15 s.
    let (mut next, _next_at_server) = tokio::join!(Client::connect(doomed_at), accept());
    assert!(next.command("PASV").await.starts_with("227"), "the lease of the session that panicked is free");
}
