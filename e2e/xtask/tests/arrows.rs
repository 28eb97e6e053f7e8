//! The shape of the workspace, asked of `cargo metadata`: the arrows between crates and no other, a pure `ntp`,
//! an agent without Kubernetes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

#[test]
fn these_arrows_and_no_other() {
    let metadata = metadata();
    let members = members(&metadata);
    let mut arrows = BTreeSet::new();
    for (name, package) in &members {
        for dependency in array(package, "dependencies") {
            let target = dependency["name"].as_str().unwrap();
            if members.contains_key(target) {
                arrows.insert(format!("{name} -> {target}"));
            }
        }
    }
    let expected = [
        "kubectl-timesync -> timesync-api",
        "kubectl-timesync -> timesync-contract",
        // For the subcommand `convert` alone.
        "kubectl-timesync -> timesync-convert",
        "timesync-agent -> timesync-contract",
        // For the subcommand `convert` alone.
        "timesync-agent -> timesync-convert",
        "timesync-agent -> timesync-http",
        "timesync-agent -> timesync-ntp",
        "timesync-agent -> timesync-profile",
        "timesync-agent -> timesync-sys",
        // The CRD is made from the ranges and defaults of the profile.
        "timesync-api -> timesync-profile",
        "timesync-bench -> timesync-api",
        "timesync-bench -> timesync-contract",
        "timesync-bench -> timesync-fleet",
        "timesync-bench -> timesync-lab",
        "timesync-bench -> timesync-xtask",
        "timesync-convert -> timesync-contract",
        "timesync-convert -> timesync-profile",
        "timesync-e2e -> timesync-api",
        "timesync-e2e -> timesync-contract",
        "timesync-e2e -> timesync-fleet",
        "timesync-e2e -> timesync-lab",
        "timesync-e2e -> timesync-xtask",
        "timesync-fleet -> timesync-api",
        "timesync-fleet -> timesync-contract",
        // The simulated agents serve as real ones do.
        "timesync-fleet -> timesync-http",
        "timesync-fleet -> timesync-lab",
        "timesync-fleet -> timesync-xtask",
        "timesync-http -> timesync-contract",
        "timesync-lab -> timesync-api",
        "timesync-lab -> timesync-contract",
        // It asks an agent for its report, with the proof of the token.
        "timesync-lab -> timesync-http",
        // It runs the images and tools that are built there.
        "timesync-lab -> timesync-xtask",
        "timesync-operator -> timesync-api",
        "timesync-operator -> timesync-contract",
        "timesync-operator -> timesync-http",
        "timesync-operator -> timesync-profile",
        "timesync-profile -> timesync-contract",
    ];
    assert_eq!(arrows, expected.map(str::to_owned).into());
}

#[test]
fn ntp_has_no_dependency() {
    let metadata = metadata();
    let package = &members(&metadata)["timesync-ntp"];
    let needed: Vec<_> = array(package, "dependencies")
        .iter()
        .filter(|d| d["kind"].is_null())
        .map(|d| d["name"].clone())
        .collect();
    assert!(needed.is_empty(), "{needed:?}");
}

#[test]
fn the_agent_links_no_kubernetes() {
    let linked = linked_by("timesync-agent");
    assert!(linked.contains("tokio"), "the test sees the tree: {linked:?}");
    for forbidden in ["kube", "kube-core", "kube-client", "k8s-openapi", "timesync-api"] {
        assert!(!linked.contains(forbidden), "the agent links {forbidden}");
    }
}

#[test]
fn unsafe_stands_in_sys_alone() {
    let metadata = metadata();
    for (name, package) in &members(&metadata) {
        for target in array(package, "targets") {
            let root = target["src_path"].as_str().unwrap();
            let text = std::fs::read_to_string(root).unwrap();
            let is_program =
                array(target, "kind").iter().all(|kind| kind != "test" && kind != "custom-build");
            if is_program && name != "timesync-sys" {
                assert!(text.contains("#![forbid(unsafe_code)]"), "{root} does not forbid unsafe code");
            }
        }
    }
}

/// Names of all packages that end up in the program of `package`.
fn linked_by(package: &str) -> BTreeSet<String> {
    let metadata = metadata();
    let names: BTreeMap<&str, &str> = array(&metadata, "packages")
        .iter()
        .map(|p| (p["id"].as_str().unwrap(), p["name"].as_str().unwrap()))
        .collect();
    let nodes: BTreeMap<&str, &Value> =
        array(&metadata["resolve"], "nodes").iter().map(|n| (n["id"].as_str().unwrap(), n)).collect();
    let root = *names.iter().find(|(_, name)| **name == package).unwrap().0;
    let (mut open, mut seen) = (vec![root], BTreeSet::new());
    while let Some(id) = open.pop() {
        if seen.insert(names[id].to_owned()) {
            for dependency in array(nodes[id], "deps") {
                if array(dependency, "dep_kinds").iter().any(|kind| kind["kind"].is_null()) {
                    open.push(dependency["pkg"].as_str().unwrap());
                }
            }
        }
    }
    seen
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The workspace's own packages by name.
fn members(metadata: &Value) -> BTreeMap<String, Value> {
    let ids: BTreeSet<_> = array(metadata, "workspace_members").iter().filter_map(Value::as_str).collect();
    array(metadata, "packages")
        .iter()
        .filter(|p| ids.contains(p["id"].as_str().unwrap()))
        .map(|p| (p["name"].as_str().unwrap().to_owned(), p.clone()))
        .collect()
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}
