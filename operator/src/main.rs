//! timesync-operator: TimeSyncPolicies in; profiles for the agents, and reports of their effect, out.
//!
//! The modules are in the order of the data. `controller` drives them. `watch`, `fetch`, `secrets`, `apply`, `publish`,
//! `writer`, `token`, `collect`, `leader` and `serve` do I/O; the other steps are pure. `uninstall` is a command of its own.
#![forbid(unsafe_code)]

mod cli;
mod leader;
mod term;

mod controller;

mod facts;
mod stored_node_clock;
mod watch;
mod fetch;
mod secrets;
mod cluster_state;

mod cookie_keys;
mod keys;
mod portion;
mod tier;
mod translate;
mod taint_rule;
mod validate;
mod resolve;

mod placement;
mod plan;
mod rollout;

mod build;

mod apply;
mod nudge;
mod store;

mod token;

mod collect;
mod reports;

mod condition;
mod node_clock;
mod node_conditions;
mod node_fields;
mod policy_nodes;
mod policy_conditions;
mod status;

mod budget;
mod events;
mod work_queue;
mod node_state;
mod publish;
mod rollout_log;
mod writer;

mod health;
mod message;
mod metrics;
mod serve;

mod uninstall;

#[cfg(test)]
mod fixtures;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use clap::Parser;
use kube::Client;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::{
    apply::Target,
    cli::{Agents, Cli, Command, Run},
    collect::Collector,
    controller::{Controller, Memory},
    fetch::{AgentPods, Watches},
    health::Health,
    leader::Leader,
    metrics::Metrics,
    term::Term,
    token::{Keeper, TokenSecret, Tokens},
    uninstall::Uninstall,
    watch::ChangeNotifier,
    writer::Writer,
};

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let level = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).with_ansi(false).init();
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| match command {
            Command::Run(options) => runtime.block_on(run(options)),
            Command::Uninstall(options) => runtime.block_on(uninstall(options)),
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = format!("{error:#}"), "Ended");
            ExitCode::FAILURE
        }
    }
}

/// Serves health and metrics, waits to lead, and works until told to stop.
async fn run(options: Run) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    raise_limit();
    let metrics = Arc::new(Metrics::new().context("cannot register metrics")?);
    let health = Health::new(metrics.api_errors());
    let listener =
        serve::open(options.listen).await.with_context(|| format!("cannot listen on {}", options.listen))?;
    let client = client().await?;
    let term = Term::default();
    let namespace = &options.agents.namespace;
    let mut leader =
        Leader::new(client.clone(), namespace, options.identity.clone(), term.clone(), health.clone());
    info!(version = env!("CARGO_PKG_VERSION"), namespace, "Started");
    let target = Target { client, namespace: namespace.clone(), term };
    let ended = tokio::select! {
        () = serve::serve(listener, Arc::clone(&metrics), health.clone()) => Err(anyhow!("the HTTP server ended")),
        led = lead(&mut leader, target, &options, metrics, health) => led,
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
    };
    leader.release().await;
    info!("Stopped");
    ended
}

/// Raises the limit of open files. Each agent's connection needs a descriptor, and container runtimes start programs
/// with a soft limit of 1,024.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        warn!(%error, limit = limit.current, "Cannot raise the limit of open files; each agent needs one");
    }
}

async fn client() -> anyhow::Result<Client> {
    Client::try_default().await.context("no way to the API server: not in a pod, and no KUBECONFIG")
}

/// Runs the uninstallation. It succeeds even if an agent does not answer, so that the release can be removed.
async fn uninstall(options: cli::Uninstall) -> anyhow::Result<()> {
    let cli::Uninstall { agents, node_writes } = options;
    let Agents { namespace, token_secret, agent_selector, agent_port } = agents;
    let client = client().await?;
    let uninstall = Uninstall {
        client,
        namespace,
        agent_selector,
        agent_port,
        token_secret,
        node_writes,
        patience: UNINSTALL_TIMEOUT,
    };
    for (node, why) in uninstall.run().await {
        warn!(node, why, "The static pod for the node's next boot may be left");
    }
    Ok(())
}

/// An agent sees an annotation within two seconds. The rest is a margin for busy kubelets.
const UNINSTALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Works while this replica leads. Its end is an error, so that the pod starts again.
async fn lead(
    leader: &mut Leader,
    target: Target,
    options: &Run,
    metrics: Arc<Metrics>,
    health: Health,
) -> anyhow::Result<()> {
    leader.acquire().await;
    let notifier = ChangeNotifier { notify: Arc::default(), health };
    let mut watching = JoinSet::new();
    let agents = AgentPods {
        namespace: &options.agents.namespace,
        agent_selector: &options.agents.agent_selector,
        agent_port: options.agents.agent_port,
    };
    // Each watch and each poll waits while its channel is full. A turn takes everything that is in the channels.
    let (changed, changes) = mpsc::channel(1024);
    let (sender, answers) = mpsc::channel(1024);
    let watches = Watches::start(&target.client, &agents, &changed, &notifier, &mut watching);
    let tokens = Arc::new(Tokens::new());
    let secret =
        TokenSecret { name: options.agents.token_secret.clone(), create: options.create_token_secret };
    Keeper::start(target.clone(), secret, Arc::clone(&tokens), notifier.health.clone(), &mut watching);
    let controller = Controller {
        watches,
        notifier: notifier.notify,
        changes,
        answers,
        collector: Collector::new(tokens, sender),
        writer: Writer::new(target),
        metrics,
        health: notifier.health,
        placement: options.agent_nodes.placement(),
        node_writes: options.node_writes,
        started: Instant::now(),
        memory: Memory::default(),
    };
    // The controller has a task of its own, so that much work does not delay the renewal of the Lease.
    let mut working = JoinSet::new();
    working.spawn(controller.run());
    tokio::select! {
        () = leader.hold() => Err(anyhow!("lost the Lease")),
        _ = working.join_next() => Err(anyhow!("the controller ended")),
        _ = watching.join_next() => Err(anyhow!("a watch ended")),
    }
}
