//! What a machine without Kubernetes boots: a kernel, and an initramfs with busybox, the agent, and the programs that the
//! tests set against it. Made anew for each run, since it holds the agent.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use xtask::{checkout, image, process};

use crate::{cpio::Cpio, kernel::Kernel};

const INIT: &str = include_str!("../guest/plain-init");
const HAND: &str = include_str!("../guest/hand");
const CLOCKPROBE: &str = include_str!("../guest/clockprobe.c");

/// Of Debian, each with the shared libraries that it needs.
const PROGRAMS: [&str; 2] = ["/usr/sbin/chronyd", "/usr/sbin/hwclock"];
const MODULES: [&str; 4] = ["virtio_pci", "virtio_console", "virtio_net", "virtio_blk"];
/// chronyd looks its user up before it does anything.
const PASSWD: &str = "root:x:0:0::/root:/bin/sh\n_chrony:x:101:101::/var/lib/chrony:/bin/false\n";

/// Writes `vmlinuz` and `initrd` into `folder`.
pub(super) fn write(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let kernel = Kernel::ready()?;
    fs::copy(kernel.image()?, folder.join("vmlinuz"))?;
    let mut archive = Cpio::default();
    archive.device("dev/console", 5, 1);
    archive.file("init", INIT.as_bytes(), 0o755);
    archive.file("bin/hand", HAND.as_bytes(), 0o755);
    archive.file("bin/busybox", &fs::read("/bin/busybox")?, 0o755);
    let probe = folder.join("clockprobe");
    image::compile(CLOCKPROBE, &probe)?;
    archive.file("bin/clockprobe", &fs::read(&probe)?, 0o755);
    archive.file("bin/timesync-agent", &fs::read(image::program("timesync-agent"))?, 0o755);
    for path in programs()? {
        let body = fs::read(&path).with_context(|| format!("{} is needed", path.display()))?;
        archive.file(&path.strip_prefix("/")?.display().to_string(), &body, 0o755);
    }
    for (name, text) in [
        ("etc/passwd", PASSWD),
        ("etc/group", "root:x:0:\n_chrony:x:101:\n"),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\n"),
        ("etc/resolv.conf", ""),
    ] {
        archive.file(name, text.as_bytes(), 0o644);
    }
    let mut order = String::new();
    for module in kernel.modules(&MODULES)? {
        let name = module.file_name().context("a module has a name")?.to_string_lossy().into_owned();
        archive.file(&format!("lib/modules/{name}"), &fs::read(&module)?, 0o644);
        order += &format!("{name}\n");
    }
    archive.file("lib/modules/order", order.as_bytes(), 0o644);
    fs::write(folder.join("initrd"), archive.finish())?;
    Ok(())
}

/// Where it lies.
pub(super) fn folder() -> PathBuf {
    checkout::state().join("machine")
}

fn programs() -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for program in PROGRAMS {
        let listed = process::run(Command::new("ldd").arg(program))?;
        all.extend(listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
        all.insert(PathBuf::from(program));
    }
    Ok(all)
}
