//! Waits for the lock. The lock's holder is logged once, and named in the report meanwhile.
use std::{path::Path, sync::Arc};

use contract::{Assignment, ProfileError, ProfileFailure};
use sys::signal;
use tokio::time;
use tracing::{info, warn};

use crate::{
    clock,
    liveness::Liveness,
    lock::{Lock, Taken, Waiting},
    reload,
    report::{Journal, ProfileStatus},
};

/// A process that waits.
#[derive(Debug)]
pub(super) struct Patience {
    waiting: Waiting,
    told: Option<String>,
}

/// Whether this process may run.
#[derive(Debug)]
pub(super) enum Turn {
    /// It may; without a lock if the state folder cannot have one.
    Ours(Option<Lock>),
    /// Another process must end first. It is named for a reader.
    Wait(String),
}

impl Patience {
    pub(super) fn new(state_directory: &Path) -> Self {
        Self { waiting: Waiting::new(state_directory, "timesync-agent run"), told: None }
    }

    /// Looks once.
    pub(super) fn look(&mut self) -> Turn {
        match self.waiting.try_take() {
            Ok(Taken::Ours(lock)) => {
                if self.told.is_some() {
                    info!("It is this agent's turn");
                }
                Turn::Ours(Some(lock))
            }
            Ok(Taken::Theirs(holder)) => {
                if self.told.as_ref() != Some(&holder) {
                    warn!(holder, "Another agent has the state folder; waiting until it ends");
                    self.told = Some(holder.clone());
                }
                Turn::Wait(holder)
            }
            // Another agent was seen before: one error does not mean that it has ended.
            Err(error) if let Some(holder) = self.told.clone() => {
                warn!(%error, holder, "State folder cannot be locked; waiting on");
                Turn::Wait(holder)
            }
            Err(error) => {
                warn!(%error, "State folder cannot be locked: nothing keeps two agents apart");
                Turn::Ours(None)
            }
        }
    }

    /// Looks until this process may run; none if SIGTERM or SIGINT comes first. A waiting agent counts as alive, and
    /// its report names the holder: an agent that a probe kills for waiting would only wait again.
    pub(super) async fn keep(mut self, journal: &Arc<Journal>, liveness: &Liveness) -> Option<Option<Lock>> {
        loop {
            match self.look() {
                Turn::Ours(lock) => return Some(lock),
                Turn::Wait(_) if signal::stop_requested() => return None,
                Turn::Wait(holder) => journal.profile(clock::now().wall, waits_for(&holder), None),
            }
            liveness.mark();
            time::sleep(reload::INTERVAL).await;
        }
    }
}

fn waits_for(holder: &str) -> ProfileStatus {
    let message = format!("{holder} has the state folder: this agent waits until it ends");
    let error = ProfileError { reason: ProfileFailure::Waiting, message };
    ProfileStatus { assignment: Assignment::Unassigned, running: None, mode: None, error: Some(error) }
}
