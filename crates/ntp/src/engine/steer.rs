//! From the sources' estimates to a corrected clock: select, combine, decide, act. This part of the engine moves time.
use crate::{
    Action, Leap, Now, SourceState, StepReason, Transition, Wall,
    clock::slew::Change,
    engine::Engine,
    measure::{
        candidate::{candidate, estimated},
        combine::{Estimated, combinable, combine},
        discipline::{Decision, Reference},
        floor::Floor,
        select::{Ballot, Candidate, Demands, Outcome},
    },
    source::{association::Association, smear::mixture},
};

/// After the start or a jump, the vote waits for this time, seconds, for sources that may still answer: the first to
/// answer could be the falseticker. Three answers of a burst take 1.4 s.
const FIRST_VOTE_WAIT: f64 = 4.0;

impl Engine {
    /// Selects among the sources, and records the result for each.
    pub(super) fn vote(&mut self, now: Now) {
        let at = self.clock.corrected(now.wall);
        for association in &mut self.associations {
            association.mixture = association.server.and_then(|s| mixture(&s, self.config.smeared, now.wall));
            if let Some(cause) = association.obstacle() {
                association.set_state(&cause);
            }
        }
        let patient = now.mono - self.seeking < FIRST_VOTE_WAIT && self.discipline.reference.is_none();
        if patient && self.associations.iter().any(Association::measuring) {
            self.ballot = Ballot::Open;
            self.parent = self.smallest_orphan();
            return;
        }
        let candidates = self.candidates(at);
        let mut candidates = self.above_floor(candidates, at);
        let required = self.associations.iter().any(Association::is_required);
        let mut demands = Demands { min_sources: self.config.min_sources, required };
        self.elect(!candidates.is_empty(), now);
        let mut usable = self.associations.iter_mut().filter(|a| a.obstacle().is_none());
        if let Some(parent) = usable.find(|a| Some(a.id) == self.parent) {
            // It was elected. No other source can agree with it or confirm it.
            candidates.extend(candidate(parent, (true, true), at, self.config.max_distance));
            demands = Demands { min_sources: 1, required: false };
        }
        let (ballot, findings) = match self.selector.select(&candidates, demands) {
            // If no source is usable and the last vote failed, keep that failure: missing answers are not agreement.
            Outcome::NoCandidates if self.ballot.failed() => return,
            Outcome::NoCandidates => (Ballot::Open, Vec::new()),
            Outcome::NoMajority(findings) => (Ballot::NoMajority, findings),
            Outcome::TooFew(findings) => (Ballot::TooFew, findings),
            Outcome::RequiredMissing(findings) => (Ballot::RequiredMissing, findings),
            Outcome::Majority(findings) => (Ballot::Majority, findings),
        };
        self.ballot = ballot;
        for (id, state, why) in findings {
            if let Some(association) = self.associations.iter_mut().find(|a| a.id == id) {
                // A source that votes with older samples also reports why it has no new ones.
                let silent = (state == SourceState::Unreachable).then(|| association.obstacle()).flatten();
                let why = silent.map_or_else(|| why.clone(), |cause| format!("{cause} {why}"));
                association.state = (state, why);
            }
        }
        if ballot == Ballot::Majority {
            self.leap.hear(self.announced_leap(), now.wall);
        }
    }

    /// Returns the leap second that more than half of the agreeing sources announce.
    fn announced_leap(&self) -> Leap {
        let agreeing = [SourceState::Selected, SourceState::Combined, SourceState::Agreeing];
        let voters = self.associations.iter().filter(|a| agreeing.contains(&a.state.0));
        let leaps: Vec<Leap> = voters.filter_map(|a| a.server).map(|server| server.leap).collect();
        let wanted = |leap: Leap| 2 * leaps.iter().filter(|l| **l == leap).count() > leaps.len();
        [Leap::Insert, Leap::Delete].into_iter().find(|leap| wanted(*leap)).unwrap_or(Leap::None)
    }

    /// Returns the sources that take part in the vote. A source that is no longer reached takes part while its last
    /// answer is newer than the oldest sample of a reached source: the last sources to answer should not win by default.
    fn candidates(&mut self, at: Wall) -> Vec<Candidate> {
        let in_group: Vec<bool> = self.associations.iter().map(|a| self.in_orphan_group(a)).collect();
        let usual = || self.associations.iter().zip(&in_group).filter(|(_, in_group)| !**in_group);
        let reached = usual().map(|(a, _)| a).filter(|a| a.obstacle().is_none());
        let oldest = reached.filter_map(|a| a.history.oldest_used()).min();
        let mut candidates = Vec::new();
        let local: Vec<bool> = self.associations.iter().map(|a| self.local_reference(a)).collect();
        let all = self.associations.iter_mut().zip(local).zip(in_group);
        for ((association, local), _) in all.filter(|(_, in_group)| !in_group) {
            let heard = association.history.newest().map(|sample| sample.at);
            let recent = oldest.is_some_and(|oldest| heard.is_some_and(|at| at > oldest));
            let reached = association.obstacle().is_none();
            let votes = reached
                || association.awaited()
                || recent && association.remembered() && !association.source.noselect;
            if votes {
                candidates.extend(candidate(association, (reached, local), at, self.config.max_distance));
            }
        }
        candidates
    }

    /// Sets the times that have certainly passed. Until this boot's first synchronisation, a source that gives an earlier
    /// time is not believed.
    pub fn learn_floor(&mut self, floor: Floor) {
        self.floor = Some(floor);
    }

    /// Returns the candidates that give no earlier time than the floor. This holds until the first synchronisation only:
    /// later `max_change` bounds every correction.
    fn above_floor(&mut self, mut candidates: Vec<Candidate>, at: Wall) -> Vec<Candidate> {
        let Some(floor) = self.floor.filter(|_| !self.discipline.boot.synchronized) else {
            return candidates;
        };
        // The latest time that is possible according to the source.
        let said: Vec<Wall> = candidates.iter().map(|each| at.plus(each.distance - each.offset)).collect();
        let mut refused = floor.judge(&said).into_iter();
        candidates.retain(|candidate| {
            let Some(why) = refused.next().flatten() else { return true };
            if let Some(association) = self.associations.iter_mut().find(|a| a.id == candidate.id) {
                association.state = (SourceState::Unusable, why);
            }
            false
        });
        candidates
    }

    /// Corrects the clock by the combined estimate, if the selected source has a new sample. Returns the time by the
    /// corrected clock.
    pub(super) fn steer(&mut self, now: Now, actions: &mut Vec<Action>) -> Now {
        let Some((estimate, reference)) = self.estimate(now) else { return now };
        for association in &mut self.associations {
            association.fresh = false;
        }
        let lead = self.associations.iter().find(|a| a.id == reference.source);
        self.confirmed |= lead.is_some_and(|lead| self.answered_as_configured(lead));
        let refused = self.recovery.refused();
        match self.decide((&estimate, reference.local), now, actions) {
            Decision::Watch => self.discipline.refer(reference, &estimate, false),
            Decision::Refuse(why) => {
                if refused != Some(why) {
                    let offset = estimate.offset - self.clock.pending(now.wall);
                    actions.push(Action::Announce(Transition::CorrectionRefused { offset, why }));
                }
                self.discipline.refer(reference, &estimate, false);
            }
            Decision::Step(why) => return self.step(&estimate, why, now, actions),
            Decision::TakeBack => return self.take_back(false, now, actions),
            Decision::Slew { frequency, area } => {
                let before = self.clock.rate_ppm();
                let change = self.clock.correct(now, frequency, estimate.offset, area);
                self.transform(&change);
                if before != self.clock.rate_ppm() {
                    actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
                }
                self.discipline.refer(reference, &estimate, true);
                let drift = self.discipline.drift_due(self.clock.base_ppm(), now.mono);
                actions.extend(drift.map(Action::SaveDrift));
            }
        }
        self.recovery.measured();
        now
    }

    /// Steps the clock. The reference is set by the next sample, which shows whether the step was done.
    fn step(&mut self, estimate: &Estimated, why: StepReason, now: Now, actions: &mut Vec<Action>) -> Now {
        let (change, by) = self.clock.step(now, 0.0, estimate.offset);
        self.transform(&change);
        self.discipline.reference = None;
        self.recovery.stepped(why, now.mono);
        // The slew ends before anything waits for the disk.
        actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
        match why {
            StepReason::Start => {
                self.discipline.boot.steps += 1;
                // The count first: an agent that dies in between must not step once more.
                actions.push(Action::SaveBoot(self.discipline.boot));
            }
            StepReason::Resume | StepReason::ExternalStep | StepReason::Floor => {}
        }
        self.jump_ourselves(by, why, now, actions)
    }

    /// Steps the system clock; the model of the clock was moved before.
    pub(super) fn jump_ourselves(
        &mut self,
        by: f64,
        why: StepReason,
        now: Now,
        actions: &mut Vec<Action>,
    ) -> Now {
        self.recovery.stepping(by);
        // Answers on their way have stamps from before and after the step.
        for association in &mut self.associations {
            actions.extend(association.close());
            association.schedule.ask_soon(2, now.mono);
        }
        actions.push(Action::Step { by });
        actions.push(Action::Announce(Transition::Stepped { by, why }));
        Now { wall: now.wall.plus(by), mono: now.mono }
    }

    /// Combines the selected source with those that agree, if the selected one has a new sample.
    fn estimate(&mut self, now: Now) -> Option<(Estimated, Reference)> {
        let at = self.clock.corrected(now.wall);
        let selected = self.selector.selected().filter(|_| matches!(self.ballot, Ballot::Majority))?;
        let lead = self.associations.iter().find(|a| a.id == selected && a.fresh)?;
        let (id, server, local) = (lead.reference_id()?, lead.server?, self.local_reference(lead));
        let (leading, deviation, root_delay) = {
            let estimate = lead.history.estimate()?;
            let best = &estimate.best;
            (estimated(lead, at)?, estimate.deviation, best.root_delay + best.delay)
        };
        let mut estimates = vec![leading];
        for association in &mut self.associations {
            if association.state.0 != SourceState::Combined {
                continue;
            }
            match estimated(association, at) {
                Some(other) if combinable(&leading, &other) => estimates.push(other),
                _ => {
                    let why = "It is much less certain than the selected one, or runs differently.";
                    association.state = (SourceState::Agreeing, why.to_owned());
                }
            }
        }
        let combined = combine(&estimates)?;
        let reference = Reference {
            source: selected,
            id,
            local,
            stratum: server.stratum.saturating_add(1),
            at: now.mono,
            time: now.wall,
            root_delay,
            root_dispersion: combined.distance - root_delay / 2.0 + combined.offset_error,
            growth: 0.0,
            offset: 0.0,
            frequency: 0.0,
            skew: 0.0,
            offset_error: combined.offset_error,
            jitter: deviation,
        };
        Some((combined, reference))
    }

    pub(super) fn transform(&mut self, change: &Change) {
        for association in &mut self.associations {
            association.transform(change);
        }
        for recalled in &mut self.recalled {
            recalled.history.transform(change.at, change.frequency, change.offset);
        }
    }
}
