//! What the operator keeps of the cluster's objects: a few fields of each, so that thousands of them fit into memory.
use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use contract::Assignment;
use k8s_openapi::{
    api::core::v1::{Node, Pod, Taint},
    jiff::Timestamp,
};
use kube::ResourceExt;

/// The fields of a node that the operator uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    /// Its addresses of type InternalIP, in the order of the Node.
    pub(crate) addresses: Vec<IpAddr>,
    /// The kernel's boot id, as kubelet reports it; empty if it does not.
    pub(crate) boot_id: String,
    /// The condition that the operator writes.
    pub(crate) clock_condition: Option<ClockCondition>,
    /// The Node's resourceVersion, so that a write changes only the Node as it was seen.
    pub(crate) version: Option<String>,
}

/// The type of the condition of a Node that says whether its clock is synchronised.
pub(crate) const CLOCK_CONDITION: &str = "timesync.dev/ClockSynchronized";

/// The condition of that type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClockCondition {
    /// True, False, or Unknown.
    pub(crate) status: Option<bool>,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// The time of the last change of the status.
    pub(crate) since: Option<Timestamp>,
}

impl ClockCondition {
    fn of(node: &Node) -> Option<Self> {
        let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let condition = conditions.find(|condition| condition.type_ == CLOCK_CONDITION)?;
        Some(Self {
            status: match condition.status.as_str() {
                "True" => Some(true),
                "False" => Some(false),
                _ => None,
            },
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
            since: condition.last_transition_time.as_ref().map(|time| time.0),
        })
    }
}

impl NodeFacts {
    pub(crate) fn of(node: &Node) -> Self {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        Self {
            name: node.name_any(),
            uid: node.uid().unwrap_or_default(),
            labels: node.labels().clone(),
            taints: node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            boot_id: info.map(|info| info.boot_id.clone()).unwrap_or_default(),
            clock_condition: ClockCondition::of(node),
            version: node.resource_version(),
            addresses: internal_addresses(node),
        }
    }

    /// Returns true if the other one needs no other plan: policies and agents are placed by labels and taints, and
    /// nodes ask each other at their addresses.
    pub(crate) fn is_placed_like(&self, other: &Self) -> bool {
        let Self { name, uid, labels, taints, addresses, boot_id: _, clock_condition: _, version: _ } = self;
        (name, uid, labels, taints) == (&other.name, &other.uid, &other.labels, &other.taints)
            && *addresses == other.addresses
    }

    /// Returns true if the other one differs in its version at most. Kubelet changes the version every few minutes.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let written = (&self.boot_id, &self.clock_condition) == (&other.boot_id, &other.clock_condition);
        self.is_placed_like(other) && written
    }

    /// The zone in which it is.
    pub(crate) fn zone(&self) -> Option<&str> {
        self.labels.get("topology.kubernetes.io/zone").map(String::as_str)
    }
}

fn internal_addresses(node: &Node) -> Vec<IpAddr> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    all.filter(|each| each.type_ == "InternalIP").filter_map(|each| each.address.parse().ok()).collect()
}

/// The fields of an agent's pod that the operator uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentPod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) created: Option<Timestamp>,
    /// The address of its HTTP server, once the node's address is known.
    pub(crate) address: Option<(String, u16)>,
    /// The present annotation; none if absent.
    pub(crate) annotation: Option<String>,
    /// The pod's resourceVersion, so that a write changes only the pod as it was seen.
    pub(crate) version: Option<String>,
}

impl AgentPod {
    /// The assignment in the annotation.
    pub(crate) fn assignment(&self) -> Assignment {
        self.annotation.as_deref().map_or(Assignment::Unassigned, Assignment::from_annotation)
    }

    /// Reads a pod; none if it is not on a node, or is being deleted.
    pub(crate) fn of(pod: &Pod, default_port: u16) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let status = pod.status.as_ref();
        let ended = matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
        if ended || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
        let port = ports
            .into_iter()
            .find(|port| port.name.as_deref() == Some("http"))
            .map(|port| port.container_port);
        let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(default_port);
        Some(Self {
            name: pod.name_any(),
            uid: pod.uid()?,
            node: spec.node_name.clone()?,
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            address: status.and_then(|s| s.host_ip.clone()).map(|host| (host, port)),
            annotation: pod.annotations().get(Assignment::ANNOTATION).cloned(),
            version: pod.resource_version(),
        })
    }

    /// Returns true if the annotation has to be written.
    pub(crate) fn lacks(&self, wanted: &Assignment) -> bool {
        self.annotation.as_deref() != Some(&wanted.to_string())
    }
}

/// The instant of a time that an object states, as far as the clock knows; without a time, now. `now` and `time` are the
/// same moment.
pub(crate) fn since(at: Option<Timestamp>, now: Instant, time: Timestamp) -> Instant {
    let age = at.and_then(|at| Duration::try_from(time.duration_since(at)).ok());
    age.and_then(|age| now.checked_sub(age)).unwrap_or(now)
}

/// Returns true if a version is older than another one. Versions of one resource compare as numbers (Kubernetes API
/// conventions).
pub(crate) fn is_older(version: Option<&str>, than: Option<&str>) -> bool {
    let number = |version: Option<&str>| version.and_then(|version| version.parse::<u64>().ok());
    number(version).zip(number(than)).is_some_and(|(version, than)| version < than)
}
