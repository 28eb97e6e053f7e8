//! One server under several names: what a source does while another one counts for the same address and port. It is
//! not asked, so that the server is not asked twice as often, and it has no vote.
use std::net::{IpAddr, SocketAddr};

use super::{Association, UNREACHABLE};
use crate::{
    Action, Auth, Heard, Mono, OwnAddresses, Source,
    source::{cause::Cause, filter::History, poll::Schedule, reply::Server},
};

/// What other sources at the same server mean for this one.
#[derive(Clone, Debug, Default)]
pub(super) struct Duplicate {
    /// Why another source counts instead of this one; none if this one counts.
    why: Option<String>,
    /// The options of the sources that this one counts for.
    lent: Merits,
    /// A source that cannot be asked elsewhere is not asked because of this one.
    wanted: bool,
    /// Where it had its polls and got no good answer, so that another source counts there, and until when.
    failed: Option<(SocketAddr, Mono)>,
    /// Addresses that did not answer, and until when they are not tried again in place of an occupied one.
    spoiled: Vec<(IpAddr, Mono)>,
}

/// The options that decide how a vote is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merits {
    pub(crate) prefer: bool,
    pub(crate) trust: bool,
    pub(crate) require: bool,
}

/// What was measured of a server under another name, and how its answers were proven.
pub(crate) struct Heritage {
    pub(crate) place: Option<SocketAddr>,
    auth: Auth,
    history: History,
    server: Option<Server>,
    heard: Option<Heard>,
    local: Option<IpAddr>,
    reach: u8,
    last_answer: Option<Mono>,
    schedule: Schedule,
}

/// An address that did not answer is not tried again in place of an occupied one for this time, seconds.
const SPOILED: f64 = 600.0;

/// A source that got no good answer where another one counts now is not tried there again for this time, seconds.
const FAILED: f64 = 3600.0;

impl Association {
    /// The address and port that it asks, once it can; a device has none.
    pub(crate) fn place(&self) -> Option<SocketAddr> {
        self.claim().filter(|_| self.placed())
    }

    /// The same, also while keys are still to be exchanged with it.
    pub(crate) fn claim(&self) -> Option<SocketAddr> {
        self.address.map(|address| SocketAddr::new(address, self.port))
    }

    /// Whether requests are sent to it.
    pub(super) fn asks(&self) -> bool {
        self.placed() && !self.is_duplicate()
    }

    /// Whether it had its polls where it is asked, or would be asked, and got no good answer.
    pub(crate) fn has_failed_here(&self, now: Mono) -> bool {
        let failed = self.duplicate.failed.filter(|(_, until)| *until > now).map(|(place, _)| place);
        self.has_failed_now() || self.reach == 0 && failed.is_some() && failed == self.place()
    }

    fn has_failed_now(&self) -> bool {
        self.reach == 0 && self.tries >= UNREACHABLE
    }

    /// Whether another source counts for its server.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.duplicate.why.is_some()
    }

    /// Why it has no vote, if another source counts for its server.
    pub(super) fn duplicate_obstacle(&self) -> Option<Cause> {
        self.duplicate.why.clone().map(Cause::Duplicate)
    }

    /// Its options, and those of the sources that it counts for.
    pub(crate) fn merits(&self) -> Merits {
        self.own_merits().and(self.duplicate.lent)
    }

    /// Its options alone.
    pub(crate) fn own_merits(&self) -> Merits {
        let Source { prefer, trust, require, .. } = self.source;
        Merits { prefer, trust, require }
    }

    /// Whether it counts for others, too.
    pub(crate) fn stands_for_others(&self) -> bool {
        self.duplicate.wanted || self.duplicate.lent != Merits::default()
    }

    /// Takes what the other sources at its server ask for, if there are any, and whether one of them has nowhere else to
    /// ask.
    pub(crate) fn stand_for(&mut self, lent: Merits, wanted: bool) {
        (self.duplicate.lent, self.duplicate.wanted) = (lent, wanted);
    }

    /// Whether another source has no other address than this one's.
    pub(crate) fn is_wanted(&self) -> bool {
        self.duplicate.wanted
    }

    /// Whether there would be one more vote if it asked at another address.
    pub(crate) fn is_crowded(&self) -> bool {
        self.is_duplicate() || self.duplicate.wanted
    }

    /// Counts for its server from now on. If it did not before, it is asked as a new source is.
    pub(crate) fn count(&mut self, now: Mono) {
        if self.duplicate.why.take().is_some() {
            let Source { min_poll, max_poll, iburst, .. } = self.source;
            self.schedule = Schedule::new(min_poll, max_poll, iburst, now);
            self.stand(&Cause::Awaited);
        }
    }

    /// Another source counts for its server: it is asked no more, and what it said is forgotten.
    pub(crate) fn yield_to(&mut self, name: &str, place: SocketAddr, now: Mono) -> Option<Action> {
        if self.has_failed_now() {
            self.duplicate.failed = Some((place, now.plus(FAILED)));
        }
        self.stand_for(Merits::default(), false);
        let others = if self.addresses.len() > 1 { " Its other addresses are taken or silent." } else { "" };
        let why = format!(
            "Same server as {name} at {place}, which counts already; one address and port has one vote. Remove one of \
             the two names, or let them be different servers.{others}"
        );
        if self.duplicate.why.as_ref() == Some(&why) {
            return None;
        }
        self.stand(&Cause::Duplicate(why.clone()));
        let known = self.duplicate.why.replace(why).is_some();
        self.lookup = None;
        (self.reach, self.unanswered, self.silent, self.last_answer) = (0, 0, 0, None);
        let address = self.address.filter(|_| !known)?;
        self.replace(address)
    }

    /// What was measured, for another source at this server.
    pub(crate) fn bequeath(&mut self) -> Heritage {
        self.fresh = false;
        Heritage {
            place: self.place(),
            auth: self.source.auth.clone(),
            history: std::mem::take(&mut self.history),
            server: self.server.take(),
            heard: self.heard.take(),
            local: self.local,
            reach: std::mem::take(&mut self.reach),
            last_answer: self.last_answer.take(),
            schedule: self.schedule.clone(),
        }
    }

    /// Goes on with what was measured of its server, if it knows nothing yet and would have believed that. Returns true
    /// if it does.
    pub(crate) fn inherit(&mut self, heritage: Heritage, now: Mono) -> bool {
        let Heritage { place, auth, history, server, heard, local, reach, last_answer, schedule } = heritage;
        let usable = place.is_some() && place == self.place() && auth == self.source.auth;
        if !usable || server.is_none() || self.is_duplicate() || self.server.is_some() {
            return false;
        }
        (self.history, self.server, self.heard, self.local) = (history, server, heard, local);
        (self.reach, self.last_answer, self.schedule) = (reach, last_answer, schedule);
        (self.unanswered, self.silent, self.rejection) = (0, 0, None);
        self.schedule.limit(self.source.min_poll, self.source.max_poll, now);
        true
    }

    /// Another address of its own that no other source is at, nor this node itself, and that was not found silent of late.
    pub(crate) fn free_address(
        &mut self,
        occupied: &[SocketAddr],
        own: &OwnAddresses,
        now: Mono,
    ) -> Option<IpAddr> {
        self.duplicate.spoiled.retain(|(_, until)| *until > now);
        let spoiled = |address: &IpAddr| self.duplicate.spoiled.iter().any(|(each, _)| each == address);
        let free = |address: &&IpAddr| {
            let place = SocketAddr::new(**address, self.port);
            !occupied.contains(&place) && own.forbid(place).is_none() && !spoiled(address)
        };
        // A pool gives its members their addresses.
        self.addresses.iter().filter(|_| self.pool.is_none()).find(free).copied()
    }

    /// Asks another of its addresses, as if it were a new source.
    pub(crate) fn go_to(&mut self, address: IpAddr, now: Mono) -> Option<Action> {
        let Source { min_poll, max_poll, iburst, .. } = self.source;
        self.schedule = Schedule::new(min_poll, max_poll, iburst, now);
        (self.reach, self.unanswered, self.silent, self.last_answer) = (0, 0, 0, None);
        (self.lookup, self.duplicate.why) = (None, None);
        self.stand(&Cause::Awaited);
        self.replace(address)
    }

    /// The address that it leaves did not answer.
    pub(super) fn spoil(&mut self, now: Mono) {
        if let Some(address) = self.address.filter(|_| self.reach == 0 && self.unanswered > 0) {
            self.duplicate.spoiled.retain(|(each, _)| *each != address);
            self.duplicate.spoiled.push((address, now.plus(SPOILED)));
        }
    }
}

impl Merits {
    /// What either asks for.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            prefer: self.prefer || other.prefer,
            trust: self.trust || other.trust,
            require: self.require || other.require,
        }
    }
}
