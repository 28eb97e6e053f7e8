//! What was read of the cluster, reduced to the facts that commands use, and questions about it. No client here: fetched
//! objects in, answers out.
use std::collections::BTreeMap;

use api::{NodeClock, NodeClockStatus, TimeSyncPolicy};
use k8s_openapi::{
    api::core::v1::{Event, Node, Pod},
    apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector},
    jiff::{SignedDuration, Timestamp},
};
use kube::{ResourceExt, core::Selector};
use serde::Serialize;

/// Objects that this user may be forbidden to read: the objects, or why they were not read.
pub(crate) type Reading<T> = Result<T, Unread>;

/// Why something was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The command does not need it.
    NotAsked,
    /// The API server refused it, or the request failed.
    Failed(String),
}

/// The parts that were asked for and not read, each with the reason.
pub(crate) fn failed<'a>(parts: impl IntoIterator<Item = (&'a str, Option<&'a Unread>)>) -> Vec<String> {
    let failed = parts.into_iter().filter_map(|(what, unread)| match unread? {
        Unread::Failed(why) => Some(format!("{what} ({why})")),
        Unread::NotAsked => None,
    });
    failed.collect()
}

/// The cluster at one moment.
#[derive(Debug)]
pub(crate) struct Observed {
    /// When it was read, by the API server's clock.
    pub(crate) now: Timestamp,
    /// This machine's clock minus the API server's, if they differ by more than a few seconds.
    pub(crate) ahead: Option<SignedDuration>,
    /// The namespace of operator and agents.
    pub(crate) namespace: String,
    /// The policies, by name.
    pub(crate) policies: Vec<TimeSyncPolicy>,
    /// The NodeClocks, by name.
    pub(crate) clocks: Vec<NodeClock>,
    /// Objects that cannot be read as policies or NodeClocks: kind, name, and why.
    pub(crate) malformed: Vec<String>,
    /// The nodes.
    pub(crate) nodes: Reading<Vec<NodeFacts>>,
    /// The agents' pods.
    pub(crate) agents: Reading<Vec<PodFacts>>,
    /// The operator's pods.
    pub(crate) operators: Reading<Vec<PodFacts>>,
}

/// A node.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether kubelet reports it as ready; none if that was not read.
    pub(crate) ready: Option<bool>,
    /// `key=value:effect`.
    pub(crate) taints: Vec<String>,
}

impl From<&Node> for NodeFacts {
    fn from(node: &Node) -> Self {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        Self {
            name: node.name_any(),
            labels: node.labels().clone(),
            ready: conditions.filter(|each| each.type_ == "Ready").map(|each| each.status == "True").next(),
            taints: taints
                .map(|taint| match &taint.value {
                    Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
                    None => format!("{}:{}", taint.key, taint.effect),
                })
                .collect(),
        }
    }
}

/// A pod of timesync.
#[derive(Clone, Debug)]
pub(crate) struct PodFacts {
    pub(crate) name: String,
    pub(crate) node: Option<String>,
    pub(crate) ready: bool,
    /// The phase, or why its container does not run, such as `ImagePullBackOff`.
    pub(crate) state: String,
}

impl PodFacts {
    /// The facts of a pod; none if it is being deleted.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        if pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let waits = containers.iter().find_map(|each| each.state.as_ref()?.waiting.as_ref()?.reason.clone());
        Some(Self {
            name: pod.name_any(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            ready: !containers.is_empty() && containers.iter().all(|each| each.ready),
            state: waits.or(status.reason).or(status.phase).unwrap_or_else(|| "Unknown".to_owned()),
        })
    }
}

/// An Event of the operator about a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct EventFacts {
    pub(crate) time: Option<Timestamp>,
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// The name with which the operator signs its Events.
const OPERATOR: &str = "timesync-operator";

impl EventFacts {
    /// The facts of an Event; none if it is not the operator's.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let by = event.reporting_component.as_deref().filter(|by| !by.is_empty());
        let by = by.or_else(|| event.source.as_ref()?.component.as_deref());
        (by == Some(OPERATOR)).then(|| Self {
            time: event.event_time.as_ref().map(|time| time.0),
            type_: event.type_.clone().unwrap_or_default(),
            reason: event.reason.clone().unwrap_or_default(),
            note: event.message.clone().unwrap_or_default(),
        })
    }
}

impl Observed {
    /// The NodeClock of a node.
    pub(crate) fn clock(&self, node: &str) -> Option<&NodeClock> {
        self.clocks.iter().find(|clock| clock.metadata.name.as_deref() == Some(node))
    }

    /// The policy of this name.
    pub(crate) fn policy(&self, name: &str) -> Option<&TimeSyncPolicy> {
        self.policies.iter().find(|policy| policy.metadata.name.as_deref() == Some(name))
    }

    /// How long ago the operator wrote any NodeClock; none if it has written none.
    pub(crate) fn silence_of_operator(&self) -> Option<SignedDuration> {
        let writes = self.clocks.iter().filter_map(|clock| clock.status.as_ref()?.updated_at.as_ref());
        writes.map(|time| time.0).max().map(|newest| self.now.duration_since(newest))
    }
}

/// The operator renews each NodeClock within 5 minutes. One that is older than this was not renewed.
pub(crate) const STALE: SignedDuration = SignedDuration::from_mins(6);

/// Returns true if the operator does not renew this status any more, so that it may be outdated.
pub(crate) fn is_stale(status: &NodeClockStatus, now: Timestamp) -> bool {
    status.updated_at.as_ref().is_none_or(|time| now.duration_since(time.0) > STALE)
}

/// The condition of this type.
pub(crate) fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The condition RolledOut of a policy; none if the operator has not read this version of the policy yet, so that the
/// condition may be that of the version before.
pub(crate) fn rolled_out(policy: &TimeSyncPolicy) -> Option<&Condition> {
    condition(&policy.status.as_ref()?.conditions, "RolledOut").filter(|_| is_read(policy))
}

/// Returns true if the operator has read this version of the policy, so that its conditions are about it.
pub(crate) fn is_read(policy: &TimeSyncPolicy) -> bool {
    let read = policy.status.as_ref().and_then(|status| status.observed_generation);
    read.is_some() && read == policy.metadata.generation
}

/// The state of a clock in one word, as the column STATE of `kubectl get nclk`; `Outdated` if the operator does not
/// renew it.
pub(crate) fn state(status: &NodeClockStatus, now: Timestamp) -> &str {
    if is_stale(status, now) { OUTDATED } else { status.state.as_deref().unwrap_or("Unknown") }
}

/// The state of a clock whose status the operator does not renew.
pub(crate) const OUTDATED: &str = "Outdated";

/// The nodes that a policy selects, by their labels; none if its selector cannot be read.
pub(crate) fn selector(policy: &TimeSyncPolicy) -> Option<Selector> {
    let Some(selector) = &policy.spec.node_selector else { return Some(Selector::default()) };
    // The same fields as in Kubernetes' own type.
    let selector = serde_json::to_value(selector).ok()?;
    let selector: LabelSelector = serde_json::from_value(selector).ok()?;
    Selector::try_from(selector).ok()
}

#[cfg(test)]
pub(crate) use tests::{events, fixture};

#[cfg(test)]
mod tests {
    use kube::core::SelectorExt;
    use serde::Deserialize;

    use super::*;

    /// The cluster of a prepared fault, from `tests/why/<case>.yaml`. Its time is 2026-11-30T12:00:00Z. Documents are
    /// objects; `unread: true` stands for a user who may read only policies and NodeClocks.
    pub(crate) fn fixture(case: &str) -> Observed {
        let path = format!("{}/tests/why/{case}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut observed = Observed {
            now: "2026-11-30T12:00:00Z".parse().unwrap(),
            ahead: None,
            namespace: "timesync-system".to_owned(),
            policies: Vec::new(),
            clocks: Vec::new(),
            malformed: Vec::new(),
            nodes: Ok(Vec::new()),
            agents: Ok(Vec::new()),
            operators: Ok(Vec::new()),
        };
        for document in serde_norway::Deserializer::from_str(&text) {
            let object = serde_json::Value::deserialize(document).unwrap();
            match object["kind"].as_str() {
                Some("TimeSyncPolicy") => observed.policies.push(read(&path, object)),
                Some("NodeClock") => observed.clocks.push(read(&path, object)),
                Some("Node") => {
                    let node: Node = read(&path, object);
                    observed.nodes.as_mut().unwrap().push(NodeFacts::from(&node));
                }
                Some("Pod") => {
                    let pod: Pod = read(&path, object);
                    let is_agent = pod.labels()["app.kubernetes.io/component"] == "agent";
                    let pods = if is_agent { &mut observed.agents } else { &mut observed.operators };
                    pods.as_mut().unwrap().extend(PodFacts::of(&pod));
                }
                Some("Event") => {}
                _ if object["unread"] == true => {
                    let unread = Unread::Failed("not permitted".to_owned());
                    observed.nodes = Err(unread.clone());
                    (observed.agents, observed.operators) = (Err(unread.clone()), Err(unread));
                }
                kind => panic!("{path}: an object of kind {kind:?}"),
            }
        }
        observed
    }

    fn read<T: serde::de::DeserializeOwned>(path: &str, object: serde_json::Value) -> T {
        serde_json::from_value(object).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The Events of a prepared fault.
    pub(crate) fn events(case: &str) -> Vec<EventFacts> {
        let path = format!("{}/tests/why/{case}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let objects = serde_norway::Deserializer::from_str(&text)
            .map(|each| serde_json::Value::deserialize(each).unwrap());
        let events = objects.filter(|object| object["kind"] == "Event");
        events.filter_map(|event| EventFacts::of(&serde_json::from_value(event).unwrap())).collect()
    }

    #[test]
    fn a_selector_selects_as_kubernetes_does() {
        let labels = |text: &str| {
            text.split_whitespace()
                .filter_map(|pair| pair.split_once('='))
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect()
        };
        let check = |selector: &str, node: &str, expected: bool| {
            let text = format!(
                "apiVersion: timesync.dev/v1alpha1\nkind: TimeSyncPolicy\nmetadata: {{name: a}}\nspec: {{nodeSelector: {selector}}}"
            );
            let policy = serde_norway::from_str(&text).unwrap();
            let found = super::selector(&policy).unwrap().matches(&labels(node));
            assert_eq!(found, expected, "{selector} {node}");
        };
        check("{}", "a=b", true);
        check("{matchLabels: {role: edge}}", "role=edge", true);
        check("{matchLabels: {role: edge}}", "role=core", false);
        check("{matchExpressions: [{key: role, operator: DoesNotExist}]}", "", true);
        check("{matchExpressions: [{key: role, operator: NotIn, values: [edge]}]}", "role=edge", false);
    }
}
