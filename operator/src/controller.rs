//! The driver: fetch → validate → resolve → plan → build → apply → collect → status. A change goes through all steps without
//! delay. There are few policies: if one changes, all are validated again. There are many nodes: each is reconciled
//! when something about it changes. Writes are queued (`writer`) and run concurrently with the steps. The state between
//! two runs of the steps is in [`Memory`]. A restart may lose all of it.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use contract::ProfileName;
use k8s_openapi::jiff::Timestamp;
use tokio::{
    sync::{Notify, mpsc::Receiver},
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};

use crate::{
    build::Prepared,
    cluster_state::ClusterState,
    collect::{Collector, Failure, PollResult},
    cookie_keys::{self, CookieKeys},
    events,
    fetch::{Change, Watches},
    health::Health,
    message::chain,
    metrics::Metrics,
    node_clock::WriteUrgency,
    node_fields::{Brake, NodeWrites},
    node_state::{NodeState, Refresh, Trouble},
    nudge::Nudges,
    placement::Placement,
    policy_nodes::Deviations,
    reports::{AgentState, Reports},
    resolve::Tiers,
    rollout_log::RolloutLog,
    status::WrittenPolicy,
    store::Store,
    validate::validate,
    writer::Writer,
};

mod nodes;
mod policies;
mod tiers;
mod writes;

/// Everything that the controller works with.
pub(crate) struct Controller {
    pub(crate) watches: Watches,
    pub(crate) notifier: Arc<Notify>,
    pub(crate) changes: Receiver<Change>,
    pub(crate) answers: Receiver<PollResult>,
    pub(crate) collector: Collector,
    pub(crate) writer: Writer,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) placement: Placement,
    pub(crate) node_writes: NodeWrites,
    pub(crate) started: Instant,
    pub(crate) memory: Memory,
}

/// The state that is kept between two runs of the steps.
#[derive(Default)]
pub(crate) struct Memory {
    cluster: ClusterState,
    tiers: Tiers,
    prepared: Prepared,
    store: Store,
    reports: Reports,
    states: HashMap<String, NodeState>,
    cookie_keys: CookieKeys,
    nudges: Nudges,
    /// Pods whose next annotation write also nudges the kubelet.
    to_nudge: BTreeSet<String>,
    deviations: Deviations,
    /// Annotations that are being written, or whose outcome is unknown, with the pod's version before the write.
    in_flight: BTreeMap<(String, String), (ProfileName, Option<String>)>,
    refresh: Refresh,
    written_policies: HashMap<String, WrittenPolicy>,
    rollout_log: RolloutLog,
    /// Which nodes are tainted; none before that was first judged. Until then each node keeps a taint that it has.
    brake: Option<Brake>,
    dirty: Dirty,
}

/// What changed since the last run of the steps.
#[derive(Default)]
struct Dirty {
    /// Policies, the ConfigMap or a Secret changed.
    policies: bool,
    /// The desired content of the ConfigMap may have changed.
    content: bool,
    /// The set of agents to poll may have changed.
    agents: bool,
    /// Nodes whose NodeClock may be due, or that may have Events to send.
    nodes: BTreeSet<String>,
    /// Nodes to reconcile again at the next tick.
    later: BTreeSet<String>,
}

/// Changes often come together (a DaemonSet's rollout, an edit of several objects): one run handles them all.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Silent agents, lasting deviations, nudges and statuses are due by time, not by a change.
const TICK: Duration = Duration::from_secs(1);
/// During this time after the operator's start, an agent that was not asked yet is not an error.
const STARTUP_GRACE: Duration = Duration::from_secs(10);
/// All policies are validated at least this often, since cookie keys change with time.
const RESYNC: Duration = Duration::from_secs(30);

impl Controller {
    /// Works until the program ends. Returns only if the watches end.
    pub(crate) async fn run(mut self) {
        if self.watches.ready().await.is_err() {
            return;
        }
        self.collector.tokens.wait().await;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut turned, mut judged, mut watching) = (Instant::now(), Instant::now(), false);
        self.memory.dirty.policies = true;
        loop {
            let ticked = self.wait(&mut tick, turned + DEBOUNCE).await;
            if !self.memory.cluster.is_complete() {
                continue;
            }
            if !watching {
                info!(nodes = self.memory.cluster.nodes().len(), "Watching");
                watching = true;
            }
            let now = Instant::now();
            if ticked {
                self.memory.dirty.policies |= now.saturating_duration_since(judged) >= RESYNC;
                self.tick(now);
            }
            if now.saturating_duration_since(turned) >= DEBOUNCE {
                if self.memory.dirty.policies {
                    judged = now;
                }
                self.reconcile(now);
                turned = Instant::now();
                self.metrics.reconciled(turned.saturating_duration_since(now));
            }
            self.start_writes(now);
        }
    }

    /// Waits for a change, an answer, the end of a write, the tick, or `next_turn`. Then handles everything else that
    /// has arrived. Returns true at the tick.
    async fn wait(&mut self, tick: &mut Interval, next_turn: Instant) -> bool {
        let mut ticked = false;
        tokio::select! {
            () = self.notifier.notified() => self.memory.dirty.policies = true,
            Some(change) = self.changes.recv() => self.memory.cluster.take(change),
            Some(answer) = self.answers.recv() => self.note(answer),
            done = self.writer.done() => self.write_done(done),
            _ = tick.tick() => ticked = true,
            () = sleep_until(next_turn.into()), if self.memory.cluster.is_complete() && self.memory.is_dirty() => {}
        }
        while let Ok(change) = self.changes.try_recv() {
            self.memory.cluster.take(change);
        }
        while let Ok(answer) = self.answers.try_recv() {
            self.note(answer);
        }
        while let Some(done) = self.writer.try_done() {
            self.write_done(done);
        }
        ticked
    }

    fn note(&mut self, mut answer: PollResult) {
        let failed = self.memory.reports.fails(&answer.node);
        match &mut answer.result {
            Err(failure) => {
                self.metrics.not_collected(failure.reason());
                // Without a token no agent can be asked. That is logged once, by `token`.
                if !failed && !matches!(failure, Failure::Token(_)) {
                    warn!(node = answer.node, error = %chain(&*failure), "Agent not reached; trying again");
                }
            }
            Ok(report) => {
                if failed {
                    info!(node = answer.node, "Agent reached");
                }
                events::drop_sent(report, self.memory.cluster.known(&answer.node).map(|known| &**known));
            }
        }
        self.memory.dirty.nodes.insert(answer.node.clone());
        self.memory.dirty.content |= self.memory.reports.note(answer, Instant::now(), Timestamp::now());
    }

    /// Handles the changes, in the order of the steps.
    fn reconcile(&mut self, now: Instant) {
        let memory = &mut self.memory;
        if std::mem::take(&mut memory.dirty.policies) {
            let mut validated = validate(self.watches.fetch());
            memory.resolve_tiers(&mut validated, &self.placement, now);
            let held = validated.secrets.held.get(contract::key_files::COOKIE_KEYS);
            let wanted = validated.wants_cookie_keys();
            match memory.cookie_keys.update(held, wanted, now, Timestamp::now(), cookie_keys::draw) {
                Ok(keys) => validated.secrets.cookie_keys = keys,
                Err(error) => {
                    self.metrics.failed("CookieKeys");
                    warn!(%error, "Cannot make a key for cookies; trying again");
                }
            }
            self.watches.secrets.follow(&validated.secrets_named());
            if memory.prepared.take(validated) {
                memory.dirty.nodes.extend(memory.prepared.nodes.keys().cloned());
            }
            memory.dirty.content = true;
        }
        for name in memory.cluster.changed() {
            (self.memory.dirty.content, self.memory.dirty.agents) = (true, true);
            let facts = self.memory.cluster.nodes().get(&name);
            self.memory.dirty.policies |= self.memory.tiers.concerns(&name, facts.map(|facts| &**facts));
            self.plan(name, now);
        }
        let memory = &mut self.memory;
        if !memory.prepared.nodes.is_empty() && self.collector.tokens.take_renewed() {
            let agents = memory.prepared.nodes.values().flat_map(|node| &node.agents);
            agents.for_each(|agent| memory.nudges.secret_changed(&agent.uid, now));
        }
        memory.dirty.nodes.extend(memory.cluster.written_changed());
        if std::mem::take(&mut memory.dirty.content) || memory.store.is_due(now) {
            self.store(now);
        }
        if std::mem::take(&mut self.memory.dirty.agents) {
            let agents = self.memory.cluster.all_agents();
            let nodes = self.memory.cluster.nodes();
            let polled = agents.filter(|agent| nodes.contains_key(&agent.node)).map(|agent| &**agent);
            self.collector.follow(polled);
        }
        for name in std::mem::take(&mut self.memory.dirty.nodes) {
            self.decide_node_fields(&name, now);
            self.decide_writes(&name, now);
        }
    }

    /// Plans a node that changed.
    fn plan(&mut self, name: String, now: Instant) {
        let memory = &mut self.memory;
        let agents = memory.cluster.agents(&name).to_vec();
        let facts = memory.cluster.nodes().get(&name).cloned();
        let before = memory.prepared.nodes.get(&name).map(|node| node.agents.clone());
        for before in before.into_iter().flatten() {
            let key = (name.clone(), before.name.clone());
            let now = agents.iter().find(|agent| agent.uid == before.uid);
            let in_flight = memory.in_flight.get(&key);
            if in_flight
                .is_some_and(|(_, version)| facts.is_none() || now.is_none_or(|now| now.version != *version))
            {
                memory.in_flight.remove(&key);
            }
            if facts.is_none() || now.is_none() {
                memory.nudges.forget(&before.uid);
                memory.to_nudge.remove(&before.uid);
                self.writer.annotations.forget(&key);
            }
        }
        let Some(facts) = facts else {
            memory.prepared.nodes.remove(&name);
            memory.reports.forget(&name);
            memory.states.remove(&name);
            self.writer.forget(&name);
            return;
        };
        let reached = self.placement.reaches(&name, &facts.labels, &facts.taints);
        memory.reports.add(&name, now);
        memory.states.entry(name.clone()).or_insert_with(|| NodeState::new(now));
        memory.prepared.node(facts, agents, reached);
        memory.dirty.nodes.insert(name);
    }

    /// Decides what is to be written for a node.
    fn decide_writes(&mut self, name: &str, now: Instant) {
        let Memory { prepared, reports, cluster, states, dirty, to_nudge, .. } = &mut self.memory;
        let (Some(node), Some(state)) = (prepared.nodes.get(name), states.get_mut(name)) else { return };
        let name = name.to_owned();
        let stored = prepared.is_stored(&node.wanted);
        let mut lacking = false;
        for agent in &node.agents {
            let key = (name.clone(), agent.name.clone());
            if stored && (agent.lacks(&node.wanted) || to_nudge.contains(&agent.uid)) {
                self.writer.annotations.add(&key, now);
                lacking = true;
            } else {
                self.writer.annotations.clear(&key);
            }
        }
        if !lacking {
            state.note(Trouble::Annotation, None);
        }
        let fails = self.writer.events.fails(&name);
        let (agent, known) = (reports.of(&name, now), cluster.known(&name).map(|known| &**known));
        let found = state.decide(node, agent, known, fails, (now, Timestamp::now()));
        if found.events {
            self.writer.events.add(&name, now);
        } else {
            self.writer.events.clear(&name);
            state.note(Trouble::Event, None);
        }
        if self.writer.urgent.is_under_way(&name) || self.writer.node_clocks.is_under_way(&name) {
            return;
        }
        match found.node_clock {
            // A write that failed is tried again, even if nothing has happened since.
            WriteUrgency::No if self.writer.urgent.fails(&name) || self.writer.node_clocks.fails(&name) => {
                self.writer.node_clocks.add(&name, now);
            }
            WriteUrgency::No => {}
            WriteUrgency::Later => drop(dirty.later.insert(name)),
            WriteUrgency::Now if self.writer.urgent.has(&name) => {}
            WriteUrgency::Now => self.writer.node_clocks.add(&name, now),
            WriteUrgency::Urgent => {
                self.writer.node_clocks.clear(&name);
                self.writer.urgent.add(&name, now);
            }
        }
    }

    /// Does what is due by time.
    fn tick(&mut self, now: Instant) {
        let Memory { prepared, reports, dirty, nudges, to_nudge, .. } = &mut self.memory;
        dirty.nodes.append(&mut dirty.later);
        let writer = &self.writer;
        let queues =
            [&writer.events, &writer.urgent, &writer.node_clocks, &writer.urgent_nodes, &writer.nodes];
        dirty.nodes.extend(queues.into_iter().flat_map(|queue| queue.due(now)));
        dirty.nodes.extend(self.writer.annotations.due(now).into_iter().map(|(node, _)| node));
        for (name, node) in &prepared.nodes {
            if reports.state_changed(name, now) {
                dirty.nodes.insert(name.clone());
            }
            for agent in &node.agents {
                let report = reports.of_pod(name, &agent.uid, now);
                if nudges.due(agent, &node.wanted, report, now) {
                    to_nudge.insert(agent.uid.clone());
                    dirty.nodes.insert(name.clone());
                }
            }
        }
        self.roll_out(now);
        self.clear_troubles();
        self.judge_taints(now);
        let Memory { reports, states, refresh, .. } = &mut self.memory;
        let writer = &self.writer;
        let busy = writer.urgent.len() + writer.node_clocks.len();
        let idle = |name: &String| {
            let waiting = matches!(reports.of(name, now), AgentState::Waiting { .. });
            !waiting && !writer.urgent.has(name) && !writer.node_clocks.has(name)
        };
        let written = states.iter().filter(|(name, _)| idle(name));
        let written = written.map(|(name, state)| (name.as_str(), state.written.map(|written| written.at)));
        for name in refresh.due(TICK, states.len(), busy, written, now) {
            self.writer.node_clocks.add(&name.to_owned(), now);
        }
        self.policies(now);
    }
}

impl Memory {
    fn is_dirty(&self) -> bool {
        let Dirty { policies, content, agents, nodes, later: _ } = &self.dirty;
        *policies || *content || *agents || !nodes.is_empty() || self.cluster.has_changed()
    }

    /// The profiles that nodes without a report run, according to their NodeClocks.
    fn not_reporting(&self, now: Instant) -> BTreeSet<ProfileName> {
        let not_reporting =
            self.cluster.all_known().filter(|(node, _)| self.reports.of(node, now).report().is_none());
        let running: BTreeSet<_> = not_reporting.filter_map(|(_, known)| known.running.as_deref()).collect();
        running.into_iter().filter_map(|running| running.parse().ok()).collect()
    }
}
