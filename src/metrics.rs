//! What the process counts, for Prometheus.
//!
//! Each listener counts for itself ([`ListenerMetrics`]): plain atomics, touched when a session, a transfer or a lease
//! begins or ends, never for a chunk of data. What a transfer has moved is read from the transfer itself while it runs
//! ([`Progress`]), so the bytes are never behind. All of it is put into words only when somebody asks
//! ([`Metrics::encode`]).
//!
//! There are as many series as listeners have labels: no user, client or path is ever one of them. A listener that is gone,
//! with its last session, is forgotten.

mod encode;
mod label;
mod listener;
mod moving;
mod process;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::registry::Registry;

pub use self::label::{Refused, Unreachable};
pub use self::listener::{Counted, ListenerMetrics};
pub use self::moving::{Moving, Progress};
use crate::config::Listener;

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format, 0.0.4, which everything understands.
    Prometheus,
}

/// What is known of a server that the configuration names, when somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// The listener's name.
    pub listener: String,
    /// The host of `hosts` to which it belongs, if it is not the listener's own.
    pub host: Option<String>,
    /// The server, as the configuration has it.
    pub name: String,
    /// Whether it counts as up. One of which nothing is known yet does.
    pub is_up: bool,
    /// Sessions that are with it, those that are being connected to it included.
    pub sessions: u32,
}

/// What is counted in this process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By name. A listener of a new configuration goes on where that of the old one with the same name is.
    listeners: Mutex<BTreeMap<String, Weak<ListenerMetrics>>>,
}

impl Metrics {
    /// The counts of a listener, which exist for as long as somebody holds them. One of this name that there is goes on; it
    /// describes itself as before until it is [told](ListenerMetrics::describe) that this configuration is in use.
    #[must_use]
    pub fn listener(&self, config: &Listener) -> Arc<ListenerMetrics> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|_, known| known.strong_count() > 0);
        if let Some(known) = listeners.get(&config.name).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(ListenerMetrics::new(config));
        listeners.insert(config.name.clone(), Arc::downgrade(&new));
        new
    }

    /// All of it as text, and what is known of the servers.
    #[must_use]
    pub fn encode(&self, format: Format, servers: Vec<ServerState>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape { listeners: self.alive(), servers }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a String takes all that is written");
        match format {
            Format::OpenMetrics => text,
            Format::Prometheus => as_prometheus(&text),
        }
    }

    fn alive(&self) -> Vec<Arc<ListenerMetrics>> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.values().filter_map(Weak::upgrade).collect()
    }
}

/// What one who asks is told.
#[derive(Debug)]
struct Scrape {
    listeners: Vec<Arc<ListenerMetrics>>,
    servers: Vec<ServerState>,
}

/// Prometheus' own format has the same samples; but there a counter is called what its samples are, with `_total`, and
/// neither units nor ends are marked.
fn as_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut help = None;
    for line in open_metrics.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            // What it is for comes first, and what it is called only then.
            ["#", "HELP", _, said] => help = Some(*said),
            ["#", "TYPE", name, kind] => {
                let end = if *kind == "counter" { "_total" } else { "" };
                if let Some(said) = help.take() {
                    text.extend(["# HELP ", name, end, " ", said, "\n"]);
                }
                text.extend(["# TYPE ", name, end, " ", kind, "\n"]);
            }
            ["#", ..] => {}
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn listener(name: &str, announce: &str) -> Listener {
        let yaml = format!(
            "listeners: [{{ name: '{name}', bind: \"127.0.0.1:2121\", upstream: \"127.0.0.2:21\", client: {{ address_map: \
             [{{ peers: any, announce: {announce} }}], data_ports: 20000-20009 }} }}]"
        );
        Config::parse(&yaml, "test.yaml").unwrap().listeners.remove(0)
    }

    #[test]
    fn a_listener_goes_on_under_its_name_and_is_forgotten_with_its_last_holder() {
        let metrics = Arc::new(Metrics::default());
        let old = metrics.listener(&listener("a", "192.0.2.1"));
        let session = old.session_began();
        let new = metrics.listener(&listener("a", "192.0.2.2"));
        assert!(Arc::ptr_eq(&old, &new));
        let text = metrics.encode(Format::OpenMetrics, Vec::new());
        assert!(text.contains("address=\"192.0.2.1\"") && !text.contains("192.0.2.2"), "not in use yet: {text}");
        new.describe(&listener("a", "192.0.2.2"));
        let text = metrics.encode(Format::OpenMetrics, Vec::new());
        assert!(text.contains("ftp_alg_sessions_total{listener=\"a\"} 1\n"), "{text}");
        assert!(text.contains("address=\"192.0.2.2\"") && !text.contains("192.0.2.1"), "{text}");
        drop((old, new));
        assert!(metrics.encode(Format::OpenMetrics, Vec::new()).contains("listener=\"a\""), "its session is there");
        drop(session);
        assert!(!metrics.encode(Format::OpenMetrics, Vec::new()).contains("listener=\"a\""));
    }

    #[test]
    fn sec_29_a_name_cannot_end_its_label() {
        let metrics = Arc::new(Metrics::default());
        let _held = metrics.listener(&listener(r#"a"} 1 \"#, "local"));
        let text = metrics.encode(Format::OpenMetrics, Vec::new());
        assert!(text.contains(r#"ftp_alg_sessions_total{listener="a\"} 1 \\"} 0"#), "{text}");
    }

    #[test]
    fn prometheus_calls_counters_what_their_samples_are_called() {
        let open_metrics = "# HELP a_bytes For b.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total{c=\"d e\"} 1\n\
                            # HELP f For g.\n# TYPE f gauge\nf 2\n# EOF\n";
        let text = "# HELP a_bytes_total For b.\n# TYPE a_bytes_total counter\na_bytes_total{c=\"d e\"} 1\n\
                    # HELP f For g.\n# TYPE f gauge\nf 2\n";
        assert_eq!(as_prometheus(open_metrics), text);
    }
}
