//! The disk that all virtual machines share, and their kernel and initramfs: busybox, runc, CNI plugins, containerd,
//! kubelet and the clock probe. They are cached under the hash of their contents.
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use sha2::{Digest, Sha256};
use xtask::{checkout, image, process, tools};

use crate::{cpio::Cpio, kernel::Kernel};

const INIT: &str = include_str!("guest/init");
const INIT2: &str = include_str!("guest/init2");
const CLOCKPROBE: &str = include_str!("guest/clockprobe.c");
const HAND: &str = include_str!("guest/hand");
const THIS: &str = include_str!("vm_image.rs");

/// Debian's programs in the image, each with the shared libraries that it needs.
const PROGRAMS: [&str; 10] = [
    "/bin/busybox",
    "/usr/sbin/chronyd",
    "/usr/sbin/runc",
    "/usr/bin/mount",
    "/usr/bin/umount",
    "/usr/bin/nsenter",
    "/usr/lib/cni/bridge",
    "/usr/lib/cni/host-local",
    "/usr/lib/cni/loopback",
    "/usr/lib/cni/portmap",
];
/// The time zones in the image. The nodes use the first.
pub const ZONES: [&str; 3] = ["UTC", "Asia/Shanghai", "Europe/Berlin"];
/// The kubelet starts the pods of the manifests in this folder, also without an API server.
pub(crate) const STATIC_PODS: &str = "/etc/kubernetes/manifests";
const MODULES: [&str; 7] =
    ["virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "overlay", "bridge", "veth"];

/// The folder with `vmlinuz`, `initrd` and `root.ext4`. Makes it if it does not exist.
pub(crate) fn ready() -> anyhow::Result<PathBuf> {
    let kernel = Kernel::ready()?;
    let folder = checkout::cache().join(format!("vm-{}", &hash(&kernel)?[..16]));
    if folder.exists() {
        return Ok(folder);
    }
    eprintln!("  making the virtual machines' disk (usually 10 s) …");
    let half = checkout::cache().join(format!(".vm.{}", std::process::id()));
    let _ = fs::remove_dir_all(&half);
    fs::create_dir_all(&half)?;
    fs::copy(kernel.image()?, half.join("vmlinuz"))?;
    fs::write(half.join("initrd"), initrd(&kernel)?)?;
    let root = half.join("root");
    fill(&root)?;
    let disk = half.join("root.ext4");
    process::run(
        Command::new("mke2fs")
            // The file system has a journal, so that a node boots after a power cut.
            .args(["-q", "-t", "ext4", "-d"])
            .arg(&root)
            .arg(disk)
            .arg("1200M"),
    )?;
    fs::remove_dir_all(&root)?;
    fs::rename(half, &folder)?;
    Ok(folder)
}

fn hash(kernel: &Kernel) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    for text in [INIT, INIT2, CLOCKPROBE, HAND, THIS, &kernel.version()] {
        hash.update(text);
    }
    for program in PROGRAMS {
        let about = fs::metadata(program).with_context(|| format!("{program} is needed"))?;
        hash.update(format!("{program} {} {:?}", about.len(), about.modified()?));
    }
    // Their folders are named after their contents.
    for tool in node_tools()? {
        hash.update(tool.display().to_string());
    }
    Ok(format!("{:x}", hash.finalize()))
}

fn node_tools() -> anyhow::Result<Vec<PathBuf>> {
    ["containerd", "containerd-shim-runc-v2", "ctr", "kubelet"].iter().map(|name| tools::path(name)).collect()
}

fn fill(root: &Path) -> anyhow::Result<()> {
    let folders = "bin sbin usr/bin usr/sbin etc proc sys dev run tmp var/lib root k lib64 usr/lib lib";
    for folder in folders.split(' ') {
        fs::create_dir_all(root.join(folder))?;
    }
    for program in PROGRAMS {
        copy_with_libraries(Path::new(program), root)?;
    }
    for tool in node_tools()? {
        fs::copy(&tool, root.join("usr/bin").join(tool.file_name().context("a program has a name")?))?;
    }
    image::compile(CLOCKPROBE, &root.join("usr/bin/clockprobe"))?;
    add_zones(root)?;
    fs::create_dir_all(root.join(STATIC_PODS.trim_start_matches('/')))?;
    for (name, text) in [
        // chronyd looks up its user when it starts.
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\n_chrony:x:101:101::/var/lib/chrony:/bin/false\n"),
        ("etc/group", "root:x:0:\n_chrony:x:101:\n"),
        ("etc/hosts", "127.0.0.1 localhost\n"),
        ("etc/os-release", "PRETTY_NAME=\"test node\"\nID=testnode\n"),
        ("etc/resolv.conf", ""),
        ("init2", INIT2),
        ("usr/bin/hand", HAND),
    ] {
        fs::write(root.join(name), text)?;
    }
    for program in ["init2", "usr/bin/hand"] {
        fs::set_permissions(root.join(program), Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn add_zones(root: &Path) -> anyhow::Result<()> {
    for zone in ZONES {
        let path = Path::new("/usr/share/zoneinfo").join(zone);
        let to = root.join(path.strip_prefix("/")?);
        fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        fs::copy(&path, to).with_context(|| format!("{} is needed", path.display()))?;
    }
    symlink(Path::new("/usr/share/zoneinfo").join(ZONES[0]), root.join("etc/localtime"))?;
    Ok(())
}

fn copy_with_libraries(program: &Path, root: &Path) -> anyhow::Result<()> {
    // A static program has no libraries, and ldd fails for it.
    let listed = process::output(Command::new("ldd").arg(program))?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
    for path in libraries.chain([program]) {
        let to = root.join(path.strip_prefix("/")?);
        fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        fs::copy(path, to)?;
    }
    Ok(())
}

fn initrd(kernel: &Kernel) -> anyhow::Result<Vec<u8>> {
    let mut archive = Cpio::default();
    archive.device("dev/console", 5, 1);
    archive.file("init", INIT.as_bytes(), 0o755);
    archive.file("bin/busybox", &fs::read("/bin/busybox")?, 0o755);
    let mut order = String::new();
    for module in kernel.modules(&MODULES)? {
        let name = module.file_name().context("a module has a name")?.to_string_lossy().into_owned();
        archive.file(&format!("lib/modules/{name}"), &fs::read(&module)?, 0o644);
        order += &format!("{name}\n");
    }
    archive.file("lib/modules/order", order.as_bytes(), 0o644);
    Ok(archive.finish())
}
