//! Before the release goes: takes the Lease, so that the operator writes no more; tells each agent that keeps a static pod for
//! its node's next boot, by an annotation of its own pod, to take it away, and waits until its report says so; then withdraws
//! what the statuses say. Who does not, or is not heard of, is named and left: nothing blocks the uninstallation.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use contract::{BootPodState, Report};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
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
    collect::{Answer, Collector},
    facts::AgentPod,
};

mod lease;
mod statuses;

/// Whom to tell, and how they are asked.
pub(crate) struct Uninstall {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) agent_selector: String,
    pub(crate) agent_port: u16,
    pub(crate) token_file: PathBuf,
    /// So long agents are waited for.
    pub(crate) patience: Duration,
}

/// How long the Lease is tried for.
const LEASE_PATIENCE: Duration = Duration::from_secs(10);
/// How long statuses are written: with the agents' minute the whole ends before the chart's Job is ended.
const STATUSES_PATIENCE: Duration = Duration::from_secs(100);

/// Not the operator's, which would take back what it did not write itself.
const FIELD_MANAGER: &str = "timesync-uninstall";

/// Agents come and go until the DaemonSet is deleted.
const LOOK: Duration = Duration::from_secs(2);

/// Annotations under way together.
const AT_ONCE: usize = 32;
/// Pods in memory together.
const PAGE: u32 = 500;
/// Of one request.
const REQUEST: Duration = Duration::from_secs(10);

impl Uninstall {
    /// Does all of it. The answer is who was not heard to have taken its static pod away, for a reader.
    pub(crate) async fn run(self) -> BTreeMap<String, String> {
        let alone = lease::take(&self.client, &self.namespace, Instant::now() + LEASE_PATIENCE).await;
        let open = self.tell_agents().await;
        match alone {
            Some(alone) => sleep_until(alone).await,
            None => warn!("The operator may go on until it is deleted, and write what is withdrawn now"),
        }
        statuses::withdraw(&self.client, Instant::now() + STATUSES_PATIENCE).await;
        open
    }

    /// Tells them and waits.
    async fn tell_agents(&self) -> BTreeMap<String, String> {
        let deadline = Instant::now() + self.patience;
        let (sender, mut answers) = mpsc::channel(64);
        let mut collector = Collector::new(self.token_file.clone(), sender);
        let mut progress = Progress::default();
        loop {
            match timeout_at(deadline, self.agents()).await {
                Ok(Ok(agents)) => {
                    let untold = progress.follow(&agents);
                    let mut telling = stream::iter(untold)
                        .map(async |agent| (agent, self.tell(agent).await))
                        .buffer_unordered(AT_ONCE);
                    while let Ok(Some((agent, outcome))) = timeout_at(deadline, telling.next()).await {
                        progress.told(agent, outcome);
                    }
                    collector.follow(agents.iter());
                }
                Ok(Err(error)) => warn!(%error, "Cannot list the agents' pods; trying again"),
                Err(_) => {}
            }
            let next = deadline.min(Instant::now() + LOOK);
            while let Ok(Some(answer)) = timeout_at(next, answers.recv()).await {
                progress.heard(&answer);
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

    /// Those that can be told.
    async fn agents(&self) -> Result<Vec<AgentPod>, kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut params = ListParams::default().labels(&self.agent_selector).limit(PAGE);
        let mut agents = Vec::new();
        loop {
            let page = api.list(&params).await?;
            let hearing = page.iter().filter(|pod| hears(pod));
            agents.extend(hearing.filter_map(|pod| AgentPod::of(pod, self.agent_port)));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(agents);
            }
        }
    }

    /// A patch that names the uid meets no other pod of the same name.
    async fn tell(&self, agent: &AgentPod) -> Result<(), String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let annotations = BTreeMap::from([(BootPod::ANNOTATION, BootPod::REMOVE)]);
        let change = json!({"metadata": {"uid": agent.uid, "annotations": annotations}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match timeout(REQUEST, api.patch_metadata(&agent.name, &params, &Patch::Merge(&change))).await {
            Ok(Ok(_)) => Ok(()),
            // It has gone meanwhile, and its successor is in the next list.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the API server takes too long".to_owned()),
        }
    }
}

/// Whether an agent sees the annotation: its pod has it as a file. Where static pods are switched off, no agent keeps one.
fn hears(pod: &Pod) -> bool {
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
    /// Whether a list of them was had.
    listed: bool,
    /// By the uid of the pod.
    agents: BTreeMap<String, Agent>,
}

#[derive(Debug)]
struct Agent {
    node: String,
    told: bool,
    done: bool,
    /// Why it is not.
    why: String,
}

impl Progress {
    /// These are the agents now; the answer is who was not told yet.
    fn follow<'a>(&mut self, agents: &'a [AgentPod]) -> Vec<&'a AgentPod> {
        self.listed = true;
        let there: BTreeSet<_> = agents.iter().map(|agent| agent.uid.as_str()).collect();
        self.agents.retain(|uid, _| there.contains(uid.as_str()));
        for agent in agents {
            self.agents.entry(agent.uid.clone()).or_insert_with(|| Agent {
                node: agent.node.clone(),
                told: false,
                done: false,
                why: "its agent was not heard of".to_owned(),
            });
        }
        agents.iter().filter(|agent| self.agents.get(&agent.uid).is_some_and(|known| !known.told)).collect()
    }

    /// What came of telling it.
    fn told(&mut self, agent: &AgentPod, outcome: Result<(), String>) {
        let Some(known) = self.agents.get_mut(&agent.uid) else { return };
        match outcome {
            Ok(()) => known.told = true,
            Err(error) => known.why = format!("its agent cannot be told: {error}"),
        }
    }

    fn heard(&mut self, answer: &Answer) {
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
            // What was heard before still holds.
            Err(failure) if !known.done => known.why = format!("its agent does not answer: {failure}"),
            Err(_) => {}
        }
    }

    fn is_done(&self) -> bool {
        self.listed && self.agents.values().all(|agent| agent.done && agent.told)
    }

    /// Who is not done, by node, and why.
    fn open(&self) -> BTreeMap<String, String> {
        if !self.listed {
            return [("all".to_owned(), "the agents' pods could not be listed".to_owned())].into();
        }
        let open = self.agents.values().filter(|agent| !agent.done);
        open.map(|agent| (agent.node.clone(), agent.why.clone())).collect()
    }
}

/// An agent without orders for the next boot has put nothing there.
fn is_gone(report: &Report) -> bool {
    report.boot.as_ref().is_none_or(|boot| boot.state == BootPodState::Absent)
}

#[cfg(test)]
mod tests;
