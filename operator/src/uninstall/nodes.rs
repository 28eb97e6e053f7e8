//! Removes from all Nodes what the operator has written, and the taint with which a node may have registered: after the
//! release is removed, no process would remove it.
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use crate::{
    apply::FIELD_MANAGER,
    facts::NodeFacts,
    node_fields::{NodePatches, NodeWrites, cleared},
    term::{WriteError, limited},
};

/// Writes under way at the same time.
const AT_ONCE: usize = 8;
/// Nodes in memory at the same time. A Node with all its images is larger than a pod.
const PAGE: u32 = 100;
/// Time limit of one request.
const REQUEST: Duration = Duration::from_secs(10);
/// Pause before failed writes are tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Clears all Nodes, as far as that is possible before `deadline`.
pub(super) async fn clear(client: &Client, writes: NodeWrites, deadline: Instant) {
    if writes == NodeWrites::default() {
        return;
    }
    if timeout_at(deadline, clear_all(client, writes)).await.is_err() {
        warn!("No time is left; some Nodes still have a condition, a taint or a label of timesync.dev");
    }
}

/// Repeats passes over all Nodes until nothing is left that a repetition could change.
async fn clear_all(client: &Client, writes: NodeWrites) {
    loop {
        match pass(client, writes).await {
            Ok(Pass { cleared, refused, failed: None }) => {
                if let Some(error) = refused {
                    warn!(%error, "Some Nodes refuse to be cleared; a condition, a taint or a label of timesync.dev is left");
                }
                info!(cleared, "Conditions, taints and labels of timesync.dev are removed from all Nodes");
                return;
            }
            Err(error) if error.lacks_right() => {
                warn!(%error, "Not permitted to clear Nodes; conditions, taints and labels of timesync.dev are left");
                return;
            }
            Ok(Pass { failed: Some(error), .. }) | Err(error) => {
                warn!(%error, "Cannot clear all Nodes; trying again");
            }
        }
        sleep(RETRY).await;
    }
}

/// The outcome of one pass over all Nodes.
#[derive(Default)]
struct Pass {
    cleared: usize,
    /// The first refusal that a repetition would not change.
    refused: Option<WriteError>,
    /// The first failure after which a repetition makes sense.
    failed: Option<WriteError>,
}

/// One pass over all Nodes, page by page. A failed write does not stop the others.
async fn pass(client: &Client, writes: NodeWrites) -> Result<Pass, WriteError> {
    let api: Api<Node> = Api::all(client.clone());
    let mut all = Pass::default();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = limited(REQUEST, api.list(&params)).await?;
        let facts = page.items.iter().map(NodeFacts::of);
        let wanted = facts.filter_map(|facts| cleared(&facts, writes).map(|patches| (facts, patches)));
        let written = stream::iter(wanted.collect::<Vec<_>>())
            .map(async |(facts, patches)| write(&api, &facts, patches).await)
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>();
        for failures in written.await {
            all.cleared += usize::from(failures.is_empty());
            for error in failures {
                // 409: the Node has changed since. 429: the API server is busy.
                let refused =
                    matches!(error.code(), Some(400..=499)) && !matches!(error.code(), Some(409 | 429));
                let first = if refused { &mut all.refused } else { &mut all.failed };
                first.get_or_insert(error);
            }
        }
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(all);
        }
    }
}

/// Writes both patches. Returns the failures.
async fn write(api: &Api<Node>, facts: &NodeFacts, patches: NodePatches) -> Vec<WriteError> {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let NodePatches { node, status, .. } = patches;
    let mut failures = Vec::new();
    if let Some(mut patch) = node {
        // The list of taints replaces the present one, which must be the one that was seen.
        patch["metadata"]["resourceVersion"] = facts.version.clone().into();
        failures.extend(limited(REQUEST, api.patch(&facts.name, &params, &Patch::Merge(&patch))).await.err());
    }
    if let Some(patch) = status {
        let patch = Patch::Strategic(&patch);
        failures.extend(limited(REQUEST, api.patch_status(&facts.name, &params, &patch)).await.err());
    }
    failures
}
