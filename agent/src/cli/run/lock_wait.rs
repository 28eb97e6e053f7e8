//! Waits for the lock. The lock's holder is logged once, and named in the report meanwhile.
use std::{path::Path, sync::Arc};

use contract::{Assignment, ProfileError, ProfileFailure};
use sys::signal;
use tokio::time;
use tracing::{info, warn};

use crate::{
    clock,
    liveness::Liveness,
    lock::{Lock, LockWaiter, TryLock},
    reload,
    report::{ProfileStatus, Reporter},
};

/// A process that waits.
#[derive(Debug)]
pub(super) struct LockWait {
    waiter: LockWaiter,
    reported: Option<String>,
}

/// Whether this process may run.
#[derive(Debug)]
pub(super) enum LockState {
    /// It may; without a lock if the state folder cannot have one.
    Ours(Option<Lock>),
    /// Another process must end first. It is named for a reader.
    Held(String),
}

impl LockWait {
    pub(super) fn new(state_directory: &Path) -> Self {
        Self { waiter: LockWaiter::new(state_directory, "timesync-agent run"), reported: None }
    }

    /// Tries once.
    pub(super) fn check(&mut self) -> LockState {
        match self.waiter.try_take() {
            Ok(TryLock::Ours(lock)) => {
                if self.reported.is_some() {
                    info!("It is this agent's turn");
                }
                LockState::Ours(Some(lock))
            }
            Ok(TryLock::Theirs(holder)) => {
                if self.reported.as_ref() != Some(&holder) {
                    warn!(holder, "Another agent has the state folder; waiting until it ends");
                    self.reported = Some(holder.clone());
                }
                LockState::Held(holder)
            }
            // Another agent was seen before: one error does not mean that it has ended.
            Err(error) if let Some(holder) = self.reported.clone() => {
                warn!(%error, holder, "State folder cannot be locked; waiting on");
                LockState::Held(holder)
            }
            Err(error) => {
                warn!(%error, "State folder cannot be locked: nothing keeps two agents apart");
                LockState::Ours(None)
            }
        }
    }

    /// Waits until this process may run; none if SIGTERM or SIGINT comes first. A waiting agent counts as alive, and
    /// its report names the holder: an agent that a probe kills for waiting would only wait again.
    pub(super) async fn wait(
        mut self,
        reporter: &Arc<Reporter>,
        liveness: &Liveness,
    ) -> Option<Option<Lock>> {
        loop {
            match self.check() {
                LockState::Ours(lock) => return Some(lock),
                LockState::Held(_) if signal::stop_requested() => return None,
                LockState::Held(holder) => reporter.profile(clock::now().wall, waits_for(&holder), None),
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
