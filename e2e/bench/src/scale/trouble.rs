//! Measurements of a fleet with faults: agents that are silent or slow, policies that change all the time, nodes that
//! are added and removed. Each function waits for all effects, and restores the fleet.
use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use fleet::{
    bill::Bill,
    world::{POLICY, World, policy},
};
use lab::readings;
use serde_json::json;
use xtask::interrupt;

use crate::ratio::median;

/// A tenth of the nodes falls silent, and another policy comes meanwhile.
pub(crate) struct Silence {
    /// From the edit to the last annotation, silent nodes included.
    pub(crate) annotated: f64,
    /// From the last of the others that runs it to the policy's count of them.
    pub(crate) told: f64,
    /// From the begin of the silence to the last NodeClock that says so.
    pub(crate) noticed: f64,
    /// From the end of the silence to the policy that is rolled out.
    pub(crate) recovered: f64,
}

/// Has a tenth fall silent.
pub(crate) fn silence(world: &mut World) -> anyhow::Result<Silence> {
    let before = world.settle()?;
    let slots = world.tenth();
    let agents = world.fleet.agents(&slots);
    let silent = Instant::now();
    world.fleet.silence(&slots);
    let begun = Instant::now();
    let generation = world.edit()?;
    let (profile, annotated) = world.wait_assigned(POLICY, &before)?;
    let ran = world.wait_running(&profile, world.count())?;
    let others = i32::try_from(world.count() - slots.len())?;
    let told = world.wait_policy(POLICY, "the policy to count the others", begun, |seen| {
        let counted = seen.status.nodes.as_ref().is_some_and(|nodes| nodes.applied == others);
        counted && seen.status.profile.as_deref() == Some(&profile)
    })?;
    let noticed = world.wait("the NodeClocks to say that nothing is heard (90 s)", || {
        let all = world.seen.clocks();
        let unknown =
            agents.iter().filter_map(|agent| all.get(&agent.node).filter(|c| c.synchronized == "Unknown"));
        let unknown: Vec<_> = unknown.filter_map(|clock| clock.synchronized_since).collect();
        readings::note("NodeClocks that say Unknown", &unknown.len().to_string());
        (unknown.len() == agents.len()).then(|| unknown.into_iter().max()).flatten()
    })?;
    let spoke = Instant::now();
    world.runtime.block_on(world.fleet.speak(&slots))?;
    let recovered = world.wait_rolled_out(generation, &profile, spoke)?;
    let since = |end: Instant, begin| end.saturating_duration_since(begin).as_secs_f64();
    Ok(Silence {
        annotated: since(annotated, begun),
        told: since(told, ran),
        noticed: since(noticed, silent),
        recovered: since(recovered, spoke),
    })
}

/// An edit while a tenth of the agents takes 5 s for each answer: seconds to the last annotation, and from the last of the
/// others that runs it to the policy's count of them.
pub(crate) fn slow(world: &mut World) -> anyhow::Result<(f64, f64)> {
    let before = world.settle()?;
    let slots = world.tenth();
    let agents = world.fleet.agents(&slots);
    agents.iter().for_each(|agent| agent.delay(Duration::from_secs(5)));
    let begun = Instant::now();
    let generation = world.edit()?;
    let (profile, annotated) = world.wait_assigned(POLICY, &before)?;
    let ran = world.wait_running(&profile, world.count())?;
    let others = i32::try_from(world.count() - slots.len())?;
    let told = world.wait_policy(POLICY, "the policy to count the others", begun, |seen| {
        let counted = seen.status.nodes.as_ref().is_some_and(|nodes| nodes.applied >= others);
        counted && seen.status.profile.as_deref() == Some(&profile)
    })?;
    agents.iter().for_each(|agent| agent.delay(Duration::ZERO));
    world.wait_rolled_out(generation, &profile, begun)?;
    let since = |end: Instant, begin| end.saturating_duration_since(begin).as_secs_f64();
    Ok((since(annotated, begun), since(told, ran)))
}

/// Two policies take all nodes from each other.
pub(crate) struct Flip {
    pub(crate) flips: usize,
    /// From the last flip to the last annotation.
    pub(crate) annotated: f64,
    /// From the last flip to the policy that is rolled out.
    pub(crate) told: f64,
    pub(crate) bill: Bill,
}

/// The name of the one begins with that of the other.
const RIVAL: &str = "fleet-2";
const FLIP: Duration = Duration::from_secs(5);

/// Flips for this time; the first policy has all nodes in the end.
pub(crate) fn flip(world: &World, span: Duration) -> anyhow::Result<Flip> {
    world.settle()?;
    let bill = world.bill()?;
    let spec = |priority: i32| policy(json!({"priority": priority, "clock": {"maxSlewRate": 400}}));
    let (mut flips, begun) = (0, Instant::now());
    let mut last = begun;
    while begun.elapsed() < span || flips % 2 == 1 {
        interrupt::check()?;
        last = Instant::now();
        world.apply(RIVAL, &spec(if flips % 2 == 0 { 1 } else { -1 }))?;
        flips += 1;
        thread::sleep(FLIP);
    }
    let (_, annotated) = world.wait_assigned(POLICY, "")?;
    let count = i32::try_from(world.count())?;
    let told = world.wait_policy(POLICY, "the policy to have all nodes again", last, |seen| {
        seen.condition("RolledOut") == "True"
            && seen.status.nodes.as_ref().is_some_and(|nodes| nodes.applied == count)
    })?;
    world.settle()?;
    let bill = world.bill()?.since(&bill);
    let since = |at: Instant| at.saturating_duration_since(last).as_secs_f64();
    Ok(Flip { flips, annotated: since(annotated), told: since(told), bill })
}

/// Nodes that come and go.
pub(crate) struct Churn {
    pub(crate) replaced: usize,
    /// From a new pod's address to its annotation: median and most.
    pub(crate) annotated: [f64; 2],
    /// From the last new node to the policy that is rolled out on all.
    pub(crate) told: f64,
}

/// Replaces a node each 1.2 s for this time.
pub(crate) fn churn(world: &World, span: Duration) -> anyhow::Result<Churn> {
    let profile = world.settle()?;
    let (begun, mut replaced) = (Instant::now(), 0);
    while begun.elapsed() < span {
        interrupt::check()?;
        let slot = replaced * 7 % world.count();
        world.runtime.block_on(world.fleet.replace(slot, &format!("node-{slot:05}-{replaced}")))?;
        replaced += 1;
        let next = EACH * u32::try_from(replaced)?;
        thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    let last = Instant::now();
    world.wait_assigned(POLICY, "")?;
    world.wait_running(&profile, world.count())?;
    world.settle()?;
    let told = last.elapsed().as_secs_f64();
    let mut all: Vec<_> =
        world.fleet.first_annotations(begun).into_iter().map(|at| at.unwrap_or(f64::NAN)).collect();
    let middle = median(&mut all);
    ensure!(middle.is_finite(), "a new pod has no annotation");
    Ok(Churn { replaced, annotated: [middle, all.last().copied().context("no pod is new")?], told })
}

/// 50 a minute.
const EACH: Duration = Duration::from_millis(1200);
