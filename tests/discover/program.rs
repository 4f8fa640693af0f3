//! The program itself: what `check` shows, how `run` ends without an address, and which way the requests go.

use std::process::{Command, Output, Stdio};

use crate::PUBLIC;
use crate::metadata::{Metadata, Reply};

const FTP_ALG: &str = env!("CARGO_BIN_EXE_ftp-alg");

/// Exit code, standard output and standard error.
fn outcome(command: &str, discovery: &str, variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let yaml = format!(
        "listeners:\n  - name: ftp\n    bind: 127.0.0.9:2129\n    upstream: 127.0.0.8:21\n    client:\n      \
         address_map:\n        - {{ peers: 10.0.0.0/8, announce: local }}\n        - {{ peers: any, announce: auto }}\n      \
         data_ports: 20000-20020\n{discovery}"
    );
    std::fs::write(&file, yaml).unwrap();
    let mut program = Command::new(FTP_ALG);
    program.args([command, "--config"]).arg(file.path()).env("RUST_LOG", "info").stdin(Stdio::null());
    let Output { status, stdout, stderr } = program.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn discovery(service: &Metadata) -> String {
    format!("discovery: {{ provider: aliyun, endpoint: \"{}\" }}\n", service.url())
}

#[test]
fn check_shows_the_address_and_who_gave_it() {
    let service = Metadata::new(|_| Reply::text(PUBLIC));
    let (code, stdout, stderr) = outcome("check", &discovery(&service), &[]);
    assert_eq!(code, Some(0), "{stderr}");
    let url = service.url();
    let told = format!(
        "    any other peer                  203.0.113.10 (Alibaba Cloud, {url}/latest/meta-data/eipv4), port 20000-20020\n"
    );
    assert!(stdout.contains(&told), "{stdout}");
    assert!(stdout.contains("What comes in at 203.0.113.10 has to reach"), "{stdout}");
}

#[test]
fn without_an_address_both_commands_end_with_what_was_tried() {
    let service = Metadata::new(|_| Reply::status(404));
    for command in ["check", "run"] {
        let (code, stdout, stderr) = outcome(command, &discovery(&service), &[]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        for part in [
            "cannot find the public address for `announce: auto`; Alibaba Cloud was asked\n",
            &format!("GET {}/latest/meta-data/eipv4: no address there (404 Not Found)\n", service.url()),
            "bind an EIP",
            "in place of `auto`\n",
        ] {
            assert!(stderr.contains(part), "{command}: {part} is not in\n{stderr}");
        }
    }
}

/// Many machines have these set for their package manager; metadata behind a proxy is that of another machine.
#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let service = Metadata::new(|_| Reply::text(PUBLIC));
    let trap = Metadata::new(|_| Reply::text("203.0.113.66"));
    let url = trap.url();
    let names = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"];
    let variables: Vec<(&str, &str)> = names.iter().map(|name| (*name, url.as_str())).collect();
    let (code, stdout, stderr) = outcome("check", &discovery(&service), &variables);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("203.0.113.10 (Alibaba Cloud"), "{stdout}");
    assert!(trap.seen().is_empty(), "{:?}", trap.seen());
}
