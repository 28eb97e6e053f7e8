//! Passes the cluster's nodes and what is known of their agents to the step `resolve`.
use std::time::Instant;

use super::Memory;
use crate::{
    facts::NodeFacts, placement::Placement, resolve::ClusterNodes, tier::Readiness, validate::Validated,
};

impl Memory {
    /// Finds the nodes of all tiers.
    pub(super) fn resolve_tiers(&mut self, validated: &mut Validated, placement: &Placement, now: Instant) {
        let Self { cluster, reports, tiers, .. } = self;
        let readiness = |facts: &NodeFacts| match reports.of(&facts.name, now).report() {
            Some(report) if report.clock.synchronized => Readiness::Synchronized,
            _ if !cluster.agents(&facts.name).is_empty() => Readiness::Present,
            _ if placement.reaches(&facts.name, &facts.labels, &facts.taints) => Readiness::Awaited,
            _ => Readiness::Impossible,
        };
        tiers.resolve(validated, &ClusterNodes { nodes: cluster.nodes(), readiness: &readiness }, now);
    }
}
