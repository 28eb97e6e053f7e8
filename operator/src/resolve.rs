//! The step between validation and plan: finds the nodes of each tier, and makes the profile of each policy that has
//! tiers. Pure: validated policies, the cluster's nodes and what is known of their agents in; policies with complete
//! profiles out. [`Tiers`] remembers the sets that were chosen, which are also in the policies' statuses, so that a
//! restart changes none.
//!
//! One family for all: the primary family of the cluster is that of most nodes' first InternalIP.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use kube::core::{Selector, SelectorExt};
use profile::Place;

use crate::{
    facts::NodeFacts,
    tier::{self, Candidate, Failing, Member, Readiness, Tier, TierAvailability, Wish, choose},
    translate::{self, Counts},
    validate::{Policy, PolicyError, Validated},
};

mod service;

use service::Service;

/// The sets of nodes that are in force.
#[derive(Debug, Default)]
pub(crate) struct Tiers {
    /// By policy and upstream.
    remembered: BTreeMap<(String, String), Remembered>,
    /// Of all tiers.
    selectors: Vec<Selector>,
}

#[derive(Clone, Debug, Default)]
struct Remembered {
    members: Vec<Member>,
    failing: Failing,
}

/// The cluster's nodes, and what is known of the agent of each.
pub(crate) struct ClusterNodes<'a> {
    pub(crate) nodes: &'a BTreeMap<String, Arc<NodeFacts>>,
    pub(crate) readiness: &'a dyn Fn(&NodeFacts) -> Readiness,
}

impl Tiers {
    /// Completes the profiles of all policies with tiers.
    pub(crate) fn resolve(&mut self, validated: &mut Validated, cluster: &ClusterNodes<'_>, now: Instant) {
        let policies = &mut validated.policies;
        let there: BTreeSet<String> = policies.iter().map(|policy| policy.name.clone()).collect();
        self.remembered.retain(|(policy, _), _| there.contains(policy));
        policies.iter_mut().for_each(|policy| self.recall(policy));
        let tiers = policies.iter().flat_map(|policy| &policy.tiers.asked);
        self.selectors = tiers.map(|tier| tier.selector.clone()).collect();
        if self.selectors.is_empty() {
            return;
        }
        let in_force = in_force(policies, cluster.nodes);
        let ipv4 = is_ipv4(cluster.nodes.values().map(|node| &**node));
        let mut chosen = BTreeMap::new();
        for policy in policies.iter_mut().filter(|policy| !policy.tiers.asked.is_empty()) {
            let sets = self.choose(policy, cluster, ipv4, now);
            let name = policy.name.clone();
            let of_policy = |member: &Member| in_force.get(member.node.as_str()) == Some(&name);
            complete(policy, &sets, &of_policy);
            chosen.insert(policy.name.clone(), sets);
        }
        Service { in_force: &in_force, nodes: cluster.nodes, profiles: &validated.profiles }
            .judge(policies, &members(&chosen));
        for policy in policies.iter_mut().filter(|policy| policy.checked.is_ok()) {
            if let Some(sets) = chosen.remove(&policy.name)
                && !matches!(policy.tiers.availability, TierAvailability::Missing(_))
            {
                self.commit(policy, sets);
            }
        }
    }

    /// Notes in the policy which sets are in force. A policy that is refused keeps them, with its last good profile.
    fn recall(&mut self, policy: &mut Policy) {
        if policy.checked.is_ok() && policy.tiers.asked.is_empty() {
            policy.tiers.chosen.clear();
            self.remembered.retain(|(name, _), _| *name != policy.name);
        }
        let of_policy = self.remembered.iter().filter(|((name, _), _)| *name == policy.name);
        let sets: Vec<_> =
            of_policy.map(|((_, upstream), set)| tier::stored(upstream, &set.members)).collect();
        if !sets.is_empty() {
            policy.tiers.chosen = sets;
        }
    }

    /// Returns true if a change of this node can change a tier.
    pub(crate) fn concerns(&self, node: &str, facts: Option<&NodeFacts>) -> bool {
        let mut members = self.remembered.values().flat_map(|tier| &tier.members);
        members.any(|member| member.node == node)
            || facts
                .is_some_and(|facts| self.selectors.iter().any(|selector| selector.matches(&facts.labels)))
    }

    /// The sets of a policy, in the order of its tiers. Notes in the policy which of them have no node.
    fn choose(
        &self,
        policy: &mut Policy,
        cluster: &ClusterNodes<'_>,
        ipv4: bool,
        now: Instant,
    ) -> Vec<Remembered> {
        let mut taken = addresses(policy);
        let (mut sets, mut availability) = (Vec::new(), TierAvailability::Complete);
        for tier in &policy.tiers.asked {
            let key = (policy.name.clone(), tier.upstream.clone());
            let mut set = self.remembered.get(&key).cloned().unwrap_or_else(|| Remembered {
                members: tier::read(&policy.status.tiers, &tier.upstream),
                failing: Failing::default(),
            });
            let candidates = candidates(tier, cluster, &taken);
            let failed = set.failing.update(&set.members, &candidates, now);
            let before = std::mem::take(&mut set.members);
            set.members = choose(&before, &candidates, &Wish { most: tier.most, ipv4, failed: &failed });
            if let Some(why) = without_nodes(tier, &candidates, ipv4) {
                if set.members.is_empty() {
                    availability = TierAvailability::Missing(why);
                } else if availability == TierAvailability::Complete {
                    availability = TierAvailability::Kept(why);
                }
            }
            taken.extend(set.members.iter().map(|member| member.address));
            sets.push(set);
        }
        policy.tiers.availability = availability;
        sets
    }

    /// Puts sets in force.
    fn commit(&mut self, policy: &mut Policy, sets: Vec<Remembered>) {
        self.remembered.retain(|(name, _), _| *name != policy.name);
        for (tier, set) in policy.tiers.asked.iter().zip(sets) {
            self.remembered.insert((policy.name.clone(), tier.upstream.clone()), set);
        }
        self.recall(policy);
    }
}

/// The policy that each node is under by its labels, whether or not the policy can be carried out.
fn in_force<'a>(
    policies: &[Policy],
    nodes: &'a BTreeMap<String, Arc<NodeFacts>>,
) -> BTreeMap<&'a str, String> {
    let policy = |facts: &NodeFacts| {
        let mut policies = policies.iter();
        policies
            .find(|policy| policy.selector.as_ref().is_some_and(|selector| selector.matches(&facts.labels)))
    };
    nodes.iter().filter_map(|(name, facts)| Some((name.as_str(), policy(facts)?.name.clone()))).collect()
}

/// True if the primary address family is IPv4.
fn is_ipv4<'a>(nodes: impl Iterator<Item = &'a NodeFacts>) -> bool {
    let first: Vec<_> = nodes.filter_map(|node| node.addresses.first()).collect();
    first.iter().filter(|address| address.is_ipv4()).count() * 2 >= first.len()
}

/// The addresses that other upstreams of the policy have: one address is one vote.
fn addresses(policy: &Policy) -> BTreeSet<IpAddr> {
    let sources = policy.checked.iter().flat_map(|checked| checked.sources());
    sources
        .filter_map(|source| match &source.place {
            Place::Server { host } => host.parse().ok(),
            Place::Pool { .. } | Place::Device { .. } => None,
        })
        .collect()
}

fn candidates<'a>(tier: &Tier, cluster: &ClusterNodes<'a>, taken: &BTreeSet<IpAddr>) -> Vec<Candidate<'a>> {
    let free = |facts: &&Arc<NodeFacts>| facts.addresses.iter().all(|address| !taken.contains(address));
    let matching = cluster.nodes.values().filter(|facts| tier.selector.matches(&facts.labels));
    let candidate = |facts: &'a Arc<NodeFacts>| Candidate {
        node: &facts.name,
        addresses: &facts.addresses,
        zone: facts.zone(),
        readiness: (cluster.readiness)(facts),
    };
    matching.filter(free).map(candidate).collect()
}

/// Why no node can be chosen, if none can.
fn without_nodes(tier: &Tier, candidates: &[Candidate<'_>], ipv4: bool) -> Option<String> {
    let field = format!("spec.upstreams[{}].nodes.selector", tier.index);
    if candidates.is_empty() {
        return Some(format!("no node matches {field}, or another upstream has its address"));
    }
    let can_run = |candidate: &&Candidate<'_>| candidate.readiness != Readiness::Impossible;
    let mut able = candidates.iter().filter(can_run).peekable();
    if able.peek().is_none() {
        return Some(format!("no agent can run on the nodes that {field} matches"));
    }
    let has_address =
        |candidate: &Candidate<'_>| candidate.addresses.iter().any(|address| address.is_ipv4() == ipv4);
    let family = if ipv4 { "IPv4" } else { "IPv6" };
    (!able.any(has_address)).then(|| {
        format!("no node that {field} matches has an InternalIP of the cluster's primary family, {family}")
    })
}

/// Makes the policy's profile of its nodes.
fn complete(policy: &mut Policy, sets: &[Remembered], of_policy: &dyn Fn(&Member) -> bool) {
    let Ok(expected) = &policy.checked else { return };
    if matches!(policy.tiers.availability, TierAvailability::Missing(_)) {
        return;
    }
    let tiers = &policy.tiers.asked;
    let members: Vec<_> = sets.iter().map(|set| set.members.clone()).collect();
    let profile = translate::with_members(expected.profile(), tiers, &members, of_policy);
    let counts = Counts(tiers.iter().zip(&members).map(|(tier, set)| (tier.index, set.len())).collect());
    policy.checked = profile::check(&profile)
        .map_err(|error| PolicyError::from(translate::in_the_words_of_the_spec(&error, &counts)));
}

/// The members of each policy's tiers.
fn members(sets: &BTreeMap<String, Vec<Remembered>>) -> BTreeMap<&str, Vec<&[Member]>> {
    sets.iter()
        .map(|(name, sets)| (name.as_str(), sets.iter().map(|set| set.members.as_slice()).collect()))
        .collect()
}

#[cfg(test)]
mod tests;
