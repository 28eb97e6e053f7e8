//! This node's pending requests, and the answers of its own server to them. The client's requests and the server's
//! answers go in. The result is whether a reply to the client is one of those answers.
//!
//! So a node recognises itself behind a virtual address, or one that a router or the kernel translates. The reply
//! decides, not the request: an attacker who copies a request to this node's server makes it answer, and must not be
//! able to suppress the reply of the upstream. The upstream's reply has other timestamps.
use crate::{NtpTimestamp, wire::packet};

/// The pending requests.
#[derive(Debug, Default)]
pub struct Reflections {
    open: Vec<Open>,
}

/// A pending request.
#[derive(Debug)]
struct Open {
    cookie: NtpTimestamp,
    /// The receive and transmit timestamps of the answers.
    given: Vec<(NtpTimestamp, NtpTimestamp)>,
}

/// The largest number of answers to one request. A network may duplicate it occasionally. More are repeated on purpose,
/// and get no answer, so that every answer is remembered.
const MOST_ANSWERS: usize = 16;

/// The largest number of pending requests. There are never more, since each upstream has one.
const MOST_REQUESTS: usize = 512;

impl Reflections {
    /// A request with this cookie is about to be sent.
    pub fn begin(&mut self, cookie: NtpTimestamp) {
        if self.open.len() == MOST_REQUESTS {
            self.open.remove(0);
        }
        self.open.push(Open { cookie, given: Vec::new() });
    }

    /// The request with this cookie is over.
    pub fn end(&mut self, cookie: NtpTimestamp) {
        self.open.retain(|open| open.cookie != cookie);
    }

    /// The cookies of all pending requests.
    pub fn cookies(&self) -> impl Iterator<Item = NtpTimestamp> {
        self.open.iter().map(|open| open.cookie)
    }

    /// The server is about to send `answer` to a request with this cookie. Returns false if it must not.
    pub fn give(&mut self, cookie: NtpTimestamp, answer: &[u8]) -> bool {
        let Some(open) = self.open.iter_mut().find(|open| open.cookie == cookie) else { return true };
        let Some(times) = times(answer).filter(|_| open.given.len() < MOST_ANSWERS) else { return false };
        open.given.push(times);
        true
    }

    /// Returns true if `datagram`, which arrived for the request with this cookie, is an answer of this node's own
    /// server.
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
        // The network duplicated it.
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
