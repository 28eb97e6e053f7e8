//! The agent ends in the middle of a slew, with a leap second armed. It leaves the frequency that keeps the clock
//! right, and a true status of the clock in the kernel.
use std::{thread, time::Duration};

use anyhow::ensure;
use lab::{calendar, machine::Machine, truth};

use super::bench::{self, MS};

pub(super) fn run(machine: Machine) -> anyhow::Result<()> {
    // On the last day of a year, for the leap second.
    let noon = calendar::seconds((2028, 12, 31), (12, 0, 0)) * 1_000_000_000 - truth::nanoseconds()?;
    let words =
        |offset: i64| format!("offset={}.{:09} leap=1", offset / 1_000_000_000, offset % 1_000_000_000);
    bench::settle_bent(machine, &words(noon))?;
    // The frequency takes more than the first answers.
    thread::sleep(Duration::from_secs(10));
    machine
        .wait_for("to announce the leap second", Duration::from_secs(30), |report| report.clock.leap == 1)?;
    let armed = machine.probe()?.kernel()?.status & STA_INS;
    ensure!(armed != 0, "the kernel was not told of the leap second");

    bench::bend(machine, &words(noon + 60 * MS))?;
    let slewing = machine.wait_for("to slew", Duration::from_secs(60), |report| {
        (report.clock.kernel_frequency_ppm - report.clock.frequency_ppm).abs() > 1000.0
    })?;
    machine.stop_agent()?;
    let kernel = machine.probe()?.kernel()?;
    let kept = slewing.clock.frequency_ppm;
    ensure!(
        (kernel.frequency_ppm - kept).abs() < 50.0,
        "{kept} ppm was kept as {} ppm",
        kernel.frequency_ppm
    );
    ensure!(kernel.status & STA_INS == 0, "the leap second is still armed");
    ensure!(kernel.synchronized, "a clock that was right is left unsynchronised");
    let largest = machine.run("adjtimex | sed -n 's/.*maxerror: *//p'")?;
    let largest: i64 = largest.trim().parse()?;
    let off = bench::distance(machine, noon + 60 * MS)?.abs() / 1_000;
    ensure!((off..1_000_000).contains(&largest), "{off} us off, and maxerror is {largest} us");

    machine.start_agent(&bench::profile(machine, ""))?;
    bench::right(machine, noon + 60 * MS, Duration::from_secs(90))
}

/// include/uapi/linux/timex.h.
const STA_INS: i64 = 0x10;
