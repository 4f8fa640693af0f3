//! The public address from metadata services that behave as the clouds' do, and as nobody's should.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../support/metadata.rs"]
#[allow(dead_code, reason = "the other test programs use more of it")]
mod metadata;

mod clouds;
mod program;
mod replies;

use ftp_alg::config::Config;
use ftp_alg::discover::{DiscoverError, Found, PublicAddress};
use metadata::Metadata;

/// The address that the clouds give in these tests.
const PUBLIC: &str = "203.0.113.10";

/// A listener on port 2121 that announces what `provider` at `endpoint` says.
fn config(provider: &str, endpoint: &str) -> Config {
    let yaml = format!(
        "listeners: [{{ bind: \"127.0.0.1:2121\", upstream: \"127.0.0.2:21\", client: {{ address_map: [{{ peers: any, \
         announce: auto }}], data_ports: 20000 }} }}]\ndiscovery: {{ provider: {provider}, endpoint: \"{endpoint}\" }}\n"
    );
    Config::parse(&yaml, "test.yaml").unwrap()
}

/// Asks once.
fn find(provider: &str, service: &Metadata) -> Result<Found, DiscoverError> {
    find_at(&config(provider, &service.url()))
}

fn find_at(config: &Config) -> Result<Found, DiscoverError> {
    let public = PublicAddress::of(config).unwrap().expect("it is announced");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(public.find())
}

/// The address and the path that it came from.
#[track_caller]
fn found(provider: &str, service: &Metadata) -> (String, String) {
    let found = find(provider, service).unwrap_or_else(|error| panic!("{error}\n{:#?}", service.seen()));
    (found.address.to_string(), found.url.strip_prefix(&service.url()).unwrap().to_owned())
}

/// What a person reads.
#[track_caller]
fn refused(provider: &str, service: &Metadata) -> String {
    let message = find(provider, service).expect_err("no address").to_string();
    assert!(message.ends_with("in place of `auto`"), "no remedy: {message}");
    message
}
