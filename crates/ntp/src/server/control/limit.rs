//! The rate limit for queries of remote addresses: a token bucket per address, in a table of fixed size. Do not call it
//! for addresses on this host. It is independent of the rate limit of time requests, for which queries do not count.
use std::net::IpAddr;

use crate::Mono;

/// The buckets: addresses, and the times at which their buckets will be full again.
#[derive(Debug)]
pub struct QueryLimit {
    buckets: Vec<(IpAddr, Mono)>,
}

/// Time for one token, nanoseconds: one query a second.
const INTERVAL: i64 = 1_000_000_000;

/// Capacity of a bucket: `ntpq -p` of 63 sources.
const BURST: i64 = 64;

/// The largest number of addresses. If there are more, the one whose bucket is full first is dropped, and starts with a
/// full bucket next time.
const ADDRESSES: usize = 256;

impl Default for QueryLimit {
    fn default() -> Self {
        Self { buckets: Vec::with_capacity(ADDRESSES) }
    }
}

impl QueryLimit {
    /// Returns true if a query of `address` at `now` may be answered, and counts it.
    pub fn admit(&mut self, address: IpAddr, now: Mono) -> bool {
        let address = address.to_canonical();
        let bucket = match self.buckets.iter().position(|(known, _)| *known == address) {
            Some(bucket) => bucket,
            None if self.buckets.len() < ADDRESSES => {
                self.buckets.push((address, now));
                self.buckets.len() - 1
            }
            None => {
                let oldest = self.buckets.iter().enumerate().min_by_key(|(_, (_, full_at))| *full_at);
                let oldest = oldest.map_or(0, |(index, _)| index);
                self.buckets[oldest] = (address, now);
                oldest
            }
        };
        let full_at = &mut self.buckets[bucket].1;
        let next = Mono(full_at.0.max(now.0).saturating_add(INTERVAL));
        let admitted = next.0.saturating_sub(now.0) <= BURST * INTERVAL;
        if admitted {
            *full_at = next;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(n))
    }

    #[test]
    fn a_burst_then_one_a_second_each() {
        let mut limit = QueryLimit::default();
        let mut admitted = |n, seconds: f64| limit.admit(address(n), Mono((seconds * 1e9) as i64));
        assert_eq!((0..100).filter(|_| admitted(1, 10.0)).count(), 64);
        assert_eq!((0..100).filter(|_| admitted(2, 10.0)).count(), 64);
        assert_eq!((0..100).filter(|n| admitted(1, 10.0 + f64::from(*n) / 10.0)).count(), 9);
        assert_eq!((0..100).filter(|_| admitted(1, 100.0)).count(), 64);
    }

    #[test]
    fn memory_is_bounded() {
        let mut limit = QueryLimit::default();
        assert!((0..10_000).all(|n| limit.admit(address(n), Mono(i64::from(n)))));
        assert_eq!((limit.buckets.len(), limit.buckets.capacity()), (ADDRESSES, ADDRESSES));
    }
}
