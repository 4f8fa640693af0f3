//! What the sections for the whole process may say, and what is said about everything else.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;

use ftp_alg::config::Config;

/// A valid file, but for these lines at its beginning.
fn with(section: &str) -> String {
    format!(
        "{section}\nlisteners:\n  - bind: 192.0.2.1:21\n    upstream: 172.16.0.20\n    client:\n      address_map: \
         [{{ peers: any, announce: local }}]\n      data_ports: 20000-20020\n"
    )
}

fn read(section: &str) -> Config {
    Config::parse(&with(section), "f").unwrap_or_else(|e| panic!("{e}"))
}

/// The errors of a section, one a line: `line path: what; help`.
fn errors(section: &str) -> Vec<String> {
    let errors = Config::parse(&with(section), "proxy.yaml").expect_err("this configuration is wrong");
    errors.list().iter().map(|e| format!("{} {}: {}; {}", e.line, e.path, e.what, e.help)).collect()
}

#[test]
fn a_transfer_log_has_a_whole_path() {
    let path = |section: &str| read(section).log.transfers;
    assert_eq!(
        path("log: { transfers: /var/log/ftp-alg/xferlog }").as_deref(),
        Some(Path::new("/var/log/ftp-alg/xferlog"))
    );
    assert_eq!(path("log:"), None);
    assert_eq!(path("log: {}"), None);
    assert_eq!(path(""), None);
    let example = "write the whole path of a file, like `/var/log/ftp-alg/xferlog`";
    for (value, what) in
        [("xferlog", "`xferlog` is not an absolute path"), ("/var/log/ftp-alg/", "`/var/log/ftp-alg/` is a directory")]
    {
        assert_eq!(errors(&format!("log: {{ transfers: {value} }}")), [format!("1 log.transfers: {what}; {example}")]);
    }
    assert_eq!(errors("log: { transfer: /x }"), ["1 log.transfer: unknown key; write `transfers`"]);
    assert!(errors("log: /var/log/xferlog")[0].starts_with("1 log: "), "{:?}", errors("log: /x"));
}

#[test]
fn sec_34_landlock_is_wanted_or_not() {
    assert!(read("landlock: true").landlock);
    for without in ["", "landlock:", "landlock: false"] {
        assert!(!read(without).landlock, "{without}");
    }
    assert_eq!(errors("landlock: on"), ["1 landlock: `on` is neither true nor false; write `true` or `false`"]);
    assert_eq!(errors("landlok: true"), ["1 landlok: unknown key; write `landlock`"]);
    assert!(errors("landlock: [true]")[0].starts_with("1 landlock: "), "{:?}", errors("landlock: [true]"));
}

#[test]
fn sec_32_a_user_is_a_name_and_not_root() {
    assert_eq!(read("user: ftp-alg").user.as_deref(), Some("ftp-alg"));
    assert_eq!(read("user: _ftp.alg2").user.as_deref(), Some("_ftp.alg2"));
    assert_eq!(read("user:").user, None);
    let example = "write the name of a user without privileges, like `ftp-alg`";
    assert_eq!(errors("user: root"), [format!("1 user: to become root gives up nothing; {example}")]);
    for user in ["0", "1000", "-x", "a b", "a:b", "../x"] {
        let expected = format!("1 user: `{user}` is not the name of a user; {example}");
        assert_eq!(errors(&format!("user: \"{user}\"")), [expected]);
    }
}
