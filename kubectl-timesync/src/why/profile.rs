//! Why a node does not run what its policy says: no policy selects it, the policy or the profile is refused, or a Secret
//! or a node of a tier is missing.
use api::{NodeClockStatus, TimeSyncPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{ResourceExt, core::SelectorExt};

use crate::{
    observed::{condition, is_read, selector},
    why::cause::{
        Chain,
        Severity::{Broken, Degraded},
        Subject,
    },
    words::sentence,
};

/// The chain if no profile runs, so that the agent neither measures nor corrects the clock.
pub(super) fn none_runs(subject: &Subject<'_>, status: &NodeClockStatus) -> Option<Chain> {
    let synchronized = condition(&status.conditions, "Synchronized")?;
    if synchronized.reason != "NoProfile" {
        return None;
    }
    let chain = Chain::new(
        Broken,
        "NoProfile",
        "The agent neither corrects nor measures this clock: it has no profile.",
    )
    .means("The clock runs on with its last frequency, and its error is not known.");
    Some(match &status.policy {
        None => no_policy(subject, chain),
        Some(_) => obstacle(subject, status, chain.clone()).unwrap_or_else(|| {
            chain
                .because(1, "NotYet", "The policy's profile has not reached the node yet.")
                .todo("Repeat this command in a minute. If it is still so, see the condition RolledOut of the policy.")
        }),
    })
}

/// The chain if the node runs another profile than its policy asks for.
pub(super) fn another_runs(subject: &Subject<'_>, status: &NodeClockStatus) -> Option<Chain> {
    let running = status.profile.as_ref()?.running.as_deref()?;
    let chain = Chain::new(
        Degraded,
        "FormerProfile",
        format!("The node does not run what its policy says now. It runs profile {running}."),
    )
    .means(
        "The clock is corrected as that profile says; changes of the policy since then have no effect here.",
    );
    if let Some(found) = obstacle(subject, status, chain.clone()) {
        return Some(found);
    }
    let wanted = status.profile.as_ref()?.wanted.as_deref().filter(|wanted| *wanted != running)?;
    Some(chain.because(1, "RollingOut", format!("Profile {wanted} is on its way to the node.")).todo(
        "Repeat this command in a minute. If it is still so, see the condition RolledOut of the policy.",
    ))
}

/// What keeps the profile from the node, from the node outwards.
fn obstacle(subject: &Subject<'_>, status: &NodeClockStatus, chain: Chain) -> Option<Chain> {
    let depth = chain.below();
    if let Some(error) = status.profile.as_ref().and_then(|profile| profile.error.as_deref()) {
        return Some(profile_error(subject, error, depth, chain));
    }
    let policy = subject.policy()?;
    let conditions = conditions(policy);
    let name = policy.name_any();
    if let Some(refused) = condition(conditions, "Accepted").filter(|each| each.status == "False") {
        return Some(not_accepted(&name, refused, depth, chain));
    }
    let stuck = condition(conditions, "RolledOut").filter(|each| each.status == "False")?;
    if ["Paused", "Aborted"].contains(&stuck.reason.as_str()) && runs_present(status, policy) {
        return None;
    }
    if stuck.reason == "WriteRefused" {
        return Some(
            chain
                .because(depth, "WriteRefused", sentence(&stuck.message))
                .todo("An admission policy or a quota forbids it: let the operator write that object."),
        );
    }
    not_rolled_out(subject, &name, stuck, depth, &chain)
}

/// What a user must do before the policy is rolled out; none if nothing, or if that is not known.
fn not_rolled_out(
    subject: &Subject<'_>,
    policy: &str,
    stuck: &Condition,
    depth: usize,
    chain: &Chain,
) -> Option<Chain> {
    let chain = chain.clone();
    match stuck.reason.as_str() {
        "SecretMissing" => Some(secret_missing(subject, stuck, depth, chain)),
        "TierEmpty" => Some(tier_empty(policy, stuck, depth, chain)),
        "Paused" | "Aborted" => Some(halted(policy, stuck, depth, chain)),
        _ => None,
    }
}

fn not_accepted(policy: &str, refused: &Condition, depth: usize, chain: Chain) -> Chain {
    let what =
        format!("Policy {policy} is not accepted ({}): {}", refused.reason, sentence(&refused.message));
    chain
        .because(depth, "PolicyRefused", what)
        .run("Correct the policy.", format!("kubectl edit tsp {policy}"))
}

fn secret_missing(subject: &Subject<'_>, stuck: &Condition, depth: usize, chain: Chain) -> Chain {
    chain
        .because(depth, "SecretMissing", sentence(&stuck.message))
        .means("The policy is not rolled out until the Secret is complete, so that no node runs without its keys.")
        .run(
            "Create what is missing: what the message names, in this namespace, with the label timesync.dev/keys=true.",
            format!("kubectl -n {} get secrets --show-labels", subject.namespace()),
        )
}

fn tier_empty(policy: &str, stuck: &Condition, depth: usize, chain: Chain) -> Chain {
    chain
        .because(depth, "TierEmpty", sentence(&stuck.message))
        .means("An upstream of the policy is nodes of this cluster. Without one that can be asked, it has no address.")
        .run("Label the nodes that others are to ask, as the selector asks for.", "kubectl get nodes --show-labels")
        .run("Or correct the selector of that upstream.", format!("kubectl edit tsp {policy}"))
}

/// A rollout that goes on only when a user says so.
fn halted(policy: &str, stuck: &Condition, depth: usize, chain: Chain) -> Chain {
    let is_paused = stuck.reason == "Paused";
    let cause = if is_paused { "RolloutPaused" } else { "RolloutAborted" };
    let chain = chain
        .because(depth, cause, sentence(&stuck.message))
        .means("No further node gets the new profile until a user resumes the rollout, or edits the policy.")
        .run("See which nodes are behind, and why.", format!("kubectl timesync rollout status {policy}"))
        .run("Let it go on.", format!("kubectl timesync rollout resume {policy}"));
    if is_paused {
        chain.run("Or take it back from all nodes.", format!("kubectl timesync rollout abort {policy}"))
    } else {
        chain
    }
}

/// Returns true if the node runs the profile that the policy asks for now.
fn runs_present(status: &NodeClockStatus, policy: &TimeSyncPolicy) -> bool {
    let running = status.profile.as_ref().and_then(|profile| profile.running.as_ref());
    running == policy.status.as_ref().and_then(|status| status.profile.as_ref())
}

/// The agent's own word on its profile: `Reason: message`.
fn profile_error(subject: &Subject<'_>, error: &str, depth: usize, chain: Chain) -> Chain {
    let (reason, message) = error.split_once(": ").unwrap_or((error, ""));
    let message = sentence(message);
    match reason {
        "ProfileMissing" => chain
            .because(depth, "ProfileMissing", format!("The profile's text has not reached the node: {message}"))
            .means("kubelet copies the ConfigMap timesync-profiles into the agent's pod, usually within a second.")
            .todo("Wait two minutes. If it is still so, kubelet does not refresh the pod's volume: see its log on the node.")
            .run(
                "Does the ConfigMap have the key?",
                subject.kubectl("get configmap timesync-profiles -o yaml"),
            ),
        "HashMismatch" => chain
            .because(depth, "HashMismatch", format!("The profile's text was changed after the operator wrote it: {message}"))
            .run(
                "Nothing but the operator may write the ConfigMap timesync-profiles. Find what changed it.",
                subject.kubectl("get configmap timesync-profiles -o yaml --show-managed-fields"),
            ),
        "ProfileInvalid" => chain
            .because(depth, "ProfileRefused", format!("The agent refuses the profile: {message}"))
            .means("The agent keeps the profile before it. Operator and agent may have different versions.")
            .run("Compare the versions.", subject.kubectl("get pods -L app.kubernetes.io/version"))
            .todo("Change the field that the message names, in the policy."),
        "NotPermitted" => chain
            .because(depth, "NoRightToSetClock", format!("The agent may not set the clock: {message}"))
            .means("It only measures and reports.")
            .todo(
                "The chart gives the agent the capability SYS_TIME. Look for an admission policy of the cluster, or a setting \
                 of the container runtime, that removes it.",
            ),
        "Waiting" => chain
            .because(depth, "TwoAgents", format!("Another agent runs on the node: {message}"))
            .means("Only one agent may correct a clock. This one starts when the other has ended.")
            .run(
                "Look for a second pod, or for an agent outside Kubernetes.",
                format!("kubectl get pods -A -o wide --field-selector spec.nodeName={}", subject.node),
            ),
        _ => chain.because(depth, "ProfileError", sentence(error)),
    }
}

/// Why no policy is in force. The operator passes over a policy that it cannot carry out, so a policy that selects the
/// node may be behind this as well as the lack of one.
fn no_policy(subject: &Subject<'_>, chain: Chain) -> Chain {
    if subject.observed.policies.is_empty() {
        return chain.because(1, "NoPolicies", "There is no TimeSyncPolicy in the cluster.").todo(
            "Create one: it names your time servers. `kubectl explain tsp.spec.upstreams` describes them.",
        );
    }
    let policies = in_order(&subject.observed.policies);
    let mut chain = chain;
    let mut told = 0;
    for policy in policies.iter().copied() {
        let selects = selects(subject, policy);
        let is_told = selects == Some(true) || selects.is_none() && !is_ready(policy);
        if is_told && told < MOST_POLICIES {
            chain = held_back(subject, policy, selects, chain);
            told += 1;
        }
        if selects == Some(true) {
            // Those behind it would do as well, but to mend this one is enough.
            break;
        }
    }
    if told > 0 {
        return chain;
    }
    let all: Vec<_> = policies.into_iter().map(|policy| describe(subject, policy)).collect();
    chain
        .because(1, "NoPolicySelects", format!("No policy selects this node: {}.", all.join("; ")))
        .run(
            "Give the node a label that a policy selects, change the nodeSelector of a policy, or create one without \
             nodeSelector and with a low priority, for all other nodes.",
            format!("kubectl label node {} KEY=VALUE", subject.node),
        )
}

/// Policies that are told if it is not known which of them selects the node.
const MOST_POLICIES: usize = 3;

/// In the operator's order of precedence: the highest priority, then the oldest, then the first by name.
fn in_order(policies: &[TimeSyncPolicy]) -> Vec<&TimeSyncPolicy> {
    // One that is being deleted no longer counts.
    let mut policies: Vec<_> =
        policies.iter().filter(|policy| policy.metadata.deletion_timestamp.is_none()).collect();
    let created = |policy: &TimeSyncPolicy| policy.metadata.creation_timestamp.as_ref().map(|time| time.0);
    policies.sort_by(|a, b| {
        let by_age = || created(a).cmp(&created(b));
        b.spec.priority.cmp(&a.spec.priority).then_with(by_age).then_with(|| a.name_any().cmp(&b.name_any()))
    });
    policies
}

/// Whether the policy selects the node; none if that is not known, because the user may not read nodes or the selector
/// cannot be read.
fn selects(subject: &Subject<'_>, policy: &TimeSyncPolicy) -> Option<bool> {
    let selector = selector(policy)?;
    if selector.selects_all() {
        return Some(true);
    }
    subject.facts().map(|node| selector.matches(&node.labels))
}

fn conditions(policy: &TimeSyncPolicy) -> &[Condition] {
    policy.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
}

/// Returns true if the operator can give the policy to a node.
fn is_ready(policy: &TimeSyncPolicy) -> bool {
    let conditions = conditions(policy);
    is_read(policy) && condition(conditions, "Ready").is_some_and(|ready| ready.status == "True")
}

/// A policy that selects the node, or may select it, and is not in force; and why.
fn held_back(subject: &Subject<'_>, policy: &TimeSyncPolicy, selects: Option<bool>, chain: Chain) -> Chain {
    let name = policy.name_any();
    let what = match selects {
        Some(_) => format!("Policy {name} selects this node, but is not in force here."),
        None => format!(
            "Policy {name} is not in force here. Whether it selects this node is not known, since the node was not \
             read."
        ),
    };
    let chain = chain.because(1, "PolicyNotInForce", what);
    let conditions = conditions(policy);
    let is_false = |type_: &str| condition(conditions, type_).filter(|each| each.status == "False");
    if !is_read(policy) || conditions.is_empty() {
        return chain
            .because(
                2,
                "PolicyNotRead",
                format!("The operator has not read this version of policy {name} yet."),
            )
            .run(
                "Repeat this command in a minute. If it is still so, does the operator run?",
                "kubectl timesync status",
            );
    }
    if let Some(refused) = is_false("Accepted") {
        return not_accepted(&name, refused, 2, chain);
    }
    match is_false("RolledOut") {
        Some(stuck) => not_rolled_out(subject, &name, stuck, 2, &chain).unwrap_or_else(|| {
            chain
                .because(
                    2,
                    "NotRolledOut",
                    format!("It is not rolled out ({}): {}", stuck.reason, sentence(&stuck.message)),
                )
                .run(
                    "Repeat this command in a minute. If it is still so, see the policy.",
                    format!("kubectl describe tsp {name}"),
                )
        }),
        None => chain.because(2, "NotYet", "The operator has not given it to the node yet.").run(
            "Repeat this command in a minute. If it is still so, see the policy.",
            format!("kubectl describe tsp {name}"),
        ),
    }
}

/// What a policy selects that does not select the node, as far as that is known.
fn describe(subject: &Subject<'_>, policy: &TimeSyncPolicy) -> String {
    let name = policy.name_any();
    let Some(selector) = selector(policy) else { return format!("the selector of {name} cannot be read") };
    let lacks = if subject.facts().is_some() { ", and this node has no such labels" } else { "" };
    format!("{name} selects {selector}{lacks}")
}
