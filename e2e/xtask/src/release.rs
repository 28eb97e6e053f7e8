//! Writes a release into dist/: image archives, programs, the kubectl plugin, chart, manifests, bills of materials,
//! licences, provenance, checksums. The same commit and the same compilers give the same bytes.
use std::{fs, path::Path, process::Command};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    chart, checkout,
    image::{self, Arch, layout::digest},
    plugin, process, sbom, source, third_party, tools,
};

/// A name that no registry can have (RFC 2606). Without a registry, the manifests name it, so that no image of another
/// project is pulled.
const NO_REGISTRY: &str = "registry.invalid";

const NAMESPACE: &str = "timesync-system";

/// What a release is made of, besides the checkout.
pub struct Release<'a> {
    /// The registry that the manifests and the chart name; none leaves it to the user.
    pub registry: Option<&'a str>,
    /// The version.
    pub tag: &'a str,
    /// The architectures.
    pub arches: &'a [Arch],
    /// The URL of the folder from which users get the files; none if it is not known yet.
    pub downloads: Option<&'a str>,
    /// A private key (PEM), to sign the checksums with.
    pub key: Option<&'a Path>,
}

/// Writes dist/ anew.
pub fn run(release: &Release<'_>) -> anyhow::Result<()> {
    let version = source::chart_version(release.tag)?;
    if let Some(key) = release.key {
        ensure!(key.exists(), "the signing key {} does not exist", key.display());
    }
    tools::build(&["helm".to_owned()])?;
    image::build_shipped(release.arches, release.tag)?;
    for arch in release.arches {
        plugin::build(*arch)?;
    }
    let finished = checkout::root().join("dist");
    // On the same file system, so that the release appears as a whole.
    let folder = checkout::root().join(".dist.partial");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    programs(release, &folder)?;
    plugin::write(release.arches, release.tag, release.downloads, &folder)?;
    manifests(release, version, &folder)?;
    let [agent, operator] = image::SHIPPED.map(|image| image.repository);
    let names = [agent, operator, plugin::NAME];
    let commit = source::commit()?;
    for name in names {
        let time = commit.as_ref().map(|commit| commit.time.as_str());
        let bill = sbom::cyclonedx(name, version, time, &third_party::linked(&[name])?);
        write_json(&folder.join(format!("{name}.cdx.json")), &bill)?;
    }
    fs::write(folder.join("THIRD-PARTY-LICENSES.txt"), third_party::licences(&names)?)?;
    fs::copy(checkout::root().join("LICENSE"), folder.join("LICENSE"))?;
    write_json(&folder.join("provenance.json"), &provenance(release, commit, &folder)?)?;
    sums(release, &folder)?;
    let _ = fs::remove_dir_all(&finished);
    fs::rename(&folder, &finished)?;
    for path in checkout::files(&finished)? {
        println!("{}", path.strip_prefix(checkout::root()).unwrap_or(&path).display());
    }
    Ok(())
}

/// Image archives, and the programs alone, for machines without Kubernetes.
fn programs(release: &Release<'_>, folder: &Path) -> anyhow::Result<()> {
    for image in image::SHIPPED {
        fs::copy(image.archive(), folder.join(format!("{}-{}.tar", image.repository, release.tag)))?;
    }
    for arch in release.arches {
        let name = format!("timesync-agent-linux-{arch}");
        fs::copy(image::program_for("timesync-agent", *arch), folder.join(name))?;
    }
    Ok(())
}

/// The chart, and what it renders, for kubectl and kustomize.
fn manifests(release: &Release<'_>, version: &str, folder: &Path) -> anyhow::Result<()> {
    let package = folder.join(format!("timesync-{version}.tgz"));
    fs::write(&package, chart::package(release.registry.unwrap_or(""), release.tag)?)?;
    let registry = release.registry.unwrap_or(NO_REGISTRY);
    let mut helm = Command::new(tools::path("helm")?);
    helm.args(["template", "timesync"]).arg(&package).args(["--namespace", NAMESPACE, "--no-hooks"]);
    helm.args(["--set", &format!("image.registry={registry}")]).env("KUBECONFIG", "/dev/null");
    let all = process::run(&mut helm)?;
    fs::write(folder.join("install.yaml"), format!("{}{NAMESPACE_OBJECT}{all}", head(release, registry)))?;
    let mut crds = String::new();
    for path in checkout::files(&checkout::root().join("crds"))? {
        crds.push_str(&format!("---\n{}", fs::read_to_string(&path)?.trim_start_matches("---\n")));
    }
    fs::write(folder.join("crds.yaml"), crds)?;
    Ok(())
}

/// Privileged pods need this label, if Pod Security admission is on.
const NAMESPACE_OBJECT: &str = "---
apiVersion: v1
kind: Namespace
metadata:
  name: timesync-system
  labels:
    pod-security.kubernetes.io/enforce: privileged
";

fn head(release: &Release<'_>, registry: &str) -> String {
    let mut head = format!(
        "# timesync {}: everything, without helm. To install: kubectl apply --server-side -f install.yaml\n\
         # To change it, name this file in the `resources` of a kustomization.yaml.\n",
        release.tag
    );
    if release.registry.is_none() {
        head.push_str(&format!(
            "# These manifests name no registry. Push the images (make push REGISTRY=host/path), and replace the name:\n\
             #   sed -i 's,{registry}/,host/path/,' install.yaml\n"
        ));
    }
    head
}

/// What was built from what: an in-toto statement with SLSA provenance 1.0.
fn provenance(release: &Release<'_>, commit: Option<source::Commit>, folder: &Path) -> anyhow::Result<Value> {
    let mut subjects = Vec::new();
    for path in checkout::files(folder)? {
        subjects.push(json!({"name": name(&path), "digest": {"sha256": digest(&fs::read(&path)?)}}));
    }
    let mut inputs = Vec::new();
    if let Some(commit) = commit {
        inputs.push(json!({"name": "timesync", "digest": {"gitCommit": commit.revision}}));
    }
    for file in ["Cargo.lock", "rust-toolchain.toml", "e2e/tools/helm/go.sum"] {
        let body = fs::read(checkout::root().join(file)).with_context(|| format!("cannot read {file}"))?;
        inputs.push(json!({"name": file, "digest": {"sha256": digest(&body)}}));
    }
    let compiler = process::run(Command::new("rustc").arg("--version").current_dir(checkout::root()))?;
    let mut linkers = serde_json::Map::new();
    for arch in release.arches {
        let version = process::run(Command::new(arch.linker()).arg("-dumpfullversion"))?;
        linkers.insert(arch.name().to_owned(), json!(version.trim()));
    }
    Ok(json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://timesync.dev/make-release/v1",
                "externalParameters": {
                    "tag": release.tag,
                    "registry": release.registry,
                    "downloads": release.downloads,
                    "architectures": release.arches.iter().map(|arch| arch.name()).collect::<Vec<_>>(),
                },
                "internalParameters": {"rustc": compiler.trim(), "gcc": linkers},
                "resolvedDependencies": inputs,
            },
            "runDetails": {"builder": {"id": "https://timesync.dev/make-release"}},
        },
    }))
}

/// SHA256SUMS, and its signature if there is a key.
fn sums(release: &Release<'_>, folder: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    for path in checkout::files(folder)? {
        text.push_str(&format!("{}  {}\n", digest(&fs::read(&path)?), name(&path)));
    }
    let sums = folder.join("SHA256SUMS");
    fs::write(&sums, text)?;
    if let Some(key) = release.key {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["dgst", "-sha256", "-sign"])
            .arg(key)
            .arg("-out")
            .arg(folder.join("SHA256SUMS.sig"))
            .arg(&sums);
        process::run(&mut openssl)
            .context("the checksums were not signed; SIGNING_KEY is a private key (PEM) for ECDSA or RSA")?;
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn write_json(path: &Path, value: &Value) -> anyhow::Result<()> {
    Ok(fs::write(path, format!("{}\n", serde_json::to_string_pretty(value)?))?)
}
