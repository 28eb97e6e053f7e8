//! A PTP hardware clock (/dev/ptpN), which, unlike the RTC, shows fractions of a second. It is compared with the system
//! clock by the best method that its driver has. It is only read, never set.
use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use crate::Error;

/// An open PTP device.
#[derive(Debug)]
pub struct Phc {
    descriptor: OwnedFd,
    method: Method,
}

/// The times of the system clock and of the device at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Time of the system clock, nanoseconds since the Unix epoch.
    pub system_ns: i64,
    /// Time of the device, nanoseconds since its own epoch.
    pub device_ns: i64,
    /// The device was read within this time around the moment, nanoseconds; zero if the hardware captured both clocks
    /// at once.
    pub window_ns: i64,
}

/// The methods of comparison, best first. If the driver does not support one, it returns an error, and the next one is
/// tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// The hardware captures both clocks.
    Precise,
    /// The system clock is read right before and after the device's own register.
    Extended,
    /// The system clock is read before and after the driver's call.
    Basic,
}

// linux/ptp_clock.h, for architectures with the generic encoding of ioctl numbers (x86, ARM, RISC-V).
const CLOCK_GETCAPS: libc::c_ulong = 0x8050_3d01;
const SYS_OFFSET: libc::c_ulong = 0x4340_3d05;
const SYS_OFFSET_PRECISE: libc::c_ulong = 0xc040_3d08;
const SYS_OFFSET_EXTENDED: libc::c_ulong = 0xc4c0_3d09;

/// Most readings in one call (PTP_MAX_SAMPLES).
const MAX_READINGS: usize = 25;

/// Readings for one comparison; the one with the shortest window is used. On a slow bus each takes 1 to 2 µs, and an
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

/// `struct ptp_sys_offset_extended`. In newer kernels the first of the reserved words selects the system's clock; zero
/// selects CLOCK_REALTIME.
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

/// `struct ptp_clock_caps`: the clock's capabilities. Here it only shows that the device is a PTP clock.
type Capabilities = [libc::c_int; 20];

impl Phc {
    /// Opens a device such as /dev/ptp0, and checks that it is a PTP clock.
    ///
    /// # Errors
    /// [`Error::not_found`], [`Error::not_permitted`]; ENOTTY or EINVAL if it is not a PTP clock.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::new("open", libc::EINVAL))?;
        // SAFETY: the path is a live string that ends in a zero; nothing else owns the descriptor that is returned.
        let descriptor = unsafe {
            let raw = Error::check("open", libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC))?;
            OwnedFd::from_raw_fd(raw)
        };
        let phc = Self { descriptor, method: Method::Precise };
        let mut capabilities: Capabilities = Default::default();
        phc.ask("ioctl PTP_CLOCK_GETCAPS", CLOCK_GETCAPS, &mut capabilities)?;
        Ok(phc)
    }

    /// Compares the device with the system clock.
    ///
    /// # Errors
    /// ENODEV if the device has gone; ERANGE if its time does not fit into nanoseconds.
    pub fn read(&mut self) -> Result<Reading, Error> {
        loop {
            let (reading, next) = match self.method {
                Method::Precise => (self.precise(), Method::Extended),
                Method::Extended => (self.extended(), Method::Basic),
                Method::Basic => return self.basic(),
            };
            match reading {
                Err(error) if unknown(error) => self.method = next,
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
        // System and device alternate: the end of one window is the beginning of the next.
        let taken = all.times.windows(3).step_by(2).take(all.count as usize);
        shortest(taken.map(|three| (three[0], three[1], three[2]))).ok_or(Error::new(CALL, libc::ERANGE))
    }

    /// Calls an ioctl that reads or writes `argument`, whose type must be the one that `number` requires.
    fn ask<T>(&self, call: &'static str, number: libc::c_ulong, argument: &mut T) -> Result<(), Error> {
        debug_assert_eq!(size_of::<T>(), (number >> 16 & 0x3fff) as usize);
        // SAFETY: the number's size field is the size of T (asserted above, and by the test for all four), the
        // pointer is to a live, exclusively borrowed T of plain integers, and the kernel writes no more than that.
        let result =
            unsafe { libc::ioctl(self.descriptor.as_raw_fd(), number as libc::Ioctl, &raw mut *argument) };
        Error::check(call, result).map(drop)
    }
}

/// Returns true if the driver does not support a method: EOPNOTSUPP as documented, ENOTTY and EINVAL from kernels older
/// than the method, ENODEV from virtual clocks whose partner is not the system's clock.
fn unknown(error: Error) -> bool {
    matches!(error.errno(), libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL | libc::ENODEV)
}

fn shortest(readings: impl Iterator<Item = (Time, Time, Time)>) -> Option<Reading> {
    let readings = readings.filter_map(|(before, device, after)| reading(before, device, after));
    readings.min_by_key(|reading| reading.window_ns)
}

/// The middle of the two system times, with the device's time; none if the times do not fit or are not in order.
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
