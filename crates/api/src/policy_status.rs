//! The status of a TimeSyncPolicy, which the operator alone writes.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimeSyncPolicyStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The profile made from the spec, `<policy>.<hash>`; of a refused spec: the last good one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262))]
    pub profile: Option<String>,
    /// Nodes, counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
    /// The node that is furthest off, of those that are synchronised and not in holdover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst: Option<WorstNode>,
    /// The largest difference between the offsets of two such nodes, as in 207us.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub spread: Option<String>,
    /// Ready: accepted and rolled out. Accepted: the spec can be carried out. RolledOut: every node runs it. Synchronized:
    /// every node's clock is synchronised, and offsets and spread are within their thresholds. UpstreamsReachable: every
    /// node has at least one upstream that gives time. Conflict: on some node somebody else steers the clock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// Nodes, counted.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Nodes that the selector matches and no other policy takes, and where an agent can run.
    pub matched: i32,
    /// Of them, nodes whose agent runs the profile.
    pub applied: i32,
    /// Of them, nodes whose clock is synchronised.
    pub synchronized: i32,
    /// Of them, nodes where somebody else steers the clock, so that the agent only observes.
    #[serde(default)]
    pub conflicting: i32,
    /// Of them, nodes whose clock the agent stepped since their boot.
    pub stepped: i32,
    /// Of the synchronised ones, nodes that reach no upstream, and whose clock is still right within its bound.
    #[serde(default)]
    pub holdover: i32,
    /// Nodes that the selector matches, and where no agent can run: the DaemonSet's node selector, affinity and tolerations
    /// leave them out. They are counted nowhere else, and no condition waits for them.
    #[serde(default)]
    pub without_agent: i32,
}

/// The synchronised node that is furthest off.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorstNode {
    /// Its name.
    #[schemars(length(max = 253))]
    pub node: String,
    /// Its clock minus true time, as in -412us: negative is behind.
    #[schemars(length(max = 32))]
    pub offset: String,
    /// The largest error that its clock can have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub error_bound: Option<String>,
}
