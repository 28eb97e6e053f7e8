//! Rules of CONTRIBUTING.md that a program can check: each file says what it is, stays short, and the map in
//! ARCHITECTURE.md names the folders that are there, and no path that is not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn each_file_says_what_it_is() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} does not begin with //!", path.display());
    }
}

#[test]
fn no_file_is_longer_than_400_lines() {
    for (path, text) in sources() {
        let code = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        // Below the crate: a crate may be called so.
        let shown = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let below = shown.split_once("/src/").map_or(shown, |(_, below)| below);
        let is_test = below.split('/').any(|part| part == "tests" || part == "tests.rs");
        assert!(code <= 400 || is_test, "{}: {code} lines before its tests", path.display());
    }
}

#[test]
fn names_say_what_a_file_does() {
    for (path, _) in sources() {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            !["common", "util", "utils", "types", "models", "helpers", "misc"].contains(&stem),
            "{} is named after nothing",
            path.display()
        );
    }
}

#[test]
fn the_map_names_every_folder() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    // Without the diagram.
    let text: String = map.split("```").step_by(2).collect();
    let (mut named, mut part) = (BTreeSet::new(), "");
    for name in text.split('`').skip(1).step_by(2) {
        if name.ends_with("/src") {
            part = name;
        }
        // From the root, in the part that is described, or a crate.
        let places = [name.to_owned(), format!("{part}/{name}"), format!("crates/{name}")];
        let exists = places.iter().any(|place| root().join(place).exists());
        assert!(exists || !name.contains('/'), "ARCHITECTURE.md names {name}, which is not there");
        named.insert(if name.ends_with('/') { format!("{part}/{name}") } else { name.to_owned() });
    }
    for (krate, folder) in folders() {
        let name = Path::new(&krate).file_name().unwrap().to_str().unwrap();
        assert!(named.contains(name), "ARCHITECTURE.md does not name the crate {krate}");
        assert!(
            folder.is_empty() || named.contains(&format!("{krate}/src/{folder}/")),
            "ARCHITECTURE.md does not name {folder}/ in its part on {krate}/src"
        );
    }
}

#[test]
fn nothing_speaks_of_the_machine_it_was_made_on() {
    for path in tracked() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        // Spelled in two halves, so that this file does not find itself.
        for (left, right) in
            [("/wo", "rk/"), ("/ro", "ot/."), ("proxy.golang", ".org"), ("index.crates", ".io")]
        {
            let is_sum = path.ends_with("go.sum") || path.ends_with("Cargo.lock");
            assert!(
                is_sum || !text.contains(&format!("{left}{right}")),
                "{} holds {left}{right}",
                path.display()
            );
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Every file that git tracks or would track.
fn tracked() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "this test asks git which files there are");
    let names = String::from_utf8(output.stdout).unwrap();
    names.lines().map(|name| root().join(name)).filter(|path| path.exists()).collect()
}

/// Folders with sources that are not tests, as a crate and at most two levels of names below its `src`.
fn folders() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (path, _) in sources() {
        let shown = path.strip_prefix(root()).unwrap().with_extension("");
        let Some((krate, file)) = shown.to_str().unwrap().split_once("/src/") else { continue };
        let parts: Vec<_> = file.split('/').collect();
        if parts.contains(&"tests") {
            continue;
        }
        for depth in 0..parts.len().min(3) {
            found.insert((krate.to_owned(), parts[..depth].join("/")));
        }
    }
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let found: Vec<_> = tracked()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (path.clone(), fs::read_to_string(&path).unwrap()))
        .collect();
    assert!(found.len() > 20, "only {} sources seen", found.len());
    found
}
