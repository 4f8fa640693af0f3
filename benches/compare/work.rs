//! What workers do: the server, and each kind of load.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Subcommand;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::churn;
use crate::net::{CLIENTS, client};
use crate::peers::client::{Client, Refused};
use crate::peers::sink::{self, Seen};

/// A file to measure a stream with: long enough that its begin and end do not count.
const STREAM: u64 = 1 << 30;
/// Logins that are under way at a time, where many sessions are wanted.
const LOGINS: usize = 64;

#[derive(Debug, Subcommand)]
pub(crate) enum Work {
    /// The server.
    Sink { at: SocketAddr },
    /// Whole sessions, one after the other by each client: connect, login, PASV, RETR, QUIT.
    Sessions { to: SocketAddr, clients: usize, seconds: f64 },
    /// One transfer after the other in one session.
    Stream { to: SocketAddr, verb: String, seconds: f64 },
    /// One NOOP after the other in one session.
    Noop { to: SocketAddr, count: usize },
    /// Sessions that do nothing until told to end.
    Hold { to: SocketAddr, count: usize },
    /// Downloads that are all open at one time, from every client address.
    Burst { to: SocketAddr, transfers: usize, bytes: u64 },
    /// Downloads that nobody reads, until told to end.
    Stalled { to: SocketAddr, count: usize },
    /// Sessions that come, do all that sessions do, and go.
    Churn { to: SocketAddr, sessions: usize, seconds: f64 },
    /// Asks for as many ports at once as there are, from every client address.
    Ports { to: SocketAddr, ports: usize },
}

/// Does it, on one thread.
pub(crate) fn run(work: Work) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match work {
            Work::Sink { at } => serve(at).await,
            Work::Sessions { to, clients, seconds } => sessions(to, clients, seconds).await,
            Work::Stream { to, verb, seconds } => stream(to, &verb, seconds).await,
            Work::Noop { to, count } => noop(to, count).await,
            Work::Hold { to, count } => hold(to, count).await,
            Work::Burst { to, transfers, bytes } => burst(to, transfers, bytes).await,
            Work::Stalled { to, count } => stalled(to, count).await,
            Work::Churn { to, sessions, seconds } => churn::run(to, sessions, seconds).await,
            Work::Ports { to, ports } => every_port(to, ports).await,
        }
    })
}

/// Waits for the next line of standard input; false at its end.
async fn told() -> Result<bool> {
    let line = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    Ok(line.await?? > 0)
}

/// Says on standard error what went wrong, so far as the reader wants to know: the first few.
fn complain(errors: &[anyhow::Error]) {
    for error in errors.iter().take(3) {
        eprintln!("    {error:#}");
    }
}

/// What came of many tasks.
async fn outcomes<T: 'static>(mut tasks: JoinSet<Result<T>>) -> Result<(Vec<T>, Vec<anyhow::Error>)> {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    while let Some(outcome) = tasks.join_next().await {
        match outcome? {
            Ok(value) => done.push(value),
            Err(error) => failed.push(error),
        }
    }
    complain(&failed);
    Ok((done, failed))
}

/// So many logged-in sessions, from all client addresses in turn.
async fn log_in(to: SocketAddr, count: usize) -> Result<(Vec<Client>, Vec<anyhow::Error>)> {
    let turns = Arc::new(Semaphore::new(LOGINS));
    let mut tasks = JoinSet::new();
    for nth in 0..count {
        let turns = Arc::clone(&turns);
        tasks.spawn(async move {
            let _turn = turns.acquire().await?;
            Client::login(Some(client(nth)), to).await
        });
    }
    outcomes(tasks).await
}

async fn serve(at: SocketAddr) -> Result<()> {
    let seen = Arc::new(Seen::default());
    tokio::spawn(sink::serve(sink::bind(at)?, Arc::clone(&seen)));
    println!("ready=1");
    while told().await? {
        let [sessions, sent, damaged] = [&seen.sessions, &seen.sent, &seen.damaged].map(|n| n.load(Relaxed));
        println!("sessions={sessions} sent={sent} damaged={damaged}");
    }
    Ok(())
}

async fn sessions(to: SocketAddr, clients: usize, seconds: f64) -> Result<()> {
    let (start, time) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(async move {
            let (mut latencies, mut errors) = (Vec::new(), Vec::new());
            while start.elapsed() < time {
                let begin = Instant::now();
                match session(to).await {
                    Ok(()) => latencies.push(begin.elapsed().as_secs_f64()),
                    Err(error) => errors.push(error),
                }
            }
            (latencies, errors)
        });
    }
    let (mut latencies, mut errors) = (Vec::new(), Vec::new());
    for (of_one, failed) in tasks.join_all().await {
        latencies.extend(of_one);
        errors.extend(failed);
    }
    complain(&errors);
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    let p99 = latencies.get(latencies.len() * 99 / 100).map_or(0.0, |latency| latency * 1e3);
    println!("count={} seconds={seconds} p99_ms={p99} errors={}", latencies.len(), errors.len());
    Ok(())
}

async fn session(to: SocketAddr) -> Result<()> {
    let mut client = Client::login(None, to).await?;
    client.retr(1024).await?;
    client.quit().await
}

async fn stream(to: SocketAddr, verb: &str, seconds: f64) -> Result<()> {
    let (start, time, mut count) = (Instant::now(), Duration::from_secs_f64(seconds), 0);
    let mut client = Client::login(None, to).await?;
    while start.elapsed() < time {
        if verb == "STOR" {
            client.stor(STREAM).await?
        } else {
            client.retr(STREAM).await?
        }
        count += 1;
    }
    println!("count={count} seconds={} errors=0", start.elapsed().as_secs_f64());
    Ok(())
}

async fn noop(to: SocketAddr, count: usize) -> Result<()> {
    let mut client = Client::login(None, to).await?;
    // Caches, and the kernel's delayed acknowledgements, get used to it.
    for _ in 0..count / 20 {
        client.command("NOOP", "200").await?;
    }
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        client.command("NOOP", "200").await?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    println!("count={count} p50_us={} p99_us={} errors=0", times[count / 2] * 1e6, times[count * 99 / 100] * 1e6);
    Ok(())
}

async fn hold(to: SocketAddr, count: usize) -> Result<()> {
    let (mut held, errors) = log_in(to, count).await?;
    println!("held={} errors={}", held.len(), errors.len());
    told().await?;
    let mut alive = 0;
    for client in &mut held {
        alive += u32::from(client.command("NOOP", "200").await.is_ok());
    }
    println!("alive={alive}");
    Ok(())
}

async fn burst(to: SocketAddr, transfers: usize, bytes: u64) -> Result<()> {
    let (clients, mut errors) = log_in(to, transfers).await?;
    println!("ready={}", clients.len());
    told().await?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let data = client.begin(&format!("RETR {bytes}"), None).await?;
            Ok((client, data))
        });
    }
    let (open, failed) = outcomes(tasks).await?;
    errors.extend(failed);
    // All that came about are open now: only then is any of them read.
    let opened = open.len();
    let mut tasks = JoinSet::new();
    for (mut client, data) in open {
        tasks.spawn(async move { client.finish_retr(data, bytes).await });
    }
    let (done, failed) = outcomes(tasks).await?;
    let seconds = start.elapsed().as_secs_f64();
    errors.extend(failed);
    let refused = errors.iter().filter(|error| refused(error)).count();
    println!("count={} opened={opened} seconds={seconds} refused={refused} errors={}", done.len(), errors.len());
    Ok(())
}

/// Whether a session was told that no port is free.
pub(crate) fn refused(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.reply.starts_with("425"))
}

async fn stalled(to: SocketAddr, count: usize) -> Result<()> {
    let (clients, mut errors) = log_in(to, count).await?;
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let data = client.begin(&format!("RETR {STREAM}"), Some(16 * 1024)).await?;
            Ok((client, data))
        });
    }
    let (stalled, failed) = outcomes(tasks).await?;
    errors.extend(failed);
    println!("stalled={} errors={}", stalled.len(), errors.len());
    told().await?;
    println!("ended=1");
    Ok(())
}

async fn every_port(to: SocketAddr, ports: usize) -> Result<()> {
    // One more session per address than there are ports would have to wait for one.
    let (clients, errors) = log_in(to, ports * usize::from(CLIENTS)).await?;
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let port = client.passive().await?;
            let from: IpAddr = client.from().ip();
            Ok((client, from, port))
        });
    }
    let (leased, failed) = outcomes(tasks).await?;
    let mut distinct: Vec<_> = leased.iter().map(|(_, from, port)| (*from, *port)).collect();
    distinct.sort();
    distinct.dedup();
    println!("leased={} distinct={} errors={}", leased.len(), distinct.len(), errors.len() + failed.len());
    Ok(())
}
