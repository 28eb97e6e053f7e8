//! Boots with a wrong hardware clock.
use std::time::Duration;

use anyhow::ensure;
use lab::{calendar, machine::Machine, truth, wait};

use super::bench::{self, MS};

/// The machine has just booted: one step brings the clock right, and the hardware clock is written.
pub(super) fn rtc_in_2020(machine: Machine) -> anyhow::Result<()> {
    let booted: i64 = machine.run("cat /run/booted-at")?.trim().parse()?;
    ensure!(calendar::shown(booted).starts_with("2020-01-01"), "it did not boot in 2020: {booted}");
    machine.start_agent(&bench::profile(machine, ""))?;
    machine.wait_for("to be synchronised", Duration::from_secs(90), |report| report.clock.synchronized)?;
    bench::right(machine, 0, Duration::from_secs(60))?;
    let clock = machine.report()?.clock;
    ensure!(clock.steps == 1, "{} steps", clock.steps);
    ensure!(
        machine.probe()?.kernel()?.synchronized,
        "the kernel does not say that its clock is synchronised"
    );
    hardware_clock_is_right(machine)
}

/// An hour off in a machine that runs: seen, written, read back.
pub(super) fn rtc_an_hour_off(machine: Machine) -> anyhow::Result<()> {
    bench::settle(machine, "")?;
    hardware_clock_is_right(machine)?;
    machine.stop_agent()?;
    machine.run(
        "at=$(date -u -d @$(($(date +%s) + 3600)) '+%Y-%m-%d %H:%M:%S'); \
         /usr/sbin/hwclock --set --noadjfile --utc --date \"$at\"",
    )?;
    let off = rtc_offset(machine)?;
    ensure!((off - 3_600_000_000_000).abs() < 2_000_000_000, "it was not set: {}", truth::shown(off));
    machine.start_agent(&bench::profile(machine, ""))?;
    hardware_clock_is_right(machine)?;
    let report = machine.wait_for("to call its RTC healthy", Duration::from_secs(120), |report| {
        report.rtc.health.as_str() == "Healthy"
    })?;
    ensure!(report.rtc.writes == 1 && report.rtc.write_failures == 0, "{:?}", report.rtc);
    bench::expect_within(machine, MS, 0)
}

/// Waits until the hardware clock is within 50 ms of the truth.
pub(super) fn hardware_clock_is_right(machine: Machine) -> anyhow::Result<()> {
    wait::until(
        &format!("the hardware clock of {} within 50 ms", machine.name()),
        "20 s",
        Duration::from_secs(180),
        || Ok((rtc_offset(machine)?.abs() <= 50 * MS).then_some(())),
    )
}

fn rtc_offset(machine: Machine) -> anyhow::Result<i64> {
    machine.rtc_offset()
}
