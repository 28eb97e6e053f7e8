//! Another program sets a node's clock: an hour back under `Restore`, and an hour forward under `Report`, after which
//! the policy changes to `Restore`. Each step is reported immediately, and the other node's clock does not move.
use std::time::Duration;

use anyhow::{Context, ensure};
use contract::{Reason, Report};
use lab::{
    agent_http::Agent,
    kubectl, truth,
    under_test::{self, MS},
    vm::{self, Vm},
    wait,
};

const HOUR: i64 = 3_600_000_000_000;

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    under_test::or_else(back_under_restore().and_then(|()| forward_under_report()), under_test::begin_anew)
}

/// Steps the clock of one machine. The next check uses the other one, since a second step of the same clock within ten
/// minutes would be a conflict.
fn back_under_restore() -> anyhow::Result<()> {
    let (moved, other) = (vm::VMS[0], vm::VMS[1]);
    let before = under_test::report(moved)?.clock.external_steps;
    let watch = kubectl::Watch::of_node_clock(&moved.name())?;
    moved.probe()?.step(-HOUR)?;
    wait::until("the clock to be put back, the other as it was", "5 s", Duration::from_secs(60), || {
        under_test::expect_within(other, 2 * MS, 0)?;
        Ok((moved.probe()?.offset()?.offset.abs() < MS).then_some(()))
    })?;
    watch.wait_for("Synchronized=False (UnexplainedJump)", Duration::from_secs(30), |status| {
        status.conditions.iter().any(|condition| {
            condition.type_ == "Synchronized"
                && condition.status == "False"
                && condition.reason == Reason::UnexplainedJump.as_str()
        })
    })?;
    right_again(moved, before + 1)?;
    let seen = under_test::report(moved)?.clock.last_external_step.context("it says when it was moved")?;
    ensure!((seen.by + 3600.0).abs() < 1.0, "it was moved by an hour, and says {seen:?}");
    both_agree()
}

fn forward_under_report() -> anyhow::Result<()> {
    let (other, moved) = (vm::VMS[0], vm::VMS[1]);
    let before = under_test::report(moved)?.clock.external_steps;
    under_test::apply_with_clock("onExternalStep: Report", "")?;
    under_test::wait_for_profile(Duration::from_secs(60))?;
    moved.probe()?.step(HOUR)?;
    let reason = Reason::ExternalStep.as_str();
    under_test::wait_for_condition(moved, "Synchronized", "False", reason, Duration::from_secs(60))?;
    under_test::wait_for_node(&moved.name(), "False", reason)?;
    wait::holds_for("nothing moves it", Duration::from_secs(10), || {
        under_test::expect_within(other, 2 * MS, 0)?;
        under_test::expect_within(moved, 100 * MS, HOUR)?;
        let report = under_test::report(moved)?;
        ensure!(!report.clock.synchronized && report.clock.reason == Reason::ExternalStep, "{report:?}");
        Ok(())
    })?;
    ensure!(!moved.probe()?.kernel()?.synchronized, "an hour off, and the kernel says that it is right");
    under_test::apply_four("")?;
    wait::until("the clock to be put back by the new orders", "5 s", Duration::from_secs(60), || {
        under_test::expect_within(other, 2 * MS, 0)?;
        Ok((moved.probe()?.offset()?.offset.abs() < MS).then_some(()))
    })?;
    right_again(moved, before + 1)?;
    both_agree()
}

/// Every status is synchronised, and the clock stays within a millisecond. The step was reported once, and no conflict
/// is reported.
fn right_again(moved: Vm, steps: u32) -> anyhow::Result<()> {
    let right = |report: &Report| report.clock.synchronized;
    under_test::wait_for_report(moved, "to be synchronised", Duration::from_secs(60), right)?;
    let reason = Reason::Synchronized.as_str();
    under_test::wait_for_condition(moved, "Synchronized", "True", reason, Duration::from_secs(60))?;
    under_test::wait_for_event(moved, "ExternalStep")?;
    let told = kubectl::node_clock(&moved.name())?.and_then(|clock| clock.status).context("a status")?;
    ensure!(told.external_steps == i32::try_from(steps).ok(), "NodeClock counts {:?}", told.external_steps);
    let counted = Agent::at(&moved.address())?.metric("timesync_external_steps_total")?;
    ensure!((counted - f64::from(steps)).abs() < 0.5, "the metric counts {counted}");
    wait::holds_for("the clock is right, and nobody fights", Duration::from_secs(5), || {
        under_test::expect_within(moved, 2 * MS, 0)?;
        let report = under_test::report(moved)?;
        ensure!(report.clock.synchronized && report.conflict.is_none(), "{report:?}");
        ensure!(report.clock.external_steps == steps, "{} steps", report.clock.external_steps);
        Ok(())
    })?;
    ensure!(moved.probe()?.kernel()?.synchronized, "right again, and the kernel says otherwise");
    Ok(())
}

fn both_agree() -> anyhow::Result<()> {
    let clocks = [under_test::median(vm::VMS[0])?.offset, under_test::median(vm::VMS[1])?.offset];
    ensure!(clocks.iter().all(|clock| clock.abs() < MS), "{clocks:?} ns");
    let apart = clocks[0] - clocks[1];
    ensure!(apart.abs() < 2 * MS, "the nodes are {} apart", truth::shown(apart));
    eprintln!("  medians {} and {}", truth::shown(clocks[0]), truth::shown(clocks[1]));
    Ok(())
}
