//! The matrix: every client in every mode that it can speak does the same things, and what both ends have on disk
//! afterwards is compared byte for byte.

use std::fmt::{self, Write as _};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::clients::{self, Mode, Step, Task, Tls, Verb};
use crate::net::Net;
use crate::process::Daemon;
use crate::servers::{Server, make_writable_dir, place};

/// The size of the files that are moved.
const SIZE: usize = 8 << 20;
/// How much of a file is there already when it is resumed.
pub const PARTIAL: usize = 3 << 20;
/// For everything that one cell does; a hanging client must not hold up the others.
const CELL_LIMIT: Duration = Duration::from_secs(40);

/// `上传 文件.txt` and `下载 文件.txt` in GBK: spaces, and bytes that are no UTF-8; 0xFE would be Telnet's DONT after 0xFF.
const GBK_UP: &[u8] = b"\xc9\xcf\xb4\xab \xce\xc4\xbc\xfe.txt";
const GBK_DOWN: &[u8] = b"\xcf\xc2\xd4\xd8 \xce\xc4\xbc\xfe.txt";

const STEPS: [Step; 10] = [
    Step::Put { local: b"up.bin", remote: b"up.bin" },
    Step::Get { remote: b"down.bin", local: b"down.bin" },
    Step::ResumePut { local: b"up.bin", remote: b"resume-up.bin" },
    Step::ResumeGet { remote: b"down.bin", local: b"resume-down.bin" },
    Step::Put { local: GBK_UP, remote: GBK_UP },
    Step::Get { remote: GBK_DOWN, local: GBK_DOWN },
    Step::Put { local: b"empty-up", remote: b"empty-up" },
    Step::Get { remote: b"empty-down", local: b"empty-down" },
    Step::List { remote: b"two-files", local: b"listing" },
    Step::List { remote: b"nothing", local: b"empty-listing" },
];

/// One client in one mode.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub client: clients::Kind,
    pub mode: Mode,
    /// `None`: in the clear.
    pub tls: Option<Tls>,
}

impl Cell {
    /// In the clear.
    pub const fn plain(client: clients::Kind, mode: Mode) -> Self {
        Self { client, mode, tls: None }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {}", self.client, self.mode)?;
        self.tls.map_or(Ok(()), |tls| write!(f, " | {tls}"))
    }
}

/// Every cell for one server.
pub fn all_cells() -> Vec<Cell> {
    let of = |client: clients::Kind| client.modes().iter().map(move |&mode| Cell::plain(client, mode));
    clients::Kind::ALL.into_iter().flat_map(of).collect()
}

/// Runs the cells one after the other, to the last one, and panics if any failed or if there were not `expected`.
#[track_caller]
pub fn run_cells(net: &Net, server: &Server, proxy: &Daemon, cells: &[Cell], expected: usize) {
    assert_eq!(cells.len(), expected, "cells in the table");
    let mut failed = 0;
    let mut report = String::new();
    for cell in cells {
        if let Err(why) = run_cell(net, server, *cell) {
            failed += 1;
            write!(report, "\n=== {} | {cell}\n{why}", server.kind).unwrap();
        }
    }
    let logs = format!("=== log of the proxy\n{}\n=== log of {}\n{}", proxy.said(), server.kind, server.log());
    assert_eq!(failed, 0, "{failed} of {expected} cells failed{report}\n{logs}");
    assert!(!proxy.said().contains("panicked"), "{logs}");
    // It logs every transfer: those of some active modes would come about without it, too.
    let logged = proxy.said().matches("bytes_up=").count();
    assert_eq!(logged, expected * STEPS.len(), "transfers through the proxy\n{logs}");
}

/// Runs one cell; what was wrong, and the client's transcript.
fn run_cell(net: &Net, server: &Server, cell: Cell) -> Result<(), String> {
    let name = format!("{}-{}", cell.client, cell.mode).replace(' ', "-");
    let ends = Ends { remote: server.root().join(&name), local: net.scratch().join(&name) };
    ends.prepare();
    let task = Task {
        client: cell.client,
        mode: cell.mode,
        tls: cell.tls,
        login: server.login(),
        remote_dir: &name,
        local_dir: &ends.local,
        steps: &STEPS,
        patience: 10,
    };
    let outcome = task.run(net, CELL_LIMIT);
    let mut wrong = ends.differences();
    wrong.extend(misspoken(cell.mode, &task.commands(&outcome.transcript)));
    if outcome.timed_out {
        wrong.push(format!("still running after {CELL_LIMIT:?}"));
    } else if !outcome.success {
        wrong.push("the client reports failure".to_owned());
    }
    fs::remove_dir_all(&ends.local).unwrap();
    fs::remove_dir_all(&ends.remote).unwrap();
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}\n--- transcript\n{}", wrong.join("\n"), outcome.transcript)) }
}

/// The commands must be those of the mode: some clients try another way when one fails, and then nothing was tested.
fn misspoken(mode: Mode, commands: &[String]) -> Vec<String> {
    let count = |word: &str| commands.iter().filter(|command| command.starts_with(word)).count();
    let mut wrong = Vec::new();
    for verb in [Verb::Pasv, Verb::Epsv, Verb::Port, Verb::Eprt] {
        match (verb == mode.verb, count(verb.as_str())) {
            (true, n) if n < STEPS.len() => wrong.push(format!("{} only {n} times", verb.as_str())),
            (false, n) if n > 0 => wrong.push(format!("{} {n} times", verb.as_str())),
            _ => {}
        }
    }
    // Resumed uploads are REST and STOR, or APPE.
    if count(&format!("REST {PARTIAL}")) + count("APPE") < 2 {
        wrong.push("not resumed both ways".to_owned());
    }
    wrong
}

/// The two directories of a cell.
struct Ends {
    remote: PathBuf,
    local: PathBuf,
}

impl Ends {
    fn prepare(&self) {
        let (up, down) = payloads();
        make_writable_dir(&self.remote);
        place(&self.remote.join("down.bin"), down);
        place(&self.remote.join("resume-up.bin"), &up[..PARTIAL]);
        place(&at(&self.remote, GBK_DOWN), GBK_DOWN);
        place(&self.remote.join("empty-down"), b"");
        make_writable_dir(&self.remote.join("nothing"));
        make_writable_dir(&self.remote.join("two-files"));
        place(&self.remote.join("two-files/first.txt"), b"1");
        place(&self.remote.join("two-files/second file.txt"), b"22");
        fs::create_dir(&self.local).unwrap();
        fs::write(self.local.join("up.bin"), up).unwrap();
        fs::write(self.local.join("resume-down.bin"), &down[..PARTIAL]).unwrap();
        fs::write(at(&self.local, GBK_UP), GBK_UP).unwrap();
        fs::write(self.local.join("empty-up"), b"").unwrap();
    }

    /// What is not as it should be afterwards.
    fn differences(&self) -> Vec<String> {
        let (up, down) = payloads();
        let same = [
            ("upload", difference(&self.remote.join("up.bin"), up)),
            ("download", difference(&self.local.join("down.bin"), down)),
            ("resumed upload", difference(&self.remote.join("resume-up.bin"), up)),
            ("resumed download", difference(&self.local.join("resume-down.bin"), down)),
            ("upload with a GBK name", difference(&at(&self.remote, GBK_UP), GBK_UP)),
            ("download with a GBK name", difference(&at(&self.local, GBK_DOWN), GBK_DOWN)),
            ("empty upload", difference(&self.remote.join("empty-up"), b"")),
            ("empty download", difference(&self.local.join("empty-down"), b"")),
            ("listing of an empty directory", difference(&self.local.join("empty-listing"), b"")),
            ("listing", unlisted(&self.local.join("listing"))),
        ];
        same.into_iter().filter_map(|(what, wrong)| Some(format!("{what}: {}", wrong?))).collect()
    }
}

fn at(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(std::ffi::OsStr::from_bytes(name))
}

/// How a file's content differs from what is expected.
pub fn difference(path: &Path, expected: &[u8]) -> Option<String> {
    let found = match fs::read(path) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    if found == expected {
        return None;
    }
    let first = found.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(found.len().min(expected.len()));
    Some(format!("{} bytes instead of {}, the first difference is at {first}", found.len(), expected.len()))
}

/// What is missing in the listing of the directory with two files.
fn unlisted(path: &Path) -> Option<String> {
    let listing = match fs::read(path) {
        Ok(listing) => String::from_utf8_lossy(&listing).into_owned(),
        Err(error) => return Some(error.to_string()),
    };
    let whole =
        listing.lines().count() == 2 && ["first.txt", "second file.txt"].iter().all(|name| listing.contains(name));
    (!whole).then_some(listing)
}

/// What is uploaded and what is downloaded: [`SIZE`] bytes without a pattern, the same in every run.
fn payloads() -> &'static (Vec<u8>, Vec<u8>) {
    static PAYLOADS: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let random = |seed| {
        let mut bytes = vec![0; SIZE];
        StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
        bytes
    };
    PAYLOADS.get_or_init(|| (random(1), random(2)))
}
