//! Whole sessions with real servers' words, uncut and cut at every point.
//!
//! One line is one message: `<` from the server, `>` from the client, each passed on as it is unless `=>` says
//! what the other side gets (`=> -`: nothing yet). `*` is an event of the data channel, or of TLS. `\n` in a message is
//! CRLF.

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode;
use ftp_alg::session::{Action, ClientTls, End, Event, Reason, ServerTls, Settings, Terminate, TlsSettings};

use crate::driver::{CLIENT, Driver, SERVER, deed, settings};

const IIS: &str = r"
< 220-Microsoft FTP Service\n220 Plant 4
> OPTS UTF8 ON
< 200 OPTS UTF8 command successful - UTF8 encoding now ON.
> USER anonymous
< 331 Anonymous access allowed, send identity (e-mail name) as password.
> PASS x@y
< 230-Welcome\n 227 Entering Passive Mode (1,2,3,4,5,6).\n230 User logged in.
> SYST
< 215 Windows_NT
> FEAT
< 211-Extended features supported:\n LANG EN*\n UTF8\n AUTH TLS;TLS-C;SSL;TLS-P;\n PBSZ\n PROT C;P;\n CCC\n HOST\n SIZE\n MDTM\n REST STREAM\n211 END => 211-Extended features supported:\n LANG EN*\n UTF8\n HOST\n SIZE\n MDTM\n REST STREAM\n211 END
> PASV
< 227 Entering Passive Mode (192,168,253,245,192,211). => 227 Entering Passive Mode (203,0,113,10,78,33).
> LIST
< 125 Data connection already open; Transfer starting.
< 226 Transfer complete. => -
* flushed client
=> 226 Transfer complete.
* complete
> EPSV
< 229 Entering Extended Passive Mode (|||49403|) => 229 Entering Extended Passive Mode (|||20002|)
> STOR \xd6\xd0.txt
< 125 Data connection already open; Transfer starting.
* flushed server
* flushed client
* complete
< 226 Transfer complete.
> PORT 198,51,100,7,217,150 => PORT 172,16,0,10,117,51
< 200 PORT command successful.
> RETR a
< 150 Opening ASCII mode data connection.
* flushed client
* complete
< 226 Transfer complete.
> PORT 2,2,2,3,0,80 => -
=> 501 Illegal PORT address.
> QUIT
< 221 Goodbye.
";

const SERV_U: &str = r"
< 220 Serv-U FTP Server v15.1 ready...
> SYST
< 530 Not logged in.
> USER u
< 331 User name okay, need password.
> PASS p
< 230 User logged in, proceed.
> PASV
< 227 Entering Passive Mode (172,20,1,6,195,80) => 227 Entering Passive Mode (203,0,113,10,78,33)
> RETR a file
< 150 Opening BINARY mode data connection for a file (5 Bytes).
> ABOR
< 426 Data connection closed, file transfer a file aborted by client.
< 226 ABOR command successful.
* closed
> EPSV
< 229 Entering Extended Passive Mode (|||50006|). => 229 Entering Extended Passive Mode (|||20002|).
> LIST
< 150 Opening ASCII mode data connection for /bin/ls.
* flushed client
* complete
< 226 Transfer complete. 70 bytes transferred. 0.07 KB/sec.
> PASV
< 425 Unable to listen, too many pending PASV requests from same client IP.
> QUIT
< 221 Goodbye!
";

const VSFTPD: &str = r"
< 220 (vsFTPd 3.0.3)
> USER u
< 331 Please specify the password.
> PASS p
< 230 Login successful.
> FEAT
< 211-Features:\n EPRT\n EPSV\n MDTM\n PASV\n REST STREAM\n SIZE\n TVFS\n211 End
> EPSV 2 => -
=> 522 Network protocol not supported, use (1)
> P@SW => PASV
< 227 Entering Passive Mode (127,0,0,1,223,132). => 227 Entering Passive Mode (203,0,113,10,78,33).
> NLST
< 150 Here comes the directory listing.
* flushed client
* complete
< 226 Directory send OK.
> EPSV ALL
< 200 EPSV ALL ok.
> PASV => -
=> 501 Only EPSV is allowed after EPSV ALL.
> EPSV
< 229 Entering Extended Passive Mode (|||12345|). => 229 Entering Extended Passive Mode (|||20002|).
> RETR none
< 550 Failed to open file.
> QUIT
< 221 Goodbye.
";

const PROFTPD: &str = r"
< 220 ProFTPD Server (Debian) [172.16.0.20]
> USER u
< 331 Password required for u
> PASS p
< 230 User u logged in
> EPSV
< 500 EPSV not understood => -
=server PASV
< 227 Entering Passive Mode (172,16,0,20,156,65). => 229 Entering Extended Passive Mode (|||20001|)
> MLSD
< 150 Opening ASCII mode data connection for MLSD
> STAT
< 211-Status of 'ProFTPD'\n Connected from 172.16.0.10\n211 End of status
* flushed client
* complete
< 226 Transfer complete
> EPRT |1|198.51.100.7|34833| => EPRT |1|172.16.0.10|30002|
< 200 EPRT command successful
> APPE log
< 150 Opening BINARY mode data connection for log
* flushed server
* flushed client
* complete
< 226 Transfer complete
> XCRC a\xff\xf4b
< 500 XCRC not understood
> QUIT
< 221 Goodbye.
";

const PURE_FTPD: &str = r"
< 220---------- Welcome to Pure-FTPd [privsep] [TLS] ----------\n220-You are user number 1 of 50 allowed.\n220 You will be disconnected after 15 minutes of inactivity.
> USER u
< 331 User u OK. Password required
> PASS p
< 230 OK. Current directory is /
> EPSV
< 229 Extended Passive mode OK (|||47730|) => 229 Extended Passive mode OK (|||20001|)
> STOR a
< 150 Accepted data connection
* flushed server
* flushed client
* complete
< 226-File successfully transferred\n226 0.001 seconds (measured here), 1.00 Mbytes per second
> PORT 10,0,0,5,20,20 => PORT 172,16,0,10,117,50
< 200 PORT command successful
> NLST
< 150 Connecting to port 30002
* flushed client
* complete
< 226-ASCII\n226 3 matches total
> AUTH TLS => -
=> 502 Command not implemented.
> QUIT
< 227 Logout.
";

/// FileZilla: AUTH before everything, FEAT after the login.
const FILEZILLA: &str = r#"
< 220 Microsoft FTP Service
> AUTH TLS => -
=> 234 AUTH TLS successful.
* TLS client
> USER u
< 331 Password required for u.
> PASS p
< 230 User u logged in.
> SYST
< 215 Windows_NT
> FEAT
< 211-FEAT\n    SIZE\n    MDTM\n211 END => 211-FEAT\n    SIZE\n    MDTM\n AUTH TLS\n PBSZ\n PROT\n211 END
> PBSZ 0 => -
=> 200 PBSZ command successful.
> PROT P => -
=> 200 Data connections are private.
> PWD
< 257 "/" is current directory.
> TYPE I
< 200 Type set to I.
> PASV
< 227 Entering Passive Mode (172,16,0,20,192,211). => 227 Entering Passive Mode (203,0,113,10,78,33).
> LIST
< 125 Data connection already open; Transfer starting.
* flushed client
* complete
< 226 Transfer complete.
> PASV
< 227 Entering Passive Mode (172,16,0,20,192,212). => 227 Entering Passive Mode (203,0,113,10,78,34).
> STOR a file.bin
< 125 Data connection already open; Transfer starting.
* flushed server
* flushed client
* complete
< 226 Transfer complete.
> QUIT
< 221 Goodbye.
"#;

/// curl: AUTH SSL first, no FEAT, EPSV.
const CURL: &str = r#"
< 220 (vsFTPd 3.0.3)
> AUTH SSL => -
=> 234 AUTH TLS successful.
* TLS client
> USER u
< 331 Please specify the password.
> PASS p
< 230 Login successful.
> PBSZ 0 => -
=> 200 PBSZ command successful.
> PROT P => -
=> 200 Data connections are private.
> PWD
< 257 "/" is the current directory
> CWD a directory
< 250 Directory successfully changed.
> EPSV
< 229 Entering Extended Passive Mode (|||12345|) => 229 Entering Extended Passive Mode (|||20001|)
> TYPE I
< 200 Switching to Binary mode.
> SIZE some file
< 213 1048576
> RETR some file
< 150 Opening BINARY mode data connection for some file (1048576 bytes).
< 226 Transfer complete. => -
* flushed client
=> 226 Transfer complete.
* complete
> EPSV
< 229 Entering Extended Passive Mode (|||12346|) => 229 Entering Extended Passive Mode (|||20002|)
> STOR another
< 150 Ok to send data.
* flushed server
* flushed client
* complete
< 226 Transfer complete.
> QUIT
< 221 Goodbye.
"#;

/// lftp, which looks for AUTH TLS in FEAT, changes PROT between listings and files, and leaves TLS by CCC.
const LFTP: &str = r"
< 220 ProFTPD Server ready.
> FEAT
< 211-Features:\n AUTH TLS\n CCC\n EPRT\n EPSV\n MDTM\n PBSZ\n PROT\n REST STREAM\n211 End => 211-Features:\n EPRT\n EPSV\n MDTM\n REST STREAM\n AUTH TLS\n PBSZ\n PROT\n CCC\n211 End
> AUTH TLS => -
=> 234 AUTH TLS successful.
* TLS client
> USER u
< 331 Password required for u
> PASS p
< 230 User u logged in
> PWD
< 257 '/' is the current directory
> PBSZ 0 => -
=> 200 PBSZ command successful.
> PROT P => -
=> 200 Data connections are private.
> PASV
< 227 Entering Passive Mode (172,16,0,20,156,65). => 227 Entering Passive Mode (203,0,113,10,78,33).
> LIST
< 150 Opening ASCII mode data connection for file list
* flushed client
* complete
< 226 Transfer complete
> PROT C => -
=> 200 Data connections are clear.
> CCC => -
=> 200 The control connection is clear from here on.
> TYPE I
< 200 Type set to I
> PASV
< 227 Entering Passive Mode (172,16,0,20,156,66). => 227 Entering Passive Mode (203,0,113,10,78,34).
> RETR a
< 150 Opening BINARY mode data connection for a
* flushed client
* complete
< 226 Transfer complete
> QUIT
< 221 Goodbye.
";

/// An old client, and a server that speaks TLS only.
const RE_ENCRYPTED: &str = r"
< 220 ProFTPD Server ready.
=server AUTH TLS
> USER u => -
< 234 AUTH TLS successful => -
* TLS server
=server PBSZ 0
< 200 PBSZ 0 successful => -
=server PROT P
< 200 Protection set to Private => -
=server USER u
< 331 Password required for u
> PASS p
< 230 User u logged in
> PORT 198,51,100,7,217,150 => PORT 172,16,0,10,117,49
< 200 PORT command successful
> STOR a
< 150 Opening BINARY mode data connection for a
* flushed server
* flushed client
* complete
< 226 Transfer complete
> PASV
< 227 Entering Passive Mode (172,16,0,20,156,66). => 227 Entering Passive Mode (203,0,113,10,78,34).
> RETR a
< 150 Opening BINARY mode data connection for a
* flushed client
* complete
< 226 Transfer complete
> QUIT
< 221 Goodbye.
";

struct Transcript {
    name: &'static str,
    tls: TlsSettings,
    script: &'static str,
}

fn all() -> Vec<Transcript> {
    let plain = |name, script| Transcript { name, tls: TlsSettings::default(), script };
    let allow_ccc = Terminate { require: false, implicit: false, allow_ccc: true };
    let client = |terms| TlsSettings { client: ClientTls::Terminate(terms), server: ServerTls::Plain };
    let server = TlsSettings { client: ClientTls::Refuse, server: ServerTls::Explicit };
    vec![
        plain("IIS", IIS),
        plain("Serv-U", SERV_U),
        plain("vsftpd", VSFTPD),
        plain("ProFTPD", PROFTPD),
        plain("Pure-FTPd", PURE_FTPD),
        Transcript { name: "FileZilla", tls: client(Terminate::default()), script: FILEZILLA },
        Transcript { name: "curl", tls: client(Terminate { require: true, ..Terminate::default() }), script: CURL },
        Transcript { name: "lftp", tls: client(allow_ccc), script: LFTP },
        Transcript { name: "re-encrypted", tls: server, script: RE_ENCRYPTED },
    ]
}

/// One line of a transcript.
enum Step {
    /// Who speaks, what, and what the other side gets at once (`None`: nothing).
    Bytes {
        from: Leg,
        data: Vec<u8>,
        passed: Option<Vec<u8>>,
    },
    /// This leg has got this without anybody's saying more.
    Also(Leg, Vec<u8>),
    Channel(&'static str),
}

fn parse(script: &'static str) -> Vec<Step> {
    let steps: Vec<_> = script.lines().filter(|line| !line.is_empty()).map(step).collect();
    assert!(steps.len() > 20, "a transcript goes from the greeting to QUIT");
    steps
}

fn step(line: &'static str) -> Step {
    let (kind, rest) = line.split_once(' ').expect("a mark and its text");
    let from = match kind {
        "*" => return Step::Channel(rest),
        "=>" => return Step::Also(Leg::Client, wire(rest)),
        "=server" => return Step::Also(Leg::Server, wire(rest)),
        "<" => Leg::Server,
        ">" => Leg::Client,
        _ => panic!("{line}"),
    };
    let (data, passed) = match rest.split_once(" => ") {
        None => (rest, Some(wire(rest))),
        Some((data, "-")) => (data, None),
        Some((data, passed)) => (data, Some(wire(passed))),
    };
    Step::Bytes { from, data: wire(data), passed }
}

/// The bytes of a message: `\n` and the end are CRLF, `\xhh` is a byte.
fn wire(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, part) in text.replace("\\n", "\r\n").split("\\x").enumerate() {
        let escaped = if index == 0 { 0 } else { 2 };
        bytes.extend(u8::from_str_radix(&part[..escaped], 16));
        bytes.extend_from_slice(&part.as_bytes()[escaped..]);
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// What a run has come to: the bytes of each leg and everything else that was done, in order.
type Outcome = (Vec<u8>, Vec<u8>, Vec<String>);

/// Plays a transcript; `cut` gives the pieces in which a message arrives.
fn play<'a>(
    tls: TlsSettings,
    steps: &'a [Step],
    cut: impl Fn(usize, &'a [u8]) -> Vec<&'a [u8]>,
    check: bool,
) -> Outcome {
    let mut d = Driver::unconnected(Settings { tls, ..settings(DataMode::Same) }, CLIENT);
    d.connect(SERVER);
    let mut outcome = Outcome::default();
    for (index, step) in steps.iter().enumerate() {
        let mut expected = (Vec::new(), Vec::new());
        match step {
            Step::Bytes { from, data, passed } => {
                for piece in cut(index, data) {
                    d.event(Event::Bytes { leg: *from, data: piece, urgent: false });
                }
                let passed = passed.clone().unwrap_or_default();
                *if *from == Leg::Server { &mut expected.0 } else { &mut expected.1 } = passed;
            }
            // Checked together with the step before it.
            Step::Also(..) => continue,
            Step::Channel("flushed client") => d.flushed(Leg::Client),
            Step::Channel("flushed server") => d.flushed(Leg::Server),
            Step::Channel("TLS client") => d.event(Event::TlsReady { leg: Leg::Client }),
            Step::Channel("TLS server") => d.event(Event::TlsReady { leg: Leg::Server }),
            Step::Channel("complete") => d.ended(End::Complete),
            Step::Channel("closed") => d.ended(End::Closed),
            Step::Channel(other) => panic!("{other}"),
        }
        for also in steps[index + 1..]
            .iter()
            .map_while(|s| if let Step::Also(leg, data) = s { Some((leg, data)) } else { None })
        {
            if *also.0 == Leg::Client { &mut expected.0 } else { &mut expected.1 }.extend_from_slice(also.1);
        }
        let got = (d.sent_raw(Leg::Client), d.sent_raw(Leg::Server));
        if check {
            let show =
                |(a, b): &(Vec<u8>, Vec<u8>)| format!("client: {}\nserver: {}", a.escape_ascii(), b.escape_ascii());
            assert_eq!(show(&got), show(&expected), "step {index}");
        }
        outcome.0.extend(got.0);
        outcome.1.extend(got.1);
        outcome.2.extend(d.take_actions().iter().filter(|a| !matches!(a, Action::Write { .. })).filter_map(deed));
    }
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(d.closed(), Some(Reason::ServerClosed), "nothing is left over");
    outcome
}

#[test]
fn transcripts_pass_uncut() {
    for Transcript { name, tls, script } in all() {
        println!("{name}");
        let (.., deeds) = play(tls, &parse(script), |_, data| vec![data], true);
        assert!(deeds.iter().any(|deed| deed.starts_with("transferred")), "{name}");
    }
}

fn cut_at(data: &[u8], point: usize) -> Vec<&[u8]> {
    let (before, after) = data.split_at(point);
    vec![before, after]
}

#[test]
fn sec_08_transcripts_pass_cut_at_every_point() {
    for Transcript { name, tls, script } in all() {
        let steps = parse(script);
        let whole = play(tls, &steps, |_, data| vec![data], false);
        let mut points = 0;
        for (cut, step) in steps.iter().enumerate() {
            let Step::Bytes { data, .. } = step else { continue };
            for point in 1..data.len() {
                let cut_here = |index, data| if index == cut { cut_at(data, point) } else { vec![data] };
                assert_eq!(play(tls, &steps, cut_here, true), whole, "{name}, message {cut} cut at {point}");
                points += 1;
            }
        }
        assert!(points > 400, "{name}: {points}");
    }
}

#[test]
fn rfc_01_transcripts_pass_byte_by_byte() {
    for Transcript { name, tls, script } in all() {
        let steps = parse(script);
        let whole = play(tls, &steps, |_, data| vec![data], false);
        assert_eq!(play(tls, &steps, |_, data| data.chunks(1).collect(), true), whole, "{name}");
    }
}
