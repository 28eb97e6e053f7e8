//! The pending request of a source: its time of departure, as exact as it is known, and the values with which its reply
//! is measured.
use std::net::IpAddr;

use crate::{
    Mono, NtpTimestamp, RequestId, Wall,
    clock::slew::Change,
    source::{interleave::Previous, reply::Exchange},
};

/// A pending request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    /// When the wait for the reply ends.
    pub(crate) deadline: Mono,
    departure: Option<Departure>,
    /// The exchange to which it refers, if it is interleaved.
    previous: Option<Previous>,
}

/// The departure as the caller reported it, in corrected time.
#[derive(Clone, Copy, Debug)]
struct Departure {
    cookie: NtpTimestamp,
    /// The time that was read immediately before sending.
    sent: Wall,
    /// The kernel's timestamp.
    stamped: Option<Wall>,
}

impl Request {
    pub(crate) fn new(id: RequestId, deadline: Mono, previous: Option<Previous>) -> Self {
        Self { id, deadline, departure: None, previous }
    }

    /// It was sent at corrected time `at`.
    pub(crate) fn left(&mut self, cookie: NtpTimestamp, at: Wall) {
        self.departure = Some(Departure { cookie, sent: at, stamped: None });
    }

    /// The kernel reports that it left at corrected time `at`.
    pub(crate) fn stamped(&mut self, at: Wall) {
        if let Some(departure) = &mut self.departure {
            departure.stamped = Some(at);
        }
    }

    /// The exchange of this request and a datagram that arrived at `local` at corrected time `received`. None if the
    /// request is not known to have left. A kernel timestamp that is not between the two times read by the program is a
    /// fault of a network device, and is not used.
    pub(crate) fn exchange(&self, received: Wall, local: Option<IpAddr>) -> Option<Exchange> {
        let Departure { cookie, sent, stamped } = self.departure?;
        let sent = stamped.filter(|at| (sent..=received).contains(at)).unwrap_or(sent);
        Some(Exchange { cookie, sent, received, local, previous: self.previous })
    }

    /// Converts its times after a change of the clock.
    pub(crate) fn transform(&mut self, change: &Change) {
        if let Some(Departure { cookie: _, sent, stamped }) = &mut self.departure {
            for at in [Some(sent), stamped.as_mut()].into_iter().flatten() {
                *at = change.moved(*at);
            }
        }
        if let Some(previous) = &mut self.previous {
            previous.transform(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Wall = Wall(1_800_000_000_000_000_000);

    fn departed(stamp: Option<f64>) -> Option<f64> {
        let mut request = Request::new(RequestId(7), Mono(0), None);
        request.stamped(SENT + 1e-6);
        assert!(request.exchange(SENT, None).is_none(), "a stamp alone was taken for a departure");
        request.left(NtpTimestamp(1), SENT);
        if let Some(stamp) = stamp {
            request.stamped(SENT + stamp);
        }
        request.exchange(SENT + 1e-3, None).map(|exchange| exchange.sent - SENT)
    }

    #[test]
    fn the_kernels_stamp_is_used_if_it_can_be_true() {
        assert_eq!(departed(None), Some(0.0));
        assert_eq!(departed(Some(20e-6)), Some(20e-6));
        assert_eq!(departed(Some(1e-3)), Some(1e-3));
        for impossible in [-1e-9, 1.001e-3, 37.0, -1e9] {
            assert_eq!(departed(Some(impossible)), Some(0.0));
        }
    }

    #[test]
    fn all_times_follow_the_clock() {
        let before = SENT + -16.0;
        let previous = Previous { sent: before, arrived: NtpTimestamp(5), received: before, measured: true };
        let mut request = Request::new(RequestId(7), Mono(0), Some(previous));
        request.left(NtpTimestamp(1), SENT);
        request.stamped(SENT + 20e-6);
        request.transform(&Change { at: SENT + 0.5, frequency: 0.0, offset: 2.0 });
        let exchange = request.exchange(SENT + -1.999, None).expect("it has left");
        assert!((exchange.sent - SENT + 1.99998).abs() < 2e-9, "{exchange:?}");
        let exchange = request.exchange(SENT + 1.0, None).expect("it has left");
        assert!((exchange.sent - SENT + 1.99998).abs() < 2e-9, "{exchange:?}");
        let moved = Previous { sent: before + -2.0, received: before + -2.0, ..previous };
        assert_eq!(exchange.previous, Some(moved));
    }
}
