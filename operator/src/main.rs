//! timesync-operator: TimeSyncPolicies in; profiles for the agents, and what became of them, out.
//!
//! The modules stand in the data's order. `controller` drives them; `fetch`, `apply`, `collect`, `publish` and `leader`
//! talk to others, the rest is pure. `uninstall` is beside the way.
#![forbid(unsafe_code)]

mod cli;
mod leader;

mod controller;

mod fetch;
mod secrets;

mod cookie_keys;
mod keys;
mod translate;
mod validate;

mod placement;
mod plan;

mod build;

mod apply;
mod nudge;

mod collect;
mod reports;

mod condition;
mod node_conditions;
mod node_clock;
mod status;

mod events;
mod publish;

mod metrics;
mod serve;

mod uninstall;

#[cfg(test)]
mod fixtures;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use clap::Parser;
use kube::Client;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Agents, Cli, Command, Run},
    collect::Collector,
    controller::{Controller, Memory},
    fetch::Watches,
    leader::Leader,
    metrics::Metrics,
    publish::Publisher,
    uninstall::Uninstall,
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
            Command::Uninstall(agents) => runtime.block_on(uninstall(agents)),
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = format!("{error:#}"), "Ended");
            ExitCode::FAILURE
        }
    }
}

/// Serves health and metrics, waits to lead, works until told to stop.
async fn run(options: Run) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let metrics = Arc::new(Metrics::new().context("cannot register metrics")?);
    let listener =
        serve::open(options.listen).await.with_context(|| format!("cannot listen on {}", options.listen))?;
    let client = client().await?;
    let mut leader = Leader::new(client.clone(), &options.agents.namespace, options.identity.clone());
    info!(version = env!("CARGO_PKG_VERSION"), namespace = options.agents.namespace, "Started");
    let ended = tokio::select! {
        () = serve::serve(listener, Arc::clone(&metrics)) => Err(anyhow!("the HTTP server ended")),
        led = lead(&mut leader, client, &options, metrics) => led,
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
    };
    leader.release().await;
    info!("Stopped");
    ended
}

async fn client() -> anyhow::Result<Client> {
    Client::try_default().await.context("no way to the API server: not in a pod, and no KUBECONFIG")
}

/// An agent that does not answer is no reason to keep the release.
async fn uninstall(agents: Agents) -> anyhow::Result<()> {
    let Agents { namespace, token_file, agent_selector, agent_port } = agents;
    let client = client().await?;
    let uninstall =
        Uninstall { client, namespace, agent_selector, agent_port, token_file, patience: UNINSTALL_PATIENCE };
    for (node, why) in uninstall.run().await {
        warn!(node, why, "The static pod for the node's next boot may be left");
    }
    Ok(())
}

/// An agent sees an annotation within a second or two; the rest is for busy kubelets.
const UNINSTALL_PATIENCE: Duration = Duration::from_secs(60);

/// Works while this replica leads; an end of that is an error, so that the pod starts afresh.
async fn lead(
    leader: &mut Leader,
    client: Client,
    options: &Run,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    leader.acquire().await;
    let wake = Arc::new(Notify::new());
    let mut watching = JoinSet::new();
    let watches = Watches::start(
        &client,
        &options.agents.namespace,
        &options.agents.agent_selector,
        options.agents.agent_port,
        &wake,
        &mut watching,
    );
    // Each poll waits while the channel is full; a round takes them all.
    let (sender, answers) = mpsc::channel(1024);
    let controller = Controller {
        namespace: options.agents.namespace.clone(),
        watches,
        wake,
        answers,
        collector: Collector::new(options.agents.token_file.clone(), sender),
        publisher: Publisher::new(client.clone()),
        client,
        metrics,
        memory: Memory::default(),
    };
    tokio::select! {
        () = leader.keep() => Err(anyhow!("lost the Lease")),
        () = controller.run() => Err(anyhow!("the watches ended")),
    }
}
