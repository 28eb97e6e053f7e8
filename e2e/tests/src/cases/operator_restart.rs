//! A restart of the operators changes nothing on the nodes: same profiles, same assignments, same agents.
use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use contract::Assignment;
use lab::{
    agent_http::Agent,
    install::{self, NAMESPACE},
    kubectl, pki, under_test, wait,
};

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let before = nodes()?;
    install::kill_operators()?;
    install::wait_for_pods()?;
    wait::holds_for("nothing changes on the nodes", Duration::from_secs(20), || {
        let now = nodes()?;
        ensure!(now == before, "before the restart {before:?}, after it {now:?}");
        Ok(())
    })
}

/// What a node would notice: the profiles' texts, each agent's assignment, and what it runs since when.
fn nodes() -> anyhow::Result<BTreeMap<String, String>> {
    let profiles = kubectl::get(&format!("configmap timesync-profiles -n {NAMESPACE}"))?;
    let mut all = BTreeMap::from([("profiles".to_owned(), profiles["data"].to_string())]);
    for node in pki::NODES {
        let pod = kubectl::get(&format!("pod {} -n {NAMESPACE}", install::agent_on(node)?))?;
        let assigned = &pod["metadata"]["annotations"][Assignment::ANNOTATION];
        let report = Agent::at(&install::address(node))?.report()?;
        let running = report.profile.with_context(|| format!("{node} runs no profile"))?;
        all.insert(node.to_owned(), format!("{assigned}, runs {running} since {}", report.instance));
    }
    Ok(all)
}
