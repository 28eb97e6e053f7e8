//! Every node registers with the taint for a clock that is not synchronised, upstreams are given by name, and the pods of
//! the cluster's DNS do not tolerate the taint. Neither waits for the other: the cluster comes up, and each node is freed
//! when its clock is right.
use std::time::Duration;

use anyhow::ensure;
use lab::{
    cluster, install, kubectl,
    under_test::{self, MS},
    upstream,
    vm::{self, Boot},
    wait,
};
use xtask::image;

const TAINT: &str = "timesync.dev/clock-not-synchronized";
/// The name of an upstream. The nodes have it in /etc/hosts, so that their resolver knows it.
const NAME: &str = "ntp.test";

pub(super) fn run() -> anyhow::Result<()> {
    cluster::up(Boot { register_with_taint: Some(TAINT), ..cluster::IN_2020 })?;
    let result = story();
    match &result {
        Ok(()) => cluster::down()?,
        Err(_) => cluster::give_up(),
    }
    result
}

fn story() -> anyhow::Result<()> {
    cluster::set_clocks_off()?;
    for vm in vm::VMS {
        vm.run(&format!("echo '{} {NAME}' >> /etc/hosts", upstream::BENT[0]))?;
    }
    ensure!(tainted()? == 3, "not every node registers with the taint");
    // Stands for CoreDNS.
    kubectl::apply(&format!(
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: dns, namespace: kube-system}}\nspec:\n  \
         selector: {{matchLabels: {{app: dns}}}}\n  template:\n    metadata: {{labels: {{app: dns}}}}\n    spec:\n      \
         containers: [{{name: dns, image: '{}', imagePullPolicy: Never, args: ['10']}}]\n",
        image::EVENTLOG
    ))?;
    install::chart(&["operator.nodes.taints=true"])?;
    ensure!(tainted()? == 3, "freed before there is a policy");
    under_test::apply(&[&format!("name: a, server: {NAME}")], "")?;
    under_test::wait_within(MS, 0, Duration::from_secs(120))?;
    wait::until("all nodes to be free", "10 s", Duration::from_secs(120), || {
        Ok((tainted()? == 0).then_some(()))
    })?;
    wait::until("the pods of the DNS", "10 s", Duration::from_secs(120), || {
        let set = kubectl::get("ds dns -n kube-system")?;
        Ok((set["status"]["numberReady"] == 3).then_some(()))
    })
}

/// The number of nodes with the taint.
fn tainted() -> anyhow::Result<usize> {
    let nodes = kubectl::get("nodes")?;
    let all = nodes["items"].as_array().into_iter().flatten();
    let has_it = |node: &&serde_json::Value| {
        let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
        taints.any(|taint| taint["key"] == TAINT)
    };
    Ok(all.filter(has_it).count())
}
