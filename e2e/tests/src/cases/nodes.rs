//! What Nodes say of their clocks: condition, taints and label. The scheduler acts on them: a node that joins with a
//! wrong clock gets no pod before the clock is right. The operator may change nothing else of Nodes and pods.
use std::time::Duration;

use anyhow::{Context, ensure};
use contract::Reason;
use lab::{
    install::{self, NAMESPACE},
    kubectl, node,
    under_test::{self, STARTUP_TAINT, WRONG_TAINT, taint, wait_for_taint},
    upstream,
    vm::{self, Vm},
    wait,
};
use xtask::image;

use super::join;

const LABEL: &str = "timesync.dev/clock-bound";

/// A short time of hysteresis.
const SOON: &str = "  thresholds: {hold: 2s}\n";

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    under_test::or_else(story(), put_back)
}

fn story() -> anyhow::Result<()> {
    install::upgrade(&["operator.nodes.taints=true", "operator.nodes.labels=true"])?;
    install::wait_for_pods()?;
    under_test::apply_four(SOON)?;
    for vm in vm::VMS {
        under_test::wait_for_node(&vm.name(), "True", Reason::Synchronized.as_str())?;
    }
    // Its upstream serves a local clock.
    under_test::wait_for_node("node1", "True", Reason::LocalReference.as_str())?;
    // The operator reports NoAgent only after 90 s. The next steps run in the meantime.
    install::keep_agent_off("node1")?;
    nothing_else_may_be_written()?;
    a_wrong_clock_is_tainted()?;
    a_pod_waits_for_a_good_bound()?;
    a_node_that_joins_with_a_wrong_clock_waits(vm::VMS[1])?;
    under_test::wait_for_node("node1", "Unknown", "NoAgent")?;
    install::restore()?;
    under_test::wait_for_node("node1", "True", Reason::LocalReference.as_str())?;
    a_restart_of_kubelet_changes_nothing()
}

fn put_back() -> anyhow::Result<()> {
    kubectl::sh("delete tsp alone --ignore-not-found")?;
    install::restore()?;
    kubectl::sh("delete pod waits --ignore-not-found --force --grace-period=0")?;
    kubectl::sh(&format!("delete clusterrole,clusterrolebinding {READER} --ignore-not-found"))?;
    join::put_back()
}

/// With the operator's account, an admission policy refuses what RBAC would allow.
fn nothing_else_may_be_written() -> anyhow::Result<()> {
    // kubectl reads an object before it sends a patch, which the operator does not do.
    let resources = "--verb=get --resource=nodes,nodes/status,pods";
    kubectl::sh(&format!("create clusterrole {READER} {resources}"))?;
    let account = format!("--serviceaccount={NAMESPACE}:timesync-operator");
    kubectl::sh(&format!("create clusterrolebinding {READER} --clusterrole={READER} {account}"))?;
    kubectl::wait_for_right(&format!("{NAMESPACE}:timesync-operator"), "get pods")?;
    admission_policy_refuses()?;
    kubectl::sh(&format!("delete clusterrole,clusterrolebinding {READER}")).map(drop)
}

const READER: &str = "test-reads-before-it-patches";

fn admission_policy_refuses() -> anyhow::Result<()> {
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:timesync-operator");
    let agent = install::agent_on("vm1")?;
    let node_status = r#"{"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#;
    let node_address = r#"{"status":{"addresses":[{"type":"Hostname","address":"evil"}]}}"#;
    let label_by_status = r#"{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}"#;
    let label = r#"{"metadata":{"labels":{"example.com/a":"b"}}}"#;
    let annotation = r#"{"metadata":{"annotations":{"example.com/a":"b"}}}"#;
    let taints = r#"{"spec":{"taints":[{"key":"example.com/a","effect":"NoExecute"}]}}"#;
    let cordon = r#"{"spec":{"unschedulable":true}}"#;
    let image = r#"{"spec":{"containers":[{"name":"agent","image":"example.com/evil"}]}}"#;
    let own = format!("-n {NAMESPACE} pod {agent}");
    for (what, patch, refusal) in [
        ("node vm1 --subresource=status", node_status, "only the condition"),
        ("node vm1 --subresource=status", node_address, "the status of a Node"),
        ("node vm1 --subresource=status", label_by_status, "only the labels"),
        ("node vm1", label, "only the labels"),
        ("node vm1", annotation, "may not change annotations"),
        ("node vm1", taints, "only the taints"),
        ("node vm1", cordon, "the spec of a Node"),
        (own.as_str(), annotation, "only the annotations"),
        (own.as_str(), image, "may not change a pod"),
        (own.as_str(), label, "may not change a pod"),
    ] {
        let mut words: Vec<_> = format!("patch {what}").split(' ').map(str::to_owned).collect();
        words.extend([account.clone(), "--type=strategic".to_owned(), "-p".to_owned(), patch.to_owned()]);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let refused = kubectl::run(&words).err().with_context(|| format!("allowed: {what} {patch}"))?;
        ensure!(format!("{refused:#}").contains(refusal), "{what} {patch}: {refused:#}");
    }
    let ours = ["label", "node", "vm1", "timesync.dev/test=a", &account];
    kubectl::run(&ours).context("its own labels must be allowed")?;
    kubectl::sh("label node vm1 timesync.dev/test-").map(drop)
}

/// A policy for vm1 by which no clock is good enough, with a taint for one node at most.
fn too_strict() -> anyhow::Result<()> {
    let four: String = under_test::four()
        .iter()
        .map(|entry| format!("  - {{{entry}, iburst: true, minPoll: 0, maxPoll: 1}}\n"))
        .collect();
    kubectl::apply(&format!(
        "apiVersion: timesync.dev/v1alpha1\nkind: TimeSyncPolicy\nmetadata: {{name: alone}}\nspec:\n  priority: 200\n  \
         nodeSelector: {{matchLabels: {{kubernetes.io/hostname: vm1}}}}\n  \
         thresholds: {{errorBound: 1us, hold: 2s}}\n  \
         nodeTaint: {{effect: NoSchedule, after: 3s, maxNodes: 1}}\n  upstreams:\n{four}"
    ))
    .map(drop)
}

fn a_wrong_clock_is_tainted() -> anyhow::Result<()> {
    too_strict()?;
    under_test::wait_for_node("vm1", "False", Reason::ErrorBound.as_str())?;
    wait_for_taint("vm1", WRONG_TAINT, Some("NoSchedule"))?;
    ensure!(taint("vm2", WRONG_TAINT)?.is_none(), "vm2 is right, and is tainted");
    an_operator_that_begins_keeps_the_taint()?;
    kubectl::sh("delete tsp alone")?;
    under_test::wait_for_node("vm1", "True", Reason::Synchronized.as_str())?;
    wait_for_taint("vm1", WRONG_TAINT, None)
}

/// A new operator knows no report yet, and leaves the taint as it is, with its time.
fn an_operator_that_begins_keeps_the_taint() -> anyhow::Result<()> {
    let taints = || Ok::<_, anyhow::Error>(kubectl::get("node vm1")?["spec"]["taints"].clone());
    let before = taints()?;
    install::kill_operators()?;
    wait::until("another operator, and the taint as it was", "10 s", Duration::from_secs(120), || {
        let now = taints()?;
        ensure!(now == before, "before {before}, now {now}");
        // A container that is being created has no log yet.
        let logs = kubectl::sh(&format!("logs -n {NAMESPACE} {} --tail=-1", install::OPERATORS));
        Ok(logs.is_ok_and(|logs| logs.contains("Watching")).then_some(()))
    })?;
    wait::holds_for("the taint stays", Duration::from_secs(8), || {
        ensure!(taints()? == before, "the taint was removed or set again");
        Ok(())
    })?;
    install::wait_for_pods()
}

/// Waits until the label of both machines is one of these.
fn wait_for_label(what: &str, values: &[&str]) -> anyhow::Result<()> {
    wait::until(what, "", Duration::from_secs(120), || {
        for vm in vm::VMS {
            let node = kubectl::get(&format!("node {}", vm.name()))?;
            let label = node["metadata"]["labels"][LABEL].as_str().unwrap_or_default();
            if !values.contains(&label) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// The label follows the error bound, and a pod that asks for a small one waits for it.
fn a_pod_waits_for_a_good_bound() -> anyhow::Result<()> {
    let good = ["le-100us", "le-1ms", "le-10ms"];
    wait_for_label("small error bounds", &good)?;
    upstream::bend_all("dispersion=0.05")?;
    wait_for_label("large error bounds", &["le-100ms"])?;
    kubectl::apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: waits}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         affinity:\n    nodeAffinity:\n      requiredDuringSchedulingIgnoredDuringExecution:\n        nodeSelectorTerms:\n        \
         - matchExpressions:\n          - {{key: {LABEL}, operator: In, values: [le-100us, le-1ms, le-10ms]}}\n          \
         - {{key: kubernetes.io/hostname, operator: In, values: [vm1, vm2]}}\n  \
         containers:\n  - {{name: log, image: '{}', imagePullPolicy: Never, args: ['10']}}\n",
        image::EVENTLOG
    ))?;
    wait::holds_for("the pod waits", Duration::from_secs(5), || {
        ensure!(join::scheduled("waits")?.is_none(), "it is scheduled");
        Ok(())
    })?;
    upstream::bend_all(upstream::HONESTLY)?;
    wait::until("the pod to get a node", "30 s", Duration::from_secs(120), || join::scheduled("waits"))?;
    kubectl::sh("delete pod waits --force --grace-period=0").map(drop)
}

fn a_node_that_joins_with_a_wrong_clock_waits(vm: Vm) -> anyhow::Result<()> {
    join::placed_when_right(vm, STARTUP_TAINT)?;
    under_test::apply_four(SOON)
}

/// Kubelet writes the status of its Node when it starts. The condition stays, and is not written again.
fn a_restart_of_kubelet_changes_nothing() -> anyhow::Result<()> {
    let before = under_test::clock_condition("node1")?.context("a condition")?;
    let heartbeat = || -> anyhow::Result<String> {
        let ready = kubectl::node_condition("node1", "Ready")?.context("Ready")?;
        Ok(ready["lastHeartbeatTime"].as_str().unwrap_or_default().to_owned())
    };
    let last = heartbeat()?;
    node::restart_kubelet()?;
    wait::until("kubelet to write its status", "10 s", Duration::from_secs(300), || {
        Ok((heartbeat()? != last).then_some(()))
    })?;
    wait::holds_for("the condition stays as it was", Duration::from_secs(10), || {
        let after = under_test::clock_condition("node1")?;
        ensure!(after.as_ref() == Some(&before), "it was {before}, and is {after:?}");
        Ok(())
    })
}
