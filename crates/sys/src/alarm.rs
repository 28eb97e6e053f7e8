//! A descriptor that becomes readable when the system clock is set: a timer of CLOCK_REALTIME, which the kernel then
//! cancels (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET; since Linux 3.0). The timer never expires by itself.
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::Error;

/// The armed timer.
#[derive(Debug)]
pub struct ClockAlarm {
    descriptor: OwnedFd,
}

/// The timer's time, seconds since the Unix epoch: two centuries from now. If the clock is ever set beyond it, the
/// timer expires once.
const FAR: libc::time_t = 8_000_000_000;

impl ClockAlarm {
    /// An armed alarm.
    ///
    /// # Errors
    /// If the kernel or a sandbox does not support it (EINVAL, ENOSYS, EPERM), or no descriptor is left.
    pub fn new() -> Result<Self, Error> {
        // SAFETY: timerfd_create takes no pointer; nothing else owns the descriptor that it returns.
        let descriptor = unsafe {
            let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
            let raw = Error::check("timerfd_create", libc::timerfd_create(libc::CLOCK_REALTIME, flags))?;
            OwnedFd::from_raw_fd(raw)
        };
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let far = libc::timespec { tv_sec: FAR, tv_nsec: 0 };
        let when = libc::itimerspec { it_interval: never, it_value: far };
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: the first pointer is to a live itimerspec, and null asks for nothing to be written.
        let result = unsafe {
            libc::timerfd_settime(descriptor.as_raw_fd(), flags, &raw const when, std::ptr::null_mut())
        };
        Error::check("timerfd_settime", result)?;
        Ok(Self { descriptor })
    }

    /// Makes the alarm not readable until the clock is set again. Read the clock after this call, not before.
    pub fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: eight octets are read into a live u64. If the clock was set, the read fails with ECANCELED and arms
        // the timer again (fs/timerfd.c, timerfd_canceled). If it fails otherwise, the alarm was not readable.
        unsafe { libc::read(self.descriptor.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

impl AsFd for ClockAlarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::poll;

    #[test]
    fn it_is_armed_and_quiet_while_nobody_sets_the_clock() {
        let alarm = ClockAlarm::new().unwrap();
        let mut left: libc::itimerspec = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        };
        // SAFETY: the pointer is to a live itimerspec.
        let result = unsafe { libc::timerfd_gettime(alarm.descriptor.as_raw_fd(), &raw mut left) };
        assert_eq!(result, 0);
        assert!(left.it_value.tv_sec > 1_000_000_000, "{}", left.it_value.tv_sec);
        assert_eq!(poll::readable(&[alarm.as_fd()], Some(Duration::from_millis(50))).unwrap(), [false]);
        alarm.clear();
        assert_eq!(poll::readable(&[alarm.as_fd()], Some(Duration::ZERO)).unwrap(), [false]);
    }
}
