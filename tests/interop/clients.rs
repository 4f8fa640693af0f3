//! The FTP clients: real ones, each told in its own language what to do.

mod curl;
mod ftplib;
mod inetutils;
mod lftp;

pub use ftplib::PYTHON;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::net::{EIP, Host, Net, PROXY_INSIDE, PROXY_V6};
use crate::process::{Outcome, bounded};

/// A client program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Lftp,
    Curl,
    Inetutils,
    Ftplib,
}

impl Kind {
    /// Every client.
    pub const ALL: [Self; 4] = [Self::Lftp, Self::Curl, Self::Inetutils, Self::Ftplib];

    /// Every mode that it can speak.
    pub const fn modes(self) -> &'static [Mode] {
        match self {
            // EPRT with IPv6 only, both of them; ftplib knows EPSV with IPv6 only, too.
            Self::Lftp => &[Mode::PASV, Mode::EPSV, Mode::PORT, Mode::EPSV6, Mode::EPRT6],
            Self::Ftplib => &[Mode::PASV, Mode::PORT, Mode::EPSV6, Mode::EPRT6],
            Self::Curl | Self::Inetutils => &[Mode::PASV, Mode::EPSV, Mode::PORT, Mode::EPRT, Mode::EPSV6, Mode::EPRT6],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lftp => "lftp",
            Self::Curl => "curl",
            Self::Inetutils => "inetutils-ftp",
            Self::Ftplib => "ftplib",
        })
    }
}

/// The command that prepares a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Pasv,
    Epsv,
    Port,
    Eprt,
}

impl Verb {
    /// As it is written in FTP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pasv => "PASV",
            Self::Epsv => "EPSV",
            Self::Port => "PORT",
            Self::Eprt => "EPRT",
        }
    }

    /// Whether the client connects.
    pub const fn is_passive(self) -> bool {
        matches!(self, Self::Pasv | Self::Epsv)
    }
}

/// How a client makes data connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    pub verb: Verb,
    /// Whether the client speaks IPv6 (the server never does).
    pub ipv6: bool,
    /// Whether it is a machine of the VPC, as the proxy is.
    within_vpc: bool,
}

impl Mode {
    pub const PASV: Self = Self::over_ipv4(Verb::Pasv);
    pub const EPSV: Self = Self::over_ipv4(Verb::Epsv);
    pub const PORT: Self = Self::over_ipv4(Verb::Port);
    pub const EPRT: Self = Self::over_ipv4(Verb::Eprt);
    pub const EPSV6: Self = Self { ipv6: true, ..Self::EPSV };
    pub const EPRT6: Self = Self { ipv6: true, ..Self::EPRT };

    /// This verb of the client, at the proxy's IPv4 address.
    pub const fn over_ipv4(verb: Verb) -> Self {
        Self { verb, ipv6: false, within_vpc: false }
    }

    /// The same of a client that reaches the proxy at its private address.
    pub const fn within_vpc(self) -> Self {
        Self { within_vpc: true, ..self }
    }

    /// Whether the client connects.
    pub const fn is_passive(self) -> bool {
        self.verb.is_passive()
    }

    /// Where a client of this mode finds the server.
    pub const fn address(self) -> &'static str {
        match self {
            Self { within_vpc: true, .. } => PROXY_INSIDE,
            Self { ipv6: true, .. } => PROXY_V6,
            _ => EIP,
        }
    }

    /// The same, as a URL has it.
    pub fn url_host(self) -> String {
        if self.ipv6 { format!("[{PROXY_V6}]") } else { self.address().to_owned() }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.verb.as_str(), if self.ipv6 { " over IPv6" } else { "" })
    }
}

/// TLS on both connections, as a client is told to use it. Nobody looks at the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tls {
    /// From the first byte, on port 990; otherwise by AUTH TLS.
    pub implicit: bool,
    /// The only version that the client speaks.
    pub version: Version,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1_2,
    V1_3,
}

impl Version {
    pub const BOTH: [Self; 2] = [Self::V1_2, Self::V1_3];
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        })
    }
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} TLS {}", if self.implicit { "implicit" } else { "explicit" }, self.version)
    }
}

/// One thing to do. Names are bytes: an FTP server's names have no encoding.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Put {
        local: &'static [u8],
        remote: &'static [u8],
    },
    Get {
        remote: &'static [u8],
        local: &'static [u8],
    },
    ResumePut {
        local: &'static [u8],
        remote: &'static [u8],
    },
    ResumeGet {
        remote: &'static [u8],
        local: &'static [u8],
    },
    /// LIST into a local file.
    List {
        remote: &'static [u8],
        local: &'static [u8],
    },
}

/// One run of a client.
pub struct Task<'a> {
    pub client: Kind,
    pub mode: Mode,
    /// `None`: in the clear.
    pub tls: Option<Tls>,
    /// User name and password.
    pub login: (&'a str, &'a str),
    /// The server's directory in which all remote names are.
    pub remote_dir: &'a str,
    /// The client's directory.
    pub local_dir: &'a Path,
    pub steps: &'a [Step],
    /// How long to wait for an answer or a connection, in seconds.
    pub patience: u32,
}

impl Task<'_> {
    /// Runs the client for `limit` at most.
    pub fn run(&self, net: &Net, limit: Duration) -> Outcome {
        let program = match self.client {
            Kind::Lftp => lftp::arguments(self),
            Kind::Curl => curl::arguments(self),
            Kind::Inetutils => inetutils::arguments(self),
            Kind::Ftplib => ftplib::arguments(self),
        };
        let mut command: Command = net.command(Host::Client, &program[0]);
        // Names are bytes to the clients, too.
        command.args(&program[1..]).current_dir(self.local_dir).env("LC_ALL", "C");
        bounded(&command, limit)
    }

    /// The FTP commands that a client has sent, out of what it shows.
    pub fn commands(&self, transcript: &str) -> Vec<String> {
        let prefix = match self.client {
            Kind::Lftp | Kind::Inetutils => "---> ",
            Kind::Curl => "> ",
            Kind::Ftplib => "*cmd* '",
        };
        transcript.lines().filter_map(|line| line.trim().strip_prefix(prefix)).map(str::to_owned).collect()
    }

    /// Where the server is, as a URL.
    fn url(&self) -> String {
        let scheme = if self.tls.is_some_and(|tls| tls.implicit) { "ftps" } else { "ftp" };
        format!("{scheme}://{}", self.mode.url_host())
    }

    /// `remote_dir/name`.
    fn remote(&self, name: &[u8]) -> Vec<u8> {
        [self.remote_dir.as_bytes(), b"/", name].concat()
    }
}

/// A program and its arguments.
type CommandLine = Vec<OsString>;

/// Puts words into double quotes; our names contain none.
fn quoted(name: &[u8]) -> Vec<u8> {
    [b"\"", name, b"\""].concat()
}
