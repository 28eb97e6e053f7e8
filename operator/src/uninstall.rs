//! Before the release goes: tells each agent, by an annotation of its pod, to take the static pod for the next boot off its
//! node, and waits until its report says so. Who does not, or is not heard of, is named and left: nothing blocks the
//! uninstallation.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use contract::{BootPod, BootPodState, Report};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{info, warn};

use crate::{
    collect::{Answer, Collector},
    fetch::AgentPod,
};

/// Whom to tell, and how they are asked.
pub(crate) struct Uninstall {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) agent_selector: String,
    pub(crate) agent_port: u16,
    pub(crate) token_file: PathBuf,
    /// So long is waited.
    pub(crate) patience: Duration,
}

/// Not the operator's, which would take back what it did not write itself.
const FIELD_MANAGER: &str = "timesync-uninstall";

/// Agents come and go until the DaemonSet is deleted.
const LOOK: Duration = Duration::from_secs(2);

impl Uninstall {
    /// Tells them and waits. The answer is who was not heard to have done it, for a reader.
    pub(crate) async fn run(self) -> BTreeMap<String, String> {
        let deadline = Instant::now() + self.patience;
        let (sender, mut answers) = mpsc::channel(64);
        let mut collector = Collector::new(self.token_file.clone(), sender);
        let mut progress = Progress::default();
        loop {
            match timeout_at(deadline, self.agents()).await {
                Ok(Ok(agents)) => {
                    for agent in progress.follow(&agents) {
                        progress.told(agent, timeout_at(deadline, self.tell(agent)).await.ok());
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

    async fn agents(&self) -> Result<Vec<AgentPod>, kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let pods = api.list(&ListParams::default().labels(&self.agent_selector)).await?;
        Ok(pods.iter().filter_map(|pod| AgentPod::of(pod, self.agent_port)).collect())
    }

    /// A patch that names the uid meets no other pod of the same name.
    async fn tell(&self, agent: &AgentPod) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let annotations = BTreeMap::from([(BootPod::ANNOTATION, BootPod::REMOVE)]);
        let change = json!({"metadata": {"uid": agent.uid, "annotations": annotations}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_metadata(&agent.name, &params, &Patch::Merge(&change)).await {
            Ok(_) => Ok(()),
            // It has gone meanwhile, and its successor is in the next list.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }
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

    /// What came of telling it; none if there was no time left.
    fn told(&mut self, agent: &AgentPod, outcome: Option<Result<(), kube::Error>>) {
        let Some(known) = self.agents.get_mut(&agent.uid) else { return };
        match outcome {
            Some(Ok(())) => known.told = true,
            Some(Err(error)) => known.why = format!("its agent cannot be told: {error}"),
            None => {}
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
