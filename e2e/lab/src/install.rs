//! Installs the chart into the cluster, and uninstalls it.
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use xtask::checkout;

use crate::{kubectl, node, vm, wait};

/// The release's namespace.
pub const NAMESPACE: &str = "timesync-system";

/// The registry in the names of the images. The nodes have the images themselves, and pull nothing.
pub const REGISTRY: &str = "image.registry=localhost";

/// Runs `helm install`, and waits until every agent and one operator run. `settings` are further values, as for
/// `--set`.
pub fn chart(settings: &[&str]) -> anyhow::Result<()> {
    kubectl::apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels:\n    \
         pod-security.kubernetes.io/enforce: privileged\n"
    ))?;
    let chart = checkout::chart().display().to_string();
    // Only node1 has the operator's image, since virtual machines have little memory. All agents may be replaced at the
    // same time.
    let mut words = vec!["install", "timesync", &chart, "--namespace", NAMESPACE];
    let own = [REGISTRY, "operator.nodeSelector.kubernetes\\.io/hostname=node1"];
    for setting in own.iter().chain(settings) {
        words.extend(["--set", setting]);
    }
    kubectl::helm(&words)?;
    wait_for_pods()
}

/// Runs `helm upgrade` with these values, as for `--set`; all others stay. Does not wait for the pods.
pub fn upgrade(settings: &[&str]) -> anyhow::Result<()> {
    let chart = checkout::chart().display().to_string();
    let mut words = vec!["upgrade", "timesync", &chart, "--namespace", NAMESPACE, "--reuse-values"];
    for setting in settings {
        words.extend(["--set", setting]);
    }
    kubectl::helm(&words).map(drop)
}

/// Gives the objects of the release the fields of the chart again, also fields that another program has changed.
pub fn restore() -> anyhow::Result<()> {
    let chart = checkout::chart().display().to_string();
    let words =
        ["upgrade", "timesync", &chart, "--namespace", NAMESPACE, "--reuse-values", "--force-conflicts"];
    kubectl::helm(&words)?;
    wait_for_pods()
}

/// Excludes a node by the DaemonSet's node affinity, and waits for the other agents, which are all replaced. The
/// operator does not learn of it, so the node's agent is missing. [`restore`] brings it back.
pub fn keep_agent_off(node: &str) -> anyhow::Result<()> {
    let term = json!({"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]});
    let required = json!({"nodeSelectorTerms": [{"matchExpressions": [term]}]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}});
    let patch = json!({"spec": {"template": {"spec": {"affinity": affinity}}}}).to_string();
    kubectl::run(&["patch", "ds", "timesync-agent", "-n", NAMESPACE, "--type=merge", "-p", &patch])?;
    wait_for_pods()
}

/// Words by which kubectl selects the operators' pods.
pub const OPERATORS: &str = "-l app.kubernetes.io/component=operator";

/// Kills the operators. Others begin at once, and go on from what the cluster says.
pub fn kill_operators() -> anyhow::Result<()> {
    kubectl::sh(&format!("delete pod -n {NAMESPACE} {OPERATORS} --force --grace-period=0")).map(drop)
}

/// Waits until all pods of the release run and are ready.
pub fn wait_for_pods() -> anyhow::Result<()> {
    let what = format!("get ds,deploy -n {NAMESPACE} -o json");
    wait::until("agents and operator", "15 s", Duration::from_secs(400), || {
        let all: serde_json::Value = serde_json::from_str(&kubectl::sh(&what)?)?;
        let done = all["items"].as_array().context("a list")?.iter().all(|item| {
            let (status, kind) = (&item["status"], item["kind"].as_str());
            let seen = status["observedGeneration"] == item["metadata"]["generation"];
            let (wanted, counts) = match kind {
                Some("DaemonSet") => (
                    &status["desiredNumberScheduled"],
                    [&status["updatedNumberScheduled"], &status["numberReady"]],
                ),
                _ => (&item["spec"]["replicas"], [&status["updatedReplicas"], &status["readyReplicas"]]),
            };
            seen && wanted
                .as_i64()
                .is_some_and(|wanted| wanted > 0 && counts.iter().all(|count| count.as_i64() == Some(wanted)))
        });
        Ok(done.then_some(()))
    })
}

/// The address of a node.
pub fn address(node: &str) -> String {
    let machine = vm::VMS.into_iter().find(|vm| vm.name() == node);
    machine.map_or_else(|| node::ADDRESS.to_owned(), vm::Vm::address)
}

/// The name of the agent's pod on a node.
pub fn agent_on(node: &str) -> anyhow::Result<String> {
    let pods = kubectl::get(&format!(
        "pods -n {NAMESPACE} -l app.kubernetes.io/component=agent --field-selector spec.nodeName={node}"
    ))?;
    let live =
        pods["items"].as_array().into_iter().flatten().find(|p| p["metadata"]["deletionTimestamp"].is_null());
    let name = live.and_then(|pod| pod["metadata"]["name"].as_str());
    Ok(name.with_context(|| format!("no agent on {node}"))?.to_owned())
}
