//! Writes parts of docs/benchmarks.md. Different commands write different parts: each replaces only the text between
//! its own marks, `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
use std::{fs, io};

use anyhow::{Context, ensure};

use crate::checkout;

/// Reads a part from standard input and writes it into the page.
pub fn read(part: &str) -> anyhow::Result<()> {
    let text = io::read_to_string(io::stdin()).context("cannot read standard input")?;
    ensure!(!text.trim().is_empty(), "there is nothing to write into the page");
    put(part, &text)
}

/// Writes a part of the page.
pub fn put(part: &str, text: &str) -> anyhow::Result<()> {
    let path = checkout::root().join("docs/benchmarks.md");
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let page =
        replaced(&page, part, text).with_context(|| format!("{} has no part {part}", path.display()))?;
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

fn replaced(page: &str, part: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {part}: begin -->\n"), format!("<!-- {part}: end -->\n"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{}\n{end}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_and_the_others_are_kept() {
        let page =
            "# T\n<!-- a: begin -->\nold\n<!-- a: end -->\n\n<!-- b: begin -->\nkept\n<!-- b: end -->\n";
        let new = replaced(page, "a", "new\n").unwrap();
        assert_eq!(new, page.replace("old", "new"));
        assert_eq!(replaced(&new, "a", "new").as_deref(), Some(new.as_str()));
        assert_eq!(replaced(page, "c", "new"), None);
    }

    #[test]
    fn the_page_has_the_parts_that_are_written() {
        let page = fs::read_to_string(checkout::root().join("docs/benchmarks.md")).unwrap();
        for part in ["bench", "scale-1000", "scale-5000", "server", "sim"] {
            assert!(replaced(&page, part, "").is_some(), "no part {part}");
        }
    }
}
