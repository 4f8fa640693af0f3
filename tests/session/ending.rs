//! The end of a transfer: what is held, what passes, and what is not believed.

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode::Same;
use ftp_alg::session::{Action, End, Event};

use crate::commands::{download, transfer, upload};
use crate::driver::Driver;

const NEVER_OPENED: &str = "425 Cannot open data connection.\n";
const CUT: &str = "426 Connection closed; transfer aborted.\n";

#[test]
fn rel_06_the_final_reply_waits_for_the_clients_data() {
    let mut d = download();
    d.server("226-some\r\n226 done\r\n");
    d.client("NOOP\r\n");
    d.server("200 noop\r\n");
    assert_eq!(d.client_got(), "");
    d.flushed(Leg::Server);
    assert_eq!(d.client_got(), "", "that is the other direction");
    d.flushed(Leg::Client);
    assert_eq!(d.client_got(), "226-some\n226 done\n200 noop\n");
}

#[test]
fn a_final_reply_after_the_data_passes_at_once() {
    let mut d = download();
    d.flushed(Leg::Client);
    d.server("226 done\r\n");
    assert_eq!(d.client_got(), "226 done\n");
}

#[test]
fn only_the_2xx_of_a_transfer_is_held() {
    for reply in ["426 a\r\n", "451 a\r\n", "552 a\r\n"] {
        let mut d = download();
        d.server(reply);
        assert_eq!(d.client_got(), reply.replace("\r\n", "\n"));
    }
    let mut d = Driver::new(Same);
    d.client("RETR a\r\n");
    d.server("226 without a channel\r\n");
    assert_eq!(d.client_got(), "226 without a channel\n");
}

#[test]
fn a_2xx_without_a_1xx_is_held_too() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("NLST\r\n");
    d.client_got();
    d.server("226 empty\r\n");
    assert_eq!(d.client_got(), "");
    d.flushed(Leg::Client);
    assert_eq!(d.client_got(), "226 empty\n");
}

#[test]
fn abor_cancels_every_hold() {
    let mut d = download();
    d.server("226 done\r\n");
    assert_eq!(d.client_got(), "");
    d.client("ABOR\r\n");
    assert_eq!((d.client_got().as_str(), d.server_got().as_str()), ("226 done\n", "ABOR\n"));
    d.server("225 nothing\r\n");
    assert_eq!(d.client_got(), "225 nothing\n");

    let mut d = upload();
    d.client("ABOR\r\nNOOP\r\n");
    assert_eq!(d.server_got(), "ABOR\nNOOP\n");
}

#[test]
fn the_only_reply_to_an_abor_is_not_made_an_error() {
    for end in [End::NeverConnected(Leg::Client), End::Reset(Leg::Server), End::Reset(Leg::Client)] {
        let mut d = download();
        d.client("ABOR\r\n");
        d.ended(end);
        d.server("226 ABOR successful\r\n");
        assert_eq!(d.client_got(), "226 ABOR successful\n", "{end}");
    }
}

#[test]
fn the_servers_fin_cancels_every_hold() {
    let mut d = download();
    d.server("226 done\r\n221 bye\r\n");
    d.event(Event::Eof { leg: Leg::Server });
    assert_eq!(d.client_got(), "226 done\n221 bye\n");
    assert_eq!(d.closed(), None, "the data still moves");
    d.ended(End::Complete);
    assert!(d.closed().is_some());
}

#[test]
fn rel_07_commands_after_an_upload_wait_until_the_server_has_it() {
    for command in ["STOR a", "APPE a", "STOU"] {
        let mut d = transfer(command);
        d.client("NOOP\r\nQUIT\r\n");
        assert_eq!(d.server_got(), "");
        d.flushed(Leg::Client);
        assert_eq!(d.server_got(), "");
        d.flushed(Leg::Server);
        assert_eq!(d.server_got(), "NOOP\nQUIT\n");
    }
    let mut d = download();
    d.client("NOOP\r\n");
    assert_eq!(d.server_got(), "NOOP\n");
}

#[test]
fn an_upload_that_is_refused_or_cut_holds_nothing() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("STOR a\r\nNOOP\r\n");
    d.server_got();
    d.server("553 no\r\n");
    assert_eq!(d.server_got(), "NOOP\n");
    let mut d = upload();
    d.client("NOOP\r\n");
    d.ended(End::Reset(Leg::Client));
    assert_eq!(d.server_got(), "NOOP\n");
}

#[test]
fn rfc_07_stat_and_abor_pass_an_upload() {
    for verb in ["STAT", "ABOR"] {
        let mut d = upload();
        d.client(format!("{verb}\r\n"));
        assert_eq!(d.server_got(), format!("{verb}\n"));
    }
}

/// What the client gets if the channel ends so and the server then says 226, and the other way round.
fn believed(mut d: Driver, end: End) -> String {
    d.ended(end);
    d.server("226 done\r\n");
    d.client_got()
}

fn held_then(mut d: Driver, end: End) -> String {
    d.server("226 done\r\n");
    assert_eq!(d.client_got(), "");
    d.ended(end);
    d.client_got()
}

#[test]
fn rel_02_no_false_success() {
    let passes = "226 done\n";
    for (end, download_gets, upload_gets) in [
        (End::Complete, passes, passes),
        (End::NeverConnected(Leg::Client), NEVER_OPENED, NEVER_OPENED),
        (End::NeverConnected(Leg::Server), NEVER_OPENED, NEVER_OPENED),
        (End::DialFailed(Leg::Client), NEVER_OPENED, NEVER_OPENED),
        (End::DialFailed(Leg::Server), NEVER_OPENED, NEVER_OPENED),
        (End::Reset(Leg::Client), passes, CUT),
        (End::Reset(Leg::Server), CUT, CUT),
        (End::Idle, CUT, CUT),
        (End::Closed, CUT, CUT),
    ] {
        assert_eq!(believed(download(), end), download_gets, "download, {end}");
        assert_eq!(held_then(download(), end), download_gets, "download, {end}, held");
        assert_eq!(believed(upload(), end), upload_gets, "upload, {end}");
        assert_eq!(held_then(upload(), end), upload_gets, "upload, {end}, held");
    }
}

#[test]
fn what_was_passed_on_is_not_lost_by_the_way_it_ended() {
    for end in [End::Reset(Leg::Server), End::Idle, End::Reset(Leg::Client)] {
        let mut d = download();
        d.flushed(Leg::Client);
        assert_eq!(believed(d, end), "226 done\n", "the client has it all; {end}");
    }
    let mut d = upload();
    d.flushed(Leg::Server);
    assert_eq!(believed(d, End::Reset(Leg::Server)), "226 done\n", "the server has it all");
}

#[test]
fn an_upload_is_not_successful_before_the_server_has_it() {
    let mut d = upload();
    // The server has closed its direction and claims success; the client still sends.
    d.flushed(Leg::Client);
    d.server("226 done\r\n");
    assert_eq!(d.client_got(), "");
    d.ended(End::Reset(Leg::Client));
    assert_eq!(d.client_got(), CUT);
}

#[test]
fn the_servers_own_error_wins() {
    let mut d = download();
    d.ended(End::NeverConnected(Leg::Client));
    d.server("425 mine\r\n");
    assert_eq!(d.client_got(), "425 mine\n");
}

#[test]
fn a_transfer_refused_before_its_1xx_gives_the_offer_back() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.forget();
    d.client("RETR a\r\n");
    d.server("550 none\r\n");
    assert_eq!((d.client_got(), d.deeds()), ("550 none\n".into(), vec![]));
    d.client("RETR b\r\n");
    d.server("150 x\r\n226 y\r\n");
    assert_eq!(d.client_got(), "150 x\n", "the same channel serves it");
    d.completed();
    assert_eq!(d.client_got(), "226 y\n");
    assert_eq!(d.deeds(), ["transferred Some(Retr) Some(226)"]);
}

#[test]
fn an_offer_given_back_serves_the_transfer_that_was_sent_meanwhile() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("RETR a\r\nRETR b\r\n");
    d.forget();
    d.server("550 none\r\n150 x\r\n226 y\r\n");
    assert_eq!(d.client_got(), "550 none\n150 x\n");
    d.completed();
    assert_eq!(d.client_got(), "226 y\n");
}

#[test]
fn a_refused_transfer_whose_offer_was_replaced_is_closed() {
    // The new PASV is sent, and its exchange still goes on, when the refusal comes.
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("RETR a\r\nPASV\r\n");
    d.forget();
    d.server("550 none\r\n227 =172,16,0,20,19,138\r\n");
    assert_eq!(d.deeds(), ["close 1", "dial 2 server 172.16.0.20:5002"]);
    // The new PASV was answered before the refusal came.
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("RETR a\r\nPASV\r\n");
    d.server("227 =172,16,0,20,19,138\r\n");
    d.forget();
    d.server("550 none\r\n");
    assert_eq!(d.deeds(), ["close 1"]);
}

#[test]
fn a_port_refused_with_its_transfer_on_the_way_is_not_given_back() {
    let mut d = Driver::new(Same);
    d.client("PORT 198,51,100,7,19,137\r\nRETR a\r\n");
    d.forget();
    d.server("500 illegal\r\n425 use PORT first\r\n");
    assert_eq!(d.deeds(), ["close 1"]);
    d.ended(End::Closed);
    d.client("RETR a\r\n");
    d.server("150 on port 20\r\n226 y\r\n");
    assert_eq!(d.client_got(), "500 illegal\n425 use PORT first\n150 on port 20\n226 y\n");
}

#[test]
fn an_unknown_verb_that_answers_150_is_a_transfer() {
    let mut d = Driver::new(Same);
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("XDIR a\r\n");
    d.forget();
    d.server("150 x\r\n226 y\r\n");
    assert_eq!(d.client_got(), "150 x\n");
    d.completed();
    assert_eq!(d.client_got(), "226 y\n");
    assert_eq!(d.deeds(), ["transferred None Some(226)"]);
}

#[test]
fn mode_b_holds_nothing_and_the_channel_outlives_the_reply() {
    for (mode, holds) in [("MODE B", false), ("MODE b", false), ("MODE S", true)] {
        let mut d = Driver::new(Same);
        d.client(format!("{mode}\r\nPASV\r\n"));
        d.server("200 x\r\n227 =172,16,0,20,19,137\r\n");
        d.client("STOR a\r\nNOOP\r\n");
        d.server("150 x\r\n226 y\r\n");
        assert_eq!(d.client_got().contains("226 y"), !holds, "{mode}");
        assert_eq!(d.server_got().contains("NOOP"), !holds, "{mode}");
        assert!(d.deeds().iter().all(|deed| !deed.starts_with("close")), "{mode}");
    }
    let mut d = Driver::new(Same);
    d.client("MODE B\r\nPASV\r\n");
    d.server("504 no\r\n227 =172,16,0,20,19,137\r\n");
    d.client("RETR a\r\n");
    d.server("150 x\r\n226 y\r\n");
    assert!(!d.client_got().contains("226 y"), "refused: the mode is still Stream");
}

#[test]
fn every_reply_to_a_transfer_is_recorded_with_its_channel() {
    let mut d = transfer("RETR dir/a file");
    d.server("226 done\r\n");
    d.now += std::time::Duration::from_secs(3);
    d.completed();
    let records: Vec<_> = d
        .take_actions()
        .into_iter()
        .filter_map(|action| if let Action::Transferred(record) = action { Some(record) } else { None })
        .collect();
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&record.path[..], record.code, record.took.as_secs()), (&b"dir/a file"[..], Some(226), 3));
    assert_eq!((record.channel.end, record.channel.up, record.channel.down), (End::Complete, 1, 2));
}

#[test]
fn a_transfer_cut_by_the_end_of_the_session_is_recorded() {
    let mut d = upload();
    d.event(Event::Reset { leg: Leg::Client });
    d.forget();
    d.ended(End::Closed);
    assert_eq!(d.deeds(), ["transferred Some(Stor) None"]);
    d.ended(End::Closed);
    assert_eq!(d.deeds(), [""; 0]);
}

#[test]
fn a_final_reply_of_any_length_is_held() {
    let mut d = download();
    let text = format!("226-x\r\n{}226 end\r\n", " statistics\r\n".repeat(10_000));
    d.server(&text);
    assert_eq!(d.client_got(), "");
    assert!(!d.session.wants_bytes(Leg::Server), "but not beyond a bound");
    d.flushed(Leg::Client);
    assert_eq!(d.sent_raw(Leg::Client), text.as_bytes());
    assert!(d.session.wants_bytes(Leg::Server));
}

#[test]
fn a_long_false_success_is_replaced_whole() {
    let mut d = download();
    let text = format!("226-x\r\n{}226 end\r\n", " statistics\r\n".repeat(10_000));
    d.server(&text[..50_000]);
    d.ended(End::Reset(Leg::Server));
    d.server(&text[50_000..]);
    assert_eq!(d.client_got(), CUT);
    d.client("NOOP\r\n");
    d.server("200 x\r\n");
    assert_eq!(d.client_got(), "200 x\n");
}
