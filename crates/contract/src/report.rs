//! The report: what an agent answers to `GET /status?after=N&wait=30s`, as JSON.
//!
//! Numbers are in seconds, ratios as such. Signs: an offset is this clock minus true time, so a positive one means
//! that this clock is ahead, as chronyc prints it. Times are seconds since the Unix epoch by this node's clock.
use serde::{Deserialize, Serialize};

use crate::{Assignment, Mode, ProfileFailure, ProfileName, RtcReport, ServingFailure, Transition};

/// All that an agent says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The agent's version.
    pub version: String,
    /// The kernel's boot id (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
    /// Differs for each start of the agent: sequence and transition numbers begin anew with it.
    pub instance: String,
    /// Counts up with each change worth telling; `after=N` waits for a larger one.
    pub sequence: u64,
    /// What the annotation said when last read.
    pub assignment: Assignment,
    /// The running profile; none before the first, and after `none`.
    pub profile: Option<ProfileName>,
    /// Why the assigned profile is not the running one.
    pub profile_error: Option<ProfileError>,
    /// What the running profile allows; none if none runs.
    pub mode: Option<Mode>,
    /// The system clock.
    pub clock: ClockReport,
    /// The upstreams, in the profile's order.
    pub sources: Vec<SourceReport>,
    /// Somebody else steers the clock, and the agent stands back; none while it is alone.
    pub conflict: Option<ConflictReport>,
    /// The hardware clock.
    pub rtc: RtcReport,
    /// The node's time zone, if the profile sets it.
    pub timezone: Option<TimezoneReport>,
    /// What sets the clock before the API server can be reached; none where the agent's file says nothing of it.
    #[serde(default)]
    pub boot: Option<BootReport>,
    /// Why the agent cannot write its state folder, so that what it knows is gone with it; none while it can.
    #[serde(default)]
    pub state_error: Option<String>,
    /// The server.
    pub server: ServerReport,
    /// Why the port of /status is not open; empty if it is. Only the local socket can say it meanwhile.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub http_message: String,
    /// The newest transitions, oldest first, so that none is missed between two polls.
    pub transitions: Vec<Transition>,
}

/// A profile that was refused, so that the one before it runs on, or that runs with less than it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileError {
    /// Why, in one word.
    pub reason: ProfileFailure,
    /// What is wrong, for a reader.
    pub message: String,
}

/// The system clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClockReport {
    /// A majority was found, and the error bound is within the threshold.
    pub synchronized: bool,
    /// Why, in one word.
    pub reason: Reason,
    /// The same for a reader.
    pub message: String,
    /// 0 none, 1 insert, 2 delete, 3 unknown (RFC 5905 §7.3).
    pub leap: u8,
    /// 1 to 15; 16 while unsynchronised.
    pub stratum: u8,
    /// Name of the upstream that is followed.
    pub reference: Option<String>,
    /// This clock minus true time, as estimated; none before the first estimate.
    pub offset: Option<f64>,
    /// Standard deviation of the reference's samples.
    pub jitter: Option<f64>,
    /// Largest error that this clock can have: |offset|, root delay / 2, root dispersion and growth together.
    pub error_bound: Option<f64>,
    /// Round trip to the primary reference.
    pub root_delay: f64,
    /// Dispersion to the primary reference, now.
    pub root_dispersion: f64,
    /// The correction that keeps the clock right, parts per million; positive: the clock is sped up.
    pub frequency_ppm: f64,
    /// The kernel's frequency right now, slew included, parts per million.
    pub kernel_frequency_ppm: f64,
    /// Age of the last update, seconds.
    pub last_update_age: Option<f64>,
    /// Steps since the node's boot; those that are not of the start phase since the agent's start.
    pub steps: u32,
    /// Of these, those that took a step by somebody else back.
    #[serde(default)]
    pub restored: u32,
    /// Of these, those after the node stood still.
    #[serde(default)]
    pub resumed: u32,
    /// Of these, those forward to the last time known to be right, before anybody could be asked.
    #[serde(default)]
    pub raised: u32,
    /// The last of them since the agent's start.
    pub last_step: Option<StepReport>,
    /// Steps by somebody else since the agent's start.
    #[serde(default)]
    pub external_steps: u32,
    /// The last of them.
    pub last_external_step: Option<StepReport>,
    /// Whether this boot's first synchronisation is still to come.
    pub start_phase: bool,
}

/// Why a clock is, or is not, synchronised: reasons of the condition `Synchronized`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// A majority agrees and is reached.
    Synchronized,
    /// No source is reached; the clock runs on its last frequency, still within the bound.
    Holdover,
    /// No profile runs.
    NoProfile,
    /// The profile has no upstreams; the local clock is served, if at all.
    NoUpstreams,
    /// The first answers are awaited.
    Starting,
    /// No upstream answers.
    Unreachable,
    /// No upstream can be used, though some answer.
    NoUsableUpstream,
    /// The sources contradict each other: no majority.
    NoMajority,
    /// Fewer sources agree than `minSources`.
    TooFewSources,
    /// No source with `require` can be followed.
    RequiredMissing,
    /// The error bound is beyond the threshold.
    ErrorBound,
    /// A correction larger than `maxChange` would be needed.
    MaxChange,
    /// The clock has the time of a local clock, its own or that of another machine which it follows: it agrees with its
    /// group, and UTC is unknown. Agents of before had two words for it.
    #[serde(alias = "OrphanChild", alias = "OrphanParent")]
    LocalReference,
    /// The clock was moved, and not by us, and is being measured anew.
    UnexplainedJump,
    /// Somebody else moved the clock, and the profile says `Report`: it is left where it is.
    ExternalStep,
    /// Of an agent that is newer than the reader: one that is not known here. No agent says it of itself.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synchronized => "Synchronized",
            Self::Holdover => "Holdover",
            Self::NoProfile => "NoProfile",
            Self::NoUpstreams => "NoUpstreams",
            Self::Starting => "Starting",
            Self::Unreachable => "Unreachable",
            Self::NoUsableUpstream => "NoUsableUpstream",
            Self::NoMajority => "NoMajority",
            Self::TooFewSources => "TooFewSources",
            Self::RequiredMissing => "RequiredMissing",
            Self::ErrorBound => "ErrorBound",
            Self::MaxChange => "MaxChange",
            Self::LocalReference => "LocalReference",
            Self::UnexplainedJump => "UnexplainedJump",
            Self::ExternalStep => "ExternalStep",
            Self::Unknown => "Unknown",
        }
    }
}

/// Somebody else steers the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConflictReport {
    /// Since when.
    pub since: f64,
    /// What was seen, who may have done it, and what to do about it, for a reader. Without numbers that change.
    pub message: String,
    /// Programs of this node that steer clocks, such as `chronyd (pid 312)`.
    pub suspects: Vec<String>,
}

/// The node's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimezoneReport {
    /// What /etc/localtime leads to now; none if that cannot be told.
    pub name: Option<String>,
    /// Why it is not what the profile says; empty if it is.
    pub message: String,
}

/// The static pod that sets the clock after a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// What is on the node.
    pub state: BootPodState,
    /// What is wrong, or who had it removed; empty if nothing is to be said.
    pub message: String,
}

/// What is on the node of the static pod that sets the clock after a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BootPodState {
    /// Nothing, and nothing is wanted.
    Absent,
    /// Manifest and program.
    Installed,
    /// Not what is wanted.
    Failed,
}

impl BootPodState {
    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "Absent",
            Self::Installed => "Installed",
            Self::Failed => "Failed",
        }
    }
}

/// A step of the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// When, by the new time.
    pub at: f64,
    /// By how much; positive: forward.
    pub by: f64,
}

/// One upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its name in the profile.
    pub name: String,
    /// The address that is asked; none while the name does not resolve.
    pub address: Option<String>,
    /// What selection made of it.
    pub state: SourceState,
    /// Why it is not used, or what is wrong; empty if nothing is.
    pub message: String,
    /// The last eight polls, a bit each, the newest lowest (RFC 5905 §9.2).
    pub reach: u8,
    /// Its stratum; 16 if unknown.
    pub stratum: u8,
    /// This clock minus its time, as estimated.
    pub offset: Option<f64>,
    /// Round trip of the newest sample.
    pub delay: Option<f64>,
    /// Standard deviation of its samples.
    pub jitter: Option<f64>,
    /// Poll interval, log2 seconds.
    pub poll: i8,
    /// Seconds since its last good answer.
    pub last_answer_age: Option<f64>,
    /// Requests sent.
    pub sent: u64,
    /// Answers used.
    pub received: u64,
    /// Answers refused.
    pub rejected: u64,
}

/// What selection made of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SourceState {
    /// The name does not resolve.
    Unresolved,
    /// No answer in the last eight polls.
    Unreachable,
    /// Too few samples yet.
    Measuring,
    /// Answers, but cannot be used (unsynchronised itself, too distant, a loop, a kiss).
    Unusable,
    /// Contradicts the majority.
    Falseticker,
    /// There is no majority that it could belong to.
    NoMajority,
    /// Does not lie within what the trusted sources say.
    Untrusted,
    /// Measured only (`noselect`).
    Noselect,
    /// Agrees, and is not needed (a preferred one is there).
    Agreeing,
    /// Agrees, and is combined with the selected one.
    Combined,
    /// The one that is followed.
    Selected,
    /// Of an agent that is newer than the reader: one that is not known here. No agent says it of itself.
    #[serde(other)]
    Unknown,
}

impl SourceState {
    /// Every state that an agent can tell, for metrics with a series per state.
    pub const ALL: [Self; 11] = [
        Self::Unresolved,
        Self::Unreachable,
        Self::Measuring,
        Self::Unusable,
        Self::Falseticker,
        Self::NoMajority,
        Self::Untrusted,
        Self::Noselect,
        Self::Agreeing,
        Self::Combined,
        Self::Selected,
    ];

    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unresolved => "Unresolved",
            Self::Unreachable => "Unreachable",
            Self::Measuring => "Measuring",
            Self::Unusable => "Unusable",
            Self::Falseticker => "Falseticker",
            Self::NoMajority => "NoMajority",
            Self::Untrusted => "Untrusted",
            Self::Noselect => "Noselect",
            Self::Agreeing => "Agreeing",
            Self::Combined => "Combined",
            Self::Selected => "Selected",
            Self::Unknown => "Unknown",
        }
    }
}

/// The server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    /// Whether the profile wants it open.
    #[serde(default = "wanted")]
    pub enabled: bool,
    /// Whether the port is open.
    pub serving: bool,
    /// Why not, in one word, if it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ServingFailure>,
    /// The same with the system's error, and what else is wrong with the server, for a reader; empty if nothing is.
    pub message: String,
    /// Requests answered.
    pub answered: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Kisses sent.
    pub kod: u64,
}

/// What agents from before this field mean by a port that is closed, since a policy has to say otherwise.
fn wanted() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RtcHealth, TransitionKind};

    /// What an agent of the version before said, as it said it.
    const FORMER: &str = r#"{"version":"0.1.0","boot_id":"b","instance":"i","sequence":7,
        "assignment":{"Profile":"default.811c9dc5"},"profile":"default.811c9dc5","profile_error":null,"mode":"Discipline",
        "clock":{"synchronized":true,"reason":"Synchronized","message":"Follows a","leap":0,"stratum":3,"reference":"a",
            "offset":-0.000412,"jitter":null,"error_bound":0.0031,"root_delay":0.001,"root_dispersion":0.002,
            "frequency_ppm":-12.345,"kernel_frequency_ppm":-12.0,"last_update_age":3.0,"steps":1,
            "last_step":{"at":1.0,"by":-3.0},"start_phase":false},
        "sources":[{"name":"a","address":"192.0.2.10","state":"Selected","message":"","reach":255,"stratum":2,
            "offset":null,"delay":null,"jitter":null,"poll":4,"last_answer_age":null,"sent":1,"received":1,"rejected":0}],
        "rtc":{"present":true,"health":"Healthy","message":"","offset":0.1,"read_age":1.0,"writes":1,"write_failures":0},
        "server":{"serving":true,"message":"","answered":1,"dropped":0,"kod":0},
        "transitions":[{"number":1,"at":1.0,"kind":"Stepped","message":"By -3 s"}]}"#;

    #[test]
    fn a_report_of_the_former_version_is_read() {
        let report: Report = serde_json::from_str(FORMER).unwrap();
        assert_eq!((&report.conflict, &report.timezone), (&None, &None));
        assert_eq!((report.clock.external_steps, &report.clock.last_external_step), (0, &None));
        assert_eq!((report.rtc.drift_ppm, report.server.enabled), (None, true));
        let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(again, report);
    }

    #[test]
    fn former_words_for_a_local_reference_are_read() {
        for former in ["OrphanChild", "OrphanParent", "LocalReference"] {
            let text = FORMER.replace("\"reason\":\"Synchronized\"", &format!("\"reason\":\"{former}\""));
            let report: Report = serde_json::from_str(&text).unwrap();
            assert_eq!(report.clock.reason, Reason::LocalReference, "{former}");
        }
    }

    #[test]
    fn words_of_a_newer_agent_do_not_make_its_report_unreadable() {
        let newer = FORMER
            .replace("\"reason\":\"Synchronized\"", "\"reason\":\"Enlightened\"")
            .replace("\"Selected\"", "\"Adored\"")
            .replace("\"Healthy\"", "\"Radioactive\"")
            .replace("\"Stepped\"", "\"Teleported\"")
            .replace("\"sequence\":7", "\"sequence\":7,\"mood\":{\"level\":3}");
        let report: Report = serde_json::from_str(&newer).unwrap();
        assert_eq!(report.clock.reason.as_str(), "Unknown");
        assert_eq!(report.sources[0].state, SourceState::Unknown);
        assert_eq!(report.rtc.health, RtcHealth::Unknown);
        assert_eq!(report.transitions[0].kind, TransitionKind::Unknown);
    }
}
