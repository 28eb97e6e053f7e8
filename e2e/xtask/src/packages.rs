//! Debian packages that clusters and tests need. If the user is root and apt exists, installs them, else lists them. No
//! daemon of a package may start: policy-rc.d forbids it, and without CAP_SYS_TIME it could not set the clock.
use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::bail;

use crate::{checkout, process};

/// A package, and a program or file that shows that it is installed.
const NEEDED: &[(&str, &str)] = &[
    ("busybox-static", "busybox"),
    ("chrony", "chronyd"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("e2fsprogs", "mke2fs"),
    ("etcd-server", "etcd"),
    ("gcc", "gcc"),
    ("iproute2", "ip"),
    ("iptables", "iptables"),
    ("libc6-dev", "/usr/include/stdio.h"),
    ("libsystemd-shared", "/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so"),
    ("nftables", "nft"),
    ("ntpsec-ntpdig", "ntpdig"),
    ("ntpstat", "ntpstat"),
    ("procps", "sysctl"),
    ("prometheus", "prometheus"),
    ("python3-ntp", "/usr/lib/python3/dist-packages/ntp"),
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("qemu-utils", "qemu-img"),
    ("runc", "runc"),
    ("tzdata", "/usr/share/zoneinfo/Asia/Shanghai"),
    ("util-linux", "nsenter"),
    ("util-linux-extra", "hwclock"),
];

/// Packages that conflict with one of the others (as ntpsec does with chrony), or of which only the program is wanted,
/// not the service. They are unpacked in the cache and not installed. Each has a file that shows that it is unpacked.
const UNPACKED: &[(&str, &str)] = &[
    ("docker-registry", "usr/bin/docker-registry"),
    ("ntpsec", "usr/sbin/ntpd"),
    ("prometheus-node-exporter", "usr/bin/prometheus-node-exporter"),
    ("systemd-timesyncd", "lib/systemd/systemd-timesyncd"),
];

/// For programs for arm64: the linker, the C library, and an emulator to run them.
const FOR_ARM64: &[(&str, &str)] = &[
    ("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
    ("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/lib/libc.a"),
    ("qemu-user-static", "qemu-aarch64-static"),
];

/// Makes sure that the packages for arm64 are there.
pub fn ensure_for_arm64() -> anyhow::Result<()> {
    install(FOR_ARM64)
}

/// Makes sure that all are there.
pub fn ensure() -> anyhow::Result<()> {
    install(NEEDED)?;
    for (package, proof) in UNPACKED {
        let folder = checkout::cache().join(package);
        if !folder.join(proof).exists() {
            unpack(package, &folder)?;
        }
    }
    Ok(())
}

fn unpack(package: &str, folder: &Path) -> anyhow::Result<()> {
    if !present("apt-get") {
        bail!("the tests need what Debian's package {package} holds, in {}", folder.display());
    }
    // Renames the folder at the end, so that an incomplete one is never used.
    let half = folder.with_extension("half");
    let _ = fs::remove_dir_all(&half);
    fs::create_dir_all(&half)?;
    let log = checkout::cache().join("packages.log");
    // A machine that has all other packages may never have fetched the lists.
    let download = format!(
        "apt-get -q download {package} || {{ apt-get -q update && apt-get -q download {package}; }} || exit\n\
         dpkg -x {package}_*.deb . && rm {package}_*.deb"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &download]).current_dir(&half);
    process::run_shown(&mut command, &format!("unpacking {package}"), "2 s", &log)?;
    fs::rename(half, folder)?;
    Ok(())
}

fn install(needed: &'static [(&'static str, &'static str)]) -> anyhow::Result<()> {
    let missing: Vec<_> =
        needed.iter().filter(|(_, proof)| !present(proof)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() || !present("apt-get") {
        bail!(
            "these programs are needed; install their Debian packages, or what corresponds: {}",
            missing.join(" ")
        );
    }
    fs::create_dir_all(checkout::cache())?;
    let log = checkout::cache().join("packages.log");
    let _quiet = QuietDaemons::begin()?;
    process::run_shown(&mut apt(&["update"]), "apt-get update", "10 s", &log)?;
    let words: Vec<_> =
        ["install", "-y", "--no-install-recommends"].iter().chain(&missing).copied().collect();
    process::run_shown(&mut apt(&words), &format!("installing {}", missing.join(" ")), "1 min", &log)
}

/// Returns true if the user is root.
pub fn is_root() -> bool {
    process::sh("id -u").is_ok_and(|id| id.trim() == "0")
}

fn apt(words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_time", "--inh-caps", "-sys_time", "apt-get", "-q"]).args(words);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Returns true if a program is in PATH or in root's usual folders, or if a file exists.
pub(crate) fn present(proof: &str) -> bool {
    if proof.starts_with('/') {
        return Path::new(proof).exists();
    }
    let mut folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    folders.extend(["/usr/sbin".into(), "/sbin".into()]);
    folders.iter().any(|folder| folder.join(proof).exists())
}

/// Until this is dropped, packages do not start their daemons (Debian policy-rc.d: 101 means forbidden).
struct QuietDaemons {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl QuietDaemons {
    fn begin() -> anyhow::Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(POLICY, Permissions::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for QuietDaemons {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
