//! `server.source` and `server.proxy_protocol` of a listener, and what they exclude.

use super::{Draft, Reader};
use crate::addr::Family;
use crate::config::report::{KeyPath, Problems, Wrong};
use crate::config::value::{self, Parsed};
use crate::config::{DataPorts, HeaderVersion, ProxyHeader, Selection, Source, Upstream};
use crate::nat::map::Announce;

impl Reader<'_, '_> {
    pub(super) fn source(&mut self, text: Option<String>, at: &KeyPath) -> Source {
        self.optional(text, &at.key("source"), source).unwrap_or_default()
    }

    pub(super) fn proxy_header(
        &mut self,
        version_text: Option<String>,
        data: Option<String>,
        at: &KeyPath,
    ) -> Option<ProxyHeader> {
        let (version_at, data_at) = (at.key("proxy_protocol"), at.key("proxy_protocol_data"));
        let data = self.optional(data, &data_at, value::boolean).unwrap_or_default();
        if data && version_text.is_none() && !self.problems.has(&version_at) {
            let what = "has no meaning without `proxy_protocol`";
            self.problems.report(&data_at, Wrong::new(what, "write `proxy_protocol: v2` as well, or remove it"));
        }
        let version = self.optional(version_text, &version_at, version)?;
        Some(ProxyHeader { version, data })
    }
}

/// `local` or `client`.
fn source(text: &str) -> Parsed<Source> {
    match text {
        "local" => Ok(Source::Local),
        "client" => Ok(Source::Client),
        _ => Err(Wrong::new(
            format!("`{text}` is not a source of connections"),
            "write `local` (an address of this machine) or `client` (the client's own)",
        )),
    }
}

/// `v1` or `v2`.
fn version(text: &str) -> Parsed<HeaderVersion> {
    match text {
        "v1" => Ok(HeaderVersion::V1),
        "v2" => Ok(HeaderVersion::V2),
        _ => {
            let help = "write `v1` or `v2`, or leave the key out to send no header";
            Err(Wrong::new(format!("`{text}` is not a version of the PROXY protocol"), help))
        }
    }
}

/// Reports what cannot be where connections come from the client's own address.
pub(super) fn check(draft: &Draft, problems: &mut Problems<'_>) {
    if draft.source != Source::Client {
        return;
    }
    if draft.upstream.as_ref().is_some_and(Selection::intercepts) {
        let what = "with `upstream: original-destination` connections of our own that are led back to us are known by \
                    their address, which is not to be a client's";
        let help = "remove it, or name the server in `upstream`";
        problems.report(&draft.server.at.key("source"), Wrong::new(what, help));
    }
    if let Some(DataPorts::Range(_)) = draft.server.data_ports {
        let what = "with `source: client` the server connects to ports of the client's address, each bound for one \
                    transfer";
        let help = "remove it, or write `any`";
        problems.report(&draft.server.at.key("data_ports"), Wrong::new(what, help));
    }
    let rules = draft.server.address_map.iter().flat_map(|map| map.rules());
    for rule in rules.filter(|rule| !matches!(rule.announce, Announce::Local)) {
        let what = format!("`{}`: with `source: client` the server is told the client's own address", rule.announce);
        let help = "remove `address_map`, or write `announce: local`";
        problems.report(&draft.server.at.key("address_map"), Wrong::new(what, help));
    }
    let Some(Selection::Fixed(servers)) = &draft.upstream else { return };
    // A name may have addresses of both.
    let may_be = |family: Family, server: &Upstream| match server {
        Upstream::Address(addr) => Family::of(addr.ip()) == family,
        Upstream::Name { .. } => true,
    };
    for (at, bind) in &draft.bind {
        let family = Family::of(bind.ip());
        if servers.list().iter().any(|server| may_be(family, server)) {
            continue;
        }
        let (theirs, servers) = if bind.is_ipv6() { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
        let what = format!("clients of `{bind}` come by {theirs}, and nobody can reach an {servers} server from there");
        let help = "remove it from this listener, and give these clients one of their own without `source: client`";
        problems.report(at, Wrong::new(what, help));
    }
}
