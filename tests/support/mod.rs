//! Support for the black-box tests: a fake client and a fake server that send bytes and expect bytes, and the
//! real binary between them.
//!
//! Nothing here uses the library under test. Every wait has a deadline, and every failure shows the bytes
//! that went over the wires so far and what the proxy wrote to stderr.

pub(crate) mod black_hole;
pub(crate) mod crowd;
pub(crate) mod kernel;
#[allow(dead_code, reason = "the tests of the clouds use more of it")]
pub(crate) mod metadata;
pub(crate) mod net;
pub(crate) mod proxy;
pub(crate) mod scene;
pub(crate) mod script;
pub(crate) mod transcript;
pub(crate) mod wire;
