//! `ftp-alg check`: all that can be known without serving.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use super::plan;
use super::tls;
use crate::config::warning;
use crate::config::{Config, Upstream};
use crate::nat::map::Announce;
use crate::relay::{self, Probe, descriptors, socket};

/// What `check` found out about names and certificates.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct CheckError(Vec<String>);

/// A server that does not answer need not be down: `check` may run where it cannot be reached, and waits no longer.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// Looks once at the servers that `run` would look at all the time. Without a runtime nothing is known of them.
#[must_use]
pub fn probe(config: &Config) -> Vec<Probe> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let probes = runtime.block_on(relay::probe(config, PROBE_LIMIT));
    // A look-up that a name server does not answer is not waited for.
    runtime.shutdown_background();
    probes
}

/// Resolves every name of the configuration, reads every certificate, and describes what `run` would do, with what
/// [`probe`] has found.
///
/// # Errors
/// Each name that cannot be resolved, or resolves to one of our own listeners, and each certificate or key that cannot
/// be used. The configuration is not wrong then (names and files may appear later, and `run` looks names up again for
/// each session), but nothing works yet.
pub fn check(config: &Config, probes: &[Probe]) -> Result<String, CheckError> {
    let mut failures = Vec::new();
    let mut upstreams = Vec::new();
    let mut certificates = Vec::new();
    for listener in &config.listeners {
        let find = |upstream| {
            resolve_upstream(upstream, config).unwrap_or_else(|e| {
                failures.push(format!("listener `{}`: upstream: {e}", listener.name));
                Vec::new()
            })
        };
        upstreams.push(listener.upstream.servers().iter().map(find).collect::<Vec<_>>());
        for (name, servers) in &listener.hosts {
            for upstream in servers.list() {
                if let Err(e) = resolve_upstream(upstream, config) {
                    failures.push(format!("listener `{}`: hosts.{name}: {e}", listener.name));
                }
            }
        }
        let found = tls::load(listener);
        certificates.push(found.unwrap_or_else(|errors| {
            failures.extend(errors.iter().map(|e| format!("listener `{}`: {e}", listener.name)));
            Vec::new()
        }));
        for (leg, map) in [("client", &listener.client.address_map), ("server", &listener.server.address_map)] {
            for rule in map.rules() {
                let Announce::Name(name) = &rule.announce else { continue };
                match resolve(name.name(), 0) {
                    Ok(found) => {
                        name.set(found.iter().map(SocketAddr::ip).collect());
                    }
                    Err(e) => failures.push(format!("listener `{}`: {leg}.address_map: {e}", listener.name)),
                }
            }
        }
    }
    if !failures.is_empty() {
        return Err(CheckError(failures));
    }
    let ephemeral = setting("ip_local_port_range").ok().map(|range| range.trim().replace(char::is_whitespace, "-"));
    let mut text = String::new();
    for ((listener, upstreams), certificates) in config.listeners.iter().zip(&upstreams).zip(&certificates) {
        let ephemeral = ephemeral.as_deref();
        let may_be_transparent = socket::may_be_transparent();
        let _ = writeln!(
            text,
            "{}",
            plan::Plan { listener, upstreams, probes, certificates, ephemeral, may_be_transparent }
        );
    }
    Ok(text)
}

fn resolve_upstream(upstream: &Upstream, config: &Config) -> Result<Vec<IpAddr>, String> {
    let found = match upstream {
        Upstream::Address(addr) => vec![*addr],
        Upstream::Name { host, port } => resolve(host, *port)?,
    };
    match found.iter().find(|addr| config.serves(**addr)) {
        Some(own) => Err(format!("`{upstream}` is {own}, which is this proxy itself")),
        None => Ok(found.iter().map(SocketAddr::ip).collect()),
    }
}

fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = (name, port).to_socket_addrs().map_err(|e| format!("cannot resolve `{name}`: {e}"))?;
    let mut found: Vec<SocketAddr> = found.map(crate::addr::canonical).collect();
    // The resolver answers once per socket type.
    found.sort_unstable();
    found.dedup();
    if found.is_empty() { Err(format!("`{name}` has no address")) } else { Ok(found) }
}

/// What is permitted and yet likely to go wrong: what this machine's kernel settings may do to the configured ports,
/// addresses of the wrong family, a server that may be anybody, certificates at their end. Nothing about what cannot be read.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let ports = match (setting("ip_local_port_range"), setting("ip_local_reserved_ports")) {
        (Ok(range), Ok(reserved)) => warning::ephemeral_ports(config, &range, &reserved),
        _ => Vec::new(),
    };
    let ports = ports.iter().map(ToString::to_string);
    let families = warning::family::misfits(config);
    let families = families.iter().map(ToString::to_string);
    ports.chain(families).chain(tls::warnings(config, SystemTime::now())).collect()
}

/// What the limit on open files of this process does not allow; `run` says so itself.
#[must_use]
pub fn open_files(config: &Config) -> Option<String> {
    descriptors::warning(config)
}

/// A setting of the kernel for TCP ports; they hold for IPv6 too.
fn setting(name: &str) -> io::Result<String> {
    std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"))
}
