//! The rate limit of time requests: a token bucket per address, with a leak, in sets of fixed size.
//!
//! The address of a request as a number, the time, and random bits go in; the verdict on the request comes out. A set
//! has no lock and makes no random numbers. The program shares a table of sets among its threads.
//!
//! The leak (as in chrony): a random part of the excess is answered, so that an attacker who forges a client's address
//! cannot cut that client off from the server.
use crate::Mono;

/// The limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// A token is added every 2^interval seconds; -6 to 12.
    pub interval: i8,
    /// The capacity of a bucket, tokens; 1 to 255.
    pub burst: u8,
    /// One in 2^leak of the excess is answered; 1 to 4.
    pub leak: u8,
}

/// The verdict on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateVerdict {
    /// Answer it.
    Pass,
    /// The limit is exceeded. This request may be answered with a kiss.
    Kiss,
    /// The limit is exceeded. Do not answer.
    Drop,
}

/// One in 2^this of the excess may get a kiss.
const KISS_SHARE: u8 = 2;

/// The result for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict on the request.
    pub verdict: RateVerdict,
    /// True if the request took a free entry.
    pub fills: bool,
}

/// The buckets of the few addresses that fall into one set of a table. The program has the table, chooses the set, and
/// ensures that only one thread uses it at a time.
///
/// A set has 116 octets, so with a lock it fits into two cache lines.
#[derive(Clone, Debug, Default)]
pub struct RateSet {
    /// Numbers of the addresses; 0 for a free entry.
    clients: [u32; RateSet::WAYS],
    /// The time of the last request of each, in ticks.
    last: [u32; RateSet::WAYS],
    /// The time that each bucket needed, at the last request, until it is full, in ticks. A token is the ticks in which
    /// it is added.
    lacks: [u32; RateSet::WAYS],
    rates: [Rates; RateSet::WAYS],
    /// A bit for each: set if the last request was answered.
    answered: u8,
}

/// A tick is 2^-8 s, so that the shortest interval, 2^-6 s, is a whole number of them; 2^32 are 194 days.
const TICKS_LOG2: i8 = 8;

const NANOS_PER_TICK: i64 = 1_000_000_000 >> TICKS_LOG2;

/// Threads read the clock and then wait for each other, so requests may arrive out of order by at most this, ticks.
const SLACK: u32 = 60 << TICKS_LOG2;

/// Smoothed log2 of requests per second, in eighths: after an answer, and after no answer.
#[derive(Clone, Copy, Debug)]
struct Rates {
    answered: i8,
    silent: i8,
}

/// No rate was measured yet. Lower than every rate.
const NO_RATE: i8 = i8::MIN;

impl Default for Rates {
    fn default() -> Self {
        Self { answered: NO_RATE, silent: NO_RATE }
    }
}

impl RateSet {
    /// The number of addresses in a set. A new address replaces the one that was silent the longest.
    pub const WAYS: usize = 8;

    /// Counts a request from `client` at `now`, and judges it.
    ///
    /// `client` identifies an address: bits of a keyed hash, other than those that chose the set. `chance` are random
    /// bits that an attacker cannot guess. An unknown client begins with a full bucket.
    pub fn judge(&mut self, client: u32, chance: u64, now: Mono, limit: &RateLimit) -> Judgement {
        let client = client.max(1);
        let now = now.0.div_euclid(NANOS_PER_TICK) as u32;
        let (place, known, fills) = match self.clients.iter().position(|&each| each == client) {
            Some(place) => (place, true, false),
            None => {
                let place = self.oldest(now);
                (place, false, self.clients[place] == 0)
            }
        };
        if known {
            self.advance(place, now);
        } else {
            self.clients[place] = client;
            self.last[place] = now;
            self.lacks[place] = 0;
            self.rates[place] = Rates::default();
        }
        let verdict = self.verdict(place, chance, limit);
        let bit = 1 << place;
        self.answered = if verdict == RateVerdict::Pass { self.answered | bit } else { self.answered & !bit };
        Judgement { verdict, fills }
    }

    /// A free entry, or the entry of the client that was silent the longest.
    fn oldest(&self, now: u32) -> usize {
        let age = |&place: &usize| match self.clients[place] {
            0 => u32::MAX,
            _ => elapsed(self.last[place], now),
        };
        (0..Self::WAYS).max_by_key(age).unwrap_or(0)
    }

    /// Advances the bucket of one client to `now`.
    fn advance(&mut self, place: usize, now: u32) {
        let gap = elapsed(self.last[place], now);
        self.last[place] = self.last[place].wrapping_add(gap);
        self.lacks[place] = self.lacks[place].saturating_sub(gap);
        let rates = &mut self.rates[place];
        let answered = self.answered >> place & 1 == 1;
        let smoothed = if answered { &mut rates.answered } else { &mut rates.silent };
        let rate = rate(gap);
        *smoothed = if *smoothed == NO_RATE { rate } else { nearer(*smoothed, rate) };
    }

    fn verdict(&mut self, place: usize, chance: u64, limit: &RateLimit) -> RateVerdict {
        let token = 1_u32 << (limit.interval.clamp(-6, 12) + TICKS_LOG2);
        let bucket = token * u32::from(limit.burst.max(1));
        // More than a whole bucket can only be missing if the limit was changed.
        let lacks = self.lacks[place].min(bucket);
        if lacks + token <= bucket {
            self.lacks[place] = lacks + token;
            return RateVerdict::Pass;
        }
        self.lacks[place] = lacks;
        // The leak and the kiss use different random bits, so they are independent.
        let leaks = chance >> 32 & ((1 << limit.leak.min(16)) - 1) == 0;
        // A client that asks at least twice as often without an answer would send even more requests. Answer most of
        // them.
        let Rates { answered, silent } = self.rates[place];
        let louder_in_silence = answered != NO_RATE && i16::from(silent) > i16::from(answered) + 8;
        if leaks != louder_in_silence {
            return RateVerdict::Pass;
        }
        if chance >> 56 & ((1 << KISS_SHARE) - 1) == 0 { RateVerdict::Kiss } else { RateVerdict::Drop }
    }
}

/// Ticks from `last` to `now`. Zero if `now` is slightly earlier.
fn elapsed(last: u32, now: u32) -> u32 {
    let ticks = now.wrapping_sub(last);
    if ticks > u32::MAX - SLACK { 0 } else { ticks }
}

/// log2 of requests per second in eighths, for a gap in ticks; from 16 per second to one in 4096 s.
fn rate(gap: u32) -> i8 {
    let gap = gap.clamp(1 << (TICKS_LOG2 - 4), 1 << (TICKS_LOG2 + 12));
    let whole = gap.ilog2();
    // The three bits after the first approximate the fraction of the logarithm, with an error of at most 0.1.
    let eighths = (whole * 8 + (gap << 3 >> whole & 7)) as i16;
    // The result is from 8 * (8 - 20) to 8 * (8 - 4).
    (i16::from(TICKS_LOG2) * 8 - eighths) as i8
}

/// Moves a quarter of the way from `from` to `to`, and at least one eighth.
fn nearer(from: i8, to: i8) -> i8 {
    let way = i16::from(to) - i16::from(from);
    (i16::from(from) + (way + 3 * way.signum()) / 4) as i8
}

/// A table for one thread, for tests.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(crate) struct RateTable {
    sets: Vec<RateSet>,
    used: usize,
    random: fastrand::Rng,
}

#[cfg(test)]
impl RateTable {
    /// A table for about `addresses` addresses.
    pub(crate) fn new(addresses: usize, seed: u64) -> Self {
        let sets = addresses.div_ceil(RateSet::WAYS).next_power_of_two();
        Self { sets: vec![RateSet::default(); sets], used: 0, random: fastrand::Rng::with_seed(seed) }
    }

    pub(crate) fn judge(&mut self, address: std::net::IpAddr, now: Mono, limit: &RateLimit) -> RateVerdict {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(address.to_canonical());
        let set = hash as usize & (self.sets.len() - 1);
        let judgement = self.sets[set].judge((hash >> 32) as u32, self.random.u64(..), now, limit);
        self.used += usize::from(judgement.fills);
        judgement.verdict
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const LIMIT: RateLimit = RateLimit { interval: 3, burst: 8, leak: 2 };

    fn at(seconds: f64) -> Mono {
        Mono(0) + seconds
    }

    /// The number of answers to `count` requests that are `spacing` seconds apart.
    fn answered(spacing: f64, count: u32) -> u32 {
        let mut table = RateTable::new(64, 7);
        let client: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
        let asked = (0..count).map(|n| table.judge(client, at(f64::from(n) * spacing), &LIMIT));
        asked.filter(|&verdict| verdict == RateVerdict::Pass).count() as u32
    }

    #[test]
    fn a_steady_client_within_the_limit_is_always_answered() {
        assert_eq!(answered(8.0, 1_000), 1_000);
        assert_eq!(answered(64.0, 100), 100);
    }

    #[test]
    fn a_burst_passes_and_the_excess_leaks() {
        assert_eq!(answered(0.0, 8), 8);
        // One token in 8 s, and a quarter of the excess: about 0.125 + 0.875 / 4 of all.
        let share = f64::from(answered(1.0, 10_000)) / 10_000.0;
        assert!((0.31..0.37).contains(&share), "{share}");
    }

    #[test]
    fn silence_saves_no_more_than_a_burst() {
        let mut table = RateTable::new(64, 7);
        let client: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
        table.judge(client, at(0.0), &LIMIT);
        let verdicts: Vec<_> = (0..1_000).map(|_| table.judge(client, at(1e6), &LIMIT)).collect();
        let passed = verdicts.iter().filter(|&&verdict| verdict == RateVerdict::Pass).count();
        assert!(
            verdicts[..8].iter().all(|&verdict| verdict == RateVerdict::Pass) && passed < 350,
            "{passed}"
        );
    }

    #[test]
    fn kisses_are_for_a_part_of_the_excess() {
        let mut table = RateTable::new(64, 7);
        let client: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
        let verdicts: Vec<_> =
            (0..10_000).map(|n| table.judge(client, at(f64::from(n) / 10.0), &LIMIT)).collect();
        let kisses = verdicts.iter().filter(|&&verdict| verdict == RateVerdict::Kiss).count();
        let silent = verdicts.iter().filter(|&&verdict| verdict == RateVerdict::Drop).count();
        let share = kisses as f64 / (kisses + silent) as f64;
        assert!((0.22..0.28).contains(&share), "{share}");
    }

    #[test]
    fn a_client_that_asks_more_without_answers_is_mostly_answered() {
        let mut table = RateTable::new(64, 7);
        let client: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
        let (mut now, mut passed) = (0.0, 0);
        for _ in 0..2_000 {
            let answer = table.judge(client, at(now), &LIMIT) == RateVerdict::Pass;
            passed += u32::from(answer);
            now += if answer { 4.0 } else { 0.25 };
        }
        assert!(passed > 1_200, "{passed}");
    }

    #[test]
    fn the_table_never_grows_and_the_oldest_goes() {
        let mut table = RateTable::new(64, 7);
        let busy: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
        for n in 0..100_000_u32 {
            let stranger: IpAddr = Ipv4Addr::from_bits(0x0a00_0000 + n).into();
            assert_eq!(table.judge(stranger, at(f64::from(n)), &LIMIT), RateVerdict::Pass);
            table.judge(busy, at(f64::from(n)), &LIMIT);
        }
        assert_eq!((table.sets.len(), table.used), (8, 64));
        // It asked all the time, so it was never the oldest, and its bucket is still empty.
        let excess =
            (0..40).filter(|_| table.judge(busy, at(100_000.0), &LIMIT) != RateVerdict::Pass).count();
        assert!(excess > 20, "{excess}");
    }

    #[test]
    fn time_that_goes_back_and_odd_limits_do_no_harm() {
        let mut table = RateTable::new(0, 0);
        for (interval, burst, leak) in [(i8::MIN, 0, 0), (i8::MAX, u8::MAX, u8::MAX), (0, 1, 1)] {
            for now in [Mono(i64::MAX), Mono(i64::MIN), Mono(0)] {
                table.judge(IpAddr::V4(Ipv4Addr::LOCALHOST), now, &RateLimit { interval, burst, leak });
            }
        }
        assert_eq!(table.used, 1);
    }
}
