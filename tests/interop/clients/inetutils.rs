//! The classic `ftp`, of GNU inetutils: commands on its standard input. Called by its own name: `ftp` is whichever
//! client has been installed last.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{CommandLine, Mode, Step, Task, Verb, quoted};
use crate::matrix::PARTIAL;

pub fn arguments(task: &Task<'_>) -> CommandLine {
    let Mode { verb, ipv6, .. } = task.mode;
    let mut script = format!("user {} {}\nbinary\n", task.login.0, task.login.1).into_bytes();
    if matches!(verb, Verb::Epsv | Verb::Eprt) && !ipv6 {
        script.extend(b"epsv4\n");
    }
    for step in task.steps {
        let (verb, from, to): (&[u8], _, _) = match step {
            Step::Put { local, remote } => (b"put ", quoted(local), quoted(&task.remote(remote))),
            Step::ResumePut { local, remote } => {
                // Nothing finds out how much is there already: the user says it.
                script.extend(format!("restart {PARTIAL}\n").into_bytes());
                (b"put ", quoted(local), quoted(&task.remote(remote)))
            }
            Step::Get { remote, local } => (b"get ", quoted(&task.remote(remote)), quoted(local)),
            Step::ResumeGet { remote, local } => (b"reget ", quoted(&task.remote(remote)), quoted(local)),
            Step::List { remote, local } => (b"ls ", quoted(&task.remote(remote)), quoted(local)),
        };
        script.extend([verb, &from, b" ", &to, b"\n"].concat());
    }
    script.extend(b"quit\n");
    // -n: no ~/.netrc, -i: no questions, -v -d: show replies and commands; -A, -p: active, passive.
    let flags = if task.mode.is_passive() { "-nivdp" } else { "-nivdA" };
    let pipe = r#"printf %s "$1" | exec inetutils-ftp "$2" "$3""#;
    let mut line: CommandLine = ["sh", "-c", pipe, "sh"].map(OsString::from).to_vec();
    line.extend([OsString::from_vec(script), flags.into(), task.mode.address().into()]);
    line
}
