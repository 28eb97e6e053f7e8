//! Reads objects from the API server. Policies and NodeClocks are required. Nodes, pods and events are read if the user
//! may read them; if not, the reason is kept in their place. This is the only file that asks the
//! API server; `annotate` is its only write.
use std::{collections::BTreeMap, fmt::Debug};

use api::{NodeClock, ROLLOUT_ANNOTATION, TimeSyncPolicy};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Event, Node, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, LogParams, Patch, PatchParams},
    core::{DeserializeGuard, ObjectMeta},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    observed::{EventFacts, NodeFacts, Observed, PodFacts, Reading, Unread},
    server_clock::ServerClock,
};

/// Why the cluster cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server does not know the kind.
    #[error(
        "the cluster has no {0}: timesync is not installed in it. `kubectl config current-context` names the cluster"
    )]
    NotInstalled(&'static str),
    /// The user has no right.
    #[error(
        "not permitted: {0}. An administrator can give the right by the ClusterRole `<release>-view`, such as \
         `kubectl create clusterrolebinding NAME --clusterrole=timesync-view --user=USER`"
    )]
    Forbidden(String),
    /// The user may read policies, and not write them.
    #[error(
        "not permitted: {0}. Pausing, resuming and aborting need the right to write policies: the ClusterRole `<release>-edit`"
    )]
    MayNotWrite(String),
    /// The credentials are not accepted.
    #[error("the API server does not accept the credentials of the kubeconfig: {0}")]
    Unauthorized(String),
    /// The request failed.
    #[error("cannot read {what}: {source}")]
    Request {
        /// What was to be read.
        what: &'static str,
        /// Why not.
        #[source]
        source: kube::Error,
    },
}

/// Objects read per request, as kubectl does.
const PAGE: u32 = 500;

/// The reader of one cluster.
pub(crate) struct Reader {
    client: Client,
    clock: ServerClock,
    namespace: String,
}

impl Reader {
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        let (client, clock) = ServerClock::of(client);
        Self { client, clock, namespace: namespace.to_owned() }
    }

    /// The time now, by the API server's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Policies and NodeClocks, and nothing that may be forbidden.
    pub(crate) async fn clocks(&self) -> Result<Observed, Error> {
        let (policies, mut malformed) = self.all::<TimeSyncPolicy>("timesyncpolicies").await?;
        let (clocks, more) = self.all::<NodeClock>("nodeclocks").await?;
        malformed.extend(more);
        Ok(Observed {
            now: self.clock.now(),
            ahead: self.clock.difference(),
            namespace: self.namespace.clone(),
            policies,
            clocks,
            malformed,
            nodes: Err(Unread::NotAsked),
            agents: Err(Unread::NotAsked),
            operators: Err(Unread::NotAsked),
        })
    }

    /// Policies, NodeClocks, the names and labels of nodes, and the operator's pods.
    pub(crate) async fn overview(&self) -> Result<Observed, Error> {
        let mut observed = self.clocks().await?;
        observed.nodes = self.node_names().await;
        observed.operators = self.pods(&OPERATORS.params()).await;
        Ok(observed)
    }

    /// Policies, NodeClocks, this node in full, its agent's pod, and the operator's pods.
    pub(crate) async fn around(&self, node: &str) -> Result<Observed, Error> {
        let mut observed = self.clocks().await?;
        let nodes = Api::<Node>::all(self.client.clone());
        observed.nodes = match nodes.get_opt(node).await {
            Ok(node) => Ok(node.iter().map(NodeFacts::from).collect()),
            Err(error) => Err(unread(&error)),
        };
        let here = AGENTS.params().fields(&format!("spec.nodeName={node}"));
        observed.agents = self.pods(&here).await;
        observed.operators = self.pods(&OPERATORS.params()).await;
        Ok(observed)
    }

    /// Events of the operator about a node, the oldest first. They are in the namespace `default`, as all events about
    /// objects without a namespace. Kubernetes' ClusterRole `view` reads them in the core group, not in events.k8s.io.
    pub(crate) async fn events(&self, node: &str) -> Reading<Vec<EventFacts>> {
        let events = Api::<Event>::namespaced(self.client.clone(), "default");
        let about = format!("involvedObject.name={node}");
        let all =
            pages(&events, &ListParams::default().fields(&about)).await.map_err(|error| unread(&error))?;
        let mut facts: Vec<_> = all.iter().filter_map(EventFacts::of).collect();
        facts.sort_by_key(|event| event.time);
        facts.dedup();
        Ok(facts)
    }

    async fn node_names(&self) -> Reading<Vec<NodeFacts>> {
        let nodes = self.metadata::<Node>().await.map_err(|error| unread(&error))?;
        let facts = nodes.into_iter().map(|metadata| NodeFacts {
            name: metadata.name.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            ..NodeFacts::default()
        });
        Ok(facts.collect())
    }

    /// The names of all objects of a kind that has no namespace.
    pub(crate) async fn names<K>(&self) -> Reading<Vec<String>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let all = self.metadata::<K>().await.map_err(|error| unread(&error))?;
        Ok(all.into_iter().filter_map(|metadata| metadata.name).collect())
    }

    /// Names and labels of all objects of a kind, page by page: a small part of the objects.
    async fn metadata<K>(&self) -> Result<Vec<ObjectMeta>, kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let objects = Api::<K>::all(self.client.clone());
        let mut found = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = objects.list_metadata(&page).await?;
            found.extend(list.items.into_iter().map(|object| object.metadata));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => return Ok(found),
            }
        }
    }

    async fn pods(&self, which: &ListParams) -> Reading<Vec<PodFacts>> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let pods = pages(&pods, which).await.map_err(|error| unread(&error))?;
        Ok(pods.iter().filter_map(PodFacts::of).collect())
    }

    /// Pods in full, in the namespace of operator and agents.
    pub(crate) async fn raw_pods(&self, which: &Labels) -> Reading<Vec<Pod>> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        pages(&pods, &which.params()).await.map_err(|error| unread(&error))
    }

    /// All nodes in full.
    pub(crate) async fn raw_nodes(&self) -> Reading<Vec<Node>> {
        let nodes = Api::<Node>::all(self.client.clone());
        pages(&nodes, &ListParams::default()).await.map_err(|error| unread(&error))
    }

    /// All events of the namespace, or of `default`.
    pub(crate) async fn raw_events(&self, namespace: &str) -> Reading<Vec<Event>> {
        let events = Api::<Event>::namespaced(self.client.clone(), namespace);
        pages(&events, &ListParams::default()).await.map_err(|error| unread(&error))
    }

    /// The ConfigMap with the profiles.
    pub(crate) async fn profiles(&self) -> Reading<Option<ConfigMap>> {
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        maps.get_opt("timesync-profiles").await.map_err(|error| unread(&error))
    }

    /// The last lines of the log of a container of a pod, which may have others of strangers; `previous` for those before
    /// its last restart.
    pub(crate) async fn log(&self, pod: &str, container: &str, previous: bool) -> Reading<String> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let lines = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(LOG_LINES),
            previous,
            timestamps: true,
            ..LogParams::default()
        };
        pods.logs(pod, &lines).await.map_err(|error| unread(&error))
    }

    /// Asks the operator for something about the rollout of a policy.
    pub(crate) async fn annotate(&self, policy: &str, value: &str) -> Result<(), Error> {
        let policies = Api::<DeserializeGuard<TimeSyncPolicy>>::all(self.client.clone());
        let patch = json!({"metadata": {"annotations": {ROLLOUT_ANNOTATION: value}}});
        match policies.patch_metadata(policy, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                Err(Error::MayNotWrite(status.message.clone()))
            }
            Err(source) => Err(Error::Request { what: "timesyncpolicies", source }),
        }
    }

    /// Every object of a kind, by name, and what cannot be read. An object that a newer version wrote must not hide the
    /// others.
    async fn all<K>(&self, what: &'static str) -> Result<(Vec<K>, Vec<String>), Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let objects = Api::<DeserializeGuard<K>>::all(self.client.clone());
        let list = pages(&objects, &ListParams::default()).await.map_err(|source| error(what, source))?;
        let (mut good, mut malformed) = (BTreeMap::new(), Vec::new());
        for object in list {
            let name = object.meta().name.clone().unwrap_or_default();
            match object.0 {
                Ok(object) => drop(good.insert(name, object)),
                Err(error) => malformed.push(format!("{} {name}: {error}", K::kind(&()))),
            }
        }
        Ok((good.into_values().collect(), malformed))
    }
}

/// Labels of the pods of a part of timesync.
pub(crate) struct Labels(&'static str);

/// The agents' pods.
pub(crate) const AGENTS: Labels =
    Labels("app.kubernetes.io/component=agent,app.kubernetes.io/part-of=timesync");
/// The operator's pods.
pub(crate) const OPERATORS: Labels =
    Labels("app.kubernetes.io/component=operator,app.kubernetes.io/part-of=timesync");

impl Labels {
    fn params(&self) -> ListParams {
        ListParams::default().labels(self.0)
    }
}

/// Lines of each log in a support archive.
const LOG_LINES: i64 = 5000;

/// Every object, page by page.
async fn pages<K>(objects: &Api<K>, which: &ListParams) -> Result<Vec<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut found = Vec::new();
    let mut page = which.clone().limit(PAGE);
    loop {
        let list = objects.list(&page).await?;
        found.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

fn error(what: &'static str, source: kube::Error) -> Error {
    match source {
        kube::Error::Api(status) if status.code == 404 => Error::NotInstalled(what),
        kube::Error::Api(status) if status.code == 403 => Error::Forbidden(status.message.clone()),
        kube::Error::Api(status) if status.code == 401 => Error::Unauthorized(status.message.clone()),
        source => Error::Request { what, source },
    }
}

/// Why something optional was not read, in a few words.
fn unread(error: &kube::Error) -> Unread {
    Unread::Failed(match error {
        kube::Error::Api(status) if status.code == 403 => "not permitted".to_owned(),
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    })
}
