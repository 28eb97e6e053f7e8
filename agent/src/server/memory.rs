//! What one thread of the server remembers while it decides: the table of clients, which all share, and its own source
//! of chance.
use std::net::IpAddr;

use ntp::{Memory, Mono, NtpTimestamp, RateLimit, RateVerdict};

use super::{ClientTable, Departures};

/// What `ntp::respond` is given to ask.
#[derive(Debug)]
pub(super) struct ServerMemory<'a> {
    /// Who asked how much.
    pub(super) clients: &'a ClientTable,
    /// The thread's own.
    pub(super) chance: &'a mut Chance,
    /// When answers left; none where nothing stamps them.
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

/// Cheap random bits, unknown to whoever does not know the seed.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// # Errors
    /// When the kernel has no random number.
    pub(super) fn new() -> Result<Self, sys::Error> {
        sys::random::word().map(Self)
    }

    /// xorshift64 (Marsaglia 2003); never zero, as the seed.
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
