//! The Grafana dashboards and the alerts against a real Prometheus: Debian's, scraping the agents and the operator. Each query
//! of each panel returns data, each rule can be evaluated, and an agent that is not scraped counts as not known to be
//! right.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use lab::{install::NAMESPACE, kubectl, pki, prometheus, under_test, vm, wait};
use serde_json::Value;
use xtask::{checkout, process};

const TLS_SECRET: &str = "dashboard-tls";

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let folder = prometheus::folder()?;
    prometheus::scrape_timesync(&folder, &[&prometheus::chart_rules()])?;
    with_nts(|| prometheus::during(|| check(&folder)))?;
    under_test::settle()
}

/// Runs `check` while the nodes serve NTS, so that there are metrics of it.
pub(super) fn with_nts(check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    kubectl::apply(&pki::tls_secret(NAMESPACE, TLS_SECRET)?.to_string())?;
    let result = under_test::apply_four(&format!("  serve: {{nts: {{tlsSecret: {TLS_SECRET}}}}}\n"))
        .and_then(|()| under_test::wait_for_profile(Duration::from_secs(60)))
        .and_then(|_| check());
    kubectl::sh(&format!("delete secret {TLS_SECRET} -n {NAMESPACE}"))?;
    result
}

fn check(folder: &Path) -> anyhow::Result<()> {
    for name in ["fleet", "node"] {
        let queries: BTreeSet<_> = panels(name)?.into_values().flatten().collect();
        ensure!(queries.len() >= 20, "dashboard {name} has only {} queries", queries.len());
        for query in &queries {
            let filled = filled(query)?;
            wait::until(&format!("data for {query}"), "5 s", Duration::from_secs(90), || {
                Ok((!prometheus::ask(&filled)?.is_empty()).then_some(()))
            })?;
        }
        eprintln!("  {} queries of dashboard {name} have data", queries.len());
    }
    rules_hold()?;
    a_missing_agent_counts(folder)?;
    draw(4)
}

/// Draws the last minutes of both dashboards, so that a person can look at them. The drawing fails if a panel has no data.
pub(super) fn draw(minutes: u32) -> anyhow::Result<()> {
    for name in ["fleet", "node"] {
        let picture = checkout::target().join(format!("dashboard-{name}.svg"));
        let mut command = Command::new("python3");
        command
            .arg(checkout::root().join("e2e/pictures/draw.py"))
            .arg(prometheus::address())
            .arg(checkout::root().join(format!("charts/timesync/dashboards/{name}.json")))
            .arg(&picture)
            .args(["--minutes", &minutes.to_string()]);
        for (variable, value) in variables() {
            command.args(["--set", &format!("{variable}={value}")]);
        }
        process::run(&mut command)?;
        eprintln!("  dashboard {name}: {}", picture.display());
    }
    Ok(())
}

/// Every rule was evaluated without an error, and the records of nodes and thresholds have data. The group with its own
/// interval is left out, because its first evaluation is after the end of this test.
fn rules_hold() -> anyhow::Result<()> {
    let rules = wait::until("each rule to be evaluated", "5 s", Duration::from_secs(60), || {
        let answer = prometheus::rules()?;
        let groups = answer["data"]["groups"].as_array().context("groups of rules")?;
        let soon = groups.iter().filter(|group| group["interval"].as_f64().is_some_and(|pause| pause < 60.0));
        let rules: Vec<_> = soon.filter_map(|group| group["rules"].as_array()).flatten().cloned().collect();
        let all = !rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown");
        Ok(all.then_some(rules))
    })?;
    for rule in &rules {
        ensure!(rule["health"] == "ok", "{}: {}", rule["name"], rule["lastError"]);
    }
    for record in ["node:timesync_policy:info", "policy:timesync_threshold:seconds{threshold=\"spread\"}"] {
        ensure!(!prometheus::ask(record)?.is_empty(), "{record} has no data");
    }
    eprintln!("  {} rules were evaluated", rules.len());
    Ok(())
}

/// Without the agent of one node the figures say that its clock is not known to be right.
fn a_missing_agent_counts(folder: &Path) -> anyhow::Result<()> {
    let panels = panels("fleet")?;
    let figure = |title: &str| -> anyhow::Result<String> {
        let queries = panels.get(title).with_context(|| format!("the dashboard has no panel {title}"))?;
        filled(queries.first().context("a panel has a query")?)
    };
    let expect = |title: &str, value: &str| -> anyhow::Result<()> {
        let query = figure(title)?;
        wait::until(&format!("{title} to be {value}"), "5 s", Duration::from_secs(90), || {
            Ok((prometheus::ask(&query)? == [value]).then_some(()))
        })
    };
    let nodes = pki::NODES.len().to_string();
    expect("Nodes with a policy", &nodes)?;
    expect("Not known to be right", "0")?;
    expect("Agents missing", "0")?;
    prometheus::scrape_agents(folder, &pki::NODES[..2])?;
    expect("Nodes with a policy", &nodes)?;
    expect("Not known to be right", "1")?;
    expect("Agents missing", "1")?;
    prometheus::scrape_agents(folder, &pki::NODES)?;
    expect("Not known to be right", "0")
}

/// The queries of each panel of a dashboard, by the panel's title. Two panels may have the same title.
fn panels(dashboard: &str) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let path: PathBuf = checkout::root().join(format!("charts/timesync/dashboards/{dashboard}.json"));
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    let mut panels: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        let title = panel["title"].as_str().context("a title")?;
        let queries = panels.entry(title.to_owned()).or_default();
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(target["expr"].as_str().context("a query")?.to_owned());
        }
    }
    Ok(panels)
}

/// The dashboards' variables: every cluster, and one of the virtual machines.
fn variables() -> [(&'static str, String); 4] {
    [
        ("cluster", ".*".to_owned()),
        ("job", prometheus::AGENTS.to_owned()),
        ("node", vm::VMS[0].name()),
        ("__rate_interval", "20s".to_owned()),
    ]
}

/// The query as Grafana fills it in.
fn filled(query: &str) -> anyhow::Result<String> {
    let filled = variables()
        .iter()
        .fold(query.to_owned(), |query, (variable, value)| query.replace(&format!("${variable}"), value));
    ensure!(!filled.contains('$'), "a variable that this test does not know: {query}");
    Ok(filled)
}
