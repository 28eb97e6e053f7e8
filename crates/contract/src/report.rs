//! The report: what an agent answers to `GET /status?after=N&wait=30s`, as JSON.
//!
//! Numbers are in seconds, ratios without a unit. An offset is this clock minus true time: a positive one means that
//! this clock is ahead, as in chronyc's output. Times are seconds since the Unix epoch by this node's clock.
use serde::{Deserialize, Serialize};

use crate::{Assignment, Mode, ProfileFailure, ProfileName, RtcReport, ServingFailure, Transition};

/// The whole report of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The agent's version.
    pub version: String,
    /// The kernel's boot id (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
    /// Differs for each start of the agent. Sequence and transition numbers begin again with each start.
    pub instance: String,
    /// Increases with each change worth reporting. `after=N` waits for a number above N.
    pub sequence: u64,
    /// The annotation's value when it was last read.
    pub assignment: Assignment,
    /// The running profile; none before the first one, and after `none`.
    pub profile: Option<ProfileName>,
    /// Why the assigned profile does not run, or runs with less than it asks for.
    pub profile_error: Option<ProfileError>,
    /// What the running profile allows; none if no profile runs.
    pub mode: Option<Mode>,
    /// The system clock.
    pub clock: ClockReport,
    /// The upstreams, in the profile's order.
    pub sources: Vec<SourceReport>,
    /// Another process steers the clock, and the agent has stopped steering; none if there is no other process.
    pub conflict: Option<ConflictReport>,
    /// The hardware clock.
    pub rtc: RtcReport,
    /// The node's time zone, if the profile sets it.
    pub timezone: Option<TimezoneReport>,
    /// The static pod that sets the clock before the API server can be reached; none if the agent's file does not ask
    /// for it.
    #[serde(default)]
    pub boot: Option<BootReport>,
    /// Why the agent cannot write its state folder, so that it will lose what it knows when it ends; none if it can.
    #[serde(default)]
    pub state_error: Option<String>,
    /// The server.
    pub server: ServerReport,
    /// Why the port of /status is not open; empty if it is open. While it is closed, only the local socket can show
    /// this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub http_message: String,
    /// The newest transitions, oldest first, so that a reader misses none between two polls.
    pub transitions: Vec<Transition>,
}

/// The fault of an assigned profile: it was refused and the profile before it still runs, or it runs with less than it
/// asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileError {
    /// The reason, in one word.
    pub reason: ProfileFailure,
    /// The fault in detail, for a reader.
    pub message: String,
}

/// The system clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClockReport {
    /// A majority was found, and the error bound is within the threshold.
    pub synchronized: bool,
    /// The reason, in one word.
    pub reason: Reason,
    /// The reason in detail, for a reader.
    pub message: String,
    /// 0 none, 1 insert, 2 delete, 3 unknown (RFC 5905 §7.3).
    pub leap: u8,
    /// 1 to 15; 16 if unsynchronised.
    pub stratum: u8,
    /// Name of the selected upstream.
    pub reference: Option<String>,
    /// This clock minus true time, as estimated; none before the first estimate.
    pub offset: Option<f64>,
    /// Standard deviation of the reference's samples.
    pub jitter: Option<f64>,
    /// Largest error that this clock can have: the sum of |offset|, root delay / 2, root dispersion and their growth.
    pub error_bound: Option<f64>,
    /// Round-trip delay to the primary reference.
    pub root_delay: f64,
    /// Dispersion to the primary reference at present.
    pub root_dispersion: f64,
    /// The correction that keeps the clock right, parts per million. If positive, the clock is sped up.
    pub frequency_ppm: f64,
    /// The kernel's present frequency, slew included, parts per million.
    pub kernel_frequency_ppm: f64,
    /// Age of the last update, seconds.
    pub last_update_age: Option<f64>,
    /// Number of steps: those of start phases since the node's boot, the others since the agent's start.
    pub steps: u32,
    /// Of these, steps that undid a step by another process.
    #[serde(default)]
    pub restored: u32,
    /// Of these, steps after the node was suspended or paused.
    #[serde(default)]
    pub resumed: u32,
    /// Of these, steps forward to the last time known to be right, before any upstream could be asked.
    #[serde(default)]
    pub raised: u32,
    /// The last of these steps since the agent's start.
    pub last_step: Option<StepReport>,
    /// Number of steps by other processes since the agent's start.
    #[serde(default)]
    pub external_steps: u32,
    /// The last step by another process.
    pub last_external_step: Option<StepReport>,
    /// True until the first synchronisation of this boot.
    pub start_phase: bool,
    /// True if the clock was compared with an answer that was accepted under the running profile. False after each
    /// change of the profile until then; holdover does not change it. Also true while the node serves its own clock
    /// because the profile has no upstreams, or as the elected orphan. Older agents do not say it.
    #[serde(default)]
    pub confirmed: bool,
}

/// Why a clock is, or is not, synchronised: reasons of the condition `Synchronized`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// A majority of the sources agrees and is reachable.
    Synchronized,
    /// No source is reachable. The clock runs on its last frequency, and its error bound is still within the threshold.
    Holdover,
    /// No profile runs.
    NoProfile,
    /// The profile has no upstreams. If time is served, it is the local clock's.
    NoUpstreams,
    /// The first answers have not come yet.
    Starting,
    /// No upstream answers.
    Unreachable,
    /// Some upstreams answer, but none can be used.
    NoUsableUpstream,
    /// The sources contradict each other: there is no majority.
    NoMajority,
    /// Fewer sources agree than `minSources`.
    TooFewSources,
    /// No source with `require` can be followed.
    RequiredMissing,
    /// The error bound exceeds the threshold.
    ErrorBound,
    /// The needed correction is larger than `maxChange`.
    MaxChange,
    /// The clock follows a local clock, its own or another machine's. It agrees with its group, but UTC is unknown.
    /// Older agents had two words for it.
    #[serde(alias = "OrphanChild", alias = "OrphanParent")]
    LocalReference,
    /// The clock was moved, but not by the agent. It is being measured again.
    UnexplainedJump,
    /// Another process moved the clock, and the profile says `Report`: the agent does not move it back.
    ExternalStep,
    /// A reason that only a newer agent knows. An agent itself sends this one only in [`crate::Synchronized`], while its
    /// event loop stands still.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// The reason as one word.
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

/// Another process steers the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConflictReport {
    /// When the conflict was noticed.
    pub since: f64,
    /// What was seen, which program may have done it, and what to do about it, for a reader. It has no numbers that
    /// change.
    pub message: String,
    /// Programs of this node that steer clocks, such as `chronyd (pid 312)`.
    pub suspects: Vec<String>,
}

/// The node's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimezoneReport {
    /// The zone that /etc/localtime leads to now; none if that is unknown.
    pub name: Option<String>,
    /// Why it is not the zone in the profile; empty if it is.
    pub message: String,
}

/// The static pod that sets the clock after a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// What is on the node now.
    pub state: BootPodState,
    /// What is wrong, or which request removed the static pod; empty if there is nothing to say.
    pub message: String,
}

/// What is on the node of the static pod that sets the clock after a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BootPodState {
    /// It is not installed, and need not be.
    Absent,
    /// Its manifest and its program are installed.
    Installed,
    /// It is not as it should be.
    Failed,
}

impl BootPodState {
    /// The state as one word.
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
    /// When the clock was stepped, by the new time.
    pub at: f64,
    /// The size of the step; positive if forward.
    pub by: f64,
}

/// One upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its name in the profile.
    pub name: String,
    /// The address that is polled; none while the name does not resolve.
    pub address: Option<String>,
    /// The result of selection.
    pub state: SourceState,
    /// Why the source is not used, or what is wrong with it; empty if nothing is.
    pub message: String,
    /// The last eight polls, one bit for each, the newest lowest (RFC 5905 §9.2).
    pub reach: u8,
    /// The upstream's stratum; 16 if unknown.
    pub stratum: u8,
    /// This clock minus the upstream's time, as estimated.
    pub offset: Option<f64>,
    /// Round-trip delay of the newest sample.
    pub delay: Option<f64>,
    /// Standard deviation of the samples.
    pub jitter: Option<f64>,
    /// Poll interval, log2 seconds.
    pub poll: i8,
    /// Seconds since the last good answer.
    pub last_answer_age: Option<f64>,
    /// Requests sent.
    pub sent: u64,
    /// Answers used.
    pub received: u64,
    /// Answers refused.
    pub rejected: u64,
}

/// The result of selection for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SourceState {
    /// The name does not resolve.
    Unresolved,
    /// No answer in the last eight polls.
    Unreachable,
    /// There are too few samples yet.
    Measuring,
    /// It answers, but cannot be used (it is unsynchronised, too distant, in a loop, or sends a kiss).
    Unusable,
    /// It contradicts the majority.
    Falseticker,
    /// There is no majority.
    NoMajority,
    /// It is not within the interval of the trusted sources.
    Untrusted,
    /// It is only measured (`noselect`).
    Noselect,
    /// It agrees, but is not needed, because a preferred source is there.
    Agreeing,
    /// It agrees, and is combined with the selected one.
    Combined,
    /// It is selected: the clock follows it.
    Selected,
    /// A state that only a newer agent knows. An agent never sends this one itself.
    #[serde(other)]
    Unknown,
}

impl SourceState {
    /// Every state that an agent can report, for metrics with one series for each state.
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

    /// The state as one word.
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
    /// True if the profile asks for an NTP server.
    #[serde(default = "wanted")]
    pub enabled: bool,
    /// True if the port is open.
    pub serving: bool,
    /// Why the port is not open, in one word, if it should be open.
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

/// The default for reports of older agents without this field. If their port is closed, it should be open, since only a
/// policy closes it on purpose.
fn wanted() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RtcHealth, TransitionKind};

    /// A report of an earlier version, as that version wrote it.
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
