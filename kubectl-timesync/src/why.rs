//! `why NODE`: the chain of causes behind the state of a node's clock, in plain words: from the condition to the datagram,
//! what each cause means, and what to do. `explain` is pure: what was read in, chains out. It uses the conditions and
//! reasons that the operator writes, and the agent's messages.
mod cause;

mod upstream;

mod clock;

mod agent;

mod profile;

mod host;

mod text;

#[cfg(test)]
mod tests;

use anyhow::bail;
use api::NodeClockStatus;
use clap::Args;
use k8s_openapi::jiff::Timestamp;

pub(crate) use cause::{Chain, Explanation, Severity, Subject};
pub(crate) use text::text;
pub(crate) use upstream::gives_time;

use crate::{
    fetch::Reader,
    observed::{EventFacts, Observed, Reading, condition, failed, state},
    output::{self, Form},
    screen::Screen,
};

/// Explains the state of a node's clock.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The node
    node: String,
    /// Print for programs
    #[arg(long, short, value_enum)]
    output: Option<Form>,
}

impl Why {
    pub(crate) async fn run(&self, reader: &Reader) -> anyhow::Result<()> {
        let observed = reader.around(&self.node).await?;
        let is_absent = observed.nodes.as_ref().is_ok_and(Vec::is_empty);
        if observed.clock(&self.node).is_none() && is_absent {
            bail!("there is no node {}: `kubectl timesync nodes` lists them", self.node);
        }
        let events = reader.events(&self.node).await;
        let explanation = explain(&Subject::new(&observed, &self.node), &events);
        output::print(&explanation, self.output, || text(&explanation, observed.now, &Screen::of_stdout()))
    }
}

/// Explains a node.
pub(crate) fn explain(subject: &Subject<'_>, events: &Reading<Vec<EventFacts>>) -> Explanation {
    let status = subject.status();
    let now = subject.observed.now;
    let known = events.as_deref().unwrap_or_default();
    Explanation {
        node: subject.node.to_owned(),
        state: status.map_or("NoClock", |status| state(status, now)).to_owned(),
        since: status.and_then(|status| since(status, now)),
        policy: status.and_then(|status| status.policy.clone()),
        mode: status.and_then(|status| status.mode.clone()),
        chains: chains(subject),
        events: known[known.len().saturating_sub(MOST_EVENTS)..].to_vec(),
        unread: unread(subject.observed, events),
    }
}

const MOST_EVENTS: usize = 5;

/// Since when the clock has its state, if a condition tells it.
fn since(status: &NodeClockStatus, now: Timestamp) -> Option<Timestamp> {
    let type_ = match state(status, now) {
        "Synchronized" | "Unsynchronized" | "Unknown" => "Synchronized",
        "Holdover" => "UpstreamsReachable",
        _ => return None,
    };
    condition(&status.conditions, type_).map(|condition| condition.last_transition_time.0)
}

/// All chains of causes of a node, the most important first; at least one.
pub(crate) fn chains(subject: &Subject<'_>) -> Vec<Chain> {
    if let Some(unknown) = agent::unknown(subject) {
        return vec![unknown];
    }
    let Some(status) = subject.status() else { return Vec::new() };
    if let Some(none) = profile::none_runs(subject, status) {
        return vec![none];
    }
    let mut chains = Vec::new();
    let doubtful = clock::doubtful(subject, status);
    let unsynchronized = doubtful.as_ref().filter(|chain| chain.severity == Severity::Broken);
    match host::conflict(subject, status, unsynchronized) {
        // The conflict is behind the state of the clock, unless upstreams fail as well.
        Some(conflict) if status.sources.iter().any(gives_time) => {
            chains.push(conflict);
            chains.extend(doubtful.filter(|chain| chain.severity != Severity::Broken));
        }
        conflict => chains.extend(doubtful.into_iter().chain(conflict)),
    }
    chains.extend(profile::another_runs(subject, status));
    chains.extend(host::serving(subject, status));
    if chains.iter().flat_map(|chain| &chain.causes).all(|cause| cause.id != "NoMajority") {
        chains.extend(upstream::some_unused(subject, status));
    }
    chains.extend(host::rtc(status));
    let is_told = |id: &str| chains.iter().flat_map(|chain| &chain.causes).any(|cause| cause.id == id);
    let others: Vec<_> =
        host::others(subject, status).into_iter().filter(|chain| !is_told(chain.causes[0].id)).collect();
    chains.extend(others);
    // Stable: of equal severity the order above.
    chains.sort_by_key(|chain| chain.severity);
    if chains.is_empty() {
        chains.push(clock::healthy(status));
    }
    chains
}

/// The chain if the operator has written nothing, so that nothing can be said of any node.
pub(crate) fn nothing_written(observed: &Observed) -> Option<Chain> {
    let is_unread = observed.malformed.iter().any(|object| object.starts_with("NodeClock "));
    let is_written = observed.silence_of_operator().is_some() || is_unread;
    (!is_written).then(|| agent::nothing_written(&Subject::new(observed, "")))
}

fn unread(observed: &Observed, events: &Reading<Vec<EventFacts>>) -> Vec<String> {
    failed([
        ("nodes", observed.nodes.as_ref().err()),
        ("pods", observed.agents.as_ref().err()),
        ("events", events.as_ref().err()),
    ])
}
