//! Makes Events of each transition of a node (except routine ones), of each unproven agent, and of what becomes of a
//! policy. What concerns a clock is told at the Node and at its NodeClock, since `kubectl describe` shows the Events of
//! one object. An Event's name is derived from its content, so the API server refuses a second one, also from another
//! replica or after a restart.
use api::{NodeClock, RolloutRequest, RolloutState, RolloutStatus, RolloutVerb, TimeSyncPolicyStatus};
use contract::{Report, Transition, TransitionKind, text_hash};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::Resource;

use crate::{
    apply::FIELD_MANAGER,
    build::PreparedNode,
    collect::Impostor,
    condition::{
        self, ACCEPTED, ROLLED_OUT,
        reason::{AGENT_NOT_PROVEN, PROFILE_REFUSED, SECRET_MISSING, TIER_EMPTY, WRITE_REFUSED},
    },
    node_conditions,
    stored_node_clock::StoredNodeClock,
    validate::Policy,
};

/// The namespace of Events about objects without a namespace, as kubectl expects.
pub(crate) const NAMESPACE: &str = "default";
/// The API server takes 1024 bytes.
const LONGEST_NOTE: usize = 1024;

/// Transitions of the report for which no Event was sent yet. `last_sent` is the number of the last one that became an
/// Event, of this instance.
pub(crate) fn unsent(report: &Report, last_sent: Option<u64>) -> impl Iterator<Item = &Transition> {
    let last = last_sent.unwrap_or(0);
    report.transitions.iter().filter(move |transition| transition.number > last)
}

/// Drops the transitions that the NodeClock counts as sent. Otherwise they would stay in memory for each of thousands
/// of nodes.
pub(crate) fn drop_sent(report: &mut Report, known: Option<&StoredNodeClock>) {
    let last_sent = known.and_then(|known| known.last_transition(&report.instance)).unwrap_or(0);
    report.transitions.retain(|transition| transition.number > last_sent);
    report.transitions.shrink_to_fit();
}

/// The Events of a transition; none for routine transitions.
pub(crate) fn of_transition(
    node: &PreparedNode,
    known: Option<&StoredNodeClock>,
    instance: &str,
    transition: &Transition,
    now: Timestamp,
) -> Vec<Event> {
    let Some((type_, action)) = type_and_action(transition.kind) else { return vec![] };
    let name = format!("{}.{}.{}", node.name(), text_hash(instance), transition.number);
    at_node_and_clock(node, known, &name, |name, regarding| {
        event(name, regarding, type_, transition.kind.as_str(), action, &transition.message, now)
    })
}

/// The Event at the Node, and the same at its NodeClock, if there is one.
fn at_node_and_clock(
    node: &PreparedNode,
    known: Option<&StoredNodeClock>,
    name: &str,
    make: impl Fn(String, ObjectReference) -> Event,
) -> Vec<Event> {
    let clock = known.and_then(|known| known.uid.clone()).map(|uid| ObjectReference {
        api_version: Some(NodeClock::api_version(&()).into_owned()),
        kind: Some(NodeClock::kind(&()).into_owned()),
        name: Some(node.facts.name.clone()),
        uid: Some(uid),
        ..ObjectReference::default()
    });
    let at_clock = clock.map(|clock| make(format!("{name}.clock"), clock));
    [make(name.to_owned(), about(node))].into_iter().chain(at_clock).collect()
}

/// Type and action of the Event of such a transition; none for routine transitions.
pub(crate) fn type_and_action(kind: TransitionKind) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        TransitionKind::Synchronized | TransitionKind::SynchronizationRegained => ("Normal", "Synchronize"),
        TransitionKind::SynchronizationLost | TransitionKind::LocalReference => ("Warning", "Synchronize"),
        TransitionKind::UpstreamsUnreachable => ("Warning", "Measure"),
        TransitionKind::UpstreamsReachable => ("Normal", "Measure"),
        TransitionKind::Stepped => ("Normal", "Step"),
        TransitionKind::LeapSecond => ("Normal", "Leap"),
        TransitionKind::CorrectionRefused => ("Warning", "Correct"),
        TransitionKind::ExternalStep | TransitionKind::Conflict => ("Warning", "Watch"),
        TransitionKind::Resumed | TransitionKind::ConflictEnded => ("Normal", "Watch"),
        TransitionKind::TimezoneChanged => ("Normal", "SetTimezone"),
        TransitionKind::TimezoneFailed => ("Warning", "SetTimezone"),
        TransitionKind::ProfileRefused => ("Warning", "Configure"),
        TransitionKind::ServingFailed => ("Warning", "Serve"),
        TransitionKind::HttpPortTaken => ("Warning", "Listen"),
        TransitionKind::RTCWriteFailed => ("Warning", "WriteRTC"),
        TransitionKind::InternalError => ("Warning", "Run"),
        TransitionKind::StateExposed => ("Warning", "KeepState"),
        // A transition of an unknown kind, from a newer agent, waits for a newer operator.
        TransitionKind::ProfileApplied | TransitionKind::RTCWritten | TransitionKind::Unknown => return None,
    })
}

/// The Events of a node where a process answers that is not proven to be its agent: one per hour for each pod.
pub(crate) fn of_impostor(
    node: &PreparedNode,
    known: Option<&StoredNodeClock>,
    pod: &str,
    impostor: &Impostor,
    now: Timestamp,
) -> Vec<Event> {
    let hour = now.as_second().div_euclid(3600);
    let name = format!("{}.{}.unproven", node.name(), text_hash(&format!("{pod} {hour}")));
    let note = node_conditions::unproven(impostor);
    at_node_and_clock(node, known, &name, |name, regarding| {
        event(name, regarding, "Warning", AGENT_NOT_PROVEN, "Collect", &note, now)
    })
}

fn about(node: &PreparedNode) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(node.facts.name.clone()),
        uid: Some(node.facts.uid.clone()),
        ..ObjectReference::default()
    }
}

/// The reasons of the condition RolledOut that are told as an Event: each needs a user.
const TROUBLES: [&str; 4] = [SECRET_MISSING, TIER_EMPTY, PROFILE_REFUSED, WRITE_REFUSED];

/// The Event of a policy whose profile cannot go to its nodes, or not with all that it names.
pub(crate) fn of_trouble(policy: &Policy, new: &TimeSyncPolicyStatus, now: Timestamp) -> Option<Event> {
    let rolled_out = condition::find(&new.conditions, ROLLED_OUT)?;
    let before = condition::find(&policy.status.conditions, ROLLED_OUT);
    let is_new = before.is_none_or(|before| before.reason != rolled_out.reason);
    let reason = TROUBLES.into_iter().find(|trouble| is_new && *trouble == rolled_out.reason)?;
    let message = &rolled_out.message;
    // The same trouble may come back after it has ended.
    let minute = now.as_second().div_euclid(60);
    let generation = policy.generation.unwrap_or_default();
    let content = text_hash(&format!("{reason} {minute} {message}"));
    let name = format!("{}.{content}.{generation}", policy.name);
    Some(event(name, policy.reference.clone(), "Warning", reason, "RollOut", message, now))
}

/// The Event of a policy that has just been refused.
pub(crate) fn of_refusal(policy: &Policy, new: &TimeSyncPolicyStatus, now: Timestamp) -> Option<Event> {
    let refused = condition::find(&new.conditions, ACCEPTED).filter(|accepted| accepted.status == "False")?;
    let before = condition::find(&policy.status.conditions, ACCEPTED);
    if before.is_some_and(|before| before.status == refused.status && before.message == refused.message) {
        return None;
    }
    let generation = policy.generation.unwrap_or_default();
    let name = format!("{}.{}.{generation}", policy.name, text_hash(&refused.message));
    Some(event(name, policy.reference.clone(), "Warning", "PolicyRefused", "Validate", &refused.message, now))
}

/// The Event of a rollout whose state is another one than in the stored status.
pub(crate) fn of_rollout(policy: &Policy, new: &TimeSyncPolicyStatus, now: Timestamp) -> Option<Event> {
    use RolloutState::{Aborted, Done, Paused, Progressing};
    let new = new.rollout.as_ref()?;
    let before = policy.status.rollout.as_ref();
    let RolloutStatus { state, profile, generation: _, last_good, paused, message, acted, excused } = new;
    let was = before.filter(|before| before.profile == *profile).map(|before| before.state);
    let (type_, reason, note) = match (was, state) {
        (Some(Paused), Paused) | (Some(Aborted), Aborted) | (None, Progressing) => return None,
        (_, Paused) => {
            let why = paused.map_or("", |reason| reason.as_str());
            let hash = profile.rsplit('.').next().unwrap_or_default();
            let ask = |verb| RolloutRequest { verb, hash }.anew(acted.as_deref());
            let nodes = if message.is_empty() { String::new() } else { format!(": {message}") };
            let note = format!(
                "The rollout of profile {profile} is paused, {why}{nodes}. Annotate the policy with \
                 timesync.dev/rollout={} or {}, or edit it",
                ask(RolloutVerb::Resume),
                ask(RolloutVerb::Abort)
            );
            ("Warning", "RolloutPaused", note)
        }
        (Some(Paused | Aborted), Progressing) => {
            ("Normal", "RolloutResumed", format!("The rollout of profile {profile} goes on"))
        }
        (_, Aborted) => {
            let good = last_good.as_deref().filter(|good| good != profile);
            let runs = good.map_or_else(String::new, |good| format!("; nodes have {good} again"));
            ("Normal", "RolloutAborted", format!("The rollout of profile {profile} was aborted{runs}"))
        }
        (_, Done) if before.is_some_and(|before| before.state != Done || before.profile != *profile) => {
            ("Normal", "RolledOut", format!("All nodes have profile {profile}"))
        }
        (_, Done | Progressing) => return None,
    };
    let generation = policy.generation.unwrap_or_default();
    let before = before.map(|before| before.message.as_str());
    let content = format!("{reason} {profile} {acted:?} {before:?} {message} {excused:?}");
    let name = format!("{}.{}.{generation}", policy.name, text_hash(&content));
    Some(event(name, policy.reference.clone(), type_, reason, "RollOut", &note, now))
}

fn event(
    name: String,
    regarding: ObjectReference,
    type_: &str,
    reason: &str,
    action: &str,
    note: &str,
    now: Timestamp,
) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        regarding: Some(regarding),
        type_: Some(type_.to_owned()),
        reason: Some(reason.to_owned()),
        action: Some(action.to_owned()),
        note: Some(note[..note.floor_char_boundary(LONGEST_NOTE)].to_owned()),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(FIELD_MANAGER.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        collect::Unproven,
        fixtures::{prepared_node, report},
    };

    fn transition(number: u64, kind: TransitionKind) -> Transition {
        Transition { number, at: 0.0, kind, message: "Stepped by 3.000s.".to_owned() }
    }

    #[test]
    fn each_transition_is_told_once() {
        let mut report = report();
        report.transitions = (1..=4).map(|number| transition(number, TransitionKind::Stepped)).collect();
        let numbers =
            |last_sent| unsent(&report, last_sent).map(|transition| transition.number).collect::<Vec<_>>();
        assert_eq!((numbers(None), numbers(Some(3)), numbers(Some(9))), (vec![1, 2, 3, 4], vec![4], vec![]));
    }

    #[test]
    fn each_change_of_a_rollout_is_told_once() {
        use RolloutState::{Aborted, Done, Paused, Progressing};
        let rollout = |state, profile: &str, message: &str| {
            let json = serde_json::json!({"state": state, "profile": profile, "message": message});
            TimeSyncPolicyStatus {
                rollout: Some(serde_json::from_value(json).unwrap()),
                ..TimeSyncPolicyStatus::default()
            }
        };
        let told = |before: Option<(RolloutState, &str)>, state, message| {
            let before = before.map(|(state, profile)| rollout(state, profile, "")).unwrap_or_default();
            let yaml = "{metadata: {name: p, generation: 3}, spec: {stratum: {local: 10}}}";
            let fetched = crate::fetch::Fetched {
                policies: vec![std::sync::Arc::new(serde_norway::from_str(yaml).unwrap())],
                ..crate::fetch::Fetched::default()
            };
            let mut policy = crate::validate::validate(fetched).policies.remove(0);
            policy.status = before;
            of_rollout(&policy, &rollout(state, "p.00000002", message), Timestamp::UNIX_EPOCH)
        };
        let reason = |before, state| {
            let event = told(before, state, "n1 (Unreachable)");
            event.map(|event| (event.reason.unwrap(), event.type_.unwrap()))
        };
        let event = |reason: &str, type_: &str| Some((reason.to_owned(), type_.to_owned()));
        let (this, former) = ("p.00000002", "p.00000001");
        assert_eq!(reason(Some((Progressing, this)), Paused), event("RolloutPaused", "Warning"));
        assert_eq!(reason(Some((Done, former)), Paused), event("RolloutPaused", "Warning"));
        assert_eq!(reason(Some((Paused, this)), Progressing), event("RolloutResumed", "Normal"));
        assert_eq!(reason(Some((Paused, this)), Aborted), event("RolloutAborted", "Normal"));
        assert_eq!(reason(Some((Progressing, this)), Done), event("RolledOut", "Normal"));
        for (before, same) in [(Some((Paused, this)), Paused), (Some((Done, this)), Done), (None, Done)] {
            assert_eq!(reason(before, same), None, "{same:?}");
        }
        assert_eq!(reason(Some((Done, former)), Progressing), None);
        let note = told(Some((Progressing, this)), Paused, "n1 (Unreachable)").unwrap().note.unwrap();
        assert!(note.contains("n1 (Unreachable)") && note.contains("resume:00000002"), "{note}");
        let name = |message| told(Some((Progressing, this)), Paused, message).unwrap().metadata.name;
        assert_eq!(name("a"), name("a"));
        assert_ne!(name("a"), name("b"));
    }

    #[test]
    fn an_impostor_is_told_once_an_hour() {
        let impostor = Impostor { address: "192.0.2.1:9817".to_owned(), why: Unproven::Silent };
        let at = |secs| {
            let time = Timestamp::from_second(secs).unwrap();
            let event = of_impostor(&prepared_node(), None, "pod", &impostor, time).remove(0);
            assert_eq!(
                (event.reason.as_deref(), event.type_.as_deref()),
                (Some("AgentNotProven"), Some("Warning"))
            );
            assert!(event.note.unwrap().contains("192.0.2.1:9817"));
            event.metadata.name.unwrap()
        };
        assert_eq!(at(7200), at(10_799));
        assert_ne!(at(7200), at(10_800));
    }

    #[test]
    fn an_event_names_what_it_tells() {
        let node = prepared_node();
        let now = Timestamp::UNIX_EPOCH;
        let made = |instance: &str, known: Option<&StoredNodeClock>| {
            of_transition(&node, known, instance, &transition(4, TransitionKind::SynchronizationLost), now)
        };
        let event = made("i1", None).remove(0);
        assert_eq!(event.reason.as_deref(), Some("SynchronizationLost"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert_eq!(event.metadata.name, made("i1", None)[0].metadata.name);
        assert_ne!(event.metadata.name, made("i2", None)[0].metadata.name);
        let known = StoredNodeClock { uid: Some("c".to_owned()), ..StoredNodeClock::default() };
        let both = made("i1", Some(&known));
        let regarding = |index: usize| both[index].regarding.clone().unwrap();
        assert_eq!((both.len(), &both[0].metadata.name), (2, &event.metadata.name));
        assert_eq!(
            (regarding(0).kind.as_deref(), regarding(1).kind.as_deref()),
            (Some("Node"), Some("NodeClock"))
        );
        assert_eq!(regarding(1).uid.as_deref(), Some("c"));
        assert_ne!(both[0].metadata.name, both[1].metadata.name);
        let routine = transition(5, TransitionKind::ProfileApplied);
        assert!(of_transition(&node, Some(&known), "i1", &routine, now).is_empty());
    }

    #[test]
    fn a_trouble_of_a_policy_is_told_when_it_begins() {
        let yaml = "{metadata: {name: p, generation: 3}, spec: {stratum: {local: 10}}}";
        let fetched = crate::fetch::Fetched {
            policies: vec![std::sync::Arc::new(serde_norway::from_str(yaml).unwrap())],
            ..crate::fetch::Fetched::default()
        };
        let policy = crate::validate::validate(fetched).policies.remove(0);
        let status = |reason: &'static str| {
            let finding = crate::condition::Finding::new(Some(false), reason, "Secret keys is missing.");
            let condition =
                crate::condition::condition(ROLLED_OUT, finding, &[], None, Timestamp::UNIX_EPOCH);
            TimeSyncPolicyStatus { conditions: vec![condition], ..TimeSyncPolicyStatus::default() }
        };
        let told = |before: &'static str, now: &'static str| {
            let policy = Policy { status: status(before), ..policy.clone() };
            of_trouble(&policy, &status(now), Timestamp::UNIX_EPOCH)
        };
        let event = told("AllNodes", SECRET_MISSING).unwrap();
        assert_eq!(event.reason.as_deref(), Some(SECRET_MISSING));
        assert_eq!(event.note.as_deref(), Some("Secret keys is missing."));
        assert!(told(SECRET_MISSING, SECRET_MISSING).is_none());
        assert!(told(SECRET_MISSING, "AllNodes").is_none() && told("AllNodes", "InProgress").is_none());
    }
}
