//! What the servers are told about TLS. The certificate is at `/srv` for them, as everything is.

use super::{Security, unpacked};

/// Lines at the end of its configuration. `require_ssl_reuse` is on unless it is turned off, as here.
pub fn vsftpd(security: Security) -> &'static str {
    match security {
        Security::Plain => "",
        Security::Explicit => VSFTPD_TLS,
        Security::Implicit => VSFTPD_IMPLICIT,
    }
}

const VSFTPD_TLS: &str = "
ssl_enable=YES
ssl_tlsv1=YES
ssl_ciphers=HIGH
rsa_cert_file=/srv/cert.pem
rsa_private_key_file=/srv/key.pem
allow_anon_ssl=YES
force_anon_logins_ssl=YES
force_anon_data_ssl=YES
require_ssl_reuse=YES
strict_ssl_read_eof=YES
";

/// The settings of [`VSFTPD_TLS`], and another port.
const VSFTPD_IMPLICIT: &str = "
listen_port=990
implicit_ssl=YES

ssl_enable=YES
ssl_tlsv1=YES
ssl_ciphers=HIGH
rsa_cert_file=/srv/cert.pem
rsa_private_key_file=/srv/key.pem
allow_anon_ssl=YES
force_anon_logins_ssl=YES
force_anon_data_ssl=YES
require_ssl_reuse=YES
strict_ssl_read_eof=YES
";

/// Lines before its configuration. Reuse is required unless `TLSOptions NoSessionReuseRequired` is there.
pub fn proftpd(security: Security) -> String {
    match security {
        Security::Plain => String::new(),
        Security::Implicit => panic!("ProFTPD is there for explicit TLS"),
        Security::Explicit => format!(
            "
ModulePath {}
LoadModule mod_tls.c
TLSEngine on
TLSLog /srv/transfers.log
TLSProtocol TLSv1.2 TLSv1.3
TLSRSACertificateFile /srv/cert.pem
TLSRSACertificateKeyFile /srv/key.pem
TLSRequired on
TLSVerifyClient off
",
            unpacked("proftpd/usr/lib/proftpd").display()
        ),
    }
}

/// Arguments. -Y 3: control and data connections must be encrypted. It has no rule about reuse.
pub fn pure_ftpd(security: Security) -> &'static [&'static str] {
    match security {
        Security::Plain => &[],
        Security::Explicit => &["-Y", "3", "-2", "/srv/cert.pem,/srv/key.pem"],
        Security::Implicit => panic!("Pure-FTPd is there for explicit TLS"),
    }
}
