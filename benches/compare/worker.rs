//! This program again, as a process of its own on one of the machines: so that what a client or server costs is not
//! counted as the middlebox's.
//!
//! A worker says what it found in lines of `name=value`, which are read as [`Figures`].

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};

use crate::net::{Host, Net};

/// Numbers by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// A running worker. Dropped, it is killed.
pub(crate) struct Worker {
    child: Child,
    ask: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts it; the arguments are those of the hidden subcommand `work`.
    pub(crate) fn start(net: &Net, host: Host, args: &[String]) -> Result<Self> {
        let mut command = net.command(host, std::env::current_exe()?);
        command.arg("work").args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let ask = child.stdin.take().expect("it is piped");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        Ok(Self { child, ask, said })
    }

    /// Its next line.
    pub(crate) fn next(&mut self) -> Result<Figures> {
        let mut line = String::new();
        ensure!(self.said.read_line(&mut line)? > 0, "a worker has ended early");
        let figure = |word: &str| {
            let (name, value) = word.split_once('=').with_context(|| format!("not a figure: {word}"))?;
            Ok((name.to_owned(), value.parse()?))
        };
        line.split_whitespace().map(figure).collect()
    }

    /// Says that it may go on; its next line.
    pub(crate) fn ask(&mut self) -> Result<Figures> {
        writeln!(self.ask)?;
        self.next()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Runs one that has a single line to say.
    pub(crate) fn run(net: &Net, host: Host, args: &[String]) -> Result<Figures> {
        let mut worker = Self::start(net, host, args)?;
        let figures = worker.next().with_context(|| args.join(" "))?;
        worker.child.wait()?;
        Ok(figures)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
