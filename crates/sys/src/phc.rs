//! A hardware clock that shows more than seconds (PTP hardware clock, /dev/ptpN): compared with the system clock by
//! the best means that its driver has. Only read, never set.
use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use crate::Error;

/// An open device.
#[derive(Debug)]
pub struct Phc {
    descriptor: OwnedFd,
    means: Means,
}

/// What the system clock and the device showed at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The system clock, nanoseconds since the Unix epoch.
    pub system_ns: i64,
    /// The device, nanoseconds since its own epoch.
    pub device_ns: i64,
    /// The device was read within this time around the moment, nanoseconds; zero if both were captured at once.
    pub window_ns: i64,
}

/// The ways to compare, best first. A driver that does not know one answers so, and the next is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// Both clocks captured by the hardware.
    Precise,
    /// The system clock right before and after the device's own register.
    Extended,
    /// The system clock before and after the driver's call.
    Basic,
}

// linux/ptp_clock.h, for architectures with the generic encoding of ioctl numbers (x86, ARM, RISC-V).
const CLOCK_GETCAPS: libc::c_ulong = 0x8050_3d01;
const SYS_OFFSET: libc::c_ulong = 0x4340_3d05;
const SYS_OFFSET_PRECISE: libc::c_ulong = 0xc040_3d08;
const SYS_OFFSET_EXTENDED: libc::c_ulong = 0xc4c0_3d09;

/// Most readings in one call (PTP_MAX_SAMPLES).
const MAX_READINGS: usize = 25;

/// Readings that are asked for; the one with the shortest window counts. A slow bus takes 1 to 2 µs for each, and an
/// interrupt spoils one or two of them.
const READINGS: u32 = 10;

/// `struct ptp_clock_time`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Time {
    seconds: i64,
    nanos: u32,
    reserved: u32,
}

/// `struct ptp_sys_offset`.
#[repr(C)]
struct SysOffset {
    count: u32,
    reserved: [u32; 3],
    times: [Time; 2 * MAX_READINGS + 1],
}

/// `struct ptp_sys_offset_extended`. The first of the reserved words chooses the system's clock in newer kernels;
/// zero is CLOCK_REALTIME.
#[repr(C)]
struct SysOffsetExtended {
    count: u32,
    reserved: [u32; 3],
    times: [[Time; 3]; MAX_READINGS],
}

/// `struct ptp_sys_offset_precise`.
#[repr(C)]
#[derive(Default)]
struct SysOffsetPrecise {
    device: Time,
    realtime: Time,
    raw: Time,
    reserved: [u32; 4],
}

/// `struct ptp_clock_caps`: what the clock can do; here it only shows that it is one.
type Capabilities = [libc::c_int; 20];

impl Phc {
    /// Opens a device such as /dev/ptp0, and asks whether it is a PTP clock.
    ///
    /// # Errors
    /// [`Error::not_found`], [`Error::not_permitted`]; ENOTTY or EINVAL for what is no PTP clock.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::new("open", libc::EINVAL))?;
        // SAFETY: the path is a live string that ends in a zero; the descriptor that is returned belongs to nobody
        // else.
        let descriptor = unsafe {
            let raw = Error::check("open", libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC))?;
            OwnedFd::from_raw_fd(raw)
        };
        let phc = Self { descriptor, means: Means::Precise };
        let mut capabilities: Capabilities = Default::default();
        phc.ask("ioctl PTP_CLOCK_GETCAPS", CLOCK_GETCAPS, &mut capabilities)?;
        Ok(phc)
    }

    /// Compares the device with the system clock.
    ///
    /// # Errors
    /// ENODEV when the device is gone; ERANGE when it shows no time that can be said in nanoseconds.
    pub fn read(&mut self) -> Result<Reading, Error> {
        loop {
            let (reading, next) = match self.means {
                Means::Precise => (self.precise(), Means::Extended),
                Means::Extended => (self.extended(), Means::Basic),
                Means::Basic => return self.basic(),
            };
            match reading {
                Err(error) if unknown(error) => self.means = next,
                outcome => return outcome,
            }
        }
    }

    fn precise(&self) -> Result<Reading, Error> {
        const CALL: &str = "ioctl PTP_SYS_OFFSET_PRECISE";
        let mut both = SysOffsetPrecise::default();
        self.ask(CALL, SYS_OFFSET_PRECISE, &mut both)?;
        reading(both.realtime, both.device, both.realtime).ok_or(Error::new(CALL, libc::ERANGE))
    }

    fn extended(&self) -> Result<Reading, Error> {
        const CALL: &str = "ioctl PTP_SYS_OFFSET_EXTENDED";
        let mut all = SysOffsetExtended {
            count: READINGS,
            reserved: [0; 3],
            times: [[Time::default(); 3]; MAX_READINGS],
        };
        self.ask(CALL, SYS_OFFSET_EXTENDED, &mut all)?;
        let taken = all.times.iter().take(all.count as usize);
        shortest(taken.map(|&[before, device, after]| (before, device, after)))
            .ok_or(Error::new(CALL, libc::ERANGE))
    }

    fn basic(&self) -> Result<Reading, Error> {
        const CALL: &str = "ioctl PTP_SYS_OFFSET";
        let mut all =
            SysOffset { count: READINGS, reserved: [0; 3], times: [Time::default(); 2 * MAX_READINGS + 1] };
        self.ask(CALL, SYS_OFFSET, &mut all)?;
        // System and device in turn; the end of one window is the beginning of the next.
        let taken = all.times.windows(3).step_by(2).take(all.count as usize);
        shortest(taken.map(|three| (three[0], three[1], three[2]))).ok_or(Error::new(CALL, libc::ERANGE))
    }

    /// One ioctl that reads or writes `argument`, which must be what `number` says.
    fn ask<T>(&self, call: &'static str, number: libc::c_ulong, argument: &mut T) -> Result<(), Error> {
        debug_assert_eq!(size_of::<T>(), (number >> 16 & 0x3fff) as usize);
        // SAFETY: the number's size field is the size of T (asserted above, and by the test for all four), the
        // pointer is to a live, exclusively borrowed T of plain integers, and the kernel writes no more than that.
        let result =
            unsafe { libc::ioctl(self.descriptor.as_raw_fd(), number as libc::Ioctl, &raw mut *argument) };
        Error::check(call, result).map(drop)
    }
}

/// Whether the driver does not have such a means: EOPNOTSUPP as documented, ENOTTY and EINVAL from kernels older than
/// it, ENODEV from virtual clocks whose partner is another clock than the system's.
fn unknown(error: Error) -> bool {
    matches!(error.errno(), libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL | libc::ENODEV)
}

fn shortest(readings: impl Iterator<Item = (Time, Time, Time)>) -> Option<Reading> {
    let readings = readings.filter_map(|(before, device, after)| reading(before, device, after));
    readings.min_by_key(|reading| reading.window_ns)
}

/// The middle of the system's two times, against the device; none if they do not fit or are not in order.
fn reading(before: Time, device: Time, after: Time) -> Option<Reading> {
    let (before, device, after) = (before.nanos()?, device.nanos()?, after.nanos()?);
    let window_ns = after.checked_sub(before).filter(|window| *window >= 0)?;
    Some(Reading { system_ns: before + window_ns / 2, device_ns: device, window_ns })
}

impl Time {
    fn nanos(self) -> Option<i64> {
        self.seconds.checked_mul(1_000_000_000)?.checked_add(self.nanos.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_header() {
        let check = |number: libc::c_ulong, size: usize| assert_eq!(number >> 16 & 0x3fff, size as u64);
        check(CLOCK_GETCAPS, size_of::<Capabilities>());
        check(SYS_OFFSET, size_of::<SysOffset>());
        check(SYS_OFFSET_PRECISE, size_of::<SysOffsetPrecise>());
        check(SYS_OFFSET_EXTENDED, size_of::<SysOffsetExtended>());
    }

    fn time(nanos: u32) -> Time {
        Time { seconds: 5, nanos, reserved: 0 }
    }

    #[test]
    fn the_shortest_window_counts() {
        let found = shortest(
            [(100, 900, 400), (500, 901, 510), (600, 902, 650), (9, 903, 7)]
                .map(|(before, device, after)| (time(before), time(device), time(after)))
                .into_iter(),
        );
        let expected = Reading { system_ns: 5_000_000_505, device_ns: 5_000_000_901, window_ns: 10 };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn what_cannot_be_a_time_is_none() {
        let never = Time { seconds: i64::MAX, nanos: 0, reserved: 0 };
        let always = Time { seconds: i64::MIN / 1_000_000_000, nanos: 0, reserved: 0 };
        for device in [never, Time { seconds: i64::MIN, ..never }] {
            assert_eq!(reading(time(1), device, time(2)), None);
        }
        assert_eq!(reading(always, time(1), time(2)).map(|reading| reading.device_ns), None);
        assert_eq!(shortest(std::iter::empty()), None);
    }

    #[test]
    fn what_is_no_ptp_clock_is_refused_with_the_call() {
        let error = Phc::open(Path::new("/dev/no-such-ptp")).unwrap_err();
        assert!(error.not_found() && error.call() == "open", "{error}");
        let error = Phc::open(Path::new("/dev/null")).unwrap_err();
        assert_eq!((error.call(), error.errno()), ("ioctl PTP_CLOCK_GETCAPS", libc::ENOTTY));
    }
}
