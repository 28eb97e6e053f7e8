//! The only upstream gives a time that has certainly passed: in 1980, or an hour before the last time known to be
//! right. Until the first synchronisation of a boot the clock may be stepped to any time, except to these.
use std::time::Duration;

use anyhow::ensure;
use lab::{calendar, machine::Machine, truth, upstream, wait};

use super::bench::{self, MS};

pub(super) fn run(machine: Machine) -> anyhow::Result<()> {
    bench::settle(machine, "")?;
    let in_1980 = calendar::seconds((1980, 1, 6), (0, 0, 0)) - truth::nanoseconds()? / 1_000_000_000;
    refused(machine, in_1980, "before this program was made")?;
    refused(machine, -3_600, "before the last one known to be right on this node")?;

    machine.stop_agent()?;
    bench::bend(machine, upstream::HONESTLY)?;
    machine.start_agent(&bench::profile(machine, ""))?;
    machine.wait_for("to be synchronised", Duration::from_secs(120), |report| report.clock.synchronized)?;
    let clock = machine.report()?.clock;
    ensure!(clock.steps <= 1, "it was stepped more than a new agent may: {clock:?}");
    bench::right(machine, 0, Duration::from_secs(60))
}

/// With an upstream that is off by so many seconds, in a start phase, nothing is done, and the source says why.
fn refused(machine: Machine, seconds: i64, why: &str) -> anyhow::Result<()> {
    // It keeps the time when it ends.
    machine.stop_agent()?;
    bench::bend(machine, &format!("offset={seconds} leap=0"))?;
    machine.run("test -s /state/timesync/time && rm -f /state/timesync/boot /state/timesync/samples")?;
    machine.start_agent(&bench::profile(machine, ""))?;
    let report = machine.wait_for("to say why it does not follow", Duration::from_secs(60), |report| {
        report.sources.iter().any(|source| source.message.contains(why))
    })?;
    ensure!(report.sources[0].state == contract::SourceState::Unusable, "{:?}", report.sources);
    wait::holds_for("it is not moved", Duration::from_secs(20), || {
        let report = machine.report()?;
        ensure!(!report.clock.synchronized && report.clock.steps == 0, "{:?}", report.clock);
        bench::expect_within(machine, 20 * MS, 0)
    })
}
