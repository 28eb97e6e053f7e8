//! The local clock: when our own clock is served although no upstream tells the time, and which sources serve such a
//! clock or follow one (local references). What the sources said last goes in; nothing is moved here.
//!
//! An air gap needs a clock that all agree on. A clock that is known to be wrong is never served as such, and neither is
//! one that a source contradicts: the local clock is for silence only.
use crate::{
    Now,
    disturbance::aftermath::{Disturbance, Halt},
    engine::{Engine, standing::Ballot, steer::too_uncertain},
    source::{association::Association, reply::Server},
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

    /// Whether a source serves a local clock or follows one: nobody knows how far that is from UTC. The server itself
    /// says so by its reference. Whoever follows it is known if we ask both, or by a stratum that nobody has who follows
    /// true time.
    pub(crate) fn local_reference(&self, association: &Association) -> bool {
        let voice = association.voice().map(|(_, server)| server);
        let Some(server) = voice.or(association.server) else { return false };
        let beyond = self.config.local.is_some_and(|local| server.stratum >= local.stratum);
        // Strata fall on the way to the reference, so this ends.
        let followed = |a: &&Association| {
            a.reference_id() == Some(server.reference_id)
                && a.server.is_some_and(|above| above.stratum < server.stratum)
        };
        beyond
            || serves_local_clock(server)
            || self.associations.iter().filter(followed).any(|a| self.local_reference(a))
    }

    /// Whether the local clock that we followed is gone for so long that our own is to be served.
    pub(crate) fn orphaned(&self, now: Now) -> bool {
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
        let unsettled = |open: &Disturbance| {
            open.left_alone || open.moved.is_some() || matches!(open.halt, Some(Halt::Unseen { .. }))
        };
        let limit = self.config.error_bound_threshold;
        let disagreed = match self.ballot {
            Ballot::NoMajority => true,
            // Too few agreed, but with what? What they said last still counts.
            Ballot::TooFew | Ballot::RequiredMissing => self.contradicted(limit, now),
            Ballot::Open | Ballot::Majority => false,
        };
        self.discipline.refused.is_some()
            || self.jumps.open.as_ref().is_some_and(unsettled)
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

/// What a server that serves its own clock gives as its reference: ntpd's driver of the local clock, as in chrony.
pub(crate) const LOCAL_CLOCK: [u8; 4] = [127, 127, 1, 1];

/// Whether its reference is its own clock: 127.127.1.1 in chrony and here, 127.0.0.1 for an orphan of ntpd, `LOCL` for
/// ntpd's driver of the local clock.
fn serves_local_clock(server: Server) -> bool {
    server.reference_id[0] == 127 || server.reference_id == *b"LOCL"
}
