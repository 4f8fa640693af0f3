//! The table as text.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use crate::cell::{Client, Outcome};
use crate::clients::PYTHON;
use crate::server::{Kind, unpacked};

type Row = (Kind, Vec<Outcome>);

/// A line for who watches.
pub fn progress(kind: Kind, row: &[Outcome]) -> String {
    let failed: Vec<String> = row
        .iter()
        .filter(|outcome| outcome.proxied.is_err())
        .map(|outcome| format!("{} {}", outcome.cell.client.name(), outcome.cell.verb.as_str()))
        .collect();
    format!("{}: {} cells, not ok: [{}]", kind.name(), row.len(), failed.join(", "))
}

/// What the proxy is to blame for, with everything that is known of it.
pub fn bugs(table: &[Row]) -> Vec<String> {
    let mut bugs = Vec::new();
    for (kind, row) in table {
        for Outcome { cell, proxied, direct } in row {
            if let (Err(failure), Some(Ok(()))) = (proxied, direct) {
                let name = format!("{} | {} | {}", kind.name(), cell.client.name(), cell.verb.as_str());
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

    text.push_str(&body(table));
    text.push_str(&versions(table));
    text
}

/// The table itself, and its notes.
fn body(table: &[Row]) -> String {
    let mut text = String::new();
    let clients = Client::all();
    let mut notes = Vec::new();
    text.push_str(&line("server", clients.iter().map(|client| client.name())));
    text.push_str(&line("---", clients.iter().map(|_| "---".to_owned())));
    for (kind, row) in table {
        let name = if kind.is_real() { kind.name() } else { format!("*{}*", kind.name()) };
        text.push_str(&line(&name, clients.iter().map(|client| of_client(*client, row, &mut notes))));
    }
    text.push_str("\n## Notes\n\n");
    if notes.is_empty() {
        text.push_str("None: all is ok.\n");
    }
    for (index, note) in notes.iter().enumerate() {
        let _infallible = writeln!(text, "{}. {note}", index + 1);
    }
    text
}

/// What was used.
fn versions(table: &[Row]) -> String {
    let clients = Client::all();
    let mut text = "\n## Modes and versions\n\n".to_owned();
    text.push_str(&line("client", ["modes".to_owned(), "version".to_owned()]));
    text.push_str(&line("---", ["---".to_owned(), "---".to_owned()]));
    for client in &clients {
        let modes: Vec<&str> = client.verbs().into_iter().map(super::clients::Verb::as_str).collect();
        text.push_str(&line(&client.name(), [modes.join(", "), version(&client.name())]));
    }
    text.push('\n');
    text.push_str(&line("server", ["version".to_owned()]));
    text.push_str(&line("---", ["---".to_owned()]));
    for (kind, _) in table.iter().filter(|(kind, _)| kind.is_real()) {
        text.push_str(&line(&kind.name(), [version(&kind.name())]));
    }
    text
}

/// The cell of a server and a client: its modes at a glance. A note that is there already is used again.
fn of_client(client: Client, row: &[Outcome], notes: &mut Vec<String>) -> String {
    let mut failed = Vec::new();
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
        failed.push(format!("{} [{}](#notes)", cell.verb.as_str(), number + 1));
    }
    if failed.is_empty() { "ok".to_owned() } else { format!("not {}", failed.join(", ")) }
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
        package => format!("dpkg-query -W -f '${{Version}}' {package}"),
    };
    shell(&command)
}

fn shell(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
