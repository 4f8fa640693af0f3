//! The files of deploy/: each is used here or in `tests/interop`, or goes through the validator of its kind, and all of
//! them say the same about ports and paths.
//!
//! Needs root and what tests/setup.sh installs: `make test` runs it. A validator that is missing is a failure.
#![allow(unreachable_pub, reason = "the modules of a test program are all private")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod agreement;
mod machine;
mod manifests;
mod package;
mod unit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program under test.
const FTP_ALG: &str = env!("CARGO_BIN_EXE_ftp-alg");

/// The text of a file of the repository.
#[track_caller]
fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where tests/setup.sh puts things: beside the folder of the profile in target/.
fn installed(path: &str) -> PathBuf {
    let found = Path::new(FTP_ALG).ancestors().nth(2).unwrap().join("interop").join(path);
    assert!(found.exists(), "{} is not there: run tests/setup.sh", found.display());
    found
}

/// A validator of tests/deploy/requirements.txt.
fn validator(name: &str) -> Command {
    let mut command = Command::new(installed("validators/bin").join(name));
    command.current_dir(repository());
    command
}

/// Runs a program that must succeed; its standard output, then its standard error.
#[track_caller]
fn run(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
    (stdout, stderr)
}

/// Every file below a folder of the repository, as paths from its top.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(repository().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} has no files");
    found
}

/// Those with this ending.
fn ending(folder: &str, end: &str) -> Vec<String> {
    let found: Vec<_> = files(folder).into_iter().filter(|path| path.ends_with(end)).collect();
    assert!(!found.is_empty(), "{folder} has no {end}");
    found
}
