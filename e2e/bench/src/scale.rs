//! Measures the operator at the size of large clusters: a control plane without nodes, a fleet of agents in one
//! process, the real operator, and a bare client for comparison. Writes its part of docs/benchmarks.md.
use std::{thread, time::Duration};

use fleet::{
    measure::{self, Edit},
    operator,
    world::World,
};
use xtask::{image, interrupt, page};

use crate::ratio::median;

mod bare;

mod trouble;

mod table;

use table::Table;

/// The numbers of nodes whose tables are in the page.
const IN_THE_PAGE: [usize; 2] = [1000, 5000];

/// The number of edits in the steady state.
const ROUNDS: usize = 3;

/// Measures with `nodes` nodes, and writes this part of the page.
pub(crate) fn run(nodes: usize) -> anyhow::Result<()> {
    image::build_programs(image::OF_NODES)?;
    let table = fleet::on_a_world(nodes, measure_all)?;
    let text = format!("{}\n\n{}", conditions(nodes), table.text());
    print!("{text}");
    if IN_THE_PAGE.contains(&nodes) {
        page::put(&format!("scale-{nodes}"), &text)?;
    } else {
        eprintln!("docs/benchmarks.md has tables of {IN_THE_PAGE:?} nodes; this one is printed only");
    }
    Ok(())
}

fn measure_all(world: &mut World) -> anyhow::Result<Table> {
    let mut table = Table::default();
    let nodes = world.count();
    let start = measure::first_start(world, operator::CONTAINER_LIMIT)?;
    let what = "soft limit of 1,024 descriptors: first start, and an edit, to RolledOut";
    let said = match start.rolled_out {
        Some([start, edit]) => format!("{start:.1} s, {edit:.1} s"),
        None => format!("not both; {} of {nodes} annotated", start.annotated),
    };
    table.fact(what, &said, start.rolled_out.is_some(), "works");
    attempt(&mut table, world, "peace", peace)?;
    attempt(&mut table, world, "edits", edits)?;
    attempt(&mut table, world, "loss of synchronisation", losses)?;
    attempt(&mut table, world, "restart in peace", restart)?;
    attempt(&mut table, world, "restart in the middle of a rollout", restart_in_a_rollout)?;
    attempt(&mut table, world, "slow agents", slow)?;
    attempt(&mut table, world, "silent agents", silence)?;
    attempt(&mut table, world, "two policies that flip", flip)?;
    attempt(&mut table, world, "churn", churn)?;
    attempt(&mut table, world, "what was written", faults)?;
    Ok(table)
}

/// Runs one measurement. If it fails, a row reports that, and a new operator starts for the other measurements.
fn attempt(
    table: &mut Table,
    world: &mut World,
    what: &str,
    run: fn(&mut Table, &mut World) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    eprintln!("scale: {what}");
    let result = run(table, world);
    interrupt::check()?;
    if let Err(error) = result {
        eprintln!("  {error:#}");
        table.failed(what, &error);
        world.stop("-KILL")?;
        world.start()?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of nodes")]
fn peace(table: &mut Table, world: &mut World) -> anyhow::Result<()> {
    let found = measure::peace(world, Duration::from_secs(60))?;
    table.figure("resident memory in peace", found.megabytes, "MB", Some(120.0));
    table.figure("processor in peace, over a minute", found.cores, "cores", Some(0.1));
    let aim = world.count() as f64 / 300.0 + 1.0;
    let what = format!("NodeClock writes in peace, over {:.0} s", found.seconds);
    table.figure(&what, found.clock_writes_per_second, "a second", Some(aim));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of nodes")]
fn edits(table: &mut Table, world: &mut World) -> anyhow::Result<()> {
    let edits = (0..ROUNDS).map(|_| measure::edit(world)).collect::<anyhow::Result<Vec<_>>>()?;
    let peak = world.peak_megabytes();
    let bare = bare::measure(world)?;
    let middle = |figure: fn(&Edit) -> f64| median(&mut edits.iter().map(figure).collect::<Vec<_>>());
    let annotated = middle(|edit| edit.annotated);
    table.beside("edit to the last annotation", annotated, bare.annotated, 1.1);
    table.figure("edit to the last agent that runs it", middle(|edit| edit.ran), "s", None);
    table.figure("from there to the policy's RolledOut", middle(|edit| edit.told), "s", Some(5.0));
    table.figure("from there to the last NodeClock", middle(|edit| edit.clocks), "s", None);
    let nodes = world.count() as f64;
    let writes = edits.iter().map(|edit| edit.bill.of_nodes() as f64 / nodes).collect::<Vec<_>>();
    table.figure("API writes per node and edit", median(&mut writes.clone()), "", Some(2.1));
    let nudges: usize = edits.iter().map(|edit| edit.nudges).sum();
    table.fact("nudges in these edits", &nudges.to_string(), nudges == 0, "none");
    for edit in &edits {
        eprintln!("    writes: {}", edit.bill.shown());
    }
    table.figure("peak of resident memory in these edits and before", peak, "MB", None);
    Ok(())
}

fn losses(table: &mut Table, world: &mut World) -> anyhow::Result<()> {
    let found = measure::loss(world)?;
    let bare = bare::measure(world)?;
    let both = found.clocks.max(found.events);
    table.beside("10 % lose synchronisation: to the last NodeClock and Event", both, bare.told, 1.2);
    table.figure("the same, to the policy's condition", found.condition, "s", Some(2.0));
    table.figure("the same, until the policy counts all of them", found.counted, "s", None);
    let condition = measure::loss_in_a_rollout(world)?;
    table.figure("the same in the middle of a rollout, to the condition", condition, "s", Some(2.0));
    Ok(())
}

fn restart(table: &mut Table, world: &mut World) -> anyhow::Result<()> {
    let bill = measure::restart(world)?;
    let annotations = bill.of("pods");
    table.fact("restart in peace: annotations written", &annotations.to_string(), annotations == 0, "none");
    let clocks = bill.of("nodeclocks") + bill.of("nodeclocks/status");
    let told = bill.done("events");
    table.fact(
        "the same: NodeClocks and Events written",
        &format!("{clocks} and {told}"),
        told == 0,
        "no Event",
    );
    Ok(())
}

fn restart_in_a_rollout(table: &mut Table, world: &mut World) -> anyhow::Result<()> {
    let found = measure::restart_in_a_rollout(world)?;
    table.figure(
        "restart in the middle of a rollout: edit to the last annotation",
        found.annotated,
        "s",
        None,
    );
    let (most, said) = (measure::IN_FLIGHT, format!("{} more than nodes", found.surplus));
    let aim = format!("{most} at most, in flight at its end");
    table.fact("the same: annotations written", &said, found.surplus <= most, &aim);
    Ok(())
}

fn slow(table: &mut Table, world: &mut World) -> anyhow::Result<()> {
    let (annotated, told) = trouble::slow(world)?;
    table.figure("10 % take 5 s for each answer: edit to the last annotation", annotated, "s", None);
    table.figure(
        "the same: last agent that runs it to the policy's count of the others",
        told,
        "s",
        Some(5.0),
    );
    Ok(())
}

fn silence(table: &mut Table, world: &mut World) -> anyhow::Result<()> {
    let found = trouble::silence(world)?;
    table.figure("10 % silent: edit to the last annotation", found.annotated, "s", None);
    let what = "the same: last agent that runs it to the policy's count of the others";
    table.figure(what, found.told, "s", Some(5.0));
    table.figure("10 % silent: to the last NodeClock that says Unknown", found.noticed, "s", Some(130.0));
    table.figure("they answer again: to the policy's RolledOut", found.recovered, "s", None);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of nodes")]
fn flip(table: &mut Table, world: &mut World) -> anyhow::Result<()> {
    let found = trouble::flip(world, Duration::from_secs(60))?;
    let what = format!("two policies flip {} times, each 5 s: last flip to the last annotation", found.flips);
    table.figure(&what, found.annotated, "s", None);
    table.figure("the same: last flip to RolledOut", found.told, "s", None);
    let writes = found.bill.of_nodes() as f64 / world.count() as f64 / found.flips as f64;
    table.figure("the same: API writes per node and flip", writes, "", Some(2.1));
    let (configs, most) = (found.bill.of("configmaps"), 2 * found.flips as u64);
    table.fact(
        "the same: writes of the ConfigMap",
        &configs.to_string(),
        configs <= most,
        &format!("{most} at most"),
    );
    Ok(())
}

fn churn(table: &mut Table, world: &mut World) -> anyhow::Result<()> {
    let found = trouble::churn(world, Duration::from_secs(60))?;
    let [middle, most] = found.annotated;
    let what =
        format!("{} nodes replaced in a minute: a pod's address to its annotation, median", found.replaced);
    table.figure(&what, middle, "s", None);
    table.figure("the same, most", most, "s", Some(5.0));
    table.figure("the same: last node to all settled", found.told, "s", None);
    Ok(())
}

fn faults(table: &mut Table, world: &mut World) -> anyhow::Result<()> {
    let faults = world.fleet.faults();
    faults.iter().take(5).for_each(|fault| eprintln!("    {fault}"));
    table.fact(
        "pods that named a profile which the ConfigMap did not hold",
        &faults.len().to_string(),
        faults.is_empty(),
        "none",
    );
    let events = world.expect_each_event_once()?;
    table.fact("Events told, each once", &events.to_string(), true, "each once");
    table.figure("peak of resident memory in all of this", world.peak_megabytes(), "MB", None);
    Ok(())
}

/// The conditions of the measurement.
fn conditions(nodes: usize) -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!(
        "`NODES={nodes} make bench-scale` writes this part. The last run was on a machine with {cores} cores, which carried etcd,\n\
         kube-apiserver, the operator, {nodes} agents in one process, and the observer."
    )
}
