//! The setting-up of a data channel: from the client's PASV, EPSV, PORT or EPRT to the reply that it gets.
//!
//! ```text
//!  client's command ──▶ Bind the ends that accept ──▶ PASV, EPSV, PORT or EPRT to the server
//!                                                                  │
//!  reply to the client ◀── the offer is ready ◀── Dial the rest ◀──┴── its reply
//! ```
//!
//! A server that always connects to us (`data_mode: active`) is told where only when there is something to transfer. One
//! such server is the one peer of many clients, and what it has been told holds a port against all of them:
//!
//! ```text
//!  client's command ──▶ Bind the client's end, if it accepts ──▶ reply to the client ──▶ prepared
//!                                                                                           │
//!        the transfer goes on ◀── the offer is ready ◀── its 200 ◀── PORT ◀── Bind ◀── REST, RETR, STOR …
//! ```
//!
//! The transfer command waits in its place at the head of what is held. If the server cannot be told, or refuses, that
//! is the command's answer. REST counts as one: BSD's ftpd forgets it at every other command (`ftpcmd.y`: `cmd_list cmd
//! { restart_point = 0; }`), vsftpd and ProFTPD keep it for whatever transfer comes next, so it must neither come before
//! the PORT nor reach a server that will not get the transfer.

use bytes::{Bytes, BytesMut};

use super::event::ChannelId;
use crate::addr::{Announced, Family, Leg, PerLeg};
use crate::ftp::host_port::{write_eprt, write_port};
use crate::ftp::reply::Code;
use crate::nat::DataMode;
use crate::nat::policy::DialTarget;

/// A command that sets up a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setup {
    Pasv,
    Epsv,
    Port,
    Eprt,
}

impl Setup {
    pub(super) const fn is_passive(self) -> bool {
        matches!(self, Self::Pasv | Self::Epsv)
    }

    /// What to send to the server for what the client sent.
    ///
    /// A verb that may be kept stays as it is, except that PASV and PORT cannot carry an IPv6 address; a substituted one
    /// is the plainest that the family allows, since the servers in question are old. In active mode no verb is kept:
    /// the client has been told 200 when the server refuses EPRT, and cannot try PORT any more.
    pub(super) const fn towards_server(
        self,
        mode: DataMode,
        family: Family,
        may_keep: bool,
        epsv_refused: bool,
    ) -> Self {
        let passive = match mode {
            DataMode::Same => self.is_passive(),
            DataMode::Passive => true,
            DataMode::Active => false,
        };
        let kept = may_keep && passive == self.is_passive() && !matches!(mode, DataMode::Active);
        let extended = matches!(self, Self::Epsv | Self::Eprt) && kept && !(passive && epsv_refused);
        match (passive, family) {
            (true, Family::V4) if !extended => Self::Pasv,
            (true, _) => Self::Epsv,
            (false, Family::V4) if !extended => Self::Port,
            (false, _) => Self::Eprt,
        }
    }
}

/// How much of a data channel is set up at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Both ends, before the client has its reply.
    BothEnds,
    /// The client's alone; the server is told nothing yet.
    ClientEnd,
    /// The server's, for a client that had its reply long ago. The command that needs it is the first that is held.
    ServerEnd,
}

/// One setting-up that is under way. While it is, the client's later commands wait.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) id: ChannelId,
    pub(super) stage: Stage,
    /// What the client sent; decides the form of the reply that it gets.
    pub(super) asked: Setup,
    /// What the server is sent.
    pub(super) sent: Setup,
    /// The protocol number that came with the client's EPSV.
    pub(super) family_argument: Option<Family>,
    /// Where the client wants to be dialled.
    pub(super) dial_client: Option<DialTarget>,
    /// Its channel is over already: the lease of its port was revoked while the server took its time.
    pub(super) ended: bool,
    /// The ends that accept, and what their peers are told once it is known.
    announced: PerLeg<Bound>,
    /// The server's reply to EPSV, kept while PASV is tried in its place.
    pub(super) epsv_refusal: Option<Bytes>,
}

/// How far the listening end of an exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Bound {
    /// This end dials.
    #[default]
    No,
    /// A port has been asked for.
    Awaited,
    /// We listen, and the peer is told this.
    At(Announced),
}

impl Exchange {
    pub(super) fn new(id: ChannelId, stage: Stage, asked: Setup, sent: Setup) -> Self {
        let bound = |accepts| if accepts { Bound::Awaited } else { Bound::No };
        let server = stage != Stage::ClientEnd && !sent.is_passive();
        Self {
            id,
            stage,
            asked,
            sent,
            family_argument: None,
            dial_client: None,
            ended: false,
            announced: PerLeg { client: bound(asked.is_passive()), server: bound(server) },
            epsv_refusal: None,
        }
    }

    /// The client's end is ready, and the server is to be told now: its end accepts.
    pub(super) fn turn_to_server(&mut self) {
        self.stage = Stage::ServerEnd;
        self.announced.server = Bound::Awaited;
    }

    /// The family of the address that the peer of an accepting end is told, given the server's. `None`: 229 has a port
    /// only, and the client connects to where it is connected to.
    pub(super) const fn carries(&self, leg: Leg, server: Family) -> Option<Family> {
        match (leg, self.asked, self.sent) {
            (Leg::Client, Setup::Epsv, _) => None,
            (Leg::Server, _, Setup::Eprt) => Some(server),
            (Leg::Client | Leg::Server, _, _) => Some(Family::V4),
        }
    }

    /// The ends that accept.
    pub(super) fn accepting(&self) -> impl Iterator<Item = Leg> {
        Leg::BOTH.into_iter().filter(|leg| self.announced[*leg] != Bound::No)
    }

    /// Whether the shell has a channel for this and it is not over: one is opened by `Bind`, and where no end
    /// accepts, not before the server has answered or is to be told.
    pub(super) fn is_open(&self) -> bool {
        !self.ended && self.accepting().next().is_some()
    }

    /// A port was bound. True if it was the last that was waited for.
    pub(super) fn bound(&mut self, leg: Leg, at: Announced) -> bool {
        if self.announced[leg] != Bound::Awaited {
            return false;
        }
        self.announced[leg] = Bound::At(at);
        self.is_bound()
    }

    /// Whether every end that accepts has its port; then the server has been told.
    pub(super) fn is_bound(&self) -> bool {
        self.announced.client != Bound::Awaited && self.announced.server != Bound::Awaited
    }

    /// What the client is told, in reply to PASV or EPSV.
    pub(super) fn at_client(&self) -> Option<Announced> {
        self.at(Leg::Client)
    }

    fn at(&self, leg: Leg) -> Option<Announced> {
        match self.announced[leg] {
            Bound::At(at) => Some(at),
            Bound::No | Bound::Awaited => None,
        }
    }

    /// Whether the client's own verb went to the server, so that the server's reply is the client's.
    pub(super) fn is_verb_kept(&self) -> bool {
        self.asked == self.sent && self.epsv_refusal.is_none()
    }

    /// The command for the server. `None`: the server would have to be told an address that its verb cannot
    /// carry.
    pub(super) fn command(&self) -> Option<Bytes> {
        match self.sent {
            Setup::Pasv => Some(Bytes::from_static(b"PASV\r\n")),
            Setup::Epsv => Some(match self.family_argument {
                None => Bytes::from_static(b"EPSV\r\n"),
                Some(Family::V4) => Bytes::from_static(b"EPSV 1\r\n"),
                Some(Family::V6) => Bytes::from_static(b"EPSV 2\r\n"),
            }),
            Setup::Port => write_port(self.at(Leg::Server)?),
            Setup::Eprt => Some(write_eprt(self.at(Leg::Server)?)),
        }
    }
}

/// Collects a reply that must be known whole before anything is sent on; bounded.
#[derive(Debug)]
pub(super) struct Collected {
    code: Code,
    text: BytesMut,
    /// The lines so far.
    ends: Vec<usize>,
    /// More came than is kept.
    is_cut: bool,
}

/// As much as one line may have: nobody needs more to name a port.
const MAX_COLLECTED: usize = crate::ftp::line::MAX_LINE;

impl Collected {
    pub(super) fn new(code: Code) -> Self {
        Self { code, text: BytesMut::new(), ends: Vec::new(), is_cut: false }
    }

    /// Adds a line; false if there is no room, and the reply should pass as it is.
    ///
    /// The text of a 227 or 229 never passes, because the address in it is the inside one: what is too much
    /// of it is dropped.
    pub(super) fn push(&mut self, line: &[u8]) -> bool {
        self.is_cut |= self.text.len() + line.len() > MAX_COLLECTED;
        if self.is_cut {
            return !self.code.is_error();
        }
        self.text.extend_from_slice(line);
        self.ends.push(self.text.len());
        true
    }

    /// Whether this is a refusal, which the client may see even if it is not complete.
    pub(super) fn is_refusal(&self) -> bool {
        self.code.is_error()
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.iter().scan(0, |start, end| Some(&self.text[std::mem::replace(start, *end)..*end]))
    }

    /// The only line, if there is just one.
    pub(super) fn single(&self) -> Option<&[u8]> {
        (self.ends.len() == 1 && !self.is_cut).then_some(&self.text)
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.text.freeze()
    }
}
