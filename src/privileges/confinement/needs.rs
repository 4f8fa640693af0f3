//! What a configuration needs of the machine, each with the key that says so. Pure: nothing is asked of the system.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::addr::Leg;
use crate::config::discovery::HTTP_PORT;
use crate::config::tls::{ClientTls, Verify};
use crate::config::{Config, DataMode, DataPorts, FTP_DATA, Listener, Selection, SourcePort};
use crate::nat::map::Announce;
use crate::nat::policy::FIRST_USER_PORT;

/// The port of DNS over TCP, which long answers need (RFC 7766).
const DNS: u16 = 53;

/// Any port that is free (bind(2)): every connection out is bound to an address first, and the kernel chooses the port.
const ANY_FREE: u16 = 0;

/// TCP ports, and what names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports {
    /// The key, as messages name it.
    pub(super) key: String,
    pub(super) range: RangeInclusive<u16>,
}

/// A file, and what names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// The key, as messages name it.
    pub(super) key: String,
    /// Absolute.
    pub(super) path: PathBuf,
}

/// All that a configuration needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Needs {
    /// Listened on, or connected from.
    pub(super) binds: Vec<Ports>,
    /// Connected to.
    pub(super) connects: Vec<Ports>,
    /// Read, and read again when there is another file in its place.
    pub(super) reads: Vec<File>,
    /// Appended to, and made where there is none.
    pub(super) log: Option<File>,
}

impl Needs {
    /// Those of a whole configuration.
    pub(super) fn of(config: &Config) -> Self {
        let mut needs = Self::default();
        needs.bind("connections out", ANY_FREE..=ANY_FREE);
        // Names may come with a reload, or from a client.
        needs.connect("DNS", DNS..=DNS);
        if let Some(admin) = config.admin {
            needs.bind("admin.bind", admin.bind.port()..=admin.bind.port());
        }
        if let Some(path) = &config.log.transfers {
            needs.log = Some(File { key: "log.transfers".into(), path: path.clone() });
        }
        for listener in &config.listeners {
            needs.add(listener);
        }
        if config.listeners.iter().any(announces_public_address) {
            let endpoint = config.discovery.source.as_ref().and_then(|source| source.endpoint.as_ref());
            let port = endpoint.map_or(HTTP_PORT, |endpoint| endpoint.port);
            needs.connect("discovery.endpoint", port..=port);
        }
        needs
    }

    fn add(&mut self, listener: &Listener) {
        let key = |key: &str| format!("listener `{}`: {key}", listener.name);
        for addr in &listener.bind {
            self.bind(key("bind"), addr.port()..=addr.port());
        }
        for leg in Leg::BOTH {
            let (name, config) = match leg {
                Leg::Client => ("client.data_ports", &listener.client),
                Leg::Server => ("server.data_ports", &listener.server),
            };
            // Any port is any free one, which connections out need as well.
            if let DataPorts::Range(range) = &config.data_ports {
                self.bind(key(name), range.clone());
            }
        }
        if listener.source_port == SourcePort::FtpData {
            self.bind(key("client.source_port"), FTP_DATA..=FTP_DATA);
        }
        self.add_servers(listener);
        self.add_tls(listener);
    }

    fn add_servers(&mut self, listener: &Listener) {
        let key = |key: &str| format!("listener `{}`: {key}", listener.name);
        for server in listener.upstream.servers() {
            self.connect(key("upstream"), server.port()..=server.port());
        }
        if let Selection::OriginalDestination(permitted) | Selection::FromUser(permitted) = &listener.upstream {
            for permit in permitted.permits() {
                self.connect(key("upstream_networks"), permit.ports.clone());
            }
        }
        for (name, servers) in &listener.hosts {
            for server in servers.list() {
                self.connect(key(&format!("hosts.{name}")), server.port()..=server.port());
            }
        }
        let is_denied = |verb: &str| listener.access.denied.iter().any(|name| name.to_string() == verb);
        // Clients in active mode.
        if !(is_denied("PORT") && is_denied("EPRT")) {
            self.connect(key("policy.deny"), FIRST_USER_PORT..=u16::MAX);
        }
        if listener.data_mode != DataMode::Active {
            self.connect(key("server.data_mode"), FIRST_USER_PORT..=u16::MAX);
            if listener.policy.privileged_ports {
                self.connect(key("policy.privileged_ports"), 1..=u16::MAX);
            }
        }
    }

    fn add_tls(&mut self, listener: &Listener) {
        let key = |key: &str| format!("listener `{}`: {key}", listener.name);
        match &listener.tls.client {
            ClientTls::Refuse | ClientTls::Passthrough { ports: None } => {}
            ClientTls::Passthrough { ports: Some(ports) } => {
                self.bind(key("tls.client.passthrough_ports"), ports.clone());
                self.connect(key("tls.client.passthrough_ports"), ports.clone());
            }
            ClientTls::Terminate(terminate) => {
                let pairs = terminate.certificates.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
                for file in pairs.chain(&terminate.client_ca) {
                    self.reads.push(File { key: key(&file.named_by), path: file.path.clone() });
                }
            }
        }
        if let Some(Verify::File(file)) = listener.tls.server.identity().map(|identity| &identity.verify) {
            self.reads.push(File { key: key(&file.named_by), path: file.path.clone() });
        }
    }

    fn bind(&mut self, key: impl Into<String>, range: RangeInclusive<u16>) {
        self.binds.push(Ports { key: key.into(), range });
    }

    fn connect(&mut self, key: impl Into<String>, range: RangeInclusive<u16>) {
        self.connects.push(Ports { key: key.into(), range });
    }
}

fn announces_public_address(listener: &Listener) -> bool {
    let rules = listener.client.address_map.rules().iter().chain(listener.server.address_map.rules());
    rules.into_iter().any(|rule| matches!(rule.announce, Announce::Auto(_)))
}

/// Ranges of ports in order, none of which touches the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortSet(Vec<RangeInclusive<u16>>);

impl PortSet {
    pub(super) fn of(ports: &[Ports]) -> Self {
        let mut ranges: Vec<_> = ports.iter().map(|ports| ports.range.clone()).collect();
        ranges.sort_unstable_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=*range.end().max(last.end());
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    pub(super) fn has_all(&self, range: &RangeInclusive<u16>) -> bool {
        self.0.iter().any(|own| own.contains(range.start()) && own.contains(range.end()))
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().cloned().flatten()
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { " " }, Shown(range))?;
        }
        Ok(())
    }
}

/// A range as proxy.yaml has it: `21`, `20000-20020`.
pub(super) struct Shown<'a>(pub(super) &'a RangeInclusive<u16>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these keys of a listener need beside what every configuration does; `head` are the sections before.
    fn needs(head: &str, listener: &str) -> Needs {
        let yaml = format!("{head}\nlisteners: [{{ name: ftp, {listener} }}]");
        Needs::of(&Config::parse(&yaml, "test.yaml").unwrap_or_else(|e| panic!("{e}")))
    }

    const BIND: &str = "bind: [\"127.0.0.1:2121\", \"[::1]:2122\"]";
    const UPSTREAM: &str = "upstream: \"127.0.0.2:2100\"";
    const CLIENT: &str = "client: { address_map: [{ peers: any, announce: local }], data_ports: 20000-20020 }";
    /// Nothing is dialled for data.
    const NARROW: &str = "policy: { deny: [PORT, EPRT] }, server: { data_mode: active }";

    fn bound(needs: &Needs) -> String {
        PortSet::of(&needs.binds).to_string()
    }

    fn connected(needs: &Needs) -> String {
        PortSet::of(&needs.connects).to_string()
    }

    #[test]
    fn sec_34_every_kind_of_socket_has_its_port() {
        let of = |head: &str, listener: &str| bound(&needs(head, listener));
        assert_eq!(of("", &format!("{BIND}, {UPSTREAM}, {CLIENT}")), "0 2121-2122 20000-20020");
        assert_eq!(
            of("admin: { bind: \"127.0.0.1:9121\" }", &format!("{BIND}, {UPSTREAM}, {CLIENT}")),
            "0 2121-2122 9121 20000-20020"
        );
        let from_20 = CLIENT.replace("20000-20020", "any, source_port: 20");
        assert_eq!(of("", &format!("{BIND}, {UPSTREAM}, {from_20}")), "0 20 2121-2122");
        let servers_ports = "server: { data_mode: active, data_ports: 30000-30009 }";
        assert_eq!(
            of("", &format!("{BIND}, {UPSTREAM}, {CLIENT}, {servers_ports}")),
            "0 2121-2122 20000-20020 30000-30009"
        );
        let passed = "tls: { client: { mode: passthrough, passthrough_ports: 20021-20030 } }";
        assert_eq!(of("", &format!("{BIND}, {UPSTREAM}, {CLIENT}, {passed}")), "0 2121-2122 20000-20030");
        let on_the_way = "upstream: original-destination, upstream_networks: 10.0.0.0/8";
        assert_eq!(of("", &format!("{BIND}, {on_the_way}, {CLIENT}")), "0 2121-2122 20000-20020");
    }

    #[test]
    fn sec_34_servers_are_connected_to_at_their_ports_and_for_data_at_any_that_is_not_privileged() {
        let of = |head: &str, listener: &str| connected(&needs(head, listener));
        assert_eq!(of("", &format!("{BIND}, {UPSTREAM}, {CLIENT}")), "53 1024-65535");
        let low = "upstream: [\"127.0.0.2:21\", \"127.0.0.3:990\"]";
        assert_eq!(of("", &format!("{BIND}, {low}, {CLIENT}")), "21 53 990 1024-65535");
        assert_eq!(of("", &format!("{BIND}, {low}, {CLIENT}, {NARROW}")), "21 53 990");
        let half = "policy: { deny: PORT }, server: { data_mode: active }";
        assert_eq!(of("", &format!("{BIND}, {low}, {CLIENT}, {half}")), "21 53 990 1024-65535");
        let passive = "policy: { deny: [PORT, EPRT] }";
        assert_eq!(of("", &format!("{BIND}, {low}, {CLIENT}, {passive}")), "21 53 990 1024-65535");
        let privileged = "policy: { privileged_ports: true }";
        assert_eq!(of("", &format!("{BIND}, {low}, {CLIENT}, {privileged}")), "1-65535");
        let named = "upstream: from-user, upstream_networks: [\"10.0.0.0/8:2100-2199\", 192.0.2.1]";
        assert_eq!(of("", &format!("{BIND}, {named}, {CLIENT}, {NARROW}")), "21 53 2100-2199");
        let hosts = "upstream: \"127.0.0.2:21\", hosts: { a.example: \"127.0.0.2:2121\" }";
        assert_eq!(of("", &format!("{BIND}, {hosts}, {CLIENT}, {NARROW}")), "21 53 2121");
        let passed = "tls: { client: { mode: passthrough, passthrough_ports: 20021-20030 } }";
        assert_eq!(of("", &format!("{BIND}, {low}, {CLIENT}, {NARROW}, {passed}")), "21 53 990 20021-20030");
        let auto = CLIENT.replace("local", "auto");
        assert_eq!(of("", &format!("{BIND}, {low}, {auto}, {NARROW}")), "21 53 80 990");
        let endpoint = "discovery: { provider: aws, endpoint: \"http://127.0.0.1:8080\" }";
        assert_eq!(of(endpoint, &format!("{BIND}, {low}, {auto}, {NARROW}")), "21 53 990 8080");
        assert_eq!(of(endpoint, &format!("{BIND}, {low}, {CLIENT}, {NARROW}")), "21 53 990");
    }

    #[test]
    fn sec_34_every_file_is_known_by_its_key() {
        let tls = "tls: { client: { mode: terminate, certificate: /a/cert.pem, key: /b/key.pem, require: true, \
                   client_ca: /c/ca.pem, certificates: [{ certificate: /d/cert.pem, key: /d/key.pem }] }, server: { \
                   mode: explicit, verify: /e/ca.pem } }";
        let found = needs("log: { transfers: /f/xferlog }", &format!("{BIND}, {UPSTREAM}, {CLIENT}, {tls}"));
        let files: Vec<String> =
            found.reads.iter().chain(&found.log).map(|file| format!("{} {}", file.key, file.path.display())).collect();
        assert_eq!(
            files,
            [
                "listener `ftp`: tls.client.certificate /a/cert.pem",
                "listener `ftp`: tls.client.key /b/key.pem",
                "listener `ftp`: tls.client.certificates[0].certificate /d/cert.pem",
                "listener `ftp`: tls.client.certificates[0].key /d/key.pem",
                "listener `ftp`: tls.client.client_ca /c/ca.pem",
                "listener `ftp`: tls.server.verify /e/ca.pem",
                "log.transfers /f/xferlog",
            ]
        );
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let ports = |ranges: &[RangeInclusive<u16>]| {
            PortSet::of(&ranges.iter().map(|range| Ports { key: "x".into(), range: range.clone() }).collect::<Vec<_>>())
        };
        let set = ports(&[30..=40, 1..=5, 6..=6, 2..=3, 39..=50, 65535..=65535, 60000..=65535]);
        assert_eq!(set.to_string(), "1-6 30-50 60000-65535");
        assert!(set.has_all(&(1..=6)) && set.has_all(&(65535..=65535)) && !set.has_all(&(6..=30)));
        assert!(!set.has_all(&(7..=7)) && !set.has_all(&(50..=51)) && !set.has_all(&(29..=30)));
        assert_eq!(set.iter().count(), 6 + 21 + 5536);
    }
}
