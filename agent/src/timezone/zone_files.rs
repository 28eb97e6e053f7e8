//! What was found at /etc/localtime and /etc/timezone, and which zone it means.
use super::entry::Entry;

/// What is at the paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ZoneFiles {
    pub(super) localtime: Entry,
    /// Debian also keeps the name in a file of its own.
    pub(super) name_file: Entry,
}

impl ZoneFiles {
    /// Returns true if this zone is in force.
    pub(super) fn shows(&self, name: &str) -> bool {
        self.localtime.zone() == Some(name)
    }

    /// Returns true if /etc/timezone has this name.
    pub(super) fn names(&self, name: &str) -> bool {
        matches!(&self.name_file, Entry::Plain(_, octets) if octets.trim_ascii() == name.as_bytes())
    }

    /// A description for a reader.
    pub(super) fn describe(&self) -> String {
        match &self.localtime {
            Entry::Absent => "UTC, by no file".to_owned(),
            Entry::Link(target) => self.localtime.zone().unwrap_or(target).to_owned(),
            Entry::Plain(..) | Entry::Strange => "a plain file".to_owned(),
        }
    }
}
