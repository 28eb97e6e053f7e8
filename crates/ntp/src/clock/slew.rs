//! The model of the steered clock: its base frequency, the present slew, and the rest of that slew.
//!
//! Corrected time is the system clock plus the rest of the slew. It is what the clock would show if every correction
//! were instant, so samples taken during a slew are as good as others. In Observe nothing is moved, and corrected time
//! is the system clock.
use crate::{Mono, Now, Wall};

/// The model of the clock. Rates are in seconds per second of the undisciplined clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    base: f64,
    slew: f64,
    max_slew: f64,
    /// The rest of the slew at `since`, seconds: it is still to be added to the system clock.
    pending: f64,
    since: Wall,
    /// The rate at which `pending` shrank before `since`. It is kept because a timestamp may be slightly older than the
    /// last change.
    earlier_pace: f64,
    until: Option<Mono>,
    /// The product of offset and duration of the last correction, s².
    area: f64,
    /// How late the wake-ups at the end of slews are, seconds: the recent maximum, which decays slowly.
    lateness: f64,
}

/// A change of corrected time. It must be applied to all values that are stored in corrected time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// The time of the change, in corrected time before the change.
    pub(crate) at: Wall,
    /// By how much the clock's rate was reduced, seconds per second.
    pub(crate) frequency: f64,
    /// By how much the clock was set back, seconds.
    pub(crate) offset: f64,
}

impl Change {
    /// Converts a corrected time from before the change.
    pub(crate) fn moved(&self, at: Wall) -> Wall {
        at.plus((self.at - at) * self.frequency - self.offset)
    }
}

/// The largest change of rate: the kernel allows ±10 % (tick and frequency together).
const LARGEST_RATE: f64 = 0.1;

/// Longest slew, seconds. A longer one is planned again after this time.
const LONGEST_SLEW: f64 = 1e4;

/// Shortest slew, seconds. A late wake-up would extend a shorter one too much.
const SHORTEST_SLEW: f64 = 1.0;

/// Smaller offsets are not slewed, seconds.
const NOTHING: f64 = 1e-9;

impl Clock {
    /// A clock with the base frequency `base` and no slew.
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

    /// The frequency correction without a slew, parts per million.
    pub(crate) fn base_ppm(&self) -> f64 {
        self.base * 1e6
    }

    /// The frequency correction for the kernel, slew included, parts per million.
    pub(crate) fn rate_ppm(&self) -> f64 {
        (self.base + self.slew) * 1e6
    }

    /// When the present slew ends.
    pub(crate) fn until(&self) -> Option<Mono> {
        self.until
    }

    /// Sets the largest slew rate, from the next slew on.
    pub(crate) fn limit_slew(&mut self, max_slew: f64) {
        self.max_slew = max_slew;
    }

    /// The rate at which `pending` shrinks, per second of the system clock, whose rate includes the slew.
    fn pace(&self) -> f64 {
        self.slew / (1.0 + self.base + self.slew)
    }

    /// The rest of the slew when the system clock read `wall`, seconds.
    pub(crate) fn pending(&self, wall: Wall) -> f64 {
        let elapsed = wall - self.since;
        self.pending - elapsed * if elapsed >= 0.0 { self.pace() } else { self.earlier_pace }
    }

    /// Corrected time for a reading of the system clock.
    pub(crate) fn corrected(&self, wall: Wall) -> Wall {
        wall.plus(self.pending(wall))
    }

    /// Begins a correction of a clock that gains `frequency` and is ahead by `offset` in corrected time. Small offsets
    /// are corrected slowly (`area` = offset times duration), so that the clock does not follow noise.
    pub(crate) fn correct(&mut self, now: Now, frequency: f64, offset: f64, area: f64) -> Change {
        let change = self.apply(now, frequency, offset);
        self.area = area;
        self.plan(now.mono);
        change
    }

    /// Replaces the rest of the slew and the correction of `offset` by a step. Returns the size of the step: the
    /// clock's new reading is `now.wall` plus that.
    pub(crate) fn step(&mut self, now: Now, frequency: f64, offset: f64) -> (Change, f64) {
        let change = self.apply(now, frequency, offset);
        let by = std::mem::take(&mut self.pending);
        self.since = now.wall.plus(by);
        self.end_slew();
        self.earlier_pace = 0.0;
        (change, by)
    }

    /// Stops the slew. Its rest stays pending, and corrected time is continuous.
    pub(crate) fn stop(&mut self, now: Now) {
        self.pending = self.pending(now.wall);
        self.since = now.wall;
        self.end_slew();
    }

    /// Begins or resumes the slew of the pending rest.
    pub(crate) fn resume(&mut self, now: Now) {
        self.stop(now);
        self.plan(now.mono);
    }

    /// The system clock and true time as it should show it moved together by `by` seconds. The slew continues.
    pub(crate) fn shift(&mut self, by: f64) {
        self.since = self.since.plus(by);
    }

    /// Adds `by` seconds to the pending rest, and slews it as fast as allowed: the time that the clock should show has
    /// moved, and the clock has not.
    pub(crate) fn add_pending(&mut self, now: Now, by: f64) {
        self.stop(now);
        self.pending += by;
        self.area = 0.0;
        self.plan(now.mono);
    }

    /// Stops the slew and drops its rest.
    pub(crate) fn abandon(&mut self, now: Now) -> Change {
        let pending = self.pending(now.wall);
        let change = Change { at: now.wall.plus(pending), frequency: 0.0, offset: pending };
        self.stop(now);
        self.pending = 0.0;
        change
    }

    /// Ends the slew if it is due, and plans the rest. Returns true if the rate has changed.
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

    /// Chooses the rate and the end of the slew that brings `pending` to zero.
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
        // Measured with the slowed clock, the time to lose 100 ms at 5000 ppm is 0.5 % shorter than 20 s.
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
