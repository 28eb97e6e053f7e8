//! One server under several names. Of several sources at one address and port only one counts. The others, the
//! duplicates, have no vote, and they are not asked, so that the server does not get more requests.
use std::net::{IpAddr, SocketAddr};

use super::{Association, UNREACHABLE};
use crate::{
    Action, Auth, Heard, Mono, OwnAddresses, Source,
    source::{cause::Cause, filter::History, poll::Schedule, reply::Server},
};

/// How other sources at the same server affect this one.
#[derive(Clone, Debug, Default)]
pub(super) struct Duplicate {
    /// Why another source counts instead of this one. None if this one counts.
    why: Option<String>,
    /// The options of the duplicates for which this source counts.
    lent_options: VoteOptions,
    /// True if a duplicate of this source has no other address.
    needed_by_another: bool,
    /// The place where this source got no valid reply, so that another source counts there, and until when that holds.
    failed: Option<(SocketAddr, Mono)>,
    /// Addresses that did not answer, and until when they are not tried again instead of an occupied one.
    failed_addresses: Vec<(IpAddr, Mono)>,
}

/// The options that decide how the vote of a source is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VoteOptions {
    pub(crate) prefer: bool,
    pub(crate) trust: bool,
    pub(crate) require: bool,
}

/// The measurements of a server under another name, and how its replies were authenticated.
pub(crate) struct Handover {
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

/// An address that did not answer is not tried again, instead of an occupied one, for this time, seconds.
const RETRY_AFTER: f64 = 600.0;

/// A source that got no valid reply at a place where another source counts now is not tried there for this time,
/// seconds.
const FAILED: f64 = 3600.0;

impl Association {
    /// The address and port that it asks. None before it can ask, and for a device.
    pub(crate) fn place(&self) -> Option<SocketAddr> {
        self.claim().filter(|_| self.placed())
    }

    /// The address and port, also before keys are exchanged.
    pub(crate) fn claim(&self) -> Option<SocketAddr> {
        self.address.map(|address| SocketAddr::new(address, self.port))
    }

    /// Returns true if requests are sent to it.
    pub(super) fn asks(&self) -> bool {
        self.placed() && !self.is_duplicate()
    }

    /// Returns true if it polled its present place for the full number of polls without a valid reply.
    pub(crate) fn has_failed_here(&self, now: Mono) -> bool {
        let failed = self.duplicate.failed.filter(|(_, until)| *until > now).map(|(place, _)| place);
        self.has_failed_now() || self.reach == 0 && failed.is_some() && failed == self.place()
    }

    fn has_failed_now(&self) -> bool {
        self.reach == 0 && self.tries >= UNREACHABLE
    }

    /// Returns true if another source counts instead of this one.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.duplicate.why.is_some()
    }

    /// Why it has no vote, if it is a duplicate.
    pub(super) fn duplicate_obstacle(&self) -> Option<Cause> {
        self.duplicate.why.clone().map(Cause::Duplicate)
    }

    /// Its options, combined with those of its duplicates.
    pub(crate) fn vote_options(&self) -> VoteOptions {
        self.own_vote_options().and(self.duplicate.lent_options)
    }

    /// Its options alone.
    pub(crate) fn own_vote_options(&self) -> VoteOptions {
        let Source { prefer, trust, require, .. } = self.source;
        VoteOptions { prefer, trust, require }
    }

    /// Returns true if it has duplicates.
    pub(crate) fn counts_for_others(&self) -> bool {
        self.duplicate.needed_by_another || self.duplicate.lent_options != VoteOptions::default()
    }

    /// Sets the options of its duplicates, and whether one of them has no other address.
    pub(crate) fn count_for(&mut self, lent_options: VoteOptions, needed_by_another: bool) {
        (self.duplicate.lent_options, self.duplicate.needed_by_another) = (lent_options, needed_by_another);
    }

    /// Returns true if a duplicate of this source has no other address.
    pub(crate) fn is_needed_by_another(&self) -> bool {
        self.duplicate.needed_by_another
    }

    /// Returns true if there would be one more vote if this source moved to another address.
    pub(crate) fn is_crowded(&self) -> bool {
        self.is_duplicate() || self.duplicate.needed_by_another
    }

    /// Makes it count for its server. If it was a duplicate, it is asked like a new source.
    pub(crate) fn count(&mut self, now: Mono) {
        if self.duplicate.why.take().is_some() {
            let Source { min_poll, max_poll, iburst, .. } = self.source;
            self.schedule = Schedule::new(min_poll, max_poll, iburst, now);
            self.set_state(&Cause::Awaited);
        }
    }

    /// Makes it a duplicate: another source counts for its server. It is no longer asked, and its samples are dropped.
    pub(crate) fn become_duplicate(&mut self, name: &str, place: SocketAddr, now: Mono) -> Option<Action> {
        if self.has_failed_now() {
            self.duplicate.failed = Some((place, now.plus(FAILED)));
        }
        self.count_for(VoteOptions::default(), false);
        let others = if self.addresses.len() > 1 { " Its other addresses are taken or silent." } else { "" };
        let why = format!(
            "Same server as {name} at {place}, which counts already; one address and port has one vote. Remove one of \
             the two names, or let them be different servers.{others}"
        );
        if self.duplicate.why.as_ref() == Some(&why) {
            return None;
        }
        self.set_state(&Cause::Duplicate(why.clone()));
        let known = self.duplicate.why.replace(why).is_some();
        self.lookup = None;
        (self.reach, self.unanswered, self.silent, self.last_answer) = (0, 0, 0, None);
        let address = self.address.filter(|_| !known)?;
        self.replace(address)
    }

    /// Takes out the measurements, for another source at the same server.
    pub(crate) fn hand_over(&mut self) -> Handover {
        self.fresh = false;
        Handover {
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

    /// Takes over the measurements of its server, if it has none, and they were authenticated in the same way. Returns
    /// true if it did.
    pub(crate) fn take_over(&mut self, handover: Handover, now: Mono) -> bool {
        let Handover { place, auth, history, server, heard, local, reach, last_answer, schedule } = handover;
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

    /// Another address of its own that no other source uses, that is not this node itself, and that did not fail
    /// recently.
    pub(crate) fn free_address(
        &mut self,
        occupied: &[SocketAddr],
        own: &OwnAddresses,
        now: Mono,
    ) -> Option<IpAddr> {
        self.duplicate.failed_addresses.retain(|(_, until)| *until > now);
        let failed =
            |address: &IpAddr| self.duplicate.failed_addresses.iter().any(|(each, _)| each == address);
        let free = |address: &&IpAddr| {
            let place = SocketAddr::new(**address, self.port);
            !occupied.contains(&place) && own.forbid(place).is_none() && !failed(address)
        };
        // A pool gives its members their addresses.
        self.addresses.iter().filter(|_| self.pool.is_none()).find(free).copied()
    }

    /// Switches to another of its addresses, as if this were a new source.
    pub(crate) fn switch_address(&mut self, address: IpAddr, now: Mono) -> Option<Action> {
        let Source { min_poll, max_poll, iburst, .. } = self.source;
        self.schedule = Schedule::new(min_poll, max_poll, iburst, now);
        (self.reach, self.unanswered, self.silent, self.last_answer) = (0, 0, 0, None);
        (self.lookup, self.duplicate.why) = (None, None);
        self.set_state(&Cause::Awaited);
        self.replace(address)
    }

    /// Notes the present address as failed, if it did not answer.
    pub(super) fn mark_failed(&mut self, now: Mono) {
        if let Some(address) = self.address.filter(|_| self.reach == 0 && self.unanswered > 0) {
            self.duplicate.failed_addresses.retain(|(each, _)| *each != address);
            self.duplicate.failed_addresses.push((address, now.plus(RETRY_AFTER)));
        }
    }
}

impl VoteOptions {
    /// The options that at least one of the two has.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            prefer: self.prefer || other.prefer,
            trust: self.trust || other.trust,
            require: self.require || other.require,
        }
    }
}
