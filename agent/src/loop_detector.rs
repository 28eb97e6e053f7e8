//! Detects timing loops within one agent, whose client must not follow its own server. It knows the ports at which the
//! server answers, and which of the client's requests came to that server. Cookies and answers in; whether an answer is
//! this agent's own out. Decides nothing: the engine decides what such an answer means.
//!
//! A server thread needs one load for each request. A bit of a small table shows that the request may be the agent's
//! own, and only then the thread takes the lock.
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU16, AtomicU64, Ordering},
};

use ntp::{NtpTimestamp, OwnPorts, Reflections};

/// Shared by the engine's thread and the server's threads.
#[derive(Debug)]
pub(crate) struct LoopDetector {
    /// One bit for each request on its way, by its cookie.
    filter: [AtomicU64; WORDS],
    reflections: Mutex<Reflections>,
    /// The ports for IPv4 and IPv6; zero while the server has none.
    ports: [AtomicU16; 2],
}

/// 4096 bits. With ten requests on their way, one request of other clients in 400 takes the lock for nothing.
const WORDS: usize = 64;

/// Octets of a request's transmit timestamp, which is its cookie (RFC 5905 §7.3).
const COOKIE: std::ops::Range<usize> = 40..48;

impl Default for LoopDetector {
    fn default() -> Self {
        Self {
            filter: [const { AtomicU64::new(0) }; WORDS],
            reflections: Mutex::default(),
            ports: Default::default(),
        }
    }
}

impl LoopDetector {
    /// Records the ports at which the server answers from now on.
    pub(crate) fn set_ports(&self, ports: OwnPorts) {
        for (place, port) in self.ports.iter().zip([ports.v4, ports.v6]) {
            place.store(port.unwrap_or(0), Ordering::Release);
        }
    }

    /// The ports at which the server answers.
    pub(crate) fn ports(&self) -> OwnPorts {
        let [v4, v6] = self.ports.each_ref().map(|port| port.load(Ordering::Acquire));
        let open = |port: u16| (port != 0).then_some(port);
        OwnPorts { v4: open(v4), v6: open(v6) }
    }

    /// Records the cookie of a request that the client is about to send.
    pub(crate) fn begin(&self, cookie: NtpTimestamp) {
        self.reflections().begin(cookie);
        let (word, bit) = place(cookie);
        self.filter[word].fetch_or(bit, Ordering::Release);
    }

    /// Forgets a request that has ended.
    pub(crate) fn end(&self, cookie: NtpTimestamp) {
        let mut reflections = self.reflections();
        reflections.end(cookie);
        let (word, _) = place(cookie);
        let others = reflections.cookies().map(place).filter(|(other, _)| *other == word);
        self.filter[word].store(others.fold(0, |bits, (_, bit)| bits | bit), Ordering::Release);
    }

    /// Returns true if this request to the server may be one of the client's own. For most requests it is false.
    pub(crate) fn may_be_own_request(&self, request: &[u8]) -> bool {
        cookie(request).is_some_and(|cookie| {
            let (word, bit) = place(cookie);
            self.filter[word].load(Ordering::Acquire) & bit != 0
        })
    }

    /// Records that the server is about to send `answer` to `request`. Returns false if it must not.
    pub(crate) fn record_reply(&self, request: &[u8], answer: &[u8]) -> bool {
        !self.may_be_own_request(request)
            || cookie(request).is_none_or(|cookie| self.reflections().give(cookie, answer))
    }

    /// Returns true if the server sent `answer`, which came for the client's request with this cookie.
    pub(crate) fn is_own_reply(&self, cookie: NtpTimestamp, answer: &[u8]) -> bool {
        self.reflections().gave(cookie, answer)
    }

    // The value is valid at every moment, even after a thread panicked with the lock held.
    fn reflections(&self) -> MutexGuard<'_, Reflections> {
        self.reflections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cookie(request: &[u8]) -> Option<NtpTimestamp> {
    let octets = request.get(COOKIE)?.try_into().ok()?;
    Some(NtpTimestamp(u64::from_be_bytes(octets)))
}

/// Word and bit for a cookie, all of whose bits are random.
fn place(cookie: NtpTimestamp) -> (usize, u64) {
    ((cookie.0 >> 6) as usize % WORDS, 1 << (cookie.0 % 64))
}

#[cfg(test)]
mod tests {
    use ntp::packet;

    use super::*;

    fn answer(number: u64) -> Vec<u8> {
        let (receive, transmit) = (NtpTimestamp(number), NtpTimestamp(number + 1));
        packet::Header { version: 4, mode: 4, receive, transmit, ..Default::default() }.encode().to_vec()
    }

    #[test]
    fn own_requests_are_told_from_others() {
        let loop_detector = LoopDetector::default();
        let (cookie, neighbour) = (NtpTimestamp(0x1234_5678_9abc_def0), NtpTimestamp(0x1234_5678_9abc_def1));
        let request = packet::client_request(cookie);
        loop_detector.begin(neighbour);
        assert!(
            !loop_detector.may_be_own_request(&request) && loop_detector.record_reply(&request, &answer(7))
        );
        loop_detector.begin(cookie);
        assert!(
            loop_detector.may_be_own_request(&request) && !loop_detector.is_own_reply(cookie, &answer(7))
        );
        assert!(loop_detector.record_reply(&request, &answer(7)));
        assert!(
            loop_detector.is_own_reply(cookie, &answer(7)) && !loop_detector.is_own_reply(cookie, &answer(8))
        );
        assert!(!loop_detector.is_own_reply(neighbour, &answer(7)));
        loop_detector.end(cookie);
        assert!(
            !loop_detector.may_be_own_request(&request)
                && loop_detector.may_be_own_request(&packet::client_request(neighbour))
        );
        for short in [&request[..47], &[]] {
            assert!(!loop_detector.may_be_own_request(short) && loop_detector.record_reply(short, &[]));
        }
    }

    #[test]
    fn of_whoever_shares_a_bit_with_us_nothing_is_remembered() {
        let loop_detector = LoopDetector::default();
        let (cookie, other) = (NtpTimestamp(0x1234_5678_9abc_def0), NtpTimestamp(0xffff_0000_9abc_def0));
        loop_detector.begin(cookie);
        let request = packet::client_request(other);
        assert!(
            loop_detector.may_be_own_request(&request) && loop_detector.record_reply(&request, &answer(7))
        );
        assert!(
            !loop_detector.is_own_reply(other, &answer(7)) && !loop_detector.is_own_reply(cookie, &answer(7))
        );
    }

    #[test]
    fn ports_are_told_by_family() {
        let loop_detector = LoopDetector::default();
        assert_eq!(loop_detector.ports(), OwnPorts::default());
        let ports = OwnPorts { v4: None, v6: Some(123) };
        loop_detector.set_ports(ports);
        assert_eq!(loop_detector.ports(), ports);
    }
}
