//! Where we stand: synchronised or not, and why; what is announced when that changes; the snapshot.
use crate::{
    Action, Leap, Mode, Now, Reason, Refusal, Snapshot, SourceId, SourceSnapshot, Transition,
    engine::{Engine, kernel::Told},
    measure::{local::LOCAL_CLOCK, select::Ballot},
    source::{association::Association, reply::Identity},
};

/// What the user and the kernel were told last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Announced {
    /// None before there was any time since the engine's start.
    clock: Option<Followed>,
    /// The first synchronisation with true time was told.
    synchronized: bool,
    /// None until that is known.
    unreachable: Option<bool>,
    pub(crate) kernel: Told,
}

/// Whose time the clock has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Followed {
    /// Nobody's.
    Nothing,
    /// A local clock's, another machine's or our own.
    LocalClock,
    TrueTime,
}

/// While sources are sought, one whose name was not resolved for so many seconds counts as not reached, and so does
/// one whose answers cannot be used: the first answer may be an exception.
const SEEKING: f64 = 10.0;

impl Engine {
    /// The last step of every verb that can change something: judges, announces, tells the kernel.
    pub(super) fn finish(&mut self, now: Now, actions: &mut Vec<Action>) {
        actions.extend(self.reach_transition(now).map(Action::Announce));
        // What our own clock is worth while it is served is nothing that anybody measured.
        let (synchronized, reason) = self.judged(now);
        if synchronized {
            let local = self.discipline.reference.filter(|reference| reference.local);
            self.lost = local.map_or(now.mono, |reference| reference.at);
        }
        self.serves_local = self.local_stratum(now).is_some();
        self.announce_clock(now, actions);
        let settled = !self.offset(now).is_some_and(|offset| self.could_step(offset));
        // True time may be far from a local clock's, and has to come by a step, too.
        let real = self.discipline.reference.is_some_and(|reference| !reference.local);
        if synchronized && real && settled && !self.discipline.boot.synchronized {
            self.discipline.boot.synchronized = true;
            actions.push(Action::SaveBoot(self.discipline.boot));
        }
        if self.config.mode == Mode::Discipline {
            self.tell_kernel(synchronized, reason, now, actions);
        }
    }

    /// Tells whose time the clock has, when that changes.
    fn announce_clock(&mut self, now: Now, actions: &mut Vec<Action>) {
        let followed = match self.standing(now) {
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

    /// What is to be told of upstreams that were lost or reached. In between, nothing is known.
    fn reach_transition(&mut self, now: Now) -> Option<Transition> {
        let reached = |a: &Association| a.reach != 0 && !a.follows_us() && !a.is_unusable();
        let unreachable = if self.electable().any(reached) {
            false
        } else if self.electable().next().is_some() && self.unreachable(now) {
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

    /// If one of these sources is no longer in the orders, what it said against others, or against the clock, went with
    /// it. The next vote asks those that stay.
    pub(super) fn forget_objections(&mut self, before: &[SourceId]) {
        if before.iter().all(|id| self.associations.iter().any(|a| a.id == *id)) {
            return;
        }
        self.ballot = Ballot::Open;
        if self.recovery.forget_refusal() {
            self.discipline.reference = None;
        }
    }

    /// The leap second that we announce.
    pub(super) fn indicator(&self, synchronized: bool) -> Leap {
        if synchronized { self.leap.announced() } else { Leap::Unknown }
    }

    /// Whether we are synchronised, and the reason. A group agrees with the one that serves it, so that one does, too.
    pub(super) fn standing(&self, now: Now) -> (bool, Reason) {
        if self.local_stratum(now).is_some() { (true, Reason::LocalClock) } else { self.judged(now) }
    }

    /// The same, whatever is served meanwhile.
    pub(super) fn judged(&self, now: Now) -> (bool, Reason) {
        if self.electable().next().is_none() {
            return (false, Reason::NoUpstreams);
        }
        match self.recovery.refused() {
            Some(Refusal::MaxChange) => return (false, Reason::MaxChange),
            Some(Refusal::TooSoon) => return (false, Reason::ResumeRefused),
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
                (_, true) if self.electable().any(|a| a.is_unusable() && !a.is_nobody()) => {
                    Reason::NoUsableUpstream
                }
                (_, true) => Reason::Unreachable,
                _ => Reason::Starting,
            };
            return (false, reason);
        };
        let within = bound <= self.config.error_bound_threshold;
        let local = self.discipline.reference.is_some_and(|reference| reference.local);
        // Local clocks that answer say nothing of true time.
        let held = self.electable().all(|a| self.gives_no_time(a, now) || self.local_reference(a));
        match within {
            true if local => (true, Reason::LocalReference),
            true if held => (true, Reason::Holdover),
            true => (true, Reason::Synchronized),
            false => (false, Reason::ErrorBound),
        }
    }

    /// Whether no source that does not follow us is reached and can be used, and none was for as long as it takes to
    /// know.
    fn unreachable(&self, now: Now) -> bool {
        self.electable().all(|a| self.gives_no_time(a, now))
    }

    /// Whether a source is silent, or what it says cannot be used, and it is no longer too early to say so.
    fn gives_no_time(&self, association: &Association, now: Now) -> bool {
        let seeking = now.mono - self.seeking < SEEKING;
        self.silent(association, now) || !seeking && association.is_unusable()
    }

    /// Whether a source is not reached, or follows us, and it is no longer too early to say so.
    pub(super) fn silent(&self, association: &Association, now: Now) -> bool {
        let seeking = now.mono - self.seeking < SEEKING;
        let useless = association.unreachable() || association.follows_us() || association.is_nobody();
        useless || !association.placed() && !seeking
    }

    /// The sources that are not for measuring only, and no duplicates of others.
    pub(super) fn electable(&self) -> impl Iterator<Item = &Association> {
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

    /// How we show ourselves.
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

    /// What is known at `now`. The answer changes with every event, and slowly by itself: bounds grow, a slew goes
    /// on.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let (synchronized, reason) = self.standing(now);
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
            state: association.standing.0,
            why: association.standing.1.clone(),
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
