//! `ftp-alg check`: all that can be known without serving.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::plan;
use super::tls;
use super::transparent;
use crate::config::warning;
use crate::config::{Config, Upstream};
use crate::discover::{Found, PublicAddress};
use crate::nat::map::Announce;
use crate::privileges::{Extent, PrivilegeError, Privileges};
use crate::relay::{self, Probe, descriptors, socket, xferlog};

/// What `check` found out about names, addresses and certificates.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct CheckError(Vec<String>);

/// A server that does not answer need not be down: `check` may run where it cannot be reached, and waits no longer.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// Looks once at the servers that `run` would look at all the time. Without a runtime nothing is known of them.
#[must_use]
pub fn probe(config: &Config) -> Vec<Probe> {
    block_on(relay::probe(config, PROBE_LIMIT)).unwrap_or_default()
}

/// Waits here for what is asked of others.
fn block_on<T>(asked: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(asked);
    // A look-up that a name server does not answer is not waited for.
    runtime.shutdown_background();
    Ok(found)
}

/// Resolves every name of the configuration, asks for the public address if it is announced, reads every certificate,
/// and describes what `run` would do, with what [`probe`] has found.
///
/// # Errors
/// Each name that cannot be resolved, or resolves to one of our own listeners, a public address that nobody gives, each
/// certificate or key that cannot be used, and a transfer log that cannot be written. The configuration is not wrong then
/// (names and files may appear later, and `run` looks names up again for each session), but nothing works yet.
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
    let public = public_address(config).unwrap_or_else(|error| {
        failures.push(error);
        None
    });
    if let Some(Err(error)) = config.log.transfers.as_deref().map(xferlog::check) {
        failures.push(error.to_string());
    }
    if !failures.is_empty() {
        return Err(CheckError(failures));
    }
    let ephemeral = setting("ip_local_port_range").ok().map(|range| range.trim().replace(char::is_whitespace, "-"));
    let mut text = String::new();
    for ((listener, upstreams), certificates) in config.listeners.iter().zip(&upstreams).zip(&certificates) {
        let ephemeral = ephemeral.as_deref();
        let (may_be_transparent, public) = (socket::may_be_transparent(), public.as_ref());
        let plan = plan::Plan { listener, upstreams, probes, certificates, ephemeral, may_be_transparent, public };
        let _ = writeln!(text, "{plan}");
    }
    if let Some(admin) = config.admin {
        let _ =
            writeln!(text, "Metrics and live sessions are at http://{}, for whoever can connect there.\n", admin.bind);
    }
    if let Some(path) = &config.log.transfers {
        let _ = writeln!(text, "Transfer log: {}, which this user may write.", path.display());
    }
    if config.landlock && Extent::here().shortfall().is_none() {
        let _ = writeln!(text, "Landlock: this kernel can hold the process to its ports and files.");
    }
    Ok(text)
}

/// Asks for it if it is announced.
fn public_address(config: &Config) -> Result<Option<Found>, String> {
    let Some(public) = PublicAddress::of(config).map_err(|error| error.to_string())? else { return Ok(None) };
    let found = block_on(public.find()).map_err(|error| format!("cannot start the runtime: {error}"))?;
    found.map(Some).map_err(|error| error.to_string())
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
    let sources = transparent::warnings(config);
    ports
        .chain(families)
        .chain(warning::exposed_admin(config))
        .chain(tls::warnings(config, SystemTime::now()))
        .chain(sources)
        .collect()
}

/// Becomes who `run` would be, so that what it cannot read or write is found: keys, certificates, the transfer log. What
/// follows if that is not permitted here, or if proxy.yaml itself, at `path`, cannot be read by that user.
///
/// # Errors
/// `run` could not become that user either.
pub fn become_user(config: &Config, path: &Path) -> Result<Option<String>, PrivilegeError> {
    match Privileges::give_up(config) {
        Err(PrivilegeError::NotRoot(user)) => Ok(Some(format!(
            "checked as the user who runs `check`, not as `{user}`: whether that user can read and write the files is not known"
        ))),
        Err(error) => Err(error),
        Ok(_) => Ok(config.user.as_ref().filter(|_| std::fs::File::open(path).is_err()).map(|user| {
            format!("`{user}` cannot read {}: fine for a start as root, not for reading it again", path.display())
        })),
    }
}

/// What this process could not do, by its limit on open files, its capabilities and its kernel; `run` says so itself.
#[must_use]
pub fn not_here(config: &Config) -> Vec<String> {
    let unrestricted = config.landlock.then(Extent::here).and_then(Extent::shortfall);
    descriptors::warning(config).into_iter().chain(transparent::capability(config)).chain(unrestricted).collect()
}

/// A setting of the kernel for TCP ports; they hold for IPv6 too.
fn setting(name: &str) -> io::Result<String> {
    std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"))
}
