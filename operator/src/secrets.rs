//! Watches each Secret that a policy names and that has the label, by itself. The data of other Secrets is never read:
//! the API server selects by label, name and type. If a named Secret is not selected, the operator asks for the row
//! that `kubectl get secret` shows, and says why the Secret is not taken. Names in; data out. Each change wakes the
//! controller.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, reflector::Store, watcher},
};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::warn;

use crate::{
    keys::{self, Data, SecretRejection, SecretValue},
    watch::{ChangeNotifier, reflect, watch},
};

mod row;

use row::Row;

/// The label of Secrets that nodes may have. Users who may write policies decide which Secrets are named. Only users
/// who may write Secrets decide which can be taken.
const LABEL: &str = "timesync.dev/keys";
/// Every object of the chart has this label, such as the token's Secret and the one that agents mount.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "timesync");
/// Types that hold credentials of the cluster: of service accounts, of nodes that join, and all values of a helm
/// release.
const FORBIDDEN: [&str; 3] =
    ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"];

/// The running watches.
pub(crate) struct SecretWatches {
    client: Client,
    namespace: String,
    notifier: ChangeNotifier,
    watches: BTreeMap<String, SecretWatch>,
    /// Named Secrets of the chart itself, which are never read.
    own: BTreeSet<String>,
}

struct SecretWatch {
    store: Store<Secret>,
    /// What has this name while the store is empty; none until that is known.
    other: Arc<Mutex<Option<Unselected>>>,
    /// Ends when the watch is dropped.
    _task: JoinSet<()>,
}

/// What has the name of a Secret that the watch does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unselected {
    Nothing,
    OfType(String),
}

impl SecretWatches {
    /// Starts without watches.
    pub(crate) fn new(client: Client, namespace: &str, notifier: ChangeNotifier) -> Self {
        let namespace = namespace.to_owned();
        Self { client, namespace, notifier, watches: BTreeMap::new(), own: BTreeSet::new() }
    }

    /// Watches exactly these Secrets from now on.
    pub(crate) fn follow(&mut self, names: &BTreeSet<String>) {
        let (own, names): (BTreeSet<_>, BTreeSet<_>) =
            names.iter().cloned().partition(|name| name == keys::SECRET);
        self.own = own;
        self.watches.retain(|name, _| names.contains(name));
        for name in names {
            if !self.watches.contains_key(&name) {
                let watch = SecretWatch::start(&self.client, &self.namespace, &name, &self.notifier);
                self.watches.insert(name, watch);
            }
        }
    }

    /// The data of the Secrets that were read, none for one that does not exist or is not taken; and for the latter,
    /// why.
    pub(crate) fn fetch(&self) -> (BTreeMap<String, Option<Data>>, BTreeMap<String, SecretRejection>) {
        let (mut named, mut rejected) = (BTreeMap::new(), BTreeMap::new());
        let mut refuse = |name: &str, why| {
            rejected.insert(name.to_owned(), why);
            None
        };
        for name in &self.own {
            named.insert(name.clone(), refuse(name, own(name)));
        }
        for (name, watch) in &self.watches {
            let ready = watch.store.wait_until_ready().now_or_never().is_some_and(|ready| ready.is_ok());
            let other = watch.other.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let held = match (watch.store.state().first(), other) {
                _ if !ready => continue,
                (Some(secret), _) if is_own(&secret.metadata) => refuse(name, own(name)),
                (Some(secret), _) => Some(entries(secret)),
                (None, None) => continue,
                (None, Some(Unselected::Nothing)) => None,
                (None, Some(Unselected::OfType(type_))) => refuse(name, self.why(name, &type_)),
            };
            named.insert(name.clone(), held);
        }
        (named, rejected)
    }

    /// Why a Secret that exists is not taken.
    fn why(&self, name: &str, type_: &str) -> SecretRejection {
        if FORBIDDEN.contains(&type_) {
            return SecretRejection::Forbidden(format!(
                "Secret {name} is of type {type_}, which is never given to nodes"
            ));
        }
        let namespace = &self.namespace;
        SecretRejection::Unlabelled(format!(
            "Secret {name} has no label {LABEL}: \"true\"; run `kubectl -n {namespace} label secret {name} {LABEL}=true`"
        ))
    }
}

fn own(name: &str) -> SecretRejection {
    SecretRejection::Forbidden(format!("Secret {name} is timesync's own; name another one"))
}

fn is_own(meta: &ObjectMeta) -> bool {
    meta.labels.as_ref().is_some_and(|labels| labels.get(PART_OF.0).is_some_and(|value| value == PART_OF.1))
}

/// Longest time that the API server may take for one row.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A Secret without the label is noticed after this time at most. One with the label wakes the watch.
const ROW_INTERVAL: Duration = Duration::from_secs(15);

impl SecretWatch {
    fn start(client: &Client, namespace: &str, name: &str, notifier: &ChangeNotifier) -> Self {
        let mut tasks = JoinSet::new();
        let changed = ChangeNotifier { notify: Arc::default(), health: notifier.health.clone() };
        let forbidden: String = FORBIDDEN.map(|type_| format!(",type!={type_}")).concat();
        let this = watcher::Config::default()
            .labels(&format!("{LABEL}=true"))
            .fields(&format!("metadata.name={name}{forbidden}"));
        let events = watch(Api::<Secret>::namespaced(client.clone(), namespace), this).modify(reduce);
        let store = reflect(events, "secrets", &changed, &mut tasks);
        let other = Arc::new(Mutex::new(None));
        let look = RowPoll {
            client: client.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            store: store.clone(),
            other: Arc::clone(&other),
            changed: changed.notify,
            notifier: Arc::clone(&notifier.notify),
        };
        tasks.spawn(look.run());
        Self { store, other, _task: tasks }
    }
}

/// Finds out what has the name while the watch shows nothing.
struct RowPoll {
    client: Client,
    namespace: String,
    name: String,
    store: Store<Secret>,
    other: Arc<Mutex<Option<Unselected>>>,
    changed: Arc<Notify>,
    notifier: Arc<Notify>,
}

impl RowPoll {
    /// Runs as long as the watch does.
    async fn run(self) {
        if self.store.wait_until_ready().await.is_err() {
            return;
        }
        let (mut complained, mut news) = (false, true);
        loop {
            let other = if !self.store.is_empty() {
                Ok(None)
            } else {
                let row = timeout(TIMEOUT, Row::fetch(&self.client, &self.namespace, &self.name)).await;
                row.unwrap_or_else(|_| Err("no answer in time".to_owned())).map(|row| {
                    Some(row.map_or(Unselected::Nothing, |Row { type_ }| Unselected::OfType(type_)))
                })
            };
            match other {
                Ok(other) => {
                    let mut before = self.other.lock().unwrap_or_else(PoisonError::into_inner);
                    news |= *before != other;
                    *before = other;
                    complained = false;
                }
                Err(error) => {
                    if !complained {
                        warn!(
                            secret = self.name,
                            error, "Cannot ask whether there is such a Secret; trying again"
                        );
                    }
                    complained = true;
                }
            }
            if news {
                self.notifier.notify_one();
            }
            news = tokio::select! {
                () = self.changed.notified() => true,
                () = sleep(ROW_INTERVAL) => false,
            };
        }
    }
}

/// Keeps a Secret's data and its labels only. Of the chart's own Secrets no data is kept.
fn reduce(secret: &mut Secret) {
    let Secret { metadata, data, immutable, string_data, type_ } = secret;
    let (name, namespace) = (metadata.name.take(), metadata.namespace.take());
    let (labels, resource_version) = (metadata.labels.take(), metadata.resource_version.take());
    *metadata = ObjectMeta { name, namespace, labels, resource_version, ..ObjectMeta::default() };
    (*immutable, *string_data, *type_) = (None, None, None);
    if is_own(metadata) {
        *data = None;
    }
}

/// Watches the Secret of this name.
pub(crate) fn watch_one(
    client: &Client,
    namespace: &str,
    name: &str,
    notifier: &ChangeNotifier,
    tasks: &mut JoinSet<()>,
) -> Store<Secret> {
    let api = Api::namespaced(client.clone(), namespace);
    let this = watcher::Config::default().fields(&format!("metadata.name={name}"));
    reflect(watch(api, this), "secrets", notifier, tasks)
}

/// The data of a watched Secret; none if it does not exist.
pub(crate) fn data(store: &Store<Secret>) -> Option<Data> {
    store.state().first().map(|secret| entries(secret))
}

fn entries(secret: &Secret) -> Data {
    let data = secret.data.iter().flatten();
    data.map(|(key, content)| (key.clone(), SecretValue(content.clone()))).collect()
}

#[cfg(test)]
mod tests;
