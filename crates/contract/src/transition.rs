//! Transitions: numbered records of what happened on a node; a part of the report. Their kinds become reasons of
//! Events.
use serde::{Deserialize, Serialize};

/// A thing that happened once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Increases from 1 within an instance.
    pub number: u64,
    /// When it happened.
    pub at: f64,
    /// What happened.
    pub kind: TransitionKind,
    /// The details, for a reader.
    pub message: String,
}

/// The kinds of transition. They are reasons of Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TransitionKind {
    /// The clock became synchronised for the first time since the agent's start.
    Synchronized,
    /// The clock follows a local clock from now on: UTC is unknown.
    LocalReference,
    /// The clock is not synchronised any more.
    SynchronizationLost,
    /// The clock became synchronised again.
    SynchronizationRegained,
    /// All sources became unreachable.
    UpstreamsUnreachable,
    /// A source became reachable again.
    UpstreamsReachable,
    /// The agent stepped the clock.
    Stepped,
    /// A leap second took place, or its slew began.
    LeapSecond,
    /// The agent refused a correction beyond `maxChange`.
    CorrectionRefused,
    /// Another process moved the clock.
    ExternalStep,
    /// The node was suspended, paused, or moved to another machine, and its clock with it.
    Resumed,
    /// Another process steers the clock, and the agent has stopped steering.
    Conflict,
    /// No other process steers the clock any more.
    ConflictEnded,
    /// The agent set the node's time zone, or restored the former one.
    TimezoneChanged,
    /// The agent could not set the time zone.
    TimezoneFailed,
    /// The agent began to run a profile.
    ProfileApplied,
    /// The agent refused a profile.
    ProfileRefused,
    /// The server's port could not be opened.
    ServingFailed,
    /// The port of /status could not be opened, because another process has it.
    HttpPortTaken,
    /// The RTC was written and verified.
    RTCWritten,
    /// The RTC could not be written.
    RTCWriteFailed,
    /// Other users of the node can write the agent's state folder.
    StateExposed,
    /// A part of the agent failed by a bug, and was started again.
    InternalError,
    /// A kind that only a newer agent knows. An agent never sends this one itself.
    #[serde(other)]
    Unknown,
}

impl TransitionKind {
    /// The kind as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synchronized => "Synchronized",
            Self::LocalReference => "LocalReference",
            Self::SynchronizationLost => "SynchronizationLost",
            Self::SynchronizationRegained => "SynchronizationRegained",
            Self::UpstreamsUnreachable => "UpstreamsUnreachable",
            Self::UpstreamsReachable => "UpstreamsReachable",
            Self::Stepped => "Stepped",
            Self::LeapSecond => "LeapSecond",
            Self::CorrectionRefused => "CorrectionRefused",
            Self::ExternalStep => "ExternalStep",
            Self::Resumed => "Resumed",
            Self::Conflict => "Conflict",
            Self::ConflictEnded => "ConflictEnded",
            Self::TimezoneChanged => "TimezoneChanged",
            Self::TimezoneFailed => "TimezoneFailed",
            Self::ProfileApplied => "ProfileApplied",
            Self::ProfileRefused => "ProfileRefused",
            Self::ServingFailed => "ServingFailed",
            Self::HttpPortTaken => "HttpPortTaken",
            Self::RTCWritten => "RTCWritten",
            Self::RTCWriteFailed => "RTCWriteFailed",
            Self::StateExposed => "StateExposed",
            Self::InternalError => "InternalError",
            Self::Unknown => "Unknown",
        }
    }
}
