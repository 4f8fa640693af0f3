//! What is wrong between values that are each fine: listeners in each other's way.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::draft::Draft;
use super::report::{KeyPath, Problems, Wrong};
use super::tls::{ClientTls, Tls};
use super::{Admin, DataPeer, DataPorts, ProxyProtocol, Selection, Upstream};
use crate::addr::{Family, Leg};

/// Reports every conflict.
pub(super) fn check(drafts: &[Draft], admin: Option<Admin>, problems: &mut Problems<'_>) {
    names(drafts, problems);
    binds(drafts, problems);
    ranges(drafts, problems);
    passthrough(drafts, problems);
    upstreams(drafts, problems);
    shares(drafts, problems);
    headers(drafts, problems);
    if let Some(admin) = admin {
        admin_port(drafts, admin, problems);
    }
}

/// What is read there is no FTP.
fn admin_port(drafts: &[Draft], Admin { bind }: Admin, problems: &mut Problems<'_>) {
    let at = KeyPath::default().key("admin").key("bind");
    let help = "give it a port of its own, like `127.0.0.1:9121`";
    let control = all_binds(drafts).find(|(_, _, addr)| addr.port() == bind.port() && overlap(addr.ip(), bind.ip()));
    if let Some((owner, first, taken)) = control {
        let place = format!("listener `{}`, line {}", owner.name(), problems.line(first));
        let what = format!("`{bind}` is the control port `{taken}` of {place}");
        return problems.report(&at, Wrong::new(what, help));
    }
    let data = own_ranges(drafts).map(|(draft, leg, range)| (draft, leg, draft.leg(leg).at.key("data_ports"), range));
    let relayed =
        drafts.iter().filter_map(|draft| Some((draft, Leg::Client, passthrough_at(draft), passthrough_ports(draft)?)));
    let taken = data
        .chain(relayed)
        .find(|(draft, leg, _, range)| range.contains(&bind.port()) && covers_address(draft, *leg, bind.ip()));
    if let Some((owner, _, range_at, range)) = taken {
        let place = format!("listener `{}`, line {}", owner.name(), problems.line(&range_at));
        let what = format!("port {} is one of `{}-{}` of {place}", bind.port(), range.start(), range.end());
        problems.report(&at, Wrong::new(what, help));
    }
}

fn names(drafts: &[Draft], problems: &mut Problems<'_>) {
    for (i, draft) in drafts.iter().enumerate() {
        let earlier = drafts[..i].iter().find(|earlier| earlier.name.is_some() && earlier.name == draft.name);
        let Some(earlier) = earlier else { continue };
        // Listeners without a name are called after their address, which `binds` reports.
        let (at, first) = (draft.at.key("name"), earlier.at.key("name"));
        if problems.stands(&at) || problems.stands(&first) {
            let what = format!("`{}` is the name of the listener on line {} too", draft.name(), problems.line(&first));
            problems.report(&at, Wrong::new(what, "give each listener a name of its own"));
        }
    }
}

fn binds(drafts: &[Draft], problems: &mut Problems<'_>) {
    let all: Vec<(&Draft, &KeyPath, SocketAddr)> = all_binds(drafts).collect();
    for (i, (_, at, addr)) in all.iter().enumerate() {
        let earlier = all[..i].iter().find(|(_, _, e)| e.port() == addr.port() && overlap(e.ip(), addr.ip()));
        let Some((owner, first, taken)) = earlier else { continue };
        let place = format!("listener `{}`, line {}", owner.name(), problems.line(first));
        let what = if taken == addr {
            format!("`{addr}` is taken by {place}")
        } else {
            format!("`{addr}` and `{taken}` ({place}) include the same address and port")
        };
        problems.report(at, Wrong::new(what, "give one of the two another address or port"));
    }
}

/// A data port that is also somebody's control port would be bound twice, or hand clients to the wrong side.
fn ranges(drafts: &[Draft], problems: &mut Problems<'_>) {
    for (draft, leg, range) in own_ranges(drafts) {
        let at = draft.leg(leg).at.key("data_ports");
        for (owner, bind_at, addr) in all_binds(drafts) {
            if range.contains(&addr.port()) && covers_address(draft, leg, addr.ip()) {
                let port = addr.port();
                let place = format!("listener `{}`, line {}", owner.name(), problems.line(bind_at));
                let what = format!("includes {port}, the control port `{addr}` of {place}");
                problems.report(&at, Wrong::new(what, without(range, port)));
            }
        }
    }
}

/// Every range of data ports that is ours, and whose it is.
fn own_ranges(drafts: &[Draft]) -> impl Iterator<Item = (&Draft, Leg, &RangeInclusive<u16>)> {
    let legs = drafts.iter().flat_map(|draft| Leg::BOTH.map(|leg| (draft, leg)));
    legs.filter_map(|(draft, leg)| match &draft.leg(leg).data_ports {
        Some(DataPorts::Range(range)) => Some((draft, leg, range)),
        Some(DataPorts::Any) | None => None,
    })
}

/// A leg's data ports are open on its own addresses. Those of the server leg are not known before a server
/// has been reached: it may be any address of this machine.
fn covers_address(draft: &Draft, leg: Leg, ip: IpAddr) -> bool {
    match leg {
        Leg::Client => draft.bind.iter().any(|(_, own)| overlap(own.ip(), ip)),
        Leg::Server => true,
    }
}

/// A port that is relayed to the server as it is can be nothing else at the same address: no control port, no data
/// port of ours, and no port of another listener's server.
fn passthrough(drafts: &[Draft], problems: &mut Problems<'_>) {
    for (i, draft) in drafts.iter().enumerate() {
        let Some(range) = passthrough_ports(draft) else { continue };
        let at = passthrough_at(draft);
        for (owner, bind_at, addr) in all_binds(drafts) {
            if range.contains(&addr.port()) && covers_address(draft, Leg::Client, addr.ip()) {
                let place = format!("listener `{}`, line {}", owner.name(), problems.line(bind_at));
                let what = format!("includes {}, the control port `{addr}` of {place}", addr.port());
                problems.report(&at, Wrong::new(what, without(range, addr.port())));
            }
        }
        let own = own_ranges(drafts);
        let own = own.map(|(other, leg, taken)| (other, leg, other.leg(leg).at.key("data_ports"), taken));
        let relayed = drafts[..i]
            .iter()
            .filter_map(|other| Some((other, Leg::Client, passthrough_at(other), passthrough_ports(other)?)));
        for (other, leg, other_at, taken) in own.chain(relayed) {
            let first = *range.start().max(taken.start());
            let shares_address = draft.bind.iter().any(|(_, addr)| covers_address(other, leg, addr.ip()));
            if shares_address && range.contains(&first) && taken.contains(&first) {
                let place = format!("listener `{}`, line {}", other.name(), problems.line(&other_at));
                let what = format!("includes {first}, which is in `{}-{}` of {place}", taken.start(), taken.end());
                let help = "choose ports of their own for the two: these are the server's, the others are ours";
                problems.report(&at, Wrong::new(what, help));
            }
        }
    }
}

fn passthrough_ports(draft: &Draft) -> Option<&RangeInclusive<u16>> {
    match &draft.tls {
        Some(Tls { client: ClientTls::Passthrough { ports }, .. }) => ports.as_ref(),
        Some(_) | None => None,
    }
}

fn passthrough_at(draft: &Draft) -> KeyPath {
    draft.at.key("tls").key("client").key("passthrough_ports")
}

fn without(range: &RangeInclusive<u16>, port: u16) -> String {
    let (first, last) = (*range.start(), *range.end());
    let (below, above) = (port - first, last - port);
    match (below, above) {
        (0, 0) => "choose another port".into(),
        _ if below > above => format!("write `{first}-{}`, or choose other ports", port - 1),
        _ => format!("write `{}-{last}`, or choose other ports", port + 1),
    }
}

/// Where a port waits for anybody, no port waits for one address: a share of them would be that of all clients.
fn shares(drafts: &[Draft], problems: &mut Problems<'_>) {
    for draft in drafts {
        if draft.client.data_peer == DataPeer::Any && draft.limits.pending_ports_per_address.is_some() {
            let what = "with `client.data_peer: any` all clients would count as one address";
            let help = "remove it, or write `data_peer: exact` or `data_peer: subnet`";
            problems.report(&draft.at.key("limits").key("pending_ports_per_address"), Wrong::new(what, help));
        }
    }
}

/// What a data port expects first belongs to the port, not to a session: nobody can tell whose a connection is before
/// its header has been read.
fn headers(drafts: &[Draft], problems: &mut Problems<'_>) {
    for draft in drafts {
        let has_headers = matches!(draft.proxy_protocol, Some(Some(_)));
        if has_headers && draft.upstream.as_ref().is_some_and(Selection::intercepts) {
            let what = "with `upstream: original-destination` the server is whom a connection was opened to, and a load \
                        balancer opens them to ftp-alg itself";
            let help = "remove it, or name the server in `upstream`";
            problems.report(&draft.client.at.key("proxy_protocol"), Wrong::new(what, help));
        }
        if header_on_data(draft, Leg::Client).is_some() && draft.client.data_ports == Some(DataPorts::Any) {
            let help = "write the range of ports that the load balancer forwards, like `20000-20020`; or `data: false` if \
                        data connections do not come through it";
            let wrong = Wrong::new("a load balancer cannot know the ports behind `any`", help);
            problems.report(&draft.client.at.key("data_ports"), wrong);
        }
    }
    let legs: Vec<(&Draft, Leg, &RangeInclusive<u16>)> =
        own_ranges(drafts).filter(|(draft, ..)| draft.proxy_protocol.is_some()).collect();
    for (i, (draft, leg, range)) in legs.iter().enumerate() {
        let shares = |(other, other_leg, taken): &&(&Draft, Leg, &RangeInclusive<u16>)| {
            let address = draft.bind.iter().any(|(_, own)| covers_address(other, *other_leg, own.ip()))
                || other.bind.iter().any(|(_, other)| covers_address(draft, *leg, other.ip()));
            address && range.start() <= taken.end() && taken.start() <= range.end()
        };
        let wanted = header_on_data(draft, *leg);
        let other = legs[..i].iter().filter(shares).find(|(other, leg, _)| header_on_data(other, *leg) != wanted);
        let Some((other, other_leg, taken)) = other else { continue };
        let first = range.start().max(taken.start());
        let place = problems.line(&other.leg(*other_leg).at.key("data_ports"));
        let what = match (wanted, header_on_data(other, *other_leg)) {
            (Some(_), Some(_)) => "from other load balancers",
            (Some(_), None) => "without a PROXY header",
            (None, _) => "with a PROXY header",
        };
        let what = format!("shares port {first} with line {place}, where connections come {what}");
        let help = "choose ports of their own for the two, or give both the same `proxy_protocol`";
        problems.report(&draft.leg(*leg).at.key("data_ports"), Wrong::new(what, help));
    }
}

/// From whom connections to this leg's data ports have to bring a header; `None`: they bring none. A server never does.
fn header_on_data(draft: &Draft, leg: Leg) -> Option<BTreeSet<IpNet>> {
    match (leg, &draft.proxy_protocol) {
        (Leg::Client, Some(Some(ProxyProtocol { trusted, data: true }))) => Some(trusted.iter().copied().collect()),
        (Leg::Client | Leg::Server, _) => None,
    }
}

/// A proxy that is its own server connects to itself until it runs out of sockets.
fn upstreams(drafts: &[Draft], problems: &mut Problems<'_>) {
    for draft in drafts {
        for (at, upstream) in &draft.servers {
            let own = all_binds(drafts).find(|(_, _, bind)| is_own(upstream, *bind));
            let Some((owner, bind_at, bind)) = own else { continue };
            let place = format!("listener `{}`, line {}", owner.name(), problems.line(bind_at));
            let what = format!("`{upstream}` is this proxy itself: `{bind}` of {place}");
            let help = "write the address and port of the FTP server behind it; a server on this machine needs a port \
                        of its own";
            problems.report(at, Wrong::new(what, help));
        }
    }
}

fn is_own(upstream: &Upstream, bind: SocketAddr) -> bool {
    match upstream {
        Upstream::Address(addr) => reaches(*addr, bind),
        // RFC 6761 §6.3: always the loopback address.
        Upstream::Name { host, port } if host.trim_end_matches('.').eq_ignore_ascii_case("localhost") => {
            let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            loopback.into_iter().any(|ip| reaches(SocketAddr::new(ip, *port), bind))
        }
        Upstream::Name { .. } => false,
    }
}

/// Whether connecting to `addr` ends at `bind`. Behind a wildcard are all addresses of this machine, of which
/// the loopback ones are known without asking it.
pub(super) fn reaches(addr: SocketAddr, bind: SocketAddr) -> bool {
    let is_behind =
        bind.ip().is_unspecified() && addr.ip().is_loopback() && Family::of(addr.ip()) == Family::of(bind.ip());
    addr.port() == bind.port() && (addr.ip() == bind.ip() || is_behind)
}

fn all_binds(drafts: &[Draft]) -> impl Iterator<Item = (&Draft, &KeyPath, SocketAddr)> {
    drafts.iter().flat_map(|draft| draft.bind.iter().map(move |(at, addr)| (draft, at, *addr)))
}

/// Whether two addresses to listen on include a common one. IPv6 sockets are V6ONLY.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    Family::of(a) == Family::of(b) && (a == b || a.is_unspecified() || b.is_unspecified())
}
