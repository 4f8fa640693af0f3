//! What a server says and what it is like, as data.
//!
//! Every text carries how it is known. What is not known is not made up: a server that lacks a text uses the words of
//! the nearest one that is documented, or those of the RFC, and says so.

use std::time::Duration;

/// A reply as it stands on the wire, without its last CRLF; inner lines are separated by CRLF.
///
/// Words in braces are filled in: `{tuple}` is h1,h2,h3,h4,p1,p2, `{port}` a port, `{path}` and `{bytes}` belong to
/// the file, `{kb}` is its size in KiB, `{type}` is ASCII or BINARY, `{verb}` the command's, `{host}` and `{address}` the
/// one that is refused, without and with its port.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    pub wire: &'static str,
    pub known: Known,
}

/// How a text is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// From a session log; where it was published, or which program wrote it.
    Log(&'static str),
    /// From a capture of packets.
    Capture(&'static str),
    /// From the vendor's documentation, or that of a program that has to know it.
    Documented(&'static str),
    /// From the server's own source or its list of strings.
    Source(&'static str),
    /// The server's own words are not known; these are whose.
    Nearest(&'static str),
}

impl Text {
    pub const fn log(wire: &'static str, seen: &'static str) -> Self {
        Self { wire, known: Known::Log(seen) }
    }

    pub const fn capture(wire: &'static str, seen: &'static str) -> Self {
        Self { wire, known: Known::Capture(seen) }
    }

    pub const fn documented(wire: &'static str, by: &'static str) -> Self {
        Self { wire, known: Known::Documented(by) }
    }

    pub const fn source(wire: &'static str, of: &'static str) -> Self {
        Self { wire, known: Known::Source(of) }
    }

    pub const fn nearest(wire: &'static str, whose: &'static str) -> Self {
        Self { wire, known: Known::Nearest(whose) }
    }
}

/// A server.
#[derive(Debug)]
pub struct Dialect {
    pub name: &'static str,
    pub texts: Texts,
    pub habits: Habits,
}

impl Dialect {
    /// The commands that it has for data connections.
    pub fn verbs(&self) -> Vec<&'static str> {
        let Texts { pasv, epsv, port, eprt, .. } = &self.texts;
        [("PASV", pasv), ("EPSV", epsv), ("PORT", port), ("EPRT", eprt)]
            .into_iter()
            .filter_map(|(verb, text)| text.is_some().then_some(verb))
            .collect()
    }
}

/// What it says. `None` where the server does not know the command.
#[derive(Debug, Clone, Copy)]
pub struct Texts {
    pub greeting: Text,
    pub user: Text,
    pub user_anonymous: Text,
    pub pass: Text,
    pub pass_anonymous: Text,
    pub not_logged_in: Text,
    /// To USER, if the server is set to admit nobody without TLS.
    pub tls_required: Text,
    pub system: Text,
    pub directory: Text,
    pub features: Option<Features>,
    pub options_utf8: Option<Text>,
    pub host: Option<Text>,
    /// Nothing here speaks TLS: who gets this has a closed connection with the next byte.
    pub auth: Option<Text>,

    pub pasv: Option<Text>,
    pub epsv: Option<Text>,
    pub epsv_all: Text,
    /// To PASV and PORT after EPSV ALL.
    pub after_epsv_all: Text,
    pub lpsv: Option<Text>,
    pub port: Option<Text>,
    pub eprt: Option<Text>,
    /// To PORT and EPRT with an address that is not the client's.
    pub foreign_port: Text,
    /// To PORT and EPRT with a port below 1024, if that is another text.
    pub low_port: Option<Text>,
    /// In place of the transfer, if the data connection came from elsewhere.
    pub foreign_peer: Text,
    /// To PASV, if too many of that client's are waiting.
    pub too_many_pending: Option<Text>,
    pub bad_argument: Text,

    /// Before a transfer whose data connection is there already, if that is another text.
    pub already_open: Option<Text>,
    pub opening_download: Text,
    pub opening_upload: Text,
    pub opening_list: Text,
    pub complete: Text,
    pub cannot_open: Text,
    pub aborted: Text,
    pub abor: Text,
    /// A limit on time or rate has ended the transfer.
    pub too_slow: Text,
    /// A limit on time has ended the session.
    pub idle: Text,

    pub okay: Text,
    pub file_okay: Text,
    pub restart: Text,
    pub no_file: Text,
    pub unknown: Text,
    pub quit: Text,
}

impl Texts {
    /// All of them.
    pub fn all(&self) -> Vec<Text> {
        let always = [
            self.greeting,
            self.user,
            self.user_anonymous,
            self.pass,
            self.pass_anonymous,
            self.not_logged_in,
            self.tls_required,
            self.system,
            self.directory,
            self.epsv_all,
            self.after_epsv_all,
            self.foreign_port,
            self.foreign_peer,
            self.bad_argument,
            self.opening_download,
            self.opening_upload,
            self.opening_list,
            self.complete,
            self.cannot_open,
            self.aborted,
            self.abor,
            self.too_slow,
            self.idle,
            self.okay,
            self.file_okay,
            self.restart,
            self.no_file,
            self.unknown,
            self.quit,
        ];
        let some = [
            self.options_utf8,
            self.host,
            self.auth,
            self.pasv,
            self.epsv,
            self.lpsv,
            self.port,
            self.eprt,
            self.low_port,
            self.too_many_pending,
            self.already_open,
        ];
        let features = self.features.iter().flat_map(|features| [features.head, features.tail]);
        always.into_iter().chain(some.into_iter().flatten()).chain(features).collect()
    }
}

impl Known {
    /// Whose words these are, and whether they are this server's own.
    pub const fn by(self) -> (&'static str, bool) {
        match self {
            Self::Log(by) | Self::Capture(by) | Self::Documented(by) | Self::Source(by) => (by, true),
            Self::Nearest(by) => (by, false),
        }
    }
}

/// The reply to FEAT.
#[derive(Debug, Clone, Copy)]
pub struct Features {
    pub head: Text,
    /// Whole lines, with their indentation.
    pub lines: &'static [&'static str],
    pub tail: Text,
}

/// What it does.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// PORT and EPRT must name the client's own address.
    pub checks_port: bool,
    /// A passive data connection must come from the client's own address.
    pub checks_peer: bool,
    /// Connects to the address in PORT before it replies to it.
    pub connects_before_reply: bool,
    /// Says 226 before it closes the data connection.
    pub final_reply_before_fin: bool,
    /// Says that a transfer begins before there is a data connection.
    pub opens_before_connection: bool,
    /// PORT may have dots in place of commas.
    pub dots_in_port: bool,
    pub listing: Listing,
    /// Time and rate limits, if it has any by default.
    pub limits: Option<Limits>,
}

/// How LIST looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    Unix,
    Dos,
}

/// What ends a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// No command for so long.
    pub control_idle: Duration,
    /// No byte for so long, and no connection after PASV.
    pub data_idle: Duration,
    /// Fewer bytes than this, measured over `data_idle`.
    pub bytes_per_second: u64,
}

const RFC959: &str = "RFC 959 section 4.2.2 or its example";
const RFC2428: &str = "RFC 2428";

/// The RFC's own words: what a dialect falls back to.
pub const RFC: Texts = Texts {
    greeting: Text::nearest("220 Service ready for new user.", RFC959),
    user: Text::nearest("331 User name okay, need password.", RFC959),
    user_anonymous: Text::nearest("331 User name okay, need password.", RFC959),
    pass: Text::nearest("230 User logged in, proceed.", RFC959),
    pass_anonymous: Text::nearest("230 User logged in, proceed.", RFC959),
    not_logged_in: Text::nearest("530 Not logged in.", RFC959),
    tls_required: Text::nearest("534 Request denied for policy reasons.", "RFC 2228 section 3"),
    system: Text::nearest("215 UNIX Type: L8", "Serv-U and most others"),
    directory: Text::nearest("257 \"{path}\" is current directory.", "IIS"),
    features: Some(Features {
        head: Text::nearest("211-Extensions supported:", "RFC 2389 section 3.2"),
        lines: &[" EPRT", " EPSV", " MDTM", " REST STREAM", " SIZE"],
        tail: Text::nearest("211 END", "RFC 2389 section 3.2"),
    }),
    options_utf8: Some(Text::nearest("501 Option not supported.", "IIS")),
    host: None,
    auth: None,
    pasv: Some(Text::nearest("227 Entering Passive Mode ({tuple}).", RFC959)),
    epsv: Some(Text::nearest("229 Entering Extended Passive Mode (|||{port}|)", RFC2428)),
    epsv_all: Text::nearest("200 Command okay.", RFC959),
    after_epsv_all: Text::nearest("501 Syntax error in parameters or arguments.", RFC959),
    lpsv: None,
    port: Some(Text::nearest("200 Command okay.", RFC959)),
    eprt: Some(Text::nearest("200 Command okay.", RFC959)),
    foreign_port: Text::nearest("501 Syntax error in parameters or arguments.", RFC959),
    low_port: None,
    foreign_peer: Text::nearest("425 Can't open data connection.", RFC959),
    too_many_pending: None,
    bad_argument: Text::nearest("501 Syntax error in parameters or arguments.", RFC959),
    already_open: None,
    opening_download: Text::nearest("150 File status okay; about to open data connection.", RFC959),
    opening_upload: Text::nearest("150 File status okay; about to open data connection.", RFC959),
    opening_list: Text::nearest("150 File status okay; about to open data connection.", RFC959),
    complete: Text::nearest("226 Closing data connection.", RFC959),
    cannot_open: Text::nearest("425 Can't open data connection.", RFC959),
    aborted: Text::nearest("426 Connection closed; transfer aborted.", RFC959),
    abor: Text::nearest("226 Closing data connection.", RFC959),
    too_slow: Text::nearest("426 Connection closed; transfer aborted.", RFC959),
    idle: Text::nearest("421 Service not available, closing control connection.", RFC959),
    okay: Text::nearest("200 Command okay.", RFC959),
    file_okay: Text::nearest("250 Requested file action okay, completed.", RFC959),
    restart: Text::nearest("350 Requested file action pending further information.", RFC959),
    no_file: Text::nearest("550 Requested action not taken.", RFC959),
    unknown: Text::nearest("500 Syntax error, command unrecognized.", RFC959),
    quit: Text::nearest("221 Service closing control connection.", RFC959),
};

/// Nothing out of the ordinary; what is checked has to be said.
pub const PLAIN: Habits = Habits {
    checks_port: false,
    checks_peer: false,
    connects_before_reply: false,
    final_reply_before_fin: false,
    opens_before_connection: false,
    dots_in_port: false,
    listing: Listing::Unix,
    limits: None,
};
