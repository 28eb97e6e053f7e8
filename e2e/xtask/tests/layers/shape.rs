//! The modules of a crate and what each uses, read from its source text.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The modules of a crate by path (`source::poll`; the root is empty), and what each uses.
pub(super) struct Shape {
    arrows: BTreeSet<(String, String)>,
    modules: BTreeSet<String>,
}

impl Shape {
    pub(super) fn of(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut open = vec![folder.to_owned()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().with_extension("");
            let name: Vec<_> = name.iter().map(|part| part.to_str().unwrap()).collect();
            let name = name.join("::");
            let text = fs::read_to_string(&path).unwrap();
            let is_root = name == "lib" || name == "main";
            files.insert(if is_root { String::new() } else { name }, text);
        }
        assert!(files.len() > 5, "only {} files seen", files.len());
        Self::parse(&files)
    }

    pub(super) fn parse(files: &BTreeMap<String, String>) -> Self {
        let is_test = |name: &str| {
            let parts: Vec<&str> = name.split("::").collect();
            (1..=parts.len()).any(|length| {
                let parent = files.get(&parts[..length - 1].join("::"));
                let declared = ["", "pub(super) ", "pub(crate) "]
                    .map(|visible| format!("#[cfg(test)]\n{visible}mod {};", parts[length - 1]));
                parent.is_some_and(|text| declared.iter().any(|declared| text.contains(declared)))
            })
        };
        let code: BTreeMap<&str, String> = files
            .iter()
            .filter(|(name, _)| !is_test(name))
            .map(|(name, text)| (name.as_str(), without_tests(text)))
            .collect();
        let modules: BTreeSet<String> = code.keys().map(|name| (*name).to_owned()).collect();
        let exports: BTreeMap<&str, Vec<Vec<String>>> =
            code.iter().map(|(name, text)| (*name, used(name, text, &modules, true))).collect();
        let mut arrows = BTreeSet::new();
        for (name, text) in &code {
            for path in used(name, text, &modules, false) {
                let target = resolve(&path, &modules, &exports, 0);
                if target != *name && !target.is_empty() && !name.is_empty() {
                    arrows.insert(((*name).to_owned(), target));
                }
            }
        }
        Self { arrows, modules }
    }

    /// Arrows that do not run down the `order`.
    pub(super) fn upward(&self, order: &[&str]) -> Vec<String> {
        let layer = |name: &str| order.iter().position(|layer| name.split("::").next() == Some(layer));
        let tops: BTreeSet<&str> = self.modules.iter().filter_map(|name| name.split("::").next()).collect();
        let unknown = tops.iter().filter(|top| !top.is_empty() && layer(top).is_none());
        let mut found: Vec<String> = unknown.map(|top| format!("{top} stands in no layer")).collect();
        if found.is_empty() {
            let up = self.arrows.iter().filter(|(from, to)| layer(from) < layer(to));
            found.extend(up.map(|(from, to)| format!("{from} -> {to}")));
        }
        found
    }

    /// Circles among the children of each module, with all that is below a child counted as the child. A file may use
    /// its own parent: the two are one module.
    pub(super) fn circles(&self) -> Vec<Vec<String>> {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in &self.arrows {
            let (from, to): (Vec<&str>, Vec<&str>) = (from.split("::").collect(), to.split("::").collect());
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if common < from.len() && common < to.len() {
                edges.entry(from[..=common].join("::")).or_default().insert(to[..=common].join("::"));
            }
        }
        groups(&edges)
    }

    /// Circles of files. A file may not use its own parent if the parent uses it.
    pub(super) fn circles_of_files(&self) -> Vec<Vec<String>> {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in &self.arrows {
            edges.entry(from.clone()).or_default().insert(to.clone());
        }
        groups(&edges)
    }
}

/// The groups of names that reach each other.
fn groups(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached = |start: &str| {
        let (mut open, mut seen) = (vec![start.to_owned()], BTreeSet::new());
        while let Some(name) = open.pop() {
            for next in edges.get(&name).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let all: BTreeMap<&String, BTreeSet<String>> = edges.keys().map(|name| (name, reached(name))).collect();
    let mut circles = BTreeSet::new();
    for (name, reached) in &all {
        if reached.contains(*name) {
            let back = reached.iter().filter(|other| all.get(other).is_some_and(|r| r.contains(*name)));
            circles.insert(back.cloned().collect::<Vec<_>>());
        }
    }
    circles.into_iter().collect()
}

/// The file's text without comments and without the module of its tests.
fn without_tests(text: &str) -> String {
    let tests =
        ["", "pub(super) ", "pub(crate) "].map(|visible| format!("#[cfg(test)]\n{visible}mod tests {{"));
    let end = tests.iter().filter_map(|tests| text.find(tests)).min().unwrap_or(text.len());
    let code = &text[..end];
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n").replace("pub(in crate::", "pub(in ")
}

/// The paths that a file uses, from the crate's root. `public`: only those that it exports.
fn used(module: &str, text: &str, modules: &BTreeSet<String>, public: bool) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for statement in text.split(';') {
        let Some((before, tree)) = statement.rsplit_once("use ").filter(|(before, _)| {
            let last = before.lines().last().unwrap_or_default().trim();
            last.is_empty() || last == "pub" || last == "pub(crate)" || last == "pub(super)"
        }) else {
            continue;
        };
        let exported = before.lines().last().is_some_and(|line| line.trim().starts_with("pub"));
        if !public || exported {
            spread(tree, &mut Vec::new(), &mut found);
        }
    }
    if !public {
        // Paths outside of `use`: from the root, from the parent, or from a child.
        let outside = |c: char| !c.is_alphanumeric() && c != '_' && c != ':';
        for path in text.split(outside).filter(|path| path.contains("::") && !path.ends_with(':')) {
            let path: Vec<_> = path.split("::").map(str::to_owned).collect();
            let child = [module, "::", path[0].as_str()].concat();
            let leads_here = ["crate", "super"].contains(&path[0].as_str());
            if leads_here || modules.contains(child.trim_start_matches(':')) {
                found.push(path);
            }
        }
    }
    found.into_iter().filter_map(|path| absolute(module, path, modules)).collect()
}

/// Writes `a::{b, c::d}` out as `a::b` and `a::c::d`.
fn spread(tree: &str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let (mut depth, mut start) = (0_usize, 0);
    let mut parts = Vec::new();
    for (index, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&tree[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[start..]);
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        let (path, inner) = match part.split_once('{') {
            Some((path, inner)) => (path, Some(inner.trim_end().trim_end_matches('}'))),
            None => (part.split(" as ").next().unwrap_or_default(), None),
        };
        let segments = path.split("::").map(str::trim).filter(|part| !part.is_empty() && *part != "self");
        let before = prefix.len();
        prefix.extend(segments.map(str::to_owned));
        match inner {
            Some(_) => {
                let end = part.rfind('}').unwrap_or(part.len());
                let begin = part.find('{').map_or(0, |begin| begin + 1);
                spread(&part[begin..end], prefix, found);
            }
            None => found.push(prefix.clone()),
        }
        prefix.truncate(before);
    }
}

/// The path from the crate's root; none if it leads into another crate.
fn absolute(module: &str, path: Vec<String>, modules: &BTreeSet<String>) -> Option<Vec<String>> {
    let mut base: Vec<String> =
        module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let ups = path.iter().take_while(|part| *part == "super").count();
    if ups > 0 {
        base.truncate(base.len().saturating_sub(ups));
        base.extend(path.into_iter().skip(ups));
        return Some(base);
    }
    let first = path.first()?;
    if first == "crate" {
        return Some(path.into_iter().skip(1).collect());
    }
    // A child of this module.
    base.push(first.clone());
    let is_child = modules.contains(&base.join("::"));
    base.pop();
    base.extend(path);
    is_child.then_some(base)
}

/// The module that a path leads to, through what modules export.
fn resolve(
    path: &[String],
    modules: &BTreeSet<String>,
    exports: &BTreeMap<&str, Vec<Vec<String>>>,
    depth: usize,
) -> String {
    let longest = (0..=path.len()).rev().find(|length| modules.contains(&path[..*length].join("::")));
    let length = longest.unwrap_or(0);
    let module = path[..length].join("::");
    let Some(item) = path.get(length).filter(|_| depth < 8) else { return module };
    let exported = exports.get(module.as_str()).into_iter().flatten().find(|path| path.last() == Some(item));
    exported.map_or(module, |path| resolve(path, modules, exports, depth + 1))
}
