//! The hardware clock: read on the edge of its tick, set so that its tick falls on the system clock's, read back.
//!
//! [`read`] and [`write_now`] do it once, for the command line; [`RtcKeeper`] does it for as long as the agent runs.
//! The clock is taken to be in UTC. Nothing here touches the system clock.
use std::{fmt, path::Path, thread, time::Duration};

use ntp::Wall;
use sys::rtc::Rtc;

mod keeper;
mod tick;
mod write;

pub(crate) use keeper::{RtcKeeper, RtcPolicy};

/// What the hardware clock showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RtcReading {
    /// The second that began, since the Unix epoch.
    pub(crate) seconds: i64,
    /// When it began, by the system clock.
    pub(crate) at: Wall,
}

impl RtcReading {
    /// RTC minus system clock, seconds. Late wake-ups make it too small by as much as they are late.
    pub(crate) fn offset(&self) -> f64 {
        Wall(self.seconds.saturating_mul(1_000_000_000)) - self.at
    }
}

impl fmt::Display for RtcReading {
    /// `2026-11-22 22:08:21+00:00, 0.000123 s ahead of the system clock`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let offset = self.offset();
        let side = if offset < 0.0 { "behind" } else { "ahead of" };
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}+00:00, ")?;
        write!(f, "{:.6} s {side} the system clock", offset.abs())
    }
}

/// Year, month and day of a day counted from 1970-01-01, by the Gregorian rules: years are counted from March, so
/// that a leap day is a year's last, in eras of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / (ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March have 31 30 31 30 31 days, again and again: 153 in five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

/// Why the hardware clock could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no RTC")]
    Absent,
    #[error("cannot open the RTC: {0}")]
    Open(#[source] sys::Error),
    #[error("cannot read the RTC: {0}")]
    Read(#[source] sys::Error),
    #[error("the RTC does not tick")]
    NoTick,
    #[error("cannot set the RTC: {0}")]
    Write(#[source] sys::Error),
    #[error("this machine was too busy to set the RTC at the right moment")]
    TooLate,
    #[error("the RTC was set, and read back it was {offset:.3} s off")]
    NotVerified {
        /// RTC minus system clock, seconds.
        offset: f64,
    },
}

/// Reads the clock at its next tick or the one after, so within about two seconds.
///
/// # Errors
/// [`Error::Absent`], [`Error::Open`], [`Error::Read`], [`Error::NoTick`].
pub(crate) fn read(device: &Path) -> Result<RtcReading, Error> {
    tick::next(&open(device)?)
}

/// Sets the clock to the system clock's time and reads it back, a second time if need be. Takes up to about eight
/// seconds. The answer is what was read back.
///
/// # Errors
/// Any [`Error`].
pub(crate) fn write_now(device: &Path) -> Result<RtcReading, Error> {
    let driver = sys::rtc::driver_name(device);
    write::verified(&open(device)?, &write::Manner::of(driver.as_deref()))
}

/// Opens the device. The kernel lets one process have it at a time, and who has it needs seconds, so patience helps.
fn open(device: &Path) -> Result<Rtc, Error> {
    const ATTEMPTS: u32 = 40;
    const PAUSE: Duration = Duration::from_millis(250);
    let mut attempt = 1;
    loop {
        match Rtc::open(device) {
            Ok(rtc) => return Ok(rtc),
            Err(error) if error.not_found() => return Err(Error::Absent),
            Err(error) if error.in_use() && attempt < ATTEMPTS => thread::sleep(PAUSE),
            Err(error) => return Err(Error::Open(error)),
        }
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_printed() {
        let check = |seconds: i64, at: i64, expected: &str| {
            assert_eq!(RtcReading { seconds, at: Wall(at) }.to_string(), expected);
        };
        check(0, 0, "1970-01-01 00:00:00+00:00, 0.000000 s ahead of the system clock");
        check(
            1_577_836_800,
            1_577_836_800_250_000_000,
            "2020-01-01 00:00:00+00:00, 0.250000 s behind the system clock",
        );
        check(
            1_709_251_199,
            1_709_251_198_000_000_000,
            "2024-02-29 23:59:59+00:00, 1.000000 s ahead of the system clock",
        );
        check(
            4_107_542_400,
            4_107_542_400_000_000_000,
            "2100-03-01 00:00:00+00:00, 0.000000 s ahead of the system clock",
        );
    }

    #[test]
    fn a_machine_without_rtc_is_normal() {
        let device = Path::new("/dev/no-such-rtc");
        assert_eq!(read(device), Err(Error::Absent));
        assert_eq!(write_now(device), Err(Error::Absent));
        // Not a clock.
        assert!(matches!(read(Path::new("/dev/null")), Err(Error::Read(_))));
    }
}
