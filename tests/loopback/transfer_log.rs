//! `log.transfers`: what it says of each transfer, and that no transfer waits for it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::net::Net;
use crate::support::proxy::Proxy;
use crate::support::scene::{Scene, Session, Setup};
use crate::support::wire::{DEADLINE, End};

/// A proxy with a transfer log, in a directory of its own.
struct Logged {
    scene: Scene,
    path: PathBuf,
    _dir: TempDir,
}

fn yaml(net: Net, path: &Path) -> String {
    let listeners = Setup::default().yaml(net.proxy(), &net.server().to_string());
    format!("{listeners}log: {{ transfers: \"{}\" }}\n", path.display())
}

fn logged() -> Logged {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("xferlog");
    Logged { scene: logged_to(&path), path, _dir: dir }
}

fn logged_to(path: &Path) -> Scene {
    let net = Net::new();
    Scene::start_at(net, &yaml(net, path), &[net.proxy()])
}

/// A pipe with this name.
fn fifo(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path
}

/// What a file has once it has so many lines, each without its time stamp and duration.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<String> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let text = fs::read(path).unwrap_or_default();
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        if lines.len() >= count {
            return lines.into_iter().map(without_times).collect();
        }
        assert!(Instant::now() < deadline, "only {} lines of {count}: {}", lines.len(), text.escape_ascii());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `Wed Nov 25 09:41:07 2026 1 rest` is `rest`.
fn without_times(line: &[u8]) -> String {
    let fits = |(found, pattern): (&u8, &u8)| match pattern {
        b'A' => found.is_ascii_alphabetic(),
        b'0' => found.is_ascii_digit(),
        // The first of two digits.
        b'_' => found.is_ascii_digit() || *found == b' ',
        _ => found == pattern,
    };
    const TIME: &[u8] = b"AAA AAA _0 00:00:00 0000 ";
    let (time, rest) = line.split_at(TIME.len());
    assert!(time.iter().zip(TIME).all(fits), "{}", time.escape_ascii());
    let seconds = rest.iter().position(|byte| *byte == b' ').expect("the duration");
    assert!(rest[..seconds].iter().all(u8::is_ascii_digit), "{}", rest.escape_ascii());
    rest[seconds + 1..].strip_suffix(b"\n").expect("a whole line").escape_ascii().to_string()
}

fn download(session: &mut Session, command: &str, contents: &str) {
    let data = session.transfer(command);
    session.downloads(data, contents);
}

fn upload(session: &mut Session, command: &str, contents: &str) {
    let data = session.transfer(command);
    session.uploads(data, contents);
}

#[test]
fn every_transfer_of_a_file_is_a_line() {
    let logged = logged();
    let mut session = logged.scene.session();
    let client = logged.scene.net.client();
    download(&mut session, "RETR /pub/a\r\n", "all of it");
    session.exchange("TYPE I\r\n", "200 Switching to Binary mode.\r\n");
    upload(&mut session, "STOR a file with spaces\r\n", "12345");
    download(&mut session, "LIST\r\n", "-rw-r--r-- a\r\n");
    download(&mut session, "NLST\r\n", "a\r\n");
    upload(&mut session, "APPE b\r\n", "1");
    // A line comes with the end of both connections, which may be behind the next command.
    let mut seen = lines(&logged.path, 3);
    seen.sort();
    assert_eq!(
        seen,
        [
            format!("{client} 1 b b _ i r alice ftp 0 * c"),
            format!("{client} 5 a_file_with_spaces b _ i r alice ftp 0 * c"),
            format!("{client} 9 /pub/a a _ o r alice ftp 0 * c"),
        ]
    );
    let mode = fs::metadata(&logged.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777 & !0o640, 0, "{mode:o}");
}

/// `c` is for what the server calls a success and the data bears out, nothing else.
#[test]
fn rel_01_what_is_not_whole_is_not_complete_in_the_log() {
    let logged = logged();
    let client = logged.scene.net.client();
    // Cut by the client, and the server takes it for an end.
    let mut session = logged.scene.session();
    let mut data = session.transfer("STOR cut\r\n");
    data.client.send("half");
    data.server.expect("half");
    data.client.reset();
    data.server.ends_with(End::Reset);
    session.server.send("226 Transfer complete.\r\n");
    session.client.line_starting("426 ");
    // Refused: no transfer.
    let offer = session.pasv();
    session.exchange("RETR missing\r\n", "550 Failed to open file.\r\n");
    drop(offer);
    // Aborted, which servers call a success.
    let mut data = session.transfer("RETR aborted\r\n");
    data.server.send("part");
    data.client.expect("part");
    session.client.send("ABOR\r\n");
    session.server.expect("ABOR\r\n");
    data.server.finish();
    data.client.ends_with(End::Fin);
    drop(data);
    session.reply("226 Closing data connection.\r\n226 ABOR command successful.\r\n");
    let seen = lines(&logged.path, 2);
    assert_eq!(
        seen,
        [format!("{client} 4 cut a _ i r alice ftp 0 * i"), format!("{client} 4 aborted a _ o r alice ftp 0 * i"),]
    );
}

/// Bytes that are no UTF-8 are a name in another character set.
#[test]
fn sec_29_names_are_one_field_whatever_their_bytes() {
    let logged = logged();
    let mut session = logged.scene.session();
    let offer = session.pasv();
    // 中 文, in GBK, and an escape sequence.
    let command = b"STOR \xd6\xd0 \xce\xc4\x1b[2J\x07.txt\r\n";
    session.client.send(command);
    session.server.expect(command);
    let mut data = offer.connect();
    session.reply("150 Ok to send data.\r\n");
    data.client.finish();
    data.server.ends_with(End::Fin);
    drop(data);
    session.reply("226 Transfer complete.\r\n");
    let client = logged.scene.net.client();
    let shown = r"\xd6\xd0_\xce\xc4_[2J_.txt";
    assert_eq!(lines(&logged.path, 1), [format!("{client} 0 {shown} a _ i r alice ftp 0 * c")]);
}

#[test]
fn sighup_opens_the_file_anew_after_it_was_renamed() {
    let logged = logged();
    let mut session = logged.scene.session();
    download(&mut session, "RETR first\r\n", "1");
    lines(&logged.path, 1);
    let old = logged.path.with_extension("1");
    fs::rename(&logged.path, &old).unwrap();
    download(&mut session, "RETR second\r\n", "2");
    assert!(lines(&old, 2)[1].contains(" second "), "until then the old file has the lines");
    logged.scene.proxy.signal(Signal::HUP);
    let deadline = Instant::now() + DEADLINE;
    while !logged.path.exists() {
        assert!(Instant::now() < deadline, "no new file");
        std::thread::sleep(Duration::from_millis(5));
    }
    // It may be there before it is used: a line more in the old one would be a line less here.
    logged.scene.proxy.logs("opened anew");
    download(&mut session, "RETR third\r\n", "3");
    let new = lines(&logged.path, 1);
    assert!(new.len() == 1 && new[0].contains(" third "), "{new:?}");
    assert_eq!(lines(&old, 2).len(), 2);
}

#[test]
fn rel_23_a_file_that_cannot_be_opened_anew_goes_on() {
    let logged = logged();
    let mut session = logged.scene.session();
    let dir = logged.path.parent().unwrap();
    let moved = dir.with_extension("moved");
    fs::rename(dir, &moved).unwrap();
    logged.scene.proxy.signal(Signal::HUP);
    logged.scene.proxy.logs("reload refused, nothing has changed");
    assert!(logged.scene.proxy.stderr().contains("; create its directory"));
    download(&mut session, "RETR a\r\n", "1");
    lines(&moved.join("xferlog"), 1);
    fs::rename(&moved, dir).unwrap();
}

#[test]
fn rel_23_a_full_disk_stops_no_transfer() {
    let scene = logged_to(Path::new("/dev/full"));
    let mut session = scene.session();
    for _ in 0..5 {
        download(&mut session, "RETR a\r\n", "all of it");
    }
    scene.proxy.logs("the transfer log loses lines");
    let stderr = scene.proxy.stderr();
    assert!(stderr.contains("No space left on device") && stderr.contains("lost=1"), "{stderr}");
    assert_eq!(stderr.matches("the transfer log loses lines").count(), 1, "once in a while is enough");
    scene.proxy.signal(Signal::TERM);
    drop(session);
    scene.proxy.logs("the transfer log has lost lines since the start lost=5");
}

/// Neither a transfer nor the end of the program waits for whoever should read a pipe.
#[test]
fn rel_23_a_pipe_that_nobody_reads_stops_no_transfer() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir);
    let _reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut scene = logged_to(&path);
    let mut session = scene.session();
    // A pipe holds 64 KiB, 20 of these lines.
    let command = format!("RETR {}\r\n", "x".repeat(3500));
    for _ in 0..25 {
        download(&mut session, &command, "all of it");
    }
    drop(session);
    scene.proxy.signal(Signal::TERM);
    assert!(scene.proxy.exits_within(Duration::from_secs(10)).success());
    scene.proxy.logs("the transfer log has lost lines since the start");
}

#[test]
fn the_last_lines_are_written_before_the_end() {
    let mut logged = logged();
    let mut session = logged.scene.session();
    let mut data = session.transfer("RETR last\r\n");
    data.server.send("one");
    data.client.expect("one");
    logged.scene.proxy.signal(Signal::TERM);
    logged.scene.proxy.logs("stopping");
    data.server.finish();
    data.client.ends_with(End::Fin);
    drop(data);
    session.reply("226 Transfer complete.\r\n");
    drop(session);
    assert!(logged.scene.proxy.exits_within(DEADLINE).success());
    assert!(fs::read_to_string(&logged.path).unwrap().contains(" 3 last a _ o r alice ftp 0 * c\n"));
}

#[test]
fn what_cannot_be_opened_at_the_start_is_an_error_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| Proxy::cannot_start(&yaml(Net::new(), path));
    let missing = refusal(&dir.path().join("missing/xferlog"));
    assert!(missing.contains("/missing/xferlog: No such file or directory"), "{missing}");
    assert!(missing.contains("; create its directory (`LogsDirectory=` in the unit)"), "{missing}");
    let directory = refusal(dir.path());
    assert!(directory.contains("; write the name of a file under log.transfers"), "{directory}");
    let pipe = refusal(&fifo(&dir));
    assert!(pipe.contains("; it is a pipe that nobody reads: start its reader first"), "{pipe}");
}

/// A reload that names another file goes on there, and one that cannot be opened changes nothing.
#[test]
fn rel_14_a_reload_changes_the_file() {
    let logged = logged();
    download(&mut logged.scene.session(), "RETR first\r\n", "data");
    lines(&logged.path, 1);
    let dir = tempfile::tempdir().unwrap();
    let said = logged.scene.proxy.refuses_to_reload(&yaml(logged.scene.net, &dir.path().join("nowhere/xferlog")));
    assert!(said.contains("nowhere/xferlog"), "{said}");
    download(&mut logged.scene.session(), "RETR second\r\n", "data");
    lines(&logged.path, 2);
    let other = dir.path().join("other");
    logged.scene.proxy.reload(&yaml(logged.scene.net, &other));
    download(&mut logged.scene.session(), "RETR third\r\n", "data");
    assert!(lines(&other, 1)[0].contains(" third "));
    assert_eq!(lines(&logged.path, 2).len(), 2);
}
