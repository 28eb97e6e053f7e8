//! Carries out what [`Recovery`](crate::disturbance::recovery::Recovery) decides about jumps and pauses.
use crate::{
    Action, Mode, Now, OnExternalStep, Pause, StepReason, Transition,
    clock::slew::Change,
    disturbance::{jump::Jump, verdict::Verdict},
    engine::Engine,
    measure::{
        combine::Estimated,
        discipline::{Decision, Reference},
    },
};

/// The result of comparing the system clock with the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They run together, or their difference is known.
    Steady,
    /// They moved apart as expected. Timestamps from before cannot be compared with later ones.
    Leapt,
    /// They seem to have moved apart. The time cannot be trusted before the next comparison.
    Suspicious,
}

/// Requests that are sent early to each source because of a doubt.
const ASK: u8 = 2;

impl Engine {
    /// Compares the two clocks.
    pub(super) fn look(&mut self, now: Now, actions: &mut Vec<Action>) -> Look {
        let Some(moved) = self.recovery.compare(now) else { return Look::Steady };
        if self.kernel_leapt(moved, now, actions) {
            self.recovery.explained(now);
            return Look::Leapt;
        }
        match self.recovery.judge_jump(moved, now) {
            Jump::Suspected => return Look::Suspicious,
            Jump::OwnStepRefused { by } => {
                // If this counted as an external step, the engine would repeat it forever.
                self.clock.shift(by);
                self.lose_time(now, actions);
            }
            Jump::External { by } => {
                self.clock.shift(by);
                self.external_step(by, now, actions);
            }
        }
        Look::Steady
    }

    /// Another program has moved the clock by `by` seconds. This is the one place where that becomes known.
    fn external_step(&mut self, by: f64, now: Now, actions: &mut Vec<Action>) {
        let policy = self.config.on_external_step;
        let then = Some(policy).filter(|_| self.config.mode == Mode::Discipline);
        actions.push(Action::Announce(Transition::ExternalStep { by, then }));
        let starting = self.starting(now);
        let held = self.lose_time(now, actions);
        if then.is_some() && !starting {
            self.recovery.moved(by, held, now.mono);
        }
    }

    /// The platform reports that the node was suspended for `asleep` seconds. The kernel moved the system clock forward
    /// by that.
    pub(super) fn slept(&mut self, asleep: f64, now: Now, actions: &mut Vec<Action>) {
        self.recovery.slept(asleep);
        self.clock.shift(asleep);
        actions.push(Action::Announce(Transition::Resumed(Pause::Asleep { seconds: asleep })));
        let starting = self.starting(now);
        // The reference from before is not valid for a clock that did not run.
        self.lose_time(now, actions);
        if !starting {
            self.recovery.was_asleep();
        }
    }

    /// Checks whether the sources show together that this clock stood still or was set forward.
    pub(super) fn doubt(&mut self, now: Now, actions: &mut Vec<Action>) {
        let followed = (self.discipline.reference, self.judged(now).0);
        let reaction =
            self.recovery.compare_with_sources(&self.associations, followed, &self.clock, &self.config, now);
        if reaction.ask {
            for association in &mut self.associations {
                association.schedule.ask_soon(ASK, now.mono);
            }
        }
        if reaction.stood_still {
            self.lose_time(now, actions);
            self.recovery.stood_still();
        }
    }

    /// Returns true if nothing is known that could be restored: a jump of the start phase.
    fn starting(&self, now: Now) -> bool {
        let upstreams = self.selectable().next().is_some() && self.local_stratum(now).is_none();
        upstreams && !self.discipline.boot.synchronized && self.discipline.reference.is_none()
    }

    /// Drops all samples, and measures anew. Returns the reference that was followed. The slew stops, and what is left of
    /// it is kept: corrected time jumped with the clock.
    fn lose_time(&mut self, now: Now, actions: &mut Vec<Action>) -> Option<Reference> {
        self.recovery.time_lost();
        self.clock.stop(now);
        if self.config.mode == Mode::Discipline {
            actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
        }
        self.restart(now, actions);
        self.discipline.reference.take()
    }

    /// Decides about an estimate, of a `local` clock or not.
    pub(super) fn decide(
        &mut self,
        (estimate, local): (&Estimated, bool),
        now: Now,
        actions: &mut Vec<Action>,
    ) -> Decision {
        let pending = self.clock.pending(now.wall);
        let whole = estimate.offset - pending;
        let (verdict, pause) = self.recovery.decide(whole, &self.config, now.mono);
        actions.extend(pause.map(|pause| Action::Announce(Transition::Resumed(pause))));
        match verdict {
            Verdict::Usual => {
                let decision = self.discipline.decide((estimate, local), pending, now.mono, &self.config);
                if let Decision::Refuse(why) = decision {
                    self.recovery.refuse(why);
                }
                decision
            }
            Verdict::LeaveAlone => Decision::Watch,
            Verdict::Step(why) => Decision::Step(why),
            Verdict::TakeBack => Decision::TakeBack,
            Verdict::Refuse(why) => Decision::Refuse(why),
        }
    }

    /// If no source answers after a jump, what was measured here decides. Returns the time by the corrected clock.
    pub(super) fn settle_unanswered(&mut self, now: Now, actions: &mut Vec<Action>) -> Now {
        if self.recovery.unanswered(&self.config, now.mono) {
            self.take_back(true, now, actions)
        } else {
            now
        }
    }

    /// Takes back what another program moved, as it was measured here. With `hold` the clock is then as good as before,
    /// except for the error of that measurement.
    pub(super) fn take_back(&mut self, hold: bool, now: Now, actions: &mut Vec<Action>) -> Now {
        let Some(restoration) = self.recovery.take_back() else { return now };
        let by = -restoration.by;
        let change = Change { at: self.clock.corrected(now.wall), frequency: 0.0, offset: restoration.by };
        self.transform(&change);
        let mut now = now;
        if by.abs() > self.config.step_threshold {
            self.clock.shift(by);
            now = self.jump_ourselves(by, StepReason::ExternalStep, now, actions);
            self.clock.resume(now);
        } else {
            self.clock.add_pending(now, by);
        }
        actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
        if hold {
            self.recovery.measured();
            self.discipline.reference = restoration.held;
        }
        now
    }

    /// The configuration changed: what was left alone is looked at again.
    pub(super) fn reconsider(&mut self, before: OnExternalStep, now: Now) {
        if before != self.config.on_external_step && self.recovery.reconsider(now.mono) {
            for association in &mut self.associations {
                association.schedule.ask_soon(1, now.mono);
            }
        }
    }
}
