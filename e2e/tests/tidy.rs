//! Rules of CONTRIBUTING.md that a program can check: each file says what it is, stays short, and the map in
//! ARCHITECTURE.md names what is there.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::{
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
        let is_test =
            path.components().any(|part| ["tests", "tests.rs"].iter().any(|name| part.as_os_str() == *name));
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
fn the_map_names_every_step() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (path, _) in sources() {
        let shown = path.strip_prefix(root()).unwrap();
        let parts: Vec<_> = shown.iter().map(|part| part.to_str().unwrap()).collect();
        let in_programs = parts.first().is_some_and(|first| ["operator", "agent", "crates"].contains(first));
        let mut stem = path.file_stem().unwrap().to_str().unwrap();
        if let ["crates", "ntp", "src", folder, _, ..] = parts[..] {
            // The map names this crate's folders, not each of their files.
            stem = folder;
        }
        if !in_programs || parts.contains(&"tests") || ["lib", "main", "mod", "tests"].contains(&stem) {
            continue;
        }
        assert!(map.contains(&format!("`{stem}`")), "ARCHITECTURE.md does not name {}", shown.display());
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
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
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

fn sources() -> Vec<(PathBuf, String)> {
    let found: Vec<_> = tracked()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (path.clone(), fs::read_to_string(&path).unwrap()))
        .collect();
    assert!(found.len() > 20, "only {} sources seen", found.len());
    found
}
