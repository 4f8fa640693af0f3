//! FTPS: real clients and real servers that speak TLS, or do not, on either side of the proxy.

use std::fs;
use std::time::Duration;

use crate::certificate;
use crate::clients::{Kind as Client, Mode, PYTHON, Tls, Version};
use crate::matrix::{Cell, difference, run_cells};
use crate::net::{EIP, Host, Net, PROXY};
use crate::process::{Daemon, Outcome, bounded};
use crate::proxy;
use crate::servers::{Kind, Security, Server, make_writable_dir, place};

/// For one script; many times what it takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Each client in a passive and in an active mode; but for curl 7.88, which has no TLS in active mode that works ("sa_addr
/// inet_ntop() failed", without a proxy as well).
const MODES: [(Client, Mode); 6] = [
    (Client::Lftp, Mode::PASV),
    (Client::Lftp, Mode::PORT),
    (Client::Curl, Mode::EPSV),
    (Client::Curl, Mode::PASV),
    (Client::Ftplib, Mode::PASV),
    (Client::Ftplib, Mode::PORT),
];

/// The server gains TLS.
#[test]
fn rfc_13_clients_with_tls_before_a_server_without() {
    let net = Net::new(PROXY);
    let server = Server::start(&net, Kind::Vsftpd);
    let proxy = proxy::with_tls(&net, proxy::Tls { client: "require: true", server: "" });
    let mut cells = Vec::new();
    for (client, mode) in MODES {
        for version in Version::BOTH {
            cells.extend([false, true].map(|implicit| Cell { client, mode, tls: Some(Tls { implicit, version }) }));
        }
    }
    run_cells(&net, &server, &proxy, &cells, 24);
}

/// TLS on both legs with each client, and on the server's alone.
fn with_tls_towards(kind: Kind, security: Security, tls: &str) {
    let net = Net::new(PROXY);
    let server = Server::start_with(&net, kind, security);
    let proxy = proxy::with_tls(&net, proxy::Tls { client: "", server: tls });
    let mut cells = vec![Cell::plain(Client::Curl, Mode::PASV)];
    for (number, (client, mode)) in MODES.into_iter().enumerate() {
        // Each client with either version, which is none of the server's business.
        let version = Version::BOTH[number % 2];
        cells.push(Cell { client, mode, tls: Some(Tls { implicit: false, version }) });
    }
    run_cells(&net, &server, &proxy, &cells, 7);
}

#[test]
fn sec_19_vsftpd_requires_reuse() {
    with_tls_towards(Kind::Vsftpd, Security::Explicit, "mode: explicit");
}

#[test]
fn sec_19_vsftpd_requires_reuse_tls_1_3() {
    with_tls_towards(Kind::Vsftpd, Security::Explicit, "mode: explicit, max_version: 1.3");
}

#[test]
fn sec_19_vsftpd_requires_reuse_implicit() {
    with_tls_towards(Kind::Vsftpd, Security::Implicit, "mode: implicit");
}

#[test]
fn sec_19_proftpd_requires_reuse() {
    with_tls_towards(Kind::ProFtpd, Security::Explicit, "mode: explicit");
}

#[test]
fn rfc_13_pure_ftpd() {
    with_tls_towards(Kind::PureFtpd, Security::Explicit, "mode: explicit, max_version: 1.3");
}

/// It may close an empty download without close_notify.
#[test]
fn rfc_13_pyftpdlib() {
    with_tls_towards(Kind::Pyftpdlib, Security::Explicit, "mode: explicit, lenient: true");
}

/// A server, the proxy before it, and scripts that drive them.
struct Scene {
    net: Net,
    server: Server,
    proxy: Daemon,
}

impl Scene {
    fn new(kind: Kind, security: Security, tls: proxy::Tls<'_>) -> Self {
        Self::configured(kind, security, "", tls)
    }

    fn configured(kind: Kind, security: Security, more: &str, tls: proxy::Tls<'_>) -> Self {
        let net = Net::new(PROXY);
        let server = Server::start_configured(&net, kind, security, more, &[]);
        make_writable_dir(&server.root().join("dir"));
        let proxy = proxy::with_tls(&net, tls);
        Self { net, server, proxy }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Outcome {
        let mut command = self.net.command(Host::Client, program);
        bounded(command.args(arguments).current_dir(self.net.scratch()), LIMIT)
    }

    /// tls/session.py.
    fn session(&self, what: &str, version: Version, address: &str) -> Outcome {
        let (user, password) = self.server.login();
        let version = version.to_string();
        self.run(PYTHON, &["-c", include_str!("tls/session.py"), what, address, user, password, &version])
    }

    fn fail(&self, what: &str, outcome: &Outcome) -> ! {
        let (transcript, proxy, server) = (&outcome.transcript, self.proxy.said(), self.server.log());
        panic!("{what}:\n{transcript}\n=== log of the proxy\n{proxy}\n=== log of the server\n{server}");
    }
}

/// A hundred data connections of one session, half of them uploads, each of which has to resume the session: on the
/// client's leg by our rule, on the server's by its own.
#[test]
fn sec_19_fifty_transfers_each_way_in_one_session() {
    for (kind, server) in [
        (Kind::Vsftpd, "mode: explicit"),
        (Kind::Vsftpd, "mode: explicit, max_version: 1.3"),
        (Kind::ProFtpd, "mode: explicit"),
    ] {
        let scene = Scene::new(kind, Security::Explicit, proxy::Tls { client: "require_reuse: true", server });
        for version in Version::BOTH {
            let outcome = scene.session("fifty", version, EIP);
            let complete = scene.proxy.said().matches("outcome=complete").count();
            if !outcome.success || complete != if version == Version::V1_2 { 100 } else { 200 } {
                scene.fail(&format!("{complete} complete with {kind}, TLS {version}, {server}"), &outcome);
            }
        }
    }
}

/// ProFTPD 1.3.8 with TLS 1.3 gives two tickets at the login, one more for each download that resumes, and none for an
/// upload: it suppresses them there, since a client that only writes may close with them unread (its issue 959). So a
/// session has two uploads, and nothing can bring it more; what is left is to say so.
#[test]
fn sec_19_out_of_tickets_is_said_and_not_got_round() {
    let tls = proxy::Tls { client: "", server: "mode: explicit, max_version: 1.3" };
    let scene = Scene::configured(Kind::ProFtpd, Security::Explicit, "TLSOptions EnableDiags\n", tls);
    place(&scene.server.root().join("dir/file"), b"text");
    let outcome = scene.session("uploads", Version::V1_3, EIP);
    // Its own words: nobody knows better why its TLS came to nothing.
    let out = "425 Unable to build data connection: Operation not permitted";
    let expected: String = [("download", "226"); 4]
        .into_iter()
        .chain([("upload", "226"), ("upload", "226"), ("upload", out), ("upload", out), ("download", out)])
        .map(|(what, reply)| format!("{what} {reply}\n"))
        .collect();
    let tickets = scene.server.log().matches("sent TLSv1.3 'NewSessionTicket'").count();
    let named = scene.proxy.said().matches("write `tls.server.max_version: 1.2`").count();
    if outcome.transcript != expected || tickets != 2 + 4 || named != 3 {
        scene.fail(&format!("{tickets} tickets, the setting was named {named} times"), &outcome);
    }
}

/// PROT is each leg's own: the client's data in the clear, the server's not.
#[test]
fn rfc_13_prot_c_before_a_server_that_insists_on_p() {
    let tls = proxy::Tls { client: "", server: "mode: explicit" };
    let scene = Scene::new(Kind::ProFtpd, Security::Explicit, tls);
    let outcome = scene.session("clear-data", Version::V1_3, EIP);
    if !outcome.success {
        scene.fail("PROT C", &outcome);
    }
}

#[test]
fn sec_18_a_data_connection_that_does_not_resume_is_522() {
    let scene = Scene::new(Kind::Vsftpd, Security::Plain, proxy::Tls { client: "require_reuse: true", server: "" });
    for version in Version::BOTH {
        let outcome = scene.session("stranger", version, EIP);
        if !outcome.transcript.contains("reply 522") {
            scene.fail("a stranger's data connection", &outcome);
        }
    }
    assert!(scene.proxy.said().contains("outcome=no TLS with the client"), "{}", scene.proxy.said());
}

#[test]
fn rel_03_an_upload_without_close_notify_is_no_success() {
    let scene = Scene::new(Kind::Vsftpd, Security::Plain, proxy::Tls { client: "", server: "" });
    for version in Version::BOTH {
        let outcome = scene.session("cut", version, EIP);
        if !outcome.transcript.contains("reply 426") {
            scene.fail("an upload that was cut", &outcome);
        }
    }
    assert_eq!(scene.server.log().matches("FAIL UPLOAD").count(), 2, "{}", scene.server.log());
    assert!(!scene.server.log().contains("OK UPLOAD"), "{}", scene.server.log());
}

#[test]
fn rfc_12_auth_ends_the_login() {
    let scene = Scene::new(Kind::Vsftpd, Security::Plain, proxy::Tls { client: "", server: "" });
    let outcome = scene.session("relogin", Version::V1_3, EIP);
    if !outcome.success {
        scene.fail("AUTH after a login", &outcome);
    }
}

/// curl leaves TLS in either way that there is: `passive`, its default, reads our close_notify and goes on in clear without
/// one of its own; `active` sends one first. Up and down again, so that the second session is one like the first.
#[test]
fn rfc_14_curl_goes_back_to_plain_text() {
    let scene = Scene::new(Kind::Vsftpd, Security::Plain, proxy::Tls { client: "allow_ccc: true", server: "" });
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    place(&scene.net.scratch().join("up"), &content);
    let (user, password) = scene.server.login();
    let (login, remote) = (format!("{user}:{password}"), format!("ftp://{EIP}/dir/file"));
    for how in ["passive", "active"] {
        for version in Version::BOTH.map(|version| version.to_string()) {
            for transfer in [["-T", "up"], ["-o", "down"]] {
                let mut arguments = vec!["-v", "-sS", "--max-time", "20", "--user", &login, "--ssl-reqd", "--insecure"];
                arguments.extend(["--tls-max", &version, "--ftp-ssl-ccc", "--ftp-ssl-ccc-mode", how]);
                arguments.extend(transfer);
                arguments.push(&remote);
                let outcome = scene.run("curl", &arguments);
                if !outcome.success || !outcome.transcript.contains("< 200 The control connection is clear") {
                    scene.fail(&format!("{how}, TLS {version}, {transfer:?}"), &outcome);
                }
            }
            assert_eq!(difference(&scene.net.scratch().join("down"), &content), None, "{how}, TLS {version}");
            fs::remove_file(scene.server.root().join("dir/file")).unwrap();
        }
    }
}

/// Python sends its close_notify when it has the reply, and waits for ours.
#[test]
fn rfc_14_ftplib_goes_back_to_plain_text() {
    let scene = Scene::new(Kind::Vsftpd, Security::Plain, proxy::Tls { client: "allow_ccc: true", server: "" });
    for version in Version::BOTH {
        let outcome = scene.session("ccc", version, EIP);
        if !outcome.success {
            scene.fail(&format!("CCC, TLS {version}"), &outcome);
        }
    }
}

#[test]
fn sec_21_a_server_that_is_somebody_else_is_not_spoken_to() {
    let net = Net::new(PROXY);
    let server = Server::start_with(&net, Kind::Vsftpd, Security::Explicit);
    let others = net.scratch().join("others");
    fs::create_dir(&others).unwrap();
    certificate::write_another(&others);
    let believed = format!("mode: explicit, verify: {}", others.join("cert.pem").display());
    let proxy = proxy::with_tls(&net, proxy::Tls { client: "", server: &believed });
    let mut curl = net.command(Host::Client, "curl");
    curl.args(["-v", "-sS", "--max-time", "30", "--user", "anonymous:secret", &format!("ftp://{EIP}/")]);
    let outcome = bounded(&curl, LIMIT);
    let said = outcome.transcript.contains("< 421 ") && !outcome.transcript.contains("secret");
    assert!(said && !server.log().contains("LOGIN"), "{}\n{}", outcome.transcript, proxy.said());
    assert!(proxy.said().contains("outcome=no TLS with the server"), "{}", proxy.said());
}

/// OpenSSL alone: a script says the commands, `-sess_in` is what resumes.
#[test]
fn sec_18_openssl_s_client_resumes() {
    let scene = Scene::new(Kind::Vsftpd, Security::Plain, proxy::Tls { client: "require_reuse: true", server: "" });
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_be_bytes).collect();
    place(&scene.server.root().join("dir/file"), &content);
    for version in ["-tls1_2", "-tls1_3"] {
        let (user, password) = scene.server.login();
        let script = include_str!("tls/s_client.sh");
        let outcome = scene.run("bash", &["-c", script, "s_client", EIP, user, password, version]);
        let wrong = difference(&scene.net.scratch().join("file"), &content);
        if !outcome.success || wrong.is_some() {
            scene.fail(&format!("{version}: {wrong:?}"), &outcome);
        }
        fs::remove_file(scene.net.scratch().join("file")).unwrap();
    }
}

/// `no_application_protocol` is alert 120 (RFC 7301 §3.2).
#[test]
fn sec_17_a_browser_is_refused() {
    let scene = Scene::new(Kind::Vsftpd, Security::Plain, proxy::Tls { client: "", server: "" });
    let connect = |port: u16, alpn: &str| {
        let mut arguments = vec!["s_client", "-brief", "-alpn", alpn];
        arguments.extend(if port == 21 { vec!["-starttls", "ftp"] } else { vec![] });
        let address = format!("{EIP}:{port}");
        scene.run("openssl", &[arguments, vec!["-connect", &address]].concat())
    };
    for port in [21, 990] {
        for alpn in ["h2", "http/1.1"] {
            let refused = connect(port, alpn);
            if refused.success || !refused.transcript.contains("alert number 120") {
                scene.fail(&format!("{alpn} on {port}"), &refused);
            }
        }
        let taken = connect(port, "x-filezilla-ftp,ftp");
        if !taken.success || !taken.transcript.contains("CONNECTION ESTABLISHED") {
            scene.fail(&format!("ftp on {port}"), &taken);
        }
    }
}

/// The files are replaced under the running program, twice: by a good pair, then by a certificate without its key.
#[test]
fn rfc_15_sessions_keep_their_certificate_when_it_is_renewed() {
    let tls = proxy::Tls { client: "require_reuse: true", server: "" };
    let scene = Scene::new(Kind::Vsftpd, Security::Plain, tls);
    let dir = scene.net.scratch();
    for name in ["second", "third"] {
        fs::create_dir(dir.join(name)).unwrap();
        certificate::write_another(&dir.join(name));
    }
    let (user, password) = scene.server.login();
    let mut python = scene.net.command(Host::Client, PYTHON);
    python.args(["-c", include_str!("tls/renewal.py"), EIP, user, password]).arg(dir).arg(dir.join("proxy.log"));
    let outcome = bounded(&python, 5 * LIMIT);
    let said = scene.proxy.said();
    if !outcome.success || !said.contains("certificates were read again and are in use for new sessions") {
        scene.fail("a renewed certificate", &outcome);
    }
    let warned = said.lines().any(|line| line.contains("WARN") && line.contains("is not that of the certificate"));
    assert!(warned, "{said}");
}
