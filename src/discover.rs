//! Finding out what to announce: names in the address maps are looked up now and again, and so is the public address of
//! this machine, from the cloud that it is in (`announce: auto`).
//!
//! Either way what is found goes into a [`ResolvedName`], which sessions read at each PASV: a change holds from the next
//! one on, and transfers that run know nothing of it.

mod dmi;
mod http;
mod public;
mod reply;
mod service;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::config::Config;
use crate::nat::map::{Announce, ResolvedName};
pub use public::{DiscoverError, Found, NoAddress, PublicAddress};

/// How often a name is looked up. Dynamic DNS entries have lifetimes of 60 s and more; half of that follows a
/// changed EIP in time.
const REFRESH: Duration = Duration::from_secs(30);

/// A name server that does not answer is not waited for longer than this; the last good value serves on.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);

/// The names that the address maps of a configuration announce.
#[must_use]
pub fn names(config: &Config) -> Vec<Arc<ResolvedName>> {
    let maps =
        config.listeners.iter().flat_map(|listener| [&listener.client.address_map, &listener.server.address_map]);
    maps.flat_map(|map| map.rules())
        .filter_map(|rule| match &rule.announce {
            Announce::Name(name) => Some(Arc::clone(name)),
            Announce::Address(_)
            | Announce::PerFamily(..)
            | Announce::Local
            | Announce::ControlAddress
            | Announce::Auto(_) => None,
        })
        .collect()
}

/// Looks every name up once, so that the first PASV finds an address. A failure is logged and tried again later: at
/// boot the network may come after us. All at once: a name whose server is silent does not keep the others waiting.
pub async fn resolve(names: &[Arc<ResolvedName>]) {
    let mut look_ups = JoinSet::new();
    for name in names {
        let name = Arc::clone(name);
        look_ups.spawn(async move { look_up(&name).await });
    }
    while look_ups.join_next().await.is_some() {}
}

/// Names that are to be announced have no address.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve {}, which is to be announced; `ftp-alg check` says why", .0.join(", "))]
pub struct Unresolved(Vec<String>);

/// Looks every name of another configuration up. What the `earlier` names have found serves on where there is no answer.
///
/// # Errors
/// Nothing is known of some: every PASV would fail.
pub async fn resolve_anew(names: &[Arc<ResolvedName>], earlier: &[Arc<ResolvedName>]) -> Result<(), Unresolved> {
    for name in names {
        if let Some(known) = earlier.iter().find(|known| known.name() == name.name()) {
            name.set(known.addresses());
        }
    }
    resolve(names).await;
    let unknown = names.iter().filter(|name| name.addresses().is_empty());
    let mut unknown: Vec<String> = unknown.map(|name| name.name().to_owned()).collect();
    unknown.dedup();
    if unknown.is_empty() { Ok(()) } else { Err(Unresolved(unknown)) }
}

/// Keeps every name up to date, for ever.
pub async fn refresh(names: Vec<Arc<ResolvedName>>) {
    if names.is_empty() {
        return;
    }
    let mut ticks = tokio::time::interval(REFRESH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is immediate, and that look-up has just been made.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        resolve(&names).await;
    }
}

async fn look_up(name: &ResolvedName) {
    let answer = tokio::time::timeout(LOOK_UP_LIMIT, tokio::net::lookup_host((name.name(), 0))).await;
    match answer {
        Ok(Ok(found)) => {
            let found: Vec<IpAddr> = found.map(|addr| addr.ip()).collect();
            if name.set(found.clone()) {
                tracing::info!(name = name.name(), addresses = ?found, "announced name resolved");
            }
        }
        Ok(Err(error)) => tracing::warn!(name = name.name(), %error, "cannot resolve the announced name"),
        Err(_) => tracing::warn!(name = name.name(), "no answer for the announced name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rel_14_a_new_name_must_be_known_and_an_old_one_may_be_remembered() {
        let name = || Arc::new(ResolvedName::new("ftp.invalid"));
        let (known, new) = (name(), name());
        assert!(resolve_anew(&[Arc::clone(&new)], &[Arc::clone(&known)]).await.is_err());
        known.set(vec!["203.0.113.10".parse().unwrap()]);
        resolve_anew(&[Arc::clone(&new)], &[Arc::clone(&known)]).await.unwrap();
        assert_eq!(new.addresses(), known.addresses());
    }

    #[tokio::test]
    async fn rel_25_a_failed_look_up_keeps_the_last_good_address() {
        let good: IpAddr = "203.0.113.10".parse().unwrap();
        // RFC 6761 §6.4: names below `invalid` never resolve.
        let name = Arc::new(ResolvedName::new("ftp.invalid"));
        name.set(vec![good]);
        resolve(&[Arc::clone(&name)]).await;
        assert_eq!(name.get(crate::addr::Family::V4), Some(good));
        let local = Arc::new(ResolvedName::new("localhost"));
        resolve(&[Arc::clone(&local)]).await;
        assert!(local.get(crate::addr::Family::V4).is_some_and(|ip| ip.is_loopback()));
    }
}
