//! Whether a source can be voted on, by what is known of it alone; and if not, why not.
use crate::{
    SourceState,
    association::{Association, UNREACHABLE},
    reply::Refusal,
};

/// A source that was silent for more polls says nothing any more (chrony's `maxunreach` is as long as one wants).
const LONGEST_SILENCE: u32 = 100;

impl Association {
    /// Whether the last eight polls went unanswered; the eighth has had its time.
    pub(crate) fn unreachable(&self) -> bool {
        let waiting = u32::from(self.request.is_some());
        self.denied || self.reach == 0 && self.unanswered.saturating_sub(waiting) >= UNREACHABLE
    }

    /// Whether the last thing that it said was of no use.
    pub(crate) fn refused(&self) -> bool {
        self.denied || self.refusal.is_some()
    }

    /// Whether all that it says is that it wants fewer requests.
    pub(crate) fn limited(&self) -> bool {
        self.reach == 0 && self.schedule.limited()
    }

    /// Whether the last thing that it said, in one of the last eight polls, was that it follows us.
    pub(crate) fn follows_us(&self) -> bool {
        self.refusal == Some(Refusal::Loop) && self.silent <= UNREACHABLE
    }

    /// Whether the next seconds may bring the samples that are missing for an estimate.
    pub(crate) fn measuring(&self) -> bool {
        let asked = !self.source.noselect && !self.is_duplicate() && !self.is_nobody();
        asked && self.history.estimate().is_none() && !self.unreachable()
    }

    /// Whether it may still be voted on though it is not reached: for a hundred polls, if it was not refused.
    pub(crate) fn remembered(&self) -> bool {
        self.unreachable()
            && !self.denied
            && self.refusal.is_none()
            && self.proof.why.is_none()
            && self.mixture.is_none()
            && self.unanswered <= LONGEST_SILENCE
    }

    /// Why there is no address to ask.
    pub(super) fn no_address(&self) -> String {
        match &self.refresh.failure {
            None => format!("The name {} is being looked up.", self.host),
            Some(why) => format!("The name {} does not resolve: {why}.", self.host),
        }
    }

    /// Why no estimate of it can be used, whatever others say; none if it can.
    pub(crate) fn obstacle(&self) -> Option<(SourceState, String)> {
        if let Some(why) = self.refusal.filter(|_| self.is_nobody()).map(Refusal::why) {
            return Some((SourceState::Unusable, why.to_owned()));
        }
        if let Some(obstacle) = self.duplicate_obstacle().or_else(|| self.proof_obstacle()) {
            return Some(obstacle);
        }
        if !self.placed() {
            return Some((SourceState::Unresolved, self.no_address()));
        }
        if self.denied {
            return Some((SourceState::Unusable, "It refuses to serve us (DENY).".to_owned()));
        }
        // What others say of themselves may be a slip. Who follows us is right only as we are, from that moment on.
        if let Some(why) = self.refusal.filter(|_| self.reach == 0 || self.follows_us()).map(Refusal::why) {
            return Some((SourceState::Unusable, why.to_owned()));
        }
        if self.unreachable() {
            return Some((SourceState::Unreachable, self.silence().to_owned()));
        }
        if self.last_answer.is_none() {
            return Some((SourceState::Measuring, "No answer yet.".to_owned()));
        }
        if self.history.estimate().is_none() {
            return Some((SourceState::Measuring, format!("{} of 3 samples yet.", self.history.count())));
        }
        if let Some(why) = &self.mixture {
            return Some((SourceState::Unusable, why.clone()));
        }
        if self.source.noselect {
            return Some((SourceState::Noselect, "It is measured only: the option noselect.".to_owned()));
        }
        None
    }
}
