//! The measurements. Each function changes the fleet in one way, waits for all effects, and returns how long they took
//! and how many writes they needed.
use std::time::{Duration, Instant};

use lab::{readings, wait};
use xtask::interrupt;

use crate::{
    bill::Bill,
    operator::AMPLE_LIMIT,
    world::{POLICY, World},
};

/// The effects of an edit of the policy of all nodes.
pub struct Edit {
    /// From the edit to the last annotation.
    pub annotated: f64,
    /// From the edit to the last agent that runs it.
    pub ran: f64,
    /// From the last agent that runs it to the policy's status that says so.
    pub told: f64,
    /// From the last agent that runs it to the last NodeClock that says so.
    pub clocks: f64,
    /// What was written.
    pub bill: Bill,
    /// Annotations that were written to nudge a kubelet.
    pub nudges: usize,
}

/// Longer than the operator's pause between two writes of one object, and than the delay of a nudge.
const REST: Duration = Duration::from_secs(10);

/// Waits for the steady state, and that it lasts. Returns the running profile.
fn rest(world: &World) -> anyhow::Result<String> {
    let profile = world.settle()?;
    let operator = world.running()?;
    wait::holds_for("the operator runs in peace", REST, || operator.expect_running())?;
    Ok(profile)
}

/// Edits the policy.
pub fn edit(world: &mut World) -> anyhow::Result<Edit> {
    let before = rest(world)?;
    let (bill, nudges) = (world.bill()?, world.fleet.nudges());
    let begun = Instant::now();
    let generation = world.edit()?;
    let (profile, annotated) = world.wait_assigned(POLICY, &before)?;
    let ran = world.wait_running(&profile, world.count())?;
    let told = world.wait_rolled_out(generation, &profile, begun)?;
    let clocks = world.wait_clocks(&profile)?;
    rest(world)?;
    let since = |end: Instant, begin| end.saturating_duration_since(begin).as_secs_f64();
    Ok(Edit {
        annotated: since(annotated, begun),
        ran: since(ran, begun),
        told: since(told, ran),
        clocks: since(clocks, ran),
        bill: world.bill()?.since(&bill),
        nudges: world.fleet.nudges() - nudges,
    })
}

/// The effects when a tenth of the nodes lose synchronisation at the same time.
pub struct Loss {
    /// To the last NodeClock that says so.
    pub clocks: f64,
    /// To the last Event that says so.
    pub events: f64,
    /// To the policy's condition.
    pub condition: f64,
    /// To the policy's count of all of them.
    pub counted: f64,
}

/// Lets a tenth of the nodes lose synchronisation, and regain it afterwards.
pub fn loss(world: &World) -> anyhow::Result<Loss> {
    rest(world)?;
    let slots = world.tenth();
    let agents = world.fleet.agents(&slots);
    let begun = Instant::now();
    agents.iter().for_each(|agent| agent.synchronize(false));
    let condition = wait_condition(world, begun)?;
    let left = i32::try_from(world.count() - slots.len())?;
    let counted = world.wait_policy(POLICY, "the policy to count all of them", begun, |seen| {
        seen.status.nodes.as_ref().is_some_and(|nodes| nodes.synchronized == left)
    })?;
    let clocks = world.wait("the NodeClocks of all of them", || {
        let all = world.seen.clocks();
        let told =
            agents.iter().filter_map(|agent| all.get(&agent.node).filter(|c| c.synchronized == "False"));
        let told: Vec<_> = told.filter_map(|clock| clock.synchronized_since).collect();
        readings::note("NodeClocks that say so", &told.len().to_string());
        (told.len() == agents.len()).then(|| told.into_iter().max()).flatten()
    })?;
    let events = world.wait("the Events of all of them", || {
        let lost = world.seen.events().into_iter().filter(|event| event.reason == "SynchronizationLost");
        let new: Vec<_> = lost.map(|event| event.at).filter(|at| *at >= begun).collect();
        readings::note("Events", &new.len().to_string());
        (new.len() >= agents.len()).then(|| new.into_iter().max()).flatten()
    })?;
    agents.iter().for_each(|agent| agent.synchronize(true));
    world.settle()?;
    let [clocks, events, condition, counted] =
        [clocks, events, condition, counted].map(|at| at.saturating_duration_since(begun).as_secs_f64());
    Ok(Loss { clocks, events, condition, counted })
}

fn wait_condition(world: &World, since: Instant) -> anyhow::Result<Instant> {
    world.wait_policy(POLICY, "the policy to say that clocks are not synchronised", since, |seen| {
        seen.condition("Synchronized") == "False"
    })
}

/// Seconds from a tenth's loss of synchronisation in the middle of a rollout to the policy's condition. Fails if the
/// condition changes only after the rollout.
pub fn loss_in_a_rollout(world: &mut World) -> anyhow::Result<f64> {
    let before = world.settle()?;
    let edited = Instant::now();
    let generation = world.edit()?;
    wait_for_half(world, &before)?;
    let agents = world.fleet.agents(&world.tenth());
    let begun = Instant::now();
    agents.iter().for_each(|agent| agent.synchronize(false));
    let condition = wait_condition(world, begun)?;
    let (profile, _) = world.wait_assigned(POLICY, &before)?;
    world.wait_rolled_out(generation, &profile, edited)?;
    agents.iter().for_each(|agent| agent.synchronize(true));
    world.settle()?;
    Ok(condition.saturating_duration_since(begun).as_secs_f64())
}

/// Waits until half of the pods have another annotation.
fn wait_for_half(world: &World, before: &str) -> anyhow::Result<()> {
    world.wait("half of the annotations", || {
        let (count, _) = world.fleet.assigned(&|value| value != before);
        readings::note("pods annotated", &count.to_string());
        (count >= world.count() / 2).then_some(())
    })
}

/// Restarts the operator in the steady state. Returns all writes from its end until its successor is in the steady
/// state.
pub fn restart(world: &mut World) -> anyhow::Result<Bill> {
    rest(world)?;
    let before = world.bill()?;
    world.stop("-TERM")?;
    world.start()?;
    // Open polls end without an answer, so later answers go to the new operator.
    let heard: Vec<_> = world.fleet.all_agents().into_iter().map(|agent| (agent.answers(), agent)).collect();
    world.wait("the new operator to hear each agent", || {
        let waits = heard.iter().filter(|(before, agent)| agent.answers() == *before).count();
        readings::note("agents not asked yet", &waits.to_string());
        (waits == 0).then_some(())
    })?;
    rest(world)?;
    Ok(world.bill()?.since(&before))
}

/// The effects of a restart in the middle of a rollout.
pub struct Interrupted {
    /// From the edit to the last annotation.
    pub annotated: f64,
    /// Writes of pods beyond one annotation per node and the nudges, including writes without a change.
    pub surplus: usize,
}

/// The number of writes that may be in progress when an operator ends. Its successor cannot know of them.
pub const IN_FLIGHT: usize = 32;

/// Ends the operator when half of the annotations are written, and starts another one.
pub fn restart_in_a_rollout(world: &mut World) -> anyhow::Result<Interrupted> {
    let before = world.settle()?;
    let (bill, nudges) = (world.bill()?, world.fleet.nudges());
    let begun = Instant::now();
    let generation = world.edit()?;
    wait_for_half(world, &before)?;
    world.stop("-TERM")?;
    world.start()?;
    let (profile, annotated) = world.wait_assigned(POLICY, &before)?;
    let nudges = world.fleet.nudges() - nudges;
    let writes = usize::try_from(world.bill()?.since(&bill).of("pods"))?;
    world.wait_rolled_out(generation, &profile, begun)?;
    let annotated = annotated.saturating_duration_since(begun).as_secs_f64();
    Ok(Interrupted { annotated, surplus: writes.saturating_sub(world.count() + nudges) })
}

/// How the operator starts on a fleet that no operator has seen.
pub struct Start {
    /// Seconds from the start until the policy is rolled out, and from an edit until that is rolled out; none if one of
    /// them did not happen.
    pub rolled_out: Option<[f64; 2]>,
    /// The number of pods that had an annotation then.
    pub annotated: usize,
}

/// Starts the first operator with this soft limit of file descriptors. If it cannot work with that, starts one with a
/// larger limit.
pub fn first_start(world: &mut World, limit: u32) -> anyhow::Result<Start> {
    world.descriptors = limit;
    world.start()?;
    let start = rolls_out(world, 1);
    // If connections to agents use all descriptors, the operator cannot write any more.
    let rolled_out = match start {
        Ok(start) => world.edit().and_then(|generation| Ok([start, rolls_out(world, generation)?])),
        Err(error) => Err(error),
    };
    interrupt::check()?;
    let annotated = world.fleet.assigned(&|value| !value.is_empty()).0;
    match rolled_out {
        Ok(both) => Ok(Start { rolled_out: Some(both), annotated }),
        Err(error) => {
            eprintln!("  {error:#}");
            world.stop("-KILL")?;
            world.descriptors = AMPLE_LIMIT;
            world.start()?;
            Ok(Start { rolled_out: None, annotated })
        }
    }
}

/// Waits until this generation of the policy is rolled out, with a limit that grows with the fleet. Returns the
/// seconds.
fn rolls_out(world: &World, generation: i64) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let patience = Duration::from_secs(60 + world.count() as u64 / 20);
    wait::until("a rollout", "", patience, || {
        world.running()?.expect_running()?;
        let (count, _) = world.fleet.assigned(&|value| !value.is_empty());
        readings::note("pods annotated", &count.to_string());
        let now = world.seen.policy_now(POLICY).filter(|now| now.condition("RolledOut") == "True");
        let now =
            now.filter(|now| now.status.observed_generation.is_some_and(|observed| observed >= generation));
        Ok(now.map(|now| now.at.saturating_duration_since(begun).as_secs_f64()))
    })
}

/// The resources that the operator uses in the steady state.
pub struct Peace {
    /// Processor time over time.
    pub cores: f64,
    /// Resident memory.
    pub megabytes: f64,
    /// Writes of NodeClocks.
    pub clock_writes_per_second: f64,
    /// The length of the measurement, seconds.
    pub seconds: f64,
}

/// Measures the operator in the steady state.
pub fn peace(world: &World, span: Duration) -> anyhow::Result<Peace> {
    rest(world)?;
    let (begun, bill) = (Instant::now(), world.bill()?);
    let cores = world.running()?.cores(span)?;
    let writes = world.bill()?.since(&bill);
    let writes = writes.of("nodeclocks") + writes.of("nodeclocks/status");
    let seconds = begun.elapsed().as_secs_f64();
    let megabytes = world.running()?.usage()?.megabytes;
    #[expect(clippy::cast_precision_loss, reason = "a count of a minute")]
    let clock_writes_per_second = writes as f64 / seconds;
    Ok(Peace { cores, megabytes, clock_writes_per_second, seconds })
}
