//! What is permitted and yet likely to go wrong on this machine.

pub mod family;

use std::fmt;
use std::ops::RangeInclusive;

use super::tls::{ClientTls, Verify};
use super::{Config, DataPorts, Listener};

/// A range of ports from which the kernel may hand ports to any outgoing connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    listener: String,
    key: &'static str,
    ports: RangeInclusive<u16>,
    kernel: RangeInclusive<u16>,
    reserve: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "listener `{}`: {}: the kernel takes ports of {} for outgoing connections (ip_local_port_range \
             is {}-{}), so some may be missing when they are needed; keep them free with `sysctl -w \
             net.ipv4.ip_local_reserved_ports={}`, and the same setting in /etc/sysctl.d for the next boot",
            self.listener,
            self.key,
            PortList(&[bounds(&self.ports)]),
            self.kernel.start(),
            self.kernel.end(),
            self.reserve,
        )
    }
}

/// Data ports within the kernel's range for outgoing connections that nobody reserved, for the text of
/// `/proc/sys/net/ipv4/ip_local_port_range` and of `ip_local_reserved_ports`. A text that is not understood
/// gives no warnings.
#[must_use]
pub fn ephemeral_ports(config: &Config, port_range: &str, reserved: &str) -> Vec<Warning> {
    let mut words = port_range.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (words.next(), words.next()) else { return Vec::new() };
    let Some(reserved) = parse_list(reserved) else { return Vec::new() };
    let all = config.listeners.iter().flat_map(|l| ranges(l).map(move |(key, ports)| (l, key, bounds(ports))));
    let ranges = all.clone().map(|(_, _, bounds)| bounds);
    // One command for all of them: the setting is replaced as a whole.
    let reserve = merged(reserved.iter().copied().chain(ranges).collect());
    all.filter_map(|(listener, key, (from, to))| {
        let (from, to) = (from.max(first), to.min(last));
        let is_reserved = |port: u16| reserved.iter().any(|(a, b)| (*a..=*b).contains(&port));
        let open: Vec<u16> = (from..=to).filter(|port| !is_reserved(*port)).collect();
        Some(Warning {
            listener: listener.name.clone(),
            key,
            ports: *open.first()?..=*open.last()?,
            kernel: first..=last,
            reserve: PortList(&reserve).to_string(),
        })
    })
    .collect()
}

/// An admin interface that others than this machine's own programs may reach.
#[must_use]
pub fn exposed_admin(config: &Config) -> Option<String> {
    let bind = config.admin?.bind;
    (!bind.ip().is_loopback()).then(|| {
        format!(
            "admin.bind: {bind} is no loopback address, and nobody is asked who they are there: whoever can connect sees \
             who is logged in and what is transferred, and can end sessions; write `127.0.0.1:{}`, or let a firewall admit \
             the monitoring alone",
            bind.port()
        )
    })
}

/// The listeners whose server may be anybody.
pub fn unverified(config: &Config) -> impl Iterator<Item = &Listener> {
    config.listeners.iter().filter(|l| l.tls.server.identity().is_some_and(|server| server.verify == Verify::Nobody))
}

/// Every range that is bound at start, and the key that names it.
fn ranges(listener: &Listener) -> impl Iterator<Item = (&'static str, &RangeInclusive<u16>)> + Clone {
    let range = |ports| match ports {
        &DataPorts::Any => None,
        DataPorts::Range(range) => Some(range),
    };
    let passthrough = match &listener.tls.client {
        ClientTls::Passthrough { ports } => ports.as_ref(),
        ClientTls::Refuse | ClientTls::Terminate(_) => None,
    };
    [
        ("client.data_ports", range(&listener.client.data_ports)),
        ("server.data_ports", range(&listener.server.data_ports)),
        ("tls.client.passthrough_ports", passthrough),
    ]
    .into_iter()
    .filter_map(|(key, range)| Some((key, range?)))
}

fn bounds(range: &RangeInclusive<u16>) -> (u16, u16) {
    (*range.start(), *range.end())
}

/// `8080,9148-9150`, as the kernel writes it.
fn parse_list(text: &str) -> Option<Vec<(u16, u16)>> {
    let entries = text.trim().split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
            Some((first.parse().ok()?, last.parse().ok()?))
        })
        .collect()
}

/// In order, without overlaps.
fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(previous) if u32::from(first) <= u32::from(previous.1) + 1 => previous.1 = previous.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

struct PortList<'a>(&'a [(u16, u16)]);

impl fmt::Display for PortList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "," })?;
            write!(f, "{first}")?;
            if first != last {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(client: &str, server: &str, port_range: &str, reserved: &str) -> Vec<String> {
        let text = format!(
            "listeners:\n- name: ftp\n  bind: 0.0.0.0:21\n  upstream: 172.16.0.20\n  client:\n    \
             address_map: [{{ peers: any, announce: local }}]\n    data_ports: {client}\n  server: {{ data_ports: {server} }}\n"
        );
        let config = Config::parse(&text, "proxy.yaml").unwrap();
        ephemeral_ports(&config, port_range, reserved).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sec_27_a_range_that_the_kernel_uses_is_warned_of() {
        let warnings = warnings("40000-40020", "20000-20020", "32768\t60999\n", "8080,9148-9150\n");
        assert_eq!(
            warnings,
            ["listener `ftp`: client.data_ports: the kernel takes ports of 40000-40020 for outgoing connections \
              (ip_local_port_range is 32768-60999), so some may be missing when they are needed; keep them free with \
              `sysctl -w net.ipv4.ip_local_reserved_ports=8080,9148-9150,20000-20020,40000-40020`, and the same \
              setting in /etc/sysctl.d for the next boot"]
        );
    }

    #[test]
    fn a_reserved_range_or_one_outside_the_kernels_is_quiet() {
        assert_eq!(warnings("40000-40020", "any", "32768 60999", "40000-40020\n"), [""; 0]);
        assert_eq!(warnings("20000-20020", "any", "32768 60999", "\n"), [""; 0]);
        assert_eq!(warnings("40000-40020", "any", "", ""), [""; 0]);
    }

    #[test]
    fn only_the_ports_that_are_left_are_named() {
        let partly = warnings("32760-32770", "any", "32768 60999", "32768");
        assert!(partly[0].contains("ports of 32769-32770 for"), "{partly:?}");
        assert!(partly[0].contains("ports=32760-32770`"), "{partly:?}");
        assert_eq!(warnings("40000", "50000", "32768 60999", "").len(), 2);
    }
}
