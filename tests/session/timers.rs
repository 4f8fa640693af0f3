//! Deadlines, on a virtual clock.

use std::time::Duration;

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode::Same;
use ftp_alg::session::{End, Event, Notice, Reason};

use crate::commands::{download, upload};
use crate::driver::{CLIENT, CLOSE, Driver, IDLE, LOGIN, PARTIAL, settings};

const SECOND: Duration = Duration::from_secs(1);
const AGES: Duration = Duration::from_secs(24 * 3600);

#[test]
fn login_ends_a_session_that_does_not_log_in() {
    let mut d = Driver::connected(Same);
    d.server("220 x\r\n");
    for _ in 0..5 {
        d.pass(LOGIN / 6);
        d.client("USER a\r\n");
        d.server("331 x\r\n");
    }
    assert_eq!(d.closed(), None);
    d.forget();
    d.pass(LOGIN / 6);
    assert_eq!(d.closed(), Some(Reason::LoginTimeout));
    assert_eq!(d.client_got(), "421 Login timeout, closing control connection.\n");
}

#[test]
fn login_runs_while_the_server_is_silent_or_unreachable() {
    let mut d = Driver::unconnected(settings(Same), CLIENT);
    d.pass(LOGIN - SECOND);
    assert_eq!(d.closed(), None);
    d.pass(SECOND);
    assert_eq!(d.closed(), Some(Reason::LoginTimeout));
}

#[test]
fn a_230_or_232_ends_the_wait_for_a_login_the_greeting_included() {
    for greeting in ["230 in\r\n", "232 in\r\n", "230-a\r\n230 b\r\n"] {
        let mut d = Driver::connected(Same);
        d.server(greeting);
        d.pass(LOGIN * 2);
        assert_eq!(d.closed(), None, "{greeting}");
    }
}

#[test]
fn rfc_19_idle_ends_a_session_in_which_nothing_goes_on() {
    let mut d = Driver::new(Same);
    d.pass(IDLE - SECOND);
    d.client("NOOP\r\n");
    d.server("200 x\r\n");
    d.forget();
    d.pass(IDLE - SECOND);
    assert_eq!(d.closed(), None);
    d.pass(SECOND);
    assert_eq!(d.closed(), Some(Reason::IdleTimeout));
    assert_eq!(d.client_got(), "421 Idle timeout, closing control connection.\n");
}

#[test]
fn rfc_19_nothing_is_idle_during_a_transfer_a_reply_or_an_offer() {
    let mut d = download();
    d.pass(AGES);
    assert_eq!(d.closed(), None, "a transfer");
    d.server("226 x\r\n");
    d.pass(AGES);
    assert_eq!(d.closed(), None, "a reply that is held");

    let mut d = Driver::new(Same);
    d.client("SITE REBUILD\r\n");
    d.pass(AGES);
    assert_eq!(d.closed(), None, "no time limit on replies");
    d.client("ABOR\r\n");
    d.server("200 x\r\n");
    d.pass(AGES);
    assert_eq!(d.closed(), None, "nor on the one to ABOR");

    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.pass(AGES);
    assert_eq!(d.closed(), None, "a channel");
    d.ended(End::NeverConnected(Leg::Client));
    d.pass(IDLE);
    assert_eq!(d.closed(), Some(Reason::IdleTimeout));
}

#[test]
fn idle_counts_again_after_an_abor_with_one_reply() {
    let mut d = download();
    d.client("ABOR\r\n");
    d.server("226 aborted\r\n");
    d.completed();
    d.pass(IDLE);
    assert_eq!(d.closed(), Some(Reason::IdleTimeout));
}

#[test]
fn sec_28_a_line_that_stays_unfinished_ends_the_session() {
    let mut d = Driver::new(Same);
    for _ in 0..5 {
        d.client("N");
        d.pass(PARTIAL / 6);
    }
    assert_eq!(d.closed(), None);
    d.client("N");
    d.pass(PARTIAL / 6);
    assert_eq!(d.closed(), None, "rounded down");
    d.pass(SECOND);
    assert_eq!(d.closed(), Some(Reason::LineTimeout));
    assert_eq!(d.client_got(), "421 Command timeout, closing control connection.\n");
}

#[test]
fn each_line_has_its_own_time() {
    let mut d = Driver::new(Same);
    for _ in 0..10 {
        // Never at a line's end, as TCP cuts a stream.
        d.client("OP\r\nNO");
        d.server("200 x\r\n");
        d.pass(PARTIAL / 2);
    }
    assert_eq!(d.closed(), None);
    d.pass(PARTIAL);
    assert_eq!(d.closed(), Some(Reason::LineTimeout));
}

#[test]
fn a_line_that_we_do_not_read_has_all_the_time() {
    let mut d = upload();
    d.client("NOOP\r\n".repeat(20) + "NO");
    assert!(!d.session.wants_bytes(Leg::Client));
    d.pass(PARTIAL * 2);
    assert_eq!(d.closed(), None);
    d.flushed(Leg::Server);
    d.server("226 x\r\n");
    d.server("200 x\r\n".repeat(20));
    d.pass(PARTIAL - SECOND);
    assert_eq!(d.closed(), None);
    d.pass(SECOND);
    assert_eq!(d.closed(), Some(Reason::LineTimeout));
}

#[test]
fn rel_11_after_the_clients_fin_the_rest_has_its_time() {
    let mut d = download();
    d.event(Event::Eof { leg: Leg::Client });
    d.pass(CLOSE - SECOND);
    assert_eq!(d.closed(), None);
    d.pass(SECOND);
    assert_eq!(d.closed(), Some(Reason::ClientClosed));
}

#[test]
fn after_the_servers_fin_a_slow_client_gets_its_data() {
    let mut d = download();
    d.server("226 x\r\n");
    d.event(Event::Eof { leg: Leg::Server });
    d.pass(AGES);
    assert_eq!(d.closed(), None);
    d.completed();
    assert_eq!(d.closed(), Some(Reason::ServerClosed));
}

#[test]
fn a_straggling_227_is_waited_for_as_long_as_a_close_takes() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\nNOOP\r\n");
    d.server("250 stray\r\n");
    d.pass(CLOSE - SECOND);
    assert_eq!(d.server_got(), "PASV\n");
    d.pass(SECOND);
    assert_eq!(d.server_got(), "NOOP\n");
    assert_eq!(d.notices(), [Notice::PassiveUnanswered]);
    assert_eq!(d.deeds(), ["bind 1 client", "close 1", "PassiveUnanswered"]);
}

#[test]
fn the_wait_for_a_straggler_ends_with_its_exchange() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    // The second is too long to be translated; the exchange is over, and its deadline with it.
    d.server(format!("250 stray\r\n227 {}\r\n", "A".repeat(5000)));
    d.client("PASV\r\nNOOP\r\n");
    d.forget();
    d.pass(CLOSE * 2);
    assert_eq!((d.server_got(), d.deeds()), (String::new(), vec![]));
}

#[test]
fn pasv_itself_has_no_time_limit() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\nNOOP\r\n");
    d.server("150 wait\r\n");
    d.pass(AGES);
    assert_eq!((d.server_got().as_str(), d.closed()), ("PASV\n", None));
}

#[test]
fn rel_09_a_server_that_stays_silent_about_a_dead_data_connection_is_answered_for() {
    let mut d = download();
    d.client("NOOP\r\n");
    d.ended(End::NeverConnected(Leg::Client));
    d.pass(64 * SECOND);
    assert_eq!(d.client_got(), "", "the server has the first word");
    d.pass(SECOND);
    assert_eq!(d.client_got(), "425 Cannot open data connection.\n");
    // Its own answer comes after all: it is dropped, and the next is NOOP's.
    d.server("425 mine\r\n200 noop\r\n");
    assert_eq!(d.client_got(), "200 noop\n");
}

#[test]
fn rel_15_draining_ends_a_session_at_a_command_boundary() {
    let mut d = Driver::new(Same);
    d.event(Event::Drain);
    assert_eq!(d.client_got(), "421 Service is stopping, closing control connection.\n");
    assert_eq!(d.closed(), Some(Reason::Drained));

    let mut d = upload();
    d.event(Event::Drain);
    d.completed();
    assert_eq!(d.closed(), None, "the reply is due");
    d.server("226 x\r\n");
    assert_eq!(d.client_got(), "226 x\n421 Service is stopping, closing control connection.\n");
    assert_eq!(d.closed(), Some(Reason::Drained));
}

#[test]
fn draining_waits_for_the_end_of_a_reply_that_nobody_asked_for() {
    for start in ["220-x\r\n".to_owned(), format!("220 {}", "x".repeat(5000))] {
        let mut d = Driver::new(Same);
        d.server(start);
        d.event(Event::Drain);
        assert_eq!(d.closed(), None);
        d.server("\r\n220 y\r\n");
        assert!(d.client_got().ends_with("\n421 Service is stopping, closing control connection.\n"));
    }
}

#[test]
fn rel_22_a_clock_that_stands_still_or_jumps_does_no_harm() {
    let mut d = download();
    d.session.handle_timeout(d.now);
    d.session.handle_timeout(d.now.checked_sub(SECOND).unwrap_or(d.now));
    d.completed();
    d.server("226 x\r\n");
    assert_eq!(d.client_got(), "226 x\n");
}
