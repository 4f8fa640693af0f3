//! Every input under `tests/fuzz/corpus` and `tests/fuzz/regressions`, through the fuzz targets' own checks.

#[path = "fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::path::Path;

/// Checks every input of a target; there are at least so many.
fn replay(target: &str, check: fn(&[u8]), least: usize) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut inputs = 0;
    for kind in ["corpus", "regressions"] {
        let folder = fuzz.join(kind).join(target);
        // A target that has found nothing has no regressions.
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a folder that can be read").path();
            println!("{}", path.display());
            check(&fs::read(&path).expect("a file that can be read"));
            inputs += 1;
        }
    }
    assert!(inputs >= least, "only {inputs} inputs for {target}");
}

#[test]
fn commands() {
    replay("commands", fuzz::commands::check, 10);
}

#[test]
fn replies() {
    replay("replies", fuzz::replies::check, 10);
}

#[test]
fn host_port() {
    replay("host_port", fuzz::host_port::check, 10);
}

#[test]
fn session() {
    replay("session", fuzz::session::check, 10);
}

#[test]
fn config() {
    replay("config", fuzz::config::check, 10);
}
