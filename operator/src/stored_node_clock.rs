//! What the operator keeps of a stored NodeClock: a few fields, and a digest by which it sees that the status changed.
use std::hash::{DefaultHasher, Hash, Hasher};

use api::{AgentStatus, NodeClock, NodeClockStatus, RtcStatus, ServerStatus, SourceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::{Resource, core::DeserializeGuard};

use crate::condition;

/// The facts that are kept of a stored NodeClock.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredNodeClock {
    /// A digest of its status, without figures that change all the time.
    pub(crate) facts: u64,
    /// True if it says that the clock is synchronised.
    pub(crate) synchronized: bool,
    /// Kept for their transition times.
    pub(crate) conditions: Vec<Condition>,
    /// The profile that it names as wanted.
    pub(crate) wanted: Option<String>,
    /// The profile that it names as running.
    pub(crate) running: Option<String>,
    pub(crate) agent: Option<AgentStatus>,
    pub(crate) reported_at: Option<Time>,
    pub(crate) updated_at: Option<Time>,
    pub(crate) uid: Option<String>,
    /// The uid of the node that owns it.
    pub(crate) owner: Option<String>,
    pub(crate) version: Option<String>,
}

impl StoredNodeClock {
    /// The facts of an object that may not be readable. If it is not, its status counts as unknown.
    pub(crate) fn of_guarded(clock: &DeserializeGuard<NodeClock>) -> Self {
        let status = clock.0.as_ref().ok().and_then(|clock| clock.status.as_ref());
        Self::new(clock.meta(), status.unwrap_or(&NodeClockStatus::default()))
    }

    /// The facts of an object.
    pub(crate) fn of(clock: &NodeClock) -> Self {
        Self::new(&clock.metadata, clock.status.as_ref().unwrap_or(&NodeClockStatus::default()))
    }

    fn new(meta: &ObjectMeta, status: &NodeClockStatus) -> Self {
        let owner = meta.owner_references.iter().flatten().find(|owner| owner.kind == "Node");
        let conditions = status.conditions.iter();
        Self {
            facts: facts(status),
            synchronized: status.synchronized,
            conditions: conditions.map(|each| Condition { message: String::new(), ..each.clone() }).collect(),
            wanted: status.profile.as_ref().and_then(|profile| profile.wanted.clone()),
            running: status.profile.as_ref().and_then(|profile| profile.running.clone()),
            agent: status.agent.clone(),
            reported_at: status.reported_at.clone(),
            updated_at: status.updated_at.clone(),
            uid: meta.uid.clone(),
            owner: owner.map(|owner| owner.uid.clone()),
            version: meta.resource_version.clone(),
        }
    }

    /// Returns true if the other one differs in nothing that needs a new look.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        (self.facts, &self.owner) == (other.facts, &other.owner)
    }

    /// The number of the last transition of this agent instance that became an Event.
    pub(crate) fn last_transition(&self, instance: &str) -> Option<u64> {
        let agent = self.agent.as_ref().filter(|agent| agent.instance == instance)?;
        u64::try_from(agent.last_transition).ok()
    }
}

/// A digest of the status. It leaves out figures that change all the time, and facts that do not justify a write of
/// their own: the profile that is wanted, and which of several good upstreams is followed. It is valid within one run
/// of the program.
pub(crate) fn facts(status: &NodeClockStatus) -> u64 {
    let mut facts = status.clone();
    (facts.offset, facts.jitter, facts.error_bound, facts.frequency) = (None, None, None, None);
    (facts.reported_at, facts.updated_at) = (None, None);
    (facts.policy, facts.reference) = (None, None);
    if let Some(profile) = &mut facts.profile {
        profile.wanted = None;
    }
    if let Some(agent) = &mut facts.agent {
        agent.last_transition = 0;
    }
    let with_numbers = |each: &&mut Condition| !condition::WITHOUT_NUMBERS.contains(&each.type_.as_str());
    let unknown = |each: &&mut Condition| each.status == "Unknown";
    for condition in facts.conditions.iter_mut().filter(|each| with_numbers(each) || unknown(each)) {
        condition.message.clear();
    }
    for source in &mut facts.sources {
        let SourceStatus { name, address, state, .. } = std::mem::take(source);
        // Which of the good sources is followed changes with noise.
        let good = ["Agreeing", "Combined", "Selected"].contains(&state.as_str());
        *source = SourceStatus {
            name,
            address,
            state: if good { String::new() } else { state },
            ..SourceStatus::default()
        };
    }
    if let Some(rtc) = &mut facts.rtc {
        *rtc = RtcStatus { health: std::mem::take(&mut rtc.health), ..RtcStatus::default() };
    }
    if let Some(server) = &mut facts.server {
        *server = ServerStatus { serving: server.serving, ..ServerStatus::default() };
    }
    let mut digest = DefaultHasher::new();
    // A struct of texts and numbers can always be written as JSON.
    serde_json::to_string(&facts).unwrap_or_default().hash(&mut digest);
    digest.finish()
}
