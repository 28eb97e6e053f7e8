//! One disturbance (a jump or a pause), and the decision about an offset that is measured after it. Outside the start
//! phase, this file and `recovery` decide about every step, except for leap seconds.
use crate::{Config, CorrectionRefusal, Mono, OnExternalStep, StepReason, measure::discipline::Reference};

/// What happened to the clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Disturbance {
    /// Another program moved it.
    pub(super) moved: Option<Moved>,
    /// The node was suspended or paused.
    pub(super) halt: Option<Halt>,
    /// The reference before the disturbance.
    pub(super) held: Option<Reference>,
    /// True if an estimate was used since the disturbance.
    pub(super) measured: bool,
    /// True if the clock is left as it is.
    pub(super) left_alone: bool,
}

/// The jumps by other programs that were not taken back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    /// The sum of the jumps, seconds.
    pub(super) by: f64,
    pub(super) jumps: u32,
    /// When the last of them was noticed.
    pub(super) last: Mono,
}

/// How the pause of the node was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// The platform reported it.
    Asleep,
    /// The sources showed it. It is announced to the user once an offset has confirmed it.
    Unseen { announced: bool },
}

/// What is to be done about an offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The discipline decides, as for any other offset. The disturbance is settled.
    Usual,
    /// Do nothing, because of the configuration.
    LeaveAlone,
    Step(StepReason),
    /// Take back only the jump: the correction that the sources demand is larger than `max_change`.
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

    /// Decides about an offset of `whole` seconds. `soon` is true if the last step after a pause was less than ten
    /// minutes ago.
    pub(super) fn verdict(&self, whole: f64, soon: bool, config: &Config) -> Verdict {
        // NaN is not within any limit.
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
