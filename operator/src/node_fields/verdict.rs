//! The condition `timesync.dev/ClockSynchronized` of a Node: the agent's state in, a verdict out. Pure.
//!
//! The verdict becomes False as soon as the clock is not synchronised, since others rely on True. It becomes True again
//! only after the clock was synchronised for `thresholds.hold`, so that a clock at the limit does not toggle it. A node's
//! first synchronisation after a boot counts at once. An agent that begins again, as in an upgrade, has no answer yet and
//! does not say that the clock is wrong: for a moment the former verdict stays.
use std::time::{Duration, Instant};

use contract::{ProfileFailure, Reason, Report};
use profile::Thresholds;

use crate::{
    build::PreparedNode,
    condition::{Finding, reason},
    facts::NodeFacts,
    node_conditions,
    reports::AgentState,
};

/// An agent that begins again has an answer within this time, if an upstream gives one.
const BEGINNING: Duration = Duration::from_secs(20);

/// What other programs are to be told about a node's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: no policy is in force on the node, or it can have no agent.
    Absent,
    /// It is too early for a conclusion. The former verdict stays.
    Unchanged,
    /// The present value of the condition.
    Known(Finding),
}

/// What is kept of a node's clock between two verdicts.
#[derive(Debug, Default)]
pub(super) struct ClockHistory {
    /// The status of the last verdict.
    told: Option<Option<bool>>,
    /// Since when the clock has been synchronised without interruption.
    good_since: Option<Instant>,
    /// Since when the agent of a clock that was synchronised has said that it begins.
    begins_since: Option<Instant>,
    /// True if the clock was not synchronised yet since the node's boot.
    starting: bool,
    /// The boot in which it was. An agent that says otherwise does not begin another start phase.
    synchronized_in: Option<String>,
}

impl ClockHistory {
    /// Judges a node's clock. `facts` are the newest of the Node; `told_boot` is the boot id of the last report that is
    /// stored.
    pub(super) fn judge(
        &mut self,
        node: &PreparedNode,
        facts: &NodeFacts,
        agent: AgentState<'_>,
        told_boot: Option<&str>,
        thresholds: &Thresholds,
        now: Instant,
    ) -> Verdict {
        let can_have_agent = node.reached || !node.agents.is_empty();
        if node.policy().is_none() || !can_have_agent {
            *self = Self::default();
            return Verdict::Absent;
        }
        self.told = self.told.or(facts.clock_condition.as_ref().map(|stored| stored.status));
        let finding = match agent {
            AgentState::Waiting { .. }
                if told_boot.is_some_and(|told| is_other_boot(&facts.boot_id, told)) =>
            {
                self.rebooted()
            }
            AgentState::Waiting { .. } => return Verdict::Unchanged,
            AgentState::Report(report, _) => match self.of_report(&facts.boot_id, report, thresholds, now) {
                Some(finding) => finding,
                None => return Verdict::Unchanged,
            },
            AgentState::Unproven(impostor) => {
                Finding::new(None, reason::AGENT_NOT_PROVEN, node_conditions::unproven(impostor))
            }
            AgentState::Silent(failure) => node_conditions::silence(!node.agents.is_empty(), failure),
        };
        if finding.status.is_none() {
            (self.good_since, self.begins_since) = (None, None);
        }
        self.told = Some(finding.status);
        Verdict::Known(finding)
    }

    /// The finding of a report; none while it is too early: the clock is synchronised again, but not for long
    /// enough, or the agent has just begun again. `boot` is the boot id that kubelet reports.
    fn of_report(
        &mut self,
        boot: &str,
        report: &Report,
        thresholds: &Thresholds,
        now: Instant,
    ) -> Option<Finding> {
        if is_other_boot(boot, &report.boot_id) {
            return Some(self.rebooted());
        }
        let clock = &report.clock;
        self.starting |= clock.start_phase && self.synchronized_in.as_ref() != Some(&report.boot_id);
        let limit = thresholds.error_bound;
        // A new operator does not know the boot of the former verdict.
        let same_boot = self.synchronized_in.as_ref().is_none_or(|boot| *boot == report.boot_id);
        if begins(report) && same_boot && self.told == Some(Some(true)) {
            let since = *self.begins_since.get_or_insert(now);
            if now.saturating_duration_since(since) < thresholds.hold.as_duration().min(BEGINNING) {
                return None;
            }
        }
        self.begins_since = None;
        if !clock.synchronized {
            self.good_since = None;
            return Some(Finding::new(Some(false), clock.reason.as_str(), clock.message.clone()));
        }
        // The policy's threshold may have changed, and the agent may not run the new profile yet.
        if clock.error_bound.is_none_or(|bound| bound > limit.as_secs_f64()) {
            self.good_since = None;
            let message = format!("The error bound is larger than thresholds.errorBound ({limit}).");
            return Some(Finding::new(Some(false), Reason::ErrorBound.as_str(), message));
        }
        let since = *self.good_since.get_or_insert(now);
        let again = self.told == Some(Some(false)) && !self.starting;
        if again && now.saturating_duration_since(since) < thresholds.hold.as_duration() {
            return None;
        }
        self.starting = false;
        if self.synchronized_in.as_ref() != Some(&report.boot_id) {
            self.synchronized_in = Some(report.boot_id.clone());
        }
        let message = match clock.reason {
            Reason::Holdover => {
                format!(
                    "No upstream gives time. The error bound is still within thresholds.errorBound ({limit})."
                )
            }
            Reason::LocalReference => {
                "The clock agrees with its group. Its distance from UTC is not known.".to_owned()
            }
            _ => format!("The error bound is within thresholds.errorBound ({limit})."),
        };
        Some(Finding::new(Some(true), clock.reason.as_str(), message))
    }

    fn rebooted(&mut self) -> Finding {
        // Each start phase begins with a report of the new boot.
        self.starting = true;
        let message = "The node has booted since its agent reported, so its clock may be wrong.";
        Finding::new(None, reason::REBOOTED, message)
    }

    /// Returns true if time alone can change the verdict.
    pub(super) fn is_pending(&self) -> bool {
        self.begins_since.is_some() || self.told == Some(Some(false)) && self.good_since.is_some()
    }
}

/// Returns true if kubelet reports another boot than the agent did.
fn is_other_boot(present: &str, told: &str) -> bool {
    !present.is_empty() && present != told
}

/// Returns true if the agent says no more than that it begins, and the clock was synchronised in this boot as far as
/// the agent knows. It knows that only with a profile.
fn begins(report: &Report) -> bool {
    let refused =
        report.profile_error.as_ref().is_some_and(|error| error.reason != ProfileFailure::ProfileMissing);
    match report.clock.reason {
        Reason::Starting => !report.clock.start_phase,
        Reason::NoProfile => !refused,
        _ => false,
    }
}
