//! The agent's configuration file, for `timesync-agent run --config FILE` (TOML): paths and addresses on this node, and
//! either the profile itself or the folder in which the agent gets profiles.
use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::Profile;

/// The agent's configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentFile {
    /// Paths and addresses on this node.
    pub agent: Agent,
    /// The profile to run. Cannot be combined with `agent.watch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// Paths and addresses on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Agent {
    /// The state folder: drift, last valid profile, count of steps, last known time.
    pub state_directory: PathBuf,
    /// The local socket with the same pages as `http_address`, for root only. Health checks and `status` use it. If
    /// absent, `agent.sock` in the state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// `ADDRESS:PORT` of /metrics, /healthz, /readyz and /status. If absent, no port is opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_address: Option<String>,
    /// File with the token that a client of /status must know. If absent, /status answers only on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The device of the hardware clock.
    pub rtc_device: PathBuf,
    /// The path of the host's root folder, for its files (/etc/adjtime, /etc/localtime, /usr/share/zoneinfo). Outside
    /// of containers `/`.
    pub host_root: PathBuf,
    /// The shared memory segment in which the agent publishes the error bound to programs of this node, in the format
    /// of ClockBound. If absent, there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_bound_segment: Option<PathBuf>,
    /// True if /metrics also has the names of chrony_exporter (`chrony_tracking_…`), as far as their meaning is the same.
    pub chrony_metrics: bool,
    /// The folder of the files that `key` and `nts.ca` of an upstream name.
    pub keys_directory: PathBuf,
    /// The volume in which the agent gets profiles (Kubernetes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// The static pod that sets the clock before the API server is reachable (Kubernetes).
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
            chrony_metrics: false,
            keys_directory: PathBuf::from("/etc/timesync/keys"),
            watch: None,
            boot: None,
        }
    }
}

impl Agent {
    /// The path of the local socket.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.state_directory.join("agent.sock"))
    }
}

/// A projected volume with the keys of the ConfigMap and the annotation of the agent's pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Watch {
    /// The folder of the volume, with files `<policy>.<hash>.toml`.
    pub directory: PathBuf,
    /// The file in it with the value of the annotation.
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
    /// True if the static pod is installed. If false, the agent removes it.
    #[serde(default)]
    pub static_pod: bool,
    /// Kubelet's `staticPodPath`, a folder of the host.
    pub manifest_directory: PathBuf,
    /// The path of `agent.state_directory` on the host.
    #[serde(default = "state_directory")]
    pub host_state_directory: PathBuf,
    /// The image of the container: that of the agent, so the node has it already.
    #[serde(default)]
    pub image: String,
    /// The namespace of the pod.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// The labels of the pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The log level of the pod.
    #[serde(default = "log_level")]
    pub log_level: String,
    /// A file that contains [`BootPod::REMOVE`] when the static pod must be removed, regardless of `static_pod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_file: Option<PathBuf>,
}

impl BootPod {
    /// The annotation of an agent's pod whose value is in the order file.
    pub const ANNOTATION: &str = "timesync.dev/boot";

    /// The value of the annotation before the agent is uninstalled.
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
