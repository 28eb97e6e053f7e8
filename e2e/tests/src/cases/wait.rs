//! Pods that wait for a right clock. A pod with the init container of the examples stays in it while its node is not
//! synchronised, and starts when it is. The admission policy of the examples mounts the shared memory into pods with
//! the label, and a pod waits by that. All of it without rights; where hostPath is not allowed, the pod is refused.
use std::{fs, time::Duration};

use anyhow::{Context, ensure};
use lab::{
    install, kubectl, under_test,
    vm::{self, Vm},
    wait,
};
use serde_json::{Value, json};
use xtask::checkout;

/// It enforces the Pod Security Standard `restricted`.
const STRICT: &str = "wait-strict";
/// It enforces none.
const OPEN: &str = "wait-open";
const SEGMENT: &str = "/var/run/clockbound/shm0";
/// Starting a pod on a virtual machine takes some seconds.
const STARTED: Duration = Duration::from_secs(60);

pub(super) fn run() -> anyhow::Result<()> {
    under_test::or_else(pods_wait(), put_back)?;
    put_back()
}

fn put_back() -> anyhow::Result<()> {
    kubectl::sh(&format!("delete namespace {STRICT} {OPEN} --ignore-not-found --wait=false"))?;
    kubectl::run(&["delete", "--ignore-not-found", "-f", &example(POLICY)])?;
    segments(false)?;
    // The chart's default again. The pods stay as they are.
    install::upgrade(&["agent.maxUnavailable=34%"])?;
    under_test::settle()
}

fn pods_wait() -> anyhow::Result<()> {
    for (name, level) in [(STRICT, "restricted"), (OPEN, "privileged")] {
        kubectl::apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels: \
             {{pod-security.kubernetes.io/enforce: {level}}}\n"
        ))?;
    }
    // The agents restart with it.
    segments(true)?;
    kubectl::run(&["apply", "-f", &example(POLICY)])?;
    under_test::settle()?;
    let vm = vm::VMS[0];
    asks_the_agent(vm)?;
    gives_up(vm)?;
    reads_the_segment(vm)?;
    label_without_hostpath_is_refused()
}

/// The init container over HTTP.
fn asks_the_agent(vm: Vm) -> anyhow::Result<()> {
    // No clock is as right as that.
    under_test::apply_four("  thresholds: {errorBound: 1us}\n")?;
    under_test::wait_for_profile(Duration::from_secs(30))?;
    under_test::wait_for_report(vm, "not to be synchronised", Duration::from_secs(60), |report| {
        !report.clock.synchronized
    })?;
    let pod = Pod::new(STRICT, "asks", vm, &["wait", "--bound", "100ms"])?;
    pod.apply()?;
    pod.wait_for_log("to say why it waits", "waiting for the clock: ErrorBound")?;
    wait::holds_for("the pod waits", Duration::from_secs(5), || {
        let status = pod.status()?;
        let running = &status["initContainerStatuses"][0]["state"]["running"];
        ensure!(status["phase"] == "Pending" && running.is_object(), "it does not wait: {status}");
        Ok(())
    })?;
    under_test::apply_four("")?;
    pod.wait_for_phase("Succeeded")?;
    pod.wait_for_log("to say that the clock is right", "the clock is right: Synchronized: ")
}

/// The same with a bound that is never reached.
fn gives_up(vm: Vm) -> anyhow::Result<()> {
    let pod = Pod::new(STRICT, "gives-up", vm, &["wait", "--bound", "1us", "--timeout", "3s"])?;
    pod.apply()?;
    pod.wait_for_phase("Failed")?;
    let code = &pod.status()?["initContainerStatuses"][0]["state"]["terminated"]["exitCode"];
    ensure!(*code == 1, "its exit code is {code}");
    pod.wait_for_log("to say why it gave up", "the clock was not right within 3s: ErrorBound: ")
}

/// A pod whose only reference to the segment is its label.
fn reads_the_segment(vm: Vm) -> anyhow::Result<()> {
    let wait = ["wait", "--segment", SEGMENT, "--bound", "100ms"];
    let unlabelled = Pod::new(OPEN, "unlabelled", vm, &wait)?;
    let labelled = Pod::new(OPEN, "labelled", vm, &wait)?.labelled();
    // The API server uses a new policy after a moment.
    let mounts = wait::until("the segment in a labelled pod", "2 s", Duration::from_secs(60), || {
        let mounts = labelled.admitted()?;
        Ok((!mounts.is_empty()).then_some(mounts))
    })?;
    ensure!(
        mounts == ["clock /var/run/clockbound true", "wait-for-clock /var/run/clockbound true"],
        "{mounts:?}"
    );
    let mounts = unlabelled.admitted()?;
    ensure!(mounts.is_empty(), "a pod without the label gets {mounts:?}");
    labelled.apply()?;
    labelled.wait_for_phase("Succeeded")?;
    labelled.wait_for_log(
        "to have read the segment",
        "the clock is right: Synchronized: the clock is synchronised",
    )
}

/// The volume is checked as if the user had written it.
fn label_without_hostpath_is_refused() -> anyhow::Result<()> {
    let pod = Pod::new(STRICT, "refused", vm::VMS[0], &["wait"])?.labelled();
    let error = pod.admitted().err().context("a hostPath was admitted where it is not allowed")?;
    let said = format!("{error:#}");
    ensure!(
        said.contains("hostPath") && said.contains("timesync-clock-bound"),
        "it does not say why: {said}"
    );
    Ok(())
}

const POLICY: &str = "clockbound-mutating-admission-policy.yaml";

fn example(name: &str) -> String {
    checkout::root().join("examples").join(name).display().to_string()
}

/// Whether the agents write the shared memory. Returns when agents with this setting run.
fn segments(wanted: bool) -> anyhow::Result<()> {
    let setting = format!("agent.clockBound.enabled={wanted}");
    install::upgrade(&[&setting, "agent.maxUnavailable=100%"])?;
    install::wait_for_pods()
}

/// The pod of the examples with another name, on a certain node, and with the agents' own image.
struct Pod {
    namespace: &'static str,
    name: &'static str,
    object: Value,
}

impl Pod {
    fn new(namespace: &'static str, name: &'static str, vm: Vm, args: &[&str]) -> anyhow::Result<Self> {
        let text = fs::read_to_string(example("wait-init-container.yaml"))?;
        let mut object = kubectl::parsed(&text)?.pop().context("the example is a pod")?;
        let agents = kubectl::get(&format!(
            "daemonset -n {} -l app.kubernetes.io/component=agent",
            install::NAMESPACE
        ))?;
        let image = agents["items"][0]["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        ensure!(image.is_string(), "the agents have no image");
        object["metadata"] = json!({"name": name, "namespace": namespace});
        let spec = &mut object["spec"];
        spec["nodeName"] = json!(vm.name());
        spec["restartPolicy"] = json!("Never");
        spec["automountServiceAccountToken"] = json!(false);
        spec["initContainers"][0]["image"] = image.clone();
        spec["initContainers"][0]["args"] = json!(args);
        let container = &mut spec["containers"][0];
        container["name"] = json!("clock");
        container["image"] = image;
        container["args"] = json!(["--version"]);
        container["securityContext"]["runAsUser"] = json!(65532);
        Ok(Self { namespace, name, object })
    }

    fn labelled(mut self) -> Self {
        self.object["metadata"]["labels"] = json!({"timesync.dev/clock-bound-segment": "true"});
        self
    }

    fn apply(&self) -> anyhow::Result<()> {
        kubectl::apply(&self.object.to_string()).map(drop)
    }

    /// What the API server would make of it: for each mount of the segment the container, the path, and whether it is
    /// read-only, in alphabetical order. Creates nothing.
    fn admitted(&self) -> anyhow::Result<Vec<String>> {
        let words = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
        let text = kubectl::fed(&words, &self.object.to_string())?;
        let pod: Value = serde_json::from_str(&text)?;
        let mut found = Vec::new();
        for kind in ["initContainers", "containers"] {
            for container in pod["spec"][kind].as_array().into_iter().flatten() {
                let mounts = container["volumeMounts"].as_array().into_iter().flatten();
                for mount in mounts.filter(|mount| mount["name"] == "timesync-clock-bound") {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let (name, path) = (text(&container["name"]), text(&mount["mountPath"]));
                    found.push(format!("{name} {path} {}", mount["readOnly"]));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn status(&self) -> anyhow::Result<Value> {
        Ok(kubectl::get(&format!("pod {} -n {}", self.name, self.namespace))?["status"].clone())
    }

    fn wait_for_phase(&self, phase: &str) -> anyhow::Result<()> {
        wait::until(&format!("the pod {} to be {phase}", self.name), "10 s", STARTED, || {
            let status = self.status()?;
            let over = ["Succeeded", "Failed"].iter().any(|end| status["phase"] == *end);
            ensure!(!over || status["phase"] == phase, "it is not {phase}: {status}");
            Ok(over.then_some(()))
        })
    }

    /// Waits until the log of its init container has this text.
    fn wait_for_log(&self, what: &str, text: &str) -> anyhow::Result<()> {
        let words = format!("logs -n {} {} -c wait-for-clock", self.namespace, self.name);
        wait::until(&format!("the pod {} {what}", self.name), "10 s", STARTED, || {
            // There is none before the container's start.
            Ok(kubectl::sh(&words).is_ok_and(|log| log.contains(text)).then_some(()))
        })
    }
}
