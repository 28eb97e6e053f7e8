//! The address at which a source is asked: the resolver's results, and the change to another address if one does not
//! work.
use std::net::IpAddr;

use super::{
    Association, UNREACHABLE,
    lookup::{FIRST_LOOKUP_WAIT, LONGEST_LOOKUP_WAIT, Lookup},
};
use crate::{Action, Mono, Source, Upstream, source::poll::Schedule, wire::nts::COOKIES};

/// The largest number of requests to an address that has not answered yet, before the next address is tried.
const MOST_TRIES: u32 = 2;

/// The same for an address that has answered, of a source with NTS. Two cookies are left for other addresses.
const TRIES_WITH_COOKIES: u32 = COOKIES as u32 - 2;

impl Association {
    /// The port that is asked unless a key exchange names another.
    pub(super) fn usual_port(&self) -> u16 {
        match &self.source.upstream {
            Upstream::Server { port, .. } | Upstream::Pool { port, .. } => *port,
            Upstream::Device { .. } => 0,
        }
    }

    /// Takes the resolver's result; empty if the addresses are not known here.
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

    /// The present address has not answered. Tries another one, and plans another lookup, since the addresses of a name
    /// can change.
    fn leave_silent_address(&mut self, now: Mono) -> Option<Action> {
        self.lookup = Some(Lookup { at: now.plus(LONGEST_LOOKUP_WAIT), wait: LONGEST_LOOKUP_WAIT });
        // An address that was asked for the first time just now may still answer.
        let on_trial = self.server.is_none() && self.request.is_some();
        if on_trial && self.address.is_some_and(|address| self.addresses.contains(&address)) {
            return None;
        }
        self.next_address(now)
    }

    /// The name no longer resolves to the present address, which still answers.
    fn follow_name(&mut self, now: Mono) -> Option<Action> {
        let first = self.addresses.first().copied()?;
        self.refresh.moved();
        self.switch_keeping_votes(first, now)
    }

    /// The name does not resolve. No key exchange has failed, so its back-off starts again.
    pub(crate) fn unresolved(&mut self, why: &str, now: Mono) {
        self.refresh.answered();
        self.refresh.failure = Some(why.to_owned());
        if let Some(lookup) = self.lookup.as_mut().filter(|_| self.proof.exchanges) {
            let wait = lookup.wait.max(FIRST_LOOKUP_WAIT);
            *lookup = Lookup { at: now.plus(wait), wait: (2.0 * wait).min(LONGEST_LOOKUP_WAIT) };
            self.proof.reset_back_off(now);
        }
    }

    /// A request timed out. Switches to the next address if this one has had its number of tries. While no address has
    /// answered, the next try follows soon.
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

    /// The number of consecutive unanswered requests after which the next address is tried. None if the name must be
    /// looked up first.
    fn most_tries(&self) -> Option<u32> {
        if self.server.is_some() {
            // A new key exchange would give new cookies, but its server may be unreachable as well.
            return self.proof.exchanges.then_some(TRIES_WITH_COOKIES);
        }
        if self.unanswered >= UNREACHABLE {
            return Some(1);
        }
        // So a few addresses can all be tried with the cookies of one exchange.
        Some((COOKIES / self.addresses.len().max(1)).clamp(1, MOST_TRIES as usize) as u32)
    }

    /// Switches to the address after the present one, and drops the samples of the other server.
    pub(super) fn next_address(&mut self, now: Mono) -> Option<Action> {
        let next = self.following()?;
        self.mark_failed(now);
        self.schedule.ask_soon(1, now);
        self.replace(next)
    }

    /// The address after the present one. None if there is no other.
    fn following(&self) -> Option<IpAddr> {
        let current = self.addresses.iter().position(|address| Some(*address) == self.address);
        let next = current.map_or(0, |index| (index + 1) % self.addresses.len());
        self.addresses.get(next).copied().filter(|next| Some(*next) != self.address)
    }

    /// Switches to another server of a pool, as if this were a new source.
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

    /// Returns true if requests to it do not leave this node.
    pub(crate) fn unroutable(&self) -> bool {
        self.unroutable
    }
}

/// The addresses in the order in which they are tried: the resolver's order, but with alternating address families (RFC
/// 8305 §4). So a node without working IPv6 need not try all IPv6 addresses first.
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
