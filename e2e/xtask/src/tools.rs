//! Kubernetes, containerd, helm, a registry and its client, built from the Go modules pinned in e2e/tools. The programs are in the cache, under
//! a hash of go.mod, go.sum, the flags and Go's version, so that each is built only once.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::{checkout, process};

struct Tool {
    name: &'static str,
    /// Folder in e2e/tools.
    module: &'static str,
    import: &'static str,
    /// The time of a build on two cores with an empty cache.
    usually: &'static str,
}

const fn tool(name: &'static str, module: &'static str, import: &'static str, usually: &'static str) -> Tool {
    Tool { name, module, import, usually }
}

const TOOLS: &[Tool] = &[
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
    tool("registry", "registry", "github.com/distribution/distribution/v3/cmd/registry", "60 s"),
];

/// The path of a program after its build.
pub fn path(name: &str) -> anyhow::Result<PathBuf> {
    let tool = TOOLS.iter().find(|tool| tool.name == name).with_context(|| format!("no tool {name}"))?;
    Ok(folder(tool.module)?.join(tool.name))
}

/// Builds the named programs that do not exist yet; all of them if no names are given.
pub fn build(names: &[String]) -> anyhow::Result<()> {
    for name in names {
        path(name)?;
    }
    for tool in TOOLS.iter().filter(|tool| names.is_empty() || names.iter().any(|name| name == tool.name)) {
        let folder = folder(tool.module)?;
        let finished = folder.join(tool.name);
        if !finished.exists() {
            fs::create_dir_all(&folder)?;
            build_one(tool, &folder).with_context(|| format!("building {}", tool.name))?;
        }
    }
    Ok(())
}

fn build_one(tool: &Tool, folder: &Path) -> anyhow::Result<()> {
    // An incomplete file must not look like a finished program.
    let half = folder.join(format!(".{}.{}", tool.name, std::process::id()));
    let mut command = Command::new("go");
    command
        .args(["build", "-trimpath", "-ldflags", &linker_flags(tool.module), "-o"])
        .arg(&half)
        .arg(tool.import)
        .current_dir(sources(tool.module))
        .envs([
            ("CGO_ENABLED", "0"),
            ("GOFLAGS", "-buildvcs=false"),
            ("GOTOOLCHAIN", "auto"),
            ("GOWORK", "off"),
        ]);
    let log = folder.join(format!("{}.log", tool.name));
    process::run_shown(&mut command, &format!("building {}", tool.name), tool.usually, &log)?;
    fs::rename(&half, folder.join(tool.name))?;
    Ok(())
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

/// The cache folder of a module's programs. Its hash is computed once per run.
fn folder(module: &'static str) -> anyhow::Result<PathBuf> {
    static KNOWN: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
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
    for name in ["go.mod", "go.sum"] {
        let path = sources(module).join(name);
        hash.update(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    hash.update(linker_flags(module));
    // Runs in the module's folder, since its go.mod may choose a newer Go.
    let go =
        process::run(Command::new("go").args(["env", "GOVERSION", "GOARCH"]).current_dir(sources(module)))
            .context("Go is needed to build Kubernetes")?;
    hash.update(go);
    Ok(format!("{:x}", hash.finalize()))
}
