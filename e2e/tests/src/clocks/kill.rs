//! The agent is killed repeatedly while it slews: the next one continues the slew, and none steps.
use std::{thread, time::Duration};

use anyhow::ensure;
use lab::{machine::Machine, truth};

use super::bench::{self, MS};

/// So often.
const KILLS: u32 = 20;

pub(super) fn run(machine: Machine) -> anyhow::Result<()> {
    bench::settle(machine, "")?;
    let (mut before, mut worst) = (stepped(machine)?, 0);
    for round in 0..KILLS {
        // There and back by 3 ms, so that it always slews.
        let target = bench::bend(machine, if round % 2 == 0 { "offset=0.0015" } else { "offset=-0.0015" })?;
        // Another moment of the slew each time.
        thread::sleep(Duration::from_millis(900 + 137 * u64::from(round)));
        machine.run("kill -KILL $(cat /run/agent.pid)")?;
        thread::sleep(Duration::from_millis(300));
        machine.run(Machine::START)?;
        for _ in 0..5 {
            let off = bench::distance(machine, target)?;
            worst = worst.max(off.abs());
            ensure!(off.abs() <= 5 * MS, "after {} kills it is {} off", round + 1, truth::shown(off));
        }
        let now = stepped(machine)?;
        let moved = now - before;
        ensure!(moved.abs() < MS, "the clock was stepped by {}", truth::shown(moved));
        before = now;
    }
    eprintln!("  {}: never more than {} off in {KILLS} kills", machine.name(), truth::shown(worst));
    bench::bend(machine, "offset=0")?;
    machine.wait_for("to be synchronised", Duration::from_secs(90), |report| report.clock.synchronized)?;
    ensure!(machine.report()?.clock.steps <= 1, "it stepped");
    bench::right(machine, 0, Duration::from_secs(90))
}

/// What all steps of the clock since its boot come to, nanoseconds: only a step parts it from the monotonic clock.
fn stepped(machine: Machine) -> anyhow::Result<i64> {
    machine.probe()?.wall_minus_monotonic()
}
