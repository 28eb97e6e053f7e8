//! chronyd starts beside the agent: the agent detects and names it, only observes, and steers again when it is alone.
//! If a program has the NTP port, the agent names it, and continues to steer.
use std::time::{Duration, Instant};

use anyhow::ensure;
use contract::{Mode, TransitionKind};
use lab::{machine::Machine, upstream, wait};

use super::bench::{self, MS};

pub(super) fn run(machine: Machine) -> anyhow::Result<()> {
    let result = port_taken(machine).and_then(|()| conflict(machine));
    stop(machine)?;
    result
}

fn port_taken(machine: Machine) -> anyhow::Result<()> {
    // A clock that another test left far off would not be taken up by an agent that knows this boot.
    bench::settle(machine, "")?;
    machine.stop_agent()?;
    // -x: it leaves the clock alone.
    start(machine, "-x", "allow\n")?;
    machine.start_agent(&bench::profile(machine, ""))?;
    let report = machine.wait_for("to name who has its port", Duration::from_secs(60), |report| {
        report.server.message.contains("chronyd (pid ")
    })?;
    ensure!(report.server.message.starts_with("PortTaken"), "{}", report.server.message);
    ensure!(!report.server.serving, "it says that it serves");
    machine.wait_for("to be synchronised all the same", Duration::from_secs(60), |report| {
        report.clock.synchronized && report.conflict.is_none()
    })?;
    stop(machine)?;
    machine.wait_for("to serve", Duration::from_secs(60), |report| report.server.serving).map(drop)
}

fn conflict(machine: Machine) -> anyhow::Result<()> {
    bench::settle(machine, "")?;
    let steps = machine.report()?.clock.steps;
    let begun = Instant::now();
    start(machine, "", "")?;
    let report = machine.wait_for("to notice chronyd", Duration::from_secs(60), |report| {
        report.conflict.as_ref().is_some_and(|conflict| conflict.message.contains("chronyd (pid "))
    })?;
    eprintln!("  {}: noticed and named after {:.1} s", machine.name(), begun.elapsed().as_secs_f64());
    ensure!(report.mode == Some(Mode::Observe), "it goes on in mode {:?}", report.mode);
    wait::holds_for("it stands back, and chronyd keeps the clock right", Duration::from_secs(10), || {
        let report = machine.report()?;
        ensure!(report.conflict.is_some() && report.mode == Some(Mode::Observe), "{:?}", report.conflict);
        bench::expect_within(machine, 10 * MS, 0)
    })?;

    stop(machine)?;
    let begun = Instant::now();
    let report = machine.wait_for("to be alone again", Duration::from_secs(300), |report| {
        report.conflict.is_none() && report.clock.synchronized
    })?;
    eprintln!("  {}: alone again after {:.1} s", machine.name(), begun.elapsed().as_secs_f64());
    ensure!(report.mode == Some(Mode::Discipline), "it goes on in mode {:?}", report.mode);
    let ended = report.transitions.iter().any(|told| told.kind == TransitionKind::ConflictEnded);
    ensure!(ended, "no transition tells of the end: {:?}", report.transitions);
    bench::right(machine, 0, Duration::from_secs(60))?;
    ensure!(machine.report()?.clock.steps == steps, "it stepped");
    Ok(())
}

/// Starts chronyd with the machine's own upstream.
fn start(machine: Machine, options: &str, more: &str) -> anyhow::Result<()> {
    let server = upstream::BENT[machine.index()];
    machine.put(
        "/etc/chrony.conf",
        &format!("server {server} iburst minpoll 0 maxpoll 2\npidfile /run/chronyd.pid\ncmdport 0\n{more}"),
    )?;
    machine
        .run(&format!("mkdir -p /var/lib/chrony /run/chrony; chronyd -u root -d {options} -f /etc/chrony.conf >/run/chronyd.log 2>&1 3>&- &"))
        .map(drop)
}

/// Ends it, if it runs.
fn stop(machine: Machine) -> anyhow::Result<()> {
    machine.run("killall chronyd 2>/dev/null; while pidof chronyd >/dev/null; do sleep 0.1; done").map(drop)
}
