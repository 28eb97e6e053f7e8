//! Functions that the tests share: the machine's profile and upstream, a right clock at the start, and questions about
//! the clock.
use std::time::Duration;

use anyhow::ensure;
use lab::{machine::Machine, readings, truth, upstream, wait};

/// Nanoseconds in a millisecond.
pub(super) const MS: i64 = 1_000_000;

/// The profile of most tests: one server with a poll interval of one or two seconds, fast slewing, a verified hardware
/// clock.
pub(super) fn profile(machine: Machine, clock: &str) -> String {
    format!(
        "[[profile.upstreams]]\nname = \"a\"\nserver = \"{}\"\niburst = true\nminPoll = 0\nmaxPoll = 1\n\n\
         [[profile.restrict]]\nsource = \"default\"\n\n[profile.rtc]\nmode = \"Verified\"\n\n\
         [profile.clock]\nmaxSlewRate = 5000\n{clock}\n",
        upstream::BENT[machine.index()]
    )
}

/// Changes the time of the machine's upstream. Returns its time minus true time, nanoseconds.
pub(super) fn bend(machine: Machine, words: &str) -> anyhow::Result<i64> {
    upstream::bend(machine.index(), words)
}

/// Starts each test: an upstream with true time, this profile, and a right clock. The agent starts again without saved
/// state, so that it steps a clock that an earlier test left wrong.
pub(super) fn settle(machine: Machine, clock: &str) -> anyhow::Result<()> {
    machine.stop_agent()?;
    bend(machine, upstream::HONESTLY)?;
    begin(machine, clock)
}

/// The same with an upstream that has only these changes: those of an earlier test are reset.
pub(super) fn settle_bent(machine: Machine, words: &str) -> anyhow::Result<()> {
    machine.stop_agent()?;
    bend(machine, &upstream::alone(words))?;
    begin(machine, "")
}

fn begin(machine: Machine, clock: &str) -> anyhow::Result<()> {
    machine.set_link(true)?;
    machine.run("rm -rf /state/timesync; : >/run/agent.log")?;
    machine.start_agent(&profile(machine, clock))?;
    machine.wait_for("to be synchronised", Duration::from_secs(90), |report| report.clock.synchronized)?;
    let target = bend(machine, "")?;
    right(machine, target, Duration::from_secs(120))
}

/// Waits until the clock is within a millisecond of `target`, by the median of ten readings. The upstream must have
/// that time, since the agent follows it.
pub(super) fn right(machine: Machine, target: i64, limit: Duration) -> anyhow::Result<()> {
    let what = format!("{} within 1 ms of {}", machine.name(), truth::shown(target));
    wait::until(&what, "10 s", limit, || {
        let apart = bend(machine, "")? - target;
        ensure!(apart.abs() <= MS / 10, "the upstream itself is {} off", truth::shown(apart));
        let offset = machine.probe()?.median_of_10()?.offset - target;
        if offset.abs() <= MS {
            return Ok(Some(()));
        }
        // For the message of a failure: the agent's estimate of the clock, and its samples.
        let _ = machine.report();
        let _ = machine.try_run("timesync-agent sources");
        let kernel = machine.probe()?.kernel()?;
        readings::note(&format!("{}'s kernel", machine.name()), &format!("{kernel:?}"));
        Ok(None)
    })
}

/// The clock's distance from `target`, now, nanoseconds.
pub(super) fn distance(machine: Machine, target: i64) -> anyhow::Result<i64> {
    Ok(machine.probe()?.offset()?.offset - target)
}

/// Fails if the clock is further than `limit` from `target`.
pub(super) fn expect_within(machine: Machine, limit: i64, target: i64) -> anyhow::Result<()> {
    let offset = distance(machine, target)?;
    ensure!(offset.abs() <= limit, "{} is {} off", machine.name(), truth::shown(offset));
    Ok(())
}
