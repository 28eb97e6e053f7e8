//! The fields that a Node is to have, and what is kept of the node for the next decision. Pure: time is an argument.
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use profile::Thresholds;

use crate::{
    build::PreparedNode,
    condition::Finding,
    facts::{NodeFacts, since},
    node_fields::{
        bound_label::{BOUND_LABEL, BoundClass, BoundHistory},
        verdict::{ClockHistory, Verdict},
        writes::WRONG_TAINT,
    },
    reports::AgentState,
};

/// A field that is to be written, removed, or left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Desired<T> {
    /// It is too early for a conclusion.
    #[default]
    AsIs,
    Absent,
    Present(T),
}

/// The fields that a Node is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DesiredFields {
    /// The condition `timesync.dev/ClockSynchronized`.
    pub(crate) condition: Desired<Finding>,
    /// The label `timesync.dev/clock-bound`.
    pub(crate) bound: Desired<BoundClass>,
    /// True if the clock is synchronised, which removes the taint with which the node may have registered.
    pub(crate) synchronized: bool,
}

/// The desired fields of one Node, and what they depend on besides the newest report.
#[derive(Debug, Default)]
pub(crate) struct ClockFields {
    clock: ClockHistory,
    bound: BoundHistory,
    /// True if the node was judged before by this operator. Only then the age of a taint is measured here; the first one
    /// follows from the time that a former operator wrote.
    is_known: bool,
    /// The last verdict's status, and since when it has been False by the agent's own words.
    status: Option<bool>,
    wrong_since: Option<Instant>,
    /// Since when it has had the taint.
    tainted_since: Option<Instant>,
    pub(crate) desired: DesiredFields,
}

impl ClockFields {
    /// Decides again. `facts` are the newest of the Node; `told_boot` is the boot id of the last report that is stored.
    /// Returns true if time alone can change the decision.
    pub(crate) fn update(
        &mut self,
        node: &PreparedNode,
        facts: &NodeFacts,
        agent: AgentState<'_>,
        told_boot: Option<&str>,
        thresholds: &Thresholds,
        (now, time): (Instant, Timestamp),
    ) -> bool {
        let stored = facts.clock_condition.as_ref();
        let verdict = self.clock.judge(node, facts, agent, told_boot, thresholds, now);
        let status = match &verdict {
            Verdict::Absent => None,
            // After a start of the operator, the Node says what the last one knew.
            Verdict::Unchanged => self.status.or(stored.and_then(|stored| stored.status)),
            Verdict::Known(finding) => finding.status,
        };
        self.wrong_since = match (status, self.wrong_since) {
            // What a former operator knew may be long past, and may be measured by another clock.
            (Some(false), None) if verdict == Verdict::Unchanged => None,
            (Some(false), since) => Some(since.unwrap_or(now)),
            (Some(true) | None, _) => None,
        };
        let taint = facts.taints.iter().find(|taint| taint.key == WRONG_TAINT);
        self.tainted_since = taint.map(|taint| {
            let added = taint.time_added.as_ref().filter(|_| !self.is_known);
            self.tainted_since.unwrap_or_else(|| since(added.map(|added| added.0), now, time))
        });
        self.is_known = true;
        self.status = status;
        self.desired.bound = self.bound(facts, agent, &verdict, thresholds, now);
        self.desired.synchronized = status == Some(true) && verdict != Verdict::Unchanged;
        self.desired.condition = match verdict {
            Verdict::Absent => Desired::Absent,
            Verdict::Unchanged => Desired::AsIs,
            Verdict::Known(finding) => Desired::Present(finding),
        };
        self.clock.is_pending() || self.bound.is_pending()
    }

    /// The status of the last verdict.
    pub(crate) fn status(&self) -> Option<bool> {
        self.status
    }

    /// For how long the verdict has been False; none while the clock is right and only waits for `thresholds.hold`.
    pub(crate) fn wrong_for(&self, now: Instant) -> Option<Duration> {
        let since = self.wrong_since.filter(|_| !self.clock.is_pending());
        since.map(|since| now.saturating_duration_since(since))
    }

    /// For how long the Node has had the taint for a wrong clock; none if it has none.
    pub(crate) fn tainted_for(&self, now: Instant) -> Option<Duration> {
        self.tainted_since.map(|since| now.saturating_duration_since(since))
    }

    fn bound(
        &mut self,
        facts: &NodeFacts,
        agent: AgentState<'_>,
        verdict: &Verdict,
        thresholds: &Thresholds,
        now: Instant,
    ) -> Desired<BoundClass> {
        let known = matches!(verdict, Verdict::Known(Finding { status: Some(_), .. }) | Verdict::Unchanged);
        let present = match (verdict, agent) {
            (Verdict::Absent, _) => return Desired::Absent,
            (Verdict::Unchanged, AgentState::Waiting { .. }) => return Desired::AsIs,
            // Its agent begins again.
            (Verdict::Unchanged, AgentState::Report(report, _)) if report.clock.error_bound.is_none() => {
                self.bound.interrupt();
                return Desired::AsIs;
            }
            (_, AgentState::Report(report, _)) if known => BoundClass::of(&report.clock),
            _ => BoundClass::NONE,
        };
        let told = facts.labels.get(BOUND_LABEL).and_then(|label| BoundClass::from_label(label));
        Desired::Present(self.bound.decide(told, present, thresholds.hold.as_duration(), now))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use contract::{Assignment, ProfileError, ProfileFailure, Reason, Report};
    use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::apis::meta::v1::Time};

    use super::*;
    use crate::{
        condition::reason,
        facts::ClockCondition,
        fixtures::{agent, prepared_node, report},
    };

    /// A node with a policy and an agent, and what is kept of it.
    struct Fixture {
        node: PreparedNode,
        fields: ClockFields,
        told_boot: Option<String>,
        start: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let facts = NodeFacts { boot_id: "boot".to_owned(), ..(*prepared_node().facts).clone() };
            let node = PreparedNode {
                facts: Arc::new(facts),
                agents: vec![Arc::new(agent("n1", None))],
                wanted: Assignment::from_annotation("default.811c9dc5"),
                ..prepared_node()
            };
            Self { node, fields: ClockFields::default(), told_boot: None, start: Instant::now() }
        }

        /// The condition after `agent` at this time, as its status and reason; none if it is left as it is or absent.
        fn condition(&mut self, agent: AgentState<'_>, secs: u64) -> Option<(Option<bool>, &'static str)> {
            let now = self.start + Duration::from_secs(secs);
            let time = Timestamp::from_second(1_000_000 + i64::try_from(secs).unwrap()).unwrap();
            let told_boot = self.told_boot.as_deref();
            let limits = Thresholds::default();
            self.fields.update(&self.node, &self.node.facts, agent, told_boot, &limits, (now, time));
            match &self.fields.desired.condition {
                Desired::Present(finding) => Some((finding.status, finding.reason)),
                Desired::AsIs | Desired::Absent => None,
            }
        }

        fn reported(
            &mut self,
            secs: u64,
            change: impl FnOnce(&mut Report),
        ) -> Option<(Option<bool>, &'static str)> {
            let mut report = report();
            change(&mut report);
            self.condition(AgentState::Report(&report, Timestamp::UNIX_EPOCH), secs)
        }

        fn facts(&mut self, change: impl FnOnce(&mut NodeFacts)) {
            change(Arc::make_mut(&mut self.node.facts));
        }
    }

    fn lost(report: &mut Report) {
        (report.clock.synchronized, report.clock.reason) = (false, Reason::NoMajority);
    }

    /// What an agent says until its first answer.
    fn begins(report: &mut Report) {
        lost(report);
        (report.clock.reason, report.clock.error_bound) = (Reason::Starting, None);
    }

    #[test]
    fn false_at_once_and_true_after_a_while() {
        let mut node = Fixture::new();
        assert_eq!(node.reported(0, |_| ()), Some((Some(true), "Synchronized")));
        assert_eq!(node.reported(10, lost), Some((Some(false), "NoMajority")));
        assert_eq!(node.fields.wrong_for(node.start + Duration::from_secs(15)), Some(Duration::from_secs(5)));
        assert_eq!(node.reported(20, |_| ()), None, "it is left as it is");
        assert!(!node.fields.desired.synchronized);
        assert_eq!(node.reported(60, lost), Some((Some(false), "NoMajority")));
        assert_eq!(
            node.fields.wrong_for(node.start + Duration::from_secs(65)),
            Some(Duration::from_secs(55))
        );
        assert_eq!(node.reported(70, |_| ()), None, "the time begins anew");
        assert_eq!(node.reported(129, |_| ()), None);
        let while_it_waits = node.fields.wrong_for(node.start + Duration::from_secs(130));
        assert_eq!(while_it_waits, None, "a clock that is right is not tainted");
        assert_eq!(node.reported(130, |_| ()), Some((Some(true), "Synchronized")));
        assert_eq!(node.fields.wrong_for(node.start + Duration::from_secs(130)), None);
    }

    #[test]
    fn the_first_synchronisation_of_a_boot_counts_at_once() {
        let mut node = Fixture::new();
        let starting = |report: &mut Report| {
            lost(report);
            (report.clock.start_phase, report.clock.reason) = (true, Reason::Starting);
        };
        assert_eq!(node.reported(0, starting), Some((Some(false), "Starting")));
        assert_eq!(node.reported(5, |_| ()), Some((Some(true), "Synchronized")));
        assert!(node.fields.desired.synchronized);
        // After a boot, kubelet says so before the agent does.
        node.facts(|facts| "next".clone_into(&mut facts.boot_id));
        assert_eq!(node.reported(6, |_| ()), Some((None, reason::REBOOTED)));
        assert_eq!(node.fields.desired.bound, Desired::Present(BoundClass::NONE));
        let next = |report: &mut Report| "next".clone_into(&mut report.boot_id);
        assert_eq!(
            node.reported(9, |report| (next(report), starting(report)).0),
            Some((Some(false), "Starting"))
        );
        assert_eq!(node.reported(12, next), Some((Some(true), "Synchronized")));
    }

    #[test]
    fn an_agent_that_begins_again_has_a_moment() {
        let mut node = Fixture::new();
        assert_eq!(node.reported(0, |_| ()), Some((Some(true), "Synchronized")));
        let without_profile =
            |report: &mut Report| (begins(report), report.clock.reason = Reason::NoProfile).0;
        assert_eq!(node.reported(10, without_profile), None, "it is left as it is");
        assert_eq!(node.fields.desired.bound, Desired::AsIs);
        assert_eq!(node.reported(12, |_| ()), Some((Some(true), "Synchronized")));
        // One that never has an answer is not right for ever.
        assert_eq!(node.reported(20, begins), None);
        assert_eq!(node.reported(39, begins), None);
        assert_eq!(node.reported(40, begins), Some((Some(false), "Starting")));
        assert_eq!(node.fields.desired.bound, Desired::Present(BoundClass::NONE));
        // What is wrong is told at once, also then: another reason, a profile that is refused, a boot.
        let boots = |report: &mut Report| (begins(report), report.clock.start_phase = true).0;
        let other_boot = |report: &mut Report| (begins(report), "next".clone_into(&mut report.boot_id)).0;
        let refuses = |report: &mut Report| {
            without_profile(report);
            let reason = ProfileFailure::ProfileInvalid;
            report.profile_error = Some(ProfileError { reason, message: String::new() });
        };
        let wrong: [&dyn Fn(&mut Report); 4] = [&lost, &refuses, &boots, &other_boot];
        let reasons = ["NoMajority", "NoProfile", "Starting", "Starting"];
        node.facts(|facts| facts.boot_id.clear());
        let mut secs = 41;
        for (change, reason) in wrong.into_iter().zip(reasons) {
            assert_eq!(node.reported(secs, |_| ()), None);
            assert_eq!(node.reported(secs + 60, |_| ()), Some((Some(true), "Synchronized")));
            assert_eq!(node.reported(secs + 61, begins), None);
            assert_eq!(node.reported(secs + 62, change), Some((Some(false), reason)));
            secs += 63;
        }
    }

    #[test]
    fn a_new_operator_gives_an_agent_that_begins_a_moment_too() {
        let mut node = Fixture::new();
        node.facts(|facts| {
            facts.clock_condition = Some(ClockCondition { status: Some(true), ..ClockCondition::default() });
        });
        assert_eq!(node.reported(0, begins), None);
        assert_eq!(node.fields.desired.bound, Desired::AsIs);
        assert_eq!(node.reported(20, begins), Some((Some(false), "Starting")));
    }

    #[test]
    fn an_error_bound_beyond_the_policys_threshold_is_not_synchronised() {
        let mut node = Fixture::new();
        let wide = |report: &mut Report| report.clock.error_bound = Some(0.3);
        assert_eq!(node.reported(0, wide), Some((Some(false), "ErrorBound")));
        assert_eq!(
            node.reported(1, |report| report.clock.error_bound = None),
            Some((Some(false), "ErrorBound"))
        );
    }

    #[test]
    fn without_a_report_it_is_unknown_and_before_one_it_stays() {
        let mut node = Fixture::new();
        assert_eq!(node.condition(AgentState::Waiting { tried: true }, 0), None);
        assert_eq!(node.fields.desired.condition, Desired::AsIs);
        assert_eq!(node.condition(AgentState::Silent(None), 90), Some((None, reason::AGENT_UNREACHABLE)));
        assert_eq!(node.fields.status(), None);
        assert_eq!(node.reported(91, |_| ()), Some((Some(true), "Synchronized")));
        node.node.wanted = Assignment::None;
        assert_eq!(node.reported(92, |_| ()), None);
        assert_eq!(node.fields.desired.condition, Desired::Absent);
        assert_eq!(node.fields.desired.bound, Desired::Absent);
    }

    #[test]
    fn a_new_operator_goes_on_from_the_node() {
        let mut node = Fixture::new();
        node.facts(|facts| {
            let since = Some(Timestamp::from_second(1_000_000 - 200).unwrap());
            let reason = "NoMajority".to_owned();
            facts.clock_condition =
                Some(ClockCondition { status: Some(false), reason, since, ..Default::default() });
        });
        assert_eq!(node.condition(AgentState::Waiting { tried: false }, 1), None);
        let wrong_for = |node: &Fixture, secs| node.fields.wrong_for(node.start + Duration::from_secs(secs));
        assert_eq!((node.fields.status(), wrong_for(&node, 1)), (Some(false), None), "no agent says so now");
        assert_eq!(node.reported(2, lost), Some((Some(false), "NoMajority")));
        assert_eq!(wrong_for(&node, 5), Some(Duration::from_secs(3)));
        assert_eq!(node.reported(6, |_| ()), None, "it must be right for a while here, too");
        assert_eq!(node.reported(66, |_| ()), Some((Some(true), "Synchronized")));
    }

    #[test]
    fn a_new_operator_does_not_trust_a_word_of_another_boot() {
        let mut node = Fixture::new();
        let right = ClockCondition { status: Some(true), ..Default::default() };
        node.facts(|facts| facts.clock_condition = Some(right));
        node.told_boot = Some("boot".to_owned());
        let waiting = || AgentState::Waiting { tried: false };
        assert_eq!(node.condition(waiting(), 1), None, "it is left as it is");
        node.facts(|facts| "next".clone_into(&mut facts.boot_id));
        assert_eq!(node.condition(waiting(), 2), Some((None, reason::REBOOTED)));
        assert_eq!(node.fields.desired.bound, Desired::Present(BoundClass::NONE));
        let next = |report: &mut Report| "next".clone_into(&mut report.boot_id);
        assert_eq!(node.reported(3, next), Some((Some(true), "Synchronized")));
    }

    #[test]
    fn an_agent_cannot_switch_the_hysteresis_off() {
        let mut node = Fixture::new();
        let starting = |report: &mut Report| (lost(report), report.clock.start_phase = true).0;
        node.reported(0, starting);
        assert_eq!(node.reported(1, |_| ()), Some((Some(true), "Synchronized")));
        assert_eq!(node.reported(2, starting), Some((Some(false), "NoMajority")));
        assert_eq!(node.reported(3, |_| ()), None, "the same boot has one start phase");
    }

    #[test]
    fn the_age_of_a_taint_is_measured_here_except_for_the_first_look() {
        let taint = |secs: i64| Taint {
            key: WRONG_TAINT.to_owned(),
            effect: "NoSchedule".to_owned(),
            time_added: Some(Time(Timestamp::from_second(1_000_000 + secs).unwrap())),
            value: None,
        };
        let age = |node: &Fixture, secs| node.fields.tainted_for(node.start + Duration::from_secs(secs));
        let mut former = Fixture::new();
        former.facts(|facts| facts.taints = vec![taint(-600)]);
        former.reported(0, lost);
        assert_eq!(age(&former, 5), Some(Duration::from_secs(605)), "another operator set it");
        let mut node = Fixture::new();
        node.reported(0, lost);
        assert_eq!(age(&node, 1), None);
        // The clock of the operator's node has jumped.
        node.facts(|facts| facts.taints = vec![taint(-600)]);
        node.reported(10, lost);
        assert_eq!(age(&node, 15), Some(Duration::from_secs(5)));
    }
}
