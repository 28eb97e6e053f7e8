//! When answers left, for clients that ask so in interleaved mode: what is on its way, and one table for all threads, for
//! a client's next request may come to another one.
//!
//! No lock: a place holds two numbers, of which the first is zero while the second is written. Two threads that write
//! one place at once may pair them wrongly; this takes two answers of one place within nanoseconds, and costs one client
//! one sample that its own tests refuse, as it lies far off.
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use ntp::{NtpTimestamp, Wall};
use sys::udp::UdpSocket;

/// The table. Its size never changes; an answer is forgotten when a later one needs its place.
#[derive(Debug)]
pub(crate) struct Departures(Box<[Place]>);

#[derive(Debug, Default)]
struct Place {
    /// When the request came, as its answer says; zero for none.
    arrival: AtomicU64,
    departure: AtomicU64,
}

/// Clients that are remembered, as many as chrony's default.
const PLACES: usize = 4096;

impl Departures {
    pub(crate) fn new() -> Self {
        Self((0..PLACES).map(|_| Place::default()).collect())
    }

    fn place(&self, arrival: NtpTimestamp) -> &Place {
        // Fibonacci hashing (Knuth, TAOCP 6.4): the product's high bits depend on all of the number's.
        let hash = arrival.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.0[(hash as usize) % PLACES]
    }

    fn put(&self, arrival: NtpTimestamp, departure: NtpTimestamp) {
        let place = self.place(arrival);
        place.arrival.store(0, Ordering::Release);
        place.departure.store(departure.0, Ordering::Release);
        place.arrival.store(arrival.0, Ordering::Release);
    }

    /// When the answer left that said `arrival`; forgotten then, so that no time is told twice.
    pub(super) fn take(&self, arrival: NtpTimestamp) -> Option<NtpTimestamp> {
        let place = self.place(arrival);
        if arrival.0 == 0 || place.arrival.load(Ordering::Acquire) != arrival.0 {
            return None;
        }
        let departure = place.departure.load(Ordering::Acquire);
        let own = place.arrival.compare_exchange(arrival.0, 0, Ordering::AcqRel, Ordering::Acquire);
        own.is_ok().then_some(NtpTimestamp(departure))
    }
}

/// Answers of one socket whose stamps are still to come.
#[derive(Debug, Default)]
pub(super) struct Leaving(VecDeque<NtpTimestamp>);

/// Stamps come within microseconds. What is never stamped, by a device that cannot, must not be waited for.
const MOST: usize = 128;

/// Room for the headers of link, IP and UDP, and for that part of an answer that holds its time of arrival.
const FRAME: usize = 256;

impl Leaving {
    /// An answer that says `arrival` was handed to the kernel.
    pub(super) fn add(&mut self, arrival: NtpTimestamp) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(arrival);
    }

    /// Takes the stamps that are there.
    pub(super) fn collect(&mut self, socket: &UdpSocket, departures: &Departures) {
        let mut frame = [0; FRAME];
        // As many as may be there, and then one more that finds nothing.
        while !self.0.is_empty() {
            let Ok(stamp) = socket.departure(&mut frame) else { return };
            let Some(left) = stamp else { continue };
            let frame = &frame[..left.len.min(FRAME)];
            // By its content: a frame has headers of any length before it.
            let says = |arrival: &NtpTimestamp| {
                let octets = arrival.0.to_be_bytes();
                frame.windows(octets.len()).any(|part| part == octets)
            };
            if let Some(found) = self.0.iter().position(says) {
                // Those before it left earlier, and were not stamped.
                self.0.drain(..found);
                let arrival = self.0.pop_front();
                let departure = NtpTimestamp::from_wall(Wall(left.at_ns));
                arrival.into_iter().for_each(|arrival| departures.put(arrival, departure));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn a_departure_is_told_once() {
        let departures = Departures::new();
        let (arrival, departure) = (NtpTimestamp(7 << 32), NtpTimestamp(8 << 32));
        assert_eq!(departures.take(arrival), None);
        departures.put(arrival, departure);
        assert_eq!(departures.take(NtpTimestamp(9 << 32)), None);
        assert_eq!(departures.take(arrival), Some(departure));
        assert_eq!(departures.take(arrival), None);
        assert_eq!(departures.take(NtpTimestamp(0)), None);
    }

    #[test]
    fn what_left_is_found_by_its_arrival() {
        let (departures, mut leaving) = (Departures::new(), Leaving::default());
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.expect_many(1 << 16).unwrap();
        let to = socket.local_address().unwrap();
        let arrivals = [1, 2, 3].map(|n| NtpTimestamp(0x0123_4567_89ab_cd00 + n));
        for (place, arrival) in arrivals.into_iter().enumerate() {
            let mut answer = [0; 48];
            answer[32..40].copy_from_slice(&arrival.0.to_be_bytes());
            leaving.add(arrival);
            // The second is never stamped.
            if place == 1 {
                socket.send_from(Some(to.ip()), to, &answer).unwrap();
            } else {
                socket.send_stamped(Some(to.ip()), to, &answer).unwrap();
            }
        }
        for _ in 0..1000 {
            leaving.collect(&socket, &departures);
            if leaving.0.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(leaving.0.is_empty(), "not within ten seconds");
        let left = arrivals.map(|arrival| departures.take(arrival));
        assert!(left[0].is_some() && left[1].is_none() && left[2].is_some(), "{left:?}");
        let number = |left: Option<NtpTimestamp>| left.map(|left| left.0);
        assert!(number(left[0]) <= number(left[2]), "{left:?}");
        (0..2 * MOST as u64).for_each(|n| leaving.add(NtpTimestamp(n)));
        assert_eq!(leaving.0.len(), MOST);
    }
}
