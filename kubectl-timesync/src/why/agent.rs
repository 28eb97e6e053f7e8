//! Why nothing is known of a clock: no operator writes, no agent runs, the agent is silent, or another process answers in
//! its place.
use api::NodeClockStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    observed::{STALE, condition, is_stale},
    why::cause::{Chain, Severity::Broken, Subject},
    words::{age, sentence, span},
};

/// The chain if nothing is known of the clock now.
pub(super) fn unknown(subject: &Subject<'_>) -> Option<Chain> {
    let Some(status) = subject.status() else { return Some(no_clock(subject)) };
    if is_stale(status, subject.observed.now) {
        return Some(outdated(subject, status));
    }
    let synchronized = condition(&status.conditions, "Synchronized")?;
    match synchronized.reason.as_str() {
        "NoAgent" => Some(no_agent(subject)),
        "AgentUnreachable" => Some(silent(subject, status, synchronized)),
        "AgentNotProven" => Some(not_proven(subject, synchronized)),
        "Uninstalled" => Some(uninstalled()),
        _ => None,
    }
}

fn no_clock(subject: &Subject<'_>) -> Chain {
    let chain = Chain::new(
        Broken,
        "NoNodeClock",
        format!("Nothing is known of this clock: there is no NodeClock for {}.", subject.node),
    );
    let is_silent = subject.observed.silence_of_operator().is_none_or(|silence| silence > STALE);
    let is_down = subject.operators().is_some_and(|pods| pods.iter().all(|pod| !pod.ready));
    if is_silent && (is_down || !subject.observed.clocks.is_empty()) {
        return operator_down(subject, chain);
    }
    match subject.agent() {
        Some(Some(pod)) if pod.ready => chain
            .because(
                1,
                "NotWrittenYet",
                format!("The agent's pod {} is ready, but the operator has not written yet.", pod.name),
            )
            .means("The operator writes a NodeClock within seconds after the agent's first report.")
            .run("If this lasts, look at the operator's log.", operator_log(subject)),
        _ => where_is_the_agent(subject, chain),
    }
}

fn no_agent(subject: &Subject<'_>) -> Chain {
    let chain = Chain::new(
        Broken,
        "ClockUnknown",
        "Nothing is known of this clock: no agent has run on the node for 90 s.",
    )
    .means("No program of timesync corrects or measures it. It runs on with its last frequency.");
    where_is_the_agent(subject, chain)
}

/// Why no agent runs on the node, from its pod and its taints.
fn where_is_the_agent(subject: &Subject<'_>, chain: Chain) -> Chain {
    let depth = chain.below();
    match subject.agent() {
        Some(Some(pod)) if !pod.ready => chain
            .because(
                depth,
                "AgentNotRunning",
                format!("The agent's pod {} does not run: {}.", pod.name, pod.state),
            )
            .run("See why.", subject.kubectl(&format!("describe pod {}", pod.name)))
            .run("Read its log.", subject.kubectl(&format!("logs {} --previous", pod.name))),
        Some(Some(pod)) => chain
            .because(
                depth,
                "AgentStarting",
                format!("The agent's pod {} is ready now; its first report is awaited.", pod.name),
            )
            .todo("Repeat this command in a minute."),
        Some(None) => {
            let chain = chain.because(
                depth,
                "NoAgentPod",
                "No pod of the agent is on this node: the DaemonSet of the agents does not place one there, or it cannot be \
                 created.",
            );
            let chain = match subject.facts() {
                Some(node) if !node.taints.is_empty() => chain.todo(format!(
                    "The node has taints: {}. If the agents do not tolerate them, add tolerations: agent.tolerations in the \
                     chart's values.",
                    node.taints.join(", ")
                )),
                _ => chain,
            };
            chain
                .todo(
                    "Compare the node's labels with agent.nodeSelector and agent.affinity in the chart's values. A node that \
                     is not to have an agent can stay so.",
                )
                .run(
                    "If the DaemonSet wants more pods than it has, its events say why.",
                    subject.kubectl("describe daemonset -l app.kubernetes.io/component=agent"),
                )
        }
        None => chain
            .because(
                depth,
                "AgentMissing",
                "The agent's pod is missing, does not run, or may not run on this node.",
            )
            .run("Look for it.", subject.list_pods()),
    }
}

fn silent(subject: &Subject<'_>, status: &NodeClockStatus, found: &Condition) -> Chain {
    let last = status.reported_at.as_ref().map(|time| age(subject.observed.now, time.0));
    let since = last.map_or(String::new(), |age| format!(" The last one is {age} old."));
    let chain = Chain::new(
        Broken,
        "ClockUnknown",
        format!("Nothing is known of this clock: the operator has no recent report of the node's agent.{since}"),
    )
    .because(1, "AgentSilent", sentence(&found.message))
    .means(
        "If the agent itself runs, it still corrects the clock: it needs no operator. If it does not, the clock runs on with \
         its last frequency.",
    );
    let chain = match subject.facts().and_then(|node| node.ready) {
        Some(false) => {
            return chain
                .because(
                    2,
                    "NodeNotReady",
                    format!("Kubernetes does not hear of the node either: {} is not Ready.", subject.node),
                )
                .run("Look at the node first.", format!("kubectl describe node {}", subject.node));
        }
        _ => chain,
    };
    match subject.agent() {
        Some(Some(pod)) if pod.ready => chain
            .because(2, "PortUnreachable", format!("The agent's pod {} is ready, so the way from the operator to it is closed.", pod.name))
            .todo(
                "Let the operator's pods reach TCP port 9817 (agent.httpPort) of the node's address: firewalls, security \
                 groups, network policies.",
            )
            .run("Ask the agent on the node.", subject.on_agent("status")),
        Some(_) => where_is_the_agent(subject, chain),
        None => chain
            .run("Does its pod run?", subject.list_pods())
            .todo(
                "If it runs, let the operator's pods reach TCP port 9817 (agent.httpPort) of the node's address: firewalls, \
                 security groups, network policies.",
            ),
    }
}

fn not_proven(subject: &Subject<'_>, found: &Condition) -> Chain {
    Chain::new(
        Broken,
        "ClockUnknown",
        "Nothing is known of this clock: the operator does not believe what answers on the node.",
    )
    .because(1, "AgentNotProven", sentence(&found.message))
    .means(
        "Another process has the agent's port, or agent and operator have different tokens or versions. Its answers are not \
         used. The agent, if it runs, still corrects the clock.",
    )
    .todo("On the node, find the process that has the port, with the command above, and stop it if it is not the agent.")
    .run(
        "If it is the agent, compare versions, and restart its pod after a change of the token.",
        subject.list_pods(),
    )
}

fn uninstalled() -> Chain {
    Chain::new(Broken, "Uninstalled", "timesync was uninstalled from this cluster.")
        .means("No agent corrects or measures this clock. The objects that are left say nothing about it.")
        .run(
            "Install it again, or delete the CRDs and with them all policies.",
            "kubectl delete crd timesyncpolicies.timesync.dev nodeclocks.timesync.dev",
        )
}

fn outdated(subject: &Subject<'_>, status: &NodeClockStatus) -> Chain {
    let now = subject.observed.now;
    let state = status.state.as_deref().unwrap_or("Unknown");
    let old = status
        .updated_at
        .as_ref()
        .map_or("of unknown age".to_owned(), |time| format!("{} old", age(now, time.0)));
    let chain = Chain::new(
        Broken,
        "Outdated",
        format!(
            "What is known of this clock is {old}: the operator renews it every 5 minutes. Its state was {state} then."
        ),
    );
    match subject.observed.silence_of_operator() {
        Some(silence) if silence <= STALE => chain
            .because(1, "NotRenewed", "The operator renews other NodeClocks, but cannot write this one.")
            .run(
                "The condition RolledOut of its policy says why (\"NodeClock not written\"): often an admission policy or a \
                 quota.",
                format!("kubectl describe tsp {}", status.policy.as_deref().unwrap_or_default()),
            ),
        _ => operator_down(subject, chain),
    }
}

/// The chain of a cluster of whose clocks nothing is known, since no operator has written anything.
pub(super) fn nothing_written(subject: &Subject<'_>) -> Chain {
    operator_down(
        subject,
        Chain::new(Broken, "NoNodeClocks", "Nothing is known of any clock: there is no NodeClock."),
    )
}

/// No operator has written for minutes, or ever.
fn operator_down(subject: &Subject<'_>, chain: Chain) -> Chain {
    let depth = chain.below();
    let what = match subject.observed.silence_of_operator() {
        Some(silence) => format!("No operator has written any NodeClock for {}.", span(silence)),
        None => "No operator has written any NodeClock yet.".to_owned(),
    };
    let chain = chain
        .because(depth, "OperatorSilent", what)
        .means(
            "The agents go on without it, so clocks are still corrected. But no change of a policy reaches a node, and no \
             condition is true any more.",
        );
    let pods = subject.operators();
    let chain = match pods {
        Some([]) => chain.because(
            depth + 1,
            "NoOperator",
            format!("There is no pod of the operator in namespace {}: it is scaled to 0, or cannot be created.", subject.namespace()),
        ),
        Some(pods) if pods.iter().all(|pod| !pod.ready) => {
            let states: Vec<_> = pods.iter().map(|pod| format!("{} ({})", pod.name, pod.state)).collect();
            chain.because(depth + 1, "OperatorNotReady", format!("No pod of the operator is ready: {}.", states.join(", ")))
        }
        Some(_) => chain.because(
            depth + 1,
            "OperatorCannotWrite",
            "A pod of the operator is ready, but it does not write: another holds its Lease, or the API server refuses its \
             writes.",
        ),
        None => chain,
    };
    chain
        .run("Look at its pods.", subject.kubectl("get deploy,pods -l app.kubernetes.io/component=operator"))
        .run("Read its log.", operator_log(subject))
        .todo(format!(
            "If its pods are in another namespace than {}, name it: -n NAMESPACE.",
            subject.namespace()
        ))
}

fn operator_log(subject: &Subject<'_>) -> String {
    subject.kubectl("logs -l app.kubernetes.io/component=operator --tail=50")
}
