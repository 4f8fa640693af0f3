//! The address problem of FTP and its solution, on this machine alone: `cargo run --release --example demo`.
//!
//! An FTP server on 127.0.0.2 announces a private address that nobody can reach, as a server behind a cloud's public
//! address does. ftp-alg stands in front of it on 127.0.0.1. The demo moves a file there and back through the proxy
//! and then stays up to be tried. `--once` exits after that self-check, and not with 0 if it failed.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ftp_alg::Service;
use ftp_alg::config::Config;
use ftp_alg::privileges::Privileges;
use libunftp::ServerBuilder;
use libunftp::options::ActivePassiveMode;
use rand::RngExt as _;
use sha2::{Digest, Sha256};
use tracing_subscriber::EnvFilter;
use unftp_sbe_fs::Filesystem;

/// The FTP server. Every 127.x.x.x is this machine on Linux.
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 2121);
/// What the server believes its address to be: private (RFC 1918), and not of this machine.
const BELIEVED: Ipv4Addr = Ipv4Addr::new(10, 20, 30, 40);
/// Where clients find the proxy.
const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2121);
/// The proxy's data ports, below those that the kernel gives to anybody (32768-60999).
const DATA_PORTS: std::ops::RangeInclusive<u16> = 20000..=20009;

const PROXY_YAML: &str = r#"listeners:
  - name: demo
    bind: ["127.0.0.1:2121"]
    upstream: "127.0.0.2:2121"
    client:
      address_map:
        - { peers: any, announce: 127.0.0.1 }
      data_ports: 20000-20009
"#;

/// Nothing on one machine takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let once = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--once" => true,
        _ => {
            eprintln!("usage: demo [--once]");
            return ExitCode::from(2);
        }
    };
    match demo(once) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(once: bool) -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,libunftp=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    ensure_free(SERVER)?;
    ensure_free(PROXY)?;
    let files = tempfile::tempdir().context("no temporary directory")?;
    fs::write(files.path().join("hello.txt"), "Hello through the proxy!\n")?;

    let runtime = tokio::runtime::Runtime::new()?;
    runtime.spawn(serve_files(files.path().to_owned()));
    await_listener(SERVER).context("the FTP server does not start")?;
    let config = Config::parse(PROXY_YAML, "demo.yaml").map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let privileges = Privileges::give_up(&config)?;
    let service = Service { config, file: "demo.yaml".into(), commands: None, inherited: Vec::new(), privileges };
    let proxy = runtime.spawn(service.run());
    await_listener(PROXY).context("the proxy does not start")?;

    println!("An FTP server listens on {SERVER}, ftp-alg in front of it on {PROXY}:\n\n{}", indented(PROXY_YAML));
    self_check(files.path())?;
    if once {
        return Ok(());
    }
    print_invitation(files.path());
    // Ctrl-C ends the proxy in good order: transfers may finish.
    Ok(runtime.block_on(proxy)??)
}

async fn serve_files(root: std::path::PathBuf) -> Result<()> {
    let storage = move || Filesystem::new(root.clone()).expect("the demo's directory exists as long as the demo");
    let server = ServerBuilder::new(Box::new(storage))
        .greeting("A legacy FTP server")
        .passive_host(BELIEVED)
        .active_passive_mode(ActivePassiveMode::ActiveAndPassive)
        .build()?;
    Ok(server.listen(SERVER.to_string()).await?)
}

/// What the demo shows and checks by itself.
fn self_check(files: &Path) -> Result<()> {
    let (reply, port) = Ftp::login(SERVER)?.passive()?;
    println!("Asked directly, the server announces\n\n    {reply}\n");
    ensure!(port.ip() == &BELIEVED && BELIEVED.is_private(), "that is not the private address {BELIEVED}");
    // Found out without sending a packet to an address that may be somebody's on this network.
    ensure!(TcpListener::bind((BELIEVED, 0)).is_err(), "{BELIEVED} is an address of this machine: it can be reached");
    println!("an address that no client can reach. Through the proxy it is\n");

    let mut content = vec![0; 4 << 20];
    rand::rng().fill(&mut content[..]);
    let mut ftp = Ftp::login(PROXY)?;
    let reply = ftp.upload("uploaded.bin", &content)?;
    println!("    {reply}\n");
    let downloaded = ftp.download("uploaded.bin")?;
    let (sent, stored, received) = (hash(&content), hash(&fs::read(files.join("uploaded.bin"))?), hash(&downloaded));
    println!(
        "4 MiB went there and came back:\n\n    sent     {sent}\n    stored   {stored}\n    received {received}\n"
    );
    ensure!(sent == stored && sent == received, "the three SHA-256 differ");
    println!("The self-check passed.");
    Ok(())
}

fn print_invitation(files: &Path) {
    println!(
        "\nTry it (any user name, any password):\n
    curl ftp://{PROXY}/                              # a listing, EPSV
    curl --disable-epsv -v ftp://{PROXY}/hello.txt   # PASV: see the 227
    curl --ftp-port - ftp://{PROXY}/hello.txt        # active: EPRT
    curl -T Cargo.toml ftp://{PROXY}/                # an upload
    curl --disable-epsv --no-ftp-skip-pasv-ip --connect-timeout 3 -v ftp://{SERVER}/   # without the proxy: fails\n
The server's files are in {}. RUST_LOG=ftp_alg=info shows the proxy's log. Ctrl-C ends the demo.",
        files.display()
    );
}

fn ensure_free(addr: SocketAddrV4) -> Result<()> {
    match TcpListener::bind(addr) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "port {port} of {ip} is taken. See who listens there with `ss -ltnp sport = :{port}`, end that, try again.",
            port = addr.port(),
            ip = addr.ip()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {addr} (the demo needs Linux)")),
    }
}

fn await_listener(addr: SocketAddrV4) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(addr) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn hash(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// As much of an FTP client as the demo needs. It believes what 227 says, as old clients do.
struct Ftp {
    control: BufReader<TcpStream>,
    /// Where it connected to.
    server: SocketAddrV4,
}

impl Ftp {
    fn login(server: SocketAddrV4) -> Result<Self> {
        let mut ftp = Self { control: BufReader::new(connect(server)?), server };
        ftp.reply("220")?;
        ftp.command("USER demo", "331")?;
        ftp.command("PASS demo", "230")?;
        ftp.command("TYPE I", "200")?;
        Ok(ftp)
    }

    /// Sends a command; the last line of the reply, which must have this code.
    fn command(&mut self, command: &str, code: &str) -> Result<String> {
        write!(self.control.get_mut(), "{command}\r\n")?;
        self.reply(code).with_context(|| format!("after {command}"))
    }

    fn reply(&mut self, code: &str) -> Result<String> {
        loop {
            let mut line = String::new();
            ensure!(self.control.read_line(&mut line)? > 0, "{} has closed the connection", self.server);
            // `230-…` is not the last line of its reply, and a line without digits is in the middle of one.
            if line.len() > 3 && line.as_bytes()[..3].iter().all(u8::is_ascii_digit) && line.as_bytes()[3] == b' ' {
                ensure!(line.starts_with(code), "expected {code}, got: {}", line.trim_end());
                return Ok(line.trim_end().to_owned());
            }
        }
    }

    /// PASV: the reply, and the address in it.
    fn passive(&mut self) -> Result<(String, SocketAddrV4)> {
        let reply = self.command("PASV", "227")?;
        let numbers: Vec<u8> = reply
            .split_once('(')
            .and_then(|(_, rest)| rest.split_once(')'))
            .and_then(|(numbers, _)| numbers.split(',').map(|number| number.parse().ok()).collect())
            .with_context(|| format!("no address in {reply}"))?;
        let [a, b, c, d, high, low] = numbers[..] else { bail!("no address in {reply}") };
        Ok((reply, SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))))
    }

    /// A data connection that the proxy announced properly, and the 227.
    fn data_connection(&mut self) -> Result<(String, TcpStream)> {
        let (reply, addr) = self.passive()?;
        let reachable = addr.ip() == PROXY.ip() && DATA_PORTS.contains(&addr.port());
        ensure!(reachable, "the proxy should announce {} and one of its data ports, not: {reply}", PROXY.ip());
        Ok((reply, connect(addr)?))
    }

    /// Uploads a file; the 227.
    fn upload(&mut self, name: &str, content: &[u8]) -> Result<String> {
        let (reply, mut data) = self.data_connection()?;
        self.command(&format!("STOR {name}"), "1")?;
        data.write_all(content)?;
        data.shutdown(Shutdown::Write)?;
        self.reply("226")?;
        Ok(reply)
    }

    fn download(&mut self, name: &str) -> Result<Vec<u8>> {
        let (_, mut data) = self.data_connection()?;
        self.command(&format!("RETR {name}"), "1")?;
        let mut content = Vec::new();
        data.read_to_end(&mut content)?;
        self.reply("226")?;
        Ok(content)
    }
}

fn connect(addr: SocketAddrV4) -> Result<TcpStream> {
    ensure!(addr.ip().is_loopback(), "{addr} is not on this machine");
    let stream =
        TcpStream::connect_timeout(&addr.into(), PATIENCE).with_context(|| format!("cannot connect to {addr}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
