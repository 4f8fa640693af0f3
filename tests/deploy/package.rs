//! The Debian package, from the program under test: what is in it, and that it installs into an empty root.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{FTP_ALG, repository, run};

/// Builds it from the binary of the test's own profile: a release build takes minutes and is packed in the same way.
pub fn built(dir: &Path) -> PathBuf {
    let target = Path::new(FTP_ALG).ancestors().nth(2).unwrap();
    let package = dir.join("ftp-alg.deb");
    run(Command::new(env!("CARGO"))
        .args(["deb", "--no-build", "--no-strip", "--fast", "--profile", "dev", "--output"])
        .arg(&package)
        .current_dir(repository())
        .env("CARGO_TARGET_DIR", target));
    package
}

/// Copies a program of this machine, with the libraries that it needs.
fn lend(root: &Path, program: &str) {
    let (libraries, _) = run(Command::new("ldd").arg(program));
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    for file in std::iter::once(program).chain(libraries) {
        let copy = root.join(&file[1..]);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    }
}

/// A root with what the maintainer scripts use, and no more: they run in it with chroot, and touch nothing outside.
fn empty_root(root: &Path) {
    for program in ["/bin/sh", "/bin/chown", "/bin/chmod", "/bin/rm", "/bin/systemd-sysusers", "/bin/true"] {
        lend(root, program);
    }
    for folder in ["etc", "run", "tmp", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
    // It is a Perl program, and writes symbolic links that say which units are enabled: none.
    fs::rename(root.join("bin/true"), root.join("bin/deb-systemd-helper")).unwrap();
}

fn dpkg(root: &Path, what: &[&str]) {
    let mut dpkg = Command::new("dpkg");
    dpkg.arg(format!("--root={}", root.display())).args(["--force-depends", "--force-bad-path", "--force-confold"]);
    run(dpkg.args(what).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"));
}

/// Owner, group and mode of an installed file, as `ls` has them.
fn standing(root: &Path, path: &str) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    (found.uid(), found.gid(), found.permissions().mode() & 0o7777)
}

#[test]
fn the_package_installs_updates_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let package = built(dir.path());
    let package = package.to_str().unwrap();
    let root = dir.path().join("root");
    empty_root(&root);
    dpkg(&root, &["--install", package]);

    for file in [
        "usr/lib/systemd/system/ftp-alg.service",
        "usr/lib/systemd/system/ftp-alg.socket",
        "usr/lib/sysusers.d/ftp-alg.conf",
        "usr/lib/tmpfiles.d/ftp-alg.conf",
        "usr/lib/sysctl.d/30-ftp-alg.conf",
        "usr/share/doc/ftp-alg/README.md",
        "usr/share/doc/ftp-alg/deploy/same-host.nft",
        "etc/ftp-alg/proxy.yaml",
    ] {
        assert_eq!(standing(&root, file), (0, 0, 0o644), "{file}");
    }
    assert_eq!(standing(&root, "usr/bin/ftp-alg"), (0, 0, 0o755));

    // The user is there, and nothing but root may write where the configuration is.
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap();
    let user = passwd.lines().find(|line| line.starts_with("ftp-alg:")).expect("no user ftp-alg");
    assert!(user.ends_with(":/usr/sbin/nologin"), "{user}");
    let group: u32 = user.split(':').nth(3).unwrap().parse().unwrap();
    assert_ne!(group, 0);
    assert_eq!(standing(&root, "etc/ftp-alg"), (0, group, 0o750));

    // It is installed and not enabled: the addresses in proxy.yaml are nobody's.
    for target in ["multi-user.target", "sockets.target"] {
        assert!(!root.join("etc/systemd/system").join(format!("{target}.wants")).exists(), "{target}");
    }
    // Clients wait at the socket while an update restarts the service.
    let postinst = fs::read_to_string(root.join("var/lib/dpkg/info/ftp-alg.postinst")).unwrap();
    let restarted: Vec<_> = postinst.lines().filter(|line| line.contains("deb-systemd-invoke")).collect();
    assert!(matches!(restarted[..], [line] if line.ends_with(" try-restart ftp-alg.service")), "{restarted:?}");
    let installed = root.join("usr/bin/ftp-alg");
    let (plan, _) = run(Command::new(installed).arg("check").arg("--config").arg(root.join("etc/ftp-alg/proxy.yaml")));
    assert!(plan.contains("21, 20000-20020"), "{plan}");

    // What is the administrator's stays so.
    let config = root.join("etc/ftp-alg/proxy.yaml");
    fs::write(&config, "# mine\n").unwrap();
    fs::set_permissions(root.join("etc/ftp-alg"), fs::Permissions::from_mode(0o755)).unwrap();
    dpkg(&root, &["--install", package]);
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
    assert_eq!(standing(&root, "etc/ftp-alg").2, 0o755);
    // As the unit makes it.
    let logs = root.join("var/log/ftp-alg");
    fs::create_dir_all(&logs).unwrap();
    dpkg(&root, &["--remove", "ftp-alg"]);
    assert!(config.exists() && logs.exists() && !root.join("usr/bin/ftp-alg").exists());
    dpkg(&root, &["--purge", "ftp-alg"]);
    assert!(!config.exists() && !logs.exists());
}
