//! What the report of a node says of the profile that is going out: whether it proves the profile, and whether the node
//! got worse. Pure: reports and time are arguments.
use std::time::{Duration, Instant};

use contract::{Assignment, ProfileFailure, ProfileName, Reason, Report, approximately};

use super::settings::Settings;

/// What a node must show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demands {
    /// Thresholds of the policy, seconds.
    pub(crate) offset: f64,
    pub(crate) error_bound: f64,
    /// False if the profile has no source of time at all, so that no answer can prove it.
    pub(crate) answer: bool,
}

/// A node without an accepted answer for this time has not proven the profile.
pub(super) const NO_ANSWER: Duration = Duration::from_secs(180);

/// A deviation counts when it lasts for this time: a clock that is measured anew may be unsynchronised for a moment.
const LASTS: Duration = Duration::from_secs(10);

/// What is remembered of a node that has the profile. It is lost when the operator ends.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    /// When the node got the profile, or when this operator first saw that.
    since: Instant,
    /// True if the node was well when it got the profile; none if that is not known.
    was_well: Option<bool>,
    /// Since when the node is well under the profile without a break.
    well_since: Option<Instant>,
    last_well: Option<Instant>,
    /// The node was well under the profile for long enough.
    pub(super) proven: bool,
    worse_since: Option<Instant>,
    /// The last verdict named it.
    pub(super) failing: bool,
}

/// What is to be concluded from one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is too early for a conclusion.
    Pending,
    /// The node has proven the profile.
    Proven,
    /// The node has proven nothing in time, but it was not well before, either; what is wrong.
    Unproven(String),
    /// The node was well, and has no accepted answer in time; what is wrong.
    NoAnswer(String),
    /// The node was well, and is worse now; what is wrong.
    Regression(String),
}

impl Watched {
    /// A node that has the profile since `now`.
    pub(super) fn new(was_well: Option<bool>, now: Instant) -> Self {
        Self {
            since: now,
            was_well,
            well_since: None,
            last_well: None,
            proven: false,
            worse_since: None,
            failing: false,
        }
    }

    /// Takes the node's report, and concludes.
    pub(super) fn judge(
        &mut self,
        report: Option<&Report>,
        profile: &ProfileName,
        demands: Demands,
        settings: &Settings,
        now: Instant,
    ) -> Verdict {
        if self.was_well.is_none() && report.is_some() {
            // After a restart of the operator a node that reports counts as one that was well: an unneeded pause does less
            // harm than a missed one.
            self.was_well = Some(true);
        }
        let trouble = report.and_then(|report| trouble(report, profile, demands));
        if report.is_some_and(|report| proves(report, profile, demands)) && trouble.is_none() {
            let since = *self.well_since.get_or_insert(now);
            self.last_well = Some(now);
            self.proven |= now.saturating_duration_since(since) >= settings.settle;
        } else {
            self.well_since = None;
        }
        let trouble = trouble.filter(|_| settings.pause_on_regression);
        let was_well = self.proven || self.was_well == Some(true);
        let lasts = match &trouble {
            Some(Trouble { at_once, .. }) => {
                let since = *self.worse_since.get_or_insert(now);
                *at_once || now.saturating_duration_since(since) >= LASTS
            }
            None => {
                self.worse_since = None;
                false
            }
        };
        let since = |time: Instant| now.saturating_duration_since(time);
        let silent = since(self.last_well.unwrap_or(self.since)) >= NO_ANSWER;
        // A node that is well again and again proves nothing. One break is forgiven.
        let flaps = since(self.since) >= settings.settle.saturating_mul(2) + NO_ANSWER;
        let overdue = (silent || flaps) && !self.proven;
        let lack = || match silent {
            true => lack(report, profile),
            false => "never well for rollout.settle without a break".to_owned(),
        };
        match trouble {
            Some(Trouble { what, .. }) if lasts && was_well => Verdict::Regression(what),
            // It may be over in a moment; until then no further node gets the profile.
            Some(_) if was_well && !overdue => Verdict::Pending,
            _ if self.proven => Verdict::Proven,
            _ if !overdue => Verdict::Pending,
            _ if was_well => Verdict::NoAnswer(lack()),
            _ => Verdict::Unproven(lack()),
        }
    }
}

/// Returns true if a clock is as it should be, under whatever profile.
pub(super) fn is_well(report: &Report, demands: Demands) -> bool {
    report.clock.synchronized && report.conflict.is_none() && beyond(report, demands).is_none()
}

/// Returns true if the node runs the profile, and its clock was compared with an answer that came under it.
fn proves(report: &Report, profile: &ProfileName, demands: Demands) -> bool {
    let clock = &report.clock;
    let answered = clock.synchronized && clock.confirmed && clock.reason != Reason::Holdover;
    report.profile.as_ref() == Some(profile) && (answered || !demands.answer)
}

struct Trouble {
    what: String,
    /// True if it cannot be over in a moment.
    at_once: bool,
}

/// What is wrong under the profile.
fn trouble(report: &Report, profile: &ProfileName, demands: Demands) -> Option<Trouble> {
    let refused = report.profile_error.as_ref().filter(|error| {
        error.reason == ProfileFailure::ProfileInvalid
            && report.assignment == Assignment::Profile(profile.clone())
    });
    if let Some(error) = refused {
        return Some(Trouble { what: format!("refuses it: {}", error.message), at_once: true });
    }
    if report.profile.as_ref() != Some(profile) {
        return None;
    }
    if report.conflict.is_some() {
        return Some(Trouble { what: "another program steers the clock".to_owned(), at_once: true });
    }
    let clock = &report.clock;
    let lost =
        (!clock.synchronized && demands.answer).then(|| format!("unsynchronised: {}", clock.reason.as_str()));
    lost.or_else(|| beyond(report, demands)).map(|what| Trouble { what, at_once: false })
}

/// Which threshold is exceeded.
fn beyond(report: &Report, demands: Demands) -> Option<String> {
    let clock = &report.clock;
    let exceeds = |what: &str, field: &str, value: Option<f64>, limit: f64| {
        let value = value.filter(|value| value.abs() > limit)?;
        Some(format!("{what} {} is beyond thresholds.{field}", approximately(value)))
    };
    exceeds("offset", "offset", clock.offset, demands.offset)
        .or_else(|| exceeds("error bound", "errorBound", clock.error_bound, demands.error_bound))
}

/// Why a node has not proven the profile.
fn lack(report: Option<&Report>, profile: &ProfileName) -> String {
    let Some(report) = report else { return "its agent does not report".to_owned() };
    if report.profile.as_ref() != Some(profile) {
        let why = report.profile_error.as_ref().map(|error| format!(": {}: {}", error.reason, error.message));
        return format!("does not run it{}", why.unwrap_or_default());
    }
    let clock = &report.clock;
    match clock.synchronized && clock.reason != Reason::Holdover {
        true => "no answer accepted under it".to_owned(),
        false => format!("no answer accepted under it: {}", clock.reason.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use contract::ProfileError;

    use super::*;
    use crate::fixtures::report;

    const DEMANDS: Demands = Demands { offset: 0.05, error_bound: 0.2, answer: true };

    /// The verdict after each second in `at`, of a node that was well, from the report that it then gives.
    fn verdicts(at: &[u64], change: impl Fn(u64, &mut Report)) -> Vec<Verdict> {
        verdicts_of(Some(true), DEMANDS, at, change)
    }

    fn verdicts_of(
        was_well: Option<bool>,
        demands: Demands,
        at: &[u64],
        change: impl Fn(u64, &mut Report),
    ) -> Vec<Verdict> {
        verdicts_by(&api::Rollout::default(), was_well, demands, at, change)
    }

    fn verdicts_by(
        rollout: &api::Rollout,
        was_well: Option<bool>,
        demands: Demands,
        at: &[u64],
        change: impl Fn(u64, &mut Report),
    ) -> Vec<Verdict> {
        let start = Instant::now();
        let mut watched = Watched::new(was_well, start);
        let settings = Settings::of(rollout).unwrap();
        let profile = report().profile.unwrap();
        let mut shown = Vec::new();
        for second in 0..=at.last().copied().unwrap() {
            let mut report = report();
            change(second, &mut report);
            let now = start + Duration::from_secs(second);
            let verdict = watched.judge(Some(&report), &profile, demands, &settings, now);
            if at.contains(&second) {
                shown.push(verdict);
            }
        }
        shown
    }

    fn regression(what: &str) -> Verdict {
        Verdict::Regression(what.to_owned())
    }

    #[test]
    fn a_node_is_proven_after_it_was_well_for_long_enough() {
        assert_eq!(verdicts(&[29, 30], |_, _| ()), [Verdict::Pending, Verdict::Proven]);
        let interrupted = |second, report: &mut Report| report.clock.confirmed = second != 20;
        assert_eq!(verdicts(&[30, 50, 51], interrupted)[1..], [Verdict::Pending, Verdict::Proven]);
    }

    #[test]
    fn holdover_and_answers_from_before_prove_nothing() {
        let why = |why: &str| Verdict::NoAnswer(format!("no answer accepted under it{why}"));
        let old = |_, report: &mut Report| report.clock.confirmed = false;
        assert_eq!(verdicts(&[179, 180], old), [Verdict::Pending, why("")]);
        let holds = |_, report: &mut Report| report.clock.reason = Reason::Holdover;
        assert_eq!(verdicts(&[179, 180], holds), [Verdict::Pending, why(": Holdover")]);
        let silent = |_, report: &mut Report| report.profile = None;
        assert_eq!(verdicts(&[180], silent), [Verdict::NoAnswer("does not run it".to_owned())]);
    }

    #[test]
    fn a_node_that_is_well_for_too_short_each_time_proves_nothing() {
        let flaps = |second, report: &mut Report| report.clock.synchronized = second % 29 < 20;
        let found = verdicts(&[180, 239, 240], flaps);
        let why = Verdict::NoAnswer("never well for rollout.settle without a break".to_owned());
        assert_eq!(found, [Verdict::Pending, Verdict::Pending, why]);
        let settings = api::Rollout { settle: "200s".to_owned(), ..api::Rollout::default() };
        let once = |second, report: &mut Report| report.clock.synchronized = second != 195;
        let found = verdicts_by(&settings, Some(true), DEMANDS, &[395, 396], once);
        assert_eq!(found, [Verdict::Pending, Verdict::Proven]);
    }

    #[test]
    fn a_node_that_was_not_well_before_shows_nothing() {
        let lost = |_, report: &mut Report| report.clock.synchronized = false;
        let found = verdicts_of(Some(false), DEMANDS, &[60, 180], lost);
        let why = "no answer accepted under it: Synchronized".to_owned();
        assert_eq!(found, [Verdict::Pending, Verdict::Unproven(why)]);
    }

    #[test]
    fn each_kind_of_regression_is_told() {
        let lost = |_, report: &mut Report| {
            (report.clock.synchronized, report.clock.reason) = (false, Reason::NoMajority);
        };
        assert_eq!(verdicts(&[9, 10], lost), [Verdict::Pending, regression("unsynchronised: NoMajority")]);
        let off = |_, report: &mut Report| report.clock.offset = Some(-0.06);
        assert_eq!(verdicts(&[10], off), [regression("offset -60ms is beyond thresholds.offset")]);
        let wide = |_, report: &mut Report| report.clock.error_bound = Some(0.3);
        assert_eq!(verdicts(&[10], wide), [regression("error bound 300ms is beyond thresholds.errorBound")]);
        let conflict = |_, report: &mut Report| {
            report.conflict =
                Some(contract::ConflictReport { since: 0.0, message: String::new(), suspects: vec![] });
        };
        assert_eq!(verdicts(&[0], conflict), [regression("another program steers the clock")]);
        let refuses = |_, report: &mut Report| {
            report.profile = Some("default.00000000".parse().unwrap());
            report.profile_error = Some(ProfileError {
                reason: ProfileFailure::ProfileInvalid,
                message: "unknown field".to_owned(),
            });
        };
        assert_eq!(verdicts(&[0], refuses), [regression("refuses it: unknown field")]);
        // Also of a node that has proven it.
        let late = |second, report: &mut Report| report.clock.synchronized = second < 40;
        let found = verdicts(&[39, 49, 50], late);
        assert_eq!(found[..2], [Verdict::Proven, Verdict::Pending], "it may be over in a moment");
        assert_eq!(found[2], regression("unsynchronised: Synchronized"));
    }

    #[test]
    fn a_profile_without_sources_is_proven_by_running_it() {
        let lost = |_, report: &mut Report| report.clock.synchronized = false;
        let nothing = Demands { answer: false, ..DEMANDS };
        assert_eq!(verdicts_of(Some(true), nothing, &[30], lost), [Verdict::Proven]);
    }
}
