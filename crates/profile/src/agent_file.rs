//! The agent's own file, for `timesync-agent run --config FILE` (TOML): where things are on this node, and either
//! the profile itself or the folder in which profiles are handed over.
use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::Profile;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentFile {
    /// Where things are on this node.
    pub agent: Agent,
    /// The profile to run; excludes `agent.watch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// Where things are on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Agent {
    /// Drift, last good profile, step guard, last known time.
    pub state_directory: PathBuf,
    /// The local socket of the same pages as at `http_address`, for root alone: health and `status` are asked here; absent:
    /// `agent.sock` in the state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// `ADDRESS:PORT` of /metrics, /healthz, /readyz and /status; absent: no port is opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_address: Option<String>,
    /// File with the token that those who ask for /status must know; absent: /status answers loopback only.
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
    /// What sets the clock before the API server can be reached (Kubernetes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootPod>,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            state_directory: PathBuf::from("/var/lib/timesync"),
            socket: None,
            http_address: Some("127.0.0.1:9817".to_owned()),
            token_file: None,
            rtc_device: PathBuf::from("/dev/rtc0"),
            host_root: PathBuf::from("/"),
            clock_bound_segment: None,
            keys_directory: PathBuf::from("/etc/timesync/keys"),
            watch: None,
            boot: None,
        }
    }
}

impl Agent {
    /// The local socket's file.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.state_directory.join("agent.sock"))
    }
}

/// One projected volume: the ConfigMap's keys, and the annotation of the agent's own pod beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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

/// The static pod that runs `timesync-agent boot` after a boot of the node: a manifest in kubelet's folder and a copy of
/// the agent's program in its state folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BootPod {
    /// True if it is wanted; if not, what was left of it is removed.
    #[serde(default)]
    pub static_pod: bool,
    /// Kubelet's `staticPodPath`, a folder of the host.
    pub manifest_directory: PathBuf,
    /// The host's name of `agent.state_directory`.
    #[serde(default = "state_directory")]
    pub host_state_directory: PathBuf,
    /// The container's image, which the node has already: the agent's own.
    #[serde(default)]
    pub image: String,
    /// Where the pod is shown.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// What tells it apart there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it logs.
    #[serde(default = "log_level")]
    pub log_level: String,
    /// A file that says [`BootPod::REMOVE`] once all of it is to go, whatever `static_pod` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_file: Option<PathBuf>,
}

impl BootPod {
    /// The annotation of an agent's pod that becomes the order file.
    pub const ANNOTATION: &str = "timesync.dev/boot";

    /// Its value before the agent is uninstalled.
    pub const REMOVE: &str = "remove";
}

fn state_directory() -> PathBuf {
    Agent::default().state_directory
}

fn namespace() -> String {
    "timesync-system".to_owned()
}

fn log_level() -> String {
    "info".to_owned()
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
        let booting: AgentFile =
            toml::from_str("[agent.boot]\nmanifestDirectory = \"/etc/kubernetes/manifests\"").unwrap();
        let boot = booting.agent.boot.unwrap();
        assert_eq!((boot.static_pod, boot.host_state_directory), (false, Agent::default().state_directory));
    }
}
