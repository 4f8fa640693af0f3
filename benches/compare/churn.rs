//! Sessions that come, do all that sessions do, and go: well, badly, or in the midst of something.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::net::client;
use crate::peers::client::{Client, send};
use crate::work::refused;

/// Sizes of files and how often each is chosen: most files on an FTP server are small.
const SIZES: [(u64, u32); 7] =
    [(0, 5), (1, 5), (1024, 50), (64 << 10, 20), ((256 << 10) + 1, 12), (1 << 20, 7), (4 << 20, 1)];

/// A file that is cut before its end: more than all buffers on its way hold.
const LONG: u64 = 64 << 20;

/// What sessions have done.
#[derive(Debug, Default)]
struct Tally {
    sessions: u64,
    downloads: u64,
    uploads: u64,
    bytes: u64,
    aborts: u64,
    resets: u64,
    unused_ports: u64,
    /// 425: no port was free in time.
    refused: u64,
    errors: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.downloads += other.downloads;
        self.uploads += other.uploads;
        self.bytes += other.bytes;
        self.aborts += other.aborts;
        self.resets += other.resets;
        self.unused_ports += other.unused_ports;
        self.refused += other.refused;
        self.errors += other.errors;
    }
}

/// So many sessions at a time for so long; says at the end what they did.
pub(crate) async fn run(to: SocketAddr, sessions: usize, seconds: f64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    for nth in 0..sessions {
        tasks.spawn(one_after_the_other(client(nth), to, end, nth as u64));
    }
    let mut tally = Tally::default();
    tasks.join_all().await.iter().for_each(|of_one| tally.add(of_one));
    let Tally { sessions, downloads, uploads, bytes, aborts, resets, unused_ports, refused, errors } = tally;
    println!(
        "sessions={sessions} downloads={downloads} uploads={uploads} bytes={bytes} aborts={aborts} resets={resets} \
         unused_ports={unused_ports} refused={refused} errors={errors}"
    );
    Ok(())
}

async fn one_after_the_other(from: IpAddr, to: SocketAddr, end: Instant, seed: u64) -> Tally {
    let (mut rng, mut tally) = (StdRng::seed_from_u64(seed), Tally::default());
    // Not all at the same instant.
    sleep(Duration::from_millis(rng.random_range(0..3000))).await;
    while Instant::now() < end {
        match life(from, to, &mut rng, &mut tally).await {
            Ok(()) => tally.sessions += 1,
            Err(error) if refused(&error) => tally.refused += 1,
            Err(error) => {
                tally.errors += 1;
                if tally.errors < 3 {
                    eprintln!("    {from}: {error:#}");
                }
            }
        }
    }
    tally
}

/// One session.
async fn life(from: IpAddr, to: SocketAddr, rng: &mut StdRng, tally: &mut Tally) -> Result<()> {
    let mut client = Client::login(Some(from), to).await?;
    for _ in 0..rng.random_range(1..6) {
        act(&mut client, rng, tally).await?;
        sleep(Duration::from_millis(rng.random_range(200..3000))).await;
    }
    match rng.random_range(0..10) {
        // The connections close with the session that drops them, or reset, amid a transfer or not.
        0 => drop(client.begin(&format!("RETR {LONG}"), None).await?),
        1 => drop(client),
        2 => {
            tally.resets += 1;
            let _data = client.begin(&format!("RETR {LONG}"), None).await?;
            client.reset()?;
        }
        3 => {
            tally.resets += 1;
            client.reset()?;
        }
        _ => client.quit().await?,
    }
    Ok(())
}

/// One thing that a session does.
async fn act(client: &mut Client, rng: &mut StdRng, tally: &mut Tally) -> Result<()> {
    let bytes = size(rng);
    match rng.random_range(0..100) {
        0..40 => {
            client.retr(bytes).await?;
            (tally.downloads, tally.bytes) = (tally.downloads + 1, tally.bytes + bytes);
        }
        40..65 => {
            client.stor(bytes).await?;
            (tally.uploads, tally.bytes) = (tally.uploads + 1, tally.bytes + bytes);
        }
        65..72 => {
            let data = client.begin_active(&format!("RETR {bytes}")).await?;
            client.finish_retr(data, bytes).await?;
            (tally.downloads, tally.bytes) = (tally.downloads + 1, tally.bytes + bytes);
        }
        72..80 => {
            let data = client.begin(&format!("RETR {LONG}"), None).await?;
            sleep(Duration::from_millis(rng.random_range(0..50))).await;
            client.send("ABOR").await?;
            // The transfer's reply and that to ABOR; a client drops its end of the data connection then.
            client.reply("ABOR", "426").await?;
            drop(data);
            client.reply("ABOR", "226").await?;
            tally.aborts += 1;
        }
        80..84 => {
            let data = client.begin(&format!("RETR {LONG}"), None).await?;
            data.set_zero_linger()?;
            drop(data);
            client.reply("a reset download", "426").await?;
            tally.resets += 1;
        }
        84..88 => {
            let mut data = client.begin(&format!("STOR {LONG}"), None).await?;
            send(&mut data, bytes).await?;
            data.set_zero_linger()?;
            drop(data);
            client.reply("a reset upload", "426").await?;
            tally.resets += 1;
        }
        88..91 => {
            client.passive().await?;
            tally.unused_ports += 1;
        }
        _ => drop(client.command("NOOP", "200").await?),
    }
    Ok(())
}

/// The size of a file, by the weights of [`SIZES`].
fn size(rng: &mut StdRng) -> u64 {
    let mut left = rng.random_range(0..SIZES.iter().map(|(_, weight)| weight).sum());
    for (bytes, weight) in SIZES {
        if left < weight {
            return bytes;
        }
        left -= weight;
    }
    unreachable!("less than the sum of all weights")
}
