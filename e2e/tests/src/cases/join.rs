//! A machine joins the cluster with a wrong clock and a taint. A pod that waits for it is placed only after its clock is
//! right, as measured from outside.
use std::time::Duration;

use anyhow::ensure;
use contract::Reason;
use lab::{
    calendar, cluster, install, kubectl, truth,
    under_test::{self, MS, taint},
    vm::{Boot, Vm},
    wait,
};
use xtask::image;

/// The machine becomes a new node that registers with this taint while its clock is 3 s ahead. Whoever removes the
/// taint must do so after the clock is within 1 ms. The clocks are right in the end.
pub(super) fn placed_when_right(vm: Vm, startup_taint: &str) -> anyhow::Result<()> {
    let name = vm.name();
    kubectl::sh(&format!("delete node {name} --wait=true"))?;
    let ahead = calendar::shown(truth::nanoseconds()? / 1_000_000_000 + 3);
    let ahead = ahead.trim_end_matches('Z');
    vm.power_cycle(&Boot { rtc: ahead, register_with_taint: Some(startup_taint), ..Boot::PLAIN })?;
    kubectl::apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: joins}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         nodeSelector: {{kubernetes.io/hostname: {name}}}\n  \
         containers:\n  - {{name: log, image: '{}', imagePullPolicy: Never, args: ['10']}}\n",
        image::EVENTLOG
    ))?;
    vm.wait_for_probe()?;
    let mut was_tainted = false;
    let off = wait::until("the node to be free", "90 s", Duration::from_secs(400), || {
        let offset = under_test::median(vm)?.offset;
        if scheduled("joins")?.is_some() {
            return Ok(Some(offset));
        }
        was_tainted |= kubectl::sh(&format!("get node {name} --ignore-not-found"))?.contains(&name)
            && taint(&name, startup_taint)?.is_some();
        Ok(None)
    })?;
    ensure!(was_tainted, "{name} was never tainted");
    ensure!(off.abs() < MS, "the pod was placed while the clock was {} off", truth::shown(off));
    under_test::wait_for_taint(&name, startup_taint, None)?;
    under_test::wait_for_node(&name, "True", Reason::Synchronized.as_str())?;
    cluster::wait_for_nodes()?;
    install::wait_for_pods()?;
    put_back()
}

/// The node of a pod; none if it has none yet.
pub(super) fn scheduled(pod: &str) -> anyhow::Result<Option<String>> {
    Ok(kubectl::get(&format!("pod {pod}"))?["spec"]["nodeName"].as_str().map(str::to_owned))
}

/// The pod is gone, and the clocks are right.
pub(super) fn put_back() -> anyhow::Result<()> {
    kubectl::sh("delete pod joins --ignore-not-found --force --grace-period=0")?;
    under_test::settle()
}
