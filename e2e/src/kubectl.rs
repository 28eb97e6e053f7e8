//! kubectl and helm against our cluster, never against the one of an ambient KUBECONFIG.
use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{control_plane, process, tools};

/// Runs kubectl; its standard output.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<String> {
    process::run(&mut command(words)?)
}

/// The same from one text, split at white space.
pub(crate) fn sh(words: &str) -> anyhow::Result<String> {
    run(&words.split_whitespace().collect::<Vec<_>>())
}

/// Objects as JSON, e.g. `get("nodes")`, `get("pods -n x -l app=y")`.
pub(crate) fn get(what: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&sh(&format!("get {what} -o json"))?)?)
}

/// Applies manifests from a text.
pub(crate) fn apply(manifest: &str) -> anyhow::Result<String> {
    let mut child = command(&["apply", "-f", "-"])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(manifest.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("kubectl apply: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs helm; its standard output.
pub(crate) fn helm(words: &[&str]) -> anyhow::Result<String> {
    process::run(Command::new(tools::path("helm")?).args(words).env("KUBECONFIG", control_plane::admin()))
}

fn command(words: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(tools::path("kubectl")?);
    command.args(words).env("KUBECONFIG", control_plane::admin());
    Ok(command)
}

/// What the operator says of a node's clock; none if it has not yet.
pub(crate) fn node_clock(node: &str) -> anyhow::Result<Option<api::NodeClock>> {
    let text = sh(&format!("get nclk {node} -o json --ignore-not-found"))?;
    Ok(if text.is_empty() { None } else { Some(serde_json::from_str(&text)?) })
}

/// Status and reason of a node's condition; none if there is none.
pub(crate) fn condition(node: &str, type_: &str) -> anyhow::Result<Option<(String, String)>> {
    let status = node_clock(node)?.and_then(|clock| clock.status);
    let found =
        status.and_then(|status| status.conditions.into_iter().find(|condition| condition.type_ == type_));
    Ok(found.map(|condition| (condition.status, condition.reason)))
}

/// A policy.
pub(crate) fn policy(name: &str) -> anyhow::Result<api::TimeSyncPolicy> {
    Ok(serde_json::from_str(&sh(&format!("get tsp {name} -o json"))?)?)
}
