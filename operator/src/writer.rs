//! Runs the writes concurrently with the steps. There is a queue for the agents' annotations, one for Events, one for
//! urgent NodeClocks, one for other NodeClocks, one for fields of Nodes, and one for statuses of policies. Each queue
//! limits how many writes run at once. The outcome of a write is a [`Done`].
use std::{collections::BTreeSet, future::Future, sync::Arc, time::Instant};

use api::NodeClockStatus;
use contract::{Assignment, TransitionKind};
use k8s_openapi::api::events::v1::Event;
use tokio::task::JoinSet;

use crate::{
    apply::Target,
    facts::{AgentPod, NodeFacts},
    fetch::Profiles,
    keys::Data,
    node_clock::WrittenFigures,
    node_fields::{NodePatches, Pace},
    node_state::{PendingEvents, TransitionEvent, Transitions},
    status::PolicyStatus,
    store::StoreWrite,
    stored_node_clock::StoredNodeClock,
    term::WriteError,
    validate::Policy,
    work_queue::WorkQueue,
};

/// The queues, and the tasks that write.
pub(crate) struct Writer {
    pub(crate) target: Target,
    tasks: JoinSet<Done>,
    /// By node and pod.
    pub(crate) annotations: WorkQueue<(String, String)>,
    /// By node, as are the next two.
    pub(crate) events: WorkQueue<String>,
    pub(crate) urgent: WorkQueue<String>,
    pub(crate) node_clocks: WorkQueue<String>,
    /// Nodes whose condition's status or whose taints change, by node.
    pub(crate) urgent_nodes: WorkQueue<String>,
    /// Nodes with other changes.
    pub(crate) nodes: WorkQueue<String>,
    pub(crate) pace_of_nodes: Pace,
    /// By policy.
    pub(crate) policies: WorkQueue<String>,
}

/// Enough to write continuously, and few enough that the API server does not slow down.
const WIDTH: usize = 16;
/// Annotations affect the clocks, so more of them run concurrently than of the writes that only inform users.
const WIDTH_OF_ANNOTATIONS: usize = 32;

/// Writes to Nodes in any second. Every change of a Node goes to each kubelet, scheduler and controller that watches Nodes.
const MOST_NODES_A_SECOND: usize = 20;

/// The outcome of a write.
pub(crate) enum Done {
    Annotated {
        key: (String, String),
        uid: String,
        /// The pod after the write, or none if it is gone.
        result: Result<Option<AgentPod>, WriteError>,
        nudged: bool,
    },
    EventsSent {
        node: String,
        /// The agent instance, and the number of its last transition that was sent as an Event.
        last_sent: Option<(String, u64)>,
        impostor: bool,
        /// The kinds of the Events that were not written.
        unsent: Vec<TransitionKind>,
        result: Result<(), WriteError>,
    },
    NodeClock {
        node: String,
        urgent: bool,
        /// True if the NodeClock existed when the write began.
        was_there: bool,
        written: WrittenFigures,
        result: Result<StoredNodeClock, WriteError>,
    },
    Node {
        node: String,
        urgent: bool,
        /// The Node after the write.
        result: Result<NodeFacts, WriteError>,
    },
    Policy {
        policy: String,
        result: Result<(), WriteError>,
    },
    Stored {
        /// The Secret after the write, if it was to be written; and the files whose content differed.
        keys: Option<Result<(Data, Option<String>), WriteError>>,
        files: BTreeSet<String>,
        /// The ConfigMap after the write, if it was to be written and the Secret's write did not fail.
        profiles: Option<Result<Profiles, WriteError>>,
    },
}

impl Writer {
    /// A writer without writes.
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            tasks: JoinSet::new(),
            annotations: WorkQueue::new(WIDTH_OF_ANNOTATIONS),
            events: WorkQueue::new(WIDTH),
            urgent: WorkQueue::new(WIDTH),
            node_clocks: WorkQueue::new(WIDTH),
            urgent_nodes: WorkQueue::new(WIDTH),
            nodes: WorkQueue::new(WIDTH),
            pace_of_nodes: Pace::new(MOST_NODES_A_SECOND),
            policies: WorkQueue::new(WIDTH),
        }
    }

    /// The next write that ends; waits without end if none is under way.
    pub(crate) async fn done(&mut self) -> Done {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(done)) => return done,
                // The operator has a bug in one write. That write counts as unfinished permanently, and the others
                // continue.
                Some(Err(error)) => tracing::error!(%error, "A write ended by a mistake of the operator"),
                None => std::future::pending().await,
            }
        }
    }

    /// A write that has ended; none if there is none.
    pub(crate) fn try_done(&mut self) -> Option<Done> {
        loop {
            match self.tasks.try_join_next()? {
                Ok(done) => return Some(done),
                Err(error) => tracing::error!(%error, "A write ended by a mistake of the operator"),
            }
        }
    }

    /// Forgets a node that is gone.
    pub(crate) fn forget(&mut self, node: &str) {
        let node = node.to_owned();
        for queue in [
            &mut self.events,
            &mut self.urgent,
            &mut self.node_clocks,
            &mut self.nodes,
            &mut self.urgent_nodes,
        ] {
            queue.forget(&node);
        }
    }

    /// Writes an agent's annotation.
    pub(crate) fn annotate(&mut self, pod: Arc<AgentPod>, wanted: Assignment, nudge: Option<u64>) {
        let target = self.target.clone();
        self.start(async move {
            let key = (pod.node.clone(), pod.name.clone());
            let (annotation, uid) = (Some(wanted.to_string()), pod.uid.clone());
            let written = target.annotate(&pod, &wanted, nudge).await;
            let stands = |version| AgentPod { annotation, version: Some(version), ..(*pod).clone() };
            let result = written.map(|version| version.map(stands));
            Done::Annotated { key, uid, result, nudged: nudge.is_some() }
        });
    }

    /// Sends the Events of a node, in their order.
    pub(crate) fn send_events(&mut self, node: String, pending: PendingEvents) {
        let target = self.target.clone();
        self.start(async move {
            let PendingEvents { transitions, impostor, dropped: _ } = pending;
            let (mut last_sent, mut unsent, mut result) = (None, Vec::new(), Ok(()));
            if let Some(Transitions { instance, events, last }) = transitions {
                let (count, failed) = send_all(&target, &events).await;
                let before = count.checked_sub(1).map(|index| events[index].number);
                let reached = if failed.is_ok() { Some(last) } else { before };
                last_sent = reached.map(|reached| (instance, reached));
                unsent = events[count..].iter().map(|event| event.kind).collect();
                result = failed;
            }
            let mut impostor_event_sent = false;
            if !impostor.is_empty() {
                result = send_each(&target, &impostor).await;
                impostor_event_sent = result.is_ok();
            }
            Done::EventsSent { node, last_sent, impostor: impostor_event_sent, unsent, result }
        });
    }

    /// Writes a NodeClock.
    pub(crate) fn write_node_clock(
        &mut self,
        node: Arc<NodeFacts>,
        known: Option<Arc<StoredNodeClock>>,
        status: NodeClockStatus,
        written: WrittenFigures,
        urgent: bool,
    ) {
        let target = self.target.clone();
        self.start(async move {
            let result = target.write_node_clock(&node, known.as_deref(), &status).await;
            Done::NodeClock { node: node.name.clone(), urgent, was_there: known.is_some(), written, result }
        });
    }

    /// Takes the outcome of a write of a Node.
    pub(crate) fn nodes_done(&mut self, node: &String, urgent: bool, written: bool, now: Instant) {
        let queue = if urgent { &mut self.urgent_nodes } else { &mut self.nodes };
        queue.done(node, written, now);
    }

    /// Writes fields of a Node.
    pub(crate) fn write_node(
        &mut self,
        node: Arc<NodeFacts>,
        patches: NodePatches,
        urgent: bool,
        now: Instant,
    ) {
        self.pace_of_nodes.count(patches.count(), now);
        let target = self.target.clone();
        self.start(async move {
            let result = target.write_node(&node, patches).await;
            Done::Node { node: node.name.clone(), urgent, result }
        });
    }

    /// Writes the status of a policy, and before it the Events of what the status says.
    pub(crate) fn write_policy(&mut self, policy: Policy, status: PolicyStatus, events: Vec<Event>) {
        let target = self.target.clone();
        self.start(async move {
            for event in &events {
                if let Err(error) = target.send_event(event).await {
                    // The condition says the same, and is written in any case.
                    tracing::warn!(policy = policy.name, %error, "Event of a policy not written");
                }
            }
            let result = target.write_policy(&policy, &status.status).await;
            Done::Policy { policy: policy.name, result }
        });
    }

    /// Writes the Secret, and then the ConfigMap.
    pub(crate) fn store(&mut self, write: StoreWrite) {
        let target = self.target.clone();
        self.start(async move {
            let StoreWrite { content, files, profiles, keys_version, profiles_version } = write;
            let (mut keys_done, mut profiles_done) = (None, None);
            if !files.is_empty() {
                keys_done = Some(target.write_keys(&content.keys, keys_version.as_deref()).await);
            }
            // No profile is written if its keys could not be.
            if profiles && keys_done.as_ref().is_none_or(Result::is_ok) {
                profiles_done =
                    Some(target.write_profiles(&content.profiles, profiles_version.as_deref()).await);
            }
            Done::Stored { keys: keys_done, files, profiles: profiles_done }
        });
    }

    fn start(&mut self, write: impl Future<Output = Done> + Send + 'static) {
        self.tasks.spawn(write);
    }
}

/// Sends Events one after the other. Returns the number of sent Events, and the failure that stopped it.
async fn send_all(target: &Target, events: &[TransitionEvent]) -> (usize, Result<(), WriteError>) {
    for (count, TransitionEvent { events, .. }) in events.iter().enumerate() {
        if let Err(error) = send_each(target, events).await {
            return (count, Err(error));
        }
    }
    (events.len(), Ok(()))
}

/// Sends Events one after the other. After a failure all are sent again; the API server refuses those that it has.
async fn send_each(target: &Target, events: &[Event]) -> Result<(), WriteError> {
    for event in events {
        target.send_event(event).await?;
    }
    Ok(())
}
