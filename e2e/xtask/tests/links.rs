//! The links of all pages to files of this repository: the file is there, and so is the heading. Links to other sites
//! are not followed. Also that the table of contents of the docs, docs/SUMMARY.md, names each page once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn links_lead_somewhere() {
    let (mut followed, mut broken) = (0, Vec::new());
    for page in pages() {
        for link in links(&prose(&page)) {
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = target.exists() && (heading.is_empty() || anchors(&target).contains(heading));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
            followed += 1;
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(followed > 50, "only {followed} links seen");
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let summary = root().join("docs/SUMMARY.md");
    let mut named = BTreeSet::new();
    for link in links(&prose(&summary)) {
        assert!(named.insert(root().join("docs").join(&link)), "docs/SUMMARY.md names {link} twice");
    }
    let docs = pages().into_iter().filter(|page| page.starts_with(root().join("docs")) && *page != summary);
    let missing: Vec<_> = docs.filter(|page| !named.contains(page)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md does not name {missing:?}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// Every page that git tracks or would track.
fn pages() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "this test asks git which pages there are");
    let names = String::from_utf8(output.stdout).unwrap();
    names.lines().map(|name| root().join(name)).filter(|path| path.exists()).collect()
}

/// A page without its blocks of code.
fn prose(page: &Path) -> String {
    let (mut text, mut in_code) = (String::new(), false);
    for line in fs::read_to_string(page).unwrap().lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// The targets of `[text](target)` that are no addresses.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).filter(|target| !target.contains("://")).collect()
}

/// The names of a page's headings, as GitHub makes them: lower case, without punctuation, `-` for a blank.
fn anchors(page: &Path) -> BTreeSet<String> {
    let headings = prose(page);
    let titles = headings.lines().filter(|line| line.starts_with('#'));
    titles
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
            kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
        })
        .collect()
}
