//! What an agent says of the node's hardware clock; a part of the report.
use serde::{Deserialize, Serialize};

/// The hardware clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RtcReport {
    /// Whether there is one.
    pub present: bool,
    /// Its health in one word.
    pub health: RtcHealth,
    /// The same for a reader.
    pub message: String,
    /// RTC minus system clock when last read, seconds.
    pub offset: Option<f64>,
    /// What it gains on true time between writes, parts per million; none before that can be told.
    pub drift_ppm: Option<f64>,
    /// Age of that reading, seconds.
    pub read_age: Option<f64>,
    /// Verified writes by us.
    pub writes: u64,
    /// Writes by us that failed.
    pub write_failures: u64,
}

/// Reasons of the condition `RTCHealthy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RtcHealth {
    /// Within a second of a synchronised system clock.
    Healthy,
    /// The node has none: normal in many virtual machines.
    #[default]
    Absent,
    /// There is one, but it cannot be read (no right, or a fault).
    Unreadable,
    /// More than a second from a synchronised system clock.
    Off,
    /// It gains or loses more than a good clock does.
    Drifting,
    /// It had lost its time when the node booted: its battery may be empty.
    BatterySuspect,
    /// /etc/adjtime says that it shows local time: a node that boots in the hours around a change of summer time
    /// cannot know what time it is.
    LocalTime,
    /// A write failed or did not verify.
    WriteFailed,
    /// Nothing can be said: it was not read yet, or the system clock is not synchronised. Also what a reader makes of a
    /// word that only newer agents know.
    #[serde(other)]
    Unknown,
}

impl RtcHealth {
    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Healthy => "Healthy",
            Self::Absent => "Absent",
            Self::Unreadable => "Unreadable",
            Self::Off => "Off",
            Self::Drifting => "Drifting",
            Self::BatterySuspect => "BatterySuspect",
            Self::LocalTime => "LocalTime",
            Self::WriteFailed => "WriteFailed",
        }
    }
}
