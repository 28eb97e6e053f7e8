//! The reaction when another program moved the clock, or the node was suspended. All samples are dropped, and the clock
//! counts as unsynchronised until it was measured anew. Then it is stepped back, slewed, or left as it is, as the
//! configuration says.
//!
//! This is a state machine: events, estimates and the time go in; outcomes come out. The engine carries them out.
use crate::{
    Config, CorrectionRefusal, Mode, Mono, Now, OnExternalStep, Pause, StepReason,
    clock::slew::Clock,
    disturbance::{
        doubt::{Doubt, Finding, Witness},
        jump::{ClockComparison, Jump},
        verdict::{Disturbance, Halt, Moved, Verdict, unslewable},
    },
    measure::discipline::Reference,
    source::association::Association,
};

/// The state of the clock as far as disturbances go.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    clocks: ClockComparison,
    phase: Phase,
    /// Why the last correction was refused; `None` if it was not.
    refused: Option<CorrectionRefusal>,
    /// When all sources were last asked early because of a doubt.
    asked: Option<Mono>,
    /// When the clock was last stepped after a pause.
    resumed: Option<Mono>,
}

/// What is known of disturbances.
#[derive(Clone, Debug)]
enum Phase {
    /// Only the engine has changed the clock.
    Undisturbed,
    /// Sources that agreed with this clock contradict it. More answers decide.
    Doubted(Doubt),
    /// The clock was disturbed or stepped, and no estimate was used since. Nothing is to be restored.
    Unmeasured,
    /// The clock was disturbed, and what to do about it is not settled.
    Disturbed(Disturbance),
}

/// What the caller must do after the newest answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reaction {
    /// Ask all sources early.
    pub(crate) ask: bool,
    /// The node stood still: drop all samples, then call [`Recovery::stood_still`].
    pub(crate) stood_still: bool,
}

/// The jump that is taken back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restoration {
    /// Other programs moved the clock by this much, seconds.
    pub(crate) by: f64,
    /// The reference from before the jump. Its root dispersion includes the error of `by`, which was measured on this
    /// node.
    pub(crate) held: Option<Reference>,
}

/// If no source answers for this time, seconds, the jump as it was measured here decides. Three answers of a burst take
/// 6 s.
const SILENCE: f64 = 15.0;

/// Seconds between two steps after pauses. A second one so soon may be an attack from within the network.
const RESUME_INTERVAL: f64 = 600.0;

/// A jump may differ by this much, seconds, from what was measured here: the clocks cannot be read at once.
const JUMP_ERROR: f64 = 1e-3;

/// Sources are asked early because of a doubt once in this time, seconds. Otherwise one falseticker could make this node
/// flood the others.
const ASK_INTERVAL: f64 = 64.0;

impl Recovery {
    pub(crate) fn new(now: Now) -> Self {
        let clocks = ClockComparison::new(now);
        Self { clocks, phase: Phase::Undisturbed, refused: None, asked: None, resumed: None }
    }

    /// The comparison of the system clock with the monotonic clock.
    pub(crate) fn clocks(&self) -> &ClockComparison {
        &self.clocks
    }

    /// Compares the two clocks; see [`ClockComparison::compare`].
    pub(crate) fn compare(&mut self, now: Now) -> Option<i64> {
        self.clocks.compare(now)
    }

    /// The jump was a leap second of the kernel.
    pub(crate) fn explained(&mut self, now: Now) {
        self.clocks.explained(now);
    }

    /// Decides what a jump is; see [`ClockComparison::judge`].
    pub(crate) fn judge_jump(&mut self, moved: i64, now: Now) -> Jump {
        self.clocks.judge(moved, now)
    }

    /// The engine is about to step the clock by `by` seconds.
    pub(crate) fn stepping(&mut self, by: f64) {
        self.clocks.stepping(by);
    }

    /// The platform reports that the node was suspended for `seconds`. The kernel moved the system clock forward by
    /// that.
    pub(crate) fn slept(&mut self, seconds: f64) {
        self.clocks.slept(seconds);
    }

    /// All samples are dropped, since they are no longer relative to this clock.
    pub(crate) fn time_lost(&mut self) {
        match &mut self.phase {
            Phase::Disturbed(open) => open.measured = false,
            other => *other = Phase::Unmeasured,
        }
        self.refused = None;
    }

    /// Another program moved the clock by `by` seconds; `held` is the reference before. Call `time_lost` first.
    pub(crate) fn moved(&mut self, by: f64, held: Option<Reference>, now: Mono) {
        let open = self.open();
        open.held = open.held.or(held);
        open.left_alone = false;
        let Moved { by: before, jumps, .. } = open.moved.unwrap_or_default();
        open.moved = Some(Moved { by: before + by, jumps: jumps + 1, last: now });
    }

    /// The platform reported a sleep. Call `time_lost` first.
    pub(crate) fn was_asleep(&mut self) {
        self.open().halt = Some(Halt::Asleep);
    }

    /// The sources showed a pause. Call `time_lost` first.
    pub(crate) fn stood_still(&mut self) {
        self.open().halt = Some(Halt::Unseen { announced: false });
    }

    /// Checks whether the sources show together that this clock stood still or was set forward. `reference` is what the
    /// clock follows while it is `synchronized` with true time.
    pub(crate) fn compare_with_sources(
        &mut self,
        associations: &[Association],
        (reference, synchronized): (Option<Reference>, bool),
        clock: &Clock,
        config: &Config,
        now: Now,
    ) -> Reaction {
        let mut reaction = Reaction::default();
        if matches!(self.phase, Phase::Disturbed(_)) {
            return reaction;
        }
        let witness = Witness { associations, clock, limit: unslewable(config), now };
        if matches!(&self.phase, Phase::Doubted(doubt) if doubt.is_over(now)) {
            self.phase = Phase::Undisturbed;
        }
        if !matches!(self.phase, Phase::Doubted(_)) {
            let reference = reference.filter(|reference| synchronized && !reference.local);
            let Some(doubt) = reference.and_then(|reference| Doubt::begin(reference, witness)) else {
                return reaction;
            };
            if self.asked.is_none_or(|asked| now.mono - asked >= ASK_INTERVAL) {
                self.asked = Some(now.mono);
                reaction.ask = true;
            }
            self.phase = Phase::Doubted(doubt);
        }
        let Phase::Doubted(doubt) = &self.phase else { return reaction };
        match doubt.judge(config.min_sources, witness) {
            Finding::Open => {}
            Finding::Confirmed => reaction.stood_still = true,
            Finding::Refuted => self.phase = Phase::Undisturbed,
        }
        reaction
    }

    /// Decides about an estimate by which the system clock is off by `whole` seconds. Returns the pause that is to be
    /// announced, too.
    pub(crate) fn decide(&mut self, whole: f64, config: &Config, now: Mono) -> (Verdict, Option<Pause>) {
        let surprising = whole.abs() > unslewable(config);
        if matches!(self.phase, Phase::Doubted(_)) && surprising {
            // The vote accepts the sources that contradict this clock, although not all have answered: so the node
            // stood still.
            self.stood_still();
        }
        let soon = self.resumed.is_some_and(|at| now - at < RESUME_INTERVAL);
        self.refused = None;
        let Phase::Disturbed(open) = &mut self.phase else { return (Verdict::Usual, None) };
        let pause = open.confirm(surprising).then_some(Pause::Unseen { offset: whole });
        let mut verdict = Verdict::Usual;
        if config.mode == Mode::Discipline {
            verdict = open.verdict(whole, soon, config);
            open.left_alone = verdict == Verdict::LeaveAlone;
        }
        match verdict {
            Verdict::Usual => self.close(),
            Verdict::Refuse(why) => self.refused = Some(why),
            Verdict::LeaveAlone | Verdict::Step(_) | Verdict::TakeBack => {}
        }
        (verdict, pause)
    }

    /// Records that the discipline refused a correction.
    pub(crate) fn refuse(&mut self, why: CorrectionRefusal) {
        self.refused = Some(why);
    }

    /// Records that an estimate was used, or that the clock is as accurate as before the disturbance.
    pub(crate) fn measured(&mut self) {
        match &mut self.phase {
            Phase::Disturbed(open) => open.measured = true,
            Phase::Unmeasured => self.phase = Phase::Undisturbed,
            Phase::Undisturbed | Phase::Doubted(_) => {}
        }
    }

    /// The engine steps the clock by the estimate of the sources.
    pub(crate) fn stepped(&mut self, why: StepReason, now: Mono) {
        self.close();
        if why == StepReason::Resume {
            self.resumed = Some(now);
        }
    }

    /// Call this while no usable source has answered since a jump. Returns true if the jump is to be taken back by the
    /// size that was measured on this node.
    pub(crate) fn unanswered(&mut self, config: &Config, now: Mono) -> bool {
        let Phase::Disturbed(open) = &mut self.phase else { return false };
        let Some(moved) = open.moved.filter(|moved| now - moved.last >= SILENCE) else { return false };
        // The sources have answered, and their correction was refused or only reported.
        if open.left_alone || self.refused.is_some() {
            return false;
        }
        match config.on_external_step {
            OnExternalStep::Restore => true,
            OnExternalStep::Report if moved.by.abs() <= JUMP_ERROR => true,
            OnExternalStep::Report => {
                open.left_alone = true;
                false
            }
            OnExternalStep::Accept => {
                self.close();
                false
            }
        }
    }

    /// Settles the disturbance by taking back its jump. Returns none if no other program moved the clock.
    pub(crate) fn take_back(&mut self) -> Option<Restoration> {
        let Phase::Disturbed(Disturbance { moved, held, .. }) = &self.phase else { return None };
        let (moved, held) = ((*moved)?, *held);
        let error = JUMP_ERROR * f64::from(moved.jumps);
        let later = |held: Reference| Reference { root_dispersion: held.root_dispersion + error, ..held };
        self.close();
        Some(Restoration { by: moved.by, held: held.map(later) })
    }

    /// The configuration of external steps changed. Returns true if the sources are to be asked again.
    pub(crate) fn reconsider(&mut self, now: Mono) -> bool {
        let Phase::Disturbed(open) = &mut self.phase else { return false };
        open.left_alone = false;
        if let Some(moved) = &mut open.moved {
            moved.last = now;
        }
        true
    }

    /// The engine begins or ends to steer the clock: drops the disturbance and the refusal.
    pub(crate) fn abandon(&mut self) {
        self.refused = None;
        self.close();
    }

    /// Why the last correction was refused.
    pub(crate) fn refused(&self) -> Option<CorrectionRefusal> {
        self.refused
    }

    /// Forgets that a correction was refused. Returns true if one was.
    pub(crate) fn forget_refusal(&mut self) -> bool {
        self.refused.take().is_some()
    }

    /// Returns true if the clock was measured after a jump, and is left where it is.
    pub(crate) fn left_alone(&self) -> bool {
        matches!(&self.phase, Phase::Disturbed(open) if open.left_alone)
    }

    /// Returns true if the clock jumped, and no estimate was used since.
    pub(crate) fn unmeasured(&self) -> bool {
        match &self.phase {
            Phase::Undisturbed | Phase::Doubted(_) => false,
            Phase::Unmeasured => true,
            Phase::Disturbed(open) => !open.measured,
        }
    }

    /// Returns true if the clock is known to be wrong: a correction was refused, or a disturbance that changed the time
    /// is not settled. A sleep that the platform reported is no such disturbance, since the kernel has moved the clock
    /// forward.
    pub(crate) fn known_to_be_wrong(&self) -> bool {
        let unsettled = match &self.phase {
            Phase::Disturbed(open) => {
                open.left_alone || open.moved.is_some() || matches!(open.halt, Some(Halt::Unseen { .. }))
            }
            Phase::Undisturbed | Phase::Doubted(_) | Phase::Unmeasured => false,
        };
        self.refused.is_some() || unsettled
    }

    /// The unsettled disturbance. Begins one if there is none.
    fn open(&mut self) -> &mut Disturbance {
        if !matches!(self.phase, Phase::Disturbed(_)) {
            let measured = !self.unmeasured();
            self.phase = Phase::Disturbed(Disturbance { measured, ..Disturbance::default() });
        }
        match &mut self.phase {
            Phase::Disturbed(open) => open,
            Phase::Undisturbed | Phase::Doubted(_) | Phase::Unmeasured => unreachable!("it was opened above"),
        }
    }

    /// Settles the disturbance, if there is one.
    fn close(&mut self) {
        if let Phase::Disturbed(open) = &self.phase {
            self.phase = if open.measured { Phase::Undisturbed } else { Phase::Unmeasured };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wall;

    fn at(seconds: f64) -> Now {
        let nanos = (seconds * 1e9) as i64;
        Now { wall: Wall(1_800_000_000_000_000_000 + nanos), mono: Mono(nanos) }
    }

    fn config(on_external_step: OnExternalStep) -> Config {
        Config { on_external_step, ..Config::default() }
    }

    /// A clock that another program moved by an hour at second 0.
    fn moved() -> Recovery {
        let mut recovery = Recovery::new(at(0.0));
        recovery.time_lost();
        recovery.moved(3600.0, None, at(0.0).mono);
        recovery
    }

    #[test]
    fn the_configuration_decides_about_a_jump_that_the_sources_confirm() {
        let check = |on_external_step, expected, (settled, left_alone)| {
            let mut recovery = moved();
            assert!(recovery.unmeasured() && recovery.known_to_be_wrong());
            let (verdict, pause) = recovery.decide(3600.0, &config(on_external_step), at(5.0).mono);
            assert_eq!((verdict, pause), (expected, None));
            recovery.measured();
            assert!(!recovery.unmeasured());
            assert_eq!((!recovery.known_to_be_wrong(), recovery.left_alone()), (settled, left_alone));
        };
        check(OnExternalStep::Restore, Verdict::Step(StepReason::ExternalStep), (false, false));
        check(OnExternalStep::Accept, Verdict::Usual, (true, false));
        check(OnExternalStep::Report, Verdict::LeaveAlone, (false, true));
    }

    #[test]
    fn without_answers_a_jump_is_taken_back_after_fifteen_seconds() {
        let restore = config(OnExternalStep::Restore);
        let mut recovery = moved();
        assert!(!recovery.unanswered(&restore, at(14.9).mono));
        assert!(recovery.unanswered(&restore, at(15.0).mono));
        assert_eq!(recovery.take_back().map(|restoration| restoration.by), Some(3600.0));
        assert!(recovery.unmeasured(), "no source has confirmed it");
        assert!(recovery.take_back().is_none(), "it is taken back once");
    }

    #[test]
    fn a_refusal_lasts_until_the_next_decision_or_loss_of_time() {
        let restore = config(OnExternalStep::Restore);
        let mut recovery = moved();
        // The sources want neither the time before the jump nor a small correction.
        let (verdict, _) = recovery.decide(-9000.0, &restore, at(5.0).mono);
        assert_eq!(verdict, Verdict::Refuse(CorrectionRefusal::MaxChange));
        assert_eq!(recovery.refused(), Some(CorrectionRefusal::MaxChange));
        assert!(!recovery.unanswered(&restore, at(60.0).mono), "the sources have answered");
        recovery.time_lost();
        assert_eq!(recovery.refused(), None);
    }
}
