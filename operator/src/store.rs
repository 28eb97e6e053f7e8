//! Decides when to write the Secret with the keys and the ConfigMap with the profiles. The Secret is written first: no
//! agent gets a profile without its keys. If the API server refuses a write, only policies whose profile is not stored
//! yet must wait. Pure: `writer` does the writes.
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::build::{DesiredContent, Prepared};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The state of the writes.
#[derive(Debug, Default)]
pub(crate) struct Store {
    under_way: bool,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    why: String,
    again: Instant,
    pause: Duration,
}

/// The write to begin now.
#[derive(Debug)]
pub(crate) struct StoreWrite {
    pub(crate) content: DesiredContent,
    /// Files whose content differs; if there is one, the Secret is to be written.
    pub(crate) files: BTreeSet<String>,
    /// True if the ConfigMap is to be written.
    pub(crate) profiles: bool,
    /// The versions that the writes replace.
    pub(crate) keys_version: Option<String>,
    pub(crate) profiles_version: Option<String>,
}

impl Store {
    /// Returns true if a failed write is to be tried again now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        !self.under_way && self.failure.as_ref().is_some_and(|failure| now >= failure.again)
    }

    /// Why the last write failed; none if it did not.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| failure.why.as_str())
    }

    /// Begins a write and returns its content. Returns none if nothing differs, if a write is under way, or if the
    /// pause after a failure has not ended.
    pub(crate) fn begin(
        &mut self,
        prepared: &Prepared,
        content: DesiredContent,
        now: Instant,
    ) -> Option<StoreWrite> {
        if self.under_way || self.failure.as_ref().is_some_and(|failure| now < failure.again) {
            return None;
        }
        let (files, profiles) = (prepared.keys_that_differ(&content), prepared.profiles_differ(&content));
        if files.is_empty() && !profiles {
            self.failure = None;
            return None;
        }
        self.under_way = true;
        let keys_version = prepared.keys_version().map(str::to_owned);
        let profiles_version = prepared.profiles_version().map(str::to_owned);
        Some(StoreWrite { content, files, profiles, keys_version, profiles_version })
    }

    /// Records the outcome of the write; `None` is a success. Returns true for a failure that differs from the former
    /// one.
    pub(crate) fn write_done(&mut self, failure: Option<String>, now: Instant) -> bool {
        self.under_way = false;
        let Some(why) = failure else {
            self.failure = None;
            return false;
        };
        let before = self.failure.as_ref();
        let pause = before.map_or(FIRST_PAUSE, |failure| (failure.pause * 2).min(LONGEST_PAUSE));
        let news = before.is_none_or(|before| before.why != why);
        self.failure = Some(Failure { why, again: now + pause, pause });
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_write_at_a_time_and_a_pause_after_a_failure() {
        let mut store = Store::default();
        let mut prepared = Prepared::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let content = || DesiredContent {
            profiles: [("a.12345678.toml".to_owned(), String::new())].into(),
            ..DesiredContent::default()
        };
        assert!(store.begin(&prepared, content(), at(0)).unwrap().profiles);
        assert!(store.begin(&prepared, content(), at(0)).is_none(), "under way");
        assert!(store.write_done(Some("denied".to_owned()), at(0)));
        assert_eq!(
            (store.trouble(), store.is_due(at(0)), store.is_due(at(1))),
            (Some("denied"), false, true)
        );
        assert!(store.begin(&prepared, content(), at(0)).is_none());
        assert!(store.begin(&prepared, content(), at(1)).is_some());
        assert!(!store.write_done(Some("denied".to_owned()), at(1)), "as before");
        assert_eq!((store.is_due(at(2)), store.is_due(at(3))), (false, true));
        prepared.hold_profiles(crate::fetch::Profiles { data: content().profiles, version: None });
        assert!(store.begin(&prepared, content(), at(3)).is_none());
        assert_eq!(store.trouble(), None);
    }
}
