//! `upstream` of a listener, and what guards it, from their texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Reader;
use crate::config::report::{KeyPath, Wrong};
use crate::config::value::{self, Chosen, Parsed};
use crate::config::{Balance, Health, Selection, Servers, Upstream, raw};
use crate::ftp::host::HostName;
use crate::nat::destinations::{Destinations, Permit, Place};

const NETWORKS: &str = "write the servers that may be reached, like `upstream_networks: [10.0.0.0/8]`";

impl Reader<'_, '_> {
    /// `None` if any of it was reported. The servers that could be read are added to `named`.
    pub(super) fn upstream(
        &mut self,
        upstream: Option<raw::Upstream>,
        networks: Option<raw::Texts>,
        at: &KeyPath,
        named: &mut Vec<(KeyPath, Upstream)>,
    ) -> Option<Selection> {
        let (upstream_at, networks_at) = (at.key("upstream"), at.key("upstream_networks"));
        let chosen = match upstream {
            None => self.required(None, &upstream_at, value::chosen, "`upstream: 172.16.0.20`")?,
            Some(raw::Upstream::One(text)) => self.optional(Some(text), &upstream_at, value::chosen)?,
            Some(several) => {
                let servers = self.servers(several, &upstream_at, named);
                self.refuse_networks(networks.as_ref(), &networks_at);
                return servers.map(Selection::Fixed);
            }
        };
        if let Chosen::Server(server) = chosen {
            self.refuse_networks(networks.as_ref(), &networks_at);
            named.push((upstream_at, server.clone()));
            return Some(Selection::Fixed(Servers::one(server)));
        }
        let Some(permits) = self.networks(networks, &networks_at) else {
            if !self.problems.has(&networks_at) {
                let what = "without `upstream_networks` clients could reach whatever this machine can";
                self.problems.report(&upstream_at, Wrong::new(what, NETWORKS));
            }
            return None;
        };
        if chosen == Chosen::FromUser {
            return Some(Selection::FromUser(Arc::new(Destinations::new(permits))));
        }
        self.refuse_names(&permits, &networks_at);
        Some(Selection::OriginalDestination(Arc::new(Destinations::new(permits))))
    }

    fn refuse_networks(&mut self, networks: Option<&raw::Texts>, at: &KeyPath) {
        if networks.is_some() {
            let what = "has no meaning where the server is always the same";
            let help = "remove it; or write `upstream: original-destination` or `upstream: from-user`";
            self.problems.report(at, Wrong::new(what, help));
        }
    }

    /// One server or several. `None` if any was reported; those that could be read are added to `named`.
    fn servers(&mut self, raw: raw::Upstream, at: &KeyPath, named: &mut Vec<(KeyPath, Upstream)>) -> Option<Servers> {
        let (texts, list_at, more) = match raw {
            raw::Upstream::One(text) => {
                let server = self.optional(Some(text), at, one_of_several)?;
                named.push((at.clone(), server.clone()));
                return Some(Servers::one(server));
            }
            raw::Upstream::List(texts) => (texts, at.clone(), raw::Servers::default()),
            raw::Upstream::Map(mut map) => (map.servers.take().unwrap_or_default(), at.key("servers"), map),
        };
        let count = texts.len();
        if texts.is_empty() {
            self.missing(&list_at, "no server", "write the FTP servers, like `[172.16.0.20, 172.16.0.21]`");
        }
        let found: Vec<(KeyPath, Upstream)> = self.each_with_place(texts, &list_at, one_of_several).collect();
        for (i, (at, server)) in found.iter().enumerate() {
            if found[..i].iter().any(|(_, earlier)| earlier == server) {
                let what = format!("`{server}` is in the list already");
                self.problems.report(at, Wrong::new(what, "remove it: each server is there once"));
            }
        }
        let balance = self.optional(more.balance, &at.key("balance"), balance).unwrap_or_default();
        let health = self.health(more.health, Health::of(count), &at.key("health"));
        named.extend(found.iter().cloned());
        let list: Vec<Upstream> = found.into_iter().map(|(_, server)| server).collect();
        if list.len() < count { None } else { Servers::new(list, balance, health) }
    }

    fn health(&mut self, raw: Option<raw::Health>, default: Health, at: &KeyPath) -> Health {
        let raw = match raw {
            None => return default,
            Some(raw::Health::Switch(text)) => {
                let checks = self.optional(Some(text), at, health_switch).unwrap_or(default.checks);
                return Health { checks, ..default };
            }
            Some(raw::Health::Map(raw)) => raw,
        };
        let mut time = |text, key| self.optional(text, &at.key(key), value::timeout);
        let (interval, timeout) = (time(raw.interval, "interval"), time(raw.timeout, "timeout"));
        let mut count = |text, key| self.optional(text, &at.key(key), value::count);
        let (fall, rise) = (count(raw.fall, "fall"), count(raw.rise, "rise"));
        Health {
            checks: true,
            interval: interval.unwrap_or(default.interval),
            timeout: timeout.unwrap_or(default.timeout),
            fall: fall.unwrap_or(default.fall),
            rise: rise.unwrap_or(default.rise),
        }
    }

    /// `None` if there is no list, or it was reported.
    fn networks(&mut self, raw: Option<raw::Texts>, at: &KeyPath) -> Option<Vec<Permit>> {
        let texts = raw?;
        if texts.is_empty() {
            self.problems.report(at, Wrong::new("no server may be reached", NETWORKS));
            return None;
        }
        Some(self.each(texts, at, value::permit))
    }

    /// Servers by name.
    pub(super) fn hosts(
        &mut self,
        raw: BTreeMap<String, Option<raw::Upstream>>,
        upstream: Option<&Selection>,
        at: &KeyPath,
        named: &mut Vec<(KeyPath, Upstream)>,
    ) -> Vec<(HostName, Servers)> {
        if let (false, Some(Selection::OriginalDestination(_) | Selection::FromUser(_))) = (raw.is_empty(), upstream) {
            let what = "clients choose the server in another way already";
            let help = "remove it; or write as `upstream` the server of clients that say no name";
            self.problems.report(at, Wrong::new(what, help));
        }
        let mut hosts: Vec<(HostName, Servers)> = Vec::new();
        for (key, raw) in raw {
            let at = at.key(&key);
            let Some(servers) = raw.and_then(|raw| self.servers(raw, &at, named)) else { continue };
            match HostName::parse(key.as_bytes()) {
                None => {
                    let help = "write a DNS name like `ftp.example.com`, or an address in brackets";
                    self.problems.report(&at, Wrong::new(format!("`{key}` is not a host"), help));
                }
                Some(name) if hosts.iter().any(|(other, _)| *other == name) => {
                    let what = format!("`{name}` has a server already");
                    self.problems.report(&at, Wrong::new(what, "keep one of the two: case does not tell them apart"));
                }
                Some(name) => hosts.push((name, servers)),
            }
        }
        hosts
    }

    /// What a client dials is an address.
    fn refuse_names(&mut self, permits: &[Permit], at: &KeyPath) {
        for permit in permits {
            if let Place::Name(name) | Place::Below(name) = &permit.place {
                let what = format!("`{name}` is a name, and clients are led here by the address that they dialled");
                self.problems.report(at, Wrong::new(what, "write the server's address, or its network"));
            }
        }
    }
}

fn health_switch(text: &str) -> Parsed<bool> {
    value::boolean(text).map_err(|wrong| {
        Wrong::new(wrong.what, "write `true`, `false`, or how servers are checked, like `{ interval: 30s, fall: 3 }`")
    })
}

/// One of several servers.
fn one_of_several(text: &str) -> Parsed<Upstream> {
    match value::chosen(text)? {
        Chosen::Server(upstream) => Ok(upstream),
        Chosen::OriginalDestination | Chosen::FromUser => {
            let help = format!("write servers only, or `upstream: {text}` alone");
            Err(Wrong::new(format!("`{text}` is not one of several servers"), help))
        }
    }
}

/// `first`, `round-robin`, `least-sessions` or `source`.
fn balance(text: &str) -> Parsed<Balance> {
    match text {
        "first" => Ok(Balance::First),
        "round-robin" => Ok(Balance::RoundRobin),
        "least-sessions" => Ok(Balance::LeastSessions),
        "source" => Ok(Balance::Source),
        _ => Err(Wrong::new(
            format!("`{text}` is not a way to choose a server"),
            "write `first`, `round-robin`, `least-sessions` or `source`",
        )),
    }
}
