//! The policy under test, and questions about its nodes. Tests and measurements share these functions.
use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use api::{ROLLOUT_ANNOTATION, RolloutRequest, RolloutStatus, RolloutVerb};
use contract::Report;
use serde_json::Value;

use crate::{
    agent_http::Agent,
    install, kubectl, pki,
    truth::{self, Reading},
    upstream,
    vm::{self, Vm},
    wait,
};

/// Nanoseconds in a millisecond.
pub const MS: i64 = 1_000_000;

/// The name of the policy under test, which applies to the virtual machines. Another policy observes node1.
pub const POLICY: &str = "main";

/// Applies the policy under test. `upstreams` are the parts of the upstreams that differ. `spec` is the rest of its
/// spec in YAML, each line indented by two spaces. If `spec` has no `restrict`, there is no rate limit, so that tests
/// can send any number of requests.
pub fn apply(upstreams: &[&str], spec: &str) -> anyhow::Result<()> {
    let listed: String = upstreams
        .iter()
        .map(|entry| format!("  - {{{entry}, iburst: true, minPoll: 0, maxPoll: 1}}\n"))
        .collect();
    let restrict = "  restrict:\n  - {source: default}\n";
    let restrict = if spec.contains("restrict:") { "" } else { restrict };
    kubectl::apply(&observe_node1())?;
    kubectl::apply(&format!(
        "apiVersion: timesync.dev/v1alpha1\nkind: TimeSyncPolicy\nmetadata: {{name: {POLICY}}}\nspec:\n  \
         upstreams:\n{listed}{restrict}{spec}"
    ))?;
    Ok(())
}

/// A policy for the node that shares this machine's clock.
pub fn observe_node1() -> String {
    format!(
        "apiVersion: timesync.dev/v1alpha1\nkind: TimeSyncPolicy\nmetadata: {{name: observe-node1}}\nspec:\n  \
         priority: 100\n  nodeSelector: {{matchLabels: {{kubernetes.io/hostname: {}}}}}\n  mode: Observe\n  upstreams:\n  \
         - {{name: upstream, server: {}, iburst: true, minPoll: 0, maxPoll: 1}}\n",
        pki::NODES[0],
        upstream::HONEST
    )
}

/// The four servers whose time can be changed, as upstreams `a` to `d`.
pub fn four() -> Vec<String> {
    ["a", "b", "c", "d"]
        .iter()
        .zip(upstream::BENT)
        .map(|(name, server)| format!("name: {name}, server: {server}"))
        .collect()
}

/// Applies the policy with the four servers, fast slewing, and `spec`.
pub fn apply_four(spec: &str) -> anyhow::Result<()> {
    apply_with_clock("onExternalStep: Restore", spec)
}

/// The same, with further fields of `clock`.
pub fn apply_with_clock(clock: &str, spec: &str) -> anyhow::Result<()> {
    let four = four();
    let entries: Vec<_> = four.iter().map(String::as_str).collect();
    apply(&entries, &format!("  clock: {{maxSlewRate: 5000, {clock}}}\n{spec}"))
}

/// Checks that after an uninstallation all conditions are Unknown, and that no status shows old values.
pub fn expect_uninstalled() -> anyhow::Result<()> {
    let objects = kubectl::get("tsp,nclk")?;
    let items = objects["items"].as_array().context("a list has items")?;
    ensure!(items.iter().any(|object| object["kind"] == "NodeClock"), "no NodeClock is left");
    for object in items {
        let (name, status) = (&object["metadata"]["name"], &object["status"]);
        let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let unknown =
            |each: &serde_json::Value| each["status"] == "Unknown" && each["reason"] == "Uninstalled";
        ensure!(!conditions.is_empty() && conditions.iter().all(unknown), "{name} says {conditions:?}");
        for gone in ["offset", "stratum", "sources", "nodes", "worst", "spread"] {
            ensure!(status[gone].is_null(), "{name} still says {gone}: {}", status[gone]);
        }
        ensure!(status["synchronized"] != true, "{name} still says that it is synchronized");
    }
    let nodes = kubectl::sh("get nodes -o yaml")?;
    let left: Vec<_> = nodes.lines().filter(|line| line.contains("timesync.dev")).collect();
    ensure!(left.is_empty(), "Nodes still say {left:?}");
    Ok(())
}

/// Restores the state in which each test starts: all servers have the right time, the policy has no options, and both
/// clocks are right.
pub fn settle() -> anyhow::Result<()> {
    upstream::bend_all(upstream::HONESTLY)?;
    apply_four("")?;
    wait_within(MS, 0, Duration::from_secs(120))?;
    wait_for_profile(Duration::from_secs(60))?;
    for vm in vm::VMS {
        wait_for_report(vm, "to be synchronised", Duration::from_secs(60), |report| {
            report.clock.synchronized
        })?;
    }
    Ok(())
}

/// If `result` is a failure, calls `put_back` to restore the cluster for the next test, and returns the failure.
pub fn or_else(
    result: anyhow::Result<()>,
    put_back: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    result.map_err(|error| match put_back() {
        Ok(()) => error,
        Err(after) => error.context(format!("not put back either ({after:#})")),
    })
}

/// Sets both clocks right and starts new agents, after a failure that may have left wrong clocks, or agents that only
/// observe because of a conflict.
pub fn begin_anew() -> anyhow::Result<()> {
    for vm in vm::VMS {
        vm.probe()?.set_off(0)?;
    }
    let agents = "-l app.kubernetes.io/component=agent";
    kubectl::sh(&format!("delete pod -n {} {agents} --wait=true", install::NAMESPACE))?;
    install::wait_for_pods()?;
    settle()
}

/// Waits until the clocks of both machines are within `limit` of `target`, both in nanoseconds relative to the host's
/// clock.
pub fn wait_within(limit: i64, target: i64, time: Duration) -> anyhow::Result<()> {
    let what = format!("both clocks within {} of {}", truth::shown(limit), truth::shown(target));
    wait::until(&what, "20 s", time, || {
        for vm in vm::VMS {
            if (vm.probe()?.offset()?.offset - target).abs() > limit {
                return Ok(None);
            }
        }
        for vm in vm::VMS {
            if (median(vm)?.offset - target).abs() > limit {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// The median of ten readings of a machine's clock.
pub fn median(vm: Vm) -> anyhow::Result<Reading> {
    vm.probe()?.median_of_10()
}

/// An error if a clock is further than `limit` from `target`.
pub fn expect_within(vm: Vm, limit: i64, target: i64) -> anyhow::Result<()> {
    let offset = vm.probe()?.offset()?.offset - target;
    ensure!(offset.abs() <= limit, "{} is {} off", vm.name(), truth::shown(offset));
    Ok(())
}

/// The report of a machine's agent.
pub fn report(vm: Vm) -> anyhow::Result<Report> {
    Agent::at(&vm.address())?.report()
}

/// Waits until an agent's report is as wanted.
pub fn wait_for_report(
    vm: Vm,
    what: &str,
    limit: Duration,
    wanted: impl Fn(&Report) -> bool,
) -> anyhow::Result<Report> {
    let agent = Agent::at(&vm.address())?;
    wait::until(&format!("{} {what}", vm.name()), "", limit, || {
        // An agent that is being replaced does not answer.
        let Ok(report) = agent.report() else { return Ok(None) };
        Ok(wanted(&report).then_some(report))
    })
}

/// Waits until both machines run the profile that the policy's status names. Returns the seconds that this took.
pub fn wait_for_profile(limit: Duration) -> anyhow::Result<f64> {
    let agents = vm::VMS.iter().map(|vm| Agent::at(&vm.address())).collect::<anyhow::Result<Vec<_>>>()?;
    let begun = std::time::Instant::now();
    wait::until("the new profile on both machines", "2 s", limit, || {
        let policy = kubectl::policy(POLICY)?;
        let Some(status) = policy.status else { return Ok(None) };
        if status.observed_generation != policy.metadata.generation {
            return Ok(None);
        }
        for agent in &agents {
            let Ok(report) = agent.report() else { return Ok(None) };
            if report.profile.map(|name| name.to_string()) != status.profile {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Waits until a node's condition has this status and reason.
pub fn wait_for_condition(
    vm: Vm,
    type_: &str,
    status: &str,
    reason: &str,
    limit: Duration,
) -> anyhow::Result<()> {
    wait::until(&format!("{type_}={status} ({reason}) of {}", vm.name()), "", limit, || {
        let found = kubectl::condition(&vm.name(), type_)?;
        Ok(found.filter(|found| found.0 == status && found.1 == reason).map(|_| ()))
    })
}

/// The condition of a Node that says whether its clock is synchronised; none if it has none.
pub fn clock_condition(node: &str) -> anyhow::Result<Option<Value>> {
    kubectl::node_condition(node, "timesync.dev/ClockSynchronized")
}

/// The taint with which a node registers until its clock is right.
pub const STARTUP_TAINT: &str = "timesync.dev/clock-not-synchronized";

/// The taint of a node whose clock is wrong.
pub const WRONG_TAINT: &str = "timesync.dev/clock-wrong";

/// The effect of a Node's taint; none if it has none.
pub fn taint(node: &str, key: &str) -> anyhow::Result<Option<String>> {
    let node = kubectl::get(&format!("node {node}"))?;
    let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let taint = taints.find(|taint| taint["key"] == key);
    Ok(taint.and_then(|taint| taint["effect"].as_str()).map(str::to_owned))
}

/// An error if a node has this taint.
pub fn expect_no_taint(key: &str) -> anyhow::Result<()> {
    for node in pki::NODES {
        ensure!(taint(node, key)?.is_none(), "{node} has the taint {key}");
    }
    Ok(())
}

/// Waits until a Node's taint has this effect; none until it is gone.
pub fn wait_for_taint(node: &str, key: &str, effect: Option<&str>) -> anyhow::Result<()> {
    let what = format!("taint {key} of {node} to be {}", effect.unwrap_or("absent"));
    wait::until(&what, "", Duration::from_secs(300), || {
        Ok((taint(node, key)?.as_deref() == effect).then_some(()))
    })
}

/// Waits until [`clock_condition`] has this status and reason.
pub fn wait_for_node(node: &str, status: &str, reason: &str) -> anyhow::Result<()> {
    let what = format!("timesync.dev/ClockSynchronized={status} ({reason}) of Node {node}");
    wait::until(&what, "", Duration::from_secs(300), || {
        let found = clock_condition(node)?;
        Ok(found.filter(|found| found["status"] == status && found["reason"] == reason).map(|_| ()))
    })
}

/// The staged rollout of the policy under test; none if it has none.
pub fn rollout() -> anyhow::Result<Option<RolloutStatus>> {
    Ok(kubectl::policy(POLICY)?.status.and_then(|status| status.rollout))
}

/// Asks for something about that rollout, whose status was read before. Returns the annotation's value.
pub fn request(verb: RolloutVerb, rollout: &RolloutStatus) -> anyhow::Result<String> {
    let (_, hash) = rollout.profile.rsplit_once('.').context("a profile ends with a hash")?;
    // Another test may have asked for the same about the same profile.
    let value = RolloutRequest { verb, hash }.anew(rollout.acted.as_deref());
    kubectl::sh(&format!("annotate tsp {POLICY} {ROLLOUT_ANNOTATION}={value} --overwrite"))?;
    Ok(value)
}

/// Waits until there is an Event of the node with this reason.
pub fn wait_for_event(vm: Vm, reason: &str) -> anyhow::Result<()> {
    wait_for_new_event(&vm.name(), reason, &BTreeSet::new())
}

/// Waits until there is an Event of the object with this reason, besides those of these names.
pub fn wait_for_new_event(object: &str, reason: &str, known: &BTreeSet<String>) -> anyhow::Result<()> {
    wait::until(&format!("an Event {reason} of {object}"), "", Duration::from_secs(30), || {
        Ok((!events(object, reason)?.is_subset(known)).then_some(()))
    })
}

/// The names of the Events of an object with this reason.
pub fn events(object: &str, reason: &str) -> anyhow::Result<BTreeSet<String>> {
    // Not as JSON, so that a failure shows the Events, a line each.
    let events = kubectl::sh(&format!(
        "get events -n default --field-selector involvedObject.name={object} --no-headers \
         -o custom-columns=REASON:.reason,NAME:.metadata.name,NOTE:.message"
    ))?;
    let words = events.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let names =
        words.filter(|words| words.first() == Some(&reason)).filter_map(|words| words.get(1).copied());
    Ok(names.map(str::to_owned).collect())
}

/// The message of a node's condition.
pub fn message(vm: Vm, type_: &str) -> anyhow::Result<String> {
    let status = kubectl::node_clock(&vm.name())?.and_then(|clock| clock.status).unwrap_or_default();
    let found = status.conditions.into_iter().find(|condition| condition.type_ == type_);
    Ok(found.with_context(|| format!("{} has no condition {type_}", vm.name()))?.message)
}
