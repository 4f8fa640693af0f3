//! A server that takes any login and has every file: `RETR 1000` is one of 1000 bytes, and `STOR 1000` must bring one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::content::{self, CHUNK};

/// A data connection that takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Control connections that are open.
    pub(crate) sessions: AtomicU64,
    /// Bytes of files that the kernel has taken from us.
    pub(crate) sent: AtomicU64,
    /// Uploads that ended like complete ones and were not what was sent.
    pub(crate) damaged: AtomicU64,
}

/// Binds the control port.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(4096)
}

/// Serves until dropped.
pub(crate) async fn serve(listener: TcpListener, seen: Arc<Seen>) {
    loop {
        // Out of descriptors, or a client that has gone already: the next one may be luckier.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            seen.sessions.fetch_add(1, Relaxed);
            // A client that goes away is its own business, and what this server is for.
            let _gone = session(stream, &seen).await;
            seen.sessions.fetch_sub(1, Relaxed);
        });
    }
}

/// Where the next data connection comes from.
enum Data {
    Passive(TcpListener),
    Active(SocketAddr),
}

async fn session(stream: TcpStream, seen: &Seen) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::with_capacity(512, read).lines();
    let mut data = None;
    write.write_all(b"220 sink\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let reply = match verb {
            "USER" => "331 any\r\n".into(),
            "PASS" => "230 in\r\n".into(),
            "PASV" => {
                let listener = TcpListener::bind((local.ip(), 0)).await?;
                let [high, low] = listener.local_addr()?.port().to_be_bytes();
                data = Some(Data::Passive(listener));
                format!("227 Entering Passive Mode ({},{high},{low}).\r\n", local.ip().to_string().replace('.', ","))
            }
            "PORT" => match parse_host_port(argument) {
                Some(target) => {
                    data = Some(Data::Active(target.into()));
                    "200 ok\r\n".into()
                }
                None => "501 what?\r\n".into(),
            },
            "RETR" | "STOR" => match (data.take(), argument.parse()) {
                (Some(data), Ok(bytes)) => {
                    let Some(reply) = transfer(verb, bytes, data, &mut lines, &mut write, seen).await? else {
                        return Ok(());
                    };
                    reply.into()
                }
                _ => "425 no data connection, or no such file\r\n".into(),
            },
            "NOOP" | "TYPE" => "200 ok\r\n".into(),
            "ABOR" => "226 nothing to abort\r\n".into(),
            "QUIT" => return write.write_all(b"221 bye\r\n").await,
            _ => "502 no\r\n".into(),
        };
        write.write_all(reply.as_bytes()).await?;
    }
    Ok(())
}

/// Carries a transfer while it listens for ABOR; the final reply, or none if the session has ended.
async fn transfer(
    verb: &str,
    bytes: u64,
    data: Data,
    lines: &mut Lines<BufReader<OwnedReadHalf>>,
    write: &mut OwnedWriteHalf,
    seen: &Seen,
) -> io::Result<Option<&'static str>> {
    write.write_all(b"150 go\r\n").await?;
    let local = write.local_addr()?.ip();
    let carried = async {
        let stream = timeout(PATIENCE, connect(data, local)).await??;
        if verb == "RETR" { send(stream, bytes, seen).await } else { receive(stream, bytes, seen).await }
    };
    let mut carried = pin!(carried);
    loop {
        tokio::select! {
            carried = &mut carried => return Ok(Some(carried.unwrap_or("426 the data connection broke\r\n"))),
            line = lines.next_line() => match line?.as_deref() {
                Some("ABOR") => return Ok(Some("426 aborted\r\n226 aborted\r\n")),
                Some(_) => write.write_all(b"503 not now\r\n").await?,
                None => return Ok(None),
            },
        }
    }
}

/// Either way from the address of the control connection, as whoever listens there expects.
async fn connect(data: Data, local: IpAddr) -> io::Result<TcpStream> {
    match data {
        Data::Passive(listener) => Ok(listener.accept().await?.0),
        Data::Active(target) => {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(local, 0))?;
            socket.connect(target).await
        }
    }
}

async fn send(mut stream: TcpStream, bytes: u64, seen: &Seen) -> io::Result<&'static str> {
    let mut position = 0;
    while position < bytes {
        let n = stream.write(content::from(position, bytes - position)).await? as u64;
        seen.sent.fetch_add(n, Relaxed);
        position += n;
    }
    stream.shutdown().await?;
    Ok("226 done\r\n")
}

async fn receive(mut stream: TcpStream, bytes: u64, seen: &Seen) -> io::Result<&'static str> {
    let mut buffer = vec![0; usize::try_from(bytes).map_or(CHUNK, |bytes| bytes.clamp(1, CHUNK))];
    let (mut position, mut intact) = (0, true);
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        intact &= bytes > content::CHECKED || content::is(position, &buffer[..n]);
        position += n as u64;
    }
    if intact && position == bytes {
        return Ok("226 done\r\n");
    }
    seen.damaged.fetch_add(1, Relaxed);
    Ok("451 that is not what was sent\r\n")
}

/// `h,h,h,h,p,p`, wherever in the text it stands.
pub(crate) fn parse_host_port(text: &str) -> Option<SocketAddrV4> {
    let numbers = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let numbers = numbers.split(|c: char| !c.is_ascii_digit() && c != ',').next()?;
    let numbers: Vec<u8> = numbers.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [a, b, c, d, high, low] = numbers[..] else { return None };
    Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
}
