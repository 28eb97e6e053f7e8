//! The text of the manifest, and whether a manifest on the host is the agent's. A static pod cannot use objects of the
//! API (no Secret, no ConfigMap, no service account): everything that it uses is on the host.
use std::{fs, io, path::Path};

use profile::{Agent, BootPod};
use serde_json::{Value, json};

use super::{
    error::Error,
    program::{self, CONFIG},
};
use crate::load;

/// The file's name. While it is being written, its name begins with a dot, and kubelet does not read such files
/// (`pkg/kubelet/config`).
pub(super) const NAME: &str = "timesync-boot.yaml";

/// The first line. A file without it is not the agent's.
const FIRST_LINE: &str =
    "# Kept by timesync-agent, which writes it anew, and removes it when it is uninstalled.";

/// What is at the path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExistingManifest {
    Nothing,
    Ours(String),
}

/// Reads what is at `path`.
///
/// # Errors
/// [`Error::Foreign`] if the agent has not written it.
pub(super) fn found(path: &Path) -> Result<ExistingManifest, Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ExistingManifest::Nothing),
        Err(source) => return Err(Error::File { path: path.to_owned(), source }),
        Ok(metadata) if !metadata.is_file() => return Err(Error::Foreign(path.to_owned())),
        Ok(_) => {}
    }
    match load::read(path) {
        Ok(text) if text.lines().next() == Some(FIRST_LINE) => Ok(ExistingManifest::Ours(text)),
        _ => Err(Error::Foreign(path.to_owned())),
    }
}

/// The manifest for these orders, of an agent with the host's paths in `agent`.
pub(super) fn text(orders: &BootPod, agent: &Agent) -> String {
    let pod = pod(orders, agent);
    // A tree of maps, lists, texts and numbers can always be written.
    format!("{FIRST_LINE}\n{}", serde_norway::to_string(&pod).unwrap_or_default())
}

fn pod(orders: &BootPod, agent: &Agent) -> Value {
    let program = agent.state_directory.join(program::PATH);
    let config = agent.state_directory.join(CONFIG);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "timesync-boot",
            "namespace": orders.namespace,
            "labels": orders.labels,
        },
        "spec": {
            "hostNetwork": true,
            "hostPID": true,
            // The host's own resolver: the cluster's is a Service, which may not exist yet.
            "dnsPolicy": "Default",
            "restartPolicy": "OnFailure",
            // Kubelet cannot ask the API server for the value of a class, so the number is given too, as in kubeadm's
            // manifests.
            "priorityClassName": "system-node-critical",
            "priority": 2_000_001_000,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 5,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "boot",
                "image": orders.image,
                // The image of the agent itself, so it is on the node. The program that runs is the copy on the host.
                "imagePullPolicy": "IfNotPresent",
                "command": [program, "boot", "--config", config, "--remove-after", REMOVE_AFTER],
                "env": [{"name": "RUST_LOG", "value": orders.log_level}],
                "securityContext": {"privileged": true, "readOnlyRootFilesystem": true},
                "volumeMounts": [
                    {"name": "state", "mountPath": agent.state_directory},
                    {"name": "host", "mountPath": agent.host_root, "mountPropagation": "HostToContainer"},
                ],
            }],
            "volumes": [
                {"name": "state", "hostPath": {"path": orders.host_state_directory, "type": "Directory"}},
                {"name": "host", "hostPath": {"path": "/", "type": "Directory"}},
            ],
        },
    })
}

/// The pod waits this long for an agent before it removes itself: then the node was off when timesync was uninstalled.
/// An API server that is away for hours must not have this effect.
const REMOVE_AFTER: &str = "24h";
