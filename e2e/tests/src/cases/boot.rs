//! Nodes whose power is cut, under a certificate of the API server that is valid from now. With a hardware clock in 1970
//! a node does not join; with the boot option it does, unaided, with its clock right; so does one whose hardware clock is
//! right. Uninstalling takes the boot option's files with it.
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use contract::Report;
use lab::{
    cluster,
    install::{self, NAMESPACE},
    kubectl, truth,
    under_test::{self, MS},
    vm::{self, Certificate, Vm},
    wait,
};
use xtask::checkout;

/// What a hardware clock says whose battery is empty.
const RTC_1970: &str = "1970-01-01T00:00:00";

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
        vm.power_cycle(RTC_1970, Certificate::FromNow)?;
        stays_out(vm)?;
        vm.power_cycle("utc", Certificate::FromNow)?;
        joins(vm, &before)?;
        right(vm)?;
        under_test::settle()
    };
    under_test::or_else(story(), put_back)
}

fn option_starts_a_node(vm: Vm) -> anyhow::Result<()> {
    let before = boot_id(vm)?;
    upgrade("agent.boot.staticPod=true")?;
    wait::until(&format!("the boot files on {}", vm.name()), "20 s", Duration::from_secs(120), || {
        Ok((boot_files(vm)? == FILES).then_some(()))
    })?;
    vm.power_cycle(RTC_1970, Certificate::FromNow)?;
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

/// A minute and a half after its kubelet's start the node is not Ready, its clock is where the hardware clock was, and
/// kubelet says why.
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
    // The node's clock began at 1970 when it was switched on, so it is its uptime as well.
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

/// Its agent of this boot is synchronised, and its clock within a millisecond by median.
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

/// What the boot option puts on a node.
const FILES: [&str; 3] = [
    "/etc/kubernetes/manifests/timesync-boot.yaml",
    "/var/lib/timesync/bin/timesync-agent",
    "/var/lib/timesync/boot.toml",
];

/// Those of them that a node has.
fn boot_files(vm: Vm) -> anyhow::Result<Vec<String>> {
    let found = vm.run(&format!("ls -d {} 2>/dev/null || true", FILES.join(" ")))?;
    Ok(found.lines().map(str::to_owned).collect())
}

/// All agents may go at once: the one of a node that is out does not keep the others waiting.
fn upgrade(setting: &str) -> anyhow::Result<()> {
    let chart = checkout::root().join("charts/timesync").display().to_string();
    kubectl::helm(&[
        "upgrade",
        "timesync",
        &chart,
        "--namespace",
        NAMESPACE,
        "--reuse-values",
        "--set",
        "agent.maxUnavailable=100%",
        "--set",
        setting,
    ])?;
    Ok(())
}

/// After a failure: both machines as the next test wants them.
fn put_back() -> anyhow::Result<()> {
    for vm in vm::VMS {
        let before = boot_id(vm)?;
        vm.power_cycle("utc", Certificate::Always)?;
        joins(vm, &before)?;
    }
    cluster::wait_for_nodes()?;
    upgrade("agent.boot.staticPod=false")?;
    install::wait_for_pods()?;
    under_test::settle()
}

/// Whether the API server takes the node for Ready. After a power cut it does for most of a minute.
fn ready(vm: Vm) -> anyhow::Result<bool> {
    let node = kubectl::get(&format!("node {}", vm.name()))?;
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    Ok(conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}

/// Of the boot that the node has told of last.
fn boot_id(vm: Vm) -> anyhow::Result<String> {
    let node = kubectl::get(&format!("node {}", vm.name()))?;
    Ok(node["status"]["nodeInfo"]["bootID"].as_str().context("a node tells its boot")?.to_owned())
}
