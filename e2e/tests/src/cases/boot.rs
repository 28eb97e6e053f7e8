//! Power cuts of nodes, while the certificate of the API server is valid from now. With a hardware clock in 1970 a node
//! does not join. With the boot option it joins by itself, with a right clock. A node whose hardware clock is right
//! joins in any case. Uninstalling the chart removes the boot option's files.
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use contract::Report;
use lab::{
    cluster,
    install::{self, NAMESPACE},
    kubectl, truth,
    under_test::{self, MS},
    vm::{self, Boot, Certificate, Vm},
    wait,
};

/// The time of a hardware clock whose battery is empty.
const RTC_1970: &str = "1970-01-01T00:00:00";

/// The certificate of the API server is valid from now.
const FROM_NOW: Boot<'static> = Boot { certificate: Certificate::FromNow, ..Boot::PLAIN };

pub(super) fn with_option() -> anyhow::Result<()> {
    under_test::settle()?;
    let story = || {
        option_starts_a_node(vm::VMS[1])?;
        uninstall_removes_it()
    };
    under_test::or_else(story(), put_back)
}

pub(super) fn without_option() -> anyhow::Result<()> {
    under_test::settle()?;
    let vm = vm::VMS[0];
    let story = || {
        let before = boot_id(vm)?;
        vm.power_cycle(&Boot { rtc: RTC_1970, ..FROM_NOW })?;
        stays_out(vm)?;
        vm.power_cycle(&FROM_NOW)?;
        joins(vm, &before)?;
        right(vm)?;
        under_test::settle()
    };
    under_test::or_else(story(), put_back)
}

fn option_starts_a_node(vm: Vm) -> anyhow::Result<()> {
    let before = boot_id(vm)?;
    install::upgrade(&[ALL_AT_ONCE, "agent.boot.staticPod=true"])?;
    wait::until(&format!("the boot files on {}", vm.name()), "20 s", Duration::from_secs(120), || {
        Ok((boot_files(vm)? == FILES).then_some(()))
    })?;
    vm.power_cycle(&Boot { rtc: RTC_1970, ..FROM_NOW })?;
    vm.wait_for_probe()?;
    let switched_on = Instant::now();
    joins(vm, &before)?;
    eprintln!(
        "  {} is Ready {:.0} s after its kernel's start",
        vm.name(),
        switched_on.elapsed().as_secs_f64()
    );
    right(vm)
}

/// Checks that 90 s after its kubelet's start the node is not Ready, its clock was not set, and the kubelet gives the
/// reason.
fn stays_out(vm: Vm) -> anyhow::Result<()> {
    wait::until("kubelet to say why it does not join", "20 s", Duration::from_secs(180), || {
        let console = vm.console();
        Ok(console.lines().any(|line| line.contains("x509") && line.contains("not yet valid")).then_some(()))
    })?;
    wait::until("the node to be missed", "60 s", Duration::from_secs(180), || {
        Ok((!ready(vm)?).then_some(()))
    })?;
    let started = vm.console().lines().find_map(|line| {
        let (_, rest) = line.split_once("node: starting kubelet at ")?;
        rest.split(' ').next()?.parse::<f64>().ok()
    });
    let started = started.context("the console says when kubelet was started")?;
    wait::holds_for("the node does not join", Duration::from_secs(5), || {
        ensure!(!ready(vm)?, "{} is Ready", vm.name());
        Ok(())
    })?;
    // The node's clock began in 1970 when it was switched on, so it equals the uptime.
    wait::until("90 s of kubelet's life", "", Duration::from_secs(120), || {
        ensure!(!ready(vm)?, "{} is Ready", vm.name());
        #[allow(clippy::cast_precision_loss, reason = "seconds of a node's life")]
        let life = (truth::nanoseconds()? + vm.probe()?.offset()?.offset) as f64 / 1e9;
        ensure!(life < 1e6, "something has set the clock of {}: {life} s since 1970", vm.name());
        Ok((life > started + 90.0).then_some(()))
    })
}

fn joins(vm: Vm, before: &str) -> anyhow::Result<()> {
    wait::until(&format!("{} to join again", vm.name()), "60 s", Duration::from_secs(300), || {
        Ok((boot_id(vm)? != before && ready(vm)?).then_some(()))
    })
}

/// Waits until its agent of this boot is synchronised, and the median of its clock's offset is below a millisecond.
fn right(vm: Vm) -> anyhow::Result<()> {
    let boot = boot_id(vm)?;
    let right = |report: &Report| report.boot_id == boot && report.clock.synchronized;
    under_test::wait_for_report(vm, "to be synchronised", Duration::from_secs(120), right)?;
    let median = wait::until("its clock within 1 ms", "2 s", Duration::from_secs(60), || {
        let median = under_test::median(vm)?;
        Ok((median.offset.abs() < MS).then_some(median.offset))
    })?;
    eprintln!("  {}: {} by median", vm.name(), truth::shown(median));
    Ok(())
}

fn uninstall_removes_it() -> anyhow::Result<()> {
    install::wait_for_pods()?;
    for vm in vm::VMS {
        let found = boot_files(vm)?;
        ensure!(found == FILES, "{} has {found:?}", vm.name());
    }
    kubectl::helm(&["uninstall", "timesync", "--namespace", NAMESPACE, "--wait"])?;
    for vm in vm::VMS {
        let left = boot_files(vm)?;
        ensure!(left.is_empty(), "uninstalling leaves {left:?} on {}", vm.name());
    }
    install::chart(&[])?;
    under_test::settle()
}

/// The files that the boot option puts on a node.
const FILES: [&str; 3] = [
    "/etc/kubernetes/manifests/timesync-boot.yaml",
    "/var/lib/timesync/bin/timesync-agent",
    "/var/lib/timesync/boot.toml",
];

/// Returns those of [`FILES`] that a node has.
fn boot_files(vm: Vm) -> anyhow::Result<Vec<String>> {
    let found = vm.run(&format!("ls -d {} 2>/dev/null || true", FILES.join(" ")))?;
    Ok(found.lines().map(str::to_owned).collect())
}

/// All agents may be replaced at the same time, so that a node that is down does not delay the others.
const ALL_AT_ONCE: &str = "agent.maxUnavailable=100%";

/// Restores both machines for the next test, after a failure.
fn put_back() -> anyhow::Result<()> {
    for vm in vm::VMS {
        let before = boot_id(vm)?;
        vm.power_cycle(&Boot::PLAIN)?;
        joins(vm, &before)?;
    }
    cluster::wait_for_nodes()?;
    install::upgrade(&[ALL_AT_ONCE, "agent.boot.staticPod=false"])?;
    install::wait_for_pods()?;
    under_test::settle()
}

/// Returns true if the node is Ready in the API server. After a power cut that remains so for most of a minute.
fn ready(vm: Vm) -> anyhow::Result<bool> {
    let ready = kubectl::node_condition(&vm.name(), "Ready")?;
    Ok(ready.is_some_and(|ready| ready["status"] == "True"))
}

/// The id of the last boot that the node has reported.
fn boot_id(vm: Vm) -> anyhow::Result<String> {
    let node = kubectl::get(&format!("node {}", vm.name()))?;
    Ok(node["status"]["nodeInfo"]["bootID"].as_str().context("a node tells its boot")?.to_owned())
}
