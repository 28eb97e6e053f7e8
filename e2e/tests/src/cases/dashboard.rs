//! The Grafana dashboard against a real Prometheus: Debian's, scraping the agents and the operator; each query of each
//! panel returns data.
use std::{collections::BTreeSet, fs, process::Command, time::Duration};

use anyhow::{Context, ensure};
use lab::{
    agent_http,
    daemon::{self, Daemon},
    install, kubectl, pki, under_test, wait,
};
use serde_json::Value;
use xtask::{checkout, process};

const PORT: u16 = 9390;

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let folder = checkout::state().join("prometheus");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("prometheus.yml"), configuration()?)?;
    Daemon::new("prometheus", "prometheus")
        .args(&format!("--config.file={0}/prometheus.yml --storage.tsdb.path={0}/data", folder.display()))
        .args(&format!("--web.listen-address=127.0.0.1:{PORT} --log.level=warn"))
        .start()?;
    let result = check_queries();
    daemon::end("prometheus", "-KILL")?;
    result
}

/// Agents by their nodes' addresses, operators by their pods'.
fn configuration() -> anyhow::Result<String> {
    let mut text =
        "global: {scrape_interval: 2s}\nscrape_configs:\n- job_name: timesync-agent\n  static_configs:\n"
            .to_owned();
    for node in pki::NODES {
        text += &format!("  - {{targets: ['{}:9817'], labels: {{node: {node}}}}}\n", install::address(node));
    }
    text += "- job_name: timesync-operator\n  static_configs:\n";
    let pods =
        kubectl::get(&format!("pods -n {} -l app.kubernetes.io/component=operator", install::NAMESPACE))?;
    for pod in pods["items"].as_array().context("a list")? {
        let (Some(ip), Some(name)) = (pod["status"]["podIP"].as_str(), pod["metadata"]["name"].as_str())
        else {
            continue;
        };
        text += &format!("  - {{targets: ['{ip}:8080'], labels: {{pod: {name}}}}}\n");
    }
    Ok(text)
}

fn check_queries() -> anyhow::Result<()> {
    let text = fs::read_to_string(checkout::root().join("charts/timesync/dashboards/timesync.json"))?;
    let mut queries = BTreeSet::new();
    collect(&serde_json::from_str(&text)?, &mut queries);
    ensure!(queries.len() >= 7, "the dashboard has only {} queries", queries.len());
    wait::until("Prometheus", "1 s", Duration::from_secs(300), || {
        daemon::expect_running("prometheus")?;
        let ready = agent_http::get(("127.0.0.1", PORT), None, "/-/ready");
        Ok(ready.is_ok_and(|(status, _)| status == 200).then_some(()))
    })?;
    for query in &queries {
        // As Grafana fills them in, with every node chosen.
        let filled = query.replace("$node", ".*");
        ensure!(!filled.contains('$'), "a variable that this test does not know: {query}");
        wait::until(&format!("data for {query}"), "5 s", Duration::from_secs(90), || {
            daemon::expect_running("prometheus")?;
            Ok((ask(&filled)? > 0).then_some(()))
        })?;
    }
    eprintln!("  {} queries have data", queries.len());
    Ok(())
}

/// Every `expr` in the dashboard.
fn collect(value: &Value, queries: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(query) = fields.get("expr").and_then(Value::as_str) {
                queries.insert(query.to_owned());
            }
            fields.values().for_each(|value| collect(value, queries));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, queries)),
        _ => {}
    }
}

/// How many series a query returns. A query that Prometheus refuses is an error.
fn ask(query: &str) -> anyhow::Result<usize> {
    let server = format!("http://127.0.0.1:{PORT}");
    let answer =
        process::run(Command::new("promtool").args(["query", "instant", "--format=json", &server, query]))?;
    let answer: Vec<Value> = serde_json::from_str(&answer).with_context(|| format!("{query}: {answer}"))?;
    Ok(answer.len())
}
