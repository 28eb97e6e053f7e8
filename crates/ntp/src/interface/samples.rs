//! Samples that outlive a restart of the agent. The engine returns them as values. A new engine takes them, and so has
//! a full history from its first reply on. The caller saves them. This file decides whether they are still valid, since
//! the clock ran in between: it may have finished a slew, or another process may have stepped it.
use crate::{Drift, Leap, Now, Wall};

/// The samples of an engine. Times and offsets are relative to the system clock at one moment
/// ([`Action::SaveSamples`]), as if every correction stopped then.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// The rate of the clock without a slew. Samples are relative to it.
    pub drift: Drift,
    /// The samples of each source.
    pub sources: Vec<SourceSamples>,
}

/// The samples of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSamples {
    /// Its name.
    pub name: String,
    /// The server or device that was asked: `ADDRESS:PORT`, or the path of a device.
    pub asked: String,
    /// The leap indicator in its last reply.
    pub leap: Leap,
    /// The stratum in its last reply.
    pub stratum: u8,
    /// The reference id in its last reply.
    pub reference_id: [u8; 4],
    /// The samples, the oldest first.
    pub samples: Vec<SavedSample>,
}

/// One sample. Values are in seconds. An offset is this clock minus the source's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SavedSample {
    /// The middle between request and reply.
    pub at: Wall,
    /// This clock minus the source's.
    pub offset: f64,
    /// Round trip.
    pub delay: f64,
    /// The uncertainty of reading both clocks.
    pub dispersion: f64,
    /// The source's own round trip to its reference.
    pub root_delay: f64,
    /// The source's own dispersion.
    pub root_dispersion: f64,
}

/// The node's clocks, read one right after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The system clock and the monotonic clock, which are steered.
    pub now: Now,
    /// CLOCK_MONOTONIC_RAW, nanoseconds: the oscillator, which is not steered.
    pub raw: i64,
}

/// Why samples are no longer valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// The samples are too old, or from the future.
    TooOld,
    /// The clock was stepped since they were saved.
    Stepped,
    /// The clocks diverged more than any correction explains.
    Unexplained,
}

impl Stale {
    /// The reason as text for a user.
    pub fn why(self) -> &'static str {
        match self {
            Self::TooOld => "they are too old",
            Self::Stepped => "the clock was stepped since",
            Self::Unexplained => "the node's clocks do not go together",
        }
    }
}

/// Longest time since the samples were saved, seconds. Older samples are no measure of the clock's present frequency.
const LONGEST_PAUSE: f64 = 3.0 * 3600.0;

/// If the difference between wall clock and monotonic clock has changed by more than this, nanoseconds, the clock was
/// stepped.
const STEP: u64 = 1_000_000;

/// The largest change of rate that the kernel makes, and the longest time between the readings of two clocks, seconds.
const LARGEST_RATE: f64 = 0.1;
const READING: f64 = 1e-3;

impl Samples {
    /// Converts samples that are relative to the clocks at `then` into samples relative to the clocks at `now`. The
    /// rest of a slew, or another daemon, may have moved the clock in between. How much it gained is measured with the
    /// oscillator, and the samples are corrected by that.
    ///
    /// # Errors
    /// If the samples are no longer valid.
    pub fn carry(mut self, then: Clocks, now: Clocks) -> Result<Self, Stale> {
        let elapsed = now.raw.saturating_sub(then.raw) as f64 / 1e9;
        if !(0.0..=LONGEST_PAUSE).contains(&elapsed) {
            return Err(Stale::TooOld);
        }
        let apart = |clocks: Clocks| clocks.now.wall.0.saturating_sub(clocks.now.mono.0);
        if apart(now).abs_diff(apart(then)) > STEP {
            return Err(Stale::Stepped);
        }
        let gained = (now.now.wall - then.now.wall) - elapsed * (1.0 + self.drift.frequency_ppm * 1e-6);
        // NaN is not within any limit.
        let within = gained.abs() <= LARGEST_RATE * elapsed + READING;
        if !within {
            return Err(Stale::Unexplained);
        }
        for sample in self.sources.iter_mut().flat_map(|source| &mut source.samples) {
            sample.at = sample.at.plus(gained);
            sample.offset += gained;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mono;

    const THEN: Clocks = Clocks {
        now: Now { wall: Wall(1_800_000_000_000_000_000), mono: Mono(7_000_000_000) },
        raw: 6_000_000_000,
    };

    fn later(wall: f64, mono: f64, raw: f64) -> Clocks {
        let now = Now { wall: THEN.now.wall.plus(wall), mono: THEN.now.mono.plus(mono) };
        Clocks { now, raw: THEN.raw + (raw * 1e9).round() as i64 }
    }

    fn samples() -> Samples {
        let sample = SavedSample {
            at: THEN.now.wall.plus(-10.0),
            offset: 1e-3,
            delay: 1e-4,
            dispersion: 1e-6,
            root_delay: 0.0,
            root_dispersion: 0.0,
        };
        let source = SourceSamples {
            name: "a".to_owned(),
            asked: "192.0.2.1:123".to_owned(),
            leap: Leap::None,
            stratum: 1,
            reference_id: *b"GPS\0",
            samples: vec![sample],
        };
        Samples { drift: Drift { frequency_ppm: 100.0, skew_ppm: 0.1 }, sources: vec![source] }
    }

    /// Checks by how much offset and time of the sample were moved.
    fn check(now: Clocks, expected: Result<f64, Stale>) {
        let moved = samples().carry(THEN, now).map(|carried| {
            let (before, after) = (samples().sources[0].samples[0], carried.sources[0].samples[0]);
            assert!((after.at - before.at - (after.offset - before.offset)).abs() < 2e-9);
            after.offset - before.offset
        });
        match (moved, expected) {
            (Ok(moved), Ok(expected)) => assert!((moved - expected).abs() < 2e-9, "{moved} {expected}"),
            (moved, expected) => assert_eq!(moved, expected),
        }
    }

    #[test]
    fn what_the_clock_gained_since_is_put_right() {
        check(THEN, Ok(0.0));
        // The clock ran at its rate of 100 ppm; then in addition 300 us of a slew.
        check(later(100.01, 100.01, 100.0), Ok(0.0));
        check(later(100.0103, 100.0103, 100.0), Ok(300e-6));
    }

    #[test]
    fn a_step_or_a_long_pause_makes_them_worthless() {
        check(later(100.11, 100.01, 100.0), Err(Stale::Stepped));
        check(later(20_000.0, 20_000.0, 20_000.0), Err(Stale::TooOld));
        check(later(-1.0, -1.0, -1.0), Err(Stale::TooOld));
        check(later(100.0, 100.0, 0.0), Err(Stale::Unexplained));
        let nonsense = Samples { drift: Drift { frequency_ppm: f64::NAN, skew_ppm: 0.0 }, ..samples() };
        assert_eq!(nonsense.carry(THEN, THEN), Err(Stale::Unexplained));
    }
}
