//! The state before the agent's first change, and the zones that the agent has set since: as the text in the state
//! folder, and back.
use super::{entry::Entry, zone_files::ZoneFiles};

/// What is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Former {
    /// The state before the agent's first change.
    pub(super) before: ZoneFiles,
    /// The zones that the agent set: the newest one, and the one before it, since a crash may come between this record
    /// and the change.
    ours: Vec<String>,
}

impl Former {
    pub(super) fn of(before: ZoneFiles) -> Self {
        Self { before, ours: Vec::new() }
    }

    /// Records that a zone is about to be set.
    pub(super) fn will_set(&mut self, name: &str) {
        if self.ours.last().is_none_or(|last| last != name) {
            self.ours.push(name.to_owned());
            self.ours.drain(..self.ours.len().saturating_sub(2));
        }
    }

    /// Returns true if /etc/timezone existed as a regular file. Then it is written too.
    pub(super) fn has_name_file(&self) -> bool {
        matches!(self.before.name_file, Entry::Plain(..))
    }

    /// Returns true if the name in /etc/timezone is right too.
    pub(super) fn agrees(&self, found: &ZoneFiles, name: &str) -> bool {
        !self.has_name_file() || found.names(name)
    }

    /// Returns true if the agent set the zone.
    pub(super) fn set_by_us(&self, found: &ZoneFiles) -> bool {
        self.ours.iter().any(|name| found.shows(name))
    }

    /// Returns true if the agent wrote the name in /etc/timezone.
    pub(super) fn named_by_us(&self, found: &ZoneFiles) -> bool {
        self.ours.iter().any(|name| found.names(name))
    }

    /// A description for a reader.
    pub(super) fn describe(&self) -> String {
        self.before.describe()
    }

    pub(super) fn to_text(&self) -> String {
        let ZoneFiles { localtime, name_file } = &self.before;
        let ours: String = self.ours.iter().map(|name| format!("set {name}\n")).collect();
        format!("localtime {}\ntimezone {}\n{ours}", localtime.to_line(), name_file.to_line())
    }

    /// Parses such a text; none if it is not valid.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let localtime = Entry::from_line(lines.next()?.strip_prefix("localtime ")?)?;
        let name_file = Entry::from_line(lines.next()?.strip_prefix("timezone ")?)?;
        let ours = lines.map(|line| line.strip_prefix("set ").map(str::to_owned)).collect::<Option<_>>()?;
        Some(Self { before: ZoneFiles { localtime, name_file }, ours })
    }
}
