//! The counts in the words of Prometheus: every name that a dashboard may use is here.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::label::{Kind, Label};
use super::listener::ListenerMetrics;
use super::{Scrape, ServerState, process};
use crate::addr::{Family, Leg};
use crate::nat::map::Announce;

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let all = &self.listeners;
        build(&mut encoder)?;
        sessions(&mut encoder, all)?;
        upstream(&mut encoder, all)?;
        servers(&mut encoder, &self.servers)?;
        transfers(&mut encoder, all)?;
        ports(&mut encoder, all)?;
        announced(&mut encoder, all)?;
        tls(&mut encoder, all)?;
        process::encode(&mut encoder)
    }
}

type All = [Arc<ListenerMetrics>];

fn build(encoder: &mut DescriptorEncoder) -> fmt::Result {
    // Not of the type info: Prometheus' own format has none, and its parsers refuse what they do not know.
    let mut series = Series::gauges(encoder, "ftp_alg_build_info", "The version that runs; always 1.")?;
    series.gauge(&[("version", env!("CARGO_PKG_VERSION"))], 1)
}

fn sessions(encoder: &mut DescriptorEncoder, all: &All) -> fmt::Result {
    let mut series = Series::counters(encoder, "ftp_alg_sessions", "Sessions that have begun.")?;
    for listener in all {
        series.counter(&[of(listener)], listener.sessions.load(Relaxed))?;
    }
    let mut series = Series::gauges(encoder, "ftp_alg_active_sessions", "Sessions that there are now.")?;
    for listener in all {
        series.gauge(&[of(listener)], listener.active.load(Relaxed))?;
    }
    let mut series = Series::counters(encoder, "ftp_alg_session_ends", "Sessions that have ended, by why.")?;
    for listener in all {
        for (reason, count) in listener.ended.each() {
            series.counter(&[of(listener), ("reason", reason)], count)?;
        }
    }
    let help = "Connections, PORT commands and passive ports that were turned away, by why.";
    let mut series = Series::counters(encoder, "ftp_alg_refusals", help)?;
    for listener in all {
        for (reason, count) in listener.refused.each() {
            series.counter(&[of(listener), ("reason", reason)], count)?;
        }
    }
    let help = "Logins that the server has refused.";
    let mut series = Series::counters(encoder, "ftp_alg_login_failures", help)?;
    for listener in all {
        series.counter(&[of(listener)], listener.failed_logins.load(Relaxed))?;
    }
    Ok(())
}

fn upstream(encoder: &mut DescriptorEncoder, all: &All) -> fmt::Result {
    let help = "How long control connections to the server took to be made, without the wait for their turn.";
    let mut series = Series::histograms(encoder, "ftp_alg_upstream_connect", help)?;
    for listener in all {
        series.histogram(&[of(listener)], &listener.connects)?;
    }
    let help = "Control connections to the server that could not be made, by why.";
    let mut series = Series::counters(encoder, "ftp_alg_upstream_connect_failures", help)?;
    for listener in all {
        for (reason, count) in listener.unreachable.each() {
            series.counter(&[of(listener), ("reason", reason)], count)?;
        }
    }
    Ok(())
}

fn servers(encoder: &mut DescriptorEncoder, all: &[ServerState]) -> fmt::Result {
    let help = "Whether a server of the configuration counts as up.";
    let mut series = Series::gauges(encoder, "ftp_alg_upstream_up", help)?;
    for server in all {
        series.gauge(&at(server), server.is_up.into())?;
    }
    let help = "Sessions that are with a server of the configuration.";
    let mut series = Series::gauges(encoder, "ftp_alg_upstream_sessions", help)?;
    for server in all {
        series.gauge(&at(server), server.sessions.into())?;
    }
    Ok(())
}

fn at(server: &ServerState) -> Vec<(&str, &str)> {
    let host = server.host.as_deref().map(|host| ("host", host));
    [("listener", &*server.listener), ("upstream", &*server.name)].into_iter().chain(host).collect()
}

fn transfers(encoder: &mut DescriptorEncoder, all: &All) -> fmt::Result {
    let help = "Transfers that are over, by what was transferred and how it ended.";
    let mut series = Series::counters(encoder, "ftp_alg_transfers", help)?;
    for listener in all {
        for kind in Kind::ALL {
            for (outcome, count) in listener.transfers[kind.index()].each() {
                series.counter(&[of(listener), ("kind", kind.text()), ("outcome", outcome)], count)?;
            }
        }
    }
    let help = "Bytes of data connections, of those that run as well; up is from the client to the server.";
    let mut series = Series::new(encoder, "ftp_alg_data", help, Some(&Unit::Bytes), MetricType::Counter)?;
    for listener in all {
        let (up, down) = listener.bytes.total();
        series.counter(&[of(listener), ("direction", "up")], up)?;
        series.counter(&[of(listener), ("direction", "down")], down)?;
    }
    let help = "Data connections to clients that should have come from port 20 and came from another.";
    let mut series = Series::counters(encoder, "ftp_alg_not_from_ftp_data", help)?;
    for listener in all {
        series.counter(&[of(listener)], listener.not_from_ftp_data.load(Relaxed))?;
    }
    Ok(())
}

fn ports(encoder: &mut DescriptorEncoder, all: &All) -> fmt::Result {
    let help = "Data ports of the range; each serves many peers.";
    let mut series = Series::gauges(encoder, "ftp_alg_data_ports", help)?;
    for listener in all {
        let facts = listener.facts.lock().unwrap_or_else(PoisonError::into_inner);
        for leg in Leg::BOTH {
            if let (_, Some(ports)) = &facts.legs[leg] {
                series.gauge(&[of(listener), ("leg", leg.name())], i64::try_from(*ports).unwrap_or(i64::MAX))?;
            }
        }
    }
    let help = "Leases of data ports: connections that are waited for. Several peers may have one on the same port.";
    let mut series = Series::gauges(encoder, "ftp_alg_data_ports_leased", help)?;
    for listener in all {
        for leg in Leg::BOTH {
            series.gauge(&[of(listener), ("leg", leg.name())], listener.legs[leg].leased.load(Relaxed))?;
        }
    }
    let help = "How long those who got a data port had waited for it.";
    let mut series = Series::histograms(encoder, "ftp_alg_data_port_wait", help)?;
    for listener in all {
        for leg in Leg::BOTH {
            series.histogram(&[of(listener), ("leg", leg.name())], &listener.legs[leg].port_waits)?;
        }
    }
    let help = "Peers that could not be told where to connect, by what there was not: a free port, an address, or one of \
                the right family.";
    let mut series = Series::counters(encoder, "ftp_alg_data_port_failures", help)?;
    for listener in all {
        for leg in Leg::BOTH {
            for (lacks, count) in listener.legs[leg].lacks.each() {
                series.counter(&[of(listener), ("leg", leg.name()), ("lacks", lacks)], count)?;
            }
        }
    }
    Ok(())
}

fn announced(encoder: &mut DescriptorEncoder, all: &All) -> fmt::Result {
    let help = "What peers are told to connect to, by rule; always 1. A name that was never resolved has no address.";
    let mut series = Series::gauges(encoder, "ftp_alg_announced_address_info", help)?;
    for listener in all {
        let facts = listener.facts.lock().unwrap_or_else(PoisonError::into_inner);
        for leg in Leg::BOTH {
            for rule in facts.legs[leg].0.rules() {
                let peers = rule.peers.to_string();
                for address in addresses(&rule.announce) {
                    series.gauge(&[of(listener), ("leg", leg.name()), ("peers", &peers), ("address", &address)], 1)?;
                }
            }
        }
    }
    Ok(())
}

/// Both families, if there are both. `local` and `control-address` stand for themselves.
fn addresses(announce: &Announce) -> Vec<String> {
    match announce {
        Announce::Name(name) | Announce::Auto(name) => {
            let mut found: Vec<String> = [Family::V4, Family::V6]
                .iter()
                .filter_map(|family| name.get(*family))
                .map(|ip| ip.to_string())
                .collect();
            found.dedup();
            if found.is_empty() { vec![String::new()] } else { found }
        }
        Announce::PerFamily(v4, v6) => vec![v4.to_string(), v6.to_string()],
        Announce::Address(_) | Announce::Local | Announce::ControlAddress => vec![announce.to_string()],
    }
}

fn tls(encoder: &mut DescriptorEncoder, all: &All) -> fmt::Result {
    let help = "TLS handshakes of control connections that are done, by version.";
    let mut series = Series::counters(encoder, "ftp_alg_tls_handshakes", help)?;
    for listener in all {
        for leg in Leg::BOTH {
            for (version, count) in listener.legs[leg].handshakes.each() {
                series.counter(&[of(listener), ("leg", leg.name()), ("version", version)], count)?;
            }
        }
    }
    let help = "TLS handshakes of control and data connections that failed.";
    let mut series = Series::counters(encoder, "ftp_alg_tls_handshake_failures", help)?;
    for listener in all {
        for leg in Leg::BOTH {
            let count = listener.legs[leg].failed_handshakes.load(Relaxed);
            series.counter(&[of(listener), ("leg", leg.name())], count)?;
        }
    }
    Ok(())
}

fn of(listener: &ListenerMetrics) -> (&'static str, &str) {
    ("listener", &listener.name)
}

/// The series of one metric, which are being written.
pub(super) struct Series<'a>(MetricEncoder<'a>);

impl<'a> Series<'a> {
    /// Their samples end in `_total`.
    fn counters(encoder: &'a mut DescriptorEncoder, name: &'a str, help: &str) -> Result<Self, fmt::Error> {
        Self::new(encoder, name, help, None, MetricType::Counter)
    }

    pub(super) fn gauges(encoder: &'a mut DescriptorEncoder, name: &'a str, help: &str) -> Result<Self, fmt::Error> {
        Self::new(encoder, name, help, None, MetricType::Gauge)
    }

    /// Of times: their name ends in `_seconds`.
    fn histograms(encoder: &'a mut DescriptorEncoder, name: &'a str, help: &str) -> Result<Self, fmt::Error> {
        Self::new(encoder, name, help, Some(&Unit::Seconds), MetricType::Histogram)
    }

    /// With a unit, which the name ends in.
    pub(super) fn new(
        encoder: &'a mut DescriptorEncoder,
        name: &'a str,
        help: &str,
        unit: Option<&'a Unit>,
        kind: MetricType,
    ) -> Result<Self, fmt::Error> {
        encoder.encode_descriptor(name, help, unit, kind).map(Self)
    }

    fn counter(&mut self, labels: &[(&str, &str)], count: u64) -> fmt::Result {
        self.sample(labels, &ConstCounter::new(count))
    }

    fn gauge(&mut self, labels: &[(&str, &str)], value: i64) -> fmt::Result {
        self.sample(labels, &ConstGauge::new(value))
    }

    fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) -> fmt::Result {
        self.sample(labels, histogram)
    }

    fn sample(&mut self, labels: &[(&str, &str)], metric: &impl EncodeMetric) -> fmt::Result {
        let labels: Vec<(&str, Cow<'_, str>)> = labels.iter().map(|(name, value)| (*name, escaped(value))).collect();
        metric.encode(self.0.encode_family(&labels)?)
    }

    /// The only one of its kind.
    pub(super) fn only(self, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.0)
    }
}

/// The library writes values of labels as they are.
fn escaped(value: &str) -> Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n").into()
    } else {
        value.into()
    }
}
