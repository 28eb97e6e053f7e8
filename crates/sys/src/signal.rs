//! SIGTERM and SIGINT ask the program to stop: the handler sets a flag, which ends `poll`, and wakes a waker if there
//! is one.
use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, IntoRawFd},
    ptr,
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
};

use crate::{Error, poll::Waker};

static STOP: AtomicBool = AtomicBool::new(false);

/// The descriptor to write to, or -1.
static WAKER_FD: AtomicI32 = AtomicI32::new(-1);

/// Installs handlers for the two signals. From then on a signal makes [`stop_requested`] return true, and ends a
/// [`crate::poll::readable`] with [`Error::interrupted`]. The kernel delivers a signal to any one thread, so a program
/// with several threads also needs a `waker`. Call this once, early.
///
/// # Errors
/// If a handler cannot be set, or no descriptor is left.
pub fn stop_on_signals(waker: Option<&Waker>) -> Result<(), Error> {
    if let Some(waker) = waker {
        // A copy that is never closed, since a handler may run until the process ends.
        let own = waker.as_fd().try_clone_to_owned().map_err(|_| Error::last("fcntl"))?;
        WAKER_FD.store(own.into_raw_fd(), Ordering::Relaxed);
    }
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: all zeros is a valid sigaction (no flags, so no SA_RESTART; an empty mask on Linux); the handler is
        // an extern "C" function that does only what is async-signal-safe; no old action is asked for.
        let result = unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
            libc::sigaction(signal, &raw const action, ptr::null_mut())
        };
        Error::check("sigaction", result)?;
    }
    Ok(())
}

/// Returns true if one of the signals came since [`stop_on_signals`].
pub fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

extern "C" fn on_signal(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
    let descriptor = WAKER_FD.load(Ordering::Relaxed);
    if descriptor >= 0 {
        // SAFETY: errno belongs to the interrupted code, which may be about to read it; it is put back.
        unsafe {
            let errno = libc::__errno_location();
            let before = *errno;
            crate::poll::ring(descriptor);
            *errno = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_signal_sets_the_flag_and_rings() {
        let waker = Waker::new().unwrap();
        stop_on_signals(Some(&waker)).unwrap();
        assert!(!stop_requested());
        // SAFETY: raise takes no pointer; the handler is set.
        unsafe { libc::raise(libc::SIGTERM) };
        assert!(stop_requested());
        let rung = crate::poll::readable(&[waker.as_fd()], Some(Duration::ZERO)).unwrap();
        assert_eq!(rung, [true]);
    }
}
