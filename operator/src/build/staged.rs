//! Staged rollout in the desired content: which of the planned profiles a node has to wait for, and what a rollout needs
//! to know of its nodes. `rollout` decides; this file only brings it what it needs.
use std::{collections::BTreeSet, sync::Arc, time::Instant};

use contract::{ProfileName, Report};
use kube::core::{Selector, SelectorExt};

use super::{Prepared, PreparedNode};
use crate::{
    facts::{AgentPod, NodeFacts},
    rollout::{Demands, Member},
    validate::Policy,
};

impl Prepared {
    /// Brings each rollout the present profile of its policy. The rollout of a policy that cannot be carried out now
    /// stays as it is, so that a user can still abort it.
    pub(super) fn follow_rollouts(&mut self) {
        let is_there = |profile: &ProfileName| self.texts.contains_key(profile);
        let of = |name: &str| self.policies.iter().find(|policy| policy.name == name);
        self.rollouts.retain(|name, uid| {
            of(name).is_some_and(|policy| {
                policy.reference.uid.as_deref() == uid
                    && (policy.rollout.is_some() || policy.checked.is_err())
            })
        });
        for policy in &self.policies {
            let target = match self.rendered.get(&policy.name) {
                Some(target) => Some((target.clone(), policy.generation)),
                None if self.rollouts.of(&policy.name).is_none() => under_way(policy),
                None => None,
            };
            if let (Some(settings), Some(target)) = (policy.rollout, target) {
                let id = (policy.name.as_str(), policy.reference.uid.as_deref());
                self.rollouts.follow(id, settings, target, &policy.status, &is_there);
            }
        }
    }

    /// The profile that the node gets now from a policy whose profile is `profile`. `lost` are other policies that match
    /// it.
    pub(super) fn in_turn(
        &mut self,
        policy: &str,
        profile: ProfileName,
        lost: &[String],
        facts: &NodeFacts,
        agents: &[Arc<AgentPod>],
    ) -> ProfileName {
        let before = self.nodes.get(&facts.name);
        let moved = before.is_some_and(|before| {
            before.facts.labels != facts.labels && before.planned.as_deref() != Some(policy)
        });
        // A pod that was just made has no annotation yet: its node had the profile of the pod before it.
        let present = present(agents).or_else(|| {
            let new = agents.iter().any(|agent| agent.annotation.is_none());
            before.filter(|_| new)?.wanted.profile().cloned()
        });
        if moved {
            self.rollouts.came_by_label(policy, &facts.name);
        }
        let Some(rollout) = self.rollouts.of(policy) else { return profile };
        let keeps = |profile: &ProfileName| {
            self.texts.contains_key(profile)
                && self.policies.iter().any(|policy| policy.name == profile.policy())
                && !self.rollouts.is_withdrawn(profile.policy())
        };
        if present.is_none() && rollout.is_unproven_for(&facts.name) {
            // The node joins while no node has proven the profile: it begins as the nodes did that still wait for it.
            // In a fresh installation there is no former policy, either.
            let has_proven_profile = |name: &&String| {
                self.policies.iter().any(|each| each.name == **name && each.last_good().is_some())
            };
            let mut former = lost.iter().filter(has_proven_profile);
            if let Some(former) = former.find_map(|policy| self.present_of(policy, &facts.name, None, keeps))
            {
                return former;
            }
        }
        let own = rollout.profile_for(&facts.name, present.as_ref(), keeps);
        // While the node waits for its turn, it follows the policy that it had.
        let former = lost.iter().find(|policy| *policy == own.policy());
        let former = former.and_then(|policy| self.present_of(policy, &facts.name, Some(&own), keeps));
        former.unwrap_or(own)
    }

    /// The profile that a node gets from a policy, if no other one takes precedence.
    fn present_of(
        &self,
        policy: &str,
        node: &str,
        present: Option<&ProfileName>,
        keeps: impl Fn(&ProfileName) -> bool,
    ) -> Option<ProfileName> {
        let target = self.rendered.get(policy)?;
        let rollout = self.rollouts.of(policy);
        Some(rollout.map_or_else(|| target.clone(), |rollout| rollout.profile_for(node, present, keeps)))
    }

    /// Plans a known node again.
    pub(super) fn plan_again(&mut self, name: &str) {
        if let Some(PreparedNode { facts, agents, reached, .. }) = self.nodes.get(name) {
            let (facts, agents, reached) = (Arc::clone(facts), agents.clone(), *reached);
            self.node(facts, agents, reached);
        }
    }

    /// Moves all rollouts on. `report` returns the report of a node's agent. Returns the nodes that were planned again.
    pub(crate) fn roll_out<'r>(
        &mut self,
        report: &dyn Fn(&str) -> Option<&'r Report>,
        now: Instant,
    ) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        for policy in &self.policies {
            if self.rollouts.of(&policy.name).is_none() {
                continue;
            }
            let withdrawn = self.rollouts.is_withdrawn(&policy.name);
            // A node that waits for another policy is here until then.
            let waits = |node: &PreparedNode| {
                let matches = |selector: &Selector| selector.matches(&node.facts.labels);
                node.policy() == Some(&policy.name) && policy.selector.as_ref().is_some_and(matches)
            };
            let taken = self.nodes.values().filter(|node| {
                let is_here = withdrawn || node.planned.as_ref() == Some(&policy.name) || waits(node);
                !node.agents.is_empty() && is_here
            });
            let taken: Vec<_> = taken.map(|node| (node, present(&node.agents))).collect();
            let members: Vec<_> = taken
                .iter()
                .map(|(node, present)| Member {
                    node: node.name(),
                    zone: node.facts.zone().unwrap_or_default(),
                    present: present.as_ref(),
                    assigned: node.wanted.profile(),
                    report: report(node.name()),
                })
                .collect();
            let request = policy.rollout_request.as_deref();
            changed.extend(self.rollouts.step(&policy.name, &members, request, demands(policy), now));
        }
        changed.iter().for_each(|name| self.plan_again(name));
        changed
    }
}

/// The profile of the rollout that the policy's status tells of, and the generation of the policy that had it.
fn under_way(policy: &Policy) -> Option<(ProfileName, Option<i64>)> {
    let rollout = policy.status.rollout.as_ref()?;
    Some((rollout.profile.parse().ok()?, rollout.generation))
}

/// What nodes must show under the policy's profile; none if it cannot be carried out now.
fn demands(policy: &Policy) -> Option<Demands> {
    let checked = policy.ready()?;
    let limits = checked.thresholds();
    Some(Demands {
        offset: limits.offset.as_secs_f64(),
        error_bound: limits.error_bound.as_secs_f64(),
        answer: checked.local().is_some() || checked.sources().iter().any(|source| source.votes() > 0),
    })
}

/// The profile in the newest annotation that names one.
fn present(agents: &[Arc<AgentPod>]) -> Option<ProfileName> {
    agents.iter().rev().find_map(|agent| agent.assignment().profile().cloned())
}

#[cfg(test)]
mod tests;
