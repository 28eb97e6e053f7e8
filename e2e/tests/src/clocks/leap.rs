//! Leap seconds that the upstream announces, one inserted and one deleted: the kernel applies them, and the agent stays
//! synchronised and does not step.
use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use lab::{calendar, machine::Machine, truth, wait};
use xtask::interrupt;

use super::bench::{self, MS};

pub(super) fn run(machine: Machine) -> anyhow::Result<()> {
    // 2028 is a leap year, so an error in the calendar would show.
    one(machine, "leap=1", -1_000 * MS)?;
    one(machine, "leap=2", 1_000 * MS)
}

/// The upstream's time begins this many seconds before midnight: enough to detect and confirm the announcement.
const BEFORE: i64 = 70;

/// Moves upstream and machine to the end of a December, and through it; the upstream's time then moves by `by`.
fn one(machine: Machine, leap: &str, by: i64) -> anyhow::Result<()> {
    let midnight = calendar::seconds((2028, 12, 31), (23, 59, 59)) + 1;
    machine.stop_agent()?;
    let offset = (midnight - BEFORE) * 1_000_000_000 - truth::nanoseconds()?;
    let words = format!("offset={}.{:09} leap=0", offset / 1_000_000_000, offset % 1_000_000_000);
    bench::settle_bent(machine, &words)?;
    let before = bench::bend(machine, leap)?;
    let told = if by < 0 { 1 } else { 2 };
    machine.wait_for("to announce the leap second", Duration::from_secs(30), |report| {
        report.clock.leap == told
    })?;
    let steps = machine.report()?.clock.steps;

    // Its own second moves with the upstream's.
    let end = midnight * 1_000_000_000 - i64::from(by > 0) * 1_000_000_000;
    while truth::nanoseconds()? + before < end {
        interrupt::check()?;
        thread::sleep(Duration::from_millis(5));
    }
    let whole = by / 1_000_000_000;
    let (moved, nanos) = ((before + by) / 1_000_000_000, (before + by) % 1_000_000_000);
    let target = bench::bend(machine, &format!("offset={moved}.{nanos:09} leap=0"))?;
    let begun = Instant::now();
    let mut done = None;
    while done.is_none() {
        interrupt::check()?;
        let off = bench::distance(machine, target)?;
        if off.abs() <= 10 * MS {
            done = Some(begun.elapsed());
        } else if begun.elapsed() > Duration::from_secs(60) {
            bail!("a minute after the leap second the clock is {} off", truth::shown(off));
        }
    }
    eprintln!(
        "  {}: a leap second of {whole:+} s was done {:.1} s after midnight",
        machine.name(),
        done.unwrap_or_default().as_secs_f64()
    );
    wait::holds_for("it stays right and synchronised", Duration::from_secs(8), || {
        bench::expect_within(machine, 10 * MS, target)?;
        ensure!(machine.report()?.clock.synchronized, "it lost synchronisation");
        Ok(())
    })?;
    let clock = machine
        .wait_for("to announce none any more", Duration::from_secs(30), |report| report.clock.leap == 0)?
        .clock;
    ensure!(
        clock.steps == steps && clock.external_steps == 0,
        "a leap second was taken for a step: {clock:?}"
    );
    let flags = machine.probe()?.kernel()?.status & 0x30;
    ensure!(flags == 0, "the kernel still has STA_INS or STA_DEL: {flags:#x}");
    bench::right(machine, target, Duration::from_secs(60))
}
