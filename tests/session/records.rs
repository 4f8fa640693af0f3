//! What a transfer's record says of it: the type, and whether the file is whole.

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode::Same;
use ftp_alg::session::{Action, End, TransferRecord};

use crate::driver::Driver;

/// A transfer that the server has begun.
fn begun(command: &str) -> Driver {
    let mut d = Driver::new(Same);
    begin(&mut d, command);
    d
}

fn begin(d: &mut Driver, command: &str) {
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client(format!("{command}\r\n"));
    d.server("150 go\r\n");
}

/// The one record that there is.
fn record(d: &mut Driver) -> TransferRecord {
    let is_record = |action| if let Action::Transferred(record) = action { Some(*record) } else { None };
    let mut records: Vec<_> = d.take_actions().into_iter().filter_map(is_record).collect();
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

#[test]
fn rel_01_whole_is_what_both_the_server_and_the_data_say() {
    let cases: [(&str, &str, &[Leg], End, bool); 9] = [
        ("RETR a", "226 done", &[Leg::Client, Leg::Server], End::Complete, true),
        ("STOR a", "226 done", &[Leg::Client, Leg::Server], End::Complete, true),
        // The server's word alone, or the data's alone, is not enough.
        ("RETR a", "426 gone", &[Leg::Client, Leg::Server], End::Complete, false),
        ("STOR a", "552 full", &[Leg::Client, Leg::Server], End::Complete, false),
        ("RETR a", "226 done", &[], End::Reset(Leg::Server), false),
        ("STOR a", "226 done", &[], End::Reset(Leg::Client), false),
        // The receiver has all of it, and only then ends its connection in a bad way.
        ("RETR a", "226 done", &[Leg::Client], End::Reset(Leg::Client), true),
        ("STOR a", "226 done", &[Leg::Server], End::Reset(Leg::Server), true),
        // A download that the client did not want the end of: the server's success stands, and the file is not whole.
        ("RETR a", "226 done", &[], End::Reset(Leg::Client), false),
    ];
    for (command, reply, flushed, end, whole) in cases {
        let mut d = begun(command);
        for leg in flushed {
            d.flushed(*leg);
        }
        d.ended(end);
        d.server(format!("{reply}\r\n"));
        assert_eq!(record(&mut d).whole, whole, "{command} {reply} {flushed:?} {end:?}");
    }
}

/// Servers call the end of an aborted transfer a success.
#[test]
fn rel_01_what_was_aborted_is_not_whole() {
    let mut d = begun("RETR a");
    d.client("ABOR\r\n");
    d.server("226 closed\r\n226 aborted\r\n");
    d.flushed(Leg::Client);
    d.ended(End::Complete);
    assert!(!record(&mut d).whole);
}

#[test]
fn rel_01_what_the_server_never_answered_is_not_whole() {
    let mut d = begun("STOR a");
    d.flushed(Leg::Client);
    d.flushed(Leg::Server);
    d.event(ftp_alg::session::Event::Reset { leg: Leg::Server });
    d.ended(End::Complete);
    assert!(!record(&mut d).whole);
}

#[test]
fn the_type_is_what_the_server_took_the_transfer_up_in() {
    let finish = |d: &mut Driver| {
        d.completed();
        d.server("226 done\r\n");
        record(d).text
    };
    let mut d = begun("RETR a");
    assert!(finish(&mut d), "ASCII is where every session begins");
    for (asked, reply, text) in [
        ("TYPE I", "200 binary", false),
        ("TYPE A N", "504 no", false),
        ("type a", "200 ASCII", true),
        ("TYPE L 8", "200 local", false),
        ("TYPE E", "200 EBCDIC", true),
    ] {
        d.client(format!("{asked}\r\n"));
        d.server(format!("{reply}\r\n"));
        begin(&mut d, "RETR a");
        assert_eq!(finish(&mut d), text, "after {asked}: {reply}");
    }
    // Sent at once, and answered one after the other.
    d.client("PASV\r\n");
    d.server("227 =172,16,0,20,19,137\r\n");
    d.client("TYPE I\r\nRETR a\r\nTYPE A\r\n");
    d.server("200 binary\r\n150 go\r\n");
    assert!(!finish(&mut d));
    d.server("200 ASCII\r\n");
    d.client("TYPE I\r\nREIN\r\n");
    d.server("200 binary\r\n220 again\r\n");
    d.client("USER a\r\n");
    d.server("230 in\r\n");
    begin(&mut d, "RETR a");
    assert!(finish(&mut d), "REIN");
}
