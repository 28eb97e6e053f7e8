//! Transitions: what happened on a node, once each, numbered; a part of the report. Their kinds become reasons of Events.
use serde::{Deserialize, Serialize};

/// Something that happened, once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Counts up from 1 per instance.
    pub number: u64,
    /// When.
    pub at: f64,
    /// What.
    pub kind: TransitionKind,
    /// For a reader.
    pub message: String,
}

/// What can happen: reasons of Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TransitionKind {
    /// Became synchronised for the first time since the agent's start.
    Synchronized,
    /// The clock has the time of a local clock from now on: UTC is unknown.
    LocalReference,
    /// Lost synchronisation.
    SynchronizationLost,
    /// Became synchronised again.
    SynchronizationRegained,
    /// All sources became unreachable.
    UpstreamsUnreachable,
    /// A source is reached again.
    UpstreamsReachable,
    /// The clock was stepped by us.
    Stepped,
    /// A leap second was done, or its slew began.
    LeapSecond,
    /// A correction beyond `maxChange` was refused.
    CorrectionRefused,
    /// The clock was moved by somebody else.
    ExternalStep,
    /// The node was asleep, held, or moved to another machine, and its clock with it.
    Resumed,
    /// Somebody else steers the clock; the agent stands back.
    Conflict,
    /// It is alone again.
    ConflictEnded,
    /// The node's time zone was set, or the former one put back.
    TimezoneChanged,
    /// It could not be set.
    TimezoneFailed,
    /// A profile was taken.
    ProfileApplied,
    /// A profile was refused.
    ProfileRefused,
    /// The server's port could not be opened.
    ServingFailed,
    /// The port of /status could not be opened: another process has it.
    HttpPortTaken,
    /// The RTC was written and verified.
    RTCWritten,
    /// The RTC could not be written.
    RTCWriteFailed,
    /// Other users of the node may write the agent's state folder.
    StateExposed,
    /// A part of the agent failed by a mistake of its own, and was started again.
    InternalError,
    /// Of an agent that is newer than the reader: one that is not known here. No agent says it of itself.
    #[serde(other)]
    Unknown,
}

impl TransitionKind {
    /// The word itself.
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
