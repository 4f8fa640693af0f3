//! The servers of a listener in its plan: which one a client gets, and how they are.

use std::fmt::{self, Formatter};
use std::net::IpAddr;

use super::{Plan, join, row};
use crate::config::{Balance, Health, Selection, Servers, Upstream};
use crate::relay::Probe;

impl Plan<'_> {
    pub(super) fn servers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        row(f, "FTP server", self.server())?;
        if let Selection::Fixed(servers) = &self.listener.upstream {
            self.health(f, servers)?;
        }
        for (name, servers) in &self.listener.hosts {
            let all: Vec<String> = servers.list().iter().map(ToString::to_string).collect();
            row(f, &format!("  for {name}"), one_of(servers, &all))?;
            self.health(f, servers)?;
        }
        Ok(())
    }

    /// What is done about servers that fail, and how they are. Nothing of a server that is only connected to.
    fn health(&self, f: &mut Formatter<'_>, servers: &Servers) -> fmt::Result {
        let Health { checks, interval, .. } = servers.health;
        if checks {
            let seldom = humantime::format_duration(interval);
            row(f, "  checked", format!("every {seldom} where no session shows whether it answers"))?;
        } else if servers.only().is_none() {
            row(f, "  checked", "by sessions only")?;
        }
        for server in servers.list().iter().filter(|_| checks) {
            let name = server.to_string();
            let of_it = |probe: &&Probe| probe.listener == self.listener.name && probe.name == name;
            if let Some(probe) = self.probes.iter().find(of_it) {
                let outcome = match &probe.outcome {
                    Ok(()) => "answers".into(),
                    Err(reason) => format!("does not answer from here: {reason}"),
                };
                row(f, &format!("  {name}"), outcome)?;
            }
        }
        Ok(())
    }

    fn server(&self) -> String {
        match &self.listener.upstream {
            Selection::Fixed(servers) => {
                let now = |(server, now): (&Upstream, &Vec<IpAddr>)| match server {
                    Upstream::Address(_) => server.to_string(),
                    Upstream::Name { .. } => format!("{server} (now {})", join(now)),
                };
                let all: Vec<String> = servers.list().iter().zip(self.upstreams).map(now).collect();
                one_of(servers, &all)
            }
            Selection::OriginalDestination(permitted) => {
                format!("the one that the client has dialled, within {}", join(permitted.permits()))
            }
            Selection::FromUser(permitted) => {
                format!("the one that the client names (USER user@host), within {}", join(permitted.permits()))
            }
        }
    }
}

/// Which of several servers a client gets.
fn one_of(servers: &Servers, all: &[String]) -> String {
    let all = all.join(", ");
    if servers.only().is_some() {
        return all;
    }
    match servers.balance {
        Balance::First => format!("the first of {all} that answers"),
        Balance::RoundRobin => format!("in turn {all}"),
        Balance::LeastSessions => format!("of {all} the one with the fewest sessions"),
        Balance::Source => format!("of {all} always the same for a client's address"),
    }
}
