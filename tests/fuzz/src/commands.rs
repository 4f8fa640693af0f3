//! What a client sends: lines, and the commands in them.

use bytes::Bytes;
use ftp_alg::ftp::command::{Command, CommandError, CommandLine};

use super::lines;

/// A client's bytes.
pub fn check(data: &[u8]) {
    let split = lines::split_everywhere(data);
    for line in split.lines.iter().chain(&split.rest) {
        what_is_sent_is_one_line(line);
    }
}

/// What goes to the server is one line, says what was parsed, and hides no command that carries an address.
pub fn what_is_sent_is_one_line(line: &[u8]) {
    let controls = |bytes: &[u8]| bytes.iter().filter(|b| matches!(b, b'\r' | b'\n' | 0)).count();
    let Ok(command) = CommandLine::new(Bytes::copy_from_slice(line)) else {
        assert!(controls(line) > 0, "refused for no reason: {}", line.escape_ascii());
        return;
    };
    let wire = command.wire();
    assert!(wire.ends_with(b"\r\n"));
    assert_eq!(controls(&wire), 2);
    assert!(line.starts_with(command.content()));
    let logged = command.verb_for_log();
    assert!(logged.len() < 80 && logged.bytes().all(|b| (b' '..=b'~').contains(&b)), "{logged}");
    // What a server reads from the wire is what we read.
    let sent = CommandLine::new(wire.clone()).expect("a line that may be sent");
    assert_eq!(sent.parse(), command.parse());
    assert_eq!(sent.is_http(), command.is_http());
    // Urgent or not, the bytes are the same.
    let (urgent, rest) = command.urgent_wire();
    assert!(!urgent.is_empty());
    assert_eq!([urgent, rest].concat(), wire);
    no_address_is_hidden(&command);
}

/// A command is read as a server may that skips blanks and takes every byte from F1 on for Telnet's: if such a server
/// finds an address in it, or a request for one, then so do we, or it is refused.
fn no_address_is_hidden(command: &CommandLine) {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t' | 0x0B | 0x0C);
    let words: Vec<u8> = command.content().iter().copied().filter(|b| *b < 0xF1).collect();
    let start = words.iter().position(|b| !is_blank(b)).unwrap_or(words.len());
    let verb: Vec<u8> = words[start..].iter().take_while(|b| !is_blank(b)).map(u8::to_ascii_uppercase).collect();
    let is_foreseen = match verb.as_slice() {
        b"PORT" => |parsed| matches!(parsed, Ok(Command::Port(_)) | Err(CommandError::BadHostPort)),
        b"EPRT" => |parsed| {
            use CommandError::{BadHostPort, UnknownFamily};
            matches!(parsed, Ok(Command::Eprt(_)) | Err(BadHostPort | UnknownFamily))
        },
        b"PASV" | b"P@SW" => |parsed| matches!(parsed, Ok(Command::Pasv)),
        b"EPSV" => |parsed| matches!(parsed, Ok(Command::Epsv(_))),
        b"LPRT" | b"LPSV" | b"CPSV" | b"SPSV" => |parsed| matches!(parsed, Ok(Command::LongAddress)),
        b"AUTH" => |parsed: Result<Command<'_>, _>| matches!(parsed, Ok(Command::Auth(_))),
        _ => return,
    };
    let parsed = command.parse();
    let is_refused = parsed == Err(CommandError::TelnetInVerb);
    // Behind FF FB-FE one more byte belongs to Telnet, whatever it is: such a verb is another for every server.
    let is_option = command.content().windows(2).any(|pair| pair[0] == 0xFF && (0xFB..=0xFE).contains(&pair[1]));
    assert!(is_refused || is_option || is_foreseen(parsed), "{} is {parsed:?}", command.content().escape_ascii());
}
