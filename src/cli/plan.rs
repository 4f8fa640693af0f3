//! What a listener will do, and which ports have to be open for it, for the person who opens them.

mod servers;

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::tls;
use crate::addr::Family;
use crate::config::tls::ClientTls;
use crate::config::{
    DataMode, DataPeer, DataPorts, HeaderVersion, Limits, Listener, ProxyHeader, ProxyProtocol, Selection, Source,
    Upstream,
};
use crate::discover::Found;
use crate::nat::map::{AddressMap, Announce, Peers};
use crate::relay::Probe;
use crate::relay::tls::Facts;

/// The plan of one listener; its names have been resolved.
pub(super) struct Plan<'a> {
    pub(super) listener: &'a Listener,
    /// Where each server of `upstream` is now.
    pub(super) upstreams: &'a [Vec<IpAddr>],
    /// What has been seen of the servers of all listeners.
    pub(super) probes: &'a [Probe],
    /// What the listener's certificates say.
    pub(super) certificates: &'a [Facts],
    /// From which ports the kernel chooses where any will do, like `32768-60999`, if that is known.
    pub(super) ephemeral: Option<&'a str>,
    /// Whether connections to other machines' addresses could be taken.
    pub(super) may_be_transparent: bool,
    /// The public address, if it is announced.
    pub(super) public: Option<&'a Found>,
}

/// What `check` was allowed to do need not be what `run` will be.
const WITHOUT_CAPABILITY: &str = "nft REDIRECT; TPROXY needs CAP_NET_ADMIN, which this process has not";

/// The widest label of the lists below.
const LABEL: usize = 34;

impl Display for Plan<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let listener = self.listener;
        writeln!(f, "Listener `{}`", listener.name)?;
        match &listener.proxy_protocol {
            None => row(f, "clients connect to", join(&listener.bind))?,
            Some(rule) => {
                row(f, "load balancers connect to", join(&listener.bind))?;
                row(f, "load balancers", format!("{}; nobody else is let in", join(&rule.trusted)))?;
                row(f, "PROXY headers (v1, v2)", headers(rule))?;
            }
        }
        row(f, "clients admitted", self.admitted())?;
        if let Some(whom) = self.data_peers() {
            row(f, "data connections from", whom)?;
        }
        self.servers(f)?;
        if self.listener.upstream.intercepts() {
            let ways = if self.may_be_transparent { "nft REDIRECT and TPROXY" } else { WITHOUT_CAPABILITY };
            row(f, "connections led here by", ways)?;
        }
        if listener.source == Source::Client {
            row(f, "connections to it come from", "the client's own address")?;
        }
        if let Some(header) = listener.proxy_header {
            row(f, "PROXY protocol to the server", told_by(header))?;
        }
        row(f, "data connections to the server", describe(listener.data_mode))?;
        if let (true, Some(whom)) = (self.server_may_connect(), self.server_data_peers()) {
            row(f, "  in active mode from", whom)?;
        }
        self.encryption(f)?;
        self.limits(f)?;
        self.announced(f)?;
        self.ports_to_open(f)?;
        self.capacity(f)
    }
}

impl Plan<'_> {
    fn admitted(&self) -> String {
        self.listener.access.allow.as_deref().map_or_else(|| "everybody".into(), join)
    }

    /// Whose passive data connections are accepted, if not only those of the client's own address.
    fn data_peers(&self) -> Option<&'static str> {
        match self.listener.client.data_peer {
            DataPeer::Exact => None,
            DataPeer::Subnet => Some("any address of the client's /24 (IPv4) or /64 (IPv6)"),
            // Of networks only a server's are configured.
            DataPeer::Any | DataPeer::Networks(_) => Some("any address; whoever connects first gets the data"),
        }
    }

    /// The same of the server's data connections.
    fn server_data_peers(&self) -> Option<String> {
        match &self.listener.server.data_peer {
            DataPeer::Exact => None,
            DataPeer::Subnet => Some("any address of the server's /24 (IPv4) or /64 (IPv6)".into()),
            DataPeer::Networks(nets) => Some(format!("the server's own address, and {}", join(nets))),
            DataPeer::Any => Some("any address".into()),
        }
    }

    /// Those that are set.
    fn limits(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (limits, default) = (&self.listener.limits, Limits::default());
        if !self.listener.access.denied.is_empty() {
            row(f, "commands refused", join(&self.listener.access.denied))?;
        }
        if let Some(sessions) = limits.sessions {
            row(f, "sessions", format!("at most {sessions} at once"))?;
        }
        if let Some(sessions) = limits.sessions_per_address {
            row(f, "sessions of one client address", format!("at most {sessions} at once"))?;
        }
        if limits.line != default.line {
            row(f, "command lines", format!("at most {} bytes", limits.line))?;
        }
        if limits.login_failures != default.login_failures {
            let refused = u64::from(limits.login_failures.get()) * 2;
            let text = format!("slowed down from {} in ten minutes on, refused from {refused}", limits.login_failures);
            row(f, "failed logins of one address", text)?;
        }
        if let Some(rate) = limits.connects_per_second {
            row(f, "new sessions with the server", format!("at most {rate} per second, more wait"))?;
        }
        Ok(())
    }

    /// Nothing where nothing is encrypted, as is the default.
    fn encryption(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(client) = tls::with_clients(&self.listener.tls.client) {
            row(f, "TLS with clients", client)?;
        }
        if let Some(server) = tls::with_server(&self.listener.tls.server, &self.listener.upstream) {
            row(f, "TLS with the server", server)?;
        }
        for (i, facts) in self.certificates.iter().enumerate() {
            row(f, if i == 0 { "certificates" } else { "" }, tls::describe(facts))?;
        }
        Ok(())
    }

    fn announced(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (client, server) = (&self.listener.client, &self.listener.server);
        writeln!(f, "\n  In passive mode clients are told to connect to")?;
        self.map(f, &client.address_map, &self.ports(&client.data_ports))?;
        if self.epsv_leads_astray() {
            writeln!(
                f,
                "    EPSV names no address: clients that use it connect to the load balancers' address. If that does not lead\n    \
                 to these ports of this machine, `policy.deny: EPSV` has clients use PASV."
            )?;
        }
        if self.server_may_connect() {
            writeln!(f, "  In active mode the server is told to connect to")?;
            let ports = self.ports(&server.data_ports);
            match self.listener.source {
                Source::Local => self.map(f, &server.address_map, &ports)?,
                Source::Client => row(f, "  any peer", format!("the client's own address, port {ports}"))?,
            }
        }
        Ok(())
    }

    fn map(&self, f: &mut Formatter<'_>, map: &AddressMap, ports: &str) -> fmt::Result {
        let is_only = map.rules().len() == 1;
        for rule in map.rules() {
            let who = match &rule.peers {
                Peers::Any if is_only => "    any peer".into(),
                Peers::Any => "    any other peer".into(),
                Peers::Net(net) => format!("    {net}"),
            };
            writeln!(f, "{who:w$}{}, port {}", told(&rule.announce, self.public), ports, w = LABEL + 2)?;
        }
        Ok(())
    }

    /// Whether clients may ask for ports of the address that they have connected to, which may not be ours.
    fn epsv_leads_astray(&self) -> bool {
        let denied = &self.listener.access.denied;
        self.listener.proxy_protocol.as_ref().is_some_and(|rule| !rule.data)
            && !denied.iter().any(|name| name.is_whole_verb() && name.verb() == "EPSV")
    }

    fn ports_to_open(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let listener = self.listener;
        let mut control: Vec<u16> = listener.bind.iter().map(std::net::SocketAddr::port).collect();
        control.sort_unstable();
        control.dedup();
        writeln!(f, "\n  Open these TCP ports in the security group of this machine and in firewalls on the way")?;
        let mut data = self.ports(&listener.client.data_ports);
        if let ClientTls::Passthrough { ports: Some(ports) } = &listener.tls.client {
            data += &format!(", and {} with TLS", span(ports));
        }
        match &listener.proxy_protocol {
            None => row(f, "  in from clients", format!("{}, {data}", join(&control)))?,
            Some(rule) if rule.data => row(f, "  in from the load balancers", format!("{}, {data}", join(&control)))?,
            Some(_) => {
                row(f, "  in from the load balancers", join(&control))?;
                row(f, "  in from clients", data)?;
            }
        }
        row(f, "  out to clients", "1024-65535, for clients in active mode (PORT, EPRT)")?;
        let passive = match (self.server_is_dialled(), listener.policy.privileged_ports) {
            (false, _) => "",
            (true, false) => ", and its passive ports (1024-65535 unless its settings name fewer)",
            (true, true) => ", and its passive ports (1-65535 unless its settings name fewer)",
        };
        row(f, "  out to the FTP server", format!("{}{passive}", self.control_ports()))?;
        if self.server_may_connect() {
            let why = if listener.data_mode == DataMode::Same { ", for clients in active mode" } else { "" };
            row(f, "  in from the FTP server", format!("{}{why}", self.ports(&listener.server.data_ports)))?;
        }
        self.forwarded(f)
    }

    /// An announced address that is not this machine's own is somebody else's to forward.
    fn forwarded(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(fixed) = self.not_our_own(&self.listener.client.address_map) {
            let how = match &self.listener.proxy_protocol {
                None => ", as an EIP or 1:1 NAT does it",
                Some(rule) if rule.data => " through the load balancers",
                Some(_) => "; its data ports directly, past the load balancers",
            };
            writeln!(f, "  What comes in at {fixed} has to reach the same ports of this machine{how}.")?;
        }
        let server = &self.listener.server;
        if let (true, Some(fixed)) = (self.server_may_connect(), self.not_our_own(&server.address_map)) {
            writeln!(
                f,
                "  What the server sends to {fixed}, port {}, has to reach the same port of this machine: an EIP\n  \
                 or 1:1 NAT does it, a NAT gateway needs a DNAT rule for these ports.",
                self.ports(&server.data_ports)
            )?;
        }
        Ok(())
    }

    /// The addresses of a map that this machine need not have.
    fn not_our_own(&self, map: &AddressMap) -> Option<String> {
        let is_elsewhere = |ip: &IpAddr| !self.listener.bind.iter().any(|bind| bind.ip() == *ip);
        let join_elsewhere = |ips: &[IpAddr]| {
            let ips: Vec<String> = ips.iter().filter(|ip| is_elsewhere(ip)).map(ToString::to_string).collect();
            (!ips.is_empty()).then(|| ips.join(" or "))
        };
        let mut fixed: Vec<String> = map
            .rules()
            .iter()
            .filter_map(|rule| match &rule.announce {
                Announce::Address(ip) => join_elsewhere(&[*ip]),
                Announce::PerFamily(v4, v6) => join_elsewhere(&[(*v4).into(), (*v6).into()]),
                Announce::Name(name) => Some(name.name().into()),
                Announce::Auto(_) => self.public.map(|found| found.address.to_string()),
                Announce::Local | Announce::ControlAddress => None,
            })
            .collect();
        fixed.dedup();
        (!fixed.is_empty()).then(|| fixed.join(" or "))
    }

    fn capacity(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.listener.client.data_ports {
            DataPorts::Any => {}
            DataPorts::Range(range) => {
                let pending = self.listener.limits.pending_ports_per_address;
                let pending = pending.map_or(usize::MAX, |limit| usize::try_from(limit.get()).unwrap_or(usize::MAX));
                let count = range.len().min(pending);
                let transfers = if count == 1 { "transfer" } else { "transfers" };
                let (whose, counted) = match self.listener.client.data_peer {
                    DataPeer::Exact => ("per client address", "; clients behind one NAT count as one"),
                    DataPeer::Subnet => {
                        ("per /24 (IPv4) or /64 (IPv6)", "; all clients of such a network count as one")
                    }
                    DataPeer::Any | DataPeer::Networks(_) => ("of all clients together", ""),
                };
                writeln!(
                    f,
                    "\n  {count} {transfers} {whose} may be waiting for their connection at one time{counted}.\n  \
                     Transfers that have begun hold no port, so their number is not limited by the range."
                )?;
            }
        }
        self.server_capacity(f)
    }

    /// To a server that always dials back, every transfer of every client needs one of the server's ports.
    fn server_capacity(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (DataMode::Active, DataPorts::Range(range)) = (self.listener.data_mode, &self.listener.server.data_ports)
        else {
            return Ok(());
        };
        let count = range.len();
        let transfers = if count == 1 { "transfer" } else { "transfers" };
        let wait = humantime::format_duration(self.listener.timeouts.port_wait);
        writeln!(
            f,
            "  {count} {transfers} of all clients together may be waiting for the server to connect; others wait for {wait}\n  \
             at most until one of these has begun."
        )
    }

    fn ports(&self, ports: &DataPorts) -> String {
        match (ports, self.ephemeral) {
            (DataPorts::Any, Some(range)) => format!("{range} (net.ipv4.ip_local_port_range)"),
            (DataPorts::Any, None) => "any of net.ipv4.ip_local_port_range".into(),
            (DataPorts::Range(range), _) => span(range),
        }
    }

    fn control_ports(&self) -> String {
        match &self.listener.upstream {
            Selection::Fixed(servers) => {
                let hosts = self.listener.hosts.iter().map(|(_, servers)| servers);
                let mut ports: Vec<u16> =
                    hosts.chain([servers]).flat_map(|servers| servers.list()).map(Upstream::port).collect();
                ports.sort_unstable();
                ports.dedup();
                join(&ports)
            }
            Selection::OriginalDestination(permitted) | Selection::FromUser(permitted) => {
                let mut ports: Vec<String> = permitted.permits().iter().map(|permit| span(&permit.ports)).collect();
                ports.sort_unstable();
                ports.dedup();
                join(&ports)
            }
        }
    }

    fn server_is_dialled(&self) -> bool {
        self.listener.data_mode != DataMode::Active
    }

    fn server_may_connect(&self) -> bool {
        self.listener.data_mode != DataMode::Passive
    }
}

/// Which connections begin with one.
fn headers(rule: &ProxyProtocol) -> &'static str {
    if rule.data {
        "on control and data connections"
    } else {
        "on control connections; data connections come from the clients directly"
    }
}

fn span(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() { range.start().to_string() } else { format!("{}-{}", range.start(), range.end()) }
}

fn row(f: &mut Formatter<'_>, label: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "  {label:LABEL$}{value}")
}

fn told(announce: &Announce, public: Option<&Found>) -> String {
    match announce {
        Announce::Address(ip) => ip.to_string(),
        Announce::PerFamily(v4, v6) => format!("{v4} or {v6}, as the connection is IPv4 or IPv6"),
        Announce::Local => "this machine's end of its control connection".into(),
        Announce::ControlAddress => "0.0.0.0, which stands for the address of the control connection".into(),
        Announce::Auto(_) => match public {
            Some(Found { address, provider, url }) => format!("{address} ({provider}, {url})"),
            None => "the public address".into(),
        },
        Announce::Name(name) => {
            let now = [Family::V4, Family::V6].into_iter().filter_map(|family| name.get(family));
            let mut now: Vec<IpAddr> = now.collect();
            now.dedup();
            format!("{} (now {})", name.name(), join(&now))
        }
    }
}

fn told_by(ProxyHeader { version, data }: ProxyHeader) -> String {
    let version = match version {
        HeaderVersion::V1 => "v1",
        HeaderVersion::V2 => "v2",
    };
    format!("{version}, on {}", if data { "control, and on data that we open" } else { "control alone" })
}

fn describe(mode: DataMode) -> &'static str {
    match mode {
        DataMode::Same => "passive or active, as the client asks",
        DataMode::Passive => "always passive: we connect to the server",
        DataMode::Active => "always active: the server connects to us",
    }
}

fn join<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
