//! The agent's own file, for `timesync-agent run --config FILE` (TOML): where things are on this node, and either
//! the profile itself or the folder in which profiles are handed over.
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Profile;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentFile {
    /// Where things are on this node.
    pub agent: Agent,
    /// The profile to run; excludes `agent.watch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// Where things are on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    /// Drift, last good profile, step guard, last known time.
    pub state_directory: PathBuf,
    /// `ADDRESS:PORT` of /metrics, /healthz, /readyz and /status; absent for no HTTP at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_address: Option<String>,
    /// File with the bearer token that /status asks for; absent: /status answers loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The hardware clock.
    pub rtc_device: PathBuf,
    /// Where the host's own files are seen (/etc/adjtime, /etc/localtime, /usr/share/zoneinfo): `/` outside of
    /// containers.
    pub host_root: PathBuf,
    /// Where to show the error bound to programs of this node, in shared memory as ClockBound does; absent: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_bound_segment: Option<PathBuf>,
    /// The files that `key` and `nts.ca` of an upstream name.
    pub keys_directory: PathBuf,
    /// Where profiles are handed over (Kubernetes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            state_directory: PathBuf::from("/var/lib/timesync"),
            http_address: Some("127.0.0.1:9817".to_owned()),
            token_file: None,
            rtc_device: PathBuf::from("/dev/rtc0"),
            host_root: PathBuf::from("/"),
            clock_bound_segment: None,
            keys_directory: PathBuf::from("/etc/timesync/keys"),
            watch: None,
        }
    }
}

/// One projected volume: the ConfigMap's keys, and the annotation of the agent's own pod beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The volume's folder: files `<policy>.<hash>.toml`.
    pub directory: PathBuf,
    /// The file in it that holds the annotation's value.
    #[serde(default = "assignment_file")]
    pub assignment: PathBuf,
}

fn assignment_file() -> PathBuf {
    PathBuf::from("assignment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_uses_parse() {
        let alone: AgentFile =
            toml::from_str("[[profile.upstreams]]\nname = \"a\"\nserver = \"192.0.2.1\"").unwrap();
        assert_eq!(alone.agent, Agent::default());
        assert_eq!(alone.profile.unwrap().upstreams.len(), 1);
        let watching: AgentFile =
            toml::from_str("[agent.watch]\ndirectory = \"/etc/timesync/profiles\"").unwrap();
        assert_eq!(watching.agent.watch.unwrap().assignment, PathBuf::from("assignment"));
    }
}
