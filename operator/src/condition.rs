//! Conditions: their types and reasons as constants, and how a condition follows from the one before. Pure.
use contract::limits;
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// What kstatus (helm 4, Flux) waits for. Of a policy: it is accepted and rolled out, whatever the state of the clocks,
/// since an outage of upstreams must not fail a deployment. Of a node: its clock is synchronised.
pub(crate) const READY: &str = "Ready";
/// Of a policy: the spec can be carried out.
pub(crate) const ACCEPTED: &str = "Accepted";
/// Of a policy: every node runs its profile.
pub(crate) const ROLLED_OUT: &str = "RolledOut";
/// Of a node: its clock is synchronised. Of a policy: the clocks of all its nodes are.
pub(crate) const SYNCHRONIZED: &str = "Synchronized";
/// Of a node: another process steers the clock too. Of a policy: this is so on at least one node.
pub(crate) const CONFLICT: &str = "Conflict";
/// Of a node: at least one upstream gives time. Of a policy: this is so on every node.
pub(crate) const UPSTREAMS_REACHABLE: &str = "UpstreamsReachable";
/// Of a node: the hardware clock would give the right time at the next boot.
pub(crate) const RTC_HEALTHY: &str = "RTCHealthy";
/// Of a node: its NTP server's port is open.
pub(crate) const SERVING: &str = "Serving";

/// Of a policy with `nodeTaint`: nodes qualify for the taint, and do not get it.
pub(crate) const TAINTS_HELD: &str = "TaintsHeld";

/// The conditions whose messages change only when something happens.
pub(crate) const WITHOUT_NUMBERS: [&str; 3] = [CONFLICT, UPSTREAMS_REACHABLE, SERVING];

/// Reasons that do not come from an agent.
pub(crate) mod reason {
    /// Accepted: the policy has no fault.
    pub(crate) const VALID: &str = "Valid";
    /// RolledOut: each node runs the profile.
    pub(crate) const ALL_NODES: &str = "AllNodes";
    /// RolledOut: some nodes do not run the profile yet.
    pub(crate) const IN_PROGRESS: &str = "InProgress";
    /// RolledOut: the staged rollout is paused.
    pub(crate) const PAUSED: &str = "Paused";
    /// RolledOut: a user aborted the staged rollout.
    pub(crate) const ABORTED: &str = "Aborted";
    /// RolledOut: an agent has read the profile, but cannot run it.
    pub(crate) const PROFILE_REFUSED: &str = "ProfileRefused";
    /// RolledOut: the ConfigMap or the Secret that the agents mount cannot be written.
    pub(crate) const WRITE_REFUSED: &str = "WriteRefused";
    /// RolledOut: a Secret does not hold what the policy names.
    pub(crate) const SECRET_MISSING: &str = "SecretMissing";
    /// RolledOut: an upstream with nodes matches none.
    pub(crate) const TIER_EMPTY: &str = "TierEmpty";
    /// Accepted: the policy has no fault, but nodes that it asks do not serve what it asks for.
    pub(crate) const TIER_NOT_SERVING: &str = "TierNotServing";
    /// RolledOut, Synchronized, UpstreamsReachable, Conflict: the policy has no nodes.
    pub(crate) const NO_NODES: &str = "NoNodes";
    /// The same conditions: the policy has nodes, but none of them has an agent.
    pub(crate) const NO_AGENTS: &str = "NoAgents";
    /// Ready: the policy is accepted, and every node runs its profile.
    pub(crate) const ROLLED_OUT_EVERYWHERE: &str = "RolledOut";
    /// Synchronized, of a policy: all nodes are, within the thresholds.
    pub(crate) const ALL_SYNCHRONIZED: &str = "AllSynchronized";
    /// Synchronized, of a policy: all nodes are, but some of them agree with a local clock only.
    pub(crate) const LOCAL_REFERENCE: &str = "LocalReference";
    /// Synchronized, of a policy: some nodes are not.
    pub(crate) const NODES_UNSYNCHRONIZED: &str = "NodesUnsynchronized";
    /// Synchronized, Conflict, of a policy: some nodes do not report.
    pub(crate) const NODES_UNKNOWN: &str = "NodesUnknown";
    /// Synchronized, of a policy: a node's offset was beyond the threshold for too long.
    pub(crate) const OFFSET_EXCEEDED: &str = "OffsetExceeded";
    /// Synchronized, of a policy: two nodes differed by more than the threshold for too long.
    pub(crate) const SPREAD_EXCEEDED: &str = "SpreadExceeded";
    /// UpstreamsReachable, of a policy: on every node at least one upstream gives time.
    pub(crate) const ALL_REACHABLE: &str = "AllReachable";
    /// UpstreamsReachable, of a policy: on some nodes no upstream gives time.
    pub(crate) const NODES_UNREACHABLE: &str = "NodesUnreachable";
    /// Conflict, of a policy: on some nodes another process steers the clock.
    pub(crate) const NODES_CONFLICTING: &str = "NodesConflicting";
    /// Conflict, of a node: another process steers the clock.
    pub(crate) const SECOND_WRITER: &str = "SecondWriter";
    /// Conflict: no other process was seen to steer the clock.
    pub(crate) const ALONE: &str = "Alone";
    /// Conflict, of a node: the agent does not steer the clock, so there can be no conflict.
    pub(crate) const OBSERVING: &str = "Observing";
    /// Conflict, Serving, of a node: no profile runs.
    pub(crate) const NO_PROFILE: &str = "NoProfile";
    /// UpstreamsReachable: all upstreams give time, or some do.
    pub(crate) const REACHABLE: &str = "Reachable";
    /// UpstreamsReachable: no upstream answers.
    pub(crate) const UNREACHABLE: &str = "Unreachable";
    /// UpstreamsReachable: some upstreams answer, but none can be used.
    pub(crate) const UNUSABLE: &str = "Unusable";
    /// UpstreamsReachable: the profile has no upstreams.
    pub(crate) const NO_UPSTREAMS: &str = "NoUpstreams";
    /// Serving: all ports are open.
    pub(crate) const OPEN: &str = "Open";
    /// Serving: requests are answered, but a part of what the policy asks for is missing.
    pub(crate) const PARTIAL: &str = "Partial";
    /// Serving: the policy does not ask for an NTP server.
    pub(crate) const DISABLED: &str = "Disabled";
    /// Serving: the port is about to be opened.
    pub(crate) const OPENING: &str = "Opening";
    /// Serving: another program has the port.
    pub(crate) const PORT_TAKEN: &str = "PortTaken";
    /// Serving: the agent has no right to open the port.
    pub(crate) const NOT_PERMITTED: &str = "NotPermitted";
    /// Serving: the port could not be opened, for another reason.
    pub(crate) const OPEN_FAILED: &str = "OpenFailed";
    /// Serving: the node has none of the addresses on which it is to serve.
    pub(crate) const NO_ADDRESS: &str = "NoAddress";
    /// Serving: the port was open, and then its socket failed.
    pub(crate) const SOCKET_BROKEN: &str = "SocketBroken";
    /// Any condition of a node: its agent has not reported for 90 s.
    pub(crate) const AGENT_UNREACHABLE: &str = "AgentUnreachable";
    /// Any condition of a node: the process that answers at the agent's address has not proven to be the agent.
    pub(crate) const AGENT_NOT_PROVEN: &str = "AgentNotProven";
    /// ClockSynchronized, of a Node: the node has booted since its agent reported.
    pub(crate) const REBOOTED: &str = "Rebooted";
    /// TaintsHeld: more nodes qualify than maxNodes allows.
    pub(crate) const TOO_MANY_NODES: &str = "TooManyNodes";
    /// TaintsHeld: each node that qualifies has the taint.
    pub(crate) const WITHIN_MAX_NODES: &str = "WithinMaxNodes";
    /// TaintsHeld: the operator does not write taints.
    pub(crate) const SWITCHED_OFF: &str = "SwitchedOff";
    /// Any condition: the release was uninstalled.
    pub(crate) const UNINSTALLED: &str = "Uninstalled";
    /// Any condition of a node: it has no agent.
    pub(crate) const NO_AGENT: &str = "NoAgent";
    /// Any condition of a node: its agent has not reported yet. UpstreamsReachable: the first answers are awaited.
    pub(crate) const WAITING: &str = "Waiting";
}

/// The present value of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// True, False, or Unknown.
    pub(crate) status: Option<bool>,
    /// The reason, one word.
    pub(crate) reason: &'static str,
    /// The message, a sentence.
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn new(status: Option<bool>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }
}

/// The condition of this type.
pub(crate) fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The condition that follows from a finding. Its transition time changes only when its status does. A long message is
/// cut.
pub(crate) fn condition(
    type_: &str,
    finding: Finding,
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = status_word(finding.status);
    let mut message = finding.message;
    limits::limit_message(&mut message);
    let before = find(previous, type_).filter(|condition| condition.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
    }
}

/// The status of a condition as the API has it.
pub(crate) fn status_word(status: Option<bool>) -> &'static str {
    match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
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

    /// Users look up reasons in the docs: each constant of this file must be in docs/api.md.
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
