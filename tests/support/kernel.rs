//! What the kernel tells about sockets and processes, without touching them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A row of `/proc/net/tcp` or `/proc/net/tcp6`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpRow {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) state: u8,
    /// Bytes that the peer's kernel has not taken yet.
    pub(crate) unsent: u32,
    /// 2 is the keep-alive timer.
    pub(crate) timer: u8,
}

pub(crate) const SYN_SENT: u8 = 2;
pub(crate) const LISTEN: u8 = 10;

/// All TCP sockets of the machine.
pub(crate) fn tcp_rows() -> Vec<TcpRow> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| text.lines().skip(1).filter_map(parse_row).collect::<Vec<_>>())
        .collect()
}

pub(crate) fn is_listening(addr: SocketAddr) -> bool {
    tcp_rows().iter().any(|row| row.local == addr && row.state == LISTEN)
}

/// `sl local remote state queues timer:when …`, all hexadecimal.
fn parse_row(line: &str) -> Option<TcpRow> {
    let mut fields = line.split_whitespace().skip(1);
    let local = parse_addr(fields.next()?)?;
    let remote = parse_addr(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (unsent, _unread) = fields.next()?.split_once(':')?;
    let (timer, _when) = fields.next()?.split_once(':')?;
    let unsent = u32::from_str_radix(unsent, 16).ok()?;
    Some(TcpRow { local, remote, state, unsent, timer: u8::from_str_radix(timer, 16).ok()? })
}

/// The address is printed as 32-bit words in the machine's byte order.
fn parse_addr(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut octets = Vec::new();
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        octets.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(octets.as_slice()) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets.as_slice()).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// How many descriptors a process holds.
pub(crate) fn open_fds(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// How many descriptors below `limit` a process does not hold. It may have inherited others beyond it.
pub(crate) fn free_fds(pid: u32, limit: u32) -> usize {
    (0..limit).filter(|fd| fs::symlink_metadata(format!("/proc/{pid}/fd/{fd}")).is_err()).count()
}

/// The memory that a process has in use now.
pub(crate) fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
}

/// The processor time that a process has used, in clock ticks (100 a second).
pub(crate) fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // The second field, the name, may contain spaces; it ends at the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("a number of ticks");
    ticks(11) + ticks(12)
}
