//! Writes what is to be seen: NodeClocks, statuses of policies, Events. How it reads was decided by `node_clock`,
//! `status` and `events`; here only what differs is sent, and not too often.
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use api::{NodeClock, NodeClockStatus, TimeSyncPolicy, TimeSyncPolicyStatus};
use contract::Report;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    apply::{Applied, FIELD_MANAGER},
    build::PreparedNode,
    collect::Impostor,
    events,
    node_clock::{self, Known, Written, worth_writing},
    reports::{Heard, Reports},
    status::PolicyStatus,
    validate::Policy,
};

/// Remembers what was written and told, and when.
pub(crate) struct Publisher {
    client: Client,
    nodes: HashMap<String, Written>,
    told: HashMap<String, (String, u64)>,
    /// Told of, by node, and still there.
    impostors: HashSet<String>,
    policies: HashMap<String, (Instant, Option<f64>, Option<f64>)>,
}

/// What could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A NodeClock.
    #[error("cannot write NodeClock {node}")]
    NodeClock { node: String, source: kube::Error },
    /// The status of a policy.
    #[error("cannot write the status of policy {policy}")]
    Policy { policy: String, source: kube::Error },
    /// An Event.
    #[error("cannot write an Event of {object}")]
    Event { object: String, source: kube::Error },
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // kube prints a refusal of the API server twice, with every field of it.
        let said = match error.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) => status.message.clone(),
            _ => error.to_string(),
        };
        text = format!("{text}: {said}");
        if matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(_))) {
            break;
        }
        cause = error.source();
    }
    text
}

impl Publisher {
    /// Nothing is written yet.
    pub(crate) fn new(client: Client) -> Self {
        let (nodes, told, policies) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { client, nodes, told, impostors: HashSet::new(), policies }
    }

    /// Writes what differs from what is there.
    ///
    /// # Errors
    /// The first failure; the rest is tried all the same.
    pub(crate) async fn publish(
        &mut self,
        applied: &Applied,
        node_clocks: &BTreeMap<String, Known>,
        reports: &Reports,
        statuses: &BTreeMap<String, PolicyStatus>,
        now: Instant,
        time: Timestamp,
    ) -> Result<(), Error> {
        let mut failed = None;
        for node in &applied.nodes {
            let known = node_clocks.get(&node.name);
            let result = self.node(node, known, reports.of(&node.name, now), now, time).await;
            failed = failed.or(result.err());
        }
        for policy in &applied.policies {
            if let Some(new) = statuses.get(&policy.policy.name) {
                failed = failed.or(self.policy(&policy.policy, new, now, time).await.err());
            }
        }
        self.nodes.retain(|name, _| applied.nodes.iter().any(|node| node.name == *name));
        self.impostors.retain(|name| applied.nodes.iter().any(|node| node.name == *name));
        self.told.retain(|name, _| applied.nodes.iter().any(|node| node.name == *name));
        self.policies.retain(|name, _| applied.policies.iter().any(|policy| policy.policy.name == *name));
        failed.map_or(Ok(()), Err)
    }

    async fn node(
        &mut self,
        node: &PreparedNode,
        known: Option<&Known>,
        heard: Heard<'_>,
        now: Instant,
        time: Timestamp,
    ) -> Result<(), Error> {
        let stored = known.map(|known| known.status.clone()).unwrap_or_default();
        let Some(new) = node_clock::status(node, heard, &stored, time) else {
            return Ok(());
        };
        match heard {
            Heard::Report(report, _) => self.tell(node, report, &stored, time).await?,
            Heard::Unproven(impostor) => self.tell_of_impostor(node, impostor, time).await?,
            Heard::Waiting { .. } | Heard::Silent(_) => {}
        }
        if !matches!(heard, Heard::Unproven(_)) {
            self.impostors.remove(&node.name);
        }
        if !worth_writing(&new, &stored, heard, self.nodes.get(&node.name).copied(), now) {
            return Ok(());
        }
        let owned = known.is_some_and(|known| known.owner.as_deref() == Some(node.uid.as_str()));
        self.write_node(node, owned, &new)
            .await
            .map_err(|source| Error::NodeClock { node: node.name.clone(), source })?;
        let clock = heard.report().map(|report| &report.clock);
        let written = Written {
            at: now,
            offset: clock.and_then(|clock| clock.offset),
            error_bound: clock.and_then(|clock| clock.error_bound),
        };
        self.nodes.insert(node.name.clone(), written);
        Ok(())
    }

    async fn tell(
        &mut self,
        node: &PreparedNode,
        report: &Report,
        stored: &NodeClockStatus,
        time: Timestamp,
    ) -> Result<(), Error> {
        let told = self.told.get(&node.name).filter(|(instance, _)| *instance == report.instance);
        let told = told.map(|(_, number)| *number);
        for transition in events::untold(report, stored, told) {
            if let Some(event) = events::of_transition(node, &report.instance, &transition, time) {
                let failed = |source| Error::Event { object: node.name.clone(), source };
                events::tell(&self.client, &event).await.map_err(failed)?;
            }
            self.told.insert(node.name.clone(), (report.instance.clone(), transition.number));
        }
        Ok(())
    }

    async fn tell_of_impostor(
        &mut self,
        node: &PreparedNode,
        impostor: &Impostor,
        time: Timestamp,
    ) -> Result<(), Error> {
        if !self.impostors.contains(&node.name) {
            let pod = node.agents.first().map_or("", |agent| agent.uid.as_str());
            let event = events::of_impostor(node, pod, impostor, time);
            let failed = |source| Error::Event { object: node.name.clone(), source };
            events::tell(&self.client, &event).await.map_err(failed)?;
            self.impostors.insert(node.name.clone());
        }
        Ok(())
    }

    async fn write_node(
        &self,
        node: &PreparedNode,
        owned: bool,
        status: &NodeClockStatus,
    ) -> Result<(), kube::Error> {
        let api: Api<NodeClock> = Api::all(self.client.clone());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let identity = |metadata| json!({"apiVersion": NodeClock::api_version(&()), "kind": NodeClock::kind(&()), "metadata": metadata});
        if !owned {
            // The node's end is the end of its NodeClock.
            let owner = json!({"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": node.uid});
            let object = identity(json!({"name": node.name, "ownerReferences": [owner]}));
            api.patch(&node.name, &params, &Patch::Apply(&object)).await?;
        }
        let mut object = identity(json!({"name": node.name}));
        object["status"] = json!(status);
        api.patch_status(&node.name, &params, &Patch::Apply(&object)).await?;
        Ok(())
    }

    async fn policy(
        &mut self,
        policy: &Policy,
        new: &PolicyStatus,
        now: Instant,
        time: Timestamp,
    ) -> Result<(), Error> {
        if let Some(event) = events::of_refusal(policy, new, time) {
            let failed = |source| Error::Event { object: policy.name.clone(), source };
            events::tell(&self.client, &event).await.map_err(failed)?;
        }
        if !worth_writing_policy(new, &policy.status, self.policies.get(&policy.name), now) {
            return Ok(());
        }
        let api: Api<TimeSyncPolicy> = Api::all(self.client.clone());
        let object = json!({
            "apiVersion": TimeSyncPolicy::api_version(&()),
            "kind": TimeSyncPolicy::kind(&()),
            "metadata": {"name": policy.name, "uid": policy.reference.uid},
            "status": new.status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match api.patch_status(&policy.name, &params, &Patch::Apply(&object)).await {
            Ok(_) => {}
            // Deleted, perhaps made anew, in the meantime.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(source) => return Err(Error::Policy { policy: policy.name.clone(), source }),
        }
        self.policies.insert(policy.name.clone(), (now, new.worst, new.spread));
        Ok(())
    }
}

/// Figures move all the time; words and counts do not.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

fn worth_writing_policy(
    new: &PolicyStatus,
    stored: &TimeSyncPolicyStatus,
    written: Option<&(Instant, Option<f64>, Option<f64>)>,
    now: Instant,
) -> bool {
    if facts(&new.status) != facts(stored) {
        return true;
    }
    if new.status == *stored {
        return false;
    }
    let Some((at, worst, spread)) = written else {
        return true;
    };
    let moved = |new: Option<f64>, before: Option<f64>| match (new, before) {
        (Some(new), Some(before)) => new.abs() > before.abs() * 2.0 || new.abs() < before.abs() / 2.0,
        (new, before) => new.is_some() != before.is_some(),
    };
    let pause = now.saturating_duration_since(*at);
    let wrong = moved(new.worst, *worst) || moved(new.spread, *spread);
    pause >= LONGEST_PAUSE || (pause >= SHORTEST_PAUSE && wrong)
}

/// The status without its figures, which also stand in the messages of conditions about them.
fn facts(status: &TimeSyncPolicyStatus) -> TimeSyncPolicyStatus {
    let mut facts = TimeSyncPolicyStatus { worst: None, spread: None, ..status.clone() };
    for condition in facts.conditions.iter_mut().filter(|condition| condition.reason.ends_with("Exceeded")) {
        condition.message.clear();
    }
    facts
}
