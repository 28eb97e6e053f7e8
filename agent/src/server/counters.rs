//! Counters of what the server did, by the reasons that `ntp::respond` returns. They only increase, and may be read at
//! any time.
//!
//! Each worker has counters of its own, in cache lines of its own. A reader adds them up.
use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
};

use ntp::DropReason;

use super::config::MOST_WORKERS;

/// The counters of all workers together.
#[derive(Debug)]
pub(crate) struct ServerCounters {
    workers: Box<[WorkerCounters]>,
    key_exchanges: [AtomicU64; KeyExchange::ALL.len()],
    rate_entries: AtomicU64,
}

/// The counters of one worker. No other thread may write them, so that an addition need not be atomic for the whole
/// machine.
#[derive(Debug)]
#[repr(align(128))] // Processors fetch cache lines in pairs.
pub(crate) struct WorkerCounters {
    requests: [AtomicU64; VERSIONS.len()],
    /// Datagrams of version 1: of clients, without a mode, of peers.
    version_1: [AtomicU64; 3],
    queries: AtomicU64,
    answered: AtomicU64,
    kisses: AtomicU64,
    nts_answered: AtomicU64,
    nts_kisses: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    send_failed: AtomicU64,
}

/// How a key exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyExchange {
    /// Cookies were given.
    Done,
    /// The client ended the connection, took too long, or asked for what the server does not have.
    Failed,
    /// The access list refused it.
    Refused,
    /// Another client needed the slot.
    Evicted,
}

impl KeyExchange {
    const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Refused, Self::Evicted];

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Evicted => "evicted",
        }
    }
}

/// Labels of [`ServerCounters::requests`]; the last is for every other version, and for empty datagrams.
const VERSIONS: [&str; 5] = ["1", "2", "3", "4", "other"];

impl Default for ServerCounters {
    fn default() -> Self {
        Self {
            workers: (0..MOST_WORKERS).map(|_| WorkerCounters::new()).collect(),
            key_exchanges: array::from_fn(|_| AtomicU64::new(0)),
            rate_entries: AtomicU64::new(0),
        }
    }
}

impl ServerCounters {
    /// Datagrams received, by version: `1` to `4`, and `other`.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        VERSIONS
            .into_iter()
            .enumerate()
            .map(|(place, version)| (version, self.sum(|worker| &worker.requests[place])))
    }

    /// Datagrams of version 1: all, of clients, without a mode, of peers.
    pub(crate) fn version_1(&self) -> [u64; 4] {
        let [clients, zero, peers] = array::from_fn(|place| self.sum(|worker| &worker.version_1[place]));
        [self.sum(|worker| &worker.requests[0]), clients, zero, peers]
    }

    /// Queries (mode 6) answered.
    pub(crate) fn queries(&self) -> u64 {
        self.sum(|worker| &worker.queries)
    }

    /// Replies sent.
    pub(crate) fn answered(&self) -> u64 {
        self.sum(|worker| &worker.answered)
    }

    /// Kisses sent.
    pub(crate) fn kisses(&self) -> u64 {
        self.sum(|worker| &worker.kisses)
    }

    /// Sealed replies sent (NTS), which also count as replies.
    pub(crate) fn nts_answered(&self) -> u64 {
        self.sum(|worker| &worker.nts_answered)
    }

    /// Kisses sent because of an invalid cookie or seal (NTSN), which also count as kisses.
    pub(crate) fn nts_kisses(&self) -> u64 {
        self.sum(|worker| &worker.nts_kisses)
    }

    /// Key exchanges, by how they ended.
    pub(crate) fn key_exchanges(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KeyExchange::ALL
            .into_iter()
            .map(|outcome| (outcome.as_str(), read(&self.key_exchanges[outcome as usize])))
    }

    pub(super) fn count_key_exchange(&self, outcome: KeyExchange) {
        self.key_exchanges[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Datagrams without an answer, by reason: those of [`DropReason`], and `send_failed`.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = DropReason::ALL.into_iter().map(DropReason::as_str).enumerate();
        let by_reason = reasons.map(|(place, reason)| (reason, self.sum(|worker| &worker.dropped[place])));
        by_reason.chain([("send_failed", self.sum(|worker| &worker.send_failed))])
    }

    /// Addresses in the rate table.
    pub(crate) fn rate_entries(&self) -> u64 {
        read(&self.rate_entries)
    }

    /// The counters of this worker.
    pub(super) fn of_worker(&self, number: usize) -> &WorkerCounters {
        &self.workers[number]
    }

    pub(super) fn set_rate_entries(&self, entries: usize) {
        self.rate_entries.store(entries as u64, Ordering::Relaxed);
    }

    fn sum(&self, which: impl Fn(&WorkerCounters) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|worker| read(which(worker))).sum()
    }
}

impl WorkerCounters {
    /// All counters at zero.
    pub(crate) fn new() -> Self {
        Self {
            requests: array::from_fn(|_| AtomicU64::new(0)),
            version_1: array::from_fn(|_| AtomicU64::new(0)),
            queries: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            kisses: AtomicU64::new(0),
            nts_answered: AtomicU64::new(0),
            nts_kisses: AtomicU64::new(0),
            dropped: array::from_fn(|_| AtomicU64::new(0)),
            send_failed: AtomicU64::new(0),
        }
    }

    #[cfg(test)]
    pub(super) fn requests_seen(&self) -> u64 {
        self.requests.iter().map(read).sum()
    }

    pub(super) fn count_request(&self, version: Option<u8>, datagram: &[u8]) {
        let place = match version {
            Some(version @ 1..=4) => usize::from(version) - 1,
            _ => VERSIONS.len() - 1,
        };
        add_one(&self.requests[place]);
        if version == Some(1) {
            match datagram[0] & 7 {
                3 => add_one(&self.version_1[0]),
                0 => add_one(&self.version_1[1]),
                1 => add_one(&self.version_1[2]),
                _ => {}
            }
        }
    }

    pub(super) fn count_query(&self) {
        add_one(&self.queries);
    }

    pub(super) fn count_answer(&self) {
        add_one(&self.answered);
    }

    pub(super) fn count_kiss(&self) {
        add_one(&self.kisses);
    }

    pub(super) fn count_nts_answer(&self) {
        self.count_answer();
        add_one(&self.nts_answered);
    }

    pub(super) fn count_nts_kiss(&self) {
        self.count_kiss();
        add_one(&self.nts_kisses);
    }

    pub(super) fn count_drop(&self, reason: DropReason) {
        // `ALL` has each variant once. A variant that is missing there would not be counted.
        if let Some(place) = DropReason::ALL.iter().position(|&known| known == reason) {
            add_one(&self.dropped[place]);
        }
    }

    pub(super) fn count_send_failure(&self) {
        add_one(&self.send_failed);
    }
}

// Relaxed, since each counter is independent.
fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Not `fetch_add`, which would lock the cache line: no other thread writes this counter.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workers_are_added_up() {
        let counters = ServerCounters::default();
        for number in 0..3 {
            let worker = counters.of_worker(number);
            worker.count_request(Some(4), &[0x23]);
            worker.count_request(Some(7), &[0x3b]);
            worker.count_request(None, &[]);
            worker.count_request(Some(1), &[0x09]);
            worker.count_request(Some(1), &[0x0e]);
            (0..=number).for_each(|_| worker.count_answer());
            worker.count_drop(DropReason::RateLimited);
            worker.count_send_failure();
        }
        counters.of_worker(2).count_kiss();
        assert_eq!((counters.answered(), counters.kisses()), (6, 1));
        let requests: Vec<_> = counters.requests().filter(|&(_, count)| count > 0).collect();
        assert_eq!(counters.version_1(), [6, 0, 0, 3]);
        assert_eq!(requests, [("1", 6), ("4", 3), ("other", 6)]);
        let dropped: Vec<_> = counters.dropped().filter(|&(_, count)| count > 0).collect();
        assert_eq!(dropped, [("rate_limited", 3), ("send_failed", 3)]);
    }
}
