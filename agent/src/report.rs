//! Snapshot and state → the report, which `/status` returns. Numbers the transitions, keeps the newest ones, and
//! increases the sequence number with each change worth reporting. Reads no clock and no file; its callers pass in
//! every part.
use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use contract::{
    BootReport, ClockReport, ConflictReport, Reason, Report, RtcHealth, RtcReport, ServerReport, SourceState,
    TimezoneReport, TransitionKind,
};
use ntp::{Snapshot, Wall};
use tokio::sync::watch;

use crate::{suspects::Suspects, timezone::TimezoneOutcome};

mod sources;

pub(crate) use sources::reasons;
use sources::{finite, is_lost, source_report, source_state};

mod system;

use system::{clock_report, clock_report_at, reason, reference};

mod words;

use words::{described, with_reasons};

mod conflict;
mod suspect_search;

mod parts;

use parts::Parts;
pub(crate) use parts::ProfileStatus;

/// Collects the parts of the report. All threads share it.
#[derive(Debug)]
pub(crate) struct Reporter {
    version: &'static str,
    boot_id: String,
    instance: String,
    parts: Mutex<Parts>,
    /// What readers were last notified of. Only a thread that has the lock of `parts` takes this one.
    watched: Mutex<Option<WatchedFields>>,
    sequence: watch::Sender<u64>,
}

/// If one of these changes, the sequence number increases. Offsets and ages are not included, since they change all the
/// time.
#[derive(Debug, PartialEq)]
struct WatchedFields {
    last_number: u64,
    profile: ProfileStatus,
    reason: Reason,
    confirmed: bool,
    reference: Option<String>,
    sources: Vec<WatchedSource>,
    rtc: (bool, RtcHealth),
    timezone: Option<TimezoneReport>,
    conflict: Option<ConflictReport>,
    boot: Option<BootReport>,
    state_error: Option<String>,
    server: (bool, String),
}

/// For a source: its name, its state, whether it is reachable, its address, and why it gives no time.
type WatchedSource = (String, SourceState, bool, Option<IpAddr>, Option<String>);

impl Reporter {
    /// An empty report for this boot and this start of the agent.
    pub(crate) fn new(version: &'static str, boot_id: String, instance: String) -> Self {
        Self {
            version,
            boot_id,
            instance,
            parts: Mutex::new(Parts::new()),
            watched: Mutex::default(),
            sequence: watch::Sender::new(1),
        }
    }

    /// The engine's last snapshot.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        self.parts().snapshot.clone()
    }

    /// Takes the engine's snapshot and its transitions.
    pub(crate) fn engine(&self, now: Wall, snapshot: Option<Snapshot>, announced: &[ntp::Transition]) {
        let mut parts = self.parts();
        parts.snapshot = snapshot;
        for transition in announced {
            parts.count(now, transition);
            let (kind, mut message) = described(transition);
            if let (TransitionKind::UpstreamsUnreachable, Some(snapshot)) = (kind, &parts.snapshot) {
                message = with_reasons(message, snapshot);
            }
            parts.record(now, kind, message);
        }
        self.notify(parts);
    }

    /// Takes the reloader's status, and what it did.
    pub(crate) fn profile(&self, now: Wall, status: ProfileStatus, done: Option<(TransitionKind, String)>) {
        let mut parts = self.parts();
        parts.profile = status;
        if let Some((kind, message)) = done {
            parts.record(now, kind, message);
        }
        self.notify(parts);
    }

    /// Returns true if another process steers the clock.
    pub(crate) fn in_conflict(&self) -> bool {
        self.parts().conflicts.running()
    }

    /// Takes the programs that could steer the clock, and whether the node's processes can be seen.
    pub(crate) fn suspects(&self, suspects: &Suspects) {
        let Some(list) = suspects.list() else { return };
        let sees_node = suspects.sees_node();
        let mut parts = self.parts();
        parts.conflicts.suspect(list, sees_node);
        self.notify(parts);
    }

    /// The number of conflicts, by the kind of evidence.
    pub(crate) fn conflicts(&self) -> Vec<(&'static str, u64)> {
        self.parts().conflicts.counts()
    }

    /// Takes the RTC's report; writes and failures since the last one become transitions.
    pub(crate) fn rtc(&self, now: Wall, rtc: RtcReport) {
        let mut parts = self.parts();
        if rtc.writes > parts.rtc.writes {
            parts.record(now, TransitionKind::RTCWritten, "The RTC was written and read back".to_owned());
        }
        if rtc.write_failures > parts.rtc.write_failures {
            parts.record(now, TransitionKind::RTCWriteFailed, rtc.message.clone());
        }
        parts.rtc = rtc;
        self.notify(parts);
    }

    /// Takes the state of the time zone, and the change or failure to report.
    pub(crate) fn timezone(&self, now: Wall, outcome: TimezoneOutcome) {
        let mut parts = self.parts();
        parts.timezone = outcome.report;
        if let Some((kind, message)) = outcome.done {
            parts.record(now, kind, message);
        }
        self.notify(parts);
    }

    /// Takes the state of the static pod for the next boot.
    pub(crate) fn boot(&self, report: BootReport) {
        let mut parts = self.parts();
        parts.boot = Some(report);
        self.notify(parts);
    }

    /// Takes the reason why the state folder cannot be written; none if it can.
    pub(crate) fn state_error(&self, error: Option<String>) {
        let mut parts = self.parts();
        parts.state_error = error;
        self.notify(parts);
    }

    /// Takes the number of steps to the last known time in this boot before the agent's start.
    pub(crate) fn raised(&self, steps: u32) {
        self.parts().raised = steps;
    }

    /// Takes the server's report; a new fault becomes a transition.
    pub(crate) fn server(&self, now: Wall, server: ServerReport) {
        let mut parts = self.parts();
        if !server.message.is_empty() && server.message != parts.server.message {
            parts.record(now, TransitionKind::ServingFailed, server.message.clone());
        }
        parts.server = server;
        self.notify(parts);
    }

    /// Takes the reason why other users can replace the agent's files.
    pub(crate) fn exposed(&self, now: Wall, message: String) {
        let mut parts = self.parts();
        parts.record(now, TransitionKind::StateExposed, message);
        self.notify(parts);
    }

    /// Takes messages about failures of the agent that a bug caused.
    pub(crate) fn failures(&self, now: Wall, news: Vec<String>) {
        let mut parts = self.parts();
        news.into_iter().for_each(|message| parts.record(now, TransitionKind::InternalError, message));
        self.notify(parts);
    }

    /// Takes the reason why the port of /status is not open; empty if it is open. A new fault becomes a transition.
    pub(crate) fn http(&self, now: Wall, message: String) {
        let mut parts = self.parts();
        // Once for each fault: a process that takes the port again and again must not push other transitions out of the
        // report.
        if parts.http_message.is_empty() && !message.is_empty() {
            parts.record(now, TransitionKind::HttpPortTaken, message.clone());
        }
        parts.http_message = message;
        self.notify(parts);
    }

    /// Returns true if the clock is synchronised with another clock. Whether the server is open does not matter.
    pub(crate) fn synchronized(&self) -> bool {
        self.parts().snapshot.as_ref().is_some_and(follows)
    }

    /// Returns true if the clock is synchronised, but not with a local clock, which may be wrong.
    pub(crate) fn knows_true_time(&self) -> bool {
        let local = |snapshot: &Snapshot| snapshot.reason == ntp::Reason::LocalReference;
        self.parts().snapshot.as_ref().is_some_and(|snapshot| follows(snapshot) && !local(snapshot))
    }

    /// This clock minus the time that it follows, seconds, if it is synchronised with another clock.
    pub(crate) fn synchronized_offset(&self) -> Option<f64> {
        let parts = self.parts();
        let snapshot = parts.snapshot.as_ref().filter(|snapshot| follows(snapshot))?;
        Some(finite(snapshot.offset).unwrap_or_default())
    }

    /// Changes with each change worth reporting.
    pub(crate) fn sequence(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    /// The clock at `now`, `idle` seconds after the event loop's last turn.
    pub(crate) fn clock(&self, now: Wall, idle: f64) -> ClockReport {
        clock_report_at(&self.parts(), now, idle)
    }

    /// The present report.
    pub(crate) fn report(&self) -> Report {
        let parts = self.parts();
        Report {
            version: self.version.to_owned(),
            boot_id: self.boot_id.clone(),
            instance: self.instance.clone(),
            sequence: *self.sequence.borrow(),
            assignment: parts.profile.assignment.clone(),
            profile: parts.profile.running.clone(),
            profile_error: parts.profile.error.clone(),
            mode: parts.mode(),
            clock: clock_report(&parts),
            sources: parts.snapshot.iter().flat_map(|s| &s.sources).map(source_report).collect(),
            conflict: parts.conflicts.report(),
            rtc: parts.rtc.clone(),
            timezone: parts.timezone.clone(),
            boot: parts.boot.clone(),
            state_error: parts.state_error.clone(),
            server: parts.server.clone(),
            http_message: parts.http_message.clone(),
            transitions: parts.transitions.iter().cloned().collect(),
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        // Parts are replaced as a whole, so they are valid even after a thread panicked.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Increases the sequence number if a field has changed that readers wait for. Keeps the lock of the parts.
    fn notify(&self, parts: MutexGuard<'_, Parts>) {
        let now = Some(WatchedFields::of(&parts));
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if *watched != now {
            *watched = now;
            self.sequence.send_modify(|sequence| *sequence += 1);
        }
    }
}

fn follows(snapshot: &Snapshot) -> bool {
    snapshot.synchronized && snapshot.reason != ntp::Reason::LocalClock
}

impl WatchedFields {
    fn of(parts: &Parts) -> Self {
        let snapshot = parts.snapshot.as_ref();
        let sources = snapshot.map(|snapshot| snapshot.sources.iter()).into_iter().flatten();
        Self {
            last_number: parts.last_number,
            profile: parts.profile.clone(),
            reason: snapshot.map_or(Reason::NoProfile, |snapshot| reason(snapshot.reason)),
            confirmed: snapshot.is_some_and(|snapshot| snapshot.confirmed),
            reference: snapshot.and_then(reference),
            sources: sources
                .map(|s| {
                    let why = is_lost(s.state).then(|| s.why.clone());
                    (s.name.clone(), source_state(s.state), s.reach != 0, s.address, why)
                })
                .collect(),
            rtc: (parts.rtc.present, parts.rtc.health),
            timezone: parts.timezone.clone(),
            conflict: parts.conflicts.report(),
            boot: parts.boot.clone(),
            state_error: parts.state_error.clone(),
            server: (parts.server.serving, parts.server.message.clone()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use contract::{Assignment, ProfileError, StepReport};
    use ntp::{SourceId, SourceSnapshot};

    use super::*;

    /// The snapshot of a synchronised clock with one source.
    pub(crate) fn snapshot() -> Snapshot {
        Snapshot {
            at: Wall(1_800_000_000_000_000_000),
            synchronized: true,
            reason: ntp::Reason::Synchronized,
            leap: ntp::Leap::None,
            stratum: 3,
            reference: Some(SourceId(4)),
            reference_id: [192, 0, 2, 1],
            reference_time: Some(Wall(1_799_999_990_000_000_000)),
            offset: Some(-12e-6),
            jitter: Some(3e-6),
            offset_error: Some(1e-6),
            error_bound: Some(1e-3),
            root_delay: 1e-3,
            root_dispersion: 4e-4,
            dispersion_rate: 1e-6,
            frequency_ppm: 20.0,
            skew_ppm: 0.1,
            kernel_frequency_ppm: 21.0,
            steps: 1,
            start_phase: false,
            confirmed: true,
            sources: vec![SourceSnapshot {
                id: SourceId(4),
                name: "a".to_owned(),
                address: Some("192.0.2.1".parse().unwrap()),
                state: ntp::SourceState::Selected,
                why: String::new(),
                reach: 0o377,
                stratum: 2,
                reference_id: [0; 4],
                offset: Some(-11e-6),
                delay: Some(2e-4),
                jitter: Some(3e-6),
                poll: 4,
                last_answer_age: Some(3.0),
                sent: 9,
                received: 8,
                rejected: 1,
                detail: ntp::SourceDetail::default(),
            }],
        }
    }

    fn reporter() -> Reporter {
        Reporter::new("0.0.0", "boot".to_owned(), "instance".to_owned())
    }

    const NOW: Wall = Wall(1_800_000_000_000_000_000);

    #[test]
    fn without_an_engine_there_is_no_profile() {
        let report = reporter().report();
        assert_eq!((report.clock.reason, report.clock.stratum, report.sequence), (Reason::NoProfile, 16, 1));
    }

    #[test]
    fn a_snapshot_becomes_a_report() {
        let reporter = reporter();
        let start = ntp::StepReason::Start;
        reporter.engine(NOW, Some(snapshot()), &[ntp::Transition::Stepped { by: 2.5, why: start }]);
        let report = reporter.report();
        assert_eq!(report.clock.reference.as_deref(), Some("a"));
        assert_eq!((report.clock.message.as_str(), report.clock.last_update_age), ("Follows a", Some(10.0)));
        assert_eq!(report.clock.last_step, Some(StepReport { at: 1.8e9, by: 2.5 }));
        assert_eq!(report.transitions[0].message, "The clock was stepped by 2.500s");
        assert_eq!(report.sources[0].address.as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn transitions_are_numbered_without_a_gap_and_the_newest_are_kept() {
        let reporter = reporter();
        for _ in 0..70 {
            reporter.engine(NOW, None, &[ntp::Transition::SynchronizationLost]);
        }
        let numbers: Vec<_> = reporter.report().transitions.iter().map(|t| t.number).collect();
        assert_eq!(numbers, (7..=70).collect::<Vec<_>>());
    }

    #[test]
    fn the_sequence_counts_changes_and_nothing_else() {
        let reporter = reporter();
        let sequence = || reporter.report().sequence;
        let check = |change: &dyn Fn(), counts: bool| {
            let before = sequence();
            change();
            assert_eq!(sequence() > before, counts);
        };
        let with = |change: fn(&mut Snapshot)| {
            let mut snapshot = snapshot();
            change(&mut snapshot);
            reporter.engine(NOW, Some(snapshot), &[]);
        };
        check(&|| with(|_| {}), true);
        check(&|| with(|s| s.offset = Some(1.0)), false);
        check(&|| with(|s| s.sources[0].reach = 1), false);
        check(&|| with(|s| s.sources[0].reach = 0), true);
        check(&|| with(|s| s.sources[0].state = ntp::SourceState::Unreachable), true);
        check(&|| with(|s| s.reason = ntp::Reason::Holdover), true);
        check(&|| with(|s| s.reference = None), true);
        check(&|| with(|s| (s.reference, s.confirmed) = (None, false)), true);
        let status = |error: Option<&str>| ProfileStatus {
            assignment: Assignment::None,
            running: None,
            mode: None,
            error: error.map(|message| ProfileError {
                reason: contract::ProfileFailure::ProfileInvalid,
                message: message.to_owned(),
            }),
        };
        check(&|| reporter.profile(NOW, status(None), None), true);
        check(&|| reporter.profile(NOW, status(None), None), false);
        check(&|| reporter.profile(NOW, status(Some("m")), None), true);
        check(&|| reporter.server(NOW, ServerReport { serving: true, ..ServerReport::default() }), true);
        check(
            &|| reporter.server(NOW, ServerReport { serving: true, answered: 9, ..ServerReport::default() }),
            false,
        );
    }

    #[test]
    fn troubles_of_server_and_rtc_are_told_once() {
        let reporter = reporter();
        let kinds = || reporter.report().transitions.iter().map(|t| t.kind).collect::<Vec<_>>();
        let taken = ServerReport { message: "PortTaken: bind: in use".to_owned(), ..ServerReport::default() };
        reporter.server(NOW, taken.clone());
        reporter.server(NOW, taken);
        assert_eq!(kinds(), [TransitionKind::ServingFailed]);
        let rtc = |writes, write_failures| RtcReport { writes, write_failures, ..reporter.report().rtc };
        reporter.rtc(NOW, rtc(1, 0));
        reporter.rtc(NOW, rtc(1, 0));
        reporter.rtc(NOW, rtc(1, 1));
        let expected =
            [TransitionKind::ServingFailed, TransitionKind::RTCWritten, TransitionKind::RTCWriteFailed];
        assert_eq!(kinds(), expected);
    }
}
