//! The conditions of one policy: its profile and its nodes' reports in; a finding for each type of condition out. Pure.
use std::time::Instant;

use contract::{ProfileFailure, Reason, approximately};

use crate::{
    condition::{
        ACCEPTED, CONFLICT, Finding, READY, ROLLED_OUT, SYNCHRONIZED, TAINTS_HELD, UPSTREAMS_REACHABLE,
        reason,
    },
    keys::KeyAvailability,
    message::{plural, some},
    node_conditions,
    node_fields::{Brake, Held},
    node_state::Trouble,
    policy_nodes::{Deviations, PolicyInput, PolicyNode, Spread},
    tier::TierAvailability,
    validate::Policy,
};

/// A finding for each type, in the order in which they are shown.
pub(crate) fn findings(
    input: &PolicyInput<'_>,
    worst: Option<f64>,
    spread: Option<&Spread<'_>>,
    deviations: &mut Deviations,
    now: Instant,
) -> [(&'static str, Finding); 6] {
    let nodes = &input.group.nodes;
    let (accepted, rolled_out) = (accepted(input), rolled_out(input));
    [
        (READY, ready(&accepted, &rolled_out)),
        (ACCEPTED, accepted),
        (ROLLED_OUT, rolled_out),
        (SYNCHRONIZED, synchronized(input, worst, spread, deviations, now)),
        (UPSTREAMS_REACHABLE, upstreams_reachable(nodes)),
        (CONFLICT, conflict(nodes)),
    ]
}

/// A policy without nodes is ready, as a DaemonSet without nodes is.
fn ready(accepted: &Finding, rolled_out: &Finding) -> Finding {
    match (accepted.status, rolled_out.status) {
        (Some(true), Some(true)) => {
            Finding::new(Some(true), reason::ROLLED_OUT_EVERYWHERE, rolled_out.message.clone())
        }
        (Some(true), None) if rolled_out.reason == reason::NO_NODES => {
            Finding { status: Some(true), ..rolled_out.clone() }
        }
        (Some(true), _) => rolled_out.clone(),
        _ => accepted.clone(),
    }
}

/// The finding of every condition about nodes if the policy has no nodes, or none of them has an agent.
fn no_agents(nodes: &[PolicyNode<'_>]) -> Option<Finding> {
    if nodes.is_empty() {
        return Some(Finding::new(None, reason::NO_NODES, "No node is under this policy."));
    }
    let agents = nodes.iter().any(|each| !each.node.agents.is_empty());
    let message = format!("No agent runs on any of {}.", plural(nodes.len()));
    (!agents).then(|| Finding::new(None, reason::NO_AGENTS, message))
}

/// The finding of a condition while some nodes do not report.
fn not_reporting(nodes: &[PolicyNode<'_>]) -> Option<Finding> {
    let silent: Vec<_> = nodes.iter().filter(|each| each.agent.report().is_none()).collect();
    if silent.is_empty() {
        return None;
    }
    let which =
        some(silent.iter().map(|node| format!("{} ({})", node.node.name(), node.reason_without_report())));
    let message = format!("Of {} not heard of: {which}.", plural(nodes.len()));
    Some(Finding::new(None, reason::NODES_UNKNOWN, message))
}

/// Further remarks about the nodes, one sentence each.
fn notes(input: &PolicyInput<'_>) -> String {
    let group = input.group;
    let mut notes: String = group
        .taken
        .iter()
        .map(|(winner, count)| format!(" Policy {winner} takes {} more.", plural(*count)))
        .collect();
    if !group.without_agent.is_empty() {
        let which = some(group.without_agent.iter().map(|name| (*name).to_owned()));
        notes += &format!(" No agent can run on {}: {which}.", plural(group.without_agent.len()));
    }
    for (trouble, what) in
        [(Trouble::NodeClock, "NodeClock"), (Trouble::Event, "Event"), (Trouble::Node, "Node")]
    {
        let refused = group.nodes.iter().filter_map(|each| Some((each, each.trouble(trouble)?)));
        let refused: Vec<_> = refused.map(|(each, why)| format!("{} ({why})", each.node.name())).collect();
        if !refused.is_empty() {
            notes += &format!(" {what} not written: {}.", some(refused.into_iter()));
        }
    }
    notes
}

fn accepted(input: &PolicyInput<'_>) -> Finding {
    match (&input.policy.checked, input.profile) {
        (Ok(_), _) => match &input.policy.tiers.not_serving {
            None => Finding::new(Some(true), reason::VALID, "The policy can be carried out."),
            Some(why) => Finding::new(
                Some(true),
                reason::TIER_NOT_SERVING,
                format!("The policy can be carried out, but not all nodes that it asks will answer: {why}."),
            ),
        },
        (Err(refusal), Some(profile)) => {
            Finding::new(Some(false), refusal.reason(), format!("{refusal}. Profile {profile} goes on."))
        }
        (Err(refusal), None) => Finding::new(Some(false), refusal.reason(), format!("{refusal}.")),
    }
}

/// Of a policy with `nodeTaint`: whether nodes qualify for the taint and do not get it.
pub(crate) fn taints_held(policy: &Policy, brake: Option<&Brake>) -> Option<(&'static str, Finding)> {
    policy.taint_rule()?;
    let finding = match brake.map(|brake| brake.held) {
        None => {
            let message = "No node is tainted: the operator has no right to. Set operator.nodes.taints in the \
                           values of the chart.";
            Finding::new(Some(true), reason::SWITCHED_OFF, message)
        }
        Some(Some(Held { wrong, budget })) => {
            let message = format!(
                "No node is newly tainted: the clocks of {} are wrong or were when the node was tainted, and \
                 nodeTaint.maxNodes allows {budget}. Look for a common cause, such as an upstream.",
                plural(wrong)
            );
            Finding::new(Some(true), reason::TOO_MANY_NODES, message)
        }
        Some(None) => {
            let message = "Each node whose clock is wrong for nodeTaint.after has the taint.";
            Finding::new(Some(false), reason::WITHIN_MAX_NODES, message)
        }
    };
    Some((TAINTS_HELD, finding))
}

fn rolled_out(input: &PolicyInput<'_>) -> Finding {
    let nodes = &input.group.nodes;
    let notes = notes(input);
    if let Some(lack) = missing_keys(input).or_else(|| empty_tier(input)) {
        return lack;
    }
    if let Some(why) = input.store_trouble {
        return Finding::new(
            Some(false),
            reason::WRITE_REFUSED,
            format!("The profile cannot be stored: {why}"),
        );
    }
    if let Some(Finding { status, reason, message }) = input.rollout.clone().or_else(|| no_agents(nodes)) {
        return Finding::new(status, reason, format!("{message}{notes}"));
    }
    let waiting: Vec<_> = nodes.iter().filter(|node| !node.applied()).collect();
    if waiting.is_empty() {
        return Finding::new(
            Some(true),
            reason::ALL_NODES,
            format!("Runs on {}.{notes}", plural(nodes.len())),
        );
    }
    let why = |each: &&PolicyNode<'_>| {
        let error = each.agent.report().map(|report| report.profile_error.as_ref());
        let why = match (each.trouble(Trouble::Annotation), error) {
            (Some(why), _) => format!("its pod cannot be annotated: {why}"),
            (None, Some(Some(error))) => format!("{}: {}", error.reason, error.message),
            (None, Some(None)) => "not yet".to_owned(),
            (None, None) => each.reason_without_report().to_owned(),
        };
        format!("{} ({why})", each.node.name())
    };
    let refuses = |each: &&PolicyNode<'_>| {
        let error = each.agent.report().and_then(|report| report.profile_error.as_ref());
        error.is_some_and(|error| error.reason == ProfileFailure::ProfileInvalid)
    };
    let reason = if waiting.iter().any(refuses) { reason::PROFILE_REFUSED } else { reason::IN_PROGRESS };
    let running = nodes.len() - waiting.len();
    let waiting = some(waiting.iter().map(why));
    let message = format!("Runs on {running} of {}; not on {waiting}.{notes}", plural(nodes.len()));
    Finding::new(Some(false), reason, message)
}

/// The finding if the Secrets do not hold the keys that the policy names.
fn missing_keys(input: &PolicyInput<'_>) -> Option<Finding> {
    let goes_on = goes_on(input);
    let (reason, message) = match &input.policy.key_availability {
        KeyAvailability::Complete => return None,
        KeyAvailability::Kept(why) => {
            (reason::SECRET_MISSING, format!("{goes_on}, with what was there before: {why}."))
        }
        KeyAvailability::Missing(why) => (reason::SECRET_MISSING, format!("{goes_on}: {why}.")),
        KeyAvailability::Unread(why) => (reason::IN_PROGRESS, format!("{goes_on}: {why}.")),
    };
    Some(Finding::new(Some(false), reason, message))
}

/// The finding if no node matches an upstream with nodes.
fn empty_tier(input: &PolicyInput<'_>) -> Option<Finding> {
    let message = match &input.policy.tiers.availability {
        TierAvailability::Complete => return None,
        TierAvailability::Kept(why) => {
            format!("{}, with the nodes that were chosen before: {why}.", goes_on(input))
        }
        TierAvailability::Missing(why) => format!("{}: {why}.", goes_on(input)),
    };
    Some(Finding::new(Some(false), reason::TIER_EMPTY, message))
}

fn goes_on(input: &PolicyInput<'_>) -> String {
    match input.profile {
        Some(profile) => format!("Profile {profile} goes on"),
        None => "Nothing runs".to_owned(),
    }
}

fn synchronized(
    input: &PolicyInput<'_>,
    worst: Option<f64>,
    spread: Option<&Spread<'_>>,
    deviations: &mut Deviations,
    now: Instant,
) -> Finding {
    let (name, nodes, limits) = (&input.policy.name, &input.group.nodes, input.thresholds);
    let hold = limits.hold.as_duration();
    let mut lasts = |what, value: Option<f64>, limit: f64| {
        deviations.lasts(name, what, value.is_some_and(|value| value.abs() > limit), hold, now)
    };
    let offset_lasts = lasts(reason::OFFSET_EXCEEDED, worst, limits.offset.as_secs_f64());
    let spread_lasts =
        lasts(reason::SPREAD_EXCEEDED, spread.map(Spread::seconds), limits.spread.as_secs_f64());
    let all = plural(nodes.len());
    let off = |node: &&PolicyNode<'_>| node.agent.report().is_some() && node.synchronized().is_none();
    let unsynchronized: Vec<_> = nodes.iter().filter(off).collect();
    let silent: Vec<_> = nodes.iter().filter(|node| node.agent.report().is_none()).collect();
    if let Some(no_agents) = no_agents(nodes) {
        return no_agents;
    }
    if !unsynchronized.is_empty() {
        let why = |node: &&PolicyNode<'_>| {
            let reason = node
                .agent
                .report()
                .map_or(node.reason_without_report(), |report| report.clock.reason.as_str());
            format!("{} ({reason})", node.node.name())
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
    if let Some(spread) = spread.filter(|_| spread_lasts) {
        let limit = limits.spread;
        let message = format!(
            "Nodes differ by {}, more than {limit}: {} ({}) is ahead of {} ({}).",
            approximately(spread.seconds()),
            spread.ahead.0,
            approximately(spread.ahead.1),
            spread.behind.0,
            approximately(spread.behind.1)
        );
        return Finding::new(Some(false), reason::SPREAD_EXCEEDED, message);
    }
    if let Some(not_reporting) = not_reporting(nodes) {
        return not_reporting;
    }
    let local: Vec<_> = nodes.iter().filter(|node| node.synchronized_by(Reason::LocalReference)).collect();
    if !local.is_empty() {
        let which = some(local.iter().map(|node| node.node.name().to_owned()));
        let message =
            format!("Of {all} on the time of a local clock, so that UTC is unknown there: {which}.");
        return Finding::new(Some(true), reason::LOCAL_REFERENCE, message);
    }
    Finding::new(Some(true), reason::ALL_SYNCHRONIZED, format!("Synchronised: {all}."))
}

fn upstreams_reachable(nodes: &[PolicyNode<'_>]) -> Finding {
    if let Some(no_agents) = no_agents(nodes) {
        return no_agents;
    }
    let all = plural(nodes.len());
    let reach =
        |each: &&PolicyNode<'_>| each.agent.report().map(|report| node_conditions::reach(&report.sources));
    let lost = nodes.iter().filter_map(|each| match reach(&each) {
        Some((Some(false), reason)) => Some(format!("{} ({reason})", each.node.name())),
        _ => None,
    });
    let lost: Vec<_> = lost.collect();
    if !lost.is_empty() {
        let count = lost.len();
        let message = format!("On {count} of {all} no upstream gives time: {}.", some(lost.into_iter()));
        return Finding::new(Some(false), reason::NODES_UNREACHABLE, message);
    }
    if let Some(not_reporting) = not_reporting(nodes) {
        return not_reporting;
    }
    match nodes.iter().filter_map(|each| reach(&each)).find(|(status, _)| status.is_none()) {
        Some((_, reason::NO_UPSTREAMS)) => {
            Finding::new(None, reason::NO_UPSTREAMS, "The profile has no upstreams.")
        }
        Some((_, reason)) => Finding::new(None, reason, "The first answers are awaited."),
        None => Finding::new(Some(true), reason::ALL_REACHABLE, format!("Upstreams give time on {all}.")),
    }
}

fn conflict(nodes: &[PolicyNode<'_>]) -> Finding {
    if let Some(no_agents) = no_agents(nodes) {
        return no_agents;
    }
    let all = plural(nodes.len());
    let whom = |node: &PolicyNode<'_>| {
        let suspects = node.conflict().map(|conflict| conflict.suspects.join(", ")).unwrap_or_default();
        if suspects.is_empty() {
            node.node.name().to_owned()
        } else {
            format!("{} ({suspects})", node.node.name())
        }
    };
    let conflicting: Vec<_> = nodes.iter().filter(|node| node.conflict().is_some()).collect();
    if !conflicting.is_empty() {
        let which = some(conflicting.iter().map(|node| whom(node)));
        let message = format!(
            "On {} of {all} another process steers the clock, so the agents there only observe: {which}.",
            conflicting.len()
        );
        return Finding::new(Some(true), reason::NODES_CONFLICTING, message);
    }
    if let Some(not_reporting) = not_reporting(nodes) {
        return not_reporting;
    }
    Finding::new(Some(false), reason::ALONE, format!("No other process steers a clock of {all}."))
}
