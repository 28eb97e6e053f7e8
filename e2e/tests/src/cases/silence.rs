//! All upstreams are silent: holdover while the error bound allows it, then unsynchronised in every status, but no node
//! keeps a taint; and synchronised again when they answer.
use std::time::Duration;

use anyhow::{Context, ensure};
use contract::Reason;
use lab::{
    agent_http::Agent,
    install, kubectl, ntp_query,
    under_test::{self, WRONG_TAINT},
    upstream, vm, wait,
};

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    install::upgrade(&["operator.nodes.taints=true"])?;
    install::wait_for_pods()?;
    under_test::or_else(story(), put_back)?;
    put_back()
}

fn put_back() -> anyhow::Result<()> {
    install::upgrade(&["operator.nodes.taints=false"])?;
    install::wait_for_pods()?;
    under_test::settle()
}

fn story() -> anyhow::Result<()> {
    // A threshold that the bound, which grows by some parts per million, reaches in minutes: well above the largest of
    // several readings, so that the clocks are in holdover for a while.
    let mut bound: f64 = 0.0;
    wait::holds_for("a bound", Duration::from_secs(8), || {
        for vm in vm::VMS {
            bound = bound
                .max(under_test::report(vm)?.clock.error_bound.context("a synchronised clock has a bound")?);
        }
        Ok(())
    })?;
    let threshold = format!("{}us", (bound * 1.3e6).ceil() + 1_000.0);
    eprintln!("  error bound {:.1} ms, threshold {threshold}", bound * 1e3);
    let one_taint = "  nodeTaint: {effect: NoSchedule, after: 3s, maxNodes: 1}\n";
    under_test::apply_four(&format!("  thresholds: {{errorBound: {threshold}, hold: 5s}}\n{one_taint}"))?;
    under_test::wait_for_profile(Duration::from_secs(30))?;
    for vm in vm::VMS {
        under_test::wait_for_report(vm, "to be synchronised", Duration::from_secs(30), |report| {
            report.clock.synchronized
        })?;
    }

    upstream::bend_all("silent=1")?;
    for vm in vm::VMS {
        under_test::wait_for_condition(
            vm,
            "UpstreamsReachable",
            "False",
            "Unreachable",
            Duration::from_secs(60),
        )?;
    }
    let held = vm::VMS[0];
    // The eighth poll has been sent; the engine gives its answer a second or two before it counts.
    let in_holdover =
        |report: &contract::Report| report.clock.synchronized && report.clock.reason == Reason::Holdover;
    under_test::wait_for_report(held, "to be in holdover", Duration::from_secs(20), in_holdover)?;
    let reply = ntp_query::ask(&held.address())?;
    ensure!(reply.leap == 0 && reply.stratum == 2, "in holdover the wire says {reply:?}");

    for vm in vm::VMS {
        under_test::wait_for_condition(
            vm,
            "Synchronized",
            "False",
            Reason::ErrorBound.as_str(),
            Duration::from_secs(600),
        )?;
        under_test::wait_for_node(&vm.name(), "False", Reason::ErrorBound.as_str())?;
        ensure!(!under_test::report(vm)?.clock.synchronized, "the condition is not what the agent says");
        ensure!(
            Agent::at(&vm.address())?.metric("timesync_synchronized")? == 0.0,
            "the metric says synchronised"
        );
        let reply = ntp_query::ask(&vm.address())?;
        ensure!(reply.leap == 3 && reply.stratum == 0, "unsynchronised, and says on the wire {reply:?}");
        ensure!(!vm.probe()?.kernel()?.synchronized, "unsynchronised, and the kernel is told otherwise");
    }

    no_node_is_tainted()?;
    // With the usual threshold, so that it stays right.
    under_test::apply_four("  thresholds: {hold: 5s}\n")?;
    under_test::wait_for_profile(Duration::from_secs(60))?;
    upstream::bend_all("silent=0")?;
    for vm in vm::VMS {
        under_test::wait_for_condition(
            vm,
            "Synchronized",
            "True",
            Reason::Synchronized.as_str(),
            Duration::from_secs(120),
        )?;
        ensure!(
            Agent::at(&vm.address())?.metric("timesync_synchronized")? == 1.0,
            "the metric says unsynchronised"
        );
        ensure!(ntp_query::ask(&vm.address())?.leap == 0, "synchronised again, and the wire says otherwise");
        ensure!(vm.probe()?.kernel()?.synchronized, "synchronised again, and the kernel is told otherwise");
    }
    for vm in vm::VMS {
        // The Node says so later, after thresholds.hold.
        under_test::wait_for_node(&vm.name(), "True", Reason::Synchronized.as_str())?;
        under_test::wait_for_event(vm, "SynchronizationLost")?;
        under_test::wait_for_event(vm, "SynchronizationRegained")?;
    }
    Ok(())
}

/// More clocks are wrong than the policy allows to taint: the cause is a common one.
fn no_node_is_tainted() -> anyhow::Result<()> {
    wait::until("the policy to hold taints", "5 s", Duration::from_secs(60), || {
        let status = kubectl::policy(under_test::POLICY)?.status.unwrap_or_default();
        let held = status.conditions.iter().any(|condition| {
            condition.type_ == "TaintsHeld"
                && condition.status == "True"
                && condition.reason == "TooManyNodes"
        });
        Ok(held.then_some(()))
    })?;
    // The first one was tainted if the second one followed later than `after`.
    for vm in vm::VMS {
        under_test::wait_for_taint(&vm.name(), WRONG_TAINT, None)?;
    }
    wait::holds_for("no node is tainted", Duration::from_secs(10), || {
        under_test::expect_no_taint(WRONG_TAINT)
    })
}
