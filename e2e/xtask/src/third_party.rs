//! The crates that are linked into a program, as cargo lists them: their licence texts, which images and releases carry, and
//! the bill of materials (`sbom`).
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{checkout, image::program::Arch, process};

/// A crate that is linked into a program.
#[derive(Clone, Debug)]
pub(crate) struct Crate {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its licence as an SPDX expression.
    pub(crate) licence: String,
    /// Its SHA-256 on crates.io.
    pub(crate) checksum: String,
    authors: Vec<String>,
    folder: PathBuf,
}

/// The crates from other projects in these programs, on all architectures, sorted by name.
pub(crate) fn linked(programs: &[&str]) -> anyhow::Result<Vec<Crate>> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])?)?;
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        let key = (text(package, "name"), text(package, "version"));
        packages.insert(key, package.clone());
    }
    let checksums = checksums(&fs::read_to_string(checkout::root().join("Cargo.lock"))?);
    let mut crates = Vec::new();
    for key in names(programs)? {
        let package =
            packages.get(&key).with_context(|| format!("cargo does not know {} {}", key.0, key.1))?;
        if package["source"].is_null() {
            continue; // timesync's own
        }
        let authors = package["authors"].as_array().into_iter().flatten();
        crates.push(Crate {
            // Old manifests separate alternatives by a slash.
            licence: text(package, "license").replace('/', " OR ").replace("  ", " "),
            checksum: checksums.get(&key).cloned().with_context(|| format!("{} has no checksum", key.0))?,
            authors: authors.filter_map(|author| author.as_str().map(str::to_owned)).collect(),
            folder: Path::new(&text(package, "manifest_path")).parent().context("a folder")?.to_owned(),
            name: key.0,
            version: key.1,
        });
    }
    Ok(crates)
}

/// Name and version of each crate that is linked into one of the programs.
fn names(programs: &[&str]) -> anyhow::Result<BTreeSet<(String, String)>> {
    let mut names = BTreeSet::new();
    for arch in Arch::ALL {
        for program in programs {
            let query = ["tree", "-p", program, "--edges", "normal,no-proc-macro", "--prefix", "none"];
            let printed = cargo(&[&query[..], &["--target", arch.target(), "--format", "{p}"]].concat())?;
            for line in printed.lines() {
                let mut words = line.split_whitespace();
                if let (Some(name), Some(version)) = (words.next(), words.next()) {
                    names.insert((name.to_owned(), version.trim_start_matches('v').to_owned()));
                }
            }
        }
    }
    Ok(names)
}

/// All licence texts in one file. Each distinct text stands once, with the crates that it belongs to.
pub(crate) fn licences(programs: &[&str]) -> anyhow::Result<String> {
    let crates = linked(programs)?;
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut page = format!(
        "Software of other projects in {}, and its licences\n\nLinked statically:\n\n",
        programs.join(" and ")
    );
    for each in &crates {
        let label = format!("{} {}", each.name, each.version);
        let _ = writeln!(page, "  {label}: {}", each.licence);
        for licence in texts_of(each)? {
            texts.entry(licence).or_default().insert(label.clone());
        }
    }
    page.push_str("  Rust's standard library: MIT OR Apache-2.0 (https://github.com/rust-lang/rust)\n");
    page.push_str(
        "  GNU C Library: LGPL-2.1-or-later (https://sourceware.org/glibc). To link with another version of it, \
         build these programs from their sources: make images\n",
    );
    texts.entry(apache()?).or_default().insert("Rust's standard library".to_owned());
    texts
        .entry(include_str!("third_party/LGPL-2.1.txt").trim().to_owned())
        .or_default()
        .insert("GNU C Library".to_owned());
    // The first crate decides the order, so that a text stays in its place if another crate comes.
    let mut sorted: Vec<_> = texts.into_iter().collect();
    sorted.sort_by(|(_, one), (_, other)| one.first().cmp(&other.first()));
    for (licence, crates) in sorted {
        let crates = crates.into_iter().collect::<Vec<_>>().join(", ");
        let _ = write!(page, "\n{}\n{crates}\n\n{licence}\n", "=".repeat(100));
    }
    Ok(page)
}

/// The licence texts of a crate. If it ships none, the standard text of a licence that it offers.
fn texts_of(each: &Crate) -> anyhow::Result<Vec<String>> {
    let is_licence = |name: &str| {
        let name = name.to_uppercase();
        ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(&each.folder)? {
        let entry = entry?;
        if is_licence(&entry.file_name().to_string_lossy()) && entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        texts.push(String::from_utf8_lossy(&text).replace("\r\n", "\n").trim().to_owned());
    }
    if texts.is_empty() {
        texts.push(standard(each)?);
    }
    Ok(texts)
}

fn standard(each: &Crate) -> anyhow::Result<String> {
    let offers = |name: &str| each.licence.split(" OR ").any(|offered| offered.trim() == name);
    if offers("Apache-2.0") {
        return apache();
    }
    if offers("MIT") {
        let authors = if each.authors.is_empty() { each.name.clone() } else { each.authors.join(", ") };
        return Ok(include_str!("third_party/MIT.txt").trim().replace("<authors>", &authors));
    }
    bail!(
        "the crate {} {} ships no licence text, and its licence is {}",
        each.name,
        each.version,
        each.licence
    )
}

/// The text of Apache-2.0, which is also timesync's licence.
fn apache() -> anyhow::Result<String> {
    Ok(fs::read_to_string(checkout::root().join("LICENSE"))?.trim().to_owned())
}

/// The checksums in Cargo.lock, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
        line.and_then(|rest| rest.strip_suffix('"')).map(str::to_owned)
    };
    let blocks = lock.split("[[package]]");
    blocks
        .filter_map(|block| {
            Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?))
        })
        .collect()
}

fn cargo(words: &[&str]) -> anyhow::Result<String> {
    process::run(process::cargo().args(words).arg("--locked"))
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_name_their_crates_and_licences() {
        let agent = linked(&["timesync-agent"]).unwrap();
        let has = |crates: &[Crate], name: &str| crates.iter().any(|each| each.name == name);
        assert!(has(&agent, "rustls") && !has(&agent, "kube") && !has(&agent, "proptest"), "{agent:?}");
        assert!(agent.iter().all(|each| each.checksum.len() == 64 && !each.licence.is_empty()));
        let operator = licences(&["timesync-operator"]).unwrap();
        for needed in ["  kube ", "Permission is hereby granted", "GNU LESSER GENERAL PUBLIC LICENSE"] {
            assert!(operator.contains(needed), "{needed} is missing");
        }
        assert!(!operator.contains("timesync-profile 0"), "timesync is no other project");
    }

    #[test]
    fn a_crate_without_text_gets_the_standard_text_of_its_licence() {
        let each = |licence: &str| Crate {
            name: "x".to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.to_owned(),
            checksum: String::new(),
            authors: vec!["A. Author".to_owned()],
            folder: PathBuf::new(),
        };
        assert!(standard(&each("MIT OR Apache-2.0")).unwrap().contains("Apache License"));
        assert!(standard(&each("MIT")).unwrap().contains("Copyright (c) A. Author"));
        assert!(standard(&each("GPL-3.0")).unwrap_err().to_string().contains("GPL-3.0"));
    }
}
