//! Begins the writes that are wanted, as far as there is room, and handles their outcomes.
use std::{collections::BTreeSet, sync::Arc, time::Instant};

use k8s_openapi::jiff::Timestamp;
use tracing::warn;

use super::{Controller, Memory};
use crate::{
    fetch::Profiles, keys::Data, message::chain, node_clock::WrittenFigures, node_state::Trouble,
    term::WriteError, writer::Done,
};

impl Controller {
    /// Begins as many writes as there is room for. The content of each is decided now, not when it was requested.
    pub(super) fn start_writes(&mut self, now: Instant) {
        let Memory { prepared, reports, cluster, states, to_nudge, in_flight, .. } = &mut self.memory;
        let writer = &mut self.writer;
        while let Some(key) = writer.annotations.next() {
            let node = prepared.nodes.get(&key.0);
            let agent = node.and_then(|node| node.agents.iter().find(|agent| agent.name == key.1));
            let Some((node, agent)) = node.zip(agent) else {
                writer.annotations.done(&key, true, now);
                continue;
            };
            let value = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
            let nudge = to_nudge.remove(&agent.uid).then_some(value);
            if let Some(profile) = node.wanted.profile() {
                in_flight.insert(key, (profile.clone(), agent.version.clone()));
            }
            writer.annotate(Arc::clone(agent), node.wanted.clone(), nudge);
        }
        while let Some(name) = writer.events.next() {
            let Some((node, state)) = prepared.nodes.get(&name).zip(states.get_mut(&name)) else {
                writer.events.done(&name, true, now);
                continue;
            };
            let known = cluster.known(&name).map(|known| &**known);
            let pending = state.pending_events(node, reports.of(&name, now), known, now, Timestamp::now());
            self.metrics.events_dropped(pending.dropped);
            writer.send_events(name, pending);
        }
        for urgent in [true, false] {
            loop {
                let queue = if urgent { &mut writer.urgent } else { &mut writer.node_clocks };
                let next =
                    if urgent || writer.annotations.is_idle() { queue.next() } else { queue.next_alone() };
                let Some(name) = next else { break };
                let agent = reports.of(&name, now);
                let status = prepared.nodes.get(&name).zip(states.get(&name)).and_then(|(node, state)| {
                    let known = cluster.known(&name);
                    let status = state.status(node, agent, known.map(|known| &**known), Timestamp::now())?;
                    Some((Arc::clone(&node.facts), known.cloned(), status))
                });
                match status {
                    Some((facts, known, status)) => {
                        writer.write_node_clock(facts, known, status, WrittenFigures::of(agent, now), urgent);
                    }
                    None => queue.done(&name, true, now),
                }
            }
        }
        self.start_node_writes(now);
    }

    /// Begins to write the Secret and the ConfigMap if their content differs from the desired one.
    pub(super) fn store(&mut self, now: Instant) {
        let memory = &mut self.memory;
        let mut named = memory.reports.profiles();
        named.extend(memory.not_reporting(now));
        named.extend(memory.in_flight.values().map(|(profile, _)| profile.clone()));
        let (content, again) = memory.prepared.content(&named);
        if again {
            memory.dirty.policies = true;
        } else if let Some(write) = memory.store.begin(&memory.prepared, content, now) {
            self.writer.store(write);
        }
    }

    /// Handles the outcome of a write.
    pub(super) fn write_done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Annotated { key, uid, result, nudged } => {
                let why = self.count("Pod", &result);
                self.writer.annotations.done(&key, why.is_none(), now);
                self.trouble(&key.0, Trouble::Annotation, why);
                if nudged && result.is_err() {
                    self.memory.to_nudge.insert(uid);
                }
                // If the API server refused, the write is not on its way any more. After a timeout the outcome is
                // unknown.
                if result.as_ref().err().is_none_or(|error| error.code().is_some()) {
                    self.memory.in_flight.remove(&key);
                }
                if let Ok(Some(pod)) = result {
                    if !nudged {
                        self.memory.nudges.annotated(&pod.uid, now);
                    }
                    self.memory.cluster.wrote_pod(pod);
                }
                self.memory.dirty.nodes.insert(key.0);
            }
            Done::EventsSent { node, last_sent, impostor, unsent, result } => {
                let why = self.count("Event", &result);
                self.writer.events.done(&node, why.is_none(), now);
                if let Some(state) = self.memory.states.get_mut(&node) {
                    state.give_back(&unsent);
                    if let Some((instance, last)) = last_sent {
                        state.events_were_sent(instance, last);
                    }
                    if impostor {
                        state.impostor_event_was_sent();
                    }
                }
                self.trouble(&node, Trouble::Event, why);
                self.memory.dirty.nodes.insert(node);
            }
            Done::NodeClock { node, urgent, was_there, written, result } => {
                let why = self.count("NodeClock", &result);
                let again = self.writer.urgent.fails(&node) || self.writer.node_clocks.fails(&node);
                let queue = if urgent { &mut self.writer.urgent } else { &mut self.writer.node_clocks };
                queue.done(&node, why.is_none(), now);
                match result {
                    Ok(known) => {
                        // A failure in the other queue is settled too.
                        self.writer.urgent.clear(&node);
                        self.writer.node_clocks.clear(&node);
                        if let Some(state) = self.memory.states.get_mut(&node) {
                            let before = state.written.replace(written);
                            let age = before.map(|before| written.at.saturating_duration_since(before.at));
                            self.memory.refresh.spent(age);
                        }
                        self.memory.cluster.wrote_node_clock(node.clone(), known, was_there);
                    }
                    // The watch should have brought the present version by now.
                    Err(error) if again && matches!(error.code(), Some(404 | 409)) => {
                        self.memory.cluster.doubt_node_clock(&node);
                    }
                    Err(_) => {}
                }
                self.trouble(&node, Trouble::NodeClock, why);
                self.memory.dirty.nodes.insert(node);
            }
            Done::Node { node, urgent, result } => {
                let why = self.count("Node", &result);
                self.writer.nodes_done(&node, urgent, why.is_none(), now);
                if let Some(state) = self.memory.states.get_mut(&node) {
                    state.node_written = Some(now);
                }
                if let Ok(facts) = result {
                    self.memory.cluster.wrote_node(facts);
                }
                self.trouble(&node, Trouble::Node, why);
                self.memory.dirty.nodes.insert(node);
            }
            Done::Stored { keys, files, profiles } => self.stored(keys, files, profiles, now),
            Done::Policy { policy, result } => {
                let why = self.count("TimeSyncPolicy", &result);
                self.writer.policies.done(&policy, why.is_none(), now);
                if let Some(why) = why {
                    warn!(policy, error = why, "Status of a policy not written; trying again");
                }
            }
        }
    }

    fn stored(
        &mut self,
        keys: Option<Result<(Data, Option<String>), WriteError>>,
        files: BTreeSet<String>,
        profiles: Option<Result<Profiles, WriteError>>,
        now: Instant,
    ) {
        let failures = [
            keys.as_ref().and_then(|result| Some(("Secret", self.count("Secret", result)?))),
            profiles.as_ref().and_then(|result| Some(("ConfigMap", self.count("ConfigMap", result)?))),
        ];
        let failure = failures.into_iter().flatten().next();
        if let Some((what, _)) = &failure {
            self.metrics.failed(what);
        }
        let why = failure.map(|(what, why)| format!("{what}: {why}"));
        if self.memory.store.write_done(why, now) {
            let error = self.memory.store.trouble().unwrap_or_default();
            warn!(error, "Profiles or keys not written; trying again");
        }
        let Memory { prepared, nudges, dirty, .. } = &mut self.memory;
        if let Some(Ok((held, version))) = keys {
            prepared.hold_keys(held, version);
            for node in prepared.nodes.values().filter(|node| prepared.needs(&node.wanted, &files)) {
                node.agents.iter().for_each(|agent| nudges.secret_changed(&agent.uid, now));
            }
        }
        if let Some(Ok(held)) = profiles {
            prepared.hold_profiles(held);
        }
        // Annotations may have waited for this write.
        dirty.nodes.extend(prepared.nodes.keys().cloned());
        dirty.content = true;
    }

    /// Clears the troubles of writes that are not wanted any more.
    pub(super) fn clear_troubles(&self) {
        let writer = &self.writer;
        for (kind, fails) in [
            ("Pod", writer.annotations.any_fails()),
            ("Event", writer.events.any_fails()),
            ("NodeClock", writer.urgent.any_fails() || writer.node_clocks.any_fails()),
            ("Node", writer.nodes.any_fails() || writer.urgent_nodes.any_fails()),
            ("TimeSyncPolicy", writer.policies.any_fails()),
        ] {
            if !fails {
                self.health.set(kind, Ok(()));
            }
        }
    }

    /// Counts a write. Returns why it failed, if it did. A missing right is shown at /readyz, since no object of this
    /// kind can be written.
    fn count<T>(&self, kind: &'static str, result: &Result<T, WriteError>) -> Option<String> {
        let Err(error) = result else {
            self.health.set(kind, Ok(()));
            return None;
        };
        self.metrics.not_written(kind);
        let why = chain(error);
        if error.lacks_right() {
            self.health.set(kind, Err(why.clone()));
        }
        Some(why)
    }

    /// Records or clears a trouble with a node. Logs it when it begins.
    fn trouble(&mut self, node: &str, trouble: Trouble, why: Option<String>) {
        let Some(state) = self.memory.states.get_mut(node) else { return };
        if let Some(why) = &why
            && !state.troubles.contains_key(&trouble)
        {
            warn!(node, ?trouble, error = why, "Not written; trying again");
        }
        state.note(trouble, why);
    }
}
