//! Waiting: `poll` for a few descriptors, a set of descriptors for which several threads wait, and a waker with which
//! another thread ends a wait.
use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use crate::Error;

/// The result of `poll` for one descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There may be data to read, or an error to report.
    pub read: bool,
    /// The error queue may have a record: a datagram's departure
    /// ([`UdpSocket::departure`](crate::udp::UdpSocket::departure)).
    pub queue: bool,
}

/// Waits until one of `descriptors` has something to read (or an error to report), the timeout has passed, or a signal
/// comes. Returns for each, in their order, true if it is ready. After a timeout all are false.
///
/// `poll` counts in milliseconds. `timeout` is rounded up, so that the wait never ends too early. Without a timeout it
/// waits without limit.
///
/// # Errors
/// [`Error::interrupted`] if a signal came. The caller must find out why.
pub fn readable(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<bool>, Error> {
    Ok(wait(descriptors, libc::POLLIN, timeout)?.iter().map(|events| *events != 0).collect())
}

/// The same, with error queues reported separately, for sockets that stamp departures.
///
/// # Errors
/// As [`readable`].
pub fn ready(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<Ready>, Error> {
    // The kernel reports POLLERR and POLLPRI together, whether the queue or another error is the reason. So both must
    // be examined.
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
    // SAFETY: the pointer and the count are those of a live vector; its descriptors are borrowed, so open, for the
    // whole call.
    let result = unsafe {
        libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout.map_or(-1, whole_milliseconds))
    };
    Error::check("poll", result)?;
    Ok(polled.iter().map(|entry| entry.revents).collect())
}

fn whole_milliseconds(timeout: Duration) -> libc::c_int {
    libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
}

/// Which threads wake up when a descriptor becomes ready that is in the sets of several threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakes {
    /// All threads.
    All,
    /// One waiting thread (EPOLLEXCLUSIVE): the data is work for one thread.
    One,
}

/// The set of descriptors for which one thread waits (epoll(7)). Other threads may have the same descriptors in their
/// sets.
#[derive(Debug)]
pub struct WaitSet {
    descriptor: OwnedFd,
}

/// The largest number of events that one call returns. The next call returns further ones.
const MOST_EVENTS: usize = 8;

impl WaitSet {
    /// A set of `descriptors`. Each must stay open while a thread waits for the set.
    ///
    /// # Errors
    /// If no descriptor or memory is left.
    pub fn new(descriptors: &[(BorrowedFd<'_>, Wakes)]) -> Result<Self, Error> {
        // SAFETY: epoll_create1 takes no pointer; nothing else owns the descriptor that it returns.
        let descriptor = unsafe {
            let raw = Error::check("epoll_create1", libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            OwnedFd::from_raw_fd(raw)
        };
        for (place, (member, wakes)) in (0_u64..).zip(descriptors) {
            let exclusive = if *wakes == Wakes::One { libc::EPOLLEXCLUSIVE } else { 0 };
            let mut event = libc::epoll_event { events: (libc::EPOLLIN | exclusive) as u32, u64: place };
            // SAFETY: the pointer is to a live event, and both descriptors are open.
            let result = unsafe {
                let member = member.as_raw_fd();
                libc::epoll_ctl(descriptor.as_raw_fd(), libc::EPOLL_CTL_ADD, member, &raw mut event)
            };
            Error::check("epoll_ctl", result)?;
        }
        Ok(Self { descriptor })
    }

    /// Waits until one of the descriptors has something to read, or an error to report. Sets `ready`, which has a place for
    /// each descriptor, in their order, to true for those that are ready, and to false for the others.
    ///
    /// # Errors
    /// [`Error::interrupted`] if a signal came; then `ready` is as it was.
    pub fn wait(&self, ready: &mut [bool]) -> Result<(), Error> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST_EVENTS];
        // SAFETY: the pointer and the count are those of a live array.
        let count = unsafe {
            let room = MOST_EVENTS as libc::c_int;
            Error::check(
                "epoll_wait",
                libc::epoll_wait(self.descriptor.as_raw_fd(), events.as_mut_ptr(), room, -1),
            )?
        };
        ready.fill(false);
        for event in events.iter().take(usize::try_from(count).unwrap_or(0)) {
            let place = event.u64;
            if let Some(one) = usize::try_from(place).ok().and_then(|place| ready.get_mut(place)) {
                *one = true;
            }
        }
        Ok(())
    }
}

/// Ends the wait of another thread whose set has the waker.
#[derive(Debug)]
pub struct Waker {
    descriptor: OwnedFd,
}

impl Waker {
    /// A waker that is not readable yet.
    ///
    /// # Errors
    /// If no descriptor is left.
    pub fn new() -> Result<Self, Error> {
        // SAFETY: eventfd takes no pointer; nothing else owns the descriptor that it returns.
        let descriptor = unsafe {
            let raw = Error::check("eventfd", libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
            OwnedFd::from_raw_fd(raw)
        };
        Ok(Self { descriptor })
    }

    /// Makes the waker readable, until [`Waker::clear`].
    pub fn wake(&self) {
        ring(self.descriptor.as_raw_fd());
    }

    /// Makes the waker not readable. Check what it signals after this call, not before.
    pub fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: eight octets are read into a live u64. If the read fails, the waker was not readable.
        unsafe { libc::read(self.descriptor.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Adds one to an eventfd. A signal handler may call it.
pub(crate) fn ring(descriptor: libc::c_int) {
    let one = 1_u64;
    // SAFETY: eight octets are read from a live u64; write is async-signal-safe. It can fail only on an eventfd at its
    // maximum, which is readable already.
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
    fn a_set_wakes_one_thread_or_all() {
        let (one, all) = (Waker::new().unwrap(), Waker::new().unwrap());
        let members = || [(all.as_fd(), Wakes::All), (one.as_fd(), Wakes::One)];
        let (sender, done) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..3 {
                let (set, sender) = (WaitSet::new(&members()).unwrap(), sender.clone());
                let one = &one;
                scope.spawn(move || {
                    let mut ready = [false; 2];
                    set.wait(&mut ready).unwrap();
                    if ready[1] {
                        one.clear();
                    }
                    sender.send(ready).unwrap();
                });
            }
            // Gives the threads time to begin their wait.
            thread::sleep(Duration::from_millis(300));
            one.wake();
            assert_eq!(done.recv_timeout(Duration::from_secs(20)).unwrap(), [false, true]);
            assert!(done.recv_timeout(Duration::from_millis(200)).is_err(), "one of three is woken");
            all.wake();
            for _ in 0..2 {
                assert_eq!(done.recv_timeout(Duration::from_secs(20)).unwrap(), [true, false]);
            }
        });
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
