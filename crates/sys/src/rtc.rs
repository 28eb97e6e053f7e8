//! The hardware clock (rtc(4)): whole seconds, read and set as if it showed UTC. Its interrupts are not used, on
//! purpose: while one is on, a jump of the clock by years makes the kernel count every second of the jump without
//! releasing the processor.
use std::{
    ffi::CString,
    fs,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use crate::Error;

/// An open hardware clock. The kernel lets only one process have it open at a time.
#[derive(Debug)]
pub struct Rtc {
    descriptor: OwnedFd,
}

// linux/rtc.h, for architectures with the generic encoding of ioctl numbers (x86, ARM, RISC-V).
const READ_TIME: libc::c_ulong = 0x8024_7009;
const SET_TIME: libc::c_ulong = 0x4024_700a;

/// `struct rtc_time` of linux/rtc.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct BrokenDown {
    second: libc::c_int,
    minute: libc::c_int,
    hour: libc::c_int,
    day: libc::c_int,
    month: libc::c_int,
    year: libc::c_int,
    weekday: libc::c_int,
    yearday: libc::c_int,
    daylight: libc::c_int,
}

impl Rtc {
    /// Opens a device such as /dev/rtc0.
    ///
    /// # Errors
    /// [`Error::not_found`], [`Error::not_permitted`], [`Error::in_use`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::new("open", libc::EINVAL))?;
        // SAFETY: the path is a live string that ends in a zero; nothing else owns the descriptor that is returned.
        let descriptor = unsafe {
            let raw = Error::check(
                "open",
                libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC),
            )?;
            OwnedFd::from_raw_fd(raw)
        };
        Ok(Self { descriptor })
    }

    /// The second that the clock shows, as seconds since the Unix epoch if the clock is in UTC.
    ///
    /// # Errors
    /// EINVAL if the kernel finds that the clock has lost its time, or shows a time that does not exist.
    pub fn seconds(&self) -> Result<i64, Error> {
        let mut time = BrokenDown::default();
        // SAFETY: RTC_RD_TIME writes one rtc_time to the pointer, which is to a live one.
        let result = unsafe { libc::ioctl(self.raw(), READ_TIME as libc::Ioctl, &raw mut time) };
        Error::check("ioctl RTC_RD_TIME", result)?;
        time.seconds().ok_or(Error::new("ioctl RTC_RD_TIME", libc::EINVAL))
    }

    /// Sets the clock to `seconds` since the Unix epoch, in UTC. The driver decides when the clock's next tick comes.
    ///
    /// # Errors
    /// [`Error::not_permitted`] without CAP_SYS_TIME; EINVAL for a time before 1970 or after 9999.
    pub fn set_seconds(&self, seconds: i64) -> Result<(), Error> {
        let time = BrokenDown::of(seconds).ok_or(Error::new("ioctl RTC_SET_TIME", libc::EINVAL))?;
        // SAFETY: RTC_SET_TIME reads one rtc_time from the pointer, which is to a live one.
        let result = unsafe { libc::ioctl(self.raw(), SET_TIME as libc::Ioctl, &raw const time) };
        Error::check("ioctl RTC_SET_TIME", result).map(drop)
    }

    fn raw(&self) -> libc::c_int {
        self.descriptor.as_raw_fd()
    }
}

/// The driver's name of a device such as /dev/rtc0, as in sysfs (`rtc_cmos`), up to the first space.
pub fn driver_name(device: &Path) -> Option<String> {
    let resolved = fs::canonicalize(device).ok()?;
    let name =
        fs::read_to_string(Path::new("/sys/class/rtc").join(resolved.file_name()?).join("name")).ok()?;
    name.split_whitespace().next().map(str::to_owned)
}

impl BrokenDown {
    fn of(seconds: i64) -> Option<Self> {
        // 1970 to 9999, which is a wider range than that of any chip.
        if !(0..253_402_300_800).contains(&seconds) {
            return None;
        }
        // SAFETY: time_t has 64 bits on every target that we build for; both pointers are to live objects; gmtime_r
        // keeps none.
        let tm = unsafe {
            let mut tm: libc::tm = MaybeUninit::zeroed().assume_init();
            let time = seconds as libc::time_t;
            if libc::gmtime_r(&raw const time, &raw mut tm).is_null() {
                return None;
            }
            tm
        };
        Some(Self {
            second: tm.tm_sec,
            minute: tm.tm_min,
            hour: tm.tm_hour,
            day: tm.tm_mday,
            month: tm.tm_mon,
            year: tm.tm_year,
            weekday: tm.tm_wday,
            yearday: tm.tm_yday,
            daylight: 0,
        })
    }

    fn seconds(&self) -> Option<i64> {
        let fits = (0..=60).contains(&self.second)
            && (0..60).contains(&self.minute)
            && (0..24).contains(&self.hour)
            && (1..=31).contains(&self.day)
            && (0..12).contains(&self.month)
            && (0..8_100).contains(&self.year);
        if !fits {
            return None;
        }
        // SAFETY: timegm reads and normalises a live tm; its fields are within their ranges, so nothing overflows.
        let seconds = unsafe {
            let mut tm: libc::tm = MaybeUninit::zeroed().assume_init();
            tm.tm_sec = self.second;
            tm.tm_min = self.minute;
            tm.tm_hour = self.hour;
            tm.tm_mday = self.day;
            tm.tm_mon = self.month;
            tm.tm_year = self.year;
            libc::timegm(&raw mut tm)
        };
        Some(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_header() {
        assert_eq!(size_of::<BrokenDown>(), 36);
        assert_eq!(READ_TIME >> 16 & 0x3fff, 36);
    }

    #[test]
    fn seconds_there_and_back() {
        for seconds in [0, 951_782_400, 1_577_836_800, 1_795_384_073, 4_102_444_799] {
            assert_eq!(BrokenDown::of(seconds).unwrap().seconds(), Some(seconds));
        }
        let leap_day = BrokenDown::of(951_782_400).unwrap();
        assert_eq!((leap_day.year, leap_day.month, leap_day.day), (100, 1, 29));
        assert!(BrokenDown::of(-1).is_none() && BrokenDown::of(i64::MAX).is_none());
        assert_eq!(BrokenDown::default().seconds(), None);
    }

    #[test]
    fn a_missing_device_is_not_found() {
        let error = Rtc::open(Path::new("/dev/no-such-rtc")).unwrap_err();
        assert!(error.not_found() && error.call() == "open", "{error}");
        let error = Rtc::open(Path::new("/dev/null")).unwrap().seconds().unwrap_err();
        assert_eq!(error.call(), "ioctl RTC_RD_TIME");
    }
}
