//! Interleaved mode (RFC 9769), client side: a server that remembers tells in each answer when its previous one really
//! left, which it could not know while it wrote it. Answers go in; out comes what the next request refers to.
//!
//! It must not cost anything where a server forgets or packets are lost: a sample is then missing each time. So a run
//! of answered requests comes first, and any break ends it.
use crate::{NtpTimestamp, Wall, clock::slew::Change, wire::packet::Header};

/// An exchange that is over; our times in corrected time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Previous {
    /// T1.
    pub(crate) sent: Wall,
    /// T2, as the server wrote it: by this it finds the exchange again.
    pub(crate) arrived: NtpTimestamp,
    /// T4.
    pub(crate) received: Wall,
    /// Its own answer told T3, as well as could be known then, and was measured.
    pub(crate) measured: bool,
}

/// What is remembered from one exchange for the next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Interleave {
    previous: Option<Previous>,
    /// Answers without a break, cut at [`RUN`].
    run: u8,
    /// The last request was not answered yet.
    waiting: bool,
}

/// So many answers in a row come before the first interleaved request.
const RUN: u8 = 8;

impl Interleave {
    /// A request is made. Answers what it is to refer to; none if it is to be a basic one.
    pub(crate) fn begin(&mut self) -> Option<Previous> {
        if std::mem::replace(&mut self.waiting, true) {
            self.run = 0;
        }
        self.previous.take().filter(|_| self.run == RUN)
    }

    /// A good answer came: its exchange is the next request's previous one. `asked` is what the request referred to.
    pub(crate) fn answered(&mut self, asked: Option<Previous>, exchange: Previous) {
        // A server that told the time of the exchange before, and does not for this one, has forgotten us.
        let forgotten = exchange.measured && asked.is_some_and(|before| !before.measured);
        self.run = if forgotten { 0 } else { RUN.min(self.run + 1) };
        self.waiting = false;
        self.previous = Some(exchange);
    }

    /// What was before has nothing to do with what comes: another server, or another time scale.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Follows a change of the clock.
    pub(crate) fn transform(&mut self, change: &Change) {
        if let Some(previous) = &mut self.previous {
            previous.transform(change);
        }
    }
}

impl Previous {
    /// Follows a change of the clock.
    pub(crate) fn transform(&mut self, change: &Change) {
        self.sent = change.moved(self.sent);
        self.received = change.moved(self.received);
    }

    /// The request's header that refers to it.
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

    /// Requests to a server, which interleaves or not and answers or not, as `answers` says. Answers for each whether
    /// the request referred to another.
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
        // A server that never interleaves is harmless, so it is asked again and again.
        assert_eq!(ends(&[Some(false); 3]), [true; 3]);
        assert_eq!(ends(&[Some(true); 3]), [true; 3]);
        // A lost answer, and one of a server that has forgotten.
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
