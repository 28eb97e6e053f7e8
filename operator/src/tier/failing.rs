//! Since when a node of a tier has not been synchronised while others were. Pure: time is an argument. The operator's
//! restart begins the hour again.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::tier::{
    choice::{Candidate, Readiness},
    member::Member,
};

/// A node that has been unsynchronised for this long is replaced. A restart, an update of the host or an outage of its
/// upstream is shorter, and a change of the set is a new profile for every node.
const TOO_LONG: Duration = Duration::from_secs(3600);

/// The nodes of one tier that are not synchronised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failing {
    since: BTreeMap<String, Instant>,
}

impl Failing {
    /// Takes the present state. Returns the nodes that were not synchronised for an hour, while another node that the
    /// selector matches always was: if none is, the cause is a common one, and another node would be no better.
    pub(crate) fn update(
        &mut self,
        members: &[Member],
        candidates: &[Candidate<'_>],
        now: Instant,
    ) -> BTreeSet<String> {
        let good: BTreeSet<&str> = candidates
            .iter()
            .filter(|candidate| candidate.readiness == Readiness::Synchronized)
            .map(|candidate| candidate.node)
            .collect();
        let fails = |member: &&Member| !good.is_empty() && !good.contains(member.node.as_str());
        let failing: BTreeSet<&String> = members.iter().filter(fails).map(|member| &member.node).collect();
        self.since.retain(|node, _| failing.contains(node));
        for node in failing {
            self.since.entry(node.clone()).or_insert(now);
        }
        let lasting = |since: &Instant| now.saturating_duration_since(*since) >= TOO_LONG;
        self.since.iter().filter(|(_, since)| lasting(since)).map(|(node, _)| node.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn an_hour_counts_only_while_others_are_synchronised() {
        let start = Instant::now();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let member =
            |slot, node: &str| Member { slot, node: node.to_owned(), address: [192, 0, 2, slot].into() };
        let members = [member(1, "a"), member(2, "b")];
        let mut failing = Failing::default();
        let mut at = |minutes: u64, good: &[&str]| {
            let candidate = |node: &&'static str| Candidate {
                node,
                addresses: std::slice::from_ref(&address),
                zone: None,
                readiness: if good.contains(node) { Readiness::Synchronized } else { Readiness::Present },
            };
            let candidates: Vec<_> = ["a", "b", "c"].iter().map(candidate).collect();
            let now = start + Duration::from_secs(minutes * 60);
            failing.update(&members, &candidates, now).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(at(0, &["b"]), [""; 0]);
        assert_eq!(at(59, &["b"]), [""; 0]);
        assert_eq!(at(60, &["b"]), ["a"]);
        assert_eq!(at(61, &["c"]), ["a"], "b has only begun");
        assert_eq!(at(62, &[]), [""; 0], "no node is synchronised");
        assert_eq!(at(63, &["b"]), [""; 0], "and so it begins again");
        assert_eq!(at(122, &["b"]), [""; 0]);
        assert_eq!(at(123, &["b"]), ["a"]);
        assert_eq!(at(124, &["a", "b"]), [""; 0]);
    }
}
