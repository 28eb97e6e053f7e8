//! The present nodes with their agents and NodeClocks, and which of them have changed since `changed` or
//! `written_changed` was last called. Pure: watch events are arguments. A new list from a watch is compared with the
//! known objects, so that only differences count as changes.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    facts::{AgentPod, NodeFacts, is_older},
    fetch::{Change, WatchEvent},
    stored_node_clock::StoredNodeClock,
};

/// The present nodes, agents and NodeClocks.
#[derive(Debug, Default)]
pub(crate) struct ClusterState {
    nodes: BTreeMap<String, Arc<NodeFacts>>,
    /// By the pod's name.
    pods: HashMap<String, Arc<AgentPod>>,
    /// By the node's name, the newest last. There are two for a moment during an update of the DaemonSet.
    agents: HashMap<String, Vec<Arc<AgentPod>>>,
    node_clocks: HashMap<String, Arc<StoredNodeClock>>,
    listed: Listed,
    changed: BTreeSet<String>,
    written_changed: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Listed {
    nodes: bool,
    pods: bool,
    node_clocks: bool,
}

impl ClusterState {
    /// Takes a change from a watch.
    pub(crate) fn take(&mut self, change: Change) {
        match change {
            Change::Node(WatchEvent::All(all)) => {
                self.listed.nodes = true;
                let gone = gone(self.nodes.keys(), &all);
                gone.into_iter().for_each(|name| self.node(name, None));
                all.into_iter().for_each(|(name, facts)| self.node(name, Some(facts)));
            }
            Change::Node(WatchEvent::One(name, facts)) => self.newer_node(name, facts),
            Change::Agent(WatchEvent::All(all)) => {
                self.listed.pods = true;
                let gone = gone(self.pods.keys(), &all);
                gone.into_iter().for_each(|name| self.pod(name, None));
                // A list replaces what is known even if its versions are lower: etcd may have been restored from a
                // backup.
                all.into_iter().for_each(|(name, pod)| self.take_pod(name, Some(pod)));
            }
            Change::Agent(WatchEvent::One(name, pod)) => self.pod(name, pod),
            Change::NodeClock(WatchEvent::All(all)) => {
                self.listed.node_clocks = true;
                let gone = gone(self.node_clocks.keys(), &all);
                gone.into_iter().for_each(|name| self.node_clock(name, None));
                all.into_iter().for_each(|(name, known)| self.take_node_clock(name, Some(known)));
            }
            Change::NodeClock(WatchEvent::One(name, known)) => self.node_clock(name, known),
        }
    }

    /// Returns true if each watch has delivered its first list.
    pub(crate) fn is_complete(&self) -> bool {
        self.listed.nodes && self.listed.pods && self.listed.node_clocks
    }

    /// Every node, by name.
    pub(crate) fn nodes(&self) -> &BTreeMap<String, Arc<NodeFacts>> {
        &self.nodes
    }

    /// A node's agents.
    pub(crate) fn agents(&self, node: &str) -> &[Arc<AgentPod>] {
        self.agents.get(node).map_or(&[], Vec::as_slice)
    }

    /// Every agent, in no particular order.
    pub(crate) fn all_agents(&self) -> impl Iterator<Item = &Arc<AgentPod>> {
        self.pods.values()
    }

    fn node_clock(&mut self, name: String, known: Option<StoredNodeClock>) {
        let before = self.node_clocks.get(&name).zip(known.as_ref());
        // A watch may lag behind our own write.
        if before.is_none_or(|(before, known)| !is_older(known.version.as_deref(), before.version.as_deref()))
        {
            self.take_node_clock(name, known);
        }
    }

    /// Takes a NodeClock that was written. If it existed when the write began (`was_there`) and is not known any more,
    /// it was deleted in the meantime, and the write is ignored.
    pub(crate) fn wrote_node_clock(&mut self, name: String, known: StoredNodeClock, was_there: bool) {
        if !was_there || self.node_clocks.contains_key(&name) {
            self.node_clock(name, Some(known));
        }
    }

    /// Records that a write over the known version of a NodeClock failed. The next write names no version.
    pub(crate) fn doubt_node_clock(&mut self, name: &str) {
        if let Some(known) = self.node_clocks.get_mut(name) {
            *known = Arc::new(StoredNodeClock { version: None, ..(**known).clone() });
        }
    }

    fn take_node_clock(&mut self, name: String, known: Option<StoredNodeClock>) {
        let Some(known) = known else {
            if self.node_clocks.remove(&name).is_some() {
                self.written_changed.insert(name);
            }
            return;
        };
        let before = self.node_clocks.get(&name);
        if before.is_none_or(|before| !before.says_the_same(&known)) {
            self.written_changed.insert(name.clone());
        }
        self.node_clocks.insert(name, Arc::new(known));
    }

    /// What is known of a node's NodeClock; none if there is no NodeClock.
    pub(crate) fn known(&self, node: &str) -> Option<&Arc<StoredNodeClock>> {
        self.node_clocks.get(node)
    }

    /// What is known of all NodeClocks, by name.
    pub(crate) fn all_known(&self) -> impl Iterator<Item = (&String, &Arc<StoredNodeClock>)> {
        self.node_clocks.iter()
    }

    /// Returns and clears the names of nodes that are new, removed or changed, or whose agents are.
    pub(crate) fn changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// Returns true if `changed` or `written_changed` would return a node.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty() || !self.written_changed.is_empty()
    }

    /// Returns and clears the nodes whose NodeClock, or whose Node's clock condition, differs from before.
    pub(crate) fn written_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.written_changed)
    }

    fn node(&mut self, name: String, facts: Option<NodeFacts>) {
        let Some(facts) = facts else {
            if self.nodes.remove(&name).is_some() {
                self.changed.insert(name);
            }
            return;
        };
        match self.nodes.get(&name) {
            Some(before) if before.is_placed_like(&facts) => {
                if !before.says_the_same(&facts) {
                    self.written_changed.insert(name.clone());
                }
            }
            _ => drop(self.changed.insert(name.clone())),
        }
        self.nodes.insert(name, Arc::new(facts));
    }

    /// Takes a Node that was written. If it is not known any more, it was deleted in the meantime and is ignored.
    pub(crate) fn wrote_node(&mut self, facts: NodeFacts) {
        let name = facts.name.clone();
        if self.nodes.get(&name).is_some_and(|there| there.uid == facts.uid) {
            self.newer_node(name, Some(facts));
        }
    }

    fn newer_node(&mut self, name: String, facts: Option<NodeFacts>) {
        let before = self.nodes.get(&name).zip(facts.as_ref());
        // A watch may lag behind our own write.
        if before.is_none_or(|(before, facts)| !is_older(facts.version.as_deref(), before.version.as_deref()))
        {
            self.node(name, facts);
        }
    }

    fn pod(&mut self, name: String, pod: Option<AgentPod>) {
        let before = self.pods.get(&name).zip(pod.as_ref());
        if before.is_none_or(|(before, pod)| !is_older(pod.version.as_deref(), before.version.as_deref())) {
            self.take_pod(name, pod);
        }
    }

    /// Takes an agent's pod that was written. If it is not known any more, it was deleted in the meantime and is
    /// ignored.
    pub(crate) fn wrote_pod(&mut self, pod: AgentPod) {
        if self.pods.get(&pod.name).is_some_and(|there| there.uid == pod.uid) {
            self.pod(pod.name.clone(), Some(pod));
        }
    }

    fn take_pod(&mut self, name: String, pod: Option<AgentPod>) {
        let before = match pod {
            Some(pod) => {
                let pod = Arc::new(pod);
                let before = self.pods.insert(name, Arc::clone(&pod));
                if before.as_ref() == Some(&pod) {
                    return;
                }
                self.leave(before.as_deref());
                let agents = self.agents.entry(pod.node.clone()).or_default();
                agents.push(Arc::clone(&pod));
                agents.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
                self.changed.insert(pod.node.clone());
                return;
            }
            None => self.pods.remove(&name),
        };
        self.leave(before.as_deref());
    }

    /// Removes the pod from its node.
    fn leave(&mut self, pod: Option<&AgentPod>) {
        let Some(pod) = pod else { return };
        if let Some(agents) = self.agents.get_mut(&pod.node) {
            agents.retain(|agent| agent.name != pod.name);
            if agents.is_empty() {
                self.agents.remove(&pod.node);
            }
        }
        self.changed.insert(pod.node.clone());
    }
}

/// Known names that are not in the list.
fn gone<'a, T>(here: impl Iterator<Item = &'a String>, all: &[(String, T)]) -> Vec<String> {
    let all: BTreeSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    here.filter(|name| !all.contains(name.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::agent;

    fn facts(name: &str) -> NodeFacts {
        NodeFacts { name: name.to_owned(), ..NodeFacts::default() }
    }

    #[test]
    fn only_differences_count() {
        let mut cluster = ClusterState::default();
        let nodes = |names: &[&str]| {
            Change::Node(WatchEvent::All(
                names.iter().map(|name| ((*name).to_owned(), facts(name))).collect(),
            ))
        };
        cluster.take(nodes(&["a", "b"]));
        assert_eq!(cluster.changed().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        cluster.take(nodes(&["a", "b", "c"]));
        assert_eq!(cluster.changed().into_iter().collect::<Vec<_>>(), ["c"]);
        cluster.take(nodes(&["b", "c"]));
        assert_eq!(cluster.changed().into_iter().collect::<Vec<_>>(), ["a"]);
        cluster.take(Change::Node(WatchEvent::One("b".to_owned(), Some(facts("b")))));
        assert!(cluster.changed().is_empty());
        assert!(!cluster.is_complete());
        cluster.take(Change::Agent(WatchEvent::All(vec![])));
        cluster.take(Change::NodeClock(WatchEvent::All(vec![])));
        assert!(cluster.is_complete());
    }

    #[test]
    fn agents_stand_with_their_node_the_newest_last() {
        let mut cluster = ClusterState::default();
        let pod = |name: &str, node: &str, secs| {
            let mut pod = agent(node, None);
            pod.name = name.to_owned();
            pod.created = Some(k8s_openapi::jiff::Timestamp::from_second(secs).unwrap());
            Change::Agent(WatchEvent::One(name.to_owned(), Some(pod)))
        };
        let names = |cluster: &ClusterState, node| {
            cluster.agents(node).iter().map(|agent| agent.name.clone()).collect::<Vec<_>>()
        };
        cluster.take(pod("new", "n", 9));
        cluster.take(pod("old", "n", 1));
        assert_eq!(names(&cluster, "n"), ["old", "new"]);
        cluster.changed();
        cluster.take(pod("old", "other", 1));
        assert_eq!(
            (names(&cluster, "n"), names(&cluster, "other")),
            (vec!["new".into()], vec!["old".into()])
        );
        assert_eq!(cluster.changed().into_iter().collect::<Vec<_>>(), ["n", "other"]);
        cluster.take(Change::Agent(WatchEvent::One("new".to_owned(), None)));
        assert!(cluster.agents("n").is_empty() && cluster.agents.len() == 1);
    }

    #[test]
    fn a_node_clock_that_says_the_same_is_no_change() {
        let mut cluster = ClusterState::default();
        let known = |version: &str, facts| StoredNodeClock {
            version: Some(version.to_owned()),
            facts,
            ..StoredNodeClock::default()
        };
        cluster.node_clock("n".to_owned(), Some(known("1", 7)));
        assert_eq!(cluster.written_changed().len(), 1);
        cluster.node_clock("n".to_owned(), Some(known("2", 7)));
        assert!(cluster.written_changed().is_empty());
        assert_eq!(cluster.known("n").unwrap().version.as_deref(), Some("2"));
        cluster.node_clock("n".to_owned(), Some(known("1", 8)));
        assert!(cluster.written_changed().is_empty(), "the watch lags behind");
        cluster.node_clock("n".to_owned(), Some(known("3", 8)));
        cluster.node_clock("n".to_owned(), None);
        assert_eq!(cluster.written_changed().len(), 1);
    }
}
