//! Single values: text in, the type that the proxy works with out, or what to write instead.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::{IpNet, Ipv4Net};

use super::report::Wrong;
use super::{CommandName, DataMode, DataPeer, DataPorts, FROM_USER, ORIGINAL_DESTINATION, SourcePort, Upstream};
use crate::addr::canonical;
use crate::ftp::host::is_dns_name;
use crate::nat::destinations::{Permit, Place};
use crate::nat::map::{Announce, Peers, ResolvedName};
use crate::nat::policy::FIRST_USER_PORT;

/// The control port of FTP (RFC 959 §8).
pub(super) const FTP_PORT: u16 = 21;

/// Every port of a range is a listening socket, and often a rule that a cloud charges or limits: 4,096 is far
/// beyond what transfers need, because one port serves many of them, and within a default limit on open files
/// of 8,192 or more.
pub(super) const MAX_RANGE: u32 = 4096;

/// A longer wait is a slip of the pen, and a far longer one overflows the clock.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(super) type Parsed<T> = Result<T, Wrong>;

/// A name for logs.
pub(super) fn name(text: &str) -> Parsed<String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Wrong::new("not usable as a name", "write a short word, like `ftp`"));
    }
    Ok(text.into())
}

/// Where clients connect: an address with a port.
pub(super) fn bind(text: &str) -> Parsed<SocketAddr> {
    let addr = text.parse::<SocketAddr>().map(canonical).map_err(|_| not_a_bind_address(text))?;
    if addr.port() == 0 {
        let help =
            format!("write the port that clients connect to, usually `{}`", SocketAddr::new(addr.ip(), FTP_PORT));
        return Err(Wrong::new("port 0 is a different port at every start", help));
    }
    if !is_unicast(addr.ip()) && !addr.ip().is_unspecified() {
        return Err(Wrong::new(format!("`{}` is not an address of a machine", addr.ip()), "write `0.0.0.0:21`"));
    }
    Ok(addr)
}

fn not_a_bind_address(text: &str) -> Wrong {
    let what = format!("`{text}` is not an address with a port");
    if let Some(port) = text.strip_prefix("*:").or(text.strip_prefix(':')).or(Some(text)).filter(|p| is_port(p)) {
        return Wrong::new(what, format!("write `0.0.0.0:{port}` for all IPv4 addresses of this machine"));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse() {
        return Wrong::new(what, format!("write `{}`", SocketAddr::new(ip, FTP_PORT)));
    }
    Wrong::new(what, "write an address of this machine and the control port, like `0.0.0.0:21` or `[::]:21`")
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|p| p != 0)
}

/// The FTP server: `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn upstream(text: &str) -> Parsed<Upstream> {
    let (host, port) = split_port(text)?;
    let ip = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let Ok(ip) = ip.parse::<IpAddr>() else {
        return Ok(Upstream::Name { host: dns_name(host)?, port });
    };
    let ip = ip.to_canonical();
    if !is_unicast(ip) {
        let help = "write the address at which this machine reaches the FTP server";
        return Err(Wrong::new(format!("`{ip}` is not an address of a server"), help));
    }
    Ok(Upstream::Address(SocketAddr::new(ip, port)))
}

/// What `upstream` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    Server(Upstream),
    OriginalDestination,
    FromUser,
}

/// A server, or how one is found.
pub(super) fn chosen(text: &str) -> Parsed<Chosen> {
    match text {
        ORIGINAL_DESTINATION => return Ok(Chosen::OriginalDestination),
        FROM_USER => return Ok(Chosen::FromUser),
        _ => {}
    }
    // It would pass for a DNS name.
    if let Some(word) = [ORIGINAL_DESTINATION, FROM_USER].into_iter().find(|word| is_misspelt(text, word)) {
        return Err(Wrong::new(format!("`{text}` is not known"), format!("write `{word}`")));
    }
    upstream(text).map(Chosen::Server)
}

/// Servers that may be reached: a network, an address, a name or `*.` and a name, with a port or a range of them.
pub(super) fn permit(text: &str) -> Parsed<Permit> {
    let (place, ports) = split_ports(text)?;
    let bare = place.strip_prefix('[').and_then(|place| place.strip_suffix(']')).unwrap_or(place);
    let name = |text: &str| dns_name(text).map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    let place = match bare.strip_prefix("*.") {
        Some(parent) => Place::Below(name(parent)?),
        None if bare.contains('/') || bare.parse::<IpAddr>().is_ok() => Place::Net(network(bare)?),
        None => Place::Name(name(place).map_err(|wrong| {
            let help = "write a network like `10.0.0.0/8`, an address, a name, or `*.example.com`; and another port \
                        than 21 behind it, like `10.0.0.0/8:2121`";
            Wrong::new(wrong.what.replace("neither an address nor", "neither a network, nor an address, nor"), help)
        })?),
    };
    Ok(Permit { place, ports })
}

/// `:port` or `:first-last` at the end; a colon of IPv6 is none of it unless brackets end before.
fn split_ports(text: &str) -> Parsed<(&str, RangeInclusive<u16>)> {
    let split = text.rsplit_once(':').filter(|(place, _)| !place.contains(':') || place.ends_with(']'));
    let Some((place, ports)) = split.filter(|_| !text.ends_with(']')) else {
        return Ok((text, FTP_PORT..=FTP_PORT));
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first > 0 && first <= last => Ok((place, first..=last)),
        _ => {
            let help = format!("write `{place}:{FTP_PORT}`, or a range like `{place}:2100-2199`");
            Err(Wrong::new(format!("`{ports}` is neither a port nor a range of ports"), help))
        }
    }
}

fn split_port(text: &str) -> Parsed<(&str, u16)> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let help = format!("write `{}`", rest.trim_end_matches('/'));
        return Err(Wrong::new(format!("`{scheme}://` in place of a host"), help));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
            let help = format!("write `[{text}]:{FTP_PORT}`: brackets tell an IPv6 address from its port");
            return Err(Wrong::new("an IPv6 address without brackets", help));
        }
        Some((host, port)) if !text.ends_with(']') => (host, port),
        _ => return Ok((text, FTP_PORT)),
    };
    if !is_port(port) {
        let help = format!("write `{host}:{FTP_PORT}`; ports are 1 to 65535");
        return Err(Wrong::new(format!("`{port}` is not a port"), help));
    }
    Ok((host, port.parse().unwrap_or(FTP_PORT)))
}

fn dns_name(text: &str) -> Parsed<String> {
    if !is_dns_name(text) {
        let what = format!("`{text}` is neither an address nor a DNS name");
        return Err(Wrong::new(what, "write one like `172.16.0.20`, `[2001:db8::20]` or `ftp.example.com`"));
    }
    Ok(text.into())
}

/// Which peers a rule of an address map is for.
pub(super) fn peers(text: &str) -> Parsed<Peers> {
    if text == "any" {
        return Ok(Peers::Any);
    }
    if matches!(text, "all" | "*" | "Any" | "ANY" | "everybody") {
        return Err(Wrong::new(format!("`{text}` is not a network"), "write `any`"));
    }
    network(text).map(Peers::Net)
}

/// A network, or an address for the network that is only it.
pub(super) fn network(text: &str) -> Parsed<IpNet> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip.to_canonical()));
    }
    let net = text.parse::<IpNet>().map_err(|_| {
        let help = "write a network like `172.16.0.0/16`, or an address";
        Wrong::new(format!("`{text}` is not a network"), help)
    })?;
    if net.addr() != net.network() {
        let what = format!("`{text}` is an address within a network");
        let help = format!("write `{}` for the network, or `{}` for that address alone", net.trunc(), net.addr());
        return Err(Wrong::new(what, help));
    }
    Ok(canonical_net(net))
}

/// Where load balancers connect from. Whoever is within can say to be anybody.
pub(super) fn trusted(text: &str) -> Parsed<IpNet> {
    let net = network(text)?;
    if net.prefix_len() == 0 {
        let help = "write the addresses or networks that the load balancers connect from, like `10.0.0.0/8`";
        return Err(Wrong::new(format!("with `{text}` anybody could pretend to be any client"), help));
    }
    Ok(net)
}

/// Peers are compared in canonical form, so `::ffff:a.b.c.d/n` has to be IPv4 too.
fn canonical_net(net: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let IpNet::V6(v6) = net else { return net };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(MAPPED));
    v4.and_then(|(ip, len)| Ipv4Net::new(ip, len).ok()).map_or(net, IpNet::V4)
}

/// What the peers of a rule are told.
pub(super) fn announce(text: &str) -> Parsed<Announce> {
    match text {
        "local" => return Ok(Announce::Local),
        "control-address" => return Ok(Announce::ControlAddress),
        "auto" => {
            let help = "write the public address, or a DNS name that points to it";
            return Err(Wrong::new("`auto` is not supported yet", help));
        }
        _ => {}
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return announced_address(ip.to_canonical());
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        let help = format!("write `{}`: the port comes from `data_ports`", addr.ip());
        return Err(Wrong::new("an address with a port", help));
    }
    if let Some(word) = ["local", "control-address"].into_iter().find(|word| is_misspelt(text, word)) {
        return Err(Wrong::new(format!("`{text}` is not known"), format!("write `{word}`")));
    }
    let name = dns_name(text).map_err(|wrong| {
        let help = "write an address like `203.0.113.10`, `local`, `control-address`, or a DNS name";
        Wrong::new(wrong.what, help)
    })?;
    Ok(Announce::Name(Arc::new(ResolvedName::new(name))))
}

/// What stands in a list: one thing, or an address of each family. `None` for an empty list.
pub(super) fn announce_all(mut all: Vec<Announce>) -> Parsed<Option<Announce>> {
    if all.len() < 2 {
        return Ok(all.pop());
    }
    match all[..] {
        [Announce::Address(IpAddr::V4(v4)), Announce::Address(IpAddr::V6(v6))]
        | [Announce::Address(IpAddr::V6(v6)), Announce::Address(IpAddr::V4(v4))] => {
            Ok(Some(Announce::PerFamily(v4, v6)))
        }
        _ => Err(Wrong::new(
            "a list that is not an IPv4 and an IPv6 address",
            "write one address of each family, like `[203.0.113.10, \"2001:db8::10\"]`; a DNS name stands alone and \
             may have both, and so do `local` and `control-address`",
        )),
    }
}

fn announced_address(ip: IpAddr) -> Parsed<Announce> {
    if ip.is_unspecified() {
        let what = format!("`{ip}` names no machine");
        let help = "write `control-address` to have clients use the address of the control connection (few clients \
                    know that), or the address at which they reach this machine";
        return Err(Wrong::new(what, help));
    }
    if !is_unicast(ip) {
        let kind = if ip.is_multicast() { "a multicast" } else { "a broadcast" };
        return Err(Wrong::new(
            format!("`{ip}` is {kind} address"),
            "write the address at which peers reach this machine",
        ));
    }
    Ok(Announce::Address(ip))
}

/// A slip such as `Local` or `controladdress`, which would pass for a DNS name.
fn is_misspelt(text: &str, word: &str) -> bool {
    strsim::damerau_levenshtein(&text.to_lowercase(), word) <= 2
}

fn is_unicast(ip: IpAddr) -> bool {
    !(ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST))
}

/// `any` or `20`.
pub(super) fn source_port(text: &str) -> Parsed<SourcePort> {
    match text {
        "any" => Ok(SourcePort::Any),
        "20" => Ok(SourcePort::FtpData),
        _ => Err(Wrong::new(format!("`{text}` is not a source port"), "write `any`, or `20`, the port of ftp-data")),
    }
}

/// `exact`, `subnet` or `any`: of clients.
pub(super) fn data_peer(text: &str) -> Parsed<DataPeer> {
    match text {
        "exact" => Ok(DataPeer::Exact),
        "subnet" => Ok(DataPeer::Subnet),
        "any" => Ok(DataPeer::Any),
        _ => Err(Wrong::new(
            format!("`{text}` is not a rule for data connections"),
            "write `exact` (the address of the control connection), `subnet` (any address of its /24 or /64) or `any`",
        )),
    }
}

/// The words that `server.data_peer` takes in place of networks.
pub(super) fn server_data_peer_word(text: &str) -> Option<DataPeer> {
    match text {
        "exact" => Some(DataPeer::Exact),
        "subnet" => Some(DataPeer::Subnet),
        _ => None,
    }
}

/// One of the networks that a server connects from.
pub(super) fn server_network(text: &str) -> Parsed<IpNet> {
    let help = "write `exact` (the address of the control connection), `subnet` (any address of its /24 or /64), or the \
                networks that it connects from, like `[198.51.100.32/28]`";
    let anybody = || {
        let what =
            format!("with `{text}` anybody could pass for the server: leave a file in its name, or take an upload");
        Wrong::new(what, help)
    };
    if text == "any" {
        return Err(anybody());
    }
    let net = match text {
        "exact" | "subnet" => Err(Wrong::new(format!("`{text}` beside networks"), "keep one of the two")),
        _ if text.contains(['.', ':', '/']) => network(text),
        _ => Err(Wrong::new(format!("`{text}` is not a rule for data connections"), help)),
    }?;
    if net.prefix_len() == 0 { Err(anybody()) } else { Ok(net) }
}

/// `20000-20020`, `20000` or `any`.
pub(super) fn data_ports(text: &str) -> Parsed<DataPorts> {
    if text == "any" {
        return Ok(DataPorts::Any);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let bounds = first.trim().parse::<u16>().ok().zip(last.trim().parse::<u16>().ok());
    let (first, last) = bounds.ok_or_else(|| {
        let help = "write a range like `20000-20020`, one port like `20000`, or `any`; ports are 1024 to 65535";
        Wrong::new(format!("`{text}` is not a range of ports"), help)
    })?;
    if first > last {
        return Err(Wrong::new(format!("`{text}` is reversed"), format!("write `{last}-{first}`")));
    }
    if first < FIRST_USER_PORT {
        let what = format!("port {first} is privileged, and peers refuse such ports for data");
        return Err(Wrong::new(what, "use ports from 1024 on, like `20000-20020`"));
    }
    let count = u32::from(last) - u32::from(first) + 1;
    if count > MAX_RANGE {
        let what = format!("{count} ports are more than {MAX_RANGE}");
        let help = format!(
            "write `{first}-{}` or fewer: one port serves any number of established transfers",
            u32::from(first) + MAX_RANGE - 1
        );
        return Err(Wrong::new(what, help));
    }
    Ok(DataPorts::Range(first..=last))
}

/// `same`, `passive` or `active`.
pub(super) fn data_mode(text: &str) -> Parsed<DataMode> {
    match text {
        "same" => Ok(DataMode::Same),
        "passive" => Ok(DataMode::Passive),
        "active" => Ok(DataMode::Active),
        _ => Err(Wrong::new(format!("`{text}` is not a data mode"), "write `same`, `passive` or `active`")),
    }
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    text.parse().map_err(|_| Wrong::new(format!("`{text}` is neither true nor false"), "write `true` or `false`"))
}

/// A time with its unit.
pub(super) fn timeout(text: &str) -> Parsed<Duration> {
    let duration = humantime::parse_duration(text).map_err(|_| {
        let help = match text.trim().parse::<u64>() {
            Ok(seconds) if seconds > 0 => format!("add the unit: `{seconds}s`, `{seconds}ms` or `{seconds}m`"),
            _ => "write a number and a unit, like `30s` or `15m`".into(),
        };
        Wrong::new(format!("`{text}` is not a time"), help)
    })?;
    if duration.is_zero() {
        return Err(Wrong::new(
            "no time at all",
            "write more than zero, like `30s`; leave the key out for its default",
        ));
    }
    if duration > MAX_TIMEOUT {
        return Err(Wrong::new("longer than a year", "write `365days` or less"));
    }
    Ok(duration)
}

/// How many there may be.
pub(super) fn count(text: &str) -> Parsed<NonZeroU32> {
    text.parse().map_err(|_| {
        let help = "write a whole number from 1 on, like `100`; leave the key out for its default";
        Wrong::new(format!("`{text}` is no limit"), help)
    })
}

/// The longest command line. Below 512 bytes, which are OpenBSD ftp-proxy's 500 and about what RFC 1123 had in mind,
/// ordinary paths no longer fit; beyond 64 KiB, which is what we have waiting on one leg at most, no server reads it.
pub(super) fn line(text: &str) -> Parsed<usize> {
    const LEAST: ByteSize = ByteSize::b(512);
    const MOST: ByteSize = ByteSize::kib(64);
    let size = text.parse::<ByteSize>().ok().filter(|_| !text.bytes().all(|b| b.is_ascii_digit()));
    let Some(size) = size else {
        let help = match text.parse::<u64>() {
            Ok(bytes) => format!("add the unit: `{bytes}B` or `{bytes}KiB`"),
            Err(_) => "write a number and a unit, like `4KiB`".into(),
        };
        return Err(Wrong::new(format!("`{text}` is not a size"), help));
    };
    if size < LEAST {
        return Err(Wrong::new(format!("`{text}` is too short for a command with a path"), "write `512B` or more"));
    }
    if size > MOST {
        return Err(Wrong::new(format!("`{text}` is more than a server reads"), "write `64KiB` or less"));
    }
    Ok(usize::try_from(size.as_u64()).expect("at most 64 KiB"))
}

/// A command that is refused.
pub(super) fn denied(text: &str) -> Parsed<CommandName> {
    let name = text.parse::<CommandName>().map_err(|error| {
        Wrong::new(format!("`{text}` is not a command: {error}"), "write one like `SITE`, `\"SITE EXEC\"` or `DELE`")
    })?;
    if name.is_whole_verb() && matches!(name.verb(), "USER" | "PASS" | "QUIT") {
        let help = "remove it; to keep clients out altogether, write the networks that may connect in `policy.allow`";
        return Err(Wrong::new(format!("without {} nobody can use the server", name.verb()), help));
    }
    Ok(name)
}

/// How many per second.
pub(super) fn rate(text: &str) -> Parsed<NonZeroU32> {
    text.parse().map_err(|_| {
        let help = "write a whole number from 1 on, like `10`; leave the key out to have no limit";
        Wrong::new(format!("`{text}` is not a number per second"), help)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help<T: std::fmt::Debug>(parsed: Parsed<T>) -> String {
        parsed.unwrap_err().help
    }

    #[test]
    fn upstreams_in_all_forms() {
        for (text, expected) in [
            ("172.16.0.20", "172.16.0.20:21"),
            ("172.16.0.20:2121", "172.16.0.20:2121"),
            ("[2001:db8::20]", "[2001:db8::20]:21"),
            ("[2001:db8::20]:2121", "[2001:db8::20]:2121"),
            ("[::ffff:172.16.0.20]", "172.16.0.20:21"),
            ("ftp.example.com", "ftp.example.com:21"),
            ("ftp_server:2121", "ftp_server:2121"),
        ] {
            assert_eq!(upstream(text).unwrap().to_string(), expected, "{text}");
        }
        assert_eq!(help(upstream("ftp://files.example.com/")), "write `files.example.com`");
        assert!(help(upstream("2001:db8::20")).starts_with("write `[2001:db8::20]:21`"));
        for wrong in ["", "0.0.0.0:21", "[::]", "224.0.0.1", "255.255.255.255", "host:0", "host:65536", "172.16.0.300"]
        {
            assert!(upstream(wrong).is_err(), "{wrong}");
        }
        for wrong in ["a b", "host:", "-a.example", "a..b", "[host]:21", "[::1]x", "ü.example"] {
            assert!(upstream(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn permits_are_for_port_21_unless_they_say_so() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8 port 21"),
            ("10.0.0.0/8:2121", "10.0.0.0/8 port 2121"),
            ("172.16.0.20", "172.16.0.20/32 port 21"),
            ("172.16.0.20:2100-2199", "172.16.0.20/32 ports 2100-2199"),
            ("2001:db8::/32", "2001:db8::/32 port 21"),
            ("[2001:db8::/32]:990", "2001:db8::/32 port 990"),
            ("[2001:db8::1]", "2001:db8::1/128 port 21"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8 port 21"),
            ("FTP.example.com.", "ftp.example.com port 21"),
            ("*.example.com:990", "*.example.com port 990"),
        ] {
            assert_eq!(permit(text).unwrap().to_string(), expected, "{text}");
        }
        for wrong in
            ["", "*", "*.", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/8:", "10.0.0.0/8:65536", "a.example:9-1", "a b"]
        {
            assert!(permit(wrong).is_err(), "{wrong}");
        }
        assert!(help(permit("*")).contains("`*.example.com`"));
    }

    #[test]
    fn bind_needs_an_address_and_a_port() {
        assert_eq!(bind("[::ffff:192.0.2.1]:21").unwrap().to_string(), "192.0.2.1:21");
        for (wrong, remedy) in
            [("0.0.0.0", "write `0.0.0.0:21`"), ("::", "write `[::]:21`"), ("[::1]", "write `[::1]:21`")]
        {
            assert_eq!(help(bind(wrong)), remedy);
        }
        for wrong in ["*:2121", ":2121", "2121"] {
            assert!(help(bind(wrong)).starts_with("write `0.0.0.0:2121`"), "{wrong}");
        }
        for wrong in ["", "localhost:21", "192.0.2.1:0", "192.0.2.1:65536", "224.0.0.1:21", "255.255.255.255:21"] {
            assert!(bind(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unspecified_multicast_or_broadcast_address_is_not_announced() {
        for wrong in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
            assert!(help(announce(wrong)).starts_with("write `control-address`"), "{wrong}");
        }
        for wrong in ["224.0.0.1", "255.255.255.255", "ff02::1"] {
            assert!(help(announce(wrong)).starts_with("write the address"), "{wrong}");
        }
    }

    #[test]
    fn announce_takes_addresses_words_and_names() {
        for (text, expected) in [
            ("203.0.113.10", "203.0.113.10"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("local", "local"),
            ("control-address", "control-address"),
            ("ftp.example.com", "ftp.example.com"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(announce(text).unwrap().to_string(), expected);
        }
        assert_eq!(help(announce("Local")), "write `local`");
        assert_eq!(help(announce("control_address")), "write `control-address`");
        assert_eq!(help(announce("auto")), "write the public address, or a DNS name that points to it");
        assert!(help(announce("203.0.113.10:21")).starts_with("write `203.0.113.10`:"));
        assert!(announce("203.0.113.300").is_err(), "no DNS name ends in a number");
    }

    #[test]
    fn ranges_have_edges() {
        assert_eq!(source_port("any"), Ok(SourcePort::Any));
        assert_eq!(source_port("20"), Ok(SourcePort::FtpData));
        assert!(source_port("21").is_err());
        assert_eq!(data_ports("any"), Ok(DataPorts::Any));
        assert_eq!(data_ports("20000"), Ok(DataPorts::Range(20000..=20000)));
        assert_eq!(data_ports("1024-1024"), Ok(DataPorts::Range(1024..=1024)));
        assert_eq!(data_ports("65535"), Ok(DataPorts::Range(65535..=65535)));
        assert_eq!(data_ports("20000-24095"), Ok(DataPorts::Range(20000..=24095)));
        assert!(help(data_ports("20000-24096")).starts_with("write `20000-24095`"));
        assert_eq!(help(data_ports("20020-20000")), "write `20000-20020`");
        for wrong in ["1023-2000", "0", "65536", "20000-", "-20000", "20000:20020", "20000-20010-20020", "all", ""] {
            assert!(data_ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_are_written_as_such() {
        assert_eq!(network("172.16.0.10").unwrap().to_string(), "172.16.0.10/32");
        assert_eq!(network("::ffff:10.0.0.0/104").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("2001:db8::/32").unwrap().to_string(), "2001:db8::/32");
        assert_eq!(
            help(network("172.16.0.10/16")),
            "write `172.16.0.0/16` for the network, or `172.16.0.10` for that address alone"
        );
        assert_eq!(peers("any"), Ok(Peers::Any));
        assert_eq!(help(peers("*")), "write `any`");
        for wrong in ["", "10.0.0.0/33", "10.0.0.*", "example.com"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_carry_units_and_are_not_zero() {
        assert_eq!(timeout("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(timeout("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(timeout("1h 30m"), Ok(Duration::from_secs(5400)));
        assert!(help(timeout("30")).starts_with("add the unit: `30s`"));
        for wrong in ["0s", "0", "0ms", "-1s", "", "soon", "366days", "99999999999999999999s"] {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_of_lines_carry_units_and_have_bounds() {
        assert_eq!(
            (line("4KiB"), line("512B"), line("64 KiB"), line("1kB")),
            (Ok(4096), Ok(512), Ok(65_536), Ok(1000))
        );
        assert_eq!(help(line("4096")), "add the unit: `4096B` or `4096KiB`");
        for wrong in ["511B", "0B", "65537B", "1GiB", "", "long", "-1KiB"] {
            assert!(line(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn commands_that_nobody_can_do_without_are_not_denied() {
        assert_eq!(denied("site exec").map(|name| name.to_string()), Ok("SITE EXEC".into()));
        for wrong in ["USER", "pass", "Quit"] {
            assert!(help(denied(wrong)).starts_with("remove it"), "{wrong}");
        }
        for wrong in ["", "SITE *", "DELE /etc/passwd", "SITE EXEC ls", "403"] {
            assert!(help(denied(wrong)).starts_with("write one like"), "{wrong}");
        }
    }

    #[test]
    fn the_remaining_words_and_numbers() {
        assert_eq!(rate("5").unwrap().get(), 5);
        assert_eq!(count("5").unwrap().get(), 5);
        assert!(count("0").is_err() && count("-1").is_err() && count("many").is_err());
        assert!(rate("0").is_err() && rate("1.5").is_err() && rate("4294967296").is_err());
        assert_eq!((boolean("true"), boolean("false")), (Ok(true), Ok(false)));
        assert!(boolean("yes").is_err());
        assert_eq!(data_mode("active"), Ok(DataMode::Active));
        assert_eq!(data_peer("exact"), Ok(DataPeer::Exact));
        assert_eq!(data_peer("subnet"), Ok(DataPeer::Subnet));
        assert_eq!(data_peer("any"), Ok(DataPeer::Any));
        assert!(help(data_peer("strict")).starts_with("write `exact`"));
        assert_eq!(server_network("198.51.100.32/28"), Ok("198.51.100.32/28".parse().unwrap()));
        assert_eq!(server_network("198.51.100.7"), Ok("198.51.100.7/32".parse().unwrap()));
        for anybody in ["any", "0.0.0.0/0", "::/0"] {
            assert!(server_network(anybody).unwrap_err().what.contains("anybody could pass for the server"));
        }
        assert!(help(server_network("strict")).starts_with("write `exact`"));
        assert_eq!(help(server_network("subnet")), "keep one of the two");
        assert!(data_mode("Active").is_err());
        assert!(name("a\nb").is_err());
    }
}
