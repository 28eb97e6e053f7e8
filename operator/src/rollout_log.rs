//! Logs when a policy's profile begins to go to its nodes, and when all of them run it.
use std::collections::BTreeMap;

use tracing::info;

use crate::{
    condition::{self, ROLLED_OUT},
    status::PolicyStatus,
};

/// The profile of each policy, and whether it is rolled out.
#[derive(Debug, Default)]
pub(crate) struct RolloutLog {
    seen: BTreeMap<String, (Option<String>, bool)>,
}

impl RolloutLog {
    /// Logs what changed since the last call.
    pub(crate) fn log_changes(&mut self, statuses: &BTreeMap<String, PolicyStatus>) {
        for (policy, PolicyStatus { status, updated, .. }) in statuses {
            let rolled_out = condition::find(&status.conditions, ROLLED_OUT);
            let done = rolled_out.is_some_and(|rolled_out| rolled_out.status == "True");
            let now = (status.profile.clone(), done);
            let before = self.seen.insert(policy.clone(), now.clone());
            if before.as_ref() == Some(&now) {
                continue;
            }
            let profile = status.profile.as_deref().unwrap_or("none");
            match done {
                true => info!(policy, profile, nodes = updated.all, "Rolled out"),
                false => {
                    info!(policy, profile, nodes = updated.all, run_it = updated.run_it, "Rolling out")
                }
            }
        }
        self.seen.retain(|policy, _| statuses.contains_key(policy));
    }
}
