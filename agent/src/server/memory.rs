//! What one thread of the server uses to decide: the table of clients, which all threads share, and its own random
//! bits.
use std::net::IpAddr;

use fastrand::Rng;
use ntp::{Memory, Mono, NtpTimestamp, RateLimit, RateVerdict};

use super::{clients::ClientTable, departures::Departures};

/// The state that `ntp::respond` uses.
#[derive(Debug)]
pub(super) struct ServerMemory<'a> {
    /// How much each client asked.
    pub(super) clients: &'a ClientTable,
    /// The thread's own random bits.
    pub(super) chance: &'a mut FastRandom,
    /// When answers left; none if there are no timestamps of that.
    pub(super) departures: Option<&'a Departures>,
}

impl Memory for ServerMemory<'_> {
    fn judge(&mut self, address: IpAddr, now: Mono, limit: &RateLimit) -> RateVerdict {
        self.clients.judge(address, self.chance.draw(), now, limit)
    }

    fn departure(&mut self, arrival: NtpTimestamp) -> Option<NtpTimestamp> {
        self.departures.and_then(|departures| departures.take(arrival))
    }

    fn expect(&mut self, arrival: NtpTimestamp) -> Option<NtpTimestamp> {
        self.departures.and_then(|departures| departures.expect(arrival))
    }
}

/// Cheap random bits, which cannot be guessed without the seed.
#[derive(Debug)]
pub(super) struct FastRandom(Rng);

impl FastRandom {
    /// # Errors
    /// If the kernel has no random number.
    pub(super) fn new() -> Result<Self, sys::Error> {
        sys::random::word().map(|seed| Self(Rng::with_seed(seed)))
    }

    fn draw(&mut self) -> u64 {
        self.0.u64(..)
    }
}
