//! The agent's tasks beside its engine, four times a second: profiles, report, keys, time zone, static pod, and the
//! time on disk. Steers nothing itself.
use std::{
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use contract::{Mode, ServerReport};
use profile::RtcMode;
use sys::signal;
use tokio::time;
use tracing::warn;

use super::error::Error;
use crate::{
    boot_pod::BootPodKeeper,
    clock,
    panics::{Panics, Part},
    reload::{self, Reloader},
    report::Reporter,
    rtc::{RtcKeeper, RtcPolicy},
    server::{KeyFiles, Server},
    state::State,
    suspects::Suspects,
    timezone::TimezoneKeeper,
};

/// The tasks beside the engine.
pub(super) struct Housekeeping {
    pub(super) reloader: Reloader,
    pub(super) reporter: Arc<Reporter>,
    pub(super) suspects: Arc<Suspects>,
    /// When the last search for them began.
    pub(super) last_search: Option<time::Instant>,
    pub(super) server: Arc<Server>,
    pub(super) panics: Arc<Panics>,
    pub(super) rtc: RtcKeeper,
    pub(super) timezone: TimezoneKeeper,
    pub(super) boot_pod: Option<BootPodKeeper>,
    pub(super) state: Arc<State>,
    /// Why other users may replace what is in the state folder, and when that was last checked.
    pub(super) exposure: (Option<String>, Option<Instant>),
    pub(super) key_files: KeyFiles,
    pub(super) keys_directory: PathBuf,
}

/// Interval at which the time is saved on disk: a boot without RTC is compared with it.
const SAVE_TIME_INTERVAL: Duration = Duration::from_secs(60);

/// Interval at which programs that could steer the clock are searched for during a conflict.
const SUSPECTS_INTERVAL: Duration = Duration::from_secs(10);

/// Interval at which the rights of the state folder are checked.
const EXPOSURE_INTERVAL: Duration = Duration::from_secs(30);

impl Housekeeping {
    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// If a part has ended by itself.
    pub(super) async fn run(mut self, engine: &JoinHandle<()>) -> Result<(), Error> {
        let (state, server) = (Arc::clone(&self.state), Arc::clone(&self.server));
        let (key_server, keys) = (self.reloader.key_server.clone(), self.keys_directory.clone());
        let keep = move || key_server.clone().run(keys.clone(), Arc::clone(&state), Arc::clone(&server));
        tokio::spawn(Arc::clone(&self.panics).guard_task(Part::KeyServer, keep));
        let mut ticks = time::interval(reload::INTERVAL);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut last_save = time::Instant::now();
        let mut paused_until = last_save;
        loop {
            ticks.tick().await;
            if signal::stop_requested() {
                self.save_time();
                return Ok(());
            }
            if engine.is_finished() {
                return Err(Error::EngineEnded);
            }
            self.reporter.failures(clock::now().wall, self.panics.take_unreported());
            if time::Instant::now() < paused_until {
                continue;
            }
            // Each task by itself: if one panics each time, the others still run.
            let panics = Arc::clone(&self.panics);
            let outcome = panics
                .once(Part::Housekeeping, || self.reloader.check())
                .and(panics.once(Part::Housekeeping, || self.update_report()))
                .and(panics.once(Part::Housekeeping, || {
                    if last_save.elapsed() >= SAVE_TIME_INTERVAL && self.save_time() {
                        last_save = time::Instant::now();
                    }
                }));
            if let Err(pause) = outcome {
                paused_until = time::Instant::now() + pause;
            }
        }
    }

    /// Updates those parts of the report that are not the engine's.
    fn update_report(&mut self) {
        self.update_keys();
        let now = clock::now().wall;
        self.reporter.server(now, self.server_report());
        self.reloader.metrics.certificate(self.reloader.key_server.certificate());
        self.rtc.apply(rtc_policy(&self.reloader, self.reporter.in_conflict()));
        self.rtc.follow(self.reporter.synchronized_offset());
        self.reporter.rtc(now, self.rtc.report());
        self.search_suspects();
        self.check_exposure();
        self.state.retry();
        self.reporter.state_error(self.state.trouble());
        if let Some(outcome) = self.timezone.reconcile(self.reloader.timezone(), Instant::now()) {
            self.reporter.timezone(now, outcome);
        }
        if let Some(report) = self.boot_pod.as_mut().and_then(|pod| pod.reconcile(Instant::now())) {
            self.reporter.boot(report);
        }
    }

    /// During a conflict, searches for the programs that could steer the clock. It has a thread of its own, since there
    /// may be thousands of processes.
    fn search_suspects(&mut self) {
        if !self.reporter.in_conflict() {
            if self.last_search.take().is_some() {
                self.suspects.forget();
            }
            return;
        }
        self.reporter.suspects(&self.suspects);
        if self.last_search.is_none_or(|last| last.elapsed() >= SUSPECTS_INTERVAL) {
            self.last_search = Some(time::Instant::now());
            let (suspects, panics) = (Arc::clone(&self.suspects), Arc::clone(&self.panics));
            let scan = move || panics.once(Part::Suspects, || suspects.scan()).unwrap_or_default();
            // Without a thread the list stays as it is, and the next search is soon.
            let _ = std::thread::Builder::new().name("suspects".to_owned()).spawn(scan);
        }
    }

    /// Checks whether other users may write the state folder. Each reason is reported once.
    fn check_exposure(&mut self) {
        let (reported, checked_at) = &mut self.exposure;
        if checked_at.is_some_and(|at| at.elapsed() < EXPOSURE_INTERVAL) {
            return;
        }
        *checked_at = Some(Instant::now());
        let why = self.state.exposure();
        if let Some(why) = why.as_ref().filter(|why| Some(*why) != reported.as_ref()) {
            let message = format!("Other users of this node may replace what the agent keeps: {why}");
            warn!(why, "Other users may write the state directory");
            self.reporter.exposed(clock::now().wall, message);
        }
        *reported = why;
    }

    /// Reads the keys again each time: a Kubernetes volume changes behind its names, and a file can change within one
    /// tick of the clock.
    fn update_keys(&mut self) {
        let running = self.reloader.running.as_ref();
        let names = running.map(|running| running.checked.serve().keys.as_slice()).unwrap_or_default();
        if let Some(keys) = self.key_files.read(names) {
            self.server.sign_with(keys);
        }
    }

    /// Faults of key exchanges and of files with keys do not stop plain NTP, so `serving` is about plain NTP alone.
    fn server_report(&self) -> ServerReport {
        let mut report = self.server.report();
        for trouble in [self.key_files.trouble(), self.reloader.key_server.trouble()] {
            if !trouble.is_empty() {
                let between = if report.message.is_empty() { "" } else { "; " };
                report.message = format!("{}{between}{trouble}", report.message);
            }
        }
        report
    }

    /// Returns true if the time was saved. A time that may be wrong must not be the floor of the next boot.
    fn save_time(&self) -> bool {
        let knows = self.reporter.knows_true_time();
        if knows {
            self.state.save_time(clock::now().wall);
        }
        knows
    }
}

/// The agent writes the RTC if the profile says so, if it may set the clock, and if no other process steers the clock.
fn rtc_policy(reloader: &Reloader, in_conflict: bool) -> RtcPolicy {
    let checked = reloader.running.as_ref().map(|running| &running.checked);
    let ours = reloader.may_set_clock && !in_conflict;
    match checked {
        Some(c) if c.rtc() == RtcMode::Verified && c.mode() == Mode::Discipline && ours => {
            RtcPolicy::Verified
        }
        _ => RtcPolicy::Observe,
    }
}
