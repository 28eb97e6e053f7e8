//! The report of the node's hardware clock, a part of an agent's report.
use serde::{Deserialize, Serialize};

/// The hardware clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RtcReport {
    /// True if the node has one.
    pub present: bool,
    /// Its health in one word.
    pub health: RtcHealth,
    /// The health in detail, for a reader.
    pub message: String,
    /// RTC minus system clock at the last reading, seconds.
    pub offset: Option<f64>,
    /// How much the RTC gains on true time between writes, parts per million; none until that is known.
    pub drift_ppm: Option<f64>,
    /// Age of the last reading, seconds.
    pub read_age: Option<f64>,
    /// Writes by the agent that were verified.
    pub writes: u64,
    /// Writes by the agent that failed.
    pub write_failures: u64,
}

/// Reasons of the condition `RTCHealthy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RtcHealth {
    /// Within a second of a synchronised system clock.
    Healthy,
    /// The node has no hardware clock, which is normal in many virtual machines.
    #[default]
    Absent,
    /// The node has one that the agent may not open, and the profile does not ask the agent to write it.
    NoAccess,
    /// It exists, but cannot be read: it has a fault, or the profile asks the agent to write it, and the agent has no
    /// right.
    Unreadable,
    /// More than a second from a synchronised system clock.
    Off,
    /// It gains or loses more than a good clock.
    Drifting,
    /// It had lost its time when the node booted, so its battery may be empty.
    BatterySuspect,
    /// /etc/adjtime says that it shows local time. A node that boots within hours of a change of summer time cannot
    /// know the time.
    LocalTime,
    /// A write failed, or its verification did.
    WriteFailed,
    /// Its health is unknown: it was not read yet, or the system clock is not synchronised. A reader also uses this for
    /// a word that only newer agents know.
    #[serde(other)]
    Unknown,
}

impl RtcHealth {
    /// Every health, for metrics with one series for each.
    pub const ALL: [Self; 10] = [
        Self::Healthy,
        Self::Absent,
        Self::NoAccess,
        Self::Unreadable,
        Self::Off,
        Self::Drifting,
        Self::BatterySuspect,
        Self::LocalTime,
        Self::WriteFailed,
        Self::Unknown,
    ];

    /// The health as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Healthy => "Healthy",
            Self::Absent => "Absent",
            Self::NoAccess => "NoAccess",
            Self::Unreadable => "Unreadable",
            Self::Off => "Off",
            Self::Drifting => "Drifting",
            Self::BatterySuspect => "BatterySuspect",
            Self::LocalTime => "LocalTime",
            Self::WriteFailed => "WriteFailed",
        }
    }
}
