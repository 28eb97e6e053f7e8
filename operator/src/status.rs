//! The last step: what a policy's status says. Pure: what was applied and what was heard in, a status out. The operator
//! itself remembers only since when a deviation lasts.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use api::{NodeCounts, TimeSyncPolicyStatus, WorstNode};
use contract::{Assignment, ConflictReport, Profile, Reason, Report, approximately};
use k8s_openapi::jiff::Timestamp;

use crate::{
    apply::Applied,
    build::{PreparedNode, PreparedPolicy},
    condition::{ACCEPTED, CONFLICT, Finding, ROLLED_OUT, SYNCHRONIZED, condition, reason},
    keys::Supply,
    reports::{Heard, Reports},
};

/// What a policy's status says, with the numbers behind its texts.
#[derive(Clone, Debug)]
pub(crate) struct PolicyStatus {
    pub(crate) status: TimeSyncPolicyStatus,
    pub(crate) counts: NodeCounts,
    /// Offset of the worst node, seconds.
    pub(crate) worst: Option<f64>,
    /// Largest difference between two nodes, seconds.
    pub(crate) spread: Option<f64>,
}

/// Since when a policy's offset or spread is beyond its threshold.
#[derive(Debug, Default)]
pub(crate) struct Deviations {
    since: BTreeMap<(String, &'static str), Instant>,
}

impl Deviations {
    /// Whether the deviation has lasted for `hold`.
    fn lasts(
        &mut self,
        policy: &str,
        what: &'static str,
        deviates: bool,
        hold: Duration,
        now: Instant,
    ) -> bool {
        let key = (policy.to_owned(), what);
        if !deviates {
            self.since.remove(&key);
            return false;
        }
        now.saturating_duration_since(*self.since.entry(key).or_insert(now)) >= hold
    }

    fn retain(&mut self, policies: &BTreeSet<&str>) {
        self.since.retain(|(policy, _), _| policies.contains(policy.as_str()));
    }
}

/// The status of each policy, by name. A policy is left out while one of its agents has not been tried yet: right after
/// a start of the operator, counts would dip for a moment.
pub(crate) fn status(
    applied: &Applied,
    reports: &Reports,
    deviations: &mut Deviations,
    now: Instant,
    time: Timestamp,
) -> BTreeMap<String, PolicyStatus> {
    deviations.retain(&applied.policies.iter().map(|policy| policy.policy.name.as_str()).collect());
    let mut all = BTreeMap::new();
    for policy in &applied.policies {
        let name = &policy.policy.name;
        let nodes = applied.nodes.iter().filter(|node| node.policy() == Some(name));
        let nodes: Vec<_> = nodes.map(|node| Standing { node, heard: reports.of(&node.name, now) }).collect();
        let untried = |each: &Standing<'_>| {
            !each.node.agents.is_empty() && matches!(each.heard, Heard::Waiting { tried: false })
        };
        if !nodes.iter().any(untried) {
            all.insert(name.clone(), of_policy(policy, &nodes, deviations, now, time));
        }
    }
    all
}

/// A node of a policy.
struct Standing<'a> {
    node: &'a PreparedNode,
    heard: Heard<'a>,
}

impl Standing<'_> {
    fn applied(&self) -> bool {
        let running = self.heard.report().and_then(|report| report.profile.as_ref());
        matches!(&self.node.wanted, Assignment::Profile(wanted) if running == Some(wanted))
    }

    /// Its report, if it is synchronised.
    fn synchronized(&self) -> Option<&Report> {
        self.heard.report().filter(|report| report.clock.synchronized)
    }

    /// Who else steers its clock, if somebody does.
    fn conflict(&self) -> Option<&ConflictReport> {
        self.heard.report().and_then(|report| report.conflict.as_ref())
    }

    /// Why there is no report.
    fn silence(&self) -> &'static str {
        match self.heard {
            _ if self.node.agents.is_empty() => reason::NO_AGENT,
            Heard::Unproven(_) => reason::AGENT_NOT_PROVEN,
            Heard::Silent(_) => reason::AGENT_UNREACHABLE,
            Heard::Waiting { .. } | Heard::Report(..) => reason::WAITING,
        }
    }
}

fn of_policy(
    policy: &PreparedPolicy,
    nodes: &[Standing<'_>],
    deviations: &mut Deviations,
    now: Instant,
    time: Timestamp,
) -> PolicyStatus {
    let count = |holds: &dyn Fn(&Standing<'_>) -> bool| {
        i32::try_from(nodes.iter().filter(|node| holds(node)).count()).unwrap_or(i32::MAX)
    };
    let counts = NodeCounts {
        matched: count(&|_| true),
        applied: count(&|node| node.applied()),
        synchronized: count(&|node| node.synchronized().is_some()),
        conflicting: count(&|node| node.conflict().is_some()),
        stepped: count(&|node| node.heard.report().is_some_and(|report| report.clock.steps > 0)),
        without_agent: 0,
    };
    let offsets: Vec<_> = nodes
        .iter()
        .filter_map(|each| {
            let report = each.synchronized()?;
            Some((each.node, report.clock.offset.filter(|offset| offset.is_finite())?, report))
        })
        .collect();
    let worst = offsets.iter().max_by(|(_, a, _), (_, b, _)| a.abs().total_cmp(&b.abs()));
    let spread = match offsets.len() {
        0 | 1 => None,
        _ => {
            let largest = offsets.iter().fold(f64::MIN, |so_far, (_, offset, _)| so_far.max(*offset));
            let smallest = offsets.iter().fold(f64::MAX, |so_far, (_, offset, _)| so_far.min(*offset));
            Some(largest - smallest)
        }
    };
    let worst_offset = worst.map(|(_, offset, _)| *offset);
    let before = &policy.policy.status.conditions;
    let generation = policy.policy.generation;
    let findings = [
        (ACCEPTED, accepted(policy)),
        (ROLLED_OUT, rolled_out(policy, nodes)),
        (SYNCHRONIZED, synchronized(policy, nodes, worst_offset, spread, deviations, now)),
        (CONFLICT, conflict(nodes)),
    ];
    let status = TimeSyncPolicyStatus {
        observed_generation: generation,
        profile: policy.profile.as_ref().map(ToString::to_string),
        nodes: Some(counts.clone()),
        worst: worst.map(|(node, offset, report)| WorstNode {
            node: node.name.clone(),
            offset: approximately(*offset),
            error_bound: report.clock.error_bound.map(approximately),
        }),
        spread: spread.map(approximately),
        conditions: findings
            .map(|(type_, finding)| condition(type_, finding, before, generation, time))
            .into(),
    };
    PolicyStatus { status, counts, worst: worst_offset, spread }
}

fn accepted(policy: &PreparedPolicy) -> Finding {
    match (&policy.policy.wish, &policy.profile) {
        (Ok(_), _) => Finding::new(Some(true), reason::VALID, "The policy can be carried out."),
        (Err(refusal), Some(profile)) => {
            Finding::new(Some(false), refusal.reason(), format!("{refusal}. Profile {profile} goes on."))
        }
        (Err(refusal), None) => Finding::new(Some(false), refusal.reason(), format!("{refusal}.")),
    }
}

fn rolled_out(policy: &PreparedPolicy, nodes: &[Standing<'_>]) -> Finding {
    let lost: String = policy
        .lost
        .iter()
        .map(|(winner, count)| format!(" Policy {winner} takes {} more.", plural(*count)))
        .collect();
    if let Some(lack) = lack_of_keys(policy) {
        return lack;
    }
    if nodes.is_empty() {
        return Finding::new(None, reason::NO_NODES, format!("No node is under this policy.{lost}"));
    }
    let waiting: Vec<_> = nodes.iter().filter(|node| !node.applied()).collect();
    if waiting.is_empty() {
        return Finding::new(
            Some(true),
            reason::ALL_NODES,
            format!("Runs on {}.{lost}", plural(nodes.len())),
        );
    }
    let why = |standing: &&Standing<'_>| {
        let error = standing.heard.report().map(|report| report.profile_error.as_ref());
        let why = match error {
            Some(Some(error)) => format!("{}: {}", error.reason, error.message),
            Some(None) => "not yet".to_owned(),
            None => standing.silence().to_owned(),
        };
        format!("{} ({why})", standing.node.name)
    };
    let refuses = |standing: &&Standing<'_>| {
        let error = standing.heard.report().and_then(|report| report.profile_error.as_ref());
        error.is_some_and(|error| error.reason == "ProfileInvalid")
    };
    let reason = if waiting.iter().any(refuses) { reason::PROFILE_REFUSED } else { reason::IN_PROGRESS };
    let running = nodes.len() - waiting.len();
    let waiting = some(waiting.iter().map(why));
    let message = format!("Runs on {running} of {}; not on {waiting}.{lost}", plural(nodes.len()));
    Finding::new(Some(false), reason, message)
}

/// What to say of a policy whose Secrets do not hold what it names.
fn lack_of_keys(policy: &PreparedPolicy) -> Option<Finding> {
    let goes_on = match &policy.profile {
        Some(profile) => format!("Profile {profile} goes on"),
        None => "Nothing runs".to_owned(),
    };
    let (reason, message) = match &policy.policy.supply {
        Supply::Complete => return None,
        Supply::Kept(why) => {
            (reason::SECRET_MISSING, format!("{goes_on}, with what was there before: {why}."))
        }
        Supply::Missing(why) => (reason::SECRET_MISSING, format!("{goes_on}: {why}.")),
        Supply::Unread(why) => (reason::IN_PROGRESS, format!("{goes_on}: {why}.")),
    };
    Some(Finding::new(Some(false), reason, message))
}

fn synchronized(
    policy: &PreparedPolicy,
    nodes: &[Standing<'_>],
    worst: Option<f64>,
    spread: Option<f64>,
    deviations: &mut Deviations,
    now: Instant,
) -> Finding {
    let name = &policy.policy.name;
    let limits = policy.policy.wish.as_ref().unwrap_or(&Profile::default()).thresholds;
    let hold = limits.hold.as_duration();
    let mut lasts = |what, value: Option<f64>, limit: f64| {
        deviations.lasts(name, what, value.is_some_and(|value| value.abs() > limit), hold, now)
    };
    let offset_lasts = lasts(reason::OFFSET_EXCEEDED, worst, limits.offset.as_secs_f64());
    let spread_lasts = lasts(reason::SPREAD_EXCEEDED, spread, limits.spread.as_secs_f64());
    let all = plural(nodes.len());
    let off = |node: &&Standing<'_>| node.heard.report().is_some() && node.synchronized().is_none();
    let unsynchronized: Vec<_> = nodes.iter().filter(off).collect();
    let silent: Vec<_> = nodes.iter().filter(|node| node.heard.report().is_none()).collect();
    if nodes.is_empty() {
        return Finding::new(None, reason::NO_NODES, "No node is under this policy.");
    }
    if !unsynchronized.is_empty() {
        let why = |node: &&Standing<'_>| {
            let reason = node.heard.report().map_or(node.silence(), |report| report.clock.reason.as_str());
            format!("{} ({reason})", node.node.name)
        };
        let which = some(unsynchronized.iter().chain(&silent).map(why));
        return Finding::new(
            Some(false),
            reason::NODES_UNSYNCHRONIZED,
            format!("Of {all} not synchronised: {which}."),
        );
    }
    if offset_lasts {
        let limit = limits.offset;
        let off = approximately(worst.unwrap_or(f64::NAN));
        return Finding::new(
            Some(false),
            reason::OFFSET_EXCEEDED,
            format!("A node is off by {off}, more than {limit}."),
        );
    }
    if spread_lasts {
        let limit = limits.spread;
        let spread = approximately(spread.unwrap_or(f64::NAN));
        let message = format!("Nodes differ by {spread}, more than {limit}.");
        return Finding::new(Some(false), reason::SPREAD_EXCEEDED, message);
    }
    if !silent.is_empty() {
        let which = some(silent.iter().map(|node| format!("{} ({})", node.node.name, node.silence())));
        return Finding::new(None, reason::NODES_UNKNOWN, format!("Of {all} not heard of: {which}."));
    }
    let local = |node: &&Standing<'_>| {
        node.heard.report().is_some_and(|report| report.clock.reason == Reason::LocalReference)
    };
    let local: Vec<_> = nodes.iter().filter(local).collect();
    if !local.is_empty() {
        let which = some(local.iter().map(|node| node.node.name.clone()));
        let message =
            format!("Of {all} on the time of a local clock, so that UTC is unknown there: {which}.");
        return Finding::new(Some(true), reason::LOCAL_REFERENCE, message);
    }
    Finding::new(Some(true), reason::ALL_SYNCHRONIZED, format!("Synchronised: {all}."))
}

fn conflict(nodes: &[Standing<'_>]) -> Finding {
    if nodes.is_empty() {
        return Finding::new(None, reason::NO_NODES, "No node is under this policy.");
    }
    let all = plural(nodes.len());
    let whom = |node: &Standing<'_>| {
        let suspects = node.conflict().map(|conflict| conflict.suspects.join(", ")).unwrap_or_default();
        if suspects.is_empty() { node.node.name.clone() } else { format!("{} ({suspects})", node.node.name) }
    };
    let conflicting: Vec<_> = nodes.iter().filter(|node| node.conflict().is_some()).collect();
    if !conflicting.is_empty() {
        let which = some(conflicting.iter().map(|node| whom(node)));
        let message = format!(
            "On {} of {all} somebody else steers the clock, so the agents there only observe: {which}.",
            conflicting.len()
        );
        return Finding::new(Some(true), reason::NODES_CONFLICTING, message);
    }
    let silent: Vec<_> = nodes.iter().filter(|node| node.heard.report().is_none()).collect();
    if !silent.is_empty() {
        let which = some(silent.iter().map(|node| format!("{} ({})", node.node.name, node.silence())));
        return Finding::new(None, reason::NODES_UNKNOWN, format!("Of {all} not heard of: {which}."));
    }
    Finding::new(Some(false), reason::ALONE, format!("Nobody else steers a clock of {all}."))
}

fn plural(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

/// The first few of a list, and how many more there are: a message is for reading.
fn some(list: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let list: Vec<_> = list.collect();
    let shown = list[..list.len().min(SHOWN)].join(", ");
    if list.len() > SHOWN { format!("{shown} and {} more", list.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::ByteString;

    use super::*;
    use crate::{
        build::build,
        collect::{Answer, Failure},
        fetch::{AgentPod, Fetched, NodeFacts},
        fixtures::report,
        keys::{Content, Secrets},
        plan::plan,
        validate::validate,
    };

    /// A cluster of `nodes` under one policy, with what each agent says; `None` is a failure to connect.
    fn statuses(spec: &str, said: &[(&str, Option<Report>)], after: Duration) -> PolicyStatus {
        let policy = format!("{{metadata: {{name: default, generation: 3}}, spec: {spec}}}");
        let agent = |node: &str| AgentPod {
            name: format!("agent-{node}"),
            uid: format!("uid-{node}"),
            node: node.to_owned(),
            created: None,
            address: None,
            annotation: None,
        };
        let node = |name: &str| NodeFacts { name: name.to_owned(), ..NodeFacts::default() };
        let validated = validate(Fetched {
            policies: vec![Arc::new(serde_norway::from_str(&policy).unwrap())],
            nodes: said.iter().map(|(name, _)| node(name)).collect(),
            agents: said.iter().map(|(name, _)| agent(name)).collect(),
            secrets: Secrets {
                named: BTreeMap::from([("gone".to_owned(), None)]),
                held: BTreeMap::from([("gone_kept".to_owned(), Content(ByteString(vec![])))]),
                ..Secrets::default()
            },
            ..Fetched::default()
        });
        let plan = plan(&validated);
        let prepared = build(validated, plan, &BTreeMap::new(), &BTreeSet::new()).unwrap();
        let applied =
            Applied { policies: prepared.policies, nodes: prepared.nodes, profiles: prepared.profiles };
        let start = Instant::now();
        let mut reports = Reports::default();
        let mut deviations = Deviations::default();
        let mut last = None;
        for now in [start, start + after] {
            reports.listen_to(&said.iter().map(|(name, _)| *name).collect(), now);
            for (name, report) in said {
                let result = match report {
                    Some(report) => {
                        let mut report = report.clone();
                        report.profile = applied.policies[0].profile.clone();
                        Ok(Arc::new(report))
                    }
                    None => Err(Failure::Timeout),
                };
                let answer = Answer { node: (*name).to_owned(), pod: format!("uid-{name}"), result };
                reports.note(answer, now, Timestamp::UNIX_EPOCH);
            }
            last = status(&applied, &reports, &mut deviations, now, Timestamp::UNIX_EPOCH).remove("default");
        }
        last.unwrap()
    }

    fn with(change: impl Fn(&mut Report)) -> Option<Report> {
        let mut report = report();
        change(&mut report);
        Some(report)
    }

    fn check(found: &PolicyStatus, type_: &str, status: &str, reason: &str, part: &str) {
        let condition = found.status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), (status, reason), "{condition:?}");
        assert!(condition.message.contains(part), "{}", condition.message);
        assert_eq!(condition.observed_generation, Some(3));
    }

    const GOOD: &str = "{stratum: {local: 10}}";

    #[test]
    fn all_well() {
        let behind = with(|_| ());
        let ahead = with(|report| report.clock.offset = Some(100e-6));
        let found = statuses(GOOD, &[("n1", behind), ("n2", ahead)], Duration::ZERO);
        let NodeCounts { matched, applied, synchronized, conflicting, stepped, .. } = found.counts;
        assert_eq!((matched, applied, synchronized, conflicting, stepped), (2, 2, 2, 0, 0));
        let worst = found.status.worst.clone().unwrap();
        assert_eq!((worst.node.as_str(), worst.offset.as_str()), ("n1", "-412us"));
        assert_eq!(found.status.spread.as_deref(), Some("512us"));
        check(&found, "Accepted", "True", "Valid", "");
        check(&found, "RolledOut", "True", "AllNodes", "2 nodes");
        check(&found, "Synchronized", "True", "AllSynchronized", "2 nodes");
        check(&found, "Conflict", "False", "Alone", "2 nodes");
    }

    #[test]
    fn nodes_with_a_second_writer_are_counted_and_a_few_named() {
        let fought = |suspects: &[&str]| {
            let suspects: Vec<_> = suspects.iter().map(|name| (*name).to_owned()).collect();
            with(move |report| {
                report.conflict = Some(ConflictReport {
                    since: 1.0,
                    message: "Foreign frequency".to_owned(),
                    suspects: suspects.clone(),
                });
            })
        };
        let found = statuses(
            GOOD,
            &[
                ("n1", fought(&["chronyd (pid 312)"])),
                ("n2", with(|_| ())),
                ("n3", fought(&[])),
                ("n4", None),
            ],
            Duration::from_secs(91),
        );
        assert_eq!(found.counts.conflicting, 2);
        check(&found, "Conflict", "True", "NodesConflicting", "On 2 of 4 nodes");
        check(&found, "Conflict", "True", "NodesConflicting", ": n1 (chronyd (pid 312)), n3.");
        let names: Vec<_> = (0..9).map(|number| format!("n{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), fought(&[]))).collect();
        let found = statuses(GOOD, &many, Duration::ZERO);
        check(&found, "Conflict", "True", "NodesConflicting", "n4 and 4 more.");
        let silent = statuses(GOOD, &[("n1", with(|_| ())), ("n2", None)], Duration::from_secs(91));
        check(&silent, "Conflict", "Unknown", "NodesUnknown", "n2 (AgentUnreachable)");
    }

    #[test]
    fn an_unsynchronised_node_is_named_with_its_reason() {
        let lost = with(|report| {
            report.clock.synchronized = false;
            report.clock.reason = Reason::NoMajority;
            report.clock.offset = Some(5.0);
        });
        let found = statuses(GOOD, &[("n1", with(|_| ())), ("n2", lost)], Duration::ZERO);
        check(&found, "Synchronized", "False", "NodesUnsynchronized", "n2 (NoMajority)");
        assert_eq!(found.status.worst.as_ref().unwrap().node, "n1", "only synchronised nodes are compared");
        assert_eq!(found.spread, None);
    }

    #[test]
    fn a_silent_agent_is_unknown() {
        let found = statuses(GOOD, &[("n1", with(|_| ())), ("n2", None)], Duration::from_secs(91));
        check(&found, "Synchronized", "Unknown", "NodesUnknown", "n2 (AgentUnreachable)");
        check(&found, "RolledOut", "False", "InProgress", "1 of 2 nodes; not on n2 (AgentUnreachable)");
    }

    #[test]
    fn deviations_count_when_they_last() {
        let off = |after| {
            let off = with(|report| report.clock.offset = Some(60e-3));
            let spec = "{stratum: {local: 10}, thresholds: {offset: 55ms, spread: 1h, hold: 30s}}";
            statuses(spec, &[("n1", off), ("n2", with(|_| ()))], Duration::from_secs(after))
        };
        check(&off(29), "Synchronized", "True", "AllSynchronized", "");
        check(&off(30), "Synchronized", "False", "OffsetExceeded", "60ms, more than 55ms");
        let apart = with(|report| report.clock.offset = Some(40e-3));
        let apart_too = with(|report| report.clock.offset = Some(-40e-3));
        let found = statuses(GOOD, &[("n1", apart), ("n2", apart_too)], Duration::from_secs(60));
        check(&found, "Synchronized", "False", "SpreadExceeded", "80ms, more than 50ms");
    }

    #[test]
    fn a_missing_secret_is_named() {
        let found = |name: &str, key: &str| {
            let upstream = format!("{{name: a, server: h, keyRef: {{name: {name}, key: {key}}}}}");
            statuses(&format!("{{upstreams: [{upstream}]}}"), &[("n1", with(|_| ()))], Duration::ZERO)
        };
        let missing = found("gone", "k");
        check(&missing, "Accepted", "True", "Valid", "");
        check(&missing, "RolledOut", "False", "SecretMissing", "Nothing runs: there is no Secret gone.");
        let kept = found("gone", "kept");
        check(
            &kept,
            "RolledOut",
            "False",
            "SecretMissing",
            "goes on, with what was there before: there is no",
        );
        assert_eq!(kept.counts.applied, 1);
        check(&found("late", "k"), "RolledOut", "False", "InProgress", "Secret late was not read yet");
    }

    #[test]
    fn refused_by_us_and_refused_by_an_agent() {
        let found = statuses("{stratum: {local: 1000}}", &[("n1", with(|_| ()))], Duration::ZERO);
        check(&found, "Accepted", "False", "InvalidField", "spec.stratum.local: 1000 is out of range");
        check(&found, "RolledOut", "Unknown", "NoNodes", "");
        check(&found, "Conflict", "Unknown", "NoNodes", "");
    }

    /// What an older operator wrote must be readable, or every policy would be unreadable during an upgrade.
    #[test]
    fn the_status_of_the_former_version_is_read() {
        let former = r#"{"observedGeneration": 3, "nodes": {"matched": 2, "applied": 2, "synchronized": 1, "stepped": 1}}"#;
        let status: TimeSyncPolicyStatus = serde_json::from_str(former).unwrap();
        assert_eq!(status.nodes.unwrap().conflicting, 0);
    }
}
