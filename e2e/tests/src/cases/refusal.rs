//! The API server refuses an invalid policy. The agent refuses a profile that was edited by hand, since its hash does
//! not match, and the operator repairs that profile.
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::{
    install::{self, NAMESPACE},
    kubectl, under_test, vm, wait,
};
use serde_json::json;

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    bad_policies_are_refused()?;
    edited_profile_is_refused_and_repaired()?;
    under_test::settle()
}

fn bad_policies_are_refused() -> anyhow::Result<()> {
    for (spec, said) in [
        ("{upstreams: [{name: a, server: 192.0.2.1, minPoll: 7, maxPoll: 6}]}", "minPoll"),
        ("{upstreams: [], mode: Discipline}", "upstream"),
        ("{upstreams: [{name: a, server: 192.0.2.1}], colour: red}", "colour"),
        ("{upstreams: [{name: a, server: 192.0.2.1, port: 0}]}", "spec.upstreams[0].port"),
        (
            "{upstreams: [{name: a, server: 192.0.2.1}], restrict: [{source: 192.0.2.0/24, flags: [ignore]}]}",
            "ignore",
        ),
    ] {
        let manifest = format!(
            "{{apiVersion: timesync.dev/v1alpha1, kind: TimeSyncPolicy, metadata: {{name: bad}}, spec: {spec}}}"
        );
        let Err(error) = kubectl::apply(&manifest) else {
            kubectl::sh("delete tsp bad")?;
            anyhow::bail!("the API server took {spec}");
        };
        ensure!(error.to_string().contains(said), "refused, but does not speak of {said}: {error}");
    }
    Ok(())
}

fn edited_profile_is_refused_and_repaired() -> anyhow::Result<()> {
    let vm = vm::VMS[0];
    let name = under_test::report(vm)?.profile.context("a profile runs")?;
    let right = profile_text(&name.key())?;
    // Without the operator first, so that the agent is sure to see it.
    scale_operator(0)?;
    let patch = json!({"data": {name.key(): format!("{right}# somebody was here\n")}}).to_string();
    kubectl::run(&[
        "patch",
        "configmap",
        "timesync-profiles",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        &patch,
    ])?;
    let pod = install::agent_on(&vm.name())?;
    kubectl::sh(&format!("annotate pod {pod} -n {NAMESPACE} timesync.dev/nudge=test --overwrite"))?;
    under_test::wait_for_report(vm, "to refuse the edited profile", Duration::from_secs(100), |report| {
        report
            .profile_error
            .as_ref()
            .is_some_and(|error| error.reason == contract::ProfileFailure::HashMismatch)
    })?;
    ensure!(under_test::report(vm)?.profile == Some(name.clone()), "the good profile does not run on");
    ensure!(under_test::report(vm)?.clock.synchronized, "the clock is not synchronised any more");
    scale_operator(2)?;
    wait::until("the operator to repair the ConfigMap", "10 s", Duration::from_secs(60), || {
        Ok((profile_text(&name.key())? == right).then_some(()))
    })?;
    under_test::wait_for_report(vm, "to be content", Duration::from_secs(100), |report| {
        report.profile_error.is_none()
    })?;
    Ok(())
}

/// Sets the number of operators, and waits until there are so many.
pub(super) fn scale_operator(replicas: u8) -> anyhow::Result<()> {
    kubectl::sh(&format!("scale deployment timesync-operator -n {NAMESPACE} --replicas={replicas}"))?;
    let what = format!("pods -n {NAMESPACE} {}", install::OPERATORS);
    wait::until(&format!("{replicas} operators"), "5 s", Duration::from_secs(90), || {
        let pods = kubectl::get(&what)?;
        let count = pods["items"].as_array().map_or(0, Vec::len);
        Ok((count == usize::from(replicas)).then_some(()))
    })
}

fn profile_text(key: &str) -> anyhow::Result<String> {
    let map = kubectl::get(&format!("configmap timesync-profiles -n {NAMESPACE}"))?;
    Ok(map["data"][key].as_str().with_context(|| format!("no key {key}"))?.to_owned())
}
