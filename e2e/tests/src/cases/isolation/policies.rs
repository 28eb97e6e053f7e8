//! Policies that are many, large, or alike.
use std::time::{Duration, Instant};

use anyhow::ensure;
use fleet::world::{World, policy};
use lab::{kubectl, readings, wait};
use serde_json::{Value, json};

use super::{counts, edit_all_but};

/// Together they are larger than a ConfigMap can be.
const MANY: usize = 150;

/// Policies that no node needs are not stored.
pub(super) fn large(world: &mut World) -> anyhow::Result<()> {
    let name = |number: usize| format!("large-{number:03}");
    for number in 0..MANY {
        world.apply(&name(number), &large_policy(number))?;
    }
    let begun = Instant::now();
    let (generation, profile) = edit_all_but(world, 0)?;
    world.wait_rolled_out(generation, &profile, begun)?;
    let map = kubectl::get("configmap timesync-profiles -n timesync-system")?;
    let keys: Vec<_> = map["data"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
    ensure!(!keys.iter().any(|key| key.starts_with("large-")), "profiles that no node needs: {keys:?}");
    let all: Vec<_> = (0..MANY).map(name).collect();
    kubectl::sh(&format!("delete tsp {} --wait=false", all.join(" "))).map(drop)
}

fn large_policy(number: usize) -> Value {
    let upstream = |index| json!({"name": format!("{index:02}-{}", "u".repeat(29)), "server": format!("{index}.{}.example.com", "s".repeat(60))});
    let restrict = |index: usize| {
        json!({"source": format!("10.{}.{index}.0/24", number % 250),
                                         "flags": ["kod", "limited", "nomodify", "nopeer", "noquery", "notrap"]})
    };
    json!({"upstreams": (0..16).map(upstream).collect::<Vec<_>>(),
           "restrict": (0..48).map(restrict).collect::<Vec<_>>(),
           "nodeSelector": {"matchLabels": {"no-node-has": "this"}}})
}

/// No object is written repeatedly.
pub(super) fn with_one_beginning(world: &mut World) -> anyhow::Result<()> {
    for (node, name) in [("node-00008", "edge"), ("node-00009", "edge-2")] {
        kubectl::sh(&format!("label node {node} group={name}"))?;
        let mut spec = policy(json!({"priority": 1, "clock": {"maxSlewRate": 300}}));
        spec["nodeSelector"] = json!({"matchLabels": {"group": name}});
        let begun = Instant::now();
        world.apply(name, &spec)?;
        world.wait_policy(name, &format!("policy {name} on its node"), begun, |seen| {
            counts(seen.status.nodes.as_ref(), |nodes| nodes.applied, 1)
        })?;
    }
    let before = world.bill()?;
    wait::holds_for("the ConfigMap stays as it is", Duration::from_secs(10), || {
        let since = world.bill()?.since(&before);
        readings::note("writes", &since.shown());
        ensure!(since.of("configmaps") == 0, "it is written again and again: {}", since.shown());
        Ok(())
    })?;
    kubectl::sh("delete tsp edge edge-2")?;
    kubectl::sh("label node node-00008 node-00009 group-").map(drop)
}
