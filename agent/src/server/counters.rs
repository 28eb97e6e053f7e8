//! What the server did, counted by the reasons that `ntp::respond` gives. Only ever grows; read at any time.
use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
};

use ntp::DropReason;

use super::Family;

/// The counters of both families together.
#[derive(Debug)]
pub(crate) struct ServerCounters {
    requests: [AtomicU64; VERSIONS.len()],
    answered: AtomicU64,
    kisses: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    send_failed: AtomicU64,
    rate_entries: [AtomicU64; Family::ALL.len()],
}

/// Labels of [`ServerCounters::requests`]; the last is for every other version, and for empty datagrams.
const VERSIONS: [&str; 5] = ["1", "2", "3", "4", "other"];

impl Default for ServerCounters {
    fn default() -> Self {
        Self {
            requests: array::from_fn(|_| AtomicU64::new(0)),
            answered: AtomicU64::new(0),
            kisses: AtomicU64::new(0),
            dropped: array::from_fn(|_| AtomicU64::new(0)),
            send_failed: AtomicU64::new(0),
            rate_entries: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl ServerCounters {
    /// Datagrams that came, by version: `1` to `4`, and `other`.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        VERSIONS.into_iter().zip(self.requests.iter().map(read))
    }

    /// Replies sent.
    pub(crate) fn answered(&self) -> u64 {
        read(&self.answered)
    }

    /// Kisses sent.
    pub(crate) fn kisses(&self) -> u64 {
        read(&self.kisses)
    }

    /// Datagrams that got nothing, by reason: those of [`DropReason`], and `send_failed`.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = DropReason::ALL.into_iter().map(DropReason::as_str);
        reasons.zip(self.dropped.iter().map(read)).chain([("send_failed", read(&self.send_failed))])
    }

    /// Addresses in the rate tables now.
    pub(crate) fn rate_entries(&self) -> u64 {
        self.rate_entries.iter().map(read).sum()
    }

    pub(super) fn count_request(&self, version: Option<u8>) {
        let place = match version {
            Some(version @ 1..=4) => usize::from(version) - 1,
            _ => VERSIONS.len() - 1,
        };
        add_one(&self.requests[place]);
    }

    pub(super) fn count_answer(&self) {
        add_one(&self.answered);
    }

    pub(super) fn count_kiss(&self) {
        add_one(&self.kisses);
    }

    pub(super) fn count_drop(&self, reason: DropReason) {
        // `ALL` holds each variant once; one that is missing there would only not be counted.
        if let Some(place) = DropReason::ALL.iter().position(|&known| known == reason) {
            add_one(&self.dropped[place]);
        }
    }

    pub(super) fn count_send_failure(&self) {
        add_one(&self.send_failed);
    }

    pub(super) fn set_rate_entries(&self, family: Family, entries: usize) {
        self.rate_entries[family as usize].store(entries as u64, Ordering::Relaxed);
    }
}

// Relaxed: each counter stands for itself.
fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
