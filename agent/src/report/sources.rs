//! One upstream: from the engine's types to the contract's.
use contract::{SourceReport, SourceState};

/// The report of one upstream.
pub(super) fn source_report(source: &ntp::SourceSnapshot) -> SourceReport {
    SourceReport {
        name: source.name.clone(),
        address: source.address.map(|address| address.to_string()),
        state: source_state(source.state),
        message: source.why.clone(),
        reach: source.reach,
        stratum: source.stratum,
        offset: finite(source.offset),
        delay: finite(source.delay),
        jitter: finite(source.jitter),
        poll: source.poll,
        last_answer_age: source.last_answer_age,
        sent: source.sent,
        received: source.received,
        rejected: source.rejected,
    }
}

/// Why upstreams give no time, with their names; empty if all give time.
pub(crate) fn reasons(snapshot: &ntp::Snapshot) -> String {
    let lost = snapshot.sources.iter().filter(|source| is_lost(source.state));
    contract::reasons(lost.map(|source| (source.name.as_str(), source.why.as_str())))
}

/// Returns true if a source in this state gives no time. Then its reason changes only when something happens.
pub(super) fn is_lost(state: ntp::SourceState) -> bool {
    matches!(state, ntp::SourceState::Unresolved | ntp::SourceState::Unreachable | ntp::SourceState::Unusable)
}

/// The result of selection, as the contract's type.
pub(super) fn source_state(state: ntp::SourceState) -> SourceState {
    match state {
        ntp::SourceState::Unresolved => SourceState::Unresolved,
        ntp::SourceState::Unreachable => SourceState::Unreachable,
        ntp::SourceState::Measuring => SourceState::Measuring,
        ntp::SourceState::Unusable => SourceState::Unusable,
        ntp::SourceState::Falseticker => SourceState::Falseticker,
        ntp::SourceState::NoMajority => SourceState::NoMajority,
        ntp::SourceState::Untrusted => SourceState::Untrusted,
        ntp::SourceState::Noselect => SourceState::Noselect,
        ntp::SourceState::Agreeing => SourceState::Agreeing,
        ntp::SourceState::Combined => SourceState::Combined,
        ntp::SourceState::Selected => SourceState::Selected,
    }
}

/// Keeps only numbers that JSON can represent. With another one, a reader would refuse the whole report.
pub(super) fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}
