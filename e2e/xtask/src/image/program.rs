//! Builds the static programs for one architecture. The same commit and the same compiler give the same bytes, in
//! whatever folder the checkout is: no path of the machine is in a program.
use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::{checkout, packages, process};

/// An architecture of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Arch {
    /// All architectures that images are built for.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The name in an OCI image and in the label `kubernetes.io/arch` (Go's GOARCH).
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The target of rustc.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The C compiler, which links: this machine's, or that of Debian's cross toolchain.
    pub(crate) fn linker(self) -> &'static str {
        match self {
            _ if self.is_host() => "gcc",
            Self::Amd64 => "x86_64-linux-gnu-gcc",
            Self::Arm64 => "aarch64-linux-gnu-gcc",
        }
    }

    /// The static C library of Debian's cross toolchain.
    fn c_library(self) -> &'static str {
        match self {
            Self::Amd64 => "/usr/x86_64-linux-gnu/lib/libc.a",
            Self::Arm64 => "/usr/aarch64-linux-gnu/lib/libc.a",
        }
    }

    fn is_host(self) -> bool {
        self.target().starts_with(env::consts::ARCH)
    }

    /// The Debian packages of the linker and the static C library.
    fn packages(self) -> &'static str {
        match self {
            Self::Amd64 => "gcc-x86-64-linux-gnu libc6-dev-amd64-cross",
            Self::Arm64 => "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The architecture that `name` names.
pub fn parse(name: &str) -> Result<Arch, String> {
    let known = Arch::ALL.into_iter().find(|arch| arch.name() == name);
    known.ok_or_else(|| format!("there are no images for {name}; there are images for amd64 and arm64"))
}

/// The path of a program after its build.
pub fn path(name: &str, arch: Arch) -> PathBuf {
    checkout::target().join(arch.target()).join("release").join(name)
}

/// Builds agent and operator, static.
pub fn build(arch: Arch) -> anyhow::Result<()> {
    build_packages(arch, &["timesync-agent", "timesync-operator"], "8 min the first time")
}

/// Builds the programs of these packages, static. `usually` is how long that takes.
pub(crate) fn build_packages(arch: Arch, packages: &[&str], usually: &str) -> anyhow::Result<()> {
    can_build(arch)?;
    fs::create_dir_all(checkout::images())?;
    let mut cargo = process::cargo();
    cargo
        .args(["build", "--release", "--locked", "--target", arch.target()])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\u{1f}"));
    // Cargo describes this program to it by variables. Build scripts of dependencies read some, so that what one of our
    // programs has built would be built again for another.
    for (name, _) in env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            cargo.env_remove(name);
        }
    }
    if !arch.is_host() {
        let target = arch.target().to_uppercase().replace('-', "_");
        cargo.env(format!("CARGO_TARGET_{target}_LINKER"), arch.linker());
    }
    let names = packages.join(" and ");
    let log = checkout::images().join(format!("cargo-{}-{arch}.log", packages.join("-")));
    process::run_shown(&mut cargo, &format!("building {names} for {arch}"), usually, &log)
}

/// Checks that the compiler and the linker for this architecture are installed.
fn can_build(arch: Arch) -> anyhow::Result<()> {
    if arch.is_host() {
        return Ok(());
    }
    let mut missing = Vec::new();
    let query = ["--print", "target-libdir", "--target", arch.target()];
    let library = process::run(Command::new("rustc").args(query).current_dir(checkout::root()))?;
    if !Path::new(library.trim()).exists() {
        missing.push(format!("rustup target add {}", arch.target()));
    }
    if ![arch.linker(), arch.c_library()].into_iter().all(packages::present) {
        missing.push(format!("apt-get install {}", arch.packages()));
    }
    if !missing.is_empty() {
        bail!(
            "this machine cannot build for {arch}. Run `{}`, or build for this machine's architecture alone: \
             ARCH={}",
            missing.join("` and `"),
            Arch::ALL.into_iter().find(|arch| arch.is_host()).map_or("amd64", Arch::name),
        );
    }
    Ok(())
}

/// Flags of rustc: static, and no path of this machine, in panics' texts and elsewhere. The linker's build id would
/// depend on the paths of its input.
fn flags() -> anyhow::Result<Vec<String>> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo"))).context("no CARGO_HOME")?;
    let mut flags =
        vec!["-Ctarget-feature=+crt-static".to_owned(), "-Clink-arg=-Wl,--build-id=none".to_owned()];
    for (from, to) in [(checkout::root(), "/timesync"), (checkout::target(), "/target"), (home, "/cargo")] {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_has_kubernetes_name() {
        assert_eq!((parse("amd64"), parse("arm64")), (Ok(Arch::Amd64), Ok(Arch::Arm64)));
        assert!(parse("riscv64").unwrap_err().contains("amd64 and arm64"));
    }
}
