//! Compares the system clock with the monotonic clock. The monotonic clock follows every slew and no step. So if the two
//! move apart, the cause is a step by the engine, the kernel's leap second, a sleep, or another program.
use crate::Now;

/// The difference between the two clocks, and what is expected of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClockComparison {
    /// The system clock minus the monotonic one, nanoseconds.
    apart: i64,
    /// The last comparison found this change of `apart`; the next one decides.
    suspected: Option<i64>,
    /// The engine's own last step, nanoseconds, until a comparison has shown that it was done.
    ours: Option<i64>,
}

/// What a change of the difference means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Jump {
    /// Perhaps nothing: the two clocks cannot be read at once. The next comparison decides.
    Suspected,
    /// The engine's own step was not carried out. The clock moved by `by` seconds against what the engine expected.
    OwnStepRefused { by: f64 },
    /// Another program moved the clock by `by` seconds.
    External { by: f64 },
}

/// A smaller change is no jump, nanoseconds. It may be the time between the two readings.
const JUMP: u64 = 1_000_000;

impl ClockComparison {
    pub(crate) fn new(now: Now) -> Self {
        Self { apart: apart(now), ..Self::default() }
    }

    /// The engine is about to step the clock by `by` seconds.
    pub(crate) fn stepping(&mut self, by: f64) {
        let nanos = (by * 1e9).round() as i64;
        self.apart = self.apart.saturating_add(nanos);
        self.ours = Some(nanos);
    }

    /// The system clock went on by `seconds` while the monotonic one stood still.
    pub(crate) fn slept(&mut self, seconds: f64) {
        self.apart = self.apart.saturating_add((seconds * 1e9).round() as i64);
    }

    /// Returns true if a second comparison is due.
    pub(crate) fn suspicious(&self) -> bool {
        self.suspected.is_some()
    }

    /// Returns true if the clocks have moved apart since the last comparison.
    pub(crate) fn unnoticed(&self, now: Now) -> bool {
        apart(now).abs_diff(self.apart) > JUMP
    }

    /// Compares the two clocks. Returns the nanoseconds by which the system clock jumped; `None` if it did not. After
    /// `Some`, call either `explained` or `judge`.
    pub(crate) fn compare(&mut self, now: Now) -> Option<i64> {
        let apart = apart(now);
        let moved = apart.saturating_sub(self.apart);
        if moved.unsigned_abs() > JUMP {
            return Some(moved);
        }
        (self.suspected, self.ours, self.apart) = (None, None, apart);
        None
    }

    /// The jump is a leap second of the kernel.
    pub(crate) fn explained(&mut self, now: Now) {
        (self.suspected, self.apart) = (None, apart(now));
    }

    /// Decides what a jump of `moved` nanoseconds is. A jump counts when two comparisons in a row show it.
    pub(crate) fn judge(&mut self, moved: i64, now: Now) -> Jump {
        let same = self.suspected.is_some_and(|jump| jump.abs_diff(moved) <= JUMP);
        if !same {
            self.suspected = Some(moved);
            return Jump::Suspected;
        }
        self.explained(now);
        let by = moved as f64 / 1e9;
        let refused = |step: i64| step.saturating_add(moved).unsigned_abs() <= JUMP;
        if self.ours.take().is_some_and(refused) {
            Jump::OwnStepRefused { by }
        } else {
            Jump::External { by }
        }
    }
}

fn apart(now: Now) -> i64 {
    now.wall.0.saturating_sub(now.mono.0)
}
