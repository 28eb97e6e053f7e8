//! The rollout of one policy: which profile a node gets now, and the state that is kept in the policy's status. `step`
//! moves it on.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use api::{PauseReason, RolloutState, RolloutStatus, TimeSyncPolicyStatus};
use contract::ProfileName;

use super::{judge::Watched, settings::Settings};

/// The rollout of one policy's present profile.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    pub(super) settings: Settings,
    /// The profile that goes out.
    pub(super) target: ProfileName,
    /// The policy's generation.
    generation: Option<i64>,
    /// The last profile whose rollout was completed.
    pub(super) last_good: Option<ProfileName>,
    pub(super) state: RolloutState,
    /// Why it is paused, and the nodes for which it is.
    pub(super) pause: Option<(PauseReason, String)>,
    /// The annotation's value that was acted on.
    pub(super) acted: Option<String>,
    /// Nodes that are not waited for.
    pub(super) excused: BTreeSet<String>,
    /// Nodes that got the profile in this rollout.
    pub(super) released: BTreeSet<String>,
    /// True if a former operator began the rollout, until the nodes that it released are known.
    pub(super) resumed: bool,
    /// Nodes that came from another policy because their own labels changed.
    pub(super) immediate: BTreeSet<String>,
    pub(super) watched: BTreeMap<String, Watched>,
    /// What it waits for; empty if for nothing.
    pub(super) waiting: String,
}

/// The largest number of excused nodes: as many as the status can hold.
pub(super) const MOST_EXCUSED: usize = 100;

impl Rollout {
    /// Continues the rollout that the policy's status tells of, or begins one. `is_there` returns true if the text of a
    /// profile is known.
    pub(super) fn restored(
        settings: Settings,
        (target, generation): (ProfileName, Option<i64>),
        stored: &TimeSyncPolicyStatus,
        is_there: &dyn Fn(&ProfileName) -> bool,
    ) -> Self {
        let known = |name: Option<&String>| name.and_then(|name| name.parse().ok()).filter(is_there);
        let mut rollout = Self {
            settings,
            target,
            generation,
            last_good: None,
            state: RolloutState::Progressing,
            pause: None,
            acted: None,
            excused: BTreeSet::new(),
            released: BTreeSet::new(),
            resumed: false,
            immediate: BTreeSet::new(),
            watched: BTreeMap::new(),
            waiting: String::new(),
        };
        let Some(stored_rollout) = &stored.rollout else {
            // Until now every profile went to all nodes at once.
            rollout.last_good = known(stored.profile.as_ref());
            if rollout.last_good.as_ref() == Some(&rollout.target) {
                rollout.state = RolloutState::Done;
            }
            return rollout;
        };
        let RolloutStatus { state, profile, generation, last_good, paused, message, acted, excused } =
            stored_rollout;
        rollout.last_good = known(last_good.as_ref());
        rollout.acted.clone_from(acted);
        let is_same = *profile == rollout.target.to_string();
        let is_edited = generation.is_none() || *generation != rollout.generation;
        if is_same || (is_halted(*state) && !is_edited) {
            rollout.state = *state;
            rollout.pause = paused.map(|reason| (reason, message.clone()));
        }
        if is_same && *state == RolloutState::Done {
            // Also if its text is not known now, because no node has it.
            rollout.last_good = Some(rollout.target.clone());
        }
        if is_same {
            rollout.excused = excused.iter().cloned().collect();
            rollout.resumed = matches!(state, RolloutState::Progressing | RolloutState::Paused);
        }
        rollout
    }

    /// Takes the policy's present profile, and its generation. Another profile than before begins a rollout. But if no
    /// user has changed it, what is paused or aborted stays so.
    pub(super) fn follow(&mut self, settings: Settings, (target, generation): (ProfileName, Option<i64>)) {
        self.settings = settings;
        let is_edited = generation.is_none() || self.generation != generation;
        self.generation = generation;
        if self.target != target {
            self.target = target;
            let pause = self.pause.take();
            if is_halted(self.state) && !is_edited {
                self.begin(self.state);
                self.pause = pause;
            } else {
                self.begin(RolloutState::Progressing);
            }
        }
    }

    /// Forgets what was observed, and goes on in this state.
    pub(super) fn begin(&mut self, state: RolloutState) {
        self.state = state;
        self.pause = None;
        self.waiting.clear();
        self.excused.clear();
        self.released.clear();
        self.resumed = false;
        self.immediate.clear();
        self.watched.clear();
    }

    /// The profile for a node that the policy takes. `present` is the one in its annotation; `keeps` returns true if a
    /// profile can stay: its text is known, and its policy exists.
    pub(crate) fn profile_for(
        &self,
        node: &str,
        present: Option<&ProfileName>,
        keeps: impl Fn(&ProfileName) -> bool,
    ) -> ProfileName {
        let goes_out = self.state != RolloutState::Aborted;
        if goes_out && (present == Some(&self.target) || self.released.contains(node)) {
            return self.target.clone();
        }
        let good = self.last_good.as_ref().unwrap_or(&self.target);
        match present.filter(|present| keeps(present)) {
            // A return to the last good profile is no risk, so it is not staged.
            Some(own) if own.policy() == self.target.policy() => {
                if goes_out && self.last_good.as_ref() != Some(&self.target) {
                    own.clone()
                } else {
                    good.clone()
                }
            }
            Some(other) if !self.immediate.contains(node) => other.clone(),
            _ => good.clone(),
        }
    }

    /// The profile of a node that keeps `present`, since the policy cannot be carried out now. What was aborted it does not
    /// keep.
    pub(crate) fn kept<'a>(&'a self, present: &'a ProfileName) -> &'a ProfileName {
        match &self.last_good {
            Some(good) if self.state == RolloutState::Aborted && *present == self.target => good,
            _ => present,
        }
    }

    /// Returns true if no rollout of the policy was completed, and the node's turn has not come.
    pub(crate) fn is_unproven_for(&self, node: &str) -> bool {
        self.last_good.is_none() && !self.released.contains(node)
    }

    /// Returns true if the policy takes no node: its first rollout was aborted, so there is no profile to go back to.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.state == RolloutState::Aborted && self.last_good.is_none()
    }

    /// Pauses.
    pub(super) fn pause(&mut self, reason: PauseReason, message: String) {
        self.state = RolloutState::Paused;
        self.pause = Some((reason, message));
    }

    /// Records that the node has the profile since `now`.
    pub(super) fn release(&mut self, node: &str, was_well: Option<bool>, now: Instant) {
        self.released.insert(node.to_owned());
        self.watched.insert(node.to_owned(), Watched::new(was_well, now));
    }

    /// The state as it is kept in the policy's status.
    pub(crate) fn status(&self) -> RolloutStatus {
        let (paused, message) = match &self.pause {
            Some((reason, message)) => (Some(*reason), message.clone()),
            None => (None, String::new()),
        };
        RolloutStatus {
            state: self.state,
            profile: self.target.to_string(),
            generation: self.generation,
            last_good: self.last_good.as_ref().map(ToString::to_string),
            paused,
            message,
            acted: self.acted.clone(),
            excused: self.excused.iter().cloned().collect(),
        }
    }
}

/// Returns true if it goes on only when a user says so.
fn is_halted(state: RolloutState) -> bool {
    matches!(state, RolloutState::Paused | RolloutState::Aborted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completed_rollout_stays_so_if_its_text_is_not_known() {
        let target: ProfileName = "p.12345678".parse().unwrap();
        let done = RolloutStatus {
            state: RolloutState::Done,
            profile: target.to_string(),
            generation: Some(1),
            last_good: Some(target.to_string()),
            paused: None,
            message: String::new(),
            acted: None,
            excused: vec![],
        };
        let stored = TimeSyncPolicyStatus { rollout: Some(done.clone()), ..TimeSyncPolicyStatus::default() };
        let settings = Settings::of(&api::Rollout::default()).unwrap();
        let restored = Rollout::restored(settings, (target, Some(1)), &stored, &|_| false);
        assert_eq!(restored.status(), done);
    }
}
