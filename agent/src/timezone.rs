//! The host's time zone: sets the target of /etc/localtime as the profile says. Before the first change, the former
//! target is saved in the state folder. It is restored when no profile names a zone any more. Moves no clock.
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use contract::{TimezoneReport, TransitionKind};
use tracing::{info, warn};

use crate::{host_root::HostRoot, state::State};

mod error;

mod entry;
mod zone_files;

mod former;
mod files;

use error::Error;
use files::Files;
use former::Former;

/// Keeps the host's time zone.
#[derive(Debug)]
pub(crate) struct TimezoneKeeper {
    files: Files,
    state: Arc<State>,
    desired: DesiredZone,
    checked_at: Option<Instant>,
    /// True if the zone was seen as desired, or set, for the present desired zone.
    settled: bool,
    /// When another process changed the zone.
    changed: VecDeque<Instant>,
    contested: bool,
    trouble: String,
}

/// The desired time zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum DesiredZone {
    /// Nothing is known yet, or nothing may be changed.
    #[default]
    Untouched,
    /// This zone, which mode Observe only compares.
    Observed(String),
    /// The zone before the agent's first change.
    Former,
    /// This zone.
    Zone(String),
}

/// The result of a check.
#[derive(Debug)]
pub(crate) struct TimezoneOutcome {
    /// The zone in force, if the profile names one, or if the former one cannot be restored.
    pub(crate) report: Option<TimezoneReport>,
    /// What was done, or a failure that was not reported yet.
    pub(crate) done: Option<(TransitionKind, String)>,
}

/// Interval between two checks.
const INTERVAL: Duration = Duration::from_secs(2);

/// After this many changes by another process within the time below, the agent stops setting the zone again.
const MOST_CHANGES: usize = 3;
const CHANGES_WITHIN: Duration = Duration::from_secs(600);

impl TimezoneKeeper {
    /// Changes nothing until it is told to.
    pub(crate) fn new(host: HostRoot, state: Arc<State>) -> Self {
        Self {
            files: Files::new(host),
            state,
            desired: DesiredZone::Untouched,
            checked_at: None,
            settled: false,
            changed: VecDeque::new(),
            contested: false,
            trouble: String::new(),
        }
    }

    /// Brings the time zone into the desired state; none if no check is due.
    pub(crate) fn reconcile(&mut self, desired: DesiredZone, now: Instant) -> Option<TimezoneOutcome> {
        let recent = self.checked_at.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL);
        if desired == self.desired && recent {
            return None;
        }
        if desired != self.desired {
            (self.settled, self.contested) = (false, false);
            self.changed.clear();
            self.trouble.clear();
        }
        self.checked_at = Some(now);
        self.desired = desired;
        let outcome = match self.desired.clone() {
            DesiredZone::Untouched | DesiredZone::Observed(_) => Ok(None),
            DesiredZone::Former => self.put_back(),
            DesiredZone::Zone(name) => self.set(&name, now),
        };
        Some(self.record(outcome))
    }

    fn record(&mut self, outcome: Result<Option<String>, Error>) -> TimezoneOutcome {
        let mut done = None;
        let trouble = match outcome {
            Ok(message) => {
                if let Some(message) = message {
                    info!(%message, "Time zone changed");
                    done = Some((TransitionKind::TimezoneChanged, message));
                }
                String::new()
            }
            Err(error) => error.to_string(),
        };
        if !trouble.is_empty() && trouble != self.trouble {
            warn!(error = trouble, "Time zone not set");
            done = Some((TransitionKind::TimezoneFailed, trouble.clone()));
        }
        self.trouble = trouble;
        TimezoneOutcome { report: self.report(), done }
    }

    fn report(&self) -> Option<TimezoneReport> {
        let name = self.files.zone();
        let message = match &self.desired {
            DesiredZone::Untouched => return None,
            DesiredZone::Former if self.trouble.is_empty() => return None,
            DesiredZone::Observed(wanted) if name.as_ref() != Some(wanted) => {
                format!("{wanted} is not set in mode Observe")
            }
            DesiredZone::Observed(_) | DesiredZone::Former | DesiredZone::Zone(_) => self.trouble.clone(),
        };
        Some(TimezoneReport { name, message })
    }

    /// Sets the zone, if it is not set. Returns what was done.
    fn set(&mut self, name: &str, now: Instant) -> Result<Option<String>, Error> {
        self.files.require(name)?;
        let found = self.files.read()?;
        let kept = self.former()?;
        if found.shows(name) && kept.as_ref().is_none_or(|kept| kept.agrees(&found, name)) {
            (self.settled, self.contested) = (true, false);
            return Ok(None);
        }
        self.note_change(now)?;
        let again = std::mem::replace(&mut self.settled, false);
        let was = found.describe();
        let mut former = kept.clone().unwrap_or_else(|| Former::of(found));
        former.will_set(name);
        if kept.as_ref() != Some(&former) {
            self.state.save_former_timezone(&former.to_text())?;
        }
        self.files.set(name, former.has_name_file())?;
        self.settled = true;
        Ok(Some(if again {
            format!("The time zone is {name} again; another process had set {was}")
        } else {
            format!("The time zone is {name}; it was {was}")
        }))
    }

    /// Records that another process changed the zone. If that happens again and again, returns an error, and the zone
    /// is not set again.
    fn note_change(&mut self, now: Instant) -> Result<(), Error> {
        if self.settled && !self.contested {
            self.changed.retain(|at| now.saturating_duration_since(*at) < CHANGES_WITHIN);
            self.changed.push_back(now);
            self.contested = self.changed.len() >= MOST_CHANGES;
        }
        if self.contested { Err(Error::Contested) } else { Ok(()) }
    }

    /// Restores the zone before the agent's first change. If another process has changed it since, its zone stays.
    fn put_back(&mut self) -> Result<Option<String>, Error> {
        let Some(former) = self.former()? else { return Ok(None) };
        let found = self.files.read()?;
        if found == former.before {
            // The change that the record was for failed, or another process has undone it.
            self.state.forget_former_timezone()?;
            return Ok(None);
        }
        let message = if former.set_by_us(&found) {
            self.files.put_back(&former, &found)?;
            format!("The former time zone is back: {}", former.describe())
        } else {
            format!("The time zone stays {}, which another process has set", found.describe())
        };
        self.state.forget_former_timezone()?;
        Ok(Some(message))
    }

    fn former(&self) -> Result<Option<Former>, Error> {
        let Some(text) = self.state.former_timezone() else { return Ok(None) };
        Former::from_text(&text).map(Some).ok_or(Error::Damaged)
    }
}

#[cfg(test)]
mod tests;
