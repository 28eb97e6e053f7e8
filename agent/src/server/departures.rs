//! When answers left, for clients that ask for that in interleaved mode: the answers on their way, and one table for
//! all threads, since a client's next request may come to another thread.
//!
//! The table has no lock. A slot has two numbers that are only used if they belong together. If two threads write a
//! slot at the same time, the numbers belong to neither answer. Then a client gets a basic answer instead of an
//! interleaved one.
use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use ntp::{NtpTimestamp, Wall};
use sys::udp::UdpSocket;

use super::config::MOST_WORKERS;

/// The table, of fixed size. An answer is forgotten when a later one needs its slot.
#[derive(Debug)]
pub(crate) struct Departures(Box<[Slot]>);

#[derive(Debug, Default)]
struct Slot {
    /// The request's time of arrival, as the answer states it, XOR the departure.
    check: AtomicU64,
    /// When the answer left; zero until that is known.
    departure: AtomicU64,
}

/// The number of clients that are remembered, as in chrony by default.
const SLOTS: usize = 4096;

/// Two answers of the same nanosecond are very rare. But if the kernel does not stamp arrivals, all datagrams of one
/// call have the same time.
const TRIES: usize = 64;

impl Departures {
    pub(crate) fn new() -> Self {
        Self((0..SLOTS).map(|_| Slot::default()).collect())
    }

    fn place(&self, arrival: NtpTimestamp) -> &Slot {
        // Fibonacci hashing (Knuth, TAOCP 6.4): the product's high bits depend on all bits of the number.
        let hash = arrival.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.0[(hash as usize) % SLOTS]
    }

    /// Reserves a slot for an answer with the time of arrival `arrival`, or a slightly earlier one if another answer
    /// has that time. Returns the time to use; none if `TRIES` places are taken.
    pub(super) fn expect(&self, arrival: NtpTimestamp) -> Option<NtpTimestamp> {
        // Two units, which are half a nanosecond, since times of arrival are odd.
        let earlier = (0..TRIES as u64).map(|n| NtpTimestamp(arrival.0.wrapping_sub(2 * n)));
        let (arrival, place) =
            earlier.map(|arrival| (arrival, self.place(arrival))).find(|(arrival, place)| {
                place.check.load(Ordering::Relaxed) ^ place.departure.load(Ordering::Relaxed) != arrival.0
            })?;
        place.departure.store(0, Ordering::Relaxed);
        place.check.store(arrival.0, Ordering::Relaxed);
        Some(arrival)
    }

    fn put(&self, arrival: NtpTimestamp, departure: NtpTimestamp) {
        let place = self.place(arrival);
        let waits = place.departure.load(Ordering::Relaxed) == 0;
        if waits && place.check.load(Ordering::Relaxed) == arrival.0 {
            place.departure.store(departure.0, Ordering::Relaxed);
            place.check.store(arrival.0 ^ departure.0, Ordering::Relaxed);
        }
    }

    /// When the answer with the time of arrival `arrival` left. It is then forgotten, so that no departure is used
    /// twice.
    pub(super) fn take(&self, arrival: NtpTimestamp) -> Option<NtpTimestamp> {
        let place = self.place(arrival);
        let departure = place.departure.load(Ordering::Relaxed);
        if departure == 0 || arrival.0 == 0 {
            return None;
        }
        let own = arrival.0 ^ departure;
        let own = place.check.compare_exchange(own, 0, Ordering::Relaxed, Ordering::Relaxed);
        own.is_ok().then_some(NtpTimestamp(departure))
    }
}

/// Answers of one socket whose timestamps have not come yet. All threads that use the socket share it.
#[derive(Debug, Default)]
pub(super) struct InFlightReplies {
    arrivals: Mutex<VecDeque<NtpTimestamp>>,
    /// The number of these answers. While it is zero, no thread takes the lock.
    count: AtomicUsize,
}

/// The largest number of answers that are kept. Timestamps come within microseconds. A device that makes none must not
/// be waited for.
const MOST: usize = 128;

/// Room for the headers of link, IP and UDP, and for the part of an answer with its time of arrival.
const FRAME: usize = 256;

impl InFlightReplies {
    /// Adds an answer with the time of arrival `arrival` that is about to be sent. Call this before the call that sends
    /// it, since another thread may read the timestamp at once.
    pub(super) fn add(&self, arrival: NtpTimestamp) {
        self.change(|arrivals| {
            if arrivals.len() == MOST {
                arrivals.pop_front();
            }
            arrivals.push_back(arrival);
        });
    }

    /// Forgets an answer that was not sent.
    pub(super) fn forget(&self, arrival: NtpTimestamp) {
        self.change(|arrivals| arrivals.retain(|other| *other != arrival));
    }

    /// Reads the timestamps that have come, if there may be any.
    pub(super) fn collect(&self, socket: &UdpSocket, departures: &Departures) {
        // As many as there may be, and then one more call that finds none.
        while self.count.load(Ordering::Acquire) > 0 && self.collect_one(socket, departures) {}
    }

    /// Reads everything in the error queue. Otherwise the kernel would report timestamps of forgotten answers again and
    /// again.
    pub(super) fn collect_all(&self, socket: &UdpSocket, departures: &Departures) {
        while self.collect_one(socket, departures) {}
    }

    fn collect_one(&self, socket: &UdpSocket, departures: &Departures) -> bool {
        let mut frame = [0; FRAME];
        let Ok(stamp) = socket.departure(&mut frame) else { return false };
        let Some(left) = stamp else { return true };
        let frame = &frame[..left.len.min(FRAME)];
        // Recognised by its content, since headers of any length come before it in the frame.
        let says = |arrival: &NtpTimestamp| {
            let octets = arrival.0.to_be_bytes();
            frame.windows(octets.len()).any(|part| part == octets)
        };
        let departure = NtpTimestamp::from_wall(Wall(left.at_ns));
        self.change(|arrivals| {
            let Some(found) = arrivals.iter().position(says) else { return };
            arrivals.remove(found).into_iter().for_each(|arrival| departures.put(arrival, departure));
            // Answers well before it left earlier, and got no timestamp. An answer right before it may belong to a
            // thread that has added it but not sent it yet.
            arrivals.drain(..found.saturating_sub(MOST_WORKERS));
        });
        true
    }

    fn change(&self, change: impl FnOnce(&mut VecDeque<NtpTimestamp>)) {
        // The value is valid at every moment, even after a thread panicked.
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut arrivals);
        self.count.store(arrivals.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn a_departure_is_told_once() {
        let departures = Departures::new();
        let (arrival, departure) = (NtpTimestamp(7 << 32 | 1), NtpTimestamp(8 << 32));
        departures.put(arrival, departure);
        assert_eq!(departures.take(arrival), None, "nobody expected it");
        assert_eq!(departures.expect(arrival), Some(arrival));
        assert_eq!(departures.take(arrival), None, "it has not left yet");
        departures.put(arrival, departure);
        departures.put(arrival, NtpTimestamp(9 << 32));
        for other in
            [NtpTimestamp(9 << 32 | 1), NtpTimestamp(0), departure, NtpTimestamp(arrival.0 ^ departure.0)]
        {
            assert_eq!(departures.take(other), None, "{other:?}");
        }
        assert_eq!(departures.take(arrival), Some(departure));
        assert_eq!(departures.take(arrival), None);
        assert_eq!(departures.take(departure), None);
    }

    #[test]
    fn arrivals_at_one_moment_are_told_apart() {
        let departures = Departures::new();
        let arrival = NtpTimestamp(7 << 32 | 1);
        let said: Vec<_> = (0..40).map(|_| departures.expect(arrival).unwrap()).collect();
        for (n, &arrival) in (1..).zip(&said) {
            departures.put(arrival, NtpTimestamp(n << 32));
        }
        for (n, &one) in (1..).zip(&said) {
            assert!(one.0 & 1 == 1 && arrival.0 - one.0 <= 2 * 64, "{one:?}");
            // No times are mixed up. A few answers may have shared a slot.
            assert!([None, Some(NtpTimestamp(n << 32))].contains(&departures.take(one)), "{n}");
        }
    }

    #[test]
    fn threads_never_mix_two_answers_up() {
        let departures = Departures::new();
        // All have the same slot.
        let one = NtpTimestamp(1 << 40 | 1);
        let arrivals = (1..).map(|n| NtpTimestamp(n << 40 | 1));
        let arrivals = arrivals.filter(|&other| std::ptr::eq(departures.place(one), departures.place(other)));
        let arrivals: Vec<_> = arrivals.take(8).collect();
        let departure =
            |arrival: NtpTimestamp, round: u64| NtpTimestamp((arrival.0 >> 40) << 40 | (round + 1) << 1);
        thread::scope(|scope| {
            for offset in 0..4 {
                let (departures, arrivals) = (&departures, &arrivals);
                scope.spawn(move || {
                    for round in 0..50_000_u64 {
                        let arrival = arrivals[(round + offset) as usize % arrivals.len()];
                        departures.expect(arrival);
                        departures.put(arrival, departure(arrival, round));
                        if let Some(told) = departures.take(arrival) {
                            assert_eq!(told.0 >> 40, arrival.0 >> 40, "{told:?} for {arrival:?}");
                        }
                    }
                });
            }
        });
    }

    /// For example a timestamp that came late: poll would report it again and again.
    #[test]
    fn a_stamp_that_nobody_waits_for_does_not_stay() {
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let sink = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let is_ready = |patience: u64| {
            let patience = Some(Duration::from_millis(patience));
            sys::poll::readable(&[std::os::fd::AsFd::as_fd(&socket)], patience).unwrap()[0]
        };
        socket.send_stamped(None, sink.local_addr().unwrap(), &[7; 48]).unwrap();
        assert!(is_ready(30_000), "no stamp came");
        InFlightReplies::default().collect_all(&socket, &Departures::new());
        assert!(!is_ready(0));
    }

    fn waiting(in_flight: &InFlightReplies) -> Vec<NtpTimestamp> {
        in_flight.arrivals.lock().unwrap().iter().copied().collect()
    }

    #[test]
    fn what_left_is_found_by_its_arrival() {
        let (departures, in_flight) = (Departures::new(), InFlightReplies::default());
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.expect_many(1 << 16).unwrap();
        let to = socket.local_address().unwrap();
        let arrivals = [1, 3, 5].map(|n| NtpTimestamp(0x0123_4567_89ab_cd00 + n));
        assert!(arrivals.iter().all(|&arrival| departures.expect(arrival) == Some(arrival)));
        for (place, arrival) in arrivals.into_iter().enumerate() {
            let mut answer = [0; 48];
            answer[32..40].copy_from_slice(&arrival.0.to_be_bytes());
            in_flight.add(arrival);
            // The second answer gets no timestamp.
            if place == 1 {
                socket.send_from(Some(to.ip()), to, &answer).unwrap();
            } else {
                socket.send_stamped(Some(to.ip()), to, &answer).unwrap();
            }
        }
        for _ in 0..1000 {
            in_flight.collect(&socket, &departures);
            if waiting(&in_flight) == [arrivals[1]] {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(waiting(&in_flight), [arrivals[1]], "not within ten seconds");
        in_flight.forget(arrivals[1]);
        assert_eq!(in_flight.count.load(Ordering::Relaxed), 0);
        let left = arrivals.map(|arrival| departures.take(arrival));
        assert!(left[0].is_some() && left[1].is_none() && left[2].is_some(), "{left:?}");
        let number = |left: Option<NtpTimestamp>| left.map(|left| left.0);
        assert!(number(left[0]) <= number(left[2]), "{left:?}");
        (0..2 * MOST as u64).for_each(|n| in_flight.add(NtpTimestamp(n)));
        assert_eq!(waiting(&in_flight).len(), MOST);
    }
}
