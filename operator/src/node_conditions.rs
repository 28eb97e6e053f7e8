//! The conditions of one node: its agent's report, or the lack of one, in; a finding for each type out. Pure.
use contract::{Mode, Report, RtcHealth, ServerReport, ServingFailure, SourceReport, SourceState};

use crate::{
    collect::{Impostor, Unproven},
    condition::{CONFLICT, Finding, READY, RTC_HEALTHY, SERVING, SYNCHRONIZED, UPSTREAMS_REACHABLE, reason},
};

/// A finding for each type, in the order in which they are shown.
pub(crate) type Findings = [(&'static str, Finding); 6];

/// The conditions of a node whose agent reports.
pub(crate) fn of_report(report: &Report) -> Findings {
    let clock = &report.clock;
    let synchronized = Finding::new(Some(clock.synchronized), clock.reason.as_str(), &clock.message);
    [
        (READY, synchronized.clone()),
        (SYNCHRONIZED, synchronized),
        (CONFLICT, conflict(report)),
        (UPSTREAMS_REACHABLE, upstreams(&report.sources)),
        (RTC_HEALTHY, rtc(report)),
        (SERVING, serving(report)),
    ]
}

/// The conditions of a node without a report: nothing is known.
pub(crate) fn of_silence(has_agent: bool, failure: Option<&str>) -> Findings {
    unknown(&silence(has_agent, failure))
}

/// What a missing report means.
pub(crate) fn silence(has_agent: bool, failure: Option<&str>) -> Finding {
    if has_agent {
        let why = failure.unwrap_or("it says nothing");
        Finding::new(None, reason::AGENT_UNREACHABLE, format!("The agent was not heard of for 90 s: {why}."))
    } else {
        Finding::new(None, reason::NO_AGENT, "No agent runs on this node.")
    }
}

/// The conditions of a node where the process that answers is not proven to be its agent.
pub(crate) fn of_unproven(impostor: &Impostor) -> Findings {
    unknown(&Finding::new(None, reason::AGENT_NOT_PROVEN, unproven(impostor)))
}

/// What an unproven answer means, and what to do.
pub(crate) fn unproven(impostor: &Impostor) -> String {
    let Impostor { address, why } = impostor;
    let port = address.rsplit(':').next().unwrap_or_default();
    let token = match why {
        Unproven::Refused | Unproven::NoToken => " After a change of the token, wait two minutes.",
        Unproven::Untrusted(_) | Unproven::Silent => "",
    };
    format!(
        "What answers at {address} is not proven to be the agent: {why}. On the node, `ss -ltnp 'sport = :{port}'` \
         names the process that has the port.{token}"
    )
}

fn unknown(finding: &Finding) -> Findings {
    [READY, SYNCHRONIZED, CONFLICT, UPSTREAMS_REACHABLE, RTC_HEALTHY, SERVING]
        .map(|type_| (type_, finding.clone()))
}

fn conflict(report: &Report) -> Finding {
    if let Some(conflict) = &report.conflict {
        return Finding::new(Some(true), reason::SECOND_WRITER, &conflict.message);
    }
    match report.mode {
        Some(Mode::Discipline) => {
            Finding::new(Some(false), reason::ALONE, "No other process steers the clock.")
        }
        Some(Mode::Observe) => {
            let message = "The agent does not steer the clock here, so others may.";
            Finding::new(Some(false), reason::OBSERVING, message)
        }
        None => Finding::new(None, reason::NO_PROFILE, "No profile runs, so no agent observes the clock."),
    }
}

fn upstreams(sources: &[SourceReport]) -> Finding {
    let (status, reason) = reach(sources);
    let message = match reason {
        reason::NO_UPSTREAMS => "The profile has no upstreams.".to_owned(),
        reason::WAITING => "The first answers are awaited.".to_owned(),
        _ => {
            let lost = [SourceState::Unresolved, SourceState::Unreachable, SourceState::Unusable];
            let lost = sources.iter().filter(|source| lost.contains(&source.state));
            let why = contract::reasons(lost.map(|source| (source.name.as_str(), source.message.as_str())));
            let reached = sources.iter().filter(gives_time).count();
            format!("{reached} of {} upstreams give time. {why}", sources.len()).trim_end().to_owned()
        }
    };
    Finding::new(status, reason, message)
}

/// The status of UpstreamsReachable, and its reason.
pub(crate) fn reach(sources: &[SourceReport]) -> (Option<bool>, &'static str) {
    let any = |state| sources.iter().any(|source| source.state == state);
    match sources {
        [] => (None, reason::NO_UPSTREAMS),
        _ if sources.iter().any(|source| gives_time(&source)) => (Some(true), reason::REACHABLE),
        _ if any(SourceState::Unusable) => (Some(false), reason::UNUSABLE),
        _ if any(SourceState::Measuring) => (None, reason::WAITING),
        _ => (Some(false), reason::UNREACHABLE),
    }
}

fn gives_time(source: &&SourceReport) -> bool {
    source.reach != 0 && source.state != SourceState::Unusable
}

fn rtc(report: &Report) -> Finding {
    let healthy = match report.rtc.health {
        RtcHealth::Healthy => Some(true),
        // Many virtual machines have no hardware clock, and the kernel alone may keep one.
        RtcHealth::Unknown | RtcHealth::Absent | RtcHealth::NoAccess => None,
        RtcHealth::Unreadable
        | RtcHealth::Off
        | RtcHealth::Drifting
        | RtcHealth::BatterySuspect
        | RtcHealth::LocalTime
        | RtcHealth::WriteFailed => Some(false),
    };
    Finding::new(healthy, report.rtc.health.as_str(), &report.rtc.message)
}

fn serving(report: &Report) -> Finding {
    let ServerReport { enabled, serving, failure: why, message, answered: _, dropped: _, kod: _ } =
        &report.server;
    match (report.mode, *enabled, *serving) {
        (None, ..) => Finding::new(None, reason::NO_PROFILE, "No profile runs."),
        (_, false, _) => Finding::new(Some(false), reason::DISABLED, "The policy has serve.enabled false."),
        (_, true, true) if message.is_empty() => {
            Finding::new(Some(true), reason::OPEN, "Requests for time are answered.")
        }
        (_, true, true) => Finding::new(Some(true), reason::PARTIAL, message),
        (_, true, false) if message.is_empty() => {
            Finding::new(None, reason::OPENING, "The port is about to be opened.")
        }
        (_, true, false) => Finding::new(Some(false), failure(*why), message),
    }
}

/// The reason of the condition for a serving failure.
fn failure(why: Option<ServingFailure>) -> &'static str {
    match why {
        Some(ServingFailure::PortTaken) => reason::PORT_TAKEN,
        Some(ServingFailure::NotPermitted) => reason::NOT_PERMITTED,
        Some(ServingFailure::NoAddress) => reason::NO_ADDRESS,
        Some(ServingFailure::SocketBroken) => reason::SOCKET_BROKEN,
        Some(ServingFailure::OpenFailed | ServingFailure::Panicked | ServingFailure::Unknown) | None => {
            reason::OPEN_FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::ConflictReport;

    use super::*;
    use crate::fixtures::report;

    /// Checks the condition `type_` that follows from a report with `change`.
    fn check(type_: &str, change: impl FnOnce(&mut Report), expected: (Option<bool>, &str, &str)) {
        let mut report = report();
        change(&mut report);
        let findings = of_report(&report);
        let (_, found) = findings.into_iter().find(|(found, _)| *found == type_).unwrap();
        assert_eq!((found.status, found.reason), (expected.0, expected.1), "{found:?}");
        assert!(found.message.contains(expected.2), "{found:?}");
    }

    #[test]
    fn conflicts() {
        let fought = |report: &mut Report| {
            let message = "chronyd (pid 312) steers the clock; stop it.".to_owned();
            report.conflict = Some(ConflictReport { since: 1.0, message, suspects: vec![] });
        };
        check(CONFLICT, |_| (), (Some(false), "Alone", "No other process"));
        check(CONFLICT, fought, (Some(true), "SecondWriter", "chronyd (pid 312)"));
        check(CONFLICT, |report| report.mode = Some(Mode::Observe), (Some(false), "Observing", ""));
        check(CONFLICT, |report| report.mode = None, (None, "NoProfile", ""));
    }

    #[test]
    fn upstreams_that_give_no_time_are_named_with_the_reason() {
        let with = |sources: &[(&str, SourceState, u8, &str)]| {
            let like = report().sources[0].clone();
            let source = |&(name, state, reach, message): &(&str, SourceState, u8, &str)| SourceReport {
                name: name.to_owned(),
                state,
                reach,
                message: message.to_owned(),
                ..like.clone()
            };
            let sources: Vec<_> = sources.iter().map(source).collect();
            move |report: &mut Report| report.sources = sources
        };
        let good = ("a", SourceState::Selected, 0xff, "");
        let silent = ("b", SourceState::Unreachable, 0, "It does not answer.");
        let too_far =
            ("c", SourceState::Unusable, 0xff, "Its root distance is larger than clock.maxDistance.");
        let starting = ("d", SourceState::Measuring, 0, "No answer yet.");
        check(UPSTREAMS_REACHABLE, with(&[good]), (Some(true), "Reachable", "1 of 1 upstreams give time."));
        let expected = "1 of 2 upstreams give time. b: It does not answer.";
        check(UPSTREAMS_REACHABLE, with(&[good, silent]), (Some(true), "Reachable", expected));
        let expected = "0 of 1 upstreams give time. b: It does not answer.";
        check(UPSTREAMS_REACHABLE, with(&[silent]), (Some(false), "Unreachable", expected));
        // The source answers, but gives no usable time.
        check(UPSTREAMS_REACHABLE, with(&[too_far]), (Some(false), "Unusable", "c: Its root distance"));
        check(
            UPSTREAMS_REACHABLE,
            with(&[silent, too_far]),
            (Some(false), "Unusable", "b: It does not answer."),
        );
        check(UPSTREAMS_REACHABLE, with(&[starting]), (None, "Waiting", "first answers"));
        check(UPSTREAMS_REACHABLE, with(&[]), (None, "NoUpstreams", ""));
    }

    #[test]
    fn servers() {
        let closed = |failure: Option<ServingFailure>, message: &str| {
            let message = message.to_owned();
            move |report: &mut Report| {
                (report.server.serving, report.server.failure) = (false, failure);
                report.server.message = message;
            }
        };
        check(SERVING, |_| (), (Some(true), "Open", ""));
        check(
            SERVING,
            |report| report.server.message = "no cookie keys".to_owned(),
            (Some(true), "Partial", "keys"),
        );
        check(
            SERVING,
            closed(Some(ServingFailure::PortTaken), "IPv4 UDP port 123: by ntpd"),
            (Some(false), "PortTaken", "by ntpd"),
        );
        check(SERVING, closed(Some(ServingFailure::NotPermitted), "IPv4"), (Some(false), "NotPermitted", ""));
        check(SERVING, closed(Some(ServingFailure::NoAddress), "192.0.2.1"), (Some(false), "NoAddress", ""));
        check(SERVING, closed(Some(ServingFailure::SocketBroken), "gone"), (Some(false), "SocketBroken", ""));
        check(SERVING, closed(Some(ServingFailure::Unknown), "PortTaken"), (Some(false), "OpenFailed", ""));
        check(SERVING, closed(None, ""), (None, "Opening", ""));
        let disabled = |report: &mut Report| (report.server.enabled, report.server.serving) = (false, false);
        check(SERVING, disabled, (Some(false), "Disabled", "serve.enabled"));
        check(SERVING, |report| report.mode = None, (None, "NoProfile", ""));
    }

    #[test]
    fn hardware_clocks() {
        let health = |health| move |report: &mut Report| report.rtc.health = health;
        check(RTC_HEALTHY, |_| (), (Some(true), "Healthy", ""));
        check(RTC_HEALTHY, health(RtcHealth::Absent), (None, "Absent", ""));
        check(RTC_HEALTHY, health(RtcHealth::NoAccess), (None, "NoAccess", ""));
        check(RTC_HEALTHY, health(RtcHealth::Unknown), (None, "Unknown", ""));
        check(RTC_HEALTHY, health(RtcHealth::BatterySuspect), (Some(false), "BatterySuspect", ""));
        check(RTC_HEALTHY, health(RtcHealth::LocalTime), (Some(false), "LocalTime", ""));
    }

    #[test]
    fn silence() {
        let all = |has_agent, failure, reason: &str| {
            let findings = of_silence(has_agent, failure);
            findings.iter().all(|(_, found)| found.status.is_none() && found.reason == reason)
        };
        assert!(all(false, None, "NoAgent"));
        assert!(all(true, Some("no answer in time"), "AgentUnreachable"));
    }

    #[test]
    fn impostors() {
        let check = |address: &str, why, expected: &str| {
            let findings = of_unproven(&Impostor { address: address.to_owned(), why });
            for (_, found) in findings {
                assert_eq!((found.status, found.reason, &*found.message), (None, "AgentNotProven", expected));
            }
        };
        check(
            "192.0.2.1:9817",
            Unproven::Silent,
            "What answers at 192.0.2.1:9817 is not proven to be the agent: it takes the connection and does not \
             answer. On the node, `ss -ltnp 'sport = :9817'` names the process that has the port.",
        );
        check(
            "[2001:db8::1]:9817",
            Unproven::Refused,
            "What answers at [2001:db8::1]:9817 is not proven to be the agent: it does not accept the token. On the \
             node, `ss -ltnp 'sport = :9817'` names the process that has the port. After a change of the token, wait \
             two minutes.",
        );
    }
}
