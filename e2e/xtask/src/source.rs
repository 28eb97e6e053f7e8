//! What is built: the version, and the commit that it is built from.
use std::process::Command;

use anyhow::bail;

use crate::{checkout, process};

/// The version of all programs, images and the chart.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the checkout is at.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// Its hash; with `-dirty` if files differ from it.
    pub(crate) revision: String,
    /// When it was made (RFC 3339, UTC).
    pub(crate) time: String,
}

/// The commit that the checkout is at; none if the sources are not in git.
pub(crate) fn commit() -> anyhow::Result<Option<Commit>> {
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        // Otherwise git refuses a checkout that belongs to another user than root.
        git.arg("-c").arg(format!("safe.directory={}", checkout::root().display()));
        process::run(git.args(words).current_dir(checkout::root()).env("TZ", "UTC"))
    };
    // A folder inside of another project's repository is not that project's commit.
    if !checkout::root().join(".git").exists() {
        return Ok(None);
    }
    let dirty = !git(&["status", "--porcelain"])?.trim().is_empty();
    let revision = git(&["rev-parse", "HEAD"])?.trim().to_owned();
    let time = git(&["log", "-1", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%cd"])?;
    Ok(Some(Commit {
        revision: if dirty { format!("{revision}-dirty") } else { revision },
        time: time.trim().to_owned(),
    }))
}

/// The chart's version for an image tag: a semantic version. A leading `v` is left out.
pub(crate) fn chart_version(tag: &str) -> anyhow::Result<&str> {
    let version = tag.strip_prefix('v').unwrap_or(tag);
    let (numbers, end) = version.split_once('-').map_or((version, None), |(all, end)| (all, Some(end)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let number = |text: &str| digits(text) && (text == "0" || !text.starts_with('0'));
    // An identifier of only digits is a number, too (Semantic Versioning 2.0.0, item 9).
    let identifier = |text: &str| {
        let known = text.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        !text.is_empty() && known && (!digits(text) || number(text))
    };
    let is_end = |text: &str| text.split('.').all(identifier) && !text.ends_with('-');
    let sound = numbers.split('.').count() == 3 && numbers.split('.').all(number) && end.is_none_or(is_end);
    // The chart's name and version are a label's value, at most 63 characters.
    if !sound || version.len() > 54 {
        bail!(
            "TAG is {tag}, but it must be a version such as 0.1.0, v0.1.0 or 0.1.0-rc.1: the chart gets it, too"
        );
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_version() {
        for (tag, version) in [("0.1.0", "0.1.0"), ("v1.2.3", "1.2.3"), ("1.2.3-rc.1", "1.2.3-rc.1")] {
            assert_eq!(chart_version(tag).unwrap(), version);
        }
        for wrong in [
            "",
            "main",
            "1.2",
            "1.2.x",
            "1.2.3-",
            "1.2.3-a_b",
            "1..3",
            "01.2.3",
            "1.2.3-01",
            "1.2.3-a..b",
            "1.2.3-a-",
            "latest",
        ] {
            assert!(chart_version(wrong).unwrap_err().to_string().contains("TAG is"), "{wrong}");
        }
    }
}
