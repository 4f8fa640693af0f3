//! Without the proxy the same clients fail: this network really is one in which FTP does not work.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::clients::{self, Mode, Step, Task};
use crate::matrix::Cell;
use crate::net::{Net, SERVER};
use crate::servers::{self, Server, make_writable_dir};

/// Well over the patience of those clients that have any; the others wait for the kernel's connect, two minutes.
const LIMIT: Duration = Duration::from_secs(8);

#[test]
fn passive_clients_reach_the_server_but_no_data_port() {
    let net = Net::new(SERVER);
    // Its passive ports are of the kernel's choice, 32768 at least, and so never those of the security group.
    let server = Server::start(&net, servers::Kind::ProFtpd);
    let mut cells: Vec<Cell> = clients::Kind::ALL.map(|client| Cell::plain(client, Mode::PASV)).to_vec();
    cells.push(Cell::plain(clients::Kind::Inetutils, Mode::EPSV));
    thread::scope(|scope| {
        for cell in cells {
            let (net, server) = (&net, &server);
            scope.spawn(move || upload_must_fail(net, server, cell));
        }
    });
}

fn upload_must_fail(net: &Net, server: &Server, Cell { client, mode, .. }: Cell) {
    let name = format!("{client}-{mode}");
    let (remote, local) = (server.root().join(&name), net.scratch().join(&name));
    make_writable_dir(&remote);
    fs::create_dir(&local).unwrap();
    fs::write(local.join("up.txt"), b"content").unwrap();
    let task = Task {
        client,
        mode,
        tls: None,
        login: server.login(),
        remote_dir: &name,
        local_dir: &local,
        steps: &[Step::Put { local: b"up.txt", remote: b"up.txt" }],
        patience: 2,
    };
    let outcome = task.run(net, LIMIT);
    let commands = task.commands(&outcome.transcript);
    let asked = commands.iter().any(|command| command.starts_with(mode.verb.as_str()));
    assert!(asked && outcome.transcript.contains("logged in"), "{name} did not get that far:\n{}", outcome.transcript);
    assert!(fs::read(remote.join("up.txt")).unwrap_or_default().is_empty(), "{name} has uploaded without a proxy");
}
