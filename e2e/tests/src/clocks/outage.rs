//! The network is down for minutes: the clock continues with its last frequency, the agent reports holdover, and
//! follows the upstream again afterwards.
use std::{thread, time::Duration};

use anyhow::ensure;
use contract::Reason;
use lab::{machine::Machine, truth};
use xtask::interrupt;

use super::bench::{self, MS};

pub(super) fn of_a_minute(machine: Machine) -> anyhow::Result<()> {
    run(machine, 6)
}

pub(super) fn of_three_minutes(machine: Machine) -> anyhow::Result<()> {
    run(machine, 18)
}

/// `rounds` of 9 s each, after the agent says that it holds over.
fn run(machine: Machine, rounds: u32) -> anyhow::Result<()> {
    bench::settle(machine, "")?;
    // A frequency that is known to a few ppm takes more than the first answers.
    thread::sleep(Duration::from_secs(20));
    let before = machine.report()?.clock;
    machine.set_link(false)?;
    machine.wait_for("to hold over", Duration::from_secs(90), |report| {
        report.clock.reason == Reason::Holdover
    })?;
    let mut worst = 0;
    for _ in 0..rounds {
        interrupt::check()?;
        thread::sleep(Duration::from_secs(9));
        let off = bench::distance(machine, 0)?;
        let clock = machine.report()?.clock;
        let bound = clock.error_bound.unwrap_or_default();
        ensure!(
            clock.synchronized && off.abs() as f64 / 1e9 <= bound,
            "it is {} off, and says {bound} s: {clock:?}",
            truth::shown(off)
        );
        worst = worst.max(off.abs());
    }
    ensure!(worst <= 10 * MS, "it went {} off", truth::shown(worst));
    eprintln!("  {}: at most {} off without a network", machine.name(), truth::shown(worst));
    machine.set_link(true)?;
    machine.wait_for("to follow again", Duration::from_secs(120), |report| {
        report.clock.reason == Reason::Synchronized
    })?;
    bench::right(machine, 0, Duration::from_secs(90))?;
    ensure!(machine.report()?.clock.steps == before.steps, "it stepped");
    Ok(())
}
