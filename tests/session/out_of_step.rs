//! Servers that give fewer replies than they get commands, or more.

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode::Same;
use ftp_alg::session::End;

use crate::driver::Driver;

/// A command that the server passed over in silence (an empty line, as some do), and PORT after it: its 200 went to the
/// silent one.
fn one_reply_behind(command: &str) -> Driver {
    let mut d = Driver::new(Same);
    d.client(format!("\r\nPORT 198,51,100,7,19,137\r\n{command}\r\n"));
    d.server("200 PORT ok\r\n");
    d.forget();
    d
}

#[test]
fn a_150_answers_a_transfer_although_replies_are_missing() {
    let mut d = one_reply_behind("RETR a");
    d.server("150 x\r\n226 y\r\n");
    assert_eq!(d.client_got(), "150 x\n", "the success waits for the data");
    d.completed();
    assert_eq!(d.client_got(), "226 y\n");
    assert_eq!(d.deeds(), ["transferred Some(Retr) Some(226)"]);
    // From here on both are in step again.
    d.client("PORT 198,51,100,7,19,138\r\n");
    d.forget();
    d.server("501 no\r\n");
    assert_eq!(d.deeds(), ["close 2"]);
}

#[test]
fn rel_02_no_false_success_although_replies_are_missing() {
    let mut d = one_reply_behind("STOR a");
    d.server("125 x\r\n");
    d.ended(End::Reset(Leg::Client));
    d.server("226 y\r\n");
    assert_eq!(d.client_got(), "125 x\n426 Connection closed; transfer aborted.\n");
}

/// A verb that we do not know may be a transfer of its own: then the 150 is its, unless the channel is another's.
#[test]
fn a_150_answers_an_unknown_verb_if_no_channel_waits_for_one() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("XDIR\r\nNOOP\r\n");
    d.forget();
    d.server("150 x\r\n226 y\r\n200 noop\r\n");
    assert_eq!(d.client_got(), "150 x\n");
    d.completed();
    assert_eq!(d.client_got(), "226 y\n200 noop\n");
}

/// A second 150 changes nothing, a second 226 is nobody's.
#[test]
fn replies_said_twice() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("RETR a\r\n");
    d.forget();
    d.server("150 x\r\n150 again\r\n");
    assert_eq!(d.client_got(), "150 x\n150 again\n");
    d.server("226 y\r\n226 again\r\n");
    assert_eq!(d.client_got(), "");
    d.completed();
    assert_eq!(d.client_got(), "226 y\n226 again\n");
    assert_eq!(d.deeds(), ["transferred Some(Retr) Some(226)"]);
    // A third one comes when PASV waits: it leaves it waiting.
    d.client("PASV\r\n");
    d.server("226 late\r\n227 =172,16,0,20,19,138\r\n");
    assert!(d.client_got().starts_with("226 late\n227 Entering"));
    assert!(d.deeds().contains(&"dial 2 server 172.16.0.20:5002".to_owned()));
}
