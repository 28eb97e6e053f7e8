//! The status of a TimeSyncPolicy. Only the operator writes it.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::RolloutStatus;

/// The status of a TimeSyncPolicy.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimeSyncPolicyStatus {
    /// The generation of the spec to which this status belongs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The profile made from the spec, `<policy>.<hash>`. If the spec is not accepted, the last accepted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262))]
    pub profile: Option<String>,
    /// Of the nodes for which this policy takes precedence and that have an agent, those that run `profile`, such as
    /// 3/12.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub updated: Option<String>,
    /// The staged rollout, if the policy has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Numbers of nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
    /// The node with the largest offset, of those that are synchronised and not in holdover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst: Option<WorstNode>,
    /// The largest difference between the offsets of two such nodes, such as 207us.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub spread: Option<String>,
    /// The nodes that upstreams with nodes stand for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["upstream".into()]))]
    #[schemars(length(max = 16))]
    pub tiers: Vec<TierStatus>,
    /// Ready: accepted and rolled out. Accepted: the spec is valid. RolledOut: every node runs it. Synchronized: every
    /// node's clock is synchronised, and offsets and spread are within their thresholds. UpstreamsReachable: every node
    /// has at least one upstream that gives time. Conflict: on at least one node another program steers the clock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// Numbers of nodes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Nodes that have a profile of this policy, or are to have one, and where an agent can run.
    pub matched: i32,
    /// Of these, nodes whose agent runs the profile that the node is to run now. During a staged rollout that is the
    /// earlier one on nodes whose turn has not come; see `updated`.
    pub applied: i32,
    /// Of these, nodes whose clock is synchronised.
    pub synchronized: i32,
    /// Of these, nodes where another program steers the clock, so the agent only observes.
    #[serde(default)]
    pub conflicting: i32,
    /// Of these, nodes whose clock the agent stepped since their boot.
    pub stepped: i32,
    /// Of the synchronised nodes, those that reach no upstream, and whose error bound is still within its threshold.
    #[serde(default)]
    pub holdover: i32,
    /// Nodes that the selector matches, but where no agent can run because of the DaemonSet's node selector, affinity
    /// and tolerations. The other numbers do not include them, and no condition waits for them.
    #[serde(default)]
    pub without_agent: i32,
}

/// The nodes that an upstream with nodes stands for.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TierStatus {
    /// The upstream's name.
    #[schemars(length(max = 32))]
    pub upstream: String,
    /// The nodes.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 16))]
    pub members: Vec<TierMember>,
}

/// A node that is asked for the time.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TierMember {
    /// Its name as a source, such as tier-1, in metrics and in the column SOURCE of `kubectl get nclk`. A node that
    /// takes the place of another one takes its name, too.
    #[schemars(length(max = 34))]
    pub name: String,
    /// The name of its Node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// The address at which it is asked.
    #[schemars(length(max = 45))]
    pub address: String,
}

/// The synchronised node with the largest offset.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorstNode {
    /// Its name.
    #[schemars(length(max = 253))]
    pub node: String,
    /// Its clock minus true time, such as -412us: negative means behind.
    #[schemars(length(max = 32))]
    pub offset: String,
    /// Its error bound: the largest possible error of its clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub error_bound: Option<String>,
}
