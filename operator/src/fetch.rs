//! The first step: reads what is in the cluster. There are few policies, ConfigMaps and Secrets: watches keep them in
//! memory, [`Watches::fetch`] returns a copy of all of them, and each change wakes the controller. There are many
//! nodes, agents' pods and NodeClocks: only the fields that are used go to the controller, as a [`Change`]. An object
//! that cannot be read does not hide the others. Nothing is decided here.
use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use api::{NodeClock, TimeSyncPolicy};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
        watcher,
        watcher::Event,
    },
};
use tokio::{sync::mpsc::Sender, task::JoinSet};

use crate::{
    facts::{AgentPod, NodeFacts},
    health::Health,
    keys::{self, Secrets},
    secrets::{self, SecretWatches},
    stored_node_clock::StoredNodeClock,
    watch::{ChangeNotifier, note, reflect, watch},
};

/// The ConfigMap with the profiles, in the operator's namespace.
pub(crate) const CONFIG_MAP: &str = "timesync-profiles";

/// The number of objects in one page of a list. Only these are in memory with all their fields. The small facts that
/// are kept lie between them on the heap, so the memory of a large page would never become free.
const PAGE: u32 = 50;

/// The state of policies, ConfigMap and Secrets at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) policies: Vec<Arc<DeserializeGuard<TimeSyncPolicy>>>,
    /// The operator's ConfigMap; empty if it does not exist.
    pub(crate) profiles: Profiles,
    pub(crate) secrets: Secrets,
}

/// The operator's ConfigMap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profiles {
    /// Keys and texts.
    pub(crate) data: BTreeMap<String, String>,
    pub(crate) version: Option<String>,
}

impl Profiles {
    pub(crate) fn of(map: &ConfigMap) -> Self {
        Self { data: map.data.clone().unwrap_or_default(), version: map.resource_version() }
    }
}

/// A change that a watch of many objects saw. Each object has its name, and the facts that are used.
#[derive(Debug)]
pub(crate) enum WatchEvent<T> {
    /// The complete list.
    All(Vec<(String, T)>),
    /// One object is new, changed or deleted. None if it was deleted, or has none of the used fields.
    One(String, Option<T>),
}

/// A change of a node, an agent's pod or a NodeClock.
#[derive(Debug)]
pub(crate) enum Change {
    Node(WatchEvent<NodeFacts>),
    Agent(WatchEvent<AgentPod>),
    NodeClock(WatchEvent<StoredNodeClock>),
}

/// The running watches of policies, ConfigMap and Secrets.
pub(crate) struct Watches {
    policies: Store<DeserializeGuard<TimeSyncPolicy>>,
    /// The operator's ConfigMap.
    config_maps: Store<ConfigMap>,
    keys: Store<Secret>,
    /// The Secrets that policies name.
    pub(crate) secrets: SecretWatches,
}

/// Where the agents' pods are.
#[derive(Clone, Debug)]
pub(crate) struct AgentPods<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) agent_selector: &'a str,
    pub(crate) agent_port: u16,
}

impl Watches {
    /// Starts all watches in `tasks`. Changes of nodes, agents' pods and NodeClocks go to `changes`. A change of
    /// another object notifies `notifier`. Errors are logged and retried with back-off.
    pub(crate) fn start(
        client: &Client,
        agents: &AgentPods<'_>,
        changes: &Sender<Change>,
        notifier: &ChangeNotifier,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let AgentPods { namespace, agent_selector, agent_port } = *agents;
        let all = watcher::Config::default().page_size(PAGE);
        let labelled = all.clone().labels(agent_selector);
        let ours = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
        let own = |client: &Client| Api::namespaced(client.clone(), namespace);
        let health = &notifier.health;
        let nodes = watch(Api::<Node>::all(client.clone()), all.clone());
        let node = |node: &Node| Some(NodeFacts::of(node));
        tasks.spawn(reduce(nodes, "nodes", health.clone(), changes.clone(), node, Change::Node));
        let pods = watch(Api::<Pod>::namespaced(client.clone(), namespace), labelled);
        let agent = move |pod: &Pod| AgentPod::of(pod, agent_port);
        tasks.spawn(reduce(pods, "pods", health.clone(), changes.clone(), agent, Change::Agent));
        let clocks = watch(Api::<DeserializeGuard<NodeClock>>::all(client.clone()), all.clone());
        let known = |clock: &DeserializeGuard<NodeClock>| Some(StoredNodeClock::of_guarded(clock));
        tasks.spawn(reduce(clocks, "nodeclocks", health.clone(), changes.clone(), known, Change::NodeClock));
        Self {
            policies: reflect(watch(Api::all(client.clone()), all), "timesyncpolicies", notifier, tasks),
            config_maps: reflect(watch(own(client), ours), "configmaps", notifier, tasks),
            keys: secrets::watch_one(client, namespace, keys::SECRET, notifier, tasks),
            secrets: SecretWatches::new(client.clone(), namespace, notifier.clone()),
        }
    }

    /// Waits until each watch has delivered its first list. While the CRDs are missing, it waits without limit.
    pub(crate) async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.config_maps.wait_until_ready().await?;
        self.keys.wait_until_ready().await?;
        self.policies.wait_until_ready().await
    }

    /// Returns the present state. Its order is fixed, so that equal clusters give equal results.
    pub(crate) fn fetch(&self) -> Fetched {
        let mut policies = self.policies.state();
        policies.sort_by_key(|policy| policy.name_any());
        let profiles = self.config_maps.state().first().map(|map| Profiles::of(map)).unwrap_or_default();
        let held = secrets::data(&self.keys).unwrap_or_default();
        let held_version = self.keys.state().first().and_then(|secret| secret.resource_version());
        let (named, rejected) = self.secrets.fetch();
        let secrets = Secrets { named, rejected, held, held_version, cookie_keys: None };
        Fetched { policies, profiles, secrets }
    }
}

/// Runs a watch until the program ends, and passes on the facts of its objects.
async fn reduce<K, T>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    what: &'static str,
    health: Health,
    changes: Sender<Change>,
    facts: impl Fn(&K) -> Option<T>,
    change: impl Fn(WatchEvent<T>) -> Change,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let mut events = std::pin::pin!(events.default_backoff());
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        // A list counts as a success only at its end.
        if !matches!(event, Ok(Event::Init | Event::InitApply(_))) {
            note(what, event.as_ref().err(), &health);
        }
        let seen = match event {
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed.extend(facts(&object).map(|facts| (object.name_any(), facts)));
                continue;
            }
            Ok(Event::InitDone) => WatchEvent::All(std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => WatchEvent::One(object.name_any(), facts(&object)),
            Ok(Event::Delete(object)) => WatchEvent::One(object.name_any(), None),
            Err(_) => continue,
        };
        if changes.send(change(seen)).await.is_err() {
            return;
        }
    }
}
