//! Puts the images, for all architectures, and the chart into a registry. The registry protocol is crane's and helm's;
//! both take the credentials that `docker login` stored.
use std::{fs, path::Path, process::Command};

use anyhow::{Context, ensure};

use crate::{chart, checkout, image, image::Arch, process, source, tools};

/// Where to push to.
pub struct Destination {
    registry: String,
    /// True if the registry has plain HTTP.
    insecure: bool,
}

impl Destination {
    /// A registry's host and a path.
    pub fn new(registry: &str, insecure: bool) -> anyhow::Result<Self> {
        let registry = registry.trim_end_matches('/');
        ensure!(
            !registry.is_empty(),
            "REGISTRY is not set. Name a registry's host and a path: make push REGISTRY=registry.example.com/timesync"
        );
        let plain =
            |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b".-_/:".contains(&octet);
        ensure!(
            !registry.contains("://") && registry.bytes().all(plain),
            "REGISTRY is {registry}, but it must be a registry's host and a path, without https:// and in lower case: \
             REGISTRY=registry.example.com/timesync"
        );
        Ok(Self { registry: registry.to_owned(), insecure })
    }

    /// The registry's host and path, without a slash at the end.
    pub fn registry(&self) -> &str {
        &self.registry
    }
}

/// Builds the images and the chart, and pushes them. Prints what was pushed, with digests.
pub fn run(to: &Destination, tag: &str, arches: &[Arch]) -> anyhow::Result<()> {
    let version = source::chart_version(tag)?;
    tools::build(&["crane".to_owned(), "helm".to_owned()])?;
    image::build_shipped(arches, tag)?;
    let folder = checkout::images().join(format!("push-{}", std::process::id()));
    let pushed = images(to, tag, &folder).and_then(|()| helm_chart(to, tag, version, &folder));
    let removed = fs::remove_dir_all(&folder);
    pushed?;
    removed?;
    println!(
        "\nTo install it:\n\n  kubectl create namespace timesync-system\n  kubectl label namespace timesync-system \
         pod-security.kubernetes.io/enforce=privileged\n  helm install timesync oci://{}/charts/timesync --version \
         {version} --namespace timesync-system{}",
        to.registry,
        if to.insecure { " --plain-http" } else { "" }
    );
    Ok(())
}

fn images(to: &Destination, tag: &str, folder: &Path) -> anyhow::Result<()> {
    for image in image::SHIPPED {
        let layout = folder.join(image.file);
        image::layout::unpack(&image.archive(), &layout)?;
        let reference = format!("{}/{}:{tag}", to.registry, image.repository);
        let mut crane = Command::new(tools::path("crane")?);
        crane.arg("push").arg(&layout).arg(&reference);
        if to.insecure {
            crane.arg("--insecure");
        }
        let log = checkout::images().join("push.log");
        process::run_shown(&mut crane, &format!("pushing {reference}"), "20 s", &log).with_context(|| {
            format!(
                "cannot push {reference}. If the registry needs a login, run `docker login`. If it has plain HTTP, set \
                 INSECURE=1"
            )
        })?;
        // crane prints the reference with the digest.
        println!("{}", process::tail(&log, 1));
    }
    Ok(())
}

fn helm_chart(to: &Destination, tag: &str, version: &str, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(format!("timesync-{version}.tgz"));
    fs::write(&path, chart::package(&to.registry, tag)?)?;
    let mut helm = Command::new(tools::path("helm")?);
    helm.arg("push").arg(&path).arg(format!("oci://{}/charts", to.registry));
    if to.insecure {
        helm.arg("--plain-http");
    }
    let log = checkout::images().join("push.log");
    let what = format!("pushing the chart {}/charts/timesync:{version}", to.registry);
    process::run_shown(&mut helm, &what, "5 s", &log)?;
    println!("{}", process::tail(&log, 2));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_host_and_path() {
        for right in ["ghcr.io/example", "localhost:5000", "10.0.0.1:5000/a/b/"] {
            assert!(Destination::new(right, false).is_ok(), "{right}");
        }
        for wrong in ["", "https://ghcr.io/example", "ghcr.io/Example", "ghcr.io/a b"] {
            let told = Destination::new(wrong, false).err().map(|error| error.to_string());
            assert!(
                told.is_some_and(|told| told.contains(" REGISTRY=registry.example.com/timesync")),
                "{wrong}"
            );
        }
    }
}
