//! `ftp-alg sessions`: the sessions of a running proxy, as a table.

use std::io::{self, IsTerminal as _, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use clap::{Args, Subcommand};

use super::DEFAULT_CONFIG;
use crate::admin::client::{Client, ClientError};
use crate::config::{Config, LoadError};
use crate::relay::{LiveSession, State};

/// Options of `sessions`.
#[derive(Debug, Args)]
pub struct Sessions {
    /// Where the admin interface is, instead of what the configuration says.
    #[arg(long, value_name = "URL", conflicts_with = "config", global = true)]
    pub admin: Option<String>,
    /// The configuration file, whose `admin.bind` says where to ask.
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG, global = true)]
    pub config: PathBuf,
    /// Show them anew each second, until interrupted.
    #[arg(long, short)]
    pub follow: bool,
    /// One JSON array a line, as /sessions has it, instead of a table.
    #[arg(long)]
    pub json: bool,
    /// What to do with them.
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// End a session at once; what it transfers looks cut to both sides.
    Kill {
        /// Its number, as the table and the log have it.
        id: u64,
    },
}

/// Why the sessions are not shown.
#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    /// The configuration does not say where.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// It has no admin interface.
    #[error(
        "{} has no `admin.bind`; add `admin: {{ bind: 127.0.0.1:9121 }}` and restart ftp-alg, or say --admin URL",
        .0.display()
    )]
    NoAdmin(PathBuf),
    /// There was no answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody reads what we write.
    #[error("cannot write the table")]
    Write(#[from] io::Error),
}

const EVERY: Duration = Duration::from_secs(1);

/// To the upper left corner, and nothing below it.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows the sessions, or ends one.
///
/// # Errors
/// There is nobody to ask, or no good answer.
pub async fn sessions(options: &Sessions) -> Result<(), SessionsError> {
    let client = Client::new(&address(options)?)?;
    if let Some(Action::Kill { id }) = options.action {
        return Ok(client.kill(id).await?);
    }
    let mut out = io::stdout();
    let is_screen = options.follow && !options.json && out.is_terminal();
    let mut last: Option<(Instant, Vec<LiveSession>)> = None;
    loop {
        let (now, mut sessions) = (Instant::now(), client.sessions().await?);
        if let Some((then, before)) = &last {
            sessions.iter_mut().for_each(|session| current_rate(session, before, now - *then));
        }
        let text = if options.json {
            serde_json::to_string(&sessions).map_err(io::Error::from)? + "\n"
        } else {
            table(&sessions)
        };
        let clear = if is_screen { CLEAR } else { "" };
        write!(out, "{clear}{text}")?;
        out.flush()?;
        if !options.follow {
            return Ok(());
        }
        if !options.json && !is_screen {
            writeln!(out)?;
        }
        last = Some((now, sessions));
        tokio::time::sleep(EVERY).await;
    }
}

/// Where to ask. One that listens on every address does so on loopback.
fn address(options: &Sessions) -> Result<String, SessionsError> {
    if let Some(url) = &options.admin {
        return Ok(url.clone());
    }
    let config = Config::load(&options.config)?;
    let bind = config.admin.ok_or_else(|| SessionsError::NoAdmin(options.config.clone()))?.bind;
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, bind.port()).to_string())
}

/// Since the last look, instead of since the transfer began.
fn current_rate(session: &mut LiveSession, before: &[LiveSession], since: Duration) {
    let total = |session: &LiveSession| session.bytes_up + session.bytes_down;
    if let Some(earlier) = before.iter().find(|earlier| earlier.id == session.id) {
        let moved = u128::from(total(session).saturating_sub(total(earlier)));
        session.rate = u64::try_from(moved * 1000 / since.as_millis().max(1)).unwrap_or(u64::MAX);
    }
}

const HEADINGS: [&str; 11] =
    ["ID", "LISTENER", "CLIENT", "USER", "UPSTREAM", "STATE", "UP", "DOWN", "RATE", "AGE", "TLS"];

/// Columns as wide as they have to be; what is transferred comes last, since it may be long.
fn table(sessions: &[LiveSession]) -> String {
    let rows: Vec<([String; 11], String)> = sessions.iter().map(row).collect();
    let headings = HEADINGS.map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().map(|(cells, _)| cells).chain([&headings]);
        cells.map(|cells| cells[column].chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; 11] = std::array::from_fn(width);
    let line = |cells: &[String; 11], last: &str| {
        let cells: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}  {last}", cells.join("  ")).trim_end().to_owned() + "\n"
    };
    let rows = rows.iter().map(|(cells, last)| line(cells, last));
    std::iter::once(line(&headings, "TRANSFER")).chain(rows).collect()
}

fn row(session: &LiveSession) -> ([String; 11], String) {
    let or_dash = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".into());
    let tls = match (&session.tls_client, &session.tls_server) {
        (None, None) => "-".into(),
        (client, server) => {
            let side =
                |version: &Option<String>| version.as_deref().unwrap_or("-").trim_start_matches("TLSv").to_owned();
            format!("{}/{}", side(client), side(server))
        }
    };
    let rate = if session.state == State::Transfer { format!("{}/s", size(session.rate)) } else { "-".into() };
    let cells = [
        session.id.to_string(),
        session.listener.clone(),
        session.client.to_string(),
        or_dash(session.user.clone()),
        or_dash(session.upstream.map(|at| at.to_string())),
        session.state.to_string(),
        size(session.bytes_up),
        size(session.bytes_down),
        rate,
        humantime::format_duration(Duration::from_secs(
            Duration::try_from_secs_f64(session.age).unwrap_or_default().as_secs(),
        ))
        .to_string(),
        tls,
    ];
    let path = session.path.as_deref().unwrap_or_default();
    (cells, session.verb.as_ref().map_or_else(String::new, |verb| format!("{verb} {path}")))
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec_short().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> LiveSession {
        LiveSession {
            id: 12,
            listener: "ftp".into(),
            client: "192.0.2.7:50000".parse().unwrap(),
            user: Some("alice".into()),
            upstream: Some("172.16.0.20:21".parse().unwrap()),
            state: State::Transfer,
            verb: Some("RETR".into()),
            path: Some("a b.iso".into()),
            bytes_up: 0,
            bytes_down: 3 * 1024 * 1024,
            rate: 1024,
            age: 75.9,
            tls_client: Some("TLSv1.3".into()),
            tls_server: None,
        }
    }

    #[test]
    fn the_table_is_aligned_and_leaves_nothing_out() {
        let mut idle = LiveSession { id: 1000, user: None, state: State::Idle, verb: None, path: None, ..session() };
        idle.tls_client = None;
        let table = table(&[session(), idle]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        for (heading, cell) in
            [("CLIENT", "192.0.2.7:50000"), ("USER", "alice"), ("STATE", "transfer"), ("AGE", "1m 15s")]
        {
            assert_eq!(lines[0].find(heading), lines[1].find(cell), "{table}");
        }
        assert!(lines[1].ends_with(" 1.3/-  RETR a b.iso"), "{table}");
        assert!(lines[1].contains(" 3.0M ") && lines[1].contains(" 1.0K/s "), "{table}");
        assert_eq!(lines[0].find("USER"), lines[2].find("-  "), "{table}");
    }

    #[test]
    fn a_rate_is_that_since_the_last_look() {
        let mut now = LiveSession { bytes_down: 4 * 1024 * 1024, ..session() };
        current_rate(&mut now, &[session()], Duration::from_millis(500));
        assert_eq!(now.rate, 2 * 1024 * 1024);
    }
}
