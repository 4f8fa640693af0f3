//! What one listener counts.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use super::label::{Counts, Ended, Handshake, Kind, Missing, Outcome, Refused, Unreachable};
use super::moving::{Bytes, Moving, Progress};
use crate::addr::{Leg, PerLeg};
use crate::config::{DataPorts, LegConfig, Listener};
use crate::nat::map::AddressMap;
use crate::session::{ChannelReport, Lack, Reason, TransferRecord};

/// From a server on the same machine to one that just makes `timeouts.connect_server`.
const CONNECT_SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0];

/// A port is there at once, or somebody waits for it: `timeouts.port_wait` is 15 s by default.
const PORT_SECONDS: [f64; 7] = [0.001, 0.01, 0.1, 1.0, 5.0, 10.0, 15.0];

/// The counts of one listener, and what its configuration says that goes with them.
#[derive(Debug)]
pub struct ListenerMetrics {
    pub(super) name: String,
    pub(super) facts: Mutex<Facts>,
    pub(super) sessions: AtomicU64,
    pub(super) active: AtomicI64,
    pub(super) ended: Counts<Ended>,
    pub(super) failed_logins: AtomicU64,
    pub(super) refused: Counts<Refused>,
    pub(super) connects: Histogram,
    pub(super) unreachable: Counts<Unreachable>,
    /// By [`Kind`].
    pub(super) transfers: [Counts<Outcome>; 5],
    pub(super) bytes: Bytes,
    pub(super) legs: PerLeg<LegMetrics>,
    pub(super) not_from_ftp_data: AtomicU64,
}

/// The part of it that each leg has.
#[derive(Debug)]
pub(super) struct LegMetrics {
    pub(super) leased: AtomicI64,
    pub(super) port_waits: Histogram,
    pub(super) lacks: Counts<Missing>,
    pub(super) handshakes: Counts<Handshake>,
    pub(super) failed_handshakes: AtomicU64,
}

/// What the configuration says.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) legs: PerLeg<(AddressMap, Option<u64>)>,
}

impl Facts {
    fn of(config: &Listener) -> Self {
        let leg = |leg: &LegConfig| {
            let ports = match &leg.data_ports {
                DataPorts::Range(ports) => Some(u64::from(*ports.end() - *ports.start()) + 1),
                DataPorts::Any => None,
            };
            (leg.address_map.clone(), ports)
        };
        Self { legs: PerLeg { client: leg(&config.client), server: leg(&config.server) } }
    }
}

impl LegMetrics {
    fn new() -> Self {
        Self {
            leased: AtomicI64::new(0),
            port_waits: Histogram::new(PORT_SECONDS),
            lacks: Counts::new(),
            handshakes: Counts::new(),
            failed_handshakes: AtomicU64::new(0),
        }
    }
}

impl ListenerMetrics {
    pub(super) fn new(config: &Listener) -> Self {
        Self {
            name: config.name.clone(),
            facts: Mutex::new(Facts::of(config)),
            sessions: AtomicU64::new(0),
            active: AtomicI64::new(0),
            ended: Counts::new(),
            failed_logins: AtomicU64::new(0),
            refused: Counts::new(),
            connects: Histogram::new(CONNECT_SECONDS),
            unreachable: Counts::new(),
            transfers: std::array::from_fn(|_| Counts::new()),
            bytes: Bytes::default(),
            legs: PerLeg { client: LegMetrics::new(), server: LegMetrics::new() },
            not_from_ftp_data: AtomicU64::new(0),
        }
    }

    /// This configuration is in use from now on.
    pub fn describe(&self, config: &Listener) {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Facts::of(config);
    }

    /// A session has begun; it is there for as long as this is.
    #[must_use]
    pub fn session_began(self: &Arc<Self>) -> Counted {
        self.sessions.fetch_add(1, Relaxed);
        Counted::new(self, What::Session)
    }

    /// A session is over.
    pub fn session_ended(&self, why: Reason) {
        self.ended.add(why.into());
    }

    /// The server knows a user or a password not.
    pub fn login_failed(&self) {
        self.failed_logins.fetch_add(1, Relaxed);
    }

    /// Somebody or something was turned away.
    pub fn refused(&self, why: Refused) {
        self.refused.add(why);
    }

    /// A control connection to the server stands, after so long.
    pub fn connected(&self, took: Duration) {
        self.connects.observe(took.as_secs_f64());
    }

    /// There is none.
    pub fn unreachable(&self, why: Unreachable) {
        self.unreachable.add(why);
    }

    /// A transfer is over.
    pub fn transferred(&self, record: &TransferRecord) {
        self.transfers[Kind::from(record.verb) as usize].add(record.into());
    }

    /// A data connection that was passed through is over.
    pub fn passed(&self, report: &ChannelReport) {
        self.transfers[Kind::Passed as usize].add(report.end.into());
    }

    /// A data channel moves bytes, for as long as this is there.
    #[must_use]
    pub fn moving(self: &Arc<Self>, progress: Arc<dyn Progress>) -> Moving {
        Moving { id: self.bytes.begin(progress), listener: Arc::clone(self) }
    }

    /// A port is leased, after so long, for as long as this is there.
    #[must_use]
    pub fn leased(self: &Arc<Self>, leg: Leg, took: Duration) -> Counted {
        self.legs[leg].port_waits.observe(took.as_secs_f64());
        Counted::new(self, What::Lease(leg))
    }

    /// A peer could not be told to connect to us.
    pub fn lacked(&self, leg: Leg, lacks: Lack) {
        self.legs[leg].lacks.add(lacks.into());
    }

    /// A TLS handshake on a control connection is done, with this version.
    pub fn secured(&self, leg: Leg, version: &str) {
        let version = match version {
            "TLSv1.2" => Handshake::Tls12,
            "TLSv1.3" => Handshake::Tls13,
            _ => Handshake::Other,
        };
        self.legs[leg].handshakes.add(version);
    }

    /// A TLS handshake has failed, on a control or a data connection.
    pub fn no_tls(&self, leg: Leg) {
        self.legs[leg].failed_handshakes.fetch_add(1, Relaxed);
    }

    /// A data connection that should have come from port 20 did not; how many did not so far.
    pub fn not_from_ftp_data(&self) -> u64 {
        self.not_from_ftp_data.fetch_add(1, Relaxed) + 1
    }

    fn gauge(&self, what: What) -> &AtomicI64 {
        match what {
            What::Session => &self.active,
            What::Lease(leg) => &self.legs[leg].leased,
        }
    }
}

/// Something that is there now, and counted for as long as it is.
#[derive(Debug)]
pub struct Counted {
    listener: Arc<ListenerMetrics>,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Session,
    Lease(Leg),
}

impl Counted {
    fn new(listener: &Arc<ListenerMetrics>, what: What) -> Self {
        listener.gauge(what).fetch_add(1, Relaxed);
        Self { listener: Arc::clone(listener), what }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.listener.gauge(self.what).fetch_sub(1, Relaxed);
    }
}
