//! Runs kubectl and helm on the cluster of this crate, never on that of the user's KUBECONFIG.
use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::Value;
use xtask::{checkout, process, tools};

use crate::{pki, readings, wait};

/// Runs kubectl. Returns its standard output.
pub fn run(words: &[&str]) -> anyhow::Result<String> {
    let result = process::run(&mut command(words)?);
    // The content of a Secret must not be logged.
    if !words.contains(&"secret") {
        let said = result.as_ref().map_or_else(|error| format!("{error:#}"), Clone::clone);
        readings::note(&format!("kubectl {}", words.join(" ")), &said);
    }
    result
}

/// The same from one text, split at white space.
pub fn sh(words: &str) -> anyhow::Result<String> {
    run(&words.split_whitespace().collect::<Vec<_>>())
}

/// Objects as JSON, e.g. `get("nodes")`, `get("pods -n x -l app=y")`.
pub fn get(what: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&sh(&format!("get {what} -o json"))?)?)
}

/// Waits until the API server knows that a service account (`namespace:name`) has a new right, such as `get pods`.
pub fn wait_for_right(account: &str, right: &str) -> anyhow::Result<()> {
    wait::until(&format!("{account} to have the right to {right}"), "1 s", Duration::from_secs(60), || {
        // An error if it has not.
        Ok(sh(&format!("auth can-i {right} --as=system:serviceaccount:{account}")).ok())
    })
    .map(drop)
}

/// Applies manifests from a text.
pub fn apply(manifest: &str) -> anyhow::Result<String> {
    fed(&["apply", "-f", "-"], manifest)
}

/// The objects in a text, as JSON: kubectl reads YAML as Kubernetes does. Creates nothing in the cluster.
pub fn parsed(manifest: &str) -> anyhow::Result<Vec<Value>> {
    let text = fed(&["create", "--dry-run=client", "-o", "json", "-f", "-"], manifest)?;
    Ok(serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>()?)
}

/// Runs kubectl with a standard input. Returns its standard output.
pub fn fed(words: &[&str], input: &str) -> anyhow::Result<String> {
    let mut child =
        command(words)?.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    // Writes in a thread of its own, since kubectl prints before it has read everything.
    let output = thread::scope(|scope| {
        let writing = scope.spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output();
        // If kubectl ends early, its own error counts, not that of the write.
        let _ = writing.join();
        output
    })?;
    if !output.status.success() {
        bail!("kubectl {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs helm. Returns its standard output.
pub fn helm(words: &[&str]) -> anyhow::Result<String> {
    process::run(Command::new(tools::path("helm")?).args(words).env("KUBECONFIG", pki::admin()))
}

fn command(words: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(tools::path("kubectl")?);
    command.args(words).env("KUBECONFIG", pki::admin());
    Ok(command)
}

/// The status of a NodeClock; none if there is no status yet.
pub fn node_clock(node: &str) -> anyhow::Result<Option<api::NodeClock>> {
    let text = sh(&format!("get nclk {node} -o json --ignore-not-found"))?;
    Ok(if text.is_empty() { None } else { Some(serde_json::from_str(&text)?) })
}

/// A condition of a Node; none if there is none.
pub fn node_condition(node: &str, type_: &str) -> anyhow::Result<Option<Value>> {
    let node = get(&format!("node {node}"))?;
    let mut all = node["status"]["conditions"].as_array().into_iter().flatten();
    Ok(all.find(|condition| condition["type"] == type_).cloned())
}

/// Status and reason of the condition of a NodeClock; none if there is none.
pub(crate) fn condition(node: &str, type_: &str) -> anyhow::Result<Option<(String, String)>> {
    let status = node_clock(node)?.and_then(|clock| clock.status);
    let found =
        status.and_then(|status| status.conditions.into_iter().find(|condition| condition.type_ == type_));
    Ok(found.map(|condition| (condition.status, condition.reason)))
}

/// A policy.
pub fn policy(name: &str) -> anyhow::Result<api::TimeSyncPolicy> {
    Ok(serde_json::from_str(&sh(&format!("get tsp {name} -o json"))?)?)
}

/// Records every status that a NodeClock has from now on, also a short one, until it is dropped.
pub struct Watch {
    child: Child,
    file: PathBuf,
}

impl Watch {
    /// Begins to record. The present status is the first.
    pub fn of_node_clock(node: &str) -> anyhow::Result<Self> {
        let file = checkout::state().join(format!("watch-{node}.json"));
        let words = ["get", "nclk", node, "--watch", "-o", "json"];
        let child = command(&words)?.stdin(Stdio::null()).stdout(File::create(&file)?).spawn()?;
        let watch = Self { child, file };
        watch.wait_for("the first status", Duration::from_secs(30), |_| true)?;
        Ok(watch)
    }

    /// Waits until `wanted` is true for one of them.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&api::NodeClockStatus) -> bool,
    ) -> anyhow::Result<()> {
        wait::until(what, "", limit, || {
            let text = fs::read(&self.file)?;
            let newest = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
            if let Some(newest) = newest.map_while(Result::ok).last() {
                readings::note("the newest status", &newest["status"].to_string());
            }
            // The last object may still be incomplete.
            let seen = serde_json::Deserializer::from_slice(&text).into_iter::<api::NodeClock>();
            let mut known = seen.map_while(Result::ok).filter_map(|clock| clock.status);
            Ok(known.any(|status| wanted(&status)).then_some(()))
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
