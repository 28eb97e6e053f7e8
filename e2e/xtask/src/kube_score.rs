//! Checks the chart with helm lint and kube-score, as it is by default and with every value that makes it stricter. A
//! finding is an error, except those listed here, each with its reason. An entry that matches nothing is an error, too.
use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{checkout, process, tools};

/// No cluster is asked, so any registry will do.
const VALUES: &[&str] = &["--set", "image.registry=registry.example.com"];

/// The values that remove the findings in `BY_DEFAULT`.
const STRICTER: &[&str] = &["--set", "agent.privileged=false,operator.networkPolicy.enabled=true"];

/// A check's name in kube-score, the object as kind and component, and the reason why its finding stays.
type Accepted = (&'static str, &'static str, &'static str);

/// Findings that are there with all values.
const ALWAYS: &[Accepted] = &[
    (
        "container-security-context-user-group-id",
        "DaemonSet agent",
        "root alone may set the clock and listen on port 123",
    ),
    ("pod-networkpolicy", "DaemonSet agent", HOST_NETWORK),
    ("pod-networkpolicy", "Pod test", HOST_NETWORK),
    (
        "container-image-pull-policy",
        "DaemonSet agent",
        "a node that boots while the registry is unreachable needs its agent; the default tag is a version",
    ),
    ("container-image-pull-policy", "Deployment operator", PULL),
    ("container-image-pull-policy", "Job uninstall", PULL),
    ("container-image-pull-policy", "Pod test", PULL),
    (
        "deployment-has-host-podantiaffinity",
        "Deployment operator",
        "topologySpreadConstraints spread the replicas; kube-score looks for podAntiAffinity alone",
    ),
];

/// Findings that a value removes.
const BY_DEFAULT: &[Accepted] = &[
    (
        "container-security-context-privileged",
        "DaemonSet agent",
        "the hardware clock is a device, which takes privileges; without them (agent.privileged) it stays wrong",
    ),
    ("pod-networkpolicy", "Deployment operator", PORTS),
    ("pod-networkpolicy", "Job uninstall", PORTS),
];

const HOST_NETWORK: &str = "NetworkPolicies do not apply to pods on the host network";
const PULL: &str = "the default tag is a version, so the node's copy is the right one";
const PORTS: &str = "the API server's ports are not the same in all clusters; see operator.networkPolicy";

/// A check and an object, and what kube-score says.
type Findings = BTreeMap<(String, String), String>;

/// Fails if helm or kube-score finds something that is not accepted, or no longer finds something that is.
pub fn check() -> anyhow::Result<()> {
    tools::build(&["helm", "kube-score"].map(str::to_owned))?;
    let by_default = [ALWAYS, BY_DEFAULT].concat();
    let mut wrong = check_rendering("by default", VALUES, &by_default)?;
    wrong.extend(check_rendering("stricter", &[VALUES, STRICTER].concat(), ALWAYS)?);
    if !wrong.is_empty() {
        bail!("fix the chart, or change the lists in e2e/xtask/src/kube_score.rs:\n{}", wrong.join("\n"));
    }
    for (check, object, reason) in by_default {
        println!("accepted: {object}: {check}: {reason}");
    }
    Ok(())
}

fn check_rendering(rendering: &str, values: &[&str], accepted: &[Accepted]) -> anyhow::Result<Vec<String>> {
    helm(&["lint", "--strict", "."], values)?;
    let objects = helm(&["template", "timesync", ".", "--namespace", "timesync-system"], values)?;
    let differences = differences(&score(&objects)?, accepted);
    Ok(differences.iter().map(|difference| format!("{rendering}: {difference}")).collect())
}

/// Runs helm without a cluster.
fn helm(words: &[&str], values: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(tools::path("helm")?);
    command.args(words).args(values);
    command.current_dir(checkout::chart()).env("KUBECONFIG", "/dev/null");
    process::run(&mut command)
}

fn score(objects: &str) -> anyhow::Result<Findings> {
    let mut command = Command::new(tools::path("kube-score")?);
    // Which API versions are deprecated depends on Kubernetes' version. A CPU limit would suspend a program for tens of
    // milliseconds while CPUs are idle, an agent perhaps between a packet and its time stamp; requests give each its share.
    let options =
        ["--kubernetes-version", "v1.32", "--ignore-container-cpu-limit", "--output-format", "json"];
    command.arg("score").args(options).arg("-");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot run kube-score")?;
    child.stdin.take().context("kube-score's input is a pipe")?.write_all(objects.as_bytes())?;
    // Its exit code is 1 if it finds something.
    let output = child.wait_with_output()?;
    let objects: Vec<Value> = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("kube-score: {}: no result", output.status))?;
    if objects.is_empty() {
        bail!("kube-score saw no objects");
    }
    Ok(objects.iter().flat_map(of_object).collect())
}

/// The best grade of a check.
const GOOD: u64 = 10;

fn of_object(object: &Value) -> impl Iterator<Item = ((String, String), String)> {
    let kind = text(&object["type_meta"]["kind"]);
    let component = text(&object["object_meta"]["labels"]["app.kubernetes.io/component"]);
    let checks = object["checks"].as_array().into_iter().flatten();
    let bad = checks
        .filter(|check| check["skipped"] != true && check["grade"].as_u64().is_none_or(|grade| grade < GOOD));
    bad.map(move |check| {
        let comments = check["comments"].as_array().into_iter().flatten();
        let said: Vec<_> = comments
            .map(|comment| {
                format!("{} {}", text(&comment["path"]), text(&comment["summary"])).trim().to_owned()
            })
            .collect();
        ((text(&check["check"]["id"]).to_owned(), format!("{kind} {component}")), said.join("; "))
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Findings that are not accepted, and accepted ones that were not found.
fn differences(findings: &Findings, accepted: &[Accepted]) -> Vec<String> {
    let is_accepted =
        |check: &str, object: &str| accepted.iter().any(|(one, other, _)| *one == check && *other == object);
    let new = findings.iter().filter(|((check, object), _)| !is_accepted(check, object));
    let gone = accepted
        .iter()
        .filter(|(check, object, _)| !findings.contains_key(&((*check).to_owned(), (*object).to_owned())));
    new.map(|((check, object), said)| format!("{object}: {check}: {said}"))
        .chain(gone.map(|(check, object, _)| format!("{object}: {check}: accepted, but no longer found")))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Findings, differences, of_object};

    #[test]
    fn only_bad_grades_are_findings() {
        let check = |id: &str, grade: u64, skipped: bool| {
            json!({"check": {"id": id}, "grade": grade, "skipped": skipped,
                   "comments": [{"path": "agent", "summary": "It is so."}]})
        };
        let object = json!({
            "type_meta": {"kind": "DaemonSet"},
            "object_meta": {"labels": {"app.kubernetes.io/component": "agent"}},
            "checks": [check("bad", 1, false), check("so-so", 7, false), check("good", 10, false), check("none", 0, true)],
        });
        let found: Vec<_> =
            of_object(&object).map(|((check, object), said)| [check, object, said].join(" | ")).collect();
        assert_eq!(
            found,
            ["bad | DaemonSet agent | agent It is so.", "so-so | DaemonSet agent | agent It is so."]
        );
    }

    #[test]
    fn new_and_gone_findings_are_told() {
        let findings =
            Findings::from([(("probes".to_owned(), "Job uninstall".to_owned()), "It has none.".to_owned())]);
        assert_eq!(differences(&findings, &[("probes", "Job uninstall", "It ends.")]), Vec::<String>::new());
        assert_eq!(
            differences(&findings, &[("probes", "Pod test", "It ends.")]),
            ["Job uninstall: probes: It has none.", "Pod test: probes: accepted, but no longer found"]
        );
    }
}
