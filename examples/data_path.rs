//! Carries a stream from a sender to a receiver, each a process of its own, through the copy of a data channel, now
//! through buffers and now through pipes, and prints what either cost *this* process. All on loopback.
//!
//! ```text
//! cargo run --release --example data_path -- [GiB a round, 4] [rounds, 5]
//! ```
//!
//! Read the figures of one run against each other; absolute values mean little on a machine that does other things.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ftp_alg::relay::copy::{CopyEnd, Moved, copy_counted};
use ftp_alg::relay::splice::{Pipes, When};

const GIB: u64 = 1 << 30;
const IDLE: Duration = Duration::from_secs(60);
/// As `write(2)` of file servers: vsftpd and IIS send 64 KiB at once.
const CHUNK: usize = 64 * 1024;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["send", to, bytes] => send(to.parse()?, bytes.parse()?),
        ["receive", to] => receive(to.parse()?),
        [] => compare(4, 5),
        [gib] => compare(gib.parse()?, 5),
        [gib, rounds] => compare(gib.parse()?, rounds.parse()?),
        _ => bail!("usage: data_path [GiB] [rounds]"),
    }
}

fn send(to: SocketAddr, mut bytes: u64) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    let chunk = vec![0x5a; CHUNK];
    while bytes > 0 {
        let n = chunk.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        stream.write_all(&chunk[..n])?;
        bytes -= n as u64;
    }
    Ok(())
}

fn receive(from: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(from)?;
    let mut chunk = vec![0; 4 * CHUNK];
    while stream.read(&mut chunk)? > 0 {}
    Ok(())
}

/// What one round gave.
#[derive(Clone, Copy)]
struct Cost {
    gib_per_s: f64,
    cpu_s_per_gib: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:6.2} GiB/s {:7.4} CPU s/GiB", self.gib_per_s, self.cpu_s_per_gib)
    }
}

fn compare(gib: u64, rounds: usize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ways = [("buffer", When::Never), ("pipe", When::Always), ("as shipped", When::Long)];
    let mut costs = vec![Vec::new(); ways.len()];
    for round in 0..rounds {
        for offset in 0..ways.len() {
            // Each way in turn, and another first in every round.
            let way = (round + offset) % ways.len();
            let cost = runtime.block_on(carry(ways[way].1, gib * GIB))?;
            println!("{round:3} {:10} {cost}", ways[way].0);
            costs[way].push(cost);
        }
    }
    println!("medians");
    let base = median(&mut costs[0]);
    for (way, (name, _)) in ways.iter().enumerate() {
        let cost = median(&mut costs[way]);
        let (speed, cpu) = (cost.gib_per_s / base.gib_per_s, cost.cpu_s_per_gib / base.cpu_s_per_gib);
        println!("    {name:10} {cost}   × {speed:.2} and × {cpu:.2} of the buffer's");
    }
    Ok(())
}

/// One transfer from a sender to a receiver.
async fn carry(when: When, bytes: u64) -> anyhow::Result<Cost> {
    let (server, mut sender) = accept(&["send"], &[&bytes.to_string()])?;
    let (client, mut receiver) = accept(&["receive"], &[])?;
    let pipes = Pipes::new(when);
    let moved = Moved::default();
    let (start, cpu) = (Instant::now(), cpu_seconds()?);
    let copied = copy_counted(client, server, &pipes, IDLE, &moved, |_| ()).await;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    if copied.end != CopyEnd::Complete || copied.down != bytes {
        bail!("{copied:?}");
    }
    for peer in [&mut sender, &mut receiver] {
        if !peer.wait()?.success() {
            bail!("a peer failed");
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure to be read by people")]
    let gib = bytes as f64 / GIB as f64;
    Ok(Cost { gib_per_s: gib / seconds, cpu_s_per_gib: cpu / gib })
}

/// Starts a peer, and takes its connection.
fn accept(before: &[&str], after: &[&str]) -> anyhow::Result<(tokio::net::TcpStream, Child)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let child = Command::new(std::env::current_exe()?)
        .args(before)
        .arg(listener.local_addr()?.to_string())
        .args(after)
        .stdout(Stdio::null())
        .spawn()?;
    let (stream, _) = listener.accept()?;
    stream.set_nonblocking(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    stream.set_zero_linger()?;
    Ok((stream, child))
}

/// CPU time of this process so far, user's and system's.
fn cpu_seconds() -> anyhow::Result<f64> {
    /// `getconf CLK_TCK` of every Linux there is.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // utime and stime are fields 14 and 15 of proc_pid_stat(5); the name in field 2 may contain anything.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

fn median(costs: &mut [Cost]) -> Cost {
    let middle = costs.len() / 2;
    costs.sort_by(|a, b| a.gib_per_s.total_cmp(&b.gib_per_s));
    let gib_per_s = costs[middle].gib_per_s;
    costs.sort_by(|a, b| a.cpu_s_per_gib.total_cmp(&b.cpu_s_per_gib));
    Cost { gib_per_s, cpu_s_per_gib: costs[middle].cpu_s_per_gib }
}
