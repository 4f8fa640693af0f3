//! Which server a session's connection leads to, of those that a listener has.
//!
//! Each server has a [`Connector`](super::upstream::Connector) of its own: what is paced, counted and remembered there
//! concerns no other. Those that clients name are remembered for as long as sessions are with them, and some longer.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::upstreams::Group;
use crate::addr::canonical;
use crate::config::{Config, Listener, Selection, Servers, Upstream};
use crate::ftp::host::HostName;
use crate::metrics::{ListenerMetrics, ServerState};
use crate::nat::destinations::Destinations;
use crate::session::{Destination, Server};

/// Servers without a session that are remembered, so that they are paced and a ban of theirs is noticed, at a few hundred
/// bytes each.
const MAX_REMEMBERED: usize = 1024;

/// The servers of one listener.
#[derive(Debug)]
pub(super) struct Directory {
    listener: Listener,
    config: Arc<Config>,
    metrics: Arc<ListenerMetrics>,
    way: Way,
    /// In the order of the session's settings.
    hosts: Vec<Arc<Group>>,
}

#[derive(Debug)]
enum Way {
    Fixed(Arc<Group>),
    /// Clients choose among these.
    Chosen(Arc<Destinations>, Mutex<HashMap<Upstream, Arc<Group>>>),
}

impl Directory {
    /// The servers of one listener of `config`. What is known of them `earlier` is known.
    pub(super) fn new(
        listener: &Listener,
        config: &Arc<Config>,
        metrics: &Arc<ListenerMetrics>,
        earlier: Option<&Self>,
    ) -> Self {
        let group = |host: Option<&HostName>, servers: &Servers| {
            let earlier = earlier.and_then(|earlier| earlier.group(host));
            Arc::new(Group::new(listener, servers, None, config, metrics, earlier))
        };
        let way = match &listener.upstream {
            Selection::Fixed(servers) => Way::Fixed(group(None, servers)),
            Selection::OriginalDestination(permitted) | Selection::FromUser(permitted) => {
                Way::Chosen(Arc::clone(permitted), Mutex::default())
            }
        };
        let hosts = listener.hosts.iter().map(|(host, servers)| group(Some(host), servers)).collect();
        Self { listener: listener.clone(), config: Arc::clone(config), metrics: Arc::clone(metrics), way, hosts }
    }

    /// The server for a session, whose client has `dialled` this address.
    pub(super) fn find(&self, to: &Destination, dialled: SocketAddr) -> Arc<Group> {
        // Sessions choose in the way of their listener: none names a server to a fixed one, nor a host to others.
        match (&self.way, to) {
            (Way::Fixed(group), Destination::Listener | Destination::Named(_)) => Arc::clone(group),
            (Way::Fixed(group), Destination::Host(index)) => Arc::clone(self.hosts.get(*index).unwrap_or(group)),
            (Way::Chosen(permitted, known), Destination::Named(server)) => {
                self.chosen(permitted, known, upstream_of(server))
            }
            (Way::Chosen(permitted, known), Destination::Listener | Destination::Host(_)) => {
                self.chosen(permitted, known, Upstream::Address(canonical(dialled)))
            }
        }
    }

    /// Begins to look after the servers that the configuration names, until `stop`.
    pub(super) fn watch(&self, stop: &CancellationToken) {
        self.named().for_each(|(_, group)| group.watch(stop));
    }

    /// What is known of the servers that the configuration names.
    pub(super) fn states(&self) -> impl Iterator<Item = ServerState> {
        self.named().flat_map(|(host, group)| group.states(host))
    }

    /// Of each choice of servers that are checked, and all down: which, and why.
    pub(super) fn impediments(&self) -> impl Iterator<Item = String> {
        self.named().filter_map(|(_, group)| group.impediment())
    }

    fn named(&self) -> impl Iterator<Item = (Option<&HostName>, &Arc<Group>)> {
        let fixed = match &self.way {
            Way::Fixed(group) => Some((None, group)),
            Way::Chosen(..) => None,
        };
        let names = self.listener.hosts.iter().map(|(host, _)| Some(host));
        fixed.into_iter().chain(names.zip(&self.hosts))
    }

    fn group(&self, host: Option<&HostName>) -> Option<&Group> {
        self.named().find(|(of, _)| *of == host).map(|(_, group)| &**group)
    }

    fn chosen(
        &self,
        permitted: &Arc<Destinations>,
        known: &Mutex<HashMap<Upstream, Arc<Group>>>,
        upstream: Upstream,
    ) -> Arc<Group> {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED && !known.contains_key(&upstream) {
            known.retain(|_, group| Arc::strong_count(group) > 1);
        }
        let new = || {
            let servers = Servers::one(upstream.clone());
            Arc::new(Group::new(&self.listener, &servers, Some(permitted), &self.config, &self.metrics, None))
        };
        Arc::clone(known.entry(upstream.clone()).or_insert_with(new))
    }
}

fn upstream_of(server: &Server) -> Upstream {
    match &server.host {
        HostName::Address(ip) => Upstream::Address(SocketAddr::new(*ip, server.port)),
        HostName::Name(name) => Upstream::Name { host: name.to_string(), port: server.port },
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listener.upstream.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn directory() -> Directory {
        let yaml = "listeners: [{ bind: \"127.0.0.1:2121\", upstream: original-destination, upstream_networks: 10.0.0.0/8, \
                    client: { address_map: [{ peers: any, announce: local }], data_ports: 20000 } }]";
        let config = Arc::new(Config::parse(yaml, "test.yaml").unwrap());
        let listener = &config.listeners[0];
        Directory::new(listener, &config, &Metrics::default().listener(listener), None)
    }

    fn dialled(n: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()], 21))
    }

    #[test]
    fn each_server_has_one_connector_of_its_own() {
        let directory = directory();
        let find = |n| directory.find(&Destination::Listener, dialled(n));
        assert!(Arc::ptr_eq(&find(1), &find(1)) && !Arc::ptr_eq(&find(1), &find(2)));
    }

    #[test]
    fn rel_18_servers_that_nobody_is_with_are_not_remembered_without_bound() {
        let directory = directory();
        let kept = directory.find(&Destination::Listener, dialled(0));
        for n in 1..3 * MAX_REMEMBERED {
            directory.find(&Destination::Listener, dialled(n));
        }
        let Way::Chosen(_, known) = &directory.way else { panic!("a list") };
        assert!(known.lock().unwrap().len() <= MAX_REMEMBERED);
        assert!(Arc::ptr_eq(&kept, &directory.find(&Destination::Listener, dialled(0))), "somebody is with it");
    }
}
