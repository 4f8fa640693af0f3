//! What the process may do: with `user`, everything but what serving needs is given up before it serves.
//!
//! ```text
//!   root ──▶ read proxy.yaml ──▶ become `user`, keep CAP_NET_BIND_SERVICE ──▶ Landlock ──▶ threads, sockets, logs
//! ```
//!
//! Ports below 1024 are bound after that, as a later configuration may need others, and active mode may come from port 20:
//! so that capability stays, and another where addresses of other machines are used. Files are opened as the
//! user, too: what it cannot read at the start it could not read when a certificate is renewed.
//!
//! Linux has capabilities, and Landlock's rules, for each thread. So this comes before there is a second one.

mod confinement;

use std::fmt;
use std::io;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User, getresgid, getresuid, initgroups, setresgid, setresuid};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
};

use self::confinement::Confinement;
pub use self::confinement::{Extent, Places};
use crate::config::{Config, Listener, Source};

/// What the process may do from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    user: Option<String>,
    kept: CapabilitySet,
    /// With `landlock: true`.
    confinement: Option<Confinement>,
}

/// Why privileges could not be given up. The process may have given up some of them, and must end.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// There is no such user, or it cannot be looked up.
    #[error(
        "user: there is no user `{0}` on this machine; create it (`useradd --system --no-create-home {0}`), or write another"
    )]
    Unknown(String),
    /// The user is root, by another name.
    #[error("user: `{0}` is root by another name; write a user without privileges")]
    Root(String),
    /// Only root becomes somebody else.
    #[error(
        "user: only root can become `{0}`; start as root, or remove `user` where something else (`User=` in the unit) sees to it"
    )]
    NotRoot(String),
    /// The kernel refuses a step.
    #[error("user: cannot become `{user}`: {step}: {error}")]
    Refused {
        /// Whom.
        user: String,
        /// What was tried.
        step: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// The kernel has Landlock, and refuses a step.
    #[error("landlock: cannot restrict the process: {0}; remove `landlock` to do without")]
    Landlock(#[from] landlock::RulesetError),
}

/// Why a configuration cannot be taken up by a process that has given up its privileges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Beyond {
    /// It names another user.
    #[error("user: the process cannot become another user any more; restart it")]
    User,
    /// It uses addresses of other machines, which the one at the start did not.
    #[error("{key}: {} was given up at the start, as nothing needed it; restart the process", Names(*.missing))]
    Capability {
        /// What needs it.
        key: &'static str,
        /// What it needs.
        missing: CapabilitySet,
    },
    /// It has another `landlock`.
    #[error("landlock: it is settled at the start whether the process is restricted; restart the process")]
    Landlock,
    /// Landlock permits no such port.
    #[error(
        "{key}: {ports} is not within the ports that were to be {verb} at the start, and Landlock permits no others; \
         restart the process"
    )]
    Port {
        /// What needs it.
        key: String,
        /// Which, as proxy.yaml has them.
        ports: String,
        /// What would be done with it.
        verb: &'static str,
    },
    /// Landlock permits no such file.
    #[error(
        "{key}: {} is not within the directories that were to be {verb} at the start, and Landlock permits no others; \
         restart the process", .path.display()
    )]
    File {
        /// What needs it.
        key: String,
        /// Which.
        path: PathBuf,
        /// What would be done with it.
        verb: &'static str,
    },
}

impl Privileges {
    /// Gives up what `config` does not need, if it names a user. Must come while the process has one thread.
    ///
    /// # Errors
    /// There is no such user, or the kernel refuses.
    pub fn give_up(config: &Config) -> Result<Self, PrivilegeError> {
        let Some(name) = &config.user else { return Ok(Self::all()) };
        let account = User::from_name(name).ok().flatten().ok_or_else(|| PrivilegeError::Unknown(name.clone()))?;
        if account.uid.is_root() {
            return Err(PrivilegeError::Root(name.clone()));
        }
        if !Uid::effective().is_root() && Uid::effective() != account.uid {
            return Err(PrivilegeError::NotRoot(name.clone()));
        }
        let refused = |(step, error)| PrivilegeError::Refused { user: name.clone(), step, error };
        let kept = become_user(&account, needed(config)).map_err(refused)?;
        Ok(Self { user: Some(name.clone()), kept, confinement: None })
    }

    const fn all() -> Self {
        Self { user: None, kept: CapabilitySet::all(), confinement: None }
    }

    /// With `landlock: true`, has the kernel permit from now on only what `config` needs. Must come while the process
    /// has one thread, and once it is who it stays: what only root finds is of no use later.
    ///
    /// # Errors
    /// The kernel refuses. One that cannot is no error: [`tell`](Self::tell) warns of it.
    pub fn confine(self, config: &Config, places: &Places<'_>) -> Result<Self, PrivilegeError> {
        let confinement = config.landlock.then(|| Confinement::enforce(config, places)).transpose()?;
        Ok(Self { confinement, ..self })
    }

    /// Whether another configuration can be served with what is left.
    ///
    /// # Errors
    /// All that it would need, each with a remedy.
    pub fn admits(&self, config: &Config) -> Result<(), Vec<Beyond>> {
        let mut beyond = Vec::new();
        if self.user != config.user {
            beyond.push(Beyond::User);
        }
        let missing = needed(config).difference(self.kept);
        let lacking = FOREIGN_ADDRESSES.iter().filter(|(_, capability)| missing.contains(*capability));
        beyond.extend(lacking.map(|&(key, missing)| Beyond::Capability { key, missing }));
        match &self.confinement {
            Some(confinement) if config.landlock => beyond.extend(confinement.lacks(config)),
            None if !config.landlock => {}
            Some(_) | None => beyond.push(Beyond::Landlock),
        }
        if beyond.is_empty() { Ok(()) } else { Err(beyond) }
    }

    /// Says in the log what the process is and may do.
    pub fn tell(&self) {
        if let Some(user) = &self.user {
            tracing::info!(%user, capabilities = %Names(self.kept), "privileges were given up");
            if !self.kept.contains(CapabilitySet::NET_BIND_SERVICE) {
                tracing::warn!("started without CAP_NET_BIND_SERVICE: no port below 1024 can be bound");
            }
        } else if Uid::effective().is_root() {
            tracing::warn!("running as root, which nothing needs; write `user: ftp-alg`, or `User=` in the unit");
        }
        if let Some(confinement) = &self.confinement {
            confinement.tell();
        }
    }
}

/// What serving it takes.
fn needed(config: &Config) -> CapabilitySet {
    let [(_, to_intercept), (_, to_seem_the_client)] = FOREIGN_ADDRESSES;
    let of_listener = |listener: &Listener| {
        let intercepts = if listener.upstream.intercepts() { to_intercept } else { CapabilitySet::empty() };
        let source = if listener.source == Source::Client { to_seem_the_client } else { CapabilitySet::empty() };
        intercepts | source
    };
    config.listeners.iter().map(of_listener).fold(CapabilitySet::NET_BIND_SERVICE, CapabilitySet::union)
}

/// What uses addresses of other machines, and what that takes. `IP_TRANSPARENT` is content with either of the two.
const FOREIGN_ADDRESSES: [(&str, CapabilitySet); 2] =
    [("upstream: original-destination", CapabilitySet::NET_ADMIN), ("server.source: client", CapabilitySet::NET_RAW)];

type Step<T> = Result<T, (&'static str, io::Error)>;

fn step<T, E: Into<io::Error>>(what: &'static str, outcome: Result<T, E>) -> Step<T> {
    outcome.map_err(|error| (what, error.into()))
}

/// Becomes this user for good; the capabilities that are left. Those that the process did not have it does not get.
fn become_user(account: &User, needed: CapabilitySet) -> Step<CapabilitySet> {
    let before = step("reading capabilities", capabilities(None))?;
    let kept = needed & before.permitted;
    empty_bounding_set(before.effective)?;
    if Uid::effective().is_root() {
        step("keeping capabilities", set_keep_capabilities(true))?;
        let name = std::ffi::CString::new(account.name.as_str());
        let name = step("its name", name)?;
        step("taking its groups", initgroups(&name, account.gid))?;
        step("taking its group", setresgid(account.gid, account.gid, account.gid))?;
        step("taking its user id", setresuid(account.uid, account.uid, account.uid))?;
        step("keeping no more capabilities", set_keep_capabilities(false))?;
        verify(account.uid, account.gid)?;
    }
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    step("giving up capabilities", set_capabilities(None, sets))?;
    step("giving up ambient capabilities", clear_ambient_capability_set())?;
    step("renouncing new privileges", set_no_new_privs(true))?;
    // Its memory has passwords and keys: no core dump, and no debugger of the same user.
    step("hiding its memory", set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
    if step("reading capabilities", capabilities(None))? == sets { Ok(kept) } else { Err(unlike()) }
}

/// What a program that this one started could ever get: nothing. Needs a capability that containers often lack; then
/// `no_new_privs` alone sees to it.
fn empty_bounding_set(effective: CapabilitySet) -> Step<()> {
    if !effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        // The kernel knows fewer than there is room for.
        let Ok(is_in) = capability_is_in_bounding_set(capability) else { break };
        if is_in {
            step("giving up capabilities for good", remove_capability_from_bounding_set(capability))?;
        }
    }
    Ok(())
}

/// Asks the kernel, rather than to believe that all of it was done.
fn verify(uid: Uid, gid: Gid) -> Step<()> {
    let users = step("reading the user id", getresuid())?;
    let groups = step("reading the group id", getresgid())?;
    let is_user = [users.real, users.effective, users.saved].iter().all(|id| *id == uid);
    let is_group = [groups.real, groups.effective, groups.saved].iter().all(|id| *id == gid);
    if is_user && is_group { Ok(()) } else { Err(unlike()) }
}

fn unlike() -> (&'static str, io::Error) {
    ("looking at what is left", io::Error::other("the kernel reports other rights than were asked for"))
}

/// Capabilities by their names.
struct Names(CapabilitySet);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (i, (name, _)) in self.0.iter_names().enumerate() {
            write!(f, "{}CAP_{name}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(user: &str, upstream: &str) -> Config {
        let yaml = format!(
            "{user}\nlisteners: [{{ bind: \"127.0.0.1:2121\", {upstream}, client: {{ address_map: [{{ peers: any, \
             announce: local }}], data_ports: 20000 }} }}]"
        );
        Config::parse(&yaml, "test.yaml").unwrap_or_else(|e| panic!("{e}"))
    }

    const FIXED: &str = "upstream: \"127.0.0.2:21\"";
    const ON_THE_WAY: &str = "upstream: original-destination, upstream_networks: 10.0.0.0/8";

    const AS_THE_CLIENT: &str = "upstream: \"127.0.0.2:21\", server: { source: client }";

    #[test]
    fn sec_32_only_addresses_of_others_need_more_than_low_ports() {
        assert_eq!(needed(&config("", FIXED)), CapabilitySet::NET_BIND_SERVICE);
        assert_eq!(needed(&config("", ON_THE_WAY)), CapabilitySet::NET_BIND_SERVICE | CapabilitySet::NET_ADMIN);
        assert_eq!(needed(&config("", AS_THE_CLIENT)), CapabilitySet::NET_BIND_SERVICE | CapabilitySet::NET_RAW);
    }

    #[test]
    fn sec_32_what_was_given_up_stays_given_up() {
        let kept = CapabilitySet::NET_BIND_SERVICE;
        let left = Privileges { user: Some("proxy".into()), kept, confinement: None };
        assert_eq!(left.admits(&config("user: proxy", FIXED)), Ok(()));
        let [of_the_way, of_the_client] = FOREIGN_ADDRESSES.map(|(key, missing)| Beyond::Capability { key, missing });
        assert_eq!(left.admits(&config("user: proxy", ON_THE_WAY)), Err(vec![of_the_way.clone()]));
        assert_eq!(left.admits(&config("user: proxy", AS_THE_CLIENT)), Err(vec![of_the_client]));
        assert_eq!(left.admits(&config("user: nobody", FIXED)), Err(vec![Beyond::User]));
        assert_eq!(left.admits(&config("", ON_THE_WAY)), Err(vec![Beyond::User, of_the_way]));
        let all = Privileges::give_up(&config("", FIXED)).unwrap();
        assert_eq!(all.admits(&config("", ON_THE_WAY)), Ok(()));
        assert_eq!(all.admits(&config("user: proxy", FIXED)), Err(vec![Beyond::User]));
    }

    #[test]
    fn sec_34_whether_there_is_landlock_is_settled_at_the_start() {
        let (with, without) = (config("landlock: true", FIXED), config("", FIXED));
        let places = Places { config: std::path::Path::new("proxy.yaml"), commands: None };
        // Of that thread alone.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let confined = Privileges::all().confine(&with, &places).unwrap();
                assert_eq!(confined.admits(&with), Ok(()));
                assert_eq!(confined.admits(&without), Err(vec![Beyond::Landlock]));
                let said = confined.admits(&config("landlock: true\nadmin: { bind: \"127.0.0.1:9121\" }", FIXED));
                assert!(matches!(said.unwrap_err()[..], [Beyond::Port { .. }]));
            });
        });
        let free = Privileges::all().confine(&without, &places).unwrap();
        assert_eq!(free.admits(&without), Ok(()));
        assert_eq!(free.admits(&with), Err(vec![Beyond::Landlock]));
    }

    #[test]
    fn capabilities_have_names() {
        let both = CapabilitySet::NET_BIND_SERVICE | CapabilitySet::NET_ADMIN;
        assert_eq!(Names(both).to_string(), "CAP_NET_BIND_SERVICE CAP_NET_ADMIN");
        assert_eq!(Names(CapabilitySet::empty()).to_string(), "none");
    }
}
