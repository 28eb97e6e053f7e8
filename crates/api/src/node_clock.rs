//! NodeClock: how the clock of one node is doing. The operator alone writes it, from the reports of the node's agent;
//! it has no spec. Lengths of time are texts for readers (`-412us`); numbers for machines are in the agents' metrics. Every
//! text and list has a limit, no less than the operator's for what an agent reports (`contract::limits`).
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Nothing is wanted of a NodeClock: it is an observation.
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
    doc = "NodeClock says how the clock of the node of the same name is doing. The operator writes it when something happens, and within 5 minutes in any case; nobody else should.",
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
        description = "Synchronized, Holdover, LocalReference, Unsynchronized, or Unknown if its agent is not heard of"
    ),
    printcolumn(
        name = "Conflict",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Conflict")].status"#,
        description = "True: somebody else steers the clock, so that the agent only observes"
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
        description = "The upstream that is followed"
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
        description = "Largest error that this clock can have"
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
        description = "How long ago the operator wrote this; more than 5m: no operator runs, and the rest may be untrue"
    )
)]
pub struct NodeClockFields {}

/// What is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeClockStatus {
    /// The policy in force on the node; absent if none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub policy: Option<String>,
    /// What the node is to run, and what it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileStatus>,
    /// Discipline if the agent steers the clock; Observe if the running profile does not let it, or a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub mode: Option<String>,
    /// Synchronized: follows upstreams. Holdover: none is reached, and the error bound still holds. LocalReference: agrees
    /// with its group, and UTC is unknown. Unsynchronized: the condition Synchronized says why. Unknown: its agent is not
    /// heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub state: Option<String>,
    /// True if a majority of upstreams was found and the error bound is within the policy's threshold.
    pub synchronized: bool,
    /// Distance from a reference clock, 1 to 15; 16 while unsynchronised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stratum: Option<i32>,
    /// Name of the upstream that is followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reference: Option<String>,
    /// This clock minus true time, as estimated: -412us is behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub offset: Option<String>,
    /// Standard deviation of the measurements.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub jitter: Option<String>,
    /// Largest error that this clock can have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub error_bound: Option<String>,
    /// The correction that keeps the clock right, as in -12.345ppm; positive: the clock is sped up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub frequency: Option<String>,
    /// Steps of the clock by the agent since the node's boot; those that are not of the start phase (after an external
    /// step, after a pause) since the agent's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<i32>,
    /// The last of them since the agent's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_step: Option<LastStep>,
    /// How often the clock was set by somebody else since the agent's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_steps: Option<i32>,
    /// The last time that this happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_external_step: Option<LastStep>,
    /// Somebody else steers the clock, so that the agent only observes; absent while it is alone.
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
    /// The node's time zone; absent if the policy says nothing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<TimezoneStatus>,
    /// The node's NTP server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStatus>,
    /// The agent that all this comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// When the agent was last heard of before this was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<Time>,
    /// When this was written. The operator renews it within 5 minutes; if it is older, no operator runs, and nothing here is
    /// known to be true any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Time>,
    /// Ready: the same as Synchronized, for tools that look for it. Synchronized: the clock is. Conflict: somebody else steers it. UpstreamsReachable: at least one upstream gives time.
    /// RTCHealthy: the hardware clock would start the node with the right time. Serving: the node answers NTP requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// What the node is to run, and what it runs.
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
    /// Why the wanted one does not run, as in `ProfileMissing: …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1282))]
    pub error: Option<String>,
}

/// A jump of the clock.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastStep {
    /// When, by the new time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// By how much; positive is forward.
    #[schemars(length(max = 32))]
    pub by: String,
}

/// Somebody else steers the clock.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConflictStatus {
    /// Since when, by the node's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// What was seen, and what to do about it.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Programs on the node that steer clocks, as in `chronyd (pid 312)`; absent if none can be seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub suspects: Vec<String>,
}

/// The node's time zone.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimezoneStatus {
    /// Where the host's /etc/localtime leads; absent if that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub name: Option<String>,
    /// Why it is not what the policy asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// An upstream, as this node sees it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its name in the policy; a server of a pool has a number behind it, as in pool#1.
    #[schemars(length(max = 256))]
    pub name: String,
    /// The address that is asked; absent while the name does not resolve.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub address: Option<String>,
    /// What came of it: Unresolved, Unreachable, Measuring, Unusable, Falseticker, NoMajority, Untrusted, Noselect,
    /// Agreeing, Combined or Selected.
    #[schemars(length(max = 32))]
    pub state: String,
    /// Why it is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// The last eight polls as an octal number, as ntpq prints them: 377 means that all were answered.
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
    /// Unknown (not read, or nothing to compare it with), Healthy, Absent, Unreadable, Off, Drifting, BatterySuspect,
    /// LocalTime or WriteFailed.
    #[schemars(length(max = 32))]
    pub health: String,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Hardware clock minus system clock when last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub offset: Option<String>,
    /// What it gains on true time by itself, as in 3.500ppm; negative: it loses. Absent until that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub drift: Option<String>,
    /// Writes by the agent that were read back right.
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
    /// Why not, if it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Requests answered.
    pub answered: i64,
    /// Packets dropped.
    pub dropped: i64,
    /// Clients told to slow down.
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
    /// This run of the agent; numbers of transitions begin anew with it.
    #[schemars(length(max = 256))]
    pub instance: String,
    /// The static pod that sets the clock at the node's next boot: Installed, Absent, or Failed with the reason; absent if
    /// the agent knows of none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1056))]
    pub boot: Option<String>,
    /// Why the agent cannot write its state folder on the node, as on a full disk; absent while it can. The clock is kept
    /// right, but not stepped, and what the agent learns is gone with its next restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub state_error: Option<String>,
    /// Number of the last transition that became an Event.
    pub last_transition: i64,
}
