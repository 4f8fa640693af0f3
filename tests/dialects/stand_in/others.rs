//! FileZilla Server, the BSD family, IBM's servers, Apache FtpServer, pyftpdlib.

use super::dialect::{Dialect, Features, Habits, PLAIN, RFC, Text, Texts};

const FILEZILLA: &str = "FileZilla Server";
const WU: &str = "wu-ftpd 2.6.2";
const APACHE: &str = "Apache FtpServer";
const PYFTPDLIB: &str = "pyftpdlib";

/// It compares addresses for both directions.
const CAREFUL: Habits = Habits { checks_port: true, checks_peer: true, ..PLAIN };

pub const FILEZILLA_0_9: Dialect = Dialect {
    name: "FileZilla Server 0.9",
    texts: Texts {
        greeting: Text::nearest(
            "220-FileZilla Server 0.9.60\r\n220 Please visit https://filezilla-project.org/",
            "FileZilla Server 1.9.1; the first word is its own",
        ),
        pasv: Some(Text::source("227 Entering Passive Mode ({tuple})", FILEZILLA)),
        epsv: Some(Text::source("229 Entering Extended Passive Mode (|||{port}|)", FILEZILLA)),
        // A 421, and the session goes on.
        foreign_port: Text::source(
            "421 Rejected command, requested IP address does not match control connection IP.",
            FILEZILLA,
        ),
        ..RFC
    },
    // Nothing is known about a check of passive peers.
    habits: Habits { checks_port: true, dots_in_port: true, ..PLAIN },
};

pub const FILEZILLA_1: Dialect = Dialect {
    name: "FileZilla Server 1.x",
    texts: Texts {
        greeting: Text::capture(
            "220-FileZilla Server 1.9.1\r\n220 Please visit https://filezilla-project.org/",
            "FileZilla Server 1.9.1",
        ),
        pasv: Some(Text::source("227 Entering Passive Mode ({tuple})", FILEZILLA)),
        epsv: Some(Text::nearest("229 Entering Extended Passive Mode (|||{port}|)", "FileZilla Server 0.9.60")),
        auth: Some(Text::source("234 Using authentication type TLS.", FILEZILLA)),
        foreign_port: Text::nearest(
            "421 Rejected command, requested IP address does not match control connection IP.",
            "FileZilla Server 0.9.60",
        ),
        // Its 425 is known, the words are not.
        ..RFC
    },
    habits: CAREFUL,
};

pub const WU_FTPD: Dialect = Dialect {
    name: "wu-ftpd",
    texts: Texts {
        greeting: Text::source("220 ftp.example.org FTP server (Version wu-2.6.2) ready.", WU),
        auth: Some(Text::source("234 AUTH TLS OK.", WU)),
        pasv: Some(Text::source("227 Entering Passive Mode ({tuple})", WU)),
        epsv: Some(Text::source("229 Entering Extended Passive Mode (|||{port}|)", WU)),
        lpsv: Some(Text::source("228 Entering Long Passive Mode (4,4,{tuple})", WU)),
        foreign_port: Text::source("502 Illegal PORT Command", WU),
        foreign_peer: Text::source("425 Possible PASV port theft, cannot open data connection.", WU),
        ..RFC
    },
    habits: CAREFUL,
};

pub const NETBSD: Dialect = Dialect {
    name: "NetBSD ftpd",
    texts: Texts {
        greeting: Text::capture("220 ftp.NetBSD.org FTP server (NetBSD-ftpd 20100320) ready.", "NetBSD-ftpd"),
        // Its continuation lines carry no code; the words are the RFC's.
        pass: Text::nearest(
            "230-\r\n    Welcome.\r\n230 User logged in, proceed.",
            "a capture of NetBSD-ftpd: the form",
        ),
        pass_anonymous: Text::nearest(
            "230-\r\n    Welcome.\r\n230 User logged in, proceed.",
            "a capture of NetBSD-ftpd: the form",
        ),
        pasv: Some(Text::capture("227 Entering Passive Mode ({tuple})", "NetBSD-ftpd")),
        epsv: Some(Text::capture("229 Entering Extended Passive Mode (|||{port}|)", "NetBSD-ftpd")),
        ..RFC
    },
    // Nothing is known about checks of addresses.
    habits: PLAIN,
};

pub const IBM_I: Dialect = Dialect {
    name: "IBM i",
    texts: Texts {
        greeting: Text::log(
            "220-QTCP at JDA.\r\n220 Connection will close if idle more than 5 minutes.",
            "FluentFTP#388 and #1108",
        ),
        system: Text::log("215  OS/400 is the remote operating system.", "FluentFTP#388 and #1108"),
        // Its 227 is not known.
        epsv: Some(Text::log("229 Entering Extended Passive Mode (!!!{port}!)", "basic-ftp's tests, FluentFTP#1108")),
        ..RFC
    },
    habits: PLAIN,
};

pub const Z_OS: Dialect = Dialect {
    name: "z/OS",
    texts: Texts {
        greeting: Text::nearest(
            "220-FTPD1 IBM FTP CS V2R3 at example.org.\r\n220 Connection will close if idle more than 5 minutes.",
            "z/OS, the first line up to its host; the second is of IBM i",
        ),
        pasv: Some(Text::documented("227 Entering Passive Mode ({tuple})", "IBM")),
        options_utf8: Some(Text::log(
            "501 command OPTS aborted -- no options supported for UTF8",
            "session log of a client of z/OS",
        )),
        ..RFC
    },
    habits: PLAIN,
};

pub const APACHE_FTPSERVER: Dialect = Dialect {
    name: "Apache FtpServer",
    texts: Texts {
        greeting: Text::source("220 Service ready for new user.", APACHE),
        auth: Some(Text::source("234 Command AUTH okay; starting TLS connection.", APACHE)),
        pasv: Some(Text::source("227 Entering Passive Mode ({tuple})", APACHE)),
        // The words of the other reply.
        epsv: Some(Text::source("229 Entering Passive Mode (|||{port}|)", APACHE)),
        foreign_port: Text::source("501 PORT IP is not same as {host}", APACHE),
        ..RFC
    },
    habits: Habits { checks_port: true, ..PLAIN },
};

pub const PYFTPDLIB_1_5: Dialect = Dialect {
    name: "pyftpdlib 1.5",
    texts: Texts {
        greeting: Text::capture("220 pyftpdlib 1.5.6 ready", PYFTPDLIB),
        features: Some(Features {
            head: Text::nearest("211-Features supported:", "RFC 2389 section 3.2"),
            lines: &[" EPRT", " EPSV", " MDTM", " REST STREAM", " SIZE"],
            tail: Text::nearest("211 END", "RFC 2389 section 3.2"),
        }),
        pasv: Some(Text::source("227 Entering passive mode ({tuple}).", PYFTPDLIB)),
        epsv: Some(Text::source("229 Entering extended passive mode (|||{port}|).", PYFTPDLIB)),
        epsv_all: Text::source("220 Command okay.", "pyftpdlib: the code"),
        foreign_port: Text::source("501 Rejected data connection to foreign address {address}.", PYFTPDLIB),
        foreign_peer: Text::source("425 Rejected data connection from foreign address {address}.", PYFTPDLIB),
        ..RFC
    },
    habits: CAREFUL,
};
