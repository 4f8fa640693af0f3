//! TLS between a fake client and the real binary, and what a fake server sees of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::admin::Admin;
use crate::support::kernel;
use crate::support::scene::{Scene, Session, Setup};
use crate::support::transcript::Transcript;
use crate::support::wire::{Door, End, Wire};

const NAME: &str = "ftp.example";

/// A proxy at which TLS ends.
struct Secure {
    scene: Scene,
    client: Arc<ClientConfig>,
    files: tempfile::TempDir,
}

impl Secure {
    /// `more`: further keys of `tls.client`.
    fn start(more: &str) -> Self {
        let (scene, client, files) = Self::start_by(more, Scene::start);
        Self { scene, client, files }
    }

    /// With whatever starts a proxy like that.
    fn start_by<T>(more: &str, start: impl FnOnce(Setup) -> T) -> (T, Arc<ClientConfig>, tempfile::TempDir) {
        let files = tempfile::tempdir().unwrap();
        let certificate = renewed(files.path());
        let path = |name: &str| files.path().join(name).display().to_string();
        let client = trusting(certificate);
        let (certificate, key) = (path("cert.pem"), path("key.pem"));
        let more = format!(
            "tls:\n  client: {{ mode: terminate, certificate: {certificate}, key: {key}, {more} }}\ntimeouts: {{ close: 1s }}"
        );
        (start(Setup { more: more.leak(), ..Setup::default() }), client, files)
    }

    /// Within TLS from here on, as the client.
    fn shake_hands(&self, wire: Wire) -> Tls {
        let connection = ClientConnection::new(Arc::clone(&self.client), NAME.try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(connection, wire.into_stream());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        Tls(BufReader::new(stream))
    }
}

/// Writes another key and certificate.
fn renewed(files: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.into()]).unwrap();
    std::fs::write(files.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(files.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// A client's connection within TLS.
struct Tls(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Tls {
    fn send(&mut self, bytes: &str) {
        let stream = self.0.get_mut();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream.flush().unwrap();
    }

    #[track_caller]
    fn line_starting(&mut self, start: &str) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(line.starts_with(start), "wanted {start}, got {line}");
        line
    }

    /// FIN, and no close_notify before it.
    fn cut(&self) {
        self.0.get_ref().sock.shutdown(Shutdown::Write).unwrap();
    }
}

/// The server's connection ends, and it has heard nothing but `heard`.
#[track_caller]
fn ends_without_a_word(server: &mut Wire) {
    let (heard, _) = server.rest();
    assert!(heard.is_empty(), "the server heard {:?}", heard.escape_ascii().to_string());
}

#[test]
fn the_version_is_counted_and_shown() {
    let (admin, client, files) = Secure::start_by("", Admin::start);
    let Admin { scene, .. } = &admin;
    let mut clear = scene.greeted(scene.net.client());
    admin.session_is(|one| one["tls_client"].is_null());
    clear.client.send("AUTH TLS\r\n");
    clear.client.line_starting("234 ");
    clear.client.send("USER mallory\r\nPASS secret\r\n");
    clear.client.rest();
    drop(clear);
    admin.counts(&[
        ("ftp_alg_active_sessions", 0.0),
        ("ftp_alg_tls_handshake_failures_total{leg=\"client\"}", 1.0),
        ("ftp_alg_tls_handshakes_total{leg=\"client\",version=\"TLSv1.3\"}", 0.0),
    ]);
    let mut wire = scene.greeted(scene.net.client());
    wire.client.send("AUTH TLS\r\n");
    wire.client.line_starting("234 ");
    let connection = ClientConnection::new(client, NAME.try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, wire.client.into_stream());
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    let seen = admin.session_is(|one| one["tls_client"] == "TLSv1.3");
    assert!(seen["tls_server"].is_null(), "{seen}");
    admin.counts(&[
        ("ftp_alg_tls_handshakes_total{leg=\"client\",version=\"TLSv1.3\"}", 1.0),
        ("ftp_alg_tls_handshakes_total{leg=\"server\",version=\"TLSv1.3\"}", 0.0),
    ]);
    drop((stream, files));
}

/// CVE-2011-0411: what somebody on the way has put behind AUTH is not taken for what the client says within TLS.
#[test]
fn sec_16_plain_text_behind_auth_in_one_segment_ends_the_session() {
    let secure = Secure::start("");
    let mut session = secure.scene.greeted(secure.scene.net.client());
    session.client.send("AUTH TLS\r\nUSER mallory\r\n");
    let (rest, _) = session.client.rest();
    assert!(!rest.windows(3).any(|code| code == b"331"), "{:?}", rest.escape_ascii().to_string());
    ends_without_a_word(&mut session.server);
}

/// The same, once the client has been told to begin.
#[test]
fn sec_16_plain_text_in_place_of_the_handshake_ends_the_session() {
    let secure = Secure::start("");
    let mut session = secure.scene.greeted(secure.scene.net.client());
    session.client.send("AUTH TLS\r\n");
    session.client.line_starting("234 ");
    session.client.send("USER mallory\r\nPASS secret\r\n");
    let (rest, _) = session.client.rest();
    assert_eq!(rest.first(), Some(&21), "an alert, and nothing in clear: {:?}", rest.escape_ascii().to_string());
    ends_without_a_word(&mut session.server);
}

#[test]
fn sec_21_nothing_that_is_secret_reaches_the_server_before_required_tls() {
    let secure = Secure::start("require: true");
    let mut session = secure.scene.greeted(secure.scene.net.client());
    for command in ["USER alice\r\n", "PASS opensesame\r\n", "PASV\r\n", "LIST\r\n"] {
        session.client.send(command);
        session.client.line_starting("530 ");
    }
    // The first word that the server hears.
    session.exchange("HELP\r\n", "214 Help.\r\n");
    let Session { client, mut server, .. } = session;
    let mut client = authenticated(&secure, client);
    client.send("USER alice\r\n");
    server.expect("USER alice\r\n");
}

#[test]
fn sec_21_an_implicit_port_says_nothing_in_clear() {
    let secure = Secure::start("implicit: true");
    let mut session = secure.scene.silent_session(secure.scene.net.client());
    session.server.send("220 ready\r\n");
    session.client.silence(Duration::from_millis(300));
    session.client.send("USER alice\r\nPASS opensesame\r\n");
    let (rest, _) = session.client.rest();
    assert_eq!(rest.first(), Some(&21), "an alert, and nothing in clear: {:?}", rest.escape_ascii().to_string());
    ends_without_a_word(&mut session.server);
}

/// AUTH; the client is within TLS from there on.
#[track_caller]
fn authenticated(secure: &Secure, mut client: Wire) -> Tls {
    client.send("AUTH TLS\r\n");
    client.line_starting("234 ");
    secure.shake_hands(client)
}

/// PROT P and an upload that has begun: the data connection of the client, whose handshake is due, and the server's.
#[track_caller]
fn open_data(secure: &Secure, client: &mut Tls, server: &mut Wire, log: &Transcript) -> (Wire, Wire) {
    let net = &secure.scene.net;
    let door = Door::open(log, "server data", net.server().ip(), 0);
    for command in ["PBSZ 0\r\n", "PROT P\r\n"] {
        client.send(command);
        client.line_starting("200 ");
    }
    client.send("EPSV\r\n");
    server.expect("EPSV\r\n");
    server.send(format!("229 Entering Extended Passive Mode (|||{}|)\r\n", door.addr().port()));
    let reply = client.line_starting("229 ");
    let port = reply.split('|').nth(3).unwrap().parse().unwrap();
    let to = SocketAddr::new(net.proxy().ip(), port);
    let data = Wire::connect(log, "client data", net.client(), to);
    let server_data = door.accept();
    client.send("STOR a\r\n");
    server.expect("STOR a\r\n");
    server.send("150 go on\r\n");
    client.line_starting("150 ");
    (data, server_data)
}

/// An upload with PROT P: `end` ends it. What the server sees at the end, and the final reply to the server's 226.
fn upload(secure: &Secure, end: impl FnOnce(Tls)) -> (End, String) {
    let scene = &secure.scene;
    let Session { client, mut server, log } = scene.greeted(scene.net.client());
    let mut client = authenticated(secure, client);
    let (data, mut server_data) = open_data(secure, &mut client, &mut server, &log);
    let mut data = secure.shake_hands(data);
    data.send("half a file");
    server_data.expect("half a file");
    end(data);
    let end = server_data.end();
    if end == End::Fin {
        server_data.finish();
    }
    server.send("226 Transfer complete.\r\n");
    (end, client.line_starting(""))
}

#[test]
fn rel_03_an_upload_without_close_notify_is_no_file() {
    let secure = Secure::start("");
    // Kept open: closing with unread bytes would be a reset, which is something else.
    let mut kept = None;
    let (end, reply) = upload(&secure, |data| kept.insert(data).cut());
    assert_eq!((end, &reply[..4]), (End::Reset, "426 "));
    drop(kept);
    let (end, reply) = upload(&secure, |mut data| {
        data.0.get_mut().conn.send_close_notify();
        data.0.get_mut().flush().unwrap();
    });
    assert_eq!((end, &reply[..4]), (End::Fin, "226 "));
}

#[test]
fn rel_03_an_upload_without_close_notify_is_one_where_the_operator_says_so() {
    let secure = Secure::start("lenient: true");
    let mut kept = None;
    let (end, reply) = upload(&secure, |data| kept.insert(data).cut());
    assert_eq!((end, &reply[..4]), (End::Fin, "226 "));
}

/// RFC 4217 §10.2: the certificate is the server's, whichever connection it is shown on. The handshake is a full one:
/// resumption would have shown none.
#[test]
fn rfc_15_control_and_data_connection_show_one_certificate() {
    let secure = Secure::start("");
    let scene = &secure.scene;
    let Session { client, mut server, log } = scene.greeted(scene.net.client());
    let mut client = authenticated(&secure, client);
    let shown = |wire: &Tls| wire.0.get_ref().conn.peer_certificates().unwrap().to_vec();
    let control = shown(&client);
    let (data, _server_data) = open_data(&secure, &mut client, &mut server, &log);
    let stranger = Secure { client: trusting(control[0].clone()), ..secure };
    let data = stranger.shake_hands(data);
    assert_eq!(data.0.get_ref().conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
    assert_eq!(shown(&data), control);
}

/// The three ways in which a data connection comes to no TLS: not asked for, not spoken, not there.
#[test]
fn rfc_15_what_a_data_connection_lacks_has_its_reply() {
    let secure = Secure::start("require: true");
    let scene = &secure.scene;
    let Session { client, mut server, log } = scene.greeted(scene.net.client());
    let mut client = authenticated(&secure, client);
    client.send("STOR a\r\n");
    client.line_starting("521 ");
    let (mut data, mut server_data) = open_data(&secure, &mut client, &mut server, &log);
    data.send("a file in the clear");
    assert_eq!(server_data.end(), End::Reset);
    server.send("426 Failure reading network stream.\r\n");
    client.line_starting("522 ");
}

/// A new session is shown this certificate, or its handshake would fail.
#[track_caller]
fn shows(secure: &Secure) {
    let session = secure.scene.greeted(secure.scene.net.client());
    authenticated(secure, session.client);
}

#[test]
fn rel_14_sighup_reads_certificates_at_once_and_a_bad_one_leaves_the_old() {
    let mut secure = Secure::start("");
    let session = secure.scene.greeted(secure.scene.net.client());
    let mut old = authenticated(&secure, session.client);
    let mut old_server = session.server;

    std::fs::write(secure.files.path().join("key.pem"), "no key\n").unwrap();
    secure.scene.proxy.signal(Signal::HUP);
    secure.scene.proxy.logs("cannot reload: listener");
    shows(&secure);

    secure.client = trusting(renewed(secure.files.path()));
    secure.scene.proxy.signal(Signal::HUP);
    secure.scene.proxy.logs("certificates were read again and are in use for new sessions");
    shows(&secure);

    old.send("NOOP\r\n");
    old_server.expect("NOOP\r\n");
    old_server.send("200 ok\r\n");
    old.line_starting("200 ok");
    secure.scene.proxy.still_runs();
}

/// Somebody who asks for it wants to know, and files may change without their times.
#[test]
fn rel_14_sighup_reads_certificates_that_look_the_same() {
    let secure = Secure::start("");
    secure.scene.proxy.signal(Signal::HUP);
    secure.scene.proxy.logs("certificates were read again and are in use for new sessions");
    shows(&secure);
}

/// Reads nothing until a long reply has filled every buffer of the kernel, and asks for the end of TLS meanwhile. All that
/// was said before comes within TLS, and plain text behind it. Returns the client, in plain text again; `polite`: it has sent
/// a close_notify of its own.
#[track_caller]
fn leaves_tls(secure: &Secure, command: &str, polite: bool, serve: impl FnOnce(&mut Wire)) -> Session {
    let (net, log) = (secure.scene.net, secure.scene.log.clone());
    let mut client = Wire::connect_slow(&log, "client", net.client(), net.proxy());
    let mut server = secure.scene.server.accept();
    server.send("220 ready\r\n");
    client.line_starting("220 ");
    let mut client = authenticated(secure, client);
    client.send("HELP\r\n");
    server.expect("HELP\r\n");
    client.send(&format!("{command}\r\n"));
    let said = says_more_than_fits(&mut server, client.0.get_ref().sock.local_addr().unwrap());
    server.send("214 end\r\n");
    serve(&mut server);
    // Its turn has come, and nothing of the rest can have been written.
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..said {
        client.line_starting("214-");
    }
    client.line_starting("214 ");
    client.line_starting("2");
    let mut rest = String::new();
    client.0.read_line(&mut rest).unwrap();
    assert_eq!(rest, "", "something behind the reply, within TLS");
    let StreamOwned { mut conn, mut sock } = client.0.into_inner();
    if polite {
        conn.send_close_notify();
        conn.complete_io(&mut sock).unwrap();
    }
    Session { client: Wire::new(&log, "client in clear", sock), server, log }
}

/// Sends lines until the proxy cannot pass them on; says how many.
fn says_more_than_fits(server: &mut Wire, client: SocketAddr) -> usize {
    const LINE: &str = "214-what nobody else may read\r\n";
    const LINES: usize = 500;
    let waiting =
        || kernel::tcp_rows().iter().find(|row| row.remote == client).expect("the client's connection").unsent;
    for said in 1.. {
        let before = waiting();
        server.send(LINE.repeat(LINES));
        let start = Instant::now();
        while waiting() == before {
            if start.elapsed() > Duration::from_millis(300) {
                return said * LINES;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    unreachable!("no buffer of the kernel is endless")
}

#[test]
fn sec_16_ccc_takes_effect_behind_what_was_said_within_tls() {
    let secure = Secure::start("allow_ccc: true");
    for polite in [true, false] {
        let mut session = leaves_tls(&secure, "CCC", polite, |_| {});
        session.exchange("NOOP\r\n", "200 in clear\r\n");
    }
}

#[test]
fn sec_16_rein_takes_effect_behind_what_was_said_within_tls() {
    let secure = Secure::start("");
    for polite in [true, false] {
        let session = leaves_tls(&secure, "REIN", polite, |server| {
            server.expect("REIN\r\n");
            server.send("220 again\r\n");
        });
        let (mut client, mut server) = (authenticated(&secure, session.client), session.server);
        client.send("NOOP\r\n");
        server.expect("NOOP\r\n");
    }
}
