//! Which of its addresses a source is asked at: the resolver's answers, and what happens when one is of no use.
use std::net::IpAddr;

use super::{
    Association, UNREACHABLE,
    lookup::{FIRST_LOOKUP_WAIT, LONGEST_LOOKUP_WAIT, Lookup},
};
use crate::{Action, Mono, Source, Upstream, source::poll::Schedule, wire::nts::COOKIES};

/// An address that has not answered yet has at most this many requests before the next address is tried.
const MOST_TRIES: u32 = 2;

/// An address that has answered, of a source with NTS, has this many: two cookies are left for other addresses.
const TRIES_WITH_COOKIES: u32 = COOKIES as u32 - 2;

impl Association {
    /// The port that is asked if nothing else is agreed on.
    pub(super) fn usual_port(&self) -> u16 {
        match &self.source.upstream {
            Upstream::Server { port, .. } | Upstream::Pool { port, .. } => *port,
            Upstream::Device { .. } => 0,
        }
    }

    /// The resolver's answer; empty if there is none.
    pub(crate) fn resolved(&mut self, addresses: &[IpAddr], now: Mono) -> Option<Action> {
        let refreshed = self.refresh.answered();
        if addresses.is_empty() || self.lookup.is_none() && !refreshed {
            return None;
        }
        (self.addresses, self.refresh.failure) = (alternate_families(addresses), None);
        let silent = self.lookup.take().is_some() && self.reach == 0;
        if self.address.is_some_and(|address| silent || !addresses.contains(&address)) {
            return if silent { self.leave_silent_address(now) } else { self.follow_name(now) };
        }
        if self.address.is_some() { None } else { self.next_address(now) }
    }

    /// Its address was not reached so far: tries another one, and asks for the name again later, since names move.
    fn leave_silent_address(&mut self, now: Mono) -> Option<Action> {
        self.lookup = Some(Lookup { at: now.plus(LONGEST_LOOKUP_WAIT), wait: LONGEST_LOOKUP_WAIT });
        // One that was just asked for the first time may still answer.
        let on_trial = self.server.is_none() && self.request.is_some();
        if on_trial && self.address.is_some_and(|address| self.addresses.contains(&address)) {
            return None;
        }
        self.next_address(now)
    }

    /// Its name has moved away from its address, which answers.
    fn follow_name(&mut self, now: Mono) -> Option<Action> {
        let first = self.addresses.first().copied()?;
        self.refresh.moved();
        self.switch_keeping_votes(first, now)
    }

    /// The resolver has no address. Key exchanges are not what failed, so the next one need not wait for long.
    pub(crate) fn unresolved(&mut self, why: &str, now: Mono) {
        self.refresh.answered();
        self.refresh.failure = Some(why.to_owned());
        if let Some(lookup) = self.lookup.as_mut().filter(|_| self.proof.exchanges) {
            let wait = lookup.wait.max(FIRST_LOOKUP_WAIT);
            *lookup = Lookup { at: now.plus(wait), wait: (2.0 * wait).min(LONGEST_LOOKUP_WAIT) };
            self.proof.reset_back_off(now);
        }
    }

    /// A request went unanswered: turns to the next address if this one has had its tries. While none has answered, the
    /// next try comes soon.
    pub(super) fn timed_out(&mut self, now: Mono) {
        let count = self.addresses.len();
        let Some(limit) = self.most_tries().filter(|_| count > 1) else { return };
        let soon = self.unanswered < UNREACHABLE.max(MOST_TRIES * count as u32);
        if soon && (self.server.is_none() || self.tries >= limit) {
            self.schedule.ask_soon(1, now);
        }
        if self.tries >= limit
            && let Some(next) = self.following()
        {
            self.mark_failed(now);
            self.replace(next);
        }
    }

    /// How many requests in a row an address may leave unanswered; none if the name is to be looked up before another
    /// address is tried.
    fn most_tries(&self) -> Option<u32> {
        if self.server.is_some() {
            // A new exchange would bring new cookies, but who answers it may be gone as well.
            return self.proof.exchanges.then_some(TRIES_WITH_COOKIES);
        }
        if self.unanswered >= UNREACHABLE {
            return Some(1);
        }
        // So all of a few addresses are tried with the cookies of one exchange.
        Some((COOKIES / self.addresses.len().max(1)).clamp(1, MOST_TRIES as usize) as u32)
    }

    /// Turns to the address after the current one. What another server said is forgotten.
    pub(super) fn next_address(&mut self, now: Mono) -> Option<Action> {
        let next = self.following()?;
        self.mark_failed(now);
        self.schedule.ask_soon(1, now);
        self.replace(next)
    }

    /// The address after the current one, if that is another.
    fn following(&self) -> Option<IpAddr> {
        let current = self.addresses.iter().position(|address| Some(*address) == self.address);
        let next = current.map_or(0, |index| (index + 1) % self.addresses.len());
        self.addresses.get(next).copied().filter(|next| Some(*next) != self.address)
    }

    /// Asks another server from now on, as if it were a new source.
    pub(crate) fn switch_server(&mut self, address: IpAddr, now: Mono) -> Option<Action> {
        let Source { min_poll, max_poll, iburst, .. } = self.source;
        self.schedule = Schedule::new(min_poll, max_poll, iburst, now);
        (self.reach, self.unanswered, self.last_answer) = (0, 0, None);
        self.refresh.failure = None;
        self.exchange_anew(address, now);
        self.replace(address)
    }

    pub(super) fn replace(&mut self, address: IpAddr) -> Option<Action> {
        (self.address, self.local) = (Some(address), None);
        (self.denied, self.rejection, self.server, self.unroutable) = (false, None, None, false);
        (self.heard, self.former, self.tries) = (None, None, 0);
        (self.failure, self.strays_before) = (None, self.stray);
        self.history.clear();
        self.break_off()
    }

    /// Whether requests to it do not even leave this node.
    pub(crate) fn unroutable(&self) -> bool {
        self.unroutable
    }
}

/// The addresses in the order in which they are tried: as the resolver has them, but the families take turns (RFC 8305
/// §4), so that a node whose IPv6 leads nowhere need not try all of a name's IPv6 addresses first.
pub fn alternate_families(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (one, other): (Vec<IpAddr>, Vec<_>) = addresses.iter().partition(|a| a.is_ipv4() == first.is_ipv4());
    let longest = one.len().max(other.len());
    (0..longest).flat_map(|n| [one.get(n), other.get(n)]).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_keep_their_order() {
        let check = |given: &str, expected: &str| {
            let read =
                |text: &str| text.split_whitespace().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>();
            assert_eq!(alternate_families(&read(given)), read(expected));
        };
        check("", "");
        check("192.0.2.1", "192.0.2.1");
        check(
            "2001:db8::1 2001:db8::2 2001:db8::3 192.0.2.1",
            "2001:db8::1 192.0.2.1 2001:db8::2 2001:db8::3",
        );
        check("192.0.2.1 192.0.2.2 2001:db8::1", "192.0.2.1 2001:db8::1 192.0.2.2");
        check("192.0.2.2 192.0.2.1", "192.0.2.2 192.0.2.1");
    }
}
