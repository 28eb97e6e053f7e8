//! Why a clock is not synchronised, or synchronised in a doubtful way: the reason of the condition Synchronized, and then
//! the upstreams.
use api::NodeClockStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    observed::condition,
    why::{
        cause::{
            Chain,
            Severity::{Broken, Degraded, Fine},
            Subject,
        },
        upstream,
    },
    words::{age, count, sentence},
};

/// The chain if the clock is not synchronised, is in holdover, or has the time of a local clock.
pub(super) fn doubtful(subject: &Subject<'_>, status: &NodeClockStatus) -> Option<Chain> {
    let found = condition(&status.conditions, "Synchronized")?;
    let reason = found.reason.as_str();
    match reason {
        "Synchronized" => None,
        "Holdover" => Some(holdover(subject, status)),
        "LocalReference" => Some(local_reference(subject, status, found)),
        _ => Some(unsynchronized(subject, status, found)),
    }
}

/// The chain of a clock without any trouble.
pub(super) fn healthy(status: &NodeClockStatus) -> Chain {
    let good = status.sources.iter().filter(|source| upstream::gives_time(source)).count();
    let follows = status.reference.as_deref().unwrap_or("its upstreams");
    let offset = status.offset.as_deref().unwrap_or("unknown");
    let bound = status.error_bound.as_deref().unwrap_or("unknown");
    let chain = Chain::new(
        Fine,
        "Healthy",
        format!(
            "The clock follows {follows}. It is off by {offset}, and certainly by no more than {bound}. {good} of {} give time.",
            count(status.sources.len(), "upstream")
        ),
    );
    match status.mode.as_deref() {
        Some("Observe") => {
            chain.means("The policy has mode Observe: the agent measures, and does not correct the clock.")
        }
        _ => chain,
    }
}

fn holdover(subject: &Subject<'_>, status: &NodeClockStatus) -> Chain {
    let limit =
        subject.policy().and_then(|policy| policy.spec.thresholds.as_ref()).map(|limits| &limits.error_bound);
    let limit =
        limit.map_or("thresholds.errorBound".to_owned(), |limit| format!("thresholds.errorBound ({limit})"));
    let bound = status.error_bound.as_deref().unwrap_or("unknown");
    let chain = Chain::new(
        Degraded,
        "Holdover",
        "The clock is in holdover: no upstream gives time, and it runs on with its last frequency.",
    )
    .means(format!(
        "It is still synchronised: its error is at most {bound} (when this was written). That bound grows, and when it passes \
         {limit} the clock is unsynchronised."
    ));
    upstream::lost(subject, status, chain)
}

fn local_reference(subject: &Subject<'_>, status: &NodeClockStatus, found: &Condition) -> Chain {
    let chain = Chain::new(Degraded, "LocalReference", sentence(&found.message)).means(
        "The nodes of this group agree with each other, but their distance from UTC is not known. In an air gap that is \
         intended.",
    );
    if status.sources.iter().any(upstream::gives_time) {
        return chain.todo("If the group is to have UTC, give the server that it follows an upstream with a reference clock.");
    }
    upstream::lost(subject, status, chain)
}

fn unsynchronized(subject: &Subject<'_>, status: &NodeClockStatus, found: &Condition) -> Chain {
    let since = age(subject.observed.now, found.last_transition_time.0);
    let chain = Chain::new(Broken, "NotSynchronized", format!("The clock has not been synchronised for {since}."))
        .means("Its error is not known, or larger than the policy allows. Clients of its NTP server do not use its time.");
    match found.reason.as_str() {
        "Unreachable" => {
            upstream::lost(subject, status, chain.because(1, "NoAnswer", "No upstream answers."))
        }
        "NoUsableUpstream" => upstream::lost(
            subject,
            status,
            chain.because(1, "NoneUsable", "Upstreams answer, but none can be used."),
        ),
        "ErrorBound" => error_bound(subject, status, found, chain),
        "NoMajority" => no_majority(status, chain),
        "TooFewSources" => {
            let least = subject.policy().and_then(|policy| policy.spec.clock.as_ref()?.min_sources);
            let least = least.map_or(String::new(), |least| format!(" ({least})"));
            let what = format!("Fewer upstreams agree than clock.minSources{least} asks for.");
            let chain = chain
                .because(1, "TooFewSources", what)
                .todo("Add upstreams, repair those below, or lower clock.minSources.");
            upstream::lost(subject, status, chain)
        }
        "RequiredMissing" => {
            let chain =
                chain.because(1, "RequiredMissing", "No upstream with the option require can be followed.");
            upstream::lost(subject, status, chain)
        }
        "MaxChange" => max_change(subject, status, chain),
        "ExternalStep" | "UnexplainedJump" => jump(subject, status, found, chain),
        "NoUpstreams" => chain
            .because(1, "NoUpstreams", "The policy has no upstreams, and the node's own clock is not served.")
            .todo("Name time servers in spec.upstreams of the policy, or set stratum.local for an air gap."),
        "Starting" => upstream::lost(
            subject,
            status,
            chain
                .because(
                    1,
                    "Starting",
                    "The agent has just started, or has a new profile: the first answers are awaited.",
                )
                .todo("Repeat this command in a minute."),
        ),
        _ => chain.because(1, "Other", format!("{}: {}", found.reason, sentence(&found.message))),
    }
}

fn error_bound(subject: &Subject<'_>, status: &NodeClockStatus, found: &Condition, chain: Chain) -> Chain {
    let bound = status.error_bound.as_deref().unwrap_or("unknown");
    let limits = subject.policy().and_then(|policy| policy.spec.thresholds.as_ref());
    let limit = limits.map_or("thresholds.errorBound".to_owned(), |limits| limits.error_bound.clone());
    let chain = chain.because(
        1,
        "ErrorBound",
        format!("The error bound, {bound}, is larger than the policy allows ({limit})."),
    );
    if !status.sources.iter().any(upstream::gives_time) {
        return upstream::lost(subject, status, chain);
    }
    if found.message.contains(CORRECTING) {
        return chain
            .because(2, "Correcting", sentence(&found.message))
            .means("The agent slews the clock: it takes an offset away slowly, without a step (clock.maxSlewRate).")
            .todo("Wait. At 500 ppm an offset of 1 s takes 33 minutes. After a reboot the node may step instead.");
    }
    chain
        .because(2, "UpstreamUncertain", sentence(&found.message))
        .todo("Use upstreams nearer to a reference clock, or raise thresholds.errorBound in the policy.")
}

/// In the agent's message while an offset is being slewed.
pub(super) const CORRECTING: &str = "is still being corrected";

fn no_majority(status: &NodeClockStatus, chain: Chain) -> Chain {
    let told = status.sources.iter().filter(|source| upstream::gives_time(source));
    let told: Vec<_> = told
        .map(|source| {
            format!(
                "{} by {}",
                upstream::named(source),
                source.offset.as_deref().unwrap_or("an unknown length")
            )
        })
        .collect();
    let chain = chain
        .because(1, "NoMajority", "The upstreams contradict each other, and no majority agrees.")
        .because(
            2,
            "UpstreamsDiffer",
            format!("By their answers this clock is off from {}.", told.join("; from ")),
        )
        .means("At least one of them is wrong. The agent follows none of them, since it cannot know which.")
        .todo("Find the wrong one by a clock that you trust, and remove it from the policy or repair it.");
    if told.len() < 3 {
        chain.todo("Name three or more upstreams: of two that differ, neither has a majority.")
    } else {
        chain
    }
}

fn max_change(subject: &Subject<'_>, status: &NodeClockStatus, chain: Chain) -> Chain {
    let offset = status.offset.as_deref().unwrap_or("more than that");
    let limit =
        subject.policy().and_then(|policy| policy.spec.clock.as_ref()).map(|clock| clock.max_change.as_str());
    let limit = limit.map_or(String::new(), |limit| format!(" ({limit})"));
    chain
        .because(
            1,
            "MaxChange",
            format!("The upstreams want a correction by {offset}, and clock.maxChange{limit} forbids one of that size."),
        )
        .means(
            "After the first synchronisation of a boot such a correction is suspect: the upstreams may be wrong, or forged. \
             The agent waits for you.",
        )
        .todo("Make sure that the upstreams are right: compare them with a clock that you trust.")
        .run(
            "If they are right, drain the node and reboot it: after a boot the agent may step the clock.",
            format!("kubectl drain {}", subject.node),
        )
}

fn jump(subject: &Subject<'_>, status: &NodeClockStatus, found: &Condition, chain: Chain) -> Chain {
    let chain = chain.because(1, "ClockMoved", sentence(&found.message));
    let Some(step) = &status.last_external_step else {
        return chain.todo("Repeat this command in a minute: the clock is being measured.");
    };
    let when = step
        .time
        .as_ref()
        .map_or(String::new(), |time| format!(", {} ago", age(subject.observed.now, time.0)));
    let chain = chain
        .because(2, "ExternalStep", format!("Another process set the clock by {}{when}.", step.by))
        .means("A user ran `date -s`, or a program such as a guest tool of the hypervisor did the same.");
    if found.reason == "ExternalStep" {
        chain
            .todo("The policy has clock.onExternalStep: Report, so the agent leaves the clock as it is. Set it right, or change that to Restore.")
            .todo("Find what set the clock: shell histories, cron jobs, guest tools of the hypervisor.")
    } else {
        chain
            .todo("Wait a minute: the agent measures the clock anew and, with clock.onExternalStep: Restore, sets it back.")
            .todo("If it happens again, find what sets the clock: cron jobs, guest tools of the hypervisor.")
    }
}
