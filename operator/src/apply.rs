//! The fifth step: writes the desired content by server-side apply under one field manager: the Secret with the keys,
//! the ConfigMap, and the annotations that name a profile in it. Each write names the resourceVersion that was seen,
//! and fails on any other version. So a replica that has lost the lead and does not know it yet cannot overwrite its
//! successor's writes. Each write returns the object as the API server stored it.
use std::{collections::BTreeMap, fmt::Debug};

use contract::{Assignment, ProfileName};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::info;

use crate::{
    facts::AgentPod,
    fetch::{CONFIG_MAP, Profiles},
    keys::{self, Data, SecretValue},
    term::{Term, WriteError},
};

/// The only field manager that the operator uses.
pub(crate) const FIELD_MANAGER: &str = "timesync-operator";

/// The target of the writes, and the time until which this replica may write.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) term: Term,
}

impl Target {
    /// Writes the Secret with the keys over the given version of it. Returns its data and its version after the write.
    pub(crate) async fn write_keys(
        &self,
        keys: &Data,
        version: Option<&str>,
    ) -> Result<(Data, Option<String>), WriteError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let data: BTreeMap<_, _> = keys.iter().map(|(file, content)| (file, &content.0)).collect();
        let wanted = object("Secret", keys::SECRET, version, json!({"data": data}));
        let mut written = self.apply(&api, keys::SECRET, &wanted).await?;
        info!(keys = keys.len(), "Keys written");
        let surplus: Vec<_> = written.data.iter().flat_map(BTreeMap::keys).cloned().collect();
        let surplus = surplus.into_iter().filter(|key| !keys.contains_key(key));
        if let Some(nulls) = nulls(surplus, written.resource_version()) {
            written = self.drop_surplus(&api, keys::SECRET, &nulls).await?;
        }
        let version = written.resource_version();
        let held = written.data.unwrap_or_default().into_iter();
        Ok((held.map(|(file, data)| (file, SecretValue(data))).collect(), version))
    }

    /// Writes the profiles over the given version of the ConfigMap. Returns its content after the write.
    pub(crate) async fn write_profiles(
        &self,
        profiles: &BTreeMap<String, String>,
        version: Option<&str>,
    ) -> Result<Profiles, WriteError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        // No labels: they are the chart's, and helm refuses to upgrade an object whose labels another manager owns too.
        let wanted = object("ConfigMap", CONFIG_MAP, version, json!({"data": profiles}));
        let mut written = self.apply(&api, CONFIG_MAP, &wanted).await?;
        info!(keys = profiles.len(), "Profiles written");
        let surplus: Vec<_> = written.data.iter().flat_map(BTreeMap::keys).cloned().collect();
        let surplus = surplus
            .into_iter()
            .filter(|key| ProfileName::from_key(key).is_some() && !profiles.contains_key(key));
        if let Some(nulls) = nulls(surplus, written.resource_version()) {
            written = self.drop_surplus(&api, CONFIG_MAP, &nulls).await?;
        }
        Ok(Profiles::of(&written))
    }

    /// Applies with force: if another manager has edited a field, the operator owns it again.
    async fn apply<K>(&self, api: &Api<K>, name: &str, wanted: &Value) -> Result<K, WriteError>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.term.write(api.patch(name, &params, &Patch::Apply(wanted))).await
    }

    /// Removes keys that are not wanted. Apply removes only keys that no other manager owns: a key that was edited by
    /// hand would stay.
    async fn drop_surplus<K>(&self, api: &Api<K>, name: &str, nulls: &Value) -> Result<K, WriteError>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.term.write(api.patch(name, &params, &Patch::Merge(nulls))).await
    }

    /// Writes an agent's annotations. Returns the pod after the write; none if it is gone. `nudge` is any value that
    /// was not there before: the change makes the kubelet refresh the pod's volumes.
    pub(crate) async fn annotate(
        &self,
        pod: &AgentPod,
        assignment: &Assignment,
        nudge: Option<u64>,
    ) -> Result<Option<String>, WriteError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut annotations = BTreeMap::from([(Assignment::ANNOTATION, assignment.to_string())]);
        annotations.extend(nudge.map(|nudge| (Assignment::NUDGE_ANNOTATION, nudge.to_string())));
        // With the uid, apply never creates a pod, and never changes another pod of the same name.
        let mut wanted = object("Pod", &pod.name, pod.version.as_deref(), json!({}));
        wanted["metadata"]["uid"] = json!(pod.uid);
        wanted["metadata"]["annotations"] = json!(annotations);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match self.term.write(api.patch_metadata(&pod.name, &params, &Patch::Apply(&wanted))).await {
            Ok(written) => Ok(written.resource_version()),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// An object to apply over the given version of it; without a version, over any version.
fn object(kind: &str, name: &str, version: Option<&str>, mut fields: Value) -> Value {
    fields["apiVersion"] = json!("v1");
    fields["kind"] = json!(kind);
    fields["metadata"] = metadata(version);
    fields["metadata"]["name"] = json!(name);
    fields
}

/// A merge patch that removes these keys from the given version of an object; none if there are no keys.
fn nulls(surplus: impl Iterator<Item = String>, version: Option<String>) -> Option<Value> {
    let nulls: BTreeMap<_, Option<String>> = surplus.map(|key| (key, None)).collect();
    (!nulls.is_empty()).then(|| json!({"metadata": metadata(version.as_deref()), "data": nulls}))
}

/// The metadata of a write over the given version.
pub(crate) fn metadata(version: Option<&str>) -> Value {
    version.map_or_else(|| json!({}), |version| json!({"resourceVersion": version}))
}
