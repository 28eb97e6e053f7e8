//! NodeClock: the state of the clock of one node. Only the operator writes it, from the reports of the node's agent. It
//! has no spec. Times are texts for users (`-412us`); the agents' metrics have numbers for programs. Every text and
//! list has a limit, which is at least that of an agent's report (`contract::limits`).
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A NodeClock has no spec: it is an observation.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "timesync.dev",
    version = "v1alpha1",
    kind = "NodeClock",
    plural = "nodeclocks",
    shortname = "nclk",
    category = "timesync",
    status = "NodeClockStatus",
    derive = "PartialEq",
    no_spec,
    doc = "NodeClock is the state of the clock of the node of the same name. The operator writes it when something changes, and at least every 5 minutes. Do not edit it.",
    printcolumn(
        name = "Policy",
        type_ = "string",
        json_path = ".status.policy",
        description = "The policy in force"
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.state",
        description = "Synchronized, Holdover, LocalReference, Unsynchronized, or Unknown if there is no recent report of the agent"
    ),
    printcolumn(
        name = "Conflict",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Conflict")].status"#,
        description = "True: another program steers the clock, so the agent only observes"
    ),
    printcolumn(
        name = "Stratum",
        type_ = "integer",
        json_path = ".status.stratum",
        description = "Distance from a reference clock; 16 while unsynchronised"
    ),
    printcolumn(
        name = "Source",
        type_ = "string",
        json_path = ".status.reference",
        description = "The selected upstream"
    ),
    printcolumn(
        name = "Offset",
        type_ = "string",
        json_path = ".status.offset",
        description = "This clock minus true time"
    ),
    printcolumn(
        name = "Bound",
        type_ = "string",
        json_path = ".status.errorBound",
        description = "The error bound: the largest possible error of this clock"
    ),
    printcolumn(
        name = "RTC",
        type_ = "string",
        json_path = ".status.rtc.health",
        description = "The hardware clock"
    ),
    printcolumn(
        name = "Updated",
        type_ = "date",
        json_path = ".status.updatedAt",
        description = "How long ago the operator wrote this; more than 5m: no operator runs, and the rest may be outdated"
    )
)]
pub struct NodeClockFields {}

/// The status of a NodeClock.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeClockStatus {
    /// The policy of the node. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub policy: Option<String>,
    /// The assigned and the running profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileStatus>,
    /// Discipline if the agent steers the clock. Observe if it only measures, because of the profile or a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub mode: Option<String>,
    /// Synchronized: the clock follows upstreams. Holdover: no upstream is reached, but the error bound is still within
    /// its threshold. LocalReference: the clock agrees with its group, but its distance from UTC is not known.
    /// Unsynchronized: the condition Synchronized gives the reason. Unknown: the operator has no recent report of the
    /// agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub state: Option<String>,
    /// True if a majority of upstreams was found and the error bound is within the policy's threshold.
    pub synchronized: bool,
    /// The stratum: distance from a reference clock, 1 to 15; 16 while unsynchronised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stratum: Option<i32>,
    /// Name of the selected upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reference: Option<String>,
    /// This clock minus true time, estimated: -412us means behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub offset: Option<String>,
    /// Standard deviation of the measurements.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub jitter: Option<String>,
    /// The error bound: the largest possible error of this clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub error_bound: Option<String>,
    /// The frequency correction that keeps the clock's rate right, such as -12.345ppm. Positive speeds the clock up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub frequency: Option<String>,
    /// Number of steps by the agent: those of the start phase since the node's boot, the others (after an external
    /// step, after a pause) since the agent's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<i32>,
    /// The last step by the agent since its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_step: Option<LastStep>,
    /// Number of steps by other processes since the agent's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_steps: Option<i32>,
    /// The last step by another process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_external_step: Option<LastStep>,
    /// Another program steers the clock, so the agent only observes. Absent without a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict: Option<ConflictStatus>,
    /// The upstreams, as this node sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 256))]
    pub sources: Vec<SourceStatus>,
    /// The hardware clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtc: Option<RtcStatus>,
    /// The node's time zone. Absent if the policy sets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<TimezoneStatus>,
    /// The node's NTP server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStatus>,
    /// The agent that reported this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// When the agent sent its last report before this was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<Time>,
    /// When this was written. The operator renews it within 5 minutes. If it is older, no operator runs, and this
    /// status may be outdated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Time>,
    /// Ready: the same as Synchronized, for tools that look for it. Synchronized: the clock is synchronised. Conflict:
    /// another program steers the clock. UpstreamsReachable: at least one upstream gives time. RTCHealthy: at the next
    /// boot the hardware clock would give the right time. Serving: the node answers NTP requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// The assigned and the running profile.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileStatus {
    /// The profile that is assigned to the node, `<policy>.<hash>`, or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262))]
    pub wanted: Option<String>,
    /// The profile that the agent runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262))]
    pub running: Option<String>,
    /// Why the assigned profile does not run, such as `ProfileMissing: …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1282))]
    pub error: Option<String>,
}

/// A step of the clock.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastStep {
    /// When, by the time after the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// The size of the step. Positive is forward.
    #[schemars(length(max = 32))]
    pub by: String,
}

/// Another program steers the clock.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConflictStatus {
    /// Since when, by the node's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The sign of the other program, and what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Programs on the node that steer clocks, such as `chronyd (pid 312)`. Absent if none is found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub suspects: Vec<String>,
}

/// The node's time zone.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimezoneStatus {
    /// The target of the host's /etc/localtime. Absent if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub name: Option<String>,
    /// Why it is not the time zone of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// An upstream, as this node sees it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its name in the policy. For a server of a pool a number follows, such as pool#1.
    #[schemars(length(max = 256))]
    pub name: String,
    /// The address that is asked; absent while the name does not resolve.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub address: Option<String>,
    /// The result of the last selection: Unresolved, Unreachable, Measuring, Unusable, Falseticker, NoMajority,
    /// Untrusted, Noselect, Agreeing, Combined or Selected.
    #[schemars(length(max = 32))]
    pub state: String,
    /// Why it is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// The last eight polls as an octal number, as in ntpq: 377 means that all were answered.
    #[schemars(length(max = 8))]
    pub reach: String,
    /// Its stratum; 16 if unknown.
    pub stratum: i32,
    /// This clock minus its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub offset: Option<String>,
    /// Round trip.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub delay: Option<String>,
    /// Standard deviation of its measurements.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub jitter: Option<String>,
    /// Interval between requests, as a power of two in seconds.
    pub poll: i32,
}

/// The hardware clock.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtcStatus {
    /// Unknown (not read, or nothing to compare it with), Healthy, Absent, NoAccess, Unreadable, Off, Drifting,
    /// BatterySuspect, LocalTime or WriteFailed.
    #[schemars(length(max = 32))]
    pub health: String,
    /// The reason of this health, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Hardware clock minus system clock when last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub offset: Option<String>,
    /// Its own rate error, such as 3.500ppm: positive gains, negative loses. Absent until it is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub drift: Option<String>,
    /// Writes by the agent that were verified by reading back.
    pub writes: i64,
    /// Writes by the agent that failed.
    pub write_failures: i64,
}

/// The node's NTP server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// True if its port is open.
    pub serving: bool,
    /// Why the port is not open, if it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Requests answered.
    pub answered: i64,
    /// Packets dropped.
    pub dropped: i64,
    /// Kisses-o'-death sent.
    pub kod: i64,
}

/// The agent that a status comes from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Its version.
    #[schemars(length(max = 256))]
    pub version: String,
    /// The node's boot, by the kernel's boot id.
    #[serde(rename = "bootID")]
    #[schemars(length(max = 256))]
    pub boot_id: String,
    /// The id of this run of the agent. The numbers of transitions begin again with each run.
    #[schemars(length(max = 256))]
    pub instance: String,
    /// The static pod that sets the clock at the node's next boot: Installed, Absent, or Failed with the reason. Absent
    /// if the agent has no such setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1056))]
    pub boot: Option<String>,
    /// Why the agent cannot write its state folder on the node, such as a full disk. Absent while it can. The clock is
    /// still corrected, but not stepped, and what the agent learns is lost at its next restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub state_error: Option<String>,
    /// Number of the last transition that became an Event.
    pub last_transition: i64,
}
