//! Debian's cloud kernel for the virtual machines: downloaded with apt once, unpacked into the cache, never installed.
//! Returns the kernel's file, and modules in the order in which they can be loaded.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use xtask::{checkout, process};

/// An unpacked kernel package.
pub(crate) struct Kernel {
    tree: PathBuf,
}

impl Kernel {
    /// Returns the cached package, or downloads one.
    pub(crate) fn ready() -> anyhow::Result<Self> {
        let cache = checkout::cache();
        fs::create_dir_all(&cache)?;
        if let Some(tree) = first(&cache, |name| name.starts_with("kernel-"))? {
            return Ok(Self { tree });
        }
        let log = cache.join("kernel.log");
        let package = package().or_else(|_| {
            process::run_shown(
                Command::new("apt-get").args(["-q", "update"]),
                "apt-get update",
                "10 s",
                &log,
            )?;
            package()
        })?;
        let half = cache.join(format!(".kernel.{}", std::process::id()));
        let _ = fs::remove_dir_all(&half);
        fs::create_dir_all(&half)?;
        let mut download = Command::new("apt-get");
        download.args(["-q", "download", &package]).current_dir(&half);
        process::run_shown(&mut download, &format!("downloading {package}"), "5 s", &log)?;
        let deb = first(&half, |name| name.ends_with(".deb"))?.context("apt-get left no package")?;
        process::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&half))?;
        fs::remove_file(deb)?;
        let tree = cache.join(format!("kernel-{package}"));
        fs::rename(half, &tree)?;
        Ok(Self { tree })
    }

    /// The kernel itself.
    pub(crate) fn image(&self) -> anyhow::Result<PathBuf> {
        first(&self.tree.join("boot"), |name| name.starts_with("vmlinuz-"))?
            .context("the package holds no kernel")
    }

    /// A name of this version for the keys of caches.
    pub(crate) fn version(&self) -> String {
        self.tree.display().to_string()
    }

    /// The files of the wanted modules, each after its dependencies.
    pub(crate) fn modules(&self, wanted: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        collect(&self.tree.join("lib/modules"), &mut files)?;
        let mut order = Vec::new();
        for name in wanted {
            visit(name, &files, &mut order)?;
        }
        Ok(order)
    }
}

/// The package on which the meta package depends at present.
fn package() -> anyhow::Result<String> {
    let text = process::sh("apt-cache depends --important linux-image-cloud-amd64")?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    line.map(str::to_owned).context("apt knows no cloud kernel")
}

fn first(folder: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Option<PathBuf>> {
    let listed = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found: Vec<_> = listed
        .flatten()
        .filter(|entry| wanted(&entry.file_name().to_string_lossy()))
        .map(|e| e.path())
        .collect();
    found.sort();
    Ok(found.into_iter().next_back())
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), into)?;
        } else if entry.path().extension().is_some_and(|extension| extension == "ko") {
            into.push(entry.path());
        }
    }
    Ok(())
}

fn visit(name: &str, files: &[PathBuf], order: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    // File names and dependencies use `-` or `_`, and not always the same one.
    let same = |path: &Path| {
        path.file_stem()
            .is_some_and(|stem| stem.to_string_lossy().replace('-', "_") == name.replace('-', "_"))
    };
    let Some(file) = files.iter().find(|path| same(path)) else { bail!("the kernel has no module {name}") };
    if order.contains(file) {
        return Ok(());
    }
    for dependency in dependencies(&fs::read(file)?) {
        visit(&dependency, files, order)?;
    }
    order.push(file.clone());
    Ok(())
}

/// The `depends=` entry of a module's .modinfo section: strings with a zero byte between.
fn dependencies(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|window| window == key) else { return Vec::new() };
    let value = module[at + key.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value).split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read() {
        assert_eq!(dependencies(b"\x7fELF\0license=GPL\0depends=virtio,failover\0x"), ["virtio", "failover"]);
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert!(dependencies(b"nothing").is_empty());
    }
}
