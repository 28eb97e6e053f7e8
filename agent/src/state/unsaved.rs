//! What of the state is not on disk, since the folder could not be written: kept here, tried again, and told. A disk that
//! stays full costs one line in the log, not one for each file and minute.
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

use super::{Error, Form};

/// Files that wait for a disk that takes them.
#[derive(Debug, Default)]
pub(super) struct Unsaved(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    waiting: BTreeMap<String, (String, Form)>,
    /// Why the first of them could not be written.
    trouble: Option<String>,
    tried: Option<Instant>,
}

/// Between two tries of the same files.
const PAUSE: Duration = Duration::from_secs(10);

impl Unsaved {
    /// A file was written, or is not wanted any more.
    pub(super) fn saved(&self, name: &str) {
        let mut files = self.files();
        if files.waiting.remove(name).is_some() && files.waiting.is_empty() {
            files.trouble = None;
            info!("State folder can be written again");
        }
    }

    /// A file could not be written with this text.
    pub(super) fn failed(&self, name: &str, text: &str, form: Form, error: &Error) {
        let mut files = self.files();
        files.tried = Some(Instant::now());
        files.waiting.insert(name.to_owned(), (text.to_owned(), form));
        if files.trouble.is_some() {
            debug!(%error, "State not saved");
            return;
        }
        warn!(%error, "State folder cannot be written; trying again, and saying so when it can");
        files.trouble = Some(error.to_string());
    }

    /// Why files are not saved; none if all are.
    pub(super) fn trouble(&self) -> Option<String> {
        self.files().trouble.clone()
    }

    /// Whether this file is as it should be.
    pub(super) fn is_saved(&self, name: &str) -> bool {
        !self.files().waiting.contains_key(name)
    }

    /// What this file is to say.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.files().waiting.get(name).map(|(text, _)| text.clone())
    }

    /// What is to be tried at `now`; nothing if it was tried just before.
    pub(super) fn due(&self, now: Instant) -> Vec<(String, String, Form)> {
        let mut files = self.files();
        if files.tried.is_some_and(|tried| now.saturating_duration_since(tried) < PAUSE) {
            return Vec::new();
        }
        files.tried = Some(now);
        files.waiting.iter().map(|(name, (text, form))| (name.clone(), text.clone(), *form)).collect()
    }

    // Whole at every moment, so a thread that panicked while it held it left nothing half done.
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
