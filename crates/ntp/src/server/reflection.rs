//! This node's own requests that are on their way, and the answers that its own server gave to them. The client's
//! requests and the server's answers go in; whether an answer that came back to the client is one of those comes out.
//!
//! So a node knows itself behind a virtual address, or one that a router or the kernel translates. The answer is what
//! counts: whoever copies a request of ours to our server makes it give an answer, and must not silence the server that
//! was asked. That one's own answer has other times in it.
use crate::{NtpTimestamp, wire::packet};

/// What is on its way.
#[derive(Debug, Default)]
pub struct Reflections {
    open: Vec<Open>,
}

/// One request.
#[derive(Debug)]
struct Open {
    cookie: NtpTimestamp,
    /// Times of arrival and departure, as the answers say them.
    given: Vec<(NtpTimestamp, NtpTimestamp)>,
}

/// Answers that are given to one request: a network may double it now and then. Beyond that it is repeated on purpose,
/// and gets no answer, so that none is given that is not remembered.
const MOST_ANSWERS: usize = 16;

/// Requests that are remembered. More are never on their way: each upstream has one.
const MOST_REQUESTS: usize = 512;

impl Reflections {
    /// A request with this cookie is about to leave.
    pub fn begin(&mut self, cookie: NtpTimestamp) {
        if self.open.len() == MOST_REQUESTS {
            self.open.remove(0);
        }
        self.open.push(Open { cookie, given: Vec::new() });
    }

    /// It is over.
    pub fn end(&mut self, cookie: NtpTimestamp) {
        self.open.retain(|open| open.cookie != cookie);
    }

    /// The cookies of all requests that are on their way.
    pub fn cookies(&self) -> impl Iterator<Item = NtpTimestamp> {
        self.open.iter().map(|open| open.cookie)
    }

    /// The server is about to give `answer` to a request with this cookie. Returns false if it must not.
    pub fn give(&mut self, cookie: NtpTimestamp, answer: &[u8]) -> bool {
        let Some(open) = self.open.iter_mut().find(|open| open.cookie == cookie) else { return true };
        let Some(times) = times(answer).filter(|_| open.given.len() < MOST_ANSWERS) else { return false };
        open.given.push(times);
        true
    }

    /// Returns true if `datagram`, which came for the request with this cookie, is an answer that this node's server
    /// gave to it.
    pub fn gave(&self, cookie: NtpTimestamp, datagram: &[u8]) -> bool {
        let open = self.open.iter().find(|open| open.cookie == cookie);
        open.zip(times(datagram)).is_some_and(|(open, times)| open.given.contains(&times))
    }
}

fn times(datagram: &[u8]) -> Option<(NtpTimestamp, NtpTimestamp)> {
    packet::decode(datagram).ok().map(|header| (header.receive, header.transmit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::Header;

    const COOKIE: NtpTimestamp = NtpTimestamp(0x0123_4567_89ab_cdef);

    fn answer(receive: u64, transmit: u64) -> Vec<u8> {
        let (receive, transmit) = (NtpTimestamp(receive), NtpTimestamp(transmit));
        Header { mode: 4, version: 4, receive, transmit, ..Header::default() }.encode().to_vec()
    }

    #[test]
    fn an_answer_is_known_by_both_its_times() {
        let mut reflections = Reflections::default();
        assert!(reflections.give(COOKIE, &answer(5, 6)), "a stranger's request");
        reflections.begin(COOKIE);
        assert!(!reflections.gave(COOKIE, &answer(5, 6)));
        // The network doubled it.
        assert!(reflections.give(COOKIE, &answer(5, 6)) && reflections.give(COOKIE, &answer(7, 8)));
        let check = |cookie, octets: &[u8], expected| {
            assert_eq!(reflections.gave(cookie, octets), expected, "{octets:?}");
        };
        check(COOKIE, &answer(5, 6), true);
        check(COOKIE, &answer(7, 8), true);
        check(COOKIE, &[answer(5, 6), vec![0; 20]].concat(), true);
        for other in [answer(5, 8), answer(7, 6), answer(1, 2), answer(5, 6)[..47].to_vec(), Vec::new()] {
            check(COOKIE, &other, false);
        }
        check(NtpTimestamp(COOKIE.0 + 1), &answer(5, 6), false);
        reflections.end(COOKIE);
        assert!(!reflections.gave(COOKIE, &answer(5, 6)) && reflections.cookies().next().is_none());
    }

    #[test]
    fn no_answer_is_given_that_is_not_remembered_and_memory_is_bounded() {
        let mut reflections = Reflections::default();
        reflections.begin(COOKIE);
        let given = (0..1000).filter(|number| reflections.give(COOKIE, &answer(*number, *number))).count();
        assert_eq!(given, MOST_ANSWERS);
        assert!(!reflections.give(COOKIE, &[0; 12]));
        (0..10_000).for_each(|number| reflections.begin(NtpTimestamp(number)));
        assert_eq!(reflections.cookies().count(), MOST_REQUESTS);
    }
}
