//! What `server.source: client` needs of this machine.

use std::collections::BTreeSet;

use crate::addr::Family;
use crate::config::{Config, Source};
use crate::relay::{self, socket::transparent};

/// The mark of deploy/transparent.
const MARK: u32 = 1;

/// The capability, if it is missing here; `run` says so itself. The service may have it.
pub(super) fn capability(config: &Config) -> Option<String> {
    let error = relay::may_use_client_addresses(config).err()?;
    Some(format!("`run` would not start here: {error}"))
}

/// What else is missing on this machine, as far as it shows from here.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let listeners = config.listeners.iter().filter(|listener| listener.source == Source::Client);
    let binds = listeners.flat_map(|listener| &listener.bind);
    let families: BTreeSet<u8> = binds.map(|bind| Family::of(bind.ip()).number()).collect();
    let lost = [(Family::V4, "IPv4"), (Family::V6, "IPv6")].into_iter().filter(|(family, _)| {
        families.contains(&family.number()) && transparent::are_taken_in(MARK, *family) == Some(false)
    });
    let mut warnings: Vec<String> = lost
        .map(|(_, name)| {
            format!(
                "server.source: client: what the server sends to the clients would not be taken in here: this machine \
                 has no {name} route for packets with mark {MARK}; run deploy/transparent/routes.sh, and load \
                 transparent.nft, which sets the mark (nothing is wrong if your own rules use another)"
            )
        })
        .collect();
    if families.contains(&Family::V4.number()) && setting("src_valid_mark").as_deref() == Some("1") {
        warnings.push(
            "server.source: client: net.ipv4.conf.all.src_valid_mark is 1 on this machine (wg-quick sets it), with \
             which rp_filter drops what the server sends to the clients; set it to 0"
                .into(),
        );
    }
    warnings
}

/// A setting of all interfaces.
fn setting(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/all/{name}")).ok()?;
    Some(text.trim().into())
}
