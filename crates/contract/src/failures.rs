//! Words by which an agent says what failed, and on which the operator acts: why the assigned profile does not run as it
//! asks, and why the server's port is not open. The messages beside them are for readers alone.
use std::fmt;

use serde::{Deserialize, Serialize};

/// Why the assigned profile is not the running one, or does not run as it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProfileFailure {
    /// Its text is not there yet.
    ProfileMissing,
    /// Its text is not what its name stands for.
    HashMismatch,
    /// It cannot be read, or its check refuses it.
    ProfileInvalid,
    /// It runs, and yet the agent only observes: it has no right to move the clock.
    NotPermitted,
    /// Another agent has the state folder.
    Waiting,
    /// Of an agent that is newer than the reader: one that is not known here. No agent says it of itself.
    #[serde(other)]
    Unknown,
}

impl ProfileFailure {
    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProfileMissing => "ProfileMissing",
            Self::HashMismatch => "HashMismatch",
            Self::ProfileInvalid => "ProfileInvalid",
            Self::NotPermitted => "NotPermitted",
            Self::Waiting => "Waiting",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ProfileFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the server's port is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServingFailure {
    /// Another program has the port.
    PortTaken,
    /// The agent has no right to open it.
    NotPermitted,
    /// It was open, and cannot be read or written any more.
    SocketBroken,
    /// Another reason of the system.
    OpenFailed,
    /// The server failed by a mistake of ours, and is started again.
    Panicked,
    /// Of an agent that is newer than the reader: one that is not known here. No agent says it of itself.
    #[serde(other)]
    Unknown,
}

impl ServingFailure {
    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PortTaken => "PortTaken",
            Self::NotPermitted => "NotPermitted",
            Self::SocketBroken => "SocketBroken",
            Self::OpenFailed => "OpenFailed",
            Self::Panicked => "Panicked",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ServingFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_written_as_it_is_called_and_an_unknown_one_is_read() {
        for word in ["ProfileMissing", "HashMismatch", "ProfileInvalid", "NotPermitted", "Waiting"] {
            let read: ProfileFailure = serde_json::from_str(&format!("{word:?}")).unwrap();
            assert_eq!((read.as_str(), serde_json::to_string(&read).unwrap()), (word, format!("{word:?}")));
        }
        for word in ["PortTaken", "NotPermitted", "SocketBroken", "OpenFailed", "Panicked"] {
            let read: ServingFailure = serde_json::from_str(&format!("{word:?}")).unwrap();
            assert_eq!((read.as_str(), serde_json::to_string(&read).unwrap()), (word, format!("{word:?}")));
        }
        assert_eq!(serde_json::from_str::<ProfileFailure>("\"New\"").unwrap(), ProfileFailure::Unknown);
        assert_eq!(serde_json::from_str::<ServingFailure>("\"New\"").unwrap(), ServingFailure::Unknown);
    }
}
