//! The engine's results as sentences: why a clock is or is not synchronised, and what has happened. The engine's types
//! in; the contract's kinds, and texts for a reader, out.
use contract::{TransitionKind, approximately};
use ntp::Snapshot;

use super::{sources::reasons, suspect_search::SuspectSearch};
use crate::suspects::{ManagedBy, Suspect};

/// The reason as a sentence and, where it matters, why upstreams give no time. It has no numbers that change all the
/// time, since it becomes the message of a condition.
pub(super) fn message(snapshot: &Snapshot, reference: Option<&str>) -> String {
    let mut text = sentence(snapshot.reason, reference);
    if snapshot.reason == ntp::Reason::ErrorBound {
        text += error_bound(snapshot, reference).as_str();
    }
    let wants = matches!(
        snapshot.reason,
        ntp::Reason::Unreachable
            | ntp::Reason::NoUsableUpstream
            | ntp::Reason::Holdover
            | ntp::Reason::ErrorBound
            | ntp::Reason::TooFewSources
            | ntp::Reason::RequiredMissing
            | ntp::Reason::LocalClock
    );
    if wants { with_reasons(text, snapshot) } else { text }
}

/// A sentence, followed by the reasons why upstreams give no time, with their names.
pub(super) fn with_reasons(text: String, snapshot: &Snapshot) -> String {
    match reasons(snapshot) {
        why if why.is_empty() => text,
        why => format!("{text}. {}", why.trim_end_matches('.')),
    }
}

/// Why the error bound is large, if the clock follows an upstream: because of the upstream, or of an offset that is
/// being slewed.
fn error_bound(snapshot: &Snapshot, reference: Option<&str>) -> String {
    let follows = snapshot.sources.iter().any(|source| source.state == ntp::SourceState::Selected);
    let Some(name) = reference.filter(|_| follows) else { return String::new() };
    let distance = snapshot.root_delay / 2.0 + snapshot.root_dispersion;
    if snapshot.offset.is_some_and(|offset| offset.abs() > distance) {
        return format!(": the offset from {name} is still being corrected");
    }
    format!(
        ", since {name} itself may be wrong by that much (its root distance): raise thresholds.errorBound, or use \
         upstreams with a smaller one"
    )
}

/// The reason as a sentence.
fn sentence(reason: ntp::Reason, reference: Option<&str>) -> String {
    match reason {
        ntp::Reason::Synchronized => {
            return reference.map_or_else(
                || "A majority of the upstreams agrees".to_owned(),
                |name| format!("Follows {name}"),
            );
        }
        ntp::Reason::LocalReference => {
            let name = reference.unwrap_or("another server");
            return format!(
                "Follows {name}, whose time is that of a local clock: this node agrees with its group, but UTC is \
                 unknown"
            );
        }
        ntp::Reason::LocalClock => {
            "No upstream tells the time, so this node serves its own clock (stratum.local); UTC is unknown"
        }
        ntp::Reason::Holdover => "No upstream gives time; the clock runs on its last frequency",
        ntp::Reason::NoUpstreams => "The profile has no upstreams",
        ntp::Reason::Starting => "The first answers are awaited",
        ntp::Reason::Unreachable => "No upstream answers",
        ntp::Reason::NoUsableUpstream => "No upstream can be used",
        ntp::Reason::NoMajority => "The upstreams contradict each other: no majority",
        ntp::Reason::TooFewSources => "Fewer upstreams agree than clock.minSources asks for",
        ntp::Reason::RequiredMissing => "No upstream with the option require can be followed",
        ntp::Reason::ErrorBound => "The error bound is beyond thresholds.errorBound",
        ntp::Reason::MaxChange => "A correction beyond clock.maxChange would be needed",
        ntp::Reason::UnexplainedJump => {
            "The clock was moved by another process, or the node stood still; the clock is being measured anew"
        }
        ntp::Reason::ExternalStep => {
            "The clock was moved by another process, or the node stood still, and clock.onExternalStep is Report: \
             set the clock right, or change that"
        }
        ntp::Reason::ResumeRefused => {
            "The upstreams want a second step within ten minutes, as if the node had stood still again: it is not \
             made before they are over, since somebody may be forging their answers"
        }
    }
    .to_owned()
}

/// What has happened, as a kind and a sentence.
pub(super) fn described(transition: &ntp::Transition) -> (TransitionKind, String) {
    match transition {
        ntp::Transition::Synchronized => {
            (TransitionKind::Synchronized, "The clock is synchronized".to_owned())
        }
        ntp::Transition::LocalReference => (
            TransitionKind::LocalReference,
            "The clock is on the time of a local clock from now on: UTC is unknown".to_owned(),
        ),
        ntp::Transition::SynchronizationLost => {
            (TransitionKind::SynchronizationLost, "The clock is no longer synchronized".to_owned())
        }
        ntp::Transition::SynchronizationRegained => {
            (TransitionKind::SynchronizationRegained, "The clock is synchronized again".to_owned())
        }
        ntp::Transition::UpstreamsUnreachable => {
            (TransitionKind::UpstreamsUnreachable, "No upstream gives time".to_owned())
        }
        ntp::Transition::UpstreamsReachable => {
            (TransitionKind::UpstreamsReachable, "An upstream gives time again".to_owned())
        }
        ntp::Transition::Stepped { by, why } => {
            let why = match why {
                ntp::StepReason::Start => "",
                ntp::StepReason::ExternalStep => ", since another process had moved it",
                ntp::StepReason::Resume => ", since the node had stood still",
                ntp::StepReason::Floor => ", to the last time known to be right: the RTC lost its time",
            };
            let by = approximately(*by);
            (TransitionKind::Stepped, format!("The clock was stepped by {by}{why}"))
        }
        ntp::Transition::LeapSecond { by } => (
            TransitionKind::LeapSecond,
            format!("A leap second was {}", if *by < 0.0 { "inserted" } else { "left out" }),
        ),
        ntp::Transition::CorrectionRefused { offset, why } => {
            let why = match why {
                ntp::CorrectionRefusal::MaxChange => "beyond clock.maxChange",
                ntp::CorrectionRefusal::TooSoon => "the second step after a pause within ten minutes",
            };
            let offset = approximately(*offset);
            let message = format!("The clock is off by {offset}: {why}, not corrected");
            (TransitionKind::CorrectionRefused, message)
        }
        ntp::Transition::ExternalStep { by, then } => {
            (TransitionKind::ExternalStep, external_step(*by, *then))
        }
        ntp::Transition::Resumed(pause) => (TransitionKind::Resumed, resumed(*pause)),
        ntp::Transition::Conflict(sign) => {
            (TransitionKind::Conflict, format!("{}; the agent only observes until it is alone", seen(*sign)))
        }
        ntp::Transition::ConflictEnded => {
            (TransitionKind::ConflictEnded, "No other process steers the clock any more".to_owned())
        }
    }
}

/// The evidence that another process steers the clock.
fn seen(sign: ntp::Foreign) -> &'static str {
    match sign {
        ntp::Foreign::Frequency => "Another process set the frequency of this node's clock",
        ntp::Foreign::Slew => "Another process slews this node's clock",
        ntp::Foreign::Status => "Another process set the status of this node's clock in the kernel",
        ntp::Foreign::Error => "Another process told the kernel how good its clock is",
        ntp::Foreign::Step => "Another process stepped this node's clock again within ten minutes",
    }
}

/// The conflict in a few sentences: the evidence, the suspected programs, and what to do.
pub(super) fn conflict(sign: ntp::Foreign, search: Option<&SuspectSearch>) -> String {
    let (who, advice) = match search {
        None => (String::new(), "stop the other one".to_owned()),
        Some(SuspectSearch { suspects, sees_node: true }) if suspects.is_empty() => (
            "; no program that is known for it runs here".to_owned(),
            "look for scripts, and for guest tools of the hypervisor".to_owned(),
        ),
        Some(SuspectSearch { suspects, .. }) if suspects.is_empty() => (
            "; the node's programs cannot be seen from here, since the agent's pod has no hostPID".to_owned(),
            "look for chronyd, ntpd, systemd-timesyncd or ptp4l on the node and stop it, or set agent.privileged: true in \
             the chart's values to have it named"
                .to_owned(),
        ),
        Some(SuspectSearch { suspects, .. }) => {
            (format!("; here runs {}", names(suspects).join(", ")), how_to_stop(suspects))
        }
    };
    format!(
        "{}{who}. The agent only observes until it is alone: {advice}, or set mode: Observe in the policy",
        seen(sign)
    )
}

fn how_to_stop(suspects: &[Suspect]) -> String {
    let (them, their_pods) = if suspects.len() == 1 { ("it", "its pod") } else { ("them", "their pods") };
    let unit = |suspect: &Suspect| match &suspect.home {
        ManagedBy::Unit(unit) => Some(unit.clone()),
        ManagedBy::Pod | ManagedBy::Unknown => None,
    };
    let mut units: Vec<_> = suspects.iter().filter_map(unit).collect();
    units.dedup();
    let mut ways = Vec::new();
    if !units.is_empty() {
        ways.push(format!("systemctl disable --now {}", units.join(" ")));
    }
    if suspects.iter().any(|suspect| suspect.home == ManagedBy::Pod) {
        ways.push(format!("remove {their_pods}"));
    }
    if ways.is_empty() { format!("stop {them}") } else { format!("stop {them} ({})", ways.join("; ")) }
}

/// The programs' names, each with its process id.
pub(super) fn names<'a>(suspects: impl IntoIterator<Item = &'a Suspect>) -> Vec<String> {
    suspects.into_iter().map(|suspect| format!("{} (pid {})", suspect.name, suspect.pid)).collect()
}

/// The size of the step, its direction, and what the agent does next.
fn external_step(by: f64, then: Option<ntp::OnExternalStep>) -> String {
    let way = if by < 0.0 { "back" } else { "forward" };
    let size = approximately(by.abs());
    let then = match then {
        Some(ntp::OnExternalStep::Restore) => "it will be set back when it was measured anew",
        Some(ntp::OnExternalStep::Accept) => "it goes on from there, and what it is off by is slewed",
        Some(ntp::OnExternalStep::Report) => "it is left there, unsynchronized, until it is set right",
        None => "nothing is done about it in mode Observe",
    };
    format!("Another process moved the clock {way} by {size}; {then}")
}

fn resumed(pause: ntp::Pause) -> String {
    match pause {
        ntp::Pause::Asleep { seconds } => {
            format!("The node was asleep for {}; its clock is measured anew", approximately(seconds))
        }
        ntp::Pause::Unseen { offset } => format!(
            "The clock is off by {} all at once, as after a pause or a migration of the node",
            approximately(offset)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_happened_is_told_in_plain_words() {
        let check = |transition, kind, text: &str| {
            assert_eq!(described(&transition), (kind, text.to_owned()));
        };
        check(
            ntp::Transition::ExternalStep { by: -3600.0, then: Some(ntp::OnExternalStep::Restore) },
            TransitionKind::ExternalStep,
            "Another process moved the clock back by 3600.000s; it will be set back when it was measured anew",
        );
        check(
            ntp::Transition::Stepped { by: 3600.0, why: ntp::StepReason::ExternalStep },
            TransitionKind::Stepped,
            "The clock was stepped by 3600.000s, since another process had moved it",
        );
        check(
            ntp::Transition::Resumed(ntp::Pause::Asleep { seconds: 1200.0 }),
            TransitionKind::Resumed,
            "The node was asleep for 1200.000s; its clock is measured anew",
        );
        check(
            ntp::Transition::Resumed(ntp::Pause::Unseen { offset: -1170.0 }),
            TransitionKind::Resumed,
            "The clock is off by -1170.000s all at once, as after a pause or a migration of the node",
        );
        check(
            ntp::Transition::CorrectionRefused { offset: -60.0, why: ntp::CorrectionRefusal::TooSoon },
            TransitionKind::CorrectionRefused,
            "The clock is off by -60.000s: the second step after a pause within ten minutes, not corrected",
        );
    }

    #[test]
    fn a_conditions_message_has_no_number_that_changes_by_itself() {
        for reason in [
            ntp::Reason::ExternalStep,
            ntp::Reason::ResumeRefused,
            ntp::Reason::UnexplainedJump,
            ntp::Reason::MaxChange,
            ntp::Reason::LocalReference,
            ntp::Reason::LocalClock,
        ] {
            let message = sentence(reason, None);
            assert!(!message.is_empty() && !message.contains(|c: char| c.is_ascii_digit()), "{message}");
        }
    }
}
