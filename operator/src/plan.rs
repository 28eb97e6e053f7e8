//! The third step: which policy is in force on which node. Pure. Of the policies whose selector matches, the first in
//! order of precedence wins. A refused policy, or one whose keys are not there, takes no further node and gives none
//! up: its last good profile stays where it is. For now every node gets its profile at once.
use std::collections::BTreeMap;

use contract::{Assignment, ProfileName};
use kube::core::SelectorExt;

use crate::{
    fetch::{AgentPod, NodeFacts},
    validate::{Policy, Validated},
};

/// Who gets what.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<PlannedNode>,
    /// For each policy's name: how many nodes it lost, by the name of the policy that took them.
    pub(crate) lost: BTreeMap<String, BTreeMap<String, usize>>,
}

/// One node.
#[derive(Debug)]
pub(crate) struct PlannedNode {
    pub(crate) facts: NodeFacts,
    /// The node's agents, the newest last; two for a moment during an update of the DaemonSet.
    pub(crate) agents: Vec<AgentPod>,
    pub(crate) choice: Choice,
}

/// What a node is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// No policy is for it.
    Nothing,
    /// What the policy of this name asks for.
    Wish(String),
    /// This profile of a policy that is refused in its present form, or lacks a key.
    LastGood(ProfileName),
}

impl Choice {
    /// The policy in force.
    pub(crate) fn policy(&self) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::Wish(policy) => Some(policy),
            Self::LastGood(profile) => Some(profile.policy()),
        }
    }
}

/// Decides for each node.
pub(crate) fn plan(validated: &Validated) -> Plan {
    let mut lost: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    let mut nodes = Vec::with_capacity(validated.nodes.len());
    for facts in &validated.nodes {
        let agents: Vec<_> =
            validated.agents.iter().filter(|agent| agent.node == facts.name).cloned().collect();
        let claims: Vec<_> =
            validated.policies.iter().filter_map(|policy| claim(policy, facts, &agents)).collect();
        let choice = claims.first().cloned().unwrap_or(Choice::Nothing);
        for loser in claims.iter().skip(1) {
            if let (Some(loser), Some(winner)) = (loser.policy(), choice.policy()) {
                *lost.entry(loser.to_owned()).or_default().entry(winner.to_owned()).or_default() += 1;
            }
        }
        nodes.push(PlannedNode { facts: facts.clone(), agents, choice });
    }
    Plan { nodes, lost }
}

/// What the policy would have the node run; none if it is not for this node.
fn claim(policy: &Policy, node: &NodeFacts, agents: &[AgentPod]) -> Option<Choice> {
    let matches = policy.selector.as_ref().is_some_and(|selector| selector.matches(&node.labels));
    if policy.ready().is_some() {
        return matches.then(|| Choice::Wish(policy.name.clone()));
    }
    // The spec is not to be trusted, selector included: what stands on the pod counts.
    let running = agents.iter().find_map(|agent| match agent.assignment() {
        Assignment::Profile(profile) if profile.policy() == policy.name => Some(profile),
        _ => None,
    });
    // A pod without annotation is new: its node had the last good profile, if it had any.
    let new = agents.iter().any(|agent| agent.annotation.is_none());
    let running = running.or_else(|| if new && matches { policy.last_good() } else { None });
    running.map(Choice::LastGood)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{fetch::Fetched, validate::validate};

    fn planned(policies: &[&str], agents: Vec<AgentPod>) -> Plan {
        let node = |name: &str, tier: &str| NodeFacts {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            labels: BTreeMap::from([("tier".to_owned(), tier.to_owned())]),
        };
        let read = |yaml: &&str| Arc::new(serde_norway::from_str(yaml).unwrap());
        plan(&validate(Fetched {
            policies: policies.iter().map(read).collect(),
            nodes: vec![node("n1", "core"), node("n2", "edge")],
            agents,
            ..Fetched::default()
        }))
    }

    fn agent(node: &str, annotation: Option<&str>) -> AgentPod {
        AgentPod {
            name: format!("agent-{node}"),
            uid: format!("uid-{node}"),
            node: node.to_owned(),
            created: None,
            address: None,
            annotation: annotation.map(str::to_owned),
        }
    }

    const ALL: &str = "{metadata: {name: all}, spec: {stratum: {local: 10}}}";
    const EDGE: &str =
        "{metadata: {name: edge}, spec: {priority: 5, nodeSelector: {matchLabels: {tier: edge}}}}";

    #[test]
    fn the_more_important_policy_takes_its_nodes() {
        let plan = planned(&[ALL, EDGE], vec![]);
        assert_eq!(plan.nodes[0].choice, Choice::Wish("all".to_owned()));
        assert_eq!(plan.nodes[1].choice, Choice::Wish("edge".to_owned()));
        assert_eq!(plan.lost["all"]["edge"], 1);
    }

    #[test]
    fn without_a_policy_a_node_runs_nothing() {
        let plan = planned(&[EDGE], vec![agent("n1", None)]);
        assert_eq!(plan.nodes[0].choice, Choice::Nothing);
    }

    #[test]
    fn a_refused_policy_neither_takes_nor_gives_up() {
        let refused = "{metadata: {name: all}, spec: {nodeSelector: {matchLabels: {tier: edge}}, stratum: {local: 99999}}}";
        let running = Choice::LastGood("all.12345678".parse().unwrap());
        let plan = planned(&[refused], vec![agent("n1", Some("all.12345678")), agent("n2", Some("none"))]);
        assert_eq!(plan.nodes[0].choice, running, "the new selector does not match, and does not count");
        assert_eq!(plan.nodes[1].choice, Choice::Nothing);
        // A valid policy of higher rank may still take the node.
        let plan = planned(&[refused, EDGE], vec![agent("n2", Some("all.12345678"))]);
        assert_eq!(plan.nodes[1].choice, Choice::Wish("edge".to_owned()));
    }

    #[test]
    fn a_new_pod_gets_the_last_good_profile_of_a_refused_policy() {
        let refused =
            "{metadata: {name: all}, spec: {stratum: {local: 99999}}, status: {profile: all.12345678}}";
        let plan = planned(&[refused], vec![agent("n1", None)]);
        assert_eq!(plan.nodes[0].choice, Choice::LastGood("all.12345678".parse().unwrap()));
    }

    #[test]
    fn an_unreadable_policy_keeps_what_it_has() {
        let unreadable = "{metadata: {name: all}, spec: {mode: Later}}";
        let plan = planned(&[unreadable], vec![agent("n1", Some("all.12345678")), agent("n2", None)]);
        assert_eq!(plan.nodes[0].choice, Choice::LastGood("all.12345678".parse().unwrap()));
        assert_eq!(plan.nodes[1].choice, Choice::Nothing);
    }
}
