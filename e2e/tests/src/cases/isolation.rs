//! A fault of one object affects only that object, and is reported: faults in a real API server, with 20 simulated
//! nodes.
mod denials;

mod floods;

mod missing;

mod policies;

mod replicas;

use anyhow::{Context, ensure};
use api::NodeCounts;
use fleet::world::{POLICY, World};
use lab::readings;

/// Enough to tell one node from the others.
const NODES: usize = 20;

/// Brings a fault, sees what else goes on, and takes the fault back.
type Fault = fn(&mut World) -> anyhow::Result<()>;

const FAULTS: &[(&str, Fault)] = &[
    ("a pod whose annotation is refused", denials::of_an_annotation),
    ("Events that are refused", denials::of_events),
    ("a NodeClock that is refused", denials::of_a_node_clock),
    ("a report of 900 kB", floods::of_text),
    ("news without end", floods::of_transitions),
    ("a right that is missing", missing::right),
    ("a CRD that is missing", missing::crd),
    ("150 large policies without nodes", policies::large),
    ("a policy whose name begins with another's", policies::with_one_beginning),
];

/// Faults after which another operator leads; each takes minutes.
const FAULTS_OF_LEADERS: &[(&str, Fault)] = &[
    ("a Lease that cannot be renewed", denials::of_the_lease),
    ("a leader that stands still", replicas::stopped),
];

pub(crate) fn run() -> anyhow::Result<()> {
    bring(FAULTS)
}

pub(crate) fn run_failover() -> anyhow::Result<()> {
    bring(FAULTS_OF_LEADERS)
}

fn bring(faults: &[(&str, Fault)]) -> anyhow::Result<()> {
    fleet::on_a_world(NODES, |world| {
        world.start()?;
        for (about, run) in faults {
            world.settle()?;
            eprintln!(" {about}");
            run(world).with_context(|| (*about).to_owned())?;
        }
        world.settle()?;
        world.expect_no_fault()?;
        let events = world.expect_each_event_once()?;
        eprintln!("  {events} Events, each once");
        Ok(())
    })
}

/// Edits the policy, and waits until all nodes but some run it. Returns generation and profile.
fn edit_all_but(world: &mut World, missing: usize) -> anyhow::Result<(i64, String)> {
    let (before, prefix) = (world.settle()?, format!("{POLICY}."));
    let generation = world.edit()?;
    let is_new = |value: &str| value != before && value.starts_with(&prefix);
    let (profile, _) = world.wait_assigned_but(missing, &is_new)?;
    world.wait_running(&profile, NODES - missing)?;
    Ok((generation, profile))
}

/// Returns true if the policy counts `wanted` of its nodes.
fn counts(nodes: Option<&NodeCounts>, count: impl Fn(&NodeCounts) -> i32, wanted: usize) -> bool {
    nodes.is_some_and(|nodes| usize::try_from(count(nodes)) == Ok(wanted))
}

/// An error if the operator has not counted this.
fn expect_counted(world: &World, series: &str) -> anyhow::Result<()> {
    let value = world.running()?.metric(series)?;
    ensure!(value > 0.0, "{series} is {value}");
    Ok(())
}

/// Waits until the probe of readiness has this status, and says this.
fn wait_ready(world: &World, status: u16, says: &str) -> anyhow::Result<()> {
    world.wait(&format!("/readyz with {status} {says}"), || {
        // It may not listen yet.
        let (now, text) = world.running().and_then(|operator| operator.get("/readyz")).ok()?;
        readings::note("/readyz", &format!("{now} {text}"));
        (now == status && text.contains(says)).then_some(())
    })
}
