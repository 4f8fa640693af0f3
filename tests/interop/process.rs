//! Other programs: run to their end, or in the background until dropped.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Runs a program that must succeed; its standard output.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program that must succeed and gets `input` on its standard input.
#[track_caller]
pub fn feed(command: &mut Command, input: &[u8]) {
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
}

/// How a bounded run ended.
pub struct Outcome {
    /// Exit status 0, in time.
    pub success: bool,
    /// The time was up before the program ended.
    pub timed_out: bool,
    /// Standard output, then standard error.
    pub transcript: String,
}

/// Runs a program to its end, or for `limit` at most; what it was asked may fail.
pub fn bounded(command: &Command, limit: Duration) -> Outcome {
    let mut timeout = Command::new("timeout");
    timeout.arg("--kill-after=1").arg(limit.as_secs().to_string());
    timeout.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        timeout.env(key, value.unwrap_or_default());
    }
    if let Some(dir) = command.get_current_dir() {
        timeout.current_dir(dir);
    }
    let output = timeout.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{timeout:?}: {error}"));
    let transcript = [output.stdout, output.stderr].concat();
    Outcome {
        success: output.status.success(),
        // `timeout` exits with 124, or 137 where it had to kill.
        timed_out: matches!(output.status.code(), Some(124 | 137) | None),
        transcript: String::from_utf8_lossy(&transcript).into_owned(),
    }
}

/// A program in the background, ended when dropped. What it says goes to a file.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it, and waits until it listens on TCP `port` in its own network.
    #[track_caller]
    pub fn start(command: &mut Command, log: PathBuf, port: u16) -> Self {
        let file = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut daemon = Self { child, log };
        let deadline = Instant::now() + Duration::from_secs(15);
        while !daemon.listens(port) {
            let ended = daemon.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{command:?} does not listen on port {port} ({ended:?}):\n{}",
                daemon.said()
            );
            sleep(Duration::from_millis(10));
        }
        daemon
    }

    /// Whether a socket of its network namespace listens on the port (proc_pid_net(5), `st` 0A is TCP_LISTEN).
    fn listens(&self, port: u16) -> bool {
        // Not yet in its own: what listens in ours is somebody else.
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        if namespace(&self.child.id().to_string()) == namespace("self") {
            return false;
        }
        let local = format!(":{port:04X}");
        ["tcp", "tcp6"].iter().any(|table| {
            let table = fs::read_to_string(format!("/proc/{}/net/{table}", self.child.id())).unwrap_or_default();
            table.lines().any(|line| {
                let mut words = line.split_whitespace().skip(1);
                words.next().is_some_and(|addr| addr.ends_with(&local)) && words.nth(1) == Some("0A")
            })
        })
    }

    /// What it has written to standard output and standard error so far, and of what has happened already: the proxy
    /// gathers lines for some milliseconds.
    pub fn said(&self) -> String {
        sleep(Duration::from_millis(50));
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has said this so many times.
    #[track_caller]
    pub fn says(&self, text: &str, times: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.said().matches(text).count() < times {
            assert!(Instant::now() < deadline, "never {text:?} {times} times:\n{}", self.said());
        }
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::HUP).unwrap();
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
