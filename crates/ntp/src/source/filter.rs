//! The samples of one server go in; an estimate of this clock's offset and frequency relative to that server comes out.
//! Times are in corrected time (`slew`). At each correction of the clock all stored values are transformed, so the
//! history stays valid.
use std::collections::VecDeque;

use crate::{
    Wall,
    source::regression::{FEWEST, Line, Point, fit_newest},
};

/// Uncertainty of reading this clock, seconds (2^-23).
pub(crate) const PRECISION: f64 = 1.0 / 8_388_608.0;

/// One sample. Offsets are this clock minus the server's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// The middle between request and reply.
    pub(crate) at: Wall,
    pub(crate) offset: f64,
    /// Round trip to the server.
    pub(crate) delay: f64,
    /// The uncertainty of reading both clocks.
    pub(crate) dispersion: f64,
    /// The server's root delay.
    pub(crate) root_delay: f64,
    /// The server's root dispersion.
    pub(crate) root_dispersion: f64,
}

impl Sample {
    /// The largest error of `offset` against the server's clock.
    pub(crate) fn distance(&self) -> f64 {
        self.delay / 2.0 + self.dispersion
    }

    /// The largest error of `offset` against true time.
    pub(crate) fn root_distance(&self) -> f64 {
        self.distance() + self.root_delay / 2.0 + self.root_dispersion
    }
}

/// The estimate from all samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    /// Time of the newest sample, for which `offset` holds.
    pub(crate) at: Wall,
    pub(crate) offset: f64,
    /// How fast this clock gains, seconds per second.
    pub(crate) frequency: f64,
    pub(crate) offset_error: f64,
    pub(crate) frequency_error: f64,
    /// Bound of the frequency's error.
    pub(crate) skew: f64,
    /// Standard deviation of the samples.
    pub(crate) deviation: f64,
    /// The sample with the smallest root distance, increased for its age.
    pub(crate) best: Sample,
    /// Samples used.
    pub(crate) count: usize,
}

/// The largest frequency error of a computer's clock (NTP assumes 500 ppm; emulated machines are worse). A slope that
/// is less certain than this is not used.
const LARGEST_SKEW: f64 = 2e-3;

impl Estimate {
    /// The slope if it is certain enough, else zero.
    pub(crate) fn usable_frequency(&self) -> f64 {
        if self.skew < LARGEST_SKEW { self.frequency } else { 0.0 }
    }

    /// The skew, limited to the largest frequency error of clocks.
    pub(crate) fn bounded_skew(&self) -> f64 {
        self.skew.min(LARGEST_SKEW)
    }

    /// This clock minus the server's at `time`.
    pub(crate) fn offset_at(&self, time: Wall) -> f64 {
        self.offset + (time - self.at) * self.usable_frequency()
    }

    /// The best sample extrapolated to `time`: offset, and largest possible error against true time.
    pub(crate) fn interval_at(&self, time: Wall) -> (f64, f64) {
        let age = time - self.best.at;
        let offset = self.best.offset + age * self.usable_frequency();
        (offset, self.best.root_distance() + age.abs() * self.bounded_skew())
    }
}

/// The samples of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    samples: VecDeque<Sample>,
    /// The number of oldest samples that are no longer on the line. They are kept for the runs test.
    older: usize,
    suspects: Vec<Sample>,
    estimate: Option<Estimate>,
}

/// The largest number of samples in an estimate. At most as many older ones are kept. At short polls more would lower
/// the noise of a stable oscillator further, but each sample costs a pass over all of them.
const LARGEST_WINDOW: usize = 100;

/// Usual frequency error of an undisciplined clock: crystals are specified with 20 to 100 ppm.
const USUAL_DRIFT: f64 = 100e-6;

/// The uncertainty of a sample without excess delay, as a fraction of the median excess. On a path with exponential
/// delays a sample is wrong by at most half of its excess delay, in either direction. The smallest observed delay is
/// slightly above the true minimum. Found in simulation: 0.15 to 0.35 are equally good, and 1.4 (chrony's 1/0.7) has a
/// third more noise on a path of 10 ms.
const FLOOR: f64 = 0.25;

/// After this number of consecutive impossible samples they are believed: one of the clocks has jumped.
const SUSPECTS: usize = 3;

/// The result of adding a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It is part of the estimate. `error` is the error of the prediction, if there was one.
    Used { error: Option<f64> },
    /// It contradicts the history by more than any delay explains. More samples are needed soon.
    Suspected,
}

impl History {
    /// The estimate. None with fewer than three samples.
    pub(crate) fn estimate(&self) -> Option<&Estimate> {
        self.estimate.as_ref()
    }

    /// The newest sample.
    pub(crate) fn newest(&self) -> Option<&Sample> {
        self.suspects.last().or_else(|| self.samples.back())
    }

    /// All samples, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Sample> {
        self.suspects.iter().rev().chain(self.samples.iter().rev())
    }

    /// The time of the oldest sample that the estimate uses.
    pub(crate) fn oldest_used(&self) -> Option<Wall> {
        self.samples.get(self.older).map(|sample| sample.at)
    }

    /// The samples that the estimate uses, the oldest first.
    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().skip(self.older)
    }

    /// A history of samples that were taken earlier, the oldest first.
    pub(crate) fn restore(samples: impl Iterator<Item = Sample>) -> Self {
        let mut history = Self { samples: samples.collect(), ..Self::default() };
        while history.count() > LARGEST_WINDOW {
            history.samples.pop_front();
        }
        history.renew();
        history
    }

    /// The number of samples for the estimate.
    pub(crate) fn count(&self) -> usize {
        self.samples.len() - self.older
    }

    /// Drops everything: the samples no longer apply to this clock and this server.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds a sample and renews the estimate.
    pub(crate) fn add(&mut self, sample: Sample) -> Verdict {
        let error = self.prediction_error(&sample);
        if let Some((error, possible)) = error
            && error > possible
        {
            self.suspects.push(sample);
            if self.suspects.len() < SUSPECTS {
                return Verdict::Suspected;
            }
            // A jump. The samples before it are no longer valid.
            self.samples = std::mem::take(&mut self.suspects).into();
            self.older = 0;
            self.renew();
            return Verdict::Used { error: None };
        }
        self.suspects.clear();
        self.samples.push_back(sample);
        while self.count() > LARGEST_WINDOW {
            self.older += 1;
        }
        while self.older > LARGEST_WINDOW.min(self.count()) {
            self.samples.pop_front();
            self.older -= 1;
        }
        self.renew();
        Verdict::Used { error: error.map(|(error, _)| error) }
    }

    /// The error of the prediction for the sample, and the largest error that is possible without a jump of either
    /// clock: a delay of any length makes an offset wrong by at most the sample's distance.
    fn prediction_error(&self, sample: &Sample) -> Option<(f64, f64)> {
        let estimate = self.estimate.as_ref()?;
        let age = sample.at - estimate.at;
        let error = (sample.offset - estimate.offset_at(sample.at)).abs();
        let expected = estimate.best.root_distance() + 4.0 * estimate.offset_error;
        let possible = sample.root_distance() + expected + age.abs() * (estimate.bounded_skew() + 2e-6);
        Some((error, possible))
    }

    /// Follows a correction of the clock at corrected time `now`: it gains `frequency` less from now on, as if it
    /// always had, and was set back by `offset`.
    pub(crate) fn transform(&mut self, now: Wall, frequency: f64, offset: f64) {
        let shift = |at: &mut Wall, value: &mut f64| {
            let change = (now - *at) * frequency - offset;
            *at = at.plus(change);
            *value += change;
        };
        for sample in self.samples.iter_mut().chain(&mut self.suspects) {
            shift(&mut sample.at, &mut sample.offset);
        }
        if let Some(estimate) = &mut self.estimate {
            shift(&mut estimate.at, &mut estimate.offset);
            shift(&mut estimate.best.at, &mut estimate.best.offset);
            estimate.frequency = (estimate.frequency - frequency) / (1.0 - frequency);
        }
    }

    /// This clock and the server's moved together by `by` seconds.
    pub(crate) fn shift(&mut self, by: f64) {
        for sample in self.samples.iter_mut().chain(&mut self.suspects) {
            sample.at = sample.at.plus(by);
        }
        if let Some(estimate) = &mut self.estimate {
            estimate.at = estimate.at.plus(by);
            estimate.best.at = estimate.best.at.plus(by);
        }
    }

    fn renew(&mut self) {
        let Some(newest) = self.samples.back().copied() else { return };
        self.estimate = None;
        if self.count() < FEWEST {
            return;
        }
        let (points, noise) = self.points(newest.at);
        let Some(line) = fit_newest(&points, self.older) else { return };
        self.older = line.first;
        let line = line.with_prior(USUAL_DRIFT, noise);
        self.estimate = self.best(newest.at, &line).map(|best| Estimate {
            at: newest.at,
            offset: line.offset,
            frequency: line.slope,
            offset_error: line.offset_error,
            frequency_error: line.slope_error,
            skew: line.skew(),
            deviation: line.deviation,
            best,
            count: line.count,
        });
    }

    /// The samples as weighted points, and the standard error of a point with full weight. The more the distance of a
    /// sample exceeds the smallest one, relative to the usual excess on this path, the smaller is its weight.
    fn points(&self, newest: Wall) -> (Vec<Point>, f64) {
        let used = self.samples.iter().skip(self.older);
        let mut distances: Vec<f64> = used.map(Sample::distance).collect();
        distances.sort_by(f64::total_cmp);
        let smallest = distances.first().copied().unwrap_or(PRECISION);
        let median = distances.get(distances.len() / 2).copied().unwrap_or(smallest);
        let usual = ((median - smallest) * FLOOR).max(PRECISION).min(smallest.max(PRECISION));
        let weight = |sample: &Sample| {
            let excess = (sample.distance() - smallest - PRECISION).max(0.0);
            (1.0 + excess / usual).powi(-2)
        };
        let point = |s: &Sample| Point { x: s.at - newest, y: s.offset, weight: weight(s) };
        // The standard deviation of an error that is uniformly distributed within ± usual.
        (self.samples.iter().map(point).collect(), usual / 3.0_f64.sqrt())
    }

    /// The sample with the smallest bound of its error. If the server now reports a larger error of its own than
    /// before, that error counts for older samples too, so the error that this node reports to its clients follows it.
    fn best(&self, now: Wall, line: &Line) -> Option<Sample> {
        let newest = self.samples.back()?;
        let skew = line.skew().min(LARGEST_SKEW);
        let distance = |sample: &Sample| sample.root_distance() + (now - sample.at) * skew;
        let claimed = |sample: &Sample| sample.root_distance() - sample.distance();
        let revised = |sample: &Sample| {
            if claimed(newest) > claimed(sample) {
                Sample { root_delay: newest.root_delay, root_dispersion: newest.root_dispersion, ..*sample }
            } else {
                *sample
            }
        };
        let used = self.samples.iter().skip(line.first).map(revised);
        used.min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, offset: f64) -> Sample {
        Sample {
            at: Wall(second * 1_000_000_000),
            offset,
            delay: 2e-4,
            dispersion: 1e-6,
            root_delay: 0.0,
            root_dispersion: 0.0,
        }
    }

    fn history(count: i64, offset: impl Fn(i64) -> f64) -> History {
        let mut history = History::default();
        for second in 0..count {
            history.add(sample(second, offset(second)));
        }
        history
    }

    #[test]
    fn a_correction_transforms_the_whole_history() {
        let mut history = history(10, |second| 0.5 + 1e-5 * second as f64);
        let now = Wall(9_000_000_000);
        let before = *history.estimate().expect("ten samples");
        history.transform(now, before.frequency, before.offset);
        history.add(Sample { offset: 0.0, ..sample(10, 0.0) });
        let after = history.estimate().expect("eleven samples");
        assert!(after.offset.abs() < 1e-9, "{after:?}");
        assert!(after.frequency.abs() < 1e-9, "{after:?}");
    }

    #[test]
    fn one_impossible_sample_is_ignored_and_three_are_believed() {
        let mut history = history(10, |_| 0.0);
        assert_eq!(history.add(sample(10, 0.1)), Verdict::Suspected);
        assert!(matches!(history.add(sample(11, 0.0)), Verdict::Used { .. }));
        assert!(history.estimate().expect("eleven samples").offset.abs() < 1e-9);
        for second in 12..15 {
            history.add(sample(second, 0.1));
        }
        let estimate = history.estimate().expect("three samples");
        assert!((estimate.offset - 0.1).abs() < 1e-9, "{estimate:?}");
        assert_eq!(estimate.count, 3);
    }

    #[test]
    fn what_the_server_says_of_its_error_is_followed_up_and_down() {
        let mut history = history(20, |_| 0.0);
        let claim = |history: &History| history.estimate().expect("samples").best.root_dispersion;
        history.add(Sample { root_dispersion: 0.03, ..sample(20, 0.0) });
        assert!((claim(&history) - 0.03).abs() < 1e-9);
        history.add(sample(21, 0.0));
        assert!(claim(&history) < 1e-9);
    }

    #[test]
    fn a_leap_second_moves_the_stamps_and_not_the_offsets() {
        let mut history = history(10, |second| 0.01 * second as f64);
        history.shift(-1.0);
        history.add(sample(9, 0.10));
        let estimate = history.estimate().expect("eleven samples");
        assert!(
            (estimate.offset - 0.1).abs() < 1e-9 && (estimate.frequency - 0.01).abs() < 1e-9,
            "{estimate:?}"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let history = history(1000, |second| 1e-9 * (second % 7) as f64);
        assert!(history.samples.len() <= 2 * LARGEST_WINDOW);
        assert!(history.count() <= LARGEST_WINDOW);
    }
}
