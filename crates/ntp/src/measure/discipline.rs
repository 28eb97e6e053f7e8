//! Decides how an estimate corrects the clock: refuse, step, slew or only observe. Frequency and offset are corrected
//! independently: the offset as a whole, the frequency by a gain that depends on how certain the measurement is.
use crate::{
    BootState, Config, CorrectionRefusal, Drift, Mode, Mono, SourceId, StepReason, Wall,
    measure::combine::Estimated, source::filter::PRECISION,
};

/// The state of the discipline: the uncertainty of the clock's frequency, and the last correction.
#[derive(Clone, Debug)]
pub(crate) struct Discipline {
    pub(crate) boot: BootState,
    pub(crate) reference: Option<Reference>,
    /// Bound of the error of the base frequency, seconds per second.
    skew: f64,
    /// The part of the last measured frequency error that was not corrected, seconds per second.
    residual: f64,
    /// True if this engine has measured the frequency.
    learned: bool,
    drift_saved: Option<Mono>,
}

/// The last use of an estimate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference {
    pub(crate) source: SourceId,
    pub(crate) id: [u8; 4],
    /// True if the source has the time of a local clock, whose distance from UTC is not known.
    pub(crate) local: bool,
    /// This node's stratum: one more than the source's.
    pub(crate) stratum: u8,
    /// When, by the monotonic clock; `time` is the same by the system clock.
    pub(crate) at: Mono,
    pub(crate) time: Wall,
    pub(crate) root_delay: f64,
    pub(crate) root_dispersion: f64,
    /// How fast the root dispersion grows, seconds per second.
    pub(crate) growth: f64,
    /// The measured offset that is not corrected: corrected time minus true time at `at`, and its change per second.
    /// Zero if the clock is steered.
    pub(crate) offset: f64,
    pub(crate) frequency: f64,
    pub(crate) skew: f64,
    pub(crate) offset_error: f64,
    pub(crate) jitter: f64,
}

impl Reference {
    /// Dispersion at `now`.
    pub(crate) fn root_dispersion_at(&self, now: Mono) -> f64 {
        self.root_dispersion + (now - self.at).max(0.0) * self.growth
    }

    /// Corrected time minus true time at `now`.
    pub(crate) fn offset_at(&self, now: Mono) -> f64 {
        self.offset + (now - self.at) * self.frequency
    }
}

/// The decision about an estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Decision {
    /// Correct nothing: the engine only observes, or the configuration says so.
    Watch,
    /// Correct nothing: the correction is too large, or comes too soon.
    Refuse(CorrectionRefusal),
    /// Step by the offset and the pending slew together.
    Step(StepReason),
    /// Take back the jump that another process made, and no more.
    TakeBack,
    /// Slew the offset, and correct the frequency.
    Slew {
        /// Seconds per second.
        frequency: f64,
        /// s².
        area: f64,
    },
}

/// Largest frequency error of a clock that NTP can steer (RFC 5905 §11.3). A larger saved drift is not used.
const LARGEST_DRIFT_PPM: f64 = 500.0;

/// Skew of an unknown clock, seconds per second.
const UNKNOWN_SKEW: f64 = 500e-6;

/// Smallest skew of a saved drift, seconds per second: it may be from another boot, in which the kernel calibrated its
/// counter differently.
const OLD_DRIFT_SKEW: f64 = 10e-6;

/// Largest skew of a usable frequency measurement, seconds per second.
const LARGEST_SKEW: f64 = 1e-3;

/// How much an oscillator's frequency may have changed since the last sample, seconds per second. RFC 5905 §7.2 has 15
/// ppm (PHI). Chrony has 1 ppm, which a machine that wakes up from an idle state exceeds by far.
pub(crate) const CLOCK_ERROR: f64 = 10e-6;

/// Largest skew of a frequency that is saved for the first time, seconds per second.
const GOOD_SKEW: f64 = 5e-6;

/// Seconds between two savings of the drift.
const DRIFT_INTERVAL: f64 = 3600.0;

impl Discipline {
    /// The state at the start, and the initial base frequency, seconds per second.
    pub(crate) fn new(boot: BootState, drift: Option<Drift>) -> (Self, f64) {
        let drift = drift.filter(|drift| drift.frequency_ppm.abs() <= LARGEST_DRIFT_PPM);
        let skew = drift.map_or(UNKNOWN_SKEW, |drift| {
            if drift.skew_ppm.is_finite() {
                (drift.skew_ppm * 1e-6).clamp(OLD_DRIFT_SKEW, UNKNOWN_SKEW)
            } else {
                UNKNOWN_SKEW
            }
        });
        let state = Self { boot, reference: None, skew, residual: 0.0, learned: false, drift_saved: None };
        (state, drift.map_or(0.0, |drift| drift.frequency_ppm * 1e-6))
    }

    /// Bound of the error of the base frequency, seconds per second.
    pub(crate) fn skew(&self) -> f64 {
        self.skew
    }

    /// How fast the error bound grows without new samples, seconds per second.
    pub(crate) fn growth(&self) -> f64 {
        self.skew + self.residual.abs() + CLOCK_ERROR
    }

    /// Returns true if an offset of `offset` seconds of the system clock would be stepped. The last step is reserved
    /// for true time: for a `local` clock the limit is lower by one.
    pub(crate) fn steps(&self, offset: f64, local: bool, config: &Config) -> bool {
        config.mode == Mode::Discipline
            && !self.boot.synchronized
            && self.boot.steps.saturating_add(u32::from(local)) < config.step_limit
            && offset.abs() > config.step_threshold
    }

    /// Decides about an estimate in corrected time, of a `local` clock or not. `pending` seconds are still to be
    /// slewed. If the decision is to slew, the skew is updated.
    pub(crate) fn decide(
        &mut self,
        (estimate, local): (&Estimated, bool),
        pending: f64,
        now: Mono,
        config: &Config,
    ) -> Decision {
        let whole = estimate.offset - pending;
        if config.mode == Mode::Observe {
            return Decision::Watch;
        }
        // NaN is not within any limit.
        let within = whole.abs() <= config.max_change;
        if self.boot.synchronized && !within {
            return Decision::Refuse(CorrectionRefusal::MaxChange);
        }
        if self.steps(whole, local, config) {
            return Decision::Step(StepReason::Start);
        }
        let frequency = self.learn(estimate);
        let since_last = self.reference.map_or(1.0, |reference| now - reference.at);
        let area = CORRECTION_TIME * estimate.offset_error * since_last.clamp(0.0, LONGEST_UPDATE);
        Decision::Slew { frequency, area }
    }

    /// The part of the measured frequency error to correct, by the Kalman gain of the two skews.
    fn learn(&mut self, estimate: &Estimated) -> f64 {
        let (ours, theirs) = (self.skew.powi(2), estimate.skew.powi(2));
        if estimate.skew.is_nan() || estimate.skew > LARGEST_SKEW || 3.0 * ours + theirs <= 0.0 {
            self.residual = 0.0;
            return 0.0;
        }
        let gain = 3.0 * ours / (3.0 * ours + theirs);
        let corrected = gain * estimate.frequency;
        self.residual = estimate.frequency - corrected;
        // The disagreement is part of the uncertainty, so that a changed frequency is accepted.
        let disagreement = (corrected.powi(2) * (1.0 - gain) + self.residual.powi(2) * gain).sqrt();
        self.skew = (self.skew + gain * (estimate.skew - self.skew) + disagreement).clamp(SMALLEST_SKEW, 0.1);
        self.learned = true;
        corrected
    }

    /// Sets the reference after an estimate was used. If `steered` is false, the measured offset remains in it.
    pub(crate) fn refer(&mut self, mut reference: Reference, estimate: &Estimated, steered: bool) {
        if steered {
            reference.growth = self.growth();
            reference.skew = self.skew;
        } else {
            reference.offset = estimate.offset;
            reference.frequency = estimate.frequency;
            reference.growth = estimate.skew + CLOCK_ERROR;
            reference.skew = estimate.skew;
        }
        reference.offset_error = estimate.offset_error.max(PRECISION);
        self.reference = Some(reference);
    }

    /// The drift, if it must be saved: first when it is certain enough, then every hour.
    pub(crate) fn drift_due(&mut self, base_ppm: f64, now: Mono) -> Option<Drift> {
        let due = match self.drift_saved {
            None => self.skew < GOOD_SKEW,
            Some(saved) => now - saved >= DRIFT_INTERVAL,
        };
        let drift = self.drift(base_ppm).filter(|_| due)?;
        self.drift_saved = Some(now);
        Some(drift)
    }

    /// The drift, if this engine has measured it.
    pub(crate) fn drift(&self, base_ppm: f64) -> Option<Drift> {
        let usable = self.learned && base_ppm.abs() <= LARGEST_DRIFT_PPM;
        usable.then_some(Drift { frequency_ppm: base_ppm, skew_ppm: self.skew * 1e6 })
    }
}

/// The duration of a correction of one standard error, as a fraction of the time between updates. Larger values (chrony
/// has 1.5) lag behind. Smaller ones gain nothing, and move the clock faster.
const CORRECTION_TIME: f64 = 0.3;

/// Longest time between updates that counts, seconds.
const LONGEST_UPDATE: f64 = 131_072.0;

/// Prevents that the gain becomes zero permanently.
const SMALLEST_SKEW: f64 = 1e-12;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(boot: BootState, offset: f64, pending: f64, expected: &str) {
        check_of(false, boot, offset, pending, expected);
    }

    fn check_of(local: bool, boot: BootState, offset: f64, pending: f64, expected: &str) {
        let estimate = Estimated {
            offset,
            offset_error: 1e-5,
            frequency: 0.0,
            frequency_error: 1e-6,
            skew: 1.0,
            distance: 0.1,
        };
        let (mut discipline, _) = Discipline::new(boot, None);
        let got = match discipline.decide((&estimate, local), pending, Mono(0), &Config::default()) {
            Decision::Watch => "watch",
            Decision::Refuse(_) => "refuse",
            Decision::Step(_) => "step",
            Decision::TakeBack => "take back",
            Decision::Slew { .. } => "slew",
        };
        assert_eq!(got, expected, "{boot:?} {offset} {pending}");
    }

    #[test]
    fn steps_are_for_the_start_phase_and_counted() {
        let starting = |steps| BootState { steps, synchronized: false };
        let started = BootState { steps: 0, synchronized: true };
        check(starting(0), 3.0, 0.0, "step");
        check(starting(2), -3e6, 0.0, "step");
        check(starting(3), 3.0, 0.0, "slew");
        check(starting(0), 0.005, 0.0, "slew");
        check(starting(0), 0.005, -0.1, "step");
        check(started, 3.0, 0.0, "slew");
        check(started, 1000.1, 0.0, "refuse");
        check(started, -900.0, 200.0, "refuse");
        check(started, f64::NAN, 0.0, "refuse");
        // The last step is reserved for true time.
        check_of(true, starting(1), 3.0, 0.0, "step");
        check_of(true, starting(2), 3.0, 0.0, "slew");
        check_of(true, started, 3.0, 0.0, "slew");
    }

    #[test]
    fn a_drift_is_used_only_if_a_clock_can_have_it() {
        let frequency = |frequency_ppm| {
            Discipline::new(BootState::default(), Some(Drift { frequency_ppm, skew_ppm: 0.1 })).1
        };
        assert!((frequency(100.0) - 100e-6).abs() < 1e-12);
        assert_eq!(frequency(-501.0), 0.0);
        assert_eq!(frequency(f64::NAN), 0.0);
    }

    #[test]
    fn a_certain_measurement_replaces_what_was_known() {
        let (mut discipline, _) = Discipline::new(BootState::default(), None);
        let estimate = Estimated {
            offset: 0.0,
            offset_error: 1e-5,
            frequency: 80e-6,
            frequency_error: 1e-7,
            skew: 1e-6,
            distance: 0.1,
        };
        let corrected = discipline.learn(&estimate);
        assert!((corrected - 80e-6).abs() < 1e-9, "{corrected}");
        assert!(discipline.skew < 3e-6, "{}", discipline.skew);
    }
}
