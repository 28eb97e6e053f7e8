//! The clock as we steer it: its base frequency, the slew that is running, and how much of it is still to come.
//!
//! Corrected time is the system clock plus what is still to be slewed away. It is what the clock would show if every
//! correction were instant, so samples taken during a slew are as good as any. Observing, nothing is moved and
//! corrected time is the system clock.
use crate::{Mono, Now, Wall};

/// The model of our clock. Rates are in seconds per second of the undisciplined clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    base: f64,
    slew: f64,
    max_slew: f64,
    /// Still to be added at `since`, seconds.
    pending: f64,
    since: Wall,
    /// How fast `pending` shrank before `since`: a stamp may be a little older than the last change.
    earlier_pace: f64,
    until: Option<Mono>,
    /// Offset times time that a correction may cost, s²; from the last correction.
    area: f64,
    /// How late we are woken at the end of a slew, seconds: the worst of late, forgotten slowly.
    lateness: f64,
}

/// A change of corrected time, to be applied to everything that is stored in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Corrected time of the change, by the old reckoning.
    pub(crate) at: Wall,
    /// The clock gains so much less, seconds per second.
    pub(crate) frequency: f64,
    /// It was set back by so many seconds.
    pub(crate) offset: f64,
}

impl Change {
    /// What a reading of corrected time becomes by it.
    pub(crate) fn moved(&self, at: Wall) -> Wall {
        at.plus((self.at - at) * self.frequency - self.offset)
    }
}

/// The kernel's adjustments end at ±10 % (tick and frequency together); so do ours.
const LARGEST_RATE: f64 = 0.1;

/// A slew is looked at again after this many seconds at the latest.
const LONGEST_SLEW: f64 = 1e4;

/// Shorter slews would end late by too large a part of them.
const SHORTEST_SLEW: f64 = 1.0;

/// Less than this is not worth a slew, seconds.
const NOTHING: f64 = 1e-9;

impl Clock {
    /// A clock that runs at `base` with no slew.
    pub(crate) fn new(base: f64, max_slew: f64, now: Now) -> Self {
        Self {
            base: base.clamp(-LARGEST_RATE, LARGEST_RATE),
            slew: 0.0,
            max_slew,
            pending: 0.0,
            since: now.wall,
            earlier_pace: 0.0,
            until: None,
            area: 0.0,
            lateness: 0.0,
        }
    }

    /// The correction that keeps the clock right, parts per million.
    pub(crate) fn base_ppm(&self) -> f64 {
        self.base * 1e6
    }

    /// The rate that the kernel is to have, parts per million.
    pub(crate) fn rate_ppm(&self) -> f64 {
        (self.base + self.slew) * 1e6
    }

    /// When the running slew ends.
    pub(crate) fn until(&self) -> Option<Mono> {
        self.until
    }

    /// Slews may be this fast from the next one on.
    pub(crate) fn limit_slew(&mut self, max_slew: f64) {
        self.max_slew = max_slew;
    }

    /// How fast `pending` shrinks, per second of the system clock, which itself runs faster for the slew.
    fn pace(&self) -> f64 {
        self.slew / (1.0 + self.base + self.slew)
    }

    /// Seconds that were still to be added to the system clock when it read `wall`.
    pub(crate) fn pending(&self, wall: Wall) -> f64 {
        let elapsed = wall - self.since;
        self.pending - elapsed * if elapsed >= 0.0 { self.pace() } else { self.earlier_pace }
    }

    /// Corrected time for a reading of the system clock.
    pub(crate) fn corrected(&self, wall: Wall) -> Wall {
        wall.plus(self.pending(wall))
    }

    /// Begins to correct: the clock gains `frequency` too much, and is ahead by `offset` in corrected time. Small
    /// offsets are corrected slowly (`area` = offset times duration), so that noise is not followed.
    pub(crate) fn correct(&mut self, now: Now, frequency: f64, offset: f64, area: f64) -> Change {
        let change = self.apply(now, frequency, offset);
        self.area = area;
        self.plan(now.mono);
        change
    }

    /// Ends the running slew and returns what it would still have done, for a step to do, with `offset` corrected
    /// too. The clock's new reading is `now.wall` plus the result.
    pub(crate) fn step(&mut self, now: Now, frequency: f64, offset: f64) -> (Change, f64) {
        let change = self.apply(now, frequency, offset);
        let by = std::mem::take(&mut self.pending);
        self.since = now.wall.plus(by);
        self.end_slew();
        self.earlier_pace = 0.0;
        (change, by)
    }

    /// Ends the running slew; what it would still have done stays pending, and corrected time goes on.
    pub(crate) fn stop(&mut self, now: Now) {
        self.pending = self.pending(now.wall);
        self.since = now.wall;
        self.end_slew();
    }

    /// Begins or goes on to slew what is pending.
    pub(crate) fn resume(&mut self, now: Now) {
        self.stop(now);
        self.plan(now.mono);
    }

    /// The clock itself was moved by so many seconds, and what it is to show with it; the slew goes on.
    pub(crate) fn shift(&mut self, by: f64) {
        self.since = self.since.plus(by);
    }

    /// What the clock is to show moved by so many seconds, and the clock did not: they are slewed away, as fast as is
    /// allowed.
    pub(crate) fn add_pending(&mut self, now: Now, by: f64) {
        self.stop(now);
        self.pending += by;
        self.area = 0.0;
        self.plan(now.mono);
    }

    /// Ends the running slew and forgets the rest of it.
    pub(crate) fn abandon(&mut self, now: Now) -> Change {
        let pending = self.pending(now.wall);
        let change = Change { at: now.wall.plus(pending), frequency: 0.0, offset: pending };
        self.stop(now);
        self.pending = 0.0;
        change
    }

    /// Looks whether the slew is over, and what is left of it. Answers whether the rate has changed.
    pub(crate) fn tick(&mut self, now: Now) -> bool {
        let Some(until) = self.until.filter(|until| *until <= now.mono) else { return false };
        self.lateness = (now.mono - until).max(self.lateness * 0.9);
        self.resume(now);
        true
    }

    fn apply(&mut self, now: Now, frequency: f64, offset: f64) -> Change {
        let pending = self.pending(now.wall);
        let at = now.wall.plus(pending);
        let base = ((1.0 + self.base) * (1.0 - frequency) - 1.0).clamp(-LARGEST_RATE, LARGEST_RATE);
        let frequency = 1.0 - (1.0 + base) / (1.0 + self.base);
        self.pending = pending - offset;
        self.since = now.wall;
        self.earlier_pace = self.pace();
        self.base = base;
        Change { at, frequency, offset }
    }

    fn end_slew(&mut self) {
        self.earlier_pace = self.pace();
        self.slew = 0.0;
        self.until = None;
    }

    /// Chooses rate and end of the slew that brings `pending` to zero.
    fn plan(&mut self, now: Mono) {
        self.slew = 0.0;
        self.until = None;
        let size = self.pending.abs();
        if size.is_nan() || size < NOTHING {
            return;
        }
        let duration = (self.area / size).max(SHORTEST_SLEW).max(5.0 * self.lateness).min(LONGEST_SLEW);
        let wanted = (self.pending / duration).clamp(-self.max_slew, self.max_slew);
        self.slew = (self.base + wanted).clamp(-LARGEST_RATE, LARGEST_RATE) - self.base;
        if self.slew != 0.0 {
            self.until = Some(now.plus((self.pending / self.pace()).clamp(0.0, LONGEST_SLEW)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Now = Now { wall: Wall(1_800_000_000_000_000_000), mono: Mono(5_000_000_000) };

    fn later(seconds: f64) -> Now {
        Now { wall: START.wall + seconds, mono: START.mono + seconds }
    }

    #[test]
    fn a_slew_is_bounded_and_ends_with_nothing_left() {
        let mut clock = Clock::new(20e-6, 5e-3, START);
        clock.correct(START, 0.0, 0.1, 0.0);
        assert!((clock.rate_ppm() - (20.0 - 5000.0)).abs() < 1e-6);
        // By a clock that is slowed down, the time to lose 100 ms at 5000 ppm is shorter than 20 s by 0.5 %.
        let end = clock.until().expect("a slew is running") - START.mono;
        assert!((end - 20.0 * (1.0 + 20e-6 - 5e-3)).abs() < 1e-6, "{end}");
        assert!(clock.pending(later(end).wall).abs() < 1e-8);
        assert!(clock.tick(later(end)));
        assert!((clock.rate_ppm() - 20.0).abs() < 0.1);
    }

    #[test]
    fn corrected_time_is_continuous_over_the_end_of_a_slew() {
        let mut clock = Clock::new(0.0, 5e-3, START);
        clock.correct(START, 0.0, 0.1, 0.0);
        let (before, at) = (later(4.9), later(5.0));
        let early = clock.corrected(before.wall);
        clock.stop(at);
        assert_eq!(clock.corrected(before.wall), early);
        assert_eq!(clock.rate_ppm(), 0.0);
    }

    #[test]
    fn a_step_takes_over_the_rest_of_a_slew() {
        let mut clock = Clock::new(0.0, 5e-4, START);
        clock.correct(START, 0.0, 1.0, 0.0);
        let (_, by) = clock.step(later(10.0), 0.0, 2.0);
        let slewed = 10.0 * 5e-4 / (1.0 - 5e-4);
        assert!((by + 3.0 - slewed).abs() < 1e-9, "{by}");
        assert_eq!(clock.rate_ppm(), 0.0);
    }

    #[test]
    fn the_total_rate_is_bounded() {
        let mut clock = Clock::new(0.09, 0.08, START);
        clock.correct(START, 0.0, -1e6, 0.0);
        assert!(clock.rate_ppm() <= 100_000.0 + 1e-6);
        clock.correct(later(1.0), -0.5, 0.0, 0.0);
        assert!(clock.base_ppm() <= 100_000.0 + 1e-6);
    }
}
