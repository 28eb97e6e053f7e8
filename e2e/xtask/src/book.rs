//! The site of the docs, made by mdbook. In: the pages that docs/SUMMARY.md lists, and the files to which they link. Out:
//! the folder `docs` in cargo's target folder. Pages also link to files outside of docs/ (examples, ARCHITECTURE.md), as
//! readers of the repository need it. So the pages are first copied, together with these files, and links are changed to
//! lead to the copies. At the end each link of the site is followed. It changes nothing in docs/.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use crate::{checkout, process, tools};

/// Builds the site and checks its links.
pub fn build() -> anyhow::Result<()> {
    let (copy, site) = (checkout::target().join("docs-pages"), checkout::target().join("docs"));
    for folder in [&copy, &site] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    copy_pages(&checkout::root(), &copy)?;
    let mut mdbook = Command::new(tools::path("mdbook")?);
    process::run(mdbook.arg("build").arg(&copy).arg("--dest-dir").arg(&site))?;
    let (pages, broken) = broken_links(&site)?;
    ensure!(broken.is_empty(), "links of the site that lead nowhere:\n{}", broken.join("\n"));
    eprintln!("{pages} pages: {}", site.join("index.html").display());
    Ok(())
}

/// Copies book.toml and docs/, and the files outside of it to which the pages link.
fn copy_pages(root: &Path, copy: &Path) -> anyhow::Result<()> {
    let mut waiting: Vec<_> = all_files(&root.join("docs"))?
        .iter()
        .filter_map(|path| path.strip_prefix(root).ok().map(Path::to_owned))
        .collect();
    let mut done = BTreeSet::new();
    put(&copy.join("book.toml"), &read(&root.join("book.toml"))?)?;
    while let Some(file) = waiting.pop() {
        if !done.insert(file.clone()) {
            continue;
        }
        let (from, to) = (root.join(&file), copy.join("docs").join(place(&file)));
        if from.is_dir() {
            continue;
        }
        let mut content = read(&from)?;
        if file.extension().is_some_and(|extension| extension == "md") {
            let text =
                String::from_utf8(content).with_context(|| format!("{} is not UTF-8", file.display()))?;
            let (changed, linked) = with_links_of_the_site(&text, &file);
            waiting.extend(linked);
            content = changed.into_bytes();
        }
        put(&to, &content)?;
    }
    Ok(())
}

/// Where a file of the repository is in the site's sources: docs/ is the root of the site.
fn place(file: &Path) -> PathBuf {
    file.strip_prefix("docs").unwrap_or(file).to_owned()
}

/// A page's text with links for the site, and the files of the repository to which they lead. Code stays as it is.
fn with_links_of_the_site(text: &str, page: &Path) -> (String, Vec<PathBuf>) {
    let (mut changed, mut linked, mut in_code) = (String::new(), Vec::new(), false);
    let up = "../".repeat(place(page).components().count() - 1);
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("](").filter(|_| !in_code) {
            let Some((target, after)) = after.split_once(')') else { break };
            let (file, heading) =
                target.split_once('#').map_or((target, None), |(file, name)| (file, Some(name)));
            let new = if file.is_empty() || file.contains(':') {
                target.to_owned()
            } else {
                let file = simplified(&page.parent().unwrap_or(Path::new("")).join(file));
                let mut shown = format!("{up}{}", place(&file).display());
                // mdbook calls the page README.md of a folder index.html, and does not change links to it.
                if !page.ends_with("SUMMARY.md") && file.ends_with("README.md") {
                    shown = shown.replace("README.md", "index.md");
                }
                linked.push(file);
                heading.map_or(shown.clone(), |name| format!("{shown}#{name}"))
            };
            changed += &format!("{before}]({new})");
            rest = after;
        }
        changed += rest;
    }
    (changed, linked)
}

/// A relative path without `..` and `.`.
fn simplified(path: &Path) -> PathBuf {
    let mut parts = Vec::new();
    for part in path.iter() {
        match part.to_str() {
            Some("..") => drop(parts.pop()),
            Some(".") => {}
            _ => parts.push(part),
        }
    }
    parts.iter().collect()
}

/// The number of pages, and the links that lead to no file of the site, or to no element of that page.
fn broken_links(site: &Path) -> anyhow::Result<(usize, Vec<String>)> {
    let (mut pages, mut broken) = (0, Vec::new());
    for page in all_files(site)? {
        // The page for wrong addresses is shown at any of them, so its links begin at the root of a server.
        let is_page = page.extension().is_some_and(|extension| extension == "html");
        if !is_page || page.ends_with("404.html") {
            continue;
        }
        pages += 1;
        let text = String::from_utf8_lossy(&read(&page)?).into_owned();
        for link in attributes(&text, "href").chain(attributes(&text, "src")) {
            if !link.contains(':') && !is_there(&page, link) {
                broken.push(format!("{}: {link}", page.strip_prefix(site).unwrap_or(&page).display()));
            }
        }
    }
    Ok((pages, broken))
}

fn is_there(page: &Path, link: &str) -> bool {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let folder = page.parent().unwrap_or(page);
    let target = if file.is_empty() { page.to_owned() } else { folder.join(file) };
    let Ok(text) = fs::read(&target) else { return false };
    let text = String::from_utf8_lossy(&text);
    heading.is_empty() || attributes(&text, "id").any(|id| id == heading)
}

/// The values of an attribute in a page.
fn attributes<'a>(html: &'a str, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    html.split(&format!(" {name}=\""))
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect::<Vec<_>>()
        .into_iter()
}

fn all_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in checkout::files(folder)? {
        if path.is_dir() {
            found.extend(all_files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn put(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_copies() {
        let check = |page: &str, text: &str, expected: &str, linked: &[&str]| {
            let (changed, found) = with_links_of_the_site(text, Path::new(page));
            assert_eq!(changed, expected);
            assert_eq!(found, linked.iter().map(PathBuf::from).collect::<Vec<_>>());
        };
        check("docs/a.md", "[b](b.md#c) and [d](#d)\n", "[b](b.md#c) and [d](#d)\n", &["docs/b.md"]);
        check("docs/x/a.md", "[b](../b.md)", "[b](../b.md)", &["docs/b.md"]);
        check("docs/x/a.md", "[e](../../examples/e.yaml)", "[e](../examples/e.yaml)", &["examples/e.yaml"]);
        check("docs/a.md", "[e](../examples/e.yaml)", "[e](examples/e.yaml)", &["examples/e.yaml"]);
        check("A.md", "[e](docs/x/e.md)", "[e](x/e.md)", &["docs/x/e.md"]);
        check("docs/x/a.md", "[r](README.md#b)", "[r](../x/index.md#b)", &["docs/x/README.md"]);
        check("docs/SUMMARY.md", "[r](x/README.md)", "[r](x/README.md)", &["docs/x/README.md"]);
        check("docs/a.md", "[w](https://example.com/)", "[w](https://example.com/)", &[]);
        check("docs/a.md", "```\n[e](../e)\n```\n", "```\n[e](../e)\n```\n", &[]);
    }

    #[test]
    fn a_link_needs_its_file_and_its_heading() {
        let folder = std::env::temp_dir().join(format!("timesync-book-{}", std::process::id()));
        put(&folder.join("a.html"), b"<h1 id=\"one\"></h1><a href=\"b.html#two\"></a><a href=\"#one\"></a>")
            .unwrap();
        put(
            &folder.join("b.html"),
            b"<a href=\"a.html#two\"></a><img src=\"c.svg\"><a href=\"https://x/\"></a>",
        )
        .unwrap();
        let (pages, broken) = broken_links(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(pages, 2);
        assert_eq!(broken, ["a.html: b.html#two", "b.html: a.html#two", "b.html: c.svg"]);
    }
}
