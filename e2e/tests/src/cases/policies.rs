//! Every file in e2e/policies/bad is refused by the API server with the message in its first line; every one in
//! e2e/policies/good, in examples and in agent/tests/convert (what `timesync-agent convert` makes) is taken. Nothing is
//! stored: these are dry runs.
use std::{fs, path::PathBuf};

use anyhow::{Context, ensure};
use lab::kubectl;
use xtask::checkout;

pub(super) fn run() -> anyhow::Result<()> {
    for folder in ["e2e/policies/good", "examples", "agent/tests/convert"] {
        for file in yaml_files(folder)? {
            // Its CRD is another project's, and not installed here.
            if fs::read_to_string(&file)?.contains("kind: NodeReadinessRule") {
                continue;
            }
            dry_run(&file).with_context(|| format!("{file} should be taken"))?;
        }
    }
    let bad = yaml_files("e2e/policies/bad")?;
    for file in &bad {
        let text = fs::read_to_string(file)?;
        let expected = text.lines().next().and_then(|line| line.strip_prefix("# expect: "));
        let expected = expected.with_context(|| format!("{file} does not say what to expect"))?;
        match dry_run(file) {
            Ok(_) => anyhow::bail!("the API server takes {file}"),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(said.contains(expected), "{file} is refused without {expected:?}: {said}");
            }
        }
    }
    eprintln!("  {} bad policies were refused, each with its message", bad.len());
    let explained = kubectl::sh("explain tsp.spec.upstreams")?;
    ensure!(explained.contains("iburst"), "kubectl explain says nothing of iburst: {explained}");
    ensure!(!explained.contains("<no description>"), "a field without a description: {explained}");
    Ok(())
}

fn dry_run(file: &str) -> anyhow::Result<String> {
    kubectl::run(&["create", "--dry-run=server", "-f", file])
}

fn yaml_files(folder: &str) -> anyhow::Result<Vec<String>> {
    let folder = checkout::root().join(folder);
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&folder)? {
        files.push(entry?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    ensure!(!files.is_empty(), "no policies in {}", folder.display());
    Ok(files.into_iter().map(|path| path.display().to_string()).collect())
}
