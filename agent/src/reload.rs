//! Who runs what: looks at the origin four times a second, and gives engine and server their orders when something
//! else is wanted. A profile is taken whole or not at all; one that is refused changes nothing but the report.
use std::{sync::Arc, time::Duration};

use contract::{Assignment, Mode, ProfileError, ProfileFailure, TransitionKind};
use tracing::{info, warn};

use crate::{
    assemble, clock,
    engine::{Order, Orders},
    key_server::KeyServer,
    load::{self, Candidate, Found, Loaded, Origin, Wanted},
    metrics::{Metrics, Reload},
    report::{Journal, ProfileStatus},
    server::Server,
    state::State,
    timezone::Wish,
};

/// How often the origin is looked at: the kubelet brings an annotation in 0.1 to 0.3 s, and this adds half of it.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

/// The one who decides.
#[derive(Debug)]
pub(crate) struct Reloader {
    /// Where profiles come from.
    pub(crate) origin: Origin,
    /// Whether this process may set the clock.
    pub(crate) may_set_clock: bool,
    /// Keeps the last good profile.
    pub(crate) state: Arc<State>,
    /// Is told.
    pub(crate) journal: Arc<Journal>,
    /// Count.
    pub(crate) metrics: Arc<Metrics>,
    /// To the engine.
    pub(crate) orders: Orders,
    /// The server.
    pub(crate) server: Arc<Server>,
    /// The server of NTS key exchange.
    pub(crate) key_server: KeyServer,
    /// What runs.
    pub(crate) running: Option<Candidate>,
    /// What was found last; while it stays the same, nothing is to be done.
    pub(crate) found: Option<Found>,
    /// What was reported last.
    pub(crate) error: Option<ProfileError>,
}

impl Reloader {
    /// Looks once, and acts if something changed.
    pub(crate) fn look(&mut self) {
        let found = load::find(&self.origin);
        if self.found.as_ref() == Some(&found) {
            return;
        }
        let is_first = self.found.is_none();
        let Loaded { assignment, wanted } = load::judge(&self.origin, &found);
        self.found = Some(found);
        match wanted {
            Ok(Wanted::Nothing) => self.rest(assignment),
            Ok(Wanted::Profile(candidate)) => self.take(*candidate, assignment),
            Ok(Wanted::Keep) => {
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
        self.orders.give(Order::Run(
            assemble::engine_config(&candidate.checked, self.may_set_clock),
            assemble::restrict_table(candidate.checked.access()),
        ));
        self.running = Some(candidate);
    }

    /// The last profile that ran on this node, if it is still whole: better than none until we are told.
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

    /// Steers no more: no policy is for this node.
    fn rest(&mut self, assignment: Assignment) {
        if self.running.take().is_some() {
            info!("No policy is for this node: the clock is no longer steered");
        }
        self.state.forget_profile();
        self.server.apply(assemble::serve_nothing());
        self.key_server.apply(None);
        self.orders.give(Order::Rest);
        self.report(assignment, None, None);
    }

    /// Says what is wrong, once; what runs goes on.
    fn refuse(&mut self, assignment: Assignment, error: &load::Error) {
        let told = ProfileError::from(error);
        if self.error.as_ref() == Some(&told) {
            return self.report(assignment, Some(told), None);
        }
        if matches!(error, load::Error::Missing(_)) {
            info!(%error, "Profile awaited");
            self.metrics.reloaded(Reload::Missing);
            return self.report(assignment, Some(told), None);
        }
        warn!(reason = error.reason().as_str(), %error, "Profile refused");
        self.metrics.reloaded(Reload::Refused);
        let message = format!("{}: {}", told.reason, told.message);
        self.report(assignment, Some(told), Some((TransitionKind::ProfileRefused, message)));
    }

    /// What the orders say of the host's time zone. Who only observes touches nothing of the host's.
    pub(crate) fn timezone(&self) -> Wish {
        match &self.running {
            None if self.found.as_ref().is_some_and(Found::says_nothing_is_to_run) => Wish::Former,
            None => Wish::Untouched,
            Some(Candidate { checked, .. }) => {
                let observes = checked.mode() == Mode::Observe || !self.may_set_clock;
                match checked.timezone().map(str::to_owned) {
                    Some(name) if observes => Wish::Observed(name),
                    None if observes => Wish::Untouched,
                    Some(name) => Wish::Zone(name),
                    None => Wish::Former,
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
        // A profile from the disk may ask for what is not permitted, too.
        let error = error.or_else(|| running.and_then(|running| self.not_permitted(running)));
        let status = ProfileStatus { assignment, running: running.map(|r| r.name.clone()), mode, error };
        self.journal.profile(clock::now().wall, status, done);
    }

    /// What to say of a profile that asks to move a clock that we may not move.
    fn not_permitted(&self, candidate: &Candidate) -> Option<ProfileError> {
        (candidate.checked.mode() == Mode::Discipline && !self.may_set_clock).then(|| ProfileError {
            reason: ProfileFailure::NotPermitted,
            message: "mode Discipline needs CAP_SYS_TIME, which the agent has not: it observes".to_owned(),
        })
    }
}
