//! State that is not on disk, because the folder could not be written: kept here, tried again, and reported. A disk
//! that stays full causes one line in the log, not one for each file and minute.
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

use super::file::{Error, FileOptions};

/// Files that wait until the disk accepts them.
#[derive(Debug, Default)]
pub(super) struct PendingWrites(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    waiting: BTreeMap<String, (String, FileOptions)>,
    /// Why the first of them could not be written.
    trouble: Option<String>,
    tried: Option<Instant>,
}

/// Pause between two tries of the same files.
const PAUSE: Duration = Duration::from_secs(10);

impl PendingWrites {
    /// Records that a file was written, or is not wanted any more.
    pub(super) fn saved(&self, name: &str) {
        let mut files = self.files();
        if files.waiting.remove(name).is_some() && files.waiting.is_empty() {
            files.trouble = None;
            info!("State folder can be written again");
        }
    }

    /// Records that a file could not be written with this text.
    pub(super) fn failed(&self, name: &str, text: &str, options: FileOptions, error: &Error) {
        let mut files = self.files();
        files.tried = Some(Instant::now());
        files.waiting.insert(name.to_owned(), (text.to_owned(), options));
        if files.trouble.is_some() {
            debug!(%error, "State not saved");
            return;
        }
        warn!(%error, "State folder cannot be written; trying again, and saying so when it can");
        files.trouble = Some(error.to_string());
    }

    /// Why files are not saved; none if all are saved.
    pub(super) fn trouble(&self) -> Option<String> {
        self.files().trouble.clone()
    }

    /// Returns true if this file is saved.
    pub(super) fn is_saved(&self, name: &str) -> bool {
        !self.files().waiting.contains_key(name)
    }

    /// The text that this file must have.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.files().waiting.get(name).map(|(text, _)| text.clone())
    }

    /// The files to be tried at `now`; none if they were tried just before.
    pub(super) fn due(&self, now: Instant) -> Vec<(String, String, FileOptions)> {
        let mut files = self.files();
        if files.tried.is_some_and(|tried| now.saturating_duration_since(tried) < PAUSE) {
            return Vec::new();
        }
        files.tried = Some(now);
        files.waiting.iter().map(|(name, (text, options))| (name.clone(), text.clone(), *options)).collect()
    }

    // The value is valid at every moment, even after a thread panicked with the lock held.
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
