//! The system clock in the report: the engine's snapshot and counters in, the contract's types out.
use contract::{ClockReport, Reason, limits::UNSYNCHRONIZED};
use ntp::{Snapshot, Wall};

use super::{parts::Parts, sources::finite, words::message};

pub(super) fn clock_report(parts: &Parts) -> ClockReport {
    let Some(snapshot) = &parts.snapshot else {
        return ClockReport {
            synchronized: false,
            reason: Reason::NoProfile,
            message: "No profile runs".to_owned(),
            leap: 3,
            stratum: UNSYNCHRONIZED,
            reference: None,
            offset: None,
            jitter: None,
            error_bound: None,
            root_delay: 0.0,
            root_dispersion: 0.0,
            frequency_ppm: 0.0,
            kernel_frequency_ppm: 0.0,
            last_update_age: None,
            steps: parts.steps(),
            restored: parts.restored,
            resumed: parts.resumed,
            raised: parts.raised,
            last_step: parts.last_step.clone(),
            external_steps: parts.external_steps,
            last_external_step: parts.last_external_step.clone(),
            start_phase: false,
            confirmed: false,
        };
    };
    let reference = reference(snapshot);
    ClockReport {
        synchronized: snapshot.synchronized,
        reason: reason(snapshot.reason),
        message: message(snapshot, reference.as_deref()),
        leap: snapshot.leap as u8,
        stratum: snapshot.stratum,
        reference,
        offset: finite(snapshot.offset),
        jitter: finite(snapshot.jitter),
        error_bound: finite(snapshot.error_bound),
        root_delay: finite(Some(snapshot.root_delay)).unwrap_or_default(),
        root_dispersion: finite(Some(snapshot.root_dispersion)).unwrap_or_default(),
        frequency_ppm: snapshot.frequency_ppm,
        kernel_frequency_ppm: snapshot.kernel_frequency_ppm,
        last_update_age: snapshot.reference_time.map(|at| (snapshot.at - at).max(0.0)),
        steps: snapshot.steps.saturating_add(parts.steps()),
        restored: parts.restored,
        resumed: parts.resumed,
        raised: parts.raised,
        last_step: parts.last_step.clone(),
        external_steps: parts.external_steps,
        last_external_step: parts.last_external_step.clone(),
        start_phase: snapshot.start_phase,
        confirmed: snapshot.confirmed,
    }
}

/// The clock at `now`: its error bound has grown since the snapshot. `idle` is the time since the event loop's last
/// turn, seconds: the clock may have been set back since the snapshot, so that its time shows no age.
pub(super) fn clock_report_at(parts: &Parts, now: Wall, idle: f64) -> ClockReport {
    let mut clock = clock_report(parts);
    if let Some(snapshot) = &parts.snapshot {
        let age = (now - snapshot.at).max(idle);
        clock.error_bound = clock.error_bound.map(|bound| bound + age * snapshot.bound_growth());
    } else if let Some(error) = &parts.profile.error {
        clock.message = format!("{}: {}", clock.message, error.message);
    }
    clock
}

/// The name of the selected source.
pub(super) fn reference(snapshot: &Snapshot) -> Option<String> {
    let id = snapshot.reference?;
    snapshot.sources.iter().find(|source| source.id == id).map(|source| source.name.clone())
}

pub(super) fn reason(reason: ntp::Reason) -> Reason {
    match reason {
        ntp::Reason::Synchronized => Reason::Synchronized,
        ntp::Reason::Holdover => Reason::Holdover,
        ntp::Reason::NoUpstreams => Reason::NoUpstreams,
        ntp::Reason::Starting => Reason::Starting,
        ntp::Reason::Unreachable => Reason::Unreachable,
        ntp::Reason::NoUsableUpstream => Reason::NoUsableUpstream,
        ntp::Reason::NoMajority => Reason::NoMajority,
        ntp::Reason::TooFewSources => Reason::TooFewSources,
        ntp::Reason::RequiredMissing => Reason::RequiredMissing,
        ntp::Reason::ErrorBound => Reason::ErrorBound,
        ntp::Reason::MaxChange | ntp::Reason::ResumeRefused => Reason::MaxChange,
        ntp::Reason::LocalClock | ntp::Reason::LocalReference => Reason::LocalReference,
        ntp::Reason::UnexplainedJump => Reason::UnexplainedJump,
        ntp::Reason::ExternalStep => Reason::ExternalStep,
    }
}

#[cfg(test)]
mod tests {
    use contract::{Assignment, ProfileError, ProfileFailure};

    use super::*;
    use crate::report::{ProfileStatus, tests::snapshot};

    #[test]
    fn an_error_bound_grows_after_the_snapshot() {
        let mut parts = Parts::new();
        let at = snapshot().at;
        // 1 ppm of dispersion, and as much of a slew.
        parts.snapshot = Some(snapshot());
        let check = |later_ns: i64, idle: f64, grown: f64| {
            let bound = clock_report_at(&parts, Wall(at.0 + later_ns), idle).error_bound.unwrap();
            assert!((bound - 1e-3 - grown).abs() < 1e-12, "{later_ns} {idle}: {bound}");
        };
        check(0, 0.0, 0.0);
        check(500_000_000, 0.0, 1e-6);
        check(500_000_000, 0.2, 1e-6);
        check(500_000_000, 3.0, 6e-6);
        // Another process has set the clock back by an hour.
        check(-3_600_000_000_000, 0.5, 1e-6);
        let bound = clock_report(&parts).error_bound;
        assert_eq!(bound, Some(1e-3), "the report has that of the snapshot");
    }

    #[test]
    fn without_a_profile_the_reason_is_the_profiles() {
        let mut parts = Parts::new();
        let message = |parts: &Parts| clock_report_at(parts, Wall(0), 0.0).message;
        assert_eq!(message(&parts), "No profile runs");
        let error = ProfileError {
            reason: ProfileFailure::ProfileMissing,
            message: "p.811c9dc5.toml is not there".to_owned(),
        };
        parts.profile = ProfileStatus {
            assignment: Assignment::Unassigned,
            running: None,
            mode: None,
            error: Some(error),
        };
        assert_eq!(message(&parts), "No profile runs: p.811c9dc5.toml is not there");
    }
}
