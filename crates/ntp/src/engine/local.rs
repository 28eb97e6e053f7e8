//! The local clock (`stratum.local`): when this node serves its own clock because no upstream gives time.
//!
//! Nodes without upstreams need a clock that all agree on. A clock that is known to be wrong is never served, and neither
//! is one that a source contradicts: the local clock is only for the time when no source can be judged.
use crate::{
    Now, SourceId, SourceState,
    engine::Engine,
    measure::{
        candidate::too_uncertain,
        local::is_local_reference,
        orphan::{is_in_orphan_group, serves_itself, smallest_orphan},
        select::Ballot,
    },
    source::association::Association,
};

impl Engine {
    /// Returns the stratum at which this node serves its own clock at `now`; `None` if it does not. It changes with every
    /// event, and by itself with time.
    pub fn local_stratum(&self, now: Now) -> Option<u8> {
        let local = self.config.local?;
        let waited = now.mono - self.last_synchronized >= local.activate_after;
        let ours = !local.orphan || self.parent.is_none();
        let serves =
            waited && ours && !self.judged(now).0 && !self.known_to_be_wrong(now) && self.unjudged(now);
        serves.then_some(local.stratum)
    }

    /// Returns true if the configuration means that this node serves its own clock: it has no upstreams, or it has orphan
    /// mode, and at least one other node has answered under this configuration.
    pub(super) fn means_local(&self) -> bool {
        let orphan = self.config.local.is_some_and(|local| local.orphan);
        let answered = |a: &Association| self.answered_as_configured(a);
        self.selectable().next().is_none() || orphan && self.associations.iter().any(answered)
    }

    /// Returns true if the source has answered under this configuration.
    pub(super) fn answered_as_configured(&self, association: &Association) -> bool {
        association.last_answer.is_some_and(|at| at > self.configured)
    }

    /// Returns true if the local clock that was followed is gone for `activate_after`, so that this node serves its own.
    pub(super) fn orphaned(&self, now: Now) -> bool {
        self.config.local.is_some_and(|local| {
            let gone = if local.orphan { self.parent.is_none() } else { self.unjudged(now) };
            gone && now.mono - self.last_synchronized >= local.activate_after
        })
    }

    /// Returns true if this node's clock cannot be compared with any source. Before the local clock is served, each source
    /// must have been silent or unusable for eight polls. Afterwards a new source, or a new address, changes nothing until
    /// it answers.
    fn unjudged(&self, now: Now) -> bool {
        let at = self.clock.corrected(now.wall);
        self.selectable().all(|a| {
            let silent = if self.serves_local { a.reach == 0 } else { self.silent(a, now) || a.limited() };
            let useless = || too_uncertain(a, at, self.config.max_distance).is_some();
            silent || self.in_orphan_group(a) || a.follows_us() || a.is_no_other_server() || useless()
        })
    }

    /// Returns true if this node's clock is known to be wrong: a correction was refused or is still due, the sources
    /// disagreed, or the clock jumped.
    fn known_to_be_wrong(&self, now: Now) -> bool {
        let limit = self.config.error_bound_threshold;
        let disagreed = match self.ballot {
            Ballot::NoMajority => true,
            // Too few agreed. Their last estimates still show whether the clock is wrong.
            Ballot::TooFew | Ballot::RequiredMissing => self.contradicted(limit, now),
            Ballot::Open | Ballot::Majority => false,
        };
        self.recovery.known_to_be_wrong()
            || disagreed
            || self.offset(now).is_some_and(|offset| offset.abs() > limit)
    }

    /// Returns true if the last estimate of a usual source puts this clock off by more than `limit` seconds.
    fn contradicted(&self, limit: f64, now: Now) -> bool {
        let (at, pending) = (self.clock.corrected(now.wall), self.clock.pending(now.wall));
        self.selectable().filter(|a| !self.in_orphan_group(a)).any(|a| {
            let estimate = a.history.estimate();
            estimate.is_some_and(|estimate| {
                let (offset, distance) = estimate.interval_at(at);
                (offset - pending).abs() - distance > limit
            })
        })
    }
}

/// Properties of a source that depend on the configuration of the local clock.
impl Engine {
    /// Returns true if a source serves a local clock or follows one.
    pub(super) fn local_reference(&self, association: &Association) -> bool {
        is_local_reference(association, &self.associations, self.config.local)
    }

    /// Returns true if a source is an orphan or may follow one. Such a source takes no part in the usual vote.
    pub(super) fn in_orphan_group(&self, association: &Association) -> bool {
        is_in_orphan_group(association, self.config.local)
    }

    /// Returns the answering orphan with the smallest reference id, if that is smaller than this node's.
    pub(super) fn smallest_orphan(&self) -> Option<SourceId> {
        smallest_orphan(&self.associations, self.config.local)
    }

    /// Elects the orphan to follow, and records for all outcasts why they are not followed. `better`: other sources can be
    /// voted on.
    pub(super) fn elect(&mut self, better: bool, now: Now) {
        let held = self.discipline.reference.is_some_and(|reference| !reference.local) && self.judged(now).0;
        self.parent = if better || held { None } else { self.smallest_orphan() };
        let why = match self.parent {
            None if better || held => "A better source is usable.",
            None => "Its reference id is larger than this node's, so it should follow this node.",
            Some(_) => "There is another such server with a smaller reference id.",
        };
        let members: Vec<SourceId> =
            self.associations.iter().filter(|a| self.in_orphan_group(a)).map(|a| a.id).collect();
        for association in self.associations.iter_mut().filter(|a| members.contains(&a.id)) {
            if association.obstacle().is_none() {
                let what = match association.server {
                    Some(server) if serves_itself(server) => format!("It serves its own clock. {why}"),
                    _ => "It may follow a server that serves its own clock.".to_owned(),
                };
                association.state = (SourceState::Unusable, what);
            }
        }
        if self.discipline.reference.is_some_and(|reference| reference.local) && self.orphaned(now) {
            self.discipline.reference = None;
        }
    }
}
