//! Withdraws the statuses. After the release is removed, no process watches the clocks, or could change a condition
//! that says True. Stored statuses in; the same conditions, as Unknown, out, without anything that may be wrong
//! tomorrow. They are written under the operator's own field manager, so that fields that are left out are removed, and
//! so that an operator that is installed later owns all of them.
use std::{fmt::Debug, time::Duration};

use api::{AgentStatus, NodeClock, NodeClockStatus, TimeSyncPolicy, TimeSyncPolicyStatus};
use futures::{StreamExt, stream};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::{DeserializeGuard, PartialObjectMeta},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use crate::{
    apply::FIELD_MANAGER,
    condition::{Finding, condition, reason::UNINSTALLED},
    term::{WriteError, limited},
};

/// Writes under way at the same time; 5,000 NodeClocks take most of a minute.
const AT_ONCE: usize = 32;
/// Objects in memory at the same time.
const PAGE: u32 = 500;
/// Time limit of one request.
const REQUEST: Duration = Duration::from_secs(10);
/// Pause before failed writes are tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Withdraws all statuses, as far as that is possible before `deadline`.
pub(super) async fn withdraw(client: &Client, deadline: Instant) {
    let all = async {
        // Policies first: `kubectl wait` is used on them.
        of_kind::<TimeSyncPolicy, _>(client, |policy| policy.status.as_ref(), of_policy).await;
        of_kind::<NodeClock, _>(client, |clock| clock.status.as_ref(), of_node).await;
    };
    if timeout_at(deadline, all).await.is_err() {
        warn!("No time is left; some objects still say what was true before the uninstallation");
    }
}

/// Repeats passes over the objects of a kind until each status is withdrawn.
async fn of_kind<K, S>(client: &Client, status: fn(&K) -> Option<&S>, withdrawn: fn(&S, Timestamp) -> S)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync,
    S: Default + PartialEq + Serialize,
{
    let kind = K::kind(&());
    loop {
        match pass(client, status, withdrawn).await {
            Ok(written) => {
                info!(%kind, written, "Statuses say that timesync is uninstalled");
                return;
            }
            Err(error) if error.code() == Some(404) => return,
            Err(error) if error.code() == Some(403) => {
                warn!(%kind, %error, "Not permitted to withdraw statuses; they say what was true before the uninstallation");
                return;
            }
            Err(error) => warn!(%kind, %error, "Cannot withdraw all statuses; trying again"),
        }
        sleep(RETRY).await;
    }
}

/// One pass over all objects, page by page. Returns how many were written. A failed write does not stop the others.
async fn pass<K, S>(
    client: &Client,
    status: fn(&K) -> Option<&S>,
    withdrawn: fn(&S, Timestamp) -> S,
) -> Result<usize, WriteError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync,
    S: Default + PartialEq + Serialize,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let (mut count, mut failed) = (0, None);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = limited(REQUEST, api.list(&params)).await?;
        let now = Timestamp::now();
        let wanted = page.items.iter().filter_map(|object| {
            // If an object cannot be read, its status is emptied.
            let before = object.0.as_ref().ok().and_then(status);
            let new = before.map(|before| withdrawn(before, now)).unwrap_or_default();
            (before != Some(&new)).then_some((object, new))
        });
        let written = stream::iter(wanted)
            .map(|(object, new)| write::<K, S>(client, object, new))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>();
        for result in written.await {
            match result {
                Ok(()) => count += 1,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return failed.map_or(Ok(count), Err);
        }
    }
}

async fn write<K, S>(client: &Client, object: &DeserializeGuard<K>, status: S) -> Result<(), WriteError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    S: Serialize,
{
    let name = object.name_any();
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    // With the uid, the write changes no other object of the same name.
    let wanted = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "uid": object.uid()},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match limited(REQUEST, api.patch_status(&name, &params, &Patch::Apply(&wanted))).await {
        // The object was deleted, and perhaps created again.
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        written => written.map(drop),
    }
}

/// What stays of a node's status: when its agent last reported, and which transitions became Events.
fn of_node(before: &NodeClockStatus, now: Timestamp) -> NodeClockStatus {
    let agent = before.agent.clone();
    NodeClockStatus {
        state: Some("Unknown".to_owned()),
        updated_at: before.updated_at.clone(),
        agent: agent.map(|agent| AgentStatus { boot: None, state_error: None, ..agent }),
        reported_at: before.reported_at.clone(),
        conditions: unknown(&before.conditions, now),
        ..NodeClockStatus::default()
    }
}

/// What stays of a policy's status: what follows from its spec, and the nodes of its tiers, which the next operator keeps.
fn of_policy(before: &TimeSyncPolicyStatus, now: Timestamp) -> TimeSyncPolicyStatus {
    TimeSyncPolicyStatus {
        observed_generation: before.observed_generation,
        profile: before.profile.clone(),
        tiers: before.tiers.clone(),
        conditions: unknown(&before.conditions, now),
        ..TimeSyncPolicyStatus::default()
    }
}

fn unknown(before: &[Condition], now: Timestamp) -> Vec<Condition> {
    let message = "timesync was uninstalled: nothing steers or watches the clocks any more.";
    let finding = || Finding::new(None, UNINSTALLED, message);
    before
        .iter()
        .map(|each| condition(&each.type_, finding(), before, each.observed_generation, now))
        .collect()
}

#[cfg(test)]
mod tests {
    use api::{NodeCounts, RolloutState, RolloutStatus, SourceStatus, TierStatus, WorstNode};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    fn said(type_: &str, status: Option<bool>) -> Condition {
        condition(type_, Finding::new(status, "Before", "m"), &[], Some(3), at(1))
    }

    #[test]
    fn a_node_says_nothing_of_its_clock_any_more() {
        let before = NodeClockStatus {
            policy: Some("default".to_owned()),
            mode: Some("Discipline".to_owned()),
            synchronized: true,
            stratum: Some(3),
            reference: Some("a".to_owned()),
            offset: Some("1us".to_owned()),
            sources: vec![SourceStatus::default()],
            agent: Some(AgentStatus {
                instance: "i".to_owned(),
                boot: Some("Installed".to_owned()),
                last_transition: 7,
                ..AgentStatus::default()
            }),
            reported_at: Some(Time(at(2))),
            conditions: vec![
                said("Synchronized", Some(true)),
                said("Conflict", Some(false)),
                said("Serving", None),
            ],
            ..NodeClockStatus::default()
        };
        let after = of_node(&before, at(9));
        let (Some(agent), conditions) = (&after.agent, &after.conditions) else { panic!("{after:?}") };
        assert_eq!((agent.last_transition, &agent.boot), (7, &None));
        assert_eq!(conditions.len(), 3);
        for condition in conditions {
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("Unknown", "Uninstalled"));
            assert_eq!(condition.observed_generation, Some(3));
        }
        // The last condition was Unknown before.
        let since: Vec<_> = conditions.iter().map(|condition| condition.last_transition_time.0).collect();
        assert_eq!(since, [at(9), at(9), at(1)]);
        let rest = NodeClockStatus { agent: None, conditions: vec![], ..after.clone() };
        let state = Some("Unknown".to_owned());
        let expected =
            NodeClockStatus { state, reported_at: Some(Time(at(2))), ..NodeClockStatus::default() };
        assert_eq!(rest, expected);
        assert_eq!(of_node(&after, at(10)), after, "a second time there is nothing to write");
    }

    #[test]
    fn a_policy_counts_no_nodes_any_more() {
        let before = TimeSyncPolicyStatus {
            observed_generation: Some(3),
            profile: Some("default.811c9dc5".to_owned()),
            updated: Some("3/3".to_owned()),
            rollout: Some(RolloutStatus {
                state: RolloutState::Done,
                profile: "default.811c9dc5".to_owned(),
                generation: Some(3),
                last_good: None,
                paused: None,
                message: String::new(),
                acted: None,
                excused: vec![],
            }),
            nodes: Some(NodeCounts { matched: 3, synchronized: 3, ..NodeCounts::default() }),
            worst: Some(WorstNode::default()),
            spread: Some("1us".to_owned()),
            tiers: vec![TierStatus { upstream: "tier".to_owned(), ..TierStatus::default() }],
            conditions: vec![said("Accepted", Some(true)), said("Synchronized", Some(true))],
        };
        let after = of_policy(&before, at(9));
        assert!(after.conditions.iter().all(|each| each.status == "Unknown" && each.reason == "Uninstalled"));
        let rest = TimeSyncPolicyStatus { conditions: vec![], ..after.clone() };
        let expected = TimeSyncPolicyStatus {
            observed_generation: Some(3),
            profile: before.profile.clone(),
            tiers: before.tiers.clone(),
            ..TimeSyncPolicyStatus::default()
        };
        assert_eq!(rest, expected);
        assert_eq!(of_policy(&after, at(10)), after);
    }
}
