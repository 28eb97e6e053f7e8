//! One disturbance, and what is done about an offset that is measured after it. Steps outside the start phase are decided
//! here and nowhere else.
use crate::{Config, CorrectionRefusal, Mono, OnExternalStep, StepReason, measure::discipline::Reference};

/// What happened to the clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Disturbance {
    /// Another program moved it.
    pub(super) moved: Option<Moved>,
    /// The node stood still.
    pub(super) halt: Option<Halt>,
    /// The reference before.
    pub(super) held: Option<Reference>,
    /// An estimate was used since.
    pub(super) measured: bool,
    /// The clock is left where it is.
    pub(super) left_alone: bool,
}

/// All that other programs moved the clock by and that was not taken back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    /// Seconds, all jumps together.
    pub(super) by: f64,
    pub(super) jumps: u32,
    /// When the last of them was noticed.
    pub(super) last: Mono,
}

/// How it is known that the node stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// The platform reported it.
    Asleep,
    /// The sources showed it. The user is announced once it is confirmed.
    Unseen { announced: bool },
}

/// What is to be done about an offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The discipline decides, as about any offset. The disturbance is settled.
    Usual,
    /// Nothing: the configuration says so.
    LeaveAlone,
    Step(StepReason),
    /// Take back what was moved, and no more: the sources want something else, and too much.
    TakeBack,
    Refuse(CorrectionRefusal),
}

/// An offset that cannot be slewed away in this time, seconds, is stepped.
const SLEWING: f64 = 3600.0;

impl Disturbance {
    /// Returns true, once, if an offset confirms a pause that only the sources showed.
    pub(super) fn confirm(&mut self, surprising: bool) -> bool {
        match &mut self.halt {
            Some(Halt::Unseen { announced }) if surprising => !std::mem::replace(announced, true),
            _ => false,
        }
    }

    /// Decides about an offset of `whole` seconds. `soon`: the last step after a pause was shortly before.
    pub(super) fn verdict(&self, whole: f64, soon: bool, config: &Config) -> Verdict {
        // What is not a number is not within any limit.
        let within = |offset: f64| offset.abs() <= config.max_change;
        let slewable = whole.abs() <= unslewable(config);
        match (config.on_external_step, self.moved) {
            _ if whole.abs() <= config.step_threshold => Verdict::Usual,
            (OnExternalStep::Accept, _) => Verdict::Usual,
            (OnExternalStep::Report, _) => Verdict::LeaveAlone,
            (OnExternalStep::Restore, Some(moved)) => {
                let rest = whole - moved.by;
                if within(whole) || within(rest) {
                    Verdict::Step(StepReason::ExternalStep)
                } else if rest.abs() < whole.abs() {
                    Verdict::TakeBack
                } else {
                    Verdict::Refuse(CorrectionRefusal::MaxChange)
                }
            }
            (OnExternalStep::Restore, None) if slewable && (soon || self.halt != Some(Halt::Asleep)) => {
                Verdict::Usual
            }
            (OnExternalStep::Restore, None) if !within(whole) => {
                Verdict::Refuse(CorrectionRefusal::MaxChange)
            }
            (OnExternalStep::Restore, None) if soon => Verdict::Refuse(CorrectionRefusal::TooSoon),
            (OnExternalStep::Restore, None) => Verdict::Step(StepReason::Resume),
        }
    }
}

/// A larger offset takes more than an hour to slew away, seconds.
pub(super) fn unslewable(config: &Config) -> f64 {
    (SLEWING * config.max_slew_rate).max(config.step_threshold)
}
