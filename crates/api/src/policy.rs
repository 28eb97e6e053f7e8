//! TimeSyncPolicy: its spec, with the limits and rules of each field.
//!
//! Texts beside fields become `kubectl explain`. Defaults are written into the stored object by the API server and
//! equal those of the profile (`contract`); a test of the operator compares them.
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{LabelSelector, Restrict, Serve, TimeSyncPolicyStatus, Upstream, rules};

/// What is wanted.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "timesync.dev",
    version = "v1alpha1",
    kind = "TimeSyncPolicy",
    plural = "timesyncpolicies",
    shortname = "tsp",
    category = "timesync",
    status = "TimeSyncPolicyStatus",
    derive = "PartialEq",
    doc = "TimeSyncPolicy says where the clocks of a set of nodes get their time from, who may ask them for it, and how a clock may be moved.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "Discipline or Observe"),
    printcolumn(
        name = "Synced",
        type_ = "integer",
        json_path = ".status.nodes.synchronized",
        description = "Nodes whose clock is synchronised"
    ),
    printcolumn(
        name = "Nodes",
        type_ = "integer",
        json_path = ".status.nodes.matched",
        description = "Nodes that the policy is in force for"
    ),
    printcolumn(
        name = "Worst",
        type_ = "string",
        json_path = ".status.worst.offset",
        description = "The largest offset of a synchronised node that is not in holdover"
    ),
    printcolumn(
        name = "Spread",
        type_ = "string",
        json_path = ".status.spread",
        description = "The largest difference between two such nodes"
    ),
    printcolumn(
        name = "Conflicting",
        type_ = "integer",
        json_path = ".status.nodes.conflicting",
        description = "Nodes where somebody else steers the clock, so that the agent only observes",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(rules::NAME_LENGTH).message("the name of a policy has at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::SOMETHING_TO_FOLLOW).message("mode Discipline needs at least one upstream without noselect, or stratum.local").field_path(".upstreams"),
    validation = Rule::new(rules::ONE_PREFERRED).message("at most one upstream may be preferred").field_path(".upstreams"),
    validation = Rule::new(rules::NO_SERVER_TWICE).message("a server or peer may be listed once only: twice would give it two votes").field_path(".upstreams"),
    validation = Rule::new(rules::NO_PLACE_TWICE).message("a pool or a device may be listed once only: twice would give it two votes").field_path(".upstreams"),
    validation = Rule::new(rules::ENOUGH_SOURCES).message("clock.minSources is more than can ever agree: servers, peers and devices count once, pools as their maxSources, those with noselect not at all").field_path(".clock"),
    validation = Rule::new(rules::ORPHAN_NEEDS_OTHERS).message("stratum.orphan needs the other nodes among the upstreams, as peers").field_path(".stratum"),
    validation = Rule::new(rules::UPSTREAM_NOT_IGNORED).message("an upstream is covered by a restrict entry with `ignore`, so its answers would be dropped").field_path(".restrict"),
    validation = Rule::new(rules::NOT_ALL_IGNORED).message("an upstream is given by name, and every restrict entry says `ignore`, so its answers would be dropped").field_path(".restrict"),
)]
pub struct TimeSyncPolicySpec {
    /// Nodes that this policy is for, by their labels. Absent: every node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = StructMerge::Atomic)]
    pub node_selector: Option<LabelSelector>,
    /// Of several policies for one node the highest priority wins, then the oldest, then the first by name.
    /// The others say in condition RolledOut how many nodes they lost. Default: 0.
    #[serde(default)]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: i32,
    /// Discipline moves the clock; Observe measures and reports, and moves nothing. Default: Discipline.
    #[serde(default)]
    pub mode: Mode,
    /// Where time comes from: NTP servers, pools of them, peers, hardware clocks; at most 16. With three or more a lying one is
    /// outvoted.
    /// Required in mode Discipline unless stratum.local is set. There is no default: name servers of your own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub upstreams: Option<Vec<Upstream>>,
    /// Who may ask the agents for time, as `restrict` in ntp.conf. Of all entries that cover an address the most
    /// specific one alone supplies the flags. Absent: everybody is served at a limited rate, the node itself freely.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 48))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["source".into()]))]
    pub restrict: Option<Vec<Restrict>>,
    /// What the agents say of themselves when no upstream tells them the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stratum: Option<Stratum>,
    /// The NTP server on each node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serve: Option<Serve>,
    /// How a clock may be moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// The hardware clock, which keeps time while a node is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtc: Option<Rtc>,
    /// The node's time zone: where the host's /etc/localtime is to lead, as in Asia/Shanghai or UTC. The host must have it
    /// in /usr/share/zoneinfo. What was there before is put back when no policy asks for one any more. Containers have
    /// time zones of their own. Absent, and in mode Observe, it is left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new(rules::TIMEZONE).message("timezone must be the name of a time zone, as in Asia/Shanghai, America/Argentina/Buenos_Aires or UTC"),
        validation = Rule::new(rules::TIMEZONE_OF_CLOCK).message("a time zone under right/ counts leap seconds, which the system clock does not: name it without right/"),
    )]
    pub timezone: Option<String>,
    /// From when on a deviation counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
}

/// True if clocks may be moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Mode {
    /// Measure, report, and steer the clock.
    #[default]
    Discipline,
    /// Measure and report; move nothing.
    Observe,
}

/// Serving without upstreams.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::ORPHAN_LOCAL).message("orphan needs local, between 2 and 14: the stratum at which the elected node serves").field_path(".orphan"),
    validation = Rule::new(rules::ACTIVATION_NEEDS_LOCAL).message("activateAfter needs local: it says when local begins").field_path(".activateAfter"),
    validation = Rule::new(rules::ACTIVATION_RANGE).message("activateAfter must be 24h at most").field_path(".activateAfter"),
)]
pub struct Stratum {
    /// While no upstream can be judged (all are silent, not synchronised themselves, refuse to answer, or are too far
    /// from true time), serve the node's own clock at this stratum, as `local stratum` of chrony: for clusters without a
    /// way out. It is never served while upstreams disagree or say that it is wrong. An upstream of this stratum or more
    /// counts as a local clock: whoever follows it has reason LocalReference. Absent: an agent that is not synchronised
    /// says so to its clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 15))]
    pub local: Option<i32>,
    /// Elect: of the nodes that have lost all upstreams and ask each other as peers, one serves its clock at stratum local,
    /// and the others follow it; when it goes, another one does. All must have the same local, and ask each other at
    /// their nodes' addresses, in one family. Default: false.
    #[serde(default)]
    pub orphan: bool,
    /// So long without upstreams before the own clock is served, 24h at most. A duration, as in 300s. Absent: 64s,
    /// with orphan 300s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = rules::SPAN))]
    pub activate_after: Option<String>,
}

/// How a clock may be moved.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::STEP_WITHIN_MAX_CHANGE).message("step.threshold (10ms if absent) must not be larger than maxChange").field_path(".maxChange"),
    validation = Rule::new(rules::MAX_CHANGE_RANGE).message("maxChange must be 999999h at most").field_path(".maxChange"),
    validation = Rule::new(rules::DISTANCE_RANGE).message("maxDistance must be from 1ms to 16s").field_path(".maxDistance"),
)]
pub struct Clock {
    /// Jumps of the clock, from a node's boot until its first synchronisation only; later it is slewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// How fast a clock may be slewed, in parts per million: 500 corrects 0.5 ms each second. Default: 500.
    #[serde(default = "max_slew_rate")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_slew_rate: i32,
    /// After the first synchronisation of a boot a larger correction is refused: the node says so and keeps its
    /// clock. A duration, as in 1000s or 1h30m. Default: 1000s.
    #[serde(default = "max_change")]
    #[schemars(schema_with = "span")]
    pub max_change: String,
    /// The largest root distance at which a source is used: how wrong it can be, by what it says of itself and half of
    /// the round trip. Windows domain controllers say 10s; for those set 16s, and thresholds.errorBound beyond 10s. From
    /// 1ms to 16s. A duration, as in 1500ms. Default: 1500ms.
    #[serde(default = "max_distance")]
    #[schemars(schema_with = "span")]
    pub max_distance: String,
    /// So many sources must agree before a clock is moved. A server or a device is one, a pool as many as its maxSources.
    /// Absent: 1 if there are one or two sources beside peers, else 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub min_sources: Option<i32>,
    /// What is done when somebody else sets the clock (`date -s`, an administration tool, a hypervisor). In each case the
    /// node is unsynchronised at once, says so, and asks its sources anew. Restore: the clock is stepped back, by however
    /// much it was moved; maxChange bounds only what remains beyond that. Accept: it goes on from the new time, and what
    /// that is off by is slewed, within maxChange, as any other offset. Report: it is left where it is, unsynchronised,
    /// until somebody puts it right or the policy changes. The same holds for what a clock is off by after the node was
    /// asleep or paused, always within maxChange. A second time within 10 minutes is a conflict: see condition Conflict of
    /// NodeClock. Default: Restore.
    #[serde(default)]
    pub on_external_step: OnExternalStep,
    /// What is done about leap seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leap: Option<Leap>,
}

/// What is done when somebody else sets the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum OnExternalStep {
    /// It is stepped back.
    #[default]
    Restore,
    /// It goes on from the new time.
    Accept,
    /// It is left where it is.
    Report,
}

/// What is done about leap seconds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leap {
    /// Kernel: the kernel inserts or deletes the second. Step: the agent steps the clock in that moment. Slew: the agent
    /// slews the second away afterwards. Ignore: nothing; the offset is corrected when it is measured. Default: Kernel.
    #[serde(default)]
    pub mode: LeapMode,
    /// Upstream: the upstreams smear leap seconds, all alike, so none is announced and none is made here; one that
    /// announces a leap second is not of that kind, and is not followed. None: they do not. Default: None.
    #[serde(default)]
    pub smear: Smear,
}

/// Who corrects the clock for a leap second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum LeapMode {
    /// The kernel, in the second itself.
    #[default]
    Kernel,
    /// The agent, by a step.
    Step,
    /// The agent, by a slew afterwards.
    Slew,
    /// Nobody.
    Ignore,
}

/// True if leap seconds are smeared: spread over hours in which each second is a little longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Smear {
    /// Nobody smears.
    #[default]
    None,
    /// All upstreams do, alike.
    Upstream,
}

fn max_slew_rate() -> i32 {
    500
}

fn max_change() -> String {
    "1000s".to_owned()
}

fn max_distance() -> String {
    "1500ms".to_owned()
}

/// Jumps of the clock.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(rules::STEP_POSITIVE).message("threshold must be larger than 0s; for no steps at all set limit: 0").field_path(".threshold"))]
pub struct Step {
    /// A larger offset is stepped, a smaller one slewed. A duration, as in 10ms. Default: 10ms.
    #[serde(default = "step_threshold")]
    #[schemars(schema_with = "span")]
    pub threshold: String,
    /// At most so many steps per boot of the node, restarts of the agent included; 0: never step. Default: 3.
    #[serde(default = "step_limit")]
    #[schemars(range(min = 0, max = 1000))]
    pub limit: i32,
}

fn step_threshold() -> String {
    "10ms".to_owned()
}

fn step_limit() -> i32 {
    3
}

/// The hardware clock.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rtc {
    /// Kernel: the kernel writes it every 11 minutes while the clock is synchronised. Verified: the agent writes it
    /// too, as soon as the clock is synchronised and whenever it is off, and reads it back. Default: Kernel.
    #[serde(default)]
    pub mode: RtcMode,
}

/// Who writes the hardware clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum RtcMode {
    /// The kernel, every 11 minutes.
    #[default]
    Kernel,
    /// The agent too, and it reads back what it wrote.
    Verified,
}

/// From when on a deviation counts. Each is a duration, as in 50ms.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::HOLD_RANGE).message("hold must be between 1s and 24h").field_path(".hold"),
    validation = Rule::new(rules::THRESHOLDS_POSITIVE).message("offset, errorBound and spread must be larger than 0s").field_path(".errorBound"),
    validation = Rule::new(rules::THRESHOLDS_RANGE).message("offset, errorBound and spread must be 999999h at most").field_path(".errorBound"),
)]
pub struct Thresholds {
    /// Offset of a node; beyond it, for hold, the policy is not Synchronized. Default: 50ms.
    #[serde(default = "deviation")]
    #[schemars(schema_with = "span")]
    pub offset: String,
    /// Largest error that a node's clock can have; beyond it the node is unsynchronised, at once, and tells its own
    /// clients so. Default: 200ms.
    #[serde(default = "error_bound")]
    #[schemars(schema_with = "span")]
    pub error_bound: String,
    /// Difference between two nodes; beyond it, for hold, the policy is not Synchronized. Default: 50ms.
    #[serde(default = "deviation")]
    #[schemars(schema_with = "span")]
    pub spread: String,
    /// For so long offset or spread must be beyond its threshold, 1s to 24h. Default: 1m.
    #[serde(default = "hold")]
    #[schemars(schema_with = "span")]
    pub hold: String,
}

fn deviation() -> String {
    "50ms".to_owned()
}

fn error_bound() -> String {
    "200ms".to_owned()
}

fn hold() -> String {
    "1m".to_owned()
}

fn span(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 2, "maxLength": 32, "pattern": rules::SPAN})
}
