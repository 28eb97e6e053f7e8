//! The input of a policy's conditions and status: the policy, its nodes, and the report of each node's agent. Pure.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use contract::{ConflictReport, ProfileName, Reason, Report};
use profile::Thresholds;

use crate::{
    build::PreparedNode,
    condition::{Finding, reason},
    node_fields::Brake,
    node_state::{NodeState, Trouble},
    reports::AgentState,
    validate::Policy,
};

/// A policy, and everything on which its conditions depend.
pub(crate) struct PolicyInput<'a> {
    pub(crate) policy: &'a Policy,
    /// The profile that is in force for the policy.
    pub(crate) profile: Option<&'a ProfileName>,
    /// The thresholds of that profile.
    pub(crate) thresholds: Thresholds,
    pub(crate) group: &'a PolicyNodes<'a>,
    /// What is to be said of its rollout while that is not done.
    pub(crate) rollout: Option<Finding>,
    /// Why its profile cannot be stored; none if it is stored.
    pub(crate) store_trouble: Option<&'a str>,
    /// Which nodes are tainted; none if the operator does not write taints.
    pub(crate) brake: Option<&'a Brake>,
}

/// The nodes of a policy.
#[derive(Default)]
pub(crate) struct PolicyNodes<'a> {
    pub(crate) nodes: Vec<PolicyNode<'a>>,
    /// The nodes where no agent can run.
    pub(crate) without_agent: Vec<&'a str>,
    /// The number of nodes that each other policy took, by the policy's name.
    pub(crate) taken: BTreeMap<&'a str, usize>,
    /// True if one of these agents was not asked yet, just after the operator's start.
    pub(crate) untried: bool,
}

/// A node of a policy.
pub(crate) struct PolicyNode<'a> {
    pub(crate) node: &'a PreparedNode,
    pub(crate) agent: AgentState<'a>,
    pub(crate) state: Option<&'a NodeState>,
}

impl PolicyNode<'_> {
    pub(crate) fn applied(&self) -> bool {
        let running = self.agent.report().and_then(|report| report.profile.as_ref());
        running.is_some() && running == self.node.wanted.profile()
    }

    /// Its report, if it is synchronised.
    pub(crate) fn synchronized(&self) -> Option<&Report> {
        self.agent.report().filter(|report| report.clock.synchronized)
    }

    /// Returns true if the clock is synchronised, with this reason.
    pub(crate) fn synchronized_by(&self, reason: Reason) -> bool {
        self.synchronized().is_some_and(|report| report.clock.reason == reason)
    }

    /// The conflict, if another process steers the node's clock.
    pub(crate) fn conflict(&self) -> Option<&ConflictReport> {
        self.agent.report().and_then(|report| report.conflict.as_ref())
    }

    /// Why this kind of object cannot be written for the node.
    pub(crate) fn trouble(&self, trouble: Trouble) -> Option<&str> {
        self.state?.troubles.get(&trouble).map(String::as_str)
    }

    /// The reason for which there is no report.
    pub(crate) fn reason_without_report(&self) -> &'static str {
        match self.agent {
            _ if self.node.agents.is_empty() => reason::NO_AGENT,
            AgentState::Unproven(_) => reason::AGENT_NOT_PROVEN,
            AgentState::Silent(_) => reason::AGENT_UNREACHABLE,
            AgentState::Waiting { .. } | AgentState::Report(..) => reason::WAITING,
        }
    }
}

/// The two synchronised nodes of a policy that differ the most: name and offset, seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread<'a> {
    pub(crate) ahead: (&'a str, f64),
    pub(crate) behind: (&'a str, f64),
}

impl Spread<'_> {
    /// The difference, seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.ahead.1 - self.behind.1
    }
}

/// When a policy's offset or spread first exceeded its threshold.
#[derive(Debug, Default)]
pub(crate) struct Deviations {
    since: BTreeMap<(String, &'static str), Instant>,
}

impl Deviations {
    /// Returns true if the deviation has lasted for `hold`.
    pub(crate) fn lasts(
        &mut self,
        policy: &str,
        what: &'static str,
        deviates: bool,
        hold: Duration,
        now: Instant,
    ) -> bool {
        let key = (policy.to_owned(), what);
        if !deviates {
            self.since.remove(&key);
            return false;
        }
        now.saturating_duration_since(*self.since.entry(key).or_insert(now)) >= hold
    }

    /// Forgets policies that are gone.
    pub(crate) fn retain(&mut self, policies: &BTreeSet<&str>) {
        self.since.retain(|(policy, _), _| policies.contains(policy.as_str()));
    }
}
