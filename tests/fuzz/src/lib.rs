//! What must hold for all input: the bodies of the fuzz targets, as plain functions.
//!
//! libFuzzer calls them through `fuzz_targets/`, `tests/corpus.rs` with the inputs kept under `corpus/` and
//! `regressions/`, and the property tests of the main crate share what they check. Each module has a `check` that
//! takes the bytes of one input and panics if they show a bug.

#![allow(dead_code, unreachable_pub, reason = "the targets use all of it, the tests that include it a part")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub mod commands;
pub mod config;
pub mod host_port;
pub mod lines;
pub mod proxy_protocol;
pub mod replies;
pub mod session;

mod script;

#[path = "../../session/cover.rs"]
mod cover;
#[path = "../../session/driver.rs"]
mod driver;
#[path = "../../session/shell.rs"]
mod shell;
