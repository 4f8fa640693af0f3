//! The clients that the interop tests do not have: each does what it can, in its own language.

use std::ffi::OsString;
use std::process::Command;

use crate::cell::Job;
use crate::clients::{PYTHON, Tls, Verb};
use crate::net::{EIP, Host, Net};
use crate::server::unpacked;

/// A client program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    Tnftp,
    Ncftp,
    Wget,
    Aria2,
    BasicFtp,
    Aioftp,
    FileZilla,
    SClient,
}

impl More {
    pub const ALL: [Self; 8] = [
        Self::Tnftp,
        Self::Ncftp,
        Self::Wget,
        Self::Aria2,
        Self::BasicFtp,
        Self::Aioftp,
        Self::FileZilla,
        Self::SClient,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Tnftp => "tnftp",
            Self::Ncftp => "ncftp",
            Self::Wget => "wget",
            Self::Aria2 => "aria2",
            Self::BasicFtp => "basic-ftp",
            Self::Aioftp => "aioftp",
            Self::FileZilla => "FileZilla",
            Self::SClient => "s_client",
        }
    }

    /// The modes that it knows with IPv4, and with TLS or without.
    pub const fn verbs(self, tls: bool) -> &'static [Verb] {
        match self {
            // Debian's tnftp has TLS for https only; ncftp and aria2 have none for FTP. aioftp 0.21 knows no AUTH, and begins TLS
            // on a data connection before it asks for anything, which most servers do not answer.
            Self::Tnftp | Self::Ncftp | Self::Aria2 | Self::Aioftp if tls => &[],
            Self::SClient => {
                if tls {
                    &[Verb::Pasv]
                } else {
                    &[]
                }
            }
            Self::Tnftp => &[Verb::Pasv, Verb::Epsv, Verb::Port, Verb::Eprt],
            // aria2 sends EPRT with IPv6 only.
            Self::Ncftp | Self::Wget | Self::Aria2 | Self::FileZilla => &[Verb::Pasv, Verb::Port],
            Self::BasicFtp | Self::Aioftp => &[Verb::Pasv, Verb::Epsv],
        }
    }

    /// The others only fetch files.
    pub const fn uploads_and_lists(self) -> bool {
        !matches!(self, Self::Wget | Self::Aria2)
    }

    /// Its command line on the client's machine.
    pub fn command(self, net: &Net, job: &Job<'_>) -> Command {
        let Job { login: (user, password), dir, verb, tls, .. } = *job;
        let passive = verb.is_passive();
        let (kind, version) = tls.map_or(("plain", String::new()), |Tls { implicit, version }| {
            (if implicit { "implicit" } else { "explicit" }, version.to_string())
        });
        let url = format!("ftp://{EIP}/{dir}/down.bin");
        let line: Vec<String> = match self {
            Self::Tnftp => {
                // EPSV and EPRT are what it starts with.
                let toggle = if matches!(verb, Verb::Pasv | Verb::Port) { "epsv4\n" } else { "" };
                let script = format!(
                    "user {user} {password}\nbinary\n{toggle}put up.bin {dir}/up.bin\nget {dir}/down.bin down.bin\n\
                     ls {dir}/two listing\nquit\n"
                );
                let flags = if passive { "-nivp" } else { "-nivA" };
                piped("tnftp", &script, flags)
            }
            Self::Ncftp => {
                // -V: no progress bar; -r: how many times it dials.
                let mode = if passive { "-F" } else { "-E" };
                let common = format!("-d stderr {mode} -r 1 -t 10 -u {user} -p {password}");
                // It asks for the name of every address, and there is no name server here. The mount is seen by this
                // process alone.
                let script = format!(
                    "echo 'hosts: files' > no-dns && mount --bind no-dns /etc/nsswitch.conf && \
                     ncftpput -V {common} {EIP} {dir} up.bin && \
                     ncftpget -V {common} {EIP} . {dir}/down.bin && \
                     ncftpls -l {common} ftp://{EIP}/{dir}/two/ > listing"
                );
                words(&["sh", "-c", &script])
            }
            Self::Wget => {
                let mode = if passive { "--no-verbose" } else { "--no-passive-ftp" };
                let user = format!("--ftp-user={user}");
                let password = format!("--ftp-password={password}");
                let mut line = words(&["wget", "-d", "-t1", "-T10", mode, &user, &password, "-O", "down.bin"]);
                if tls.is_some() {
                    line.push("--no-check-certificate".to_owned());
                    line.push(format!("--ciphers=NORMAL:-VERS-ALL:+VERS-TLS{version}"));
                    line.push(url.replace("ftp:", "ftps:"));
                } else {
                    line.push(url);
                }
                if kind == "implicit" {
                    line.push("--ftps-implicit".to_owned());
                }
                line
            }
            Self::Aria2 => {
                let mode = format!("--ftp-pasv={passive}");
                let (user, password) = (format!("--ftp-user={user}"), format!("--ftp-passwd={password}"));
                let patience = ["--connect-timeout=10", "--timeout=10", "--max-tries=1", "--disable-ipv6=true"];
                let mut line = words(&["aria2c", "--no-conf=true", "--console-log-level=info", "-o", "down.bin"]);
                line.extend(patience.map(str::to_owned));
                line.extend([mode, user, password, url]);
                line
            }
            Self::BasicFtp => {
                let module = unpacked("basic-ftp/package").display().to_string();
                let script = include_str!("basic_ftp.js");
                let [verb, port] = [verb.as_str(), if kind == "implicit" { "990" } else { "21" }];
                words(&["node", "-e", script, &module, EIP, port, kind, &version, verb, user, password, dir])
            }
            Self::Aioftp => words(&[PYTHON, "-c", include_str!("aioftp.py"), EIP, verb.as_str(), user, password, dir]),
            Self::FileZilla => {
                let script = include_str!("../interop/clients/filezilla.py");
                let mode = if passive { "passive" } else { "active" };
                let certificate = job.certificate.display().to_string();
                let port = if kind == "implicit" { "990" } else { "21" };
                let mut line = words(&[PYTHON, "-c", script, EIP, port, kind, mode, user, password, &certificate]);
                for step in ["put up.bin up.bin", "get down.bin down.bin", "get first.txt two/first.txt"] {
                    let [verb, local, remote] = step.split(' ').collect::<Vec<_>>()[..] else { unreachable!() };
                    line.extend([verb.to_owned(), local.to_owned(), format!("{dir}/{remote}")]);
                }
                line
            }
            Self::SClient => {
                let version = format!("-tls{}", version.replace('.', "_"));
                let script = include_str!("s_client.sh");
                words(&["bash", "-c", script, "s_client", EIP, kind, user, password, dir, &version])
            }
        };
        let mut command = net.command(Host::Client, &line[0]);
        command.args(line[1..].iter().map(OsString::from)).current_dir(job.local).env("LC_ALL", "C");
        // Nothing of the user's own settings.
        command.env("HOME", job.local);
        command
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A program that reads its commands from standard input.
fn piped(program: &str, script: &str, flags: &str) -> Vec<String> {
    words(&["sh", "-c", r#"printf %s "$1" | exec "$2" "$3" "$4""#, "sh", script, program, flags, EIP])
}
