//! Decides what is to be written to Nodes, and begins these writes: condition, taints and label of `node_fields`.
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;

use super::{Controller, Memory};
use crate::{
    facts::NodeFacts,
    node_fields::{self, Brake, Candidate, NodePatches, WRONG_TAINT, WrongTaint},
    node_state::Trouble,
    validate::Policy,
};

impl Controller {
    /// Decides what a Node is to say of its clock, and requests a write if it says something else.
    pub(super) fn decide_node_fields(&mut self, name: &str, now: Instant) {
        let Memory { prepared, reports, states, cluster, dirty, .. } = &mut self.memory;
        let (Some(node), Some(state)) = (prepared.nodes.get(name), states.get_mut(name)) else { return };
        let Some(facts) = cluster.nodes().get(name) else { return };
        let agent = reports.of(name, now);
        // Those by which the agent judges: a new profile may not be there yet.
        let running = agent.report().and_then(|report| report.profile.as_ref());
        let thresholds = prepared.thresholds(running, &node.wanted);
        let stored = cluster.known(name).and_then(|stored| stored.agent.as_ref());
        let told_boot = stored.map(|agent| agent.boot_id.as_str()).filter(|id| !id.is_empty());
        if state.fields.update(node, facts, agent, told_boot, &thresholds, (now, Timestamp::now())) {
            dirty.later.insert(name.to_owned());
        }
        let written = state.node_written;
        let name = name.to_owned();
        let urgent = self.node_patches(&name).map(|(_, patches)| patches.is_urgent());
        let (urgent_nodes, nodes) = (&mut self.writer.urgent_nodes, &mut self.writer.nodes);
        match urgent {
            Some(true) => {
                urgent_nodes.add(&name, now);
                nodes.clear(&name);
            }
            Some(false) => {
                urgent_nodes.clear(&name);
                if written.is_none_or(|at| now.saturating_duration_since(at) >= SHORTEST_PAUSE) {
                    nodes.add(&name, now);
                } else {
                    self.memory.dirty.later.insert(name);
                }
            }
            None => {
                urgent_nodes.clear(&name);
                nodes.clear(&name);
                if let Some(state) = self.memory.states.get_mut(&name) {
                    state.note(Trouble::Node, None);
                }
            }
        }
    }

    /// Decides which nodes are tainted, since that depends on all of them.
    pub(super) fn judge_taints(&mut self, now: Instant) {
        if !self.node_writes.node_taints {
            return;
        }
        let Memory { prepared, states, cluster, dirty, brake, .. } = &mut self.memory;
        // Just after the operator's start not every node is planned yet. A decision that leaves a node out would remove its taint.
        if prepared.nodes.len() < cluster.nodes().len() {
            return;
        }
        let policies: HashMap<_, _> =
            prepared.policies.iter().map(|policy| (policy.name.as_str(), policy)).collect();
        let candidates = prepared.nodes.iter().filter_map(|(name, node)| {
            let policy = policies.get(node.policy()?)?;
            let fields = &states.get(name)?.fields;
            Some(Candidate {
                node: name,
                rule: policy.taint_rule(),
                refused: policy.checked.is_err(),
                status: fields.status(),
                wrong_for: fields.wrong_for(now),
                tainted_for: fields.tainted_for(now),
            })
        });
        let rules = prepared.policies.iter().filter_map(Policy::taint_rule);
        let judged = Brake::judge(candidates, node_fields::budget(rules, prepared.nodes.len()));
        let brake = brake.insert(judged);
        for (name, node) in &prepared.nodes {
            if brake.tainted.contains(name) != node.facts.taints.iter().any(|taint| taint.key == WRONG_TAINT)
            {
                dirty.nodes.insert(name.clone());
            }
        }
    }

    /// Begins as many writes as there is room for.
    pub(super) fn start_node_writes(&mut self, now: Instant) {
        // A node needs at most two writes.
        while self.writer.pace_of_nodes.has_room(2, now) {
            let writer = &mut self.writer;
            let urgent = writer.urgent_nodes.next().map(|name| (true, name));
            let next = urgent.or_else(|| writer.nodes.next().map(|name| (false, name)));
            let Some((urgent, name)) = next else { return };
            match self.node_patches(&name) {
                Some((facts, patches)) => self.writer.write_node(facts, patches, urgent, now),
                None => self.writer.nodes_done(&name, urgent, true, now),
            }
        }
    }

    /// The patches of a Node; none if it is as desired.
    fn node_patches(&self, name: &str) -> Option<(Arc<NodeFacts>, NodePatches)> {
        let Memory { prepared, states, cluster, brake, .. } = &self.memory;
        let (node, state) = (prepared.nodes.get(name)?, states.get(name)?);
        let facts = cluster.nodes().get(name)?;
        let policy = node.policy().and_then(|name| prepared.policy(name));
        let rule = policy.and_then(Policy::taint_rule);
        let wrong = match (brake.as_ref().map(|brake| brake.tainted.contains(name)), rule) {
            (Some(true), Some(rule)) => WrongTaint::Present(rule),
            (Some(true), None) | (None, _) => WrongTaint::AsIs,
            (Some(false), _) => WrongTaint::Absent,
        };
        let (desired, writes) = (&state.fields.desired, self.node_writes);
        let patches = NodePatches::of(desired, wrong, facts, writes, Timestamp::now())?;
        Some((Arc::clone(facts), patches))
    }
}

/// Shortest time between two writes of a Node that change neither its status nor its taints, however often the reason or
/// the error bound changes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);
