//! Every node registers with the taint for a clock that is not synchronised, upstreams are given by name, and the pods of
//! the cluster's DNS do not tolerate the taint. This is no deadlock: the agents tolerate the taint and do not need the
//! cluster's DNS. Each node is freed when its clock is right, and then the DNS pods start.
use std::time::Duration;

use anyhow::ensure;
use lab::{
    cluster, install, kubectl, pki,
    under_test::{self, MS, STARTUP_TAINT},
    upstream,
    vm::{self, Boot},
    wait,
};
use xtask::image;

/// The name of an upstream. The nodes have it in /etc/hosts, so that their resolver knows it.
const NAME: &str = "ntp.test";

pub(super) fn run() -> anyhow::Result<()> {
    cluster::up(Boot { register_with_taint: Some(STARTUP_TAINT), ..cluster::IN_2020 })?;
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
    ensure!(tainted()? == pki::NODES.len(), "not every node registers with the taint");
    // Stands for CoreDNS.
    kubectl::apply(&format!(
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: dns, namespace: kube-system}}\nspec:\n  \
         selector: {{matchLabels: {{app: dns}}}}\n  template:\n    metadata: {{labels: {{app: dns}}}}\n    spec:\n      \
         containers: [{{name: dns, image: '{}', imagePullPolicy: Never, args: ['10']}}]\n",
        image::EVENTLOG
    ))?;
    install::chart(&["operator.nodes.taints=true"])?;
    wait::holds_for("all nodes are tainted", Duration::from_secs(10), || {
        ensure!(tainted()? == pki::NODES.len(), "freed before there is a policy");
        Ok(())
    })?;
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
    let effects = pki::NODES.iter().map(|node| under_test::taint(node, STARTUP_TAINT));
    Ok(effects.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().count())
}
