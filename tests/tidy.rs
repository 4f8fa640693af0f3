//! The layers of `src/lib.rs`, checked: imports go down the list only, and what is pure stays pure.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// From the top to the bottom; each may use what comes after it, and itself.
const LAYERS: &[&str] = &[
    "main",
    "cli",
    "lib",
    "service",
    "privileges",
    "discover",
    "admin",
    "relay",
    "metrics",
    "config",
    "session",
    "ftp",
    "nat",
    "proxy_protocol",
    "addr",
];

/// The layers without sockets, tasks, files and clocks.
const PURE: &[&str] = &["session", "ftp", "nat", "proxy_protocol", "addr"];

/// What nothing pure may name. `std::time::Instant` is a value that is passed in; asking for the time is not.
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "socket2",
    "nix::",
    "tracing::",
];

/// A source file, its layer, and its code without comments and inline tests.
struct Source {
    path: PathBuf,
    layer: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap().to_owned();
                let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
                let layer = first.trim_end_matches(".rs").to_owned();
                found.push(Source { layer, code: code(&fs::read_to_string(&path).unwrap()), path: relative });
            }
        }
    }
    assert!(found.len() > 20, "only {} source files found", found.len());
    found
}

/// The lines that are neither comments nor behind the inline tests.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]").next().unwrap();
    before_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn rank(layer: &str) -> usize {
    LAYERS.iter().position(|known| *known == layer).unwrap_or_else(|| panic!("{layer} has no place in the layers"))
}

/// The modules of this crate that a file names: `crate::x`, and `ftp_alg::x` in main.
fn imports(source: &Source) -> Vec<&str> {
    ["crate::", "ftp_alg::"]
        .iter()
        .flat_map(|root| source.code.split(root).skip(1))
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap().split(',').collect(),
            None => vec![rest],
        })
        .map(|name| name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
        .filter(|name| LAYERS.contains(name))
        .collect()
}

#[test]
fn imports_go_down_the_layers_only() {
    let mut seen = 0;
    for source in sources() {
        for import in imports(&source) {
            seen += 1;
            assert!(
                rank(import) >= rank(&source.layer),
                "{} is in layer {} and must not use {import}",
                source.path.display(),
                source.layer
            );
        }
    }
    assert!(seen > 50, "only {seen} imports found: this test no longer reads them");
}

#[test]
fn the_pure_layers_are_pure() {
    for source in sources().iter().filter(|source| PURE.contains(&source.layer.as_str())) {
        for name in IMPURE {
            assert!(!source.code.contains(name), "{} is pure and must not use {name}", source.path.display());
        }
    }
}

#[test]
fn files_and_functions_keep_their_budget() {
    for source in sources() {
        let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= 400, "{} has {lines} lines of code; 400 is the ceiling", source.path.display());
    }
}

/// RFC 6384 §5.1: whatever language the peers have agreed on, ASCII is part of it.
#[test]
fn rfc_23_our_own_texts_are_ascii() {
    for source in sources().iter().filter(|source| source.layer == "session" || source.layer == "ftp") {
        let foreign = source.code.lines().find(|line| !line.is_ascii());
        assert_eq!(foreign, None, "{}", source.path.display());
    }
}

/// Everything here reads what strangers send. Memory errors cannot be written down, and a panic is one session's end.
#[test]
fn sec_35_there_is_no_unsafe_code() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(manifest.contains("\nunsafe_code = \"forbid\"\n"), "the compiler forbids it");
    assert!(manifest.contains("\nunwrap_used = \"warn\"\n"), "clippy asks for the reason why something cannot fail");
    assert!(!manifest.contains("panic = \"abort\""), "one session would end them all");
    for source in sources() {
        let allows =
            ["unsafe ", "allow(unsafe", "allow(clippy::unwrap"].iter().find(|word| source.code.contains(**word));
        assert_eq!(allows, None, "{}", source.path.display());
    }
}
