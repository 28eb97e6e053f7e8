//! The first step: what is there. Watches keep policies, nodes, the agents' pods, our ConfigMap, our Secret, those that
//! policies name, and the NodeClocks in memory; [`Watches::fetch`] takes a picture of all of them. Each change wakes the controller. One object that cannot
//! be read does not hide the others. Nothing is decided here.
use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use api::{NodeClock, TimeSyncPolicy};
use futures::{Stream, StreamExt};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Node, Pod, Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, task::JoinSet};
use tracing::warn;

use contract::Assignment;

use crate::{
    keys::{self, Secrets},
    secrets::{self, SecretWatches},
};

/// The ConfigMap with the profiles, in the operator's namespace.
pub(crate) const CONFIG_MAP: &str = "timesync-profiles";

/// A picture of the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) policies: Vec<Arc<DeserializeGuard<TimeSyncPolicy>>>,
    pub(crate) nodes: Vec<NodeFacts>,
    pub(crate) agents: Vec<AgentPod>,
    /// Keys and texts of our ConfigMap; empty if it is not there.
    pub(crate) profiles: BTreeMap<String, String>,
    pub(crate) secrets: Secrets,
    pub(crate) node_clocks: BTreeMap<String, Arc<DeserializeGuard<NodeClock>>>,
}

/// What we need of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// What we need of an agent's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentPod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) created: Option<Timestamp>,
    /// Where its HTTP server is, once the node's address is known.
    pub(crate) address: Option<(String, u16)>,
    /// The annotation as it stands; none if absent.
    pub(crate) annotation: Option<String>,
}

impl AgentPod {
    /// What the annotation says.
    pub(crate) fn assignment(&self) -> Assignment {
        self.annotation.as_deref().map_or(Assignment::Unassigned, Assignment::from_annotation)
    }

    /// Reads a pod; none if it is not on a node, or on its way out.
    pub(crate) fn of(pod: &Pod, default_port: u16) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let status = pod.status.as_ref();
        let ended = matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
        if ended || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
        let port = ports
            .into_iter()
            .find(|port| port.name.as_deref() == Some("http"))
            .map(|port| port.container_port);
        let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(default_port);
        Some(Self {
            name: pod.name_any(),
            uid: pod.uid()?,
            node: spec.node_name.clone()?,
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            address: status.and_then(|s| s.host_ip.clone()).map(|host| (host, port)),
            annotation: pod.annotations().get(Assignment::ANNOTATION).cloned(),
        })
    }
}

/// The watches, running.
pub(crate) struct Watches {
    policies: Store<DeserializeGuard<TimeSyncPolicy>>,
    nodes: Store<PartialObjectMeta<Node>>,
    pods: Store<Pod>,
    config_maps: Store<ConfigMap>,
    keys: Store<Secret>,
    /// Those that policies name.
    pub(crate) secrets: SecretWatches,
    node_clocks: Store<DeserializeGuard<NodeClock>>,
    agent_port: u16,
}

impl Watches {
    /// Starts them in `tasks`; `wake` is notified of each change. Errors are logged and retried with back-off.
    pub(crate) fn start(
        client: &Client,
        namespace: &str,
        agent_selector: &str,
        agent_port: u16,
        wake: &Arc<Notify>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let all = watcher::Config::default();
        let agents = watcher::Config::default().labels(agent_selector);
        let ours = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
        let own = |client: &Client| Api::namespaced(client.clone(), namespace);
        // Of a node only labels and uid are read; its status would be most of our memory.
        let nodes = Api::<PartialObjectMeta<Node>>::all(client.clone());
        Self {
            policies: keep(watch(Api::all(client.clone()), all.clone()), "TimeSyncPolicies", wake, tasks),
            nodes: keep(watch(nodes, all.clone()), "Nodes", wake, tasks),
            pods: keep(
                watch(Api::<Pod>::namespaced(client.clone(), namespace), agents),
                "agent pods",
                wake,
                tasks,
            ),
            config_maps: keep(watch(own(client), ours), "ConfigMap timesync-profiles", wake, tasks),
            keys: secrets::watch_one(client, namespace, keys::SECRET, wake, tasks),
            secrets: SecretWatches::new(client.clone(), namespace, Arc::clone(wake)),
            node_clocks: keep(watch(Api::all(client.clone()), all), "NodeClocks", wake, tasks),
            agent_port,
        }
    }

    /// Waits until each watch has delivered its first list. While the CRDs are missing that takes as long as it takes.
    pub(crate) async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.nodes.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.config_maps.wait_until_ready().await?;
        self.keys.wait_until_ready().await?;
        self.policies.wait_until_ready().await?;
        self.node_clocks.wait_until_ready().await
    }

    /// Takes the picture. Order is fixed, so that equal clusters give equal pictures.
    pub(crate) fn fetch(&self) -> Fetched {
        let mut policies = self.policies.state();
        policies.sort_by_key(|policy| policy.name_any());
        let node = |node: &Arc<PartialObjectMeta<Node>>| NodeFacts {
            name: node.name_any(),
            uid: node.uid().unwrap_or_default(),
            labels: node.labels().clone(),
        };
        let mut nodes: Vec<_> = self.nodes.state().iter().map(node).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let pods = self.pods.state();
        let mut agents: Vec<_> = pods.iter().filter_map(|pod| AgentPod::of(pod, self.agent_port)).collect();
        agents.sort_by(|a, b| (&a.node, &a.created, &a.name).cmp(&(&b.node, &b.created, &b.name)));
        let profiles = self.config_maps.state().first().and_then(|map| map.data.clone()).unwrap_or_default();
        let node_clocks =
            self.node_clocks.state().into_iter().map(|clock| (clock.name_any(), clock)).collect();
        let held = secrets::data(&self.keys).unwrap_or_default();
        let (named, untaken) = self.secrets.fetch();
        let secrets = Secrets { named, untaken, held, cookie_keys: None };
        Fetched { policies, nodes, agents, profiles, secrets, node_clocks }
    }
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
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    what: &'static str,
    wake: &Arc<Notify>,
    tasks: &mut JoinSet<()>,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let wake = Arc::clone(wake);
    tasks.spawn(async move {
        // Ownership records are as large as the objects, and nothing here reads them.
        let slim = events.modify(|object: &mut K| object.meta_mut().managed_fields = None);
        let mut events = std::pin::pin!(slim.default_backoff().reflect(writer));
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => wake.notify_one(),
                Err(error) => complain(what, &error),
            }
        }
    });
    store
}

fn complain(what: &str, error: &watcher::Error) {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            warn!(what, "The CRDs of timesync.dev are not installed; trying again until they are");
        }
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => {
            warn!(what, message = %status.message, "Watch failed; trying again");
        }
        // The API server ends watches now and then; the next one starts where this one ended.
        watcher::Error::WatchError(status) if status.code == 410 => {}
        error => warn!(what, %error, "Watch failed; trying again"),
    }
}
