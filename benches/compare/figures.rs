//! What /proc tells about the machine and about a process.

use std::fs;

use anyhow::{Context, Result};

/// `getconf CLK_TCK` of every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time that the machine has spent on anything so far, in seconds, over all cores.
pub(crate) fn machine_cpu() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .context("an empty /proc/stat")?
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // proc_stat(5): user nice system idle iowait irq softirq steal; what the hypervisor stole is not our work.
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|&field| fields.get(field)).sum::<f64>();
    Ok(busy / TICKS_PER_SECOND)
}

/// CPU time of a process so far, in seconds, user's and system's.
pub(crate) fn process_cpu(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // utime and stime are fields 14 and 15 of proc_pid_stat(5); the name in field 2 may contain anything.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holdings {
    /// Resident memory in KiB.
    pub(crate) rss: f64,
    /// Its share of that: pages in use by several processes are divided among them.
    pub(crate) pss: f64,
    /// Open descriptors, those of pipes not counted: pipes are pooled, and some stay for the next transfer.
    pub(crate) descriptors: u32,
    /// Descriptors of pipes.
    pub(crate) pipes: u32,
    /// Threads.
    pub(crate) threads: u32,
}

impl Holdings {
    /// What it holds now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let (mut descriptors, mut pipes) = (0, 0);
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            // One that has been closed since has no link any more.
            match fs::read_link(entry?.path()) {
                Ok(target) if target.to_string_lossy().starts_with("pipe:") => pipes += 1,
                Ok(_) => descriptors += 1,
                Err(_) => {}
            }
        }
        let threads = u32::try_from(fs::read_dir(format!("/proc/{pid}/task"))?.count())?;
        Ok(Self { rss: kib(&rollup, "Rss:")?, pss: kib(&rollup, "Pss:")?, descriptors, pipes, threads })
    }
}

fn kib(rollup: &str, name: &str) -> Result<f64> {
    let line = rollup.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}"))?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

/// What the queues of all TCP sockets of this kernel take, in MiB, whatever network namespace they are in.
pub(crate) fn tcp_memory() -> Result<f64> {
    /// Of every Linux on x86 and nearly every one on ARM.
    const PAGE: f64 = 4096.0;
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let (_, pages) = text.split_once(" mem ").context("no memory in /proc/net/sockstat")?;
    let pages: f64 = pages.split_whitespace().next().context("no number")?.parse()?;
    Ok(pages * PAGE / f64::from(1 << 20))
}

/// The middle of these values, if there are any.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
