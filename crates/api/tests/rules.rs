//! The rules in CEL, evaluated without an API server, over `examples`, the policies in the pages, and those of
//! `e2e/policies`: bad ones begin with a comment that says which message to expect. What the schema itself refuses
//! (ranges, patterns, unknown fields), and what rules cost, only a real API server tells: the cluster tests send it the
//! same files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::{fs, path::Path};

use api::{TimeSyncPolicy, crds};
use serde_json::Value;

/// Names and texts of the files in a folder whose names end so.
fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let entries = fs::read_dir(path).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("the folder is readable").path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| (path.display().to_string(), fs::read_to_string(path).expect("a file is text")))
        .collect()
}

/// All messages of a policy's broken rules, in one text; empty if none is broken.
fn broken(text: &str) -> Result<String, serde_norway::Error> {
    let policy: TimeSyncPolicy = serde_norway::from_str(text)?;
    Ok(kube::core::cel::validate_cel(&policy).err().map(|errors| errors.to_string()).unwrap_or_default())
}

#[test]
fn good_policies_break_no_rule() {
    let files = files("e2e/policies/good", "yaml");
    assert!(files.len() >= 5);
    for (file, text) in files {
        assert_eq!(broken(&text).unwrap(), "", "{file}");
    }
}

#[test]
fn neither_do_the_examples() {
    let files = files("examples", "yaml");
    assert!(files.len() >= 5);
    for (file, text) in files {
        for policy in policies(&text) {
            assert_eq!(broken(policy).unwrap(), "", "{file}");
        }
    }
}

#[test]
fn bad_policies_break_the_rule_that_they_name() {
    let crds = serde_json::to_string(&crds().unwrap().map(|(_, crd)| crd)).unwrap();
    let mut judged = 0;
    for (file, text) in files("e2e/policies/bad", "yaml") {
        let expected =
            text.lines().next().and_then(|line| line.strip_prefix("# expect: ")).expect("a first line");
        let message = serde_json::to_string(expected).unwrap();
        // Other messages are the API server's own.
        if crds.contains(message.trim_matches('"')) {
            let broken = broken(&text).unwrap();
            assert!(broken.contains(expected), "{file}: {broken:?}");
            judged += 1;
        }
    }
    assert!(judged >= 20, "only {judged} files name a rule's message");
}

/// What `timesync-agent convert` makes knows nothing of these types: each of its fields must be one of theirs.
#[test]
fn converted_policies_are_of_this_api() {
    let files = files("agent/tests/convert", "yaml");
    assert!(files.len() >= 5);
    for (file, text) in files {
        assert_of_this_api(&text, &file);
    }
}

/// What a user copies from a page must be taken: a policy in a block of YAML, or in a command (`<<EOF`). A block that
/// begins with `spec:` is a part of a policy, which may break rules about the other parts.
#[test]
fn policies_in_the_pages_are_of_this_api() {
    let (mut pages, mut seen, mut parts) = (files_below("docs", "md"), 0, 0);
    pages.extend(files(".", "md"));
    for (file, page) in pages {
        for text in blocks(&page) {
            for policy in policies(&text) {
                assert_of_this_api(policy, &file);
                seen += 1;
            }
            // Not the `spec` of a Certificate of cert-manager.
            if text.starts_with("spec:\n") && !text.contains("secretName:") {
                assert_only_known_fields(&format!("{HEAD}{text}"), &file);
                parts += 1;
            }
        }
    }
    assert!(seen >= 15 && parts >= 5, "only {seen} policies and {parts} parts of policies seen");
}

/// The policies among the objects of a file; not those that only speak of policies, such as a health check.
fn policies(text: &str) -> impl Iterator<Item = &str> {
    let is_policy = |text: &&str| text.lines().any(|line| line == "kind: TimeSyncPolicy");
    text.split("\n---\n").filter(is_policy)
}

const HEAD: &str = "apiVersion: timesync.dev/v1alpha1\nkind: TimeSyncPolicy\nmetadata: {name: part}\n";

/// The same as [`files`], with those of all folders below.
fn files_below(folder: &str, extension: &str) -> Vec<(String, String)> {
    let mut found = files(folder, extension);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found
                .extend(files_below(&format!("{folder}/{}", entry.file_name().to_str().unwrap()), extension));
        }
    }
    found
}

fn assert_of_this_api(text: &str, file: &str) {
    assert_eq!(broken(text).unwrap(), "", "{file}");
    assert_only_known_fields(text, file);
}

fn assert_only_known_fields(text: &str, file: &str) {
    let policy: TimeSyncPolicy =
        serde_norway::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}\n{text}"));
    let (given, known) =
        (serde_norway::from_str::<Value>(text).unwrap(), serde_json::to_value(policy).unwrap());
    let mut lost = Vec::new();
    gather_lost(&given, &known, "", &mut lost);
    assert_eq!(lost, Vec::<String>::new(), "{file}\n{text}");
}

/// The blocks of YAML in a page, and what its commands have between `<<EOF` and `EOF`; a variable becomes its name.
fn blocks(page: &str) -> Vec<String> {
    let (mut found, mut begun) = (Vec::new(), None::<(usize, &str, String)>);
    for line in page.lines() {
        let trimmed = line.trim_start();
        begun = match begun {
            None if trimmed == "```yaml" => Some((line.len() - trimmed.len(), "```", String::new())),
            None if trimmed.ends_with("<<EOF") => Some((0, "EOF", String::new())),
            None => None,
            Some((_, end, text)) if trimmed == end => {
                found.push(text);
                None
            }
            Some((indent, end, text)) => {
                let line = line.get(indent..).unwrap_or_default().replace('$', "");
                Some((indent, end, text + &line + "\n"))
            }
        };
    }
    found
}

/// The paths in `given` that do not hold the same in `known`.
fn gather_lost(given: &Value, known: &Value, path: &str, lost: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(fields), Value::Object(others)) => {
            for (field, value) in fields {
                let other = others.get(field).unwrap_or(&Value::Null);
                gather_lost(value, other, &format!("{path}.{field}"), lost);
            }
        }
        (Value::Array(values), Value::Array(others)) if values.len() == others.len() => {
            for (value, other) in values.iter().zip(others) {
                gather_lost(value, other, &format!("{path}[]"), lost);
            }
        }
        (given, known) if given == known => {}
        _ => lost.push(path.to_owned()),
    }
}
