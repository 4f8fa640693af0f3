//! A client that believes what a 227 says, as old clients do, and checks every byte.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::content::{self, CHUNK};
use super::sink::parse_host_port;

/// A reply or a connection that takes longer will not come: more than any of the proxy's own timeouts of that kind.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A reply other than the one that was wanted.
#[derive(Debug, thiserror::Error)]
#[error("after {after}: {reply}")]
pub(crate) struct Refused {
    after: String,
    pub(crate) reply: String,
}

/// A session.
pub(crate) struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    from: SocketAddr,
}

impl Client {
    /// Connects, from this address if one is given, and logs in.
    pub(crate) async fn login(from: Option<IpAddr>, to: SocketAddr) -> anyhow::Result<Self> {
        let stream = connect(from, to, None).await.context("control connection")?;
        stream.set_nodelay(true)?;
        let from = stream.local_addr()?;
        let (read, write) = stream.into_split();
        let mut client = Self { lines: BufReader::with_capacity(512, read).lines(), write, from };
        client.reply("connecting", "220").await?;
        client.command("USER load", "331").await?;
        client.command("PASS load", "230").await?;
        Ok(client)
    }

    /// Where it connected from.
    #[allow(dead_code, reason = "not all who share this module ask")]
    pub(crate) fn from(&self) -> SocketAddr {
        self.from
    }

    /// Sends a command without waiting for its reply.
    pub(crate) async fn send(&mut self, command: &str) -> anyhow::Result<()> {
        Ok(self.write.write_all(format!("{command}\r\n").as_bytes()).await?)
    }

    /// The next reply, which must begin so. Only one-line replies are sent here.
    pub(crate) async fn reply(&mut self, after: &str, code: &str) -> anyhow::Result<String> {
        let line =
            timeout(PATIENCE, self.lines.next_line()).await.with_context(|| format!("no reply to {after}"))??;
        let reply = line.with_context(|| format!("closed after {after}"))?;
        if reply.starts_with(code) { Ok(reply) } else { Err(Refused { after: after.into(), reply }.into()) }
    }

    /// Sends a command; its reply, which must begin so.
    pub(crate) async fn command(&mut self, command: &str, code: &str) -> anyhow::Result<String> {
        self.send(command).await?;
        self.reply(command, code).await
    }

    /// PASV: where to connect to.
    pub(crate) async fn passive(&mut self) -> anyhow::Result<SocketAddr> {
        let reply = self.command("PASV", "227").await?;
        let at = parse_host_port(&reply[3..]).with_context(|| format!("no address in {reply}"))?;
        Ok(at.into())
    }

    /// Begins a transfer in passive mode: the data connection, after the 150.
    pub(crate) async fn begin(&mut self, command: &str, receive_buffer: Option<u32>) -> anyhow::Result<TcpStream> {
        let at = self.passive().await?;
        let data = connect(Some(self.from.ip()), at, receive_buffer).await.context("data connection")?;
        self.command(command, "1").await?;
        Ok(data)
    }

    /// Begins a transfer in active mode.
    pub(crate) async fn begin_active(&mut self, command: &str) -> anyhow::Result<TcpStream> {
        let listener = TcpListener::bind((self.from.ip(), 0)).await?;
        let [high, low] = listener.local_addr()?.port().to_be_bytes();
        let host = self.from.ip().to_string().replace('.', ",");
        self.command(&format!("PORT {host},{high},{low}"), "200").await?;
        self.command(command, "1").await?;
        Ok(timeout(PATIENCE, listener.accept()).await.context("nobody connected to the port")??.0)
    }

    /// The rest of a download that has begun, with its reply.
    pub(crate) async fn finish_retr(&mut self, data: TcpStream, bytes: u64) -> anyhow::Result<()> {
        let received = receive(data, bytes).await.context("RETR")?;
        ensure!(received == bytes, "received {received} bytes of {bytes}");
        self.reply("RETR", "226").await.map(drop)
    }

    /// A download in passive mode, checked.
    pub(crate) async fn retr(&mut self, bytes: u64) -> anyhow::Result<()> {
        let data = self.begin(&format!("RETR {bytes}"), None).await?;
        self.finish_retr(data, bytes).await
    }

    /// The rest of an upload that has begun, with its reply; the server checks it.
    pub(crate) async fn finish_stor(&mut self, mut data: TcpStream, bytes: u64) -> anyhow::Result<()> {
        send(&mut data, bytes).await.context("STOR")?;
        data.shutdown().await?;
        drop(data);
        self.reply("STOR", "226").await.map(drop)
    }

    /// An upload in passive mode.
    pub(crate) async fn stor(&mut self, bytes: u64) -> anyhow::Result<()> {
        let data = self.begin(&format!("STOR {bytes}"), None).await?;
        self.finish_stor(data, bytes).await
    }

    /// QUIT, and the end of the connection.
    pub(crate) async fn quit(mut self) -> anyhow::Result<()> {
        self.command("QUIT", "221").await?;
        let end = timeout(PATIENCE, self.lines.next_line()).await.context("not closed after QUIT")??;
        match end {
            None => Ok(()),
            Some(line) => bail!("after QUIT: {line}"),
        }
    }

    /// Ends the session by a reset.
    pub(crate) fn reset(self) -> anyhow::Result<()> {
        self.lines.into_inner().into_inner().reunite(self.write)?.set_zero_linger()?;
        Ok(())
    }
}

/// Connects, from this address if one is given. With a receive buffer, little is taken before it is read.
async fn connect(from: Option<IpAddr>, to: SocketAddr, receive_buffer: Option<u32>) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    if let Some(from) = from {
        // A port may serve several connections to different destinations, as if we had not bound.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(SocketAddr::new(from, 0))?;
    }
    Ok(timeout(PATIENCE, socket.connect(to)).await??)
}

/// Sends the first bytes of a file.
pub(crate) async fn send(data: &mut TcpStream, bytes: u64) -> anyhow::Result<()> {
    let mut position = 0;
    while position < bytes {
        position += timeout(PATIENCE, data.write(content::from(position, bytes - position))).await?? as u64;
    }
    Ok(())
}

/// Receives a file to its end, and checks it; how long it was.
async fn receive(mut data: TcpStream, bytes: u64) -> anyhow::Result<u64> {
    let mut buffer = vec![0; usize::try_from(bytes).map_or(CHUNK, |bytes| bytes.clamp(1, CHUNK))];
    let mut position = 0;
    loop {
        let n = timeout(PATIENCE, data.read(&mut buffer)).await??;
        if n == 0 {
            return Ok(position);
        }
        ensure!(
            bytes > content::CHECKED || content::is(position, &buffer[..n]),
            "other bytes than those sent, near {position}"
        );
        position += n as u64;
    }
}
