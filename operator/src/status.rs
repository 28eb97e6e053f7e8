//! The last step: makes the status of each policy. Pure: what is prepared and the nodes' reports in; a status out. The
//! only state that is kept is when a deviation began.
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use api::{NodeCounts, TimeSyncPolicyStatus, WorstNode};
use contract::{Assignment, Reason, Report, approximately};
use k8s_openapi::jiff::Timestamp;
use profile::Thresholds;

use crate::{
    build::Prepared,
    condition::condition,
    node_fields::Brake,
    node_state::NodeState,
    policy_conditions::{findings, taints_held},
    policy_nodes::{Deviations, PolicyInput, PolicyNode, PolicyNodes, Spread},
    reports::{AgentState, Reports},
};

/// The status of a policy, and as numbers the values that its texts show.
#[derive(Clone, Debug)]
pub(crate) struct PolicyStatus {
    pub(crate) status: TimeSyncPolicyStatus,
    pub(crate) counts: NodeCounts,
    /// Offset of the worst node, seconds.
    pub(crate) worst: Option<f64>,
    /// Largest difference between two nodes, seconds.
    pub(crate) spread: Option<f64>,
    /// What the policy's nodes must keep to.
    pub(crate) thresholds: Thresholds,
    /// Whether the taint is withheld from nodes that qualify for it; none for a policy without `nodeTaint`.
    pub(crate) taints_held: Option<bool>,
    pub(crate) updated: Updated,
    /// The number of nodes whose agent reports that it does not run the profile that it is to run.
    pub(crate) outdated: usize,
}

/// The nodes for which a policy takes precedence and that have an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Updated {
    /// Those that run its present profile.
    pub(crate) run_it: usize,
    pub(crate) all: usize,
}

/// The inputs besides the reports.
pub(crate) struct StatusContext<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) states: &'a HashMap<String, NodeState>,
    /// Why the ConfigMap or the Secret cannot be written.
    pub(crate) store_trouble: Option<&'a str>,
    /// Which nodes are tainted; none if the operator does not write taints.
    pub(crate) brake: Option<&'a Brake>,
    /// True if this run of the operator has just begun.
    pub(crate) starting: bool,
}

/// The status of each policy, by name. Just after the operator's start, a policy is left out until each of its agents
/// was asked. Otherwise its counts would be too low for a moment.
pub(crate) fn status(
    context: &StatusContext<'_>,
    reports: &Reports,
    deviations: &mut Deviations,
    now: Instant,
    time: Timestamp,
) -> BTreeMap<String, PolicyStatus> {
    let StatusContext { prepared, states, store_trouble, brake, starting } = context;
    deviations.retain(&prepared.policies.iter().map(|policy| policy.name.as_str()).collect());
    let mut of_policy: HashMap<&str, PolicyNodes<'_>> = HashMap::new();
    let in_force = prepared.policies.iter().map(|policy| (policy.name.as_str(), prepared.profile(policy)));
    let in_force: HashMap<&str, _> = in_force.collect();
    let mut updated: HashMap<&str, Updated> = HashMap::new();
    for node in prepared.nodes.values() {
        if let Some(planned) = node.planned.as_deref().filter(|_| !node.agents.is_empty()) {
            let running = reports.of(node.name(), now).report().and_then(|report| report.profile.as_ref());
            let of_policy = updated.entry(planned).or_default();
            of_policy.all += 1;
            let profile = in_force.get(planned).and_then(Option::as_ref);
            of_policy.run_it += usize::from(running.is_some() && running == profile);
        }
        for loser in &node.lost {
            let taken = &mut of_policy.entry(loser).or_default().taken;
            *taken.entry(node.policy().unwrap_or_default()).or_default() += 1;
        }
        let Some(policy) = node.policy() else { continue };
        let group = of_policy.entry(policy).or_default();
        if !node.reached && node.agents.is_empty() {
            group.without_agent.push(node.name());
            continue;
        }
        let agent = reports.of(node.name(), now);
        let polled = node.agents.iter().any(|agent| agent.address.is_some());
        group.untried |= *starting && polled && matches!(agent, AgentState::Waiting { tried: false });
        group.nodes.push(PolicyNode { node, agent, state: states.get(node.name()) });
    }
    let mut all = BTreeMap::new();
    for policy in &prepared.policies {
        let group = of_policy.remove(policy.name.as_str()).unwrap_or_default();
        if group.untried {
            continue;
        }
        let profile = in_force.get(policy.name.as_str()).cloned().flatten();
        let is_stored =
            profile.as_ref().is_none_or(|profile| prepared.is_stored(&Assignment::Profile(profile.clone())));
        let store_trouble = if is_stored { None } else { *store_trouble };
        let updated = updated.get(policy.name.as_str()).copied().unwrap_or_default();
        let staged = prepared.rollouts.of(&policy.name);
        let rollout = staged.and_then(|staged| staged.finding(updated.run_it, updated.all));
        let input = PolicyInput {
            policy,
            profile: profile.as_ref(),
            thresholds: prepared.thresholds(profile.as_ref(), &Assignment::Unassigned),
            group: &group,
            rollout,
            store_trouble,
            brake: *brake,
        };
        let mut of_policy = of(&input, deviations, now, time);
        of_policy.status.rollout = match (staged, &policy.rollout) {
            (Some(staged), _) => Some(staged.status()),
            // It cannot be carried out now. What is known of its rollout stays.
            (None, Some(_)) => policy.status.rollout.clone(),
            (None, None) => None,
        };
        of_policy.status.updated = Some(format!("{}/{}", updated.run_it, updated.all));
        of_policy.updated = updated;
        all.insert(policy.name.clone(), of_policy);
    }
    all
}

fn of(input: &PolicyInput<'_>, deviations: &mut Deviations, now: Instant, time: Timestamp) -> PolicyStatus {
    let nodes = &input.group.nodes;
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let count =
        |holds: &dyn Fn(&PolicyNode<'_>) -> bool| number(nodes.iter().filter(|node| holds(node)).count());
    let counts = NodeCounts {
        matched: number(nodes.len()),
        applied: count(&|node| node.applied()),
        synchronized: count(&|node| node.synchronized().is_some()),
        conflicting: count(&|node| node.conflict().is_some()),
        stepped: count(&|node| node.agent.report().is_some_and(|report| report.clock.steps > 0)),
        holdover: count(&|node| node.synchronized_by(Reason::Holdover)),
        without_agent: number(input.group.without_agent.len()),
    };
    let offset = |report: &Report| report.clock.offset.filter(|offset| offset.is_finite());
    // In holdover only the error bound is known, not the offset.
    let measured = nodes.iter().filter(|each| !each.synchronized_by(Reason::Holdover));
    let offsets = measured.filter_map(|each| {
        let report = each.synchronized()?;
        Some((each.node, offset(report)?, report))
    });
    let worst = offsets.clone().max_by(|(_, a, _), (_, b, _)| a.abs().total_cmp(&b.abs()));
    let named = offsets.map(|(node, offset, _)| (node.name(), offset));
    let ahead = named.clone().max_by(|(_, a), (_, b)| a.total_cmp(b));
    let behind = named.clone().min_by(|(_, a), (_, b)| a.total_cmp(b));
    let pair = ahead.zip(behind).filter(|_| named.count() > 1);
    let pair = pair.map(|(ahead, behind)| Spread { ahead, behind });
    let spread = pair.as_ref().map(Spread::seconds);
    let worst_offset = worst.map(|(_, offset, _)| offset);
    let before = &input.policy.status.conditions;
    let generation = input.policy.generation;
    let findings = findings(input, worst_offset, pair.as_ref(), deviations, now);
    let held = taints_held(input.policy, input.brake);
    let is_held = held.as_ref().map(|(_, finding)| finding.status == Some(true));
    let status = TimeSyncPolicyStatus {
        observed_generation: generation,
        profile: input.profile.map(ToString::to_string),
        updated: None,
        rollout: None,
        nodes: Some(counts.clone()),
        worst: worst.map(|(node, offset, report)| WorstNode {
            node: node.name().to_owned(),
            offset: approximately(offset),
            error_bound: report.clock.error_bound.map(approximately),
        }),
        spread: spread.map(approximately),
        tiers: input.policy.tiers.chosen.clone(),
        conditions: findings
            .into_iter()
            .chain(held)
            .map(|(type_, finding)| condition(type_, finding, before, generation, time))
            .collect(),
    };
    PolicyStatus {
        status,
        counts,
        worst: worst_offset,
        spread,
        thresholds: input.thresholds,
        taints_held: is_held,
        updated: Updated::default(),
        outdated: nodes.iter().filter(|node| node.agent.report().is_some() && !node.applied()).count(),
    }
}

/// The figures in a policy's status as last written, and when that was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrittenPolicy {
    pub(crate) at: Instant,
    pub(crate) worst: Option<f64>,
    pub(crate) spread: Option<f64>,
}

/// Shortest pause between two writes that only change figures, which change all the time. A change of a text or a count
/// is written without a pause.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Returns true if a status is to be written over the stored one.
pub(crate) fn needs_write(
    new: &PolicyStatus,
    stored: &TimeSyncPolicyStatus,
    written: Option<&WrittenPolicy>,
    now: Instant,
) -> bool {
    if facts(&new.status) != facts(stored) {
        return true;
    }
    if new.status == *stored {
        return false;
    }
    let Some(WrittenPolicy { at, worst, spread }) = written else {
        return true;
    };
    let moved = |new: Option<f64>, before: Option<f64>| match (new, before) {
        (Some(new), Some(before)) => new.abs() > before.abs() * 2.0 || new.abs() < before.abs() / 2.0,
        (new, before) => new.is_some() != before.is_some(),
    };
    let pause = now.saturating_duration_since(*at);
    let wrong = moved(new.worst, *worst) || moved(new.spread, *spread);
    pause >= LONGEST_PAUSE || (pause >= SHORTEST_PAUSE && wrong)
}

/// The status without its figures. Messages of conditions about figures are cleared, since they contain figures.
fn facts(status: &TimeSyncPolicyStatus) -> TimeSyncPolicyStatus {
    let mut facts = TimeSyncPolicyStatus { worst: None, spread: None, ..status.clone() };
    for condition in facts.conditions.iter_mut().filter(|condition| condition.reason.ends_with("Exceeded")) {
        condition.message.clear();
    }
    facts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use contract::ConflictReport;
    use k8s_openapi::ByteString;

    use super::*;
    use crate::{
        collect::{Failure, PollResult},
        fetch::Fetched,
        fixtures::{Cluster, agent, report},
        keys::{SecretValue, Secrets},
        node_state::Trouble,
        tier::TierAvailability,
    };

    /// The status of one policy for `nodes`, from each agent's report; `None` is a failed connection.
    fn statuses(spec: &str, said: &[(&str, Option<Report>)], after: Duration) -> PolicyStatus {
        statuses_of(spec, said, after, |_, _| ())
    }

    /// The same, after a change of what is prepared and remembered.
    fn statuses_of(
        spec: &str,
        said: &[(&str, Option<Report>)],
        after: Duration,
        change: impl Fn(&mut Prepared, &mut HashMap<String, NodeState>),
    ) -> PolicyStatus {
        let policy = format!("{{metadata: {{name: default, generation: 3}}, spec: {spec}}}");
        let fetched = Fetched {
            policies: vec![Arc::new(serde_norway::from_str(&policy).unwrap())],
            secrets: Secrets {
                named: BTreeMap::from([("gone".to_owned(), None)]),
                held: BTreeMap::from([("gone_kept".to_owned(), SecretValue(ByteString(vec![])))]),
                ..Secrets::default()
            },
            ..Fetched::default()
        };
        let nodes = said.iter().map(|(name, _)| ((*name).to_owned(), vec![agent(name, None)])).collect();
        let mut prepared = Prepared::default();
        Cluster { fetched, nodes }.prepare(&mut prepared);
        let start = Instant::now();
        let mut states: HashMap<_, _> =
            said.iter().map(|(name, _)| ((*name).to_owned(), NodeState::new(start))).collect();
        change(&mut prepared, &mut states);
        let profile = prepared.profile(&prepared.policies[0]);
        let context = StatusContext {
            prepared: &prepared,
            states: &states,
            store_trouble: None,
            brake: None,
            starting: false,
        };
        let start = Instant::now();
        let mut reports = Reports::default();
        let mut deviations = Deviations::default();
        let mut last = None;
        for now in [start, start + after] {
            said.iter().for_each(|(name, _)| reports.add(name, now));
            for (name, report) in said {
                let result = match report {
                    Some(report) => {
                        let mut report = report.clone();
                        report.profile = profile.clone();
                        Ok(Box::new(report))
                    }
                    None => Err(Failure::Timeout),
                };
                let answer = PollResult { node: (*name).to_owned(), pod: format!("uid-{name}"), result };
                reports.note(answer, now, Timestamp::UNIX_EPOCH);
            }
            last = status(&context, &reports, &mut deviations, now, Timestamp::UNIX_EPOCH).remove("default");
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
    fn a_node_is_outdated_only_if_its_agent_says_so() {
        let nodes = [("n1", with(|_| ())), ("n2", with(|_| ())), ("n3", None)];
        let found = statuses_of(GOOD, &nodes, Duration::ZERO, |prepared, _| {
            prepared.nodes.get_mut("n2").unwrap().wanted = Assignment::from_annotation("default.12345678");
        });
        assert_eq!((found.counts.matched, found.counts.applied, found.outdated), (3, 1, 1));
    }

    #[test]
    fn all_well() {
        let behind = with(|_| ());
        let ahead = with(|report| report.clock.offset = Some(100e-6));
        let found = statuses(GOOD, &[("n1", behind), ("n2", ahead)], Duration::ZERO);
        let NodeCounts { matched, applied, synchronized, conflicting, stepped, holdover, without_agent } =
            found.counts;
        assert_eq!((matched, applied, synchronized, conflicting, stepped), (2, 2, 2, 0, 0));
        assert_eq!((holdover, without_agent), (0, 0));
        check(&found, "Ready", "True", "RolledOut", "Runs on 2 nodes.");
        check(&found, "UpstreamsReachable", "True", "AllReachable", "2 nodes");
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
    fn a_node_without_an_agent_blocks_only_if_one_could_run_there() {
        let of = |reached: bool, said: &[(&str, Option<Report>)]| {
            statuses_of(GOOD, said, Duration::from_secs(91), |prepared, _| {
                for name in ["n2", "n3"] {
                    let Some(node) = prepared.nodes.get_mut(name) else { continue };
                    (node.agents, node.reached) = (vec![], reached);
                }
            })
        };
        let said = [("n1", with(|_| ())), ("n2", None), ("n3", None)];
        let found = of(true, &said);
        check(&found, "RolledOut", "False", "InProgress", "n2 (NoAgent), n3 (NoAgent)");
        check(&found, "Ready", "False", "InProgress", "");
        check(&found, "Synchronized", "Unknown", "NodesUnknown", "n2 (NoAgent)");
        let found = of(false, &said);
        assert_eq!((found.counts.matched, found.counts.without_agent), (1, 2));
        check(&found, "RolledOut", "True", "AllNodes", "No agent can run on 2 nodes: n2, n3.");
        check(&found, "Synchronized", "True", "AllSynchronized", "1 node");
        let found = of(true, &said[1..]);
        for type_ in ["Ready", "RolledOut", "Synchronized", "UpstreamsReachable", "Conflict"] {
            check(&found, type_, "Unknown", "NoAgents", "No agent runs on any of 2 nodes.");
        }
        let found = of(false, &said[1..]);
        check(&found, "RolledOut", "Unknown", "NoNodes", "No agent can run on 2 nodes");
        check(&found, "Ready", "True", "NoNodes", "");
    }

    #[test]
    fn nodes_that_hold_over_are_told() {
        let alone = with(|report| {
            report.clock.reason = Reason::Holdover;
            report.sources[0].state = contract::SourceState::Unreachable;
            report.sources[0].reach = 0;
        });
        let found = statuses(GOOD, &[("n1", alone), ("n2", with(|_| ()))], Duration::ZERO);
        assert_eq!((found.counts.synchronized, found.counts.holdover), (2, 1));
        assert_eq!((found.status.worst.as_ref().unwrap().node.as_str(), found.spread), ("n2", None));
        check(&found, "Synchronized", "True", "AllSynchronized", "");
        check(&found, "UpstreamsReachable", "False", "NodesUnreachable", "On 1 of 2 nodes");
        check(&found, "UpstreamsReachable", "False", "NodesUnreachable", "n1 (Unreachable)");
        check(&found, "Ready", "True", "RolledOut", "");
        let none = with(|report| report.sources.clear());
        let found = statuses(GOOD, &[("n1", none)], Duration::ZERO);
        check(&found, "UpstreamsReachable", "Unknown", "NoUpstreams", "");
    }

    #[test]
    fn what_cannot_be_written_is_told_where_it_concerns() {
        let said = [("n1", with(|_| ())), ("n2", None)];
        let with_trouble = |trouble, name: &'static str| {
            statuses_of(GOOD, &said, Duration::from_secs(91), move |_, states| {
                states.get_mut(name).unwrap().note(trouble, Some("denied by policy x".to_owned()));
            })
        };
        let found = with_trouble(Trouble::Annotation, "n2");
        check(
            &found,
            "RolledOut",
            "False",
            "InProgress",
            "n2 (its pod cannot be annotated: denied by policy x)",
        );
        let found = with_trouble(Trouble::Event, "n1");
        check(&found, "RolledOut", "False", "InProgress", "Event not written: n1 (denied by policy x).");
        let found = with_trouble(Trouble::NodeClock, "n1");
        check(&found, "RolledOut", "False", "InProgress", "NodeClock not written: n1 (denied by policy x).");
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
        check(
            &found,
            "Synchronized",
            "False",
            "SpreadExceeded",
            "80ms, more than 50ms: n1 (40ms) is ahead of n2 (-40ms)",
        );
    }

    #[test]
    fn a_tier_that_is_empty_or_does_not_serve_is_told() {
        let spec = "{upstreams: [{name: t, nodes: {selector: {}}}]}";
        let found = |availability: &TierAvailability, not_serving: Option<&str>| {
            statuses_of(spec, &[("n1", with(|_| ()))], Duration::ZERO, |prepared, _| {
                prepared.policies[0].tiers.availability = availability.clone();
                prepared.policies[0].tiers.not_serving = not_serving.map(str::to_owned);
            })
        };
        let why = || "no node matches".to_owned();
        let missing = found(&TierAvailability::Missing(why()), None);
        check(&missing, "Accepted", "True", "Valid", "");
        check(&missing, "RolledOut", "False", "TierEmpty", "Nothing runs: no node matches.");
        check(&missing, "Ready", "False", "TierEmpty", "");
        let kept = found(&TierAvailability::Kept(why()), None);
        check(
            &kept,
            "RolledOut",
            "False",
            "TierEmpty",
            "with the nodes that were chosen before: no node matches.",
        );
        let silent = found(&TierAvailability::Complete, Some("node n1 is under no policy"));
        check(&silent, "Accepted", "True", "TierNotServing", "will answer: node n1 is under no policy.");
    }

    #[test]
    fn a_rollout_under_way_is_told() {
        let staged = |target: &str| {
            let target = target.to_owned();
            statuses_of(
                GOOD,
                &[("n1", with(|_| ())), ("n2", with(|_| ()))],
                Duration::ZERO,
                move |prepared, _| {
                    let settings = crate::rollout::Settings::of(&api::Rollout::default()).unwrap();
                    let running = prepared.profile(&prepared.policies[0]).unwrap();
                    let target = if target.is_empty() { running.clone() } else { target.parse().unwrap() };
                    let before = TimeSyncPolicyStatus {
                        profile: Some(running.to_string()),
                        ..TimeSyncPolicyStatus::default()
                    };
                    prepared.rollouts.follow(("default", None), settings, (target, None), &before, &|_| true);
                },
            )
        };
        let done = staged("");
        check(&done, "RolledOut", "True", "AllNodes", "2 nodes");
        assert_eq!(done.status.updated.as_deref(), Some("2/2"));
        let found = staged("default.12345678");
        check(&found, "RolledOut", "False", "InProgress", "Profile default.12345678 runs on 2 of 2 nodes");
        check(&found, "Ready", "False", "InProgress", "");
        let rollout = found.status.rollout.unwrap();
        assert_eq!((rollout.profile.as_str(), rollout.last_good.is_some()), ("default.12345678", true));
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

    /// A status that an older operator wrote must be readable. Otherwise no policy could be read during an upgrade.
    #[test]
    fn the_status_of_the_former_version_is_read() {
        let former = r#"{"observedGeneration": 3, "nodes": {"matched": 2, "applied": 2, "synchronized": 1, "stepped": 1}}"#;
        let status: TimeSyncPolicyStatus = serde_json::from_str(former).unwrap();
        assert_eq!(status.nodes.unwrap().conflicting, 0);
    }
}
