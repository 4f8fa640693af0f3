//! lftp: a script in its own language.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{CommandLine, Mode, Step, Task, Tls, Verb, quoted};

pub fn arguments(task: &Task<'_>) -> CommandLine {
    let Mode { verb, .. } = task.mode;
    let mut script = format!(
        "debug -T 9; set cmd:fail-exit yes; set net:timeout {}; set net:max-retries 1;\n\
         set ftp:use-utf8 no; {}\n\
         set ftp:sync-mode {}; set ftp:fix-pasv-address no; set ftp:passive-mode {}; set ftp:prefer-epsv {};\n\
         open -u {},{} {};\n",
        task.patience,
        task.tls.map_or("set ftp:ssl-allow no;".to_owned(), tls_settings),
        // Without it lftp does not wait for replies before it sends more commands: half of its modes are pipelined.
        !task.mode.ipv6,
        task.mode.is_passive(),
        verb == Verb::Epsv,
        task.login.0,
        task.login.1,
        task.url(),
    )
    .into_bytes();
    for step in task.steps {
        let words: [&[u8]; 4] = match step {
            Step::Put { local, remote } => [b"put ", &quoted(local), b" -o ", &quoted(&task.remote(remote))],
            Step::ResumePut { local, remote } => [b"put -c ", &quoted(local), b" -o ", &quoted(&task.remote(remote))],
            Step::Get { remote, local } => [b"get ", &quoted(&task.remote(remote)), b" -o ", &quoted(local)],
            Step::ResumeGet { remote, local } => [b"get -c ", &quoted(&task.remote(remote)), b" -o ", &quoted(local)],
            Step::List { remote, local } => [b"ls ", &quoted(&task.remote(remote)), b" > ", &quoted(local)],
        };
        script.extend(words.concat());
        script.extend(b";\n");
    }
    ["lftp", "--norc", "-c"].map(OsString::from).into_iter().chain([OsString::from_vec(script)]).collect()
}

fn tls_settings(tls: Tls) -> String {
    format!(
        "set ftp:ssl-force yes; set ftp:ssl-protect-data yes; set ssl:verify-certificate no; \
         set ssl:priority NORMAL:-VERS-ALL:+VERS-TLS{};",
        tls.version
    )
}
