//! The chart's life: `helm test` passes, an upgrade keeps the token, an agent that cannot start does not delay the
//! others, and a new installation takes over the objects that an uninstallation left.
use std::time::Duration;

use anyhow::{Context, ensure};
use contract::Reason;
use lab::{
    install::{self, NAMESPACE},
    kubectl, under_test, vm, wait,
};
use serde_json::Value;

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    kubectl::helm(&["test", "timesync", "--namespace", NAMESPACE, "--timeout", "400s"])?;
    kubectl::sh(&format!("delete pod timesync-test-answers -n {NAMESPACE} --ignore-not-found --wait=true"))?;
    an_upgrade_keeps_the_token()?;
    a_pending_agent_holds_up_no_other()?;
    a_new_install_takes_over()?;
    under_test::settle()
}

fn an_upgrade_keeps_the_token() -> anyhow::Result<()> {
    let before = token()?;
    for vm in vm::VMS {
        under_test::wait_for_node(&vm.name(), "True", Reason::Synchronized.as_str())?;
    }
    let instance = |vm: vm::Vm| under_test::report(vm).map(|report| report.instance);
    let former: Vec<_> = vm::VMS.into_iter().map(instance).collect::<anyhow::Result<_>>()?;
    install::upgrade(&["agent.logLevel=debug"])?;
    wait::until("new agents on both machines", "20 s", Duration::from_secs(400), || {
        no_clock_is_called_wrong()?;
        let is_new = |(vm, former): (vm::Vm, &String)| {
            under_test::report(vm).is_ok_and(|report| report.instance != *former && report.clock.synchronized)
        };
        Ok(vm::VMS.into_iter().zip(&former).all(is_new).then_some(()))
    })?;
    wait::holds_for("no clock is called wrong", Duration::from_secs(5), no_clock_is_called_wrong)?;
    install::wait_for_pods()?;
    ensure!(token()? == before, "the upgrade changed the token");
    under_test::settle()
}

/// An agent that takes long to come back makes its Node's condition Unknown, but not False.
fn no_clock_is_called_wrong() -> anyhow::Result<()> {
    for vm in vm::VMS {
        let condition = under_test::clock_condition(&vm.name())?.context("a condition")?;
        ensure!(condition["status"] != "False", "{}: {condition}", vm.name());
    }
    Ok(())
}

/// A node without a kubelet has room for no pod.
const GHOST: &str = "apiVersion: v1\nkind: Node\nmetadata:\n  name: ghost\n  \
                     labels: {kubernetes.io/os: linux, kubernetes.io/arch: amd64}\n";

fn a_pending_agent_holds_up_no_other() -> anyhow::Result<()> {
    kubectl::apply(GHOST)?;
    let upgraded = all_but_one_are_upgraded();
    kubectl::sh("delete node ghost")?;
    // The controller of DaemonSets looks again when a pod goes; for a node that goes it may take five minutes.
    kubectl::sh(&format!(
        "delete pods -n {NAMESPACE} -l app.kubernetes.io/component=agent --field-selector=status.phase=Pending --wait=false"
    ))?;
    upgraded?;
    install::wait_for_pods()?;
    under_test::settle()
}

fn all_but_one_are_upgraded() -> anyhow::Result<()> {
    let agents = || -> anyhow::Result<Value> {
        let set = kubectl::get(&format!("daemonset/timesync-agent -n {NAMESPACE}"))?;
        let seen = set["status"]["observedGeneration"] == set["metadata"]["generation"];
        Ok(if seen { set["status"].clone() } else { Value::Null })
    };
    let count = |status: &Value, name: &str| status[name].as_i64();
    let before = wait::until("a Pending agent", "1 s", Duration::from_secs(60), || {
        let status = agents()?;
        let (wanted, ready) = (count(&status, "desiredNumberScheduled"), count(&status, "numberReady"));
        Ok(wanted.zip(ready).filter(|(wanted, ready)| *wanted == ready + 1).map(|(wanted, _)| wanted))
    })?;
    install::upgrade(&["agent.logLevel=info"])?;
    wait::until("all other agents", "30 s", Duration::from_secs(200), || {
        let status = agents()?;
        let done = count(&status, "updatedNumberScheduled") == Some(before)
            && count(&status, "numberReady") == Some(before - 1);
        Ok(done.then_some(()))
    })
    .context("one Pending agent holds up the others")
}

fn token() -> anyhow::Result<String> {
    kubectl::sh(&format!("get secret timesync-token -n {NAMESPACE} -o jsonpath={{.data.token}}"))
}

fn a_new_install_takes_over() -> anyhow::Result<()> {
    kubectl::helm(&["uninstall", "timesync", "--namespace", NAMESPACE, "--wait"])?;
    ensure!(kubectl::sh("get tsp -o name")?.contains(under_test::POLICY), "uninstall took a policy with it");
    under_test::expect_uninstalled()?;
    let wait =
        kubectl::sh(&format!("wait --for=condition=Synchronized tsp/{} --timeout=1s", under_test::POLICY));
    ensure!(wait.is_err(), "kubectl wait takes clocks for synchronised that nobody looks after");
    install::chart(&[])
}
