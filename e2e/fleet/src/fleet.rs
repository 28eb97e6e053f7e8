//! The fleet: nodes and agents' pods in the API server, and this one process, which answers for all agents. Like a
//! kubelet, it delivers to each agent its pod's annotation and the profiles of the ConfigMap. Orders of a test in; the
//! writes to the pods, with their times, out.
use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use contract::{Assignment, ProfileName};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::PartialObjectMeta,
};
use tokio::{net::TcpListener, runtime::Handle, task::AbortHandle, time};

use crate::{
    agent::Agent,
    objects::{self, PORT, Template},
};

/// All nodes, each with an agent.
pub struct Fleet {
    runtime: Handle,
    client: Client,
    namespace: String,
    template: Template,
    token: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// One slot per node. A node that replaces another one takes its slot.
    slots: Vec<Slot>,
    /// All pods, by name, including removed ones.
    pods: HashMap<String, PodSeen>,
    configs: Vec<Config>,
}

struct Slot {
    pod: String,
    agent: Arc<Agent>,
    listener: AbortHandle,
}

/// A pod and what was written to it.
struct PodSeen {
    agent: Arc<Agent>,
    annotations: Vec<Written>,
    nudge: Option<String>,
    nudges: usize,
    /// When the API server got its address.
    told: Option<Instant>,
    gone: Option<u64>,
    /// When the present profile began to run.
    runs_since: Option<Instant>,
}

/// An annotation as it was written.
#[derive(Clone)]
struct Written {
    /// etcd's revision. It increases with each write of any object.
    version: u64,
    value: String,
    at: Instant,
}

/// A state of the ConfigMap with the profiles.
struct Config {
    version: u64,
    keys: BTreeSet<ProfileName>,
    /// Keys whose text does not match their name.
    wrong: Vec<String>,
}

/// The time from the annotation to the profile in the agent's volume. A real kubelet took 0.15 s to 0.5 s.
const DELIVERY: Duration = Duration::from_millis(300);
/// The interval at which a kubelet updates volumes without a change of the pod.
const ROUND: Duration = Duration::from_secs(60);
/// The number of nodes that are made concurrently.
const AT_ONCE: usize = 32;

impl Fleet {
    /// Without nodes.
    pub(crate) fn new(
        runtime: Handle,
        client: Client,
        namespace: &str,
        template: Template,
        token: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            client,
            namespace: namespace.to_owned(),
            template,
            token,
            state: Mutex::default(),
        })
    }

    /// Adds nodes with an agent each, and calls `made` for each.
    pub(crate) async fn grow(self: &Arc<Self>, count: usize, made: impl Fn()) -> anyhow::Result<()> {
        let begin = self.state().slots.len();
        let all = stream::iter(begin..begin + count).map(async |slot| {
            let found = self.make(slot, &format!("node-{slot:05}")).await.map(|new| (slot, new));
            made();
            found
        });
        let mut new: Vec<_> = all.buffer_unordered(AT_ONCE).try_collect().await?;
        new.sort_by_key(|(slot, _)| *slot);
        self.state().slots.extend(new.into_iter().map(|(_, slot)| slot));
        Ok(())
    }

    /// Removes a node, as a cloud provider does, and adds one with another name in its slot.
    pub async fn replace(self: &Arc<Self>, slot: usize, name: &str) -> anyhow::Result<()> {
        let (pod, node) = {
            let state = self.state();
            let old = &state.slots[slot];
            old.listener.abort();
            old.agent.silence(true);
            (old.pod.clone(), old.agent.node.clone())
        };
        let at_once = DeleteParams::default().grace_period(0);
        self.pods().delete(&pod, &at_once).await.context("deleting a pod")?;
        Api::<Node>::all(self.client.clone()).delete(&node, &at_once).await.context("deleting a node")?;
        // No garbage collector runs here, so the NodeClock is deleted explicitly.
        let clocks = Api::<api::NodeClock>::all(self.client.clone());
        match clocks.delete(&node, &at_once).await {
            Err(kube::Error::Api(status)) if status.code != 404 => {
                return Err(kube::Error::Api(status).into());
            }
            _ => {}
        }
        let new = self.make(slot, name).await?;
        self.state().slots[slot] = new;
        Ok(())
    }

    async fn make(self: &Arc<Self>, slot: usize, name: &str) -> anyhow::Result<Slot> {
        let pod = format!("timesync-agent-{name}");
        let agent = Arc::new(Agent::new(name.to_owned()));
        let seen = PodSeen {
            agent: Arc::clone(&agent),
            annotations: Vec::new(),
            nudge: None,
            nudges: 0,
            told: None,
            gone: None,
            runs_since: None,
        };
        self.state().pods.insert(pod.clone(), seen);
        let listener = self.listen(slot, &agent).await?;
        let params = PostParams::default();
        let node: Node = serde_json::from_value(objects::node(name, slot))?;
        Api::all(self.client.clone()).create(&params, &node).await.context("making a node")?;
        let object: Pod = serde_json::from_value(self.template.pod(&pod, name))?;
        self.pods().create(&params, &object).await.context("making a pod")?;
        let status = Patch::Merge(self.template.status(slot));
        let params = PatchParams { field_manager: Some("kubelet".to_owned()), ..PatchParams::default() };
        if let Some(seen) = self.state().pods.get_mut(&pod) {
            seen.told = Some(Instant::now());
        }
        self.pods().patch_status(&pod, &params, &status).await.context("the status of a pod")?;
        Ok(Slot { pod, agent, listener })
    }

    async fn listen(&self, slot: usize, agent: &Arc<Agent>) -> anyhow::Result<AbortHandle> {
        let address: Ipv4Addr = objects::address(slot).parse()?;
        let mut tries = 0;
        // The former listener on this port may not be closed yet.
        let listener = loop {
            match TcpListener::bind((address, PORT)).await {
                Ok(listener) => break listener,
                Err(error) if tries == 50 => {
                    return Err(error).with_context(|| format!("cannot listen on {address}:{PORT}"));
                }
                Err(_) => time::sleep(Duration::from_millis(20)).await,
            }
            tries += 1;
        };
        let (agent, token) = (Arc::clone(agent), self.token.clone());
        Ok(self.runtime.spawn(async move { agent.serve(listener, &token).await }).abort_handle())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes agents silent: open connections get no answer, and new ones are refused.
    pub fn silence(&self, slots: &[usize]) {
        let state = self.state();
        for slot in slots {
            state.slots[*slot].agent.silence(true);
            state.slots[*slot].listener.abort();
        }
    }

    /// Lets these agents answer again.
    pub async fn speak(&self, slots: &[usize]) -> anyhow::Result<()> {
        for slot in slots {
            let agent = Arc::clone(&self.state().slots[*slot].agent);
            let listener = self.listen(*slot, &agent).await?;
            agent.silence(false);
            self.state().slots[*slot].listener = listener;
        }
        Ok(())
    }

    /// The agents in some slots.
    pub fn agents(&self, slots: &[usize]) -> Vec<Arc<Agent>> {
        let state = self.state();
        slots.iter().map(|slot| Arc::clone(&state.slots[*slot].agent)).collect()
    }

    /// The agents in all slots.
    pub(crate) fn all_agents(&self) -> Vec<Arc<Agent>> {
        self.state().slots.iter().map(|slot| Arc::clone(&slot.agent)).collect()
    }

    /// The name and the annotation of the pod in each slot.
    pub fn annotated(&self) -> Vec<(String, String)> {
        let state = self.state();
        let value = |slot: &Slot| state.pods[&slot.pod].annotations.last().map(|last| last.value.clone());
        state.slots.iter().map(|slot| (slot.pod.clone(), value(slot).unwrap_or_default())).collect()
    }

    /// Takes a pod as the watch delivers it.
    pub(crate) fn pod(self: &Arc<Self>, pod: &PartialObjectMeta<Pod>) {
        let name = pod.name_any();
        let value = pod.annotations().get(Assignment::ANNOTATION).cloned().unwrap_or_default();
        let nudge = pod.annotations().get(Assignment::NUDGE_ANNOTATION);
        let mut state = self.state();
        let Some(seen) = state.pods.get_mut(&name) else { return };
        let nudged = nudge.is_some() && seen.nudge.as_ref() != nudge;
        let changed = seen.annotations.last().map_or("", |last| &last.value) != value;
        seen.nudges += usize::from(nudged);
        seen.nudge = nudge.cloned();
        if changed {
            let version = version(pod.metadata.resource_version.as_deref());
            seen.annotations.push(Written { version, value, at: Instant::now() });
        }
        drop(state);
        if changed || nudged {
            let fleet = Arc::clone(self);
            self.runtime.spawn(async move {
                time::sleep(DELIVERY).await;
                while !fleet.deliver(&name) {
                    time::sleep(ROUND).await;
                }
            });
        }
    }

    /// A pod is gone.
    pub(crate) fn pod_gone(&self, pod: &PartialObjectMeta<Pod>) {
        if let Some(seen) = self.state().pods.get_mut(&pod.name_any()) {
            seen.gone = Some(version(pod.metadata.resource_version.as_deref()));
        }
    }

    /// Takes the ConfigMap as the watch delivers it.
    pub(crate) fn config(&self, map: &ConfigMap) {
        let (mut keys, mut wrong) = (BTreeSet::new(), Vec::new());
        for (key, text) in map.data.iter().flatten() {
            match ProfileName::from_key(key) {
                Some(name) if name.names(text) => drop(keys.insert(name)),
                _ => wrong.push(key.clone()),
            }
        }
        let version = version(map.metadata.resource_version.as_deref());
        self.state().configs.push(Config { version, keys, wrong });
    }

    /// Gives the agent its present assignment. Returns false if the volume lacks the profile.
    fn deliver(&self, pod: &str) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        let Some(seen) = state.pods.get_mut(pod) else { return true };
        let value = seen.annotations.last().map_or("", |last| &last.value);
        let assignment = Assignment::from_annotation(value);
        let held = |name| state.configs.last().is_some_and(|config| config.keys.contains(name));
        let is_there = assignment.profile().is_none_or(held);
        if seen.agent.assign(assignment, is_there) {
            seen.runs_since = Some(Instant::now());
        }
        is_there
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Questions about the operator's writes.
impl Fleet {
    /// The number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.state().slots.len()
    }

    /// How many pods are assigned a profile for which `wanted` is true, and when the last of them was annotated.
    pub fn assigned(&self, wanted: &dyn Fn(&str) -> bool) -> (usize, Option<Instant>) {
        let state = self.state();
        let last = state.slots.iter().filter_map(|slot| state.pods[&slot.pod].annotations.last());
        let those: Vec<_> = last.filter(|written| wanted(&written.value)).map(|written| written.at).collect();
        (those.len(), those.into_iter().max())
    }

    /// How many agents run a profile for which `wanted` is true, and when the last of them began.
    pub fn running(&self, wanted: &dyn Fn(&str) -> bool) -> (usize, Option<Instant>) {
        let state = self.state();
        let runs = |slot: &&Slot| slot.agent.running().is_some_and(|name| wanted(&name.to_string()));
        let those: Vec<_> = state.slots.iter().filter(runs).collect();
        let last = those.iter().filter_map(|slot| state.pods[&slot.pod].runs_since).max();
        (those.len(), last)
    }

    /// The number of nudges so far.
    pub(crate) fn nudges(&self) -> usize {
        self.state().pods.values().map(|seen| seen.nudges).sum()
    }

    /// For each pod that got its address after `since`: the seconds until its first annotation, or none if it has no
    /// annotation.
    pub fn first_annotations(&self, since: Instant) -> Vec<Option<f64>> {
        let state = self.state();
        let new = state.slots.iter().filter_map(|slot| {
            let seen = &state.pods[&slot.pod];
            let told = seen.told.filter(|told| *told >= since)?;
            Some(seen.annotations.first().map(|first| first.at.saturating_duration_since(told).as_secs_f64()))
        });
        new.collect()
    }

    /// The faults in all writes so far: a pod that names a profile while the ConfigMap does not have it, or a key whose
    /// text does not match its name.
    pub fn faults(&self) -> Vec<String> {
        let state = self.state();
        let mut faults = Vec::new();
        for config in &state.configs {
            faults.extend(
                config.wrong.iter().map(|key| format!("ConfigMap {}: {key} is wrong", config.version)),
            );
        }
        for (pod, seen) in &state.pods {
            let ends = seen
                .annotations
                .iter()
                .skip(1)
                .map(|next| next.version)
                .chain([seen.gone.unwrap_or(u64::MAX)]);
            for (written, end) in seen.annotations.iter().zip(ends) {
                let Assignment::Profile(name) = Assignment::from_annotation(&written.value) else { continue };
                // The state of the ConfigMap at the write, and all its states while the pod named the profile.
                let before = state.configs.iter().rposition(|config| config.version < written.version);
                let during = state.configs.iter().skip(before.unwrap_or(0)).take_while(|c| c.version < end);
                let lacks = before.is_none() || during.clone().any(|config| !config.keys.contains(&name));
                if lacks {
                    faults.push(format!("{pod} names {name}, which the ConfigMap does not hold"));
                }
            }
        }
        faults
    }
}

fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}
