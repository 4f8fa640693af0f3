//! The tables as text.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use crate::cell::{Cell, Client, Outcome};
use crate::clients::{PYTHON, Verb};
use crate::server::unpacked;
use crate::setup::{Section, Setup};

type Row = (Setup, Vec<Outcome>);

/// A line for who watches.
pub fn progress(setup: &Setup, row: &[Outcome]) -> String {
    let failed: Vec<String> =
        row.iter().filter(|outcome| outcome.proxied.is_err()).map(|outcome| outcome.cell.to_string()).collect();
    format!("{:?}: {}: {} cells, not ok: [{}]", setup.section, setup.name(), row.len(), failed.join(", "))
}

/// What the proxy is to blame for, with everything that is known of it.
pub fn bugs(table: &[Row]) -> Vec<String> {
    let mut bugs = Vec::new();
    for (setup, row) in table {
        for Outcome { cell, proxied, direct } in row {
            if let (Err(failure), Some(Ok(()))) = (proxied, direct) {
                let name = format!("{:?}: {} | {cell}", setup.section, setup.name());
                bugs.push(format!("=== {name}: {}\n{}", failure.why, failure.transcript));
            }
        }
    }
    bugs
}

/// COMPATIBILITY.md.
pub fn markdown(table: &[Row], took: Duration) -> String {
    let cells = table.iter().flat_map(|(_, row)| row);
    let total = cells.clone().count();
    let well = cells.filter(|outcome| outcome.proxied.is_ok()).count();
    let mut text = format!(
        "# Compatibility\n\n\
         Written by `make compat`, which runs every pair through ftp-alg in network namespaces: the client on the \
         internet, ftp-alg behind the public address, the server in the private network. Not to be edited.\n\n\
         {well} of {total} cells are ok. {}, {}, {} s on {} processors.\n\n\
         **ok**: in every mode of the client, a file of 1 MiB went there, another came back, and a directory was \
         listed; both ends were compared. (wget and aria2 only fetch.) A mode is what the client was told to use; it \
         may choose another command if the server does not know the one. Where it is not ok, the modes that failed \
         are named, and the [notes](#notes) say why and whether the pair works without ftp-alg, with the public \
         address on the server itself.\n\n",
        shell("date -u +%F"),
        format_args!("ftp-alg {}, Linux {}", env!("CARGO_PKG_VERSION"), shell("uname -r")),
        took.as_secs(),
        shell("nproc"),
    );
    text.push_str(
        "Every server is set up as it is shipped, with its checks that data and control connection have one ",
    );
    text.push_str("peer. Those in *italics* do not run on Linux or are not to be had: they are played by a stand-in, ");
    text.push_str("from what is known of them (`tests/dialects/stand_in`).\n\n");

    let mut notes = Vec::new();
    for section in Section::ALL {
        text.push_str(heading(section));
        text.push_str(&body(section, table, &mut notes));
        text.push('\n');
    }
    text.push_str("## Notes\n\n");
    if notes.is_empty() {
        text.push_str("None: all is ok.\n");
    }
    for (index, note) in notes.iter().enumerate() {
        let _infallible = writeln!(text, "{}. {note}", index + 1);
    }
    text.push_str(&versions(table));
    text
}

/// What stands above a table.
const fn heading(section: Section) -> &'static str {
    match section {
        Section::Plain => "## Without TLS\n\n",
        Section::Terminated => {
            "## With TLS\n\n\
             Clients speak TLS 1.2 and 1.3, each by itself (FileZilla: 1.3), with AUTH TLS and with implicit TLS unless \
             something else is said. Nobody looks at the certificate but FileZilla, which trusts one only, and wants it and \
             the session of the control connection on every data connection. curl 7.88 does no active mode with TLS, with \
             no server. tnftp (as Debian builds it), ncftp and aria2 have no TLS for FTP; aioftp 0.21 knows no AUTH, and \
             begins TLS on a data connection before it asks for anything, which most servers do not answer.\n\n\
             ### The server has none\n\n\
             `tls.client.mode: terminate`. The stand-ins with AUTH TLS and TLS 1.3 only. Without ftp-alg there is no such \
             pair; what fails is tried without TLS, and with TLS and vsftpd.\n\n"
        }
        Section::ReEncrypted => {
            "### The server has it, too\n\n\
             `tls.client.mode: terminate`, and `tls.server.mode: explicit` or, where `implicit_ssl` is said, `implicit`. The \
             version in the first column is that of ftp-alg and the server. ftplib and basic-ftp do not resume sessions, or not \
             all of them: servers that insist on it work with them through ftp-alg only.\n\n"
        }
        Section::PassedThrough => {
            "### Passed through\n\n\
             `tls.client.mode: passthrough`: AUTH TLS and passive modes only. The servers announce the public address, since \
             nobody else can put it into an encrypted reply. lftp and curl speak TLS 1.2 only: with 1.3 these versions \
             lose the end of some uploads, with no proxy in between, too. Pure-FTPd gives no TLS 1.3 tickets, so that \
             FileZilla, which insists on resumption here, gets no data from it.\n\n"
        }
    }
}

/// A table.
fn body(section: Section, table: &[Row], notes: &mut Vec<String>) -> String {
    let clients = section.clients();
    let mut text = line("server", clients.iter().map(|client| client.name()));
    text.push_str(&line("---", clients.iter().map(|_| "---".to_owned())));
    for (setup, row) in table.iter().filter(|(setup, _)| setup.section == section) {
        text.push_str(&line(&setup.name(), clients.iter().map(|client| of_client(*client, row, notes))));
    }
    text
}

/// What was used.
fn versions(table: &[Row]) -> String {
    let clients = Client::all();
    let mut text = "\n## Modes and versions\n\n".to_owned();
    text.push_str(&line("client", ["modes", "with TLS", "version"].map(str::to_owned)));
    text.push_str(&line("---", ["---", "---", "---"].map(str::to_owned)));
    for client in &clients {
        let modes = |section| {
            let modes: Vec<&str> = client.verbs(section).into_iter().map(Verb::as_str).collect();
            if modes.is_empty() { "none".to_owned() } else { modes.join(", ") }
        };
        let row = [modes(Section::Plain), modes(Section::Terminated), version(&client.name())];
        text.push_str(&line(&client.name(), row));
    }
    text.push('\n');
    text.push_str(&line("server", ["version".to_owned()]));
    text.push_str(&line("---", ["---".to_owned()]));
    for (setup, _) in table.iter().filter(|(setup, _)| setup.section == Section::Plain && setup.kind.is_real()) {
        text.push_str(&line(&setup.kind.name(), [version(&setup.kind.name())]));
    }
    text
}

/// The cell of a server and a client: its modes at a glance. A note that is there already is used again.
fn of_client(client: Client, row: &[Outcome], notes: &mut Vec<String>) -> String {
    let mut failed: Vec<(Cell, usize)> = Vec::new();
    for Outcome { cell, proxied, direct } in row.iter().filter(|outcome| outcome.cell.client == client) {
        let Err(failure) = proxied else { continue };
        let without = match direct {
            Some(Ok(())) => "**works without ftp-alg**".to_owned(),
            Some(Err(other)) if other.why == failure.why => "the same without ftp-alg".to_owned(),
            Some(Err(other)) => format!("without ftp-alg {}", other.why),
            None => "not tried without ftp-alg".to_owned(),
        };
        let note = format!("{}: {}; {without}.", client.name(), failure.why);
        let known = notes.iter().position(|other| *other == note);
        let number = known.unwrap_or_else(|| {
            notes.push(note);
            notes.len() - 1
        });
        failed.push((*cell, number + 1));
    }
    if failed.is_empty() { "ok".to_owned() } else { format!("not {}", by_verb(&failed, row)) }
}

/// What failed, with the number of its note. A verb stands for all that it was tried with if all of it failed alike.
fn by_verb(failed: &[(Cell, usize)], row: &[Outcome]) -> String {
    let mut words: Vec<String> = Vec::new();
    for (cell, note) in failed {
        let is_alike = |other: &&(Cell, usize)| other.0.verb == cell.verb && other.1 == *note;
        let tried = row.iter().filter(|outcome| outcome.cell.client == cell.client && outcome.cell.verb == cell.verb);
        let verb = cell.verb.as_str();
        let word = match cell.tls {
            Some(tls) if failed.iter().filter(is_alike).count() < tried.count() => {
                format!("{verb} {tls} [{note}](#notes)")
            }
            _ => format!("{verb} [{note}](#notes)"),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(", ")
}

fn line(first: &str, others: impl IntoIterator<Item = String>) -> String {
    let others: Vec<String> = others.into_iter().collect();
    format!("| {first} | {} |\n", others.join(" | "))
}

/// The version that was used, as its package or the program itself tells it.
fn version(name: &str) -> String {
    let unpacked_deb = |server: &str, package: &str| {
        format!("dpkg-deb -f {}/{server}/debs/{package}_*.deb Version", unpacked("").display())
    };
    let command = match name {
        "vsftpd" => unpacked_deb("vsftpd", "vsftpd"),
        "ProFTPD" => unpacked_deb("proftpd", "proftpd-core"),
        "Pure-FTPd" => unpacked_deb("pure-ftpd", "pure-ftpd"),
        "pyftpdlib" => format!("{PYTHON} -c 'import pyftpdlib; print(pyftpdlib.__ver__)'"),
        "ftplib" => format!("{PYTHON} -c 'import platform; print(\"Python\", platform.python_version())'"),
        "aioftp" => format!("{PYTHON} -c 'import aioftp; print(aioftp.__version__)'"),
        "basic-ftp" => {
            let package = unpacked("basic-ftp/package/package.json");
            format!("node -p 'require(\"{}\").version + \", Node.js \" + process.version'", package.display())
        }
        "FileZilla" => "dpkg-query -W -f '${Version}' filezilla".to_owned(),
        "s_client" => "openssl version | cut -d' ' -f1,2".to_owned(),
        package => format!("dpkg-query -W -f '${{Version}}' {package}"),
    };
    shell(&command)
}

fn shell(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
