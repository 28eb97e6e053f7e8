//! How much each client asked: one table of fixed size for all threads and both families.
//!
//! Each set of a few addresses has a lock of its own. Two threads need the same lock only if they serve the same few
//! addresses at the same moment. Otherwise a lock costs one exchange in a cache line that is needed in any case.
use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use ntp::{Mono, RateLimit, RateSet, RateVerdict};

/// The table.
#[derive(Debug)]
pub(crate) struct ClientTable {
    sets: Box<[Set]>,
    used: AtomicUsize,
    /// SipHash with keys from the kernel, so that an attacker cannot find addresses that compete for a set.
    hasher: RandomState,
}

/// Two cache lines, shared with no other set.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set(Mutex<RateSet>);

const _: () = assert!(size_of::<Set>() == 128, "a set fits into two cache lines");

impl ClientTable {
    /// A table for `addresses` addresses. It has room for half as many more, because they are not evenly distributed
    /// over the sets. With this room one address in fifty finds its set full, without it one in seven.
    pub(crate) fn new(addresses: usize) -> Self {
        let sets = (addresses + addresses / 2).div_ceil(RateSet::WAYS).max(1);
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            used: AtomicUsize::new(0),
            hasher: RandomState::new(),
        }
    }

    /// The number of addresses in the table.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Counts a request from `address` at `now`, and judges it. `chance` has random bits that a client cannot guess.
    pub(crate) fn judge(&self, address: IpAddr, chance: u64, now: Mono, limit: &RateLimit) -> RateVerdict {
        let number = match address.to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let hash = self.hasher.hash_one(number);
        // One half selects the set, as a fraction of all sets. The other half tells the set's addresses apart.
        let place = ((hash & 0xffff_ffff) * self.sets.len() as u64) >> 32;
        let Set(set) = &self.sets[place as usize];
        let judgement = {
            // A set is valid at every moment, even after a thread panicked with its lock held.
            let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
            set.judge((hash >> 32) as u32, chance, now, limit)
        };
        // Rare, and never once the table is full: an entry is reused, not freed.
        if judgement.fills {
            self.used.fetch_add(1, Ordering::Relaxed);
        }
        judgement.verdict
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, thread};

    use super::*;

    const LIMIT: RateLimit = RateLimit { interval: 3, burst: 8, leak: 2 };

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    #[test]
    fn it_never_grows_and_the_honest_are_served_in_a_flood() {
        let table = ClientTable::new(1024);
        for second in 0..2_000_u32 {
            let now = Mono(i64::from(second) * 1_000_000_000);
            for n in 0..50 {
                // A new address begins with a full bucket, whichever address had its entry before.
                assert_eq!(
                    table.judge(address(1_000 + second * 50 + n), 1 << 32, now, &LIMIT),
                    RateVerdict::Pass
                );
            }
            // This client asks as often as it may.
            if second % 8 == 0 {
                assert_eq!(table.judge(address(1), 1 << 32, now, &LIMIT), RateVerdict::Pass);
            }
        }
        assert_eq!((table.sets.len(), table.used()), (192, 192 * RateSet::WAYS));
    }

    #[test]
    fn there_is_room_for_those_that_were_promised() {
        let table = ClientTable::new(16_384);
        (0..16_384).for_each(|n| _ = table.judge(address(n), 1 << 32, Mono(0), &LIMIT));
        // Which sets are full depends on chance: 1.6 % of the addresses, plus or minus 0.1 %.
        assert!(table.used() > 16_384 * 19 / 20, "{}", table.used());
    }

    #[test]
    fn an_ipv4_address_is_one_client_in_both_notations() {
        let table = ClientTable::new(1024);
        let client = Ipv4Addr::new(192, 0, 2, 1);
        let both = [IpAddr::V4(client), client.to_ipv6_mapped().into()];
        let verdicts = (0..9).map(|n| table.judge(both[n % 2], 1 << 32, Mono(0), &LIMIT));
        assert_eq!(verdicts.filter(|&verdict| verdict == RateVerdict::Pass).count(), 8);
        assert_eq!(table.used(), 1);
    }

    #[test]
    fn threads_share_the_buckets() {
        let table = ClientTable::new(1024);
        let passed = || -> u32 {
            // The random bits are such that no request leaks.
            (0..100_u32)
                .flat_map(|_| (0..64).map(|n| table.judge(address(n), 1 << 32, Mono(0), &LIMIT)))
                .map(|verdict| u32::from(verdict == RateVerdict::Pass))
                .sum()
        };
        let passed: u32 = thread::scope(|scope| {
            let threads = [scope.spawn(passed), scope.spawn(passed)];
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((passed, table.used()), (64 * 8, 64));
    }
}
