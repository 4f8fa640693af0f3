//! Invariants, over random interleavings of both legs' bytes and of everything that the shell may report.

use ftp_alg::addr::Leg;
use ftp_alg::nat::DataMode;
use ftp_alg::session::{End, Event, Settings, TlsSettings};
use proptest::prelude::*;
use proptest::sample::select;

use crate::driver::{CLIENT, CLIENT_V6, Driver, SERVER, SERVER_V6, settings};
use crate::shell::{Answer, Shell, Step, Text, run_cut};
use crate::tls_properties::tls;

fn leg() -> impl Strategy<Value = Leg> {
    select(vec![Leg::Client, Leg::Server])
}

fn client_line() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "USER a",
        "PASS b",
        "PASV",
        "EPSV",
        "EPSV 1",
        "EPSV 2",
        "EPSV ALL",
        "PORT 198,51,100,7,19,137",
        "PORT 10,0,0,1,19,137",
        "PORT 2,2,2,3,19,137",
        "PORT x",
        "EPRT |1|198.51.100.7|5001|",
        "EPRT |3|x|1|",
        "EPRT |2|2001:db8::7|5001|",
        "ALGS STATUS64",
        "ALGS ENABLE64",
        "ALGS DISABLE64",
        "ALGS x",
        "RETR a",
        "STOR b",
        "LIST",
        "REST 100",
        "XDIR",
        "ABOR",
        "STAT",
        "QUIT",
        "FEAT",
        "REIN",
        "MODE B",
        "MODE S",
        "NOOP",
        "LPSV",
        "AUTH TLS",
        "PBSZ 0",
        "PROT P",
        "PROT C",
        "CCC",
        "HOST a",
        "CWD \u{ff}\u{f4}",
        "",
    ]);
    prop_oneof![
        20 => known.prop_map(|line| format!("{line}\r\n").into_bytes()),
        1 => Just(b"227 x (1,2,3,4,5,6)\r\n".to_vec()),
        1 => Just(b"\xff\xfd\x01\xff\xf4\xff\xfb\x06NO\xff\xfd\x02OP \xff\xfb\r\n".to_vec()),
        1 => Just(b"\xff\xfd\x03".to_vec()),
        1 => Just(vec![b'x'; 5000]),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => Just(b"NOOP\n".repeat(60)),
    ]
}

fn server_line() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "220 hello",
        "331 x",
        "230 in",
        "234 go",
        "200 ok",
        "250 ok",
        "150 go",
        "125 go",
        "226 done",
        "226-x\r\n226 done",
        "225 x",
        "227 Entering Passive Mode (172,16,0,20,19,137).",
        "227-x\r\n y (172,16,0,20,19,137)\r\n227 z",
        "227 Logout.",
        "227 =172,16,0,20,0,22",
        "229 Extended (|||5001|)",
        "229 x (|||1|)",
        "426 cut",
        "425 no",
        "500 what",
        "502 no",
        "530 no",
        "550 no",
        "421 bye",
        "211-x\r\n AUTH TLS\r\n227 (172,16,0,20,19,137)\r\n211 end",
        "120 wait",
        "350 rest",
        "221 bye",
        "257 \"/\"",
        "230_no_space",
    ]);
    prop_oneof![
        20 => known.prop_map(|line| format!("{line}\r\n").into_bytes()),
        1 => Just(b"PORT 1,2,3,4,5,6\r\n".to_vec()),
        1 => Just(b"\xff\xfb\x01220 \xff\xfd x\r\n".to_vec()),
        1 => Just(b"\xff\xfd\x03".to_vec()),
        1 => Just([b"227 ", &[b'x'; 5000][..], b"\r\n"].concat()),
        1 => Just([b"227-", &[b' '; 3000][..], b"\r\n", &[b' '; 3000][..], b"\r\n227 x\r\n"].concat()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Complete),
        1 => leg().prop_map(End::NeverConnected),
        1 => leg().prop_map(End::DialFailed),
        1 => leg().prop_map(End::Reset),
        1 => leg().prop_map(End::TlsFailed),
        1 => Just(End::Idle),
        1 => Just(End::Closed),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (client_line(), prop::bool::weighted(0.05))
            .prop_map(|(data, urgent)| Step::Bytes { leg: Leg::Client, data: Text(data), urgent }),
        30 => server_line().prop_map(|data| Step::Bytes { leg: Leg::Server, data: Text(data), urgent: false }),
        20 => Just(Step::Bound),
        2 => Just(Step::Refused),
        8 => (0..3_usize, leg()).prop_map(|(n, leg)| Step::Flushed(n, leg)),
        6 => (0..3_usize, end()).prop_map(|(n, end)| Step::Ended(n, end)),
        1 => (0..50_u32).prop_map(Step::Stale),
        1 => leg().prop_map(Step::Eof),
        4 => select(vec![Answer::Permitted, Answer::Permitted, Answer::Later, Answer::Refused]).prop_map(Step::Logins),
        1 => Just(Step::Drain),
        3 => (0..70_u64).prop_map(Step::Pass),
        8 => leg().prop_map(Step::TlsReady),
        1 => prop::bool::weighted(0.3).prop_map(|no| if no { Step::TlsFailed(Leg::Server) } else { Step::Ready }),
        1 => Just(Step::Failed),
        1 => prop::bool::weighted(0.3).prop_map(|rst| if rst { Step::Reset(Leg::Client) } else { Step::Pass(1) }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..120)
}

fn mode() -> impl Strategy<Value = DataMode> {
    select(vec![DataMode::Same, DataMode::Passive, DataMode::Active])
}

/// Of either family, each.
fn peers() -> impl Strategy<Value = (&'static str, &'static str)> {
    let mixed = select(vec![(CLIENT_V6, SERVER), (CLIENT, SERVER_V6), (CLIENT_V6, SERVER_V6)]);
    prop_oneof![Just((CLIENT, SERVER)), mixed]
}

/// TLS on the legs, or none.
fn cover() -> impl Strategy<Value = TlsSettings> {
    prop_oneof![Just(TlsSettings::default()), tls()]
}

/// What a session is between, and how.
#[derive(Debug, Clone, Copy)]
struct Scene {
    mode: DataMode,
    peers: (&'static str, &'static str),
    tls: TlsSettings,
}

fn scene() -> impl Strategy<Value = Scene> {
    (mode(), peers(), cover()).prop_map(|(mode, peers, tls)| Scene { mode, peers, tls })
}

fn shell(Scene { mode, peers: (client, server), tls }: Scene) -> Shell {
    Shell::between(Settings { tls, ..settings(mode) }, client, server)
}

fn logged_in(scene: Scene) -> Shell {
    let mut shell = shell(scene);
    shell.log_in();
    shell
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_shell_is_never_asked_for_anything_wrong(scene in scene(), steps in steps()) {
        logged_in(scene).run(&steps);
    }

    #[test]
    fn nor_at_the_start_of_a_session(scene in scene(), mut steps in steps(), at in 0..10_usize) {
        steps.insert(at.min(steps.len()), Step::Ready);
        shell(scene).run(&steps);
    }

    /// When both peers have gone and every channel has ended, the session ends, and nothing is left open. Neither peer
    /// alone keeps it.
    #[test]
    fn every_session_ends(scene in scene(), steps in steps()) {
        for finish in [Shell::finish, Shell::finish_without_server, Shell::finish_without_client] {
            let mut shell = logged_in(scene);
            shell.run(&steps);
            finish(&mut shell);
        }
    }

    /// Every message cut anywhere gives the same bytes, and the same actions between them.
    #[test]
    fn any_chunking_gives_the_same_actions(scene in scene(), steps in steps(), size in 1..40_usize) {
        run_cut(&mut logged_in(scene), &mut logged_in(scene), &steps, size);
    }

    /// Whatever does not ask for a port passes unchanged, but for the end of the line.
    #[test]
    fn opaque_lines_pass_byte_identical(lines in proptest::collection::vec("[A-Z]{1,4}( [ -\u{7e}\u{a0}-\u{ff}]{0,80})?", 1..15)) {
        let reserved = [
            "PASV", "EPSV", "PORT", "EPRT", "LPRT", "LPSV", "CPSV", "SPSV", "AUTH", "STOR", "STOU", "APPE",
        ];
        let lines: Vec<_> = lines.into_iter().filter(|line| !reserved.iter().any(|verb| line.starts_with(verb))).collect();
        let mut d = Driver::new(DataMode::Same);
        let mut naive = Vec::new();
        for line in &lines {
            d.client(format!("{line}\n"));
            naive.extend_from_slice(format!("{line}\r\n").as_bytes());
        }
        prop_assert_eq!(d.sent_raw(Leg::Server), naive);
    }

    /// Without a command outstanding, nothing that the server says is changed.
    #[test]
    fn unasked_replies_pass_byte_identical(replies in proptest::collection::vec(server_line(), 1..15)) {
        let text = replies.concat();
        let is_spoof = text.split(|b| *b == b'\n').any(ftp_alg::ftp::reply::starts_with_command);
        if is_spoof {
            return Ok(());
        }
        let mut d = Driver::new(DataMode::Same);
        d.server(&text);
        let unfinished = text.iter().rposition(|b| *b == b'\n').map_or(0, |lf| lf + 1);
        let sent = d.sent_raw(Leg::Client);
        prop_assert_eq!(&sent[..unfinished.min(sent.len())], &text[..unfinished]);
        let dials = d.deeds().iter().any(|deed| deed.starts_with("dial"));
        prop_assert!(!dials);
    }

    /// In a line that we translate the inside address never stands, whatever words it came with.
    #[test]
    fn sec_31_no_inside_address_in_a_translated_line(before in "[ -~]{0,30}", after in "[ -~]{0,30}", epsv: bool) {
        let inside = "172,16,0,20,19,137";
        let mut d = Driver::new(DataMode::Same);
        d.client(if epsv { "EPSV\r\n" } else { "PASV\r\n" });
        d.server(format!("227 {before}({inside}){after}172.16.0.20\r\n"));
        let text = d.client_got();
        let is_dialled = d.deeds().iter().any(|deed| deed.starts_with("dial"));
        if is_dialled {
            prop_assert!(!text.contains("172,16,0,20") && !text.contains("172.16.0.20"), "{}", text);
        }
    }

    #[test]
    fn no_bytes_panic(pieces in proptest::collection::vec((leg(), proptest::collection::vec(any::<u8>(), 0..300)), 0..30)) {
        let mut d = Driver::connected(DataMode::Same);
        for (leg, data) in pieces {
            d.event(Event::Bytes { leg, data: &data, urgent: false });
        }
    }
}
