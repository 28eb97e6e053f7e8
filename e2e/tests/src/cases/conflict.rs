//! A second daemon on a node: Debian's chronyd steers the node's clock and has its NTP port. Both are reported with its
//! name, and the agent only observes. After chronyd has ended, the agent steers and serves again by itself.
use std::time::Duration;

use anyhow::{Context, ensure};
use contract::Report;
use lab::{
    kubectl,
    under_test::{self, MS},
    upstream,
    vm::{self, Vm},
    wait,
};

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let (rivalled, other) = (vm::VMS[0], vm::VMS[1]);
    under_test::or_else(beside(rivalled, other), || {
        stop_chronyd(rivalled)?;
        under_test::begin_anew()
    })
}

fn beside(rivalled: Vm, other: Vm) -> anyhow::Result<()> {
    // Otherwise chronyd would not get the port.
    under_test::apply_four("  serve: {enabled: false}\n")?;
    under_test::wait_for_profile(Duration::from_secs(60))?;
    under_test::wait_for_condition(rivalled, "Serving", "False", "Disabled", Duration::from_secs(60))?;
    start_chronyd(rivalled, "allow 172.30.0.0/24")?;
    under_test::wait_for_condition(rivalled, "Conflict", "True", "SecondWriter", Duration::from_secs(60))?;
    is_told(rivalled)?;

    under_test::apply_four("")?;
    under_test::wait_for_condition(rivalled, "Serving", "False", "PortTaken", Duration::from_secs(60))?;
    let message = under_test::message(rivalled, "Serving")?;
    ensure!(message.contains("chronyd"), "Serving does not say who has the port: {message}");
    under_test::wait_for_condition(other, "Serving", "True", "Open", Duration::from_secs(60))?;
    wait::holds_for("the agent stands back", Duration::from_secs(10), || {
        let report = under_test::report(rivalled)?;
        ensure!(report.conflict.is_some(), "it takes the clock back while chronyd runs: {report:?}");
        under_test::expect_within(other, 2 * MS, 0)
    })?;
    under_test::expect_within(rivalled, 20 * MS, 0)?;

    stop_chronyd(rivalled)?;
    let again = |report: &Report| report.conflict.is_none() && report.clock.synchronized;
    under_test::wait_for_report(rivalled, "to steer again", Duration::from_secs(300), again)?;
    under_test::wait_for_condition(rivalled, "Conflict", "False", "Alone", Duration::from_secs(30))?;
    under_test::wait_for_condition(rivalled, "Serving", "True", "Open", Duration::from_secs(120))?;
    under_test::wait_for_event(rivalled, "ConflictEnded")?;
    wait::until("the policy to count no conflict", "", Duration::from_secs(60), || {
        let status = kubectl::policy(under_test::POLICY)?.status.unwrap_or_default();
        Ok((status.nodes.is_some_and(|nodes| nodes.conflicting == 0)).then_some(()))
    })?;
    under_test::settle()
}

/// Waits until the node, the policy and an Event report the conflict with the program's name.
fn is_told(rivalled: Vm) -> anyhow::Result<()> {
    let conflict = wait::until("chronyd to be named", "1 s", Duration::from_secs(60), || {
        let status = kubectl::node_clock(&rivalled.name())?.and_then(|clock| clock.status);
        let conflict = status.and_then(|status| status.conflict);
        Ok(conflict.filter(|told| told.suspects.iter().any(|name| name.starts_with("chronyd (pid "))))
    })?;
    eprintln!("  said: {}", conflict.message);
    let message = under_test::message(rivalled, "Conflict")?;
    ensure!(message.contains("chronyd (pid "), "Conflict does not say who it is: {message}");
    under_test::wait_for_event(rivalled, "Conflict")?;
    wait::until("the policy to tell of it", "", Duration::from_secs(60), || {
        let status = kubectl::policy(under_test::POLICY)?.status.unwrap_or_default();
        let told = status.conditions.iter().any(|c| c.type_ == "Conflict" && c.status == "True");
        Ok((told && status.nodes.is_some_and(|nodes| nodes.conflicting == 1)).then_some(()))
    })?;
    let status = kubectl::node_clock(&rivalled.name())?.and_then(|clock| clock.status).context("a status")?;
    ensure!(status.mode.as_deref() == Some("Observe"), "in conflict its mode is {:?}", status.mode);
    Ok(())
}

/// Starts chronyd as on a node where it was not removed: it steers the clock. `serves` is the line of its
/// configuration that says whether it serves.
pub(super) fn start_chronyd(vm: Vm, serves: &str) -> anyhow::Result<()> {
    let lines = format!(
        "server {} iburst minpoll 0 maxpoll 1\\n{serves}\\ncmdport 0\\nbindcmdaddress /\\npidfile {PID}\\n",
        upstream::HONEST
    );
    vm.run(&format!("printf '{lines}' >/run/chrony.conf && chronyd -u root -f /run/chrony.conf"))?;
    Ok(())
}

const PID: &str = "/run/e2e-chronyd.pid";

/// Ends chronyd, if it runs, and waits until it has ended.
pub(super) fn stop_chronyd(vm: Vm) -> anyhow::Result<()> {
    let end = format!(
        "pid=$(cat {PID} 2>/dev/null) || exit 0; kill $pid; \
         for i in $(seq 100); do [ -e /proc/$pid ] || exit 0; sleep 0.1; done; kill -9 $pid; rm -f {PID}"
    );
    vm.run(&end)?;
    Ok(())
}
