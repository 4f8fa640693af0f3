//! REL-17: the limits of IIS (30 s without a byte of data, 120 s without a command, 240 bytes per second), with the
//! server's clock running faster. The proxy's buffers must neither trip them nor keep them from striking.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::stage::{Route, Stage};
use crate::stand_in::{Options, named};
use crate::support::scene::Setup;
use crate::support::wire::{Dial, End, Wire};

const BOTH: [Route; 2] = [Route::Direct, Route::Proxied];

/// 30 s become 2 s.
fn iis() -> Stage {
    faster(15)
}

fn faster(faster: u32) -> Stage {
    Stage::new(named("IIS 7.5"), Options { faster, ..Options::default() }, Setup::default())
}

/// Takes a file that fits into no buffer and reads nothing of it.
#[test]
fn rel_17_a_client_that_stalls_a_download_meets_the_servers_limit() {
    thread::scope(|scope| {
        for route in BOTH {
            scope.spawn(move || {
                let stage = iis();
                fs::File::create(stage.file("big")).unwrap().set_len(1 << 30).unwrap();
                let mut client = stage.client(route);
                let port = client.passive_port("PASV");
                let mut to = stage.control(route);
                to.set_port(port);
                let mut data = Wire::connect_slow(&stage.log, "client data", stage.net.client(), to);
                client.say("RETR big", "125");
                let start = Instant::now();
                while client.wire.is_silent(Duration::from_secs(1)) {
                    assert!(start.elapsed() < Duration::from_secs(20), "{route:?}: the limit never struck");
                }
                assert!(start.elapsed() > Duration::from_millis(1900), "{route:?}: it struck too early");
                client.wants("426");
                // What was on its way is no whole file.
                assert_eq!(data.rest().1, End::Reset, "{route:?}");
                client.say("NOOP", "200");
            });
        }
    });
}

#[test]
fn rel_17_a_client_that_stalls_an_upload_meets_the_servers_limit() {
    thread::scope(|scope| {
        for route in BOTH {
            scope.spawn(move || {
                let stage = iis();
                let mut client = stage.client(route);
                let mut data = client.prepare("PASV").established();
                client.say("STOR up", "125");
                data.send(b"a beginning");
                while client.wire.is_silent(Duration::from_secs(1)) {}
                client.wants("426");
                assert_eq!(data.rest().1, End::Reset, "{route:?}");
                client.say("NOOP", "200");
            });
        }
    });
}

/// Slow, but far from stalled: it must go through with the proxy's buffers in between as it does without.
#[test]
fn rel_17_a_slow_download_goes_on_for_longer_than_the_limit() {
    thread::scope(|scope| {
        for route in BOTH {
            scope.spawn(move || {
                let stage = iis();
                let size = 2_000_000;
                fs::File::create(stage.file("large")).unwrap().set_len(size).unwrap();
                let mut client = stage.client(route);
                let port = client.passive_port("PASV");
                let mut to = stage.control(route);
                to.set_port(port);
                let dial = Dial { from: stage.net.client(), to, receive_buffer: Some(16 * 1024) };
                let mut data = Wire::dial(&stage.log, "client data", dial).unwrap();
                client.say("RETR large", "125");
                let start = Instant::now();
                // 400 kB/s: five seconds, more than twice the limit.
                for piece in 0..200 {
                    data.skip(10_000);
                    let due = Duration::from_millis(25 * (piece + 1));
                    thread::sleep(due.saturating_sub(start.elapsed()));
                }
                assert_eq!(data.end(), End::Fin, "{route:?}");
                client.wants("226");
            });
        }
    });
}

/// The control connection is silent for all of a transfer that is longer than its limit.
#[test]
fn rel_17_the_control_limit_does_not_strike_in_a_transfer_and_does_afterwards() {
    thread::scope(|scope| {
        for route in BOTH {
            scope.spawn(move || {
                // 120 s become 4 s.
                let stage = faster(30);
                let mut client = stage.client(route);
                let mut data = client.prepare("PASV").established();
                client.say("STOR up", "125");
                let start = Instant::now();
                // 800 bytes per second, for five seconds.
                while start.elapsed() < Duration::from_secs(5) {
                    data.send([b'x'; 200]);
                    assert!(client.wire.is_silent(Duration::from_millis(250)), "{route:?}: it struck");
                }
                data.finish();
                client.wants("226");
                let idle = Instant::now();
                while client.wire.is_silent(Duration::from_secs(1)) {
                    assert!(idle.elapsed() < Duration::from_secs(30), "{route:?}: it never struck");
                }
                assert!(idle.elapsed() > Duration::from_millis(3500), "{route:?}: {:?}", idle.elapsed());
                client.wants("421");
                assert_eq!(client.wire.end(), End::Fin, "{route:?}");
            });
        }
    });
}

/// 240 bytes per second at least.
#[test]
fn rel_17_an_upload_below_the_rate_meets_the_servers_limit() {
    thread::scope(|scope| {
        for route in BOTH {
            scope.spawn(move || {
                let stage = iis();
                let mut client = stage.client(route);
                let mut data = client.prepare("PASV").established();
                client.say("STOR up", "125");
                let start = Instant::now();
                // 100 bytes per second; it may be cut at any of them.
                while client.wire.is_silent(Duration::from_millis(100)) {
                    let _cut = data.try_send(b"ten bytes.");
                    assert!(start.elapsed() < Duration::from_secs(20), "{route:?}: the limit never struck");
                }
                client.wants("426");
                client.say("NOOP", "200");
            });
        }
    });
}
