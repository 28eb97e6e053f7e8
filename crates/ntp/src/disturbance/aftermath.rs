//! What is done after somebody else moved the clock, or the node stood still: nothing is believed until it was measured
//! anew; then the clock is stepped back, goes on, or is left alone, as the orders say. The estimate goes in, a decision
//! comes out. Steps outside the start phase are decided here and nowhere else.
use crate::{
    Action, Config, Mode, Mono, Now, OnExternalStep, Pause, Refusal, StepReason, Transition,
    clock::slew::Change,
    engine::Engine,
    measure::{
        combine::Estimated,
        discipline::{Decision, Reference},
    },
};

/// What happened to the clock, until it is settled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disturbance {
    /// Somebody moved it.
    pub(crate) moved: Option<Moved>,
    /// The node stood still.
    pub(crate) halt: Option<Halt>,
    /// What was followed before.
    pub(crate) held: Option<Reference>,
    /// It was measured, and is left where it is.
    pub(crate) left_alone: bool,
}

/// All that somebody moved the clock by and that was not taken back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    /// Seconds, all jumps together.
    pub(crate) by: f64,
    pub(crate) jumps: u32,
    /// When the last of them was noticed.
    pub(crate) last: Mono,
}

/// How it is known that the node stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// From the platform.
    Asleep,
    /// From the sources; the user was told once it was confirmed.
    Unseen { told: bool },
}

/// What is to be done about an offset.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// What is done about any offset; the matter is settled.
    Usual,
    LeaveAlone,
    Step(StepReason),
    /// Take back what was moved, and no more: the sources want something else, and too much.
    TakeBack,
    Refuse(Refusal),
}

/// Nobody has answered for so many seconds: what was moved is taken back as it was measured here. Three answers of a
/// burst take 6 s.
const SILENCE: f64 = 15.0;

/// Seconds between two steps after pauses. A second one so soon may be an attack by who holds the network.
const RESUME_INTERVAL: f64 = 600.0;

/// By so much, seconds, may a jump differ from what was measured here; the clocks cannot be read at once.
const JUMP_ERROR: f64 = 1e-3;

impl Disturbance {
    /// Decides about an offset of so many seconds. `soon`: the last step after a pause was shortly before.
    /// What takes longer than an hour to slew away is more than `unslewable`.
    fn verdict(&self, whole: f64, soon: bool, unslewable: f64, orders: &Config) -> Verdict {
        // What is not a number is not within any limit.
        let within = |offset: f64| offset.abs() <= orders.max_change;
        let slewable = whole.abs() <= unslewable;
        match (orders.on_external_step, self.moved) {
            _ if whole.abs() <= orders.step_threshold => Verdict::Usual,
            (OnExternalStep::Accept, _) => Verdict::Usual,
            (OnExternalStep::Report, _) => Verdict::LeaveAlone,
            (OnExternalStep::Restore, Some(moved)) => {
                let rest = whole - moved.by;
                if within(whole) || within(rest) {
                    Verdict::Step(StepReason::ExternalStep)
                } else if rest.abs() < whole.abs() {
                    Verdict::TakeBack
                } else {
                    Verdict::Refuse(Refusal::MaxChange)
                }
            }
            (OnExternalStep::Restore, None) if slewable && (soon || self.halt != Some(Halt::Asleep)) => {
                Verdict::Usual
            }
            (OnExternalStep::Restore, None) if !within(whole) => Verdict::Refuse(Refusal::MaxChange),
            (OnExternalStep::Restore, None) if soon => Verdict::Refuse(Refusal::TooSoon),
            (OnExternalStep::Restore, None) => Verdict::Step(StepReason::Resume),
        }
    }
}

impl Engine {
    /// Whether a jump is one of the start phase, in which nothing is known that could be restored.
    pub(crate) fn starting(&self, now: Now) -> bool {
        let upstreams = self.electable().next().is_some() && self.local_stratum(now).is_none();
        upstreams && !self.discipline.boot.synchronized && self.discipline.reference.is_none()
    }

    /// What was measured says nothing of this clock any more: all of it is dropped, and measured anew. Answers what was
    /// followed. The slew stops, and what is left of it is kept: corrected time jumped with the clock.
    pub(crate) fn lose_time(&mut self, now: Now, actions: &mut Vec<Action>) -> Option<Reference> {
        self.jumped = true;
        self.jumps.doubt = None;
        self.discipline.refused = None;
        self.clock.stop(now);
        if self.config.mode == Mode::Discipline {
            actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
        }
        self.restart(now, actions);
        self.discipline.reference.take()
    }

    /// Decides about an estimate, of a `local` clock or not.
    pub(crate) fn decide(
        &mut self,
        (estimate, local): (&Estimated, bool),
        now: Now,
        actions: &mut Vec<Action>,
    ) -> Decision {
        let pending = self.clock.pending(now.wall);
        let whole = estimate.offset - pending;
        let unslewable = self.unslewable();
        let surprising = whole.abs() > unslewable;
        if self.jumps.doubt.is_some() && surprising {
            // Those who doubt have won the vote before all were heard.
            self.jumps.doubt = None;
            self.jumps.open.get_or_insert_default().halt = Some(Halt::Unseen { told: false });
        }
        if let Some(Disturbance { halt: Some(Halt::Unseen { told }), .. }) = &mut self.jumps.open
            && surprising
            && !std::mem::replace(told, true)
        {
            let pause = Pause::Unseen { offset: whole };
            actions.push(Action::Announce(Transition::Resumed(pause)));
        }
        let soon = self.jumps.resumed.is_some_and(|at| now.mono - at < RESUME_INTERVAL);
        let open = self.jumps.open.as_mut().filter(|_| self.config.mode == Mode::Discipline);
        let verdict = open.map_or(Verdict::Usual, |open| {
            let verdict = open.verdict(whole, soon, unslewable, &self.config);
            open.left_alone = verdict == Verdict::LeaveAlone;
            verdict
        });
        self.discipline.refused = None;
        match verdict {
            Verdict::Usual => {
                self.jumps.open = None;
                self.discipline.decide((estimate, local), pending, now.mono, &self.config)
            }
            Verdict::LeaveAlone => Decision::Watch,
            Verdict::Step(why) => Decision::Step(why),
            Verdict::TakeBack => Decision::TakeBack,
            Verdict::Refuse(why) => {
                self.discipline.refused = Some(why);
                Decision::Refuse(why)
            }
        }
    }

    /// Whether the clock was measured after a jump, and is left where it is.
    pub(crate) fn left_alone(&self) -> bool {
        self.jumps.open.as_ref().is_some_and(|open| open.left_alone)
    }

    /// After a jump nobody has answered, or nobody who may be followed: what is known here has to do. Answers the time
    /// by the corrected clock.
    pub(crate) fn settle_unanswered(&mut self, now: Now, actions: &mut Vec<Action>) -> Now {
        let Some(open) = &mut self.jumps.open else { return now };
        let Some(moved) = open.moved.filter(|moved| now.mono - moved.last >= SILENCE) else { return now };
        // The sources have answered, and what they want was refused or reported.
        if open.left_alone || self.discipline.refused.is_some() {
            return now;
        }
        match self.config.on_external_step {
            OnExternalStep::Restore => self.take_back(true, now, actions),
            OnExternalStep::Report if moved.by.abs() <= JUMP_ERROR => self.take_back(true, now, actions),
            OnExternalStep::Report => {
                open.left_alone = true;
                now
            }
            OnExternalStep::Accept => {
                self.jumps.open = None;
                now
            }
        }
    }

    /// Takes back what somebody moved, as it was measured here; with `hold` the clock is then as good as before, but
    /// for the error of that.
    pub(crate) fn take_back(&mut self, hold: bool, now: Now, actions: &mut Vec<Action>) -> Now {
        let Some(Disturbance { moved: Some(moved), held, .. }) = self.jumps.open.take() else { return now };
        let by = -moved.by;
        let change = Change { at: self.clock.corrected(now.wall), frequency: 0.0, offset: moved.by };
        self.transform(&change);
        let mut now = now;
        if by.abs() > self.config.step_threshold {
            self.clock.shift(by);
            now = self.jump_ourselves(by, StepReason::ExternalStep, now, actions);
            self.clock.go_on(now);
        } else {
            self.clock.owe(now, by);
        }
        actions.push(Action::SetFrequency { ppm: self.clock.rate_ppm() });
        if hold {
            self.jumped = false;
            let error = JUMP_ERROR * f64::from(moved.jumps);
            let later = |held: Reference| Reference { root_dispersion: held.root_dispersion + error, ..held };
            self.discipline.reference = held.map(later);
        }
        now
    }

    /// Other orders: what was left alone is looked at again.
    pub(crate) fn reconsider(&mut self, before: OnExternalStep, now: Now) {
        let Some(open) = self.jumps.open.as_mut().filter(|_| before != self.config.on_external_step) else {
            return;
        };
        open.left_alone = false;
        if let Some(moved) = &mut open.moved {
            moved.last = now.mono;
        }
        for association in &mut self.associations {
            association.schedule.hurry(1, now.mono);
        }
    }
}
