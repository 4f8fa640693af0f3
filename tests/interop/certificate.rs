//! The one certificate of this run: the servers and the proxy show it, and no client looks at it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::process::run;

/// What it says.
pub const NAME: &str = "ftp.example";

/// Writes `cert.pem` and `key.pem`. RSA: vsftpd 3.0.3 has no curves for anything else.
pub fn write(dir: &Path) {
    static PEM: OnceLock<String> = OnceLock::new();
    write_pem(dir, PEM.get_or_init(make));
}

/// The same with one that nobody shows, and that says the same.
pub fn write_another(dir: &Path) {
    write_pem(dir, &make());
}

fn make() -> String {
    let subject = format!("/CN={NAME}");
    let name = format!("subjectAltName=DNS:{NAME}");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", &subject]);
    run(openssl.args(["-addext", &name, "-keyout", "-", "-out", "-"]))
}

fn write_pem(dir: &Path, pem: &str) {
    let certificate = pem.find("-----BEGIN CERTIFICATE").expect("openssl prints the key, then the certificate");
    fs::write(dir.join("cert.pem"), &pem[certificate..]).unwrap();
    fs::write(dir.join("key.pem"), &pem[..certificate]).unwrap();
    // ProFTPD refuses to read keys that everybody could.
    fs::set_permissions(dir.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
}
