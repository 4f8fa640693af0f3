//! Load that lasts: whole sessions by the thousand, and clients that do not read. `make soak` is the long version.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::peers::client::{Client, send};
use crate::peers::sink::{self, Seen};
use crate::support::kernel::rss_kib;
use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::scene::Setup;
use crate::support::transcript::Transcript;

/// A file that is longer than all buffers on its way.
const LONG: u64 = 64 << 20;
/// Everything ends within this; a transfer that breaks off as its session ends may wait 10 s (`timeouts.close`).
const ENDING: Duration = Duration::from_secs(60);

/// A proxy between a server that has every file and clients that come in numbers.
struct Load {
    proxy: Proxy,
    net: Net,
    seen: Arc<Seen>,
}

impl Load {
    fn start() -> Self {
        let (net, log) = (Net::new(), Transcript::new());
        let seen = Arc::new(Seen::default());
        tokio::spawn(sink::serve(sink::bind(net.server()).unwrap(), Arc::clone(&seen)));
        let announce = "local";
        let yaml = Setup { announce, ..Setup::default() }.yaml(net.proxy(), &net.server().to_string());
        Self { proxy: Proxy::start(&log, &yaml, &[net.proxy()]), net, seen }
    }

    /// Its sockets, and its other descriptors. Pipes are among the latter: idle ones are kept for the next transfers.
    fn descriptors(&self) -> (usize, usize) {
        let links = fs::read_dir(format!("/proc/{}/fd", self.proxy.pid())).unwrap();
        // One that has been closed since has no link any more.
        let links: Vec<_> = links.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).collect();
        let sockets = links.iter().filter(|link| link.to_string_lossy().starts_with("socket:")).count();
        (sockets, links.len() - sockets)
    }

    fn rss_kib(&self) -> u64 {
        rss_kib(self.proxy.pid())
    }

    /// Where a client comes from and goes to.
    fn way(&self, nth: usize) -> (IpAddr, SocketAddr) {
        (if nth.is_multiple_of(2) { self.net.client() } else { self.net.stranger() }, self.net.proxy())
    }
}

/// Waits for a condition; what it was about if it never comes.
async fn comes_true(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + ENDING;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {ENDING:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Runs the load beside the proxy, on threads of its own.
fn run(load: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(load);
}

const STALLED: usize = 200;
/// A buffer of 64 KiB for the bytes that wait, half as much again for the session and what the allocator needs, and
/// what the first sessions of all bring with them.
const STALLED_KIB: u64 = STALLED as u64 * 96 + 4096;

#[test]
fn rel_18_stalled_readers_stop_the_server_and_cost_a_bounded_memory() {
    run(async {
        let load = Load::start();
        let before = load.rss_kib();
        let mut stalled = Vec::new();
        for nth in 0..STALLED {
            let (from, to) = load.way(nth);
            let mut client = Client::login(Some(from), to).await.unwrap();
            let data = client.begin(&format!("RETR {LONG}"), Some(16 * 1024)).await.unwrap();
            stalled.push((client, data));
        }
        let sent = || load.seen.sent.load(Relaxed);
        let mut last = (0, Instant::now());
        comes_true("the server is stopped for a second", || {
            if sent() != last.0 {
                last = (sent(), Instant::now());
            }
            last.1.elapsed() > Duration::from_secs(1)
        })
        .await;
        let most = STALLED as u64 * LONG / 2;
        assert!(sent() < most, "{} MiB were taken from the server for nobody", sent() >> 20);
        let grown = load.rss_kib() - before;
        assert!(grown < STALLED_KIB, "{STALLED} stalled readers took {grown} KiB, more than {STALLED_KIB}");

        // Somebody else notices nothing, up or down.
        let (from, to) = load.way(0);
        let mut other = Client::login(Some(from), to).await.unwrap();
        other.retr(1 << 20).await.unwrap();
        other.stor(1 << 20).await.unwrap();
        other.quit().await.unwrap();

        // One that begins to read after all gets every byte.
        let (mut late, data) = stalled.pop().unwrap();
        late.finish_retr(data, LONG).await.unwrap();
    });
}

const SESSIONS: usize = 3000;
/// At a time.
const WORKERS: usize = 25;
/// Growth between the second quarter of the sessions and the last that is the allocator's, in KiB: 1,500 sessions that
/// left 4 KiB each behind would make 6,000.
const GROWTH_KIB: u64 = 3072;

/// Descriptors of the 32 idle pipes that the pool keeps.
const POOLED: usize = 64;

/// One session of several kinds, which ends well, badly or amid something.
async fn churn(from: IpAddr, to: SocketAddr, nth: usize) -> Result<()> {
    let mut client = Client::login(Some(from), to).await?;
    client.retr([0, 1, 1000, 100_000][nth % 4]).await?;
    match nth % 11 {
        0 => {
            let data = client.begin(&format!("RETR {LONG}"), None).await?;
            client.send("ABOR").await?;
            client.reply("ABOR", "426").await?;
            drop(data);
            client.reply("ABOR", "226").await?;
        }
        1 => {
            let data = client.begin(&format!("RETR {LONG}"), None).await?;
            data.set_zero_linger()?;
            drop(data);
            client.reply("a reset download", "426").await?;
        }
        2 => {
            let mut data = client.begin(&format!("STOR {LONG}"), None).await?;
            send(&mut data, 10_000).await?;
            data.set_zero_linger()?;
            drop(data);
            client.reply("a reset upload", "426").await?;
        }
        3 => {
            let data = client.begin_active("RETR 300000").await?;
            client.finish_retr(data, 300_000).await?;
        }
        4 => {
            let _data = client.begin(&format!("RETR {LONG}"), None).await?;
            return client.reset();
        }
        5 => {
            let _data = client.begin(&format!("RETR {LONG}"), None).await?;
            return Ok(());
        }
        6 => return client.reset(),
        _ => client.stor(20_000).await?,
    }
    client.quit().await
}

#[test]
fn rel_21_sessions_that_come_and_go_leave_nothing_behind() {
    run(async {
        let load = Load::start();
        let at_start = load.descriptors();
        let mut memory = Vec::new();
        let mut running: JoinSet<Result<()>> = JoinSet::new();
        for nth in 0..SESSIONS {
            if running.len() == WORKERS {
                running.join_next().await.unwrap().unwrap().unwrap();
            }
            let (from, to) = load.way(nth);
            running.spawn(churn(from, to, nth));
            if nth % 20 == 0 {
                memory.push(load.rss_kib());
            }
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap().unwrap();
        }
        comes_true("the server's sessions end", || load.seen.sessions.load(Relaxed) == 0).await;
        comes_true("every socket is closed", || load.descriptors().0 == at_start.0).await;
        let others = load.descriptors().1;
        assert!(others <= at_start.1 + POOLED, "{others} descriptors beside the sockets, {} at the start", at_start.1);
        assert_eq!(load.seen.damaged.load(Relaxed), 0, "uploads that look complete and are not");
        let quarter = |nth: usize| {
            let of = &mut memory.clone()[nth * memory.len() / 4..(nth + 1) * memory.len() / 4];
            of.sort_unstable();
            of[of.len() / 2]
        };
        let (second, last) = (quarter(1), quarter(3));
        assert!(last <= second + GROWTH_KIB, "{second} KiB in the second quarter, {last} KiB in the last");
    });
}
