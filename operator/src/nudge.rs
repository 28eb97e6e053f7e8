//! Decides when to nudge a kubelet: if the node's agent does not run the profile in its annotation, or needs a key or a
//! token that was changed. A volume can lag behind a pod's annotations by a minute. A further change of the annotations
//! makes the kubelet refresh it. Pure: time is an argument.
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use contract::{Assignment, ProfileFailure, Report};

use crate::facts::AgentPod;

/// Applies if the agent has seen the annotation. A kubelet that delivers the ConfigMap without a nudge does so within
/// this time.
const FIRST: Duration = Duration::from_secs(2);
/// Applies if the agent has not seen the annotation. Then the kubelet is busy, and a further change would not help.
const FIRST_UNSEEN: Duration = Duration::from_secs(15);
/// The longest interval, about as long as the kubelet's own sync period.
const LONGEST: Duration = Duration::from_secs(60);

/// Delays after a change of a key or of the token. No report shows whether an agent has the new one. The first delay is
/// enough if the kubelet has already seen the new Secret; the others are for when it has not.
const AFTER_SECRET: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];

/// Agents that do not run their assignment yet, by the pod's uid.
#[derive(Debug, Default)]
pub(crate) struct Nudges {
    waiting: BTreeMap<String, Waiting>,
    /// When to nudge because of a changed key or token, the next time last.
    secrets: BTreeMap<String, Vec<Instant>>,
    /// When the annotation was written.
    annotated: BTreeMap<String, Instant>,
}

#[derive(Debug)]
struct Waiting {
    wanted: Assignment,
    first: Duration,
    next: Instant,
    interval: Duration,
}

impl Nudges {
    /// Records that a key or a token that the pod's agent needs was changed.
    pub(crate) fn secret_changed(&mut self, pod: &str, now: Instant) {
        self.secrets.insert(pod.to_owned(), AFTER_SECRET.iter().rev().map(|delay| now + *delay).collect());
    }

    /// Records that the pod's annotation was written now. Earlier reports say nothing about it.
    pub(crate) fn annotated(&mut self, pod: &str, now: Instant) {
        self.waiting.remove(pod);
        self.annotated.insert(pod.to_owned(), now);
    }

    /// Returns true if the pod is to be nudged now. `report` is the agent's newest report, and when it came. Returns
    /// false until the annotation is written and a later report has come.
    pub(crate) fn due(
        &mut self,
        agent: &AgentPod,
        wanted: &Assignment,
        report: Option<(&Report, Instant)>,
        now: Instant,
    ) -> bool {
        let pod = agent.uid.as_str();
        let secrets = self.secrets_due(pod, now);
        let annotated = self.annotated.get(pod);
        let report = report.filter(|_| !agent.lacks(wanted));
        let report = report.filter(|(_, came)| annotated.is_none_or(|annotated| came > annotated));
        self.lag_due(pod, wanted, report.map(|(report, _)| report), now) || secrets
    }

    fn secrets_due(&mut self, pod: &str, now: Instant) -> bool {
        let Some(times) = self.secrets.get_mut(pod) else { return false };
        let due = times.pop_if(|next| *next <= now).is_some();
        if times.is_empty() {
            self.secrets.remove(pod);
        }
        due
    }

    fn lag_due(&mut self, pod: &str, wanted: &Assignment, report: Option<&Report>, now: Instant) -> bool {
        let Some(report) = report.filter(|report| lags(wanted, report)) else {
            self.waiting.remove(pod);
            return false;
        };
        let first = if report.assignment == *wanted { FIRST } else { FIRST_UNSEEN };
        let waiting =
            self.waiting.entry(pod.to_owned()).or_insert_with(|| Waiting::start(wanted, first, now));
        if waiting.wanted != *wanted || waiting.first > first {
            *waiting = Waiting::start(wanted, first, now);
        }
        let due = now >= waiting.next;
        if due {
            waiting.next = now + waiting.interval;
            waiting.interval = (waiting.interval * 2).min(LONGEST);
        }
        due
    }

    /// Forgets a pod that is gone.
    pub(crate) fn forget(&mut self, pod: &str) {
        self.waiting.remove(pod);
        self.secrets.remove(pod);
        self.annotated.remove(pod);
    }
}

impl Waiting {
    fn start(wanted: &Assignment, first: Duration, now: Instant) -> Self {
        Self { wanted: wanted.clone(), first, next: now + first, interval: first * 2 }
    }
}

/// Returns true if a refresh of the volume could help. It cannot if the agent has read the profile and refuses it.
fn lags(wanted: &Assignment, report: &Report) -> bool {
    match wanted {
        Assignment::Unassigned => false,
        Assignment::None => report.assignment != Assignment::None,
        Assignment::Profile(profile) => {
            let error = report.profile_error.as_ref().map(|error| error.reason);
            let refused = report.assignment == *wanted && error == Some(ProfileFailure::ProfileInvalid);
            // If the key was edited by hand, the ConfigMap is repaired long before the node's copy of it.
            let spoilt = error == Some(ProfileFailure::HashMismatch);
            spoilt || (report.profile.as_ref() != Some(profile) && !refused)
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{ProfileError, ProfileName};

    use super::*;
    use crate::fixtures::{agent, report};

    /// An agent's pod with this annotation.
    fn pod(annotation: &Assignment) -> AgentPod {
        agent("n", Some(&annotation.to_string()))
    }

    #[test]
    fn a_lagging_agent_is_nudged_more_and_more_rarely() {
        let mut nudges = Nudges::default();
        let wanted = Assignment::Profile(ProfileName::of("p", "new"));
        let mut report = report();
        report.profile = Some(ProfileName::of("p", "old"));
        report.assignment = wanted.clone();
        let start = Instant::now();
        let mut due = |report: &Report, came, secs| {
            nudges.due(
                &pod(&wanted),
                &wanted,
                Some((report, start + Duration::from_secs(came))),
                start + Duration::from_secs(secs),
            )
        };
        let at: Vec<_> = (0..200).filter(|secs| due(&report, *secs, *secs)).collect();
        assert_eq!(at, [2, 6, 14, 30, 62, 122, 182]);
        report.profile = Some(ProfileName::of("p", "new"));
        assert!(!due(&report, 300, 300));
        report.profile = Some(ProfileName::of("p", "old"));
        report.assignment = Assignment::None;
        let at: Vec<_> = (300..400).filter(|secs| due(&report, *secs, *secs)).collect();
        assert_eq!(at, [315, 345], "the kubelet has not even delivered the annotation");
    }

    #[test]
    fn a_report_from_before_the_annotation_says_nothing() {
        let mut nudges = Nudges::default();
        let wanted = Assignment::Profile(ProfileName::of("p", "new"));
        let report = report();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let pod = pod(&wanted);
        nudges.annotated(&pod.uid, at(1));
        assert!((1..90).all(|secs| !nudges.due(&pod, &wanted, Some((&report, start)), at(secs))));
        nudges.forget(&pod.uid);
        assert!(nudges.annotated.is_empty());
    }

    #[test]
    fn a_pod_whose_turn_has_not_come_is_not_late() {
        let mut nudges = Nudges::default();
        let old = pod(&Assignment::Profile(ProfileName::of("p", "old")));
        let wanted = Assignment::Profile(ProfileName::of("p", "new"));
        let report = report();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        assert!((1..90).all(|secs| !nudges.due(&old, &wanted, Some((&report, at(secs))), at(secs))));
        // After the annotation is written, its own time begins.
        nudges.annotated(&old.uid, at(90));
        let new = pod(&wanted);
        let due: Vec<_> = (91..120)
            .filter(|secs| nudges.due(&new, &wanted, Some((&report, at(*secs))), at(*secs)))
            .collect();
        assert_eq!(due, [106]);
    }

    #[test]
    fn a_changed_key_is_worth_three_nudges() {
        let mut nudges = Nudges::default();
        let start = Instant::now();
        let (pod, other) = (pod(&Assignment::None), agent("other", None));
        nudges.secret_changed(&pod.uid, start);
        let mut due = |pod: &AgentPod, secs| {
            nudges.due(pod, &Assignment::None, None, start + Duration::from_secs(secs))
        };
        assert!((0..60).all(|secs| !due(&other, secs)));
        assert_eq!((0..60).filter(|secs| due(&pod, *secs)).collect::<Vec<_>>(), [1, 5, 15]);
        nudges.secret_changed(&pod.uid, start);
        nudges.forget(&pod.uid);
        assert!(nudges.secrets.is_empty());
    }

    #[test]
    fn a_spoilt_copy_on_the_node_is_refreshed_even_while_the_good_profile_runs() {
        let mut report = report();
        let wanted = Assignment::Profile(ProfileName::of("p", "text"));
        (report.assignment, report.profile) = (wanted.clone(), Some(ProfileName::of("p", "text")));
        assert!(!lags(&wanted, &report));
        report.profile_error =
            Some(ProfileError { reason: ProfileFailure::HashMismatch, message: String::new() });
        assert!(lags(&wanted, &report));
    }

    #[test]
    fn a_refused_profile_is_no_reason_to_nudge() {
        let mut report = report();
        let wanted = Assignment::Profile(ProfileName::of("p", "new"));
        report.assignment = wanted.clone();
        report.profile = None;
        assert!(lags(&wanted, &report));
        report.profile_error =
            Some(ProfileError { reason: ProfileFailure::ProfileInvalid, message: String::new() });
        assert!(!lags(&wanted, &report));
    }
}
