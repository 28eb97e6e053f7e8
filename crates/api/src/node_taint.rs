//! Taints of nodes whose clock is wrong: the field `nodeTaint` of a policy.
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// Taints a node whose clock is not synchronised, so that pods do not run there.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(rules::TAINT_AFTER_RANGE).message("after must be at most 24h").field_path(".after"))]
pub struct NodeTaint {
    /// NoSchedule: no new pods are placed on the node. NoExecute: pods that do not tolerate the taint are also evicted.
    pub effect: TaintEffect,
    /// The time for which the condition timesync.dev/ClockSynchronized must be False before the node is tainted, at
    /// most 24h. A duration, such as 2m. Default: 2m.
    #[serde(default = "after")]
    #[schemars(schema_with = "schema::span")]
    pub after: String,
    /// The largest number of nodes of the cluster that may have the taint at the same time: a number of nodes (1 to
    /// 5000), or a percentage of all nodes (1% to 100%), rounded up. If more nodes qualify, the cause is probably not
    /// these nodes: no further node is tainted, and the condition TaintsHeld says so. If policies differ, the
    /// smallest value applies to all. Default: 10%.
    #[serde(default = "max_nodes")]
    #[schemars(schema_with = "schema::number_or_percentage")]
    pub max_nodes: IntOrString,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum TaintEffect {
    /// No new pods.
    NoSchedule,
    /// No new pods, and running ones are evicted.
    NoExecute,
}

fn after() -> String {
    "120s".to_owned()
}

fn max_nodes() -> IntOrString {
    IntOrString::String("10%".to_owned())
}
