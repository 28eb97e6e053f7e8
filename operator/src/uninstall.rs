//! Runs before the release is removed. It takes the Lease, so that the operator writes nothing more. By an annotation
//! of the agent's pod, it tells each agent that keeps a static pod for its node's next boot to remove it, and waits
//! until the agent reports that. Then it withdraws the statuses. An agent that does not answer or does not remove its
//! static pod is named in the log: nothing blocks the uninstallation.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use contract::{BootPodState, Report};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use profile::BootPod;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tracing::{info, warn};

use crate::{
    collect::{Collector, PollResult},
    facts::AgentPod,
    message::chain,
    node_fields::NodeWrites,
    term::limited,
    token::{self, NoToken, Tokens},
};

mod lease;
mod nodes;
mod statuses;

/// Which agents to tell, and how to ask them.
pub(crate) struct Uninstall {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) agent_selector: String,
    pub(crate) agent_port: u16,
    pub(crate) token_secret: String,
    /// Which fields of Nodes the operator has written.
    pub(crate) node_writes: NodeWrites,
    /// How long to wait for the agents.
    pub(crate) patience: Duration,
}

/// How long to try to take the Lease.
const LEASE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to write statuses. With the agents' minute, the whole ends before the chart's Job is ended.
const STATUSES_TIMEOUT: Duration = Duration::from_secs(100);

/// Not the operator's field manager: then the operator's next apply, which does not name this annotation, would remove
/// it.
const FIELD_MANAGER: &str = "timesync-uninstall";

/// Interval between two lists of the agents' pods, which may come and go until the DaemonSet is deleted.
const LIST_INTERVAL: Duration = Duration::from_secs(2);

/// Annotations that are written at the same time.
const AT_ONCE: usize = 32;
/// Pods in memory at the same time.
const PAGE: u32 = 500;
/// Time limit of one request.
const REQUEST: Duration = Duration::from_secs(10);

impl Uninstall {
    /// Runs all steps. Returns, by node, why the removal of a static pod is not confirmed, for a reader.
    pub(crate) async fn run(self) -> BTreeMap<String, String> {
        let alone = lease::take(&self.client, &self.namespace, Instant::now() + LEASE_TIMEOUT).await;
        let open = self.tell_agents().await;
        match alone {
            Some(alone) => sleep_until(alone).await,
            None => warn!("The operator may go on until it is deleted, and write what is withdrawn now"),
        }
        let begun = Instant::now();
        // What Nodes say has effects, so it goes first; but it leaves half of the time.
        nodes::clear(&self.client, self.node_writes, begun + STATUSES_TIMEOUT / 2).await;
        statuses::withdraw(&self.client, begun + STATUSES_TIMEOUT).await;
        open
    }

    /// Tells the agents, and waits for their reports.
    async fn tell_agents(&self) -> BTreeMap<String, String> {
        let deadline = Instant::now() + self.patience;
        let (sender, mut answers) = mpsc::channel(64);
        let tokens = Arc::new(Tokens::new());
        let mut collector = Collector::new(Arc::clone(&tokens), sender);
        let mut progress = Progress::default();
        loop {
            match timeout_at(deadline, self.agents()).await {
                Ok(Ok(agents)) => {
                    let untold = progress.follow(&agents);
                    let mut pending = stream::iter(untold)
                        .map(async |agent| (agent, self.annotate(agent).await))
                        .buffer_unordered(AT_ONCE);
                    while let Ok(Some((agent, outcome))) = timeout_at(deadline, pending.next()).await {
                        progress.note_annotation(agent, outcome);
                    }
                    if !agents.is_empty() {
                        let _ = timeout_at(deadline, self.read_token(&tokens)).await;
                    }
                    collector.follow(agents.iter());
                }
                Ok(Err(error)) => warn!(%error, "Cannot list the agents' pods; trying again"),
                Err(_) => {}
            }
            let next = deadline.min(Instant::now() + LIST_INTERVAL);
            while let Ok(Some(answer)) = timeout_at(next, answers.recv()).await {
                progress.note_report(&answer);
                if progress.is_done() {
                    break;
                }
            }
            if progress.is_done() || Instant::now() >= deadline {
                return progress.open();
            }
            sleep_until(next).await;
        }
    }

    /// Reads the token. Its Secret may change until the release is removed.
    async fn read_token(&self, tokens: &Tokens) {
        let (api, name): (Api<Secret>, _) =
            (Api::namespaced(self.client.clone(), &self.namespace), &self.token_secret);
        let not_read = |why| NoToken::NotRead { name: name.clone(), why };
        let found = match limited(REQUEST, api.get_opt(name)).await {
            Ok(Some(secret)) => token::read(name, &secret),
            Ok(None) => Err(not_read("it does not exist".to_owned())),
            Err(error) => Err(not_read(chain(&error))),
        };
        tokens.note(found, false, std::time::Instant::now());
    }

    /// The agents that see the annotation.
    async fn agents(&self) -> Result<Vec<AgentPod>, kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut params = ListParams::default().labels(&self.agent_selector).limit(PAGE);
        let mut agents = Vec::new();
        loop {
            let page = api.list(&params).await?;
            let hearing = page.iter().filter(|pod| sees_annotation(pod));
            agents.extend(hearing.filter_map(|pod| AgentPod::of(pod, self.agent_port)));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(agents);
            }
        }
    }

    /// Writes the annotation. The patch names the uid, so it changes no other pod of the same name.
    async fn annotate(&self, agent: &AgentPod) -> Result<(), String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let annotations = BTreeMap::from([(BootPod::ANNOTATION, BootPod::REMOVE)]);
        let change = json!({"metadata": {"uid": agent.uid, "annotations": annotations}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match timeout(REQUEST, api.patch_metadata(&agent.name, &params, &Patch::Merge(&change))).await {
            Ok(Ok(_)) => Ok(()),
            // The pod has gone. Its successor is in the next list.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the API server takes too long".to_owned()),
        }
    }
}

/// Returns true if an agent sees the annotation: its pod has it as a file. If static pods are switched off, no agent
/// keeps one.
fn sees_annotation(pod: &Pod) -> bool {
    let path = format!("metadata.annotations['{}']", BootPod::ANNOTATION);
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources =
        volumes.flat_map(|volume| volume.projected.iter().flat_map(|each| each.sources.iter().flatten()));
    let items =
        sources.flat_map(|source| source.downward_api.iter().flat_map(|each| each.items.iter().flatten()));
    items.into_iter().any(|item| item.field_ref.as_ref().is_some_and(|field| field.field_path == path))
}

/// How far the agents are.
#[derive(Debug, Default)]
struct Progress {
    /// True if the pods were listed at least once.
    listed: bool,
    /// By the pod's uid.
    agents: BTreeMap<String, Agent>,
}

#[derive(Debug)]
struct Agent {
    node: String,
    annotated: bool,
    done: bool,
    /// Why the agent is not done.
    why: String,
}

impl Progress {
    /// Takes the present agents. Returns those that were not annotated yet.
    fn follow<'a>(&mut self, agents: &'a [AgentPod]) -> Vec<&'a AgentPod> {
        self.listed = true;
        let there: BTreeSet<_> = agents.iter().map(|agent| agent.uid.as_str()).collect();
        self.agents.retain(|uid, _| there.contains(uid.as_str()));
        for agent in agents {
            self.agents.entry(agent.uid.clone()).or_insert_with(|| Agent {
                node: agent.node.clone(),
                annotated: false,
                done: false,
                why: "its agent was not heard of".to_owned(),
            });
        }
        agents
            .iter()
            .filter(|agent| self.agents.get(&agent.uid).is_some_and(|known| !known.annotated))
            .collect()
    }

    /// Records the outcome of annotating an agent.
    fn note_annotation(&mut self, agent: &AgentPod, outcome: Result<(), String>) {
        let Some(known) = self.agents.get_mut(&agent.uid) else { return };
        match outcome {
            Ok(()) => known.annotated = true,
            Err(error) => known.why = format!("its agent cannot be told: {error}"),
        }
    }

    fn note_report(&mut self, answer: &PollResult) {
        let Some(known) = self.agents.get_mut(&answer.pod) else { return };
        match &answer.result {
            Ok(report) if is_gone(report) => {
                if !known.done {
                    info!(node = answer.node, "Nothing is left for the node's next boot");
                }
                known.done = true;
            }
            Ok(report) => {
                let message = report.boot.as_ref().map(|boot| boot.message.as_str()).unwrap_or_default();
                let between = if message.is_empty() { "" } else { ": " };
                known.done = false;
                known.why = format!("its agent has not removed it yet{between}{message}");
            }
            // An earlier report that the static pod is removed still holds.
            Err(failure) if !known.done => known.why = format!("its agent does not answer: {failure}"),
            Err(_) => {}
        }
    }

    fn is_done(&self) -> bool {
        self.listed && self.agents.values().all(|agent| agent.done && agent.annotated)
    }

    /// The agents that are not done, by node, and why.
    fn open(&self) -> BTreeMap<String, String> {
        if !self.listed {
            return [("all".to_owned(), "the agents' pods could not be listed".to_owned())].into();
        }
        let open = self.agents.values().filter(|agent| !agent.done);
        open.map(|agent| (agent.node.clone(), agent.why.clone())).collect()
    }
}

/// Returns true if no static pod is left. An agent that does not know the feature, or whose file does not ask for it,
/// has installed none.
fn is_gone(report: &Report) -> bool {
    report.boot.as_ref().is_none_or(|boot| boot.state == BootPodState::Absent)
}

#[cfg(test)]
mod tests;
