//! Every input under `tests/fuzz/corpus` and `tests/fuzz/regressions`, through the fuzz targets' own checks.

#[path = "fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::path::{Path, PathBuf};

/// Panics if an input shows a bug.
type Check = fn(&[u8]);

/// The fuzz targets.
const TARGETS: [(&str, Check); 6] = [
    ("commands", fuzz::commands::check),
    ("config", fuzz::config::check),
    ("host_port", fuzz::host_port::check),
    ("proxy_protocol", fuzz::proxy_protocol::check),
    ("replies", fuzz::replies::check),
    ("session", fuzz::session::check),
];

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a folder that can be read").path()).collect()
}

/// Checks every input of a kind, each with the target that its folder names. Returns how many there were.
fn replay(kind: &str) -> Vec<usize> {
    let kind = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(kind);
    let folders = entries(&kind);
    let of = |folder: &PathBuf| {
        let (_, check) = TARGETS.iter().find(|(name, _)| folder.ends_with(name)).expect("the folder of a target");
        let inputs = entries(folder);
        for path in &inputs {
            println!("{}", path.display());
            check(&fs::read(path).expect("a file that can be read"));
        }
        inputs.len()
    };
    folders.iter().map(of).collect()
}

/// What a fuzzer starts from holds without one, too.
#[test]
fn sec_36_the_seeds_of_every_fuzz_target_hold() {
    let counts = replay("corpus");
    assert_eq!(counts.len(), TARGETS.len(), "a target without seeds");
    assert!(counts.iter().all(|count| *count >= 10), "{counts:?}");
}

/// What a fuzzer has found once is not lost again.
#[test]
fn rel_29_what_fuzzing_found_stays_fixed() {
    let counts = replay("regressions");
    assert!(counts.iter().sum::<usize>() >= 1, "{counts:?}");
}
