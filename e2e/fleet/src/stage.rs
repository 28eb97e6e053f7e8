//! The environment of the measured operator: a control plane without nodes, and the chart's objects without its
//! workloads. Provides a kubeconfig with the operator's rights, its arguments, and the template of the agents' pods.
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use anyhow::{Context, bail};
use lab::{cluster, control_plane, daemon, install, kubectl, network, pki};
use serde_json::{Value, json};
use xtask::{checkout, packages, tools};

/// The stage, set up.
pub(crate) struct Stage {
    /// The agents' DaemonSet.
    pub(crate) daemon_set: Value,
    /// The operator's arguments in the chart.
    pub(crate) arguments: Vec<String>,
    /// The kubeconfig with the operator's rights.
    pub(crate) kubeconfig: PathBuf,
    /// The agents' file with the token. The operator reads the same token from the chart's Secret.
    pub(crate) token: PathBuf,
}

/// Starts the stage, after removing one that is left.
pub(crate) fn up() -> anyhow::Result<Stage> {
    if !packages::is_root() {
        bail!("only root can take the right to set the clock from what is started here");
    }
    packages::ensure()?;
    tools::build(&["kube-apiserver", "kubectl", "helm"].map(str::to_owned))?;
    if checkout::state().exists() {
        cluster::down()?;
    }
    fs::create_dir_all(checkout::state())?;
    let stage = pki::make(&[]).and_then(|()| control_plane::alone()).and_then(|()| install());
    if stage.is_err() {
        down()?;
    }
    stage
}

/// Removes the stage.
pub(crate) fn down() -> anyhow::Result<()> {
    daemon::end("", "-KILL")?;
    let state = checkout::state();
    fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))
}

/// Kinds that would need a scheduler, a controller or a node.
const WORKLOADS: [&str; 4] = ["DaemonSet", "Deployment", "Job", "PodDisruptionBudget"];

fn install() -> anyhow::Result<Stage> {
    let namespace = install::NAMESPACE;
    let token = checkout::state().join("token");
    fs::write(&token, TOKEN)?;
    fs::set_permissions(&token, Permissions::from_mode(0o600))?;
    let chart = checkout::chart().display().to_string();
    let setting = format!("token.value={TOKEN}");
    let mut words = vec!["template", "timesync", &chart, "--namespace", namespace];
    for setting in [install::REGISTRY, &setting] {
        words.extend(["--set", setting]);
    }
    let text = kubectl::helm(&words)?;
    let all = kubectl::parsed(&text).context("the chart, rendered")?;
    let of_kind =
        |kind: &str| all.iter().find(|object| object["kind"] == kind).with_context(|| format!("no {kind}"));
    let is_plain = |object: &&Value| {
        let kind = object["kind"].as_str().unwrap_or_default();
        let is_hook = object["metadata"]["annotations"]["helm.sh/hook"].is_string();
        !is_hook && !WORKLOADS.contains(&kind)
    };
    let plain = all.iter().filter(is_plain).cloned();
    let own = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let items: Vec<_> = [own].into_iter().chain(plain).collect();
    kubectl::apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    kubectl::sh("wait crd --for=condition=Established --timeout=60s --all")?;
    let operator = &of_kind("Deployment")?["spec"]["template"]["spec"];
    let account = operator["serviceAccountName"].as_str().context("a ServiceAccount")?;
    let kubeconfig = checkout::state().join("operator.conf");
    let bearer = kubectl::run(&["create", "token", account, "-n", namespace, "--duration", "24h"])?;
    fs::write(
        &kubeconfig,
        pki::kubeconfig_at(
            network::LOOPBACK,
            &json!({"token": bearer.trim()}),
            &pki::folder(),
            network::LOOPBACK,
        ),
    )?;
    let arguments = operator["containers"][0]["args"].as_array().into_iter().flatten();
    Ok(Stage {
        daemon_set: of_kind("DaemonSet")?.clone(),
        arguments: arguments.filter_map(Value::as_str).map(str::to_owned).collect(),
        kubeconfig,
        token,
    })
}

/// Only processes of this machine can connect.
const TOKEN: &str = "a-token-for-a-fleet-that-is-not-real";
