//! Falsetickers: one with `prefer` is never followed. With two against two, no server is followed.
use std::time::Duration;

use anyhow::ensure;
use contract::{Reason, SourceState};
use lab::{
    ntp_query,
    under_test::{self, MS},
    upstream, vm, wait,
};

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    one_preferred_liar()?;
    two_against_two()?;
    under_test::settle()
}

fn one_preferred_liar() -> anyhow::Result<()> {
    upstream::bend(0, "offset=0.3")?;
    let mut entries = under_test::four();
    entries[0] += ", prefer: true";
    let entries: Vec<_> = entries.iter().map(String::as_str).collect();
    under_test::apply(&entries, "")?;
    under_test::wait_for_profile(Duration::from_secs(30))?;
    for vm in vm::VMS {
        under_test::wait_for_report(vm, "to see through the liar", Duration::from_secs(60), |report| {
            report.sources[0].state == SourceState::Falseticker && report.clock.synchronized
        })?;
    }
    wait::holds_for("the liar is not followed", Duration::from_secs(20), || {
        for vm in vm::VMS {
            let report = under_test::report(vm)?;
            let state = report.sources[0].state;
            ensure!(
                !matches!(state, SourceState::Selected | SourceState::Combined),
                "{}: {state:?}",
                vm.name()
            );
            ensure!(report.clock.reference.as_deref() != Some("a"), "{} follows the liar", vm.name());
            under_test::expect_within(vm, 2 * MS, 0)?;
        }
        Ok(())
    })
}

fn two_against_two() -> anyhow::Result<()> {
    upstream::bend(1, "offset=0.3")?;
    for vm in vm::VMS {
        under_test::wait_for_condition(
            vm,
            "Synchronized",
            "False",
            Reason::NoMajority.as_str(),
            Duration::from_secs(90),
        )?;
        let report = under_test::report(vm)?;
        ensure!(
            !report.clock.synchronized && report.clock.reason == Reason::NoMajority,
            "{:?}",
            report.clock
        );
        for source in &report.sources {
            let followed = matches!(source.state, SourceState::Selected | SourceState::Combined);
            ensure!(!followed, "{}: {} is {:?}", vm.name(), source.name, source.state);
        }
        let reply = ntp_query::ask(&vm.address())?;
        ensure!(reply.leap == 3 && reply.stratum == 0, "unsynchronised, and says on the wire {reply:?}");
        under_test::expect_within(vm, 2 * MS, 0)?;
    }
    Ok(())
}
