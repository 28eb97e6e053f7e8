//! The fifth step: writes what was built, by server-side apply under one name: first the Secret with the keys, then the
//! ConfigMap, then the annotations that name a profile in it. What comes back is the proof that it stands there; only from that is a status made.
use std::{collections::BTreeMap, fmt::Debug};

use contract::{Assignment, ProfileName};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::info;

use crate::{
    build::{Prepared, PreparedNode, PreparedPolicy},
    fetch::{AgentPod, CONFIG_MAP},
    keys::{self, Data},
};

/// The one name under which the operator owns fields.
pub(crate) const FIELD_MANAGER: &str = "timesync-operator";

/// So many annotations are under way together: a thousand nodes take seconds, and the API server does not notice.
const AT_ONCE: usize = 16;

/// What stands in the cluster now.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) policies: Vec<PreparedPolicy>,
    pub(crate) nodes: Vec<PreparedNode>,
    /// The texts that the ConfigMap holds.
    pub(crate) profiles: BTreeMap<ProfileName, String>,
}

/// What could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The Secret with the keys.
    #[error("cannot write Secret {name}", name = keys::SECRET)]
    Secret(#[source] kube::Error),
    /// The ConfigMap.
    #[error("cannot write ConfigMap {CONFIG_MAP}")]
    ConfigMap(#[source] kube::Error),
    /// An agent's annotation.
    #[error("cannot annotate pod {pod}")]
    Annotation { pod: String, source: kube::Error },
}

/// Writes everything that differs.
///
/// # Errors
/// The first failure; whatever could be written was written, and the next round finds the rest.
pub(crate) async fn apply(client: &Client, namespace: &str, prepared: Prepared) -> Result<Applied, Error> {
    let Prepared { policies, nodes, profiles, profiles_differ, keys, keys_differ, annotations } = prepared;
    if keys_differ {
        write_keys(client, namespace, &keys).await.map_err(Error::Secret)?;
    }
    if profiles_differ {
        write_profiles(client, namespace, &profiles).await.map_err(Error::ConfigMap)?;
    }
    let written = stream::iter(annotations)
        .map(|(pod, assignment)| async move {
            let written = annotate(client, namespace, &pod, &assignment, None).await;
            if written.is_ok() {
                info!(pod = pod.name, node = pod.node, profile = %assignment, "Profile assigned");
            }
            written.map_err(|source| Error::Annotation { pod: pod.name, source })
        })
        .buffer_unordered(AT_ONCE);
    let results: Vec<_> = written.collect().await;
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(Applied { policies, nodes, profiles })
}

async fn write_keys(client: &Client, namespace: &str, keys: &Data) -> Result<(), kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let data: BTreeMap<_, _> = keys.iter().map(|(file, content)| (file, &content.0)).collect();
    let wanted = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": keys::SECRET},
        "data": data,
    });
    let written =
        api.patch(keys::SECRET, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&wanted)).await?;
    info!(keys = keys.len(), "Keys written");
    let surplus = written.data.unwrap_or_default().into_keys().filter(|key| !keys.contains_key(key));
    drop_surplus(&api, keys::SECRET, surplus).await
}

async fn write_profiles(
    client: &Client,
    namespace: &str,
    profiles: &BTreeMap<ProfileName, String>,
) -> Result<(), kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let data: BTreeMap<_, _> = profiles.iter().map(|(name, text)| (name.key(), text)).collect();
    let wanted = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        // No labels: they are the chart's, and helm refuses to upgrade what somebody else labels too.
        "metadata": {"name": CONFIG_MAP},
        "data": data,
    });
    // Force: a key that somebody edited by hand is theirs until we take it back.
    let written =
        api.patch(CONFIG_MAP, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&wanted)).await?;
    info!(keys = data.len(), "Profiles written");
    let surplus = written.data.unwrap_or_default().into_keys();
    let surplus = surplus.filter(|key| ProfileName::from_key(key).is_some() && !data.contains_key(key));
    drop_surplus(&api, CONFIG_MAP, surplus).await
}

/// Apply drops only what nobody else owns; a key that somebody touched by hand would stay for ever.
async fn drop_surplus<K>(
    api: &Api<K>,
    name: &str,
    surplus: impl Iterator<Item = String>,
) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let nulls: BTreeMap<_, Option<String>> = surplus.map(|key| (key, None)).collect();
    if !nulls.is_empty() {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        api.patch(name, &params, &Patch::Merge(json!({"data": nulls}))).await?;
    }
    Ok(())
}

/// Writes an agent's annotations; a pod that is gone needs none. `nudge` is any value that was not there before: its
/// change makes the kubelet look at the pod's volumes again.
pub(crate) async fn annotate(
    client: &Client,
    namespace: &str,
    pod: &AgentPod,
    assignment: &Assignment,
    nudge: Option<u64>,
) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut annotations = BTreeMap::from([(Assignment::ANNOTATION, assignment.to_string())]);
    annotations.extend(nudge.map(|nudge| (Assignment::NUDGE_ANNOTATION, nudge.to_string())));
    // With the uid, apply never makes a pod, and never meets another one of the same name.
    let wanted = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "uid": pod.uid, "annotations": annotations},
    });
    match api
        .patch_metadata(&pod.name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&wanted))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}
