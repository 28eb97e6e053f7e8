//! The edge of the hardware clock's tick, which is when its whole seconds tell the time exactly.
use std::{
    thread,
    time::{Duration, Instant},
};

use ntp::Wall;
use sys::{clock, rtc::Rtc};

use super::Error;

/// What can be asked of a clock's chip: whole seconds, as if it showed UTC.
pub(super) trait Chip {
    /// The second that it shows.
    fn seconds(&self) -> Result<i64, sys::Error>;
    /// Sets it.
    fn set_seconds(&self, seconds: i64) -> Result<(), sys::Error>;
}

impl Chip for Rtc {
    fn seconds(&self) -> Result<i64, sys::Error> {
        Self::seconds(self)
    }

    fn set_seconds(&self, seconds: i64) -> Result<(), sys::Error> {
        Self::set_seconds(self, seconds)
    }
}

/// A second that began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    /// The second, as the clock shows it.
    pub(super) shown: i64,
    /// When it was first seen, by the system clock.
    pub(super) at: Wall,
    /// So long before, the second before it was still seen.
    pub(super) late: Duration,
}

/// Waits for an edge and reads the clock there, good to a millisecond or two: the edge is between the last look at the old
/// second and the first at the new one.
///
/// It looks, and does not ask for the update interrupt (RTC_UIE_ON). The kernel keeps that as a timer of one second; if the
/// clock is set meanwhile from 2020 to now, the timer may have to expire once for each second in between, with the
/// processor held (rtc_timer_do_work in drivers/rtc/interface.c). Two virtual machines once stood still so, for minutes,
/// just after the kernel's first write.
///
/// # Errors
/// [`Error::LostTime`], [`Error::Read`], [`Error::NoTick`].
pub(super) fn next(chip: &impl Chip) -> Result<Edge, Error> {
    // Two ticks and a half: a clock that is slower than that is not one.
    const PATIENCE: Duration = Duration::from_millis(2_500);
    const PAUSE: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + PATIENCE;
    let mut looked = Instant::now();
    let before = look(chip)?;
    while Instant::now() < deadline {
        let now = Instant::now();
        let shown = look(chip)?;
        if shown != before {
            return Ok(Edge { shown, at: Wall(clock::realtime_ns()), late: looked.elapsed() });
        }
        looked = now;
        thread::sleep(PAUSE);
    }
    Err(Error::NoTick)
}

fn look(chip: &impl Chip) -> Result<i64, Error> {
    chip.seconds().map_err(|error| if error.invalid() { Error::LostTime } else { Error::Read(error) })
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;

    /// A chip that shows the system clock's time, changed by so many nanoseconds, and takes a new time as an MC146818:
    /// its next second begins `delay` after the write.
    pub(in crate::rtc) struct FakeChip {
        pub(in crate::rtc) ahead: Cell<i64>,
        pub(in crate::rtc) delay: i64,
        pub(in crate::rtc) writes: Cell<u32>,
        /// A write number that the chip gets wrong by as much.
        pub(in crate::rtc) spoiled: (u32, i64),
    }

    impl FakeChip {
        pub(in crate::rtc) fn new(ahead: i64, delay: i64) -> Self {
            Self { ahead: Cell::new(ahead), delay, writes: Cell::new(0), spoiled: (0, 0) }
        }
    }

    impl Chip for FakeChip {
        fn seconds(&self) -> Result<i64, sys::Error> {
            Ok((clock::realtime_ns() + self.ahead.get()).div_euclid(1_000_000_000))
        }

        fn set_seconds(&self, seconds: i64) -> Result<(), sys::Error> {
            self.writes.set(self.writes.get() + 1);
            let spoiled = if self.spoiled.0 == self.writes.get() { self.spoiled.1 } else { 0 };
            self.ahead.set(seconds * 1_000_000_000 + self.delay - clock::realtime_ns() + spoiled);
            Ok(())
        }
    }

    #[test]
    fn an_edge_is_found_where_the_second_begins() {
        let chip = FakeChip::new(-3_600_250_000_000, 0);
        let edge = next(&chip).unwrap();
        let error = edge.shown as f64 - (edge.at - Wall(0)) + 3_600.25;
        // It can only be late, and says how late.
        assert!(error <= 1e-6 && error >= -edge.late.as_secs_f64() - 1e-3, "{error} {edge:?}");
    }
}
