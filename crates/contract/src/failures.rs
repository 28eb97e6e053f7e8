//! The reasons of failures that an agent reports and the operator acts on: why the assigned profile does not run as it
//! asks, and why the server's port is not open. The messages beside them are for readers only.
use std::fmt;

use serde::{Deserialize, Serialize};

/// Why the assigned profile does not run, or does not run as it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProfileFailure {
    /// The profile's text is not on the node yet.
    ProfileMissing,
    /// The profile's text does not match the hash in its name.
    HashMismatch,
    /// The profile cannot be read, or its check refuses it.
    ProfileInvalid,
    /// The profile runs, but the agent only observes: it has no right to move the clock.
    NotPermitted,
    /// Another agent uses the state folder.
    Waiting,
    /// A reason that only a newer agent knows. An agent never sends this one itself.
    #[serde(other)]
    Unknown,
}

impl ProfileFailure {
    /// The reason as one word.
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
    /// Another process has the port.
    PortTaken,
    /// The agent has no right to open the port.
    NotPermitted,
    /// The node has none of the addresses on which it is to serve.
    NoAddress,
    /// The port was open, and then its socket could not be read or written any more.
    SocketBroken,
    /// The system refuses to open the port, for another reason.
    OpenFailed,
    /// The server panicked, which is a bug in the agent. It is started again.
    Panicked,
    /// A reason that only a newer agent knows. An agent never sends this one itself.
    #[serde(other)]
    Unknown,
}

impl ServingFailure {
    /// The reason as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PortTaken => "PortTaken",
            Self::NotPermitted => "NotPermitted",
            Self::NoAddress => "NoAddress",
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
        for word in ["PortTaken", "NotPermitted", "NoAddress", "SocketBroken", "OpenFailed", "Panicked"] {
            let read: ServingFailure = serde_json::from_str(&format!("{word:?}")).unwrap();
            assert_eq!((read.as_str(), serde_json::to_string(&read).unwrap()), (word, format!("{word:?}")));
        }
        assert_eq!(serde_json::from_str::<ProfileFailure>("\"New\"").unwrap(), ProfileFailure::Unknown);
        assert_eq!(serde_json::from_str::<ServingFailure>("\"New\"").unwrap(), ServingFailure::Unknown);
    }
}
