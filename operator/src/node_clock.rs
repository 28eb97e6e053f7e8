//! The status of one node: a report in; the NodeClock's status out, and the decision when to write it. Pure.
use std::time::{Duration, Instant};

use api::{
    AgentStatus, ConflictStatus, LastStep, NodeClockStatus, ProfileStatus, RtcStatus, ServerStatus,
    SourceStatus, TimezoneStatus,
};
use contract::{
    BootReport, ClockReport, Mode, Reason, Report, RtcReport, SourceReport, StepReport, approximately,
};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use crate::{
    build::PreparedNode,
    condition::condition,
    node_conditions,
    reports::AgentState,
    stored_node_clock::{StoredNodeClock, facts},
};

/// The status to be written; none while it is too early to judge. `last_sent` is the number of the last transition of
/// this agent instance that became an Event.
pub(crate) fn status(
    node: &PreparedNode,
    agent: AgentState<'_>,
    previous: &StoredNodeClock,
    last_sent: Option<u64>,
    now: Timestamp,
) -> Option<NodeClockStatus> {
    match agent {
        AgentState::Report(report, time) => Some(reported(node, report, time, previous, last_sent, now)),
        AgentState::Unproven(impostor) => {
            Some(not_reporting(node, node_conditions::of_unproven(impostor), previous, now))
        }
        AgentState::Silent(failure) => Some(silent(node, failure, previous, now)),
        AgentState::Waiting { .. } => None,
    }
}

fn reported(
    node: &PreparedNode,
    report: &Report,
    time: Timestamp,
    previous: &StoredNodeClock,
    last_sent: Option<u64>,
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
        state: Some(state(clock).to_owned()),
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
            last_transition: count(last_sent.unwrap_or(0)),
        }),
        reported_at: Some(Time(time)),
        updated_at: Some(Time(now)),
        conditions: conditions(node_conditions::of_report(report), previous, now),
    }
}

/// The state of the clock in one word.
fn state(clock: &ClockReport) -> &'static str {
    match (clock.synchronized, clock.reason) {
        (false, _) => "Unsynchronized",
        (true, Reason::Holdover) => "Holdover",
        (true, Reason::LocalReference) => "LocalReference",
        (true, _) => "Synchronized",
    }
}

/// The mode in which the agent works now. During a conflict it observes, even if its profile says Discipline.
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

/// The status of a node without a report: what was known of its clock may not be true any more.
fn silent(
    node: &PreparedNode,
    failure: Option<&str>,
    previous: &StoredNodeClock,
    now: Timestamp,
) -> NodeClockStatus {
    let findings = node_conditions::of_silence(!node.agents.is_empty(), failure);
    not_reporting(node, findings, previous, now)
}

fn not_reporting(
    node: &PreparedNode,
    findings: node_conditions::Findings,
    previous: &StoredNodeClock,
    now: Timestamp,
) -> NodeClockStatus {
    NodeClockStatus {
        policy: node.policy().map(str::to_owned),
        profile: Some(ProfileStatus {
            wanted: Some(node.wanted.to_string()),
            running: previous.running.clone(),
            error: None,
        }),
        state: Some("Unknown".to_owned()),
        agent: previous.agent.clone(),
        reported_at: previous.reported_at.clone(),
        updated_at: Some(Time(now)),
        conditions: conditions(findings, previous, now),
        ..NodeClockStatus::default()
    }
}

fn conditions(
    findings: node_conditions::Findings,
    previous: &StoredNodeClock,
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
    // The list has a key: an agent that names a source twice must not make the whole status invalid.
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

/// Seconds since the epoch as a time; none if out of range, since a node may report any number.
fn at(secs: f64) -> Option<Time> {
    // Whole microseconds; the rest is noise.
    Timestamp::from_microsecond((secs * 1e6) as i64).ok().map(Time)
}

/// The figures in the last written NodeClock, and when it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrittenFigures {
    pub(crate) at: Instant,
    pub(crate) offset: Option<f64>,
    pub(crate) error_bound: Option<f64>,
}

impl WrittenFigures {
    /// The figures of the status that this agent state results in.
    pub(crate) fn of(agent: AgentState<'_>, at: Instant) -> Self {
        let clock = agent.report().map(|report| &report.clock);
        let (offset, error_bound) =
            (clock.and_then(|clock| clock.offset), clock.and_then(|clock| clock.error_bound));
        Self { at, offset, error_bound }
    }
}

/// Shortest time between two writes of a NodeClock, regardless of how often its node changes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(4);
/// The same if the clock becomes synchronised, or is not synchronised any more.
const SHORTEST_URGENT_PAUSE: Duration = Duration::from_secs(1);
/// If a node does not follow its assignment for this long, its NodeClock is written. During a rollout a shorter lag
/// causes no write: once the node runs the profile, the NodeClock is written anyway.
pub(crate) const LAG: Duration = Duration::from_secs(15);

/// Whether a NodeClock is to be written, and how soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteUrgency {
    /// Do not write it: it is right.
    No,
    /// It is not right, but it is too soon to write it. Decide again later.
    Later,
    /// Now.
    Now,
    /// Now, before others: the clock became synchronised, or is not synchronised any more.
    Urgent,
}

/// Decides whether `new` is to replace the stored status: yes if something happened, or if the stored status has become
/// wrong. `lag` is the time since the assignment changed. The age of the stored status has no influence here.
pub(crate) fn due(
    new: &NodeClockStatus,
    known: Option<&StoredNodeClock>,
    agent: AgentState<'_>,
    written: Option<WrittenFigures>,
    lag: Duration,
    now: Instant,
) -> WriteUrgency {
    let Some(known) = known else { return WriteUrgency::Now };
    let pause = written.map_or(Duration::MAX, |written| now.saturating_duration_since(written.at));
    let after =
        |shortest: Duration, due: WriteUrgency| if pause >= shortest { due } else { WriteUrgency::Later };
    if new.synchronized != known.synchronized {
        return after(SHORTEST_URGENT_PAUSE, WriteUrgency::Urgent);
    }
    if facts(new) != known.facts || written.is_some_and(|written| is_wrong(agent, written)) {
        return after(SHORTEST_PAUSE, WriteUrgency::Now);
    }
    let wanted = new.profile.as_ref().and_then(|profile| profile.wanted.as_ref());
    if wanted == known.wanted.as_ref() {
        return WriteUrgency::No;
    }
    if lag >= LAG { after(SHORTEST_PAUSE, WriteUrgency::Now) } else { WriteUrgency::Later }
}

/// Returns true if the written figures would mislead a reader.
fn is_wrong(agent: AgentState<'_>, written: WrittenFigures) -> bool {
    let AgentState::Report(report, _) = agent else {
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

#[cfg(test)]
mod tests {
    use contract::Assignment;

    use super::*;
    use crate::fixtures::{prepared_node, report};

    fn node() -> PreparedNode {
        PreparedNode { wanted: Assignment::from_annotation("default.811c9dc5"), ..prepared_node() }
    }

    /// What is known of a NodeClock with this status.
    fn known(status: &NodeClockStatus) -> StoredNodeClock {
        let mut clock = api::NodeClock::new("n1", api::NodeClockFields {});
        clock.status = Some(status.clone());
        StoredNodeClock::of(&clock)
    }

    fn status_of(report: &Report, previous: &StoredNodeClock, secs: i64) -> NodeClockStatus {
        reported(&node(), report, time(secs), previous, None, time(secs))
    }

    fn time(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    #[test]
    fn a_report_becomes_a_status() {
        let status = status_of(&report(), &StoredNodeClock::default(), 5);
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
                ("Ready", "True", "Synchronized"),
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
        let status = status_of(&report, &StoredNodeClock::default(), 5);
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
        let before = status_of(&report(), &StoredNodeClock::default(), 5);
        let status = silent(&node(), Some("no answer in time"), &known(&before), time(100));
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
        let status = status_of(&report, &StoredNodeClock::default(), 5);
        assert_eq!(status.sources.len(), 1);
        assert_eq!(status.offset.as_deref(), Some("unknown"));
    }

    #[test]
    fn written_when_something_happened_or_numbers_are_wrong() {
        let start = Instant::now();
        let original = report();
        let stored = known(&status_of(&original, &StoredNodeClock::default(), 5));
        let written = WrittenFigures::of(AgentState::Report(&original, time(5)), start);
        let due_of = |report: &Report, millis: u64| {
            let new = status_of(report, &stored, 6);
            let now = start + Duration::from_millis(millis);
            due(&new, Some(&stored), AgentState::Report(report, time(6)), Some(written), LAG, now)
        };
        let changed = |change: fn(&mut Report)| {
            let mut report = original.clone();
            change(&mut report);
            due_of(&report, 5000)
        };
        assert_eq!(due_of(&original, 1_000_000), WriteUrgency::No, "nothing happened");
        let new = status_of(&original, &stored, 6);
        let first = due(&new, None, AgentState::Report(&original, time(6)), None, LAG, start);
        assert_eq!(first, WriteUrgency::Now, "there is none");
        let again = due(&new, Some(&stored), AgentState::Report(&original, time(6)), None, LAG, start);
        assert_eq!(again, WriteUrgency::No, "a restart of the operator writes nothing");
        let mut noisy = original.clone();
        noisy.clock.offset = Some(1e-3);
        noisy.server.answered = 1000;
        noisy.sources[0].jitter = Some(1e-3);
        noisy.clock.reference = Some("b".to_owned());
        assert_eq!(due_of(&noisy, 200_000), WriteUrgency::No, "within the bound");
        noisy.clock.offset = Some(4e-3);
        assert_eq!(due_of(&noisy, 4000), WriteUrgency::Now, "beyond the bound");
        assert_eq!(due_of(&noisy, 3999), WriteUrgency::Later, "not too often");
        assert_eq!(
            changed(|report| report.clock.error_bound = Some(1e-3)),
            WriteUrgency::Now,
            "less than half"
        );
        let combined = |report: &mut Report| report.sources[0].state = contract::SourceState::Combined;
        assert_eq!(changed(combined), WriteUrgency::No, "as good as before");
        let lies = |report: &mut Report| report.sources[0].state = contract::SourceState::Falseticker;
        assert_eq!(changed(lies), WriteUrgency::Now, "a liar");
        let mut lost = original.clone();
        lost.clock.synchronized = false;
        lost.clock.reason = contract::Reason::NoMajority;
        assert_eq!((due_of(&lost, 1000), due_of(&lost, 999)), (WriteUrgency::Urgent, WriteUrgency::Later));
        assert_eq!(
            changed(|report| report.clock.external_steps = 1),
            WriteUrgency::Now,
            "somebody set the clock"
        );
        let local = |report: &mut Report| report.rtc.health = contract::RtcHealth::LocalTime;
        assert_eq!(changed(local), WriteUrgency::Now, "another health");
        let no_keys = |report: &mut Report| report.server.message = "no keys".to_owned();
        assert_eq!(changed(no_keys), WriteUrgency::Now, "trouble with serving");
        let zone = |report: &mut Report| {
            report.timezone = Some(contract::TimezoneReport { name: None, message: "gone".to_owned() });
        };
        assert_eq!(changed(zone), WriteUrgency::Now, "trouble with the time zone");
        let conflict = |report: &mut Report| {
            report.conflict =
                Some(contract::ConflictReport { since: 1.0, message: String::new(), suspects: vec![] });
        };
        assert_eq!(changed(conflict), WriteUrgency::Now, "a conflict");
        assert_eq!(changed(|report| report.rtc.drift_ppm = Some(1.0)), WriteUrgency::No, "a figure");
        let last_sent = |report: &mut Report| {
            let kind = contract::TransitionKind::RTCWritten;
            report.transitions.push(contract::Transition {
                number: 9,
                at: 0.0,
                kind,
                message: String::new(),
            });
        };
        assert_eq!(changed(last_sent), WriteUrgency::No, "an Event's business");
    }

    #[test]
    fn a_rollout_is_written_when_the_node_runs_it_or_lags() {
        let start = Instant::now();
        let mut said = report();
        let stored = known(&status_of(&said, &StoredNodeClock::default(), 5));
        let node = PreparedNode { wanted: Assignment::from_annotation("default.00000000"), ..node() };
        let due_of = |report: &Report, lag| {
            let new = reported(&node, report, time(6), &stored, None, time(6));
            due(&new, Some(&stored), AgentState::Report(report, time(6)), None, lag, start)
        };
        assert_eq!(due_of(&said, Duration::ZERO), WriteUrgency::Later);
        assert_eq!(due_of(&said, LAG), WriteUrgency::Now);
        said.profile = Some("default.00000000".parse().unwrap());
        assert_eq!(due_of(&said, Duration::ZERO), WriteUrgency::Now);
    }
}
