//! The label `timesync.dev/clock-bound` of a Node: the class of its clock's error bound, for a scheduler's
//! `nodeAffinity`. Reports in; the class out. Pure.
//!
//! A worse class is told at once. A better one is told after every report was better for the time `hold`, and then it is
//! the worst of these reports. So the label changes for the better at most once in that time.
use std::time::{Duration, Instant};

use contract::{ClockReport, Reason};

/// The label's key.
pub(crate) const BOUND_LABEL: &str = "timesync.dev/clock-bound";

/// The classes, from the best to the worst: the largest error bound in seconds, and the label's value. A clock beyond
/// the last one is in no class.
const CLASSES: [(f64, &str); 4] =
    [(100e-6, "le-100us"), (1e-3, "le-1ms"), (10e-3, "le-10ms"), (100e-3, "le-100ms")];
const NO_CLASS: &str = "none";

/// A class of error bounds, by its place in [`CLASSES`]; the place after the last one is `none`. A larger one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BoundClass(usize);

impl BoundClass {
    /// No bound is known that a program could rely on.
    pub(crate) const NONE: Self = Self(CLASSES.len());

    /// The class of a clock. A clock that follows a local clock is in none, since its distance from UTC is not known.
    pub(crate) fn of(clock: &ClockReport) -> Self {
        let known = clock.synchronized && clock.reason != Reason::LocalReference;
        let bound = clock.error_bound.filter(|_| known).unwrap_or(f64::INFINITY);
        CLASSES.iter().position(|(most, _)| bound <= *most).map_or(Self::NONE, Self)
    }

    /// The class with this label; none if the label has another value.
    pub(crate) fn from_label(label: &str) -> Option<Self> {
        let place = CLASSES.iter().position(|(_, value)| *value == label);
        place.map(Self).or((label == NO_CLASS).then_some(Self::NONE))
    }

    /// The label's value.
    pub(crate) fn label(self) -> &'static str {
        CLASSES.get(self.0).map_or(NO_CLASS, |(_, value)| value)
    }
}

/// What is kept of a node's error bound between two decisions.
#[derive(Debug, Default)]
pub(super) struct BoundHistory {
    /// Since when every report was better than the label, and the worst class of these reports.
    better: Option<(Instant, BoundClass)>,
}

impl BoundHistory {
    /// The class to be told, if the Node's label is `told` now and the clock is in `present`.
    pub(super) fn decide(
        &mut self,
        told: Option<BoundClass>,
        present: BoundClass,
        hold: Duration,
        now: Instant,
    ) -> BoundClass {
        let Some(told) = told.filter(|told| present < *told) else {
            self.better = None;
            return present;
        };
        let (since, worst) = self.better.map_or((now, present), |(since, worst)| (since, worst.max(present)));
        if now.saturating_duration_since(since) >= hold {
            self.better = None;
            return worst;
        }
        self.better = Some((since, worst));
        told
    }

    /// A report without a bound, which leaves the label as it is: what was better before counts no more.
    pub(super) fn interrupt(&mut self) {
        self.better = None;
    }

    /// Returns true if time alone can change the class.
    pub(super) fn is_pending(&self) -> bool {
        self.better.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::report;

    const HOLD: Duration = Duration::from_secs(60);

    fn class(bound: Option<f64>, reason: Reason, synchronized: bool) -> &'static str {
        let mut clock = report().clock;
        (clock.error_bound, clock.reason, clock.synchronized) = (bound, reason, synchronized);
        BoundClass::of(&clock).label()
    }

    #[test]
    fn classes() {
        for (bound, expected) in [
            (99e-6, "le-100us"),
            (100e-6, "le-100us"),
            (101e-6, "le-1ms"),
            (1e-3, "le-1ms"),
            (2e-3, "le-10ms"),
            (0.1, "le-100ms"),
            (0.11, "none"),
            (f64::NAN, "none"),
        ] {
            assert_eq!(class(Some(bound), Reason::Synchronized, true), expected, "{bound}");
        }
        assert_eq!(class(None, Reason::Synchronized, true), "none");
        assert_eq!(class(Some(1e-6), Reason::LocalReference, true), "none");
        assert_eq!(class(Some(1e-6), Reason::NoMajority, false), "none");
        assert_eq!(class(Some(1e-6), Reason::Holdover, true), "le-100us");
        for place in 0..=CLASSES.len() {
            assert_eq!(BoundClass::from_label(BoundClass(place).label()), Some(BoundClass(place)));
        }
        assert_eq!(BoundClass::from_label("le-1s"), None);
    }

    #[test]
    fn worse_at_once_and_better_after_a_while() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let (best, good, fair) = (BoundClass(0), BoundClass(1), BoundClass(2));
        let mut history = BoundHistory::default();
        assert_eq!(history.decide(None, good, HOLD, at(0)), good, "the first one counts at once");
        assert_eq!(history.decide(Some(good), fair, HOLD, at(1)), fair);
        assert_eq!(history.decide(Some(fair), best, HOLD, at(10)), fair);
        assert!(history.is_pending());
        assert_eq!(history.decide(Some(fair), good, HOLD, at(40)), fair);
        assert_eq!(history.decide(Some(fair), best, HOLD, at(69)), fair);
        assert_eq!(history.decide(Some(fair), best, HOLD, at(70)), good, "the worst of the time");
        assert_eq!(history.decide(Some(good), best, HOLD, at(71)), good);
        assert_eq!(history.decide(Some(good), good, HOLD, at(100)), good, "the time begins anew");
        assert_eq!(history.decide(Some(good), best, HOLD, at(131)), good);
        assert_eq!(history.decide(Some(good), best, HOLD, at(191)), best);
    }
}
