//! What is done for whole policies each second: their rollouts move on, and their statuses are made and written.
use std::time::Instant;

use k8s_openapi::jiff::Timestamp;

use super::{Controller, Memory, STARTUP_GRACE};
use crate::{
    events,
    status::{StatusContext, WrittenPolicy, needs_write, status},
};

impl Controller {
    /// Moves the rollouts on. Just after the operator's start it waits for the first reports.
    pub(super) fn roll_out(&mut self, now: Instant) {
        if self.is_starting(now) {
            return;
        }
        let Memory { prepared, reports, dirty, .. } = &mut self.memory;
        let changed = prepared.roll_out(&|node| reports.of(node, now).report(), now);
        dirty.content |= !changed.is_empty();
        dirty.nodes.extend(changed);
    }

    fn is_starting(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.started) < STARTUP_GRACE
    }

    /// The statuses of all policies.
    pub(super) fn policies(&mut self, now: Instant) {
        let starting = self.is_starting(now);
        let Memory {
            prepared, reports, states, deviations, store, written_policies, rollout_log, brake, ..
        } = &mut self.memory;
        let brake = if self.node_writes.node_taints { brake.as_ref() } else { None };
        let context = StatusContext { prepared, states, store_trouble: store.trouble(), brake, starting };
        let statuses = status(&context, reports, deviations, now, Timestamp::now());
        self.metrics.policies(&statuses);
        rollout_log.log_changes(&statuses);
        written_policies.retain(|name, _| prepared.policies.iter().any(|policy| policy.name == *name));
        for policy in &prepared.policies {
            let Some(new) = statuses.get(&policy.name) else { continue };
            if needs_write(new, &policy.status, written_policies.get(&policy.name), now) {
                self.writer.policies.add(&policy.name, now);
            } else {
                self.writer.policies.clear(&policy.name);
            }
        }
        while let Some(name) = self.writer.policies.next() {
            let policy = prepared.policy(&name);
            let Some((policy, new)) = policy.zip(statuses.get(&name)) else {
                self.writer.policies.done(&name, true, now);
                continue;
            };
            let written = WrittenPolicy { at: now, worst: new.worst, spread: new.spread };
            written_policies.insert(name, written);
            let time = Timestamp::now();
            let events = [
                events::of_refusal(policy, &new.status, time),
                events::of_trouble(policy, &new.status, time),
                events::of_rollout(policy, &new.status, time),
            ];
            self.writer.write_policy(policy.clone(), new.clone(), events.into_iter().flatten().collect());
        }
    }
}
