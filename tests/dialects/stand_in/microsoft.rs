//! Microsoft's FTP service.

use std::time::Duration;

use super::dialect::{Dialect, Features, Habits, Limits, Listing, PLAIN, RFC, Text, Texts};

const LOG: &str = "session logs of IIS";
const NMAP: &str = "nmap ftp-bounce against three IIS hosts";
const WINSCP: &str = "WinSCP, FtpFileSystem.cpp";

/// What all versions have in common.
const COMMON: Texts = Texts {
    greeting: Text::log("220 Microsoft FTP Service", "nmap's service probes and session logs"),
    user: Text::log("331 Password required", LOG),
    user_anonymous: Text::log("331 Anonymous access allowed, send identity (e-mail name) as password.", LOG),
    pass: Text::log("230 User logged in.", LOG),
    pass_anonymous: Text::log("230 User logged in.", LOG),
    not_logged_in: Text::log("530 Please login with USER and PASS.", LOG),
    tls_required: Text::log("534 Policy requires SSL", "ftpConnect#73"),
    system: Text::log("215 Windows_NT", LOG),
    directory: Text::log("257 \"{path}\" is current directory.", LOG),
    pasv: Some(Text::log("227 Entering Passive Mode ({tuple}).", "session log of IIS 7 or later")),
    port: Some(Text::log("200 PORT command successful.", LOG)),
    foreign_port: Text::log("501 Server cannot accept argument.", NMAP),
    // What it says to a data connection from elsewhere is not known.
    foreign_peer: Text::nearest("425 Cannot open data connection.", "IIS, when there is no data connection"),
    already_open: Some(Text::log("125 Data connection already open; Transfer starting.", LOG)),
    opening_download: Text::log("150 Opening {type} mode data connection.", LOG),
    opening_upload: Text::log("150 Opening {type} mode data connection.", LOG),
    opening_list: Text::log("150 Opening ASCII mode data connection.", LOG),
    complete: Text::log("226 Transfer complete.", LOG),
    cannot_open: Text::log("425 Cannot open data connection.", LOG),
    no_file: Text::log("550 Access is denied. ", LOG),
    unknown: Text::log("500 '{verb}': command not understood", "IIS 5; comments of OverbyteIcsFtpCli"),
    ..RFC
};

/// `matchClientAddressForPort` and `matchClientAddressForPasv` are true by default.
const CAREFUL: Habits =
    Habits { checks_port: true, checks_peer: true, opens_before_connection: true, listing: Listing::Dos, ..PLAIN };

pub const IIS_6: Dialect = Dialect {
    name: "IIS 6",
    texts: Texts {
        pass_anonymous: Text::log("230-Welcome.\r\n230 Anonymous user logged in.", "session log of IIS 5 or 6"),
        features: Some(Features {
            head: Text::documented("211-FEAT", WINSCP),
            lines: &["    SIZE", "    MDTM"],
            tail: Text::documented("211 END", WINSCP),
        }),
        pasv: Some(Text::nearest("227 Entering Passive Mode ({tuple}).", "IIS 7 or later")),
        // Not in its FEAT, and nobody has seen it.
        epsv: None,
        eprt: None,
        quit: Text::nearest("221  ", "session log of IIS 5.0"),
        ..COMMON
    },
    habits: CAREFUL,
};

/// The texts of version 7 and later.
const SEVEN: Texts = Texts {
    features: Some(Features {
        head: Text::log("211-Extended features supported:", "ArxOne/FTP#44"),
        // EPSV works, and is not in the list. REST STREAM is missing in the listing of 2008.
        lines: &[
            " LANG EN*",
            " UTF8",
            " AUTH TLS;TLS-C;SSL;TLS-P;",
            " PBSZ",
            " PROT C;P;",
            " CCC",
            " HOST",
            " SIZE",
            " MDTM",
        ],
        tail: Text::log("211 END", "ArxOne/FTP#44"),
    }),
    options_utf8: Some(Text::log("200 OPTS UTF8 command successful - UTF8 encoding now ON.", LOG)),
    host: Some(Text::documented("220 Host accepted", "a comment in WinSCP's source")),
    auth: Some(Text::log("234 AUTH command ok. Expecting TLS Negotiation.", "FluentFTP#451")),
    epsv: Some(Text::log("229 Entering Extended Passive Mode (|||{port}|)", "two session logs")),
    eprt: Some(Text::nearest("200 EPRT command successful.", "IIS, of PORT")),
    quit: Text::log("221 Goodbye.", LOG),
    ..COMMON
};

/// Documented for 7.5: KB2505047. `dataChannelTimeout`, `controlChannelTimeout` and `minBytesPerSecond` are the
/// defaults in the documentation of system.applicationHost/sites/site/ftpServer/connections.
const SEVEN_HABITS: Habits = Habits {
    connects_before_reply: true,
    final_reply_before_fin: true,
    limits: Some(Limits {
        control_idle: Duration::from_secs(120),
        data_idle: Duration::from_secs(30),
        bytes_per_second: 240,
    }),
    ..CAREFUL
};

pub const IIS_7_5: Dialect = Dialect { name: "IIS 7.5", texts: SEVEN, habits: SEVEN_HABITS };

/// 8.5 and 10: one program as far as the wire can tell. That it connects and closes as 7.5 does is inferred.
pub const IIS_10: Dialect = Dialect {
    name: "IIS 10",
    texts: Texts {
        features: Some(Features {
            head: Text::log("211-Extended features supported:", "ArxOne/FTP#44"),
            lines: &[
                " LANG EN*",
                " UTF8",
                " AUTH TLS;TLS-C;SSL;TLS-P;",
                " PBSZ",
                " PROT C;P;",
                " CCC",
                " HOST",
                " SIZE",
                " MDTM",
                " REST STREAM",
            ],
            tail: Text::log("211 END", "ArxOne/FTP#44"),
        }),
        ..SEVEN
    },
    habits: SEVEN_HABITS,
};
