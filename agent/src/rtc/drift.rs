//! The drift of the hardware clock: how fast it gains on true time, computed from readings that are taken anyway. The
//! agent or the kernel sets the clock now and then (the kernel every 11 minutes), so the readings form a sawtooth, and
//! the drift is the slope of its teeth. Pure: readings and their times in.
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// An hour of readings.
const KEPT: usize = 64;

/// Longest time between two readings on one line, seconds. A longer gap may hide a write.
const LONGEST_GAP: f64 = 150.0;

/// Shortest time between two readings, seconds. At a shorter distance a reading is mostly noise.
const SHORTEST_GAP: f64 = 30.0;

/// Least total length of all lines, seconds, and their least number of gaps. A reading is exact to one or two
/// milliseconds, so the result is exact to a few parts per million.
const LEAST_LENGTH: f64 = 600.0;
const LEAST_GAPS: usize = 8;

/// If a reading deviates from the slope by more than this, seconds, beyond the lateness of the two readings, the clock
/// was set between them. The limit is larger than the changes of the system clock's own error. It is smaller than what
/// a write every 11 minutes corrects in a clock that drifts by about 5 ppm. The result for a clock that drifts less may
/// be too small.
const JUMP: f64 = 0.002;

/// The newest readings.
#[derive(Debug, Default)]
pub(super) struct Drift {
    readings: VecDeque<Reading>,
    interrupted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    /// RTC minus true time, seconds.
    ahead: f64,
    /// The clock may be ahead by this much more, seconds.
    late: f64,
    /// The clock was set since the reading before, or may have been.
    starts_line: bool,
}

impl Drift {
    /// Takes a reading: the clock was `ahead` seconds ahead of true time at `at`, or by up to `late` more.
    pub(super) fn take(&mut self, at: Instant, ahead: f64, late: Duration) {
        let gap = self.readings.back().map(|last| at.duration_since(last.at).as_secs_f64());
        let starts_line = self.interrupted || gap.is_none_or(|gap| gap > LONGEST_GAP);
        if !starts_line && gap.is_some_and(|gap| gap < SHORTEST_GAP) {
            return;
        }
        self.interrupted = false;
        if self.readings.len() == KEPT {
            self.readings.pop_front();
        }
        self.readings.push_back(Reading { at, ahead, late: late.as_secs_f64(), starts_line });
    }

    /// Ends the line: the clock was set, or true time is not known.
    pub(super) fn interrupt(&mut self) {
        self.interrupted = true;
    }

    /// The slope, parts per million; none until enough is known.
    pub(super) fn ppm(&self) -> Option<f64> {
        let gaps: Vec<Gap> =
            self.readings.iter().zip(self.readings.iter().skip(1)).map(Gap::between).collect();
        let usual =
            median(gaps.iter().filter(|gap| !gap.broken).map(|gap| gap.gained / gap.length).collect())?;
        let joined = |gap: &&Gap| !gap.broken && (gap.gained - usual * gap.length).abs() <= gap.late + JUMP;
        let kept: Vec<&Gap> = gaps.iter().filter(joined).collect();
        if kept.len() < LEAST_GAPS || kept.iter().map(|gap| gap.length).sum::<f64>() < LEAST_LENGTH {
            return None;
        }
        Some(common_slope(&gaps, joined) * 1e6)
    }
}

/// The step from one reading to the next.
#[derive(Debug)]
struct Gap {
    length: f64,
    gained: f64,
    /// The gain may be wrong by this much, in either direction.
    late: f64,
    broken: bool,
}

impl Gap {
    fn between((from, to): (&Reading, &Reading)) -> Self {
        Self {
            length: to.at.duration_since(from.at).as_secs_f64(),
            gained: to.ahead - from.ahead,
            late: to.late.max(from.late),
            broken: to.starts_line,
        }
    }
}

/// The median. Writes are rarer than readings, so the median is not a jump, and jumps can be found by comparison with
/// it.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The common slope of all lines, each with an offset of its own, by least squares.
fn common_slope(gaps: &[Gap], joined: impl Fn(&&Gap) -> bool) -> f64 {
    let (mut products, mut squares) = (0.0, 0.0);
    let mut line = vec![(0.0, 0.0)];
    let mut close = |line: &[(f64, f64)]| {
        let number = line.len() as f64;
        let mean = |part: fn(&(f64, f64)) -> f64| line.iter().map(part).sum::<f64>() / number;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        products += line.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>();
        squares += line.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>();
    };
    for gap in gaps {
        let (x, y) = line.last().copied().unwrap_or_default();
        if joined(&gap) {
            line.push((x + gap.length, y + gap.gained));
        } else {
            close(&line);
            line = vec![(0.0, 0.0)];
        }
    }
    close(&line);
    products / squares
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_millis(2);

    /// Takes readings for `seconds`, one every `pause`, of a clock that gains `ppm` and is set right every
    /// `between_writes` seconds, as by the kernel. Readings are late by up to 2 ms.
    fn watched(seconds: u64, pause: u64, ppm: f64, between_writes: u64) -> Drift {
        let start = Instant::now();
        let mut drift = Drift::default();
        for at in (0..=seconds).step_by(pause as usize) {
            let late = (at * 7_919 % 2_000) as f64 * 1e-6;
            let ahead = (at % between_writes) as f64 * ppm * 1e-6 - late;
            drift.take(start + Duration::from_secs(at), ahead, LATE);
        }
        drift
    }

    #[track_caller]
    fn check(drift: &Drift, expected: f64, tolerance: f64) {
        let found = drift.ppm().expect("enough is known");
        assert!((found - expected).abs() <= tolerance, "{found}, not {expected}");
    }

    #[test]
    fn writes_in_between_do_not_count() {
        for ppm in [-400.0, -50.0, -15.0, 15.0, 50.0, 200.0, 5_000.0] {
            check(&watched(3_600, 60, ppm, 661), ppm, 4.0);
            check(&watched(3_600, 60, ppm, u64::MAX), ppm, 4.0);
        }
        // The jump is too small to be detected.
        let found = watched(3_600, 60, 3.0, 661).ppm().unwrap();
        assert!((-2.0..5.0).contains(&found), "{found}");
    }

    #[test]
    fn ten_minutes_are_needed() {
        assert_eq!(watched(540, 60, 50.0, u64::MAX).ppm(), None);
        check(&watched(600, 60, 50.0, u64::MAX), 50.0, 6.0);
        // Readings every ten seconds are thinned out.
        assert_eq!(watched(570, 10, 50.0, u64::MAX).ppm(), None);
        check(&watched(900, 10, 50.0, u64::MAX), 50.0, 6.0);
        assert_eq!(Drift::default().ppm(), None);
    }

    #[test]
    fn what_is_told_of_writes_and_gaps_is_heeded() {
        let start = Instant::now();
        let mut drift = Drift::default();
        // The agent sets the clock every three minutes, and reads it every minute.
        for minute in 0..60 {
            let ahead = 0.002 * f64::from(minute % 3);
            if minute % 3 == 0 {
                drift.interrupt();
            }
            drift.take(start + Duration::from_secs(60 * minute as u64), ahead, LATE);
        }
        check(&drift, 0.002 / 60.0 * 1e6, 0.1);
        let mut sparse = Drift::default();
        for hour in 0..20 {
            sparse.take(start + Duration::from_secs(3_600 * hour), 0.0, LATE);
        }
        assert_eq!(sparse.ppm(), None);
        assert!(drift.readings.len() <= KEPT);
    }
}
