//! Black-box tests on loopback: the real binary between a fake client and a fake server that send bytes and
//! expect bytes.
//!
//! A test is named after the requirement that it shows. The data ports of a test are its own, as are all its
//! addresses: everything here runs in parallel.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../peers/mod.rs"]
mod peers;
#[path = "../support/mod.rs"]
mod support;

mod active;
mod admin;
mod choose;
mod control;
mod crowd;
mod data_mode;
mod data_peer;
mod egress;
mod ending;
mod endurance;
mod families;
mod hold;
mod hostile;
mod interruption;
mod leases;
mod limits;
mod log;
mod out_of_step;
mod passive;
mod passthrough;
mod proxy_header;
mod proxy_protocol;
mod public_address;
mod quotas;
mod reload;
mod service;
mod shutdown;
mod timeouts;
mod tls;
mod transfer_log;
mod upstreams;
