//! Network Time Security in the server's threads: an answer to be sealed in; the datagram, sent and counted, out. The
//! key server provides the keys. Random octets are drawn here.
use ntp::{
    DropReason, UnstampedReply, Wall,
    key_exchange::KEY_LEN,
    nts::{
        Nonce,
        cookie::KeyId,
        server::{self, Keyring, Outcome, Sealed},
    },
};
use sys::{
    clock,
    udp::{Outbox, Received, UdpSocket},
};

use super::{
    counters::WorkerCounters,
    pace::Pace,
    port::Port,
    socket::{send_alone, send_traced},
};
use crate::{auth::SivKey, cookie_keys::CookieKeys, loop_detector::LoopDetector};

/// What sealing needs.
#[derive(Debug)]
pub(crate) struct CookieKeyring<'a> {
    /// The first of them seals all cookies.
    pub(crate) keys: &'a CookieKeys,
    /// The thread's own.
    pub(crate) nonces: &'a mut Nonces,
}

impl Keyring for CookieKeyring<'_> {
    type Key = SivKey;

    fn current(&self) -> (KeyId, &SivKey) {
        self.keys.current()
    }

    fn find(&self, id: KeyId) -> Option<&SivKey> {
        self.keys.find(id)
    }

    fn session(&self, key: &[u8; KEY_LEN]) -> SivKey {
        SivKey::new(*key)
    }

    fn nonce(&mut self) -> Nonce {
        self.nonces.draw()
    }
}

/// Random octets, fetched from the kernel in blocks: a call for each nonce would cost more than the sealing.
#[derive(Debug)]
pub(crate) struct Nonces {
    octets: [Nonce; AT_ONCE],
    used: usize,
}

/// 256 octets, which the kernel always returns in one call (getrandom(2)).
const AT_ONCE: usize = 16;

impl Nonces {
    /// # Errors
    /// If the kernel has no random number.
    pub(crate) fn new() -> Result<Self, sys::Error> {
        let mut nonces = Self { octets: [[0; 16]; AT_ONCE], used: 0 };
        sys::random::fill(nonces.octets.as_flattened_mut())?;
        Ok(nonces)
    }

    fn draw(&mut self) -> Nonce {
        if self.used == AT_ONCE {
            // The call has succeeded before, so it does now. If it failed, nonces would repeat; AES-SIV keeps its
            // secrets even then (RFC 5297 §1).
            let _ = sys::random::fill(self.octets.as_flattened_mut());
            self.used = 0;
        }
        self.used += 1;
        self.octets[self.used - 1]
    }
}

/// Sealed replies that are sent together.
#[derive(Debug)]
pub(super) struct SealedReplies {
    nonces: Nonces,
    /// Never more than [`BATCH`].
    waiting: Vec<(Received, Sealed)>,
    outbox: Outbox<LONGEST>,
    /// How fast replies are sealed, and how fast they leave.
    paces: [Pace; 2],
}

/// All of them are sealed before the first one leaves, which takes about ten microseconds.
const BATCH: usize = 16;

/// Octets: room for eight cookies and a long unique identifier. A longer reply is sent alone.
const LONGEST: usize = 1024;

impl SealedReplies {
    /// # Errors
    /// If the kernel has no random number.
    pub(super) fn new() -> Result<Self, sys::Error> {
        Ok(Self {
            nonces: Nonces::new()?,
            waiting: Vec::with_capacity(BATCH),
            outbox: Outbox::new(BATCH),
            paces: Default::default(),
        })
    }

    /// Takes a request, and the `answer` to its header. The reply leaves with the next [`SealedReplies::send`], or
    /// before.
    pub(super) fn put(
        &mut self,
        (Port { socket, in_flight, address: _ }, loop_detector): (&Port, &LoopDetector),
        (came, datagram): (Received, &[u8]),
        answer: UnstampedReply,
        keys: &CookieKeys,
        counters: &WorkerCounters,
    ) {
        let mut ring = CookieKeyring { keys, nonces: &mut self.nonces };
        match server::reply(datagram, answer, &mut ring) {
            Outcome::Answer(sealed)
                if answer.traced().is_some() || loop_detector.may_be_own_request(datagram) =>
            {
                let octets = sealed.finish(Wall(clock::realtime_ns()), &ring);
                if !loop_detector.record_reply(datagram, &octets) {
                    return counters.count_drop(DropReason::RateLimited);
                }
                let counted = (counters, WorkerCounters::count_nts_answer as fn(&WorkerCounters));
                send_traced(socket, &came, (&octets, answer.traced()), in_flight, counted);
            }
            Outcome::Answer(sealed) => self.waiting.push((came, sealed)),
            Outcome::Kiss(octets) => {
                send_alone(socket, &came, &octets, counters, WorkerCounters::count_nts_kiss)
            }
            Outcome::Drop(reason) => counters.count_drop(reason),
        }
        if self.waiting.len() == BATCH {
            self.send(socket, keys, counters);
        }
    }

    /// Sends the waiting replies.
    pub(super) fn send(&mut self, socket: &UdpSocket, keys: &CookieKeys, counters: &WorkerCounters) {
        let Self { nonces, waiting, outbox, paces: [seal_pace, send_pace] } = self;
        let count = waiting.len();
        if count == 0 {
            return;
        }
        let ring = CookieKeyring { keys, nonces };
        let begun = clock::realtime_ns();
        for (place, (came, sealed)) in waiting.drain(..).enumerate() {
            // The seal covers the time, so the time is set first.
            let octets = sealed.finish(Wall(begun + seal_pace.until(count) + send_pace.until(place)), &ring);
            if !outbox.push_short(came.local, came.from, &octets) {
                send_alone(socket, &came, &octets, counters, WorkerCounters::count_nts_answer);
            }
        }
        let sealed = clock::realtime_ns();
        let mut left = outbox.len();
        outbox.send(socket, |_| {
            left -= 1;
            counters.count_send_failure();
        });
        (0..left).for_each(|_| counters.count_nts_answer());
        seal_pace.learn(count, sealed - begun);
        send_pace.learn(count, clock::realtime_ns() - sealed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_nonce_comes_twice() {
        let mut nonces = Nonces::new().unwrap();
        let drawn: BTreeSet<_> = (0..5 * AT_ONCE).map(|_| nonces.draw()).collect();
        assert_eq!(drawn.len(), 5 * AT_ONCE);
    }
}
