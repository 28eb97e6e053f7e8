//! Watches of the API server: the events of one, a store that one fills, and where its errors are reported.
use std::{fmt::Debug, sync::Arc};

use futures::{Stream, StreamExt};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
        watcher,
        watcher::Event,
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, task::JoinSet};
use tracing::warn;

use crate::{health::Health, message::chain};

/// Whom a watch of few objects notifies of a change, and where it reports errors.
#[derive(Clone)]
pub(crate) struct ChangeNotifier {
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

/// Runs a watch until the program ends. Its objects are in the store that it returns.
pub(crate) fn reflect<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    what: &'static str,
    notifier: &ChangeNotifier,
    tasks: &mut JoinSet<()>,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let ChangeNotifier { notify, health } = notifier.clone();
    tasks.spawn(async move {
        // Managed fields are as large as the objects, and the operator does not read them.
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

/// Logs an error, and reports at /readyz whether there is one.
pub(crate) fn note(what: &'static str, error: Option<&watcher::Error>, health: &Health) {
    let Some(error) = error else {
        health.set(what, Ok(()));
        return;
    };
    match error {
        // The API server ends watches now and then. The next watch starts where this one ended.
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
