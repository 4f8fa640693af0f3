//! deploy/systemd: what systemd says of it, and that the program works with what it leaves.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::{FTP_ALG, repository, run, text};

const UNIT: &str = "deploy/systemd/ftp-alg.service";

/// Ten times what `systemd-analyze security` prints; 0 is best, a service without any protection has 9.6. What is left is
/// the network, the capability for port 21, and the machine's own root directory.
pub const EXPOSED_AT_MOST: u32 = 18;

/// The values of a key of the unit, as often as it is set.
fn values<'unit>(unit: &'unit str, key: &str) -> Vec<&'unit str> {
    let found: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
    assert!(!found.is_empty(), "{UNIT} has no {key}");
    found
}

/// systemd knows every key and value. It also wants the programs to exist, so the path is that of the one under test; and
/// the service for which a socket is.
#[test]
fn the_units_are_valid() {
    let dir = tempfile::tempdir().unwrap();
    let [service, socket] = ["ftp-alg.service", "ftp-alg.socket"].map(|name| dir.path().join(name));
    let here = text(UNIT).replace("/usr/bin/ftp-alg", FTP_ALG);
    assert!(here.contains(FTP_ALG));
    fs::write(&service, here).unwrap();
    fs::write(&socket, text("deploy/systemd/ftp-alg.socket")).unwrap();
    let (stdout, stderr) = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).args([service, socket]));
    // What it does not know it skips, with a warning and exit status 0.
    let own: Vec<_> = stdout.lines().chain(stderr.lines()).filter(|line| line.contains("ftp-alg")).collect();
    assert!(own.is_empty(), "{own:#?}");
}

#[test]
fn sec_33_the_unit_is_hardened() {
    let mut analyze = Command::new("systemd-analyze");
    let (report, _) = run(analyze
        .args(["security", "--offline=yes", "--no-pager", &format!("--threshold={EXPOSED_AT_MOST}"), UNIT])
        .current_dir(repository()));
    // With an older systemd that cannot do it there would be a number for nothing.
    assert!(report.contains("Overall exposure level for ftp-alg.service"), "{report}");
}

/// The system calls of these groups and names, as systemd-analyze expands them.
fn system_calls(names: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
    while let Some(name) = open.pop() {
        if name.starts_with('@') {
            let (members, _) = run(Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", &name]));
            open.extend(
                members.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#')).map(str::to_owned),
            );
        } else {
            found.insert(name);
        }
    }
    found
}

/// Transfers in every mode as a user without rights, with the one capability and no new privileges: they work, and use
/// nothing that the unit forbids. A trace names the call that would be; tests/deploy/machine.rs has the filters in force.
#[test]
fn sec_33_the_program_needs_no_more_than_the_unit_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    run(Command::new("timeout")
        .args(["120", "unshare", "--net", "sh", "tests/deploy/traced.sh", FTP_ALG])
        .arg(&trace)
        .current_dir(repository()));
    let trace = fs::read_to_string(&trace).unwrap();
    // What came before is setpriv's.
    let start = trace.find(&format!("execve(\"{FTP_ALG}\"")).unwrap();
    let calls: Vec<_> = trace[start..]
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim_start()))
        .filter(|call| call.starts_with(|first: char| first.is_ascii_lowercase()))
        .collect();
    assert!(calls.iter().any(|call| call.starts_with("splice(")), "nothing was transferred");
    // SEC-34: Landlock's rules are those of a thread and of what it starts.
    let first = |name: &str| calls.iter().position(|call| call.starts_with(name)).expect(name);
    assert!(first("landlock_restrict_self(") < first("clone"), "threads that started before are not restricted");

    let unit = text(UNIT);
    let [allowed, refused] = values(&unit, "SystemCallFilter")[..] else { panic!("SystemCallFilter is set twice") };
    let refused = system_calls(refused.strip_prefix('~').unwrap());
    let allowed: BTreeSet<_> = system_calls(allowed).difference(&refused).cloned().collect();
    let families = values(&unit, "RestrictAddressFamilies").concat();
    for call in calls {
        let name = call.split('(').next().unwrap();
        // What systemd allows always, to get as far as the program.
        assert!(allowed.contains(name) || name == "execve", "the unit does not allow {call}");
        if let Some(arguments) = call.strip_prefix("socket(") {
            let family = arguments.split(',').next().unwrap();
            assert!(families.split(' ').any(|known| known == family), "the unit does not allow {call}");
        }
        assert!(!(call.contains("PROT_WRITE") && call.contains("PROT_EXEC")), "MemoryDenyWriteExecute: {call}");
        let writes = name == "openat" && (call.contains("O_WRONLY") || call.contains("O_RDWR"));
        assert!(!writes || call.contains("\"/dev/"), "ProtectSystem=strict: {call}");
    }
}

/// Those of `ftp-alg run`: what a restart cannot help, how long a drain may take, what 10,000 sessions hold open.
#[test]
fn the_unit_fits_the_program() {
    let unit = text(UNIT);
    assert_eq!(values(&unit, "RestartPreventExitStatus"), ["2"]);
    assert_eq!(values(&unit, "AmbientCapabilities"), values(&unit, "CapabilityBoundingSet"));
    // It would start the socket, which is the operator's to enable.
    assert!(!unit.contains("\nSockets="));
    let readme = text("README.md");
    let limit = format!("LimitNOFILE={}", values(&unit, "LimitNOFILE")[0]);
    assert!(readme.contains(&limit), "the README does not say {limit}");
}
