//! The program itself: its arguments, output and exit codes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const FTP_ALG: &str = env!("CARGO_BIN_EXE_ftp-alg");

fn ftp_alg(args: &[&str]) -> Command {
    let mut command = Command::new(FTP_ALG);
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A configuration file that lives as long as the test.
struct File {
    path: PathBuf,
    _dir: TempDir,
}

fn file(text: &str) -> File {
    let dir = TempDir::new().expect("a temporary directory");
    let path = dir.path().join("proxy.yaml");
    std::fs::write(&path, text).expect("a file in it");
    File { path, _dir: dir }
}

/// A listener on loopback that announces and resolves nothing but addresses, unless told otherwise.
fn listener(changes: &[(&str, &str)]) -> File {
    let mut text = String::from(
        "listeners:\n  - name: ftp\n    bind: 127.0.0.9:2121\n    upstream: 127.0.0.8:21\n    client:\n      \
         address_map: [{ peers: any, announce: local }]\n      data_ports: 20000-20020\n",
    );
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    file(&text)
}

/// Exit code, standard output and standard error.
fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (status.code(), text(stdout), text(stderr))
}

fn check(file: &File) -> (Option<i32>, String, String) {
    outcome(ftp_alg(&["check", "--config"]).arg(&file.path))
}

mod sessions {
    use super::*;

    #[test]
    fn without_an_admin_interface_there_is_a_remedy() {
        let file = listener(&[]);
        let (code, stdout, stderr) = outcome(ftp_alg(&["sessions", "-c"]).arg(&file.path));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains("has no `admin.bind`; add `admin: { bind: 127.0.0.1:9121 }`"), "{stderr}");
    }

    #[test]
    fn a_proxy_that_does_not_run_is_exit_code_1() {
        let file = listener(&[("listeners:", "admin: { bind: 127.0.0.9:1 }\nlisteners:")]);
        let (code, _, stderr) = outcome(ftp_alg(&["sessions", "kill", "1", "-c"]).arg(&file.path));
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("cannot ask 127.0.0.9:1: Connection refused"), "{stderr}");
        assert_eq!(stderr.matches("Connection refused").count(), 1, "{stderr}");
        let (code, _, stderr) = outcome(&mut ftp_alg(&["sessions", "--admin", "https://127.0.0.9:1"]));
        assert_eq!(code, Some(1), "{stderr}");
    }
}

mod check {
    use super::*;

    #[test]
    fn prints_the_plan_of_the_shipped_example() {
        let (code, stdout, stderr) =
            outcome(ftp_alg(&["check", "-c", "proxy.yaml"]).current_dir(env!("CARGO_MANIFEST_DIR")));
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let range = range.split_whitespace().collect::<Vec<_>>().join("-");
        let plan = include_str!("cli/plan.txt").replace("EPHEMERAL", &range);
        assert_eq!((code, stdout.as_str()), (Some(0), plan.as_str()), "{stderr}");
    }

    #[test]
    fn prints_which_servers_sessions_are_led_to() {
        let upstream = |text: &str| check(&listener(&[("upstream: 127.0.0.8:21", text)])).1;
        let networks = "upstream_networks: [10.0.0.0/8, \"10.0.0.0/8:2100-2199\"]";
        let dialled = upstream(&format!("upstream: original-destination\n    {networks}"));
        let within = "10.0.0.0/8 port 21, 10.0.0.0/8 ports 2100-2199";
        assert!(dialled.contains(&format!("the one that the client has dialled, within {within}\n")), "{dialled}");
        assert!(dialled.contains("connections led here by           nft REDIRECT"), "{dialled}");
        assert!(dialled.contains("out to the FTP server           21, 2100-2199, and its passive ports"), "{dialled}");
        let named = upstream(&format!("upstream: from-user\n    {networks}"));
        assert!(
            named.contains(&format!("the one that the client names (USER user@host), within {within}\n")),
            "{named}"
        );
        let hosts =
            upstream("upstream: 127.0.0.8:21\n    hosts: { a.example: 127.0.0.7:2100, \"[10.0.0.1]\": 10.0.0.1 }");
        assert!(hosts.contains("    for a.example                   127.0.0.7:2100\n"), "{hosts}");
        assert!(hosts.contains("    for 10.0.0.1                    10.0.0.1:21\n"), "{hosts}");
        assert!(hosts.contains("out to the FTP server           21, 2100, and its"), "{hosts}");
        let missing = "upstream: 127.0.0.8:21\n    hosts: { a.example: no.such.name.invalid }";
        let (code, _, errors) = check(&listener(&[("upstream: 127.0.0.8:21", missing)]));
        assert_eq!(code, Some(1));
        assert!(errors.contains("hosts.a.example: cannot resolve `no.such.name.invalid`"), "{errors}");
    }

    #[test]
    fn says_where_the_admin_interface_is_and_who_may_reach_it() {
        let with =
            |bind: &str| check(&listener(&[("listeners:", &format!("admin: {{ bind: \"{bind}\" }}\nlisteners:"))]));
        let (code, plan, stderr) = with("127.0.0.1:9121");
        assert_eq!(code, Some(0), "{stderr}");
        assert!(plan.contains("\nMetrics and live sessions are at http://127.0.0.1:9121"), "{plan}");
        assert!(!stderr.contains("admin.bind"), "{stderr}");
        for bind in ["0.0.0.0:9121", "[::]:9121", "192.0.2.1:9121"] {
            let (code, _, stderr) = with(bind);
            assert_eq!(code, Some(0), "{stderr}");
            assert!(stderr.contains(&format!("warning: admin.bind: {bind} is no loopback address")), "{stderr}");
        }
    }

    #[test]
    fn prints_which_of_several_servers_answer_and_does_not_fail_if_none_does() {
        let silent = std::net::TcpListener::bind("127.0.0.8:0").unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.8:0").unwrap().local_addr().unwrap();
        let good = std::net::TcpListener::bind("127.0.0.8:0").unwrap();
        let at = [closed, silent.local_addr().unwrap(), good.local_addr().unwrap()];
        let server = std::thread::spawn(move || {
            let (mut stream, _) = good.accept().unwrap();
            stream.write_all(b"220 ready\r\n").unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            said
        });
        let servers = format!("upstream: [\"{}\", \"{}\", \"{}\"]", at[0], at[1], at[2]);
        let (code, plan, stderr) = check(&listener(&[("upstream: 127.0.0.8:21", &servers)]));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(
            plan.contains(&format!("FTP server                        the first of {}, {}", at[0], at[1])),
            "{plan}"
        );
        let found = |server: usize, what: &str| {
            let row = format!("    {:32}{what}", at[server].to_string());
            assert!(plan.contains(&row), "no {row:?} in\n{plan}");
        };
        found(0, "does not answer from here: Connection refused");
        found(1, "does not answer from here: it accepted the connection and did not greet in time\n");
        found(2, "answers\n");
        assert_eq!(server.join().unwrap(), "QUIT\r\n");
        let unchecked = servers.replace("upstream: [", "upstream: { health: false, balance: source, servers: [") + " }";
        let (_, plan, _) = check(&listener(&[("upstream: 127.0.0.8:21", &unchecked)]));
        assert!(
            plan.contains(
                "always the same for a client's address\n    checked                         by sessions only\n"
            ),
            "{plan}"
        );
        assert!(!plan.contains("answer from here"), "{plan}");
    }

    #[test]
    fn prints_only_the_ports_that_the_data_mode_needs() {
        let (_, passive, _) = check(&listener(&[("    client:", "    server: { data_mode: passive }\n    client:")]));
        assert!(passive.contains("out to the FTP server           21, and its passive ports (1024-65535"), "{passive}");
        assert!(!passive.contains("in from the FTP server") && !passive.contains("the server is told"), "{passive}");

        let active = "    server: { data_mode: active, data_ports: 30000 }\n    client:";
        let (_, active, _) = check(&listener(&[("    client:", active)]));
        assert!(active.contains("out to the FTP server           21\n"), "{active}");
        assert!(active.contains("in from the FTP server          30000\n"), "{active}");
    }

    #[test]
    fn says_whether_the_transfer_log_can_be_written() {
        let dir = TempDir::new().unwrap();
        let with = |path: &str| {
            let path = dir.path().join(path);
            let log = format!("log: {{ transfers: {} }}\nlisteners:", path.display());
            (check(&listener(&[("listeners:", &log)])), path)
        };
        let ((code, stdout, stderr), path) = with("xferlog");
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains(&format!("Transfer log: {}, which this user may write.", path.display())), "{stdout}");
        assert!(!path.exists(), "to check is not to write");
        std::fs::write(&path, "old\n").unwrap();
        assert_eq!(with("xferlog").0.0, Some(0));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old\n");
        let ((code, _, stderr), path) = with("missing/xferlog");
        assert_eq!(code, Some(1));
        let expected = format!("cannot open the transfer log {}: No such file or directory", path.display());
        assert!(stderr.contains(&expected) && stderr.contains("; create its directory"), "{stderr}");
    }

    /// The kernel of these tests can do all of it.
    #[test]
    fn sec_34_it_says_whether_the_kernel_can_hold_the_process() {
        let can = "Landlock: this kernel can hold the process to its ports and files.\n";
        let (code, plan, stderr) = check(&listener(&[("listeners:", "landlock: true\nlisteners:")]));
        assert!(code == Some(0) && plan.contains(can) && !stderr.contains("landlock"), "{plan}{stderr}");
        let (_, plan, stderr) = check(&listener(&[]));
        assert!(!(plan + &stderr).to_lowercase().contains("landlock"));
    }

    #[test]
    fn the_example_for_egress_is_valid() {
        let (code, plan, stderr) =
            outcome(ftp_alg(&["check", "-c", "deploy/egress/proxy.yaml"]).current_dir(env!("CARGO_MANIFEST_DIR")));
        assert_eq!(code, Some(0), "{plan}{stderr}");
        for line in [
            "    in from clients                 21, 20100-20199\n",
            "    out to the FTP server           21\n",
            "    in from the FTP server          20000-20020\n",
            "  What the server sends to 203.0.113.10, port 20000-20020, has to reach the same port of this machine",
        ] {
            assert!(plan.contains(line), "{line}{plan}");
        }
    }

    #[test]
    fn prints_what_a_server_that_dials_back_needs() {
        let server = "    server: { data_mode: active, data_ports: 30000-30009, address_map: [{ peers: any, announce: \
                      203.0.113.99 }], data_peer: [198.51.100.32/28] }\n    client:";
        let (_, plan, stderr) = check(&listener(&[("    client:", server)]));
        for line in [
            "    in active mode from             the server's own address, and 198.51.100.32/28\n",
            "    any peer                        203.0.113.99, port 30000-30009\n",
            "    in from the FTP server          30000-30009\n",
            "  What the server sends to 203.0.113.99, port 30000-30009, has to reach the same port of this machine: an EIP\n  \
             or 1:1 NAT does it, a NAT gateway needs a DNAT rule for these ports.\n",
            "  10 transfers of all clients together may be waiting for the server to connect; others wait for 15s\n  \
             at most until one of these has begun.\n",
        ] {
            assert!(plan.contains(line), "{line}{plan}{stderr}");
        }
        let (_, plan, _) = check(&listener(&[("    client:", "    server: { data_peer: subnet }\n    client:")]));
        assert!(plan.contains("from             any address of the server's /24 (IPv4) or /64 (IPv6)\n"), "{plan}");
        let (_, plan, _) =
            check(&listener(&[("    client:", "    server: { data_mode: passive, data_peer: subnet }\n    client:")]));
        assert!(!plan.contains("in active mode from"), "{plan}");
    }

    #[test]
    fn says_who_may_make_data_connections_and_how_many_wait() {
        for (rule, whom, capacity) in [
            ("exact", None, "21 transfers per client address may be waiting for their connection at one time;"),
            (
                "subnet",
                Some("any address of the client's /24 (IPv4) or /64 (IPv6)\n"),
                "21 transfers per /24 (IPv4) or /64 (IPv6) may be waiting for their connection at one time;",
            ),
            (
                "any",
                Some("any address; whoever connects first gets the data\n"),
                "21 transfers of all clients together may be waiting for their connection at one time.\n",
            ),
        ] {
            let keys = format!("data_peer: {rule}\n      data_ports:");
            let (_, stdout, stderr) = check(&listener(&[("data_ports:", &keys)]));
            let printed = stdout.split_once("data connections from             ").map(|(_, rest)| rest);
            assert_eq!(printed.is_some(), whom.is_some(), "{rule}: {stdout}{stderr}");
            assert!(printed.zip(whom).is_none_or(|(printed, whom)| printed.starts_with(whom)), "{rule}: {stdout}");
            assert!(stdout.contains(&format!("\n  {capacity}")), "{rule}: {stdout}");
        }
    }

    #[test]
    fn says_who_connects_behind_a_load_balancer() {
        let with = |data: bool| {
            let keys =
                format!("proxy_protocol: {{ trusted: [10.0.0.0/8, 192.0.2.7], data: {data} }}\n      data_ports:");
            check(&listener(&[("announce: local", "announce: 203.0.113.10"), ("data_ports:", &keys)])).1
        };
        let (through, past) = (with(true), with(false));
        for (text, lines) in [
            (
                &through,
                [
                    "load balancers                    10.0.0.0/8, 192.0.2.7/32; nobody else is let in",
                    "PROXY headers (v1, v2)            on control and data connections",
                    "  in from the load balancers      2121, 20000-20020\n    out to clients",
                ],
            ),
            (
                &past,
                [
                    "load balancers connect to         ",
                    "PROXY headers (v1, v2)            on control connections; data connections come from the clients directly",
                    "  in from the load balancers      2121\n    in from clients                 20000-20020\n",
                ],
            ),
        ] {
            for line in lines {
                assert!(text.contains(&format!("\n  {line}")), "{line} is not in\n{text}");
            }
        }
        assert!(past.contains("`policy.deny: EPSV`") && !through.contains("EPSV`"), "{past}");
        assert!(
            through.contains(" has to reach the same ports of this machine through the load balancers.\n"),
            "{through}"
        );
        assert!(past.contains("; its data ports directly, past the load balancers.\n"), "{past}");
    }

    #[test]
    fn prints_the_limits_that_are_set() {
        let (_, plain, _) = check(&listener(&[]));
        assert!(!plain.contains("at most") && !plain.contains("refused"), "{plain}");
        let limits = "    policy: { deny: [SITE EXEC, dele] }\n    limits: { sessions: 500, sessions_per_address: 50, \
                      pending_ports_per_address: 5, line: 2KiB, login_failures: 3, connects_per_second: 7 }\n    client:";
        let (code, stdout, stderr) = check(&listener(&[("    client:", limits)]));
        assert_eq!(code, Some(0), "{stderr}");
        for line in [
            "commands refused                  SITE EXEC, DELE",
            "sessions                          at most 500 at once",
            "sessions of one client address    at most 50 at once",
            "command lines                     at most 2048 bytes",
            "failed logins of one address      slowed down from 3 in ten minutes on, refused from 6",
            "new sessions with the server      at most 7 per second, more wait",
            "5 transfers per client address may be waiting",
        ] {
            assert!(stdout.contains(&format!("\n  {line}")), "{line} is not in\n{stdout}");
        }
    }

    /// Two public addresses, each of both families, on one machine; and one of them that nobody could be told.
    #[test]
    fn says_which_address_is_told_to_whom() {
        let both = "[203.0.113.10, '2001:db8::10']";
        let (code, stdout, stderr) = check(&listener(&[("announce: local", &format!("announce: {both}"))]));
        assert!(code == Some(0) && !stderr.contains("address_map"), "{stderr}");
        for text in [
            "    any peer                        203.0.113.10 or 2001:db8::10, as the connection is IPv4 or IPv6, port 20000-20020\n",
            "  What comes in at 203.0.113.10 or 2001:db8::10 has to reach the same ports of this machine",
        ] {
            assert!(stdout.contains(text), "{text}\n{stdout}");
        }
        let (code, stdout, _) = check(&listener(&[("announce: local", "announce: control-address")]));
        assert_eq!(code, Some(0));
        assert!(stdout.contains("0.0.0.0, which stands for the address of the control connection, port"), "{stdout}");
        let (code, _, stderr) = check(&listener(&[("announce: local", "announce: '2001:db8::10'")]));
        assert_eq!(code, Some(0));
        assert!(
            stderr.contains("warning: listener `ftp`: client.address_map: `2001:db8::10` has no IPv4 address, so PASV"),
            "{stderr}"
        );
    }

    /// Only a warning: the service may have another limit.
    #[test]
    fn rel_13_warns_of_a_limit_on_open_files_that_is_too_low() {
        let check_with = |files: &str, limits| {
            let file = listener(&[("    client:", limits)]);
            let script = "ulimit -n \"$0\" && exec \"$@\"";
            outcome(Command::new("sh").args(["-c", script, files, FTP_ALG, "check", "--config"]).arg(&file.path))
        };
        let (code, stdout, stderr) = check_with("100", "    limits: { sessions: 50 }\n    client:");
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains("is valid"), "{stdout}");
        assert!(stderr.starts_with("warning: `run` would not start here: the limit on open files is 100"), "{stderr}");
        let (code, _, stderr) = check_with("1000", "    client:");
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.starts_with("warning: the limit on open files, 1000, has room for"), "{stderr}");
        let (_, _, stderr) = check_with("1000", "    limits: { sessions: 50 }\n    client:");
        assert_eq!(stderr, "");
    }

    #[test]
    fn says_what_names_are_now() {
        let names =
            [("upstream: 127.0.0.8:21", "upstream: localhost:2122"), ("announce: local", "announce: localhost")];
        let (code, stdout, stderr) = check(&listener(&names));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains("localhost:2122 (now "), "{stdout}");
        assert!(stdout.contains("localhost (now 127.0.0.1"), "{stdout}");
    }

    #[test]
    fn fails_with_1_if_a_name_cannot_be_resolved() {
        // RFC 6761 §6.4: `invalid` never resolves.
        let names = [("127.0.0.8:21", "ftp.invalid"), ("announce: local", "announce: public.invalid")];
        let (code, stdout, stderr) = check(&listener(&names));
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains("listener `ftp`: upstream: cannot resolve `ftp.invalid`: "), "{stderr}");
        assert!(stderr.contains("listener `ftp`: client.address_map: cannot resolve `public.invalid`: "), "{stderr}");
    }

    #[test]
    fn fails_with_2_and_every_error_if_the_file_is_wrong() {
        let wrong = listener(&[("20000-20020", "20020-20000"), ("name:", "nmae:")]);
        let (code, stdout, stderr) = check(&wrong);
        assert_eq!((code, stdout.as_str()), (Some(2), ""));
        assert!(stderr.contains(&format!("{}:2:5", wrong.path.display())), "{stderr}");
        assert!(stderr.ends_with("proxy.yaml: 2 errors\n"), "{stderr}");
    }

    #[test]
    fn fails_with_2_if_there_is_no_file() {
        let (code, _, stderr) = outcome(&mut ftp_alg(&["check", "--config", "/nonexistent/proxy.yaml"]));
        assert_eq!(code, Some(2));
        assert_eq!(stderr, "cannot read /nonexistent/proxy.yaml: No such file or directory (os error 2)\n");
    }
}

mod certificates {
    use super::*;

    /// A listener with TLS, whose pair lies beside it. `not_after` is the year in which it expires.
    fn terminating(tls: &str, not_after: i32) -> File {
        let file = listener(&[("    client:", "    tls:\n    client:")]);
        let folder = file.path.parent().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["ftp.example.com".into(), "203.0.113.10".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "ftp.example.com");
        params.not_after = rcgen::date_time_ymd(not_after, 1, 31);
        std::fs::write(folder.join("own.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(folder.join("own.key"), key.serialize_pem()).unwrap();
        let tls = tls.replace("OWN", &folder.join("own").display().to_string());
        let text = std::fs::read_to_string(&file.path).unwrap().replace("    tls:\n", &format!("    tls: {tls}\n"));
        std::fs::write(&file.path, text).unwrap();
        file
    }

    const TERMINATE: &str = "{ client: { mode: terminate, certificate: OWN.pem, key: OWN.key, require: true } }";

    #[test]
    fn are_shown() {
        let (code, stdout, stderr) = check(&terminating(TERMINATE, 2099));
        assert!(code == Some(0) && !stderr.contains("tls"), "{stderr}");
        assert!(stdout.contains("  TLS with clients                  required (AUTH TLS)\n"), "{stdout}");
        let facts = "CN=ftp.example.com for ftp.example.com, 203.0.113.10, ECDSA P-256, until 2099-01-31, issued by \
                     CN=ftp.example.com\n";
        assert!(stdout.contains(&format!("  certificates                      {facts}")), "{stdout}");
    }

    #[test]
    fn that_expired_are_warned_of() {
        let file = terminating(TERMINATE, 2020);
        let (code, stdout, stderr) = check(&file);
        assert_eq!(code, Some(0), "{stderr}");
        let path = file.path.with_file_name("own.pem");
        let expected = format!(
            "warning: listener `ftp`: tls.client.certificate: the certificate in {} expired on 2020-01-31; renew it\n",
            path.display()
        );
        assert!(stderr.contains(&expected) && stdout.contains("until 2020-01-31"), "{stderr}\n{stdout}");
    }

    #[test]
    fn that_cannot_be_used_are_exit_code_1_each_with_its_key_and_remedy() {
        let wrong = "{ client: { mode: terminate, certificate: OWN.pem, key: OWN.pem, \
                     certificates: [{ certificate: OWN.gone, key: OWN.key }] }, \
                     server: { mode: explicit, verify: OWN.key } }";
        let (code, stdout, stderr) = check(&terminating(wrong, 2099));
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        // Before them, a machine with few descriptors may have been warned of.
        let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("listener ")).collect();
        assert_eq!(lines.len(), 3, "{stderr}");
        assert!(lines[0].starts_with("listener `ftp`: tls.client.key: ") && lines[0].contains("has no private key"));
        assert!(lines[1].starts_with("listener `ftp`: tls.client.certificates[0].certificate: cannot read "));
        assert!(lines[1].ends_with("; write the path of a PEM file that exists"));
        assert!(lines[2].starts_with("listener `ftp`: tls.server.verify: ") && lines[2].contains("has no certificate"));
    }

    #[test]
    fn of_authorities_are_those_of_this_machine() {
        let file = terminating("{ server: { mode: implicit, name: ftp.internal } }", 2099);
        let with = |store: &std::path::Path| {
            outcome(
                ftp_alg(&["check", "--config"]).arg(&file.path).env("SSL_CERT_FILE", store).env_remove("SSL_CERT_DIR"),
            )
        };
        let (code, stdout, stderr) = with(&file.path.with_file_name("own.pem"));
        assert_eq!(code, Some(0), "{stderr}");
        let row = "  TLS with the server               from the first byte, as `ftp.internal` by an authority that this \
                   machine trusts\n";
        assert!(stdout.contains(row), "{stdout}");
        let (code, _, stderr) = with(&file.path.with_file_name("gone.pem"));
        assert_eq!(code, Some(1));
        assert!(stderr.contains("tls.server.verify: this machine has no certificates of authorities"), "{stderr}");
        assert!(stderr.contains("; install the package ca-certificates, or write `verify: ` and a file"), "{stderr}");
    }

    #[test]
    fn that_nobody_checks_are_warned_of() {
        let (code, stdout, stderr) = check(&terminating("{ server: { mode: explicit, verify: none } }", 2099));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("warning: listener `ftp`: tls.server.verify: `none` believes any server"), "{stderr}");
        assert!(stdout.contains("AUTH TLS, whoever it is\n"), "{stdout}");
    }

    #[test]
    fn are_not_needed_to_pass_through() {
        let tls = "{ client: { mode: passthrough, passthrough_ports: 50000-50010 } }";
        let (code, stdout, stderr) = check(&terminating(tls, 2099));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains("  TLS with clients                  theirs and the server's own, passed through\n"));
        assert!(stdout.contains("2121, 20000-20020, and 50000-50010 with TLS\n"), "{stdout}");
    }
}

mod usage {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_package() {
        let expected = concat!("ftp-alg ", env!("CARGO_PKG_VERSION"), "\n").to_string();
        assert_eq!(outcome(&mut ftp_alg(&["--version"])), (Some(0), expected, String::new()));
    }

    #[test]
    fn help_names_the_default_file_and_the_exit_codes() {
        let (code, stdout, _) = outcome(&mut ftp_alg(&["check", "--help"]));
        assert_eq!(code, Some(0));
        assert!(stdout.contains("/etc/ftp-alg/proxy.yaml") && stdout.contains("Exit codes:"), "{stdout}");
    }

    #[test]
    fn wrong_arguments_are_exit_code_2() {
        for args in [&[][..], &["serve"], &["run", "--log-format", "xml"], &["run", "--log-level", "a=b=c"]] {
            assert_eq!(outcome(&mut ftp_alg(args)).0, Some(2), "{args:?}");
        }
        let (code, _, stderr) = outcome(ftp_alg(&["run"]).env("RUST_LOG", "a=b=c"));
        assert_eq!(code, Some(2));
        assert!(stderr.starts_with("`a=b=c` does not say what to log; write RUST_LOG=info"), "{stderr}");
    }
}

mod run {
    use super::*;

    #[test]
    fn a_wrong_file_is_exit_code_2() {
        let wrong = listener(&[("name:", "nmae:")]);
        let (code, stdout, stderr) = outcome(ftp_alg(&["run", "--config"]).arg(&wrong.path));
        assert_eq!((code, stdout.as_str()), (Some(2), ""));
        assert!(stderr.contains("listeners[0].nmae: unknown key"), "{stderr}");
    }

    #[test]
    fn it_logs_json_to_stderr_and_ends_with_0_on_sigterm() {
        let config = listener(&[]);
        let mut child = ftp_alg(&["run", "--log-format", "json", "--config"])
            .arg(&config.path)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // Signals end it in good order as soon as it serves.
        while let Some(line) = lines.next().map(Result::unwrap) {
            assert!(line.starts_with("{\"timestamp\":") && line.ends_with('}'), "{line}");
            if line.contains("\"message\":\"serving\"") {
                break;
            }
        }
        let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
