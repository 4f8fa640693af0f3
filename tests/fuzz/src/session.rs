//! Both legs of a session at once, and everything that the shell may report in between.

use bytes::Bytes;
use ftp_alg::addr::Leg;
use ftp_alg::ftp::command::{Command, CommandLine};
use ftp_alg::ftp::line::MAX_LINE;
use ftp_alg::ftp::reply::starts_with_command;
use ftp_alg::nat::DataMode;

use super::driver::Driver;
use super::script::Script;
use super::shell::{Step, run_cut};

/// As many commands may be on their way to the server; those after them wait for replies.
const MAX_OUTSTANDING: usize = 20;

/// A [`Script`].
pub fn check(data: &[u8]) {
    let script = Script::parse(data);
    let (mut whole, mut cut) = (script.shell(), script.shell());
    run_cut(&mut whole, &mut cut, &script.steps, script.piece);
    whole.finish();
    if script.piece.is_multiple_of(2) {
        cut.finish_without_server();
    } else {
        cut.finish_without_client();
    }
    opaque_traffic_passes(&script.steps);
}

/// Against a reference that knows nothing of FTP: commands without a meaning to us reach the server as the client
/// ended them, but for CRLF, and replies reach the client byte for byte.
fn opaque_traffic_passes(steps: &[Step]) {
    let mut d = Driver::new(DataMode::Same);
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    let (mut commands, mut replies) = (Unfinished::default(), Unfinished::default());
    let mut sent = 0;
    for step in steps {
        match step {
            Step::Bytes { leg: Leg::Client, data, urgent: false } => {
                for line in commands.lines(&data.0).into_iter().filter(|line| is_opaque(line)) {
                    if sent == MAX_OUTSTANDING {
                        break;
                    }
                    sent += 1;
                    d.client(&line);
                    let end = line.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |last| last + 1);
                    to_server.extend_from_slice(&line[..end]);
                    to_server.extend_from_slice(b"\r\n");
                }
            }
            Step::Bytes { leg: Leg::Server, data, .. } => {
                for line in replies.lines(&data.0).into_iter().filter(|line| !starts_with_command(line)) {
                    d.server(&line);
                    to_client.extend_from_slice(&line);
                }
            }
            _ => {}
        }
    }
    let (client_got, server_got) = (d.sent_raw(Leg::Client), d.sent_raw(Leg::Server));
    assert_eq!(client_got.escape_ascii().to_string(), to_client.escape_ascii().to_string());
    assert_eq!(server_got.escape_ascii().to_string(), to_server.escape_ascii().to_string());
}

/// What came of a stream and has no LF yet.
#[derive(Default)]
struct Unfinished(Vec<u8>);

impl Unfinished {
    fn lines(&mut self, data: &[u8]) -> Vec<Vec<u8>> {
        self.0.extend_from_slice(data);
        let end = self.0.iter().rposition(|b| *b == b'\n').map_or(0, |lf| lf + 1);
        let rest = self.0.split_off(end);
        let whole = std::mem::replace(&mut self.0, rest);
        whole.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
    }
}

/// Whether a command is sent on, and its reply passed on, without a look at what they mean.
fn is_opaque(line: &[u8]) -> bool {
    line.len() <= MAX_LINE
        && CommandLine::new(Bytes::copy_from_slice(line)).is_ok_and(|line| match line.parse() {
            Ok(command) => match command {
                Command::Pasv
                | Command::Epsv(_)
                | Command::Port(_)
                | Command::Eprt(_)
                | Command::LongAddress
                | Command::Auth(_)
                | Command::Pbsz(_)
                | Command::Prot(_)
                | Command::Ccc
                | Command::Sscn
                | Command::Feat => false,
                // Without a data connection they are like any other.
                Command::Transfer { .. }
                | Command::Rest
                | Command::Abor
                | Command::Stat
                | Command::Quit
                | Command::Rein
                | Command::User(_)
                | Command::Pass
                | Command::Acct
                | Command::Mode(_)
                | Command::Type(_)
                | Command::Host(_)
                | Command::Help
                | Command::Algs(_)
                | Command::Noop
                | Command::Other => true,
            },
            Err(_) => false,
        })
}
