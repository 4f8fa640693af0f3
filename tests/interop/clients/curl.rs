//! curl: one process and one control connection for all steps, joined with `--next`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{CommandLine, Step, Task, Verb};

pub fn arguments(task: &Task<'_>) -> CommandLine {
    let mut line: CommandLine = vec!["curl".into(), "--fail-early".into()];
    for (index, step) in task.steps.iter().enumerate() {
        if index > 0 {
            line.push("--next".into());
        }
        line.extend(["-v", "-sS", "--user"].map(OsString::from));
        line.push(format!("{}:{}", task.login.0, task.login.1).into());
        line.extend(["--connect-timeout".into(), task.patience.to_string().into()]);
        if let Some(tls) = task.tls {
            line.extend(["--ssl-reqd", "--insecure"].map(OsString::from));
            let version = tls.version.to_string();
            line.extend([format!("--tlsv{version}"), "--tls-max".to_owned(), version].map(OsString::from));
        }
        line.extend(mode(task.mode.verb).iter().map(OsString::from));
        let (flags, local, remote): (&[&str], _, _) = match *step {
            Step::Put { local, remote } => (&["-T"], local, url(task, remote)),
            Step::ResumePut { local, remote } => (&["-C", "-", "-T"], local, url(task, remote)),
            Step::Get { remote, local } => (&["-o"], local, url(task, remote)),
            Step::ResumeGet { remote, local } => (&["-C", "-", "-o"], local, url(task, remote)),
            Step::List { remote, local } => (&["-o"], local, url(task, remote) + "/"),
        };
        line.extend(flags.iter().map(OsString::from));
        line.extend([OsString::from_vec(local.to_vec()), remote.into()]);
    }
    line
}

fn mode(verb: Verb) -> &'static [&'static str] {
    match verb {
        Verb::Pasv => &["--disable-epsv", "--no-ftp-skip-pasv-ip"],
        // Falls back to PASV when EPSV fails; the transcript shows it.
        Verb::Epsv => &["--no-ftp-skip-pasv-ip"],
        Verb::Port => &["--ftp-port", "-", "--disable-eprt"],
        Verb::Eprt => &["--ftp-port", "-"],
    }
}

fn url(task: &Task<'_>, name: &[u8]) -> String {
    let path: String = task.remote(name).iter().map(|&byte| escaped(byte)).collect();
    format!("{}/{path}", task.url())
}

/// RFC 3986 §2.1, for all but the plainest bytes.
fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"/.-".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}
