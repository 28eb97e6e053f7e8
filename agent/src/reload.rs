//! Reloads profiles: looks at the origin four times a second, and gives engine and server a new configuration if the
//! desired configuration changed. A profile is applied as a whole or not at all. A refused one changes only the report.
use std::{sync::Arc, time::Duration};

use contract::{Assignment, Mode, ProfileError, ProfileFailure, TransitionKind};
use tracing::{info, warn};

use crate::{
    assemble, clock,
    engine::{EngineCommand, EngineHandle},
    key_server::KeyServer,
    load::{self, Candidate, Desired, Loaded, Observed, Origin},
    metrics::{Metrics, Reload},
    report::{ProfileStatus, Reporter},
    server::Server,
    state::State,
    timezone::DesiredZone,
};

/// Interval at which the origin is read. The kubelet delivers an annotation within 0.1 to 0.3 s; on average this adds
/// half of the interval.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

/// Watches the origin of profiles.
#[derive(Debug)]
pub(crate) struct Reloader {
    /// Where profiles come from.
    pub(crate) origin: Origin,
    /// True if this process may set the clock.
    pub(crate) may_set_clock: bool,
    /// Keeps the last good profile.
    pub(crate) state: Arc<State>,
    /// Receives the status.
    pub(crate) reporter: Arc<Reporter>,
    /// Counts the results.
    pub(crate) metrics: Arc<Metrics>,
    /// Sends commands to the engine.
    pub(crate) engine: EngineHandle,
    /// The server.
    pub(crate) server: Arc<Server>,
    /// The server of NTS key exchange.
    pub(crate) key_server: KeyServer,
    /// The running profile.
    pub(crate) running: Option<Candidate>,
    /// What was found last. While it does not change, there is nothing to do.
    pub(crate) observed: Option<Observed>,
    /// The last reported fault.
    pub(crate) error: Option<ProfileError>,
}

impl Reloader {
    /// Looks once, and acts if something changed.
    pub(crate) fn check(&mut self) {
        let observed = load::observe(&self.origin);
        if self.observed.as_ref() == Some(&observed) {
            return;
        }
        let is_first = self.observed.is_none();
        let Loaded { assignment, wanted } = load::evaluate(&self.origin, &observed);
        self.observed = Some(observed);
        match wanted {
            Ok(Desired::Nothing) => self.stop_steering(assignment),
            Ok(Desired::Profile(candidate)) => self.take(*candidate, assignment),
            Ok(Desired::Keep) => {
                if is_first {
                    self.take_last_good();
                }
                self.report(assignment, None, None);
            }
            Err(error) => {
                if is_first {
                    self.take_last_good();
                }
                self.refuse(assignment, &error);
            }
        }
    }

    /// Runs `candidate`, if it does not run already.
    fn take(&mut self, candidate: Candidate, assignment: Assignment) {
        let error = self.not_permitted(&candidate);
        if self.running.as_ref().is_some_and(|running| running.name == candidate.name) {
            return self.report(assignment, error, None);
        }
        info!(profile = %candidate.name, "Profile applied");
        self.metrics.reloaded(Reload::Applied);
        if matches!(self.origin, Origin::Watch(_)) {
            self.state.save_profile(&candidate.name, &candidate.text);
        }
        let message = format!("Profile {} runs", candidate.name);
        self.run(candidate);
        self.report(assignment, error, Some((TransitionKind::ProfileApplied, message)));
    }

    fn run(&mut self, candidate: Candidate) {
        for hint in candidate.checked.hints() {
            warn!(profile = %candidate.name, %hint, "Profile has a doubtful line");
        }
        self.server.apply(assemble::serve_config(&candidate.checked));
        self.key_server.apply(assemble::key_serving(&candidate.checked));
        self.engine.send(EngineCommand::Run(
            assemble::engine_config(&candidate.checked, self.may_set_clock),
            assemble::restrict_table(candidate.checked.access()),
        ));
        self.running = Some(candidate);
    }

    /// Runs the last profile that ran on this node, if it is still valid: that is better than no profile until one is
    /// assigned.
    fn take_last_good(&mut self) {
        let Some((name, text)) = self.state.profile() else { return };
        match load::candidate(name, text) {
            Ok(candidate) => {
                info!(profile = %candidate.name, "Profile taken from disk until one is assigned");
                self.run(candidate);
            }
            Err(error) => warn!(%error, "Profile on disk cannot be used"),
        }
    }

    /// Stops steering: no policy selects this node.
    fn stop_steering(&mut self, assignment: Assignment) {
        if self.running.take().is_some() {
            info!("No policy is for this node: the clock is no longer steered");
        }
        self.state.forget_profile();
        self.server.apply(assemble::serve_nothing());
        self.key_server.apply(None);
        self.engine.send(EngineCommand::StopSteering);
        self.report(assignment, None, None);
    }

    /// Reports a fault once. The running profile goes on.
    fn refuse(&mut self, assignment: Assignment, error: &load::Error) {
        let fault = ProfileError::from(error);
        if self.error.as_ref() == Some(&fault) {
            return self.report(assignment, Some(fault), None);
        }
        if matches!(error, load::Error::Missing(_)) {
            info!(%error, "Profile awaited");
            self.metrics.reloaded(Reload::Missing);
            return self.report(assignment, Some(fault), None);
        }
        warn!(reason = error.reason().as_str(), %error, "Profile refused");
        self.metrics.reloaded(Reload::Refused);
        let message = format!("{}: {}", fault.reason, fault.message);
        self.report(assignment, Some(fault), Some((TransitionKind::ProfileRefused, message)));
    }

    /// What the profile says of the host's time zone. An agent that only observes changes nothing of the host.
    pub(crate) fn timezone(&self) -> DesiredZone {
        match &self.running {
            None if self.observed.as_ref().is_some_and(Observed::assigns_none) => DesiredZone::Former,
            None => DesiredZone::Untouched,
            Some(Candidate { checked, .. }) => {
                let observes = checked.mode() == Mode::Observe || !self.may_set_clock;
                match checked.timezone().map(str::to_owned) {
                    Some(name) if observes => DesiredZone::Observed(name),
                    None if observes => DesiredZone::Untouched,
                    Some(name) => DesiredZone::Zone(name),
                    None => DesiredZone::Former,
                }
            }
        }
    }

    fn report(
        &mut self,
        assignment: Assignment,
        error: Option<ProfileError>,
        done: Option<(TransitionKind, String)>,
    ) {
        self.error.clone_from(&error);
        let running = self.running.as_ref();
        let mode = running.map(|running| match running.checked.mode() {
            Mode::Discipline if self.may_set_clock => Mode::Discipline,
            Mode::Discipline | Mode::Observe => Mode::Observe,
        });
        // A profile from the disk may also ask for what is not permitted.
        let error = error.or_else(|| running.and_then(|running| self.not_permitted(running)));
        let status = ProfileStatus { assignment, running: running.map(|r| r.name.clone()), mode, error };
        self.reporter.profile(clock::now().wall, status, done);
    }

    /// The fault of a profile that asks to move the clock, which this process may not do.
    fn not_permitted(&self, candidate: &Candidate) -> Option<ProfileError> {
        (candidate.checked.mode() == Mode::Discipline && !self.may_set_clock).then(|| ProfileError {
            reason: ProfileFailure::NotPermitted,
            message: "mode Discipline needs CAP_SYS_TIME, which the agent has not: it observes".to_owned(),
        })
    }
}
