//! The servers of the table: real ones, and stand-ins for those that cannot run here.

use std::fs;
use std::path::{Path, PathBuf};

use crate::clients::PYTHON;
use crate::dialects::stand_in::{self, dialect::Dialect};
use crate::net::{Host, Net};
use crate::process::Daemon;
use crate::servers;

/// A server program.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Real(servers::Kind),
    Pyftpdlib,
    StandIn(&'static Dialect),
}

impl Kind {
    pub fn all() -> Vec<Self> {
        let real = [servers::Kind::Vsftpd, servers::Kind::ProFtpd, servers::Kind::PureFtpd].map(Self::Real);
        let stand_ins = stand_in::ALL.map(Self::StandIn);
        real.into_iter().chain([Self::Pyftpdlib]).chain(stand_ins).collect()
    }

    pub fn name(self) -> String {
        match self {
            Self::Real(kind) => kind.to_string(),
            Self::Pyftpdlib => "pyftpdlib".to_owned(),
            Self::StandIn(dialect) => dialect.name.to_owned(),
        }
    }

    pub const fn is_real(self) -> bool {
        !matches!(self, Self::StandIn(_))
    }
}

/// A running server.
pub enum Server {
    Real(servers::Server),
    Other { root: PathBuf, daemon: Daemon },
}

impl Server {
    /// Starts it on port 21 of the server's machine.
    pub fn start(net: &Net, kind: Kind) -> Self {
        if let Kind::Real(kind) = kind {
            return Self::Real(servers::Server::start(net, kind));
        }
        let root = net.scratch().join("root");
        fs::create_dir(&root).unwrap();
        let mut command = match kind {
            Kind::StandIn(dialect) => {
                let mut command = net.command(Host::Server, std::env::current_exe().unwrap());
                command.args(["serve", dialect.name]).arg(&root);
                command
            }
            _ => {
                let mut command = net.command(Host::Server, PYTHON);
                let flags = ["-m", "pyftpdlib", "-i", "0.0.0.0", "-p", "21", "-u", "alice", "-P", "secret", "-w", "-d"];
                command.args(flags).arg(&root);
                command
            }
        };
        let daemon = Daemon::start(&mut command, net.scratch().join("server.log"), 21);
        Self::Other { root, daemon }
    }

    pub fn root(&self) -> PathBuf {
        match self {
            Self::Real(server) => server.root(),
            Self::Other { root, .. } => root.clone(),
        }
    }

    pub fn login(&self) -> (&'static str, &'static str) {
        match self {
            Self::Real(server) => server.login(),
            Self::Other { .. } => ("alice", "secret"),
        }
    }

    pub fn log(&self) -> String {
        match self {
            Self::Real(server) => server.log(),
            Self::Other { daemon, .. } => daemon.said(),
        }
    }
}

/// A program that tests/setup.sh has put under target/interop.
pub fn unpacked(path: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop").join(path)
}
