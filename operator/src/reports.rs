//! What was last heard of each node, and from when on silence counts. Pure: answers and time are arguments.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use contract::{ProfileName, Report};
use k8s_openapi::jiff::Timestamp;

use crate::collect::Answer;

/// A node that is silent for so long is not known to be synchronised: three long polls.
const SILENT_AFTER: Duration = Duration::from_secs(90);

/// What was heard, by node.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    nodes: BTreeMap<String, Hearing>,
}

#[derive(Debug)]
struct Hearing {
    /// Since when we listen, or heard of the node last.
    since: Instant,
    pod: String,
    last: Option<(Arc<Report>, Timestamp)>,
    /// Why nothing comes, if the last try failed.
    failure: Option<String>,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heard<'a> {
    /// The newest report and when it came.
    Report(&'a Report, Timestamp),
    /// Nothing yet, and it is too early to judge. Whether it was tried at all.
    Waiting { tried: bool },
    /// Nothing for 90 s; the last failure.
    Silent(Option<&'a str>),
}

impl<'a> Heard<'a> {
    /// The report, if there is one.
    pub(crate) fn report(self) -> Option<&'a Report> {
        match self {
            Self::Report(report, _) => Some(report),
            Self::Waiting { .. } | Self::Silent(_) => None,
        }
    }
}

impl Reports {
    /// Takes an answer; `now` and `time` are the same instant.
    pub(crate) fn note(&mut self, answer: Answer, now: Instant, time: Timestamp) {
        let Answer { node, pod, result } = answer;
        let hearing = self.nodes.entry(node).or_insert_with(|| Hearing::new(now));
        match result {
            Ok(report) => *hearing = Hearing { since: now, pod, last: Some((report, time)), failure: None },
            Err(failure) => hearing.failure = Some(failure.to_string()),
        }
    }

    /// Forgets nodes that are gone, and begins to listen to those that are new.
    pub(crate) fn listen_to(&mut self, nodes: &BTreeSet<&str>, now: Instant) {
        self.nodes.retain(|node, _| nodes.contains(node.as_str()));
        for node in nodes {
            self.nodes.entry((*node).to_owned()).or_insert_with(|| Hearing::new(now));
        }
    }

    /// What is known of a node.
    pub(crate) fn of(&self, node: &str, now: Instant) -> Heard<'_> {
        let Some(hearing) = self.nodes.get(node) else {
            return Heard::Waiting { tried: false };
        };
        if now.saturating_duration_since(hearing.since) > SILENT_AFTER {
            return Heard::Silent(hearing.failure.as_deref());
        }
        match &hearing.last {
            Some((report, time)) => Heard::Report(report, *time),
            None => Heard::Waiting { tried: hearing.failure.is_some() },
        }
    }

    /// What this very pod last said; its predecessor on the node does not count.
    pub(crate) fn of_pod(&self, node: &str, pod: &str, now: Instant) -> Option<&Report> {
        let same = self.nodes.get(node).is_some_and(|hearing| hearing.pod == pod);
        if same { self.of(node, now).report() } else { None }
    }

    /// Whether the last try failed: then the next failure is no news.
    pub(crate) fn fails(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|hearing| hearing.failure.is_some())
    }

    /// Every profile that an agent said it runs or was told to run, however long ago.
    pub(crate) fn profiles(&self) -> BTreeSet<ProfileName> {
        let last = self.nodes.values().filter_map(|hearing| hearing.last.as_ref());
        last.filter_map(|(report, _)| report.profile.clone()).collect()
    }
}

impl Hearing {
    fn new(now: Instant) -> Self {
        Self { since: now, pod: String::new(), last: None, failure: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{collect::Failure, fixtures::report};

    #[test]
    fn silence_counts_after_a_while() {
        let mut reports = Reports::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let answer = |result| Answer { node: "n".to_owned(), pod: "u".to_owned(), result };
        assert!(matches!(reports.of("n", start), Heard::Waiting { tried: false }));
        reports.listen_to(&BTreeSet::from(["n"]), start);
        reports.note(answer(Err(Failure::Timeout)), at(1), Timestamp::UNIX_EPOCH);
        assert!(matches!(reports.of("n", at(1)), Heard::Waiting { tried: true }));
        assert!(matches!(reports.of("n", at(91)), Heard::Silent(Some("no answer in time"))));
        reports.note(answer(Ok(Arc::new(report()))), at(100), Timestamp::UNIX_EPOCH);
        assert!(reports.of("n", at(100)).report().is_some());
        reports.note(answer(Err(Failure::Timeout)), at(140), Timestamp::UNIX_EPOCH);
        assert!(reports.of("n", at(189)).report().is_some(), "one failure is no silence");
        assert!(reports.of_pod("n", "u", at(189)).is_some());
        assert!(reports.of_pod("n", "successor", at(189)).is_none());
        assert!(matches!(reports.of("n", at(191)), Heard::Silent(_)));
        reports.listen_to(&BTreeSet::new(), at(191));
        assert!(reports.profiles().is_empty());
    }
}
