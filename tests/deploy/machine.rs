//! The Debian package in a machine of its own, where systemd runs: QEMU, with the disk that machine/root.sh makes. What
//! the unit forbids is in force only there.

use std::fs;
use std::process::Command;

use crate::package::built;
use crate::unit::EXPOSED_AT_MOST;
use crate::{installed, repository, run};

/// In seconds. Without hardware to help, three minutes are usual; a machine with other work takes twice that.
const DEADLINE: &str = "900";

/// As machine/inside.sh has it, step by step.
#[test]
#[ignore = "`make machine`: it takes minutes, and what tests/setup.sh installs for it"]
fn sec_33_the_service_works_under_a_running_systemd() {
    let dir = tempfile::tempdir().unwrap();
    built(dir.path());
    fs::copy(repository().join("tests/deploy/machine/inside.sh"), dir.path().join("inside.sh")).unwrap();
    fs::write(dir.path().join("exposed-at-most"), EXPOSED_AT_MOST.to_string()).unwrap();
    let given = dir.path().join("given.tar");
    let files = ["ftp-alg.deb", "inside.sh", "exposed-at-most"];
    run(Command::new("tar").arg("-cf").arg(&given).arg("-C").arg(dir.path()).args(files));

    let boot = dir.path().join("boot");
    let disk = |file: &std::path::Path| format!("file={},format=raw,if=virtio,snapshot=on", file.display());
    let mut qemu = Command::new("timeout");
    qemu.args([DEADLINE, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024"])
        .args(["-nodefaults", "-display", "none", "-nic", "none"])
        .arg("-kernel")
        .arg(installed("machine/vmlinuz"))
        .arg("-initrd")
        .arg(installed("machine/initrd.img"))
        .args(["-append", "root=/dev/vda rw console=ttyS0 quiet"])
        .args(["-drive", &disk(&installed("machine/disk")), "-drive", &disk(&given)])
        .args(["-serial", &format!("file:{}", boot.display()), "-serial", "stdio"]);
    let (said, _) = run(&mut qemu);
    println!("{said}");
    assert!(said.trim_end().ends_with("all is well"), "{said}\nThe machine:\n{}", fs::read_to_string(boot).unwrap());
}
