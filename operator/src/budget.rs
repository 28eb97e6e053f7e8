//! How many Events a node may have of each kind of transition: 10 at once, then one every five minutes. A kind that is
//! reported without end does not use up what other kinds may have. A node costs the API server at most ten Events for
//! each kind that exists, and then one for each in five minutes. Pure: time is an argument.
use std::time::{Duration, Instant};

use contract::TransitionKind;

const BURST: u32 = 10;
/// As Kubernetes' own recorder allows an object (client-go, tools/record/events_cache.go).
const REFILL: Duration = Duration::from_secs(300);

/// What is left of one node's budget. Only kinds whose share is not full are kept: most nodes have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget {
    shares: Vec<(TransitionKind, Share)>,
}

/// What is left of one kind.
#[derive(Clone, Copy, Debug)]
struct Share {
    left: u32,
    /// When the last counted refill was due.
    since: Instant,
}

impl Budget {
    /// Takes one Event of a kind; false if none is left.
    pub(crate) fn take(&mut self, kind: TransitionKind, now: Instant) -> bool {
        self.shares.retain_mut(|(_, share)| {
            share.refill(now);
            share.left < BURST
        });
        let known = self.shares.iter_mut().find(|(known, _)| *known == kind);
        if let Some((_, share)) = known {
            let takes = share.left > 0;
            share.left -= u32::from(takes);
            return takes;
        }
        self.shares.push((kind, Share { left: BURST - 1, since: now }));
        true
    }

    /// Gives back an Event of a kind that was taken and not sent.
    pub(crate) fn give_back(&mut self, kind: TransitionKind) {
        if let Some((_, share)) = self.shares.iter_mut().find(|(known, _)| *known == kind) {
            share.left = share.left.saturating_add(1).min(BURST);
        }
    }
}

impl Share {
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        let refills = u32::try_from(elapsed.as_secs() / REFILL.as_secs()).unwrap_or(BURST);
        self.since += REFILL * refills;
        self.left = self.left.saturating_add(refills).min(BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPPED: TransitionKind = TransitionKind::Stepped;

    #[test]
    fn a_burst_and_then_one_in_five_minutes() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let at = |secs| start + Duration::from_secs(secs);
        let taken = (0..3600_u64).filter(|secs| budget.take(STEPPED, at(*secs))).collect::<Vec<_>>();
        assert_eq!(taken.len(), 10 + 11);
        assert_eq!(taken[9..12], [9, 300, 600]);
        (0..3).for_each(|_| budget.give_back(STEPPED));
        let again = (0..9).filter(|_| budget.take(STEPPED, at(3600))).count();
        assert_eq!(again, 4, "one, and three back");
        let later = at(1_000_000);
        assert_eq!((0..100).filter(|_| budget.take(STEPPED, later)).count(), 10, "no more is saved up");
    }

    #[test]
    fn each_kind_has_its_own_share_and_full_ones_are_not_kept() {
        let start = Instant::now();
        let mut budget = Budget::default();
        assert_eq!((0..100).filter(|_| budget.take(STEPPED, start)).count(), 10);
        assert!(budget.take(TransitionKind::ConflictEnded, start));
        budget.give_back(TransitionKind::Conflict);
        assert!(!budget.take(STEPPED, start), "another kind's Event was given back");
        assert_eq!(budget.shares.len(), 2);
        assert!(budget.take(TransitionKind::ConflictEnded, start + 10 * REFILL));
        assert_eq!(budget.shares.len(), 1);
    }
}
