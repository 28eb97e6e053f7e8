//! A pause that the platform does not report: a virtual machine that was held, for instance. Only the sources can show
//! it. Their newest answers go in; a [`Finding`] comes out.
//!
//! CVE-2015-5300 was about steps that sources bring about. So the conditions are strict: a majority of the sources that
//! agreed with this clock must contradict it together, while it is synchronised, by more than an hour of slewing, and
//! within `max_change`. Fresh samples alone must confirm it, and at most one step in ten minutes follows.
use crate::{
    Now, SourceId, SourceState, clock::slew::Clock, measure::discipline::Reference,
    source::association::Association,
};

/// Some of the sources that agreed with this clock contradict it.
#[derive(Clone, Debug)]
pub(crate) struct Doubt {
    since: Now,
    /// What the clock followed.
    reference: Reference,
    /// The sources that agreed with this clock.
    agreed: Vec<SourceId>,
}

/// The result of a doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Too few have answered.
    Open,
    /// A majority contradicts this clock.
    Confirmed,
    /// Half of them have answered since, and agree with this clock.
    Refuted,
}

/// The values with which the sources are compared.
#[derive(Clone, Copy)]
pub(crate) struct Witness<'a> {
    pub(crate) associations: &'a [Association],
    pub(crate) clock: &'a Clock,
    /// A larger offset cannot be slewed away, seconds.
    pub(crate) limit: f64,
    pub(crate) now: Now,
}

/// A doubt ends after this time, seconds. By then a source that is no longer reached has left the vote.
const LONGEST_DOUBT: f64 = 600.0;

impl Doubt {
    /// Begins a doubt if one of the sources that agreed with this clock now contradicts it.
    pub(crate) fn begin(reference: Reference, witness: Witness<'_>) -> Option<Self> {
        let agreeing = [SourceState::Selected, SourceState::Combined, SourceState::Agreeing];
        let agrees = |a: &&Association| a.reach != 0 && agreeing.contains(&a.state.0);
        let agreed = || witness.associations.iter().filter(agrees);
        agreed().any(|a| deviates(a, &reference, witness)).then(|| Self {
            since: witness.now,
            reference,
            agreed: agreed().map(|a| a.id).collect(),
        })
    }

    /// Returns true if the doubt has lasted too long.
    pub(crate) fn is_over(&self, now: Now) -> bool {
        now.mono - self.since.mono > LONGEST_DOUBT
    }

    /// Counts the sources for and against this clock.
    pub(crate) fn judge(&self, min_sources: usize, witness: Witness<'_>) -> Finding {
        let agreed = || witness.associations.iter().filter(|a| self.agreed.contains(&a.id));
        let all = agreed().count();
        let against = agreed().filter(|a| deviates(a, &self.reference, witness)).count();
        let since = witness.clock.corrected(self.since.wall);
        let heard = |a: &&Association| a.history.newest().is_some_and(|sample| sample.at > since);
        let with = agreed().filter(heard).filter(|a| !deviates(a, &self.reference, witness)).count();
        if 2 * against > all && against >= min_sources {
            Finding::Confirmed
        } else if 2 * with >= all {
            Finding::Refuted
        } else {
            Finding::Open
        }
    }
}

/// Returns true if the newest answer is farther from the reference than a slew could correct, whatever its delay.
fn deviates(association: &Association, reference: &Reference, witness: Witness<'_>) -> bool {
    association.history.newest().is_some_and(|sample| {
        let mono = witness.now.mono;
        let known = reference.root_delay / 2.0 + reference.root_dispersion_at(mono);
        let apart = (sample.offset - reference.offset_at(mono)).abs();
        apart > witness.limit + known + sample.root_distance()
    })
}
