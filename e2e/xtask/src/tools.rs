//! Kubernetes, containerd and helm, a client of registries, and the programs that check CRDs, chart and dependencies,
//! or make the site of the docs. Those in Go are built from the modules in e2e/tools, which pin their versions;
//! cargo-deny and mdbook are crates. The programs are in the cache, under a hash of what they are built from, so that
//! each is built only once.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::{checkout, process};

struct Tool {
    name: &'static str,
    source: Source,
    /// The time of a build on two cores with an empty cache.
    usually: &'static str,
}

enum Source {
    /// A package of a Go module that is a folder in e2e/tools.
    Go { module: &'static str, import: &'static str },
    /// A crate of the program's name, with the dependencies in its own Cargo.lock, and only these of its features.
    Crate { version: &'static str, features: &'static str },
}

const fn tool(name: &'static str, module: &'static str, import: &'static str, usually: &'static str) -> Tool {
    Tool { name, source: Source::Go { module, import }, usually }
}

/// What clusters are made of.
const CLUSTER: &[Tool] = &[
    tool("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", "6 min, with downloads"),
    tool("kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", "90 s"),
    tool("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", "7 s"),
    tool("kubelet", "kubernetes", "k8s.io/kubernetes/cmd/kubelet", "30 s"),
    tool("kube-proxy", "kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", "40 s"),
    tool("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", "40 s"),
    tool("containerd", "containerd", "github.com/containerd/containerd/v2/cmd/containerd", "95 s"),
    tool(
        "containerd-shim-runc-v2",
        "containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "5 s",
    ),
    tool("ctr", "containerd", "github.com/containerd/containerd/v2/cmd/ctr", "5 s"),
    tool("helm", "helm", "helm.sh/helm/v4/cmd/helm", "200 s"),
    tool("crane", "crane", "github.com/google/go-containerregistry/cmd/crane", "60 s"),
];

/// What checks CRDs, chart and dependencies, makes the site of the docs, or is tried with timesync in one long test. No
/// other cluster needs them.
const CHECKS: &[Tool] = &[
    tool("crds-1.32", "crds-1.32", ".", "3 min"),
    tool("crds-newest", "crds-newest", ".", "3 min"),
    tool("kube-score", "kube-score", "github.com/zegl/kube-score/cmd/kube-score", "45 s"),
    tool(
        "node-readiness-controller",
        "node-readiness-controller",
        "sigs.k8s.io/node-readiness-controller/cmd",
        "2 min",
    ),
    Tool { name: "cargo-deny", source: Source::Crate { version: "0.20.2", features: "" }, usually: "4 min" },
    // Without its own web server and its watch for changes, which are half of the build.
    Tool { name: "mdbook", source: Source::Crate { version: "0.5.4", features: "search" }, usually: "3 min" },
];

/// The path of a program after its build.
pub fn path(name: &str) -> anyhow::Result<PathBuf> {
    Ok(folder(find(name)?)?.join(name))
}

/// The folder with the source of a program in Go, after its build. It holds what comes with the program, such as CRDs.
pub fn source(name: &str) -> anyhow::Result<PathBuf> {
    let Source::Go { module, import } = find(name)?.source else { bail!("{name} is not in Go") };
    let mut command = Command::new("go");
    command.args(["list", "-f", "{{.Module.Dir}}", import]).current_dir(sources(module)).envs(GO_ENVIRONMENT);
    Ok(PathBuf::from(process::run(&mut command)?.trim()))
}

/// Builds the named programs that do not exist yet; those of clusters if no names are given.
pub fn build(names: &[String]) -> anyhow::Result<()> {
    let wanted = if names.is_empty() {
        CLUSTER.iter().collect()
    } else {
        names.iter().map(|name| find(name)).collect::<anyhow::Result<Vec<_>>>()?
    };
    for tool in wanted {
        let folder = folder(tool)?;
        if !folder.join(tool.name).exists() {
            fs::create_dir_all(&folder)?;
            build_one(tool, &folder).with_context(|| format!("building {}", tool.name))?;
        }
    }
    Ok(())
}

fn find(name: &str) -> anyhow::Result<&'static Tool> {
    let mut all = CLUSTER.iter().chain(CHECKS);
    all.find(|tool| tool.name == name).with_context(|| format!("no tool {name}"))
}

fn build_one(tool: &Tool, folder: &Path) -> anyhow::Result<()> {
    // An incomplete file must not look like a finished program.
    let half = folder.join(format!(".{}.{}", tool.name, std::process::id()));
    let (mut command, built) = match tool.source {
        Source::Go { module, import } => (go_build(module, import, &half), half.clone()),
        Source::Crate { version, features } => {
            (install(tool.name, version, features, &half), half.join("bin").join(tool.name))
        }
    };
    let log = folder.join(format!("{}.log", tool.name));
    process::run_shown(&mut command, &format!("building {}", tool.name), tool.usually, &log)?;
    fs::rename(built, folder.join(tool.name))?;
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    Ok(())
}

const GO_ENVIRONMENT: [(&str, &str); 4] =
    [("CGO_ENABLED", "0"), ("GOFLAGS", "-buildvcs=false"), ("GOTOOLCHAIN", "auto"), ("GOWORK", "off")];

fn go_build(module: &str, import: &str, output: &Path) -> Command {
    let mut command = Command::new("go");
    command
        .args(["build", "-trimpath", "-ldflags", &linker_flags(module), "-o"])
        .arg(output)
        .arg(import)
        .current_dir(sources(module))
        .envs(GO_ENVIRONMENT);
    command
}

fn install(name: &str, version: &str, features: &str, root: &Path) -> Command {
    let mut command = process::cargo();
    command.args(["install", "--locked", "--no-track", "--no-default-features", "--features", features]);
    command.args(["--version", &format!("={version}"), "--root"]);
    // Its profile asks for the slowest build there is, for a program that runs a second.
    command.envs([("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")]);
    command.arg(root).arg(name);
    command
}

fn sources(module: &str) -> PathBuf {
    checkout::root().join("e2e/tools").join(module)
}

fn linker_flags(module: &str) -> String {
    // kubelet and kubectl compare versions. A program without one reports v0.0.0.
    let version =
        if module == "kubernetes" { "-X k8s.io/component-base/version.gitVersion=v1.36.3" } else { "" };
    format!("-s -w {version}")
}

/// The cache folder of a program. A module's hash is computed once per run.
fn folder(tool: &Tool) -> anyhow::Result<PathBuf> {
    static KNOWN: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let module = match tool.source {
        Source::Go { module, .. } => module,
        Source::Crate { version, .. } => {
            return Ok(checkout::cache().join(format!("{}-{version}", tool.name)));
        }
    };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = known.get(module) {
        return Ok(folder.clone());
    }
    let folder = checkout::cache().join(format!("{module}-{}", &hash(module)?[..16]));
    known.insert(module, folder.clone());
    Ok(folder)
}

fn hash(module: &str) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    // A module may have one file of its own.
    for (name, needed) in [("go.mod", true), ("go.sum", true), ("main.go", false)] {
        let path = sources(module).join(name);
        if needed || path.exists() {
            hash.update(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
    }
    hash.update(linker_flags(module));
    // Runs in the module's folder, since its go.mod may choose a newer Go.
    let go =
        process::run(Command::new("go").args(["env", "GOVERSION", "GOARCH"]).current_dir(sources(module)))
            .with_context(|| format!("Go is needed to build {module}"))?;
    hash.update(go);
    Ok(format!("{:x}", hash.finalize()))
}
