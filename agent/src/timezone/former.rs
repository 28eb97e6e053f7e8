//! What was there before our first change, and what we have set since: the text in the state directory, both ways.
use super::{entry::Entry, files::Found};

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Former {
    /// What was there before us.
    pub(super) before: Found,
    /// The zones that we set: the newest, and the one before, since a crash may come between this note and the deed.
    ours: Vec<String>,
}

impl Former {
    pub(super) fn of(before: Found) -> Self {
        Self { before, ours: Vec::new() }
    }

    /// Notes that a zone is about to be set.
    pub(super) fn will_set(&mut self, name: &str) {
        if self.ours.last().is_none_or(|last| last != name) {
            self.ours.push(name.to_owned());
            self.ours.drain(..self.ours.len().saturating_sub(2));
        }
    }

    /// Whether /etc/timezone was there, as a plain file: then it is written along.
    pub(super) fn has_name_file(&self) -> bool {
        matches!(self.before.name_file, Entry::Plain(..))
    }

    /// Whether the name that goes along is right, too.
    pub(super) fn agrees(&self, found: &Found, name: &str) -> bool {
        !self.has_name_file() || found.names(name)
    }

    /// Whether the zone is one that we set.
    pub(super) fn set_by_us(&self, found: &Found) -> bool {
        self.ours.iter().any(|name| found.shows(name))
    }

    /// Whether the name beside it is.
    pub(super) fn named_by_us(&self, found: &Found) -> bool {
        self.ours.iter().any(|name| found.names(name))
    }

    /// For a reader.
    pub(super) fn describe(&self) -> String {
        self.before.describe()
    }

    pub(super) fn to_text(&self) -> String {
        let Found { localtime, name_file } = &self.before;
        let ours: String = self.ours.iter().map(|name| format!("set {name}\n")).collect();
        format!("localtime {}\ntimezone {}\n{ours}", localtime.to_line(), name_file.to_line())
    }

    /// What such a text says; none if it is no such text.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let localtime = Entry::from_line(lines.next()?.strip_prefix("localtime ")?)?;
        let name_file = Entry::from_line(lines.next()?.strip_prefix("timezone ")?)?;
        let ours = lines.map(|line| line.strip_prefix("set ").map(str::to_owned)).collect::<Option<_>>()?;
        Some(Self { before: Found { localtime, name_file }, ours })
    }
}

impl Found {
    /// Whether the zone in force is this one.
    pub(super) fn shows(&self, name: &str) -> bool {
        self.localtime.zone() == Some(name)
    }

    /// Whether /etc/timezone has this name.
    fn names(&self, name: &str) -> bool {
        matches!(&self.name_file, Entry::Plain(_, octets) if octets.trim_ascii() == name.as_bytes())
    }

    /// For a reader.
    pub(super) fn describe(&self) -> String {
        match &self.localtime {
            Entry::Absent => "UTC, by no file".to_owned(),
            Entry::Link(target) => self.localtime.zone().unwrap_or(target).to_owned(),
            Entry::Plain(..) | Entry::Strange => "a plain file".to_owned(),
        }
    }
}
