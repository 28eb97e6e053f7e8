//! Decides from one source alone whether it can take part in the vote; if not, gives the cause.
use crate::{
    Action, Auth, Mono, SendError, SourceState,
    source::{
        association::{Association, UNREACHABLE},
        cause::Cause,
        reply::Rejection,
    },
};

/// After this number of unanswered polls the samples of a source no longer take part in the vote (in chrony
/// `maxunreach` configures this).
const LONGEST_SILENCE: u32 = 100;

impl Association {
    /// Returns true if the last eight polls were unanswered, the eighth included.
    pub(crate) fn unreachable(&self) -> bool {
        let waiting = u32::from(self.request.is_some());
        self.denied || self.reach == 0 && self.unanswered.saturating_sub(waiting) >= UNREACHABLE
    }

    /// Returns true if its last reply was rejected, or denied service.
    pub(crate) fn refused(&self) -> bool {
        self.denied || self.rejection.is_some()
    }

    /// Returns true if its only replies ask for fewer requests.
    pub(crate) fn limited(&self) -> bool {
        self.reach == 0 && self.schedule.limited()
    }

    /// Returns true if its last reply, in one of the last eight polls, showed that it follows this node.
    pub(crate) fn follows_us(&self) -> bool {
        self.rejection == Some(Rejection::Loop) && self.silent <= UNREACHABLE
    }

    /// Returns true if the last vote found it unusable.
    pub(crate) fn is_unusable(&self) -> bool {
        self.state.0 == SourceState::Unusable
    }

    /// Returns true if the samples for an estimate may still come in the next seconds.
    pub(crate) fn measuring(&self) -> bool {
        let asked = !self.source.noselect && !self.is_duplicate() && !self.is_no_other_server();
        asked && self.history.estimate().is_none() && !self.unreachable()
    }

    /// Returns true if its old samples may still take part in the vote although it is unreachable: for a hundred polls,
    /// if its last reply was not rejected.
    pub(crate) fn remembered(&self) -> bool {
        self.unreachable()
            && !self.denied
            && self.rejection.is_none()
            && self.proof.why.is_none()
            && self.mixture.is_none()
            && self.unanswered <= LONGEST_SILENCE
    }

    /// Why there is no address.
    pub(super) fn no_address(&self) -> Cause {
        let host = self.host.clone();
        match self.refresh.failure.clone() {
            None => Cause::LookedUp { host },
            Some(why) => Cause::Unresolved { host, why },
        }
    }

    /// Why it cannot be used, regardless of other sources. None if it can.
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
        // Other rejected replies may be exceptions. But a server that follows this node is no independent source from
        // then on.
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

    /// Sets its state and the reason from the cause.
    pub(crate) fn set_state(&mut self, cause: &Cause) {
        self.state = (cause.state(), cause.to_string());
    }

    /// Records a failure other than a rejected reply.
    pub(super) fn record_failure(&mut self, cause: Cause) {
        self.failure = Some((cause, self.sent));
    }

    /// The failure of the last eight polls, if no reply was valid. A server that denied service is asked rarely, so its
    /// denial counts for longer.
    fn recent_failure(&self) -> Option<Cause> {
        let (cause, at) = self.failure.as_ref()?;
        let recent = self.sent - at <= u64::from(UNREACHABLE);
        (self.denied || self.reach == 0 && recent).then(|| cause.clone())
    }

    /// The cause if the last polls had no reply and no failure.
    fn silence(&self) -> Cause {
        if self.stray > self.strays_before {
            return Cause::Stray;
        }
        Cause::Silent { port: self.port, keyed: matches!(self.source.auth, Auth::Key(_)) }
    }

    /// The request could not be sent, or no program listens at the destination.
    pub(crate) fn failed(&mut self, why: SendError, now: Mono) -> Option<Action> {
        let close = self.close();
        if self.device {
            (self.rejection, self.silent) = (Some(Rejection::Unreadable), 0);
            return None;
        }
        if why != SendError::Unproven {
            self.record_failure(Cause::NotSent { error: why, port: self.port });
        }
        // If this node lacks something itself, another address would not help.
        let ours = matches!(why, SendError::Unproven | SendError::NoPort | SendError::NoDescriptor);
        self.unroutable = self.reach == 0 && !ours;
        if self.unroutable && self.unanswered < UNREACHABLE && self.addresses.len() > 1 {
            self.next_address(now);
        }
        close
    }

    /// A datagram was dropped by the access list. Anybody may have sent it, so the request stays open.
    pub(crate) fn dropped(&mut self) {
        self.rejected += 1;
        self.record_failure(Cause::Ignored);
    }
}
