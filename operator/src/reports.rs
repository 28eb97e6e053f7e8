//! The last report of each node, and when a node counts as silent. Pure: answers and time are arguments.
use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use contract::{ProfileName, Report};
use k8s_openapi::jiff::Timestamp;

use crate::{
    collect::{Failure, Impostor, PollResult},
    message::chain,
};

/// If a node sends no report for this long (three long polls), its state counts as unknown.
const SILENT_AFTER: Duration = Duration::from_secs(90);

/// Another process may have the agent's port if only unproven answers came for this long. An agent that ends or starts
/// gives such answers for a moment at most.
const UNPROVEN_AFTER: Duration = Duration::from_secs(4);
/// The last unproven answer must not be older than this.
const UNPROVEN_FOR: Duration = Duration::from_secs(30);

/// The state of every node.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    nodes: HashMap<String, NodeRecord>,
}

#[derive(Debug)]
struct NodeRecord {
    /// When the node was added, or when its last report came.
    since: Instant,
    pod: String,
    last: Option<(Box<Report>, Timestamp)>,
    /// Why there is no report, if the last try failed.
    failure: Option<String>,
    /// When the first and the last unproven answer came, and why the last one is not believed.
    unproven: Option<(Instant, Instant, Impostor)>,
    /// What was known when [`Reports::state_changed`] was called last.
    kind: AgentStateKind,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AgentState<'a> {
    /// The newest report, and when it came.
    Report(&'a Report, Timestamp),
    /// There is no report yet, and it is too early for a conclusion. `tried` is true if a poll has failed.
    Waiting { tried: bool },
    /// The process that answers has not proven that it is the agent; the reason.
    Unproven(&'a Impostor),
    /// No report for 90 s, and the last failure.
    Silent(Option<&'a str>),
}

/// The variant of [`AgentState`] alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AgentStateKind {
    Report,
    #[default]
    Waiting,
    Unproven,
    Silent,
}

impl AgentStateKind {
    fn of(heard: AgentState<'_>) -> Self {
        match heard {
            AgentState::Report(..) => Self::Report,
            AgentState::Waiting { .. } => Self::Waiting,
            AgentState::Unproven(_) => Self::Unproven,
            AgentState::Silent(_) => Self::Silent,
        }
    }
}

impl<'a> AgentState<'a> {
    /// The report, if there is one.
    pub(crate) fn report(self) -> Option<&'a Report> {
        match self {
            Self::Report(report, _) => Some(report),
            Self::Waiting { .. } | Self::Unproven(_) | Self::Silent(_) => None,
        }
    }
}

impl Reports {
    /// Takes an answer of a known node. `now` and `time` are the same instant. Returns true if the agent runs another
    /// profile than before.
    pub(crate) fn note(&mut self, answer: PollResult, now: Instant, time: Timestamp) -> bool {
        let PollResult { node, pod, result } = answer;
        let Some(record) = self.nodes.get_mut(&node) else { return false };
        match result {
            Ok(report) => {
                let before = record.last.as_ref().map(|(report, _)| &report.profile);
                let changed = before != Some(&report.profile);
                let last = Some((report, time));
                *record =
                    NodeRecord { since: now, pod, last, failure: None, unproven: None, kind: record.kind };
                changed
            }
            Err(failure) => {
                if let Failure::Unproven(impostor) = &failure {
                    let since = record.unproven(now).map_or(now, |(since, ..)| *since);
                    record.unproven = Some((since, now, impostor.clone()));
                }
                record.failure = Some(chain(&failure));
                false
            }
        }
    }

    /// Adds a node, if it is new.
    pub(crate) fn add(&mut self, node: &str, now: Instant) {
        if !self.nodes.contains_key(node) {
            self.nodes.insert(node.to_owned(), NodeRecord::new(now));
        }
    }

    /// Forgets a node that is gone.
    pub(crate) fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// What is known of a node.
    pub(crate) fn of(&self, node: &str, now: Instant) -> AgentState<'_> {
        let Some(record) = self.nodes.get(node) else {
            return AgentState::Waiting { tried: false };
        };
        if let Some((since, last, why)) = record.unproven(now)
            && last.saturating_duration_since(*since) >= UNPROVEN_AFTER
        {
            return AgentState::Unproven(why);
        }
        if now.saturating_duration_since(record.since) > SILENT_AFTER {
            return AgentState::Silent(record.failure.as_deref());
        }
        match &record.last {
            Some((report, time)) => AgentState::Report(report, *time),
            None => AgentState::Waiting { tried: record.failure.is_some() },
        }
    }

    /// Returns true if the node's state has changed since the last call. It can change without an answer, as time
    /// passes.
    pub(crate) fn state_changed(&mut self, node: &str, now: Instant) -> bool {
        let kind = AgentStateKind::of(self.of(node, now));
        let before = self.nodes.get_mut(node).map(|record| std::mem::replace(&mut record.kind, kind));
        before.is_some_and(|before| before != kind)
    }

    /// The last report of this very pod, and when it came. A report of an earlier pod on the node does not count.
    pub(crate) fn of_pod(&self, node: &str, pod: &str, now: Instant) -> Option<(&Report, Instant)> {
        let record = self.nodes.get(node).filter(|record| record.pod == pod)?;
        Some((self.of(node, now).report()?, record.since))
    }

    /// Returns true if the last try failed. Then another failure is not logged again.
    pub(crate) fn fails(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|record| record.failure.is_some())
    }

    /// Every profile in the newest report of an agent, regardless of its age.
    pub(crate) fn profiles(&self) -> BTreeSet<ProfileName> {
        let last = self.nodes.values().filter_map(|record| record.last.as_ref());
        let running: BTreeSet<_> = last.filter_map(|(report, _)| report.profile.as_ref()).collect();
        running.into_iter().cloned().collect()
    }
}

impl NodeRecord {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            pod: String::new(),
            last: None,
            failure: None,
            unproven: None,
            kind: AgentStateKind::default(),
        }
    }

    /// The unproven answers, if the last one is recent.
    fn unproven(&self, now: Instant) -> Option<&(Instant, Instant, Impostor)> {
        self.unproven.as_ref().filter(|(_, last, _)| now.saturating_duration_since(*last) <= UNPROVEN_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{collect::Unproven, fixtures::report};

    #[test]
    fn whoever_is_not_the_agent_is_told_soon() {
        let mut reports = Reports::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let note = |reports: &mut Reports, secs, result| {
            let answer = PollResult { node: "n".to_owned(), pod: "u".to_owned(), result };
            reports.note(answer, at(secs), Timestamp::UNIX_EPOCH);
        };
        let impostor = Impostor { address: "192.0.2.1:9817".to_owned(), why: Unproven::Refused };
        let unproven = || Err(Failure::Unproven(impostor.clone()));
        reports.add("n", start);
        note(&mut reports, 0, Ok(Box::new(report())));
        note(&mut reports, 10, unproven());
        assert!(reports.of("n", at(11)).report().is_some(), "once is no news");
        note(&mut reports, 11, Err(Failure::Timeout));
        note(&mut reports, 15, unproven());
        match reports.of("n", at(15)) {
            AgentState::Unproven(impostor) => assert_eq!(impostor.why, Unproven::Refused),
            other => panic!("{other:?}"),
        }
        assert!(matches!(reports.of("n", at(45)), AgentState::Unproven(_)));
        assert!(matches!(reports.of("n", at(46)), AgentState::Report(..)), "it does not answer any more");
        assert!(matches!(reports.of("n", at(91)), AgentState::Silent(_)));
        note(&mut reports, 95, unproven());
        assert!(matches!(reports.of("n", at(96)), AgentState::Silent(_)), "another one may be a moment's");
        note(&mut reports, 100, unproven());
        assert!(matches!(reports.of("n", at(101)), AgentState::Unproven(_)));
        note(&mut reports, 102, Ok(Box::new(report())));
        assert!(matches!(reports.of("n", at(102)), AgentState::Report(..)));
    }

    #[test]
    fn silence_counts_after_a_while() {
        let mut reports = Reports::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let answer = |result| PollResult { node: "n".to_owned(), pod: "u".to_owned(), result };
        assert!(matches!(reports.of("n", start), AgentState::Waiting { tried: false }));
        reports.note(answer(Ok(Box::new(report()))), start, Timestamp::UNIX_EPOCH);
        assert!(
            matches!(reports.of("n", start), AgentState::Waiting { tried: false }),
            "no process listens there"
        );
        reports.add("n", start);
        reports.note(answer(Err(Failure::Timeout)), at(1), Timestamp::UNIX_EPOCH);
        assert!(matches!(reports.of("n", at(1)), AgentState::Waiting { tried: true }));
        assert!(matches!(reports.of("n", at(91)), AgentState::Silent(Some("no answer in time"))));
        assert!(reports.note(answer(Ok(Box::new(report()))), at(100), Timestamp::UNIX_EPOCH));
        assert!(!reports.note(answer(Ok(Box::new(report()))), at(100), Timestamp::UNIX_EPOCH), "as before");
        assert!(reports.of("n", at(100)).report().is_some());
        reports.note(answer(Err(Failure::Timeout)), at(140), Timestamp::UNIX_EPOCH);
        assert!(reports.of("n", at(189)).report().is_some(), "one failure is no silence");
        assert!(reports.of_pod("n", "u", at(189)).is_some());
        assert!(reports.of_pod("n", "successor", at(189)).is_none());
        assert!(matches!(reports.of("n", at(191)), AgentState::Silent(_)));
        assert!(!reports.profiles().is_empty());
        reports.forget("n");
        assert!(reports.profiles().is_empty());
    }
}
