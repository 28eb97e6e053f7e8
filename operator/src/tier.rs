//! A tier: the nodes for which an upstream with `nodes` stands. The types here are what the steps say of it; `choice`
//! decides which nodes it has, and `failing` which of them have been unsynchronised for too long. Pure.
use kube::core::Selector;

mod choice;
mod failing;
mod member;

pub(crate) use choice::{Candidate, Readiness, Wish, choose};
pub(crate) use failing::Failing;
pub(crate) use member::{Member, source_name};

/// An upstream with `nodes`.
#[derive(Clone, Debug)]
pub(crate) struct Tier {
    /// Its name.
    pub(crate) upstream: String,
    /// Its index in the spec.
    pub(crate) index: usize,
    pub(crate) selector: Selector,
    /// The largest number of nodes.
    pub(crate) most: u8,
}

/// The tiers of a policy, and what became of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyTiers {
    pub(crate) asked: Vec<Tier>,
    pub(crate) availability: TierAvailability,
    /// The nodes in force, for the status.
    pub(crate) chosen: Vec<api::TierStatus>,
    /// Why some of the nodes will not answer.
    pub(crate) not_serving: Option<String>,
}

/// Whether each tier has nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum TierAvailability {
    /// It has, or there is no tier.
    #[default]
    Complete,
    /// The selector matches no usable node any more; the nodes that were chosen before stay.
    Kept(String),
    /// No node was ever chosen.
    Missing(String),
}

/// The members of a tier as they are stored.
pub(crate) fn stored(upstream: &str, members: &[Member]) -> api::TierStatus {
    let stored = |member: &Member| api::TierMember {
        name: member.name(upstream),
        node: member.node.clone(),
        address: member.address.to_string(),
    };
    api::TierStatus { upstream: upstream.to_owned(), members: members.iter().map(stored).collect() }
}

/// Reads what is stored of a tier. Ignores what another writer spoilt.
pub(crate) fn read(stored: &[api::TierStatus], upstream: &str) -> Vec<Member> {
    let of_tier = stored.iter().filter(|tier| tier.upstream == upstream).flat_map(|tier| &tier.members);
    let member = |each: &api::TierMember| {
        let slot = each.name.strip_prefix(upstream)?.strip_prefix('-')?.parse().ok()?;
        let known = profile::ranges::MAX_NODES.contains(&slot);
        known.then_some(Member { slot, node: each.node.clone(), address: each.address.parse().ok()? })
    };
    of_tier.filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again() {
        let member = |slot, node: &str, address: &str| Member {
            slot,
            node: node.to_owned(),
            address: address.parse().unwrap(),
        };
        let members = [member(2, "n2", "192.0.2.2"), member(8, "n1", "2001:db8::1")];
        let mut status = vec![stored("tier", &members)];
        assert_eq!(status[0].members[0].name, "tier-2");
        assert_eq!(read(&status, "tier"), members);
        assert_eq!(read(&status, "other"), []);
        status[0].members[0].name = "tier-9".to_owned();
        status[0].members[1].address = "somewhere".to_owned();
        assert_eq!(read(&status, "tier"), []);
    }
}
