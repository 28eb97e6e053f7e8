//! TimeSyncPolicy: its spec, with the limits and rules of each field.
//!
//! `kubectl explain` shows the comments of fields. The API server writes defaults into the stored object. They are
//! those of `profile::ranges`; a test of the operator compares them.
use kube::{CustomResource, KubeSchema};
use profile::ranges;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    LabelSelector, NodeTaint, Restrict, Rollout, Serve, TimeSyncPolicyStatus, Upstream, rules, schema,
};

/// The spec of a TimeSyncPolicy.
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
    doc = "TimeSyncPolicy configures the clocks of a set of nodes: their sources of time, the access list of their NTP servers, and how the clocks are corrected.",
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
        description = "Nodes to which the policy applies"
    ),
    printcolumn(
        name = "Updated",
        type_ = "string",
        json_path = ".status.updated",
        description = "Of the policy's nodes, those that run its present profile"
    ),
    printcolumn(
        name = "Paused",
        type_ = "string",
        json_path = ".status.rollout.paused",
        description = "Why the rollout is paused; empty if it is not"
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
        description = "Nodes where another program steers the clock, so the agent only observes",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(rules::NAME_LENGTH).message("the name of a policy must have at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::SOMETHING_TO_FOLLOW).message("mode Discipline needs at least one upstream without noselect, or stratum.local").field_path(".upstreams"),
    validation = Rule::new(rules::ONE_PREFERRED).message("at most one upstream may be preferred").field_path(".upstreams"),
    validation = Rule::new(rules::NO_SERVER_TWICE).message("list a server or peer only once: otherwise it would have two votes").field_path(".upstreams"),
    validation = Rule::new(rules::NO_PLACE_TWICE).message("list a pool or device only once: otherwise it would have two votes").field_path(".upstreams"),
    validation = Rule::new(rules::NOT_TOO_MANY_NODES).message("more than 16 upstreams: an upstream with nodes counts as its max").field_path(".upstreams"),
    validation = Rule::new(rules::NO_NAME_OF_A_NODE).message("an upstream has the name of a node of another upstream: the nodes of tier are tier-1 to tier-8").field_path(".upstreams"),
    validation = Rule::new(rules::ENOUGH_SOURCES).message("clock.minSources is larger than the number of sources: a server, peer or device counts as one, a pool as its maxSources, nodes as their max, an upstream with noselect as none").field_path(".clock"),
    validation = Rule::new(rules::ORPHAN_NEEDS_OTHERS).message("stratum.orphan requires the other nodes among the upstreams, as nodes or peers").field_path(".stratum"),
    validation = Rule::new(rules::UPSTREAM_NOT_IGNORED).message("an upstream is covered by a restrict entry with `ignore`, so its replies would be dropped").field_path(".restrict"),
    validation = Rule::new(rules::NOT_ALL_IGNORED).message("an upstream is given by name, and every restrict entry has `ignore`, so its replies would be dropped").field_path(".restrict"),
)]
pub struct TimeSyncPolicySpec {
    /// Selects the nodes of this policy by their labels. If absent, all nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = StructMerge::Atomic)]
    pub node_selector: Option<LabelSelector>,
    /// If several policies select a node, the one with the highest priority applies, then the oldest, then the first by
    /// name. The condition RolledOut of the others says how many nodes have another policy. Default: 0.
    #[serde(default)]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: i32,
    /// Discipline corrects the clock. Observe only measures and reports. Default: Discipline.
    #[serde(default)]
    pub mode: Mode,
    /// The sources of time: NTP servers, pools, peers, nodes and hardware clocks; at most 16. With three or more, a
    /// falseticker is outvoted. Required in mode Discipline unless stratum.local is set. There is no default: use
    /// servers of your choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = ranges::MOST_UPSTREAMS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub upstreams: Option<Vec<Upstream>>,
    /// The access list of the NTP server, like `restrict` in ntp.conf. Of all entries that contain an address only the
    /// most specific one applies. If absent, every address is served at a limited rate, and the node itself without a
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = ranges::MOST_RESTRICT))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["source".into()]))]
    pub restrict: Option<Vec<Restrict>>,
    /// How nodes serve time without usable upstreams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stratum: Option<Stratum>,
    /// The NTP server on each node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serve: Option<Serve>,
    /// How a clock is corrected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// The hardware clock, which keeps time while a node is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtc: Option<Rtc>,
    /// The node's time zone, such as Asia/Shanghai or UTC: the agent makes it the target of the host's /etc/localtime.
    /// The host must have the zone in /usr/share/zoneinfo. The former target is restored when no policy sets a time
    /// zone any more. Containers have their own time zones. If absent, and in mode Observe, the time zone is not
    /// changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = ranges::LONGEST_TIMEZONE))]
    #[x_kube(
        validation = Rule::new(rules::TIMEZONE).message("timezone must be the name of a time zone, as in Asia/Shanghai, America/Argentina/Buenos_Aires or UTC"),
        validation = Rule::new(rules::TIMEZONE_OF_CLOCK).message("a time zone under right/ counts leap seconds, which the system clock does not: remove right/ from the name"),
    )]
    pub timezone: Option<String>,
    /// The thresholds at which a deviation counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
    /// Taints nodes whose clock is not synchronised, so that no pods are placed there. Needs operator.nodes.taints in
    /// the chart's values. If absent, no node is tainted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_taint: Option<NodeTaint>,
    /// How a new profile goes to the nodes: an edit of this policy, and nodes that it takes over from another policy.
    /// If absent, all nodes get it at once. An object without fields (`rollout: {}`) has the defaults. Nodes without any
    /// profile get one at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// Discipline corrects clocks; Observe only measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Mode {
    /// Measure, report, and correct the clock.
    #[default]
    Discipline,
    /// Measure and report only.
    Observe,
}

/// How nodes serve time without usable upstreams.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::ORPHAN_LOCAL).message("orphan requires local, between 2 and 14: the stratum at which the elected node serves").field_path(".orphan"),
    validation = Rule::new(rules::ACTIVATION_NEEDS_LOCAL).message("activateAfter requires local: it says when local begins").field_path(".activateAfter"),
    validation = Rule::new(rules::ACTIVATION_RANGE).message("activateAfter must be at most 24h").field_path(".activateAfter"),
)]
pub struct Stratum {
    /// The stratum at which the node serves its own clock while no upstream is usable (all are silent, unsynchronised,
    /// deny service, or have a too large root distance), like `local stratum` in chrony. It is for clusters without a
    /// connection to time servers. The clock is not served while upstreams disagree with each other or with it. An
    /// upstream of this stratum or more counts as a local clock: a node that follows it has the reason LocalReference.
    /// If absent, an unsynchronised agent tells its clients that it is unsynchronised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = ranges::LOCAL_STRATUM.least, max = ranges::LOCAL_STRATUM.most))]
    pub local: Option<i32>,
    /// Orphan mode: of the nodes that have lost all upstreams and ask each other, as peers or by nodes, one serves its
    /// clock at the stratum `local`, and the others follow it. If it fails, another one takes its place. All must have
    /// the same value of local, and ask each other at their node addresses, in one address family. Default: false.
    #[serde(default)]
    pub orphan: bool,
    /// The time without usable upstreams before the node's own clock is served, at most 24h. A duration, such as 300s.
    /// Default: 64s, with orphan 300s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = rules::SPAN))]
    pub activate_after: Option<String>,
}

/// How a clock is corrected.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::STEP_WITHIN_MAX_CHANGE).message("step.threshold (10ms if absent) must not be larger than maxChange").field_path(".maxChange"),
    validation = Rule::new(rules::MAX_CHANGE_RANGE).message("maxChange must be at most 999999h").field_path(".maxChange"),
    validation = Rule::new(rules::DISTANCE_RANGE).message("maxDistance must be from 1ms to 16s").field_path(".maxDistance"),
)]
pub struct Clock {
    /// Steps of the clock. They happen only from a node's boot to its first synchronisation; later the clock is slewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// The largest slew rate, in parts per million: 500 corrects 0.5 ms per second. Default: 500.
    #[serde(default = "max_slew_rate")]
    #[schemars(range(min = ranges::MAX_SLEW_RATE.least, max = ranges::MAX_SLEW_RATE.most))]
    pub max_slew_rate: i32,
    /// The largest correction after the first synchronisation of a boot. A larger one is refused: the node reports it
    /// and does not change its clock. A duration, such as 1000s or 1h30m. Default: 1000s.
    #[serde(default = "max_change")]
    #[schemars(schema_with = "schema::span")]
    pub max_change: String,
    /// The largest root distance of a usable source: its largest possible error, by its own values and half of the
    /// round trip. Windows domain controllers report 10s; for those set 16s, and thresholds.errorBound above 10s. From
    /// 1ms to 16s. A duration, such as 1500ms. Default: 1500ms.
    #[serde(default = "max_distance")]
    #[schemars(schema_with = "schema::span")]
    pub max_distance: String,
    /// The number of sources that must agree before a clock is corrected. A server or a device counts as one, a pool as
    /// its maxSources, nodes as their max. Default: 1 if there are one or two sources other than peers, else 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = ranges::MIN_SOURCES.least, max = ranges::MIN_SOURCES.most))]
    pub min_sources: Option<i32>,
    /// What happens after another process has stepped the clock (`date -s`, an administration tool, a hypervisor). In
    /// each case the node becomes unsynchronised at once, reports it, and asks its sources again. Restore: the clock is
    /// stepped back by the size of the jump; maxChange bounds only the part of the offset beyond it. Accept: the clock
    /// continues from the new time, and the offset is slewed, within maxChange, like any other offset. Report: the
    /// clock is left as it is, unsynchronised, until another process corrects it or the policy changes. The same
    /// applies to the offset after the node was suspended or paused, always within maxChange. A second step within 10
    /// minutes is a conflict: see the condition Conflict of NodeClock. Default: Restore.
    #[serde(default)]
    pub on_external_step: OnExternalStep,
    /// How leap seconds are applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leap: Option<Leap>,
}

/// What happens after another process has stepped the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum OnExternalStep {
    /// The clock is stepped back.
    #[default]
    Restore,
    /// The clock continues from the new time.
    Accept,
    /// The clock is left as it is.
    Report,
}

/// How leap seconds are applied.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leap {
    /// Kernel: the kernel inserts or deletes the second. Step: the agent steps the clock at that moment. Slew: the
    /// agent slews the clock afterwards. Ignore: nothing is done, and the offset is corrected once it is measured.
    /// Default: Kernel.
    #[serde(default)]
    pub mode: LeapMode,
    /// Upstream: all upstreams smear leap seconds in the same way, so they announce none, and nodes apply none. An
    /// upstream that announces a leap second does not smear, and is not used. None: the upstreams do not smear.
    /// Default: None.
    #[serde(default)]
    pub smear: Smear,
}

/// What corrects the clock for a leap second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum LeapMode {
    /// The kernel, in the second itself.
    #[default]
    Kernel,
    /// The agent, by a step.
    Step,
    /// The agent, by a slew afterwards.
    Slew,
    /// Nothing.
    Ignore,
}

/// Which upstreams smear leap seconds, which means that they spread the leap second over hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Smear {
    /// No upstream smears.
    #[default]
    None,
    /// All upstreams smear in the same way.
    Upstream,
}

fn max_slew_rate() -> i32 {
    number(profile::Clock::default().max_slew_rate)
}

/// Defaults are far below 2^31.
fn number(default: u32) -> i32 {
    i32::try_from(default).unwrap_or(i32::MAX)
}

fn max_change() -> String {
    profile::Clock::default().max_change.to_string()
}

fn max_distance() -> String {
    profile::Clock::default().max_distance.to_string()
}

/// Steps of the clock.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(rules::STEP_POSITIVE).message("threshold must be larger than 0s; for no steps at all set limit: 0").field_path(".threshold"))]
pub struct Step {
    /// A larger offset is stepped, a smaller one is slewed. A duration, such as 10ms. Default: 10ms.
    #[serde(default = "step_threshold")]
    #[schemars(schema_with = "schema::span")]
    pub threshold: String,
    /// The largest number of steps per boot of the node, over restarts of the agent. 0 means never. Default: 3.
    #[serde(default = "step_limit")]
    #[schemars(range(min = ranges::STEP_LIMIT.least, max = ranges::STEP_LIMIT.most))]
    pub limit: i32,
}

fn step_threshold() -> String {
    profile::Step::default().threshold.to_string()
}

fn step_limit() -> i32 {
    number(profile::Step::default().limit)
}

/// The hardware clock.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rtc {
    /// Kernel: the kernel writes the hardware clock every 11 minutes while the clock is synchronised. Verified: the
    /// agent writes it, too, once the clock is synchronised and whenever the hardware clock is off, and reads it back.
    /// Default: Kernel.
    #[serde(default)]
    pub mode: RtcMode,
}

/// What writes the hardware clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum RtcMode {
    /// The kernel, every 11 minutes.
    #[default]
    Kernel,
    /// The agent, too, and it reads back what it wrote.
    Verified,
}

/// The thresholds at which a deviation counts. Each is a duration, such as 50ms.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(rules::HOLD_RANGE).message("hold must be between 1s and 24h").field_path(".hold"),
    validation = Rule::new(rules::THRESHOLDS_POSITIVE).message("offset, errorBound and spread must be larger than 0s").field_path(".errorBound"),
    validation = Rule::new(rules::THRESHOLDS_RANGE).message("offset, errorBound and spread must be at most 999999h").field_path(".errorBound"),
)]
pub struct Thresholds {
    /// Offset of a node. If it is larger for the time `hold`, the policy is not Synchronized. Default: 50ms.
    #[serde(default = "deviation")]
    #[schemars(schema_with = "schema::span")]
    pub offset: String,
    /// Error bound of a node: the largest possible error of its clock. If it is larger, the node is unsynchronised at
    /// once, also for its clients. Default: 200ms.
    #[serde(default = "error_bound")]
    #[schemars(schema_with = "schema::span")]
    pub error_bound: String,
    /// Difference between two nodes. If it is larger for the time `hold`, the policy is not Synchronized. Default:
    /// 50ms.
    #[serde(default = "deviation")]
    #[schemars(schema_with = "schema::span")]
    pub spread: String,
    /// The time for which offset or spread must exceed its threshold, 1s to 24h. Default: 60s.
    #[serde(default = "hold")]
    #[schemars(schema_with = "schema::span")]
    pub hold: String,
}

fn deviation() -> String {
    profile::Thresholds::default().offset.to_string()
}

fn error_bound() -> String {
    profile::Thresholds::default().error_bound.to_string()
}

fn hold() -> String {
    profile::Thresholds::default().hold.to_string()
}
