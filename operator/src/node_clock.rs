//! The status of one node: a report in, a NodeClock's status out; and when that is worth writing. Pure.
use std::time::{Duration, Instant};

use api::{
    AgentStatus, ConflictStatus, LastStep, NodeClock, NodeClockStatus, ProfileStatus, RtcStatus,
    ServerStatus, SourceStatus, TimezoneStatus,
};
use contract::{BootReport, Mode, Report, RtcReport, SourceReport, StepReport, approximately};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{ResourceExt, core::DeserializeGuard};

use crate::{build::PreparedNode, condition::condition, node_conditions, reports::Heard};

/// A NodeClock as it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Its status; empty if it cannot be read.
    pub(crate) status: NodeClockStatus,
    /// The uid of the node that owns it.
    pub(crate) owner: Option<String>,
}

impl Known {
    pub(crate) fn of(clock: &DeserializeGuard<NodeClock>) -> Self {
        let owner = clock.owner_references().iter().find(|owner| owner.kind == "Node");
        Self {
            status: clock.0.as_ref().ok().and_then(|clock| clock.status.clone()).unwrap_or_default(),
            owner: owner.map(|owner| owner.uid.clone()),
        }
    }
}

/// The status to be written; none while it is too early to say anything.
pub(crate) fn status(
    node: &PreparedNode,
    heard: Heard<'_>,
    previous: &NodeClockStatus,
    now: Timestamp,
) -> Option<NodeClockStatus> {
    match heard {
        Heard::Report(report, time) => Some(reported(node, report, time, previous, now)),
        Heard::Unproven(impostor) => {
            Some(unheard(node, node_conditions::of_unproven(impostor), previous, now))
        }
        Heard::Silent(failure) => Some(silent(node, failure, previous, now)),
        Heard::Waiting { .. } => None,
    }
}

fn reported(
    node: &PreparedNode,
    report: &Report,
    time: Timestamp,
    previous: &NodeClockStatus,
    now: Timestamp,
) -> NodeClockStatus {
    let clock = &report.clock;
    NodeClockStatus {
        policy: node.policy().map(str::to_owned),
        profile: Some(ProfileStatus {
            wanted: Some(node.wanted.to_string()).filter(|wanted| !wanted.is_empty()),
            running: report.profile.as_ref().map(ToString::to_string),
            error: report.profile_error.as_ref().map(|error| format!("{}: {}", error.reason, error.message)),
        }),
        mode: report.mode.map(|mode| mode_in_force(mode, report)),
        synchronized: clock.synchronized,
        stratum: Some(i32::from(clock.stratum)),
        reference: clock.reference.clone(),
        offset: clock.offset.map(approximately),
        jitter: clock.jitter.map(approximately),
        error_bound: clock.error_bound.map(approximately),
        frequency: Some(format!("{:.3}ppm", clock.frequency_ppm)),
        steps: Some(i32::try_from(clock.steps).unwrap_or(i32::MAX)),
        last_step: clock.last_step.as_ref().map(jump),
        external_steps: Some(i32::try_from(clock.external_steps).unwrap_or(i32::MAX)),
        last_external_step: clock.last_external_step.as_ref().map(jump),
        conflict: report.conflict.as_ref().map(|conflict| ConflictStatus {
            since: at(conflict.since),
            message: conflict.message.clone(),
            suspects: conflict.suspects.clone(),
        }),
        sources: sources(&report.sources),
        rtc: Some(rtc(&report.rtc)),
        timezone: report
            .timezone
            .as_ref()
            .map(|timezone| TimezoneStatus { name: timezone.name.clone(), message: text(&timezone.message) }),
        server: Some(ServerStatus {
            serving: report.server.serving,
            message: text(&report.server.message),
            answered: count(report.server.answered),
            dropped: count(report.server.dropped),
            kod: count(report.server.kod),
        }),
        agent: Some(AgentStatus {
            version: report.version.clone(),
            boot_id: report.boot_id.clone(),
            instance: report.instance.clone(),
            boot: report.boot.as_ref().map(boot),
            state_error: report.state_error.clone(),
            last_transition: report.transitions.last().map_or(0, |last| count(last.number)),
        }),
        reported_at: Some(Time(time)),
        conditions: conditions(node_conditions::of_report(report), previous, now),
    }
}

/// What the agent does, whatever its profile would let it do.
fn mode_in_force(mode: Mode, report: &Report) -> String {
    let mode = if report.conflict.is_some() { Mode::Observe } else { mode };
    format!("{mode:?}")
}

fn jump(step: &StepReport) -> LastStep {
    LastStep { time: at(step.at), by: approximately(step.by) }
}

fn boot(boot: &BootReport) -> String {
    let between = if boot.message.is_empty() { "" } else { ": " };
    format!("{}{between}{}", boot.state.as_str(), boot.message)
}

fn rtc(rtc: &RtcReport) -> RtcStatus {
    RtcStatus {
        health: rtc.health.as_str().to_owned(),
        message: text(&rtc.message),
        offset: rtc.offset.map(approximately),
        drift: rtc.drift_ppm.map(|drift| format!("{drift:.3}ppm")),
        writes: count(rtc.writes),
        write_failures: count(rtc.write_failures),
    }
}

/// A node that is not heard of: what was known of its clock is not known any more.
fn silent(
    node: &PreparedNode,
    failure: Option<&str>,
    previous: &NodeClockStatus,
    now: Timestamp,
) -> NodeClockStatus {
    let findings = node_conditions::of_silence(!node.agents.is_empty(), failure);
    unheard(node, findings, previous, now)
}

fn unheard(
    node: &PreparedNode,
    findings: node_conditions::Findings,
    previous: &NodeClockStatus,
    now: Timestamp,
) -> NodeClockStatus {
    NodeClockStatus {
        policy: node.policy().map(str::to_owned),
        profile: Some(ProfileStatus {
            wanted: Some(node.wanted.to_string()),
            running: previous.profile.as_ref().and_then(|profile| profile.running.clone()),
            error: None,
        }),
        agent: previous.agent.clone(),
        reported_at: previous.reported_at.clone(),
        conditions: conditions(findings, previous, now),
        ..NodeClockStatus::default()
    }
}

fn conditions(
    findings: node_conditions::Findings,
    previous: &NodeClockStatus,
    now: Timestamp,
) -> Vec<Condition> {
    findings.map(|(type_, finding)| condition(type_, finding, &previous.conditions, None, now)).into()
}

fn sources(sources: &[SourceReport]) -> Vec<SourceStatus> {
    let status = |source: &SourceReport| SourceStatus {
        name: source.name.clone(),
        address: source.address.clone(),
        state: source.state.as_str().to_owned(),
        message: text(&source.message),
        reach: format!("{:o}", source.reach),
        stratum: i32::from(source.stratum),
        offset: source.offset.map(approximately),
        delay: source.delay.map(approximately),
        jitter: source.jitter.map(approximately),
        poll: i32::from(source.poll),
    };
    let mut all: Vec<_> = sources.iter().map(status).collect();
    // A list with a key: an agent that names a source twice must not make the whole status unwritable.
    let mut names = std::collections::BTreeSet::new();
    all.retain(|source| names.insert(source.name.clone()));
    all
}

fn text(message: &str) -> Option<String> {
    Some(message.to_owned()).filter(|message| !message.is_empty())
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Seconds since the epoch as a time; a node's clock can say anything.
fn at(secs: f64) -> Option<Time> {
    // Whole microseconds: more would be noise.
    Timestamp::from_microsecond((secs * 1e6) as i64).ok().map(Time)
}

/// A status that was written by us, with the numbers behind its texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) at: Instant,
    pub(crate) offset: Option<f64>,
    pub(crate) error_bound: Option<f64>,
}

/// Short enough to look alive, long enough for etcd.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// However much happens on a node; with the controller's tick a transition is seen within 5 s of the last write.
const SHORTEST_PAUSE: Duration = Duration::from_secs(4);

/// Whether `new` is to be written over `stored`: something happened, or what stands there has become wrong, or old.
pub(crate) fn worth_writing(
    new: &NodeClockStatus,
    stored: &NodeClockStatus,
    heard: Heard<'_>,
    written: Option<Written>,
    now: Instant,
) -> bool {
    let Some(written) = written else {
        return true;
    };
    let pause = now.saturating_duration_since(written.at);
    if pause < SHORTEST_PAUSE {
        return false;
    }
    pause >= LONGEST_PAUSE || facts(new) != facts(stored) || is_wrong(heard, written)
}

/// Whether a reader of the written numbers would be misled by them.
fn is_wrong(heard: Heard<'_>, written: Written) -> bool {
    let Heard::Report(report, _) = heard else {
        return false;
    };
    let clock = &report.clock;
    let moved = match (clock.offset, written.offset, written.error_bound) {
        (Some(offset), Some(before), Some(bound)) => (offset - before).abs() > bound,
        (now, before, _) => now.is_some() != before.is_some(),
    };
    let scaled = match (clock.error_bound, written.error_bound) {
        (Some(bound), Some(before)) => bound > before * 2.0 || bound < before / 2.0,
        (now, before) => now.is_some() != before.is_some(),
    };
    moved || scaled
}

/// The status without what changes all the time.
fn facts(status: &NodeClockStatus) -> NodeClockStatus {
    let mut facts = status.clone();
    (facts.offset, facts.jitter, facts.error_bound, facts.frequency) = (None, None, None, None);
    facts.reported_at = None;
    let with_numbers =
        |each: &&mut Condition| !node_conditions::WITHOUT_NUMBERS.contains(&each.type_.as_str());
    for condition in facts.conditions.iter_mut().filter(with_numbers) {
        condition.message.clear();
    }
    for source in &mut facts.sources {
        let SourceStatus { name, address, state, .. } = std::mem::take(source);
        // Which of the good ones is followed changes with the noise.
        let good = ["Agreeing", "Combined", "Selected"].contains(&state.as_str());
        *source = SourceStatus {
            name,
            address,
            state: if good { String::new() } else { state },
            ..SourceStatus::default()
        };
    }
    if let Some(rtc) = &mut facts.rtc {
        *rtc = RtcStatus { health: std::mem::take(&mut rtc.health), ..RtcStatus::default() };
    }
    if let Some(server) = &mut facts.server {
        *server = ServerStatus { serving: server.serving, ..ServerStatus::default() };
    }
    facts
}

#[cfg(test)]
mod tests {
    use contract::Assignment;

    use super::*;
    use crate::fixtures::report;

    fn node() -> PreparedNode {
        PreparedNode {
            name: "n1".to_owned(),
            uid: "u".to_owned(),
            agents: vec![],
            wanted: Assignment::from_annotation("default.811c9dc5"),
            keys_changed: false,
        }
    }

    fn time(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    #[test]
    fn a_report_becomes_a_status() {
        let status = reported(&node(), &report(), time(5), &NodeClockStatus::default(), time(5));
        assert_eq!(status.policy.as_deref(), Some("default"));
        assert_eq!(status.offset.as_deref(), Some("-412us"));
        assert_eq!(status.error_bound.as_deref(), Some("3.1ms"));
        assert_eq!(status.frequency.as_deref(), Some("-12.345ppm"));
        assert_eq!(status.sources[0].reach, "377");
        let said: Vec<_> = status
            .conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                ("Synchronized", "True", "Synchronized"),
                ("Conflict", "False", "Alone"),
                ("UpstreamsReachable", "True", "Reachable"),
                ("RTCHealthy", "True", "Healthy"),
                ("Serving", "True", "Open")
            ]
        );
    }

    #[test]
    fn a_fought_clock_is_observed_and_says_who() {
        let mut report = report();
        report.clock.external_steps = 2;
        report.clock.last_external_step = Some(StepReport { at: 1.0, by: -3600.0 });
        report.conflict = Some(contract::ConflictReport {
            since: 2.0,
            message: "The frequency was changed; stop chronyd".to_owned(),
            suspects: vec!["chronyd (pid 312)".to_owned()],
        });
        report.timezone = Some(contract::TimezoneReport {
            name: Some("UTC".to_owned()),
            message: "no such zone".to_owned(),
        });
        report.rtc.drift_ppm = Some(-3.5);
        let status = reported(&node(), &report, time(5), &NodeClockStatus::default(), time(5));
        assert_eq!(status.mode.as_deref(), Some("Observe"));
        assert_eq!(status.external_steps, Some(2));
        let expected = LastStep { time: at(1.0), by: "-3600.000s".to_owned() };
        assert_eq!(status.last_external_step, Some(expected));
        let conflict = status.conflict.unwrap();
        assert_eq!((conflict.since, conflict.suspects[0].as_str()), (at(2.0), "chronyd (pid 312)"));
        assert_eq!(status.timezone.unwrap().message.as_deref(), Some("no such zone"));
        assert_eq!(status.rtc.unwrap().drift.as_deref(), Some("-3.500ppm"));
    }

    #[test]
    fn silence_is_unknown_and_shows_no_old_numbers() {
        let before = reported(&node(), &report(), time(5), &NodeClockStatus::default(), time(5));
        let status = silent(&node(), Some("no answer in time"), &before, time(100));
        assert_eq!((status.offset, status.synchronized), (None, false));
        assert!(status.conditions.iter().all(|c| c.status == "Unknown" && c.reason == "NoAgent"));
        assert_eq!(status.agent, before.agent);
        assert_eq!(status.profile.unwrap().running, before.profile.unwrap().running);
    }

    #[test]
    fn strange_numbers_do_no_harm() {
        let mut report = report();
        report.clock.offset = Some(f64::NAN);
        report.clock.last_step = Some(contract::StepReport { at: f64::INFINITY, by: f64::NEG_INFINITY });
        report.clock.steps = u32::MAX;
        report.server.answered = u64::MAX;
        report.sources.push(report.sources[0].clone());
        let status = reported(&node(), &report, time(5), &NodeClockStatus::default(), time(5));
        assert_eq!(status.sources.len(), 1);
        assert_eq!(status.offset.as_deref(), Some("unknown"));
    }

    #[test]
    fn written_when_something_happened_or_numbers_are_wrong() {
        let start = Instant::now();
        let original = report();
        let stored = reported(&node(), &original, time(5), &NodeClockStatus::default(), time(5));
        let written =
            Written { at: start, offset: original.clock.offset, error_bound: original.clock.error_bound };
        let worth = |report: &Report, secs: u64| {
            let new = reported(&node(), report, time(6), &stored, time(6));
            let heard = Heard::Report(report, time(6));
            worth_writing(&new, &stored, heard, Some(written), start + Duration::from_secs(secs))
        };
        assert!(!worth(&original, 200), "nothing happened");
        assert!(worth(&original, 300), "it is old");
        let mut noisy = original.clone();
        noisy.clock.offset = Some(1e-3);
        noisy.server.answered = 1000;
        noisy.sources[0].jitter = Some(1e-3);
        assert!(!worth(&noisy, 200), "within the bound");
        noisy.clock.offset = Some(4e-3);
        assert!(worth(&noisy, 4), "beyond the bound");
        assert!(!worth(&noisy, 3), "not too often");
        let mut better = original.clone();
        better.clock.error_bound = Some(1e-3);
        assert!(worth(&better, 5), "the bound is less than half");
        let mut wavering = original.clone();
        wavering.sources[0].state = contract::SourceState::Combined;
        assert!(!worth(&wavering, 5), "as good as before");
        wavering.sources[0].state = contract::SourceState::Falseticker;
        assert!(worth(&wavering, 5), "a liar");
        let mut lost = original.clone();
        lost.clock.synchronized = false;
        lost.clock.reason = contract::Reason::NoMajority;
        assert!(worth(&lost, 5), "a transition");
        let changed = |change: fn(&mut Report)| {
            let mut report = original.clone();
            change(&mut report);
            worth(&report, 5)
        };
        assert!(changed(|report| report.clock.external_steps = 1), "somebody set the clock");
        assert!(changed(|report| report.rtc.health = contract::RtcHealth::LocalTime), "another health");
        assert!(changed(|report| report.server.message = "no keys".to_owned()), "trouble with serving");
        let zone = |report: &mut Report| {
            report.timezone = Some(contract::TimezoneReport { name: None, message: "gone".to_owned() });
        };
        assert!(changed(zone), "trouble with the time zone");
        let conflict = |report: &mut Report| {
            report.conflict =
                Some(contract::ConflictReport { since: 1.0, message: String::new(), suspects: vec![] });
        };
        assert!(changed(conflict), "a conflict");
        assert!(!changed(|report| report.rtc.drift_ppm = Some(1.0)), "a figure");
    }
}
