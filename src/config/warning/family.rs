//! Addresses that nobody can be told, because the connection is of the other family.

use std::fmt;
use std::net::SocketAddr;

use crate::addr::Family;
use crate::config::{Config, DataMode, Listener, Upstream};
use crate::nat::map::{Peers, Rule};

/// A rule of an address map whose address fits no connection that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    listener: String,
    announce: String,
    case: Case,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// IPv4 clients, and only an IPv6 address.
    NoPasv,
    /// IPv6 clients, and only an IPv4 address.
    NeverTold,
    /// The server's family.
    Server(Family),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listener, announce, case } = self;
        match case {
            Case::NoPasv => write!(
                f,
                "listener `{listener}`: client.address_map: `{announce}` has no IPv4 address, so PASV is refused; write an \
                 address of each family, like `[203.0.113.10, \"2001:db8::10\"]`"
            ),
            Case::NeverTold => write!(
                f,
                "listener `{listener}`: client.address_map: `{announce}` is told to nobody: only IPv6 clients reach this \
                 rule, and EPSV names a port alone; `[::]` in `bind` is IPv6 only, for IPv4 clients add `0.0.0.0`"
            ),
            Case::Server(family) => write!(
                f,
                "listener `{listener}`: server.address_map: `{announce}` has no {family} address, by which the server is \
                 reached, so data connections from the server are refused; write one, or `local`"
            ),
        }
    }
}

/// The rules whose address cannot be used. Names count once they have been resolved.
#[must_use]
pub fn misfits(config: &Config) -> Vec<Misfit> {
    let found = config.listeners.iter().flat_map(|listener| {
        let clients = listener.client.address_map.rules().iter();
        let clients = clients.filter_map(move |rule| Some((rule, client_misfit(listener, rule)?)));
        let server = listener.server.address_map.rules().iter();
        let server = server.filter_map(move |rule| Some((rule, server_misfit(listener, rule)?)));
        clients.chain(server).map(move |(rule, case)| (listener, rule, case))
    });
    let misfit = |(listener, rule, case): (&Listener, &Rule, Case)| Misfit {
        listener: listener.name.clone(),
        announce: rule.announce.to_string(),
        case,
    };
    found.map(misfit).collect()
}

fn client_misfit(listener: &Listener, rule: &Rule) -> Option<Case> {
    let comes_over = |family| {
        let is_bound = listener.bind.iter().map(SocketAddr::ip).any(|ip| Family::of(ip) == family);
        is_bound && is_for(&rule.peers, family)
    };
    match (comes_over(Family::V4), comes_over(Family::V6)) {
        (true, _) if !rule.announce.may_be(Family::V4) => Some(Case::NoPasv),
        (false, true) if !rule.announce.may_be(Family::V6) => Some(Case::NeverTold),
        _ => None,
    }
}

fn server_misfit(listener: &Listener, rule: &Rule) -> Option<Case> {
    // Where a name or a client leads to is known when a session begins.
    let mut families = listener.upstream.servers().iter().filter_map(|server| match server {
        Upstream::Address(server) => Some(Family::of(server.ip())),
        Upstream::Name { .. } => None,
    });
    let is_told = |family| listener.data_mode != DataMode::Passive && is_for(&rule.peers, family);
    families.find(|family| is_told(*family) && !rule.announce.may_be(*family)).map(Case::Server)
}

fn is_for(peers: &Peers, family: Family) -> bool {
    match peers {
        Peers::Any => true,
        Peers::Net(net) => Family::of(net.addr()) == family,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(bind: &str, clients: &str, upstream: &str, server: &str) -> Vec<String> {
        let text = format!(
            "listeners:\n- name: ftp\n  bind: [{bind}]\n  upstream: \"{upstream}\"\n  client:\n    \
             address_map: [{clients}]\n    data_ports: 20000-20020\n  server: {{ {server} }}\n"
        );
        let config = Config::parse(&text, "proxy.yaml").unwrap();
        misfits(&config).iter().map(ToString::to_string).collect()
    }

    const V4: &str = "\"0.0.0.0:21\"";
    const V6: &str = "\"[::]:21\"";
    const BOTH: &str = "\"0.0.0.0:21\", \"[::]:21\"";

    #[test]
    fn an_address_that_no_client_can_be_told_is_warned_of() {
        let v6 = "{ peers: any, announce: \"2001:db8::10\" }";
        let expected = "listener `ftp`: client.address_map: `2001:db8::10` has no IPv4 address, so PASV is refused; write \
                        an address of each family, like `[203.0.113.10, \"2001:db8::10\"]`";
        assert_eq!(warnings(V4, v6, "172.16.0.20", ""), [expected]);
        assert_eq!(warnings(BOTH, v6, "172.16.0.20", ""), [expected]);
        let v4 = "{ peers: any, announce: 203.0.113.10 }";
        let expected = "listener `ftp`: client.address_map: `203.0.113.10` is told to nobody: only IPv6 clients reach this \
                        rule, and EPSV names a port alone; `[::]` in `bind` is IPv6 only, for IPv4 clients add `0.0.0.0`";
        assert_eq!(warnings(V6, v4, "172.16.0.20", ""), [expected]);
        let of_network = format!("{{ peers: \"2001:db8::/32\", announce: 203.0.113.10 }}, {v4}");
        assert_eq!(warnings(BOTH, &of_network, "172.16.0.20", ""), [expected]);
    }

    #[test]
    fn what_fits_is_quiet() {
        for (bind, announce) in [
            (V4, "203.0.113.10"),
            (V6, "\"2001:db8::10\""),
            // IPv6 clients are told a port alone.
            (BOTH, "203.0.113.10"),
            (BOTH, "[\"2001:db8::10\", 203.0.113.10]"),
            (V6, "local"),
            (V4, "control-address"),
            (BOTH, "ftp.example.com"),
        ] {
            let clients = format!("{{ peers: any, announce: {announce} }}");
            assert_eq!(warnings(bind, &clients, "172.16.0.20", ""), [""; 0], "{bind} {announce}");
        }
    }

    #[test]
    fn an_address_that_the_server_cannot_use_is_warned_of() {
        let clients = "{ peers: any, announce: local }";
        let map = "address_map: [{ peers: any, announce: 10.0.0.1 }]";
        let expected = "listener `ftp`: server.address_map: `10.0.0.1` has no IPv6 address, by which the server is reached, \
                        so data connections from the server are refused; write one, or `local`";
        assert_eq!(warnings(V4, clients, "[2001:db8::20]", map), [expected]);
        assert_eq!(warnings(V4, clients, "172.16.0.20", map), [""; 0]);
        assert_eq!(warnings(V4, clients, "ftp.example.com", map), [""; 0]);
        let auto = warnings(V4, clients, "[2001:db8::20]", "address_map: [{ peers: any, announce: auto }]");
        assert_eq!(auto, [expected.replace("10.0.0.1", "auto")]);
        let passive = format!("data_mode: passive, {map}");
        assert_eq!(warnings(V4, clients, "[2001:db8::20]", &passive), [""; 0]);
    }
}
