//! The kubectl plugin in a release: an archive for each architecture, and the manifest by which krew installs it. The same
//! program gives the same bytes.
use std::{fs, path::Path};

use anyhow::Context;
use serde_json::json;

use crate::{
    checkout,
    image::{
        self, Arch,
        layout::{digest, gzip, tarball},
        program_for,
    },
    source, third_party,
};

/// The program, and its package.
pub const NAME: &str = "kubectl-timesync";

/// A host that cannot exist (RFC 2606), in the manifest of a release whose place is not known.
const NOWHERE: &str = "https://downloads.invalid";

/// Builds the kubectl plugin, static.
pub fn build(arch: Arch) -> anyhow::Result<()> {
    image::build_packages(arch, &[NAME], "4 min the first time")
}

/// Writes the archives and the manifest into `folder`. `downloads` is the URL of the folder from which users get them.
pub(crate) fn write(
    arches: &[Arch],
    tag: &str,
    downloads: Option<&str>,
    folder: &Path,
) -> anyhow::Result<()> {
    let licences = third_party::licences(&[NAME])?.into_bytes();
    let root = checkout::root();
    let mut sums = Vec::new();
    for arch in arches {
        let program = program_for(NAME, *arch);
        let program = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
        let files = vec![
            ("LICENSE".to_owned(), fs::read(root.join("LICENSE"))?, 0o644),
            ("THIRD-PARTY-LICENSES.txt".to_owned(), licences.clone(), 0o644),
            (NAME.to_owned(), program, 0o755),
            ("kubectl_complete-timesync".to_owned(), fs::read(root.join(COMPLETION))?, 0o755),
        ];
        let archive = gzip(&tarball(&files)?)?;
        fs::write(folder.join(archive_name(*arch)), &archive)?;
        sums.push((*arch, digest(&archive)));
    }
    fs::write(folder.join("timesync.yaml"), manifest(&sums, tag, downloads)?)?;
    Ok(())
}

/// The script by which kubectl completes the plugin's words.
const COMPLETION: &str = "kubectl-timesync/kubectl_complete-timesync";

fn archive_name(arch: Arch) -> String {
    format!("{NAME}-linux-{arch}.tar.gz")
}

/// krew's manifest: JSON, which is YAML.
fn manifest(sums: &[(Arch, String)], tag: &str, downloads: Option<&str>) -> anyhow::Result<String> {
    let place = downloads.unwrap_or(NOWHERE).trim_end_matches('/');
    let platforms: Vec<_> = sums
        .iter()
        .map(|(arch, sum)| {
            json!({
                "selector": {"matchLabels": {"os": "linux", "arch": arch.name()}},
                "uri": format!("{place}/{}", archive_name(*arch)),
                "sha256": sum,
                "bin": NAME,
            })
        })
        .collect();
    let manifest = json!({
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "timesync"},
        "spec": {
            "version": format!("v{}", source::chart_version(tag)?),
            "homepage": "https://timesync.dev",
            "shortDescription": "Show the clocks of nodes, and why one is wrong",
            "description": "Shows the clocks of a cluster that timesync keeps right: the cluster in one screen, the \
                upstreams of a node, and why a node's clock is not synchronised, with what to do. Waits for clocks, writes \
                support archives, and converts ntp.conf and chrony.conf to policies.\n",
            "platforms": platforms,
        },
    });
    let mut text = String::new();
    if downloads.is_none() {
        text.push_str(&format!(
            "# This manifest names no place for downloads. With the archive at hand it works as it is:\n\
             #   kubectl krew install --manifest=timesync.yaml --archive={}\n\
             # Or make the release with DOWNLOADS=https://host/path.\n",
            sums.first().map_or_else(String::new, |(arch, _)| archive_name(*arch)),
        ));
    }
    text.push_str(&serde_json::to_string_pretty(&manifest)?);
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_what_krew_downloads() {
        let sums = [(Arch::Amd64, "ab".repeat(32)), (Arch::Arm64, "cd".repeat(32))];
        let text = manifest(&sums, "0.2.0", Some("https://example.com/0.2.0/")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        let platform = &manifest["spec"]["platforms"][1];
        assert_eq!(platform["uri"], "https://example.com/0.2.0/kubectl-timesync-linux-arm64.tar.gz");
        assert_eq!(
            (&platform["sha256"], &platform["bin"]),
            (&json!("cd".repeat(32)), &json!("kubectl-timesync"))
        );
        assert_eq!(manifest["spec"]["version"], "v0.2.0");
        // krew's rule for names and descriptions.
        assert!(manifest["spec"]["shortDescription"].as_str().unwrap().len() <= 50);
        assert!(super::manifest(&sums, "main", None).is_err());
        let nowhere = super::manifest(&sums, "v0.2.0", None).unwrap();
        assert!(nowhere.starts_with("# ") && nowhere.contains("downloads.invalid"), "{nowhere}");
    }
}
