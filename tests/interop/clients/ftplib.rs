//! Python's ftplib: the steps are arguments of a small script.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{CommandLine, Step, Task};

/// How Debian's Python is called; the tests install no other.
pub const PYTHON: &str = "/usr/bin/python3";

pub fn arguments(task: &Task<'_>) -> CommandLine {
    let mode = if task.mode.is_passive() { "passive" } else { "active" };
    let mut line: CommandLine = [PYTHON, "-c", include_str!("ftplib.py"), task.mode.address(), mode]
        .into_iter()
        .chain([task.login.0, task.login.1, &task.patience.to_string(), &tls(task)])
        .map(OsString::from)
        .collect();
    for step in task.steps {
        let (verb, local, remote) = match step {
            Step::Put { local, remote } => ("put", local, remote),
            Step::Get { local, remote } => ("get", local, remote),
            Step::ResumePut { local, remote } => ("resume-put", local, remote),
            Step::ResumeGet { local, remote } => ("resume-get", local, remote),
            Step::List { local, remote } => ("list", local, remote),
        };
        line.extend([verb.into(), OsString::from_vec(local.to_vec()), OsString::from_vec(task.remote(remote))]);
    }
    line
}

/// As the script takes it.
fn tls(task: &Task<'_>) -> String {
    let how = |implicit| if implicit { "implicit" } else { "explicit" };
    task.tls.map_or("plain".to_owned(), |tls| format!("{}-{}", how(tls.implicit), tls.version))
}
