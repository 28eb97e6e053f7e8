//! A release is the same to the byte, wherever it is built: two clones in folders of different names give the same
//! checksums. What a release holds can be used: kustomize takes the manifests, and the signature is valid.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use xtask::{checkout, process, source, tools};

pub(super) fn run() -> anyhow::Result<()> {
    tools::build(&["kubectl".to_owned()])?;
    let folder = env::temp_dir().join(format!("timesync-reproducible-{}", std::process::id()));
    let result = build_twice(&folder);
    let removed = fs::remove_dir_all(&folder);
    result?;
    Ok(removed?)
}

fn build_twice(folder: &Path) -> anyhow::Result<()> {
    let sums = |name: &str| -> anyhow::Result<(PathBuf, String)> {
        let clone = folder.join(name);
        build(&clone, &folder.join("key.pem"))?;
        let dist = clone.join("dist");
        let sums = fs::read_to_string(dist.join("SHA256SUMS"))?;
        Ok((dist, sums))
    };
    fs::create_dir_all(folder)?;
    openssl(folder, "ecparam -name prime256v1 -genkey -noout -out key.pem")?;
    openssl(folder, "ec -in key.pem -pubout -out public.pem")?;
    let (dist, first) = sums("one")?;
    let (_, second) = sums("another-folder-with-a-longer-name")?;
    ensure!(first == second, "two builds of one commit differ:\n{first}\n{second}");
    let names = "timesync-agent-linux-amd64 install.yaml crds.yaml timesync-operator.cdx.json \
                 kubectl-timesync-linux-amd64.tar.gz timesync.yaml kubectl-timesync.cdx.json \
                 THIRD-PARTY-LICENSES.txt provenance.json";
    for name in names.split_whitespace() {
        ensure!(first.contains(&format!("  {name}\n")), "the release has no {name}:\n{first}");
    }
    process::run(Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&dist))?;
    openssl(&dist, "dgst -sha256 -verify ../../public.pem -signature SHA256SUMS.sig SHA256SUMS")?;
    kustomize_takes_it(&dist)
}

fn build(clone: &Path, key: &Path) -> anyhow::Result<()> {
    let mut git = Command::new("git");
    git.args(["clone", "-q", "--no-hardlinks"]).arg(checkout::root()).arg(clone);
    process::run(&mut git)?;
    let mut make = Command::new("make");
    make.args(["release", "ARCH=amd64", &format!("REGISTRY={REGISTRY}")])
        .current_dir(clone)
        .env("SIGNING_KEY", key)
        // cargo sets these for the program that this runs in.
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("CARGO_TARGET_DIR");
    process::run_shown(
        &mut make,
        &format!("make release in {}", clone.display()),
        "7 min",
        &clone.with_extension("log"),
    )
}

const REGISTRY: &str = "registry.example.com/team";

fn kustomize_takes_it(dist: &Path) -> anyhow::Result<()> {
    let file = "resources: [install.yaml]\nimages:\n- name: registry.example.com/team/timesync-agent\n  newTag: changed\n";
    fs::write(dist.join("kustomization.yaml"), file)?;
    let rendered = process::run(Command::new(tools::path("kubectl")?).arg("kustomize").arg(dist))?;
    let images: Vec<_> = rendered.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
    let expected = [
        format!("{REGISTRY}/timesync-agent:changed"),
        format!("{REGISTRY}/timesync-operator:{}", source::VERSION),
    ];
    ensure!(
        images.len() == 2 && expected.iter().all(|image| images.contains(&image.as_str())),
        "install.yaml runs {images:?}"
    );
    for kind in ["Namespace", "CustomResourceDefinition", "DaemonSet", "Deployment"] {
        ensure!(rendered.contains(&format!("kind: {kind}\n")), "install.yaml has no {kind}");
    }
    Ok(())
}

fn openssl(folder: &Path, words: &str) -> anyhow::Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args(words.split_whitespace()).current_dir(folder);
    process::run(&mut openssl).context("openssl is needed").map(drop)
}
