//! The status of the clock: synchronised or not, and why. Announces changes of it, and makes the snapshot.
use crate::{
    Action, CorrectionRefusal, Leap, Mode, Now, Reason, Snapshot, SourceId, SourceSnapshot, Transition,
    engine::{Engine, kernel::KernelStatus},
    measure::{local::LOCAL_CLOCK, select::Ballot},
    source::{association::Association, reply::Identity},
};

/// The status that was last announced to the user and to the kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Announced {
    /// `None` until the clock had any time since the engine's start.
    clock: Option<Followed>,
    /// The first synchronisation with true time was announced.
    synchronized: bool,
    /// `None` until that is known.
    unreachable: Option<bool>,
    pub(crate) kernel: KernelStatus,
}

/// What the clock follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Followed {
    /// Nothing.
    Nothing,
    /// A local clock: this node's or another one's.
    LocalClock,
    TrueTime,
}

/// For this time after the start or a jump, seconds, a source without an address or with unusable answers does not
/// count as unreachable yet: the first answer may be an exception.
const SEEKING: f64 = 10.0;

impl Engine {
    /// The last step of every method that can change something: announces the new status, and tells the kernel.
    pub(super) fn finish(&mut self, now: Now, actions: &mut Vec<Action>) {
        actions.extend(self.reach_transition(now).map(Action::Announce));
        // `judged`, not `sync_status`: a local clock that this node serves was not measured against any source.
        let (synchronized, reason) = self.judged(now);
        if synchronized {
            let local = self.discipline.reference.filter(|reference| reference.local);
            self.last_synchronized = local.map_or(now.mono, |reference| reference.at);
        }
        self.serves_local = self.local_stratum(now).is_some();
        self.announce_clock(now, actions);
        let settled = !self.offset(now).is_some_and(|offset| self.could_step(offset));
        // Only true time ends the start phase: it may be far from a local clock, and then needs a step, too.
        let real = self.discipline.reference.is_some_and(|reference| !reference.local);
        if synchronized && real && settled && !self.discipline.boot.synchronized {
            self.discipline.boot.synchronized = true;
            actions.push(Action::SaveBoot(self.discipline.boot));
        }
        if self.config.mode == Mode::Discipline {
            self.tell_kernel(synchronized, reason, now, actions);
        }
    }

    /// Announces what the clock follows, when that changes.
    fn announce_clock(&mut self, now: Now, actions: &mut Vec<Action>) {
        let followed = match self.sync_status(now) {
            (false, _) => Followed::Nothing,
            (true, Reason::LocalClock | Reason::LocalReference) => Followed::LocalClock,
            (true, _) => Followed::TrueTime,
        };
        let before = self.announced.clock;
        if before == Some(followed) || before.is_none() && followed == Followed::Nothing {
            return;
        }
        self.announced.clock = Some(followed);
        actions.push(Action::Announce(match followed {
            Followed::Nothing => Transition::SynchronizationLost,
            Followed::LocalClock => Transition::LocalReference,
            Followed::TrueTime if !std::mem::replace(&mut self.announced.synchronized, true) => {
                Transition::Synchronized
            }
            Followed::TrueTime => Transition::SynchronizationRegained,
        }));
    }

    /// Returns the transition if the upstreams became unreachable or reachable. While neither is certain, nothing changes.
    fn reach_transition(&mut self, now: Now) -> Option<Transition> {
        let reached = |a: &Association| a.reach != 0 && !a.follows_us() && !a.is_unusable();
        let unreachable = if self.selectable().any(reached) {
            false
        } else if self.selectable().next().is_some() && self.unreachable(now) {
            true
        } else {
            return None;
        };
        let before = self.announced.unreachable.replace(unreachable);
        match (before, unreachable) {
            (None | Some(false), true) => Some(Transition::UpstreamsUnreachable),
            (Some(true), false) => Some(Transition::UpstreamsReachable),
            (None | Some(false), false) | (Some(true), true) => None,
        }
    }

    /// If one of these sources is no longer configured, its objections against others or against the clock are dropped.
    /// The next vote is among the sources that stay.
    pub(super) fn forget_objections(&mut self, before: &[SourceId]) {
        if before.iter().all(|id| self.associations.iter().any(|a| a.id == *id)) {
            return;
        }
        self.ballot = Ballot::Open;
        if self.recovery.forget_refusal() {
            self.discipline.reference = None;
        }
    }

    /// The leap indicator that this node serves.
    pub(super) fn indicator(&self, synchronized: bool) -> Leap {
        if synchronized { self.leap.announced() } else { Leap::Unknown }
    }

    /// Returns whether the clock is synchronised, and the reason. A node that serves its own clock counts as
    /// synchronised: its group agrees with it.
    pub(super) fn sync_status(&self, now: Now) -> (bool, Reason) {
        if self.local_stratum(now).is_some() { (true, Reason::LocalClock) } else { self.judged(now) }
    }

    /// The same by the sources alone, regardless of the clock that is served.
    pub(super) fn judged(&self, now: Now) -> (bool, Reason) {
        if self.selectable().next().is_none() {
            return (false, Reason::NoUpstreams);
        }
        match self.recovery.refused() {
            Some(CorrectionRefusal::MaxChange) => return (false, Reason::MaxChange),
            Some(CorrectionRefusal::TooSoon) => return (false, Reason::ResumeRefused),
            None if self.recovery.left_alone() => return (false, Reason::ExternalStep),
            None => {}
        }
        match self.ballot {
            Ballot::NoMajority => return (false, Reason::NoMajority),
            Ballot::TooFew => return (false, Reason::TooFewSources),
            Ballot::RequiredMissing => return (false, Reason::RequiredMissing),
            Ballot::Open | Ballot::Majority => {}
        }
        let Some(bound) = self.error_bound(now) else {
            let reason = match (self.recovery.unmeasured(), self.unreachable(now)) {
                (true, _) => Reason::UnexplainedJump,
                (_, true) if self.selectable().any(|a| a.is_unusable() && !a.is_no_other_server()) => {
                    Reason::NoUsableUpstream
                }
                (_, true) => Reason::Unreachable,
                _ => Reason::Starting,
            };
            return (false, reason);
        };
        let within = bound <= self.config.error_bound_threshold;
        let local = self.discipline.reference.is_some_and(|reference| reference.local);
        // Answers of local clocks do not show true time.
        let held = self.selectable().all(|a| self.gives_no_time(a, now) || self.local_reference(a));
        match within {
            true if local => (true, Reason::LocalReference),
            true if held => (true, Reason::Holdover),
            true => (true, Reason::Synchronized),
            false => (false, Reason::ErrorBound),
        }
    }

    /// Returns true if no source gives time.
    fn unreachable(&self, now: Now) -> bool {
        self.selectable().all(|a| self.gives_no_time(a, now))
    }

    /// Returns true if a source is silent or unusable, and had enough time to answer.
    fn gives_no_time(&self, association: &Association, now: Now) -> bool {
        let seeking = now.mono - self.seeking < SEEKING;
        self.silent(association, now) || !seeking && association.is_unusable()
    }

    /// Returns true if a source is unreachable or follows this node, and had enough time to answer.
    pub(super) fn silent(&self, association: &Association, now: Now) -> bool {
        let seeking = now.mono - self.seeking < SEEKING;
        let useless =
            association.unreachable() || association.follows_us() || association.is_no_other_server();
        useless || !association.placed() && !seeking
    }

    /// The sources that may be selected: neither measured only nor duplicates.
    pub(super) fn selectable(&self) -> impl Iterator<Item = &Association> {
        self.associations.iter().filter(|a| !a.source.noselect && !a.is_duplicate())
    }

    /// This clock minus true time, seconds: what is measured, and what is still being slewed away.
    pub(super) fn offset(&self, now: Now) -> Option<f64> {
        let reference = self.discipline.reference?;
        Some(reference.offset_at(now.mono) - self.clock.pending(now.wall))
    }

    /// |offset| + root delay / 2 + root dispersion.
    pub(super) fn error_bound(&self, now: Now) -> Option<f64> {
        let reference = self.discipline.reference?;
        Some(self.offset(now)?.abs() + reference.root_delay / 2.0 + reference.root_dispersion_at(now.mono))
    }

    fn could_step(&self, offset: f64) -> bool {
        self.discipline.boot.steps < self.config.step_limit && offset.abs() > self.config.step_threshold
    }

    /// The values that this node's server sends to its clients.
    pub(super) fn identity(&self) -> Identity {
        let followers = self.associations.iter().filter(|a| a.follows_us());
        let followers = followers.filter_map(Association::reference_id).collect();
        let own = self.own.clone();
        match self.discipline.reference {
            Some(reference) => Identity {
                stratum: reference.stratum,
                reference_id: reference.id,
                root_delay: reference.root_delay,
                reference_time: Some(reference.time),
                followers,
                own,
            },
            None => Identity { followers, own, ..Identity::default() },
        }
    }

    /// Returns the state at `now`. It changes with every event, and slowly by itself: error bounds grow, and a slew
    /// continues.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let (synchronized, reason) = self.sync_status(now);
        let own = self.local_stratum(now);
        let reference = self.discipline.reference;
        let followed =
            reference.filter(|_| own.is_none() && !self.ballot.failed()).map(|reference| reference.source);
        let growth = reference.map_or(self.discipline.growth(), |reference| reference.growth);
        let mut frequency_ppm = self.clock.base_ppm();
        let mut kernel_frequency_ppm = self.clock.rate_ppm();
        if self.config.mode == Mode::Observe {
            // We set nothing; the correction that would keep the clock right is what it gains, taken back.
            frequency_ppm = reference.map_or(0.0, |reference| -1e6 * reference.frequency);
            kernel_frequency_ppm = 0.0;
        }
        Snapshot {
            at: now.wall,
            synchronized,
            reason,
            leap: if own.is_some() { Leap::None } else { self.indicator(synchronized) },
            stratum: own.unwrap_or(reference.filter(|_| synchronized).map_or(16, |r| r.stratum.min(16))),
            reference: followed.filter(|id| self.associations.iter().any(|a| a.id == *id)),
            reference_id: match own {
                Some(_) => LOCAL_CLOCK,
                None => reference.filter(|_| synchronized).map_or([0; 4], |reference| reference.id),
            },
            reference_time: reference.map(|reference| reference.time),
            offset: self.offset(now),
            jitter: reference.map(|reference| reference.jitter),
            offset_error: reference.map(|reference| reference.offset_error),
            error_bound: self.error_bound(now),
            root_delay: reference.map_or(0.0, |reference| reference.root_delay),
            root_dispersion: reference.map_or(0.0, |reference| reference.root_dispersion_at(now.mono)),
            dispersion_rate: growth,
            frequency_ppm,
            skew_ppm: 1e6 * reference.map_or(self.discipline.skew(), |reference| reference.skew),
            kernel_frequency_ppm,
            steps: self.discipline.boot.steps,
            start_phase: !self.discipline.boot.synchronized,
            confirmed: self.confirmed || (own.is_some() && self.means_local()),
            sources: self.associations.iter().map(|association| self.source(association, now)).collect(),
        }
    }

    fn source(&self, association: &Association, now: Now) -> SourceSnapshot {
        let at = self.clock.corrected(now.wall);
        let pending = self.clock.pending(now.wall);
        let estimate = association.history.estimate();
        let newest = association.history.newest();
        // Corrected time is ahead of the system clock by what is pending.
        let offset = estimate.map(|estimate| estimate.offset_at(at)).or(newest.map(|sample| sample.offset));
        SourceSnapshot {
            id: association.id,
            name: association.source.name.clone(),
            address: association.address(),
            state: association.state.0,
            why: association.state.1.clone(),
            reach: association.reach,
            stratum: association.server.map_or(16, |server| server.stratum),
            reference_id: association.server.map_or([0; 4], |server| server.reference_id),
            offset: offset.map(|offset| offset - pending),
            delay: newest.map(|sample| sample.delay),
            jitter: estimate.map(|estimate| estimate.deviation),
            poll: association.schedule.poll(),
            last_answer_age: association.last_answer.map(|at| now.mono - at),
            sent: association.sent,
            received: association.received,
            rejected: association.rejected,
            detail: association.detail(&self.clock, now),
        }
    }
}
