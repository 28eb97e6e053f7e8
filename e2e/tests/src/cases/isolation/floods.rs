//! Agents whose reports are too large, or have too many transitions.
use std::time::{Duration, Instant};

use anyhow::ensure;
use fleet::{
    agent::Flood,
    world::{POLICY, World},
};
use lab::{readings, wait};

use super::{NODES, counts, edit_all_but, expect_counted};

/// The slot of the agent that floods. No other test uses it, so that only the flood uses its budget of Events.
const SLOT: usize = 4;
const NODE: &str = "node-00004";

/// A report of 14,000 transitions and 900 kB is not read. The node counts as not reporting, and others are not
/// affected.
pub(super) fn of_text(world: &mut World) -> anyhow::Result<()> {
    let before = world.peak_megabytes();
    let agents = world.fleet.agents(&[SLOT]);
    agents[0].flood(Some(Flood { transitions: 14_000, text: 64 }));
    let begun = Instant::now();
    let (generation, profile) = edit_all_but(world, 0)?;
    world.wait_policy(POLICY, "the policy to say why one node is not heard of", begun, |seen| {
        counts(seen.status.nodes.as_ref(), |nodes| nodes.applied, NODES - 1)
            && seen.message("RolledOut").contains(NODE)
    })?;
    world.wait("its NodeClock to say Unknown", || {
        let clock = world.seen.clocks().remove(NODE)?;
        readings::note(NODE, &format!("{clock:?}"));
        (clock.synchronized == "Unknown").then_some(())
    })?;
    expect_counted(world, r#"timesync_collect_failures_total{reason="TooLarge"}"#)?;
    let grown = world.peak_megabytes() - before;
    ensure!(grown < 20.0, "one agent's report cost the operator {grown:.0} MB");
    agents[0].flood(None);
    world.wait_rolled_out(generation, &profile, begun).map(drop)
}

/// The largest number of Events of one node during the test: its budget for the one kind that floods, and a few more of
/// that kind as time passes.
const MOST_EVENTS: usize = 13;

/// Reports within the limits, with ten new transitions of one kind five times a second: the node's budget limits its
/// Events, and the rest is counted.
pub(super) fn of_transitions(world: &mut World) -> anyhow::Result<()> {
    let agents = world.fleet.agents(&[SLOT]);
    agents[0].flood(Some(Flood { transitions: 60, text: 8 }));
    let begun = Instant::now();
    let told = || world.seen.events().iter().filter(|event| event.object == NODE).count();
    wait::holds_for("the node keeps to its budget", Duration::from_secs(10), || {
        ensure!(told() <= MOST_EVENTS, "{} Events of one node", told());
        Ok(())
    })?;
    expect_counted(world, "timesync_events_dropped_total")?;
    let (generation, profile) = edit_all_but(world, 0)?;
    world.wait_rolled_out(generation, &profile, begun)?;
    agents[0].flood(None);
    Ok(())
}
