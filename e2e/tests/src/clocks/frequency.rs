//! An upstream that runs fast: the clock follows by its frequency.
use std::{thread, time::Duration};

use anyhow::ensure;
use lab::{machine::Machine, truth, wait};

use super::bench::{self, MS};

pub(super) fn run(machine: Machine) -> anyhow::Result<()> {
    bench::settle(machine, "")?;
    // The machine's own frequency takes more than the first answers.
    thread::sleep(Duration::from_secs(20));
    let before = machine.report()?.clock;
    bench::bend(machine, "ppm=80")?;
    wait::until(
        &format!("{} to gain 80 ± 5 ppm", machine.name()),
        "40 s",
        Duration::from_secs(240),
        || {
            let gained = machine.report()?.clock.frequency_ppm - before.frequency_ppm;
            Ok(((gained - 80.0).abs() <= 5.0).then_some(()))
        },
    )?;
    let mut worst = 0;
    wait::holds_for("it stays within 1 ms", Duration::from_secs(10), || {
        let target = bench::bend(machine, "")?;
        let off = machine.probe()?.median_of_10()?.offset - target;
        // The upstream goes on meanwhile: on a machine that stood still for 13 s, by a millisecond.
        let moved = (bench::bend(machine, "")? - target).abs();
        worst = worst.max(off.abs() - moved);
        ensure!(off.abs() <= MS + moved, "{} is {} off", machine.name(), truth::shown(off));
        Ok(())
    })?;
    eprintln!("  {}: at most {} off, by medians", machine.name(), truth::shown(worst));
    let after = machine.report()?.clock;
    ensure!(after.steps == before.steps, "it stepped");
    Ok(())
}
