//! Decides what is to be written to Nodes, and begins these writes: condition, taints and label of `node_fields`.
use std::{collections::HashMap, sync::Arc, time::Instant};

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
        let policy = node.policy().and_then(|name| prepared.policies.iter().find(|each| each.name == name));
        let thresholds = policy.map(Policy::thresholds).unwrap_or_default();
        if state.fields.update(node, facts, reports.of(name, now), &thresholds, (now, Timestamp::now())) {
            dirty.later.insert(name.to_owned());
        }
        let name = name.to_owned();
        if self.node_patches(&name).is_some() {
            self.writer.nodes.add(&name, now);
        } else {
            self.writer.nodes.clear(&name);
            if let Some(state) = self.memory.states.get_mut(&name) {
                state.note(Trouble::Node, None);
            }
        }
    }

    /// Decides which nodes are tainted, since that depends on all of them.
    pub(super) fn judge_taints(&mut self, now: Instant) {
        if !self.node_writes.node_taints {
            return;
        }
        let Memory { prepared, states, dirty, brake, .. } = &mut self.memory;
        let time = Timestamp::now();
        let policies: HashMap<_, _> =
            prepared.policies.iter().map(|policy| (policy.name.as_str(), policy)).collect();
        let candidates = prepared.nodes.iter().filter_map(|(name, node)| {
            let policy = policies.get(node.policy()?)?;
            let fields = &states.get(name)?.fields;
            Some(Candidate {
                node: name,
                rule: policy.node_taint.as_ref(),
                refused: policy.checked.is_err(),
                status: fields.status(),
                wrong_for: fields.wrong_for(now),
                tainted_for: tainted_for(&node.facts, time),
            })
        });
        let rules = prepared.policies.iter().filter_map(|policy| policy.node_taint.as_ref());
        *brake = Brake::judge(candidates, node_fields::budget(rules, prepared.nodes.len()));
        for (name, node) in &prepared.nodes {
            if brake.tainted.contains(name) != tainted_for(&node.facts, time).is_some() {
                dirty.nodes.insert(name.clone());
            }
        }
    }

    /// Begins as many writes as there is room for.
    pub(super) fn start_node_writes(&mut self, now: Instant) {
        // A node needs at most two writes.
        while self.writer.pace_of_nodes.has_room(2, now) {
            let Some(name) = self.writer.nodes.next() else { return };
            match self.node_patches(&name) {
                Some((facts, patches)) => self.writer.write_node(facts, patches, now),
                None => self.writer.nodes.done(&name, true, now),
            }
        }
    }

    /// The patches of a Node; none if it is as desired.
    fn node_patches(&self, name: &str) -> Option<(Arc<NodeFacts>, NodePatches)> {
        let Memory { prepared, states, cluster, brake, .. } = &self.memory;
        let (node, state) = (prepared.nodes.get(name)?, states.get(name)?);
        let facts = cluster.nodes().get(name)?;
        let policy = node.policy().and_then(|name| prepared.policies.iter().find(|each| each.name == name));
        let rule = policy.and_then(|policy| policy.node_taint.as_ref());
        let wrong = match (brake.tainted.contains(name), rule) {
            (true, Some(rule)) => WrongTaint::Present(rule),
            (true, None) => WrongTaint::AsIs,
            (false, _) => WrongTaint::Absent,
        };
        let (desired, writes) = (&state.fields.desired, self.node_writes);
        let patches = NodePatches::of(desired, wrong, facts, writes, Timestamp::now())?;
        Some((Arc::clone(facts), patches))
    }
}

/// For how long a Node has had the taint; none if it has none.
fn tainted_for(facts: &NodeFacts, time: Timestamp) -> Option<std::time::Duration> {
    let taint = facts.taints.iter().find(|taint| taint.key == WRONG_TAINT)?;
    // A taint without a time is an old one: another program may have set it.
    let age = taint.time_added.as_ref().map(|added| time.duration_since(added.0));
    Some(age.map_or(std::time::Duration::MAX, |age| age.try_into().unwrap_or_default()))
}
