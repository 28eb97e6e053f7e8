//! Power off and on, and the reset button: the hardware clock was set before, so the clock is right before the network
//! is up.
use std::time::Duration;

use anyhow::ensure;
use lab::{machine::Machine, truth};

use super::{bench, start};

pub(super) fn run(machine: Machine) -> anyhow::Result<()> {
    bench::settle(machine, "")?;
    start::hardware_clock_is_right(machine)?;
    machine.stop_agent()?;
    // In this order, since an emulator that has run for long takes a minute and more for a reset.
    machine.power_cycle()?;
    machine.set_link(false)?;
    within_a_second(machine, "after a power cycle")?;
    machine.reset()?;
    within_a_second(machine, "after a reset")?;
    machine.set_link(true)?;
    machine.start_agent(&bench::profile(machine, ""))?;
    bench::right(machine, 0, Duration::from_secs(120))
}

fn within_a_second(machine: Machine, when: &str) -> anyhow::Result<()> {
    let off = bench::distance(machine, 0)?;
    eprintln!("  {}: {} off {when}", machine.name(), truth::shown(off));
    ensure!(off.abs() <= 1_000 * bench::MS, "{when} the clock is {} off", truth::shown(off));
    Ok(())
}
