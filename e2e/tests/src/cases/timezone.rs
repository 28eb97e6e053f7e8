//! A policy sets the nodes' time zone; one that a node does not have is refused by the node and by nothing else; without
//! the field the former one is back.
use std::time::Duration;

use anyhow::ensure;
use contract::Report;
use lab::{
    kubectl, under_test,
    vm::{self, Vm},
    vm_image::ZONES,
    wait,
};

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    // Without the field the agents put back what was there.
    under_test::or_else(zones(), under_test::settle)
}

fn zones() -> anyhow::Result<()> {
    for zone in [ZONES[1], ZONES[2]] {
        set(zone)?;
        for vm in vm::VMS {
            wait_for_told(vm, &format!("to tell of {zone}"), |name, message| {
                name == Some(zone) && message.is_none()
            })?;
            expect_localtime(vm, zone)?;
        }
    }

    set("Mars/Olympus_Mons")?;
    for vm in vm::VMS {
        wait_for_told(vm, "to say what is missing", |name, message| {
            name == Some(ZONES[2]) && message.is_some_and(|message| message.contains("Mars/Olympus_Mons"))
        })?;
        expect_localtime(vm, ZONES[2])?;
        let report = under_test::report(vm)?;
        ensure!(report.clock.synchronized && report.profile_error.is_none(), "{report:?}");
    }

    under_test::apply_four("")?;
    under_test::wait_for_profile(Duration::from_secs(60))?;
    for vm in vm::VMS {
        let gone = |report: &Report| report.timezone.is_none();
        under_test::wait_for_report(vm, "to leave the time zone alone", Duration::from_secs(30), gone)?;
        expect_localtime(vm, ZONES[0])?;
    }
    Ok(())
}

fn set(zone: &str) -> anyhow::Result<()> {
    under_test::apply_four(&format!("  timezone: {zone}\n"))?;
    under_test::wait_for_profile(Duration::from_secs(60))?;
    Ok(())
}

/// Waits until the node's NodeClock has this zone and this message.
fn wait_for_told(
    vm: Vm,
    what: &str,
    wanted: impl Fn(Option<&str>, Option<&str>) -> bool,
) -> anyhow::Result<()> {
    wait::until(&format!("{} {what}", vm.name()), "2 s", Duration::from_secs(60), || {
        let status = kubectl::node_clock(&vm.name())?.and_then(|clock| clock.status).unwrap_or_default();
        let Some(told) = status.timezone else { return Ok(None) };
        Ok(wanted(told.name.as_deref(), told.message.as_deref()).then_some(()))
    })
}

/// An error if the node's /etc/localtime leads elsewhere.
fn expect_localtime(vm: Vm, zone: &str) -> anyhow::Result<()> {
    let link = vm.run("readlink -f /etc/localtime")?;
    let wanted = format!("/usr/share/zoneinfo/{zone}");
    ensure!(link.trim() == wanted, "/etc/localtime of {} leads to {}", vm.name(), link.trim());
    Ok(())
}
