//! The alerts of the chart against a real Prometheus, through what happens to a cluster: each cause ends in its alert
//! alone, and the end of the cause ends it.
//!
//! The alerts wait for minutes before they fire. So Prometheus has them twice: as they are, and with waits of seconds. The
//! second ones show the causes. The first ones must stay silent through all of it, since nothing here lasts long; only a
//! clock that another program has set is told at once.
mod rare;

pub(super) use rare::cut_off;

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use api::{RolloutState, RolloutVerb};
use lab::{
    install::{self, NAMESPACE},
    kubectl, pki, prometheus, under_test, upstream,
    vm::{self, Boot, Vm},
    wait,
};
use serde_json::{Value, json};

use crate::cases::{conflict, dashboard};

const HOUR: i64 = 3_600_000_000_000;

pub(super) fn run() -> anyhow::Result<()> {
    with_prometheus(story)
}

/// What is rarer, or has no user's hand in it.
pub(super) fn run_rare() -> anyhow::Result<()> {
    with_prometheus(|_| rare::story())
}

/// Tells `story` the folder of a Prometheus that has the alerts.
fn with_prometheus(story: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    under_test::settle()?;
    let folder = prometheus::folder()?;
    let rules = prometheus::chart_rules();
    let shortened = folder.join("shortened.json");
    fs::write(&shortened, with_short_waits(&fs::read_to_string(&rules)?)?.to_string())?;
    prometheus::scrape_timesync(&folder, &[&rules, &shortened])?;
    let result = prometheus::during(|| {
        wait::until("an agent of each node to be scraped", "10 s", Duration::from_secs(60), || {
            Ok((prometheus::ask("node:timesync_policy:info")?.len() == pki::NODES.len()).then_some(()))
        })?;
        told("a healthy cluster", &[])?;
        story(&folder)
    });
    under_test::or_else(result, || {
        rare::put_back()?;
        conflict::stop_chronyd(vm::VMS[1])?;
        install::restore()?;
        install::upgrade(&["agent.logLevel=info"])?;
        install::wait_for_pods()?;
        under_test::begin_anew()
    })?;
    under_test::settle()
}

/// Ranges of the alerts, and what they are here.
const SHORTER: [(&str, &str); 7] = [
    ("[5m]", "[10s]"),
    ("[10m]", "[30s]"),
    ("[15m]", "[30s]"),
    ("[20m]", "[30s]"),
    ("[1h]", "[30s]"),
    ("offset 10m", "offset 30s"),
    ("offset 15m", "offset 20s"),
];

/// The alerts of a file of rules, without its records, with waits of seconds, and with a label to tell them apart.
fn with_short_waits(rules: &str) -> anyhow::Result<Value> {
    let mut file: Value = serde_norway::from_str(rules)?;
    let groups = file["groups"].as_array_mut().context("groups of rules")?;
    for group in groups.iter_mut() {
        let rules = group["rules"].as_array_mut().context("rules")?;
        // The hardware clock of a machine that has booted may be 1 s off, until the agent writes it minutes later.
        rules.retain(|rule| rule["alert"].is_string() && rule["alert"] != "TimesyncRTCOff");
        for rule in rules {
            let mut query = rule["expr"].as_str().context("a query")?.to_owned();
            for (long, short) in SHORTER {
                query = query.replace(long, short);
            }
            rule["expr"] = json!(query);
            rule["for"] = json!("4s");
            rule["labels"]["waits"] = json!("seconds");
        }
    }
    groups.retain(|group| group["rules"].as_array().is_some_and(|rules| !rules.is_empty()));
    ensure!(!groups.is_empty(), "the file has no alerts");
    Ok(file)
}

fn story(folder: &Path) -> anyhow::Result<()> {
    let [first, second] = vm::VMS;
    upstream::bend(0, "silent=1")?;
    unreachable(first, &["a"])?;
    told("one upstream down", &[])?;
    upstream::bend_all("silent=1")?;
    unreachable(first, &["a", "b", "c", "d"])?;
    told("holdover", &[])?;
    second.power_cycle(&Boot::PLAIN)?;
    second.wait_for_probe()?;
    told("a boot without upstreams", &["TimesyncNotSynchronized"])?;
    upstream::bend_all(upstream::HONESTLY)?;
    told("the upstreams are back", &[])?;

    upstream::bend(0, "offset=0.3")?;
    told("an upstream that is 300 ms off", &["TimesyncFalseticker"])?;
    upstream::bend(0, upstream::HONESTLY)?;
    told("it is right again", &[])?;

    // Its agent is new: a second step within ten minutes, or a second conflict, would be another story.
    second.probe()?.step(-HOUR)?;
    told("a clock set an hour back", &["TimesyncExternalStep"])?;
    conflict::start_chronyd(second, "port 0")?;
    told("a second daemon", &["TimesyncConflict"])?;
    conflict::stop_chronyd(second)?;
    told("it has ended", &[])?;

    policies()?;

    let before = under_test::report(first)?.instance;
    first.run("kill -9 $(pidof timesync-agent)")?;
    under_test::wait_for_report(first, "to have another agent", Duration::from_secs(60), |report| {
        report.instance != before && report.clock.synchronized
    })?;
    told("an agent that was killed", &[])?;
    install::keep_agent_off(&first.name())?;
    told("a node without its agent", &["TimesyncAgentMissing"])?;
    install::restore()?;
    told("its agent is back", &[])?;

    kubectl::sh(&format!("scale deploy timesync-operator -n {NAMESPACE} --replicas=0"))?;
    told("no operator", &["TimesyncOperatorDown"])?;
    install::restore()?;
    // Its pods have new addresses.
    prometheus::scrape_operators(folder)?;
    told("the operator is back", &[])?;
    install::upgrade(&["agent.logLevel=debug"])?;
    install::wait_for_pods()?;
    prometheus::scrape_operators(folder)?;
    install::upgrade(&["agent.logLevel=info"])?;
    install::wait_for_pods()?;
    prometheus::scrape_operators(folder)?;
    told("two upgrades", &[])?;

    let query = r#"last_over_time(ALERTS{alertstate="firing", waits=""}[2h])"#;
    let fired: BTreeSet<_> = prometheus::labels(query, "alertname")?.into_iter().collect();
    ensure!(
        fired == BTreeSet::from(["TimesyncExternalStep".to_owned()]),
        "with their own waits these fired: {fired:?}"
    );
    // With metrics of NTS, each panel has data.
    dashboard::with_nts(|| {
        let certificates = "timesync_tls_certificate_not_after_timestamp_seconds{node=\"vm1\"}";
        wait::until("the certificate to be scraped", "5 s", Duration::from_secs(60), || {
            Ok((!prometheus::ask(certificates)?.is_empty()).then_some(()))
        })?;
        dashboard::draw(20)
    })
}

/// What a policy asks for that its nodes do not keep to, or that waits for a user.
fn policies() -> anyhow::Result<()> {
    under_test::apply_four("  thresholds: {offset: 1us}\n")?;
    told("offsets beyond thresholds.offset", &["TimesyncOffset"])?;
    under_test::apply_four("  thresholds: {spread: 1us}\n")?;
    told("a spread beyond thresholds.spread", &["TimesyncSpread"])?;
    under_test::apply_four("  serve: {addresses: [192.0.2.99]}\n")?;
    told("an address that no node has", &["TimesyncNotServing"])?;
    under_test::apply_four("  nodeTaint: {effect: NoSchedule}\n")?;
    told("a taint that the operator may not set", &["TimesyncTaintsHeld"])?;
    under_test::apply_four("")?;
    told("the usual policy", &[])?;

    let staged = |spec: &str| format!("  rollout: {{canary: 1, settle: 10m}}\n{spec}");
    under_test::apply_four(&staged(""))?;
    under_test::wait_for_profile(Duration::from_secs(60))?;
    under_test::apply_four(&staged("  serve: {enabled: false}\n"))?;
    let rollout = wait::until("a rollout", "2 s", Duration::from_secs(60), || {
        Ok(under_test::rollout()?.filter(|rollout| rollout.state == RolloutState::Progressing))
    })?;
    under_test::request(RolloutVerb::Pause, &rollout)?;
    told("a rollout that was paused", &["TimesyncRolloutPaused"])?;
    under_test::request(RolloutVerb::Abort, &rollout)?;
    told("it was aborted", &[])?;
    under_test::apply_four("")?;
    under_test::wait_for_profile(Duration::from_secs(60)).map(drop)
}

/// Waits until a node's agent gets no answer from these upstreams.
fn unreachable(vm: Vm, names: &[&str]) -> anyhow::Result<()> {
    under_test::wait_for_report(vm, "to miss upstreams", Duration::from_secs(120), |report| {
        let silent = report.sources.iter().filter(|source| source.reach == 0);
        silent.map(|source| source.name.as_str()).collect::<Vec<_>>() == names
    })?;
    Ok(())
}

/// Waits until the alerts with short waits are these. Then no other one may fire for a while.
fn told(cause: &str, alerts: &[&str]) -> anyhow::Result<()> {
    let wanted: BTreeSet<_> = alerts.iter().map(|&name| name.to_owned()).collect();
    let firing = || -> anyhow::Result<BTreeSet<String>> {
        let query = r#"ALERTS{alertstate="firing", waits="seconds"}"#;
        Ok(prometheus::labels(query, "alertname")?.into_iter().collect())
    };
    let shown = if alerts.is_empty() { "no alert".to_owned() } else { alerts.join(", ") };
    wait::until(&format!("{cause}: {shown}"), "20 s", Duration::from_secs(300), || {
        Ok((firing()? == wanted).then_some(()))
    })?;
    wait::holds_for("no other alert fires", Duration::from_secs(10), || {
        let firing = firing()?;
        ensure!(firing.is_subset(&wanted), "{cause}: {firing:?} fire");
        Ok(())
    })
}
