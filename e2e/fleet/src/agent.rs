//! A simulated agent: it has no clock, but the HTTP code of real agents, with proof of the token and long polls. The
//! assignment of its node and orders of the test in; reports like those of a real agent out.
use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use contract::{
    Assignment, ClockReport, Mode, ProfileError, ProfileName, Reason, Report, RtcHealth, RtcReport,
    ServerReport, SourceReport, SourceState, Transition, TransitionKind,
};
use fastrand::Rng;
use timesync_http::{Caller, Gate, Limits, TokenFile};
use tokio::{net::TcpListener, sync::watch, time};

/// One agent.
pub struct Agent {
    /// The name of its node.
    pub node: String,
    instance: String,
    facts: Mutex<Facts>,
    /// The report's sequence number. A long poll waits until it changes.
    sequence: watch::Sender<u64>,
    silent: watch::Sender<bool>,
    answers: AtomicUsize,
}

struct Facts {
    assignment: Assignment,
    profile: Option<ProfileName>,
    error: Option<ProfileError>,
    synchronized: bool,
    reference: usize,
    transitions: VecDeque<Transition>,
    last_number: u64,
    /// Reason and message of each transition that needs an Event, including those that the report has dropped.
    events: Vec<(&'static str, String)>,
    delay: Duration,
    flood: Option<Flood>,
    noise: Rng,
}

/// What a faulty or hostile agent adds to each report.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// The number of new transitions.
    pub transitions: u64,
    /// The length of each message in characters.
    pub text: usize,
}

/// The number of transitions in a report, as in a real agent.
const TRANSITIONS_KEPT: usize = 64;

/// Names of the upstreams; the policy under test has the same.
pub(crate) const SOURCES: [&str; 4] = ["ntp1", "ntp2", "ntp3", "ntp4"];

impl Agent {
    /// An agent that has just started, without an assignment.
    pub(crate) fn new(node: String) -> Self {
        let mut noise = Rng::new();
        let instance = format!("{:016x}", noise.u64(..));
        let facts = Facts {
            assignment: Assignment::Unassigned,
            profile: None,
            error: None,
            synchronized: false,
            reference: 0,
            transitions: VecDeque::new(),
            last_number: 0,
            events: Vec::new(),
            delay: Duration::ZERO,
            flood: None,
            noise,
        };
        Self {
            instance,
            node,
            facts: Mutex::new(facts),
            sequence: watch::Sender::new(1),
            silent: watch::Sender::new(false),
            answers: AtomicUsize::new(0),
        }
    }

    /// Answers on a port until the task ends. Connections that are open then stay open, as after a loss of the network.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, token: &Path) {
        let gate = Gate::new(self.node.clone(), self.instance.clone(), TokenFile::new(token.to_owned()));
        let limits = Limits { connections: 64, per_address: 32, lifetime: Duration::from_secs(30) };
        let router = Router::new().route("/status", get(status)).with_state(self);
        timesync_http::serve(listener, router, limits, Some(Arc::new(gate))).await;
    }

    /// Takes what the kubelet delivers: the annotation, and whether the volume has that profile. Returns true if
    /// another profile begins to run.
    pub(crate) fn assign(&self, assignment: Assignment, is_there: bool) -> bool {
        let mut facts = self.facts();
        let before = (facts.assignment.clone(), facts.profile.clone(), facts.error.clone());
        match &assignment {
            Assignment::Unassigned => {}
            Assignment::None => (facts.profile, facts.error) = (None, None),
            Assignment::Profile(name) if is_there => {
                (facts.profile, facts.error) = (Some(name.clone()), None);
            }
            Assignment::Profile(name) => {
                let message = format!("{} is not there yet.", name.key());
                facts.error =
                    Some(ProfileError { reason: contract::ProfileFailure::ProfileMissing, message });
            }
        }
        facts.assignment = assignment;
        let new = facts.profile.clone().filter(|profile| before.1.as_ref() != Some(profile));
        if let Some(profile) = &new {
            facts.record(TransitionKind::ProfileApplied, format!("Runs {profile}."));
            if facts.last_number == 1 {
                facts.synchronized = true;
                facts.record(TransitionKind::Synchronized, "Follows 4 of 4 sources.".to_owned());
            }
        }
        let changed = before != (facts.assignment.clone(), facts.profile.clone(), facts.error.clone());
        self.tell(facts, changed);
        new.is_some()
    }

    /// The running profile.
    pub(crate) fn running(&self) -> Option<ProfileName> {
        self.facts().profile.clone()
    }

    /// Its clock loses synchronisation, or regains it.
    pub fn synchronize(&self, synchronized: bool) {
        let mut facts = self.facts();
        let changed = facts.synchronized != synchronized;
        if changed {
            facts.synchronized = synchronized;
            let (kind, message) = match synchronized {
                true => (TransitionKind::SynchronizationRegained, "Follows 4 of 4 sources again."),
                false => (TransitionKind::SynchronizationLost, "The error bound exceeds 100ms."),
            };
            facts.record(kind, message.to_owned());
        }
        self.tell(facts, changed);
    }

    /// Selects another of its upstreams, as every real agent does now and then.
    pub(crate) fn follow_another(&self) {
        let mut facts = self.facts();
        facts.reference = (facts.reference + 1) % SOURCES.len();
        self.tell(facts, true);
    }

    /// Stops or resumes its answers.
    pub(crate) fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    /// Sets the delay of each answer.
    pub fn delay(&self, delay: Duration) {
        self.facts().delay = delay;
    }

    /// Adds this to each report from now on, and answers every poll immediately.
    pub fn flood(&self, flood: Option<Flood>) {
        let mut facts = self.facts();
        facts.flood = flood;
        self.tell(facts, true);
    }

    /// The number of reports so far.
    pub(crate) fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    /// Node, reason and message of each transition that needs an Event.
    pub fn events(&self) -> Vec<(String, String, String)> {
        let facts = self.facts();
        let event = |(reason, note): &(&str, String)| (self.node.clone(), (*reason).to_owned(), note.clone());
        facts.events.iter().map(event).collect()
    }

    fn tell(&self, facts: MutexGuard<'_, Facts>, changed: bool) {
        drop(facts);
        if changed {
            self.sequence.send_modify(|sequence| *sequence += 1);
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> Report {
        let mut facts = self.facts();
        let floods = facts.flood.is_some();
        let transitions = facts.shown_transitions();
        let synchronized = facts.synchronized;
        let (offset, growth) = (within(&mut facts.noise, 80e-6), within(&mut facts.noise, 0.3e-3).abs());
        let sources = (0..SOURCES.len()).map(|index| facts.source(index, offset)).collect();
        let report = Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: format!("{:0>8}-0000-4000-8000-000000000000", &self.instance[..8]),
            instance: self.instance.clone(),
            sequence: *self.sequence.borrow(),
            assignment: facts.assignment.clone(),
            profile: facts.profile.clone(),
            profile_error: facts.error.clone(),
            mode: facts.profile.as_ref().map(|_| Mode::Discipline),
            clock: ClockReport {
                synchronized,
                reason: if synchronized { Reason::Synchronized } else { Reason::ErrorBound },
                message: match synchronized {
                    true => "4 of 4 sources agree.".to_owned(),
                    false => "The error bound of 120ms is beyond 100ms.".to_owned(),
                },
                leap: if synchronized { 0 } else { 3 },
                stratum: if synchronized { 3 } else { 16 },
                reference: synchronized.then(|| SOURCES[facts.reference].to_owned()),
                offset: Some(offset),
                jitter: Some(30e-6),
                error_bound: Some(if synchronized { 3e-3 + growth } else { 0.12 }),
                root_delay: 1.8e-3,
                root_dispersion: 1.1e-3 + growth,
                frequency_ppm: -12.345 + within(&mut facts.noise, 0.01),
                kernel_frequency_ppm: -12.345 + within(&mut facts.noise, 0.01),
                last_update_age: Some(7.0),
                steps: 0,
                last_step: None,
                restored: 0,
                raised: 0,
                resumed: 0,
                external_steps: 0,
                last_external_step: None,
                start_phase: false,
                confirmed: synchronized,
            },
            sources,
            conflict: None,
            timezone: None,
            boot: None,
            state_error: None,
            rtc: RtcReport {
                present: true,
                health: RtcHealth::Healthy,
                message: "Within a second of the system clock.".to_owned(),
                offset: Some(0.1 + within(&mut facts.noise, 1e-3)),
                drift_ppm: None,
                read_age: Some(10.0),
                writes: 1,
                write_failures: 0,
            },
            server: ServerReport { enabled: true, serving: true, ..ServerReport::default() },
            http_message: String::new(),
            transitions,
        };
        self.tell(facts, floods);
        report
    }
}

impl Facts {
    fn record(&mut self, kind: TransitionKind, message: String) {
        self.last_number += 1;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
        // The number makes each message unique, so that an Event that is sent twice is detected.
        let message = format!("{message} ({})", self.last_number);
        if kind != TransitionKind::ProfileApplied {
            self.events.push((kind.as_str(), message.clone()));
        }
        self.transitions.push_back(Transition { number: self.last_number, at, kind, message });
        if self.transitions.len() > TRANSITIONS_KEPT {
            self.transitions.pop_front();
        }
    }

    /// The transitions for a report: those that are kept, and those of a flood.
    fn shown_transitions(&mut self) -> Vec<Transition> {
        let mut shown: Vec<_> = self.transitions.iter().cloned().collect();
        if let Some(Flood { transitions, text }) = self.flood {
            let at = shown.last().map_or(0.0, |last| last.at);
            let first = self.last_number + 1;
            self.last_number += transitions;
            shown.extend((first..=self.last_number).map(|number| Transition {
                number,
                at,
                kind: TransitionKind::SynchronizationLost,
                message: "x".repeat(text),
            }));
        }
        shown
    }

    fn source(&mut self, index: usize, offset: f64) -> SourceReport {
        let state = if index == self.reference { SourceState::Selected } else { SourceState::Combined };
        SourceReport {
            name: SOURCES[index].to_owned(),
            address: Some(format!("192.0.2.{}", 10 + index)),
            state: if self.synchronized { state } else { SourceState::Unusable },
            message: String::new(),
            reach: 0o377,
            stratum: 2,
            offset: Some(offset + within(&mut self.noise, 40e-6)),
            delay: Some(0.4e-3 + within(&mut self.noise, 0.1e-3)),
            jitter: Some(30e-6),
            poll: 6,
            last_answer_age: Some(20.0),
            sent: 400,
            received: 399,
            rejected: 0,
        }
    }
}

async fn status(
    State(agent): State<Arc<Agent>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    if caller != Caller::Proven {
        return (StatusCode::UNAUTHORIZED, "a proof of the token is needed\n").into_response();
    }
    let value = |key: &str| query.iter().find(|(name, _)| name == key).map(|(_, value)| value);
    let after = value("after").and_then(|after| after.parse::<u64>().ok());
    let wait = value("wait").and_then(|wait| wait.parse::<contract::Span>().ok());
    let mut sequence = agent.sequence.subscribe();
    let news = sequence.wait_for(|now| after != Some(*now));
    let _ = time::timeout(wait.map_or(Duration::ZERO, |wait| wait.as_duration()), news).await;
    let delay = agent.facts().delay;
    time::sleep(delay).await;
    let _ = agent.silent.subscribe().wait_for(|silent| !silent).await;
    agent.answers.fetch_add(1, Ordering::Relaxed);
    Json(agent.report()).into_response()
}

/// Noise of a measurement, between -`largest` and `largest`.
fn within(noise: &mut Rng, largest: f64) -> f64 {
    (noise.f64() * 2.0 - 1.0) * largest
}
