//! Validates the CRDs with the API server's own code of two Kubernetes versions: the oldest that the chart allows, and
//! the newest. The programs are Go modules in e2e/tools. CRDs in; a line for each version and CRD, or the API server's
//! message, out.
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::{checkout, tools};

const VALIDATORS: [&str; 2] = ["crds-1.32", "crds-newest"];

/// Fails if a version refuses a CRD.
pub fn check() -> anyhow::Result<()> {
    tools::build(&VALIDATORS.map(str::to_owned))?;
    let crds = checkout::files(&checkout::root().join("crds"))?;
    let mut refused = false;
    for name in VALIDATORS {
        let mut command = Command::new(tools::path(name)?);
        let status = command.args(&crds).stdin(Stdio::null()).status();
        refused |= !status.with_context(|| format!("cannot run {name}"))?.success();
    }
    if refused {
        bail!(
            "a Kubernetes version that the chart allows refuses the CRDs, see above; kubeVersion in Chart.yaml names the oldest"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::checkout;

    #[test]
    fn the_oldest_version_is_that_of_the_chart() {
        let read = |path: &str| fs::read_to_string(checkout::root().join(path)).unwrap();
        let chart = read("charts/timesync/Chart.yaml");
        assert!(chart.contains("\nkubeVersion: \">=1.32.0-0\"\n"), "the chart allows another oldest version");
        let module = read("e2e/tools/crds-1.32/go.mod");
        assert!(module.contains("k8s.io/apiextensions-apiserver v0.32."), "go.mod is of another version");
    }
}
