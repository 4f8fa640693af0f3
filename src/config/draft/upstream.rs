//! `upstream` of a listener, and what guards it, from their texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Reader;
use crate::config::report::{KeyPath, Wrong};
use crate::config::value::{self, Chosen};
use crate::config::{Selection, Upstream, raw};
use crate::ftp::host::HostName;
use crate::nat::destinations::{Destinations, Permit, Place};

const NETWORKS: &str = "write the servers that may be reached, like `upstream_networks: [10.0.0.0/8]`";

impl Reader<'_, '_> {
    /// `None` if any of it was reported.
    pub(super) fn upstream(
        &mut self,
        upstream: Option<String>,
        networks: Option<raw::Texts>,
        at: &KeyPath,
    ) -> Option<Selection> {
        let (upstream_at, networks_at) = (at.key("upstream"), at.key("upstream_networks"));
        let chosen = self.required(upstream, &upstream_at, value::chosen, "`upstream: 172.16.0.20`")?;
        let networks = self.networks(networks, &networks_at);
        match (chosen, networks) {
            (Chosen::Server(upstream), networks) => {
                if networks.is_some() {
                    let what = "has no meaning where the server is always the same";
                    let help = "remove it; or write `upstream: original-destination` or `upstream: from-user`";
                    self.problems.report(&networks_at, Wrong::new(what, help));
                }
                Some(Selection::Fixed(upstream))
            }
            (Chosen::OriginalDestination, Some(permits)) => {
                self.refuse_names(&permits, &networks_at);
                Some(Selection::OriginalDestination(Arc::new(Destinations::new(permits))))
            }
            (Chosen::FromUser, Some(permits)) => Some(Selection::FromUser(Arc::new(Destinations::new(permits)))),
            (_, None) => {
                if !self.problems.has(&networks_at) {
                    let what = "without `upstream_networks` clients could reach whatever this machine can";
                    self.problems.report(&upstream_at, Wrong::new(what, NETWORKS));
                }
                None
            }
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
        raw: BTreeMap<String, Option<String>>,
        upstream: Option<&Selection>,
        at: &KeyPath,
    ) -> Vec<(KeyPath, HostName, Upstream)> {
        if let (false, Some(Selection::OriginalDestination(_) | Selection::FromUser(_))) = (raw.is_empty(), upstream) {
            let what = "clients choose the server in another way already";
            let help = "remove it; or write as `upstream` the server of clients that say no name";
            self.problems.report(at, Wrong::new(what, help));
        }
        let mut hosts: Vec<(KeyPath, HostName, Upstream)> = Vec::new();
        for (key, text) in raw {
            let at = at.key(&key);
            let Some(server) = self.optional(text, &at, value::upstream) else { continue };
            match HostName::parse(key.as_bytes()) {
                None => {
                    let help = "write a DNS name like `ftp.example.com`, or an address in brackets";
                    self.problems.report(&at, Wrong::new(format!("`{key}` is not a host"), help));
                }
                Some(name) if hosts.iter().any(|(_, other, _)| *other == name) => {
                    let what = format!("`{name}` has a server already");
                    self.problems.report(&at, Wrong::new(what, "keep one of the two: case does not tell them apart"));
                }
                Some(name) => hosts.push((at, name, server)),
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
