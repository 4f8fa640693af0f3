//! Looking whether a server greets: what a session waits for, and what is done where no session comes by.
//!
//! A check connects as a session does, in the same turn and at the same pace, reads the greeting, says QUIT and leaves in
//! good order, so that the server's log shows an orderly visit. With implicit TLS it is left at the connection.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Group, Member};
use crate::config::{Config, Selection, Servers};
use crate::metrics::Metrics;
use crate::relay::socket::Watched;
use crate::relay::wire::{Batching, Wire};

pub(super) const HUNG_UP: &str = "it closed the connection before its greeting";
pub(super) const SILENT: &str = "it accepted the connection and did not greet in time";

/// As much of a greeting as is read, and of a refusal as is told.
const MAX_GREETING: usize = 16 * 1024;
const MAX_TOLD: usize = 100;

/// A server need not answer QUIT.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a server says to a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Something, and no refusal: the rest is the session's business.
    Welcome,
    /// A reply of the 4yz or 5yz kind: no room, or not for us.
    Refused(String),
    /// It has closed or reset the connection.
    Gone,
    /// Nothing yet.
    Silence,
}

/// Waits for the first line of a greeting and leaves it unread.
pub(super) async fn greeting(io: &Watched, limit: Duration) -> Greeting {
    let peek = async {
        let mut buffer = [0; MAX_TOLD];
        loop {
            let mut guard = io.readable().await?;
            match guard.try_io(|io| io.get_ref().peek(&mut buffer)) {
                Ok(Ok(0)) => return Ok(Greeting::Gone),
                Ok(Ok(count)) if count > 3 => return Ok(judge(&buffer[..count])),
                // More is to come, and tells.
                Ok(Ok(_)) => guard.clear_ready(),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    };
    match tokio::time::timeout(limit, peek).await {
        Ok(Ok(greeting)) => greeting,
        // It was reset.
        Ok(Err(_)) => Greeting::Gone,
        Err(_) => Greeting::Silence,
    }
}

fn judge(said: &[u8]) -> Greeting {
    match said {
        [b'4' | b'5', b'0'..=b'9', b'0'..=b'9', ..] => {
            let line = said.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
            Greeting::Refused(format!("it said `{}`", line.escape_ascii()))
        }
        _ => Greeting::Welcome,
    }
}

/// Looks at a server for ever, whenever it is worth it.
pub(super) async fn watch(member: Arc<Member>, limit: Duration) {
    loop {
        let next = member.health().next();
        if Instant::now() < next {
            // What a session meets in the meantime counts as well.
            let sleep = tokio::time::sleep_until(next.into());
            tokio::select! {
                () = sleep => {}
                () = member.heard.notified() => {}
            }
            continue;
        }
        match look(&member, limit).await {
            Ok(()) => member.succeeded(),
            Err(reason) => member.failed(&reason),
        }
    }
}

/// Whether a server greets; if not, why.
async fn look(member: &Member, limit: Duration) -> Result<(), String> {
    let turn = member.connector.turn().await.map_err(|error| error.to_string())?;
    let start = Instant::now();
    let connected = member.connector.connect(&turn, None, limit).await.map_err(|error| error.to_string())?;
    if member.greets {
        let read = read_greeting(&connected.io);
        let greeted = tokio::time::timeout(limit.saturating_sub(start.elapsed()), read).await;
        greeted.map_err(|_| SILENT.to_owned())??;
    }
    let mut wire = Wire::new(connected.io, Batching::OneByOne);
    if member.greets {
        wire.send("QUIT\r\n".into(), false);
    }
    wire.finish(FAREWELL).await;
    Ok(())
}

/// Reads a whole greeting: a command within it would be none of the protocol.
async fn read_greeting(io: &Watched) -> Result<(), String> {
    let mut read = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let mut guard = io.readable().await.map_err(|error| error.to_string())?;
        match guard.try_io(|io| io.get_ref().read(&mut buffer)) {
            Ok(Ok(count)) if count > 0 => read.extend_from_slice(&buffer[..count]),
            Ok(Ok(_)) => return Err(HUNG_UP.into()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_would_block) => continue,
        }
        if let (true, Greeting::Refused(said)) = (read.contains(&b'\n'), judge(&read)) {
            return Err(said);
        }
        let is_last = |line: &[u8]| line.starts_with(b"220") && line.get(3) != Some(&b'-');
        if read.ends_with(b"\n") && read.split(|byte| *byte == b'\n').any(is_last) {
            return Ok(());
        }
        if read.len() > MAX_GREETING {
            return Err("what it says is no greeting of an FTP server".into());
        }
    }
}

/// What one look at a server has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The listener's name.
    pub listener: String,
    /// The server, as the configuration has it.
    pub name: String,
    /// Why it would not do now, if it would not.
    pub outcome: Result<(), String>,
}

/// Looks once at every server of those listeners that have checks, at all of them at the same time, for `limit` at most.
/// The order is that of the configuration. Runs inside a tokio runtime.
pub async fn probe(config: &Config, limit: Duration) -> Vec<Probe> {
    let config = Arc::new(config.clone());
    let mut looks = JoinSet::new();
    for listener in &config.listeners {
        let own = match &listener.upstream {
            Selection::Fixed(servers) => Some(servers),
            Selection::OriginalDestination(_) | Selection::FromUser(_) => None,
        };
        let checked = own.into_iter().chain(listener.hosts.iter().map(|(_, servers)| servers));
        for servers in checked.filter(|servers: &&Servers| servers.health.checks) {
            for member in
                Group::new(listener, servers, None, &config, &Metrics::default().listener(listener), None).members
            {
                let place = looks.len();
                looks.spawn(async move {
                    let outcome = tokio::time::timeout(limit, look(&member, limit)).await;
                    let outcome = outcome.unwrap_or_else(|_| Err(SILENT.into()));
                    (place, Probe { listener: member.listener.clone(), name: member.name.clone(), outcome })
                });
            }
        }
    }
    let mut probes = looks.join_all().await;
    probes.sort_by_key(|(place, _)| *place);
    probes.into_iter().map(|(_, probe)| probe).collect()
}
