//! The local clock: when our own clock is served although no upstream tells the time, and which sources serve such a
//! clock or follow one (local references). What the sources said last goes in; nothing is moved here.
//!
//! An air gap needs a clock that all agree on. A clock that is known to be wrong is never served as such, and neither is
//! one that a source contradicts: the local clock is for silence only.
use crate::{
    Now, SourceId, SourceState,
    engine::Engine,
    measure::{
        candidate::too_uncertain,
        local::is_local_reference,
        orphan::{is_outcast, serves_itself, smallest_orphan},
        select::Ballot,
    },
    source::association::Association,
};

impl Engine {
    /// The stratum at which our own clock is served at `now`; none if it is not. The answer changes with every verb,
    /// and by itself with time.
    pub fn local_stratum(&self, now: Now) -> Option<u8> {
        let local = self.config.local?;
        let waited = now.mono - self.lost >= local.activate_after;
        let ours = !local.orphan || self.parent.is_none();
        let serves =
            waited && ours && !self.judged(now).0 && !self.known_to_be_wrong(now) && self.unjudged(now);
        serves.then_some(local.stratum)
    }

    /// Whether the local clock that we followed is gone for so long that our own is to be served.
    pub(super) fn orphaned(&self, now: Now) -> bool {
        self.config.local.is_some_and(|local| {
            let gone = if local.orphan { self.parent.is_none() } else { self.unjudged(now) };
            gone && now.mono - self.lost >= local.activate_after
        })
    }

    /// Whether no source says anything that our clock could be compared with. While we do not serve yet, each must have
    /// been silent, or of no use, for eight polls. Afterwards one that has just been added, or has another address,
    /// changes nothing until it answers.
    fn unjudged(&self, now: Now) -> bool {
        let at = self.clock.corrected(now.wall);
        self.electable().all(|a| {
            let silent = if self.serves_local { a.reach == 0 } else { self.silent(a, now) || a.limited() };
            let useless = || too_uncertain(a, at, self.config.max_distance).is_some();
            silent || self.outcast(a) || a.follows_us() || a.is_nobody() || useless()
        })
    }

    /// Whether something is known that speaks against our clock: a correction that is refused or still due, a
    /// disagreement that no source has settled, a jump.
    fn known_to_be_wrong(&self, now: Now) -> bool {
        let limit = self.config.error_bound_threshold;
        let disagreed = match self.ballot {
            Ballot::NoMajority => true,
            // Too few agreed, but with what? What they said last still counts.
            Ballot::TooFew | Ballot::RequiredMissing => self.contradicted(limit, now),
            Ballot::Open | Ballot::Majority => false,
        };
        self.recovery.known_to_be_wrong()
            || disagreed
            || self.offset(now).is_some_and(|offset| offset.abs() > limit)
    }

    /// Whether a source that tells true time said last that this clock is off by more than `limit`, seconds.
    fn contradicted(&self, limit: f64, now: Now) -> bool {
        let (at, pending) = (self.clock.corrected(now.wall), self.clock.pending(now.wall));
        self.electable().filter(|a| !self.outcast(a)).any(|a| {
            let estimate = a.history.estimate();
            estimate.is_some_and(|estimate| {
                let (offset, distance) = estimate.interval_at(at);
                (offset - pending).abs() - distance > limit
            })
        })
    }
}

/// Questions about sources that the orders for the local clock decide.
impl Engine {
    /// Whether a source serves a local clock or follows one.
    pub(super) fn local_reference(&self, association: &Association) -> bool {
        is_local_reference(association, &self.associations, self.config.local)
    }

    /// Whether a source is an orphan, or may follow one: never a source of time like others.
    pub(super) fn outcast(&self, association: &Association) -> bool {
        is_outcast(association, self.config.local)
    }

    /// Of the orphans that answer, the one with the smallest reference id, if that is smaller than ours.
    pub(super) fn smallest_orphan(&self) -> Option<SourceId> {
        smallest_orphan(&self.associations, self.config.local)
    }

    /// Elects the orphan that goes before us, and says of all outcasts why they are not followed. `better` is whether
    /// others can be voted on.
    pub(super) fn elect(&mut self, better: bool, now: Now) {
        let held = self.discipline.reference.is_some_and(|reference| !reference.local) && self.judged(now).0;
        self.parent = if better || held { None } else { self.smallest_orphan() };
        let why = match self.parent {
            None if better || held => "There is better.",
            None => "Its reference id is larger than this node's, so it is to follow us.",
            Some(_) => "There is another such server with a smaller reference id.",
        };
        let outcasts: Vec<SourceId> =
            self.associations.iter().filter(|a| self.outcast(a)).map(|a| a.id).collect();
        for association in self.associations.iter_mut().filter(|a| outcasts.contains(&a.id)) {
            if association.obstacle().is_none() {
                let what = match association.server {
                    Some(server) if serves_itself(server) => format!("It serves its own clock. {why}"),
                    _ => "It may follow a server that serves its own clock.".to_owned(),
                };
                association.standing = (SourceState::Unusable, what);
            }
        }
        if self.discipline.reference.is_some_and(|reference| reference.local) && self.orphaned(now) {
            self.discipline.reference = None;
        }
    }
}
