//! Staged rollout: a bad profile stops at the canary and is aborted; a good one goes to all nodes, also if the operator
//! ends in between.
use std::time::Duration;

use anyhow::{Context, ensure};
use api::{PauseReason, RolloutState, RolloutVerb};
use contract::Assignment;
use lab::{
    install::{self, NAMESPACE},
    kubectl, under_test, upstream,
    vm::{self, Vm},
    wait,
};

/// The first of the two by name gets a profile first.
const CANARY: Vm = vm::VMS[0];
const OTHER: Vm = vm::VMS[1];
const FIELD: &str = "  rollout: {canary: 1, batch: 50%, settle: 5s}\n";

/// An upstream that is wrong, an abort, and a good profile with a restart of the operator in the middle.
pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    under_test::or_else(liar_then_good(), under_test::settle)?;
    under_test::settle()
}

/// The other kinds of bad upstreams.
pub(super) fn bad_upstreams() -> anyhow::Result<()> {
    under_test::settle()?;
    under_test::or_else(each_stops(), under_test::settle)?;
    under_test::settle()
}

fn liar_then_good() -> anyhow::Result<()> {
    // Beyond thresholds.offset. At the usual slew rate it takes a minute and more until the canary has followed.
    upstream::bend(3, "offset=0.15")?;
    let liar = format!("name: d, server: {}", upstream::BENT[3]);
    stops_at_the_canary(&liar, PauseReason::Regression)?;
    upstream::bend(3, upstream::HONESTLY)?;

    let four = under_test::four();
    let three: Vec<_> = four[..3].iter().map(String::as_str).collect();
    let before = assigned(OTHER)?;
    under_test::apply(&three, FIELD)?;
    let after = wait::until("the canary to get the profile", "2 s", Duration::from_secs(30), || {
        // Read before the canary's, which may have settled a moment later.
        let others = assigned(OTHER)?;
        let canarys = Some(assigned(CANARY)?).filter(|assigned| *assigned != before);
        ensure!(canarys.is_none() || others == before, "both nodes have the new profile at once");
        Ok(canarys)
    })?;
    install::kill_operators()?;
    wait::until("the other node to get it, too", "60 s", Duration::from_secs(120), || {
        ensure!(assigned(CANARY)? == after, "the canary has lost the profile");
        Ok((assigned(OTHER)? == after).then_some(()))
    })?;
    wait_for_state(RolloutState::Done)?;
    let policy = kubectl::policy(under_test::POLICY)?.status.context("a status")?;
    ensure!(policy.updated.as_deref() == Some("2/2"), "UPDATED is {:?}", policy.updated);
    Ok(())
}

fn each_stops() -> anyhow::Result<()> {
    let last = format!("name: d, server: {}", upstream::BENT[3]);
    upstream::bend(3, "silent=1")?;
    stops_at_the_canary(&last, PauseReason::NoAnswer)?;
    upstream::bend(3, &upstream::alone("stratum=16"))?;
    stops_at_the_canary(&last, PauseReason::NoAnswer)?;
    upstream::bend(3, upstream::HONESTLY)?;
    stops_at_the_canary("name: d, server: no-such-server.invalid", PauseReason::NoAnswer)
}

/// Applies the usual policy, and waits until its rollout is Done. It has no stages, because its profile already runs or
/// is the last good one. An annotation of an earlier rollout has no effect.
fn begin() -> anyhow::Result<()> {
    under_test::apply_four(FIELD)?;
    wait_for_state(RolloutState::Done)
}

/// Applies the policy with this upstream alone. The canary must get it and the other node never; an abort brings the
/// former profile back.
fn stops_at_the_canary(upstream: &str, reason: PauseReason) -> anyhow::Result<()> {
    begin()?;
    let before = assigned(OTHER)?;
    ensure!(assigned(CANARY)? == before, "the nodes begin with different profiles");
    let events = |reason: &str| under_test::events(under_test::POLICY, reason);
    let (pauses, aborts) = (events("RolloutPaused")?, events("RolloutAborted")?);
    under_test::apply(&[upstream], FIELD)?;
    let paused = wait::until(
        &format!("the rollout of {upstream} to pause ({reason:?})"),
        "200 s at most",
        Duration::from_secs(300),
        || {
            ensure!(assigned(OTHER)? == before, "the other node has got the profile of {upstream}");
            let status = under_test::rollout()?;
            Ok(status.filter(|status| status.paused == Some(reason)))
        },
    )?;
    ensure!(paused.message.contains(&CANARY.name()), "it names {}", paused.message);
    ensure!(assigned(CANARY)? == paused.profile, "the canary has {}", assigned(CANARY)?);
    ensure!(under_test::report(OTHER)?.clock.synchronized, "the other node is not synchronised");
    let table = kubectl::sh(&format!("get tsp {}", under_test::POLICY))?;
    ensure!(table.contains(reason.as_str()) && table.contains("1/2"), "kubectl get tsp shows {table}");
    under_test::wait_for_new_event(under_test::POLICY, "RolloutPaused", &pauses)?;
    install::kill_operators()?;
    wait::holds_for("the other node keeps its profile", Duration::from_secs(20), || {
        ensure!(assigned(OTHER)? == before, "it has another one");
        ensure!(assigned(CANARY)? == paused.profile, "the canary has {}", assigned(CANARY)?);
        Ok(())
    })?;

    let message = paused_message()?;
    let abort = under_test::request(RolloutVerb::Abort, &paused)?;
    ensure!(message.contains(&abort), "the condition does not name {abort}: {message}");
    wait::until("the canary to have its former profile", "10 s", Duration::from_secs(120), || {
        let back = under_test::report(CANARY)?.profile.map(|profile| profile.to_string());
        Ok((back.as_ref() == Some(&before)).then_some(()))
    })?;
    wait_for_state(RolloutState::Aborted)?;
    under_test::wait_for_new_event(under_test::POLICY, "RolloutAborted", &aborts)?;
    install::kill_operators()?;
    wait::holds_for("an aborted profile stays away", Duration::from_secs(20), || {
        ensure!(assigned(CANARY)? == before && assigned(OTHER)? == before, "a node has it again");
        Ok(())
    })?;
    under_test::wait_for_report(CANARY, "to be synchronised", Duration::from_secs(60), |report| {
        report.clock.synchronized && report.clock.confirmed
    })?;
    Ok(())
}

/// The message of the policy's condition RolledOut.
fn paused_message() -> anyhow::Result<String> {
    let status = kubectl::policy(under_test::POLICY)?.status.unwrap_or_default();
    let rolled_out = status.conditions.into_iter().find(|condition| condition.type_ == "RolledOut");
    Ok(rolled_out.context("a condition RolledOut")?.message)
}

fn wait_for_state(wanted: RolloutState) -> anyhow::Result<()> {
    wait::until(&format!("the rollout to be {wanted:?}"), "2 s", Duration::from_secs(60), || {
        Ok(under_test::rollout()?.filter(|status| status.state == wanted).map(|_| ()))
    })
}

/// The profile in the annotation of a machine's agent.
fn assigned(vm: Vm) -> anyhow::Result<String> {
    let pod = install::agent_on(&vm.name())?;
    let pod = kubectl::get(&format!("pod {pod} -n {NAMESPACE}"))?;
    let profile = pod["metadata"]["annotations"][Assignment::ANNOTATION].as_str().map(str::to_owned);
    profile.with_context(|| format!("the agent on {} has no profile", vm.name()))
}
