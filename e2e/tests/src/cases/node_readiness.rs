//! node-readiness-controller and the example of a rule for it. A machine joins with a wrong clock and the rule's taint,
//! and the controller frees it when its clock is right. The rule does not taint nodes that were right before.
use std::{fs, time::Duration};

use contract::Reason;
use lab::{
    daemon::{self, Daemon},
    kubectl, pki,
    under_test::{self, taint},
    vm, wait,
};
use xtask::{checkout, tools};

use super::join;

const CONTROLLER: &str = "node-readiness-controller";
const RULES: &str = "nodereadinessrules.readiness.node.x-k8s.io";
const TAINT: &str = "readiness.k8s.io/clock-not-synchronized";

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    tools::build(&[CONTROLLER.to_owned()])?;
    under_test::or_else(story(), put_back)?;
    put_back()
}

fn put_back() -> anyhow::Result<()> {
    daemon::end(CONTROLLER, "-TERM")?;
    if !kubectl::sh(&format!("get crd {RULES} --ignore-not-found"))?.is_empty() {
        // Without its controller a rule would keep its finalizer.
        for rule in kubectl::sh(&format!("get {RULES} -o name"))?.split_whitespace() {
            kubectl::run(&["patch", rule, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#])?;
        }
        kubectl::sh(&format!("delete crd {RULES}"))?;
    }
    for node in pki::NODES {
        if taint(node, TAINT)?.is_some() {
            kubectl::sh(&format!("taint node {node} {TAINT}-"))?;
        }
    }
    join::put_back()
}

fn story() -> anyhow::Result<()> {
    under_test::apply_four("  thresholds: {hold: 2s}\n")?;
    for vm in vm::VMS {
        under_test::wait_for_node(&vm.name(), "True", Reason::Synchronized.as_str())?;
    }
    // Its upstream serves a local clock.
    under_test::wait_for_node("node1", "True", Reason::LocalReference.as_str())?;
    let crd =
        tools::source(CONTROLLER)?.join("config/crd/bases/readiness.node.x-k8s.io_nodereadinessrules.yaml");
    kubectl::apply(&fs::read_to_string(crd)?)?;
    kubectl::sh(&format!("wait --for condition=established crd/{RULES} --timeout=60s"))?;
    kubectl::apply(&fs::read_to_string(checkout::root().join("examples/node-readiness-rule.yaml"))?)?;
    Daemon::new(CONTROLLER, tools::path(CONTROLLER)?)
        .env("KUBECONFIG", pki::admin().display().to_string())
        .arg("--health-probe-bind-address=0")
        .start()?;
    wait::until("the controller to judge all nodes", "5 s", Duration::from_secs(120), || {
        daemon::expect_running(CONTROLLER)?;
        let rule = kubectl::get("nodereadinessrule clock-synchronized")?;
        let judged = rule["status"]["nodeEvaluations"].as_array().map_or(0, Vec::len);
        Ok((judged == pki::NODES.len()).then_some(()))
    })?;
    no_node_is_tainted("nodes whose clocks were right before the rule")?;

    join::placed_when_right(vm::VMS[1], TAINT)?;

    // No clock reaches this error bound. The rule is for a node's first synchronisation only.
    under_test::apply_four("  thresholds: {errorBound: 1us, hold: 2s}\n")?;
    for vm in vm::VMS {
        under_test::wait_for_node(&vm.name(), "False", Reason::ErrorBound.as_str())?;
    }
    no_node_is_tainted("nodes whose clocks are not good enough any more")
}

fn no_node_is_tainted(whose: &str) -> anyhow::Result<()> {
    wait::holds_for(&format!("no taint on {whose}"), Duration::from_secs(10), || {
        daemon::expect_running(CONTROLLER)?;
        under_test::expect_no_taint(TAINT)
    })
}
