//! Another program sets the clock an hour back and an hour forward, with each value of `clock.onExternalStep`.
use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use contract::{Reason, TransitionKind};
use lab::{machine::Machine, truth, wait};

use super::bench::{self, MS};

const HOUR: i64 = 3600 * 1_000 * MS;

/// As an administrator does it: busybox's `date` sets whole seconds.
fn set_clock(machine: Machine, by: i64) -> anyhow::Result<()> {
    let seconds = by / 1_000_000_000;
    machine.run(&format!("date -s @$(($(date +%s) + {seconds}))")).map(drop)
}

/// Waits until the jump is noticed: not synchronised, for the agent, its clients and the kernel.
fn noticed(machine: Machine, external_steps: u32) -> anyhow::Result<()> {
    let begun = Instant::now();
    let seen = machine.wait_for("to notice the step", Duration::from_secs(60), |report| {
        report.clock.external_steps >= external_steps
    })?;
    eprintln!("  {}: noticed within {:.1} s", machine.name(), begun.elapsed().as_secs_f64());
    let told = seen.transitions.iter().any(|told| told.kind == TransitionKind::ExternalStep);
    ensure!(told, "no transition tells of it: {:?}", seen.transitions);
    Ok(())
}

/// It is put right by one step, and stays so.
pub(super) fn restore(machine: Machine) -> anyhow::Result<()> {
    for by in [-HOUR, HOUR] {
        // A second step within ten minutes is a conflict: so each begins with a new agent.
        bench::settle(machine, "onExternalStep = \"Restore\"")?;
        // The frequency takes more than the first answers.
        thread::sleep(Duration::from_secs(15));
        let frequency = machine.report()?.clock.frequency_ppm;
        let begun = Instant::now();
        set_clock(machine, by)?;
        noticed(machine, 1)?;
        bench::right(machine, 0, Duration::from_secs(60))?;
        eprintln!("  {}: right again after {:.1} s", machine.name(), begun.elapsed().as_secs_f64());
        let report = machine.wait_for("to be synchronised again", Duration::from_secs(60), |report| {
            report.clock.synchronized
        })?;
        ensure!(report.conflict.is_none(), "one step is no conflict: {:?}", report.conflict);
        let kept = report.clock.frequency_ppm;
        ensure!(
            (kept - frequency).abs() < 20.0,
            "the frequency is lost: {frequency} ppm before, {kept} after"
        );
        wait::holds_for("it stays right", Duration::from_secs(5), || {
            bench::expect_within(machine, 10 * MS, 0)
        })?;
    }
    Ok(())
}

/// Never stepped: an hour is beyond `max_change`, and what is small is slewed.
pub(super) fn accept(machine: Machine) -> anyhow::Result<()> {
    for by in [-HOUR, HOUR] {
        bench::settle(machine, "onExternalStep = \"Accept\"")?;
        let steps = machine.report()?.clock.steps;
        set_clock(machine, by)?;
        noticed(machine, 1)?;
        let report = machine.wait_for("to refuse an hour", Duration::from_secs(60), |report| {
            report.clock.reason == Reason::MaxChange
        })?;
        ensure!(!machine.probe()?.kernel()?.synchronized, "the kernel says that it is synchronised");
        let off = bench::distance(machine, 0)?;
        ensure!((off - by).abs() < 3_000 * MS, "it was moved: {} off", truth::shown(off));
        ensure!(report.clock.steps == steps, "it stepped");
    }
    Ok(())
}

/// Left alone until somebody puts it right.
pub(super) fn report(machine: Machine) -> anyhow::Result<()> {
    for by in [-HOUR, HOUR] {
        bench::settle(machine, "onExternalStep = \"Report\"")?;
        let before = machine.probe()?.wall_minus_monotonic()?;
        set_clock(machine, by)?;
        noticed(machine, 1)?;
        machine.wait_for("to say ExternalStep", Duration::from_secs(60), |report| {
            report.clock.reason == Reason::ExternalStep
        })?;
        let moved = machine.probe()?.wall_minus_monotonic()?;
        wait::holds_for("nothing is moved", Duration::from_secs(10), || {
            let now = machine.probe()?.wall_minus_monotonic()?;
            ensure!((now - moved).abs() < MS, "it was moved by {}", truth::shown(now - moved));
            Ok(())
        })?;
        // Put right by hand.
        machine.probe()?.step(before - moved)?;
        machine.wait_for("to be synchronised again", Duration::from_secs(60), |report| {
            report.clock.synchronized && report.clock.reason == Reason::Synchronized
                || report.conflict.is_some()
        })?;
        bench::right(machine, 0, Duration::from_secs(60))?;
    }
    Ok(())
}
