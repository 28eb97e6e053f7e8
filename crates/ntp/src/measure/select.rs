//! Selection: which sources are truechimers, and which of them is selected. Each source has an interval that should
//! contain true time. True time is where more than half of the intervals overlap (RFC 5905 §11.2.1, with a strict
//! majority). A single falseticker loses regardless of its options, and without a majority no source is selected. If
//! some sources are trusted, only they vote, and the other sources must lie within their intervals.
use crate::{SourceId, SourceState};

/// The result of the last vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ballot {
    /// There was no vote yet, since samples of more sources are expected, or the vote had no candidates.
    Open,
    NoMajority,
    /// Fewer sources agree than `min_sources`.
    TooFew,
    /// No required source agrees.
    RequiredMissing,
    Majority,
}

impl Ballot {
    /// Returns true if there were candidates, and none of them may be selected.
    pub(crate) fn failed(self) -> bool {
        matches!(self, Self::NoMajority | Self::TooFew | Self::RequiredMissing)
    }
}

/// A source that takes part in the vote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) id: SourceId,
    /// This clock minus the source's time.
    pub(crate) offset: f64,
    /// Largest possible error of the offset.
    pub(crate) distance: f64,
    pub(crate) stratum: u8,
    pub(crate) prefer: bool,
    pub(crate) trust: bool,
    pub(crate) require: bool,
    /// True if it has the time of a local clock.
    pub(crate) local: bool,
    /// True if it answered one of the last eight polls.
    pub(crate) reached: bool,
    /// True if it has a new sample since the last correction.
    pub(crate) fresh: bool,
}

/// Conditions in addition to a majority.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demands {
    /// The number of sources that must agree.
    pub(crate) min_sources: usize,
    /// True if at least one required source must agree.
    pub(crate) required: bool,
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

    /// The distance plus 1 ms per stratum, so that a server is preferred to a client of it.
    fn rank(&self) -> f64 {
        self.distance + 1e-3 * f64::from(self.stratum)
    }
}

/// The state of a candidate after the vote, and the reason. The reason is empty if the candidate is used.
pub(crate) type Finding = (SourceId, SourceState, String);

/// The result of a vote, with a finding for every candidate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// There were no candidates.
    NoCandidates,
    /// No majority of the candidates agrees.
    NoMajority(Vec<Finding>),
    /// Fewer sources agree than `min_sources`.
    TooFew(Vec<Finding>),
    /// No required source agrees.
    RequiredMissing(Vec<Finding>),
    /// A source is selected.
    Majority(Vec<Finding>),
}

/// Remembers the selected source, so that two equally good sources do not alternate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    selected: Option<SourceId>,
    /// For each other source, how much better it was recently than the selected source: a product of ratios.
    scores: Vec<(SourceId, f64)>,
}

/// A source whose score exceeds this is selected instead of the present one.
const SWITCH_AT: f64 = 10.0;

/// Added to the rank of the sources that are not selected, seconds: a change for a smaller advantage has no use.
const RESELECT_DISTANCE: f64 = 1e-4;

impl Selector {
    /// The selected source.
    pub(crate) fn selected(&self) -> Option<SourceId> {
        self.selected
    }

    /// Carries out the vote.
    pub(crate) fn select(&mut self, candidates: &[Candidate], demands: Demands) -> Outcome {
        if candidates.is_empty() {
            self.selected = None;
            return Outcome::NoCandidates;
        }
        let trusted: Vec<Candidate> = candidates.iter().filter(|c| c.trust).copied().collect();
        let voters = if trusted.is_empty() { candidates } else { &trusted };
        let Some(truth) = agreement(voters) else {
            self.forget();
            return Outcome::NoMajority(candidates.iter().map(|c| contradicted(c, voters)).collect());
        };
        let believed = Believed::new(truth, voters, !trusted.is_empty());
        let survivors: Vec<&Candidate> = candidates.iter().filter(|c| believed.doubts(c).is_none()).collect();
        let unmet = |why: &str| {
            let finding = |c: &Candidate| {
                let (state, why) = believed.doubts(c).unwrap_or((SourceState::Agreeing, why.to_owned()));
                (c.id, state, why)
            };
            candidates.iter().map(finding).collect()
        };
        if survivors.len() < demands.min_sources {
            self.forget();
            let (found, wanted) = (survivors.len(), demands.min_sources);
            return Outcome::TooFew(unmet(&format!(
                "It agrees, but too few sources agree: {found}, itself included; at least {wanted} must."
            )));
        }
        if demands.required && !survivors.iter().any(|c| c.require) {
            self.forget();
            return Outcome::RequiredMissing(unmet("It agrees, but no required source does."));
        }
        // A source that is no longer reached may vote, but it has no new samples, so it is not selected while another
        // is reached.
        let reached = survivors.iter().any(|c| c.reached);
        let able: Vec<&Candidate> = survivors.into_iter().filter(|c| c.reached || !reached).collect();
        // Sources with true time take precedence over local clocks, whose error is not known.
        let (local, able): (Vec<&Candidate>, Vec<&Candidate>) = able.into_iter().partition(|c| c.local);
        let able = if able.is_empty() { local } else { able };
        let followed_local = able.iter().all(|c| c.local);
        let preferred = able.iter().any(|c| c.prefer);
        let eligible: Vec<&Candidate> = able.into_iter().filter(|c| c.prefer || !preferred).collect();
        let Some(selected) = self.choose(&eligible) else {
            // The overlap always has members. If there were none, nothing could be selected.
            return Outcome::NoCandidates;
        };
        self.selected = Some(selected);
        let finding = |c: &Candidate| {
            let (state, why) = if let Some(doubts) = believed.doubts(c) {
                doubts
            } else if c.id == selected {
                (SourceState::Selected, String::new())
            } else if !c.reached {
                (SourceState::Unreachable, "What it said before agrees.".to_owned())
            } else if c.local && !followed_local {
                (SourceState::Agreeing, "It has the time of a local clock; true time is followed.".to_owned())
            } else if preferred && !c.prefer {
                (SourceState::Agreeing, "A preferred source is followed.".to_owned())
            } else {
                (SourceState::Combined, String::new())
            };
            (c.id, state, why)
        };
        Outcome::Majority(candidates.iter().map(finding).collect())
    }

    fn forget(&mut self) {
        self.selected = None;
        self.scores.clear();
    }

    /// Chooses the source to select: the present one, unless another has been better for some time.
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

/// The place where most intervals overlap, if these are more than half. Of several such places, the one with the
/// narrowest intervals: a wide interval overlaps with everything and should not decide.
fn agreement(candidates: &[Candidate]) -> Option<(f64, f64)> {
    let mut edges: Vec<(f64, bool)> = Vec::with_capacity(2 * candidates.len());
    for candidate in candidates {
        edges.extend([(candidate.low(), false), (candidate.high(), true)]);
    }
    // At the same value, starts come before ends, so intervals that touch overlap.
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

/// The interval of the majority, which decides which candidates belong to it.
struct Believed {
    /// The interval that contains true time.
    truth: (f64, f64),
    /// The union of the intervals of the trusted sources in the majority, if there are trusted sources.
    trusted: Option<(f64, f64)>,
}

impl Believed {
    fn new(truth: (f64, f64), voters: &[Candidate], trusting: bool) -> Self {
        let agreeing = || voters.iter().filter(|c| agrees(c, truth));
        let low = agreeing().map(Candidate::low).fold(truth.0, f64::min);
        let high = agreeing().map(Candidate::high).fold(truth.1, f64::max);
        Self { truth, trusted: trusting.then_some((low, high)) }
    }

    /// Why the candidate does not belong to the majority. None if it does.
    fn doubts(&self, candidate: &Candidate) -> Option<(SourceState, String)> {
        let says = |by: &str, (low, high): (f64, f64)| {
            format!(
                "It says {} ± {}; {by} {} to {}.",
                Seconds(candidate.offset),
                Seconds(candidate.distance),
                Seconds(low),
                Seconds(high)
            )
        };
        match self.trusted.filter(|_| !candidate.trust) {
            None if agrees(candidate, self.truth) => None,
            None => Some((SourceState::Falseticker, says("the majority says", self.truth))),
            Some((low, high)) if low <= candidate.low() && candidate.high() <= high => None,
            Some(span @ (low, high)) if low <= candidate.high() && candidate.low() <= high => {
                Some((SourceState::Untrusted, says("it must lie within what trusted sources say,", span)))
            }
            Some(span) => Some((SourceState::Falseticker, says("the trusted sources say", span))),
        }
    }
}

/// Returns true if the candidate's interval contains the interval of the majority, or lies within it.
fn agrees(candidate: &Candidate, truth: (f64, f64)) -> bool {
    candidate.contains(truth) || (truth.0 <= candidate.low() && candidate.high() <= truth.1)
}

fn contradicted(candidate: &Candidate, voters: &[Candidate]) -> Finding {
    let meets = |other: &&Candidate| other.low() <= candidate.high() && candidate.low() <= other.high();
    let trusted = if voters.iter().any(|voter| voter.trust) { "trusted " } else { "" };
    let why = format!(
        "It says {} ± {}, and {} of {} {trusted}sources agree with that; more than half are needed.",
        Seconds(candidate.offset),
        Seconds(candidate.distance),
        voters.iter().filter(meets).count(),
        voters.len()
    );
    (candidate.id, SourceState::NoMajority, why)
}

/// Seconds in a readable unit.
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
            trust: false,
            require: false,
            local: false,
            reached: true,
            fresh: true,
        };
        intervals.iter().enumerate().map(candidate).collect()
    }

    /// Votes without options. `expected` has a letter per source: s selected, c combined, x falseticker, n no majority.
    fn check(intervals: &[(f64, f64)], expected: &str) {
        assert_eq!(vote(&candidates(intervals), FEW), expected, "{intervals:?}");
    }

    const FEW: Demands = Demands { min_sources: 1, required: false };

    /// Returns a letter per source. Every source that is not used must have a reason.
    fn vote(candidates: &[Candidate], demands: Demands) -> String {
        let findings = match Selector::default().select(candidates, demands) {
            Outcome::Majority(findings)
            | Outcome::NoMajority(findings)
            | Outcome::TooFew(findings)
            | Outcome::RequiredMissing(findings) => findings,
            Outcome::NoCandidates => Vec::new(),
        };
        let letter = |(_, state, why): &Finding| {
            let (letter, reason) = match state {
                SourceState::Selected => ('s', false),
                SourceState::Combined => ('c', false),
                SourceState::Falseticker => ('x', true),
                SourceState::NoMajority => ('n', true),
                SourceState::Agreeing => ('a', true),
                SourceState::Untrusted => ('t', true),
                SourceState::Unreachable => ('u', true),
                _ => ('?', true),
            };
            assert_eq!(why.is_empty(), !reason, "{state:?} {why}");
            letter
        };
        findings.iter().map(letter).collect()
    }

    /// Votes with options: p preferred, t trusted, r required, u unreachable.
    fn check_options(all: &[(f64, f64, &str)], demands: Demands, expected: &str) {
        let intervals: Vec<(f64, f64)> =
            all.iter().map(|(offset, distance, _)| (*offset, *distance)).collect();
        let mut candidates = candidates(&intervals);
        for (candidate, (_, _, options)) in candidates.iter_mut().zip(all) {
            candidate.prefer = options.contains('p');
            candidate.trust = options.contains('t');
            candidate.require = options.contains('r');
            candidate.reached = !options.contains('u');
        }
        assert_eq!(vote(&candidates, demands), expected, "{all:?}");
    }

    #[test]
    fn the_trusted_decide_and_others_lie_within_what_they_say() {
        check_options(&[(0.0, 0.1, "t"), (5.0, 0.1, ""), (5.0, 0.1, "")], FEW, "sxx");
        check_options(&[(0.0, 0.1, "t"), (0.01, 0.05, ""), (0.0, 0.2, "")], FEW, "cst");
        check_options(&[(0.0, 0.1, "t"), (5.0, 0.1, "t"), (0.0, 0.1, "")], FEW, "nnn");
        check_options(&[(0.0, 0.1, "t"), (0.1, 0.1, "t"), (5.0, 0.1, "t"), (0.15, 0.01, "")], FEW, "ccxs");
    }

    #[test]
    fn without_what_is_demanded_nothing_is_followed() {
        let two = Demands { min_sources: 2, ..FEW };
        check_options(&[(0.0, 0.1, "")], two, "a");
        check_options(&[(0.0, 0.1, ""), (0.0, 0.2, "")], two, "sc");
        check_options(&[(0.0, 0.1, "t"), (5.0, 0.1, "")], two, "ax");
        let required = Demands { required: true, ..FEW };
        check_options(&[(0.0, 0.1, ""), (0.0, 0.2, "")], required, "aa");
        check_options(&[(0.0, 0.1, ""), (0.0, 0.2, "r")], required, "sc");
        check_options(&[(0.0, 0.1, ""), (0.0, 0.2, ""), (5.0, 0.2, "r")], required, "aax");
    }

    #[test]
    fn the_unreachable_vote_and_are_not_followed() {
        check_options(&[(0.0, 0.01, "u"), (0.0, 0.2, ""), (5.0, 0.1, "")], FEW, "usx");
        check_options(&[(0.0, 0.01, "pu"), (0.0, 0.2, "")], FEW, "us");
        check_options(&[(0.0, 0.01, "u"), (0.0, 0.2, "u")], FEW, "su");
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
        let Outcome::Majority(verdicts) = Selector::default().select(&all, FEW) else { panic!("a majority") };
        assert_eq!(verdicts[0].1, SourceState::Selected);
        assert_eq!(verdicts[3].1, SourceState::Falseticker);
        assert!(
            verdicts[3].2.starts_with("It says 5.000 s ± 1.000 ms; the majority says"),
            "{}",
            verdicts[3].2
        );
        all[2].prefer = true;
        let Outcome::Majority(verdicts) = Selector::default().select(&all, FEW) else { panic!("a majority") };
        assert_eq!(verdicts[2].1, SourceState::Selected);
        assert_eq!(verdicts[0].1, SourceState::Agreeing);
    }

    #[test]
    fn a_slightly_better_source_is_not_switched_to() {
        let mut selector = Selector::default();
        let mut all = candidates(&[(0.0, 1.00e-3), (0.0, 1.01e-3)]);
        selector.select(&all, FEW);
        all[1].distance = 0.95e-3;
        for _ in 0..1000 {
            selector.select(&all, FEW);
        }
        assert_eq!(selector.selected(), Some(SourceId(0)));
        all[0].distance = 50e-3;
        selector.select(&all, FEW);
        assert_eq!(selector.selected(), Some(SourceId(1)));
    }

    proptest! {
        #[test]
        fn the_selected_source_agrees_with_more_than_half(
            intervals in proptest::collection::vec((-1.0..1.0, 0.0..1.0), 1..10),
        ) {
            let all = candidates(&intervals);
            let mut selector = Selector::default();
            selector.select(&all, FEW);
            if let Some(selected) = selector.selected() {
                let chosen = all[selected.0 as usize];
                let meets = |c: &&Candidate| c.low() <= chosen.high() && chosen.low() <= c.high();
                prop_assert!(2 * all.iter().filter(meets).count() > all.len());
            }
        }
    }
}
