//! With `landlock: true` the kernel holds the process to what its configuration needs: whoever takes it over can bind,
//! connect to, read and write no more than that, as far as Landlock can tell them apart (landlock(7)).
//!
//! ```text
//!   Config ──▶ Needs: ports and files, by their keys ──▶ rules ──▶ this thread, and every one that it starts
//!                │
//!   reload: does it need more? ──▶ refused, with the keys
//! ```
//!
//! Rules about files are for whole directories: a certificate is renewed, and a log made anew, as another file with the
//! same name. Rules about ports are for one port each, of any address; one more costs a microsecond once and some 100
//! bytes in the kernel, so that every range is written out.

mod needs;

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, AddRuleError, AddRulesError, BitFlags, CompatLevel, Compatible, LandlockStatus,
    NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::io::Errno;

use self::needs::{File, Needs, PortSet, Ports, Shown};
use super::Beyond;
use crate::config::Config;

/// What this program has been tested with. What later versions can restrict is left alone.
const TESTED: ABI = ABI::V6;

/// The first that knows ports.
const WITH_PORTS: ABI = ABI::V4;

/// What look-ups of names (resolver, NSS modules and their libraries), the machine's certificate authorities, its time
/// zone, the metrics of this process, the firmware's tables and the limits of a container are read from. As whole
/// directories: `/etc/resolv.conf` is replaced by another file whenever a network changes.
const SYSTEM: [&str; 12] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    // Of openSUSE, where /etc/ssl leads to.
    "/var/lib/ca-certificates",
    "/proc",
    "/sys/devices/virtual/dmi",
    "/sys/fs/cgroup",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
];

/// Files of look-ups that are often links to somewhere else.
const LINKS: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// Where OpenSSL, and rustls-native-certs after it, are told to find authorities instead: in a file, in directories.
const AUTHORITIES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What the process uses beside what its configuration names.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// proxy.yaml, which a reload reads again.
    pub config: &'a Path,
    /// Where it takes commands, if it does.
    pub commands: Option<&'a Path>,
}

/// How much of it this kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent(LandlockStatus);

impl Extent {
    /// What this machine's kernel would do for this process.
    #[must_use]
    pub fn here() -> Self {
        // Who asks is restricted, so it is a thread of its own, and nobody's any more when it is answered.
        let asked = std::thread::spawn(|| Some(handled().ok()?.create().ok()?.restrict_self().ok()?.landlock));
        Self(asked.join().ok().flatten().unwrap_or(LandlockStatus::NotImplemented))
    }

    /// What is missing, and what it takes. `None`: nothing.
    #[must_use]
    pub fn shortfall(self) -> Option<String> {
        let what = match self.0 {
            LandlockStatus::NotImplemented => {
                "this kernel has no Landlock (Linux 5.13 is the first that may), or a filter \
                 of system calls hides it: nothing is restricted"
                    .into()
            }
            LandlockStatus::NotEnabled => {
                "this kernel has Landlock, but its parameter `lsm=` does not name it: nothing is restricted".into()
            }
            LandlockStatus::Available { effective_abi: abi, .. } if abi < WITH_PORTS => format!(
                "this kernel's Landlock has version {abi}: files are restricted, ports are not; that takes version 4, \
                 of Linux 6.7"
            ),
            LandlockStatus::Available { effective_abi: abi, .. } if abi < TESTED => format!(
                "this kernel's Landlock has version {abi}: ports and files are restricted, signals and abstract \
                 sockets are not; that takes version 6, of Linux 6.12"
            ),
            LandlockStatus::Available { .. } => return None,
        };
        Some(format!("landlock: {what}"))
    }

    fn abi(self) -> ABI {
        match self.0 {
            LandlockStatus::Available { effective_abi, .. } => effective_abi,
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => ABI::Unsupported,
        }
    }
}

/// What the kernel holds the process to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confinement {
    extent: Extent,
    binds: PortSet,
    connects: PortSet,
    /// Directories below which files are read. Without links, as the kernel compares.
    readable: Vec<PathBuf>,
    /// The directory of the transfer log, or the log itself where it is a pipe or the like.
    appendable: Option<PathBuf>,
}

impl Confinement {
    /// Restricts this thread, and those that it will start, to what a configuration needs, as far as the kernel can.
    ///
    /// # Errors
    /// The kernel could, and does not: it is out of memory, say.
    pub(super) fn enforce(config: &Config, places: &Places<'_>) -> Result<Self, RulesetError> {
        let needs = Needs::of(config);
        let (binds, connects) = (PortSet::of(&needs.binds), PortSet::of(&needs.connects));
        let (readable, appendable) = (readable(&needs, places), needs.log.as_ref().map(|log| log_place(&log.path)));
        let mut rules = handled()?.create()?;
        for (ports, access) in [(&binds, AccessNet::BindTcp), (&connects, AccessNet::ConnectTcp)] {
            for port in ports.iter() {
                (&mut rules).add_rule(NetPort::new(port, access))?;
            }
        }
        for directory in &readable {
            allow(&mut rules, directory, AccessFs::ReadFile | AccessFs::ReadDir)?;
        }
        if let Some(place) = &appendable {
            allow(&mut rules, place, AccessFs::WriteFile | AccessFs::MakeReg)?;
        }
        if let Some(socket) = places.commands {
            // Made under another name and renamed, perhaps over what another process has left there.
            allow(&mut rules, &directory_of(socket), AccessFs::MakeSock | AccessFs::RemoveFile)?;
        }
        let extent = Extent(rules.restrict_self()?.landlock);
        Ok(Self { extent, binds, connects, readable, appendable })
    }

    /// What another configuration needs beyond it.
    pub(super) fn lacks(&self, config: &Config) -> Vec<Beyond> {
        let needs = Needs::of(config);
        let mut beyond = Vec::new();
        if self.extent.abi() >= WITH_PORTS {
            for (ports, own, verb) in
                [(&needs.binds, &self.binds, "bound"), (&needs.connects, &self.connects, "connected to")]
            {
                let missing = ports.iter().filter(|ports| !own.has_all(&ports.range));
                beyond.extend(missing.map(|Ports { key, range }| Beyond::Port {
                    key: key.clone(),
                    ports: Shown(range).to_string(),
                    verb,
                }));
            }
        }
        if self.extent.abi() > ABI::Unsupported {
            let is_readable = |path: &Path| self.readable.iter().any(|directory| path.starts_with(directory));
            let unread = needs.reads.iter().filter(|file| !is_readable(&without_links(&file.path)));
            beyond.extend(unread.map(|file| elsewhere(file, "read")));
            let is_appendable = |path: &Path| self.appendable.as_ref().is_some_and(|own| path.starts_with(own));
            let unwritten = needs.log.iter().filter(|log| !is_appendable(&log_place(&log.path)));
            beyond.extend(unwritten.map(|log| elsewhere(log, "written")));
        }
        beyond
    }

    /// Says in the log what it is.
    pub(super) fn tell(&self) {
        match self.extent.abi() {
            ABI::Unsupported => {}
            abi if abi < WITH_PORTS => tracing::info!(version = %abi, "Landlock: the process is held to its files"),
            abi => tracing::info!(
                version = %abi, bind = %self.binds, connect = %self.connects,
                "Landlock: the process is held to its ports and files"
            ),
        }
        if let Some(shortfall) = self.extent.shortfall() {
            tracing::warn!("{shortfall}");
        }
    }
}

fn elsewhere(file: &File, verb: &'static str) -> Beyond {
    Beyond::File { key: file.key.clone(), path: file.path.clone(), verb }
}

/// Rules that permit nothing yet.
fn handled() -> Result<Ruleset, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TESTED))?
        .handle_access(AccessNet::from_all(TESTED))?
        .scope(Scope::from_all(TESTED))
}

/// Permits something at, and below, a path. What is not there needs no permission: who misses it says so better.
fn allow(rules: &mut RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
    let Ok(place) = PathFd::new(path) else { return Ok(()) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(TESTED) };
    match rules.add_rule(PathBeneath::new(place, access)) {
        // A pipe without a name, as standard output may be, is in no directory, and never restricted.
        Err(RulesetError::AddRules(AddRulesError::Fs(AddRuleError::AddRuleCall { source, .. })))
            if source.raw_os_error() == Some(Errno::BADFD.raw_os_error()) =>
        {
            Ok(())
        }
        added => added.map(drop),
    }
}

/// The directories below which a configuration has files read.
fn readable(needs: &Needs, places: &Places<'_>) -> Vec<PathBuf> {
    let system = SYSTEM.iter().map(PathBuf::from);
    let links = LINKS.iter().map(|path| promised_directory(Path::new(path)));
    let [authorities, more] = AUTHORITIES.map(|name| std::env::var_os(name).unwrap_or_default());
    let more: Vec<PathBuf> = std::env::split_paths(&more).filter(|path| !path.as_os_str().is_empty()).collect();
    // Both where the name is and where it leads to: either may get the next one.
    let files = needs.reads.iter().map(|file| file.path.as_path()).chain([places.config]);
    let files = files.chain(Some(Path::new(&authorities)).filter(|path| !path.as_os_str().is_empty()));
    let files = files.flat_map(|path| [directory_of(path), target_directory(path)]);
    let mut all: Vec<PathBuf> = system.chain(more).map(|path| without_links(&path)).chain(links).chain(files).collect();
    all.sort_unstable();
    // In order, what is below a directory comes right behind it.
    all.dedup_by(|next, kept| next.starts_with(&*kept));
    all
}

/// Where the log is: its directory, for another one once it is renamed; a pipe, a terminal or the like itself.
fn log_place(path: &Path) -> PathBuf {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => target_directory(path),
        Ok(_) => without_links(path),
        Err(_) => directory_of(path),
    }
}

/// The directory that the name of a file is in.
fn directory_of(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    without_links(path.parent().unwrap_or(&path))
}

/// The directory of the file that a name leads to.
fn target_directory(path: &Path) -> PathBuf {
    directory_of(&without_links(path))
}

/// The directory of the file that a link leads to, or what there is of it: at boot a resolver may come after us.
fn promised_directory(link: &Path) -> PathBuf {
    let Some(target) = std::fs::read_link(link).ok().filter(|_| !link.exists()) else { return target_directory(link) };
    let target = link.parent().unwrap_or(link).join(target);
    let there = target.ancestors().skip(1).find_map(|place| std::fs::canonicalize(place).ok());
    there.filter(|place| place.parent().is_some()).unwrap_or_else(|| directory_of(link))
}

/// The same place by its own name. What is not there stays as it is written.
fn without_links(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
