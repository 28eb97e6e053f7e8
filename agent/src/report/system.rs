//! The system clock in the report: the engine's snapshot and counters in, the contract's types out.
use contract::{ClockReport, Reason};
use ntp::Snapshot;

use super::{parts::Parts, sources::finite, words::message};

pub(super) fn clock_report(parts: &Parts) -> ClockReport {
    let Some(snapshot) = &parts.snapshot else {
        return ClockReport {
            synchronized: false,
            reason: Reason::NoProfile,
            message: "No profile runs".to_owned(),
            leap: 3,
            stratum: 16,
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
