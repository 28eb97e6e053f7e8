//! `rtc read` and `rtc write`: the hardware clock, once, as `hwclock -r` and `hwclock -w` do.
use std::{fmt, path::PathBuf};

use clap::{Args, Subcommand};
use ntp::Wall;

use crate::{
    clock,
    host_root::HostRoot,
    rtc::{Error, HardwareClock, RtcConvention, RtcReading, RtcTimebase},
};

/// Which clock, and what to do with it.
#[derive(Debug, Args)]
pub(crate) struct Rtc {
    /// The hardware clock
    #[arg(short = 'f', long, global = true, value_name = "DEVICE", default_value = "/dev/rtc0")]
    rtc: PathBuf,
    /// Where the host's root is seen: /etc/adjtime says UTC or LOCAL, /etc/localtime is the zone
    #[arg(long, global = true, value_name = "FOLDER", default_value = "/")]
    host_root: PathBuf,
    /// The clock shows UTC, whatever /etc/adjtime says
    #[arg(short = 'u', long, global = true)]
    utc: bool,
    /// The clock shows local time, whatever /etc/adjtime says
    #[arg(short = 'l', long, global = true, conflicts_with = "utc")]
    localtime: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Action {
    /// Show what it says at its next tick
    Read,
    /// Set it to the system clock's time, and read it back
    Write,
}

impl Rtc {
    /// Carries out the command, and prints what the clock shows. Returns true, or an error.
    pub(super) fn act(&self) -> Result<bool, Error> {
        let start = clock::now().wall;
        let shows = match (self.utc, self.localtime) {
            (true, _) => Some(RtcTimebase::Utc),
            (_, true) => Some(RtcTimebase::Local),
            (false, false) => None,
        };
        let clock = HardwareClock::new(self.rtc.clone(), HostRoot::new(self.host_root.clone()), shows);
        let convention = clock.convention()?;
        let (reading, moment) = match self.action {
            Action::Read => (clock.read()?, Some(start)),
            Action::Write => (clock.write()?, None),
        };
        println!(
            "{}",
            FormattedReading { reading, moment: moment.unwrap_or(reading.at), convention: &convention }
        );
        Ok(true)
    }
}

/// A reading as a text: as hwclock prints it, then its distance from the system clock.
struct FormattedReading<'a> {
    reading: RtcReading,
    /// The moment, by the system clock, for which the clock's time is printed. For hwclock that is its own start,
    /// however long it waited for the tick.
    moment: Wall,
    convention: &'a RtcConvention,
}

impl fmt::Display for FormattedReading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waited = self.reading.at.0.saturating_sub(self.moment.0);
        let time = self.reading.wall().0.saturating_sub(waited);
        let (seconds, micros) = (time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000) / 1_000);
        let ahead = i64::from(self.convention.zone_offset(seconds));
        let local = seconds.saturating_add(ahead);
        let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}")?;
        let sign = if ahead < 0 { '-' } else { '+' };
        writeln!(f, "{sign}{:02}:{:02}", ahead.abs() / 3_600, ahead.abs() / 60 % 60)?;
        let offset = self.reading.offset();
        let side = if offset < 0.0 { "behind" } else { "ahead of" };
        write!(f, "{:.6} s {side} the system clock", offset.abs())?;
        match self.reading.shows {
            RtcTimebase::Utc => Ok(()),
            RtcTimebase::Local => f.write_str("; it is kept in local time"),
        }
    }
}

/// Year, month and day of a day number counted from 1970-01-01, by the Gregorian rules. Years begin in March, so that a
/// leap day is the last day of a year, and are grouped in eras of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / (ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, months have 31 30 31 30 31 days, repeatedly: 153 in five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::{
        rtc::{KernelAssumption, tzif},
        scratch::Scratch,
    };

    #[track_caller]
    fn check(zone: &str, (seconds, shows): (i64, RtcTimebase), (at, waited): (i64, i64), expected: &str) {
        let folder = Scratch::new();
        fs::create_dir(folder.path().join("etc")).unwrap();
        fs::write(folder.path().join("etc/localtime"), tzif(zone)).unwrap();
        let convention = RtcConvention::of(&HostRoot::new(folder.path().to_owned()), Some(shows)).unwrap();
        let (at, late, kernel) = (Wall(at), Duration::ZERO, KernelAssumption::Agrees);
        let reading = RtcReading { seconds, at, late, shows, kernel };
        let shown = FormattedReading { reading, moment: Wall(at.0 - waited), convention: &convention };
        assert_eq!(shown.to_string(), expected);
    }

    #[test]
    fn readings_are_printed_as_hwclock_does() {
        let utc = |seconds| (seconds, RtcTimebase::Utc);
        check(
            "UTC0",
            utc(0),
            (0, 0),
            "1970-01-01 00:00:00.000000+00:00\n0.000000 s ahead of the system clock",
        );
        check(
            "UTC0",
            utc(1_577_836_800),
            (1_577_836_800_250_000_000, 0),
            "2020-01-01 00:00:00.000000+00:00\n0.250000 s behind the system clock",
        );
        check(
            "UTC0",
            utc(1_709_251_199),
            (1_709_251_198_000_000_000, 876_544_000),
            "2024-02-29 23:59:58.123456+00:00\n1.000000 s ahead of the system clock",
        );
        check(
            "<-0330>3:30",
            utc(4_107_542_400),
            (4_107_542_400_000_000_000, 0),
            "2100-02-28 20:30:00.000000-03:30\n0.000000 s ahead of the system clock",
        );
        check(
            "CST-8",
            (1_784_000_000, RtcTimebase::Local),
            (1_784_000_000_000_000_000, 0),
            "2026-07-14 11:33:20.000000+08:00\n0.000000 s ahead of the system clock; it is kept in local time",
        );
    }
}
