//! Setting the hardware clock at the right moment, and reading it back at its tick.
use std::{hint, thread, time::Duration};

use ntp::Wall;
use sys::clock;

use super::{
    adjtime::RtcConvention,
    error::Error,
    tick::{self, Access, Chip, Edge},
};

/// How a driver's clock accepts a new time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct WriteTiming {
    /// The write must come this long after a second began, so that the tick is at the right moment. An MC146818 begins
    /// its next second half a second after the write, other chips a whole second after it.
    delay: Duration,
    /// Largest deviation when read back, seconds. I2C chips need milliseconds for each transfer.
    tolerance: f64,
}

impl WriteTiming {
    /// The manner of a driver. For an unknown driver it is that of the MC146818, as in hwclock.
    pub(super) fn of(driver: Option<&str>) -> Self {
        match driver {
            None | Some("rtc_cmos") => Self { delay: Duration::from_millis(500), tolerance: 0.020 },
            Some(_) => Self { delay: Duration::ZERO, tolerance: 0.050 },
        }
    }
}

/// Sets the clock and reads it back; twice if it does not show the right time after the first write.
///
/// # Errors
/// [`Error::NotPermitted`], [`Error::Write`], [`Error::TooLate`], [`Error::NotVerified`] and those of reading.
pub(super) fn verified(
    access: &impl Access,
    timing: &WriteTiming,
    convention: &RtcConvention,
) -> Result<Edge, Error> {
    let mut failure = Error::NoTick;
    for _ in 0..2 {
        set(access, timing, convention)?;
        // A reading can only be late, and on a busy machine it is. Hence a second look before the result counts.
        let mut prediction = None;
        for _ in 0..2 {
            let edge = tick::next(access, &mut prediction)?;
            let offset = Wall(convention.unix(edge.shown, edge.at).saturating_mul(1_000_000_000)) - edge.at;
            if offset.abs() <= timing.tolerance {
                return Ok(edge);
            }
            failure = Error::NotVerified { offset };
        }
    }
    Err(failure)
}

/// The lateness that is accepted grows with each missed second, so that even a machine that is always late succeeds in
/// the end.
const LATENESS: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(4),
    Duration::from_millis(8),
    Duration::from_millis(16),
];

/// How long to wait for another program that has the clock.
const BUSY_SECONDS: u32 = 10;

/// The clock is open from shortly before the moment until it is set.
fn set(access: &impl Access, timing: &WriteTiming, convention: &RtcConvention) -> Result<(), Error> {
    let (mut allowed, mut busy) = (LATENESS.into_iter(), 0);
    loop {
        let (second, moment) = next_moment(Wall(clock::realtime_ns()), timing.delay);
        wait_until(Wall(moment.0 - LEAD));
        let chip = match access.open() {
            Ok(chip) => chip,
            Err(error) if error.in_use() && busy < BUSY_SECONDS => {
                if busy == 1 {
                    access.log_busy();
                }
                busy += 1;
                // Waits for the same moment in the next second.
                wait_until(moment);
                continue;
            }
            Err(error) => return Err(access.closed(error)),
        };
        let lateness = allowed.next().ok_or(Error::TooLate)?;
        if wait_until(moment) <= lateness {
            return chip.set_seconds(convention.shown(second)).map_err(refused);
        }
    }
}

fn refused(error: sys::Error) -> Error {
    if error.not_permitted() { Error::NotPermitted(error) } else { Error::Write(error) }
}

/// Time to prepare a write, nanoseconds.
const LEAD: i64 = 2_000_000;

/// The next second to write, and when to write it.
fn next_moment(now: Wall, delay: Duration) -> (i64, Wall) {
    const SECOND: i64 = 1_000_000_000;
    let delay = delay.as_nanos() as i64;
    let second = (now.0 + LEAD - delay).div_euclid(SECOND) + 1;
    (second, Wall(second * SECOND + delay))
}

/// Sleeps, then spins for the last millisecond. Returns how late it is.
fn wait_until(moment: Wall) -> Duration {
    const SPIN: i64 = 1_000_000;
    loop {
        let left = moment.0 - clock::realtime_ns();
        if left <= 0 {
            return Duration::from_nanos(left.unsigned_abs());
        }
        if left > SPIN {
            thread::sleep(Duration::from_nanos((left - SPIN).unsigned_abs()));
        } else {
            hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtc::{
        RtcTimebase,
        adjtime::tests::{host, tzif},
        tick::tests::FakeChip,
    };

    /// With a large tolerance, since a busy machine may run these tests.
    const MC146818: WriteTiming = WriteTiming { delay: Duration::from_millis(500), tolerance: 0.100 };

    /// Tries again if the machine was too busy for a write in time.
    fn in_time(chip: &FakeChip, convention: &RtcConvention) -> Result<Edge, Error> {
        let mut written = verified(&chip, &MC146818, convention);
        for _ in 0..3 {
            if !matches!(written, Err(Error::TooLate)) {
                break;
            }
            chip.writes.set(0);
            written = verified(&chip, &MC146818, convention);
        }
        written
    }

    #[test]
    fn a_clock_from_2020_is_set_and_read_back_in_utc_and_local_time() {
        let (_folder, host) = host(None, Some(&tzif("<+08>-8")));
        for shows in [RtcTimebase::Utc, RtcTimebase::Local] {
            let convention = RtcConvention::of(&host, Some(shows)).unwrap();
            let chip = FakeChip::new(-220_000_000_250_000_000, 500_000_000);
            let edge = in_time(&chip, &convention).unwrap();
            let hours = (Wall(edge.shown * 1_000_000_000) - edge.at) / 3_600.0;
            let expected = if shows == RtcTimebase::Utc { 0.0 } else { 8.0 };
            assert!((hours - expected).abs() <= MC146818.tolerance / 3_600.0, "{shows:?} {hours}");
        }
    }

    #[test]
    fn a_write_that_does_not_take_is_done_once_more_and_then_fails() {
        let (_folder, host) = host(None, None);
        let convention = RtcConvention::of(&host, None).unwrap();
        let once = FakeChip { spoiled: (1, 300_000_000), ..FakeChip::new(0, 500_000_000) };
        in_time(&once, &convention).unwrap();
        assert_eq!(once.writes.get(), 2);
        // The chip starts a whole second after the write, but is treated like one that needs half a second.
        let wrong = FakeChip::new(0, 0);
        let failure = in_time(&wrong, &convention).unwrap_err();
        assert!(
            matches!(failure, Error::NotVerified { offset } if (offset + 0.5).abs() <= MC146818.tolerance),
            "{failure}"
        );
        assert_eq!(wrong.writes.get(), 2);
    }

    #[test]
    fn the_moment_depends_on_the_chip() {
        let check = |driver: Option<&str>, now: i64, expected: (i64, i64)| {
            let (second, moment) = next_moment(Wall(now), WriteTiming::of(driver).delay);
            assert_eq!((second, moment.0), expected, "{driver:?} {now}");
        };
        check(Some("rtc_cmos"), 10_200_000_000, (10, 10_500_000_000));
        check(Some("rtc_cmos"), 10_500_000_000, (11, 11_500_000_000));
        check(Some("rtc_cmos"), 10_900_000_000, (11, 11_500_000_000));
        // Too close to prepare the write.
        check(Some("rtc_cmos"), 10_499_000_000, (11, 11_500_000_000));
        check(None, 10_200_000_000, (10, 10_500_000_000));
        check(Some("rtc-ds1307"), 10_200_000_000, (11, 11_000_000_000));
        check(Some("rtc-ds1307"), 11_000_000_000, (12, 12_000_000_000));
    }

    #[test]
    fn a_wait_ends_not_before_its_moment() {
        let moment = Wall(clock::realtime_ns()) + 0.020;
        wait_until(moment);
        assert!(clock::realtime_ns() >= moment.0);
        assert!(wait_until(moment) > Duration::ZERO);
    }
}
