//! Network Time Security in the server's threads: an answer that is to be sealed in, the datagram out and counted. The
//! keys are those that the key server hands over; random octets are drawn here.
use ntp::{
    Answer, Wall,
    key_exchange::KEY_LEN,
    nts::{
        Nonce,
        cookie::KeyId,
        server::{self, Keyring, Outcome},
    },
};
use sys::{
    clock,
    udp::{Received, UdpSocket},
};

use super::{
    WorkerCounters,
    departures::Leaving,
    socket::{send_alone, send_traced},
};
use crate::{auth::SivKey, key_server::CookieKeys};

/// What sealing needs.
#[derive(Debug)]
pub(crate) struct Ring<'a> {
    /// All cookies are sealed with the first of them.
    pub(crate) keys: &'a CookieKeys,
    /// The thread's own.
    pub(crate) nonces: &'a mut Nonces,
}

impl Keyring for Ring<'_> {
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

/// Random octets, fetched from the kernel by the dozen: a call for each nonce would cost more than the sealing.
#[derive(Debug)]
pub(crate) struct Nonces {
    octets: [Nonce; AT_ONCE],
    used: usize,
}

/// 256 octets, which the kernel always gives whole (getrandom(2)).
const AT_ONCE: usize = 16;

impl Nonces {
    /// # Errors
    /// When the kernel has no random number.
    pub(crate) fn new() -> Result<Self, sys::Error> {
        let mut nonces = Self { octets: [[0; 16]; AT_ONCE], used: 0 };
        sys::random::fill(nonces.octets.as_flattened_mut())?;
        Ok(nonces)
    }

    fn draw(&mut self) -> Nonce {
        if self.used == AT_ONCE {
            // It gave some before, so it does now. If it did not, nonces would come again; AES-SIV keeps its secrets all
            // the same (RFC 5297 §1).
            let _ = sys::random::fill(self.octets.as_flattened_mut());
            self.used = 0;
        }
        self.used += 1;
        self.octets[self.used - 1]
    }
}

/// Sends what is due for a request whose header is answered by `answer`.
pub(super) fn answer(
    socket: &UdpSocket,
    (came, datagram): (&Received, &[u8]),
    answer: Answer,
    (ring, leaving): (&mut Ring<'_>, &mut Leaving),
    counters: &WorkerCounters,
) {
    match server::reply(datagram, answer, ring) {
        Outcome::Answer(sealed) => {
            // The clock is read as late as can be; the seal, which covers it, takes a microsecond more.
            let octets = sealed.finish(Wall(clock::realtime_ns()));
            let counted = (counters, WorkerCounters::count_nts_answer as fn(&WorkerCounters));
            send_traced(socket, came, (&octets, answer.traced()), leaving, counted);
        }
        Outcome::Kiss(octets) => send_alone(socket, came, &octets, counters, WorkerCounters::count_nts_kiss),
        Outcome::Drop(reason) => counters.count_drop(reason),
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
