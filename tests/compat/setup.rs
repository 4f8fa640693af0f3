//! One row of a table: a server, and what is encrypted on the way to it.

use crate::cell::{Cell, Client};
use crate::clients::{self, Tls, Version};
use crate::clients_more::More;
use crate::net::Net;
use crate::process::Daemon;
use crate::proxy;
use crate::server::{Kind, Server};
use crate::servers::Kind::{ProFtpd, PureFtpd, Pyftpdlib, Vsftpd};
use crate::servers::{self, Security};

/// The table that a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Nothing is encrypted.
    Plain,
    /// Clients speak TLS with ftp-alg, and the server has none.
    Terminated,
    /// The server speaks TLS with ftp-alg, the clients do, too.
    ReEncrypted,
    /// Clients speak TLS with the server, and ftp-alg reads nothing.
    PassedThrough,
}

impl Section {
    /// In the order of the document.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Terminated, Self::ReEncrypted, Self::PassedThrough];

    /// Who takes part.
    pub fn clients(self) -> Vec<Client> {
        Client::all().into_iter().filter(|client| !client.verbs(self).is_empty()).collect()
    }
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub section: Section,
    pub kind: Kind,
    /// How the server is set up, in the words of its settings; empty: as in the table of what is plain.
    pub settings: &'static str,
    tls: Upstream,
}

/// How the server speaks TLS.
#[derive(Debug, Clone, Copy)]
struct Upstream {
    security: Security,
    /// Of the server's configuration.
    more: &'static str,
    /// `tls.server` of ftp-alg's.
    proxy: &'static str,
}

const PLAIN: Upstream = Upstream { security: Security::Plain, more: "", proxy: "" };

const fn encrypted(kind: servers::Kind, settings: &'static str, more: &'static str, proxy: &'static str) -> Setup {
    let upstream = Upstream { security: Security::Explicit, more, proxy };
    Setup { section: Section::ReEncrypted, kind: Kind::Real(kind), settings, tls: upstream }
}

const fn passed(kind: servers::Kind, settings: &'static str, more: &'static str) -> Setup {
    let upstream = Upstream { security: Security::Explicit, more, proxy: "" };
    Setup { section: Section::PassedThrough, kind: Kind::Real(kind), settings, tls: upstream }
}

const UP_TO_1_2: &str = "mode: explicit";
const UP_TO_1_3: &str = "mode: explicit, max_version: 1.3";

const RE_ENCRYPTED: [Setup; 13] = [
    encrypted(Vsftpd, "`require_ssl_reuse=YES`, TLS 1.2", "", UP_TO_1_2),
    encrypted(Vsftpd, "`require_ssl_reuse=YES`, TLS 1.3", "", UP_TO_1_3),
    Setup {
        tls: Upstream { security: Security::Implicit, more: "", proxy: "mode: implicit" },
        ..encrypted(Vsftpd, "`implicit_ssl=YES`, TLS 1.2", "", "")
    },
    encrypted(Vsftpd, "`require_ssl_reuse=NO`, TLS 1.2", "require_ssl_reuse=NO\n", UP_TO_1_2),
    encrypted(Vsftpd, "`require_ssl_reuse=NO`, TLS 1.3", "require_ssl_reuse=NO\n", UP_TO_1_3),
    encrypted(ProFtpd, "reuse required, TLS 1.2", "", UP_TO_1_2),
    encrypted(ProFtpd, "reuse required, TLS 1.3", "", UP_TO_1_3),
    encrypted(ProFtpd, "`NoSessionReuseRequired`, TLS 1.2", "TLSOptions NoSessionReuseRequired\n", UP_TO_1_2),
    encrypted(ProFtpd, "`NoSessionReuseRequired`, TLS 1.3", "TLSOptions NoSessionReuseRequired\n", UP_TO_1_3),
    encrypted(PureFtpd, "`--tls 3`, TLS 1.2", "", UP_TO_1_2),
    encrypted(PureFtpd, "`--tls 3`, TLS 1.3", "", UP_TO_1_3),
    // It closes empty files without close_notify at times.
    encrypted(Pyftpdlib, "`lenient: true`, TLS 1.2", "", "mode: explicit, lenient: true"),
    encrypted(Pyftpdlib, "`lenient: true`, TLS 1.3", "", "mode: explicit, lenient: true, max_version: 1.3"),
];

/// The address that they announce is the public one: nobody else can put it into an encrypted 227.
const PASSED_THROUGH: [Setup; 6] = [
    passed(
        Vsftpd,
        "`require_ssl_reuse=YES`, `pasv_address`",
        "pasv_address=203.0.113.10\npasv_min_port=20011\npasv_max_port=20020\n",
    ),
    passed(
        Vsftpd,
        "`require_ssl_reuse=NO`, `pasv_address`",
        "require_ssl_reuse=NO\npasv_address=203.0.113.10\npasv_min_port=20011\npasv_max_port=20020\n",
    ),
    passed(
        ProFtpd,
        "reuse required, `MasqueradeAddress`",
        "MasqueradeAddress 203.0.113.10\nPassivePorts 20011 20020\n",
    ),
    passed(
        ProFtpd,
        "`NoSessionReuseRequired`, `MasqueradeAddress`",
        "TLSOptions NoSessionReuseRequired\nMasqueradeAddress 203.0.113.10\nPassivePorts 20011 20020\n",
    ),
    passed(PureFtpd, "`--forcepassiveip`", "-P 203.0.113.10 -p 20011:20020"),
    passed(
        Pyftpdlib,
        "`masquerade_address`",
        "handler.masquerade_address = '203.0.113.10'\nhandler.passive_ports = range(20011, 20021)\n",
    ),
];

impl Setup {
    /// Every row, in the order of the document.
    pub fn all() -> Vec<Self> {
        let plain = |section| move |kind| Self { section, kind, settings: "", tls: PLAIN };
        let mut all: Vec<Self> = Kind::all().into_iter().map(plain(Section::Plain)).collect();
        all.extend(Kind::all().into_iter().map(plain(Section::Terminated)));
        all.extend(RE_ENCRYPTED);
        all.extend(PASSED_THROUGH);
        all
    }

    /// What its row begins with.
    pub fn name(&self) -> String {
        let name = self.kind.name();
        let name = if self.kind.is_real() { name } else { format!("*{name}*") };
        if self.settings.is_empty() { name } else { format!("{name}, {}", self.settings) }
    }

    /// What every client does in this row.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for client in self.section.clients() {
            for verb in client.verbs(self.section) {
                cells.extend(self.security(client).into_iter().map(|tls| Cell { client, verb, tls }));
            }
        }
        cells
    }

    /// The ways in which a client speaks TLS here.
    fn security(&self, client: Client) -> Vec<Option<Tls>> {
        let ways: &[bool] = match (self.section, self.tls.security) {
            (Section::Plain, _) => return vec![None],
            (Section::Terminated, _) if self.kind.is_real() => &[false, true],
            (Section::Terminated | Section::PassedThrough, _) => &[false],
            (Section::ReEncrypted, Security::Implicit) => &[true],
            (Section::ReEncrypted, _) => &[false],
        };
        let versions: &[Version] = match client {
            // Nobody can tell it to speak 1.2 only.
            Client::More(More::FileZilla) => &[Version::V1_3],
            // With TLS 1.3 these versions lose the end of some uploads by themselves: they close with the server's tickets
            // unread, and their kernel then drops what it has not sent.
            Client::Interop(clients::Kind::Curl | clients::Kind::Lftp) if self.section == Section::PassedThrough => {
                &[Version::V1_2]
            }
            // The stand-ins' TLS is ftp-alg's, and nothing that another version would change.
            _ if self.section == Section::Terminated && !self.kind.is_real() => &[Version::V1_3],
            _ => &Version::BOTH,
        };
        let of = |implicit: bool| versions.iter().map(move |&version| Some(Tls { implicit, version }));
        ways.iter().flat_map(|&implicit| of(implicit)).collect()
    }

    /// The server, on its machine.
    pub fn start(&self, net: &Net) -> Server {
        match self.kind {
            Kind::Real(kind) => {
                let Upstream { security, more, .. } = self.tls;
                Server::Real(servers::Server::start_configured(net, kind, security, more, &[]))
            }
            Kind::Pyftpdlib | Kind::StandIn(_) => Server::start(net, self.kind),
        }
    }

    /// What tells its server from others.
    pub fn server_key(&self) -> String {
        format!("{} {:?} {}", self.kind.name(), self.tls.security, self.tls.more)
    }

    /// ftp-alg, on its own machine.
    pub fn start_proxy(&self, net: &Net) -> Daemon {
        match self.section {
            Section::Plain => proxy::in_front_of_server(net, "same"),
            Section::Terminated => proxy::with_tls(net, proxy::Tls { client: "", server: "" }),
            Section::ReEncrypted => proxy::with_tls(net, proxy::Tls { client: "", server: self.tls.proxy }),
            Section::PassedThrough => proxy::passing_through(net),
        }
    }

    /// Networks with the server on the public address itself, in which the client does without ftp-alg what the cell
    /// says. The server of [`Section::Terminated`] has no TLS: the client must be able to speak with it in the clear,
    /// and TLS with another one.
    pub fn without_proxy(&self, cell: Cell) -> Vec<(Self, Cell)> {
        if self.section != Section::Terminated {
            return vec![(*self, cell)];
        }
        let security = if cell.tls.is_some_and(|tls| tls.implicit) { Security::Implicit } else { Security::Explicit };
        let upstream = Upstream { security, more: "require_ssl_reuse=NO\n", proxy: "" };
        let with_tls = Self { kind: Kind::Real(Vsftpd), tls: upstream, ..*self };
        vec![(*self, Cell { tls: None, ..cell }), (with_tls, cell)]
    }
}
