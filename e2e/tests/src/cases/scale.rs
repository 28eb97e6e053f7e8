//! 200 simulated nodes on their own control plane: what the operator writes, how often and in which order. It only
//! counts. `make bench-scale` measures times.
use std::time::Instant;

use anyhow::ensure;
use fleet::{
    measure,
    operator::CONTAINER_LIMIT,
    world::{POLICY, World},
};

/// The number of nodes at the end.
const NODES: usize = 200;
/// The number of nodes at the first measurement of the operator's memory.
const FEW: usize = 20;

pub(crate) fn run() -> anyhow::Result<()> {
    fleet::on_a_world(FEW, |world| {
        let start = measure::first_start(world, CONTAINER_LIMIT)?;
        ensure!(
            start.rolled_out.is_some(),
            "the operator does not work with a soft limit of {CONTAINER_LIMIT} descriptors"
        );
        memory(world)?;
        an_edit(world)?;
        news_in_a_rollout(world)?;
        a_restart(world)?;
        a_restart_in_a_rollout(world)?;
        world.expect_no_fault()?;
        let events = world.expect_each_event_once()?;
        eprintln!("  {events} Events, each once");
        Ok(())
    })
}

/// The largest growth of the operator's memory per further node; 26 kB were measured. The first few hundred nodes need
/// more each than later ones: with 5,000 nodes the operator used 83 MB.
const KILOBYTES_PER_NODE: f64 = 40.0;

#[expect(clippy::cast_precision_loss, reason = "counts of nodes")]
fn memory(world: &World) -> anyhow::Result<()> {
    world.settle()?;
    let few = world.running()?.usage()?.megabytes;
    world.grow(NODES - FEW)?;
    world.settle()?;
    let many = world.running()?.usage()?.megabytes;
    let each = (many - few) * 1024.0 / (NODES - FEW) as f64;
    eprintln!("  operator: {few:.1} MB with {FEW} nodes, {many:.1} MB with {NODES}: {each:.0} kB a node");
    ensure!(each <= KILOBYTES_PER_NODE, "a node takes {each:.0} kB of the operator's memory");
    Ok(())
}

/// Per node one annotation and one NodeClock, and a few other writes.
const WRITES_PER_NODE: f64 = 2.1;

#[expect(clippy::cast_precision_loss, reason = "counts of nodes")]
fn an_edit(world: &mut World) -> anyhow::Result<()> {
    let edit = measure::edit(world)?;
    let writes = edit.bill.of_nodes() as f64 / NODES as f64;
    eprintln!("  an edit: {writes:.2} writes a node, {} nudges: {}", edit.nudges, edit.bill.shown());
    ensure!(edit.nudges == 0, "{} kubelets were nudged, and none was late", edit.nudges);
    ensure!(writes <= WRITES_PER_NODE, "an edit takes {writes:.2} writes a node: {}", edit.bill.shown());
    Ok(())
}

/// A silent node delays the end of the rollout. Meanwhile other nodes lose synchronisation, which must be reported.
fn news_in_a_rollout(world: &mut World) -> anyhow::Result<()> {
    let before = world.settle()?;
    let silent = [1];
    world.fleet.silence(&silent);
    let begun = Instant::now();
    let generation = world.edit()?;
    let (profile, _) = world.wait_assigned(POLICY, &before)?;
    let agents = world.fleet.agents(&world.tenth());
    agents.iter().for_each(|agent| agent.synchronize(false));
    let lost = i32::try_from(agents.len())?;
    world.wait_policy(POLICY, "the policy to tell of it in the rollout", begun, |seen| {
        let nodes = seen.status.nodes.as_ref();
        let counted = nodes.is_some_and(|nodes| nodes.synchronized <= nodes.matched - lost);
        counted && seen.condition("Synchronized") == "False" && seen.condition("RolledOut") == "False"
    })?;
    agents.iter().for_each(|agent| agent.synchronize(true));
    world.runtime.block_on(world.fleet.speak(&silent))?;
    world.wait_rolled_out(generation, &profile, begun)?;
    Ok(())
}

fn a_restart(world: &mut World) -> anyhow::Result<()> {
    let bill = measure::restart(world)?;
    eprintln!("  a restart: {}", bill.shown());
    ensure!(bill.of("pods") == 0, "a restart wrote {} annotations", bill.of("pods"));
    let clocks = bill.of("nodeclocks") + bill.of("nodeclocks/status");
    ensure!(clocks <= NODES as u64 / 10, "a restart wrote {clocks} NodeClocks of which nothing had changed");
    // If the operator sends an Event again, the API server refuses it, and it does not count here.
    ensure!(bill.done("events") == 0, "a restart told {} Events", bill.done("events"));
    Ok(())
}

fn a_restart_in_a_rollout(world: &mut World) -> anyhow::Result<()> {
    let found = measure::restart_in_a_rollout(world)?;
    eprintln!("  a restart in a rollout: {} annotations more than nodes", found.surplus);
    ensure!(found.surplus <= measure::IN_FLIGHT, "{} annotations were written twice", found.surplus);
    world.settle()?;
    Ok(())
}
