//! Clocks stay right after these events: an agent is killed, the operator is killed in the middle of an edit, a policy
//! is deleted, the chart is uninstalled. The last two leave a correct status of the clock in the kernel.
use std::time::Duration;

use anyhow::ensure;
use contract::{Assignment, Report};
use lab::{
    install::{self, NAMESPACE},
    kubectl,
    under_test::{self, MS},
    upstream,
    vm::{self, Vm},
    wait,
};

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    agent_comes_back_without_a_step()?;
    operator_finishes_an_edit_after_its_restart()?;
    under_test::settle()?;
    let mut frequencies = Vec::new();
    for vm in vm::VMS {
        frequencies.push((vm, under_test::report(vm)?.clock.frequency_ppm));
    }
    deleted_policy_means_none(&frequencies)?;
    uninstall_leaves_the_crds(&frequencies)
}

fn agent_comes_back_without_a_step() -> anyhow::Result<()> {
    let vm = vm::VMS[0];
    let before = under_test::report(vm)?;
    let pod = install::agent_on(&vm.name())?;
    kubectl::sh(&format!("delete pod {pod} -n {NAMESPACE} --wait=false"))?;
    wait::until(
        "the agent to come back, its clock right all the time",
        "15 s",
        Duration::from_secs(120),
        || {
            under_test::expect_within(vm, 2 * MS, 0)?;
            let Ok(report) = under_test::report(vm) else { return Ok(None) };
            Ok((report.instance != before.instance && report.clock.synchronized).then_some(()))
        },
    )?;
    let after = under_test::report(vm)?;
    // Steps outside the start phase are counted since the agent's start.
    let of_start = before.clock.steps - before.clock.restored - before.clock.resumed;
    ensure!(
        after.clock.steps == of_start && after.clock.last_step.is_none(),
        "it stepped: {:?}",
        after.clock
    );
    ensure!(after.profile == before.profile, "it runs {:?}, not {:?}", after.profile, before.profile);
    Ok(())
}

fn operator_finishes_an_edit_after_its_restart() -> anyhow::Result<()> {
    under_test::apply(&[&format!("name: late, server: {}", upstream::BENT[3])], "")?;
    install::kill_operators()?;
    under_test::wait_for_profile(Duration::from_secs(90))?;
    for vm in vm::VMS {
        let sources = under_test::report(vm)?.sources;
        ensure!(sources.len() == 1 && sources[0].name == "late", "{} asks {sources:?}", vm.name());
    }
    install::wait_for_pods()
}

fn deleted_policy_means_none(frequencies: &[(Vm, f64)]) -> anyhow::Result<()> {
    kubectl::sh(&format!("delete tsp {}", under_test::POLICY))?;
    let none = |report: &Report| report.assignment == Assignment::None && report.profile.is_none();
    for (vm, frequency) in frequencies {
        under_test::wait_for_report(*vm, "to run no profile", Duration::from_secs(30), none)?;
        under_test::expect_within(*vm, 5 * MS, 0)?;
        expect_handed_back(*vm, *frequency)?;
    }
    Ok(())
}

/// Checks the kernel after the agent's end: it keeps the frequency that kept the clock right, without a slew. Its
/// status is synchronised, as before, without a leap second.
fn expect_handed_back(vm: Vm, frequency: f64) -> anyhow::Result<()> {
    const LEAP: i64 = 0x10 | 0x20; // STA_INS, STA_DEL
    let kernel = vm.probe()?.kernel()?;
    let sane = kernel.synchronized && kernel.status & LEAP == 0;
    // A slew would be thousands of ppm.
    let kept = (kernel.frequency_ppm - frequency).abs() < 5.0;
    ensure!(sane && kept, "{} is left with {kernel:?}, and {frequency} ppm was right", vm.name());
    Ok(())
}

fn uninstall_leaves_the_crds(frequencies: &[(Vm, f64)]) -> anyhow::Result<()> {
    kubectl::helm(&["uninstall", "timesync", "--namespace", NAMESPACE])?;
    wait::until("the agents to go", "10 s", Duration::from_secs(90), || {
        Ok((kubectl::get(&format!("pods -n {NAMESPACE}"))?["items"].as_array().is_some_and(Vec::is_empty))
            .then_some(()))
    })?;
    for name in ["timesyncpolicies.timesync.dev", "nodeclocks.timesync.dev"] {
        kubectl::sh(&format!("get crd {name}"))?;
    }
    under_test::expect_uninstalled()?;
    // The clocks continue unchanged.
    for (vm, frequency) in frequencies {
        under_test::expect_within(*vm, 10 * MS, 0)?;
        expect_handed_back(*vm, *frequency)?;
    }
    Ok(())
}
