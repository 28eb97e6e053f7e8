//! The demo on the user's own cluster, which a kubeconfig context names: installs the chart and one policy, and shows
//! the objects. The mode is Observe unless the user asks for Discipline. Clocks cannot be measured from outside there,
//! and the demo says so.
use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use lab::{install::NAMESPACE, wait};
use serde_json::Value;
use xtask::{checkout, process, tools};

/// The options for the user's own cluster.
#[derive(clap::Args)]
pub(crate) struct OwnCluster {
    /// Upstream servers for a cluster of your own, with commas between.
    #[arg(long, env = "DEMO_UPSTREAMS", value_delimiter = ',')]
    upstreams: Vec<String>,
    /// `1`: discipline the clocks of your own cluster.
    #[arg(long, env = "DEMO_DISCIPLINE")]
    discipline: Option<String>,
    /// The registry that `make push` put the images into: its host and a path.
    #[arg(long, env = "REGISTRY", default_value = "")]
    registry: String,
    /// More words for `helm upgrade --install`, such as `--set imagePullSecrets[0].name=…`.
    #[arg(long, env = "DEMO_HELM_ARGS", default_value = "")]
    helm_args: String,
}

/// Runs the demo. Chart and policy stay in the cluster.
pub(crate) fn run(context: &str, options: &OwnCluster) -> anyhow::Result<()> {
    if options.upstreams.is_empty() {
        bail!("DEMO_UPSTREAMS=host,host,… names the servers that the nodes of {context} are to ask");
    }
    if options.registry.is_empty() {
        bail!(
            "REGISTRY is not set, from which the nodes of {context} are to pull the images. Run `make push \
             REGISTRY=host/path`, then this command with the same REGISTRY"
        );
    }
    tools::build(&["kubectl".to_owned(), "helm".to_owned()])?;
    let user = User { context: context.to_owned() };
    let mode = if options.discipline.as_deref() == Some("1") { "Discipline" } else { "Observe" };
    println!(
        "context {context}, mode {mode}; no clock can be measured from outside here: what follows is what the agents say"
    );
    user.apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels:\n    \
         pod-security.kubernetes.io/enforce: privileged\n"
    ))?;
    let chart = checkout::chart().display().to_string();
    let mut helm = Command::new(tools::path("helm")?);
    helm.args([
        "upgrade",
        "--install",
        "timesync",
        &chart,
        "--namespace",
        NAMESPACE,
        "--kube-context",
        context,
        "--set",
        &format!("image.registry={}", options.registry),
    ]);
    process::run(helm.args(options.helm_args.split_whitespace()))?;
    user.apply(&policy(mode, &options.upstreams))?;
    let nodes =
        wait::until("a NodeClock with an offset for each agent", "30 s", Duration::from_secs(180), || {
            let clocks = user.get("nclk")?;
            let agents =
                user.get(&format!("pods -n {NAMESPACE} -l app.kubernetes.io/component=agent"))?.len();
            let measured = clocks.iter().filter(|clock| clock["status"]["offset"].is_string()).count();
            Ok((agents > 0 && measured == agents).then_some(agents))
        });
    print!("{}", user.kubectl("get tsp,nclk")?);
    println!(
        "demo: {} nodes measured in mode {mode}; `helm uninstall timesync -n {NAMESPACE}` removes it",
        nodes?
    );
    Ok(())
}

fn policy(mode: &str, upstreams: &[String]) -> String {
    let listed: String = upstreams
        .iter()
        .enumerate()
        .map(|(number, server)| {
            format!("  - {{name: u{number}, server: '{}', iburst: true}}\n", server.trim())
        })
        .collect();
    format!(
        "apiVersion: timesync.dev/v1alpha1\nkind: TimeSyncPolicy\nmetadata: {{name: demo}}\nspec:\n  mode: {mode}\n  \
         serve: {{enabled: false}}\n  upstreams:\n{listed}"
    )
}

/// kubectl in the user's context.
struct User {
    context: String,
}

impl User {
    fn command(&self, words: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(tools::path("kubectl")?);
        command.args(["--context", &self.context]).args(words.split_whitespace());
        Ok(command)
    }

    fn kubectl(&self, words: &str) -> anyhow::Result<String> {
        process::run(&mut self.command(words)?)
    }

    fn get(&self, what: &str) -> anyhow::Result<Vec<Value>> {
        let all: Value = serde_json::from_str(&self.kubectl(&format!("get {what} -o json"))?)?;
        Ok(all["items"].as_array().cloned().unwrap_or_default())
    }

    fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        let mut child = self.command("apply -f -")?.stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("stdin is piped")?.write_all(manifest.as_bytes())?;
        if !child.wait()?.success() {
            bail!("kubectl apply failed in context {}", self.context);
        }
        Ok(())
    }
}
