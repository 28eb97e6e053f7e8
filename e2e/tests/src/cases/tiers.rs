//! Nodes as upstreams: one machine asks the other, which asks the servers. The set stays when the agent of the tier's
//! node ends, although a spare exists. Without servers the two elect one.
use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use contract::{Reason, Report};
use lab::{install, kubectl, ntp_query, pki, under_test, vm, wait};

/// A label that a kubelet cannot set on its own Node.
const LABEL: &str = "node-restriction.kubernetes.io/time-tier";
const CLIENTS: &str = "tier-clients";
const ISLAND: &str = "tier-island";

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let result = follow_the_tier().and_then(|()| elect_one());
    for node in pki::NODES {
        kubectl::sh(&format!("label node {node} {LABEL}-"))?;
    }
    kubectl::sh(&format!("delete tsp {CLIENTS} {ISLAND} --ignore-not-found"))?;
    result?;
    under_test::settle()
}

fn follow_the_tier() -> anyhow::Result<()> {
    let [server, client] = vm::VMS;
    kubectl::sh(&format!("label node {} {LABEL}=", server.name()))?;
    let selects = format!("nodeSelector: {{matchLabels: {{kubernetes.io/hostname: {}}}}}", client.name());
    apply(CLIENTS, &selects, 1, "")?;
    let follows =
        |report: &Report| report.clock.synchronized && report.clock.reference.as_deref() == Some("tier-1");
    let report = under_test::wait_for_report(client, "to follow the tier", Duration::from_secs(90), follows)?;
    let asked: Vec<_> = report.sources.iter().map(|source| source.address.clone()).collect();
    ensure!(asked == [Some(server.address())], "{} asks {asked:?}", client.name());
    let (of_server, of_client) = (ntp_query::ask(&server.address())?, ntp_query::ask(&client.address())?);
    let reference = of_client.reference.map(|octet| octet.to_string()).join(".");
    ensure!(reference == server.address(), "the reference of {} is {reference}", client.name());
    ensure!(of_client.stratum == of_server.stratum + 1, "{of_server:?}, {of_client:?}");

    // With a spare, and without its agent, the set is the same.
    kubectl::sh(&format!("label node {} {LABEL}=", pki::NODES[0]))?;
    let before = chosen(CLIENTS)?;
    ensure!(before == [("tier-1".to_owned(), server.name(), server.address())], "{before:?}");
    let instance = under_test::report(server)?.instance;
    let pod = install::agent_on(&server.name())?;
    kubectl::sh(&format!("delete pod {pod} -n {} --wait=false", install::NAMESPACE))?;
    let profile = report.profile;
    let stays = || {
        let now = chosen(CLIENTS)?;
        ensure!(now == before, "before {before:?}, now {now:?}");
        let of_client = under_test::report(client)?;
        ensure!(of_client.profile == profile, "{} runs {:?}", client.name(), of_client.profile);
        ensure!(of_client.clock.synchronized, "{}: {}", client.name(), of_client.clock.message);
        Ok(())
    };
    let what = format!("another agent on {}, with the tier as it is", server.name());
    wait::until(&what, "20 s", Duration::from_secs(120), || {
        stays()?;
        let back = under_test::report(server).is_ok_and(|report| report.instance != instance);
        Ok(back.then_some(()))
    })?;
    wait::holds_for("the tier stays as it is", Duration::from_secs(5), stays)?;
    under_test::wait_for_report(client, "to follow the tier again", Duration::from_secs(60), follows)?;
    kubectl::sh(&format!("label node {} {LABEL}-", pki::NODES[0]))?;
    kubectl::sh(&format!("delete tsp {CLIENTS}"))?;
    Ok(())
}

/// Two nodes whose only upstreams are each other.
fn elect_one() -> anyhow::Result<()> {
    for vm in vm::VMS {
        kubectl::sh(&format!("label node {} {LABEL}= --overwrite", vm.name()))?;
    }
    let selects = format!("nodeSelector: {{matchExpressions: [{{key: {LABEL}, operator: Exists}}]}}");
    // The node that had true time is in holdover, and the other one follows it, until the bound has grown to this.
    let spec = "  stratum: {local: 10, orphan: true, activateAfter: 5s}\n  thresholds: {errorBound: 1ms}\n";
    apply(ISLAND, &selects, 2, spec)?;
    wait::until("one of two to be elected", "60 s", Duration::from_secs(300), || {
        let mut strata = BTreeSet::new();
        for vm in vm::VMS {
            let Ok(report) = under_test::report(vm) else { return Ok(None) };
            if report.clock.reason != Reason::LocalReference {
                return Ok(None);
            }
            strata.insert(report.clock.stratum);
        }
        Ok((strata == BTreeSet::from([10, 11])).then_some(()))
    })?;
    let chosen: Vec<_> = chosen(ISLAND)?.into_iter().map(|(_, node, _)| node).collect();
    ensure!(chosen == vm::VMS.map(vm::Vm::name), "the tier has {chosen:?}");
    kubectl::sh(&format!("delete tsp {ISLAND}"))?;
    Ok(())
}

/// Applies a policy that asks the labelled nodes often, and serves without a rate limit.
fn apply(name: &str, selects: &str, max: usize, spec: &str) -> anyhow::Result<()> {
    kubectl::apply(&format!(
        "apiVersion: timesync.dev/v1alpha1\nkind: TimeSyncPolicy\nmetadata: {{name: {name}}}\nspec:\n  priority: 50\n  \
         {selects}\n  upstreams:\n  - name: tier\n    nodes: {{selector: {{matchExpressions: [{{key: {LABEL}, operator: \
         Exists}}]}}, max: {max}}}\n    iburst: true\n    minPoll: 0\n    maxPoll: 1\n  restrict:\n  - {{source: default}}\n{spec}"
    ))?;
    Ok(())
}

/// The nodes of a policy's tier: name as a source, node and address.
fn chosen(policy: &str) -> anyhow::Result<Vec<(String, String, String)>> {
    let status = kubectl::policy(policy)?.status.unwrap_or_default();
    let tier = status.tiers.into_iter().next().with_context(|| format!("{policy} has no tier"))?;
    Ok(tier.members.into_iter().map(|member| (member.name, member.node, member.address)).collect())
}
