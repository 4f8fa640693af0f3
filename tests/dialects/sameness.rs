//! A session through the proxy reads like one without: addresses differ, and nothing else.

use crate::client::{Client, Data, Reply};
use crate::stage::{Route, Stage, with_every_server};
use crate::support::wire::Wire;

/// Before the login and after it, what clients send; transfers are made in between.
const BEFORE: &[&str] = &["SYST", "OPTS UTF8 ON", "HOST ftp.example.org", "STAT"];
const AFTER: &[&str] = &[
    "SYST",
    "PWD",
    "CWD two",
    "CWD nowhere",
    "SIZE first.txt",
    "MDTM first.txt",
    "CDUP",
    "OPTS UTF8 ON",
    "CLNT FileZilla",
    "NOOP",
    "XFOO with an argument",
    "SITE HELP",
    "RETR nothing",
    "MKD new",
    "CWD new",
    "REST 5",
    "ABOR",
];

/// What one side has seen.
struct Seen {
    replies: Vec<Reply>,
    heard: Vec<String>,
}

#[test]
fn rfc_18_transcripts_differ_in_address_fields_only() {
    with_every_server(|dialect| {
        let direct = converse(&Stage::plain(dialect), Route::Direct);
        let proxied = converse(&Stage::plain(dialect), Route::Proxied);
        assert_eq!(direct.replies.len(), proxied.replies.len(), "{}", dialect.name);
        let mut differing = 0;
        for (direct, proxied) in direct.replies.iter().zip(&proxied.replies) {
            differing += usize::from(direct != proxied);
            assert_eq!(without_address(direct), without_address(proxied), "{}", dialect.name);
        }
        // Ports alone make them differ: otherwise nothing was compared.
        assert!(differing >= 2, "{}: only {differing} replies differ", dialect.name);
        // The server hears the same commands.
        let plain = |heard: &[String]| heard.iter().map(|line| without_argument(line)).collect::<Vec<_>>();
        assert_eq!(plain(&direct.heard), plain(&proxied.heard), "{}", dialect.name);
    });
}

fn converse(stage: &Stage, route: Route) -> Seen {
    let mut client = stage.greeted(route, stage.net.client());
    for command in BEFORE {
        client.ask(command);
    }
    client.log_in();
    for command in AFTER {
        client.ask(command);
    }
    client.say("CWD /", "250");
    for verb in ["PASV", "EPSV", "PORT", "EPRT"] {
        if stage.dialect.verbs().contains(&verb) {
            transfers(&mut client, verb);
        }
    }
    client.say("QUIT", "221");
    Seen { replies: client.replies, heard: stage.server.heard() }
}

fn transfers(client: &mut Client, verb: &str) {
    client.download(verb, "RETR down.bin");
    client.upload(verb, &format!("STOR up-{verb}"), b"content");
    client.download(verb, "LIST two");
    // Prepared and not used.
    let data: Data = client.prepare(verb);
    client.say("NOOP", "200");
    drop(data);
}

/// A reply with the address taken out of 227 and 229: everything between the parentheses.
fn without_address(reply: &Reply) -> String {
    let text = reply.text();
    match (reply.code(), text.find('('), text.rfind(')')) {
        ("227" | "229", Some(open), Some(close)) => format!("{}…{}", &text[..=open], &text[close..]),
        _ => text,
    }
}

fn without_argument(line: &str) -> String {
    let verb = line.split(' ').next().unwrap_or_default();
    if ["PORT", "EPRT"].contains(&verb) { format!("{verb} …") } else { line.to_owned() }
}

/// The one thing that is added: a client that insists on EPSV gets it from a server that has PASV only.
#[test]
fn epsv_works_with_every_server() {
    with_every_server(|dialect| {
        let stage = Stage::plain(dialect);
        for _ in 0..2 {
            let mut client = stage.client(Route::Proxied);
            assert_eq!(client.download("EPSV", "NLST two"), b"first.txt\r\nsecond file.txt\r\n");
            assert_eq!(client.download("EPSV", "NLST two"), b"first.txt\r\nsecond file.txt\r\n");
        }
        let asked = |verb: &str| stage.server.heard().iter().filter(|line| *line == verb).count();
        let expected = if dialect.verbs().contains(&"EPSV") { (4, 0) } else { (2, 4) };
        assert_eq!((asked("EPSV"), asked("PASV")), expected, "{}", dialect.name);
    });
}

/// The list of features is the server's, without what the proxy does not offer.
#[test]
fn rfc_18_feat_differs_by_the_lines_about_tls_only() {
    with_every_server(|dialect| {
        let stage = Stage::plain(dialect);
        let [direct, proxied] = [Route::Direct, Route::Proxied].map(|route| {
            let mut client = stage.greeted(route, stage.net.client());
            client.ask("FEAT").lines
        });
        let about_tls = |line: &String| ["AUTH", "PBSZ", "PROT", "CCC"].iter().any(|verb| line.contains(verb));
        let left: Vec<String> = direct.iter().filter(|line| !about_tls(line)).cloned().collect();
        assert_eq!(left, proxied, "{}", dialect.name);
    });
}

/// Words and periods around the address are the server's: clients look for them.
#[test]
fn rfc_18_bytes_around_the_address_stay() {
    with_every_server(|dialect| {
        let stage = Stage::plain(dialect);
        let mut client = stage.client(Route::Proxied);
        for (verb, text) in [("PASV", dialect.texts.pasv), ("EPSV", dialect.texts.epsv)] {
            let Some(text) = text else { continue };
            let reply = client.ask(verb);
            let before = text.wire.split('(').next().unwrap();
            let after = text.wire.rsplit(')').next().unwrap();
            let ends = reply.last().starts_with(before) && reply.last().ends_with(&format!("){after}\r\n"));
            // A delimiter other than the RFC's is made canonical, because not all clients know it.
            assert!(ends || text.wire.contains('!'), "{}: {reply:?}", dialect.name);
        }
        assert!(Wire::peer(&client.wire) == stage.net.proxy());
    });
}
