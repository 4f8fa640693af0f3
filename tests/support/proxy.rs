//! The real binary, started with a configuration of its own and ended with the test.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::kernel;
use super::transcript::Transcript;
use super::wire::DEADLINE;

/// A running `ftp-alg run`; dropped, it is killed, and the test fails if it ever panicked.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    log: Transcript,
    stderr: Option<JoinHandle<()>>,
    dir: TempDir,
}

const BINARY: &str = env!("CARGO_BIN_EXE_ftp-alg");

/// The binary, with an environment to be added to.
pub(crate) fn program() -> Command {
    let mut command = Command::new(BINARY);
    command.stdin(Stdio::null());
    command
}

/// The binary with a listening socket passed on to it, as systemd does it. Whoever has others of it open keeps it.
pub(crate) fn with_socket(listener: &TcpListener) -> Command {
    let mut command = Command::new("sh");
    // The process stays the same, and so does its number.
    let script = "exec env LISTEN_PID=$$ LISTEN_FDS=1 \"$0\" \"$@\" 3<&0 0</dev/null";
    let socket = OwnedFd::from(listener.try_clone().expect("a descriptor"));
    command.args(["-c", script, BINARY]).stdin(Stdio::from(socket));
    command
}

/// The binary with another limit on open files, soft and hard.
fn with_files(files: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &files.to_string(), BINARY]).stdin(Stdio::null());
    command
}

impl Proxy {
    /// Starts it and waits until all of these addresses are listened on.
    #[track_caller]
    pub(crate) fn start(log: &Transcript, yaml: &str, listens_on: &[SocketAddr]) -> Self {
        Self::start_at_level("debug", log, yaml, listens_on)
    }

    /// With this log level, for everything that can log.
    #[track_caller]
    pub(crate) fn start_at_level(level: &str, log: &Transcript, yaml: &str, listens_on: &[SocketAddr]) -> Self {
        let mut proxy = Self::spawn(log, yaml, level, program());
        proxy.wait_until_it_listens(yaml, listens_on);
        proxy
    }

    /// As [`start`](Self::start), with so many descriptors at most.
    #[track_caller]
    pub(crate) fn start_with_files(log: &Transcript, yaml: &str, listens_on: &[SocketAddr], files: u32) -> Self {
        let mut proxy = Self::spawn(log, yaml, "debug", with_files(files));
        proxy.wait_until_it_listens(yaml, listens_on);
        proxy
    }

    /// Starts it and does not wait: it is not to listen yet.
    pub(crate) fn spawned(log: &Transcript, yaml: &str) -> Self {
        Self::spawn(log, yaml, "debug", program())
    }

    /// As [`start_at_level`](Self::start_at_level), but nobody reads stderr until [`read_stderr`](Self::read_stderr).
    #[track_caller]
    pub(crate) fn start_unread(level: &str, log: &Transcript, yaml: &str, listens_on: &[SocketAddr]) -> Self {
        let mut proxy = Self::spawn_unread(log, yaml, level, program());
        proxy.wait_until_it_listens(yaml, listens_on);
        proxy
    }

    /// Started like this.
    #[track_caller]
    pub(crate) fn start_as(command: Command, log: &Transcript, yaml: &str, listens_on: &[SocketAddr]) -> Self {
        let mut proxy = Self::spawn(log, yaml, "debug", command);
        proxy.wait_until_it_listens(yaml, listens_on);
        proxy
    }

    /// As [`start_as`](Self::start_as), but it must not start: exit code 1, and what it said.
    #[track_caller]
    pub(crate) fn refuses_as(command: Command, yaml: &str) -> String {
        Self::ends_at_its_start(yaml, command, 1)
    }

    pub(crate) fn read_stderr(&mut self) {
        self.stderr = Some(collect_stderr(&mut self.child, &self.log));
    }

    fn spawn(log: &Transcript, yaml: &str, level: &str, command: Command) -> Self {
        let mut proxy = Self::spawn_unread(log, yaml, level, command);
        proxy.read_stderr();
        proxy
    }

    fn spawn_unread(log: &Transcript, yaml: &str, level: &str, mut command: Command) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("proxy.yaml");
        std::fs::write(&config, yaml).expect("a writable temporary directory");
        let child = command
            .args(["run", "--config"])
            .arg(&config)
            .env("RUST_LOG", level)
            .env("NO_COLOR", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary under test");
        Self { child, log: log.clone(), stderr: None, dir }
    }

    /// A configuration that the proxy must not start with: exit code 2, and what it said.
    #[track_caller]
    pub(crate) fn refuses(yaml: &str) -> String {
        Self::ends_at_its_start(yaml, program(), 2)
    }

    /// A valid configuration that the proxy cannot start with: exit code 1, and what it said.
    #[track_caller]
    pub(crate) fn cannot_start(yaml: &str) -> String {
        Self::ends_at_its_start(yaml, program(), 1)
    }

    /// So few descriptors that the proxy must not start: exit code 1, and what it said.
    #[track_caller]
    pub(crate) fn refuses_with_files(yaml: &str, files: u32) -> String {
        Self::ends_at_its_start(yaml, with_files(files), 1)
    }

    #[track_caller]
    fn ends_at_its_start(yaml: &str, command: Command, code: i32) -> String {
        let log = Transcript::new();
        let mut proxy = Self::spawn(&log, yaml, "debug", command);
        let status = proxy.exits_within(DEADLINE);
        if let Some(stderr) = proxy.stderr.take() {
            let _closed = stderr.join();
        }
        if status.code() != Some(code) {
            log.fail(&format!("{status} for the configuration\n{yaml}"));
        }
        log.stderr()
    }

    /// The kernel's table is asked, since a probing connection would be a session.
    #[track_caller]
    fn wait_until_it_listens(&mut self, yaml: &str, addresses: &[SocketAddr]) {
        // Starting a process takes long on a machine that is busy with other tests.
        let deadline = Instant::now() + 4 * DEADLINE;
        while !addresses.iter().all(|addr| kernel::is_listening(*addr)) {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                std::thread::sleep(Duration::from_millis(50));
                self.log.fail(&format!("the proxy ended at its start: {status}; its configuration was\n{yaml}"));
            }
            if Instant::now() > deadline {
                self.log.fail(&format!("the proxy does not listen on {addresses:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gives it another configuration, and waits until that is in use.
    #[track_caller]
    pub(crate) fn reload(&self, yaml: &str) {
        self.configure(yaml);
        self.signalled(Signal::HUP, "reloaded: new sessions have the new configuration");
    }

    /// Gives it a configuration that it must not take: what it says.
    #[track_caller]
    pub(crate) fn refuses_to_reload(&self, yaml: &str) -> String {
        let before = self.stderr().len();
        self.configure(yaml);
        self.signalled(Signal::HUP, "reload refused, nothing has changed");
        self.stderr().split_off(before)
    }

    /// Writes another configuration, which it does not know of yet.
    pub(crate) fn configure(&self, yaml: &str) {
        std::fs::write(self.config(), yaml).expect("a writable temporary directory");
    }

    /// Its configuration file, in a directory of its own.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("proxy.yaml")
    }

    /// Sends a signal, and waits until stderr says this once more.
    #[track_caller]
    fn signalled(&self, signal: Signal, says: &str) {
        let count = || self.log.stderr().matches(says).count();
        let before = count();
        self.signal(signal);
        let deadline = Instant::now() + 4 * DEADLINE;
        while count() == before {
            if Instant::now() > deadline {
                self.log.fail(&format!("stderr never said {says:?} again"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said of all that has happened already: it gathers lines for some milliseconds.
    pub(crate) fn stderr(&self) -> String {
        std::thread::sleep(Duration::from_millis(50));
        self.log.stderr()
    }

    /// Waits until stderr has this text.
    #[track_caller]
    pub(crate) fn logs(&self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.log.stderr().contains(text) {
            if Instant::now() > deadline {
                self.log.fail(&format!("stderr never said {text:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.log.note("proxy", &format!("is sent {signal:?}"));
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a running child");
    }

    /// SIGKILL, and the end of the process.
    pub(crate) fn kill(&mut self) {
        self.log.note("proxy", "is killed");
        self.child.kill().expect("a running child");
        self.child.wait().expect("a child of ours");
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn exits_within(&mut self, time: Duration) -> ExitStatus {
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                self.log.note("proxy", &format!("has ended: {status}"));
                return status;
            }
            if Instant::now() > deadline {
                self.log.fail(&format!("the proxy still runs after {time:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// It runs until the test lets go of it.
    #[track_caller]
    pub(crate) fn still_runs(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child of ours") {
            self.log.fail(&format!("the proxy has ended: {status}"));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _status = self.child.wait();
        if let Some(stderr) = self.stderr.take() {
            let _closed = stderr.join();
        }
        if !std::thread::panicking() {
            let stderr = self.log.stderr();
            assert!(!stderr.contains("panicked at"), "the proxy panicked:\n{stderr}");
        }
    }
}

fn collect_stderr(child: &mut Child, log: &Transcript) -> JoinHandle<()> {
    let stderr = child.stderr.take().expect("a piped stderr");
    let log = log.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            log.stderr_line(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}
