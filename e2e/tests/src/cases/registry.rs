//! What a user with a cluster of their own does, from README: `make push` into a registry, `helm install` from it with a
//! pull secret, and the demo in their own context, first in Observe, then in Discipline.
use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use lab::{
    alone,
    install::{self, NAMESPACE},
    kubectl, pki, registry,
    under_test::{self, MS},
    upstream, vm, wait,
};
use xtask::{checkout, image, process, tools};

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    kubectl::helm(&["uninstall", "timesync", "--namespace", NAMESPACE, "--wait"])?;
    kubectl::sh("delete tsp --all --wait=true")?;
    // A release whose images cannot be pulled cannot run the Job before its removal.
    under_test::or_else(from_the_registry(), || put_back(&["--no-hooks"]))?;
    put_back(&[])
}

/// Removes what this test made, and installs the chart as the other tests have it.
fn put_back(options: &[&str]) -> anyhow::Result<()> {
    kubectl::sh("delete tsp --all --wait=true")?;
    let uninstall = ["uninstall", "timesync", "--namespace", NAMESPACE, "--wait", "--ignore-not-found"];
    kubectl::helm(&[&uninstall[..], options].concat())?;
    kubectl::sh(&format!("delete secret {PULL_SECRET} -n {NAMESPACE} --ignore-not-found"))?;
    registry::down()?;
    // The archives are those of the other tests again.
    image::build_all(&[image::OF_NODES])?;
    install::chart(&[])?;
    under_test::settle()
}

const PULL_SECRET: &str = "registry";

/// Not the version of the images that the nodes have. The kubelet gives an image that was pulled with a secret only to
/// pods with that secret, and equal images are one image, whatever their names.
const TAG: &str = "0.0.1-registry";

fn from_the_registry() -> anyhow::Result<()> {
    registry::up()?;
    let (begun, registry) = (Instant::now(), format!("{}/timesync", registry::host()));
    push(&registry)?;
    expect_a_login(&registry)?;
    install(&registry)?;
    demo(&registry, "Observe")?;
    eprintln!("  from make push to kubectl get nclk: {:.0} s", begun.elapsed().as_secs_f64());
    in_observe_no_clock_moves()?;
    demo(&registry, "Discipline")?;
    under_test::wait_within(MS, 0, Duration::from_secs(300))
}

fn push(registry: &str) -> anyhow::Result<()> {
    let mut make = Command::new("make");
    make.args(["push", &format!("REGISTRY={registry}"), &format!("TAG={TAG}"), "ARCH=amd64"])
        .current_dir(checkout::root());
    let log = checkout::state().join("log/push.log");
    process::run_shown(make.envs(registry::environment()?), "make push", "30 s", &log)?;
    let said = process::tail(&log, 100);
    for pushed in ["timesync-agent:", "timesync-operator:", "charts/timesync:", "sha256:"] {
        ensure!(said.contains(pushed), "make push printed no line with {pushed}: {said}");
    }
    Ok(())
}

/// Without credentials nothing can be pulled; otherwise the pull secret would prove nothing.
fn expect_a_login(registry: &str) -> anyhow::Result<()> {
    let mut crane = Command::new(tools::path("crane")?);
    crane.args(["digest", &format!("{registry}/timesync-agent:{TAG}")]);
    crane.env("SSL_CERT_FILE", pki::folder().join("ca.crt")).env("DOCKER_CONFIG", "/nonexistent");
    let refused = process::run(&mut crane).err().context("the registry serves without a login")?;
    ensure!(refused.to_string().contains("UNAUTHORIZED"), "{refused:#}");
    Ok(())
}

/// As README says, and the operator where there is memory for it.
fn install(registry: &str) -> anyhow::Result<()> {
    let (user, password) = registry::LOGIN;
    kubectl::run(&[
        "create",
        "secret",
        "docker-registry",
        PULL_SECRET,
        "--namespace",
        NAMESPACE,
        &format!("--docker-server={}", registry::host()),
        &format!("--docker-username={user}"),
        &format!("--docker-password={password}"),
    ])?;
    let mut helm = Command::new(tools::path("helm")?);
    helm.args(["install", "timesync", &format!("oci://{registry}/charts/timesync")])
        .args(["--version", TAG, "--namespace", NAMESPACE])
        .args(settings())
        .envs(registry::environment()?)
        .env("KUBECONFIG", pki::admin());
    process::run(&mut helm)?;
    install::wait_for_pods()?;
    let pods = kubectl::get(&format!("pods -n {NAMESPACE}"))?;
    for pod in pods["items"].as_array().context("a list")? {
        let status = &pod["status"]["containerStatuses"][0];
        let image = status["imageID"].as_str().unwrap_or_default();
        ensure!(
            image.starts_with(&format!("{registry}/timesync-")),
            "a pod runs {image}, not the registry's image"
        );
    }
    Ok(())
}

fn settings() -> [String; 4] {
    [
        "--set".to_owned(),
        format!("imagePullSecrets[0].name={PULL_SECRET}"),
        "--set".to_owned(),
        "operator.nodeSelector.kubernetes\\.io/hostname=node1".to_owned(),
    ]
}

/// The demo's chart is that of the checkout, which has another version.
fn of_tag() -> String {
    format!("--set image.agent.tag={TAG} --set image.operator.tag={TAG}")
}

/// `make demo` with the user's context, without make: it is the same program.
fn demo(registry: &str, mode: &str) -> anyhow::Result<()> {
    let mut demo = Command::new(env::current_exe()?);
    demo.arg("demo")
        .env("DEMO_CONTEXT", "timesync-e2e")
        .env("DEMO_UPSTREAMS", upstream::BENT.join(","))
        .env("DEMO_HELM_ARGS", format!("{} {}", settings().join(" "), of_tag()))
        .env("REGISTRY", registry)
        .env("KUBECONFIG", pki::admin())
        .env(alone::HELD, "1");
    if mode == "Discipline" {
        demo.env("DEMO_DISCIPLINE", "1");
    }
    let said = process::run(&mut demo)?;
    let counted = format!("demo: {} nodes measured in mode {mode}", pki::NODES.len());
    ensure!(said.contains(&counted), "the demo does not say '{counted}': {said}");
    ensure!(
        vm::VMS.iter().all(|vm| said.contains(&vm.name())),
        "the demo shows no line for each node: {said}"
    );
    Ok(())
}

/// A clock that is off stays off in Observe.
fn in_observe_no_clock_moves() -> anyhow::Result<()> {
    const OFF: i64 = 20 * MS;
    let vm = vm::VMS[0];
    vm.probe()?.set_off(OFF)?;
    wait::holds_for("the clock stays as it was set", Duration::from_secs(15), || {
        under_test::expect_within(vm, 5 * MS, OFF)
    })
}
