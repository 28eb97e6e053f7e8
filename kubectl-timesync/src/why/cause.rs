//! What an explanation is made of: causes in a chain, from what is seen to what is behind it; and what is known of the
//! node that is explained.
use api::{NodeClock, NodeClockStatus, TimeSyncPolicy};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::observed::{EventFacts, NodeFacts, Observed, PodFacts};

/// How much a chain matters. The most important one is shown first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) enum Severity {
    /// The clock may be wrong, or nothing is known of it.
    Broken,
    /// The clock is right, but something that keeps it right is missing.
    Degraded,
    /// Something else is not as it should be.
    Notice,
    /// All is well.
    Fine,
}

/// One cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cause {
    /// A word for programs, which does not change.
    pub(crate) id: &'static str,
    /// Its place in the chain: 0 is what is seen. Two causes of the same depth are both true.
    pub(crate) depth: usize,
    /// What is so.
    pub(crate) what: String,
    /// What that means for the clock.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) means: String,
    /// What to do, one action each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) todo: Vec<Action>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Action {
    /// In words.
    pub(crate) text: String,
    /// The command for it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
}

/// A chain of causes, from what is seen to what is behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chain {
    /// How much it matters.
    pub(crate) severity: Severity,
    /// At least one.
    pub(crate) causes: Vec<Cause>,
}

impl Chain {
    pub(crate) fn new(severity: Severity, id: &'static str, what: impl Into<String>) -> Self {
        Self { severity, causes: Vec::new() }.because(0, id, what)
    }

    /// Adds a cause at this depth.
    pub(crate) fn because(mut self, depth: usize, id: &'static str, what: impl Into<String>) -> Self {
        self.causes.push(Cause { id, depth, what: what.into(), means: String::new(), todo: Vec::new() });
        self
    }

    /// What the last cause means.
    pub(crate) fn means(mut self, text: impl Into<String>) -> Self {
        if let Some(last) = self.causes.last_mut() {
            last.means = text.into();
        }
        self
    }

    /// What to do about the last cause.
    pub(crate) fn todo(self, text: impl Into<String>) -> Self {
        self.act(Action { text: text.into(), command: None })
    }

    /// What to do about the last cause, and the command for it.
    pub(crate) fn run(self, text: impl Into<String>, command: impl Into<String>) -> Self {
        self.act(Action { text: text.into(), command: Some(command.into()) })
    }

    /// An action about the last cause.
    pub(crate) fn act(mut self, action: Action) -> Self {
        if let Some(last) = self.causes.last_mut() {
            last.todo.push(action);
        }
        self
    }

    /// The depth below the last cause.
    pub(crate) fn below(&self) -> usize {
        self.causes.last().map_or(0, |last| last.depth + 1)
    }

    /// The first of the deepest causes: what is behind all.
    pub(crate) fn root(&self) -> Option<&Cause> {
        let deepest = self.causes.iter().map(|cause| cause.depth).max()?;
        self.causes.iter().find(|cause| cause.depth == deepest)
    }
}

/// The explanation of a node's clock.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// The node.
    pub(crate) node: String,
    /// The clock's state.
    pub(crate) state: String,
    /// Since when it is, or is not, synchronised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// The policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// What the agent does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    /// The chains, the most important first.
    pub(crate) chains: Vec<Chain>,
    /// The newest Events, oldest first.
    pub(crate) events: Vec<EventFacts>,
    /// What could not be read, so that a cause may be missing.
    pub(crate) unread: Vec<String>,
}

/// The node that is explained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The cluster.
    pub(crate) observed: &'a Observed,
    /// The node's name.
    pub(crate) node: &'a str,
    /// Its NodeClock.
    pub(crate) clock: Option<&'a NodeClock>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(observed: &'a Observed, node: &'a str) -> Self {
        Self { observed, node, clock: observed.clock(node) }
    }

    pub(crate) fn status(&self) -> Option<&'a NodeClockStatus> {
        self.clock.and_then(|clock| clock.status.as_ref())
    }

    /// The policy in force, if it still exists.
    pub(crate) fn policy(&self) -> Option<&'a TimeSyncPolicy> {
        self.observed.policy(self.status()?.policy.as_deref()?)
    }

    pub(crate) fn namespace(&self) -> &'a str {
        &self.observed.namespace
    }

    /// The Node; none if it does not exist, or was not read.
    pub(crate) fn facts(&self) -> Option<&'a NodeFacts> {
        self.observed.nodes.as_ref().ok()?.iter().find(|node| node.name == self.node)
    }

    /// The agent's pod on the node: none if there is none, and the outer none if pods were not read.
    pub(crate) fn agent(&self) -> Option<Option<&'a PodFacts>> {
        let pods = self.observed.agents.as_ref().ok()?;
        Some(pods.iter().find(|pod| pod.node.as_deref() == Some(self.node)))
    }

    /// The operator's pods, if they were read.
    pub(crate) fn operators(&self) -> Option<&'a [PodFacts]> {
        self.observed.operators.as_deref().ok()
    }

    /// A command for kubectl in the namespace of operator and agents.
    pub(crate) fn kubectl(&self, words: &str) -> String {
        format!("kubectl -n {} {words}", self.namespace())
    }

    /// A command that lists the pods of timesync on the node.
    pub(crate) fn list_pods(&self) -> String {
        self.kubectl(&format!("get pods -o wide --field-selector spec.nodeName={}", self.node))
    }

    /// A command of the agent of this node. If its pod is not known, the word AGENT stands for it.
    pub(crate) fn on_agent(&self, words: &str) -> String {
        let pod = self.agent().flatten().map_or("AGENT", |pod| pod.name.as_str());
        self.kubectl(&format!("exec {pod} -- /timesync-agent {words}"))
    }
}
