//! What a session is told and what it wants done.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::destination::Destination;
use crate::addr::{Announced, Family, Leg, PerLeg};
use crate::ftp::command::TransferVerb;
use crate::nat::policy::{DialTarget, Refusal};

/// Names a data channel within its session. Never used twice, so an event for a channel that is gone is
/// recognised and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// Something happened outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes arrived on a control connection. `urgent`: urgent data is among them or just before them
    /// (RFC 959 §4.1.3, the Telnet Synch).
    Bytes {
        /// Where.
        leg: Leg,
        /// In the order of arrival, in pieces of any size.
        data: &'a [u8],
        /// Urgent data came along.
        urgent: bool,
    },
    /// A peer closed its direction of a control connection in good order.
    Eof {
        /// Which connection.
        leg: Leg,
    },
    /// A control connection failed.
    Reset {
        /// Which connection.
        leg: Leg,
    },
    /// The control connection to the server stands.
    ServerReady {
        /// The server's address.
        peer: SocketAddr,
        /// Our own on that connection.
        local: SocketAddr,
    },
    /// The server could not be reached.
    ServerFailed,
    /// The server that the client has chosen may not be reached, or is this proxy itself.
    ServerRefused,
    /// The handshake that [`Action::StartTls`] asked for is done.
    TlsReady {
        /// On which control connection.
        leg: Leg,
    },
    /// The client expects the server of this name (SNI). Comes before [`Event::TlsReady`].
    NameExpected {
        /// A DNS name.
        name: &'a str,
    },
    /// The handshake failed, or the peer broke the rules of TLS later on.
    TlsFailed {
        /// On which control connection.
        leg: Leg,
    },
    /// Bytes lie on the wrong side of a switch: plain ones that came before [`Action::StartTls`] could be carried out and
    /// are no handshake, or encrypted ones behind the command that [`Action::StopTls`] answers. Somebody may have put them
    /// there (CVE-2011-0411).
    LeftOver {
        /// On which control connection.
        leg: Leg,
    },
    /// Answers [`Action::Bind`]: we listen, and this is what to tell the peer.
    PortBound {
        /// The channel.
        id: ChannelId,
        /// The end that accepts.
        leg: Leg,
        /// What to tell the peer of that leg.
        at: Announced,
    },
    /// Answers [`Action::Bind`]: the peer cannot be told to connect to us.
    PortRefused {
        /// The channel.
        id: ChannelId,
        /// The end that should have accepted.
        leg: Leg,
        /// What there is not.
        lacks: Lack,
    },
    /// Everything that came from the other leg, and our FIN, has been handed to this leg's socket.
    ChannelFlushed {
        /// The channel.
        id: ChannelId,
        /// Whose socket has it all.
        leg: Leg,
    },
    /// A channel is over; the last event of this channel.
    ChannelEnded {
        /// The channel.
        id: ChannelId,
        /// How, and how much went through.
        report: ChannelReport,
    },
    /// Answers [`Action::AskLogin`]: the login command may go to the server.
    LoginPermitted,
    /// Answers [`Action::AskLogin`]: too many logins from the client's address have failed.
    LoginRefused,
    /// The program is about to stop: finish what runs, start nothing new.
    Drain,
}

/// What is missing for a peer to connect to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// A port: every one is taken, and stayed so.
    Port,
    /// An address: the name to announce has never been resolved.
    Address,
    /// An address of the family that has to be [carried](Action::Bind::carries), or one at which the peer may connect.
    Family,
}

/// The end of a data channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelReport {
    /// Why it ended.
    pub end: End,
    /// Bytes from the client to the server.
    pub up: u64,
    /// Bytes from the server to the client.
    pub down: u64,
}

/// Why a data channel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both peers closed in good order and everything was passed on.
    Complete,
    /// The peer that was to connect to us did not come in time.
    NeverConnected(Leg),
    /// We could not connect to this peer.
    DialFailed(Leg),
    /// The TLS handshake with this peer failed.
    TlsFailed(Leg),
    /// This peer's connection was reset or failed.
    Reset(Leg),
    /// Not a byte moved for `timeouts.data_idle`.
    Idle,
    /// The session closed it ([`Action::CloseChannel`]), or ended.
    Closed,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::NeverConnected(leg) => write!(f, "the {leg} never connected"),
            Self::DialFailed(leg) => write!(f, "the {leg} could not be reached"),
            Self::TlsFailed(leg) => write!(f, "no TLS with the {leg}"),
            Self::Reset(leg) => write!(f, "reset by the {leg}"),
            Self::Idle => f.write_str("idle for too long"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

/// Something to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send these bytes; `urgent`: the last of them as urgent data.
    Write {
        /// On which control connection.
        leg: Leg,
        /// What.
        data: Bytes,
        /// RFC 1123 §4.1.3.3: a Telnet Synch goes before ABOR and the like.
        urgent: bool,
    },
    /// Send FIN on a control connection after everything written so far; go on reading it.
    Shutdown {
        /// Which.
        leg: Leg,
    },
    /// Do a TLS handshake, as the client's server and the server's client, behind everything written so far.
    /// Answered by [`Event::TlsReady`] or [`Event::TlsFailed`]; until then the session writes nothing to this leg, and
    /// all that comes from it belongs to the handshake.
    StartTls {
        /// On which control connection.
        leg: Leg,
    },
    /// Send close_notify behind everything written so far (within TLS), then go on in plain. What the peer still sends
    /// within TLS, its close_notify aside, is [`Event::LeftOver`].
    StopTls {
        /// On which control connection.
        leg: Leg,
    },
    /// Open the control connection to the server. One that there is is closed in good order, and nothing of it is told any
    /// more. Answered by [`Event::ServerReady`] or [`Event::ServerFailed`].
    Connect {
        /// What it leads to.
        to: Destination,
    },
    /// From now on copy bytes both ways, behind what was written, and look into none. Only ends are told.
    PassThrough,
    /// Open a channel, if it is not open yet, and listen on this end for this leg's peer. Answered by
    /// [`Event::PortBound`] or [`Event::PortRefused`].
    Bind {
        /// The channel.
        id: ChannelId,
        /// The end that accepts.
        leg: Leg,
        /// The family of the address that the peer is told; `None`: a port alone (229), for the address that the peer is
        /// connected to.
        carries: Option<Family>,
    },
    /// Open a channel, if it is not open yet, and connect this end: at once, or as soon as the other end,
    /// if that one accepts, has its peer.
    Dial {
        /// The channel.
        id: ChannelId,
        /// The end that dials.
        leg: Leg,
        /// Where to.
        target: DialTarget,
    },
    /// The transfer of this channel begins; where a leg may have TLS, nothing is copied before. Comes once for each
    /// channel: with the command, since some servers send before they say 150, but where an end is protected not before the server's
    /// reply, since the handshake with a server that says 550 would never end (mod_proxy #244).
    Begin {
        /// The channel.
        id: ChannelId,
        /// Which ends do a TLS handshake first: towards the client as its server, towards the server as its client,
        /// whoever connected (RFC 4217 §7).
        protect: PerLeg<bool>,
    },
    /// End a channel now, both ends by a reset; harmless if it is over.
    CloseChannel {
        /// The channel.
        id: ChannelId,
    },
    /// Ask whether the client may try to log in: the next command is USER, PASS or ACCT, and waits, with all behind it.
    /// Answered, at any time, by [`Event::LoginPermitted`] or [`Event::LoginRefused`].
    AskLogin,
    /// The server has answered a login command that was [permitted](Event::LoginPermitted).
    LoginAnswered {
        /// It does not know the user, or the password is wrong.
        failed: bool,
    },
    /// Worth a line in the log: a transfer is over.
    Transferred(Box<TransferRecord>),
    /// Worth a line in the log.
    Notice(Notice),
    /// The session is over. Nothing follows but [`Transferred`](Self::Transferred).
    Close {
        /// Why.
        why: Reason,
    },
}

/// One transfer, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferRecord {
    /// The command; `None` for one that we do not know, which its 150 showed to be a transfer.
    pub verb: Option<TransferVerb>,
    /// Its argument as the client sent it; empty if it had none.
    pub path: Bytes,
    /// Its type is ASCII or EBCDIC, so that servers may have written other line ends than there are in the file.
    pub text: bool,
    /// The code that the client was given, if it was given one.
    pub code: Option<u16>,
    /// The client was given a success, the receiver has everything up to the sender's end, and the client has not sent ABOR.
    pub whole: bool,
    /// How the data channel ended, and its byte counts.
    pub channel: ChannelReport,
    /// From the command to the end of both the reply and the channel.
    pub took: Duration,
}

/// Things that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A 227 or 229 that nobody asked for went to the client as it was.
    UnsolicitedPassive,
    /// A PORT or EPRT was refused: a bounce attempt, or a client that names a wrong address.
    Refused(Refusal),
    /// The server offered a port that is not dialled.
    ServerPort(Refusal),
    /// The server answered PASV, EPSV or PORT by something else, and nothing more came.
    PassiveUnanswered,
    /// The server does not connect to where it was told to with `data_mode: active`.
    ServerRefusesPort {
        /// What it said.
        code: u16,
    },
    /// The server does not do what its connection needs before anything else: AUTH TLS, PROT P, or HOST again.
    ServerRefuses {
        /// What it was asked for.
        asked: &'static str,
        /// What it said.
        code: u16,
    },
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The client closed, or was given the time to.
    ClientClosed,
    /// The server closed.
    ServerClosed,
    /// The server closed before it had greeted: it may have banned this address.
    ServerClosedBeforeGreeting,
    /// The server could not be reached.
    ServerUnavailable,
    /// The server that the client has chosen may not be reached.
    ServerRefused,
    /// A control connection was reset.
    Reset(Leg),
    /// `timeouts.login`.
    LoginTimeout,
    /// `timeouts.control_idle`.
    IdleTimeout,
    /// `timeouts.partial_line`.
    LineTimeout,
    /// A client that speaks like a server, or the reverse: a spoofed control connection.
    Spoofed(Leg),
    /// `limits.login_failures`.
    LoginFailures,
    /// The first line was HTTP, or none of many was known: a browser that was made to talk to us (CVE-2021-3618, NAT
    /// slipstreaming).
    NotFtp,
    /// No TLS on this control connection: the handshake failed, or the server does not offer it.
    TlsFailed(Leg),
    /// Bytes lay on the wrong side of a switch to TLS or back.
    LeftOver(Leg),
    /// The program stops.
    Drained,
    /// An operator has ended it.
    Killed,
}

impl Reason {
    /// Whether both control connections and every data channel are reset, instead of being closed in good order.
    #[must_use]
    pub const fn is_abrupt(self) -> bool {
        match self {
            Self::Reset(_) | Self::Spoofed(_) | Self::LeftOver(_) | Self::Killed => true,
            Self::ClientClosed
            | Self::ServerClosed
            | Self::ServerClosedBeforeGreeting
            | Self::ServerUnavailable
            | Self::ServerRefused
            | Self::LoginTimeout
            | Self::IdleTimeout
            | Self::LineTimeout
            | Self::LoginFailures
            | Self::NotFtp
            | Self::TlsFailed(_)
            | Self::Drained => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientClosed => f.write_str("closed by the client"),
            Self::ServerClosed => f.write_str("closed by the server"),
            Self::ServerClosedBeforeGreeting => f.write_str("closed by the server before its greeting"),
            Self::ServerUnavailable => f.write_str("the server could not be reached"),
            Self::ServerRefused => f.write_str("the server may not be reached"),
            Self::Reset(leg) => write!(f, "reset by the {leg}"),
            Self::LoginTimeout => f.write_str("no login in time"),
            Self::IdleTimeout => f.write_str("idle for too long"),
            Self::LineTimeout => f.write_str("a line stayed unfinished"),
            Self::LoginFailures => f.write_str("too many failed logins"),
            Self::Spoofed(leg) => write!(f, "the {leg} sent what only the other side may send"),
            Self::NotFtp => f.write_str("not FTP"),
            Self::TlsFailed(leg) => write!(f, "no TLS with the {leg}"),
            Self::LeftOver(leg) => write!(f, "the {leg} sent text across a switch to TLS or back"),
            Self::Drained => f.write_str("stopping"),
            Self::Killed => f.write_str("ended by an operator"),
        }
    }
}
