//! Waiting for one's turn: who has the lock is said, once, and shown in the report meanwhile.
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

/// One who waits.
#[derive(Debug)]
pub(super) struct Patience {
    waiting: Waiting,
    told: Option<String>,
}

/// Whose turn it is.
#[derive(Debug)]
pub(super) enum Turn {
    /// Ours; without a lock where the state folder cannot have one.
    Ours(Option<Lock>),
    /// The turn of somebody else, who is named for a reader.
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
            // Another agent was seen: one error does not mean that it is gone.
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

    /// Looks until it is our turn; none if SIGTERM or SIGINT comes before that. Health is that of one who waits, and the
    /// report says for whom: an agent that is killed for waiting would only wait again.
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
