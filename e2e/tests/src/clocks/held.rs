//! A machine is paused for half a minute, and its upstream is 20 minutes ahead afterwards. None of the machine's clocks
//! shows the pause.
use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use contract::{Reason, TransitionKind};
use lab::machine::Machine;
use xtask::interrupt;

use super::bench;

pub(super) fn run(machine: Machine) -> anyhow::Result<()> {
    bench::settle(machine, "maxChange = \"1h\"")?;
    let steps = machine.report()?.clock.steps;
    let target = hold(machine)?;
    let begun = Instant::now();
    let report = machine.wait_for("to notice", Duration::from_secs(60), |report| {
        report.transitions.iter().any(|told| told.kind == TransitionKind::Resumed)
    })?;
    eprintln!("  {}: noticed {:.1} s after it went on", machine.name(), begun.elapsed().as_secs_f64());
    ensure!(report.conflict.is_none(), "it is no conflict: {:?}", report.conflict);
    bench::right(machine, target, Duration::from_secs(120))?;
    eprintln!("  {}: right {:.1} s after it went on", machine.name(), begun.elapsed().as_secs_f64());
    machine.wait_for("to be synchronised", Duration::from_secs(60), |report| report.clock.synchronized)?;
    let clock = machine.report()?.clock;
    ensure!(clock.resumed == 1 && clock.steps == steps + 1, "not one step after a pause: {clock:?}");

    // Beyond the limit it is refused, and said.
    bench::settle(machine, "")?;
    hold(machine)?;
    machine.wait_for("to refuse 20 minutes", Duration::from_secs(90), |report| {
        report.clock.reason == Reason::MaxChange
    })?;
    ensure!(!machine.probe()?.kernel()?.synchronized, "the kernel says that it is synchronised");
    Ok(())
}

/// Holds the machine for 30 s; 1170 s more have gone for its upstream. Its time minus true time.
fn hold(machine: Machine) -> anyhow::Result<i64> {
    machine.pause()?;
    let target = meanwhile(machine);
    // Even if that failed: the next test needs a machine that runs.
    machine.resume()?;
    target
}

fn meanwhile(machine: Machine) -> anyhow::Result<i64> {
    for _ in 0..30 {
        interrupt::check()?;
        thread::sleep(Duration::from_secs(1));
    }
    bench::bend(machine, "offset=1170")
}
