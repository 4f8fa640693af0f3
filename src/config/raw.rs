//! The YAML file as serde sees it: the same keys, every value still text, everything optional.
//!
//! [`shape`](super::shape) has refused unknown keys and wrong kinds before, so that all of them are reported
//! at once; an entry that it refused is `None` here. [`draft`](super::draft) turns the text into values.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A list of texts, some of which have been refused already.
pub(super) type Texts = Vec<Option<String>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) listeners: Option<Vec<Option<Listener>>>,
    pub(super) discovery: Option<Discovery>,
    pub(super) admin: Option<Admin>,
    pub(super) log: Option<Log>,
    pub(super) user: Option<String>,
    pub(super) landlock: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) bind: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Discovery {
    pub(super) provider: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) refresh: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) transfers: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub(super) name: Option<String>,
    pub(super) bind: Option<Texts>,
    pub(super) upstream: Option<Upstream>,
    pub(super) upstream_networks: Option<Texts>,
    pub(super) hosts: Option<BTreeMap<String, Option<Upstream>>>,
    pub(super) client: Option<Client>,
    pub(super) server: Option<Server>,
    pub(super) tls: Option<Tls>,
    pub(super) policy: Option<Policy>,
    pub(super) timeouts: Option<Timeouts>,
    pub(super) limits: Option<Limits>,
}

/// One server or the word for how one is found, several servers, or several and more about them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Upstream {
    One(String),
    List(Texts),
    Map(Servers),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Servers {
    pub(super) servers: Option<Texts>,
    pub(super) balance: Option<String>,
    pub(super) health: Option<Health>,
}

/// Whether there are checks, or how they are made.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Health {
    Switch(String),
    Map(Checks),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checks {
    pub(super) interval: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) fall: Option<String>,
    pub(super) rise: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    pub(super) address_map: Option<Vec<Option<Rule>>>,
    pub(super) data_ports: Option<String>,
    pub(super) data_peer: Option<String>,
    pub(super) source_port: Option<String>,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyProtocol {
    pub(super) trusted: Option<Texts>,
    pub(super) data: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) source: Option<String>,
    pub(super) proxy_protocol: Option<String>,
    pub(super) proxy_protocol_data: Option<String>,
    pub(super) data_mode: Option<String>,
    pub(super) address_map: Option<Vec<Option<Rule>>>,
    pub(super) data_ports: Option<String>,
    pub(super) data_peer: Option<Texts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) peers: Option<String>,
    pub(super) announce: Option<Texts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) client: Option<TlsClient>,
    pub(super) server: Option<TlsServer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsClient {
    pub(super) mode: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
    pub(super) certificates: Option<Vec<Option<KeyPair>>>,
    pub(super) require: Option<String>,
    pub(super) implicit: Option<String>,
    pub(super) min_version: Option<String>,
    pub(super) allow_ccc: Option<String>,
    pub(super) lenient: Option<String>,
    pub(super) require_reuse: Option<String>,
    pub(super) client_ca: Option<String>,
    pub(super) passthrough_ports: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyPair {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsServer {
    pub(super) mode: Option<String>,
    pub(super) verify: Option<String>,
    pub(super) name: Option<String>,
    pub(super) max_version: Option<String>,
    pub(super) lenient: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) allow: Option<Texts>,
    pub(super) deny: Option<Texts>,
    pub(super) privileged_ports: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Timeouts {
    pub(super) control_idle: Option<String>,
    pub(super) login: Option<String>,
    pub(super) connect_server: Option<String>,
    pub(super) connect_client: Option<String>,
    pub(super) data_idle: Option<String>,
    pub(super) port_wait: Option<String>,
    pub(super) close: Option<String>,
    pub(super) partial_line: Option<String>,
    pub(super) drain: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) sessions: Option<String>,
    pub(super) sessions_per_address: Option<String>,
    pub(super) pending_ports_per_address: Option<String>,
    pub(super) line: Option<String>,
    pub(super) login_failures: Option<String>,
    pub(super) connects_per_second: Option<String>,
}
