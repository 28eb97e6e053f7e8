//! The text of the manifest, and whether one that lies there is ours. A static pod knows no object of the API (no Secret,
//! no ConfigMap, no service account): all it has is on the host.
use std::{fs, io, path::Path};

use profile::{Agent, BootPod};
use serde_json::{Value, json};

use super::{CONFIG, Error, program};
use crate::load;

/// The file's name. The one that is being written begins with a dot, and kubelet reads none such (`pkg/kubelet/config`).
pub(super) const NAME: &str = "timesync-boot.yaml";

/// The first line; without it a file is not ours.
const FIRST_LINE: &str =
    "# Kept by timesync-agent, which writes it anew, and removes it when it is uninstalled.";

/// What lies there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Ours(String),
}

/// Reads what lies at `path`.
///
/// # Errors
/// [`Error::Foreign`] for what we have not written.
pub(super) fn found(path: &Path) -> Result<Found, Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(source) => return Err(Error::File { path: path.to_owned(), source }),
        Ok(metadata) if !metadata.is_file() => return Err(Error::Foreign(path.to_owned())),
        Ok(_) => {}
    }
    match load::read(path) {
        Ok(text) if text.lines().next() == Some(FIRST_LINE) => Ok(Found::Ours(text)),
        _ => Err(Error::Foreign(path.to_owned())),
    }
}

/// The manifest for these orders, of an agent that sees the host as `agent` says.
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
            // The host's own resolver: the cluster's is a Service, and there may be none yet.
            "dnsPolicy": "Default",
            "restartPolicy": "OnFailure",
            // Kubelet asks no API server what a class is worth, so the number stands beside it (kubeadm's do, too).
            "priorityClassName": "system-node-critical",
            "priority": 2_000_001_000,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 5,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "boot",
                "image": orders.image,
                // The agent's own, so it is there; what runs is the copy of the program on the host.
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

/// So long the pod waits for an agent before it takes itself for forgotten: the node was off when timesync was uninstalled.
/// An API server that is away for hours is no reason.
const REMOVE_AFTER: &str = "24h";
