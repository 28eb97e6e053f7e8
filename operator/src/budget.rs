//! How many Events a node may have: 25 at once, then one every five minutes, as Kubernetes' own recorder allows an
//! object (client-go, tools/record/events_cache.go). A node that reports transitions without end costs the API server
//! no more than that. Pure: time is an argument.
use std::time::{Duration, Instant};

const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);

/// What is left of one node's budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u32,
    /// When the last counted refill was due.
    since: Instant,
}

impl Budget {
    /// A full budget.
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    /// Takes one Event; false if none is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        let refills = u32::try_from(elapsed.as_secs() / REFILL.as_secs()).unwrap_or(BURST);
        self.since += REFILL * refills;
        self.left = self.left.saturating_add(refills).min(BURST);
        let takes = self.left > 0;
        self.left -= u32::from(takes);
        takes
    }

    /// Gives back Events that were taken and not sent.
    pub(crate) fn give_back(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_in_five_minutes() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let taken =
            (0..3600_u64).filter(|secs| budget.take(start + Duration::from_secs(*secs))).collect::<Vec<_>>();
        assert_eq!(taken.len(), 25 + 11);
        assert_eq!(taken[24..27], [24, 300, 600]);
        budget.give_back(3);
        assert_eq!(
            (0..9).filter(|_| budget.take(start + Duration::from_secs(3600))).count(),
            4,
            "one, and three back"
        );
        let later = start + Duration::from_secs(1_000_000);
        assert_eq!((0..100).filter(|_| budget.take(later)).count(), 25, "no more is saved up");
    }
}
