//! Conditions: their types and reasons, each a constant, and how one follows from the last. Pure.
use contract::limits;
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// What kstatus (helm 4, Flux) waits for. Of a policy: it is accepted and rolled out, whatever the clocks do: an outage
/// of upstreams must not fail a deployment. Of a node: its clock is synchronised.
pub(crate) const READY: &str = "Ready";
/// Of a policy: the spec can be carried out.
pub(crate) const ACCEPTED: &str = "Accepted";
/// Of a policy: every node runs it.
pub(crate) const ROLLED_OUT: &str = "RolledOut";
/// Of a policy and of a node: the clock is, or all of them are.
pub(crate) const SYNCHRONIZED: &str = "Synchronized";
/// Of a policy and of a node: somebody else steers the clock, or one of them.
pub(crate) const CONFLICT: &str = "Conflict";
/// Of a node: at least one upstream gives time. Of a policy: so it is on every node.
pub(crate) const UPSTREAMS_REACHABLE: &str = "UpstreamsReachable";
/// Of a node: the hardware clock would start it with the right time.
pub(crate) const RTC_HEALTHY: &str = "RTCHealthy";
/// Of a node: its NTP server's port is open.
pub(crate) const SERVING: &str = "Serving";

/// Reasons that are not an agent's own words.
pub(crate) mod reason {
    /// Accepted: nothing stands against it.
    pub(crate) const VALID: &str = "Valid";
    /// RolledOut: each node runs the profile.
    pub(crate) const ALL_NODES: &str = "AllNodes";
    /// RolledOut: some do not, yet.
    pub(crate) const IN_PROGRESS: &str = "InProgress";
    /// RolledOut: an agent has read the profile and cannot carry it out.
    pub(crate) const PROFILE_REFUSED: &str = "ProfileRefused";
    /// RolledOut: the ConfigMap or the Secret that the agents mount cannot be written.
    pub(crate) const WRITE_REFUSED: &str = "WriteRefused";
    /// RolledOut: a Secret does not hold what the policy names.
    pub(crate) const SECRET_MISSING: &str = "SecretMissing";
    /// RolledOut, Synchronized, UpstreamsReachable, Conflict: no node is under this policy.
    pub(crate) const NO_NODES: &str = "NoNodes";
    /// The same: nodes are, and none of them has an agent.
    pub(crate) const NO_AGENTS: &str = "NoAgents";
    /// Ready: accepted, and every node runs it.
    pub(crate) const ROLLED_OUT_EVERYWHERE: &str = "RolledOut";
    /// Synchronized, of a policy: all nodes are, within the thresholds.
    pub(crate) const ALL_SYNCHRONIZED: &str = "AllSynchronized";
    /// Synchronized, of a policy: all nodes are, and some of them agree with a local clock alone.
    pub(crate) const LOCAL_REFERENCE: &str = "LocalReference";
    /// Synchronized, of a policy: some nodes are not.
    pub(crate) const NODES_UNSYNCHRONIZED: &str = "NodesUnsynchronized";
    /// Synchronized, Conflict, of a policy: some nodes are not heard of.
    pub(crate) const NODES_UNKNOWN: &str = "NodesUnknown";
    /// Synchronized, of a policy: a node's offset was beyond the threshold for too long.
    pub(crate) const OFFSET_EXCEEDED: &str = "OffsetExceeded";
    /// Synchronized, of a policy: two nodes differed by more than the threshold for too long.
    pub(crate) const SPREAD_EXCEEDED: &str = "SpreadExceeded";
    /// UpstreamsReachable, of a policy: so it is on all nodes.
    pub(crate) const ALL_REACHABLE: &str = "AllReachable";
    /// UpstreamsReachable, of a policy: on some nodes no upstream gives time.
    pub(crate) const NODES_UNREACHABLE: &str = "NodesUnreachable";
    /// Conflict, of a policy: on some nodes there is one.
    pub(crate) const NODES_CONFLICTING: &str = "NodesConflicting";
    /// Conflict, of a node: somebody else writes the clock.
    pub(crate) const SECOND_WRITER: &str = "SecondWriter";
    /// Conflict: nobody else was seen to write it.
    pub(crate) const ALONE: &str = "Alone";
    /// Conflict, of a node: the agent does not steer, so there is nobody to fight with.
    pub(crate) const OBSERVING: &str = "Observing";
    /// Conflict, Serving, of a node: no profile runs.
    pub(crate) const NO_PROFILE: &str = "NoProfile";
    /// UpstreamsReachable: all, or some, give time.
    pub(crate) const REACHABLE: &str = "Reachable";
    /// UpstreamsReachable: none answers.
    pub(crate) const UNREACHABLE: &str = "Unreachable";
    /// UpstreamsReachable: some answer, and none of them can be used.
    pub(crate) const UNUSABLE: &str = "Unusable";
    /// UpstreamsReachable: there are none.
    pub(crate) const NO_UPSTREAMS: &str = "NoUpstreams";
    /// Serving: all ports are open.
    pub(crate) const OPEN: &str = "Open";
    /// Serving: requests are answered, but not all that the policy asks for is there.
    pub(crate) const PARTIAL: &str = "Partial";
    /// Serving: the policy says that time is not served.
    pub(crate) const DISABLED: &str = "Disabled";
    /// Serving: the port is about to be opened.
    pub(crate) const OPENING: &str = "Opening";
    /// Serving: another program has the port.
    pub(crate) const PORT_TAKEN: &str = "PortTaken";
    /// Serving: the agent may not open it.
    pub(crate) const NOT_PERMITTED: &str = "NotPermitted";
    /// Serving: it could not be opened, for another reason.
    pub(crate) const OPEN_FAILED: &str = "OpenFailed";
    /// Serving: it was open, and broke.
    pub(crate) const SOCKET_BROKEN: &str = "SocketBroken";
    /// Any, of a node: its agent has not been heard of for 90 s.
    pub(crate) const AGENT_UNREACHABLE: &str = "AgentUnreachable";
    /// Any, of a node: something answers at its agent's address that is not proven to be the agent.
    pub(crate) const AGENT_NOT_PROVEN: &str = "AgentNotProven";
    /// Any: the release was uninstalled.
    pub(crate) const UNINSTALLED: &str = "Uninstalled";
    /// Any, of a node: there is no agent on it.
    pub(crate) const NO_AGENT: &str = "NoAgent";
    /// Any, of a node: its agent has not been heard of yet. UpstreamsReachable: the first answers are awaited.
    pub(crate) const WAITING: &str = "Waiting";
}

/// What a condition says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// True, False, or unknown.
    pub(crate) status: Option<bool>,
    /// One word.
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn new(status: Option<bool>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }
}

/// The condition that follows from a finding: its time changes only when its status does. A message is cut to what a
/// reader and an object of the cluster can bear.
pub(crate) fn condition(
    type_: &str,
    finding: Finding,
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = match finding.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let mut message = finding.message;
    limits::message(&mut message);
    let before = previous.iter().find(|condition| condition.type_ == type_ && condition.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_the_last_change_of_status() {
        let at = |secs| Timestamp::from_second(secs).unwrap();
        let unsynchronized = |reason| Finding::new(Some(false), reason, "");
        let first = condition(SYNCHRONIZED, unsynchronized(reason::UNREACHABLE), &[], None, at(1));
        let second = condition(
            SYNCHRONIZED,
            unsynchronized(reason::NO_UPSTREAMS),
            std::slice::from_ref(&first),
            None,
            at(2),
        );
        assert_eq!((second.reason.as_str(), second.last_transition_time.0), (reason::NO_UPSTREAMS, at(1)));
        let third = condition(SYNCHRONIZED, Finding::new(None, reason::NO_AGENT, ""), &[second], None, at(3));
        assert_eq!((third.status.as_str(), third.last_transition_time.0), ("Unknown", at(3)));
    }

    /// Users look reasons up: each constant of this file stands in docs/api.md.
    #[test]
    fn every_reason_is_documented() {
        let docs = include_str!("../../docs/api.md");
        let words = include_str!("condition.rs").lines().filter_map(|line| line.split_once(": &str = \""));
        let words: Vec<_> = words.filter_map(|(_, word)| word.strip_suffix("\";")).collect();
        assert!(words.len() > 15);
        for word in words {
            assert!(docs.contains(&format!("`{word}`")), "{word} is not in docs/api.md");
        }
    }
}
