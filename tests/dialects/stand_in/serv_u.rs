//! Serv-U. Its replies can be edited by the administrator: these are the shipped ones.

use super::dialect::{Dialect, Features, Habits, PLAIN, RFC, Text, Texts};

/// The list of strings in Serv-U for WinSock, of version 5 or 6.
const STRINGS: &str = "Serv-U's list of strings, version 5 or 6";
const FEAT: &str = "comments of OverbyteIcsFtpCli";
const LOG_15: &str = "session logs of Serv-U 15.1";

const COMMON: Texts = Texts {
    user: Text::source("331 User name okay, need password.", STRINGS),
    user_anonymous: Text::nearest("331 User name okay, need password.", STRINGS),
    pass: Text::source("230 User logged in, proceed.", STRINGS),
    pass_anonymous: Text::source("230 User logged in, proceed.", STRINGS),
    not_logged_in: Text::nearest("530 Not logged in.", LOG_15),
    system: Text::source("215 UNIX Type: L8", STRINGS),
    auth: Some(Text::source("234 AUTH command OK. Initializing SSL connection.", STRINGS)),
    pasv: Some(Text::source("227 Entering Passive Mode ({tuple})", STRINGS)),
    epsv: None,
    port: Some(Text::source("200 PORT Command successful.", STRINGS)),
    eprt: None,
    foreign_port: Text::source("530 Only client IP address allowed for PORT command.", STRINGS),
    low_port: Some(Text::source("530 Port number has to be between 1024 and 65535.", STRINGS)),
    foreign_peer: Text::source("530 Only client IP address allowed to connect to PASV socket.", STRINGS),
    too_many_pending: Some(Text::source(
        "425 Unable to listen, too many pending PASV requests from same client IP.",
        STRINGS,
    )),
    opening_download: Text::source("150 Opening {type} mode data connection for {path} ({bytes} Bytes).", STRINGS),
    opening_upload: Text::nearest("150 Opening {type} mode data connection for {path}.", STRINGS),
    opening_list: Text::source("150 Opening ASCII mode data connection for /bin/ls.", STRINGS),
    complete: Text::source("226 Transfer complete.", STRINGS),
    aborted: Text::source("426 Data connection closed, file transfer {path} aborted by client.", STRINGS),
    abor: Text::source("226 ABOR command successful.", STRINGS),
    unknown: Text::source("500 '{verb}': command not understood.", STRINGS),
    quit: Text::source("221 Goodbye!", STRINGS),
    ..RFC
};

/// The refusals exist; whether they are on by default is not verified. Here they are.
const CAREFUL: Habits = Habits { checks_port: true, checks_peer: true, ..PLAIN };

pub const SERV_U_6: Dialect = Dialect {
    name: "Serv-U 6",
    texts: Texts {
        greeting: Text::source("220 Serv-U FTP Server v6.1 for WinSock ready...", STRINGS),
        features: Some(Features {
            head: Text::documented("211-Extension supported", FEAT),
            // The lines of 6.1 are not known, but for the missing EPSV.
            lines: &[" SIZE", " MDTM", " REST STREAM"],
            tail: Text::nearest("211 End", "Serv-U 7.3"),
        }),
        ..COMMON
    },
    habits: CAREFUL,
};

/// The list of 7.3, its last line as far as it is known.
const SEVEN_FEATURES: Features = Features {
    head: Text::nearest("211-Extension supported", "Serv-U 6.1"),
    lines: &[
        "    CSID Name; Version;",
        "    HOST domain",
        "    AUTH TLS;SSL;TLS-C;TLS-P;",
        "    CCC",
        "    SIZE",
        "    MDTM",
        "    REST STREAM",
    ],
    tail: Text::documented("211 End (for details use \"HELP commmand\"", FEAT),
};

const SEVEN: Texts = Texts {
    greeting: Text::documented("220 Serv-U FTP Server v7.2 ready...", "recog, ftp_banners.xml"),
    features: Some(SEVEN_FEATURES),
    // HOST repeats the welcome; the version is not stated.
    host: Some(Text::documented("220 Serv-U FTP Server v7.2 ready...", "a comment in WinSCP's source")),
    ..COMMON
};

pub const SERV_U_7: Dialect = Dialect { name: "Serv-U 7", texts: SEVEN, habits: CAREFUL };

const TEN: Texts = Texts {
    greeting: Text::nearest("220 Serv-U FTP Server v10.5 ready...", "Serv-U 7 and 15"),
    host: Some(Text::nearest("220 Serv-U FTP Server v10.5 ready...", "Serv-U 7 and 15")),
    features: Some(Features {
        lines: &[
            "    CSID Name; Version;",
            "    HOST domain",
            "    AUTH TLS;SSL;TLS-C;TLS-P;",
            "    CCC",
            "    EPRT",
            "    EPSV",
            "    SIZE",
            "    MDTM",
            "    REST STREAM",
        ],
        ..SEVEN_FEATURES
    }),
    epsv: Some(Text::nearest("229 Entering Extended Passive Mode (|||{port}|).", "Serv-U 15.1.3.3")),
    eprt: Some(Text::nearest("200 EPRT command successful.", "Serv-U 15.1, of PORT")),
    ..SEVEN
};

pub const SERV_U_10: Dialect = Dialect { name: "Serv-U 10", texts: TEN, habits: CAREFUL };

pub const SERV_U_15: Dialect = Dialect {
    name: "Serv-U 15",
    texts: Texts {
        greeting: Text::log("220 Serv-U FTP Server v15.1 ready...", LOG_15),
        host: Some(Text::documented("220 Serv-U FTP Server v15.1 ready...", "a comment in WinSCP's source")),
        not_logged_in: Text::log("530 Not logged in.", LOG_15),
        epsv: Some(Text::log("229 Entering Extended Passive Mode (|||{port}|).", "aioftp#69, version 15.1.3.3")),
        port: Some(Text::log("200 PORT command successful.", LOG_15)),
        complete: Text::log("226 Transfer complete. {bytes} bytes transferred. {kb} KB/sec.", LOG_15),
        ..TEN
    },
    habits: CAREFUL,
};
