//! Which time the hardware clock shows: UTC, or local time in the host's zone. The third line of /etc/adjtime says
//! which, and /etc/localtime is the zone. Both are read each time, and never written. Drift and calibration in
//! /etc/adjtime are hwclock's; a clock that is read back after each write needs neither.
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use jiff::{
    Timestamp,
    tz::{AmbiguousOffset, Offset, TimeZone},
};
use ntp::Wall;

use super::error::Error;
use crate::host_root::HostRoot;

/// Which time a hardware clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RtcTimebase {
    /// UTC.
    Utc,
    /// The host's local time.
    Local,
}

/// Which time the kernel assumes in the hardware clock, and so writes into it every 11 minutes while its own clock is
/// synchronised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelAssumption {
    /// The time that the clock shows.
    Agrees,
    /// UTC, although the clock shows local time.
    Utc,
    /// A local time, but with another offset than the present one.
    OtherOffset,
}

/// How a host keeps its hardware clock.
#[derive(Clone, Debug)]
pub(crate) struct RtcConvention {
    shows: RtcTimebase,
    zone: TimeZone,
}

impl RtcConvention {
    /// Reads the host's files. `shows` takes precedence over /etc/adjtime.
    ///
    /// # Errors
    /// [`Error::NoZone`] if the clock shows local time, and the zone's file cannot be parsed. If the file is missing,
    /// the zone is UTC, as for every program of the host.
    pub(crate) fn of(host: &HostRoot, shows: Option<RtcTimebase>) -> Result<Self, Error> {
        let shows = shows.unwrap_or_else(|| said(&read(host, "/etc/adjtime").unwrap_or_default()));
        let zone = match read(host, "/etc/localtime") {
            Ok(octets) => TimeZone::tzif("localtime", &octets).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(TimeZone::UTC),
            Err(_) => None,
        };
        match (shows, zone) {
            (_, Some(zone)) => Ok(Self { shows, zone }),
            (RtcTimebase::Utc, None) => Ok(Self { shows, zone: TimeZone::UTC }),
            (RtcTimebase::Local, None) => Err(Error::NoZone),
        }
    }

    /// UTC or local time.
    pub(crate) fn shows(&self) -> RtcTimebase {
        self.shows
    }

    /// The Unix time of the shown time. In the hour that occurs twice, and in the one that does not occur, there are
    /// two results. The one that is nearer to the system clock is returned: a clock that is kept right is within a
    /// second of it, and the other result is an hour away.
    pub(crate) fn unix(&self, shown: i64, system: Wall) -> i64 {
        let near = system.0.div_euclid(1_000_000_000);
        let answers = match self.shows {
            RtcTimebase::Utc => return shown,
            RtcTimebase::Local => {
                self.offsets(shown).map(|offset| shown.saturating_sub(i64::from(offset.seconds())))
            }
        };
        let [first, second] = answers;
        if first.abs_diff(near) <= second.abs_diff(near) { first } else { second }
    }

    /// What the clock must show at a Unix time.
    pub(crate) fn shown(&self, unix: i64) -> i64 {
        match self.shows {
            RtcTimebase::Utc => unix,
            RtcTimebase::Local => unix.saturating_add(i64::from(self.zone_offset(unix))),
        }
    }

    /// The offset of the host's zone from UTC at a Unix time, seconds; positive if ahead.
    pub(crate) fn zone_offset(&self, unix: i64) -> i32 {
        Timestamp::from_second(unix).map_or(0, |time| self.zone.to_offset(time).seconds())
    }

    /// The kernel's assumption about the clock, if `minutes_west` is the kernel's zone.
    ///
    /// The kernel writes system time minus its zone if a program set that zone, other than UTC, before any program set
    /// the clock (persistent_clock_is_local in kernel/time/timekeeping.c, sync_hw_clock in kernel/time/ntp.c). systemd
    /// does so at boot if the clock shows local time. The zone is not set again when summer time begins or ends.
    /// Whether it was set in time cannot be read; if the kernel has a zone other than UTC, this is assumed.
    pub(crate) fn kernel(&self, minutes_west: i32, now: Wall) -> KernelAssumption {
        let ahead = match self.shows {
            RtcTimebase::Utc => 0,
            RtcTimebase::Local => self.zone_offset(now.0.div_euclid(1_000_000_000)),
        };
        match minutes_west {
            west if west.saturating_mul(-60) == ahead => KernelAssumption::Agrees,
            0 => KernelAssumption::Utc,
            _ => KernelAssumption::OtherOffset,
        }
    }

    fn offsets(&self, shown: i64) -> [Offset; 2] {
        let Ok(time) = Timestamp::from_second(shown) else { return [Offset::UTC; 2] };
        match self.zone.to_ambiguous_timestamp(Offset::UTC.to_datetime(time)).offset() {
            AmbiguousOffset::Unambiguous { offset } => [offset; 2],
            AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => {
                [before, after]
            }
        }
    }
}

/// The third line of the file. If it is missing, or is not what hwclock writes, it means UTC, as for hwclock.
fn said(adjtime: &[u8]) -> RtcTimebase {
    let line = adjtime.split(|octet| *octet == b'\n').nth(2).unwrap_or_default();
    if line.trim_ascii() == b"LOCAL" { RtcTimebase::Local } else { RtcTimebase::Utc }
}

/// Reads a file of the host. A file that is larger than any of its kind is cut.
fn read(host: &HostRoot, path: &str) -> io::Result<Vec<u8>> {
    const LARGEST: u64 = 1 << 20;
    let mut octets = Vec::new();
    let path = host.resolve(Path::new(path))?;
    // A pipe or a device at the path would block this thread.
    if !path.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    File::open(path)?.take(LARGEST).read_to_end(&mut octets)?;
    Ok(octets)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;
    use crate::scratch::Scratch;

    /// A POSIX zone as the only content of a TZif file of version 2 (RFC 9636).
    pub(crate) fn tzif(posix: &str) -> Vec<u8> {
        // One type of local time: UTC, named "UTC".
        let block = |version: u8| {
            let mut octets = b"TZif".to_vec();
            octets.push(version);
            octets.extend([0; 15]);
            for count in [0u32, 0, 0, 0, 1, 4] {
                octets.extend(count.to_be_bytes());
            }
            octets.extend([0, 0, 0, 0, 0, 0]);
            octets.extend(b"UTC\0");
            octets
        };
        [block(b'2'), block(b'2'), format!("\n{posix}\n").into_bytes()].concat()
    }

    pub(in crate::rtc) fn host(adjtime: Option<&str>, zone: Option<&[u8]>) -> (Scratch, HostRoot) {
        let folder = Scratch::new();
        fs::create_dir(folder.path().join("etc")).unwrap();
        if let Some(text) = adjtime {
            fs::write(folder.path().join("etc/adjtime"), text).unwrap();
        }
        if let Some(zone) = zone {
            fs::write(folder.path().join("etc/zone"), zone).unwrap();
            // An absolute link, as hosts have it: it must be resolved in the host's tree.
            std::os::unix::fs::symlink("/etc/zone", folder.path().join("etc/localtime")).unwrap();
        }
        let root = HostRoot::new(folder.path().to_owned());
        (folder, root)
    }

    const LOCAL: &str = "0.0 0 0.0\n0\nLOCAL\n";
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    fn berlin() -> RtcConvention {
        let (_folder, host) = host(Some(LOCAL), Some(&tzif(BERLIN)));
        RtcConvention::of(&host, None).unwrap()
    }

    #[test]
    fn the_third_line_says_which_time() {
        let check = |text: Option<&str>, expected: RtcTimebase| {
            let (_folder, host) = host(text, None);
            assert_eq!(RtcConvention::of(&host, None).unwrap().shows(), expected, "{text:?}");
            assert_eq!(
                RtcConvention::of(&host, Some(RtcTimebase::Local)).unwrap().shows(),
                RtcTimebase::Local
            );
        };
        check(None, RtcTimebase::Utc);
        check(Some(""), RtcTimebase::Utc);
        check(Some("0.0 0 0.0\n0\nUTC\n"), RtcTimebase::Utc);
        check(Some(LOCAL), RtcTimebase::Local);
        check(Some("0.0 0 0.0\n0\nLOCAL"), RtcTimebase::Local);
        check(Some("LOCAL\nLOCAL\n\n"), RtcTimebase::Utc);
        check(Some("0.0 0 0.0\n0\nlocal\n"), RtcTimebase::Utc);
    }

    #[test]
    fn local_time_there_and_back() {
        let convention = berlin();
        for unix in [1_800_000_000, 1_784_000_000, 0] {
            let shown = convention.shown(unix);
            assert_eq!(convention.unix(shown, Wall(unix * 1_000_000_000)), unix);
        }
        // 2027-01-15 08:00:00 UTC, and 2026-07-14 03:33:20 UTC.
        assert_eq!(convention.shown(1_800_000_000) - 1_800_000_000, 3_600);
        assert_eq!(convention.shown(1_784_000_000) - 1_784_000_000, 7_200);
    }

    #[test]
    fn the_doubled_hour_is_read_by_the_system_clock() {
        let convention = berlin();
        // 2026-10-25: 02:30 is 00:30 UTC, and again one hour later.
        let (first, second) = (1_792_888_200, 1_792_891_800);
        let shown = convention.shown(first);
        assert_eq!(convention.shown(second), shown);
        let near = |unix: i64| convention.unix(shown, Wall((unix) * 1_000_000_000));
        assert_eq!((near(first), near(first - 90_000), near(first + 20)), (first, first, first));
        assert_eq!((near(second), near(second + 90_000), near(second - 20)), (second, second, second));
        // 2026-03-29: 02:30 does not occur. A clock that was not set forward is an hour slow, and shows it.
        let (missing, system) = (1_774_751_400, 1_774_747_800);
        assert_eq!(convention.unix(missing, Wall(system * 1_000_000_000)), system);
    }

    #[test]
    fn a_zone_that_cannot_be_read_matters_for_local_time_alone() {
        let (_folder, host) = host(None, Some(b"no zone"));
        assert_eq!(RtcConvention::of(&host, None).unwrap().zone_offset(0), 0);
        assert_eq!(RtcConvention::of(&host, Some(RtcTimebase::Local)).unwrap_err(), Error::NoZone);
    }

    #[test]
    fn what_the_kernel_writes_is_told_from_its_zone() {
        let winter = Wall(1_800_000_000_000_000_000);
        let check = |convention: &RtcConvention, west: i32, expected: KernelAssumption| {
            assert_eq!(convention.kernel(west, winter), expected, "{west}");
        };
        check(&berlin(), -60, KernelAssumption::Agrees);
        check(&berlin(), -120, KernelAssumption::OtherOffset);
        check(&berlin(), 0, KernelAssumption::Utc);
        let (_folder, host) = host(None, Some(&tzif(BERLIN)));
        let utc = RtcConvention::of(&host, None).unwrap();
        check(&utc, 0, KernelAssumption::Agrees);
        check(&utc, -60, KernelAssumption::OtherOffset);
    }
}
