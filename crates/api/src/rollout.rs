//! Staged rollout: how a new profile goes to the nodes of a policy (spec), and how far it is (status).
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// How a new profile goes to the nodes: first to a few, then in batches, each after the one before it is proven.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(rules::SETTLE_RANGE).message("settle must be between 1s and 24h").field_path(".settle"))]
pub struct Rollout {
    /// The number of nodes that get the profile first. They are taken from different zones. Default: 1.
    #[serde(default = "canary")]
    #[schemars(range(min = 1, max = 1000))]
    pub canary: i32,
    /// The size of each further batch: a number of nodes (1 to 5000), or a percentage of the policy's nodes (1% to
    /// 100%), rounded up. Each batch is spread over the zones (label topology.kubernetes.io/zone). Default: 25%.
    #[serde(default = "batch")]
    #[schemars(schema_with = "schema::number_or_percentage")]
    pub batch: IntOrString,
    /// The next nodes get the profile when each node that has it was synchronised for this time, by an answer that was
    /// accepted under the new profile; holdover does not count. If a node has no such answer within 3 minutes, the
    /// rollout pauses. From 1s to 24h. A duration, such as 30s. Default: 30s.
    #[serde(default = "settle")]
    #[schemars(schema_with = "schema::span")]
    pub settle: String,
    /// Pause if a node that has the new profile, and was well before, gets worse: it is unsynchronised, another program
    /// steers its clock, it refuses the profile, or its offset or error bound is beyond `thresholds`. Default: true.
    #[serde(default = "pause_on_regression")]
    pub pause_on_regression: bool,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            canary: canary(),
            batch: batch(),
            settle: settle(),
            pause_on_regression: pause_on_regression(),
        }
    }
}

fn canary() -> i32 {
    1
}

fn batch() -> IntOrString {
    IntOrString::String("25%".to_owned())
}

fn settle() -> String {
    "30s".to_owned()
}

fn pause_on_regression() -> bool {
    true
}

/// How far the rollout of a policy is. Present if the policy has `rollout`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Progressing: nodes get the profile, stage by stage. Paused: no further node gets it. Aborted: the nodes have the
    /// last good profile again. Done: all nodes have it.
    pub state: RolloutState,
    /// The profile that goes out, `<policy>.<hash>`.
    #[schemars(length(max = 262))]
    pub profile: String,
    /// The generation of the policy whose profile it was. If the profile changes and the policy does not, such as when a
    /// tier has other nodes, a rollout that is paused or aborted stays so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The last profile whose rollout was completed: nodes that join get it, and an abort brings it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262))]
    pub last_good: Option<String>,
    /// Why it is paused. NoAnswer: a node had no accepted answer within 3 minutes. Regression: a node got worse.
    /// Requested: by the annotation timesync.dev/rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<PauseReason>,
    /// The nodes for which it is paused, each with the reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The value of the annotation timesync.dev/rollout that was acted on. It acts only once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub acted: Option<String>,
    /// Nodes that did not prove the profile, and for which the rollout was resumed nevertheless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub excused: Vec<String>,
}

/// The state of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum RolloutState {
    /// Nodes get the profile, stage by stage.
    Progressing,
    /// No further node gets the profile.
    Paused,
    /// The nodes have the last good profile again.
    Aborted,
    /// All nodes have the profile.
    Done,
}

/// Why it is paused. NoAnswer: a node had no accepted answer within 3 minutes. Regression: a node got worse. Requested:
/// by the annotation timesync.dev/rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum PauseReason {
    /// A node had no accepted answer in time.
    NoAnswer,
    /// A node got worse.
    Regression,
    /// A user asked for it.
    Requested,
}

impl PauseReason {
    /// The reason as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAnswer => "NoAnswer",
            Self::Regression => "Regression",
            Self::Requested => "Requested",
        }
    }
}
