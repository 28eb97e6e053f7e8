//! The third step: decides which policy is in force on a node. Pure. Of the policies whose selector matches, the first
//! in order of precedence wins. A policy that is refused, or whose keys are missing, gets no further node and loses
//! none: its last good profile stays on its nodes. `rollout` decides when a node gets the profile that is planned here.
use std::{collections::BTreeMap, sync::Arc};

use contract::{Assignment, ProfileName};
use kube::core::SelectorExt;

use crate::{facts::AgentPod, validate::Policy};

/// The plan of one node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) choice: Choice,
    /// Policies whose selector matches the node too.
    pub(crate) lost: Vec<String>,
}

/// The profile that a node must run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// No policy selects the node.
    Nothing,
    /// The profile of the policy with this name.
    Policy(String),
    /// The last good profile of a policy that is now refused, or lacks a key.
    LastGood(ProfileName),
}

impl Choice {
    /// The policy in force.
    pub(crate) fn policy(&self) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::Policy(policy) => Some(policy),
            Self::LastGood(profile) => Some(profile.policy()),
        }
    }
}

/// Decides for one node. `policies` are in order of precedence. `before` is the profile that the node was to run before;
/// none if this operator does not know the node yet. `is_there` returns true if the text of a profile is known.
pub(crate) fn plan<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    labels: &BTreeMap<String, String>,
    agents: &[Arc<AgentPod>],
    before: Option<&ProfileName>,
    is_there: &dyn Fn(&ProfileName) -> bool,
) -> Planned {
    let mut claims =
        policies.into_iter().filter_map(|policy| claim(policy, labels, agents, before, is_there));
    let choice = claims.next().unwrap_or(Choice::Nothing);
    let lost = claims.filter_map(|loser| loser.policy().map(str::to_owned)).collect();
    Planned { choice, lost }
}

/// The choice for the node if no other policy takes precedence; none if this policy is not for the node.
fn claim(
    policy: &Policy,
    labels: &BTreeMap<String, String>,
    agents: &[Arc<AgentPod>],
    before: Option<&ProfileName>,
    is_there: &dyn Fn(&ProfileName) -> bool,
) -> Option<Choice> {
    let matches = policy.selector.as_ref().is_some_and(|selector| selector.matches(labels));
    if policy.ready().is_some() {
        return matches.then(|| Choice::Policy(policy.name.clone()));
    }
    // A refused spec is not used, and neither is its selector: the annotation on the pod counts.
    let running = agents.iter().find_map(|agent| match agent.assignment() {
        Assignment::Profile(profile) if profile.policy() == policy.name => Some(profile),
        _ => None,
    });
    // A pod without annotation is new: its node had a profile before it, or else gets the last good one, if there is one.
    let new = agents.iter().any(|agent| agent.annotation.is_none());
    let before = before.filter(|before| before.policy() == policy.name).cloned();
    let given =
        || before.or_else(|| policy.last_good()).filter(|profile| new && matches && is_there(profile));
    running.or_else(given).map(Choice::LastGood)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fetch::Fetched, fixtures::agent, validate::validate};

    /// The plan of a node of this tier, whose agent, if it has one, has this annotation.
    fn planned(policies: &[&str], tier: &str, annotation: Option<Option<&str>>) -> Planned {
        let read = |yaml: &&str| Arc::new(serde_norway::from_str(yaml).unwrap());
        let fetched = Fetched { policies: policies.iter().map(read).collect(), ..Fetched::default() };
        let agents: Vec<_> =
            annotation.into_iter().map(|annotation| Arc::new(agent("n", annotation))).collect();
        let labels = BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
        let is_there = |profile: &ProfileName| profile.hash() == "12345678";
        plan(&validate(fetched).policies, &labels, &agents, None, &is_there)
    }

    fn choice(policies: &[&str], tier: &str, annotation: Option<Option<&str>>) -> Choice {
        planned(policies, tier, annotation).choice
    }

    const ALL: &str = "{metadata: {name: all}, spec: {stratum: {local: 10}}}";
    const EDGE: &str = "{metadata: {name: edge}, spec: {mode: Observe, priority: 5, nodeSelector: {matchLabels: {tier: edge}}}}";

    #[test]
    fn the_more_important_policy_takes_its_nodes() {
        assert_eq!(choice(&[ALL, EDGE], "core", None), Choice::Policy("all".to_owned()));
        let edge = planned(&[ALL, EDGE], "edge", None);
        assert_eq!((edge.choice, edge.lost), (Choice::Policy("edge".to_owned()), vec!["all".to_owned()]));
    }

    #[test]
    fn without_a_policy_a_node_runs_nothing() {
        assert_eq!(choice(&[EDGE], "core", Some(None)), Choice::Nothing);
    }

    #[test]
    fn a_refused_policy_neither_takes_nor_gives_up() {
        let refused = "{metadata: {name: all}, spec: {nodeSelector: {matchLabels: {tier: edge}}, stratum: {local: 99999}}}";
        let running = Choice::LastGood("all.12345678".parse().unwrap());
        let of_core = choice(&[refused], "core", Some(Some("all.12345678")));
        assert_eq!(of_core, running, "the new selector does not match, and does not count");
        assert_eq!(choice(&[refused], "edge", Some(Some("none"))), Choice::Nothing);
        // A valid policy of higher precedence may still take the node.
        let of_edge = choice(&[refused, EDGE], "edge", Some(Some("all.12345678")));
        assert_eq!(of_edge, Choice::Policy("edge".to_owned()));
    }

    #[test]
    fn a_new_pod_gets_the_last_good_profile_of_a_refused_policy() {
        let refused = |profile: &str| {
            format!(
                "{{metadata: {{name: all}}, spec: {{stratum: {{local: 99999}}}}, status: {{profile: {profile}}}}}"
            )
        };
        let there = choice(&[&refused("all.12345678")], "core", Some(None));
        assert_eq!(there, Choice::LastGood("all.12345678".parse().unwrap()));
        let staged = |good: &str| {
            format!(
                "{{metadata: {{name: all}}, spec: {{stratum: {{local: 99999}}}}, status: {{profile: all.12345678, \
                 rollout: {{state: Paused, profile: all.12345678{good}}}}}}}"
            )
        };
        let unproven = choice(&[&staged("")], "core", Some(None));
        assert_eq!(unproven, Choice::Nothing, "its first rollout was not completed");
        let proven = choice(&[&staged(", lastGood: all.12345678")], "core", Some(None));
        assert_eq!(proven, Choice::LastGood("all.12345678".parse().unwrap()));
        let gone = choice(&[&refused("all.87654321")], "core", Some(None));
        assert_eq!(gone, Choice::Nothing, "its text is stored nowhere any more");
    }

    #[test]
    fn a_pod_that_is_replaced_keeps_the_profile_of_the_pod_before_it() {
        let refused = "{metadata: {name: all}, spec: {stratum: {local: 99999}}, status: {profile: all.12345678, \
                       rollout: {state: Paused, profile: all.12345678}}}";
        let policies = vec![Arc::new(serde_norway::from_str(refused).unwrap())];
        let policies = validate(Fetched { policies, ..Fetched::default() }).policies;
        let after = |before: Option<&str>| {
            let before: Option<ProfileName> = before.map(|name| name.parse().unwrap());
            let agents = [Arc::new(agent("n", None))];
            plan(&policies, &BTreeMap::new(), &agents, before.as_ref(), &|_| true).choice
        };
        assert_eq!(after(Some("all.12345678")), Choice::LastGood("all.12345678".parse().unwrap()));
        assert_eq!(after(Some("edge.12345678")), Choice::Nothing, "of another policy");
        assert_eq!(after(None), Choice::Nothing, "no node has proven it");
    }

    #[test]
    fn an_unreadable_policy_keeps_what_it_has() {
        let unreadable = "{metadata: {name: all}, spec: {mode: Later}}";
        let running = Choice::LastGood("all.12345678".parse().unwrap());
        assert_eq!(choice(&[unreadable], "core", Some(Some("all.12345678"))), running);
        assert_eq!(choice(&[unreadable], "core", Some(None)), Choice::Nothing);
    }
}
