//! `kubectl timesync`, as kubectl runs it: an account with the role of a viewer reads the clocks, waits for them, and is
//! told why a node's upstreams give no time. A support archive of an administrator has logs, and the content of no Secret.
//! An administrator pauses, resumes and aborts a rollout.
use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, ensure};
use lab::{install::NAMESPACE, kubectl, network, pki, under_test, upstream, vm, wait};
use serde_json::{Value, json};
use xtask::{checkout, image, plugin, process, tools};

/// The account that may only read policies and NodeClocks.
const VIEWER: &str = "timesync-viewer";

pub(super) fn run() -> anyhow::Result<()> {
    under_test::settle()?;
    let admin = Plugin::admin()?;
    let result = as_a_viewer(&admin.folder).and_then(|()| an_archive(&admin)).and_then(|()| by_hand(&admin));
    kubectl::sh(&format!("delete clusterrolebinding {VIEWER} --ignore-not-found"))?;
    kubectl::sh(&format!("delete serviceaccount {VIEWER} -n default --ignore-not-found"))?;
    result?;
    under_test::settle()
}

fn as_a_viewer(folder: &std::path::Path) -> anyhow::Result<()> {
    kubectl::sh(&format!("create serviceaccount {VIEWER} -n default"))?;
    kubectl::sh(&format!(
        "create clusterrolebinding {VIEWER} --clusterrole=timesync-view --serviceaccount=default:{VIEWER}"
    ))?;
    kubectl::wait_for_right(&format!("default:{VIEWER}"), "list nodeclocks.timesync.dev")?;
    let token = kubectl::sh(&format!("create token {VIEWER} -n default"))?;
    let user = json!({"token": token.trim()});
    let config = folder.join("viewer.conf");
    fs::write(&config, pki::kubeconfig_at(network::HOST, &user, &pki::folder(), network::HOST))?;
    let viewer = Plugin { config, folder: folder.to_owned() };

    viewer.told("wait --for synchronized --timeout 5m")?;
    viewer.told("wait --for rollout --timeout 5m")?;
    let status = viewer.told("status")?;
    ensure!(
        status.contains("3 of 3 nodes synchronised") && status.contains("nodes (not permitted)"),
        "{status}"
    );
    let nodes: Value = serde_json::from_str(&viewer.told("nodes -o json")?)?;
    let names: Vec<_> = nodes.as_array().into_iter().flatten().map(|node| node["node"].clone()).collect();
    ensure!(names == ["node1", "vm1", "vm2"], "the nodes are {names:?}");
    for vm in vm::VMS {
        let sources = viewer.told(&format!("sources {}", vm.name()))?;
        ensure!(sources.contains("Selected") && sources.contains("377"), "{sources}");
        ensure!(viewer.root_cause(vm)? == "Healthy", "{} is not healthy", vm.name());
    }
    let why = viewer.refused("wait --for bound=0.001us --timeout 3s")?;
    ensure!(
        why.contains("timed out after") && why.contains("bound "),
        "wait for a bound of a nanosecond says {why}"
    );

    let silent = vm::VMS[0];
    upstream::bend_all("silent=1")?;
    // Not all of them are missed at the same moment, and the clock is in holdover only without the last one.
    wait::until("why to name the silent upstreams", "40 s", Duration::from_secs(120), || {
        let why = viewer.told(&format!("why {}", silent.name()))?;
        let named = why.contains("Holdover") && why.contains("UDP port 123");
        Ok((named && viewer.root_cause(silent)? == "NoReply").then_some(()))
    })?;
    upstream::bend_all(upstream::HONESTLY)?;
    wait::until("why to find nothing", "40 s", Duration::from_secs(300), || {
        Ok((viewer.root_cause(silent)? == "Healthy").then_some(()))
    })?;

    // The archive does not contain what the role may not read. about.txt lists it.
    let archive = folder.join("viewer.tar.gz").display().to_string();
    viewer.told(&format!("bundle --file {archive}"))?;
    let about = process::run(Command::new("tar").args(["-xzOf", &archive, "--wildcards", "*/about.txt"]))?;
    ensure!(about.contains("nodes (not permitted)") && about.contains("agents' pods"), "{about}");
    let why = viewer.refused(&format!("bundle --file {archive}"))?;
    ensure!(why.contains("name another file"), "an archive was replaced: {why}");
    Ok(())
}

fn an_archive(admin: &Plugin) -> anyhow::Result<()> {
    let folder = &admin.folder;
    let status = admin.told("status")?;
    ensure!(!status.contains("not permitted"), "an administrator may read all: {status}");
    let archive = folder.join("admin.tar.gz").display().to_string();
    admin.told(&format!("bundle --file {archive} --logs-of vm1"))?;
    process::run(Command::new("tar").args(["-xzf", &archive, "-C"]).arg(folder))?;
    let names = process::run(Command::new("tar").args(["-tzf", &archive]))?;
    for part in [
        "timesyncpolicies.yaml",
        "nodeclocks.yaml",
        "nodes.yaml",
        "profiles.yaml",
        "logs/timesync-operator",
        "logs/timesync-agent",
    ] {
        ensure!(names.contains(part), "the archive has no {part}: {names}");
    }
    // As base64 and as plain text.
    let data = kubectl::run(&[
        "get",
        "secret",
        "-n",
        NAMESPACE,
        "-o",
        "go-template={{range .items}}{{range .data}}{{.}}\n{{. | base64decode}}\n{{end}}{{end}}",
    ])?;
    let secrets: Vec<_> = data.lines().filter(|line| line.len() >= 16).collect();
    ensure!(!secrets.is_empty(), "the release has a token");
    let all = process::run(Command::new("tar").args(["-xzOf", &archive]))?;
    ensure!(secrets.iter().all(|secret| !all.contains(secret)), "the archive has the content of a Secret");
    Ok(())
}

/// A rollout that is paused and goes on, and one that is aborted.
fn by_hand(admin: &Plugin) -> anyhow::Result<()> {
    const STAGED: &str = "  rollout: {canary: 1, batch: 1, settle: 15s}\n";
    let rollout = |verb: &str| admin.told(&format!("rollout {verb} {}", under_test::POLICY));
    let profiles = || -> anyhow::Result<Vec<_>> {
        vm::VMS.into_iter().map(|vm| Ok(under_test::report(vm)?.profile)).collect()
    };
    let edit = |spec: &str| {
        let before = profiles()?;
        under_test::apply_four(&format!("{STAGED}{spec}"))?;
        wait::until("one node to run the new profile", "5 s", Duration::from_secs(60), || {
            let now = profiles()?;
            Ok((now[0] != before[0] || now[1] != before[1]).then_some(()))
        })
    };
    under_test::apply_four(STAGED)?;
    admin.told("wait --for rollout --timeout 3m")?;
    let before = profiles()?;

    edit("  thresholds: {hold: 50s}\n")?;
    ensure!(rollout("pause")?.contains("Paused"), "it is not paused");
    let half = profiles()?;
    wait::holds_for("no other node gets it", Duration::from_secs(20), || {
        ensure!(profiles()? == half && half[0] != half[1], "the nodes run {:?}", profiles()?);
        Ok(())
    })?;
    let status = rollout("status")?;
    ensure!(status.contains("1/2"), "rollout status says {status}");
    ensure!(rollout("resume")?.contains("Progressing"), "it does not go on");
    admin.told("wait --for rollout --timeout 5m")?;
    let good = profiles()?;
    ensure!(good[0] == good[1] && good != before, "the nodes run {good:?}");

    edit("  thresholds: {hold: 40s}\n")?;
    ensure!(rollout("abort")?.contains("Aborted"), "it is not aborted");
    wait::until("the former profile", "5 s", Duration::from_secs(60), || {
        Ok((profiles()? == good).then_some(()))
    })?;
    let why = admin.refused(&format!("rollout pause {}", under_test::POLICY))?;
    ensure!(why.contains("was aborted, so there is nothing to pause"), "{why}");
    Ok(())
}

/// The plugin, with a kubeconfig.
pub(super) struct Plugin {
    config: PathBuf,
    folder: PathBuf,
}

impl Plugin {
    /// Builds it, for an administrator, in an empty folder.
    pub(super) fn admin() -> anyhow::Result<Self> {
        plugin::build(image::OF_NODES)?;
        let folder = checkout::state().join("plugin");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        Ok(Self { config: pki::admin(), folder })
    }

    /// Standard output of `kubectl timesync <words>`.
    fn told(&self, words: &str) -> anyhow::Result<String> {
        let program = image::program("kubectl-timesync");
        let folder = program.parent().context("a folder")?.display().to_string();
        let path = format!("{folder}:{}", env::var("PATH").unwrap_or_default());
        let mut kubectl = Command::new(tools::path("kubectl")?);
        kubectl.arg("timesync").args(words.split_whitespace()).current_dir(&self.folder);
        process::run(kubectl.env("PATH", path).env("KUBECONFIG", &self.config))
    }

    /// The error of `kubectl timesync <words>`, which must fail.
    fn refused(&self, words: &str) -> anyhow::Result<String> {
        let error = self.told(words).err().with_context(|| format!("kubectl timesync {words} succeeds"))?;
        Ok(format!("{error:#}"))
    }

    /// The deepest cause of the most important chain of a machine's node.
    pub(super) fn root_cause(&self, vm: vm::Vm) -> anyhow::Result<String> {
        let why: Value = serde_json::from_str(&self.told(&format!("why {} -o json", vm.name()))?)?;
        let causes = why["chains"][0]["causes"].as_array().context("a chain")?;
        let deepest = causes.iter().max_by_key(|cause| cause["depth"].as_u64()).context("a cause")?;
        Ok(deepest["id"].as_str().context("a word")?.to_owned())
    }
}
