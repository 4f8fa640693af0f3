//! What the queue and the thread do when the file does not take what they have.

use std::io::Read as _;

use bytes::Bytes;
use rustix::fs::{CWD, FileType, mknodat};
use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::ftp::command::TransferVerb;
use crate::session::{ChannelReport, End};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

fn upload(path: &str) -> TransferRecord {
    TransferRecord {
        verb: Some(TransferVerb::Stor),
        path: Bytes::copy_from_slice(path.as_bytes()),
        text: false,
        code: Some(226),
        whole: true,
        channel: ChannelReport { end: End::Complete, up: 1, down: 0 },
        took: Duration::from_secs(1),
    }
}

#[test]
fn rel_23_what_finds_no_room_in_the_queue_is_lost_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut reader = File::options().read(true).write(true).open(&path).unwrap();
    let log = TransferLog::open(Some(&path)).unwrap();
    // Beside the queue, a pipe holds 64 KiB.
    let (written, shortest) = (QUEUE + 5000, 60);
    for n in 0..written {
        log.record(CLIENT, Some(b"alice"), &upload(&format!("file-{n}")));
    }
    let lost = usize::try_from(log.lost()).unwrap();
    assert!((5000 - 65536 / shortest..=5000).contains(&lost), "{lost}");
    // Once somebody reads, the others are there.
    let mut read = Vec::new();
    let mut buffer = vec![0; 65536];
    while read.iter().filter(|byte| **byte == b'\n').count() < written - lost {
        let count = reader.read(&mut buffer).unwrap();
        read.extend_from_slice(&buffer[..count]);
    }
    log.close(Duration::from_secs(30));
    assert_eq!(log.lost(), lost as u64);
}

#[test]
fn rel_23_lines_that_the_end_does_not_wait_for_count_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _reader = File::options().read(true).write(true).open(&path).unwrap();
    let log = TransferLog::open(Some(&path)).unwrap();
    let name = "x".repeat(4000);
    for _ in 0..30 {
        log.record(CLIENT, Some(b"alice"), &upload(&name));
    }
    assert_eq!(log.lost(), 0);
    log.close(Duration::from_millis(200));
    // A pipe holds 64 KiB, in pages: 15 or 16 of these lines.
    assert!((14..=16).contains(&log.lost()), "{}", log.lost());
    log.record(CLIENT, None, &upload("afterwards"));
}

/// A disk that is full within a line leaves half of it; the next line is a line of its own.
#[test]
fn rel_23_half_a_line_spoils_no_other() {
    let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
    let (mut read, mut output) = (File::from(read), Output { file: write.into(), torn: false });
    assert!(output.append(format!("{}\n", "x".repeat(100_000)).as_bytes()).is_err());
    let mut seen = vec![0; 100_000];
    let half = read.read(&mut seen).unwrap();
    assert!(half > 0 && !seen[..half].contains(&b'\n'));
    output.append(b"whole\n").unwrap();
    output.append(b"second\n").unwrap();
    let count = read.read(&mut seen).unwrap();
    assert_eq!(seen[..count].escape_ascii().to_string(), r"\nwhole\nsecond\n");
}

#[test]
fn a_log_that_follows_another_path_leaves_the_old_file_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let log = TransferLog::open(Some(&first)).unwrap();
    for n in 0..100 {
        log.record(CLIENT, None, &upload(&format!("to-first-{n}")));
    }
    log.follow(Some(&second)).unwrap();
    log.record(CLIENT, None, &upload("to-second"));
    log.follow(None).unwrap();
    log.record(CLIENT, None, &upload("to-nobody"));
    log.close(Duration::from_secs(30));
    let text = |path| std::fs::read_to_string(path).unwrap();
    assert_eq!((text(&first).lines().count(), text(&second).lines().count()), (100, 1));
    assert!(text(&second).contains("to-second"));
    assert_eq!(log.lost(), 0);
}
