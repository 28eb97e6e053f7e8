//! How much each address may ask: a token bucket per address, with a leak, in a table of fixed size.
//!
//! The leak (chrony's idea): some of the excess is answered all the same, by chance, so that a forger who asks in a
//! client's name cannot silence the server for it.
use std::net::IpAddr;

use crate::Mono;

/// The limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// A token comes each 2^interval seconds; -6 to 12.
    pub interval: i8,
    /// Most tokens that an address can have saved; 1 to 255.
    pub burst: u8,
    /// One in 2^leak of the excess is answered; 1 to 4.
    pub leak: u8,
}

/// What is to become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateVerdict {
    /// Answer it.
    Pass,
    /// Too much; this one may be answered with a kiss.
    Kiss,
    /// Too much; be silent.
    Drop,
}

/// Kisses are for 1 in 2^this of the excess.
const KISS_SHARE: u8 = 2;

/// Entries that an address can be in; of these the one that was silent the longest goes for a new address.
const WAYS: usize = 8;

/// Who asked when. Its size is given once and never changes, however many addresses ask.
#[derive(Clone, Debug)]
pub struct RateTable {
    entries: Box<[Entry]>,
    used: usize,
    seed: u64,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// IPv4 as mapped into IPv6; `::` for a free entry, since nobody asks from there.
    address: u128,
    last: Mono,
    tokens: f32,
    /// Whether the last request was answered.
    answered: bool,
    /// Smoothed log2 of requests per second, after an answer and after silence.
    rate_answered: f32,
    rate_silent: f32,
}

/// No rate was seen yet: slower than any that is.
const NO_RATE: f32 = -127.0;

const FREE: Entry = Entry {
    address: 0,
    last: Mono(i64::MIN),
    tokens: 0.0,
    answered: true,
    rate_answered: NO_RATE,
    rate_silent: NO_RATE,
};

impl RateTable {
    /// A table for about `addresses` addresses. `seed` must be random and secret: by it a stranger cannot know which
    /// addresses compete for an entry, nor when the leak opens.
    pub fn new(addresses: usize, seed: u64) -> Self {
        let sets = addresses.div_ceil(WAYS).next_power_of_two();
        Self { entries: vec![FREE; sets * WAYS].into(), used: 0, seed, random: seed | 1 }
    }

    /// How many addresses are in it.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Counts a request from `address` at `now`, and judges it.
    pub fn judge(&mut self, address: IpAddr, now: Mono, limit: &RateLimit) -> RateVerdict {
        let chance = self.draw();
        let key = key(address);
        let set = (mixed(key as u64 ^ mixed((key >> 64) as u64 ^ self.seed)) as usize)
            & (self.entries.len() / WAYS - 1);
        let ways = &mut self.entries[set * WAYS..][..WAYS];
        let known = ways.iter().position(|entry| entry.address == key);
        let burst = f32::from(limit.burst.max(1));
        let place = known.unwrap_or_else(|| {
            let oldest = (0..WAYS).min_by_key(|&way| ways[way].last).unwrap_or(0);
            if ways[oldest].address == 0 {
                self.used += 1;
            }
            ways[oldest] = Entry { address: key, last: now, tokens: burst, ..FREE };
            oldest
        });
        let entry = &mut ways[place];
        if known.is_some() {
            entry.refill(now, limit, burst);
        }
        let verdict = entry.verdict(chance, limit);
        entry.answered = verdict == RateVerdict::Pass;
        verdict
    }

    /// xorshift64 (Marsaglia 2003): cheap, and unknown to whoever does not know the seed.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

impl Entry {
    fn refill(&mut self, now: Mono, limit: &RateLimit, burst: f32) {
        let gap = (now - self.last).max(0.0) as f32;
        self.last = now;
        self.tokens = (self.tokens + gap / f32::from(limit.interval).exp2()).min(burst);
        // From 16 per second to one in an hour; smoothed over four gaps.
        let rate = -gap.clamp(0.0625, 4096.0).log2();
        let smoothed = if self.answered { &mut self.rate_answered } else { &mut self.rate_silent };
        *smoothed = if *smoothed == NO_RATE { rate } else { *smoothed + (rate - *smoothed) / 4.0 };
    }

    fn verdict(&mut self, chance: u64, limit: &RateLimit) -> RateVerdict {
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return RateVerdict::Pass;
        }
        // Different bits of the draw, so that the two chances are independent.
        let leaks = chance >> 32 & ((1 << limit.leak.min(16)) - 1) == 0;
        // A client that asks twice as often when it gets no answer is made worse by silence: answer it mostly.
        let louder_in_silence = self.rate_answered != NO_RATE && self.rate_silent > self.rate_answered + 1.0;
        if leaks != louder_in_silence {
            return RateVerdict::Pass;
        }
        if chance >> 56 & ((1 << KISS_SHARE) - 1) == 0 { RateVerdict::Kiss } else { RateVerdict::Drop }
    }
}

fn key(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input turns half of the output's.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LIMIT: RateLimit = RateLimit { interval: 3, burst: 8, leak: 2 };

    fn at(seconds: f64) -> Mono {
        Mono(0) + seconds
    }

    /// How many of `count` requests, `spacing` seconds apart, are answered.
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
        // One token in 8 s, and a quarter of the rest: about 0.125 + 0.875 / 4 of all.
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
    fn who_gets_louder_in_silence_is_answered_mostly() {
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
        assert_eq!((table.entries.len(), table.used()), (64, 64));
        // It asked all the time, so it was never the oldest, and its bucket is empty.
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
        assert_eq!(table.used(), 1);
    }
}
