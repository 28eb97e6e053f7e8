//! What the platform reports of the clock besides its readings: that another process set it, and that the node was
//! suspended. Both reports may be missing. Then a jump is noticed within a second, and a suspension by the sources.
//! Reads clocks, moves nothing.
use std::os::fd::{AsFd, BorrowedFd};

use sys::alarm::ClockAlarm;
use tracing::info;

use crate::clock;

/// The alarm, and how long the node was suspended so far.
pub(super) struct ClockWatch {
    alarm: Option<ClockAlarm>,
    /// CLOCK_BOOTTIME minus CLOCK_MONOTONIC, nanoseconds, if it can be read at this moment.
    ahead: Box<dyn Fn() -> Option<i64> + Send>,
    /// The same at the last look.
    known: Option<i64>,
}

/// A smaller difference, nanoseconds, is only the time between two readings.
const SLEEP: i64 = 1_000_000;

impl ClockWatch {
    /// Watches this node's clocks.
    pub(super) fn new() -> Self {
        let alarm = ClockAlarm::new();
        if let Err(error) = &alarm {
            info!(%error, "Kernel does not tell when the clock is set; it is looked at each second");
        }
        Self::of(alarm.ok(), Box::new(clock::boottime_ahead))
    }

    fn of(alarm: Option<ClockAlarm>, ahead: Box<dyn Fn() -> Option<i64> + Send>) -> Self {
        let known = ahead();
        Self { alarm, ahead, known }
    }

    /// The descriptor to wait for: it is readable when a process has set the clock.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.alarm.as_ref().map(AsFd::as_fd)
    }

    /// Makes the descriptor not readable again.
    pub(super) fn clear(&self) {
        if let Some(alarm) = &self.alarm {
            alarm.clear();
        }
    }

    /// How many seconds the node was suspended since the last call; none if it was not.
    pub(super) fn asleep(&mut self) -> Option<f64> {
        let ahead = (self.ahead)()?;
        let grown = ahead.saturating_sub(self.known.replace(ahead)?);
        (grown > SLEEP).then_some(grown as f64 / 1e9)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A node that was suspended for the given time, nanoseconds.
    pub(in super::super) fn sleeper() -> (ClockWatch, Arc<Mutex<Option<i64>>>) {
        let slept = Arc::new(Mutex::new(Some(7_000_000_000)));
        let ahead = Arc::clone(&slept);
        (ClockWatch::of(None, Box::new(move || *ahead.lock().unwrap())), slept)
    }

    #[test]
    fn a_sleep_is_told_once_and_noise_is_none() {
        let (mut watch, slept) = sleeper();
        let mut check = |ahead, expected| {
            *slept.lock().unwrap() = ahead;
            assert_eq!(watch.asleep(), expected, "{ahead:?}");
        };
        check(Some(7_000_000_000), None);
        check(Some(7_000_900_000), None);
        check(Some(12_000_900_000), Some(5.0));
        check(Some(12_000_900_000), None);
        check(Some(12_000_000_000), None);
        // If the time cannot be read now, it is reported later.
        check(None, None);
        check(Some(13_500_000_000), Some(1.5));
        assert!(watch.descriptor().is_none());
    }

    #[test]
    fn this_machine_can_be_watched() {
        let mut watch = ClockWatch::new();
        assert!(watch.descriptor().is_some());
        watch.clear();
        // If the test itself was suspended, it proves nothing.
        assert!(watch.asleep().is_none());
    }
}
