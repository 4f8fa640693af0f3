//! Every server, every way in which it makes data connections, everything that can be moved.

use std::fs;

use crate::client::Client;
use crate::stage::{Route, SIZE, Stage, content, with_every_server};
use crate::stand_in::ALL;

#[test]
fn every_server_moves_files_through_the_proxy_as_it_does_without() {
    with_every_server(|dialect| {
        let stage = Stage::plain(dialect);
        for route in [Route::Direct, Route::Proxied] {
            let verbs = dialect.verbs();
            assert!(verbs.len() >= 2, "{} has {verbs:?} only", dialect.name);
            for verb in verbs {
                move_everything(&stage, route, verb);
            }
        }
    });
}

fn move_everything(stage: &Stage, route: Route, verb: &str) {
    let mut client = stage.client(route);
    let stored = stage.file(&format!("up-{route:?}-{verb}"));
    let name = stored.file_name().unwrap().to_str().unwrap();
    let what = format!("{} {route:?} {verb}", stage.dialect.name);

    assert!(client.download(verb, "RETR down.bin") == content(1), "{what}: RETR");

    client.upload(verb, &format!("STOR {name}"), &content(2));
    assert!(fs::read(&stored).unwrap() == content(2), "{what}: STOR");

    client.upload(verb, &format!("APPE {name}"), b"and more");
    assert!(fs::read(&stored).unwrap() == [content(2), b"and more".into()].concat(), "{what}: APPE");

    client.say("REST 1000", "350");
    assert!(client.download(verb, "RETR down.bin") == content(1)[1000..], "{what}: REST");

    client.say("CWD two", "250");
    let listing = String::from_utf8(client.download(verb, "LIST")).unwrap();
    let whole = listing.lines().count() == 2 && listing.contains("first.txt") && listing.contains("second file.txt");
    assert!(whole, "{what}: LIST: {listing}");
    assert_eq!(client.download(verb, "NLST"), b"first.txt\r\nsecond file.txt\r\n", "{what}: NLST");
    assert_eq!(client.say("SIZE /down.bin", "213").last(), format!("213 {SIZE}\r\n"));
    client.say("QUIT", "221");
}

#[test]
fn abor_ends_a_download_and_not_the_session() {
    with_every_server(|dialect| {
        let stage = Stage::plain(dialect);
        // More than sockets can hold.
        fs::File::create(stage.file("big")).unwrap().set_len(1 << 30).unwrap();
        for route in [Route::Direct, Route::Proxied] {
            let mut client = stage.client(route);
            let mut data = client.prepare("PASV").established();
            client.say("RETR big", "1");
            data.skip(100_000);
            // Telnet's IP and Synch, as all clients send them.
            client.wire.send_urgent(b"\xff\xf4\xff");
            client.wire.send(b"\xf2ABOR\r\n");
            client.wants("426");
            client.wants("226");
            assert!(stage.server.heard().contains(&"ABOR".to_owned()));
            assert!(client.download("PASV", "RETR down.bin") == content(1));
        }
    });
}

/// A text is a reply, says where it is from, and each server has some of its own.
#[test]
fn every_text_is_known_from_somewhere() {
    for dialect in ALL {
        let texts = dialect.texts.all();
        for text in &texts {
            let coded = text.wire.get(..3).is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
            let source = text.known.by().0;
            assert!(coded && !source.is_empty() && !text.wire.ends_with('\n'), "{}: {text:?}", dialect.name);
        }
        let own = texts.iter().filter(|text| text.known.by().1).count();
        assert!(own >= 2, "{} has only {own} texts of its own", dialect.name);
    }
}

/// Continuation lines without a code, spaces at the end, odd delimiters: all of it arrives as it stands in the table.
#[test]
fn the_table_is_what_is_on_the_wire() {
    with_every_server(|dialect| {
        let stage = Stage::plain(dialect);
        let mut client = stage.greeted(Route::Direct, stage.net.client());
        let texts = &dialect.texts;
        let wire = |text: &str| format!("{text}\r\n");
        assert_eq!(client.replies[0].text(), wire(texts.greeting.wire));
        assert_eq!(client.ask("STAT").text(), wire(texts.not_logged_in.wire));
        assert_eq!(client.ask("USER alice").text(), wire(texts.user.wire));
        assert_eq!(client.ask("PASS secret").text(), wire(texts.pass.wire));
        assert_eq!(client.ask("SYST").text(), wire(texts.system.wire));
        assert_eq!(client.ask("RETR nothing").text(), wire(texts.no_file.wire));
        assert_eq!(client.ask("PORT 1,2,3").text(), wire(texts.bad_argument.wire));
        assert_eq!(client.ask("QUIT").text(), wire(texts.quit.wire));
        let mut anonymous = stage.greeted(Route::Direct, stage.net.client());
        assert_eq!(anonymous.ask("USER anonymous").text(), wire(texts.user_anonymous.wire));
        assert_eq!(anonymous.ask("PASS me@").text(), wire(texts.pass_anonymous.wire));
        assert_delimiters(&mut anonymous, dialect.name);
    });
}

fn assert_delimiters(client: &mut Client, name: &str) {
    match name {
        "IBM i" => assert!(client.ask("EPSV").last().contains("(!!!")),
        "IIS 7.5" => {
            assert!(client.ask("PASV").last().ends_with(").\r\n"));
            assert!(client.ask("EPSV").last().ends_with("|)\r\n"));
        }
        "Serv-U 15" => {
            assert!(client.ask("PASV").last().ends_with(")\r\n"));
            assert!(client.ask("EPSV").last().ends_with("|).\r\n"));
        }
        "Apache FtpServer" => assert!(client.ask("EPSV").last().starts_with("229 Entering Passive Mode (|||")),
        "pyftpdlib 1.5" => assert!(client.ask("PASV").last().starts_with("227 Entering passive mode (")),
        _ => {}
    }
}
