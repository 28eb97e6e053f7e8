//! How a rollout appears in the condition RolledOut.
use api::{PauseReason, RolloutRequest, RolloutState, RolloutVerb};

use super::stage::Rollout;
use crate::condition::{Finding, reason};

impl Rollout {
    /// The finding while the rollout is not done; none if it is. `updated` of `total` nodes run the profile.
    pub(crate) fn finding(&self, updated: usize, total: usize) -> Option<Finding> {
        let target = &self.target;
        let ask = |verb| RolloutRequest { verb, hash: target.hash() }.anew(self.acted.as_deref());
        let (reason, message) = match (self.state, &self.pause) {
            (RolloutState::Done, _) => return None,
            (RolloutState::Progressing, _) | (RolloutState::Paused, None) => {
                let waiting = match self.waiting.as_str() {
                    "" => String::new(),
                    nodes => format!("; waits until these have proven it: {nodes}"),
                };
                let message = format!("Profile {target} runs on {updated} of {total} nodes{waiting}.");
                (reason::IN_PROGRESS, message)
            }
            (RolloutState::Paused, Some((why, nodes))) => {
                let why = match why {
                    PauseReason::Requested => "as the annotation timesync.dev/rollout asks".to_owned(),
                    PauseReason::NoAnswer => format!("NoAnswer: {nodes}"),
                    PauseReason::Regression => format!("Regression: {nodes}"),
                };
                let message = format!(
                    "The rollout of profile {target} is paused at {updated} of {total} nodes, {why}. To go on, annotate \
                     the policy with timesync.dev/rollout={}; to go back, with {}, or edit the policy.{}",
                    ask(RolloutVerb::Resume),
                    ask(RolloutVerb::Abort),
                    self.ignored_request()
                );
                (reason::PAUSED, message)
            }
            (RolloutState::Aborted, _) => {
                let runs = match &self.last_good {
                    Some(good) if good != target => format!("its nodes have {good} again"),
                    Some(_) => "no further node is taken over".to_owned(),
                    None => "the policy takes no node".to_owned(),
                };
                let message = format!(
                    "The rollout of profile {target} was aborted: {runs}. Edit the policy, or annotate it with \
                     timesync.dev/rollout={}.",
                    ask(RolloutVerb::Resume)
                );
                (reason::ABORTED, message)
            }
        };
        Some(Finding::new(Some(false), reason, message))
    }

    /// That the present annotation does nothing, and why; empty if it did something, or if there is none.
    fn ignored_request(&self) -> String {
        let Some(text) = self.acted.as_deref() else { return String::new() };
        let why = match RolloutRequest::of(text) {
            None => "is not pause:, resume: or abort: and a hash",
            Some(request) if request.hash != self.target.hash() => "names another profile",
            Some(_) => return String::new(),
        };
        format!(" The annotation {text:?} does nothing: it {why}.")
    }
}
