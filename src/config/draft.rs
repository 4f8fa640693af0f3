//! From the file's text to a checked [`Config`]: what can be read is read, however much else is wrong.

mod admin;
mod discovery;
mod log;
mod proxy_protocol;
mod source;
mod tls;
mod upstream;

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::report::{KeyPath, Problems, Wrong};
use super::tls::Tls;
use super::value::Parsed;
use super::{
    Access, CommandName, Config, DataMode, DataPeer, DataPorts, LegConfig, Limits, Listener, ProxyHeader,
    ProxyProtocol, Selection, Servers, Source, SourcePort, Timeouts, Upstream,
};
use super::{conflict, raw, value};
use crate::addr::Leg;
use crate::ftp::host::HostName;
use crate::nat::map::{AddressMap, Announce, Peers, Rule};
use crate::nat::policy::Policy;

/// A listener as far as it could be read, with the places that later checks point to.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) at: KeyPath,
    pub(super) name: Option<String>,
    pub(super) bind: Vec<(KeyPath, SocketAddr)>,
    pub(super) upstream: Option<Selection>,
    hosts: Vec<(HostName, Servers)>,
    /// All that are named, by `upstream` and by `hosts`.
    pub(super) servers: Vec<(KeyPath, Upstream)>,
    pub(super) client: DraftLeg,
    pub(super) server: DraftLeg,
    source_port: SourcePort,
    pub(super) proxy_protocol: Option<Option<ProxyProtocol>>,
    source: Source,
    proxy_header: Option<ProxyHeader>,
    data_mode: DataMode,
    pub(super) tls: Option<Tls>,
    access: Access,
    policy: Policy,
    timeouts: Timeouts,
    pub(super) limits: Limits,
}

/// One leg of it.
#[derive(Debug)]
pub(super) struct DraftLeg {
    pub(super) at: KeyPath,
    pub(super) data_ports: Option<DataPorts>,
    pub(super) data_peer: DataPeer,
    address_map: Option<AddressMap>,
}

impl Draft {
    /// What messages call the listener.
    pub(super) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.at.to_string())
    }

    pub(super) fn leg(&self, leg: Leg) -> &DraftLeg {
        match leg {
            Leg::Client => &self.client,
            Leg::Server => &self.server,
        }
    }

    fn finish(self) -> Option<Listener> {
        Some(Listener {
            name: self.name?,
            bind: self.bind.into_iter().map(|(_, addr)| addr).collect(),
            upstream: self.upstream?,
            hosts: self.hosts,
            client: self.client.finish()?,
            server: self.server.finish()?,
            source_port: self.source_port,
            proxy_protocol: self.proxy_protocol?,
            source: self.source,
            proxy_header: self.proxy_header,
            data_mode: self.data_mode,
            tls: self.tls?,
            access: self.access,
            policy: self.policy,
            timeouts: self.timeouts,
            limits: self.limits,
        })
    }
}

impl DraftLeg {
    fn finish(self) -> Option<LegConfig> {
        Some(LegConfig { address_map: self.address_map?, data_ports: self.data_ports?, data_peer: self.data_peer })
    }
}

/// Reads the whole file. `None` if anything was reported.
pub(super) fn read(file: raw::File, problems: &mut Problems<'_>) -> Option<Config> {
    let root = KeyPath::default();
    let mut reader = Reader { problems };
    let at = root.key("listeners");
    let listeners = file.listeners.unwrap_or_default();
    if listeners.is_empty() {
        let help = "write at least one entry with `bind`, `upstream` and `client` under `listeners:`";
        reader.missing(&at, "there are no listeners", help);
    }
    let user = reader.optional(file.user, &root.key("user"), value::user);
    let landlock = reader.optional(file.landlock, &root.key("landlock"), value::boolean).unwrap_or_default();
    let log = reader.log(file.log.unwrap_or_default(), &root.key("log"));
    let entries = listeners.into_iter().enumerate();
    let discovery = reader.discovery(file.discovery.unwrap_or_default(), &root.key("discovery"));
    let drafts: Vec<Draft> = entries.filter_map(|(i, raw)| Some(reader.listener(raw?, at.index(i)))).collect();
    let admin = file.admin.map(|raw| reader.admin(raw, &root.key("admin")));
    drafts.iter().for_each(|draft| source::check(draft, problems));
    conflict::check(&drafts, admin.flatten(), problems);
    let listeners = drafts.into_iter().map(Draft::finish).collect::<Option<_>>()?;
    let admin = admin.map_or(Some(None), |admin| admin.map(Some))?;
    Some(Config { listeners, discovery, admin, log: log?, user, landlock })
}

struct Reader<'a, 't> {
    problems: &'a mut Problems<'t>,
}

impl Reader<'_, '_> {
    fn listener(&mut self, raw: raw::Listener, at: KeyPath) -> Draft {
        let bind = self.bind(raw.bind, &at.key("bind"));
        let mut client = raw.client.unwrap_or_default();
        let server = raw.server.unwrap_or_default();
        let policy = raw.policy.unwrap_or_default();
        let mut servers = Vec::new();
        let upstream = self.upstream(raw.upstream, raw.upstream_networks, &at, &mut servers);
        let hosts = self.hosts(raw.hosts.unwrap_or_default(), upstream.as_ref(), &at.key("hosts"), &mut servers);
        Draft {
            name: self.optional(raw.name, &at.key("name"), value::name).or_else(|| Some(bind.first()?.1.to_string())),
            tls: self.tls(raw.tls.unwrap_or_default(), upstream.as_ref(), &at.key("tls")),
            upstream,
            hosts,
            servers,
            source_port: self
                .optional(client.source_port.clone(), &at.key("client").key("source_port"), value::source_port)
                .unwrap_or_default(),
            proxy_protocol: self.proxy_protocol(client.proxy_protocol.take(), &at.key("client").key("proxy_protocol")),
            client: self.client(client, at.key("client")),
            source: self.source(server.source.clone(), &at.key("server")),
            proxy_header: self.proxy_header(
                server.proxy_protocol.clone(),
                server.proxy_protocol_data.clone(),
                &at.key("server"),
            ),
            data_mode: self
                .optional(server.data_mode.clone(), &at.key("server").key("data_mode"), value::data_mode)
                .unwrap_or_default(),
            server: self.server(server, at.key("server")),
            access: Access {
                allow: self.allow(policy.allow, &at.key("policy").key("allow")),
                denied: self.deny(policy.deny, &at.key("policy").key("deny")),
            },
            policy: Policy {
                privileged_ports: self
                    .optional(policy.privileged_ports, &at.key("policy").key("privileged_ports"), value::boolean)
                    .unwrap_or_default(),
            },
            timeouts: self.timeouts(raw.timeouts.unwrap_or_default(), &at.key("timeouts")),
            limits: self.limits(raw.limits.unwrap_or_default(), &at.key("limits")),
            bind,
            at,
        }
    }

    fn bind(&mut self, raw: Option<raw::Texts>, at: &KeyPath) -> Vec<(KeyPath, SocketAddr)> {
        let texts = raw.unwrap_or_default();
        if texts.is_empty() {
            self.missing(at, "no address to listen on", "write where clients connect, like `bind: 0.0.0.0:21`");
        }
        self.each_with_place(texts, at, value::bind).collect()
    }

    fn client(&mut self, raw: raw::Client, at: KeyPath) -> DraftLeg {
        let example = "`data_ports: 20000-20020`, ports that the security group opens, or `any`";
        DraftLeg {
            data_ports: self.required(raw.data_ports, &at.key("data_ports"), value::data_ports, example),
            data_peer: self.optional(raw.data_peer, &at.key("data_peer"), value::data_peer).unwrap_or_default(),
            address_map: self.address_map(raw.address_map, &at.key("address_map"), None),
            at,
        }
    }

    fn server(&mut self, raw: raw::Server, at: KeyPath) -> DraftLeg {
        let ports_at = at.key("data_ports");
        let data_ports = self.optional(raw.data_ports, &ports_at, value::data_ports);
        DraftLeg {
            data_ports: data_ports.or_else(|| (!self.problems.has(&ports_at)).then_some(DataPorts::Any)),
            data_peer: self.server_data_peer(raw.data_peer, &at.key("data_peer")),
            address_map: self.address_map(raw.address_map, &at.key("address_map"), Some(AddressMap::local())),
            at,
        }
    }

    /// A word, or the networks that the server's connections come from.
    fn server_data_peer(&mut self, raw: Option<raw::Texts>, at: &KeyPath) -> DataPeer {
        let Some(texts) = raw else { return DataPeer::Exact };
        if texts.is_empty() {
            let help = "write the networks that the server connects from, like `[198.51.100.32/28]`, or leave it out for \
                        the server's own address";
            self.problems.report(at, Wrong::new("no address of the server's could connect", help));
        }
        if let [Some(text)] = texts.as_slice()
            && let Some(peer) = value::server_data_peer_word(text)
        {
            return peer;
        }
        DataPeer::Networks(IpNet::aggregate(&self.each(texts, at, value::server_network)).into())
    }

    /// A map ends in the one rule for everybody else: otherwise some peer would be told nothing.
    fn address_map(
        &mut self,
        raw: Option<Vec<Option<raw::Rule>>>,
        at: &KeyPath,
        default: Option<AddressMap>,
    ) -> Option<AddressMap> {
        const LAST: &str = "write `- { peers: any, announce: ADDRESS }` as the last rule, where ADDRESS is an address, \
                            a DNS name, `auto`, `local` or `control-address`";
        let Some(raw) = raw else {
            if default.is_none() {
                self.missing(at, "missing", LAST);
            }
            return default.filter(|_| !self.problems.has(at));
        };
        let count = raw.len();
        let rules: Vec<(KeyPath, Option<Peers>, Option<Announce>)> =
            raw.into_iter().enumerate().map(|(i, rule)| self.rule(rule, at.index(i))).collect();
        for (i, (rule_at, peers, _)) in rules.iter().enumerate() {
            let covers = |earlier: &Peers| peers.as_ref().is_some_and(|peers| covers(earlier, peers));
            if let Some(by) = rules[..i].iter().position(|(_, p, _)| p.as_ref().is_some_and(covers)) {
                let what = format!("never reached: rule {} before it is for the same peers", by + 1);
                self.problems.report(rule_at, Wrong::new(what, "remove it, or move it up: the first match decides"));
            }
        }
        let last = rules.last();
        let any_at_all = rules.iter().any(|(_, peers, _)| matches!(peers, Some(Peers::Any)));
        // A last rule that could not be read may well be the one.
        if !any_at_all && last.is_none_or(|(_, peers, _)| peers.is_some()) {
            self.problems.report(at, Wrong::new("no rule for everybody else", LAST));
        }
        let rules: Vec<Rule> = rules
            .into_iter()
            .filter_map(|(_, peers, announce)| Some(Rule { peers: peers?, announce: announce? }))
            .collect();
        (rules.len() == count).then(|| AddressMap::new(rules))
    }

    fn rule(&mut self, raw: Option<raw::Rule>, at: KeyPath) -> (KeyPath, Option<Peers>, Option<Announce>) {
        let Some(raw) = raw else { return (at, None, None) };
        let peers = self.required(raw.peers, &at.key("peers"), value::peers, "`peers: any`, or a network");
        let announce = self.announce(raw.announce, &at.key("announce"));
        (at, peers, announce)
    }

    /// One thing, or an address of each family.
    fn announce(&mut self, raw: Option<raw::Texts>, at: &KeyPath) -> Option<Announce> {
        const EXAMPLE: &str = "write `announce: ` and an address, `local`, or a DNS name";
        let texts = raw.unwrap_or_default();
        if texts.is_empty() {
            self.missing(at, "missing", EXAMPLE);
        }
        let count = texts.len();
        let found = self.each(texts, at, value::announce);
        if found.len() < count {
            return None;
        }
        value::announce_all(found).map_err(|wrong| self.problems.report(at, wrong)).ok().flatten()
    }

    fn allow(&mut self, raw: Option<raw::Texts>, at: &KeyPath) -> Option<Vec<IpNet>> {
        let texts = raw?;
        if texts.is_empty() {
            let help = "write the networks that may connect, or leave `allow` out to admit everybody";
            self.problems.report(at, Wrong::new("nobody may connect", help));
        }
        Some(self.each(texts, at, value::network))
    }

    fn deny(&mut self, raw: Option<raw::Texts>, at: &KeyPath) -> Vec<CommandName> {
        self.each(raw.unwrap_or_default(), at, value::denied)
    }

    fn limits(&mut self, raw: raw::Limits, at: &KeyPath) -> Limits {
        let default = Limits::default();
        let mut count = |text: Option<String>, key: &str| self.optional(text, &at.key(key), value::count);
        Limits {
            sessions: count(raw.sessions, "sessions"),
            sessions_per_address: count(raw.sessions_per_address, "sessions_per_address"),
            pending_ports_per_address: count(raw.pending_ports_per_address, "pending_ports_per_address"),
            login_failures: count(raw.login_failures, "login_failures").unwrap_or(default.login_failures),
            line: self.optional(raw.line, &at.key("line"), value::line).unwrap_or(default.line),
            connects_per_second: self.optional(raw.connects_per_second, &at.key("connects_per_second"), value::rate),
        }
    }

    fn timeouts(&mut self, raw: raw::Timeouts, at: &KeyPath) -> Timeouts {
        let mut timeouts = Timeouts::default();
        let mut read = |text: Option<String>, key: &str, into: &mut Duration| {
            if let Some(duration) = self.optional(text, &at.key(key), value::timeout) {
                *into = duration;
            }
        };
        read(raw.control_idle, "control_idle", &mut timeouts.control_idle);
        read(raw.login, "login", &mut timeouts.login);
        read(raw.connect_server, "connect_server", &mut timeouts.connect_server);
        read(raw.connect_client, "connect_client", &mut timeouts.connect_client);
        read(raw.data_idle, "data_idle", &mut timeouts.data_idle);
        read(raw.port_wait, "port_wait", &mut timeouts.port_wait);
        read(raw.close, "close", &mut timeouts.close);
        read(raw.partial_line, "partial_line", &mut timeouts.partial_line);
        read(raw.drain, "drain", &mut timeouts.drain);
        timeouts
    }

    /// The entries of a list; those that cannot be read are reported and left out.
    fn each<T>(&mut self, texts: raw::Texts, at: &KeyPath, parse: fn(&str) -> Parsed<T>) -> Vec<T> {
        self.each_with_place(texts, at, parse).map(|(_, entry)| entry).collect()
    }

    fn each_with_place<T>(
        &mut self,
        texts: raw::Texts,
        at: &KeyPath,
        parse: fn(&str) -> Parsed<T>,
    ) -> impl Iterator<Item = (KeyPath, T)> {
        let places = (0..texts.len()).map(|i| at.index(i));
        places.zip(texts).filter_map(move |(at, text)| Some((at.clone(), self.optional(text, &at, parse)?)))
    }

    fn optional<T>(&mut self, text: Option<String>, at: &KeyPath, parse: fn(&str) -> Parsed<T>) -> Option<T> {
        parse(&text?).map_err(|wrong| self.problems.report(at, wrong)).ok()
    }

    fn required<T>(
        &mut self,
        text: Option<String>,
        at: &KeyPath,
        parse: fn(&str) -> Parsed<T>,
        example: &str,
    ) -> Option<T> {
        if text.is_none() {
            self.missing(at, "missing", &format!("write {example}"));
        }
        self.optional(text, at, parse)
    }

    fn missing(&mut self, at: &KeyPath, what: &str, help: &str) {
        if !self.problems.has(at) && !self.problems.has(&at.parent()) {
            self.problems.report(at, Wrong::new(what, help));
        }
    }
}

fn covers(earlier: &Peers, later: &Peers) -> bool {
    match (earlier, later) {
        (Peers::Any, _) => true,
        (Peers::Net(_), Peers::Any) => false,
        (Peers::Net(earlier), Peers::Net(later)) => earlier.contains(later),
    }
}
