//! When to nudge the kubelet of a node whose agent does not run what its annotation says, or needs a key that was
//! changed. A volume can lag behind a
//! pod's annotations by a minute; any further change of them makes the kubelet look again. Pure: time is an argument.
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use contract::{Assignment, Report};

/// A kubelet that is going to deliver by itself has done so by then.
const FIRST: Duration = Duration::from_secs(2);
/// The kubelet's own round is about as long.
const LONGEST: Duration = Duration::from_secs(60);

/// After a change of a key, which no report speaks of: once the kubelet has seen the Secret change, and again in case
/// that it had not.
const AFTER_KEYS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];

/// Agents that lag behind, by the pod's uid.
#[derive(Debug, Default)]
pub(crate) struct Nudges {
    waiting: BTreeMap<String, Waiting>,
    /// When to nudge because of a key, the next one last.
    keys: BTreeMap<String, Vec<Instant>>,
}

#[derive(Debug)]
struct Waiting {
    wanted: Assignment,
    next: Instant,
    interval: Duration,
}

impl Nudges {
    /// A key that the pod's agent needs was changed.
    pub(crate) fn keys_changed(&mut self, pod: &str, now: Instant) {
        self.keys.insert(pod.to_owned(), AFTER_KEYS.iter().rev().map(|delay| now + *delay).collect());
    }

    /// Whether the pod is to be nudged now. `report` is the agent's newest; without one there is nothing to judge by.
    pub(crate) fn due(
        &mut self,
        pod: &str,
        wanted: &Assignment,
        report: Option<&Report>,
        now: Instant,
    ) -> bool {
        let keys = self.keys_due(pod, now);
        self.lag_due(pod, wanted, report, now) || keys
    }

    fn keys_due(&mut self, pod: &str, now: Instant) -> bool {
        let Some(times) = self.keys.get_mut(pod) else { return false };
        let due = times.pop_if(|next| *next <= now).is_some();
        if times.is_empty() {
            self.keys.remove(pod);
        }
        due
    }

    fn lag_due(&mut self, pod: &str, wanted: &Assignment, report: Option<&Report>, now: Instant) -> bool {
        if report.is_none_or(|report| !lags(wanted, report)) {
            self.waiting.remove(pod);
            return false;
        }
        let waiting = self.waiting.entry(pod.to_owned()).or_insert_with(|| Waiting::start(wanted, now));
        if waiting.wanted != *wanted {
            *waiting = Waiting::start(wanted, now);
        }
        let due = now >= waiting.next;
        if due {
            waiting.next = now + waiting.interval;
            waiting.interval = (waiting.interval * 2).min(LONGEST);
        }
        due
    }

    /// Forgets pods that are gone.
    pub(crate) fn retain(&mut self, there: impl Fn(&str) -> bool) {
        self.waiting.retain(|pod, _| there(pod));
        self.keys.retain(|pod, _| there(pod));
    }
}

impl Waiting {
    fn start(wanted: &Assignment, now: Instant) -> Self {
        Self { wanted: wanted.clone(), next: now + FIRST, interval: FIRST * 2 }
    }
}

/// Whether a look at the volume could help: not if the agent has read the profile and refuses it.
fn lags(wanted: &Assignment, report: &Report) -> bool {
    match wanted {
        Assignment::Unassigned => false,
        Assignment::None => report.assignment != Assignment::None,
        Assignment::Profile(profile) => {
            let error = report.profile_error.as_ref().map(|error| error.reason.as_str());
            let refused = report.assignment == *wanted && error == Some("ProfileInvalid");
            // A key that was edited by hand is repaired in the ConfigMap long before the node's copy of it is.
            let spoilt = error == Some("HashMismatch");
            spoilt || (report.profile.as_ref() != Some(profile) && !refused)
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{ProfileError, ProfileName};

    use super::*;
    use crate::fixtures::report;

    #[test]
    fn a_lagging_agent_is_nudged_more_and_more_rarely() {
        let mut nudges = Nudges::default();
        let wanted = Assignment::Profile(ProfileName::of("p", "new"));
        let mut report = report();
        report.profile = Some(ProfileName::of("p", "old"));
        let start = Instant::now();
        let at =
            (0..200).filter(|s| nudges.due("u", &wanted, Some(&report), start + Duration::from_secs(*s)));
        assert_eq!(at.collect::<Vec<_>>(), [2, 6, 14, 30, 62, 122, 182]);
        report.profile = Some(ProfileName::of("p", "new"));
        assert!(!nudges.due("u", &wanted, Some(&report), start + Duration::from_secs(300)));
        assert!(nudges.waiting.is_empty());
    }

    #[test]
    fn a_changed_key_is_worth_three_nudges() {
        let mut nudges = Nudges::default();
        let start = Instant::now();
        nudges.keys_changed("u", start);
        let mut due = |pod, secs| nudges.due(pod, &Assignment::None, None, start + Duration::from_secs(secs));
        assert!((0..60).all(|secs| !due("other", secs)));
        assert_eq!((0..60).filter(|secs| due("u", *secs)).collect::<Vec<_>>(), [1, 5, 15]);
        nudges.keys_changed("u", start);
        nudges.retain(|_| false);
        assert!(nudges.keys.is_empty());
    }

    #[test]
    fn a_spoilt_copy_on_the_node_is_refreshed_even_while_the_good_profile_runs() {
        let mut report = report();
        let wanted = Assignment::Profile(ProfileName::of("p", "text"));
        (report.assignment, report.profile) = (wanted.clone(), Some(ProfileName::of("p", "text")));
        assert!(!lags(&wanted, &report));
        report.profile_error =
            Some(ProfileError { reason: "HashMismatch".to_owned(), message: String::new() });
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
            Some(ProfileError { reason: "ProfileInvalid".to_owned(), message: String::new() });
        assert!(!lags(&wanted, &report));
    }
}
