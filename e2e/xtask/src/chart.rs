//! The chart as a package, for a registry and for a release: the same bytes for the same files.
use std::{fs, path::Path};

use anyhow::{Context, ensure};

use crate::{
    checkout,
    image::layout::{gzip, tarball},
    source,
};

/// Files of the chart's folder that are no part of the chart (.helmignore).
const LEFT_OUT: [&str; 3] = ["test.sh", "tests", ".helmignore"];

/// The package (.tgz) of the chart, with images of this tag, from this registry (host and path).
pub(crate) fn package(registry: &str, tag: &str) -> anyhow::Result<Vec<u8>> {
    let folder = checkout::chart();
    let mut files = Vec::new();
    collect(&folder, Path::new("timesync"), &mut files)?;
    files.sort();
    for (path, body, _) in &mut files {
        match path.as_str() {
            "timesync/Chart.yaml" => {
                let version = source::chart_version(tag)?;
                set_line(body, "version: ", &format!("version: {version}"))?;
                set_line(body, "appVersion: ", &format!("appVersion: \"{tag}\""))?;
            }
            "timesync/values.yaml" => set_line(body, "  registry: \"\"", &format!("  registry: {registry}"))?,
            _ => {}
        }
    }
    gzip(&tarball(&files)?)
}

fn collect(folder: &Path, name: &Path, files: &mut Vec<(String, Vec<u8>, u32)>) -> anyhow::Result<()> {
    let is_top = name.components().count() == 1;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        if is_top && LEFT_OUT.iter().any(|left_out| entry.file_name() == *left_out) {
            continue;
        }
        if path.is_dir() {
            collect(&path, &name, files)?;
        } else {
            files.push((name.display().to_string(), fs::read(&path)?, 0o644));
        }
    }
    Ok(())
}

/// Replaces the only line that begins with `start`.
fn set_line(body: &mut Vec<u8>, start: &str, line: &str) -> anyhow::Result<()> {
    let text = String::from_utf8(std::mem::take(body)).context("the chart's files are text")?;
    let found = text.lines().filter(|each| each.starts_with(start)).count();
    ensure!(found == 1, "the chart has {found} lines that begin with {start:?}");
    let lines = text.lines().map(|each| if each.starts_with(start) { line } else { each });
    *body = lines.map(|each| format!("{each}\n")).collect::<String>().into_bytes();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_package_names_registry_and_tag() {
        let package = package("registry.example.com/team", "v0.2.0-rc.1").unwrap();
        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(flate2::read::GzDecoder::new(package.as_slice())).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut body = String::new();
            entry.read_to_string(&mut body).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), body);
        }
        let chart = &files["timesync/Chart.yaml"];
        assert!(chart.contains("\nversion: 0.2.0-rc.1\nappVersion: \"v0.2.0-rc.1\"\n"), "{chart}");
        assert!(files["timesync/values.yaml"].contains("  registry: registry.example.com/team\n"));
        assert!(files.contains_key("timesync/templates/tests/answers.yaml"), "helm test is part of it");
        assert!(
            !files.keys().any(|name| name.ends_with("test.sh") || name.contains("golden")),
            "{:?}",
            files.keys()
        );
    }
}
