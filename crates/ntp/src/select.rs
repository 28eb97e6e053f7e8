//! Which sources tell the truth, and which of them is followed. Each source claims an interval that contains true
//! time; the truth lies where more than half of them overlap (RFC 5905 §11.2.1, with a strict majority). A lone liar
//! loses whatever its merits, and where no majority is there is no answer.
use crate::{SourceId, SourceState};

/// A source that can be voted on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) id: SourceId,
    /// This clock minus its time, now.
    pub(crate) offset: f64,
    /// Largest possible error of that.
    pub(crate) distance: f64,
    pub(crate) stratum: u8,
    pub(crate) prefer: bool,
    /// A sample came since the last vote.
    pub(crate) fresh: bool,
}

impl Candidate {
    fn low(&self) -> f64 {
        self.offset - self.distance
    }

    fn high(&self) -> f64 {
        self.offset + self.distance
    }

    fn contains(&self, (low, high): (f64, f64)) -> bool {
        self.low() <= low && high <= self.high()
    }

    /// Distance with what a higher stratum costs: 1 ms each, so that a server is not followed by way of another.
    fn rank(&self) -> f64 {
        self.distance + 1e-3 * f64::from(self.stratum)
    }
}

/// The vote's result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Nobody could be voted on.
    Nobody,
    /// They contradict each other.
    NoMajority(Vec<(SourceId, SourceState, String)>),
    /// This one is followed; the verdicts are for all candidates.
    Majority { selected: SourceId, verdicts: Vec<(SourceId, SourceState, String)> },
}

/// Remembers whom we follow, so that two equals do not alternate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    selected: Option<SourceId>,
    /// How much better than the selected one each has been of late.
    scores: Vec<(SourceId, f64)>,
}

/// A source must be better by so much on a product of updates to be followed instead.
const SWITCH_AT: f64 = 10.0;

/// What a source that is not selected is put back by, seconds: nothing is won by a change for less.
const RESELECT_DISTANCE: f64 = 1e-4;

impl Selector {
    /// Whom we follow.
    pub(crate) fn selected(&self) -> Option<SourceId> {
        self.selected
    }

    /// Votes.
    pub(crate) fn select(&mut self, candidates: &[Candidate]) -> Outcome {
        if candidates.is_empty() {
            self.selected = None;
            return Outcome::Nobody;
        }
        let Some(truth) = agreement(candidates) else {
            self.selected = None;
            self.scores.clear();
            return Outcome::NoMajority(candidates.iter().map(|c| contradicted(c, candidates)).collect());
        };
        let agrees = |c: &Candidate| c.contains(truth) || (truth.0 <= c.low() && c.high() <= truth.1);
        let survivors: Vec<&Candidate> = candidates.iter().filter(|c| agrees(c)).collect();
        let preferred = survivors.iter().any(|c| c.prefer);
        let eligible: Vec<&Candidate> = survivors.into_iter().filter(|c| c.prefer || !preferred).collect();
        let Some(selected) = self.choose(&eligible) else {
            // The best overlap has members by its construction; without any there is nothing to follow.
            return Outcome::Nobody;
        };
        self.selected = Some(selected);
        let verdict = |c: &Candidate| {
            if c.id == selected {
                (c.id, SourceState::Selected, String::new())
            } else if !agrees(c) {
                (c.id, SourceState::Falseticker, outside(c, truth))
            } else if preferred && !c.prefer {
                (c.id, SourceState::Agreeing, "A preferred source is followed.".to_owned())
            } else {
                (c.id, SourceState::Combined, String::new())
            }
        };
        Outcome::Majority { selected, verdicts: candidates.iter().map(verdict).collect() }
    }

    /// The one to follow: the one we follow already, unless another is better for some time.
    fn choose(&mut self, eligible: &[&Candidate]) -> Option<SourceId> {
        let nearest = eligible.iter().min_by(|a, b| a.rank().total_cmp(&b.rank()))?;
        let Some(current) = eligible.iter().find(|c| Some(c.id) == self.selected) else {
            self.scores.clear();
            return Some(nearest.id);
        };
        let mut scores = Vec::with_capacity(eligible.len());
        for candidate in eligible.iter().filter(|c| c.id != current.id) {
            let old = self.scores.iter().find(|(id, _)| *id == candidate.id).map_or(1.0, |(_, score)| *score);
            let ratio = current.rank() / (candidate.rank() + RESELECT_DISTANCE);
            let score = if candidate.fresh { (old * ratio).clamp(1.0, 1e6) } else { old };
            scores.push((candidate.id, score));
        }
        let best = scores.iter().max_by(|a, b| a.1.total_cmp(&b.1)).filter(|best| best.1 > SWITCH_AT);
        let chosen = best.map_or(current.id, |best| best.0);
        self.scores = if chosen == current.id { scores } else { Vec::new() };
        Some(chosen)
    }
}

/// Where more than half of the intervals overlap most. Of several such places, the one whose members claim most
/// precisely: a wide interval overlaps with everything and should not decide.
fn agreement(candidates: &[Candidate]) -> Option<(f64, f64)> {
    let mut edges: Vec<(f64, bool)> = Vec::with_capacity(2 * candidates.len());
    for candidate in candidates {
        edges.extend([(candidate.low(), false), (candidate.high(), true)]);
    }
    // At the same place beginnings come first: intervals that touch, overlap.
    edges.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut depth = 0_usize;
    let mut places: Vec<(usize, f64, f64)> = Vec::new();
    for (index, &(edge, ends)) in edges.iter().enumerate() {
        if ends {
            depth = depth.saturating_sub(1);
        } else {
            depth += 1;
            let end = edges.get(index + 1).filter(|next| next.1).map(|next| next.0);
            places.extend(end.map(|end| (depth, edge, end)));
        }
    }
    let deepest = places.iter().map(|place| place.0).max()?;
    let width = |low: f64, high: f64| {
        candidates.iter().filter(|c| c.contains((low, high))).map(|c| c.distance).sum::<f64>()
    };
    let (_, low, high) = places
        .into_iter()
        .filter(|place| place.0 == deepest && 2 * deepest > candidates.len())
        .min_by(|a, b| width(a.1, a.2).total_cmp(&width(b.1, b.2)))?;
    Some((low, high))
}

fn outside(candidate: &Candidate, truth: (f64, f64)) -> String {
    format!(
        "It says {} ± {}; the majority says {} to {}.",
        Seconds(candidate.offset),
        Seconds(candidate.distance),
        Seconds(truth.0),
        Seconds(truth.1)
    )
}

fn contradicted(candidate: &Candidate, all: &[Candidate]) -> (SourceId, SourceState, String) {
    let meets = |other: &&Candidate| other.low() <= candidate.high() && candidate.low() <= other.high();
    let why = format!(
        "It says {} ± {}, and {} of {} sources agree with that; more than half are needed.",
        Seconds(candidate.offset),
        Seconds(candidate.distance),
        all.iter().filter(meets).count(),
        all.len()
    );
    (candidate.id, SourceState::NoMajority, why)
}

/// Seconds in a unit that can be read.
struct Seconds(f64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.abs() {
            size if size >= 1.0 => write!(f, "{:.3} s", self.0),
            size if size >= 1e-3 => write!(f, "{:.3} ms", self.0 * 1e3),
            _ => write!(f, "{:.1} us", self.0 * 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(intervals: &[(f64, f64)]) -> Vec<Candidate> {
        let candidate = |(index, &(offset, distance)): (usize, &(f64, f64))| Candidate {
            id: SourceId(index as u32),
            offset,
            distance,
            stratum: 1,
            prefer: false,
            fresh: true,
        };
        intervals.iter().enumerate().map(candidate).collect()
    }

    /// `expected` has a letter per source: s selected, c combined, x falseticker, n no majority.
    fn check(intervals: &[(f64, f64)], expected: &str) {
        let verdicts = match Selector::default().select(&candidates(intervals)) {
            Outcome::Majority { verdicts, .. } | Outcome::NoMajority(verdicts) => verdicts,
            Outcome::Nobody => Vec::new(),
        };
        let letter = |state: &SourceState| match state {
            SourceState::Selected => 's',
            SourceState::Combined => 'c',
            SourceState::Falseticker => 'x',
            SourceState::NoMajority => 'n',
            _ => '?',
        };
        let got: String = verdicts.iter().map(|(_, state, _)| letter(state)).collect();
        assert_eq!(got, expected, "{intervals:?}");
    }

    #[test]
    fn the_majority_decides() {
        check(&[], "");
        check(&[(5.0, 1.0)], "s");
        check(&[(0.0, 1.0), (0.5, 1.1)], "sc");
        check(&[(0.0, 1.0), (5.0, 1.0)], "nn");
        check(&[(0.0, 1.0), (5.0, 0.1), (0.1, 1.1)], "sxc");
        check(&[(0.0, 0.1), (0.01, 0.1), (5.0, 0.1), (5.01, 0.1)], "nnnn");
        check(&[(0.0, 0.2), (0.01, 0.1), (0.02, 0.3), (5.01, 0.001)], "cscx");
        check(&[(0.0, 0.1), (1.0, 0.1), (2.0, 0.1)], "nnn");
        check(&[(0.0, 1.0), (2.0, 1.0)], "sc");
    }

    #[test]
    fn preference_counts_only_within_the_majority() {
        let mut all = candidates(&[(0.0, 0.1), (0.01, 0.1), (0.02, 0.2), (5.0, 0.001)]);
        all[3].prefer = true;
        let Outcome::Majority { selected, verdicts } = Selector::default().select(&all) else {
            panic!("a majority")
        };
        assert_eq!(selected, SourceId(0));
        assert_eq!(verdicts[3].1, SourceState::Falseticker);
        assert!(
            verdicts[3].2.starts_with("It says 5.000 s ± 1.000 ms; the majority says"),
            "{}",
            verdicts[3].2
        );
        all[2].prefer = true;
        let Outcome::Majority { selected, verdicts } = Selector::default().select(&all) else {
            panic!("a majority")
        };
        assert_eq!(selected, SourceId(2));
        assert_eq!(verdicts[0].1, SourceState::Agreeing);
    }

    #[test]
    fn a_slightly_better_source_is_not_switched_to() {
        let mut selector = Selector::default();
        let mut all = candidates(&[(0.0, 1.00e-3), (0.0, 1.01e-3)]);
        selector.select(&all);
        all[1].distance = 0.95e-3;
        for _ in 0..1000 {
            selector.select(&all);
        }
        assert_eq!(selector.selected(), Some(SourceId(0)));
        all[0].distance = 50e-3;
        selector.select(&all);
        assert_eq!(selector.selected(), Some(SourceId(1)));
    }

    proptest! {
        #[test]
        fn whoever_is_selected_agrees_with_more_than_half(
            intervals in proptest::collection::vec((-1.0..1.0, 0.0..1.0), 1..10),
        ) {
            let all = candidates(&intervals);
            if let Outcome::Majority { selected, .. } = Selector::default().select(&all) {
                let chosen = all[selected.0 as usize];
                let meets = |c: &&Candidate| c.low() <= chosen.high() && chosen.low() <= c.high();
                prop_assert!(2 * all.iter().filter(meets).count() > all.len());
            }
        }
    }
}
