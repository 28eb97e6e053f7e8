//! Two operators, of which the leader is paused, as in a virtual machine that is paused.
use std::{
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use fleet::{
    operator::Operator,
    world::{POLICY, World},
};
use lab::{install::NAMESPACE, kubectl, readings, wait};

use super::NODES;

/// The first replica leads in the first round, the other one in the second.
const ROUNDS: usize = 2;
/// A Lease that is not renewed expires after 15 s.
const TAKE_OVER: Duration = Duration::from_secs(60);
/// The time in which writes of the former leader, if there are any, become visible.
const SOON: Duration = Duration::from_secs(5);
/// The time for which the state must stay the same.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// Pauses the leader in the middle of a rollout, and lets it continue when the other one leads.
pub(super) fn stopped(world: &mut World) -> anyhow::Result<()> {
    let mut leader = world.operator.take().context("an operator")?;
    let mut other = world.another()?;
    for _ in 0..ROUNDS {
        round(world, &leader, &other)?;
        wait::until("the former leader to end", "3 s", TAKE_OVER, || Ok(leader.has_ended().then_some(())))?;
        leader = std::mem::replace(&mut other, world.another()?);
    }
    other.end("-TERM")?;
    world.operator = Some(leader);
    Ok(())
}

fn round(world: &mut World, leader: &Operator, other: &Operator) -> anyhow::Result<()> {
    wait_leads(leader)?;
    world.settle()?;
    world.edit()?;
    // A different moment in each round: before, during and after the writes, which take half a second.
    let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_millis() % 700;
    eprintln!("  {} is stopped {moment} ms after an edit", leader.name);
    thread::sleep(Duration::from_millis(moment.into()));
    leader.signal("-STOP")?;
    wait_leads(other)?;
    world.edit()?;
    let profile = world.settle()?;
    leader.signal("-CONT")?;
    thread::sleep(SOON);
    wait::holds_for("all is as the new leader wants", AFTERWARDS, || {
        let (count, _) = world.fleet.assigned(&|value| value == profile);
        ensure!(count == NODES, "{} pods have another annotation", NODES - count);
        let now = world.seen.policy_now(POLICY).context("the policy")?;
        ensure!(now.status.profile.as_ref() == Some(&profile), "the policy says {:?}", now.status.profile);
        ensure!(now.condition("RolledOut") == "True", "{}", now.message("RolledOut"));
        Ok(())
    })
}

fn wait_leads(operator: &Operator) -> anyhow::Result<()> {
    wait::until(&format!("{} to lead", operator.name), "16 s", TAKE_OVER, || {
        let lease = kubectl::get(&format!("lease timesync-operator -n {NAMESPACE}"))?;
        let holder = &lease["spec"]["holderIdentity"];
        readings::note("the Lease's holder", &holder.to_string());
        Ok((*holder == operator.name.as_str()).then_some(()))
    })
}
