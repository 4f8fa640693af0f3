//! What any program says of itself, under the names that Prometheus' own libraries use. Read from /proc when asked; what
//! cannot be read is left out.

use std::fmt;
use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::encode::Series;

pub(super) fn encode(encoder: &mut DescriptorEncoder) -> fmt::Result {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let seconds = |time: nix::sys::time::TimeVal| {
            // What fits into the counter of a few decades of CPU time is exact.
            std::time::Duration::new(
                u64::try_from(time.tv_sec()).unwrap_or(0),
                u32::try_from(time.tv_usec()).unwrap_or(0) * 1000,
            )
            .as_secs_f64()
        };
        let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
        let help = "CPU time used, of the program and of the kernel for it.";
        let series = Series::new(encoder, "process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        series.only(&ConstCounter::new(cpu))?;
    }
    if let Some(bytes) = resident() {
        let series = Series::new(
            encoder,
            "process_resident_memory",
            "Memory that is in RAM.",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        series.only(&ConstGauge::new(bytes))?;
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        let series = Series::gauges(encoder, "process_open_fds", "Open files and sockets.")?;
        series.only(&ConstGauge::new(i64::try_from(open.count()).unwrap_or(i64::MAX)))?;
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let series = Series::gauges(encoder, "process_max_fds", "How many there may be.")?;
        series.only(&ConstGauge::new(i64::try_from(soft).unwrap_or(i64::MAX)))?;
    }
    if let Some(start) = started() {
        let help = "When the process began, since 1970.";
        let series = Series::new(encoder, "process_start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        series.only(&ConstGauge::new(start))?;
    }
    Ok(())
}

/// `VmRSS` of proc_pid_status(5), in kB.
fn resident() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok()?.checked_mul(1024)
}

/// Field 22 of proc_pid_stat(5), in ticks since boot. The name of the program, field 2, may have spaces.
fn started() -> Option<f64> {
    /// `USER_HZ`, which Linux shows to programs on every architecture that Rust's std runs on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let (stat, boot) = (fs::read_to_string("/proc/self/stat").ok()?, fs::read_to_string("/proc/stat").ok()?);
    let (_, behind_name) = stat.rsplit_once(')')?;
    let ticks: f64 = behind_name.split_whitespace().nth(19)?.parse().ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_begun_not_long_ago_and_has_some_memory() {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let age = now - started().unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        assert!(resident().unwrap() > 1 << 16);
    }
}
