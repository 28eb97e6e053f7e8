//! Whether a source can be voted on, by what is known of it alone; and if not, why not.
use crate::{
    Action, Auth, Mono, SendError, SourceState,
    source::{
        association::{Association, UNREACHABLE},
        cause::Cause,
        reply::Rejection,
    },
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
        self.denied || self.rejection.is_some()
    }

    /// Whether all that it says is that it wants fewer requests.
    pub(crate) fn limited(&self) -> bool {
        self.reach == 0 && self.schedule.limited()
    }

    /// Whether the last thing that it said, in one of the last eight polls, was that it follows us.
    pub(crate) fn follows_us(&self) -> bool {
        self.rejection == Some(Rejection::Loop) && self.silent <= UNREACHABLE
    }

    /// Whether it was found in the last vote that what it says cannot be used.
    pub(crate) fn is_unusable(&self) -> bool {
        self.state.0 == SourceState::Unusable
    }

    /// Whether the next seconds may bring the samples that are missing for an estimate.
    pub(crate) fn measuring(&self) -> bool {
        let asked = !self.source.noselect && !self.is_duplicate() && !self.is_no_other_server();
        asked && self.history.estimate().is_none() && !self.unreachable()
    }

    /// Whether it may still be voted on though it is not reached: for a hundred polls, if it was not refused.
    pub(crate) fn remembered(&self) -> bool {
        self.unreachable()
            && !self.denied
            && self.rejection.is_none()
            && self.proof.why.is_none()
            && self.mixture.is_none()
            && self.unanswered <= LONGEST_SILENCE
    }

    /// Why there is no address to ask.
    pub(super) fn no_address(&self) -> Cause {
        let host = self.host.clone();
        match self.refresh.failure.clone() {
            None => Cause::LookedUp { host },
            Some(why) => Cause::Unresolved { host, why },
        }
    }

    /// Why no estimate of it can be used, whatever others say; none if it can.
    pub(crate) fn obstacle(&self) -> Option<Cause> {
        if let Some(rejection) = self.rejection.filter(|_| self.is_no_other_server()) {
            return Some(Cause::Rejected(rejection));
        }
        if let Some(cause) = self.duplicate_obstacle().or_else(|| self.proof_obstacle()) {
            return Some(cause);
        }
        if !self.placed() {
            return Some(self.no_address());
        }
        // What others say of themselves may be a slip. Who follows us is right only as we are, from that moment on.
        let spoke = self.reach == 0 && self.silent <= UNREACHABLE || self.follows_us();
        let rejection = self.rejection.filter(|_| spoke && !self.denied).map(Cause::Rejected);
        if let Some(cause) = rejection.or_else(|| self.recent_failure()) {
            return Some(cause);
        }
        if self.unreachable() {
            return Some(self.silence());
        }
        if self.last_answer.is_none() {
            return Some(Cause::Awaited);
        }
        if self.history.estimate().is_none() {
            return Some(Cause::Sampling { samples: self.history.count() });
        }
        if let Some(why) = &self.mixture {
            return Some(Cause::Mixed(why.clone()));
        }
        self.source.noselect.then_some(Cause::MeasuredOnly)
    }

    /// What it is for now, with the reason.
    pub(crate) fn set_state(&mut self, cause: &Cause) {
        self.state = (cause.state(), cause.to_string());
    }

    /// Something stands in the way of an answer that is not the server's word on its own time.
    pub(super) fn record_failure(&mut self, cause: Cause) {
        self.failure = Some((cause, self.sent));
    }

    /// What stood in the way of answers in the last eight polls, if none was good. A server that does not want us is
    /// asked so rarely that its last word counts for longer.
    fn recent_failure(&self) -> Option<Cause> {
        let (cause, at) = self.failure.as_ref()?;
        let recent = self.sent - at <= u64::from(UNREACHABLE);
        (self.denied || self.reach == 0 && recent).then(|| cause.clone())
    }

    /// Why the last polls went unanswered, where nothing was heard of them.
    fn silence(&self) -> Cause {
        if self.stray > self.strays_before {
            return Cause::Stray;
        }
        Cause::Silent { port: self.port, keyed: matches!(self.source.auth, Auth::Key(_)) }
    }

    /// The request did not leave, or nobody listens there.
    pub(crate) fn failed(&mut self, why: SendError, now: Mono) -> Option<Action> {
        let close = self.close();
        if self.device {
            (self.rejection, self.silent) = (Some(Rejection::Unreadable), 0);
            return None;
        }
        if why != SendError::Unproven {
            self.record_failure(Cause::NotSent { error: why, port: self.port });
        }
        // What this node lacks itself is no reason to ask another address.
        let ours = matches!(why, SendError::Unproven | SendError::NoPort | SendError::NoDescriptor);
        self.unroutable = self.reach == 0 && !ours;
        if self.unroutable && self.unanswered < UNREACHABLE && self.addresses.len() > 1 {
            self.next_address(now);
        }
        close
    }

    /// A datagram came and was dropped. It may be anybody's, so the request stays open.
    pub(crate) fn dropped(&mut self) {
        self.rejected += 1;
        self.record_failure(Cause::Ignored);
    }
}
