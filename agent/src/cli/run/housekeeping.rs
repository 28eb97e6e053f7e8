//! The agent's tasks beside its engine, four times a second: orders, report, keys, time zone, static pod, and the time
//! on disk. Steers nothing itself.
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

use super::Error;
use crate::{
    boot_pod::BootPodKeeper,
    clock,
    panics::{Panics, Part},
    reload::{self, Reloader},
    report::Journal,
    rtc::{RtcKeeper, RtcPolicy},
    server::{KeyFiles, Server},
    state::State,
    suspects::Suspects,
    timezone::TimezoneKeeper,
};

/// The tasks beside the engine.
pub(super) struct House {
    pub(super) reloader: Reloader,
    pub(super) journal: Arc<Journal>,
    pub(super) suspects: Arc<Suspects>,
    /// When the last search for them began.
    pub(super) suspected: Option<time::Instant>,
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
const KEEP_TIME: Duration = Duration::from_secs(60);

/// Interval at which programs that could steer the clock are searched for during a conflict.
const LOOK_FOR_SUSPECTS: Duration = Duration::from_secs(10);

/// Interval at which the rights of the state folder are checked.
const LOOK_FOR_EXPOSURE: Duration = Duration::from_secs(30);

impl House {
    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// If a part has ended by itself.
    pub(super) async fn keep(mut self, engine: &JoinHandle<()>) -> Result<(), Error> {
        let (state, server) = (Arc::clone(&self.state), Arc::clone(&self.server));
        let (key_server, keys) = (self.reloader.key_server.clone(), self.keys_directory.clone());
        let keep = move || key_server.clone().keep(keys.clone(), Arc::clone(&state), Arc::clone(&server));
        tokio::spawn(Arc::clone(&self.panics).guard_task(Part::KeyServer, keep));
        let mut ticks = time::interval(reload::INTERVAL);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut kept = time::Instant::now();
        let mut rested = kept;
        loop {
            ticks.tick().await;
            if signal::stop_requested() {
                self.keep_time();
                return Ok(());
            }
            if engine.is_finished() {
                return Err(Error::EngineEnded);
            }
            self.journal.failures(clock::now().wall, self.panics.news());
            if time::Instant::now() < rested {
                continue;
            }
            // Each task by itself: if one panics each time, the others still run.
            let panics = Arc::clone(&self.panics);
            let looked = panics
                .once(Part::House, || self.reloader.look())
                .and(panics.once(Part::House, || self.look_round()))
                .and(panics.once(Part::House, || {
                    if kept.elapsed() >= KEEP_TIME && self.keep_time() {
                        kept = time::Instant::now();
                    }
                }));
            if let Err(pause) = looked {
                rested = time::Instant::now() + pause;
            }
        }
    }

    /// Updates those parts of the report that are not the engine's.
    fn look_round(&mut self) {
        self.hand_over_keys();
        let now = clock::now().wall;
        self.journal.server(now, self.server_report());
        self.rtc.apply(rtc_policy(&self.reloader, self.journal.in_conflict()));
        self.rtc.follow(self.journal.synchronized_offset());
        self.journal.rtc(now, self.rtc.report());
        self.look_for_suspects();
        self.look_for_exposure();
        self.state.retry();
        self.journal.state_error(self.state.trouble());
        if let Some(looked) = self.timezone.look(self.reloader.timezone(), Instant::now()) {
            self.journal.timezone(now, looked);
        }
        if let Some(report) = self.boot_pod.as_mut().and_then(|pod| pod.look(Instant::now())) {
            self.journal.boot(report);
        }
    }

    /// During a conflict, searches for the programs that could steer the clock. It has a thread of its own, since there
    /// may be thousands of processes.
    fn look_for_suspects(&mut self) {
        if !self.journal.in_conflict() {
            if self.suspected.take().is_some() {
                self.suspects.forget();
            }
            return;
        }
        self.journal.suspects(&self.suspects);
        if self.suspected.is_none_or(|last| last.elapsed() >= LOOK_FOR_SUSPECTS) {
            self.suspected = Some(time::Instant::now());
            let (suspects, panics) = (Arc::clone(&self.suspects), Arc::clone(&self.panics));
            let scan = move || panics.once(Part::Suspects, || suspects.scan()).unwrap_or_default();
            // Without a thread the list stays as it is, and the next search is soon.
            let _ = std::thread::Builder::new().name("suspects".to_owned()).spawn(scan);
        }
    }

    /// Checks whether other users may write the state folder. Each reason is reported once.
    fn look_for_exposure(&mut self) {
        let (told, looked) = &mut self.exposure;
        if looked.is_some_and(|at| at.elapsed() < LOOK_FOR_EXPOSURE) {
            return;
        }
        *looked = Some(Instant::now());
        let why = self.state.exposure();
        if let Some(why) = why.as_ref().filter(|why| Some(*why) != told.as_ref()) {
            let message = format!("Other users of this node may replace what the agent keeps: {why}");
            warn!(why, "Other users may write the state directory");
            self.journal.exposed(clock::now().wall, message);
        }
        *told = why;
    }

    /// Reads the keys again each time: a Kubernetes volume changes behind its names, and a file can change within one
    /// tick of the clock.
    fn hand_over_keys(&mut self) {
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
    fn keep_time(&self) -> bool {
        let knows = self.journal.knows_true_time();
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
