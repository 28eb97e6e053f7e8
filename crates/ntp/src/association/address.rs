//! Which of its addresses a source is asked at: the resolver's answers, and what happens when one is of no use.
use std::net::IpAddr;

use super::{
    Association,
    lookup::{LONGEST_LOOKUP_WAIT, Lookup},
};
use crate::{Action, Mono, Source, poll::Schedule};

impl Association {
    /// The resolver's answer; empty if there is none.
    pub(crate) fn resolved(&mut self, addresses: &[IpAddr], now: Mono) -> Option<Action> {
        let refreshed = self.refresh.answered();
        if addresses.is_empty() || self.lookup.is_none() && !refreshed {
            return None;
        }
        self.addresses = addresses.to_vec();
        let silent = self.lookup.take().is_some() && self.reach == 0;
        if self.address.is_some_and(|address| silent || !addresses.contains(&address)) {
            return if silent { self.turn_from_silence(now) } else { self.follow_name(now) };
        }
        if self.address.is_some() { None } else { self.next_address(now) }
    }

    /// Its address was not reached so far: tries another one, and asks for the name again later, since names move.
    fn turn_from_silence(&mut self, now: Mono) -> Option<Action> {
        self.lookup = Some(Lookup { at: now.plus(LONGEST_LOOKUP_WAIT), wait: LONGEST_LOOKUP_WAIT });
        self.next_address(now)
    }

    /// Its name has moved away from its address, which answers.
    fn follow_name(&mut self, now: Mono) -> Option<Action> {
        let first = self.addresses.first().copied()?;
        self.refresh.moved();
        self.leave_for(first, now)
    }

    /// Turns to the address after the current one. What another server said is forgotten.
    pub(super) fn next_address(&mut self, now: Mono) -> Option<Action> {
        let current = self.addresses.iter().position(|address| Some(*address) == self.address);
        let next =
            self.addresses.get(current.map_or(0, |index| (index + 1) % self.addresses.len())).copied()?;
        if Some(next) == self.address {
            return None;
        }
        self.spoil(now);
        self.schedule.hurry(1, now);
        self.replace(next)
    }

    /// Asks another server from now on, as if it were a new source.
    pub(crate) fn turn_to(&mut self, address: IpAddr, now: Mono) -> Option<Action> {
        let Source { min_poll, max_poll, iburst, .. } = self.source;
        self.schedule = Schedule::new(min_poll, max_poll, iburst, now);
        (self.reach, self.unanswered, self.last_answer) = (0, 0, None);
        self.exchange_anew(address, now);
        self.replace(address)
    }

    pub(super) fn replace(&mut self, address: IpAddr) -> Option<Action> {
        (self.address, self.local) = (Some(address), None);
        (self.denied, self.refusal, self.server, self.unroutable) = (false, None, None, false);
        (self.heard, self.former) = (None, None);
        self.history.clear();
        self.break_off()
    }

    /// Whether requests to it do not even leave this node.
    pub(crate) fn unroutable(&self) -> bool {
        self.unroutable
    }
}
