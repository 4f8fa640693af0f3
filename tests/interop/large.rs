//! A file of 5 GiB each way: over every 32-bit limit.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::net::{EIP, Host, Net, PROXY};
use crate::process::{bounded, run};
use crate::proxy;
use crate::servers::{self, Server, make_writable_dir};

const SIZE: u64 = 5 << 30;
/// Where the file is not zero: its ends, and around 2 and 4 GiB.
const MARKS: [u64; 6] = [0, (2 << 30) - 4, 2 << 30, (4 << 30) - 4, 4 << 30, SIZE - 8];
/// Many times what it takes on a machine that does nothing else.
const LIMIT: Duration = Duration::from_secs(240);

/// Nothing but the sparse file is ever on disk: the server stores the upload in a pipe (ProFTPD does that), and the
/// client prints the download, both read here.
#[test]
fn five_gib_each_way() {
    let net = Net::new(PROXY);
    let server = Server::start(&net, servers::Kind::ProFtpd);
    let _proxy = proxy::in_front_of_server(&net, "same");
    each_way(&net, &server, EIP);
}

/// The same for a network of its own, in which clients know ProFTPD at this address.
pub fn each_way(net: &Net, server: &Server, at: &str) {
    let dir = server.root().join("large");
    make_writable_dir(&dir);
    let (sparse, pipe) = (dir.join("sparse"), dir.join("pipe"));
    make_sparse(&sparse);
    run(Command::new("mkfifo").args(["-m", "666"]).arg(&pipe));

    let reader = thread::spawn(move || check(File::open(pipe).unwrap(), "upload"));
    let mut curl = curl(net, server);
    let outcome = bounded(curl.arg("-T").arg(&sparse).arg(format!("ftp://{at}/large/pipe")), LIMIT);
    assert!(outcome.success, "{}\n{}", outcome.transcript, server.log());
    reader.join().expect("the upload differs");

    let mut curl =
        self::curl(net, server).arg(format!("ftp://{at}/large/sparse")).stdout(Stdio::piped()).spawn().unwrap();
    check(curl.stdout.take().unwrap(), "download");
    assert!(curl.wait().unwrap().success());
}

fn curl(net: &Net, server: &Server) -> Command {
    let (user, password) = server.login();
    let mut command = net.command(Host::Client, "curl");
    command.args(["-sS", "--max-time", &LIMIT.as_secs().to_string(), "--disable-epsv", "--no-ftp-skip-pasv-ip"]);
    command.args(["--user", &format!("{user}:{password}")]);
    command
}

fn make_sparse(path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(SIZE).unwrap();
    for at in MARKS {
        file.write_all_at(&mark(at), at).unwrap();
    }
}

/// Eight bytes that say where they belong.
fn mark(at: u64) -> [u8; 8] {
    (at ^ 0xa5a5_a5a5_a5a5_a5a5).to_be_bytes()
}

/// Compares everything: zeros but for the marks, and no byte more.
fn check(mut from: impl Read, what: &str) {
    const CHUNK: usize = 1 << 20;
    let mut chunk = vec![0; CHUNK];
    let zeros = vec![0; CHUNK];
    let mut at: u64 = 0;
    while at < SIZE {
        from.read_exact(&mut chunk).unwrap_or_else(|error| panic!("{what} after {at} bytes: {error}"));
        let end = at + CHUNK as u64;
        if MARKS.iter().any(|&mark| mark < end && mark + 8 > at) {
            check_marks(&chunk, at, what);
        } else {
            assert!(chunk == zeros, "{what}: not only zeros between {at} and {end}");
        }
        at = end;
    }
    assert_eq!(from.read(&mut chunk).unwrap(), 0, "{what} is longer than {SIZE}");
}

/// Compares a chunk that has marks in it.
fn check_marks(chunk: &[u8], start: u64, what: &str) {
    let mut expected = vec![0; chunk.len()];
    for at in MARKS {
        for (byte, position) in mark(at).into_iter().zip(at..) {
            let inside = position.checked_sub(start).and_then(|index| usize::try_from(index).ok());
            if let Some(place) = inside.and_then(|index| expected.get_mut(index)) {
                *place = byte;
            }
        }
    }
    assert!(chunk == expected, "{what}: the marks after {start} differ");
}
