//! Chooses the nodes of a tier. A set that was chosen stays as it is, since each change is a new profile for every node
//! of the policy. It changes only
//!
//! * if a node is gone, does not match any more, or has lost its address;
//! * if a node was not synchronised for too long while others were, and a synchronised spare exists;
//! * if it is not full, and another node is synchronised: a cluster's nodes do not all join at once;
//! * if the policy allows fewer nodes than before.
//!
//! A node is chosen for its zone first, so that the loss of a zone leaves as many of the others as possible. Pure.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::tier::member::Member;

/// A node that the selector matches.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) node: &'a str,
    /// Its addresses, the first one first; at least one.
    pub(crate) addresses: &'a [IpAddr],
    pub(crate) zone: Option<&'a str>,
    pub(crate) readiness: Readiness,
}

/// What is known of a node's agent; the best is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Readiness {
    /// Its clock is synchronised.
    Synchronized,
    /// It runs.
    Present,
    /// It does not run yet.
    Awaited,
    /// The DaemonSet places no agent on this node.
    Impossible,
}

/// The conditions of a choice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) most: u8,
    /// True if the cluster's primary address family is IPv4.
    pub(crate) ipv4: bool,
    /// The nodes that were not synchronised for too long.
    pub(crate) failed: &'a BTreeSet<String>,
}

/// The nodes of a tier, in the order of their slots. If no candidate is usable, those of `before`.
pub(crate) fn choose(before: &[Member], candidates: &[Candidate<'_>], wish: &Wish<'_>) -> Vec<Member> {
    let spare = |candidate: &&Candidate<'_>| {
        candidate.readiness != Readiness::Impossible && address(candidate, wish.ipv4).is_some()
    };
    let mut spares: Vec<_> = candidates.iter().filter(spare).collect();
    if spares.is_empty() {
        return before.to_vec();
    }
    let mut set = Set { members: BTreeMap::new(), candidates, ipv4: wish.ipv4 };
    for member in before {
        if set.members.len() < wish.most.into() {
            set.keep(member);
        }
    }
    spares.retain(|spare| !set.has(spare.node));
    // A synchronised spare takes the place of a node that failed.
    let failed: Vec<u8> = set.slots(|member| wish.failed.contains(&member.node));
    for slot in failed {
        let synchronized = spares.iter().filter(|spare| spare.readiness == Readiness::Synchronized);
        let Some(best) = set.best(synchronized.copied(), Some(slot)) else { break };
        set.put(slot, best);
        spares.retain(|spare| spare.node != best.node);
    }
    let first = if before.is_empty() { wish.most.into() } else { before.len().min(wish.most.into()) };
    while set.members.len() < wish.most.into() {
        // Places that were taken before are filled at once, further ones only by a node that is known to be good.
        let grows = set.members.len() >= first;
        let good = |spare: &&&Candidate<'_>| !grows || spare.readiness == Readiness::Synchronized;
        let Some(best) = set.best(spares.iter().filter(good).copied(), None) else { break };
        set.put_anywhere(best);
        spares.retain(|spare| spare.node != best.node);
    }
    set.members.into_iter().map(|(slot, (node, address))| Member { slot, node, address }).collect()
}

/// The set as far as it is chosen: node and address by slot.
struct Set<'a> {
    members: BTreeMap<u8, (String, IpAddr)>,
    candidates: &'a [Candidate<'a>],
    ipv4: bool,
}

impl<'a> Set<'a> {
    /// Keeps a member that is still there, at its address if the node still has it.
    fn keep(&mut self, member: &Member) {
        let Some(here) = self.candidates.iter().find(|candidate| candidate.node == member.node) else {
            return;
        };
        let same = here.addresses.contains(&member.address).then_some(member.address);
        if let Some(address) = same.or_else(|| address(here, self.ipv4)) {
            self.members.insert(member.slot, (member.node.clone(), address));
        }
    }

    fn has(&self, node: &str) -> bool {
        self.members.values().any(|(member, _)| member == node)
    }

    fn slots(&self, holds: impl Fn(&Member) -> bool) -> Vec<u8> {
        let member = |(slot, (node, address)): (&u8, &(String, IpAddr))| Member {
            slot: *slot,
            node: node.clone(),
            address: *address,
        };
        self.members.iter().map(member).filter(holds).map(|member| member.slot).collect()
    }

    /// The best of `spares` by zone, readiness and name. `instead` is the slot that it would take from another node.
    fn best(
        &self,
        spares: impl Iterator<Item = &'a Candidate<'a>>,
        instead: Option<u8>,
    ) -> Option<&'a Candidate<'a>> {
        let others = self.members.iter().filter(|(slot, _)| Some(**slot) != instead);
        let mut zones: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        for (_, (node, _)) in others {
            let zone = self.candidates.iter().find(|candidate| candidate.node == *node);
            *zones.entry(zone.and_then(|candidate| candidate.zone)).or_default() += 1;
        }
        let rank = |spare: &&'a Candidate<'a>| {
            (zones.get(&spare.zone).copied().unwrap_or_default(), spare.readiness, spare.node)
        };
        spares.min_by_key(rank)
    }

    fn put(&mut self, slot: u8, candidate: &Candidate<'_>) {
        if let Some(address) = address(candidate, self.ipv4) {
            self.members.insert(slot, (candidate.node.to_owned(), address));
        }
    }

    fn put_anywhere(&mut self, candidate: &Candidate<'_>) {
        let free = (1..=u8::MAX).find(|slot| !self.members.contains_key(slot));
        if let Some(slot) = free {
            self.put(slot, candidate);
        }
    }
}

/// The first address of the cluster's primary family.
fn address(candidate: &Candidate<'_>, ipv4: bool) -> Option<IpAddr> {
    candidate.addresses.iter().find(|address| address.is_ipv4() == ipv4).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `name@zone=address+address`, with `!` in front if synchronised, `?` if no agent is there yet, and `x` if none
    /// can be.
    struct Nodes(Vec<(String, Vec<IpAddr>, Option<String>, Readiness)>);

    impl Nodes {
        fn of(texts: &[&str]) -> Self {
            let node = |text: &&str| {
                let (readiness, text) = match text.split_at(1) {
                    ("!", rest) => (Readiness::Synchronized, rest),
                    ("?", rest) => (Readiness::Awaited, rest),
                    ("x", rest) => (Readiness::Impossible, rest),
                    _ => (Readiness::Present, *text),
                };
                let (name, addresses) = text.split_once('=').unwrap();
                let (name, zone) = match name.split_once('@') {
                    Some((name, zone)) => (name, Some(zone.to_owned())),
                    None => (name, None),
                };
                let addresses = addresses.split('+').map(|address| address.parse().unwrap()).collect();
                (name.to_owned(), addresses, zone, readiness)
            };
            Self(texts.iter().map(node).collect())
        }

        fn candidates(&self) -> Vec<Candidate<'_>> {
            self.0
                .iter()
                .map(|(node, addresses, zone, readiness)| Candidate {
                    node,
                    addresses,
                    zone: zone.as_deref(),
                    readiness: *readiness,
                })
                .collect()
        }
    }

    fn choose_from(before: &[Member], nodes: &[&str], most: u8, failed: &[&str]) -> Vec<Member> {
        let nodes = Nodes::of(nodes);
        let failed = failed.iter().map(|name| (*name).to_owned()).collect();
        choose(before, &nodes.candidates(), &Wish { most, ipv4: true, failed: &failed })
    }

    fn shown(members: &[Member]) -> Vec<String> {
        members.iter().map(|member| format!("{} {} {}", member.slot, member.node, member.address)).collect()
    }

    const THREE: [&str; 3] = ["a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.3"];

    #[test]
    fn the_first_choice_is_spread_over_zones() {
        let nodes = [
            "!a@z1=10.0.0.1",
            "!b@z1=10.0.0.2",
            "!c@z1=10.0.0.3",
            "d@z2=10.0.0.4",
            "!e@z2=10.0.0.5",
            "?f@z3=10.0.0.6",
            "xg@z4=10.0.0.7",
        ];
        let three = choose_from(&[], &nodes, 3, &[]);
        assert_eq!(shown(&three), ["1 a 10.0.0.1", "2 e 10.0.0.5", "3 f 10.0.0.6"]);
        let five = choose_from(&[], &nodes, 5, &[]);
        assert_eq!(
            shown(&five)[3..],
            ["4 b 10.0.0.2", "5 d 10.0.0.4"],
            "a second one of the zones that have two"
        );
        // Without zones the synchronised ones are first, then by name.
        let plain = choose_from(&[], &["a=10.0.0.1", "!b=10.0.0.2", "!c=10.0.0.3"], 2, &[]);
        assert_eq!(shown(&plain), ["1 b 10.0.0.2", "2 c 10.0.0.3"]);
    }

    #[test]
    fn a_chosen_set_stays() {
        let before = choose_from(&[], &THREE, 3, &[]);
        let more = ["0=10.0.0.9", "!00@z=10.0.0.8", "a=10.0.0.1", "b@z1=10.0.0.7+10.0.0.2", "?c=10.0.0.3"];
        assert_eq!(choose_from(&before, &more, 3, &[]), before, "full, and each has its address");
        assert_eq!(choose_from(&before, &[], 3, &[]), before, "no node matches");
        assert_eq!(choose_from(&before, &["xd=10.0.0.4"], 3, &[]), before, "no agent can run there");
        assert_eq!(choose_from(&before, &["d=fd00::4"], 3, &[]), before, "no address of the family");
    }

    #[test]
    fn a_node_that_is_gone_leaves_its_slot_to_another_one() {
        let before = choose_from(&[], &THREE, 3, &[]);
        let without_b = ["a=10.0.0.1", "c=10.0.0.3", "d=10.0.0.4", "e=10.0.0.5"];
        let after = choose_from(&before, &without_b, 3, &[]);
        assert_eq!(shown(&after), ["1 a 10.0.0.1", "2 d 10.0.0.4", "3 c 10.0.0.3"]);
        let alone = choose_from(&before, &["a=10.0.0.1", "c=10.0.0.3"], 3, &[]);
        assert_eq!(shown(&alone), ["1 a 10.0.0.1", "3 c 10.0.0.3"], "names do not move up");
        let moved = choose_from(&before, &["a=10.0.0.1", "b=10.0.0.22", "c=10.0.0.3"], 3, &[]);
        assert_eq!(shown(&moved)[1], "2 b 10.0.0.22");
        let other_family = choose_from(&before, &["a=10.0.0.1", "b=fd00::2", "c=10.0.0.3"], 3, &[]);
        assert_eq!(other_family, alone);
    }

    #[test]
    fn a_node_that_fails_is_replaced_by_a_synchronised_spare_only() {
        let before = choose_from(&[], &THREE, 2, &[]);
        let with_spare = |spare| choose_from(&before, &[&THREE[..2], &[spare]].concat(), 2, &["a"]);
        assert_eq!(with_spare("c=10.0.0.3"), before);
        assert_eq!(shown(&with_spare("!c=10.0.0.3")), ["1 c 10.0.0.3", "2 b 10.0.0.2"]);
        let both = choose_from(&before, &["a=10.0.0.1", "b=10.0.0.2", "!c=10.0.0.3"], 2, &["a", "b"]);
        assert_eq!(shown(&both), ["1 c 10.0.0.3", "2 b 10.0.0.2"], "one spare replaces one node");
    }

    #[test]
    fn a_set_that_is_not_full_grows_by_nodes_that_are_good() {
        let before = choose_from(&[], &THREE[..1], 3, &[]);
        assert_eq!(choose_from(&before, &THREE, 3, &[]), before);
        let good = choose_from(&before, &["a=10.0.0.1", "b=10.0.0.2", "!c=10.0.0.3"], 3, &[]);
        assert_eq!(shown(&good), ["1 a 10.0.0.1", "2 c 10.0.0.3"]);
        assert_eq!(choose_from(&choose_from(&[], &THREE, 3, &[]), &THREE, 2, &[]).len(), 2, "and shrinks");
    }

    #[test]
    fn the_primary_family_decides_which_address_is_asked() {
        let nodes = Nodes::of(&["a=10.0.0.1+fd00::1", "b=fd00::2"]);
        let failed = BTreeSet::new();
        let of = |ipv4| choose(&[], &nodes.candidates(), &Wish { most: 3, ipv4, failed: &failed });
        assert_eq!(shown(&of(true)), ["1 a 10.0.0.1"]);
        assert_eq!(shown(&of(false)), ["1 a fd00::1", "2 b fd00::2"]);
        let dual = Nodes::of(&["a=fd00::1+10.0.0.1"]);
        let kept = choose(&of(true), &dual.candidates(), &Wish { most: 3, ipv4: false, failed: &failed });
        assert_eq!(shown(&kept), ["1 a 10.0.0.1"], "the node still has the address");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// Whatever comes and goes: a second look changes nothing, slots and nodes are unique, the set has at most the
        /// nodes that it may have, and a node that stays keeps its slot.
        #[test]
        fn churn_moves_nobody_who_stays(steps in prop::collection::vec((prop::collection::btree_set(1_u8..12, 0..10), 1_u8..=8), 1..8)) {
            let mut members = Vec::new();
            for (present, most) in steps {
                let texts: Vec<_> = present
                    .iter()
                    .map(|n| format!("{}n{n}@z{}=10.0.0.{n}", ["!", "?", "x"].get(usize::from(n % 5)).unwrap_or(&""), n % 3))
                    .collect();
                let texts: Vec<_> = texts.iter().map(String::as_str).collect();
                let next = choose_from(&members, &texts, most, &[]);
                prop_assert_eq!(&choose_from(&next, &texts, most, &[]), &next);
                let nodes: BTreeSet<_> = next.iter().map(|member| &member.node).collect();
                let slots: BTreeSet<_> = next.iter().map(|member| member.slot).collect();
                prop_assert_eq!((nodes.len(), slots.len()), (next.len(), next.len()));
                prop_assert!(slots.iter().all(|slot| (1..=8).contains(slot)));
                for member in &next {
                    let same = members.iter().find(|before: &&Member| before.node == member.node);
                    prop_assert!(same.is_none_or(|before| before.slot == member.slot), "{:?}", next);
                }
                let usable = present.iter().any(|n| n % 5 != 2);
                prop_assert!(!usable || next.len() <= usize::from(most));
                members = next;
            }
        }
    }
}
