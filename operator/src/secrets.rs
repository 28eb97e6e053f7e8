//! The Secrets that policies name, each watched by itself: of the others in the namespace nothing is ever read. In: the
//! names; out: what they hold. Each change wakes the controller.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{reflector::Store, watcher},
};
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    fetch::{keep, watch},
    keys::{Content, Data},
};

/// The watches, running.
pub(crate) struct SecretWatches {
    client: Client,
    namespace: String,
    wake: Arc<Notify>,
    watches: BTreeMap<String, SecretWatch>,
}

struct SecretWatch {
    store: Store<Secret>,
    /// Ends with the watch.
    _task: JoinSet<()>,
}

impl SecretWatches {
    /// Watches nothing yet.
    pub(crate) fn new(client: Client, namespace: &str, wake: Arc<Notify>) -> Self {
        Self { client, namespace: namespace.to_owned(), wake, watches: BTreeMap::new() }
    }

    /// Watches these from now on, and no others.
    pub(crate) fn follow(&mut self, names: &BTreeSet<String>) {
        self.watches.retain(|name, _| names.contains(name));
        for name in names {
            if !self.watches.contains_key(name) {
                let mut tasks = JoinSet::new();
                let store = watch_one(&self.client, &self.namespace, name, &self.wake, &mut tasks);
                self.watches.insert(name.clone(), SecretWatch { store, _task: tasks });
            }
        }
    }

    /// What those hold that were read; none where there is no such Secret.
    pub(crate) fn fetch(&self) -> BTreeMap<String, Option<Data>> {
        let read =
            |watch: &&SecretWatch| watch.store.wait_until_ready().now_or_never().is_some_and(|r| r.is_ok());
        let ready = self.watches.iter().filter(|(_, watch)| read(watch));
        ready.map(|(name, watch)| (name.clone(), data(&watch.store))).collect()
    }
}

/// Watches the Secret of this name.
pub(crate) fn watch_one(
    client: &Client,
    namespace: &str,
    name: &str,
    wake: &Arc<Notify>,
    tasks: &mut JoinSet<()>,
) -> Store<Secret> {
    let api = Api::namespaced(client.clone(), namespace);
    let this = watcher::Config::default().fields(&format!("metadata.name={name}"));
    keep(watch(api, this), "Secret", wake, tasks)
}

/// What a watched Secret holds; none if it is not there.
pub(crate) fn data(store: &Store<Secret>) -> Option<Data> {
    let secret = store.state().first().cloned()?;
    let data = secret.data.iter().flatten();
    Some(data.map(|(key, content)| (key.clone(), Content(content.clone()))).collect())
}
