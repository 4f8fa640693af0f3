//! Servers as clients name them: in HOST (RFC 7151), and behind the user's name for proxies (`USER user@host:port`).

use std::fmt;
use std::net::IpAddr;

/// A server's name or address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostName {
    /// A DNS name: lower case, without a dot at the end.
    Name(Box<str>),
    /// An address; IPv4-mapped ones are IPv4.
    Address(IpAddr),
}

impl HostName {
    /// Reads a name, an IPv4 address, or an address of either kind in brackets. `None` for anything else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let address = |text: &str| text.parse::<IpAddr>().ok().map(|ip| Self::Address(ip.to_canonical()));
        if let Some(literal) = text.strip_prefix('[') {
            return address(literal.strip_suffix(']')?);
        }
        // A colon would be that of a port.
        if let Some(v4) = address(text).filter(|_| !text.contains(':')) {
            return Some(v4);
        }
        is_dns_name(text).then(|| Self::Name(text.trim_end_matches('.').to_ascii_lowercase().into()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(ip @ IpAddr::V4(_)) => ip.fmt(f),
            Self::Address(ip @ IpAddr::V6(_)) => write!(f, "[{ip}]"),
        }
    }
}

/// RFC 1123 §2.1: letters, digits, hyphens; the last label is not all digits, or it would be an address.
/// Underscores are not allowed in host names, but exist in the DNS of Docker and of Windows domains.
#[must_use]
pub fn is_dns_name(text: &str) -> bool {
    let labels: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    let is_label = |label: &&str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let is_numeric = labels.last().is_none_or(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && !is_numeric && labels.iter().all(is_label)
}

/// What USER says to a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAtHost<'a> {
    /// What the server is to be told.
    pub user: &'a [u8],
    /// The server.
    pub host: HostName,
    /// Its control port, if it is named.
    pub port: Option<u16>,
}

impl<'a> UserAtHost<'a> {
    /// Reads `user@host`, `user@host:port`, and the same with an address of IPv6 in brackets. The last `@` decides: names
    /// of users have some, too. `None` without a user or a host.
    #[must_use]
    pub fn parse(argument: &'a [u8]) -> Option<Self> {
        let argument = argument.trim_ascii_end();
        let at = argument.iter().rposition(|b| *b == b'@')?;
        let (user, place) = (&argument[..at], &argument[at + 1..]);
        // Within brackets a colon is part of the address.
        let after_brackets = place.iter().rposition(|b| *b == b']').map_or(0, |end| end + 1);
        let (host, port) = match place[after_brackets..].iter().position(|b| *b == b':') {
            None => (place, None),
            Some(colon) => {
                let (host, port) = place.split_at(after_brackets + colon);
                (host, Some(port_number(&port[1..])?))
            }
        };
        let host = HostName::parse(host)?;
        (!user.is_empty()).then_some(Self { user, host, port })
    }
}

fn port_number(text: &[u8]) -> Option<u16> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(argument: &str) -> Option<String> {
        let UserAtHost { user, host, port } = UserAtHost::parse(argument.as_bytes())?;
        Some(format!("{} {host} {port:?}", user.escape_ascii()))
    }

    #[test]
    fn users_at_hosts_in_all_forms() {
        for (argument, expected) in [
            ("bob@ftp.example.com", "bob ftp.example.com None"),
            ("bob@FTP.Example.COM.:2121", "bob ftp.example.com Some(2121)"),
            ("bob@example.org@ftp.example.com", "bob@example.org ftp.example.com None"),
            ("DOMAIN\\bob@10.0.0.1:21 ", "DOMAIN\\\\bob 10.0.0.1 Some(21)"),
            ("bob@[2001:db8::1]", "bob [2001:db8::1] None"),
            ("bob@[2001:db8::1]:990", "bob [2001:db8::1] Some(990)"),
            ("b ob@[::ffff:10.0.0.1]:1", "b ob 10.0.0.1 Some(1)"),
            ("bob@localhost:65535", "bob localhost Some(65535)"),
        ] {
            assert_eq!(read(argument).as_deref(), Some(expected), "{argument}");
        }
    }

    #[test]
    fn what_names_no_user_or_no_host_is_not_understood() {
        for argument in [
            "",
            "bob",
            "@host",
            "bob@",
            "bob@:21",
            "bob@host:",
            "bob@host:0",
            "bob@host:65536",
            "bob@host:+21",
            "bob@host:21:21",
            "bob@2001:db8::1",
            "bob@[2001:db8::1",
            "bob@[host]",
            "bob@[2001:db8::1]x",
            "bob@10.0.0.256",
            "bob@ho st",
            "bob@a..b",
            "bob@host/",
            "bob@höst",
        ] {
            assert_eq!(read(argument), None, "{argument}");
        }
        assert_eq!(UserAtHost::parse(b"bob@\xff"), None);
    }
}
