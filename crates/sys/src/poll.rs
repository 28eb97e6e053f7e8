//! Waiting: `poll` over a few descriptors, and a waker by which another thread ends the wait.
use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use crate::Error;

/// What `poll` found of one descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There may be something to read, or an error to report.
    pub read: bool,
    /// The error queue may hold something: a datagram's departure
    /// ([`UdpSocket::departure`](crate::udp::UdpSocket::departure)).
    pub queue: bool,
}

/// Waits until one of `descriptors` has something to read (or an error to report), the time is up, or a signal comes.
/// The answer says for each of them, in their order, whether it is ready; all `false` when the time was up.
///
/// `poll` counts in milliseconds: `timeout` is rounded up, so that the wait never ends too early. None waits for ever.
///
/// # Errors
/// [`Error::interrupted`] when a signal came; it is for the caller to look why.
pub fn readable(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<bool>, Error> {
    Ok(wait(descriptors, libc::POLLIN, timeout)?.iter().map(|events| *events != 0).collect())
}

/// The same for a fixed number of descriptors, without taking memory; what is none is never ready.
///
/// # Errors
/// As [`readable`].
pub fn readable_of<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    timeout: Option<Duration>,
) -> Result<[bool; N], Error> {
    // poll leaves out what is negative.
    let mut polled = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    poll(&mut polled, timeout)?;
    Ok(polled.map(|entry| entry.revents != 0))
}

/// The same, with error queues told apart. For sockets that stamp departures.
///
/// # Errors
/// As [`readable`].
pub fn ready(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<Ready>, Error> {
    // The kernel answers POLLERR and POLLPRI together, whether the queue or another error is the reason, so both are to
    // be looked at.
    let told = |events: libc::c_short| Ready {
        read: events & !libc::POLLPRI != 0,
        queue: events & libc::POLLPRI != 0,
    };
    let events = wait(descriptors, libc::POLLIN | libc::POLLPRI, timeout)?;
    Ok(events.into_iter().map(told).collect())
}

fn wait(
    descriptors: &[BorrowedFd<'_>],
    events: libc::c_short,
    timeout: Option<Duration>,
) -> Result<Vec<libc::c_short>, Error> {
    let mut polled: Vec<libc::pollfd> = descriptors
        .iter()
        .map(|descriptor| libc::pollfd { fd: descriptor.as_raw_fd(), events, revents: 0 })
        .collect();
    poll(&mut polled, timeout)?;
    Ok(polled.iter().map(|entry| entry.revents).collect())
}

fn poll(polled: &mut [libc::pollfd], timeout: Option<Duration>) -> Result<(), Error> {
    // SAFETY: the pointer and the count are those of a live, exclusively borrowed slice; the callers hold its
    // descriptors borrowed, so open, for the whole call.
    let result = unsafe {
        libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout.map_or(-1, whole_milliseconds))
    };
    Error::check("poll", result).map(drop)
}

fn whole_milliseconds(timeout: Duration) -> libc::c_int {
    libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
}

/// Ends a [`readable`] of another thread that has the waker among its descriptors.
#[derive(Debug)]
pub struct Waker {
    descriptor: OwnedFd,
}

impl Waker {
    /// A waker that has not been rung.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> Result<Self, Error> {
        // SAFETY: eventfd takes no pointer; the descriptor that it returns belongs to nobody else.
        let descriptor = unsafe {
            let raw = Error::check("eventfd", libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
            OwnedFd::from_raw_fd(raw)
        };
        Ok(Self { descriptor })
    }

    /// Makes the waker ready to read, until [`Waker::clear`].
    pub fn wake(&self) {
        ring(self.descriptor.as_raw_fd());
    }

    /// Makes the waker quiet again. Look at what it announces after this, not before.
    pub fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: eight octets are read into a live u64. A failure means that it was quiet already.
        unsafe { libc::read(self.descriptor.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Adds one to an eventfd; may be called from a signal handler.
pub(crate) fn ring(descriptor: libc::c_int) {
    let one = 1_u64;
    // SAFETY: eight octets are read from a live u64; write is async-signal-safe. It can only fail on an eventfd that
    // is at its maximum, and then it is ready anyhow.
    unsafe { libc::write(descriptor, (&raw const one).cast(), size_of::<u64>()) };
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Instant};

    use super::*;

    #[test]
    fn another_thread_ends_the_wait() {
        let waker = Arc::new(Waker::new().unwrap());
        assert_eq!(readable(&[waker.as_fd()], Some(Duration::ZERO)).unwrap(), [false]);
        let other = Arc::clone(&waker);
        let ringing = thread::spawn(move || other.wake());
        assert_eq!(readable(&[waker.as_fd()], Some(Duration::from_secs(20))).unwrap(), [true]);
        ringing.join().unwrap();
        waker.clear();
        assert_eq!(readable(&[waker.as_fd()], Some(Duration::ZERO)).unwrap(), [false]);
    }

    #[test]
    fn a_wait_is_never_too_short() {
        let before = Instant::now();
        readable(&[], Some(Duration::from_micros(1_200))).unwrap();
        assert!(before.elapsed() >= Duration::from_micros(1_200));
        assert_eq!(whole_milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(whole_milliseconds(Duration::MAX), libc::c_int::MAX);
    }
}
