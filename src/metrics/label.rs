//! The values that labels have. They are few, and known before anything is counted, so each is there from the start with 0.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::addr::Leg;
use crate::ftp::command::TransferVerb;
use crate::session::{End, Lack, Reason, TransferRecord};

/// The values of one label.
pub(super) trait Label: Copy + 'static {
    /// Every value, in the order of its [`index`](Self::index).
    const ALL: &'static [Self];
    fn index(self) -> usize;
    fn text(self) -> &'static str;
}

/// A counter for each value of a label.
#[derive(Debug)]
pub(super) struct Counts<L>(Box<[AtomicU64]>, PhantomData<fn(L)>);

impl<L: Label> Counts<L> {
    pub(super) fn new() -> Self {
        Self(L::ALL.iter().map(|_| AtomicU64::new(0)).collect(), PhantomData)
    }

    pub(super) fn add(&self, label: L) {
        self.0[label.index()].fetch_add(1, Relaxed);
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        L::ALL.iter().map(|label| (label.text(), self.0[label.index()].load(Relaxed)))
    }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $vis:vis $name:ident { $($(#[$of:meta])* $value:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $($(#[$of])* $value),+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }
    )+};
}

labels! {
    /// Why somebody, or something that was asked for, was turned away.
    pub Refused {
        /// The client is not in `policy.allow`.
        NotAllowed = "not_allowed",
        /// `limits.sessions` is reached.
        Sessions = "sessions",
        /// `limits.sessions_per_address` is reached.
        SessionsPerAddress = "sessions_per_address",
        /// `limits.login_failures` is reached for the client's address.
        LoginFailures = "login_failures",
        /// A connection without a good PROXY header, or not from a load balancer.
        ProxyHeader = "proxy_header",
        /// A PORT or EPRT that names somebody else, or a port that is not dialled.
        Port = "port",
        /// A passive port of the server's that is not dialled.
        ServerPort = "server_port",
    }

    /// Why there is no connection to the server.
    pub Unreachable {
        /// The network, the machine or the server.
        Failed = "failed",
        /// Nothing answered in time.
        TimedOut = "timed_out",
        /// The client's choice is not in `upstream_networks`.
        NotPermitted = "not_permitted",
        /// It has no address of the client's family, from which it was to be reached (`server.source: client`).
        OtherFamily = "other_family",
        /// It would end at this proxy.
        Loop = "loop",
    }

    /// What is transferred.
    pub(super) Kind {
        Download = "download",
        Upload = "upload",
        Listing = "listing",
        Other = "other",
        Passed = "passed_through",
    }

    /// How a transfer ended.
    pub(super) Outcome {
        Complete = "complete",
        /// The data went well, and the reply says that the rest did not.
        Refused = "failed_at_server",
        ClientNeverConnected = "client_never_connected",
        ServerNeverConnected = "server_never_connected",
        ClientUnreachable = "client_unreachable",
        ServerUnreachable = "server_unreachable",
        ClientTls = "client_tls_failed",
        ServerTls = "server_tls_failed",
        ClientReset = "reset_by_client",
        ServerReset = "reset_by_server",
        Idle = "idle",
        Closed = "closed",
    }

    /// Why a session ended.
    pub(super) Ended {
        ClientClosed = "client_closed",
        ServerClosed = "server_closed",
        BeforeGreeting = "server_closed_before_greeting",
        ServerUnavailable = "server_unavailable",
        ServerRefused = "server_refused",
        ClientReset = "client_reset",
        ServerReset = "server_reset",
        LoginTimeout = "login_timeout",
        IdleTimeout = "idle_timeout",
        LineTimeout = "line_timeout",
        Spoofed = "spoofed",
        LoginFailures = "login_failures",
        NotFtp = "not_ftp",
        TlsFailed = "tls_failed",
        LeftOver = "left_over",
        Drained = "drained",
        Killed = "killed",
    }

    /// What a data port lacks.
    pub(super) Missing {
        Port = "port",
        Address = "address",
        Family = "family",
    }

    /// How a handshake went.
    pub(super) Handshake {
        Tls12 = "TLSv1.2",
        Tls13 = "TLSv1.3",
        Other = "other",
    }
}

impl From<Option<TransferVerb>> for Kind {
    fn from(verb: Option<TransferVerb>) -> Self {
        match verb {
            Some(TransferVerb::Retr) => Self::Download,
            Some(TransferVerb::Stor | TransferVerb::Stou | TransferVerb::Appe) => Self::Upload,
            Some(TransferVerb::List | TransferVerb::Nlst | TransferVerb::Mlsd) => Self::Listing,
            None => Self::Other,
        }
    }
}

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        match end {
            End::Complete => Self::Complete,
            End::NeverConnected(Leg::Client) => Self::ClientNeverConnected,
            End::NeverConnected(Leg::Server) => Self::ServerNeverConnected,
            End::DialFailed(Leg::Client) => Self::ClientUnreachable,
            End::DialFailed(Leg::Server) => Self::ServerUnreachable,
            End::TlsFailed(Leg::Client) => Self::ClientTls,
            End::TlsFailed(Leg::Server) => Self::ServerTls,
            End::Reset(Leg::Client) => Self::ClientReset,
            End::Reset(Leg::Server) => Self::ServerReset,
            End::Idle => Self::Idle,
            End::Closed => Self::Closed,
        }
    }
}

impl From<&TransferRecord> for Outcome {
    fn from(record: &TransferRecord) -> Self {
        const FIRST_ERROR: u16 = 400;
        match record.channel.end {
            End::Complete if record.code.is_some_and(|code| code >= FIRST_ERROR) => Self::Refused,
            end => end.into(),
        }
    }
}

impl From<Reason> for Ended {
    fn from(why: Reason) -> Self {
        match why {
            Reason::ClientClosed => Self::ClientClosed,
            Reason::ServerClosed => Self::ServerClosed,
            Reason::ServerClosedBeforeGreeting => Self::BeforeGreeting,
            Reason::ServerUnavailable => Self::ServerUnavailable,
            Reason::ServerRefused => Self::ServerRefused,
            Reason::Reset(Leg::Client) => Self::ClientReset,
            Reason::Reset(Leg::Server) => Self::ServerReset,
            Reason::LoginTimeout => Self::LoginTimeout,
            Reason::IdleTimeout => Self::IdleTimeout,
            Reason::LineTimeout => Self::LineTimeout,
            Reason::Spoofed(_) => Self::Spoofed,
            Reason::LoginFailures => Self::LoginFailures,
            Reason::NotFtp => Self::NotFtp,
            Reason::TlsFailed(_) => Self::TlsFailed,
            Reason::LeftOver(_) => Self::LeftOver,
            Reason::Drained => Self::Drained,
            Reason::Killed => Self::Killed,
        }
    }
}

impl From<Lack> for Missing {
    fn from(lack: Lack) -> Self {
        match lack {
            Lack::Port => Self::Port,
            Lack::Address => Self::Address,
            Lack::Family => Self::Family,
        }
    }
}
