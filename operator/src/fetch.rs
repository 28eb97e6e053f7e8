//! The first step: what is there. Of policies, our ConfigMap, our Secret and those that policies name there are few:
//! watches keep them in memory, [`Watches::fetch`] takes a picture of them, and each change of one wakes the controller. Of
//! nodes, agents' pods and NodeClocks there are many: what is needed of each goes to the controller as a [`Change`], and
//! nothing else of it is kept. One object that cannot be read does not hide the others. Nothing is decided here.
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
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Notify, mpsc::Sender},
    task::JoinSet,
};
use tracing::warn;

use crate::{
    facts::{AgentPod, NodeFacts},
    health::Health,
    keys::{self, Secrets},
    message::chain,
    node_clock::Known,
    secrets::{self, SecretWatches},
};

/// The ConfigMap with the profiles, in the operator's namespace.
pub(crate) const CONFIG_MAP: &str = "timesync-profiles";

/// Objects that the API server lists at a time: only so many are in memory as a whole, with their ownership records. What is kept
/// of them lies between, so memory that a large page took would never be free again.
const PAGE: u32 = 50;

/// A picture of what there are few of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) policies: Vec<Arc<DeserializeGuard<TimeSyncPolicy>>>,
    /// Our ConfigMap; empty if it is not there.
    pub(crate) profiles: Profiles,
    pub(crate) secrets: Secrets,
}

/// Our ConfigMap.
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

/// What a watch of many objects saw, each by its name and reduced to what we need of it.
#[derive(Debug)]
pub(crate) enum Seen<T> {
    /// All that there are.
    All(Vec<(String, T)>),
    /// One of them is new or changed; none if it is gone, or of no use.
    One(String, Option<T>),
}

/// A change of one of those.
#[derive(Debug)]
pub(crate) enum Change {
    Node(Seen<NodeFacts>),
    Agent(Seen<AgentPod>),
    NodeClock(Seen<Known>),
}

/// The watches of few objects, running.
pub(crate) struct Watches {
    policies: Store<DeserializeGuard<TimeSyncPolicy>>,
    config_maps: Store<ConfigMap>,
    keys: Store<Secret>,
    /// Those that policies name.
    pub(crate) secrets: SecretWatches,
}

/// Where the agents are.
#[derive(Clone, Debug)]
pub(crate) struct Where<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) agent_selector: &'a str,
    pub(crate) agent_port: u16,
}

impl Watches {
    /// Starts all watches in `tasks`; changes of many objects go to `changes`, and `wake` is notified of each change of the
    /// others. Errors are logged and retried with back-off.
    pub(crate) fn start(
        client: &Client,
        agents: &Where<'_>,
        changes: &Sender<Change>,
        wake: &Wake,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let Where { namespace, agent_selector, agent_port } = *agents;
        let all = watcher::Config::default().page_size(PAGE);
        let labelled = all.clone().labels(agent_selector);
        let ours = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
        let own = |client: &Client| Api::namespaced(client.clone(), namespace);
        let health = &wake.health;
        let nodes = watch(Api::<Node>::all(client.clone()), all.clone());
        let node = |node: &Node| Some(NodeFacts::of(node));
        tasks.spawn(reduce(nodes, "nodes", health.clone(), changes.clone(), node, Change::Node));
        let pods = watch(Api::<Pod>::namespaced(client.clone(), namespace), labelled);
        let agent = move |pod: &Pod| AgentPod::of(pod, agent_port);
        tasks.spawn(reduce(pods, "pods", health.clone(), changes.clone(), agent, Change::Agent));
        let clocks = watch(Api::<DeserializeGuard<NodeClock>>::all(client.clone()), all.clone());
        let known = |clock: &DeserializeGuard<NodeClock>| Some(Known::of_guarded(clock));
        tasks.spawn(reduce(clocks, "nodeclocks", health.clone(), changes.clone(), known, Change::NodeClock));
        Self {
            policies: keep(watch(Api::all(client.clone()), all), "timesyncpolicies", wake, tasks),
            config_maps: keep(watch(own(client), ours), "configmaps", wake, tasks),
            keys: secrets::watch_one(client, namespace, keys::SECRET, wake, tasks),
            secrets: SecretWatches::new(client.clone(), namespace, wake.clone()),
        }
    }

    /// Waits until each watch has delivered its first list. While the CRDs are missing that takes as long as it takes.
    pub(crate) async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.config_maps.wait_until_ready().await?;
        self.keys.wait_until_ready().await?;
        self.policies.wait_until_ready().await
    }

    /// Takes the picture. Order is fixed, so that equal clusters give equal pictures.
    pub(crate) fn fetch(&self) -> Fetched {
        let mut policies = self.policies.state();
        policies.sort_by_key(|policy| policy.name_any());
        let profiles = self.config_maps.state().first().map(|map| Profiles::of(map)).unwrap_or_default();
        let held = secrets::data(&self.keys).unwrap_or_default();
        let held_version = self.keys.state().first().and_then(|secret| secret.resource_version());
        let (named, untaken) = self.secrets.fetch();
        let secrets = Secrets { named, untaken, held, held_version, cookie_keys: None };
        Fetched { policies, profiles, secrets }
    }
}

/// Whom a watch of few objects tells of a change, and of trouble.
#[derive(Clone)]
pub(crate) struct Wake {
    pub(crate) notify: Arc<Notify>,
    pub(crate) health: Health,
}

/// The events of a watch.
pub(crate) fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config)
}

/// Runs a watch for as long as the program, its objects in the store that comes back.
pub(crate) fn keep<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    what: &'static str,
    wake: &Wake,
    tasks: &mut JoinSet<()>,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let Wake { notify, health } = wake.clone();
    tasks.spawn(async move {
        // Ownership records are as large as the objects, and nothing here reads them.
        let slim = events.modify(|object: &mut K| object.meta_mut().managed_fields = None);
        let mut events = std::pin::pin!(slim.default_backoff().reflect(writer));
        while let Some(event) = events.next().await {
            if event.is_ok() {
                notify.notify_one();
            }
            if !matches!(event, Ok(Event::Init | Event::InitApply(_))) {
                note(what, event.as_ref().err(), &health);
            }
        }
    });
    store
}

/// Runs a watch for as long as the program, and hands on what `facts` makes of its objects.
async fn reduce<K, T>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    what: &'static str,
    health: Health,
    changes: Sender<Change>,
    facts: impl Fn(&K) -> Option<T>,
    change: impl Fn(Seen<T>) -> Change,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let mut events = std::pin::pin!(events.default_backoff());
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        // Of a list only its end is a success.
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
            Ok(Event::InitDone) => Seen::All(std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => Seen::One(object.name_any(), facts(&object)),
            Ok(Event::Delete(object)) => Seen::One(object.name_any(), None),
            Err(_) => continue,
        };
        if changes.send(change(seen)).await.is_err() {
            return;
        }
    }
}

/// Logs an error, and says to probes whether there is one.
fn note(what: &'static str, error: Option<&watcher::Error>, health: &Health) {
    let Some(error) = error else {
        health.set(what, Ok(()));
        return;
    };
    match error {
        // The API server ends watches now and then; the next one starts where this one ended.
        watcher::Error::WatchError(status) if status.code == 410 => {}
        error => {
            let why = reason(error);
            warn!(what, error = why, "Watch failed; trying again");
            health.set(what, Err(why));
        }
    }
}

fn reason(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            "the CRDs of timesync.dev are not installed".to_owned()
        }
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => status.message.clone(),
        error => chain(error),
    }
}
