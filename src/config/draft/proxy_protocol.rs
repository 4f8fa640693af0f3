//! `client.proxy_protocol` of a listener, from its text.

use ipnet::IpNet;

use super::Reader;
use crate::config::report::KeyPath;
use crate::config::{ProxyProtocol, raw, value};

impl Reader<'_, '_> {
    /// `None` if any of it was reported.
    pub(super) fn proxy_protocol(
        &mut self,
        raw: Option<raw::ProxyProtocol>,
        at: &KeyPath,
    ) -> Option<Option<ProxyProtocol>> {
        let Some(raw) = raw else { return (!self.problems.has(at)).then_some(None) };
        let trusted = self.trusted(raw.trusted, &at.key("trusted"));
        if raw.data.is_none() {
            // Guessed wrong, every transfer fails, or a load balancer's address stands for all of its clients'.
            let help = "write `data: true` if connections to the data ports come through the load balancer too, with a \
                        header each; or `data: false` if they come from the clients directly, past the load balancer";
            self.missing(&at.key("data"), "it must be said how data connections come", help);
        }
        let data = self.optional(raw.data, &at.key("data"), value::boolean);
        Some(Some(ProxyProtocol { trusted: trusted?, data: data? }))
    }

    fn trusted(&mut self, raw: Option<raw::Texts>, at: &KeyPath) -> Option<Vec<IpNet>> {
        let texts = raw.unwrap_or_default();
        if texts.is_empty() {
            self.missing(
                at,
                "no load balancer to believe",
                "write where they connect from, like `trusted: [10.0.0.0/8]`",
            );
            return None;
        }
        let count = texts.len();
        let networks = self.each(texts, at, value::trusted);
        (networks.len() == count).then_some(networks)
    }
}
