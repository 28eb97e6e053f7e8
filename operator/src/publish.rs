//! Writes what users see: NodeClocks, statuses of policies, Events. Their content was decided by `node_clock`, `status`
//! and `events`. Each write names the version that was seen, as in `apply`.
use api::{NodeClock, NodeClockStatus, TimeSyncPolicy, TimeSyncPolicyStatus};
use k8s_openapi::api::{core::v1::Node, events::v1::Event};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    apply::{FIELD_MANAGER, Target, metadata},
    events::NAMESPACE,
    facts::NodeFacts,
    node_fields::NodePatches,
    stored_node_clock::StoredNodeClock,
    term::WriteError,
    validate::Policy,
};

impl Target {
    /// Writes a NodeClock over the known version of it. Returns the facts of the written one.
    pub(crate) async fn write_node_clock(
        &self,
        node: &NodeFacts,
        known: Option<&StoredNodeClock>,
        status: &NodeClockStatus,
    ) -> Result<StoredNodeClock, WriteError> {
        let api: Api<NodeClock> = Api::all(self.client.clone());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let mut version = known.and_then(|known| known.version.clone());
        if known.and_then(|known| known.owner.as_deref()) != Some(node.uid.as_str()) {
            // The owner reference: Kubernetes deletes the NodeClock together with its node.
            let owner = json!({"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": node.uid});
            let mut object = custom::<NodeClock>(&node.name, version.as_deref());
            object["metadata"]["ownerReferences"] = json!([owner]);
            let written = self.term.write(api.patch(&node.name, &params, &Patch::Apply(&object))).await?;
            version = written.metadata.resource_version;
        }
        let mut object = custom::<NodeClock>(&node.name, version.as_deref());
        object["status"] = json!(status);
        let written = self.term.write(api.patch_status(&node.name, &params, &Patch::Apply(&object))).await?;
        Ok(StoredNodeClock::of(&written))
    }

    /// Writes the clock's condition, label and taints of a Node over the known version of it. Returns its facts
    /// afterwards.
    pub(crate) async fn write_node(
        &self,
        node: &NodeFacts,
        patches: NodePatches,
    ) -> Result<NodeFacts, WriteError> {
        let api: Api<Node> = Api::all(self.client.clone());
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let NodePatches { node: of_node, status, .. } = patches;
        let (mut written, mut failure) = (node.clone(), None);
        // The condition first. If one of the two is refused, the other is written all the same.
        let patches = [(status, true), (of_node, false)];
        for (mut patch, is_status) in patches.into_iter().filter_map(|(patch, of)| Some((patch?, of))) {
            patch["metadata"]["resourceVersion"] = json!(written.version);
            patch["metadata"]["uid"] = json!(written.uid);
            // A strategic merge patch changes one condition of the list. For a merge patch the list would be one value.
            let done = match is_status {
                true => {
                    self.term.write(api.patch_status(&node.name, &params, &Patch::Strategic(&patch))).await
                }
                false => self.term.write(api.patch(&node.name, &params, &Patch::Merge(&patch))).await,
            };
            match done {
                Ok(done) => written = NodeFacts::of(&done),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(written), Err)
    }

    /// Writes the status of a policy. If the policy was deleted in the meantime, does nothing.
    pub(crate) async fn write_policy(
        &self,
        policy: &Policy,
        status: &TimeSyncPolicyStatus,
    ) -> Result<(), WriteError> {
        let api: Api<TimeSyncPolicy> = Api::all(self.client.clone());
        let mut object = custom::<TimeSyncPolicy>(&policy.name, policy.reference.resource_version.as_deref());
        object["metadata"]["uid"] = json!(policy.reference.uid);
        object["status"] = json!(status);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match self.term.write(api.patch_status(&policy.name, &params, &Patch::Apply(&object))).await {
            Err(error) if error.code() == Some(404) => Ok(()),
            written => written.map(drop),
        }
    }

    /// Sends an Event. If it exists already, another replica or an earlier run has sent it, which is a success.
    pub(crate) async fn send_event(&self, event: &Event) -> Result<(), WriteError> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), NAMESPACE);
        match self.term.write(api.create(&PostParams::default(), event)).await {
            Err(error) if error.code() == Some(409) => Ok(()),
            told => told.map(drop),
        }
    }
}

fn custom<K: Resource<DynamicType = ()>>(name: &str, version: Option<&str>) -> Value {
    let mut metadata = metadata(version);
    metadata["name"] = json!(name);
    json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata})
}
