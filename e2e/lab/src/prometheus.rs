//! Debian's Prometheus, for questions to real data. It runs in the network of node1, where the operators' pods are.
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context;
use serde_json::{Value, json};
use xtask::{checkout, process};

use crate::{
    agent_http,
    daemon::{self, Daemon},
    install, kubectl, network, node, pki, readings, wait,
};

const PORT: u16 = 9390;
const NAME: &str = "prometheus";

/// Its address.
pub fn address() -> String {
    format!("http://{}:{PORT}", node::ADDRESS)
}

/// The folder of its configuration, empty.
pub fn folder() -> anyhow::Result<PathBuf> {
    let folder = checkout::state().join(NAME);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Runs `check` while it scrapes as `prometheus.yml` in its folder says.
pub fn during(check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let folder = checkout::state().join(NAME);
    Daemon::new(NAME, NAME)
        .wrap(&network::inside(network::NODE1))
        .args(&format!("--config.file={0}/prometheus.yml --storage.tsdb.path={0}/data", folder.display()))
        .args(&format!("--web.listen-address={}:{PORT} --log.level=warn", node::ADDRESS))
        .start()?;
    let result = ready().and_then(|()| check());
    daemon::end(NAME, "-KILL")?;
    result
}

fn ready() -> anyhow::Result<()> {
    wait::until("Prometheus", "1 s", Duration::from_secs(300), || {
        daemon::expect_running(NAME)?;
        let ready = agent_http::get((node::ADDRESS, PORT), None, "/-/ready");
        Ok(ready.is_ok_and(|(status, _)| status == 200).then_some(()))
    })
}

/// The job of the agents.
pub const AGENTS: &str = "timesync-agent";

/// The chart's file of alerts and recording rules.
pub fn chart_rules() -> PathBuf {
    checkout::root().join("charts/timesync/alerts/timesync.yaml")
}

/// Configures it to scrape operators and agents, and to evaluate these files of rules.
pub fn scrape_timesync(folder: &Path, rules: &[&Path]) -> anyhow::Result<()> {
    let job = |name: &str, file: &str| json!({"job_name": name, "file_sd_configs": [{"files": [file]}]});
    let configuration = json!({
        "global": {"scrape_interval": "2s", "evaluation_interval": "2s"},
        "rule_files": rules,
        "scrape_configs": [job(AGENTS, "agents.json"), job("timesync-operator", "operators.json")],
    });
    fs::write(folder.join("prometheus.yml"), configuration.to_string())?;
    scrape_agents(folder, &pki::NODES)?;
    scrape_operators(folder)
}

/// Lets it scrape the agents of these nodes and no others.
pub fn scrape_agents(folder: &Path, nodes: &[&str]) -> anyhow::Result<()> {
    let address = |node: &str| format!("{}:9817", install::address(node));
    let target = |node: &&str| json!({"targets": [address(node)], "labels": {"node": node}});
    targets(folder, "agents.json", nodes.iter().map(target).collect())
}

/// Lets it scrape the operator's present pods.
pub fn scrape_operators(folder: &Path) -> anyhow::Result<()> {
    let pods = kubectl::get(&format!("pods -n {} {}", install::NAMESPACE, install::OPERATORS))?;
    let target = |pod: &Value| {
        let (ip, name) = (pod["status"]["podIP"].as_str()?, pod["metadata"]["name"].as_str()?);
        Some(json!({"targets": [format!("{ip}:8080")], "labels": {"pod": name}}))
    };
    let pods = pods["items"].as_array().context("a list")?;
    targets(folder, "operators.json", pods.iter().filter_map(target).collect())
}

/// Writes a file of targets. Prometheus watches it.
fn targets(folder: &Path, file: &str, targets: Vec<Value>) -> anyhow::Result<()> {
    let new = folder.join("targets.new");
    fs::write(&new, Value::Array(targets).to_string())?;
    Ok(fs::rename(new, folder.join(file))?)
}

/// The values that a query returns, one for each series. A query that Prometheus refuses is an error.
pub fn ask(query: &str) -> anyhow::Result<Vec<String>> {
    let series = series(query)?;
    Ok(series.iter().filter_map(|series| Some(series["value"][1].as_str()?.to_owned())).collect())
}

/// The values of a label of the series that a query returns.
pub fn labels(query: &str, label: &str) -> anyhow::Result<Vec<String>> {
    let series = series(query)?;
    let labels: Vec<_> =
        series.iter().filter_map(|series| Some(series["metric"][label].as_str()?.to_owned())).collect();
    readings::note(query, &labels.join(", "));
    Ok(labels)
}

fn series(query: &str) -> anyhow::Result<Vec<Value>> {
    daemon::expect_running(NAME)?;
    let answer = process::run(Command::new("promtool").args([
        "query",
        "instant",
        "--format=json",
        &address(),
        query,
    ]))?;
    serde_json::from_str(&answer).with_context(|| format!("{query}: {answer}"))
}

/// Its rules, with the results of their last evaluations.
pub fn rules() -> anyhow::Result<Value> {
    daemon::expect_running(NAME)?;
    // HTTP/1.0: the answer is one piece, which ends with the connection.
    let mut stream = TcpStream::connect((node::ADDRESS, PORT))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /api/v1/rules HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("a head and a body")?;
    serde_json::from_str(body).with_context(|| body.to_owned())
}
