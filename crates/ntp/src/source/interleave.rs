//! Interleaved mode (RFC 9769), client side. In each reply the server sends the exact transmit time of its previous
//! reply, which it did not know yet when it wrote that reply. Replies go in; the exchange to which the next request
//! refers comes out.
//!
//! If a server forgets or packets are lost, interleaved mode loses samples. So it begins only after a run of answered
//! requests, and any unanswered request ends it.
use crate::{NtpTimestamp, Wall, clock::slew::Change, wire::packet::Header};

/// A finished exchange. This node's times are in corrected time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Previous {
    /// T1.
    pub(crate) sent: Wall,
    /// T2, as the server wrote it. The server finds the exchange by it.
    pub(crate) arrived: NtpTimestamp,
    /// T4.
    pub(crate) received: Wall,
    /// True if its own reply had a T3, as exact as it was known then, and gave a sample.
    pub(crate) measured: bool,
}

/// The state of interleaved mode between exchanges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Interleave {
    previous: Option<Previous>,
    /// Consecutive answered requests, at most [`RUN`].
    run: u8,
    /// True if the last request is not answered yet.
    waiting: bool,
}

/// The number of consecutive replies before the first interleaved request.
const RUN: u8 = 8;

impl Interleave {
    /// A request is made. Returns the exchange to which it refers; `None` if it must be a basic request.
    pub(crate) fn begin(&mut self) -> Option<Previous> {
        if std::mem::replace(&mut self.waiting, true) {
            self.run = 0;
        }
        self.previous.take().filter(|_| self.run == RUN)
    }

    /// A valid reply arrived. The next request refers to its exchange. `asked` is the exchange to which this request
    /// referred.
    pub(crate) fn answered(&mut self, asked: Option<Previous>, exchange: Previous) {
        // The server answered the request before this one in interleaved mode, and this one in basic mode: it has
        // forgotten this client.
        let forgotten = exchange.measured && asked.is_some_and(|before| !before.measured);
        self.run = if forgotten { 0 } else { RUN.min(self.run + 1) };
        self.waiting = false;
        self.previous = Some(exchange);
    }

    /// Drops the previous exchange: the next one is with another server, or on another time scale.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Converts its times after a change of the clock.
    pub(crate) fn transform(&mut self, change: &Change) {
        if let Some(previous) = &mut self.previous {
            previous.transform(change);
        }
    }
}

impl Previous {
    /// Converts its times after a change of the clock.
    pub(crate) fn transform(&mut self, change: &Change) {
        self.sent = change.moved(self.sent);
        self.received = change.moved(self.received);
    }

    /// The header of a request that refers to this exchange.
    pub(crate) fn refer(&self, header: Header) -> Header {
        Header { origin: self.arrived, ..header }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(number: i64, measured: bool) -> Previous {
        let at = Wall(number * 16_000_000_000);
        Previous { sent: at, arrived: NtpTimestamp(number as u64), received: at + 1e-3, measured }
    }

    /// Sends requests to a server. `answers` tells for each whether the reply is interleaved; `None` is no reply.
    /// Returns for each whether the request referred to another exchange.
    fn refers(answers: &[Option<bool>]) -> Vec<bool> {
        let mut interleave = Interleave::default();
        let mut requests = Vec::new();
        for (number, answer) in (1..).zip(answers) {
            let asked = interleave.begin();
            assert!(asked.is_none_or(|asked| asked.arrived.0 + 1 == number as u64), "{asked:?}");
            requests.push(asked.is_some());
            if let Some(interleaves) = answer {
                interleave.answered(asked, exchange(number, asked.is_none() || !interleaves));
            }
        }
        requests
    }

    #[test]
    fn a_run_of_answers_comes_before_and_a_break_ends_it() {
        let basic = [Some(false); 8];
        let ends = |answers: &[Option<bool>]| refers(&[&basic, answers].concat()).split_off(8);
        assert_eq!(refers(&basic), [false; 8]);
        // A server that never interleaves costs nothing, so interleaved requests continue.
        assert_eq!(ends(&[Some(false); 3]), [true; 3]);
        assert_eq!(ends(&[Some(true); 3]), [true; 3]);
        // A lost reply, and a reply of a server that has forgotten this client.
        for broken in [None, Some(false)] {
            let after = ends(&[&[Some(true), broken][..], &[Some(true); 9]].concat());
            assert_eq!(after, [&[true; 2][..], &[false; 8], &[true]].concat(), "{broken:?}");
        }
    }

    #[test]
    fn nothing_is_left_of_another_server() {
        let mut interleave = Interleave::default();
        for number in 0..9 {
            let asked = interleave.begin();
            interleave.answered(asked, exchange(number, true));
        }
        interleave.forget();
        assert_eq!(interleave.begin(), None);
    }
}
