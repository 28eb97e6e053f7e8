//! Installations that lack a right or a CRD.
use std::time::Instant;

use anyhow::{Context, ensure};
use fleet::world::{POLICY, World};
use lab::kubectl;
use serde_json::json;
use xtask::checkout;

use super::{NODES, counts, expect_counted, wait_ready};

/// Without the right to write NodeClocks, the operator reports that at its probe, and still reports clocks in the
/// policy's status.
pub(super) fn right(world: &mut World) -> anyhow::Result<()> {
    let role = kubectl::get("clusterrole timesync-operator")?;
    let mut lesser = role.clone();
    let rules = lesser["rules"].as_array_mut().context("rules")?;
    let all = rules.len();
    rules.retain(|rule| {
        let resources = rule["resources"].as_array().into_iter().flatten();
        resources.into_iter().all(|resource| resource != "nodeclocks/status")
    });
    ensure!(rules.len() < all, "no rule is about nodeclocks/status: {role}");
    set_rules(&lesser["rules"])?;
    let lost = world.fleet.agents(&[7]);
    let begun = Instant::now();
    lost[0].synchronize(false);
    world.wait_policy(POLICY, "the policy to tell of the clock", begun, |seen| {
        counts(seen.status.nodes.as_ref(), |nodes| nodes.synchronized, NODES - 1)
            && seen.message("RolledOut").contains("NodeClock not written")
    })?;
    wait_ready(world, 503, "NodeClock: ")?;
    expect_counted(world, r#"timesync_api_errors_total{resource="NodeClock"}"#)?;
    set_rules(&role["rules"])?;
    wait_ready(world, 200, "")?;
    lost[0].synchronize(true);
    Ok(())
}

fn set_rules(rules: &serde_json::Value) -> anyhow::Result<()> {
    let patch = json!({"rules": rules}).to_string();
    kubectl::run(&["patch", "clusterrole", "timesync-operator", "--type=merge", "-p", &patch]).map(drop)
}

/// Without a CRD the operator is not ready, and gives the reason. With the CRD it works.
pub(super) fn crd(world: &mut World) -> anyhow::Result<()> {
    world.stop("-TERM")?;
    kubectl::sh("delete crd nodeclocks.timesync.dev --timeout=60s")?;
    world.start()?;
    wait_ready(world, 503, "the CRDs of timesync.dev are not installed")?;
    expect_counted(world, r#"timesync_api_errors_total{resource="nodeclocks"}"#)?;
    // kubectl follows a link to a folder only with a slash at the end.
    let crds = format!("{}/", checkout::root().join("crds").display());
    kubectl::run(&["apply", "--server-side", "--force-conflicts", "-f", &crds])?;
    wait_ready(world, 200, "")
}
