//! What is known of each program: what it sends, which replies it takes, where it then connects.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{read_227, read_229};
use crate::client::Reply;

/// A client program.
#[derive(Debug)]
pub struct Program {
    pub name: &'static str,
    /// What it sends before USER and after PASS, as far as servers answer it.
    pub before_login: &'static [&'static str],
    pub after_login: &'static [&'static str],
    /// The passive commands in the order in which it tries them on IPv4.
    pub passive: &'static [&'static str],
    /// Those that it can be made to use, on IPv4 or IPv6.
    pub reads_229: Option<Read229>,
    pub reads_227: Option<Read227>,
    /// The active commands in the order in which it tries them on IPv4.
    pub active: &'static [&'static str],
    pub connects_to: Address,
    /// Ports to which it never connects.
    pub shuns: fn(u16) -> bool,
    /// The other end of a data connection has to have the control connection's address.
    pub verifies_remote: bool,
}

/// Which code a reply must have, and what is read in it.
#[derive(Debug)]
pub struct Read227 {
    pub code: &'static str,
    pub read: fn(&Reply) -> Option<SocketAddrV4>,
}

#[derive(Debug)]
pub struct Read229 {
    pub code: &'static str,
    pub read: fn(&Reply) -> Option<u16>,
    /// A reply to EPSV that is a 227 is read as one.
    pub or_227: bool,
}

/// What becomes of the address in a 227.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    Trusted,
    /// The control connection's is used in any case.
    Ignored,
    /// The control connection's is used if the one in the reply is private and that of the control connection is not.
    PrivateIsPeer,
}

const fn pasv(code: &'static str, read: fn(&Reply) -> Option<SocketAddrV4>) -> Option<Read227> {
    Some(Read227 { code, read })
}

const fn epsv(code: &'static str, read: fn(&Reply) -> Option<u16>) -> Option<Read229> {
    Some(Read229 { code, read, or_227: false })
}

/// What most have in common.
const ANY: Program = Program {
    name: "",
    before_login: &[],
    after_login: &["SYST"],
    passive: &["PASV"],
    reads_227: None,
    reads_229: None,
    active: &["PORT"],
    connects_to: Address::Trusted,
    shuns: |_| false,
    verifies_remote: false,
};

pub const ALL: [Program; 16] = [
    Program {
        name: "FileZilla",
        after_login: &["SYST", "FEAT", "CLNT FileZilla", "OPTS UTF8 ON"],
        // A first digit of 2 or 3 is success to it.
        reads_227: pasv("2", read_227::filezilla),
        reads_229: epsv("2", read_229::filezilla),
        connects_to: Address::PrivateIsPeer,
        ..ANY
    },
    Program {
        name: "WinSCP",
        before_login: &["HOST ftp.example.org"],
        reads_227: pasv("2", read_227::winscp),
        reads_229: epsv("2", read_229::winscp),
        connects_to: Address::PrivateIsPeer,
        ..ANY
    },
    Program {
        name: "curl",
        after_login: &["PWD"],
        passive: &["EPSV", "PASV"],
        reads_227: pasv("227", read_227::curl),
        reads_229: epsv("229", read_229::curl),
        active: &["EPRT", "PORT"],
        connects_to: Address::Ignored,
        ..ANY
    },
    Program {
        name: "lftp",
        before_login: &["FEAT"],
        reads_227: pasv("2", read_227::lftp),
        reads_229: epsv("2", read_229::lftp),
        connects_to: Address::PrivateIsPeer,
        ..ANY
    },
    Program {
        name: "tnftp",
        passive: &["EPSV", "PASV"],
        reads_227: pasv("227", read_227::tnftp),
        reads_229: epsv("229", read_229::tnftp),
        active: &["EPRT", "PORT"],
        ..ANY
    },
    Program {
        name: "inetutils",
        reads_227: pasv("2", read_227::inetutils),
        reads_229: epsv("2", read_229::inetutils),
        ..ANY
    },
    Program { name: "ncftp", reads_227: pasv("2", read_227::ncftp), connects_to: Address::PrivateIsPeer, ..ANY },
    Program {
        name: "wget",
        after_login: &["SYST", "PWD"],
        reads_227: pasv("2", read_227::wget),
        reads_229: epsv("2", read_229::wget),
        ..ANY
    },
    Program {
        name: "ftplib",
        after_login: &[],
        reads_227: pasv("227", read_227::ftplib),
        reads_229: epsv("229", read_229::ftplib),
        connects_to: Address::Ignored,
        ..ANY
    },
    Program {
        name: "commons-net",
        reads_227: pasv("227", read_227::commons_net),
        reads_229: epsv("229", read_229::commons_net),
        connects_to: Address::Ignored,
        verifies_remote: true,
        ..ANY
    },
    Program {
        name: ".NET FtpWebRequest",
        after_login: &["OPTS utf8 on", "PWD"],
        reads_227: pasv("227", read_227::dot_net),
        reads_229: epsv("229", read_229::dot_net),
        connects_to: Address::Ignored,
        ..ANY
    },
    Program {
        name: "Chromium",
        after_login: &["SYST", "PWD"],
        reads_227: pasv("2", read_227::chromium),
        reads_229: epsv("2", read_229::chromium),
        active: &[],
        connects_to: Address::Ignored,
        // Its list of restricted ports, the part above 1023.
        shuns: |port| port < 1024 || [1719, 1720, 1723, 2049, 3659, 4045, 5060, 5061, 6000, 6566].contains(&port),
        ..ANY
    },
    Program {
        name: "basic-ftp",
        after_login: &["FEAT"],
        passive: &["EPSV", "PASV"],
        // It takes every 2xx, and throws if there is nothing to be read.
        reads_227: pasv("2", read_227::basic_ftp),
        reads_229: epsv("2", read_229::basic_ftp),
        active: &[],
        connects_to: Address::PrivateIsPeer,
        ..ANY
    },
    Program {
        name: "FluentFTP",
        after_login: &["FEAT", "OPTS UTF8 ON", "SYST"],
        passive: &["EPSV", "PASV"],
        reads_227: pasv("2", read_227::fluent_ftp),
        reads_229: Some(Read229 { code: "2", read: read_229::fluent_ftp, or_227: true }),
        active: &["EPRT", "PORT"],
        connects_to: Address::PrivateIsPeer,
        ..ANY
    },
    Program {
        name: "aria2",
        after_login: &["PWD"],
        reads_227: pasv("227", read_227::aria2),
        reads_229: epsv("229", read_229::aria2),
        ..ANY
    },
    Program {
        name: "Windows ftp.exe",
        // Before USER.
        before_login: &["OPTS UTF8 ON"],
        after_login: &[],
        passive: &[],
        ..ANY
    },
];

/// Private, loopback, link-local and unspecified: what a client on the internet cannot mean.
pub fn is_private(ip: Ipv4Addr) -> bool {
    ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()
}
