//! When a source's name is looked up: until it resolves, when its address does not answer, and from time to time while
//! its address answers, since a name can move to another server. The lookup comes soonest if the source is not
//! believed.
use super::Association;
use crate::{Action, Mono, SourceState};

/// A planned lookup because there is no address, or it does not answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookup {
    pub(super) at: Mono,
    /// Seconds until the next try.
    pub(super) wait: f64,
}

/// First wait after a failed lookup, seconds. It doubles up to the longest.
pub(super) const FIRST_LOOKUP_WAIT: f64 = 2.0;
pub(super) const LONGEST_LOOKUP_WAIT: f64 = 64.0;

/// The lookups of a name whose address answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refresh {
    /// The next lookup. None before there is an address.
    next: Option<Mono>,
    /// The last lookup.
    last: Option<Mono>,
    /// The number of consecutive lookups at which the source was not believed.
    doubts: i32,
    /// The source was not believed when `next` was set.
    doubted: bool,
    /// A lookup has begun, and has no result yet.
    asked: bool,
    /// Why the last lookup failed, if it did.
    pub(super) failure: Option<String>,
}

/// When a source is no longer believed, its name is looked up within this time, seconds. It is random, since many nodes
/// notice a falseticker together.
const AT_ONCE: f64 = 16.0;

/// First wait after such a lookup, seconds. It doubles up to the longest.
const FIRST_DOUBT: f64 = 64.0;
const LONGEST_DOUBT: f64 = 3600.0;

/// Longest time between two lookups of a source that is believed, seconds.
const DAY: f64 = 86_400.0;

/// Waits are shortened at random by up to this fraction, so that the nodes of a cluster do not ask together.
const SPREAD: f64 = 0.25;

impl Refresh {
    /// Returns true if the name must be looked up now. `spread` is random, -1 to 1.
    pub(crate) fn due(&mut self, doubted: bool, now: Mono, spread: f64) -> bool {
        let random = (1.0 + spread.clamp(-1.0, 1.0)) / 2.0;
        if self.next.is_none() || doubted != self.doubted {
            self.doubted = doubted;
            let last = self.last.unwrap_or(now);
            self.next = Some(if doubted {
                // A source that is doubted repeatedly is not looked up more often.
                let earliest = if self.doubts > 0 { last.plus(self.wait(random)) } else { now };
                earliest.max(now.plus(AT_ONCE * random))
            } else {
                last.plus(self.wait(random)).max(now.plus(AT_ONCE * random))
            });
        }
        if self.next.is_some_and(|next| next > now) {
            return false;
        }
        self.doubts = if doubted { self.doubts.saturating_add(1) } else { 0 };
        (self.last, self.asked) = (Some(now), true);
        self.next = Some(now.plus(self.wait(random)));
        true
    }

    /// The resolver has a result. Returns true if this lookup was begun here.
    pub(crate) fn answered(&mut self) -> bool {
        std::mem::take(&mut self.asked)
    }

    /// The name now has another server. Doubts about the former server do not apply to it.
    pub(super) fn moved(&mut self) {
        (self.next, self.doubts) = (None, self.doubts.min(1));
    }

    fn wait(&self, random: f64) -> f64 {
        let longest = if self.doubted {
            (FIRST_DOUBT * 2.0_f64.powi((self.doubts - 1).clamp(0, 16))).min(LONGEST_DOUBT)
        } else {
            DAY
        };
        longest * (1.0 - SPREAD * random)
    }
}

impl Association {
    /// Looks up its name, if that is due. `spread` is random, -1 to 1.
    pub(super) fn look_up(&mut self, now: Mono, spread: f64) -> Option<Action> {
        let exchanges = self.proof.exchanges;
        match &mut self.lookup {
            Some(lookup) if lookup.at > now => return None,
            Some(lookup) if exchanges => lookup.at = self.proof.begin_exchange(now),
            Some(lookup) => {
                lookup.at = now.plus(lookup.wait);
                lookup.wait = (2.0 * lookup.wait).min(LONGEST_LOOKUP_WAIT);
            }
            None => {
                let (asked, doubted) = (self.named && self.placed(), self.is_doubted());
                if !asked || !self.refresh.due(doubted, now, spread) {
                    return None;
                }
                if exchanges {
                    self.proof.begin_exchange(now);
                }
            }
        }
        Some(Action::Resolve { source: self.id, host: self.host.clone() })
    }

    /// Returns true if the source, or another one at its server, answers but is not believed.
    pub(super) fn is_doubted(&self) -> bool {
        use SourceState::{Falseticker, NoMajority, Untrusted, Unusable};
        matches!(self.state.0, Falseticker | NoMajority | Unusable | Untrusted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds at which the name is looked up. `doubted` tells whether the source is doubted at a second.
    fn lookups(until: i64, spread: f64, doubted: impl Fn(i64) -> bool) -> Vec<i64> {
        let mut refresh = Refresh::default();
        (0..until)
            .filter(|second| refresh.due(doubted(*second), Mono(second * 1_000_000_000), spread))
            .collect()
    }

    #[test]
    fn one_that_is_believed_is_looked_up_once_a_day() {
        assert_eq!(lookups(200_000, -1.0, |_| false), [86_400, 172_800]);
        assert_eq!(lookups(200_000, 1.0, |_| false), [64_800, 129_600, 194_400]);
    }

    #[test]
    fn one_that_is_not_believed_is_looked_up_at_once_and_then_ever_later() {
        let expected = [1000, 1064, 1192, 1448, 1960, 2984, 5032, 8632, 12_232];
        assert_eq!(lookups(15_000, -1.0, |second| second >= 1000), expected);
        assert_eq!(lookups(1100, 1.0, |second| second >= 1000)[..2], [1016, 1064]);
        // Once the source is believed again, the next lookup is a day later.
        assert_eq!(lookups(90_000, -1.0, |second| (1000..1100).contains(&second)), [1000, 1064, 87_464]);
    }

    #[test]
    fn doubts_that_come_and_go_lead_to_no_more_lookups() {
        let flapping = lookups(15_000, -1.0, |second| second % 20 < 10);
        assert!(flapping.len() <= 10, "{flapping:?}");
    }

    #[test]
    fn many_nodes_do_not_look_up_together() {
        let check = |doubted: bool, first: f64, last: f64| {
            let next = |node: i32| {
                let mut refresh = Refresh::default();
                refresh.due(doubted, Mono(0), f64::from(node) / 2500.0 - 1.0);
                refresh.next.map_or(0.0, |next| next - Mono(0))
            };
            let mut moments: Vec<f64> = (1..5000).map(next).collect();
            moments.sort_by(f64::total_cmp);
            assert!(moments[0] >= first && moments[4998] <= last, "{} {}", moments[0], moments[4998]);
            let apart = (last - first) / 5001.0;
            assert!(moments.windows(2).all(|pair| pair[1] - pair[0] > apart), "{moments:?}");
        };
        check(true, 0.0, 16.0);
        check(false, 64_800.0, 86_400.0);
    }
}
