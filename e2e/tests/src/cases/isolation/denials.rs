//! Writes that the API server refuses.
use std::time::{Duration, Instant};

use anyhow::ensure;
use fleet::{
    denial::{Denial, MESSAGE},
    world::{POLICY, World},
};
use lab::wait;

use super::{NODES, counts, edit_all_but, expect_counted, wait_ready};

/// If one pod cannot be annotated, all others are, and the policy names that pod and the reason.
pub(super) fn of_an_annotation(world: &mut World) -> anyhow::Result<()> {
    let which = "request.resource.resource == 'pods' && request.name == 'timesync-agent-node-00001'";
    let denial = Denial::of("pod", which)?;
    let begun = Instant::now();
    let (generation, profile) = edit_all_but(world, 1)?;
    world.wait_policy(POLICY, "the policy to say why one node does not follow", begun, |seen| {
        let message = seen.message("RolledOut");
        counts(seen.status.nodes.as_ref(), |nodes| nodes.applied, NODES - 1)
            && seen.condition("RolledOut") == "False"
            && message.contains("node-00001")
            && message.contains(MESSAGE)
    })?;
    expect_counted(world, r#"timesync_write_failures_total{kind="Pod"}"#)?;
    denial.lift()?;
    world.wait_rolled_out(generation, &profile, begun).map(drop)
}

/// If Events cannot be written, statuses are written and rollouts continue. The Events are sent later.
pub(super) fn of_events(world: &mut World) -> anyhow::Result<()> {
    let denial = Denial::of("events", "request.resource.resource == 'events'")?;
    let lost = world.fleet.agents(&[2, 3]);
    let begun = Instant::now();
    lost.iter().for_each(|agent| agent.synchronize(false));
    world.wait_policy(POLICY, "the policy to tell of clocks and of Events", begun, |seen| {
        let message = seen.message("RolledOut");
        counts(seen.status.nodes.as_ref(), |nodes| nodes.synchronized, NODES - 2)
            && seen.condition("Synchronized") == "False"
            && message.contains("Event not written")
            && message.contains("node-00002")
    })?;
    wait_lost(world, &["node-00002", "node-00003"])?;
    let begun = Instant::now();
    let (generation, profile) = {
        // The fleet cannot reach its steady state while clocks are unsynchronised.
        lost.iter().for_each(|agent| agent.synchronize(true));
        edit_all_but(world, 0)?
    };
    world.wait_rolled_out(generation, &profile, begun)?;
    expect_counted(world, r#"timesync_write_failures_total{kind="Event"}"#)?;
    denial.lift()?;
    world.expect_each_event_once().map(drop)
}

/// If one NodeClock cannot be written, the others are, and the policy's status is right nevertheless.
pub(super) fn of_a_node_clock(world: &mut World) -> anyhow::Result<()> {
    let which = "request.resource.resource == 'nodeclocks' && request.name == 'node-00005'";
    let denial = Denial::of("nodeclock", which)?;
    let lost = world.fleet.agents(&[5, 6]);
    let begun = Instant::now();
    lost.iter().for_each(|agent| agent.synchronize(false));
    wait_lost(world, &["node-00006"])?;
    world.wait_policy(POLICY, "the policy to tell of both", begun, |seen| {
        let message = seen.message("RolledOut");
        counts(seen.status.nodes.as_ref(), |nodes| nodes.synchronized, NODES - 2)
            && message.contains("NodeClock not written: node-00005")
            && message.contains(MESSAGE)
    })?;
    let refused = world.seen.clocks().remove("node-00005").unwrap_or_default();
    ensure!(refused.synchronized == "True", "the denial denies nothing: {refused:?}");
    expect_counted(world, r#"timesync_write_failures_total{kind="NodeClock"}"#)?;
    denial.lift()?;
    wait_lost(world, &["node-00005"])?;
    lost.iter().for_each(|agent| agent.synchronize(true));
    Ok(())
}

/// If the Lease cannot be written, the operator stops before another one could begin, reports the reason, and continues
/// when it can.
pub(super) fn of_the_lease(world: &mut World) -> anyhow::Result<()> {
    let denial = Denial::of("lease", "request.resource.resource == 'leases'")?;
    if let Some(operator) = world.operator.take() {
        wait::until("the operator to stand back", "10 s", Duration::from_secs(60), || {
            Ok(operator.has_ended().then_some(()))
        })?;
    }
    // As a kubelet's probe does.
    world.start()?;
    wait_ready(world, 503, MESSAGE)?;
    expect_counted(world, r#"timesync_api_errors_total{resource="the Lease timesync-operator"}"#)?;
    denial.lift()?;
    wait_ready(world, 200, "")?;
    let begun = Instant::now();
    let (generation, profile) = edit_all_but(world, 0)?;
    world.wait_rolled_out(generation, &profile, begun).map(drop)
}

/// Waits until the NodeClocks of these nodes say that the clock is not synchronised.
fn wait_lost(world: &World, nodes: &[&str]) -> anyhow::Result<()> {
    world.wait(&format!("the NodeClocks of {nodes:?} to say so"), || {
        let clocks = world.seen.clocks();
        let lost = |node: &&str| clocks.get(*node).is_some_and(|clock| clock.synchronized == "False");
        nodes.iter().all(lost).then_some(())
    })
}
